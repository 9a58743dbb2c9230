"""Futures: their kinds, what they refuse, and `wrap_future`."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from concurry import AsyncioFuture, BaseFuture, ConcurrentFuture, SyncFuture, Worker, wrap_future


class Echo(Worker):
    def echo(self, value: Any) -> Any:
        return value

    def fail(self, error: Exception) -> Any:
        raise error


def done_ones() -> Iterator[BaseFuture[Any]]:
    inner: concurrent.futures.Future[int] = concurrent.futures.Future()
    inner.set_result(3)
    yield SyncFuture(3)
    yield ConcurrentFuture(inner)

    async def of_a_loop() -> BaseFuture[Any]:
        theirs = asyncio.get_running_loop().create_future()
        theirs.set_result(3)
        return AsyncioFuture(theirs)

    yield asyncio.run(of_a_loop())


@pytest.fixture(params=["SyncFuture", "ConcurrentFuture", "AsyncioFuture"])
def done(request: pytest.FixtureRequest) -> BaseFuture[Any]:
    """A future of each kind that has its result, 3."""
    return next(it for it in done_ones() if type(it).__name__ == request.param)


def test_a_sync_future_has_a_result_or_an_exception() -> None:
    assert SyncFuture(result_value=5).result() == 5
    assert SyncFuture().result() is None
    error = ValueError("no")
    assert SyncFuture(exception_value=error).exception() is error
    with pytest.raises(ValueError, match="no"):
        SyncFuture(None, error).result()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SyncFuture(exception_value="no"), "exception_value must be an Exception or None"),  # type: ignore[arg-type]
        (lambda: ConcurrentFuture(5), "future must be a concurrent.futures.Future"),  # type: ignore[arg-type]
        (lambda: AsyncioFuture(5), "future must be an asyncio.Future"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_argument(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def test_arguments_by_name() -> None:
    inner: concurrent.futures.Future[int] = concurrent.futures.Future()
    assert ConcurrentFuture(concurrent_future=inner).done() is False

    async def main() -> None:
        assert AsyncioFuture(asyncio_future=asyncio.get_running_loop().create_future()).done() is False

    asyncio.run(main())


def test_each_has_a_uuid(done: BaseFuture[Any]) -> None:
    assert isinstance(done.uuid, str)
    assert done.uuid == done.uuid != SyncFuture(3).uuid


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("sync", SyncFuture), ("thread", ConcurrentFuture), ("process", ConcurrentFuture), ("asyncio", ConcurrentFuture)],
)
def test_worker_futures_by_mode(mode: str, kind: type) -> None:
    with Echo.options(mode=mode).init() as echo:
        future = echo.echo(3)
        assert type(future) is kind or (mode == "process" and isinstance(future, kind))
        assert future.result() == 3


@pytest.mark.parametrize("mode", ["sync", "thread", "process", "asyncio"])
def test_worker_futures_are_the_standard_librarys(mode: str) -> None:
    with Echo.options(mode=mode).init() as echo:
        future = echo.echo(3)
        assert isinstance(future, concurrent.futures.Future)
        assert concurrent.futures.wait([future]).done == {future}
        assert list(concurrent.futures.as_completed([future])) == [future]


def test_wrap_future_of_ours_is_itself(done: BaseFuture[Any]) -> None:
    assert wrap_future(done) is done


def test_wrap_future_of_a_concurrent_one() -> None:
    inner: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = wrap_future(inner)
    assert type(future) is ConcurrentFuture
    inner.set_result(3)
    assert future.result() == 3


def test_wrap_future_of_an_asyncio_future_and_task() -> None:
    async def three() -> int:
        return 3

    async def main() -> None:
        theirs = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(three())
        assert type(wrap_future(theirs)) is type(wrap_future(task)) is AsyncioFuture
        theirs.set_result(4)
        assert (await wrap_future(theirs), await wrap_future(task)) == (4, 3)

    asyncio.run(main())


def test_wrap_future_of_a_coroutine_schedules_it() -> None:
    async def three() -> int:
        return 3

    async def main() -> None:
        future = wrap_future(three())
        assert type(future) is AsyncioFuture
        assert await future == 3

    asyncio.run(main())


def test_wrap_future_of_a_coroutine_without_a_loop() -> None:
    async def three() -> int:
        return 3

    with pytest.raises(RuntimeError, match=r"Cannot schedule coroutine.*no running event loop"):
        wrap_future(three())


class Alike:
    """Has what a future has, and is none."""

    def result(self) -> int:
        return 5

    def done(self) -> bool:
        return False


@pytest.mark.parametrize(
    "value", [3, None, "text", [1, 2], {"a": 1}, ValueError("a value"), Alike()], ids=lambda it: type(it).__name__
)
def test_wrap_future_of_anything_else_is_done(value: Any) -> None:
    future = wrap_future(value)
    assert type(future) is SyncFuture
    assert future.done()
    assert future.result() is value


@pytest.mark.parametrize("setter", ["set_result", "set_exception"])
def test_setting_an_outcome(done: BaseFuture[Any], setter: str) -> None:
    with pytest.raises(NotImplementedError, match="immutable"):
        getattr(done, setter)(ValueError("no"))


def test_setting_that_it_runs(done: BaseFuture[Any]) -> None:
    with pytest.raises(NotImplementedError, match="manages state internally"):
        done.set_running_or_notify_cancel()


def test_a_callback_of_a_done_one_runs_at_once_and_gets_our_future(done: BaseFuture[Any]) -> None:
    seen: list[Any] = []
    done.add_done_callback(seen.append)
    assert seen == [done]


def test_a_done_one_is_not_cancelled(done: BaseFuture[Any]) -> None:
    assert done.cancel() is False
    assert (done.cancelled(), done.done(), done.running()) == (False, True, False)


def test_the_errors_are_the_standard_ones() -> None:
    inner: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = wrap_future(inner)
    with pytest.raises(builtins.TimeoutError):
        future.result(timeout=0)
    with pytest.raises(builtins.TimeoutError):
        future.exception(timeout=0)
    assert future.cancel()
    for ask in (future.result, future.exception):
        with pytest.raises(concurrent.futures.CancelledError):
            ask()


def test_an_asyncio_future_past_its_time() -> None:
    async def main() -> None:
        future = AsyncioFuture(asyncio.get_running_loop().create_future())
        with pytest.raises(TimeoutError, match="Future did not complete within timeout"):
            future.result(timeout=0)

    asyncio.run(main())


def test_a_future_is_hashable_and_has_no_order(done: BaseFuture[Any]) -> None:
    assert {done: 1}[done] == 1
    assert done != SyncFuture(3)
    with pytest.raises(TypeError):
        _ = done < SyncFuture(3)  # type: ignore[operator]


@pytest.mark.parametrize("mode", ["sync", "thread", "process", "asyncio"])
def test_it_is_awaited_from_any_loop(mode: str) -> None:
    async def main(future: BaseFuture[Any]) -> Any:
        return await future

    with Echo.options(mode=mode).init() as echo:
        future = echo.echo(3)
        assert asyncio.run(main(future)) == asyncio.run(main(future)) == 3


@pytest.mark.parametrize("mode", ["sync", "thread", "process", "asyncio"])
def test_asyncio_takes_it(mode: str) -> None:
    async def main(future: BaseFuture[Any]) -> Any:
        return await asyncio.wait_for(asyncio.wrap_future(future), None)

    with Echo.options(mode=mode).init() as echo:
        assert asyncio.run(main(echo.echo(3))) == 3


@pytest.mark.parametrize("mode", ["sync", "thread", "process", "asyncio"])
def test_the_exception_of_a_method(mode: str) -> None:
    with Echo.options(mode=mode).init() as echo:
        future = echo.fail(KeyError("gone"))
        assert isinstance(future.exception(), KeyError)
        with pytest.raises(KeyError, match="gone"):
            future.result()
