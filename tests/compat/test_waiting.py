"""`wait`, `gather`, `as_completed` and the two for coroutines."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from typing import Any

import pytest

from concurry import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    AsyncioFuture,
    PollingAlgorithm,
    ReturnWhen,
    SyncFuture,
    Worker,
    as_completed,
    async_gather,
    async_wait,
    gather,
    wait,
)


class Echo(Worker):
    def echo(self, value: Any) -> Any:
        return value

    async def echo_later(self, value: Any) -> Any:
        return value


@pytest.fixture(params=["sync", "thread", "asyncio", "process"])
def echo(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A worker in each mode."""
    with Echo.options(mode=request.param).init() as handle:
        yield handle


def concurrent_one(value: Any = None, *, pending: bool = False) -> concurrent.futures.Future[Any]:
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    if not pending:
        future.set_result(value)
    return future


async def later(value: Any) -> Any:
    return value


def test_one_item_gives_a_list_of_one(echo: Any) -> None:
    assert gather(echo.echo(3)) == [3]


def test_one_item_in_a_list_gives_a_list_of_one(echo: Any) -> None:
    assert gather([echo.echo(3)]) == [3]


@pytest.mark.parametrize(("empty", "result"), [({}, {}), ([], []), ((), []), (set(), [])])
def test_nothing_in_it(empty: Any, result: Any) -> None:
    assert gather(empty) == result


@pytest.mark.parametrize("structure", [[1], (1,), {1}, {"a": 1}])
@pytest.mark.parametrize("function", [gather, wait])
def test_a_structure_and_further_arguments(function: Any, structure: Any) -> None:
    with pytest.raises(ValueError, match="Cannot provide both a structure"):
        function(structure, SyncFuture(1))


@pytest.mark.parametrize("function", [async_gather, async_wait])
def test_a_structure_and_further_arguments_in_a_coroutine(function: Any) -> None:
    with pytest.raises(ValueError, match="Cannot provide both a structure"):
        asyncio.run(function([SyncFuture(1)], SyncFuture(1)))


def test_the_order_of_a_dict_and_any_hashable_keys(echo: Any) -> None:
    keys: list[Any] = ["z", 3, (1, 2), None, frozenset({1}), 2.5]
    results = gather({key: echo.echo(number) for number, key in enumerate(keys)})
    assert list(results.items()) == [(key, number) for number, key in enumerate(keys)]


@pytest.mark.parametrize("items", [[], [SyncFuture(1)], [SyncFuture(1), SyncFuture(2)]])
@pytest.mark.parametrize("function", [gather, wait, lambda fs, **how: list(as_completed(fs, **how))])
def test_a_progress_callable_is_called_at_least_once(function: Any, items: list[Any]) -> None:
    said: list[tuple[int, int, float]] = []
    function(items, progress=lambda completed, total, elapsed: said.append((completed, total, elapsed)))
    assert said[-1][:2] == (len(items), len(items))
    assert all(elapsed >= 0 for _, _, elapsed in said)


@pytest.mark.parametrize("function", [async_gather, async_wait])
def test_a_progress_callable_is_called_at_least_once_in_a_coroutine(function: Any) -> None:
    said: list[tuple[int, int, float]] = []
    asyncio.run(function([SyncFuture(1), SyncFuture(2)], progress=lambda *it: said.append(it)))
    assert said[-1][:2] == (2, 2)


def test_a_thousand_done_ones() -> None:
    assert gather([SyncFuture(number) for number in range(1000)]) == list(range(1000))


def test_async_gather_takes_coroutines_tasks_and_worker_futures(echo: Any) -> None:
    async def main() -> Any:
        return await async_gather([later(1), asyncio.create_task(later(2)), echo.echo(3), echo.echo_later(4), 5])

    assert asyncio.run(main()) == [1, 2, 3, 4, 5]


def test_async_wait_takes_coroutines_tasks_and_worker_futures(echo: Any) -> None:
    async def main() -> Any:
        task, call = asyncio.create_task(later(2)), echo.echo(3)
        done, not_done = await async_wait([later(1), task, call])
        assert {task, call} <= done
        return len(done), not_done

    assert asyncio.run(main()) == (3, set())


def test_kinds_are_mixed(echo: Any) -> None:
    loop = asyncio.new_event_loop()
    theirs: asyncio.Future[int] = loop.create_future()
    theirs.set_result(4)
    mixed = [echo.echo(1), SyncFuture(2), concurrent_one(3), theirs, AsyncioFuture(theirs), 6]
    assert gather(mixed) == [1, 2, 3, 4, 4, 6]
    assert gather(*mixed) == [1, 2, 3, 4, 4, 6]
    done, not_done = wait(mixed)
    assert (len(done), not_done) == (6, set())
    assert set(mixed[:5]) <= done
    loop.close()


def test_nested_containers(echo: Any) -> None:
    nested = {"a": [echo.echo(1), (echo.echo(2), {"b": echo.echo(3)})], "c": {concurrent_one(4)}, "d": 5}
    assert gather(nested, recurse=True) == {"a": [1, (2, {"b": 3})], "c": {4}, "d": 5}
    assert asyncio.run(async_gather(nested, recurse=True)) == {"a": [1, (2, {"b": 3})], "c": {4}, "d": 5}


def test_wait_in_nested_containers() -> None:
    pending, done = concurrent_one(pending=True), SyncFuture(2)
    assert wait([[done, (pending,)]], recurse=True, timeout=0) == ({done}, {pending})


@pytest.mark.parametrize("make", [list, tuple, set, iter, lambda fs: (it for it in fs)])
def test_every_iterable(make: Any) -> None:
    assert sorted(gather(make([SyncFuture(1), SyncFuture(2)]))) == [1, 2]
    done, _ = wait(make([SyncFuture(1), SyncFuture(2)]))
    assert len(done) == 2


def test_iter_yields_pairs_as_they_finish() -> None:
    first, second = concurrent_one(pending=True), concurrent_one(2)
    results = gather([first, second], iter=True)
    assert next(results) == (1, 2)
    first.set_result(1)
    assert list(results) == [(0, 1)]
    assert dict(gather({"x": second}, iter=True)) == {"x": 2}


def test_exceptions_in_the_place_of_results() -> None:
    error = ValueError("no")
    assert gather([SyncFuture(1), SyncFuture(exception_value=error)], return_exceptions=True) == [1, error]
    with pytest.raises(ValueError, match="no"):
        gather([SyncFuture(1), SyncFuture(exception_value=error)])


@pytest.mark.parametrize(
    "when", [FIRST_COMPLETED, "first_completed", "FIRST_COMPLETED", "first", concurrent.futures.FIRST_COMPLETED]
)
def test_wait_for_the_first(when: Any) -> None:
    pending, done = concurrent_one(pending=True), concurrent_one(1)
    assert wait([pending, done], return_when=when) == ({done}, {pending})


def test_wait_for_the_first_exception() -> None:
    pending = concurrent_one(pending=True)
    failed: SyncFuture[Any] = SyncFuture(exception_value=ValueError("no"))
    assert wait([pending, failed], return_when=FIRST_EXCEPTION) == ({failed}, {pending})
    assert wait(failed, return_when=ReturnWhen.ALL_COMPLETED) == wait(failed, return_when=ALL_COMPLETED)


def test_a_time_that_is_over_says_how_many_were_done() -> None:
    mixed = [SyncFuture(1), concurrent_one(pending=True)]
    for over in (lambda: gather(mixed, timeout=0), lambda: list(as_completed(mixed, timeout=0))):
        with pytest.raises(TimeoutError, match="1 of 2 futures were done"):
            over()
    with pytest.raises(TimeoutError, match="1 of 2 futures were done"):
        asyncio.run(async_gather(mixed, timeout=0))
    assert wait(mixed, timeout=0) == ({mixed[0]}, {mixed[1]})
    assert asyncio.run(async_wait(mixed, timeout=0)) == ({mixed[0]}, {mixed[1]})


@pytest.mark.parametrize("polling", [*PollingAlgorithm, "adaptive", None])
def test_a_polling_argument_is_accepted_and_ignored(polling: Any) -> None:
    future = SyncFuture(1)
    assert gather([future], polling=polling) == [1]
    assert wait([future], polling=polling) == ({future}, set())
    assert list(as_completed([future], polling=polling)) == [future]
    assert asyncio.run(async_gather([future], polling=polling)) == [1]
    assert asyncio.run(async_wait([future], polling=polling)) == ({future}, set())
