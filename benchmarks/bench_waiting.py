"""Waiting for many futures, beside the standard library's ways of doing it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

from benchmarks._beside import median_seconds, pairs, row, seconds
from concurry.futures import BaseFuture, SyncFuture
from concurry.waiting import as_completed, gather, wait
from concurry.waiting_async import async_gather


def rows(quick: bool) -> list[dict[str, Any]]:
    """See `run.py`."""
    many, repeat = (4_000, 3) if quick else (20_000, 7)
    done: list[BaseFuture[int]] = [SyncFuture(1) for _ in range(1_000)]
    result = [
        row(
            "gather of 1,000 done futures",
            1e3 * median_seconds(lambda: gather(done), repeat=5 * repeat),
            unit="ms",
            better="lower",
            at_least=1.0,
            aim=0.25,
        )
    ]
    sides: list[tuple[str, Callable[[Any], object], Callable[[Any], object]]] = [
        ("gather beside wait", gather, concurrent.futures.wait),
        ("wait beside wait", wait, concurrent.futures.wait),
        (
            "as_completed beside as_completed",
            lambda futures: [future.result() for future in as_completed(futures)],
            lambda futures: [future.result() for future in concurrent.futures.as_completed(futures)],
        ),
    ]
    for name, ours, other in sides:
        pair = pairs(lambda: _ours(many, ours), lambda: _theirs(many, other), repeat=repeat)  # noqa: B023
        result.append(
            row(f"{name}, {many:,} futures that a thread ends", pair, unit="s", better="lower", at_least=1.0, aim=0.3)
        )
    pair = pairs(
        lambda: seconds(lambda: asyncio.run(_async_ours(many))),
        lambda: seconds(lambda: asyncio.run(_async_theirs(many))),
        repeat=repeat,
    )
    result.append(
        row(
            f"async_gather beside asyncio.gather of wrap_future, {many:,} futures",
            pair,
            unit="s",
            better="lower",
            at_least=1.0,
            aim=0.3,
        )
    )
    pair = pairs(
        lambda: seconds(lambda: asyncio.run(_tasks(async_gather, many))),
        lambda: seconds(lambda: asyncio.run(_tasks(_asyncio_gather, many))),
        repeat=repeat,
    )
    result.append(
        row(
            f"async_gather beside asyncio.gather, {many:,} coroutines",
            pair,
            unit="s",
            better="lower",
            at_least=2.0,
            aim=1.25,
        )
    )
    return result


def _ours(many: int, waiting: Callable[[Any], object]) -> float:
    futures: list[BaseFuture[int]] = [BaseFuture() for _ in range(many)]
    return _ended_meanwhile(lambda: waiting(futures), lambda: _end_ours(futures))


def _theirs(many: int, waiting: Callable[[Any], object]) -> float:
    futures: list[concurrent.futures.Future[int]] = [concurrent.futures.Future() for _ in range(many)]
    return _ended_meanwhile(lambda: waiting(futures), lambda: _end_theirs(futures))


def _ended_meanwhile(waiting: Callable[[], object], end: Callable[[], object]) -> float:
    """Seconds until all is over, where a thread begins to end the futures at the moment the wait begins."""
    begin = threading.Event()

    def ending() -> None:
        begin.wait()
        end()

    thread = threading.Thread(target=ending)
    thread.start()

    def both() -> None:
        begin.set()
        waiting()
        thread.join()

    return seconds(both)


def _end_ours(futures: list[BaseFuture[int]]) -> None:
    for future in futures:
        future.begin()
        future.close(1)


def _end_theirs(futures: list[concurrent.futures.Future[int]]) -> None:
    for future in futures:
        future.set_running_or_notify_cancel()
        future.set_result(1)


async def _async_ours(many: int) -> None:
    futures: list[BaseFuture[int]] = [BaseFuture() for _ in range(many)]
    threading.Thread(target=_end_ours, args=(futures,)).start()
    await async_gather(futures)


async def _async_theirs(many: int) -> None:
    futures: list[concurrent.futures.Future[int]] = [concurrent.futures.Future() for _ in range(many)]
    threading.Thread(target=_end_theirs, args=(futures,)).start()
    await asyncio.gather(*map(asyncio.wrap_future, futures))


async def _nothing() -> None:
    await asyncio.sleep(0)


async def _asyncio_gather(coroutines: list[Any]) -> Any:
    return await asyncio.gather(*coroutines)


async def _tasks(gathering: Callable[[list[Any]], Any], many: int) -> None:
    await gathering([_nothing() for _ in range(many)])
