"""`map(..., return_exceptions=True)`: the exception of an item in its place, and all the others run, in every mode."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from concurry import EncodeError, Executor, TaskWorker, WorkerDiedError, task

ITEMS = range(10)


def no_fives(x: int) -> int:
    if x % 5 == 0:
        raise KeyError(x)
    return x


async def later_no_fives(x: int) -> int:
    await asyncio.sleep(0)
    return no_fives(x)


def sometimes_later(x: int) -> Any:
    return later_no_fives(x) if x % 2 else no_fives(x)


def one_dies(x: int) -> int:
    if x == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def plain(results: Any) -> list[Any]:
    """Results as they can be compared: exceptions by kind and args."""
    return [(type(it), it.args) if isinstance(it, BaseException) else it for it in results]


EXPECTED = [(KeyError, (x,)) if x % 5 == 0 else x for x in ITEMS]


@pytest.fixture(params=["handle", "bound", "task", "executor"])
def mapped(request: pytest.FixtureRequest, start: Any) -> Iterator[Callable[..., Any]]:
    """`mapped(way, fn, *iterables, **how)`: `map` of each of those that have one."""
    ends: list[Callable[[], Any]] = []

    def run(way: Any, fn: Any, *args: Any, **how: Any) -> Any:
        if request.param == "handle":
            return start(way).map(fn, *args, **how)
        if request.param == "bound":
            return start(way, fn).map(*args, **how)
        if request.param == "task":
            made = task(**way.options, on_demand=False)(fn)
            ends.append(lambda: made.stop(timeout=3))
            return made.map(*args, **how)
        executor = Executor(**way.options)
        ends.append(executor.shutdown)
        return executor.map(fn, *args, **how)

    yield run
    for end in ends:
        end()


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_the_exception_of_an_item_stands_in_its_place(way: Any, mapped: Any, chunksize: int) -> None:
    how: Any = {"chunksize": chunksize, "return_exceptions": True}
    assert plain(mapped(way, no_fives, ITEMS, **how)) == EXPECTED
    assert plain(mapped(way, no_fives, iter(ITEMS), **how)) == EXPECTED


@pytest.mark.parametrize("chunksize", [1, 2, 100])
@pytest.mark.parametrize("fn", [later_no_fives, sometimes_later])
def test_so_does_that_of_an_async_function(way: Any, start: Any, fn: Any, chunksize: int) -> None:
    pool = start(way)
    assert plain(pool.map(fn, ITEMS, chunksize=chunksize, return_exceptions=True)) == EXPECTED
    made = pool.map(lambda x: (x for _ in ()), range(3), chunksize=chunksize, return_exceptions=True)
    assert [type(it) for it in made] == [TypeError] * 3


@pytest.mark.parametrize("buffersize", [1, 2])
def test_with_few_calls_open(way: Any, start: Any, buffersize: int) -> None:
    results = start(way).map(no_fives, ITEMS, buffersize=buffersize, chunksize=2, return_exceptions=True)
    assert plain(results) == EXPECTED


@pytest.mark.faults
@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_worker_that_dies_takes_its_call_along_only(mapped: Any, chunksize: int) -> None:
    way = SimpleNamespace(options={"mode": "process"}, same_objects=False)
    got = list(mapped(way, one_dies, ITEMS, chunksize=chunksize, return_exceptions=True))
    lost = {4} if chunksize == 1 else {3, 4, 5}  # the whole chunk
    assert {x for x, it in enumerate(got) if isinstance(it, WorkerDiedError)} == lost
    assert [it for it in got if not isinstance(it, WorkerDiedError)] == [x for x in ITEMS if x not in lost]


def test_what_cannot_travel(start: Any, tmp_path: Any) -> None:
    pool = start(SimpleNamespace(options={"mode": "process"}))
    with (tmp_path / "file").open("w") as file:
        got = list(pool.map(type, [1, file, 2], return_exceptions=True))
    assert (got[0], type(got[1]), got[2]) == (int, EncodeError, int)


def test_an_exception_that_is_a_result_is_one(way: Any, start: Any) -> None:
    for chunksize in (1, 2):
        assert plain(start(way).map(ValueError, ITEMS, chunksize=chunksize)) == [(ValueError, (x,)) for x in ITEMS]


@pytest.mark.parametrize("chunksize", [1, 2, 100])
def test_an_iterable_that_raises_raises_all_the_same(way: Any, start: Any, chunksize: int) -> None:
    def items() -> Iterator[int]:
        yield from ITEMS
        raise OSError("broken")

    results = start(way).map(no_fives, items(), chunksize=chunksize, return_exceptions=True)
    assert plain(next(results) for _ in ITEMS) == EXPECTED
    with pytest.raises(OSError, match="broken"):
        next(results)


def test_a_time_out_raises_all_the_same(apart: Any, start: Any, new_signal: Any) -> None:
    go_on = new_signal(apart)
    results = start(apart).map(lambda x, go_on: go_on.wait(), [1], [go_on], timeout=0.05, return_exceptions=True)
    with pytest.raises(TimeoutError):
        next(results)
    assert list(results) == []
    go_on.set()


def test_a_call_that_times_out_is_an_item_that_failed(start: Any) -> None:
    pool = start(SimpleNamespace(options={"mode": "asyncio", "call_timeout": 0.05}))

    async def never_two(x: int) -> int:
        if x == 2:
            await asyncio.Event().wait()
        return x

    got = list(pool.map(never_two, range(4), chunksize=2, return_exceptions=True))
    assert [got[0], got[1], type(got[2]), got[3]] == [0, 1, TimeoutError, 3]


def test_calls_that_a_stop_cancels_are_items_that_failed(apart: Any, new_signal: Any) -> None:
    begun, go_on = new_signal(apart), new_signal(apart)
    one: Any = {"max_workers": 1, "max_concurrency": 1}
    pool: Any = TaskWorker.options(**{**apart.options, **one}).init()

    def wait_for(x: int, begun: Any, go_on: Any) -> int:
        begun.set()
        go_on.wait()
        return x

    results = pool.map(wait_for, range(3), [begun] * 3, [go_on] * 3, return_exceptions=True)
    last = pool.submit(abs, 1)
    begun.wait()
    ending = threading.Thread(target=pool.stop, args=(30,))
    ending.start()
    concurrent.futures.wait([last])  # it is cancelled, with those before it
    go_on.set()
    ending.join()
    first, *others = results
    assert first == 0
    assert all(isinstance(it, concurrent.futures.CancelledError) for it in others)
    assert len(others) == 2


def test_progress_counts_those_that_failed(way: Any, start: Any) -> None:
    told: list[int] = []
    results = start(way).map(no_fives, ITEMS, return_exceptions=True, progress=lambda done, *_: told.append(done))
    assert plain(results) == EXPECTED
    assert told == [*range(11)]


def test_of_the_plain_object() -> None:
    assert plain(TaskWorker(no_fives).map(ITEMS, return_exceptions=True)) == EXPECTED
    with pytest.raises(KeyError):
        list(TaskWorker(no_fives).map(ITEMS))
