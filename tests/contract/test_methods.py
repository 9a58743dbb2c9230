"""What a handle can call: every kind of method, by name; what it cannot, and what it says then."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import concurry
from concurry import BaseFuture, ConcurrentFuture, RayFuture, SyncFuture, Worker

Start = Callable[..., Any]


class Base(Worker):
    def inherited(self) -> str:
        return "inherited"

    def overridden(self) -> str:
        return "base"


class Everything(Base):
    """One method of each kind."""

    level = 3

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def echo(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return args, kwargs

    def overridden(self) -> str:
        return "derived " + super().overridden()

    async def later(self, value: Any) -> Any:
        return value

    @staticmethod
    def static(value: int) -> int:
        return value + 1

    @staticmethod
    async def static_later(value: int) -> int:
        return value + 2

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__

    @classmethod
    async def of_class_later(cls) -> str:
        return cls.__name__

    @property
    def computed(self) -> int:
        return self.count

    @functools.cached_property
    def cached(self) -> int:
        return self.count

    cut = functools.partialmethod(echo, 1)

    def add(self, by: int) -> int:
        self.count += by
        return self.count

    def calls_its_own(self) -> int:
        return self.static(1) + self._private()

    def _private(self) -> int:
        return 10

    def generate(self) -> Iterator[int]:
        yield 1

    async def generate_later(self) -> AsyncIterator[int]:
        yield 1

    def returns_coroutine(self, value: Any) -> Any:
        return self.later(value)

    async def returns_generator(self) -> Any:
        return (i for i in range(3))

    def list_things(self) -> list[int]:
        return [1]


def test_a_call_returns_a_future_with_the_result(start: Start) -> None:
    worker = start(Everything)
    future = worker.echo(1, two=2)
    assert isinstance(future, BaseFuture)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(timeout=10) == ((1,), {"two": 2})
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert future.exception() is None
    assert future.result() == ((1,), {"two": 2}), "a result can be asked for again"


def test_the_kind_of_future_is_that_of_the_mode(start: Start, way: Any) -> None:
    found, kind = type(start(Everything).echo()), ConcurrentFuture if way.background else SyncFuture
    assert issubclass(found, RayFuture) is way.needs_ray
    assert found is kind if way.same_objects else issubclass(found, kind)


@pytest.mark.parametrize("value", [None, 0, False, "", [], Exception("a value"), NotImplemented, Ellipsis])
def test_any_value_is_a_result(start: Start, way: Any, value: Any) -> None:
    assert way.same(start(Everything).later(value).result(), value)


def test_every_kind_of_method(start: Start) -> None:
    worker = start(Everything)
    assert worker.inherited().result() == "inherited"
    assert worker.overridden().result() == "derived base"
    assert worker.later("x").result() == "x"
    assert worker.static(1).result() == 2
    assert worker.static_later(1).result() == 3
    assert worker.of_class().result() == "Everything"
    assert worker.of_class_later().result() == "Everything"
    assert worker.cut(2).result() == ((1, 2), {})
    assert worker.calls_its_own().result() == 12
    assert worker.returns_coroutine(5).result() == 5


def test_state_stays_in_the_actor(start: Start) -> None:
    worker = start(Everything, 5)
    assert [worker.add(1).result() for _ in range(3)] == [6, 7, 8]


def test_by_getitem_it_is_the_same_call(start: Start) -> None:
    worker = start(Everything)
    assert worker[Everything.add](2).result() == 2
    assert worker[Everything.inherited]().result() == "inherited"
    assert worker[Base.inherited]().result() == "inherited"
    assert worker[Base.overridden]().result() == "derived base"
    assert worker[Everything.static](2).result() == 3
    assert worker[Everything.of_class]().result() == "Everything"
    assert worker[Everything.later](2).result() == 2


@pytest.mark.parametrize("wrong", [len, "echo", None, Everything._private, lambda self: 1])
def test_getitem_takes_only_its_own_methods(start: Start, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"none of its methods.*echo"):
        start(Everything)[wrong]


def test_getitem_refuses_a_method_of_that_name_of_another_class(start: Start) -> None:
    class Stranger:
        def echo(self) -> None: ...

    with pytest.raises(TypeError, match="none of its methods"):
        start(Everything)[Stranger.echo]


class Wrapped(Worker):
    @functools.singledispatchmethod
    def kind(self, value: Any) -> str:
        return "any"

    @kind.register
    def _(self, value: int) -> str:
        return "int"

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def cached(self, value: int) -> int:
        return value

    @functools.wraps(Everything.echo)
    def renamed(self, value: int) -> int:
        return value


def test_methods_that_are_wrapped(start: Start) -> None:
    worker = start(Wrapped)
    assert worker.kind(1).result() == worker[Wrapped.kind](1).result() == "int"
    assert worker.kind("x").result() == "any"
    assert worker.cached(1).result() == worker[Wrapped.cached](1).result() == 1
    assert worker.renamed(1).result() == worker[Wrapped.renamed](1).result() == 1


def test_blocking_gives_the_result_itself(start: Start) -> None:
    worker = start(Everything, options={"blocking": True})
    assert worker.blocking is True
    assert worker.static(1) == 2
    assert worker.later(2) == 2
    assert worker[Everything.later](3) == 3
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        worker.of_class(1)


def test_a_wrong_argument_is_the_calls_exception(start: Start) -> None:
    worker = start(Everything)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'value'"):
        worker.later().result()
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        worker.add(other=1).result()
    assert worker.static(1).result() == 2


@pytest.mark.parametrize("method", ["generate", "generate_later", "returns_generator"])
def test_a_generator_is_no_result(start: Start, method: str) -> None:
    worker = start(Everything)
    with pytest.raises(TypeError, match=rf"{method}\(\) returned a generator.*return list"):
        getattr(worker, method)().result()
    assert worker.static(1).result() == 2


def test_an_unknown_method_fails_at_its_line_with_near_matches(start: Start) -> None:
    worker = start(Everything)
    with pytest.raises(AttributeError, match="Everything has no method 'inherted'; did you mean 'inherited'"):
        worker.inherted("x")
    with pytest.raises(AttributeError, match=r"no method 'zzz'; it has: echo, overridden, later.*inherited"):
        worker.zzz  # noqa: B018
    assert not hasattr(worker, "zzz")
    with pytest.raises(AttributeError, match="did you mean 'is_alive'"):
        worker.is_aliv()


def test_private_names_are_the_workers_own(start: Start) -> None:
    worker = start(Everything)
    with pytest.raises(AttributeError, match="_private is private to the worker"):
        worker._private()
    with pytest.raises(AttributeError, match="private"):
        worker.__something__  # noqa: B018


@pytest.mark.parametrize("name", ["computed", "cached", "level"])
def test_attributes_are_read_by_a_method(start: Start, name: str) -> None:
    with pytest.raises(AttributeError, match=f"{name} is an attribute, and attributes stay in the actor.*get_{name}"):
        getattr(start(Everything), name)


def test_an_attribute_of_the_instance_says_how_it_is_read(start: Start) -> None:
    with pytest.raises(AttributeError, match=r"no method 'count'.*an attribute that __init__ sets is read through a"):
        start(Everything).count  # noqa: B018


def test_a_handle_takes_no_attributes(start: Start) -> None:
    worker = start(Everything)
    for name in ("count", "mode", "echo", "anything"):
        with pytest.raises(AttributeError, match=f"{name} of a handle cannot be assigned"):
            setattr(worker, name, 1)
        with pytest.raises(AttributeError, match=f"{name} of a handle cannot be deleted"):
            delattr(worker, name)


def test_a_handle_tells_its_options(start: Start, way: Any) -> None:
    worker = start(Everything)
    assert worker.mode == concurry.ExecutionMode(way.options["mode"])
    assert worker.mode is concurry.ExecutionMode(way.options["mode"])
    assert worker.worker_cls is Everything
    assert worker.blocking is False
    assert worker.max_queued_tasks == (100 if way.options["mode"] == "process" else None)
    assert worker.unwrap_futures is True
    assert worker.mp_context == "forkserver"


class Names(Worker):
    """Methods that are named like what a handle has itself."""

    def stats(self) -> str:
        return "mine"

    def is_alive(self) -> str:
        return "mine"

    def mode(self) -> str:
        return "mine"

    def worker_cls(self) -> str:
        return "mine"

    def blocking(self) -> str:
        return "mine"

    def max_queued_tasks(self) -> str:
        return "mine"

    def get_pool_stats(self) -> str:
        return "mine"

    def get_worker_stats(self, index: int) -> str:
        return f"mine {index}"

    def submit(self) -> str:
        return "mine"

    def args(self, owner: int, name: str, call: str, self_: int) -> tuple[Any, ...]:
        return owner, name, call, self_


def test_a_users_method_goes_before_a_name_of_the_handle(start: Start) -> None:
    worker = start(Names)
    for name in ("stats", "is_alive", "mode", "worker_cls", "blocking", "max_queued_tasks", "get_pool_stats", "submit"):
        assert getattr(worker, name)().result() == "mine"
    assert worker.get_worker_stats(0).result() == "mine 0"
    assert worker[Names.worker_cls]().result() == "mine"
    assert worker.args(1, name="n", call="c", self_=2).result() == (1, "n", "c", 2)
    assert concurry.stats(worker)["done"] == 11
    assert concurry.is_alive(worker) is True
    with pytest.raises(AttributeError, match="Names has no method 'sats'; did you mean 'stats'"):
        worker.sats()
    assert "Names" in repr(worker)


@pytest.mark.parametrize("name", ["init", "options"])
def test_two_names_are_taken(name: str) -> None:
    with pytest.raises(TypeError, match=f"Bad: a worker cannot have a {name} of its own.*rename it"):
        type("Bad", (Worker,), {name: lambda self: 1})


def test_a_handle_is_true_and_hashable_and_not_pickled(start: Start) -> None:
    import copy
    import pickle

    worker = start(Everything)
    assert worker
    assert len({worker, worker}) == 1
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="the handle of Everything cannot be pickled"):
            copied(worker)


def test_methods_in_a_class_of_callables(start: Start) -> None:
    class Callable_:
        def __call__(self, value: int) -> int:
            return value * 2

    class CallableLater:
        async def __call__(self, value: int) -> int:
            return value * 3

    class Worker_(Worker):
        double = Callable_()
        triple = CallableLater()
        helper = Everything  # a class is no method
        twice = staticmethod(lambda value: value + value)

    worker = start(Worker_)
    assert worker.double(2).result() == 4
    assert worker.triple(2).result() == 6
    assert worker.twice(2).result() == 4
    with pytest.raises(AttributeError, match="helper is an attribute"):
        worker.helper()
