"""Calls and results there and back: what is plain, what is pickled, what goes beside it, and what is refused."""

from __future__ import annotations

import array
import enum
import json
import mmap
import pickle
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest

from concurry.transports import codec
from concurry.transports.codec import INLINE, LARGE, PICKLED, PLAIN
from concurry.transports.errors import EncodeError, ProtocolError
from tests.names import steady

Call = tuple[tuple[Any, ...], dict[str, Any] | None]


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


class Point(NamedTuple):
    x: int
    y: int


class Raises:
    """Raises `error` where it is pickled, or where it is unpickled."""

    def __init__(self, error: BaseException, *, there: bool = False) -> None:
        self.error, self.there = error, there

    def __getstate__(self) -> Any:
        if not self.there:
            raise self.error
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise state["error"]


def call(*args: Any, **kwargs: Any) -> tuple[Call, int, list[memoryview] | None]:
    """A call there and back: what arrives, how, and what went beside it."""
    frame, buffers = codec.pack_call("method", args, kwargs or None)
    [(method, how, body)] = codec.read(frame)
    assert method == "method"
    return codec.unpack_call(how, body, buffers), how, buffers


def result(value: Any) -> tuple[Any, int, list[memoryview] | None]:
    frame, buffers = codec.pack_result(7, value)
    [(call_id, status, how, body)] = codec.read(frame)
    assert (call_id, status) == (7, codec.OK)
    return codec.unpack_value(how, body, buffers), how, buffers


def view_of(array_like: Any) -> memoryview:
    return memoryview(array_like)


def same(a: Any, b: Any) -> bool:
    """Equal, with equal types all the way down, and dicts in the same order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b or a == b or bool(a != a and b != b)


# -- plain ------------------------------------------------------------------------------------------------------------

SCALARS = [
    None, True, False, 0, 1, -1, 127, 128, -(2**63), 2**63, 2**64 - 1, 0.0, -0.0, 1.5, float("inf"), float("nan"),
    "", "text", "Zoë 🐍", "\x00", b"", b"\xff\x00",
]  # fmt: skip
CONTAINERS: list[Any] = [
    [], [1, "a", None], (), (1,), (True, 1.0, b"x"), tuple(range(15)), tuple(range(16)), tuple(range(70)), [0] * 300,
    {}, {"a": 1, "b": None}, {1: "int", "1": "str", b"1": "bytes", 1.5: "float", None: 0, False: 1}, {"z": 1, "a": 2},
]  # fmt: skip


@pytest.mark.parametrize("value", SCALARS + CONTAINERS, ids=repr)
def test_plain_values_arrive_exactly_and_nothing_is_pickled(value: Any) -> None:
    arrived, how, buffers = result(value)
    assert same(arrived, value)
    assert (how, buffers) == (PLAIN, None)
    (args, kwargs), how, buffers = call(value, 5, key=value)
    assert same(args, (value, 5))
    assert same(kwargs, {"key": value})
    assert (how, buffers) == (PLAIN, None)


@pytest.mark.parametrize(
    "value",
    [
        2**64, -(2**63) - 1, "\udc80", ["\ud800"], {"k": 2**70}, bytearray(b"x"), Colour.RED, Level.HIGH, Text("t"),
        Point(1, 2), OrderedDict(a=1), {1, 2}, frozenset({3}), 1j, range(3), [[1], [2]], ((1, 2), 3), {"a": [1]},
        {(1, 2): 3}, {Level.HIGH: 1}, [Level.HIGH], np.float64(1.5), np.int64(3), ..., int, len,
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_not_plain_is_pickled_and_keeps_its_type(value: Any) -> None:
    arrived, how, buffers = result(value)
    assert same(arrived, value)
    assert (how, buffers) == (PICKLED, None)
    (args, kwargs), how, _ = call(value, key=value)
    assert same(args, (value,))
    assert same(kwargs, {"key": value})
    assert how == PICKLED


def test_no_arguments_and_empty_keywords() -> None:
    given: list[dict[str, Any] | None] = [None, {}]
    for kwargs in given:
        frame, _ = codec.pack_call("method", (), kwargs)
        [(_, how, body)] = codec.read(frame)
        assert codec.unpack_call(how, body, None) == ((), kwargs)


def test_the_form_of_a_frame() -> None:
    assert msgpack.unpackb(codec.pack_call("m", (1, "a"), {"k": 2})[0]) == ["m", PLAIN, [[1, "a"], {"k": 2}]]
    assert msgpack.unpackb(codec.pack_call("m", (), None)[0]) == ["m", PLAIN, [[], None]]
    assert msgpack.unpackb(codec.pack_result(3, "v")[0]) == [3, codec.OK, PLAIN, "v"]
    method, how, body = msgpack.unpackb(codec.pack_call("m", ({1},), None)[0])
    assert (method, how, pickle.loads(body)) == ("m", PICKLED, (({1},), None))
    assert msgpack.unpackb(codec.pack_failure(3, ValueError(), "W"))[:2] == [3, codec.FAILED]


def test_a_frame_of_several_objects() -> None:
    first, _ = codec.pack_call("m", ((1, 2),), None)
    second, _ = codec.pack_result(1, [3])
    assert codec.read(first + second + b"\x05") == [["m", 0, [[(1, 2)], None]], [1, 0, 0, [3]], 5]
    assert codec.read(memoryview(second)) == [[1, 0, 0, [3]]]
    assert len(codec.read(first * 1000)) == 1000


def test_importing_it_is_light() -> None:
    code = (
        "import sys, concurry.transports.codec; "
        "print([n for n in ('cloudpickle', 'numpy', 'ctypes', 'asyncio', 'traceback') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_threads_and_a_finalizer_that_comes_in_between() -> None:
    class Packs:
        def __del__(self) -> None:
            assert result((1, "x"))[0] == (1, "x")

    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(300):
                cycle: Any = [Packs()]
                cycle.append(cycle)
                sent = (number, i, f"{number}:{i}", (i, number), [i] * 20)
                assert call(*sent)[0] == (sent, None)
                with pytest.raises(ProtocolError):
                    codec.read(b"\x92\x01")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# -- beside the frame -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    "put",
    [lambda v: v, lambda v: [1, v], lambda v: (v, "x"), lambda v: {"k": v, "l": 2}],
    ids=["itself", "list", "tuple", "dict"],
)
def test_large_bytes_go_beside_and_arrive_as_what_they_were(kind: Callable[[bytes], Any], put: Any) -> None:
    value = kind(bytes(range(256)) * (INLINE // 256))
    arrived, how, buffers = result(put(value))
    assert how == PICKLED
    assert buffers is not None
    assert [(b.nbytes, b.format, b.ndim, b.contiguous) for b in buffers] == [(INLINE, "B", 1, True)]
    assert np.shares_memory(np.frombuffer(buffers[0], "B"), np.frombuffer(value, "B")), "it was copied"
    assert same(arrived, put(value))
    (args, kwargs), _, buffers = call(put(value), k=put(value))
    assert same(args, (put(value),))
    assert same(kwargs, {"k": put(value)})
    assert buffers is not None
    assert len(buffers) == 1, "one object is carried once"


def test_bytes_just_below_stay_inside() -> None:
    for value in (b"x" * (INLINE - 1), [b"x" * (INLINE - 1)]):
        assert same(result(value)[0], value)
        assert result(value)[1:] == (PLAIN, None)
    assert result(bytearray(INLINE - 1))[2] is None
    assert result(np.zeros(INLINE - 1, "B"))[2] is None
    assert result(np.zeros(INLINE, "B"))[2] is not None


def test_aliases_stay_aliases() -> None:
    large = bytearray(INLINE)
    shared = [large]
    arrived, _, buffers = result([shared, large, {"again": shared}, large])
    assert arrived[0][0] is arrived[1] is arrived[3]
    assert arrived[0] is arrived[2]["again"]
    assert buffers is not None
    assert len(buffers) == 1
    knot: list[Any] = [bytes(INLINE)]
    knot.append(knot)
    arrived = result(knot)[0]
    assert arrived[1] is arrived


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"small"),
        memoryview(b""),
        memoryview(array.array("d")),
        memoryview(array.array("d", range(9000))),
        view_of(np.arange(12000, dtype="i4").reshape(3, 4000)),
        view_of(np.asfortranarray(np.arange(12000, dtype="i4").reshape(3, 4000))),
        view_of(np.arange(40000))[::2],
        view_of(np.array(5.0)),
        memoryview(b"abc").cast("c"),
    ],
    ids=steady,
)
def test_views_keep_format_and_shape(view: memoryview) -> None:
    for value in (view, [view], [[[view]]]):
        arrived = result(value)[0]
        while type(arrived) is list:
            arrived = arrived[0]
        assert type(arrived) is memoryview
        assert (arrived.format, arrived.shape, arrived.tolist()) == (view.format, view.shape, view.tolist())


def test_views_of_a_format_that_cannot_be_made_again_are_refused_here() -> None:
    with pytest.raises(EncodeError, match="memoryview of format"):
        codec.pack_result(1, view_of(np.zeros(3, ">i4")))
    released = memoryview(b"x")
    released.release()
    with pytest.raises(EncodeError, match="released"):
        codec.pack_call("m", (released,), None)


def test_arrays_bytes_and_more_in_their_order() -> None:
    first, second = np.arange(30000.0), np.arange(20000, dtype="i4")
    (args, _), _, buffers = call(first, bytes(INLINE), {"s": second, "f": lambda: 5}, first)
    assert buffers is not None
    assert [b.nbytes for b in buffers] == [240000, INLINE, 80000]
    assert np.array_equal(args[0], first)
    assert args[1] == bytes(INLINE)
    assert np.array_equal(args[2]["s"], second)
    assert args[2]["f"]() == 5
    assert args[0] is args[3]
    assert np.array_equal(result(first[::2])[0], first[::2])  # not contiguous: numpy keeps it inside


@pytest.mark.parametrize("with_bytes", [False, True])
@pytest.mark.parametrize(
    "value", [list(range(200_000)), "x" * LARGE, {"k": ["y" * 30] * 1}, ("z" * LARGE, 1)], ids=["l", "s", "d", "t"]
)
def test_a_large_stream_is_the_first_buffer(value: Any, with_bytes: bool) -> None:
    sent = (value, np.zeros(INLINE), bytes(INLINE)) if with_bytes else (value, np.zeros(INLINE))
    frame, buffers = codec.pack_call("m", sent, None)
    assert buffers is not None
    small = type(value) is dict
    assert len(frame) < (1000 if small else 20)
    assert len(buffers) == 1 + with_bytes + (not small)
    [(_, how, body)] = codec.read(frame)
    args, _ = codec.unpack_call(how, body, [memoryview(bytes(buffer)) for buffer in buffers])
    assert same(args[0], value)
    assert args[1].sum() == 0
    assert args[2:] == sent[2:]
    assert same(result(value)[0], value)


def test_a_buffer_that_can_drain_is_drained() -> None:
    drained: list[int] = []

    class Segment(mmap.mmap):
        def drain(self, view: memoryview) -> bytes:
            drained.append(view.nbytes)
            return bytes(view)

    with Segment(-1, INLINE) as segment:
        segment.write(b"s" * INLINE)
        frame, buffers = codec.pack_result(1, b"t" * INLINE)
        [(_, _, how, body)] = codec.read(frame)
        with memoryview(segment) as view:
            assert codec.unpack_value(how, body, [view]) == b"s" * INLINE
        assert drained == [INLINE]
        assert codec.unpack_value(how, body, buffers) == b"t" * INLINE
    assert codec.take_bytes(memoryview(b"ab")) == b"ab"
    given = b"given"
    assert codec.take_bytes(given) is given


# -- by value ---------------------------------------------------------------------------------------------------------


def test_lambdas_closures_and_local_classes() -> None:
    held = 3

    class Local:
        value = 4

    (args, _), _, _ = call(lambda x: x + held, Local())
    assert args[0](2) == 5
    assert type(args[1]) is Local
    assert result(Local)[0] is Local


def test_a_text_that_speaks_of_main_is_no_reference() -> None:
    value = {"__main__"}
    assert result(value)[0] == value


REFUSED = """
import threading
from concurry.transports import codec
from concurry.transports.errors import EncodeError

lock = threading.Lock()
class Local:
    def method(self):
        return lock

for value in (Local, [Local, "__main__"], {"word": "__main__", "made": Local()}):
    try:
        codec.pack_call("method", (value,), None)
    except EncodeError as error:
        print("cannot pickle '_thread.lock' object" in str(error))
"""


def test_a_class_of_main_that_cannot_go_by_value_is_refused_here(tmp_path: Path) -> None:
    # The plain pickle names it, and the other side would only say that its own `__main__` has nothing of that name.
    script = tmp_path / "script.py"
    script.write_text(REFUSED)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True"] * 3


def test_what_cannot_go_by_value_and_only_speaks_of_main_goes_plainly() -> None:
    class Once:
        asked = 0

        def __reduce__(self) -> Any:
            Once.asked += 1
            if Once.asked == 2:
                raise TypeError("by value it cannot")
            return dict, (((1, "__main__"), ("__main__", dict)),)

    assert result(Once())[0] == {1: "__main__", "__main__": dict}
    assert Once.asked == 2


SCRIPT = """
import enum, json, subprocess, sys
from concurry.transports import codec

class Base:
    count = 0

class Thing(Base):
    made = 0
    def __init__(self): self.x = 1
    def outside(self): return OUTSIDE
    def more(self):
        type(self).made += 1
        return type(self).made

class Colour(enum.Enum):
    RED = 1

class Failed(Exception):
    def __init__(self, a, b): super().__init__(f"{a}{b}"); self.a = a

OUTSIDE = "first"

def child():
    out = sys.stdout.buffer
    while head := sys.stdin.buffer.read(8):
        [(method, how, body)] = codec.read(sys.stdin.buffer.read(int.from_bytes(head, "big")))
        (thing, *rest), _ = codec.unpack_call(how, body, None)
        if method == "fail":
            frame = codec.pack_failure(0, thing(*rest), "W")
        else:
            frame, _ = codec.pack_result(0, [thing, getattr(thing, method, lambda: None)(), rest])
        out.write(len(frame).to_bytes(8, "big") + frame)
        out.flush()

if __name__ == "__main__":
    code = f"import sys; sys.path.insert(0, {FOLDER!r}); import script; script.child()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    def ask(method, *args):
        frame, _ = codec.pack_call(method, args, None)
        process.stdin.write(len(frame).to_bytes(8, "big") + frame)
        process.stdin.flush()
        [(_, status, how, body)] = codec.read(process.stdout.read(int.from_bytes(process.stdout.read(8), "big")))
        return codec.unpack_failure(how, body) if status else codec.unpack_value(how, body, None)

    method, base = Thing.outside, Thing.__mro__
    thing, one, (colour, kind) = ask("more", Thing(), Colour.RED, Thing)
    said = {"same class": type(thing) is Thing, "isinstance": isinstance(thing, Base), "enum": colour is Colour.RED,
            "class": kind is Thing, "mro": Thing.__mro__ == base, "x": thing.x}
    said["method untouched"] = Thing.outside is method
    said["counted there"] = [one, ask("more", thing)[1], ask("more", Thing())[1]]
    said["not here"] = Thing.made
    OUTSIDE = "second"
    said["globals"] = thing.outside()
    failed = ask("fail", Failed, 1, 2)
    said["failed"] = [type(failed) is Failed, failed.args, failed.a]
    process.stdin.close()
    said["code"] = process.wait()
    process.stdout.close()
    print(json.dumps(said))
"""


def test_a_class_of_main_keeps_its_identity_there_and_back(tmp_path: Path) -> None:
    # The child runs the same file under another name, so its own `__main__` has none of these classes.
    script = tmp_path / "script.py"
    script.write_text(f"FOLDER = {str(tmp_path)!r}\n{SCRIPT}")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "same class": True,
        "isinstance": True,
        "enum": True,
        "class": True,
        "mro": True,
        "x": 1,
        "method untouched": True,
        "counted there": [1, 2, 3],
        "not here": 0,
        "globals": "second",
        "failed": [True, ["12"], 1],
        "code": 0,
    }


# -- what is refused --------------------------------------------------------------------------------------------------


def deep() -> list[Any]:
    top: list[Any] = []
    for _ in range(100_000):
        top = [top]
    return top


def test_what_cannot_be_sent_says_which_argument_why_and_what_to_do() -> None:
    lock = threading.Lock()
    with pytest.raises(EncodeError, match=r"method\(\) was not called: argument 2 \(of type _thread.lock\)") as caught:
        codec.pack_call("method", (1, lock), None)
    assert isinstance(caught.value.__cause__, TypeError)
    assert "cannot pickle '_thread.lock' object. Send what can" in str(caught.value)
    with pytest.raises(EncodeError, match=r"argument key= \(of type builtins.list\)"):
        codec.pack_call("method", ({1},), {"key": [lock]})
    with pytest.raises(EncodeError, match=r"the result, of type builtins.dict, cannot be sent.*_thread.lock"):
        codec.pack_result(1, {"a": lock})
    assert call(1, {2})[0] == ((1, {2}), None)  # the next is fine


@pytest.mark.parametrize(
    "error", [RecursionError(), MemoryError(), ValueError("odd"), SystemExit(3), GeneratorExit()], ids=repr
)
def test_a_hook_may_raise_anything(error: BaseException) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.pack_call("method", (Raises(error),), None)
    assert caught.value.__cause__ is error
    with pytest.raises(EncodeError):
        codec.pack_result(1, Raises(error))
    frame, _ = codec.pack_call("method", (Raises(error, there=True),), None)
    [(_, how, body)] = codec.read(frame)
    with pytest.raises(EncodeError, match="the arguments cannot be rebuilt") as caught:
        codec.unpack_call(how, body, None)
    assert type(caught.value.__cause__) is type(error)


def test_ctrl_c_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        codec.pack_call("method", (Raises(KeyboardInterrupt()),), None)
    frame, _ = codec.pack_result(1, Raises(KeyboardInterrupt(), there=True))
    [(_, _, how, body)] = codec.read(frame)
    with pytest.raises(KeyboardInterrupt):
        codec.unpack_value(how, body, None)


def test_where_sigint_is_ignored_there_is_no_ctrl_c() -> None:
    frame, _ = codec.pack_call("method", (Raises(KeyboardInterrupt(), there=True),), None)
    [(_, how, body)] = codec.read(frame)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(EncodeError):
            codec.pack_result(1, Raises(KeyboardInterrupt()))
        with pytest.raises(EncodeError):
            codec.unpack_call(how, body, None)
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_is_too_deep_or_has_no_text() -> None:
    with pytest.raises(EncodeError, match=r"argument 1 .*RecursionError"):
        codec.pack_call("method", (deep(),), None)
    with pytest.raises(EncodeError):
        codec.pack_call("m\udc80", (1,), None)
    with pytest.raises(EncodeError):
        codec.pack_call("m\udc80", ({1},), None)


def test_errors_of_the_codec_can_be_pickled() -> None:
    with pytest.raises(EncodeError) as caught:
        codec.pack_call("method", (threading.Lock(),), None)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("how", [2, -1, None, "0", [], 1.5])
def test_an_unknown_how(how: Any) -> None:
    with pytest.raises(ProtocolError):
        codec.unpack_call(how, [[], None], None)
    with pytest.raises(ProtocolError):
        codec.unpack_value(how, 1, None)


@pytest.mark.parametrize(
    "body", [None, 1, [], [[]], [[], None, 1], [[], {1: 2}], [[], []], [None, None], {}, [(), None]], ids=repr
)
def test_a_plain_call_that_is_none(body: Any) -> None:
    with pytest.raises(ProtocolError):
        codec.unpack_call(PLAIN, body, None)


@pytest.mark.parametrize("body", [None, 1, "s", [], b""], ids=repr)
def test_a_pickled_body_that_is_none(body: Any) -> None:
    for unpack in (codec.unpack_call, codec.unpack_value):
        with pytest.raises(ProtocolError):
            unpack(PICKLED, body, None)


def test_pickles_that_cannot_be_read() -> None:
    large, _ = codec.pack_result(1, np.zeros(INLINE))
    [(_, _, how, wants_buffers)] = codec.read(large)
    for body, buffers in [(b"rubbish", None), (b"\x80\x05Q.", None), (wants_buffers, None), (b"", [b"rubbish"])]:
        with pytest.raises(EncodeError):
            codec.unpack_value(how, body, buffers)
    shapes: list[Any] = [1, (1, 2, 3), ([], None), ((), [])]
    for shape in shapes:
        with pytest.raises(ProtocolError):
            codec.unpack_call(PICKLED, pickle.dumps(shape), None)


# -- reading rubbish --------------------------------------------------------------------------------------------------


def ext(code: int, data: bytes) -> bytes:
    return bytes(msgpack.packb(msgpack.ExtType(code, data)))


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"\xc1", b"\x92\x01", b"\xa5abc", b"\x01\x92", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xa1\xff", b"\x81\x90\x01",
        b"\x91" * 1_000_000, b"\x81\x01" * 500_000, b"\xdd\x00\x0f\xff\xff" * 200_000, b"\xdc\xff\xff" * 1300,
        b"\x90" * 1_000_000, b"\x81\x01\x01" * 300_000, ext(2, b""), ext(1, b"\x90"), ext(1, b"\x80"), ext(1, b"\x92"),
        ext(1, ext(1, b"")), ext(1, b"\xdc\xff\xff" * 5000), ext(1, b"\x90" * 900_000), ext(1, b"\xa1\xff"),
    ],
    ids=lambda frame: repr(frame[:6]) + f" {len(frame)}",
)  # fmt: skip
def test_rubbish_is_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        codec.read(frame)
    assert codec.read(b"\x91\xd4\x01\x05") == [[(5,)]]  # the next is fine


def test_reading_unpickles_nothing(tmp_path: Path) -> None:
    class Touches:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "touched",)

    stream = pickle.dumps(Touches(), 5)
    codec.read(msgpack.packb([1, 0, PICKLED, stream]) + msgpack.packb(["m", PICKLED, stream]))
    with pytest.raises(ProtocolError):
        codec.read(msgpack.packb(msgpack.ExtType(0, stream)))
    assert not (tmp_path / "touched").exists()
