"""Futures as arguments: their results take their places; who submits does not wait for them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import pytest

from concurry import AsyncioFuture, BaseFuture, EncodeError, SyncFuture, Worker, gather, wrap_future

Start = Callable[..., Any]


class Adds(Worker):
    def add(self, left: int, right: int = 1) -> int:
        return left + right

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return (args, kwargs)

    def one(self, value: Any) -> Any:
        return value

    async def one_later(self, value: Any) -> Any:
        return value

    def hold(self, signal: Any, value: Any = None) -> Any:
        signal.wait()
        return value

    def fail(self, text: str) -> None:
        raise ValueError(text)


def test_a_chain_of_calls(start: Start) -> None:
    worker = start(Adds)
    future = worker.add(1)
    for _ in range(20):
        future = worker.add(future, right=worker.one_later(2))
    assert future.result(timeout=20) == 42


def test_futures_nested_in_containers(start: Start) -> None:
    worker = start(Adds)
    one, two = worker.one(1), worker.one_later(2)
    nested = [one, (two, {"k": one, two: "as a key"}), {two, 5}, frozenset([one])]
    assert worker.one(nested).result() == [1, (2, {"k": 1, 2: "as a key"}), {2, 5}, frozenset([1])]
    assert nested[0] is one, "the caller's own list is as it was"
    args, kwargs = worker.echo(one, {"deep": [[one]]}, key=two, plain=3).result()
    assert args == (1, {"deep": [[1]]})
    assert kwargs == {"key": 2, "plain": 3}


def test_a_list_that_contains_itself(start: Start, way: Any) -> None:
    worker = start(Adds)
    loop: list[Any] = [1]
    loop.append(loop)
    found = worker.one(loop).result()
    assert found[0] == 1
    assert found[1] is found
    assert (found is loop) is way.same_objects


def test_what_holds_no_future_is_not_copied(start: Start, way: Any) -> None:
    worker = start(Adds)
    value = [{"a": (1, 2)}, {3}]
    assert way.same(worker.one(value).result(), value)
    assert way.same(worker.echo(worker.one(1), value).result()[0][1], value)


def test_results_in_sets_must_be_hashable(start: Start) -> None:
    worker = start(Adds)
    with pytest.raises(TypeError, match="unhashable"):
        worker.one({worker.one([])}).result()
    assert worker.one(1).result() == 1


class MyList(list[Any]):
    pass


def arrives_as_it_is(worker: Any, way: Any, value: Any, find: Callable[[Any], Any], future: Any) -> None:
    """A future that is not opened stays in its process: to another one it cannot go."""
    if way.same_objects:
        assert find(worker.one(value).result()) is future
    else:
        with pytest.raises(EncodeError, match=r"one\(\) was not called: argument 1 .* cannot be sent"):
            worker.one(value).result()
    assert worker.one(2).result() == 2


def test_nothing_else_is_opened(start: Start, way: Any) -> None:
    worker = start(Adds)
    future = worker.one(1)
    arrives_as_it_is(worker, way, MyList([future]), lambda found: found[0], future)


def test_unwrap_futures_false_passes_them_on(start: Start, way: Any) -> None:
    worker = start(Adds, options={"unwrap_futures": False})
    future = worker.one(1)
    arrives_as_it_is(worker, way, future, lambda found: found, future)
    arrives_as_it_is(worker, way, [future], lambda found: found[0], future)


def test_a_failed_argument_is_the_calls_failure(start: Start) -> None:
    worker = start(Adds)
    first = worker.fail("upstream")
    second = worker.add(first)
    with pytest.raises(ValueError, match="upstream") as caught:
        second.result()
    assert caught.value is first.exception()
    third = worker.one([second, worker.one(1)])
    assert third.exception() is first.exception()
    assert worker.one(1).result() == 1


def test_the_first_failure_ends_the_call_without_waiting_for_the_rest(start: Start, new_signal: Any) -> None:
    worker, go = start(Adds), new_signal()
    pending: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = worker.echo(pending, worker.fail("now"))
    with pytest.raises(ValueError, match="now"):
        future.result(timeout=10)
    pending.set_result(1)
    go.set()


def test_a_cancelled_argument_cancels_the_call(start: Start) -> None:
    worker = start(Adds)
    argument: concurrent.futures.Future[int] = concurrent.futures.Future()
    argument.cancel()
    future = worker.add(argument)
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(timeout=10)
    assert future.done()


def test_foreign_futures(start: Start) -> None:
    worker = start(Adds)
    foreign: concurrent.futures.Future[int] = concurrent.futures.Future()
    foreign.set_result(4)
    assert worker.add(foreign, SyncFuture(2)).result() == 6
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert worker.add(pool.submit(lambda: 7)).result() == 8


def test_an_asyncio_future(start: Start, way: Any) -> None:
    worker = start(Adds)

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(asyncio.sleep(0, 5))
        if not way.background:
            await task  # the caller's own thread runs the call: it cannot wait for its own loop
        assert await worker.add(task) == 6

    asyncio.run(main())


def test_a_future_of_another_worker(start: Start) -> None:
    first, second = start(Adds), start(Adds)
    futures = [second.add(first.add(i), right=second.one(first.one(10))) for i in range(50)]
    assert gather(futures) == [i + 11 for i in range(50)]


def test_the_same_future_twice(start: Start) -> None:
    worker = start(Adds)
    future = worker.one(21)
    assert worker.add(future, future).result() == 42


def test_submission_does_not_wait_and_the_worker_goes_on(start: Start, new_signal: Any) -> None:
    worker = start(Adds)
    pending: concurrent.futures.Future[int] = concurrent.futures.Future()
    dependent = worker.add(pending)
    assert not dependent.done()
    assert worker.one("meanwhile").result() == "meanwhile"
    assert worker.stats()["queued"] == 1
    pending.set_result(1)
    assert dependent.result(timeout=10) == 2
    assert worker.stats()["queued"] == 0


def test_a_waiting_call_can_be_cancelled(start: Start) -> None:
    worker = start(Adds)
    pending: concurrent.futures.Future[int] = concurrent.futures.Future()
    dependent = worker.add(pending)
    assert dependent.cancel()
    assert dependent.cancelled()
    pending.set_result(1)
    assert worker.one(1).result() == 1
    assert worker.stats()["queued"] == 0


def test_stop_ends_calls_that_wait_for_arguments(start: Start) -> None:
    worker = start(Adds)
    pending: concurrent.futures.Future[int] = concurrent.futures.Future()
    dependent = worker.add(pending)
    worker.stop()
    assert dependent.done()
    with pytest.raises(concurrent.futures.CancelledError):
        dependent.result()
    pending.set_result(1)


def test_a_future_that_fails_with_an_odd_exception(start: Start) -> None:
    worker = start(Adds)
    foreign: concurrent.futures.Future[int] = concurrent.futures.Future()
    foreign.set_exception(RuntimeError("theirs"))
    with pytest.raises(RuntimeError, match="theirs"):
        worker.add(foreign).result()


def test_an_asyncio_future_of_a_closed_loop_is_refused_at_the_line(start: Start) -> None:
    loop = asyncio.new_event_loop()
    dead = loop.create_future()
    loop.close()
    bounded = {"mailbox_size": 1, "on_full": "raise"}
    worker = start(Adds, options=bounded)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="loop is closed"):
            worker.add(dead).result()
    assert worker.one(1).result() == 1, "the refused ones have kept no place"


def test_many_dependents_of_one_future(start: Start) -> None:
    worker = start(Adds)
    root: concurrent.futures.Future[int] = concurrent.futures.Future()
    dependents = [worker.add(root, i) for i in range(200)]
    threading.Thread(target=root.set_result, args=(1,)).start()
    assert gather(dependents, timeout=20) == [1 + i for i in range(200)]


def test_wrapped_futures_are_arguments_too(start: Start) -> None:
    worker = start(Adds)
    future = wrap_future(5)
    assert isinstance(future, BaseFuture)
    assert worker.add(future).result() == 6
    assert AsyncioFuture is not None
