"""Objects of a class that starts itself: what is made from one of them is plain, whoever makes it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

import attrs
import pydantic
import pytest

from concurry import Handle, TaskWorker, Worker, worker
from concurry.task_handle import TaskHandle


class Itself:
    """It takes no arguments where it is called, so that only who makes an object tells whether it shall be a worker."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def itself(self) -> Any:
        return self

    def made(self, make: Callable[[Any], Any]) -> Any:
        return make(self)


class Inherits(Itself, Worker, mode="thread"):
    pass


class WorkerFirst(Worker, Itself, mode="thread"):
    pass


@worker(mode="thread")
class Decorated(Itself):
    pass


class Heir(Decorated):  # type: ignore[misc, valid-type, unused-ignore]
    pass


class Both(Worker, Decorated, auto_init=True):  # type: ignore[misc, valid-type, unused-ignore]
    """Two of its bases see to what calling it means."""


class BothAround(Decorated, Worker):  # type: ignore[misc, valid-type, unused-ignore]
    pass


@worker(mode="thread")
@dataclass
class Data:
    value: int = 0

    itself = Itself.itself
    made = Itself.made


@worker(mode="thread")
@dataclass(slots=True, frozen=True)
class Tight:
    value: int = 0

    itself = Itself.itself
    made = Itself.made


@worker(mode="thread")
@attrs.define
class Attrs:
    value: int = 0

    itself = Itself.itself
    made = Itself.made


@worker(mode="thread")
class Model(pydantic.BaseModel):
    value: int = 0

    itself = Itself.itself
    made = Itself.made


class ModelWorker(pydantic.BaseModel, Worker, mode="thread"):
    value: int = 0

    itself = Itself.itself
    made = Itself.made


class Reduces(Itself, Worker, mode="thread"):
    """It says itself how it is made: by calling it, as one would where nothing starts itself."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.value,)


@worker(mode="thread")
class DecoratedReduces(Itself):
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.value,)


class Asks(Itself, Worker, mode="thread"):
    """It asks what there is before it."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return super().__reduce_ex__(protocol)


class NewArguments(Itself, Worker, mode="thread"):
    def __new__(cls, value: int = 0, *, more: int = 0) -> NewArguments:
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> Any:
        return (self.value,), {"more": 1}


class Raised(Exception, Worker, mode="thread"):
    def __init__(self, value: int = 0) -> None:
        super().__init__(value)
        self.value = value

    itself = Itself.itself
    made = Itself.made


class Meta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


@worker(mode="thread")
class WithMeta(Itself, metaclass=Meta):
    pass


SHAPES: list[Any] = [
    Inherits,
    WorkerFirst,
    Decorated,
    Heir,
    Both,
    BothAround,
    Data,
    Tight,
    Attrs,
    Model,
    ModelWorker,
    Reduces,
    DecoratedReduces,
    Asks,
    NewArguments,
    Raised,
    WithMeta,
]
PROTOCOLS = [2, pickle.HIGHEST_PROTOCOL]


@pytest.fixture(params=SHAPES, ids=lambda cls: str(cls.__name__))
def cls(request: pytest.FixtureRequest) -> Any:
    return request.param


def is_plain(made: Any, cls: Any, value: int = 3) -> bool:
    return type(made) is cls and made.value == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_object_that_is_unpickled_in_anybodys_code_is_a_plain_one(cls: Any, protocol: int) -> None:
    """The unpickler is written in C: who calls it looks like who calls the class."""
    with cls(value=3) as handle:
        assert isinstance(handle, Handle)
        original = handle.itself().result()
    sent = pickle.dumps(original, protocol)
    multiprocessings: Any = ForkingPickler
    in_python: Any = vars(pickle)["_loads"]
    for loads in (pickle.loads, in_python, multiprocessings.loads):
        assert is_plain(loads(sent), cls)
    cloudpickle: Any = pytest.importorskip("cloudpickle")
    assert is_plain(pickle.loads(cloudpickle.dumps(original)), cls)


def test_so_is_one_that_is_copied(cls: Any) -> None:
    with cls.init(value=3) as handle:
        for make in (copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
            assert is_plain(handle.made(make).result(), cls)


def test_so_is_one_that_crosses_processes(cls: Any) -> None:
    with cls.options(mode="process").init(value=3) as handle:
        made = handle.itself().result()
        assert is_plain(made, cls)
        with cls.init(value=4) as here:
            assert is_plain(here.made(lambda _: made).result(), cls)


def test_one_that_replaces_another() -> None:
    def replaced(it: Any) -> Any:
        return attrs.evolve(it, value=4) if attrs.has(type(it)) else dataclasses.replace(it, value=4)

    for cls in (Data, Tight, Attrs):
        unchecked: Any = cls
        with unchecked.init(3) as handle:
            assert is_plain(handle.made(replaced).result(), cls, 4)


def test_afterwards_calling_it_starts_workers_as_ever(cls: Any) -> None:
    with cls.init(value=3) as handle:
        original = handle.itself().result()
    pickle.loads(pickle.dumps(original))
    with cls() as handle:
        assert isinstance(handle, Handle)
        assert is_plain(handle.itself().result(), cls, 0)


class Parent(Itself, Worker, mode="thread"):
    """It is made anew by being called, and starts one of its own kind then."""

    def __init__(self, value: int = 0) -> None:
        super().__init__(value)
        self.other: Any = type(self).init(value - 1) if value > 2 else None
        self.found: Any = type(self)(0) if value > 2 else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.value,)

    def stop(self) -> None:
        if self.other is not None:
            self.other.stop()
            self.found.stop()


def test_it_holds_for_that_one_object_only() -> None:
    with Parent.init(3) as handle:
        sent = handle.made(pickle.dumps).result()
    again: Any = pickle.loads(sent)
    assert is_plain(again, Parent)
    assert isinstance(again.found, Handle)
    again.stop()


class Without(Worker):
    pass


def test_the_signature_stays_what_it_was() -> None:
    for cls in (Inherits, WorkerFirst, Decorated, Heir, Both, BothAround, Reduces):
        assert inspect.signature(cls) == inspect.signature(Itself)
    assert str(inspect.signature(Without)) == "()"


def test_a_task_worker_that_starts_itself() -> None:
    class Doubles(TaskWorker, mode="thread"):
        pass

    itself: Any = Doubles
    with itself(lambda x: 2 * x) as double:
        assert isinstance(double, TaskHandle)
        assert double(4).result() == 8
    with itself() as pool:
        assert isinstance(pool, TaskHandle)
        assert pool.submit(len, "abc").result() == 3
