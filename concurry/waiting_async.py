"""`async_wait` and `async_gather`: the twins of `wait` and `gather` for coroutines.

Guarantees: as in `waiting`; the event loop is never blocked, and is woken once for many futures. Coroutines and other
awaitables among the items become tasks of the running loop.
What is cancelled, and what goes on:

    the awaiting task is cancelled   async_gather cancels whatever is not done, and ends when its tasks have ended, as
                                     asyncio.gather does; async_wait cancels only the tasks it made of coroutines
    the time is over                 async_gather cancels the tasks it made of coroutines, since nobody else knows them;
                                     everything else goes on. async_wait cancels nothing, and returns its tasks
    one has failed                   everything else goes on, as with asyncio.gather
    an iteration is left early       as when the time is over

Called by: users.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from concurry.runtime import waits
from concurry.runtime.enums import ReturnWhen
from concurry.runtime.foreign import AsyncioFuture
from concurry.runtime.future import BaseFuture
from concurry.runtime.hooks import Countdown, Stops, add_hooks, drop_hooks, failed, outcome, raised
from concurry.waiting_each import Unfinished
from concurry.waiting_items import (
    NOTHING,
    Futures,
    Items,
    Progress,
    Reporter,
    ending_of,
    first_failed,
    reporter_of,
    satisfied,
    sets_of,
)

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future
    from typing import Unpack

    from concurry.waiting_items import Waiting

T = TypeVar("T")
K = TypeVar("K")
F = TypeVar("F", bound="Future[Any] | asyncio.Future[Any]")


@overload
async def async_wait(
    fs: Mapping[Any, F], *, return_when: ReturnWhen | str = ..., **how: Unpack[Waiting]
) -> tuple[set[F], set[F]]: ...
@overload
async def async_wait(
    fs: Iterable[F], *, return_when: ReturnWhen | str = ..., **how: Unpack[Waiting]
) -> tuple[set[F], set[F]]: ...
@overload
async def async_wait(
    fs: F, *more: F, return_when: ReturnWhen | str = ..., **how: Unpack[Waiting]
) -> tuple[set[F], set[F]]: ...
@overload
async def async_wait(
    fs: Any, *more: Any, return_when: ReturnWhen | str = ..., recurse: bool = ..., **how: Unpack[Waiting]
) -> tuple[set[Any], set[Any]]: ...
async def async_wait(
    fs: Any = NOTHING,
    *more: Any,
    timeout: float | None = None,  # noqa: ASYNC109  # as `wait` has it
    return_when: ReturnWhen | str = ReturnWhen.ALL_COMPLETED,
    progress: Progress = None,
    recurse: bool = False,
    polling: object = None,
) -> tuple[set[Any], set[Any]]:
    """Wait for futures to end, without blocking the event loop.

    Args:
        fs, more: what `wait` takes, coroutines, tasks and other awaitables; a coroutine becomes a task of this loop.
        timeout: seconds to wait at most; None waits as long as it takes.
        return_when, progress, recurse, polling: as for `wait`.

    Returns:
        (done, not_done), as `wait` does; in place of a coroutine stands its task. Past the timeout nothing is
        cancelled.

    Raises:
        asyncio.CancelledError: the awaiting task was cancelled. The tasks made here of coroutines are cancelled then,
            since nobody else knows them; nothing else is.
        TypeError, ValueError: as `wait` does.
    """
    import asyncio

    when = ReturnWhen(return_when)
    items = Items("async_wait", fs, more, timeout, recurse=recurse, in_loop=True)
    report: Reporter | None = None
    ending: bool | None = False
    try:
        leaves = items.unique()
        report = reporter_of("async_wait", progress, len(leaves))
        pending = items.pending()
        if report is not None:
            report.at(len(leaves) - len(pending))
        if pending and not satisfied(when, leaves):
            stops = {ReturnWhen.FIRST_COMPLETED: _any, ReturnWhen.FIRST_EXCEPTION: raised}.get(when)
            with waits.waiting(pending, awaits=True, every=stops is None) as broken:
                if report is not None:
                    await _follow(pending, items.deadline, report, len(leaves), stops or broken)
                else:
                    await _until(pending, items.deadline, stops or broken)
        ending = ending_of(when, leaves)
        return sets_of(items, leaves)
    except asyncio.CancelledError:
        items.cancel_tasks()
        raise
    finally:
        if report is not None:
            report.end(ending)
        items.let_go()


# A Mapping is an Iterable of its keys too: the checkers take the first that fits.
@overload
async def async_gather(  # type: ignore[overload-overlap]
    fs: Mapping[K, Awaitable[T]],
    *,
    iter: Literal[False] = ...,
    return_exceptions: Literal[False] = ...,
    **how: Unpack[Waiting],
) -> dict[K, T]: ...
@overload
async def async_gather(  # type: ignore[overload-overlap]
    fs: Mapping[K, Awaitable[T]],
    *,
    iter: Literal[False] = ...,
    return_exceptions: Literal[True],
    **how: Unpack[Waiting],
) -> dict[K, T | BaseException]: ...
@overload
async def async_gather(  # type: ignore[overload-overlap]
    fs: Mapping[K, Awaitable[T]],
    *,
    iter: Literal[True],
    return_exceptions: Literal[False] = ...,
    **how: Unpack[Waiting],
) -> AsyncGenerator[tuple[K, T], None]: ...
@overload
async def async_gather(  # type: ignore[overload-overlap]
    fs: Mapping[K, Awaitable[T]], *, iter: Literal[True], return_exceptions: Literal[True], **how: Unpack[Waiting]
) -> AsyncGenerator[tuple[K, T | BaseException], None]: ...
@overload
async def async_gather(
    fs: Iterable[Awaitable[T]],
    *,
    iter: Literal[False] = ...,
    return_exceptions: Literal[False] = ...,
    **how: Unpack[Waiting],
) -> list[T]: ...
@overload
async def async_gather(
    fs: Iterable[Awaitable[T]],
    *,
    iter: Literal[False] = ...,
    return_exceptions: Literal[True],
    **how: Unpack[Waiting],
) -> list[T | BaseException]: ...
@overload
async def async_gather(
    fs: Iterable[Awaitable[T]],
    *,
    iter: Literal[True],
    return_exceptions: Literal[False] = ...,
    **how: Unpack[Waiting],
) -> AsyncGenerator[tuple[int, T], None]: ...
@overload
async def async_gather(
    fs: Iterable[Awaitable[T]], *, iter: Literal[True], return_exceptions: Literal[True], **how: Unpack[Waiting]
) -> AsyncGenerator[tuple[int, T | BaseException], None]: ...
@overload
async def async_gather(
    fs: Awaitable[T],
    *more: Awaitable[T],
    iter: Literal[False] = ...,
    return_exceptions: Literal[False] = ...,
    **how: Unpack[Waiting],
) -> list[T]: ...
@overload
async def async_gather(
    fs: Any, *more: Any, iter: bool = ..., return_exceptions: bool = ..., recurse: bool = ..., **how: Unpack[Waiting]
) -> Any: ...
async def async_gather(
    fs: Any = NOTHING,
    *more: Any,
    return_exceptions: bool = False,
    iter: bool = False,
    timeout: float | None = None,  # noqa: ASYNC109  # as `gather` has it
    progress: Progress = None,
    recurse: bool = False,
    polling: object = None,
) -> Any:
    """The results of futures, awaited without blocking the event loop.

    Args:
        fs, more: what `gather` takes, and coroutines, tasks and other awaitables; a coroutine becomes a task of this
            loop.
        timeout: seconds to wait at most; None waits as long as it takes.
        return_exceptions, iter, progress, recurse, polling: as for `gather`.

    Returns:
        As `gather` does. With `iter=True` an async iterator:
        `async for key, result in await async_gather(futures, iter=True)`.

    Raises:
        asyncio.CancelledError: the awaiting task was cancelled; whatever is not done is cancelled too, as by
            asyncio.gather. (A worker's call that runs already and cannot be interrupted goes on.)
        TimeoutError: not all were done in time. The tasks made here of coroutines are cancelled; the rest goes on.
        Exception: whatever the first one to fail raised; everything else goes on.
        TypeError, ValueError: as `gather` does.
    """
    items = Items("async_gather", fs, more, timeout, recurse=recurse, in_loop=True)
    fs = more = None  # type: ignore[assignment]
    report: Reporter | None = None
    first: BaseFuture[Any] | None = None
    good = False
    try:
        report = reporter_of("async_gather", progress, len(items.unique()) if progress else 0)
        if iter:
            iteration = _iterate(items, report, return_exceptions)
            report = items = None  # type: ignore[assignment]  # it ends them
            return iteration
        first = await _gather(items, report, return_exceptions)
        if first is not None:
            first.result()
        good = True
        return items.results(outcome)
    finally:
        if report is not None:
            report.end(good)
        if items is not None:
            items.let_go()
        first = items = None  # type: ignore[assignment]  # a traceback must not keep futures alive


async def _gather(items: Items, report: Reporter | None, return_exceptions: bool) -> BaseFuture[Any] | None:
    """Wait for all. Returns the future whose exception is to be raised; None: all are done, and their values good."""
    import asyncio

    pending = items.pending()
    first = None if return_exceptions else first_failed(items.leaves)
    total = len(items.unique()) if report is not None else 0
    if report is not None:
        report.at(total - len(pending))
    if not pending or first is not None:
        return first
    stops = None if return_exceptions else failed
    try:
        with waits.waiting(pending, awaits=True) as broken:
            if report is not None:
                first = await _follow(pending, items.deadline, report, total, stops or broken)
            else:
                first = (await _until(pending, items.deadline, stops or broken)).first
    except asyncio.CancelledError:
        await _cancel(pending)
        raise
    if first is not None:
        return first
    left = sum(not leaf.done() for leaf in pending)
    if left:
        items.cancel_tasks()
        raise items.too_late(left, len(items.unique()))
    return None if return_exceptions else first_failed(pending)  # maybe it failed at the very end of the time


async def _cancel(pending: Futures) -> None:
    """Cancel what is not done, and wait until what belongs to this loop has ended."""
    import asyncio

    here: list[asyncio.Future[Any]] = []
    for leaf in pending:
        if not leaf.done() and leaf.cancel() and isinstance(leaf, AsyncioFuture) and leaf.owner.is_here():
            here.append(leaf.owner.inner)
    if here:
        await asyncio.wait(here)


async def _iterate(
    items: Items, report: Reporter | None, return_exceptions: bool
) -> AsyncGenerator[tuple[Any, Any], None]:
    """`async_gather(iter=True)`. An item that is a container comes when the last future in it has ended."""
    import asyncio

    from concurry.waiting_bell import Arrivals

    unfinished = Unfinished(items)
    remaining = items.unique()
    items.leaves = []
    total = len(remaining)
    future: BaseFuture[Any] | None = None
    good: bool | None = False
    try:
        if report is not None:
            report.at(0)
        for pair in unfinished.finished(None):
            yield pair
        with Arrivals(remaining) as arrivals:
            while remaining:
                with waits.waiting(remaining, awaits=True, every=False):
                    future = await arrivals.next(items.deadline)
                if future is None:
                    items.cancel_tasks()
                    raise items.too_late(len(remaining), total)
                del remaining[future]
                if report is not None:
                    report.at(total - len(remaining))
                if not return_exceptions and failed(future):
                    future.result()
                for pair in unfinished.finished(future):
                    yield pair
                items.forget(future)
                future = None
        good = True
    except (asyncio.CancelledError, GeneratorExit):
        good = None
        items.cancel_tasks()
        raise
    finally:
        if report is not None:
            report.end(good)
        items.let_go()
        future = unfinished = items = None  # type: ignore[assignment]  # a traceback must not keep futures alive


def _any(_: BaseFuture[Any]) -> bool:
    return True


async def _until(futures: Futures, deadline: float | None, stops: Stops | None) -> Countdown:
    """Until all of these pending futures have ended, or one that `stops`, or the deadline has passed."""
    from concurry.waiting_bell import Bell  # here, since it needs asyncio, which not everybody does

    bell = Bell()
    countdown = Countdown(len(futures), bell.ring, stops)
    try:
        add_hooks(futures, countdown)
        await bell.heard(deadline)
    finally:
        drop_hooks(futures, countdown)
    return countdown


async def _follow(
    pending: Futures, deadline: float | None, report: Reporter, total: int, stops: Stops | None
) -> BaseFuture[Any] | None:
    """The same, reporting each. Returns the one that stopped it."""
    from concurry.waiting_bell import Arrivals

    remaining = dict.fromkeys(pending)
    with Arrivals(remaining) as arrivals:
        while remaining:
            future = await arrivals.next(deadline)
            if future is None:
                return None
            del remaining[future]
            report.at(total - len(remaining))
            if stops is not None and stops(future):
                return future
    return None
