"""What a worker class may be, how its `__init__` runs, and what happens where that fails."""

from __future__ import annotations

import runpy
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pydantic
import pytest

from concurry import RateLimit, ResourceLimit, Worker, WorkerInitError

Start = Callable[..., Any]
T = TypeVar("T")


class Plain(Worker):
    def __init__(self, model: str, *, temperature: float = 0.5) -> None:
        self.model = model
        self.temperature = temperature

    def tell(self) -> tuple[str, float]:
        return self.model, self.temperature


def test_init_is_given_its_arguments(start: Start) -> None:
    assert start(Plain, "a", temperature=1.0).tell().result() == ("a", 1.0)


def test_without_init_it_is_the_plain_object() -> None:
    plain = Plain("x")
    assert type(plain) is Plain
    assert plain.tell() == ("x", 0.5)
    with plain.limits.acquire() as acquired:
        assert acquired.successful


class Broken(Worker):
    def __init__(self, make: Callable[[], BaseException]) -> None:
        raise make()

    def method(self) -> None: ...


class OddError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def make_odd() -> OddError:
    """It is raised in another process, but is no argument that could be sent there: its `args` do not make it."""
    error = OddError(7, "seven")
    error.add_note("a note")
    return error


def failing_start(start: Start, way: Any, *args: Any, **kwargs: Any) -> Any:
    """Where each call has an actor of its own, `__init__` runs for the first call."""
    worker = start(*args, **kwargs)
    if way.options.get("on_demand"):
        worker.method().result()
    return worker


def test_what_init_raises_is_raised_by_init(start: Start, way: Any) -> None:
    error = make_odd()
    make: Callable[[], OddError] = (lambda: error) if way.same_objects else make_odd
    with pytest.raises(OddError, match="7: seven") as caught:
        failing_start(start, way, Broken, make)
    assert way.same(caught.value, error)
    assert caught.value.__notes__[0] == "a note"
    assert way.frames_of(caught.value)[-1] == "__init__"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_base_exception_of_init_comes_as_an_exception(start: Start, way: Any, kind: type[BaseException]) -> None:
    error = kind("now")
    with pytest.raises(WorkerInitError, match=rf"__init__ raised {kind.__name__}: now") as caught:
        failing_start(start, way, Broken, lambda: error)
    assert caught.value.__cause__ is not None
    assert way.same(caught.value.__cause__.__cause__, error)


def test_wrong_init_arguments_are_an_error_of_the_line(start: Start) -> None:
    with pytest.raises(TypeError, match=r"missing.*'model'"):
        start(Plain)
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        start(Plain, "x", other=1)


class Unlike(Worker):
    """Every actor but one can be made."""

    made = 0
    lock = threading.Lock()

    def __init__(self, bad: int) -> None:
        with Unlike.lock:
            number = Unlike.made
            Unlike.made += 1
        if number == bad:
            raise OSError(f"number {number}")

    def method(self) -> None: ...


@pytest.mark.parametrize("bad", [0, 3, 7])
def test_one_actor_that_cannot_be_made_leaves_none_of_the_others(bad: int) -> None:
    Unlike.made = 0
    before = threading.active_count()
    with pytest.raises(OSError, match=f"number {bad}"):
        Unlike.options(mode="thread", max_workers=8).init(bad)
    assert threading.active_count() == before


def test_an_init_that_takes_too_long(new_signal: Callable[[], Any]) -> None:
    class Slow(Worker):
        def __init__(self, go: Any) -> None:
            go.wait()

    go = new_signal()
    with pytest.raises(WorkerInitError, match=r"Slow: __init__ was not done within init_timeout=0.01 s"):
        Slow.options(mode="thread", init_timeout=0.01).init(go)
    left = [thread for thread in threading.enumerate() if "Slow" in thread.name]
    go.set()
    for thread in left:
        thread.join(10)


@dataclass
class Data(Worker):
    name: str
    seen: list[str] = field(default_factory=list)

    def tell(self) -> str:
        self.seen.append("told")
        return self.name

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return 1


@dataclass(frozen=True)
class Frozen(Worker):
    name: str

    def tell(self) -> str:
        return self.name

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return 1


class Model(Worker, pydantic.BaseModel):
    name: str
    times: int = pydantic.Field(default=1, ge=1)
    _secret: str = pydantic.PrivateAttr(default="s")

    def model_post_init(self, context: Any, /) -> None:
        self._secret = "set"

    def tell(self) -> str:
        return self.name

    def tell_secret(self) -> str:
        return self._secret

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return 1

    @pydantic.validate_call
    def checked(self, count: int) -> int:
        return count

    @pydantic.validate_call
    async def checked_later(self, count: int) -> int:
        return count


class ModelFirst(pydantic.BaseModel, Worker):
    model_config = pydantic.ConfigDict(frozen=True)
    name: str

    def tell(self) -> str:
        return self.name

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return 1


class Validated(Worker):
    @pydantic.validate_call
    def __init__(self, name: str, times: int = 1) -> None:
        self.name = name
        self.times = times

    def tell(self) -> str:
        return self.name

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return 1


class WithNew(Worker):
    def __new__(cls, name: str) -> WithNew:
        made = super().__new__(cls)
        made.from_new = name
        return made

    def __init__(self, name: str) -> None:
        self.name = self.from_new

    from_new: str

    def tell(self) -> str:
        return self.name

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return 1


class Meta(type):
    made: int = 0

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        Meta.made += 1
        return super().__call__(*args, **kwargs)


class WithMeta(Worker, metaclass=Meta):
    def __init__(self, name: str) -> None:
        self.name = name

    def tell(self) -> str:
        return self.name

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return 1


class Held(Generic[T], Worker):
    def __init__(self, name: T) -> None:
        self.name = name

    def tell(self) -> T:
        return self.name

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return 1


class Abstract(Worker, ABC):
    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def tell(self) -> str: ...

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return 1


class Concrete(Abstract):
    def tell(self) -> str:
        return self.name


class Slots(Worker):
    __slots__ = ("__dict__", "name")

    def __init__(self, name: str) -> None:
        self.name = name

    def tell(self) -> str:
        return self.name

    def limited(self) -> int:
        with self.limits.acquire(requested={"slots": 1}):
            return 1


SHAPES = [Data, Frozen, Model, ModelFirst, Validated, WithNew, WithMeta, Held, Concrete, Slots]


@pytest.mark.parametrize("cls", SHAPES, ids=lambda cls: cls.__name__)
def test_every_shape_of_class_is_a_worker(start: Start, cls: Any) -> None:
    worker = start(cls, name="n") if "Model" in cls.__name__ else start(cls, "n")
    assert worker.worker_cls is cls
    assert worker.tell().result() == "n"
    plain = cls(name="p")
    assert type(plain) is cls
    assert plain.tell() == "p"
    plain.limits.acquire()


@pytest.mark.parametrize("cls", SHAPES, ids=lambda cls: cls.__name__)
def test_every_shape_of_class_has_its_limits(start: Start, cls: Any) -> None:
    limits = [ResourceLimit(key="slots", capacity=2)]
    worker = start(cls, name="n", options={"limits": limits})
    assert worker.limited().result() == 1
    assert worker.tell().result() == "n"


@pytest.mark.parametrize("cls", SHAPES, ids=lambda cls: cls.__name__)
def test_every_shape_of_class_takes_retries_by_name(start: Start, cls: Any) -> None:
    worker = start(
        cls, name="n", options={"num_retries": {"*": 0, "tell": 2}, "retry_until": {"*": None, "tell": bool}}
    )
    assert worker.tell().result() == "n"


@pytest.mark.parametrize("shape", [WithMeta, Model, Data, WithNew])
def test_a_class_that_starts_itself_makes_plain_objects_in_its_actors(shape: Any) -> None:
    """Its `__new__` starts workers, but not for the objects that the actors make."""

    class Itself(shape, mode="thread"):  # type: ignore[misc, call-arg]
        pass

    with Itself.init(name="n") as worker:
        assert worker.tell().result() == "n"
    with Itself(name="n") as worker:
        assert worker.tell().result() == "n"


def test_pydantic_checks_before_anything_is_started(start: Start) -> None:
    with pytest.raises(pydantic.ValidationError, match="greater than or equal to 1"):
        start(Model, name="x", times=0)
    with pytest.raises(pydantic.ValidationError, match="missing"):
        start(Model)


def test_what_is_set_on_a_model_is_no_field_of_it(start: Start) -> None:
    class Dumps(Worker, pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        name: str

        def dump(self) -> Any:
            copied = self.model_copy()
            assert copied == self
            return self.model_dump(), self.model_dump_json(), repr(self), Dumps.model_validate(self.model_dump()).name

    limits, retries = [ResourceLimit(key="k", capacity=1)], {"*": 0, "dump": 1}
    worker = start(Dumps, name="n", options={"limits": limits, "num_retries": retries, "retry_wait": 0})
    dumped, text, shown, again = worker.dump().result()
    assert dumped == {"name": "n"}
    assert text == '{"name":"n"}'
    assert shown == "Dumps(name='n')"
    assert again == "n"


def test_an_init_that_returns_something_is_an_error(start: Start, way: Any) -> None:
    class Returns(Worker):
        def __init__(self) -> None:
            return 5  # type: ignore[return-value]

        def method(self) -> None: ...

    class Later(Worker):
        async def __init__(self) -> None:  # type: ignore[misc]
            pass

        def method(self) -> None: ...

    for cls, word in ((Returns, "int"), (Later, "coroutine")):
        with pytest.raises(TypeError, match=rf"__init__\(\) should return None, not '{word}'"):
            failing_start(start, way, cls)


def test_pydantic_works_as_it_does_without_us(start: Start) -> None:
    worker = start(Model, name="x", times="3")
    assert worker.tell_secret().result() == "set"
    assert worker.checked("4").result() == 4
    assert worker.checked_later("5").result() == 5
    with pytest.raises(pydantic.ValidationError):
        worker.checked("no").result()
    with pytest.raises(pydantic.ValidationError):
        worker.checked_later("no").result()


@pytest.mark.parametrize("name", ["model_dump", "copy", "json", "model_post_init", "model_copy", "dict"])
def test_helpers_of_a_library_are_no_worker_methods(start: Start, name: str) -> None:
    worker = start(Model, name="x")
    with pytest.raises(AttributeError, match=f"{name}"):
        getattr(worker, name)


@pytest.mark.parametrize("name", ["name", "times"])
def test_fields_are_read_by_a_method(start: Start, name: str) -> None:
    with pytest.raises(AttributeError, match="is an attribute, and attributes stay in the actor"):
        getattr(start(Model, name="x"), name)


def test_slots_without_room_take_no_limits(start: Start) -> None:
    class Tight(Worker):
        __slots__ = ("name",)

        def tell(self) -> str:
            return "t"

    assert start(Tight).tell().result() == "t"
    with pytest.raises(TypeError, match="Tight: its __slots__ leave no room for limits"):
        start(Tight, options={"limits": [ResourceLimit(key="a", capacity=1)]})
    with pytest.raises(TypeError, match="Tight: its __slots__ leave no room for tell"):
        start(Tight, options={"num_retries": {"*": 0, "tell": 1}})


def test_slots_with_room_take_limits(start: Start) -> None:
    class Roomy(Worker):
        __slots__ = ("limits",)

        def tell(self) -> bool:
            with self.limits.acquire() as acquired:
                return bool(acquired.successful)

    worker = start(Roomy, options={"limits": [ResourceLimit(key="a", capacity=1)]})
    assert worker.tell().result() is True


@dataclass(slots=True)
class SlotData(Worker, mode="thread"):
    """`slots=True` makes the class a second time; what its line says must hold for the second."""

    name: str

    def tell(self) -> str:
        return self.name


def test_a_dataclass_with_slots_keeps_its_options() -> None:
    with SlotData.init("n") as worker:
        assert worker.mode.value == "thread"
        assert worker.tell().result() == "n"
    itself: Any = SlotData
    with itself("n") as worker:
        assert worker.tell().result() == "n"


class InInit(Worker):
    def __init__(self) -> None:
        with self.limits.acquire(requested={"tokens": 5}) as acquired:
            acquired.update(usage={"tokens": 5})
        self.left: float = self.limits[0]["tokens"].get_stats()["capacity"]

    def tell(self) -> float:
        return self.left


def test_limits_are_there_in_init(start: Start) -> None:
    worker = start(InInit, options={"limits": [RateLimit(key="tokens", window_seconds=1, capacity=1000)]})
    assert worker.tell().result() == 1000


def test_init_runs_in_the_actors_own_thread(start: Start, way: Any) -> None:
    class Threads(Worker):
        def __init__(self) -> None:
            self.made_in = threading.get_ident()

        def tell(self) -> int:
            return self.made_in

    same = start(Threads).tell().result() == threading.get_ident()
    assert same is not way.background


def test_an_async_stop_and_a_plain_one_run_in_the_actor(start: Start, way: Any, new_log: Any) -> None:
    ended = new_log()

    class Ends(Worker):
        def method(self) -> None: ...

        def stop(self) -> None:
            ended.append("plain")

    class EndsLater(Worker):
        def method(self) -> None: ...

        async def stop(self) -> None:
            ended.append("async")

    many = 0 if way.options.get("on_demand") else len(start(Plain, "x"))
    for cls, word in ((Ends, "plain"), (EndsLater, "async")):
        ended.clear()
        worker = start(cls)
        if not many:
            worker.method().result()
        assert ended == [] or not many
        worker.stop()
        worker.stop()
        assert ended == [word] * (many or 1)


def test_a_stop_that_raises_ends_the_actor_all_the_same(
    start: Start, way: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(Worker):
        def method(self) -> int:
            return 1

        def stop(self) -> None:
            raise RuntimeError("no")

    worker = start(Fails)
    assert worker.method().result() == 1
    worker.stop()
    assert not worker.is_alive()
    if way.same_objects:  # another process writes its log to its own stderr
        assert "its own stop() raised" in caplog.text


def test_every_actor_runs_init_once(start: Start, way: Any, new_log: Any) -> None:
    made = new_log()

    class Counts(Worker):
        def __init__(self) -> None:
            made.append(time.monotonic())

        def method(self) -> None: ...

    worker = start(Counts)
    for _ in range(3):
        worker.method().result()
    assert len(made) == (3 if way.options.get("on_demand") else len(worker))


_SCRIPT = """
from concurry import Worker

class Base(Worker):
    def base(self):
        return "base"

class W(Base):
    def echo(self, value):
        return helper(value)

    def apply(self, fn, value):
        return fn(value)

class Kept:
    pass

def helper(value):
    return value

worker = start(W)
assert worker.echo(1).result() == 1
assert worker.base().result() == "base"
assert type(worker.apply(helper, Kept()).result()) is Kept
assert worker.apply(lambda kept: type(kept).__name__, Kept()).result() == "Kept"
"""


def test_classes_of_code_without_a_module(start: Start) -> None:
    exec(_SCRIPT, {"start": start})  # their `__module__` is "builtins"


@pytest.mark.parametrize("name", [None, "__main__"])
def test_classes_of_a_script_that_is_run_by_its_path(start: Start, tmp_path: Path, name: str | None) -> None:
    path = tmp_path / "script.py"
    path.write_text(_SCRIPT)
    runpy.run_path(str(path), {"start": start}, name)


def test_what_python_brings_along_is_no_method(start: Start) -> None:
    class Table(Worker, dict):  # type: ignore[type-arg]
        def method(self) -> int:
            return 1

    worker = start(Table)
    assert worker.method().result() == 1
    with pytest.raises(AttributeError, match="update is an attribute"):
        worker.update()
