"""`@worker`: the class stays the user's own, and runs in every mode."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import gc
import inspect
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pydantic
import pytest

from concurry import CallLimit, ExecutionMode, Handle, LimitPool, ResourceLimit, Worker, worker

Start = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]


class CounterWithout:
    """The same without the decorator, for comparison."""

    def __init__(self, start: int, *, step: int = 1) -> None:
        self.value = start
        self.step = step


@worker
class Counter:
    """Counts."""

    limits: LimitPool  # for type checkers only

    def __init__(self, start: int, *, step: int = 1) -> None:
        self.value = start
        self.step = step

    def tell(self) -> int:
        return self.value

    async def tell_later(self) -> int:
        await asyncio.sleep(0)
        return self.value

    @staticmethod
    def static(value: int) -> int:
        return value

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    @property
    def doubled(self) -> int:
        return 2 * self.value

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return self.value

    def known(self) -> bool:
        return type(self) is Counter

    def itself(self) -> Any:
        return self


class PlainParent:
    def inherited(self) -> str:
        return type(self).__name__


def unchecked(cls: Any) -> Any:
    """The class, which is no longer what a type checker takes it for."""
    return cls


def other(cls: Any) -> Any:
    """A decorator that leaves the class what it is."""
    cls.marked = True
    return cls


@worker
@dataclass
class Data:
    value: int
    seen: list[int] = field(default_factory=list)

    def tell(self) -> int:
        return self.value

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):  # type: ignore[attr-defined]
            return self.value


@worker
@dataclass(frozen=True)
class FrozenData:
    value: int
    limits: ClassVar[LimitPool]

    def tell(self) -> int:
        return self.value

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return self.value


@dataclass
@worker
class DataAbove:
    value: int

    def tell(self) -> int:
        return self.value

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):  # type: ignore[attr-defined]
            return self.value


@worker
class Model(pydantic.BaseModel):
    value: int = pydantic.Field(ge=0)
    limits: ClassVar[LimitPool]

    def tell(self) -> int:
        return self.value

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return self.value


@worker
@attrs.define(slots=False)
class Attrs:
    value: int

    def tell(self) -> int:
        return self.value

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):  # type: ignore[attr-defined]
            return self.value


@worker
@other
class Marked(PlainParent):
    def __init__(self, value: int) -> None:
        self.value = value

    @functools.lru_cache  # noqa: B019
    def tell(self) -> int:
        return self.value

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):  # type: ignore[attr-defined]
            return self.value


class Meta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


@worker
class WithMeta(metaclass=Meta):
    def __init__(self, value: int) -> None:
        with self.limits.acquire():  # type: ignore[attr-defined]
            self.value = value

    def tell(self) -> int:
        return self.value

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):  # type: ignore[attr-defined]
            return self.value


@worker
class WithNew:
    made: int

    def __new__(cls, value: int) -> WithNew:
        it = super().__new__(cls)
        it.made = value
        return it

    def __init__(self, value: int) -> None:
        self.value = value

    def tell(self) -> int:
        return self.made

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):  # type: ignore[attr-defined]
            return self.value


@worker
class Inherits(Worker):
    def __init__(self, value: int) -> None:
        self.value = value

    def tell(self) -> int:
        return self.value

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return self.value


SHAPES: list[Any] = [Data, FrozenData, DataAbove, Model, Attrs, Marked, WithMeta, WithNew, Inherits]


def test_every_kind_of_method(start: Start) -> None:
    counter = start(Counter, 5, step=2)
    assert isinstance(counter, Handle)
    assert counter.worker_cls is Counter
    assert [getattr(counter, name)().result() for name in ("tell", "tell_later", "of_class")] == [5, 5, "Counter"]
    assert counter.static(3).result() == 3
    assert counter.known().result() is True
    assert counter[Counter.tell]().result() == 5
    with pytest.raises(AttributeError, match=r"has no method 'telll'; did you mean 'tell'"):
        counter.telll()
    with pytest.raises(AttributeError, match="doubled is an attribute"):
        counter.doubled()
    for name in ("init", "get_actor"):
        with pytest.raises(AttributeError, match=f"{name} is the class's"):
            getattr(counter, name)("x")


@pytest.mark.parametrize("cls", SHAPES, ids=lambda cls: cls.__name__)
def test_every_shape_of_class(start: Start, cls: Any) -> None:
    options = {"limits": [ResourceLimit(key="slots", capacity=4)], "num_retries": {"*": 0, "tell": 2}, "retry_wait": 0}
    handle = start(cls, value=5, options={**options, "retry_until": {"*": None, "tell": lambda r: r == 5}})
    assert handle.tell().result() == 5
    assert handle.limited().result() == 5
    plain = cls(value=6)
    assert type(plain) is cls
    assert plain.tell() == 6
    with plain.limits.acquire() as acquired:
        assert acquired.successful


def test_an_object_travels(start: Start) -> None:
    """By reference: what comes back from a process is of the class that is here."""
    counter = start(Counter, 5)
    assert type(counter.itself().result()) is Counter


def test_the_class_is_the_users_own() -> None:
    assert isinstance(Counter, type)
    counter: Any = Counter
    assert (counter.__mro__, counter.__doc__, counter.__qualname__) == ((Counter, object), "Counts.", "Counter")
    assert inspect.signature(counter) == inspect.signature(CounterWithout)
    assert not {"__new__", "__reduce_ex__"} & set(vars(counter))
    assert [getattr(counter, name).__name__ for name in ("options", "init", "get_actor")] == [
        "options",
        "init",
        "get_actor",
    ]
    assert pickle.loads(pickle.dumps(Counter)) is Counter
    assert worker(counter) is Counter  # again changes nothing
    one = counter(3)
    assert isinstance(one, counter)
    assert not isinstance(one, Worker)
    assert copy.deepcopy(one).value == 3
    assert [it.value for it in (one, pickle.loads(pickle.dumps(one)))] == [3, 3]


@worker(mode="thread", max_workers=2)
class Itself:
    made = 0

    def __init__(self, value: int, *, more: str = "") -> None:
        self.value = value

    def tell(self) -> int:
        return self.value

    def same(self) -> int:
        return int(copy.copy(self).value)


class Heir(Itself):  # type: ignore[misc, valid-type, unused-ignore]
    def twice(self) -> int:
        return 2 * self.tell()


@worker(max_concurrency=3, mode="asyncio", auto_init=False)
class Late(PlainParent):
    pass


def test_with_options_calling_it_starts_it() -> None:
    itself = unchecked(Itself)
    with itself(5, more="x") as handle:
        assert isinstance(handle, Handle)
        assert (handle.mode, len(handle), handle.worker_cls) == (ExecutionMode.Threads, 2, Itself)
        assert handle.tell().result() == 5
        assert handle.same().result() == 5
    with itself.options(max_workers=1).init(6) as handle:
        assert (handle.mode, len(handle)) == (ExecutionMode.Threads, 1)
        assert handle.tell().result() == 6
    with itself.init(7) as handle:
        assert handle.tell().result() == 7
    assert str(inspect.signature(itself)) == "(value: 'int', *, more: 'str' = '') -> 'None'"
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'value'"):
        itself()
    with pytest.raises(TypeError, match="unexpected keyword argument 'les'"):
        itself(5, les=1)


def test_it_may_be_an_async_with() -> None:
    async def use() -> int:
        async with unchecked(Itself)(5) as handle:
            return int(await handle.tell())

    assert asyncio.run(use()) == 5


def test_subclasses_inherit_the_options() -> None:
    heir: Any = Heir
    with heir(4) as handle:
        assert (handle.mode, len(handle), handle.worker_cls) == (ExecutionMode.Threads, 2, Heir)
        assert handle.twice().result() == 8
    again: Any = worker(max_workers=1)(type("Again", (heir,), {}))
    with again(4) as handle:
        assert (handle.mode, len(handle)) == (ExecutionMode.Threads, 1)


def test_a_subclass_with_a_new_of_its_own() -> None:
    class Own(Itself):  # type: ignore[misc, valid-type, unused-ignore]
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return super().__new__(cls, *args, **kwargs)

    own: Any = Own
    with own(4) as handle:
        assert handle.tell().result() == 4


def test_auto_init_said() -> None:
    assert type(Late()) is Late

    @worker(auto_init=True)
    class Started:
        def tell(self) -> int:
            return 1

    with pytest.raises(ValueError, match="mode parameter is required"):
        Started()

    @unchecked(worker)(auto_init="false")
    class Not:
        pass

    assert type(Not()) is Not
    with pytest.raises(ValueError, match="auto_init='maybe' is refused: it must be True or False"):
        unchecked(worker)(auto_init="maybe")(PlainParent)


@pytest.mark.parametrize("shape", [Data, FrozenData, Model, Attrs, Marked, WithMeta, WithNew, Inherits])
def test_every_shape_starts_itself(shape: Any) -> None:
    class Under(shape):  # type: ignore[misc]
        pass

    started: Any = worker(mode="thread")(Under)
    with started(value=3) as handle:
        assert handle.tell().result() == 3
        assert handle.worker_cls is Under


def test_a_model_that_starts_itself_is_validated_and_copied_as_ever() -> None:
    @worker(mode="sync")
    class Itself(pydantic.BaseModel):
        value: int

        def copied(self) -> Any:
            return self.model_copy().value, type(self).model_validate({"value": "7"}).value, copy.copy(self).value

    itself = unchecked(Itself)
    with itself(value=3) as handle:
        assert handle.copied().result() == (3, 7, 3)
    with pytest.raises(pydantic.ValidationError):
        itself(value="x")
    with pytest.raises(pydantic.ValidationError):
        itself()


class Copied(Worker, mode="thread"):
    """It takes no arguments, so that only who makes an object tells whether it shall be a worker."""

    value = 0

    def copies(self) -> list[bool]:
        self.value = 3
        made = [copy.copy(self), copy.deepcopy(self), pickle.loads(pickle.dumps(self, 0))]
        return [(type(it), it.value) == (Copied, 3) for it in made]

    def itself(self) -> Any:
        return self


@worker(mode="thread")
@dataclass
class CopiedData:
    value: int = 0

    def copies(self) -> list[bool]:
        made: list[Any] = [copy.copy(self), dataclasses.replace(self, value=3)]
        return [type(it) is CopiedData for it in made]

    def itself(self) -> Any:
        return self


@worker(mode="thread")
class CopiedModel(pydantic.BaseModel):
    value: int = 0

    def copies(self) -> list[bool]:
        made: list[Any] = [copy.copy(self), self.model_copy(), type(self).model_validate({}), copy.deepcopy(self)]
        return [type(it) is CopiedModel for it in made]

    def itself(self) -> Any:
        return self


@pytest.mark.parametrize("cls", [Copied, CopiedData, CopiedModel])
def test_objects_of_a_class_that_starts_itself_are_copied_as_ever(cls: Any) -> None:
    with cls() as handle:
        assert isinstance(handle, Handle)
        assert all(handle.copies().result())
    with cls.options(mode="process").init() as handle:
        assert type(handle.itself().result()) is cls


def test_slots() -> None:
    @worker(mode="thread")
    @dataclass(slots=True)
    class Tight:
        value: int

        def tell(self) -> int:
            return self.value

    tight = unchecked(Tight)
    with tight(3) as handle:
        assert handle.tell().result() == 3
    with pytest.raises(TypeError, match="Tight: its __slots__ leave no room for limits"):
        tight.options(limits=[CallLimit(window_seconds=1, capacity=1)]).init(3)


def test_a_class_that_is_made_anew_above_it_keeps_its_options() -> None:
    """`slots=True` makes a class a second time, of the same members."""

    @dataclass(slots=True)
    @worker(mode="thread", max_workers=2)
    class Tight:
        value: int

        def tell(self) -> int:
            return self.value

    tight: Any = Tight
    gc.collect()  # the first of the two is gone
    with tight(3) as handle:
        assert (handle.tell().result(), len(handle), handle.worker_cls) == (3, 2, Tight)

    @attrs.define
    @worker(mode="thread", max_workers=2)
    class ByAttrs:
        value: int

        def tell(self) -> int:
            return self.value

    by_attrs: Any = ByAttrs
    with by_attrs(3) as handle:
        assert (handle.tell().result(), len(handle), handle.worker_cls) == (3, 2, ByAttrs)


def test_limits_of_its_own_stay_its_own() -> None:
    @worker
    @dataclass
    class Own:
        limits: list[int]

        def tell(self) -> list[int]:
            return self.limits

    own: Any = Own
    with own.options(mode="thread").init([1]) as handle:
        assert handle.tell().result() == [1]
    with pytest.raises(TypeError, match="Own has a `limits` of its own"):
        own.options(mode="thread", limits=[CallLimit(window_seconds=1, capacity=1)]).init([1])


@pytest.mark.parametrize("name", ["init", "options"])
def test_two_names_are_taken(name: str) -> None:
    with pytest.raises(TypeError, match=f"Odd: a worker cannot have a {name} of its own"):
        worker(type("Odd", (), {name: lambda self: 1}))
    parent = type("Parent", (), {name: lambda self: 1})
    for decorate, bases in ((worker, (parent,)), (type, (parent, Worker))):
        with pytest.raises(TypeError, match=f"Odd: a worker cannot have a {name} of Parent"):
            decorate(type("Odd", bases, {}))


@pytest.mark.parametrize("what", [5, "thread", len, lambda: 1], ids=["number", "text", "builtin", "lambda"])
def test_what_is_no_class(what: Any) -> None:
    with pytest.raises(TypeError, match=r"@worker is for classes, and was given .*@worker\(mode='thread'\)"):
        worker(what)
    with pytest.raises(TypeError, match="@worker is for classes"):
        worker()(what)


def test_options_are_checked_at_its_line() -> None:
    with pytest.raises(TypeError, match=r"PlainParent: unknown option 'max_worker'; did you mean 'max_workers'"):
        unchecked(worker)(max_worker=2)(PlainParent)
    with pytest.raises(ValueError, match="PlainParent: max_workers must be 1 for Sync mode"):
        worker(mode="sync", max_workers=2)(PlainParent)
    assert not hasattr(PlainParent, "options")


def test_a_worker_makes_others() -> None:
    @worker(mode="thread")
    class Boss:
        def ask(self) -> Any:
            with unchecked(Itself)(2) as handle:
                return handle.tell().result(), threading.current_thread().name.split("[")[0]

    with unchecked(Boss)() as boss:
        value, name = boss.ask().result()
        assert value == 2
        assert "Boss" in name


_SCRIPT = """
from concurry import ResourceLimit, worker, gather
from dataclasses import dataclass

@worker
class Counter:
    def __init__(self, value): self.value = value
    def tell(self): return self.value, type(self).__name__, isinstance(self, Counter)
    def limited(self):
        with self.limits.acquire(requested={"slots": 1}): return self.value
    def other(self):
        with Other(3) as other: return other.tell().result()

@worker(mode="thread", auto_init=True)
@dataclass
class Other:
    value: int
    def tell(self): return self.value
    def itself(self): return self

with Counter.options(mode="process", limits=[ResourceLimit(key="slots", capacity=1)]).init(5) as counter:
    assert counter.tell().result() == (5, "Counter", True)
    assert counter.limited().result() == 5
with Other.options(mode="process").init(5) as other:
    assert other.tell().result() == 5
    assert type(other.itself().result()) is Other
"""


@pytest.mark.parametrize("how", ["script", "command"])
def test_in_a_script(tmp_path: Path, how: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(_SCRIPT)
    command = [str(path)] if how == "script" else ["-c", _SCRIPT]
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
