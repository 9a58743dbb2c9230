"""Exceptions there and back: their own type and all they carry, or a RemoteError that says why not."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import pickle
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydantic
import pytest

from concurry import errors
from concurry.transports import codec
from concurry.transports.codec_exceptions import LARGEST, LONGEST, RemoteTraceback


def trip(error: BaseException, who: str = "Parser[2]") -> BaseException:
    frame = codec.pack_failure(3, error, who)
    [(call_id, status, how, body)] = codec.read(frame)
    assert (call_id, status) == (3, codec.FAILED)
    return codec.unpack_failure(how, body)


def raised(what: BaseException | Callable[[], Any]) -> BaseException:
    try:
        if isinstance(what, BaseException):
            raise what
        what()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def without_trace(error: BaseException) -> BaseException | None:
    return None if type(error.__cause__) is RemoteTraceback else error.__cause__


class JoinsError(Exception):
    """Its args are not what its `__init__` takes."""

    def __init__(self, a: Any, b: Any) -> None:
        super().__init__(f"{a}{b}")
        self.a = a


class AddsError(Exception):
    """Calling `__init__` with its args works, and gives another exception."""

    def __init__(self, text: str, times: int = 2) -> None:
        super().__init__(text * times)


class KeywordError(Exception):
    """As openai's: keyword-only arguments, and an object that holds much."""

    def __init__(self, message: str, *, response: Any, body: object | None) -> None:
        super().__init__(message)
        self.response, self.body, self.message = response, body, message


class FileError(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(5, "broken", path)
        self.mine = path


class MixedError(JoinsError, LookupError, OSError):
    pass


class SlotError(Exception):
    __slots__ = ("__hidden", "place")

    def __init__(self, place: int) -> None:
        self.place, self.__hidden = place, "h"

    def hidden(self) -> str:
        return self.__hidden


class ComputedError(Exception):
    @property
    def code(self) -> int:
        raise AssertionError("it was computed")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AssertionError("it was set")


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int = 3


class ReducesError(Exception):
    def __init__(self, a: int, *, b: int) -> None:
        super().__init__(a)
        self.b = b

    def __reduce__(self) -> Any:
        return _reduced, (self.args[0], self.b)


def _reduced(a: int, b: int) -> ReducesError:
    return ReducesError(a, b=b)


class ReduceRaisesError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


class ReduceExitsError(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(4)


class ReduceLiesError(Exception):
    def __reduce__(self) -> Any:
        return str, ("no exception",)


class ReduceFailsThereError(Exception):
    def __reduce__(self) -> Any:
        return int, ("no number",)


class OddTextError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class GroupError(ExceptionGroup[Exception]):
    def __new__(cls, excs: list[Exception], code: int) -> GroupError:
        self = super().__new__(cls, "mine", excs)
        self.code = code
        return self

    code: int


class Model(pydantic.BaseModel):
    number: int


ALL: list[Any] = [
    ValueError(), ValueError("v", 2, [1], {"k": (1,)}), KeyError("k"), KeyError(("a", 1)), StopIteration(5),
    StopAsyncIteration(), TimeoutError("t"), RecursionError("deep"), MemoryError(), SystemExit(3), KeyboardInterrupt(),
    GeneratorExit("g"), concurrent.futures.CancelledError(), ZeroDivisionError("z"), OSError("only text"),
    OSError(2, "none", "a", None, "b"), BlockingIOError(11, "later", 7), ImportError("no", name="n", path="p"),
    AttributeError("no", name="n"), NameError("no", name="n"), UnicodeEncodeError("ascii", "ä", 0, 1, "why"),
    lambda: os.stat("/nowhere/at/all"), lambda: b"\xff".decode(), lambda: compile("a b", "f", "exec"),
    lambda: __import__("not.there"), lambda: dict[str, int]()["k"], lambda: "".nothing,  # type: ignore[attr-defined]
    JoinsError(1, "b"), AddsError("ab"), KeywordError("m", response={"r": 1}, body=[2]), FileError("/a"),
    SlotError(4), FrozenError(4), ReducesError(1, b=2), ReduceRaisesError("r", 1), ReduceExitsError("e"),
    ReduceLiesError("l"), ReduceFailsThereError("f"), OddTextError(1, 2), ComputedError("c"),
    errors.WorkerDiedError("died", worker="W", pid=3, signal="SIGKILL"), errors.EncodeError("e"),
    errors.RestartIntensityError("r"), errors.RetryValidationError(attempts=3, all_results=[1], method_name="m"),
    errors.RemoteError("r", type_name="t", traceback="tb"), errors.LimitStateError("l"),
    errors.RemoteBaseError("b", type_name="builtins.SystemExit", traceback="tb"), ValueError("\ud800"),
]  # fmt: skip


@pytest.mark.parametrize("what", ALL, ids=lambda what: type(what).__name__)
def test_type_args_and_attributes(what: Any) -> None:
    error = raised(what)
    if type(error) is not ComputedError and type(error) is not FrozenError:
        error.__dict__["extra"] = {"a": [1, None]}
    arrived = trip(error)
    assert type(arrived) is type(error)
    assert arrived.args == error.args
    if type(error) not in (ReducesError,):  # it says itself what is sent
        assert arrived.__dict__ == error.__dict__
    for name in (
        "errno",
        "strerror",
        "filename",
        "filename2",
        "name",
        "path",
        "value",
        "code",
        "lineno",
        "text",
        "end",
    ):
        if type(error) is not ComputedError:
            assert getattr(arrived, name, None) == getattr(error, name, None)
    if type(error) is not OddTextError:
        assert str(arrived) == str(error)
    text = printed(arrived)
    assert text.startswith("concurry.transports.codec_exceptions.RemoteTraceback")
    assert "in raised" in text


def test_slots() -> None:
    arrived = trip(SlotError(4))
    assert isinstance(arrived, SlotError)
    assert (arrived.place, arrived.hidden()) == (4, "h")


def test_several_builtin_bases() -> None:
    arrived = trip(MixedError("x", 1))
    assert (type(arrived), arrived.args) == (MixedError, ("x1",))


def test_pydantic() -> None:
    error = raised(lambda: Model(number="no"))  # type: ignore[arg-type]
    arrived = trip(error)
    assert isinstance(error, pydantic.ValidationError)
    assert isinstance(arrived, pydantic.ValidationError)
    assert arrived.errors() == error.errors()


def test_openai() -> None:
    httpx2 = pytest.importorskip("httpx2")
    openai = pytest.importorskip("openai")
    response = httpx2.Response(429, text="slow down", request=httpx2.Request("POST", "http://x.test/v1"))
    error = openai.RateLimitError("slow", response=response, body={"code": "rate"})
    arrived: Any = trip(error)
    assert type(arrived) is openai.RateLimitError
    assert (str(arrived), arrived.status_code, arrived.body) == ("slow", 429, {"code": "rate"})


def test_notes() -> None:
    for error in (ValueError("v"), ReducesError(1, b=2), errors.WorkerDiedError("d")):
        error.add_note("first")
        error.add_note("second \ud800")
        assert trip(error).__notes__ == ["first", "second \ud800"]
    odd = ValueError()
    odd.__notes__ = 5  # type: ignore[assignment]
    assert trip(odd).__notes__ == 5  # type: ignore[comparison-overlap]


# -- what it is tied to -----------------------------------------------------------------------------------------------


def test_cause_context_and_suppression() -> None:
    def chained() -> None:
        try:
            raise JoinsError("inner", 1)
        except JoinsError as inner:
            raise ValueError("outer") from inner

    def hidden() -> None:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from None

    def shown() -> None:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer")  # noqa: B904 - the context is what is tested

    arrived = trip(raised(chained))
    assert type(arrived.__cause__) is JoinsError
    assert arrived.__context__ is arrived.__cause__
    assert arrived.__suppress_context__
    assert type(arrived.__cause__.__cause__) is RemoteTraceback

    arrived = trip(raised(hidden))
    assert without_trace(arrived) is None
    assert type(arrived.__context__) is KeyError
    assert arrived.__suppress_context__
    assert "KeyError" not in printed(arrived)

    arrived = trip(raised(shown))
    assert arrived.__cause__ is None
    assert not arrived.__suppress_context__
    assert type(arrived.__context__) is KeyError
    assert type(arrived.__context__.__cause__) is RemoteTraceback


def test_what_is_printed() -> None:
    def inner() -> None:
        raise KeyError("inner")

    def outer() -> None:
        try:
            inner()
        except KeyError:
            raise ValueError("outer")  # noqa: B904 - the context is what is tested

    def reader() -> None:
        raise trip(raised(outer))

    text = printed(raised(reader))
    there, quotes, here = text.partition('"""\n\nThe above exception was the direct cause of')
    assert quotes
    assert there.startswith('concurry.transports.codec_exceptions.RemoteTraceback: \n"""\nTraceback (most recent call')
    for shown in ("in inner", "KeyError: 'inner'", "During handling of the above exception", "ValueError: outer"):
        assert there.count(shown) == 1, text
    assert there.index("KeyError: 'inner'") < there.index("ValueError: outer")
    assert "in reader" in here
    assert "During handling of the above exception" in here
    assert here.rstrip().endswith("ValueError: outer")
    assert "in inner" not in here


def test_an_exception_that_has_travelled_before() -> None:
    error: BaseException = ValueError("x")
    lengths = []
    for _ in range(5):
        error = trip(raised(error))
        assert type(error.__cause__) is RemoteTraceback
        assert error.__cause__.__cause__ is None
        lengths.append(len(str(error.__cause__)))
    assert len({after - before for before, after in itertools.pairwise(lengths)}) == 1, "it grows evenly"


def test_groups() -> None:
    cause = KeyError("why")
    member = JoinsError(1, 2)
    member.__cause__ = cause
    member.add_note("m")
    group = ExceptionGroup("outer", [member, ExceptionGroup("inner", [ValueError("deep"), OSError(2, "n", "f")])])
    group.add_note("g")
    arrived = trip(raised(group))
    assert type(arrived) is ExceptionGroup
    first, second = arrived.exceptions
    assert (arrived.message, arrived.__notes__, second.message) == ("outer", ["g"], "inner")  # pyright: ignore[reportAttributeAccessIssue]
    assert (type(first), first.args, first.__notes__) == (JoinsError, ("12",), ["m"])
    assert type(first.__cause__) is KeyError
    assert [type(deep) for deep in second.exceptions] == [ValueError, FileNotFoundError]  # pyright: ignore[reportAttributeAccessIssue]
    assert second.exceptions[1].filename == "f"  # type: ignore[union-attr]

    base = trip(BaseExceptionGroup("b", [SystemExit(2), ValueError()]))
    assert type(base) is BaseExceptionGroup
    mine = trip(GroupError([ValueError(1)], 7))  # pyright: ignore[reportArgumentType]
    assert type(mine) is GroupError
    assert (mine.code, mine.message, repr(mine.exceptions)) == (7, "mine", "(ValueError(1),)")
    partly = trip(ExceptionGroup("p", [Unsendable.make(), KeyError(1)]))
    assert isinstance(partly, ExceptionGroup)
    assert [type(one) for one in partly.exceptions] == [errors.RemoteError, KeyError]


def test_circles_and_shared_ends() -> None:
    itself = ValueError("c")
    itself.__cause__ = itself
    arrived = trip(itself)
    assert arrived.__cause__ is arrived
    assert arrived.__notes__[0].startswith("Where it was raised:")
    itself = ValueError("c")
    itself.__context__ = itself
    arrived = trip(itself)
    assert arrived.__context__ is arrived
    assert type(arrived.__cause__) is RemoteTraceback
    first, second = ValueError(1), ValueError(2)
    first.__cause__, second.__cause__ = second, first
    arrived = trip(first)
    assert arrived.__cause__ is not None
    assert arrived.__cause__.__cause__ is arrived
    first, second = ValueError(1), ValueError(2)
    first.__cause__ = first.__context__ = second
    arrived = trip(first)
    assert arrived.__cause__ is arrived.__context__
    holds_itself = ValueError()
    holds_itself.args = (holds_itself,)
    assert type(trip(holds_itself)) is ValueError


@pytest.mark.parametrize("tie", ["__cause__", "__context__"])
def test_a_long_chain_is_cut(tie: str) -> None:
    first = last = ValueError(0)
    for number in range(1, 10_000):
        tied = ValueError(number)
        setattr(last, tie, tied)
        last = tied
    arrived: BaseException | None = trip(raised(first))
    assert arrived is not None
    assert f"It is tied to {LONGEST - 1} more exceptions, at least" in printed(arrived)
    numbers = []
    while arrived is not None and type(arrived) is not RemoteTraceback:
        numbers.append(arrived.args[0])
        arrived = getattr(arrived, tie)
    assert numbers == list(range(LONGEST))


def test_groups_in_groups_ten_thousand_deep() -> None:
    group: Exception = ValueError("end")
    for _ in range(10_000):
        group = ExceptionGroup("g", [group])  # pyright: ignore[reportArgumentType]
    assert isinstance(trip(group), Exception)


# -- what cannot be sent whole ----------------------------------------------------------------------------------------


class Unsendable(type):
    """A metaclass whose classes neither pickle knows how to send."""

    def __reduce_ex__(cls, protocol: Any) -> Any:
        raise TypeError("no class for you")

    @staticmethod
    def make(*args: Any) -> Exception:
        lock = threading.Lock()

        class LocalError(Exception, metaclass=Unsendable):
            held = lock

        return LocalError(*args)


def test_parts_that_cannot_be_sent_arrive_as_their_repr_with_a_note() -> None:
    error: Any = JoinsError("a", "b")
    error.args = ("ok", threading.Lock(), [1])
    error.lock = threading.Lock()
    error.fine = 5
    error.add_note("mine")
    arrived: Any = trip(error)
    assert type(arrived) is type(error)
    assert (arrived.args[0], arrived.args[2], arrived.fine, arrived.a) == ("ok", [1], 5, "a")
    assert arrived.args[1].startswith("<unlocked _thread.lock")
    assert arrived.lock.startswith("<unlocked _thread.lock")
    assert arrived.__notes__[0] == "mine"
    assert [note.partition(" could")[0] for note in arrived.__notes__[1:]] == ["args[1]", ".lock"]


def test_a_part_that_cannot_be_rebuilt() -> None:
    inner = ReduceFailsThereError("inner")
    arrived = trip(ValueError("text", inner))
    assert type(arrived) is ValueError
    assert arrived.args == ("text", repr(inner))


def test_a_local_class() -> None:
    class LocalError(JoinsError):
        pass

    arrived = trip(LocalError(1, 2))
    assert type(arrived) is LocalError
    assert (arrived.args, arrived.a) == (("12",), 1)


def test_a_class_that_cannot_be_sent() -> None:
    arrived = trip(raised(Unsendable.make("text", 1)), who="Parser[2]")
    assert type(arrived) is errors.RemoteError
    assert "LocalError: ('text', 1)" in str(arrived)
    assert str(arrived).startswith("Parser[2] raised ")
    assert arrived.type_name.endswith("make.<locals>.LocalError")
    assert arrived.message == "('text', 1)"
    assert "in raised" in arrived.traceback
    assert "could not be rebuilt here: its class cannot be sent" in arrived.__notes__[0]
    assert type(pickle.loads(pickle.dumps(arrived))) is errors.RemoteError


def test_a_class_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = codec.pack_failure(3, JoinsError(1, 2), "W")
    monkeypatch.delitem(globals(), "JoinsError")
    [(_, _, how, body)] = codec.read(frame)
    arrived = codec.unpack_failure(how, body)
    assert type(arrived) is errors.RemoteError
    assert arrived.type_name.endswith(".JoinsError")
    assert "AttributeError" in arrived.__notes__[0]


def test_a_remote_base_error_keeps_its_cause() -> None:
    error = errors.RemoteBaseError("W raised SystemExit(3)", type_name="builtins.SystemExit", traceback="tb")
    error.__cause__ = SystemExit(3)
    arrived = trip(error)
    assert type(arrived) is errors.RemoteBaseError
    assert type(arrived.__cause__) is SystemExit
    assert arrived.__cause__.code == 3


def test_what_is_too_large_leaves_its_arguments_behind() -> None:
    arrived = trip(ValueError("x", np.zeros(LARGEST)))
    assert type(arrived) is ValueError
    assert "too large" in arrived.__notes__[0]
    assert len(codec.pack_failure(1, ValueError("x" * LARGEST * 2), "W")) < LARGEST
    array = np.arange(100_000)
    assert np.array_equal(trip(ValueError(array)).args[0], array)


def test_a_traceback_that_cannot_be_shown() -> None:
    class Odd(Exception):
        @property
        def __notes__(self) -> Any:  # type: ignore[override]
            raise ValueError("no notes")

    arrived = trip(raised(Odd("x")))
    assert isinstance(arrived, Exception)
    assert "no notes" in str(arrived.__cause__)  # 3.11: it cannot be shown; later ones show all but the notes


@pytest.mark.parametrize(
    "body", [None, b"", b"rubbish", pickle.dumps(5), pickle.dumps(("w", "t", [])), pickle.dumps(("w", "t", [(1,)]))]
)
def test_rubbish_is_a_remote_error(body: Any) -> None:
    for how in (codec.PLAIN, codec.PICKLED, 7):
        assert type(codec.unpack_failure(how, body)) is errors.RemoteError


def test_ctrl_c_passes() -> None:
    class Stops(Exception):
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        codec.pack_failure(1, Stops(), "W")
