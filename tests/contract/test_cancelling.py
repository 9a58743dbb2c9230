"""Cancelling: what waits never runs, a running async method is ended, a plain one goes on; no actor is harmed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from concurry import Worker, gather, wait

Start = Callable[..., Any]


class Holds(Worker):
    ran: list[int]

    def __init__(self, ran: list[int] | None = None) -> None:
        self.ran = [] if ran is None else ran

    def hold(self, began: Any, go: Any) -> str:
        began.set()
        go.wait()
        return "held"

    async def hold_later(self, began: Any, ended: Any) -> None:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    def run(self, number: int) -> int:
        self.ran.append(number)
        return number

    async def run_later(self, number: int) -> int:
        self.ran.append(number)
        return number

    async def refuses(self, began: Any) -> str:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return "refused"
        return "never"


def busy(worker: Any, way: Any, new_signal: Any) -> tuple[list[Any], Any]:
    """Hold everything that runs plain methods. Returns the calls, and the signal that lets them end."""
    go, held = new_signal(), []
    for _ in range(way.sync_at_once):
        began = new_signal()
        held.append(worker.hold(began, go))
        began.wait()
    return held, go


def test_cancel_one_running_and_ten_waiting(start: Start, way: Any, new_signal: Any, new_log: Any) -> None:
    ran = new_log()
    worker = start(Holds, ran)
    held, go = busy(worker, way, new_signal)
    waiting = [worker.run(i) for i in range(10)]
    assert not any(future.cancel() for future in held)
    assert all(future.running() for future in held)
    assert not any(future.running() for future in waiting)
    assert all(future.cancel() for future in waiting)
    assert all(future.cancelled() and future.done() for future in waiting)
    assert all(future.cancel() for future in waiting), "it is cancelled, and says so again"
    go.set()
    assert gather(held) == ["held"] * len(held)
    assert worker.run(99).result() == 99
    assert ran == [99]
    for future in waiting:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result()
        with pytest.raises(concurrent.futures.CancelledError):
            future.exception()


def test_a_running_async_method_is_cancelled(start: Start, new_signal: Any) -> None:
    worker, began, ended = start(Holds), new_signal(), new_signal()
    future = worker.hold_later(began, ended)
    began.wait()
    assert future.running()
    assert future.cancel()
    assert future.cancelled()
    ended.wait()
    assert worker.run(1).result() == 1
    assert worker.run_later(2).result() == 2


def test_a_method_that_refuses_to_be_cancelled_does_not_undo_it(start: Start, new_signal: Any) -> None:
    worker, began = start(Holds), new_signal()
    future = worker.refuses(began)
    began.wait()
    assert future.cancel()
    assert future.cancelled()
    assert worker.run_later(2).result() == 2
    assert future.cancelled()


def test_a_done_call_cannot_be_cancelled(start: Start) -> None:
    worker = start(Holds)
    future = worker.run(1)
    assert future.result() == 1
    assert future.cancel() is False
    assert not future.cancelled()
    assert future.result() == 1


def test_cancelled_calls_wake_those_who_wait(start: Start, way: Any, new_signal: Any) -> None:
    worker = start(Holds)
    held, go = busy(worker, way, new_signal)
    waiting, told = worker.run(1), new_signal()
    waiting.add_done_callback(lambda future: told.set())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(wait, [waiting])
        waiting.cancel()
        done, _ = waiter.result(timeout=10)
    assert len(done) == 1
    told.wait()
    go.set()
    gather(held)


def test_wait_for_cancels_what_it_gives_up(start: Start, way: Any, new_signal: Any, new_log: Any) -> None:
    ran = new_log()
    worker = start(Holds, ran)
    held, go = busy(worker, way, new_signal)

    async def main() -> None:
        queued = worker.run(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queued, 0.01)
        assert queued.cancelled()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(held[0], 0.01)
        assert not held[0].done()

    asyncio.run(main())
    go.set()
    assert gather(held) == ["held"] * len(held)
    assert worker.run(2).result() == 2
    assert ran == [2]


def test_wait_for_cancels_a_running_async_method(start: Start, new_signal: Any) -> None:
    worker, began, ended = start(Holds), new_signal(), new_signal()

    async def main() -> None:
        future = worker.hold_later(began, ended)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)
        assert future.cancelled()

    asyncio.run(main())
    if began.happened():
        ended.wait()
    assert worker.run(2).result() == 2


def test_a_timeout_without_end(start: Start, way: Any, new_signal: Any) -> None:
    worker = start(Holds)
    if not way.background:
        assert worker.run(1).result(math.inf) == 1
        return
    began, go = new_signal(), new_signal()
    held = worker.hold(began, go)
    began.wait()
    letting = threading.Thread(target=go.set)
    letting.start()
    assert held.result(math.inf) == "held"
    letting.join()


def test_result_with_a_timeout_leaves_the_call_alone(start: Start, way: Any, new_signal: Any) -> None:
    worker = start(Holds)
    held, go = busy(worker, way, new_signal)
    with pytest.raises(TimeoutError, match=r"hold\(\) was not done within 0.01 s"):
        held[0].result(timeout=0.01)
    with pytest.raises(TimeoutError):
        held[0].result(timeout=0)
    with pytest.raises(TimeoutError):
        held[0].exception(timeout=-1)
    go.set()
    assert held[0].result() == "held"


def test_callbacks(start: Start, new_signal: Any) -> None:
    worker, told = start(Holds), new_signal()
    seen: list[Any] = []

    def callback(future: Any) -> None:
        seen.append(future)
        told.set()

    future = worker.run(1)
    future.add_done_callback(callback)
    told.wait()
    assert seen == [future]
    future.add_done_callback(seen.append)
    assert seen == [future, future], "on a done future it is called here and at once"


def test_a_callback_that_raises_is_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    def callback(future: Any) -> None:
        raise RuntimeError("mine")

    future = start(Holds).run(1)
    future.result()
    future.add_done_callback(callback)
    assert "a callback of" in caplog.text
    assert future.result() == 1


def test_a_callback_may_submit(start: Start, new_signal: Any) -> None:
    worker, told = start(Holds), new_signal()
    later: list[Any] = []

    def callback(future: Any) -> None:
        later.append(worker.run(future.result() + 1))
        told.set()

    worker.run(1).add_done_callback(callback)
    told.wait()
    assert later[0].result() == 2


class CountsItself(Holds):
    made: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        self.made.append(1)


def test_a_cancelled_call_on_demand_has_no_actor() -> None:
    CountsItself.made.clear()
    with CountsItself.options(mode="thread", on_demand=True, max_workers=1).init() as worker:
        began, go = threading.Event(), threading.Event()
        held = worker.hold(began, go)
        began.wait()
        waiting = [worker.run(number) for number in range(20)]
        assert all(call.cancel() for call in waiting[:-1])
        go.set()
        assert (held.result(), waiting[-1].result()) == ("held", 19)
    assert len(CountsItself.made) == 2
