"""What a type checker knows of waiting, and of futures of every kind. Checked in `test_types.py`; never run.

A line that must be an error says so by `# type: ignore`: both checkers report an ignore that nothing needs.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator
from typing import Any, assert_type

from concurry import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    AsyncioFuture,
    BaseFuture,
    ConcurrentFuture,
    ReturnWhen,
    SyncFuture,
    as_completed,
    async_gather,
    async_wait,
    gather,
    wait,
    wrap_future,
)

Futures = list[BaseFuture[str]]


def gathering(fs: Futures, by_name: dict[str, BaseFuture[int]], one: BaseFuture[str]) -> None:
    """A list gives a list, a dict a dict, several arguments a list."""
    assert_type(gather(fs), list[str])
    assert_type(gather(tuple(fs)), list[str])
    assert_type(gather(set(fs)), list[str])
    assert_type(gather(f for f in fs), list[str])
    assert_type(gather(iter(fs)), list[str])
    assert_type(gather(one), list[str])
    assert_type(gather(one, one), list[str])
    assert_type(gather(*fs), list[str])
    assert_type(gather(by_name), dict[str, int])
    assert_type(gather(by_name, timeout=5, progress=True), dict[str, int])
    assert_type(gather(fs, progress={"desc": "prompts"}), list[str])
    assert_type(gather(fs, progress=lambda done, total, elapsed: None), list[str])
    gather(fs, timeout="soon")  # type: ignore[call-overload]
    gather(fs, return_exception=True)  # type: ignore[call-overload]


def gathering_exceptions(fs: Futures, by_name: dict[str, BaseFuture[int]]) -> None:
    """Exceptions stand among the results."""
    assert_type(gather(fs, return_exceptions=True), list[str | BaseException])
    assert_type(gather(by_name, return_exceptions=True), dict[str, int | BaseException])
    good = [it for it in gather(fs, return_exceptions=True) if not isinstance(it, BaseException)]
    assert_type(good, list[str])


def gathering_one_by_one(fs: Futures, by_name: dict[str, BaseFuture[int]]) -> None:
    """With `iter=True` there are pairs, of an index or a key and the result."""
    assert_type(gather(fs, iter=True), Iterator[tuple[int, str]])
    assert_type(gather(by_name, iter=True), Iterator[tuple[str, int]])
    assert_type(gather(fs, iter=True, return_exceptions=True), Iterator[tuple[int, str | BaseException]])
    assert_type(gather(by_name, iter=True, return_exceptions=True), Iterator[tuple[str, int | BaseException]])
    for index, answer in gather(fs, iter=True, timeout=3):
        assert_type(index, int)
        assert_type(answer, str)


def gathering_others(
    standard: list[concurrent.futures.Future[int]], mixed: list[Any], nested: list[list[BaseFuture[int]]]
) -> None:
    """Futures of the standard library have their types too; of anything else the result is not known."""
    assert_type(gather(standard), list[int])
    assert_type(gather({"a": standard[0]}), dict[str, int])
    assert_type(gather(nested, recurse=True), Any)
    assert_type(gather([1, 2, 3]), Any)
    for answer in gather(mixed):
        assert_type(answer, Any)


def waiting(fs: Futures, by_name: dict[str, BaseFuture[int]], one: BaseFuture[str]) -> None:
    """Two sets of what was given."""
    assert_type(wait(fs), tuple[set[BaseFuture[str]], set[BaseFuture[str]]])
    assert_type(wait(one, one), tuple[set[BaseFuture[str]], set[BaseFuture[str]]])
    assert_type(wait(by_name), tuple[set[BaseFuture[int]], set[BaseFuture[int]]])
    done, not_done = wait(fs, timeout=1.5, return_when=FIRST_COMPLETED, progress=True)
    assert_type([future.result() for future in done], list[str])
    assert_type(not_done, set[BaseFuture[str]])
    wait(fs, return_when="first_exception")
    for when in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        assert_type(wait(fs, return_when=when)[0], set[BaseFuture[str]])
        assert_type(ReturnWhen(when), ReturnWhen)
    wait(fs, return_when=1)  # type: ignore[call-overload]
    wait(fs, time_out=1)  # type: ignore[call-overload]


def completing(fs: Futures, by_name: dict[str, BaseFuture[int]]) -> None:
    """The futures themselves."""
    assert_type(as_completed(fs), Iterator[BaseFuture[str]])
    assert_type(as_completed(fs, 5), Iterator[BaseFuture[str]])
    assert_type(as_completed(by_name, timeout=5, progress=True), Iterator[BaseFuture[int]])
    for future in as_completed(fs):
        assert_type(future.result(), str)
    as_completed(fs, timeout="soon")  # type: ignore[call-overload]


async def coroutine() -> int:
    return 1


async def gathering_async(fs: Futures, by_name: dict[str, BaseFuture[int]], one: BaseFuture[str]) -> None:
    """The same, awaited; coroutines and tasks too."""
    task = asyncio.create_task(coroutine())
    assert_type(await async_gather(fs), list[str])
    assert_type(await async_gather(one, one), list[str])
    assert_type(await async_gather(by_name), dict[str, int])
    assert_type(await async_gather([coroutine(), coroutine()]), list[int])
    assert_type(await async_gather([task]), list[int])
    assert_type(await async_gather({"a": task}), dict[str, int])
    assert_type(await async_gather(fs, return_exceptions=True), list[str | BaseException])
    assert_type(await async_gather(by_name, return_exceptions=True), dict[str, int | BaseException])
    assert_type(await async_gather(fs, iter=True), AsyncGenerator[tuple[int, str], None])
    async for key, number in await async_gather(by_name, iter=True):
        assert_type(key, str)
        assert_type(number, int)
    async for _, answer in await async_gather(fs, iter=True, return_exceptions=True):
        assert_type(answer, str | BaseException)
    await async_gather(fs, timeout="soon")  # type: ignore[call-overload]


async def waiting_async(fs: Futures, by_name: dict[str, BaseFuture[int]]) -> None:
    """The same, awaited."""
    assert_type(await async_wait(fs), tuple[set[BaseFuture[str]], set[BaseFuture[str]]])
    assert_type(await async_wait(by_name), tuple[set[BaseFuture[int]], set[BaseFuture[int]]])
    done, _ = await async_wait(fs, timeout=1, return_when=ReturnWhen.FIRST_COMPLETED)
    assert_type([await future for future in done], list[str])
    await async_wait(fs, return_when=1)  # type: ignore[call-overload]


def wrapping(
    ours: BaseFuture[int],
    kind: ConcurrentFuture[int],
    standard: concurrent.futures.Future[str],
    loops: asyncio.Future[bytes],
    task: asyncio.Task[float],
    coro: Coroutine[Any, Any, list[int]],
) -> None:
    """Of every kind of future, one of ours with the same type."""
    assert_type(wrap_future(ours), BaseFuture[int])
    assert_type(wrap_future(kind), BaseFuture[int])
    assert_type(wrap_future(standard), ConcurrentFuture[str])
    assert_type(wrap_future(loops), AsyncioFuture[bytes])
    assert_type(wrap_future(task), AsyncioFuture[float])
    assert_type(wrap_future(coro), AsyncioFuture[list[int]])
    assert_type(wrap_future(5), BaseFuture[int])
    assert_type(wrap_future("text").result(), str)
    assert_type(SyncFuture(5), SyncFuture[int])
    assert_type(ConcurrentFuture(standard), ConcurrentFuture[str])
    assert_type(AsyncioFuture(loops), AsyncioFuture[bytes])
    ConcurrentFuture(5)  # type: ignore[arg-type]
    AsyncioFuture(standard)  # type: ignore[arg-type]
    SyncFuture(exception_value="text")  # type: ignore[arg-type]


def awaitable(future: BaseFuture[int]) -> Generator[Any, Any, int]:
    """A future of ours is a `concurrent.futures.Future`, and an awaitable."""
    standard: concurrent.futures.Future[int] = future
    assert_type(concurrent.futures.wait([standard]).done, set[concurrent.futures.Future[int]])
    assert_type(asyncio.wrap_future(future), asyncio.Future[int])
    assert_type(future.done(), bool)
    assert_type(future.running(), bool)
    assert_type(future.cancelled(), bool)
    assert_type(future.result(timeout=None), int)
    assert_type(future.exception(timeout=1), BaseException | None)
    assert_type(future.uuid, str)
    future.result(timeout="soon")  # type: ignore[arg-type]
    return future.__await__()


async def awaited(future: BaseFuture[int]) -> None:
    """As it is awaited."""
    assert_type(await future, int)
    assert_type(await asyncio.wait_for(future, timeout=1), int)
