"""What existing code relies on, line by line, of a class that inherits and of one that is decorated."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import concurry
from concurry import (
    CallLimit,
    ExecutionMode,
    LimitPool,
    LimitSet,
    RateLimit,
    ResourceLimit,
    Worker,
    WorkerStoppedError,
    gather,
    worker,
)

Start = Callable[..., Any]


class Methods:
    def __init__(self, model: str = "m") -> None:
        self.model = model
        self.count = 0

    @property
    def shown(self) -> str:
        return self.model

    def call(self, prompt: str) -> str:
        self.count += 1
        return f"{self.model}:{prompt}"

    async def call_later(self, prompt: str) -> str:
        await asyncio.sleep(0)
        return f"{self.model}:{prompt}"

    def pieces(self) -> Iterator[int]:
        yield 1

    async def pieces_later(self) -> Any:
        yield 1

    def stats(self) -> str:
        return "the user's own"

    def take(self) -> bool:
        return bool(self.limits.try_acquire(requested={"k": 1}).successful)  # type: ignore[attr-defined]

    def kind(self) -> str:
        return type(self.limits).__name__  # type: ignore[attr-defined]


class Inherits(Methods, Worker):
    pass


@worker
class Decorated(Methods):
    pass


CLASSES: list[Any] = [Inherits, Decorated]


@pytest.fixture(params=CLASSES, ids=["inherits", "decorated"])
def cls(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_calls(start: Start, cls: Any) -> None:
    llm = start(cls, model="a")
    future = llm.call("p")
    assert isinstance(future, concurry.BaseFuture)
    assert future.result() == "a:p"
    assert llm[cls.call]("p").result() == "a:p"
    assert llm[cls.call_later]("p").result() == "a:p"
    assert gather([llm.call("x"), llm.call_later(prompt="y")]) == ["a:x", "a:y"]
    assert start(cls, "b", options={"blocking": "true"}).call("p") == "b:p"


def test_the_plain_object(cls: Any) -> None:
    llm = cls("a")
    assert type(llm) is cls
    assert llm.call("p") == "a:p"
    assert (llm.count, llm.shown, llm.kind()) == (1, "a", "LimitPool")
    assert asyncio.run(llm.call_later("p")) == "a:p"
    assert llm.take() is True


def test_a_handle_tells(start: Start, way: dict[str, Any], cls: Any) -> None:
    llm = start(cls)
    assert llm.mode is ExecutionMode(way["mode"])
    assert llm.worker_cls is cls
    assert (llm.blocking, llm.unwrap_futures, llm.mp_context) == (False, True, "forkserver")
    assert llm.max_queued_tasks == (100 if way["mode"] == "process" else None)
    for name in ("mode", "worker_cls", "blocking", "max_queued_tasks", "unwrap_futures", "mp_context", "model"):
        with pytest.raises(AttributeError, match=f"{name} of a handle cannot be assigned"):
            setattr(llm, name, 1)
    assert llm.stats().result() == "the user's own"
    assert concurry.stats(llm)["done"] == 1
    assert concurry.is_alive(llm)


def test_pool_stats(start: Start, way: dict[str, Any], cls: Any) -> None:
    llm = start(cls)
    assert llm.call("p").result() == "m:p"
    stats = llm.get_pool_stats()
    demand = way.get("on_demand", False)
    assert stats["total_workers"] == len(llm) == (0 if demand else way.get("max_workers", 1))
    assert stats["max_workers"] == way.get("max_workers", 0 if way["mode"] == "ray" else 1)
    assert (stats["on_demand"], stats["stopped"]) == (demand, False)
    assert stats["load_balancer"]["algorithm"] == ("Random" if demand else "RoundRobin")
    assert stats["load_balancer"]["total_dispatched"] >= 1
    assert stats["max_queued_tasks"] == llm.max_queued_tasks
    assert "on_demand_active" in stats
    llm.stop()
    assert llm.get_pool_stats()["stopped"] is True
    assert llm.get_pool_stats()["on_demand_active"] == 0


def test_names_that_are_no_methods(start: Start, cls: Any) -> None:
    llm = start(cls)
    with pytest.raises(AttributeError, match=f"{cls.__name__} has no method 'cal'; did you mean 'call'"):
        llm.cal("p")
    with pytest.raises(AttributeError, match="an attribute that __init__ sets is read through a method"):
        llm.count()
    with pytest.raises(AttributeError, match="shown is an attribute, and attributes stay in the actor"):
        llm.shown()
    with pytest.raises(AttributeError, match="_secret is private to the worker"):
        llm._secret()
    with pytest.raises(TypeError, match="is none of its methods"):
        llm[str.upper]


@pytest.mark.parametrize("name", ["pieces", "pieces_later"])
def test_a_generator_is_no_result(start: Start, cls: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"{cls.__name__}.*{name}.* generator"):
        getattr(start(cls), name)().result()


def test_after_stop(start: Start, way: dict[str, Any], cls: Any) -> None:
    llm = start(cls)
    assert llm.call("p").result() == "m:p"
    llm.stop(timeout=30)
    llm.stop()
    assert llm.is_alive() is False
    pooled = way.get("max_workers", 1) > 1 or way.get("on_demand")
    with pytest.raises(RuntimeError, match="Worker pool is stopped" if pooled else "Worker is stopped") as caught:
        llm.call("p")
    assert isinstance(caught.value, WorkerStoppedError)


def test_with_and_async_with(way: dict[str, Any], cls: Any) -> None:
    with cls.options(**way).init("a") as llm:
        assert llm.call("p").result() == "a:p"
    assert not llm.is_alive()

    async def use() -> Any:
        async with cls.options(**way).init("a") as llm:
            assert await llm.call_later("p") == "a:p"
        return llm

    assert not asyncio.run(use()).is_alive()
    with pytest.raises(KeyError), cls.options(**way).init("a") as llm:
        raise KeyError
    assert not llm.is_alive()


def test_a_dropped_handle(way: dict[str, Any], cls: Any) -> None:
    if way["mode"] == "sync":
        pytest.skip("nothing runs that could be left")
    llm = cls.options(**way).init("a")
    future = llm.call("p")
    dropped = [llm]
    del llm
    with pytest.warns(ResourceWarning, match=f"a worker of {cls.__name__} was dropped without stop"):
        _drop(dropped)
    assert future.result() == "a:p"


def test_before_it_is_started(cls: Any) -> None:
    launcher = cls.options(mode="thread")
    with pytest.raises(AttributeError, match=r"has no 'call': it is not started yet. Call .init"):
        launcher.call("p")
    with pytest.raises(TypeError, match="is not started"), launcher:
        pass
    with pytest.raises(TypeError, match="positional"):
        cls.options("thread")
    with pytest.raises(ValueError, match="mode parameter is required"):
        cls.init()
    with pytest.raises(ValueError, match="on_demand mode is not supported for Sync"):
        cls.options(mode="sync", on_demand=True)
    for mode, word in (("sync", "Sync"), ("asyncio", "Asyncio")):
        with pytest.raises(ValueError, match=f"max_workers must be 1 for {word} mode"):
            cls.options(mode=mode, max_workers=2)
    with pytest.raises(TypeError, match="unknown option 'max_worker'; did you mean 'max_workers'"):
        cls.options(max_worker=2)


def _drop(handles: list[Any]) -> None:
    handles.clear()
    gc.collect()


def limit() -> RateLimit:
    return RateLimit(key="k", window_seconds=100_000, capacity=3)


@pytest.mark.parametrize("form", ["limit", "list", "set", "sets", "pool"])
def test_every_form_of_limits_is_shared(start: Start, cls: Any, form: str) -> None:
    """Whichever actors run the calls, also where each call has one of its own."""
    limits: dict[str, Callable[[], Any]] = {
        "limit": limit,
        "list": lambda: [limit()],
        "set": lambda: LimitSet(limits=[limit()], shared=True, mode="sync"),
        "sets": lambda: [LimitSet(limits=[limit()], shared=True)],
        "pool": lambda: LimitPool(limit_sets=[LimitSet(limits=[limit()], shared=True)]),
    }
    llm = start(cls, options={"limits": limits[form]()})
    taken = gather([llm.take() for _ in range(6)])
    assert sorted(taken) == [False] * 3 + [True] * 3
    assert llm.kind().result() == "LimitPool"


def test_one_set_for_several_workers(start: Start, cls: Any) -> None:
    shared = LimitSet(limits=[limit()], shared=True)
    workers = [start(cls, options={"limits": shared}) for _ in range(2)]
    taken = gather([handle.take() for handle in workers for _ in range(3)])
    assert sorted(taken) == [False] * 3 + [True] * 3


def test_a_list_is_each_workers_own(start: Start, cls: Any) -> None:
    given = [limit()]
    workers = [start(cls, options={"limits": given}) for _ in range(2)]
    assert all(gather([handle.take() for handle in workers for _ in range(3)]))


def test_each_actor_has_its_number(cls: Any) -> None:
    numbers: list[int] = []

    class Tells(cls):  # type: ignore[misc]
        def __init__(self) -> None:
            numbers.append(self.limits.worker_index)

    Tells.options(mode="thread", max_workers=3, limits=[ResourceLimit(key="k", capacity=1)]).init().stop()
    assert sorted(numbers) == [0, 1, 2]


def test_a_set_that_is_not_shared_is_none_for_a_pool(cls: Any) -> None:
    alone = LimitSet(limits=[CallLimit(window_seconds=1, capacity=1)], shared=False)
    with pytest.raises(ValueError, match="shared"):
        cls.options(mode="thread", max_workers=2, limits=alone).init()
    with cls.options(mode="thread", limits=alone).init() as llm:
        assert llm.kind().result() == "LimitPool"


class Shown(Worker):
    def plain(self, text: str, *, times: int = 1) -> str:
        """Says it."""
        return text * times

    @classmethod
    def of_class(cls, number: int) -> int:
        """Of the class."""
        return number

    @staticmethod
    def alone(number: int) -> int:
        return number


@pytest.mark.parametrize("mode", ["sync", "thread", "asyncio", "process"])
def test_a_handle_shows_its_methods_as_they_are_written(mode: str) -> None:
    """What `help`, notebooks and editors ask for."""
    with Shown.options(mode=mode).init() as shown:
        assert list(inspect.signature(shown.plain).parameters.values()) == list(
            inspect.signature(Shown().plain).parameters.values()
        )
        assert shown.plain.__doc__ == "Says it."
        assert list(inspect.signature(shown.of_class).parameters) == ["number"]
        assert shown.of_class.__doc__ == "Of the class."
        assert list(inspect.signature(shown.alone).parameters) == ["number"]
        assert shown.plain("a", times=2).result(60) == "aa"
        assert shown.alone(3).result(60) == shown.of_class(3).result(60) == 3
