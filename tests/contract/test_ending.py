"""Ends: stop, leaving a `with`, a handle that nobody holds."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from concurry import Worker, WorkerStoppedError, gather

Start = Callable[..., Any]


class Works(Worker):
    def run(self, value: Any = 1) -> Any:
        return value

    async def run_later(self, value: Any = 1) -> Any:
        await asyncio.sleep(0)
        return value

    def hold(self, began: Any, go: Any) -> str:
        began.set()
        go.wait()
        return "held"

    async def hold_later(self, began: Any) -> None:
        began.set()
        await asyncio.get_running_loop().create_future()


def test_calls_after_stop_are_refused(start: Start, way: Any) -> None:
    worker = start(Works)
    assert worker.run().result() == 1
    assert worker.is_alive()
    worker.stop()
    assert not worker.is_alive()
    word = "Worker pool is stopped" if way.pooled else "Worker is stopped"
    for call in (worker.run, worker.run_later, worker[Works.run]):
        with pytest.raises(WorkerStoppedError, match=word) as caught:
            call()
        assert isinstance(caught.value, RuntimeError)
    with pytest.raises(WorkerStoppedError, match=word):
        worker.run(concurrent.futures.Future())
    with pytest.raises(AttributeError):
        worker.unknown()


def test_stop_is_idempotent_from_many_threads(start: Start) -> None:
    worker = start(Works)
    worker.run().result()
    threads = [threading.Thread(target=worker.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    worker.stop()
    assert not worker.is_alive()
    assert "stopped" in repr(worker)


def test_a_with_block_stops(start: Start) -> None:
    with start(Works) as worker:
        future = worker.run(3)
        assert future.result() == 3
    assert not worker.is_alive()
    assert future.result() == 3


def test_a_with_block_stops_after_an_exception(start: Start) -> None:
    worker = start(Works)
    with pytest.raises(ZeroDivisionError), worker:
        raise ZeroDivisionError
    assert not worker.is_alive()


def test_an_async_with_block_stops(start: Start) -> None:
    async def main() -> Any:
        async with start(Works) as worker:
            assert await worker.run_later(4) == 4
        return worker

    assert not asyncio.run(main()).is_alive()


def test_stop_cancels_what_waits_and_lets_end_what_runs(start: Start, way: Any, new_signal: Any) -> None:
    worker, go, held = start(Works), new_signal(), []
    for _ in range(way.sync_at_once):
        began = new_signal()
        held.append(worker.hold(began, go))
        began.wait()
    waiting = [worker.run() for _ in range(20)]
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    for future in waiting:
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(timeout=10)
    assert all(future.cancelled() for future in waiting)
    go.set()
    assert gather(held) == ["held"] * way.sync_at_once
    stopper.join(20)
    assert not stopper.is_alive()


def test_stop_without_time_leaves_no_future_open(start: Start, way: Any, new_signal: Any) -> None:
    others = set(threading.enumerate())
    worker, began, go = start(Works), new_signal(), new_signal()
    held = worker.hold(began, go)
    began.wait()
    later = worker.hold_later(new_signal()) if way.name == "asyncio" else None
    ours = set(threading.enumerate()) - others
    worker.stop(timeout=0)
    assert held.done()
    with pytest.raises(WorkerStoppedError, match=r"hold\(\) still ran when the time for stop\(\) was over"):
        held.result()
    if later is not None:
        assert later.done()
    go.set()
    for thread in ours:
        thread.join(10)


@pytest.mark.parametrize(
    ("left_by", "named", "other"),
    [(None, "stop_timeout=", "exit_timeout="), (KeyboardInterrupt, "exit_timeout=", "stop_timeout=")],
)
def test_a_call_given_up_names_the_option_that_holds(
    start: Start, new_signal: Any, left_by: Any, named: str, other: str
) -> None:
    others = set(threading.enumerate())
    worker, began, go = start(Works, options={"stop_timeout": 0.01, "exit_timeout": 0.01}), new_signal(), new_signal()
    held: Any = None
    with contextlib.suppress(KeyboardInterrupt), worker:
        held = worker.hold(began, go)
        began.wait()
        if left_by is not None:
            raise left_by
    ours = set(threading.enumerate()) - others
    text = str(held.exception())
    assert named in text
    assert other not in text
    go.set()
    for thread in ours:
        thread.join(10)


def test_stop_cancels_async_methods_after_its_time(start: Start, new_signal: Any) -> None:
    worker, began = start(Works), new_signal()
    future = worker.hold_later(began)
    began.wait()
    worker.stop(timeout=0)
    assert future.done()
    with pytest.raises((WorkerStoppedError, concurrent.futures.CancelledError)):
        future.result()


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_cannot_be(start: Start, timeout: float) -> None:
    worker = start(Works)
    with pytest.raises(ValueError, match=r"stop\(timeout="):
        worker.stop(timeout=timeout)
    for wrong in ("soon", [1]):
        with pytest.raises(TypeError, match=r"stop\(timeout=.*\): seconds, 0 or more, or None"):
            worker.stop(timeout=wrong)
    assert worker.run().result() == 1


def test_an_actor_may_stop_its_own_pool(start: Start) -> None:
    class StopsItself(Worker):
        def use(self, worker: Any) -> str:
            worker.stop()
            return "done"

    worker = start(StopsItself)
    future = worker.use(worker)
    assert future.result(timeout=10) == "done"
    assert not worker.is_alive()


def test_leaving_by_ctrl_c_does_not_wait_for_stop_timeout(new_signal: Any) -> None:
    worker = Works.options(mode="thread", stop_timeout=None, exit_timeout=0).init()
    began, go = new_signal(), new_signal()
    held = worker.hold(began, go)
    began.wait()
    with pytest.raises(KeyboardInterrupt), worker:
        raise KeyboardInterrupt
    assert isinstance(held.exception(), WorkerStoppedError)
    left = [thread for thread in threading.enumerate() if "Works" in thread.name]
    go.set()
    for thread in left:
        thread.join(10)


def dropped(way: Any, cls: Any = Works, *args: Any) -> Any:
    return cls.options(**way.options).init(*args)


def test_a_dropped_handle_lets_its_accepted_calls_finish(way: Any, new_signal: Any) -> None:
    before = set(threading.enumerate())
    worker, began, go = dropped(way), new_signal(), new_signal()
    held = worker.hold(began, go)
    began.wait()
    futures = [worker.run(i) for i in range(50)] + [worker.run_later(i) for i in range(50)]
    ours = set(threading.enumerate()) - before
    with pytest.warns(ResourceWarning, match=r"Works was dropped without stop\(\): its accepted calls finish"):
        del worker
    go.set()
    assert held.result(timeout=20) == "held"
    assert gather(futures, timeout=20) == [*range(50), *range(50)]
    for thread in ours:
        thread.join(10)
    assert not [thread for thread in ours if thread.is_alive()]


def test_a_dropped_handle_lets_calls_finish_that_wait_for_arguments(way: Any) -> None:
    worker = dropped(way)
    pending: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = worker.run_later([pending])
    with pytest.warns(ResourceWarning):
        del worker
    pending.set_result(5)
    assert future.result(timeout=20) == [5]


def test_a_dropped_handle_ends_also_where_warnings_are_errors(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda what: shown.append(what.exc_type))
    before = set(threading.enumerate())
    worker = dropped(way)
    assert worker.run().result() == 1
    ours = set(threading.enumerate()) - before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del worker
    assert shown == [ResourceWarning]
    for thread in ours:
        thread.join(10)
    assert not [thread for thread in ours if thread.is_alive()]


def test_a_stopped_handle_is_dropped_without_a_word(way: Any) -> None:
    worker = dropped(way)
    worker.stop()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del worker


def test_a_kept_method_keeps_the_worker(way: Any) -> None:
    worker = dropped(way)
    run, stop = worker.run, worker.stop
    gone = weakref.ref(worker)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del worker
        assert run(5).result() == 5
    stop()
    del stop
    gc.collect()
    assert gone() is None
    with pytest.raises(WorkerStoppedError):
        run(1)


def test_one_kept_function_keeps_the_worker(way: Any) -> None:
    worker = dropped(way)
    run = worker.run
    gone = weakref.ref(worker)
    del worker
    gc.collect()
    assert gone() is None, "the function keeps the actors, not the handle"
    assert run(5).result() == 5
    assert run.anchor is not None
    with pytest.warns(ResourceWarning):
        del run


def test_in_one_line(way: Any) -> None:
    with pytest.warns(ResourceWarning):
        future = dropped(way).run(7)
    assert future.result(timeout=10) == 7


def test_stop_from_another_thread_while_the_caller_runs_an_async_method() -> None:
    """In sync mode the method runs in the caller's own thread: it is cancelled there, and the future says why."""
    began = threading.Event()
    worker = Works.options(mode="sync").init()

    def stop() -> None:
        began.wait(10)
        worker.stop(timeout=0)

    stops = threading.Thread(target=stop)
    stops.start()
    future = worker.hold_later(began)
    stops.join()
    with pytest.raises(WorkerStoppedError, match="still ran"):
        future.result()
