"""What every kind of future has in common, whatever it wraps."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import threading
import weakref
from concurrent.futures import CancelledError
from typing import Any

import pytest

from concurry.futures import AsyncioFuture, BaseFuture, ConcurrentFuture, SyncFuture, wrap_future

PATIENCE = 20  # seconds until a test gives up


def test_it_begins_pending_and_ends_with_the_result(open_one: Any) -> None:
    future = open_one.given
    assert isinstance(future, concurrent.futures.Future)
    assert not future.done()
    assert not future.cancelled()
    open_one.finish("x")
    assert future.result(PATIENCE) == "x"
    assert future.exception() is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert not future.cancel()


def test_it_ends_with_the_very_exception(open_one: Any) -> None:
    error = ValueError("no")
    open_one.fail(error)
    assert open_one.given.exception(PATIENCE) is error
    with pytest.raises(ValueError, match="no"):
        open_one.given.result()


def test_a_time_that_is_over(open_one: Any) -> None:
    for call in (open_one.given.result, open_one.given.exception):
        with pytest.raises(TimeoutError):
            call(0)
        with pytest.raises(TimeoutError):
            call(timeout=0.001)
    assert not open_one.given.done()
    open_one.finish(1)


def test_a_waiting_thread_is_woken(open_one: Any) -> None:
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(open_one.given.result(PATIENCE)))
    waiting.start()
    open_one.finish(7)
    waiting.join(PATIENCE)
    assert got == [7]


def test_callbacks_get_our_future(open_one: Any) -> None:
    future, called = open_one.given, threading.Event()
    got: list[Any] = []

    def callback(given: Any) -> None:
        got.append(given)
        called.set()

    future.add_done_callback(callback)
    assert not got
    open_one.finish(1)
    assert called.wait(PATIENCE)
    future.add_done_callback(got.append)  # done: here and now
    assert got == [future, future]


def test_callbacks_run_in_order_on_the_notifier_and_one_that_raises_harms_nothing(
    open_one: Any, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Any] = []
    called = threading.Event()

    def bad(given: Any) -> None:
        got.append(threading.current_thread().name)
        raise LookupError("mine")

    def good(given: Any) -> None:
        got.append(given.result())
        called.set()

    open_one.given.add_done_callback(bad)
    open_one.given.add_done_callback(good)
    open_one.finish(1)
    assert called.wait(PATIENCE)
    assert got == ["concurry-notifier", 1]
    assert "LookupError: mine" in caplog.text
    assert open_one.given.result() == 1


def test_it_is_awaited_from_any_loop(open_one: Any) -> None:
    awaiting = threading.Barrier(3)
    got: list[Any] = []

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(awaiting.wait, PATIENCE)  # once the task below waits
        got.append(await open_one.given)

    loops = [threading.Thread(target=lambda: asyncio.run(wait())) for _ in range(2)]
    for loop in loops:
        loop.start()
    awaiting.wait(PATIENCE)
    open_one.finish(3)
    for loop in loops:
        loop.join(PATIENCE)
    assert got == [3, 3]


def test_the_standard_library_takes_it(open_one: Any) -> None:
    future = open_one.given
    assert concurrent.futures.wait([future], timeout=0) == (set(), {future})
    timer = threading.Thread(target=open_one.finish, args=(5,))
    timer.start()
    assert concurrent.futures.wait([future], timeout=PATIENCE).done == {future}
    assert list(concurrent.futures.as_completed([future], timeout=PATIENCE)) == [future]
    timer.join(PATIENCE)

    async def wrapped() -> Any:
        return await asyncio.wrap_future(future)

    assert asyncio.run(wrapped()) == 5


def test_cancelling_passes_through(open_one: Any) -> None:
    future = open_one.given
    if open_one.inner is None:
        assert not future.cancel()  # nobody owns it
        open_one.finish(1)
        return
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    with pytest.raises(CancelledError):
        future.result()
    with pytest.raises(CancelledError):
        future.exception()
    inner = open_one.inner
    if isinstance(future, AsyncioFuture):
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), inner.get_loop()).result(PATIENCE)
    assert inner.cancelled if isinstance(inner.cancelled, bool) else inner.cancelled()


def test_the_wrapped_one_being_cancelled(make: Any) -> None:
    concurrent_one, aio = make("concurrent"), make("asyncio")
    concurrent_one.inner.cancel()
    aio.inner.get_loop().call_soon_threadsafe(aio.inner.cancel)
    for future in (concurrent_one.given, aio.given):
        with pytest.raises(CancelledError):
            future.result(PATIENCE)
        assert future.cancelled()


def test_cancelling_the_awaiting_task_cancels_what_is_awaited(make: Any) -> None:
    pair = make("concurrent")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pair.given, 0.001)

    asyncio.run(main())
    assert pair.inner.cancelled()


def test_it_is_immutable(open_one: Any) -> None:
    future = open_one.given
    with pytest.raises(NotImplementedError, match="immutable"):
        future.set_result(1)
    with pytest.raises(NotImplementedError, match="immutable"):
        future.set_exception(ValueError())
    with pytest.raises(NotImplementedError, match="manages state internally"):
        future.set_running_or_notify_cancel()
    open_one.finish(1)


def test_each_has_an_identifier_of_its_own(make: Any) -> None:
    one, other = make("ours").given, make("concurrent").given
    assert one.uuid == one.uuid
    assert one.uuid != other.uuid
    assert len({one, other, one}) == 2


def test_nothing_holds_it_once_it_is_done(open_one: Any) -> None:
    """Not the one it wraps, which may live on; and no garbage collection is needed."""
    inner = open_one.inner
    open_one.fail(ValueError("kept"))
    with pytest.raises(ValueError, match="kept"):
        open_one.given.result(PATIENCE)
    if isinstance(open_one.given, AsyncioFuture):  # the loop lets its callback go a moment after
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), inner.get_loop()).result(PATIENCE)
    gone = weakref.ref(open_one.given)
    gc.disable()
    try:
        open_one.given = open_one.finish = open_one.fail = None
        assert gone() is None
    finally:
        gc.enable()
    del inner


# -- by kind -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, 5, "x", object()])
def test_wrong_arguments(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"future must be a concurrent\.futures\.Future"):
        _ = ConcurrentFuture(wrong)
    with pytest.raises(TypeError, match=r"future must be an asyncio\.Future"):
        _ = AsyncioFuture(wrong)
    if wrong is not None:
        with pytest.raises(TypeError, match="exception_value must be an Exception or None"):
            _ = SyncFuture(exception_value=wrong)


def test_a_sync_future() -> None:
    assert SyncFuture(3).result() == 3
    assert SyncFuture().result() is None
    with pytest.raises(KeyError):
        SyncFuture(exception_value=KeyError("k")).result()
    assert SyncFuture(3).done()
    assert not SyncFuture(3).cancel()


def test_a_wrapped_concurrent_future_tells_whether_it_runs() -> None:
    inner: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = ConcurrentFuture(inner)
    assert not future.running()
    inner.set_running_or_notify_cancel()
    assert future.running()
    assert not future.cancel()
    inner.set_result(1)
    assert not future.running()
    assert future.result() == 1


def test_one_of_ours_may_be_wrapped() -> None:
    inner: BaseFuture[int] = BaseFuture()
    future = ConcurrentFuture(inner)
    inner.begin()
    inner.close(4)
    assert future.done()
    assert future.result() == 4


def test_an_asyncio_future_in_its_own_loop() -> None:
    async def main() -> None:
        inner: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future = AsyncioFuture(inner)
        with pytest.raises(RuntimeError, match="await it"):
            future.result()
        with pytest.raises(RuntimeError, match="await it"):
            future.exception()
        with pytest.raises(TimeoutError, match="Future did not complete within timeout"):
            future.result(timeout=0.001)
        got: list[Any] = []
        inner.set_result(6)
        future.add_done_callback(got.append)  # the loop has not told yet, but it is done
        assert got == [future]
        assert future.done()
        assert future.result() == 6
        assert await future == 6

    asyncio.run(main())


def test_a_task() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 8

    async def main() -> None:
        task = asyncio.get_running_loop().create_task(work())
        assert await AsyncioFuture(task) == 8
        task = asyncio.get_running_loop().create_task(work())
        future = AsyncioFuture(task)
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_an_asyncio_future_of_a_loop_that_does_not_run() -> None:
    loop = asyncio.new_event_loop()
    first, second, third = (loop.create_future() for _ in range(3))
    futures = [AsyncioFuture(inner) for inner in (first, second)]
    first.set_result(1)
    assert asyncio.run(asyncio.wait_for(futures[0], PATIENCE)) == 1
    assert futures[0].result() == 1
    assert futures[1].cancel()
    assert second.cancelled()
    loop.close()
    with pytest.raises(RuntimeError, match="event loop is closed"):
        _ = AsyncioFuture(third)
    assert AsyncioFuture(first).result() == 1


def test_an_asyncio_future_says_when_its_time_is_over(make: Any) -> None:
    pair = make("asyncio")
    with pytest.raises(TimeoutError, match="Future did not complete within timeout"):
        pair.given.result(timeout=0.001)
    pair.finish(1)


def test_a_ray_future_needs_ray_and_an_object_ref(fake_ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from concurry.futures import RayFuture

    with pytest.raises(TypeError, match=r"must be a ray\.ObjectRef"):
        _ = RayFuture("x")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match="pip install ray"):
        _ = RayFuture("x")


# -- wrap_future -------------------------------------------------------------------------------------------------------


def test_wrap_future_of_every_kind(open_any: Any) -> None:
    future = wrap_future(open_any.given)
    if isinstance(open_any.given, BaseFuture):
        assert future is open_any.given
    assert isinstance(future, BaseFuture)
    open_any.finish(2)
    assert future.result(PATIENCE) == 2


def test_wrap_future_of_anything_else_is_done() -> None:
    class LooksLikeOne:
        def result(self) -> int:
            raise AssertionError

        def done(self) -> bool:
            raise AssertionError

    for value in (None, 3, "x", [1], LooksLikeOne(), LooksLikeOne):
        future = wrap_future(value)
        assert type(future) is SyncFuture
        assert future.result() is value


def test_wrap_future_schedules_a_coroutine() -> None:
    async def work() -> int:
        return 9

    with pytest.raises(RuntimeError, match=r"Cannot schedule coroutine .*no running event loop"):
        _ = wrap_future(work())

    async def main() -> int:
        future = wrap_future(work())
        assert isinstance(future, AsyncioFuture)
        return await future

    assert asyncio.run(main()) == 9


# -- races -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["concurrent", "asyncio"])
def test_the_end_races_with_wrapping_cancelling_and_waiting(kind: str, make: Any) -> None:
    for round_ in range(30):
        pair, start = make("raw " + kind), threading.Barrier(3)

        def end(pair: Any = pair, start: threading.Barrier = start, value: int = round_) -> None:
            start.wait(PATIENCE)
            with contextlib.suppress(asyncio.InvalidStateError, concurrent.futures.InvalidStateError):
                pair.finish(value)  # unless it was cancelled before

        def cancel(pair: Any = pair, start: threading.Barrier = start) -> None:
            start.wait(PATIENCE)
            wrap_future(pair.given).cancel()

        threads = [threading.Thread(target=end), threading.Thread(target=cancel)]
        for thread in threads:
            thread.start()
        start.wait(PATIENCE)
        future = wrap_future(pair.given)
        try:
            assert future.result(PATIENCE) == round_
        except CancelledError:
            assert future.cancelled()
        for thread in threads:
            thread.join(PATIENCE)
