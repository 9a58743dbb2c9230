"""What a method can do to the event loop it runs on: the actor goes on, and no call is lost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest

from concurry import DeadlockError, RemoteBaseError, Worker, gather

pytestmark = pytest.mark.faults


class Loopy(Worker):
    async def work(self, value: Any = 1) -> Any:
        await asyncio.sleep(0)
        return value

    def plain(self, value: Any = 1) -> Any:
        return value

    async def stop_the_loop(self) -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "went on"

    async def task_that_raises(self, error: BaseException) -> str:
        async def beside() -> None:
            raise error

        task = asyncio.ensure_future(beside())
        await asyncio.wait([task])
        return type(task.exception()).__name__

    async def leave_a_task(self, began: Any) -> None:
        async def beside() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                began.append("cancelled")

        self.kept = asyncio.ensure_future(beside())
        await asyncio.sleep(0)

    async def cancel_all(self) -> int:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        return len(others)

    async def cancel_itself(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def raises(self, error: BaseException) -> None:
        raise error

    async def hold(self, began: Any, go: Any) -> str:
        began.set()
        await asyncio.get_running_loop().run_in_executor(None, go.wait, 60)
        return "held"

    async def block_on(self, future: Any) -> Any:
        return future.result(20)

    async def block_on_call(self, fn: Any, *args: Any) -> Any:
        return fn(*args).result(20)

    async def await_call(self, fn: Any, *args: Any) -> Any:
        return await fn(*args)


def test_a_method_that_stops_the_loop(start: Any, way: Any) -> None:
    worker = start(Loopy, way)
    futures = [worker.stop_the_loop() for _ in range(3)]
    assert gather(futures, timeout=20) == ["went on"] * 3
    assert worker.work(2).result(20) == 2


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), ValueError()])
def test_what_a_task_of_the_users_raises_stays_its_own(start: Any, beside: Any, error: BaseException) -> None:
    worker = start(Loopy, beside)
    future, behind = worker.task_that_raises(error), [worker.work(n) for n in range(5)]
    assert future.result(20) == type(error).__name__
    assert gather(behind, timeout=20) == list(range(5))
    assert worker.plain(3).result(20) == 3


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_what_an_async_method_raises_ends_its_call_only(start: Any, beside: Any, error: BaseException) -> None:
    worker = start(Loopy, beside)
    future, behind = worker.raises(error), [worker.work(n) for n in range(5)]
    with pytest.raises(RemoteBaseError, match=type(error).__name__):
        future.result(20)
    assert gather(behind, timeout=20) == list(range(5))


def test_a_method_that_cancels_every_task_there_is(start: Any, beside: Any) -> None:
    """Some of them have not taken their first step: asyncio ends those without running a line of them."""
    worker = start(Loopy, beside)
    futures = [worker.cancel_all(), *[worker.work(n) for n in range(50)]]
    futures += [worker.cancel_all(), *[worker.work(n) for n in range(50)]]
    for future in futures:
        error = future.exception(20)
        assert error is None or type(error).__name__ == "CancelledError"
    assert worker.work("next").result(20) == "next"
    assert worker.plain("next").result(20) == "next"
    worker.stop()
    assert worker.stats()["running"] == 0
    assert worker.stats()["restarts"] == 0, "the actor is the same one"


def test_a_narrow_lane_is_not_used_up_by_cancelled_tasks(start: Any) -> None:
    worker = start(Loopy, "asyncio", max_concurrency=3)
    for _ in range(5):
        futures = [worker.cancel_all(), worker.work(), worker.work()]
        for future in futures:
            error = future.exception(20)
            assert error is None or type(error).__name__ == "CancelledError"
    assert gather([worker.work(n) for n in range(10)], timeout=20) == list(range(10))


def test_a_method_that_cancels_itself(start: Any, beside: Any) -> None:
    worker = start(Loopy, beside)
    with pytest.raises(concurrent.futures.CancelledError):
        worker.cancel_itself().result(20)
    assert worker.work(1).result(20) == 1


def test_tasks_that_are_left_are_cancelled_at_the_end(start: Any, beside: Any) -> None:
    ended: list[str] = []
    worker = start(Loopy, beside)
    worker.leave_a_task(ended).result(20)
    assert worker.work(1).result(20) == 1
    worker.stop()
    assert ended == ["cancelled"]


def test_calls_are_cancelled_before_their_first_step(start: Any, event: Any) -> None:
    worker, began, go = start(Loopy, "asyncio"), event(), event()
    held = worker.hold(began, go)
    assert began.wait(20)
    for _ in range(200):
        future = worker.work()
        future.cancel()
    go.set()
    assert held.result(20) == "held"
    assert worker.work("next").result(20) == "next"
    worker.stop()
    assert worker.stats()["running"] == 0


# -- waits that could never end (F26, rule 13) -------------------------------------------------------------------------


@pytest.mark.parametrize("way_name", ["asyncio", "concurrent"])
def test_blocking_on_a_call_to_the_same_loop_is_refused(start: Any, way_name: str) -> None:
    worker = start(Loopy, way_name)
    with pytest.raises(DeadlockError, match="await the future"):
        worker.block_on_call(worker.work, 5).result(20)
    assert worker.work(1).result(20) == 1


def test_blocking_on_a_running_call_of_the_same_loop_is_refused(start: Any, event: Any) -> None:
    worker, began, go = start(Loopy, "asyncio", unwrap_futures=False), event(), event()
    held = worker.hold(began, go)
    assert began.wait(20)
    with pytest.raises(DeadlockError, match="await the future"):
        worker.block_on(held).result(20)
    go.set()
    assert held.result(20) == "held"


def test_gather_in_an_async_method_on_its_own_loop_is_refused(start: Any) -> None:
    class Gathers(Loopy):
        async def collect(self, worker: Any) -> Any:
            return gather([worker.work(n) for n in range(3)])

    worker = start(Gathers, "asyncio")
    with pytest.raises(DeadlockError):
        worker.collect(worker).result(20)


def test_blocking_on_a_sync_method_beside_the_loop_is_allowed(start: Any) -> None:
    worker = start(Loopy, "asyncio")
    assert worker.block_on_call(worker.plain, 7).result(20) == 7


@pytest.mark.parametrize("way_name", ["asyncio", "concurrent"])
def test_awaiting_a_call_to_the_same_loop_is_fine(start: Any, way_name: str) -> None:
    worker = start(Loopy, way_name)
    assert worker.await_call(worker.work, 7).result(20) == 7
    assert worker.await_call(worker.plain, 8).result(20) == 8


class Serial(Worker):
    def ask(self, other: Any, me: Any) -> Any:
        return other.answer(me).result(20)

    def answer(self, back: Any) -> Any:
        return back.plain().result(20)

    async def ask_async(self, other: Any, me: Any) -> Any:
        return other.answer(me).result(20)

    def plain(self) -> str:
        return "plain"

    def ask_itself(self, me: Any) -> Any:
        return me.plain().result(20)

    async def await_itself(self, me: Any) -> Any:
        return await me.plain()


@pytest.mark.parametrize("method", ["ask_itself", "await_itself"])
def test_waiting_for_itself_is_refused(start: Any, method: str) -> None:  # F26
    worker = start(Serial, "thread")
    with pytest.raises(DeadlockError, match="would wait for ever"):
        getattr(worker, method)(worker).result(20)
    assert worker.plain().result(20) == "plain"


def test_two_serial_actors_that_wait_for_each_other(start: Any) -> None:  # F26
    one, other = start(Serial, "thread"), start(Serial, "thread")
    with pytest.raises(DeadlockError, match="Serial -> Serial -> Serial"):
        one.ask(other, one).result(20)
    assert one.plain().result(20) == other.plain().result(20) == "plain"


def test_a_blocked_loop_and_a_serial_actor_that_wait_for_each_other(start: Any) -> None:
    class Looped(Worker):
        async def ask(self, other: Any, me: Any) -> Any:
            return other.answer(me).result(20)

        async def plain(self) -> str:
            return "plain"

    one, other = start(Looped, "asyncio"), start(Serial, "thread")
    with pytest.raises(DeadlockError):
        one.ask(other, one).result(20)
    assert one.plain().result(20) == "plain"
    assert one.ask(other, other).exception(20) is not None, "the serial one waits for itself"


def test_pools_are_left_out(start: Any) -> None:
    worker = start(Serial, "pool")
    assert worker.ask_itself(worker).result(20) == "plain"


def test_threads_of_one_actor_are_left_out(start: Any) -> None:
    worker = start(Serial, "concurrent")
    assert worker.ask_itself(worker).result(20) == "plain"


# -- threads that cannot be started ------------------------------------------------------------------------------------


class NoThreads:
    """While it is entered, threads whose name begins with `names` cannot be started."""

    def __init__(self, patch: Any, names: str) -> None:
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name.startswith(names):
                raise RuntimeError("can't start new thread")
            start(thread)

        patch.setattr(threading.Thread, "start", refuse)


def test_no_thread_for_a_sync_method(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for way in ("asyncio", "concurrent"):
        worker = start(Loopy, way)
        with monkeypatch.context() as patch:
            NoThreads(patch, "concurry: Loopy")
            failed = [worker.plain(n) for n in range(3)]
            for future in failed:
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    future.result(20)
            assert worker.work(1).result(20) == 1
        assert gather([worker.plain(n) for n in range(10)], timeout=20) == list(range(10))
        worker.stop()
        assert worker.stats()["running"] == 0


def test_no_thread_for_an_on_demand_actor(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = start(Loopy, "demand")
    with monkeypatch.context() as patch:
        NoThreads(patch, "concurry: Loopy")
        for future in [worker.plain(n) for n in range(10)]:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                future.result(20)
    assert gather([worker.plain(n) for n in range(10)], timeout=20) == list(range(10))


@pytest.mark.parametrize("count", [1, 8])
def test_no_thread_for_the_actors(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    others = threading.enumerate()
    with monkeypatch.context() as patch:
        NoThreads(patch, f"concurry: Loopy[{count - 1}]" if count > 1 else "concurry: Loopy")
        for mode in ["thread"] if count > 1 else ["thread", "asyncio"]:
            with pytest.raises(RuntimeError, match="can't start new thread"):
                Loopy.options(mode=mode, max_workers=count).init()
    for thread in threading.enumerate():
        if thread not in others and thread.name.startswith("concurry"):
            thread.join(20)
            assert not thread.is_alive()


def test_no_thread_for_callbacks(start: Any, beside: Any, event: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, called, go, began = start(Loopy, beside), event(), event(), event()
    with monkeypatch.context() as patch:
        NoThreads(patch, "concurry-notifier")
        future = worker.hold(began, go)
        assert began.wait(20)
        future.add_done_callback(lambda _: called.set())
        go.set()
        assert future.result(20) == "held"
        assert worker.work(1).result(20) == 1, "the actor lives"
        assert not called.is_set()
    other = worker.work(2)
    second = event()
    other.add_done_callback(lambda _: second.set())
    if other.done() and not called.is_set():
        began, go = event(), event()
        other = worker.hold(began, go)
        assert began.wait(20)
        other.add_done_callback(lambda _: None)
        go.set()
    assert called.wait(20), "it was kept, and runs with the next one"


def test_no_thread_for_the_timer(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for way in ("thread", "asyncio"):
        worker = start(Loopy, way, call_timeout=30)
        with monkeypatch.context() as patch:
            NoThreads(patch, "concurry-timer")
            with pytest.raises(RuntimeError, match="can't start new thread"):
                worker.work(1).result(20)
        assert worker.work(2).result(20) == 2
        worker.stop()
        for thread in threading.enumerate():
            if thread.name == "concurry-timer":
                thread.join(20)
