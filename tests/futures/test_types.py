"""The types that a checker sees: what is wrong here fails `mypy` and `pyright`, not this run."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncGenerator, Iterator
from typing import Any, assert_type

from concurry.futures import AsyncioFuture, BaseFuture, ConcurrentFuture, SyncFuture, wrap_future
from concurry.waiting import as_completed, gather, wait
from concurry.waiting_async import async_gather, async_wait


async def text() -> str:
    return ""


def test_the_types_of_waiting() -> None:
    one: BaseFuture[str] = SyncFuture("a")
    many: list[BaseFuture[str]] = [one]
    named: dict[int, BaseFuture[str]] = {1: one}
    assert_type(gather(many), list[str])
    assert_type(gather(one, one), list[str])
    assert_type(gather(future for future in many), list[str])
    assert_type(gather(named), dict[int, str])
    assert_type(gather(many, timeout=5, progress=True), list[str])
    assert_type(gather(many, return_exceptions=True), list[str | BaseException])
    assert_type(gather(named, return_exceptions=True), dict[int, str | BaseException])
    assert_type(gather(many, iter=True), Iterator[tuple[int, str]])
    assert_type(gather(named, iter=True), Iterator[tuple[int, str]])
    assert_type(gather(named, iter=True, return_exceptions=True), Iterator[tuple[int, str | BaseException]])
    assert_type(wait(many), tuple[set[BaseFuture[str]], set[BaseFuture[str]]])
    assert_type(wait(named), tuple[set[BaseFuture[str]], set[BaseFuture[str]]])
    two: BaseFuture[str] = BaseFuture()
    assert_type(wait(two, two, timeout=0, return_when="first"), tuple[set[BaseFuture[str]], set[BaseFuture[str]]])
    assert_type(as_completed(many), Iterator[BaseFuture[str]])
    assert_type(one.result(), str)


def test_the_types_of_other_futures() -> None:
    raw: concurrent.futures.Future[int] = concurrent.futures.Future()
    raw.set_result(1)
    assert_type(gather([raw]), list[int])
    assert assert_type(wrap_future(raw), ConcurrentFuture[int]) is not None
    assert assert_type(wrap_future(5), BaseFuture[int]) is not None
    anything: list[Any] = [raw, 5]
    gather(anything)
    gather([raw, 5, None])
    gather([[raw]], recurse=True)


def test_the_types_of_async_waiting() -> None:
    async def main() -> None:
        one: BaseFuture[str] = SyncFuture("a")
        many: list[BaseFuture[str]] = [one]
        named: dict[int, BaseFuture[str]] = {1: one}
        assert_type(await async_gather(many), list[str])
        assert_type(await async_gather(named), dict[int, str])
        assert_type(await async_gather([text(), text()]), list[str])
        assert_type(await async_gather(many, return_exceptions=True), list[str | BaseException])
        assert_type(await async_gather(many, iter=True), AsyncGenerator[tuple[int, str], None])
        assert_type(await async_wait(many), tuple[set[BaseFuture[str]], set[BaseFuture[str]]])
        task = asyncio.get_running_loop().create_task(text())
        assert_type(await async_wait([task]), tuple[set[asyncio.Task[str]], set[asyncio.Task[str]]])
        assert assert_type(wrap_future(task), AsyncioFuture[str]) is not None
        assert assert_type(wrap_future(text()), AsyncioFuture[str]) is not None
        await async_gather(text(), text())

    asyncio.run(main())
