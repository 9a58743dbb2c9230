"""`wait`, `gather` and `as_completed`: waiting for many futures, of every kind and mixed.

Guarantees: nothing polls. The thread sleeps until a future ends that matters; a KeyboardInterrupt comes out at once; no
hook is left behind. Inside an actor, a wait that could never end raises `DeadlockError`.
Assumes: `waiting_items` has sorted out what was given; `concurry.runtime.hooks` blocks.
Called by: users. The async twins are in `waiting_async`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

from concurry.runtime import waits
from concurry.runtime.enums import ReturnWhen
from concurry.runtime.foreign import AsyncioFuture
from concurry.runtime.future import BaseFuture
from concurry.runtime.hooks import Stops, failed, outcome, raised, wait_for_all, wait_until
from concurry.waiting_async import async_gather as async_gather
from concurry.waiting_async import async_wait as async_wait
from concurry.waiting_each import as_given, ended, iterate
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

ALL_COMPLETED = ReturnWhen.ALL_COMPLETED
"""For `return_when`: when all have ended."""
FIRST_COMPLETED = ReturnWhen.FIRST_COMPLETED
"""For `return_when`: when one has ended."""
FIRST_EXCEPTION = ReturnWhen.FIRST_EXCEPTION
"""For `return_when`: when one has failed, or all have ended."""

T = TypeVar("T")
K = TypeVar("K")
F = TypeVar("F", bound="Future[Any] | asyncio.Future[Any]")
AnyFuture: TypeAlias = "Future[T] | asyncio.Future[T]"


@overload
def wait(
    fs: Mapping[Any, F], *, return_when: ReturnWhen | str = ..., **how: Unpack[Waiting]
) -> tuple[set[F], set[F]]: ...
@overload
def wait(fs: Iterable[F], *, return_when: ReturnWhen | str = ..., **how: Unpack[Waiting]) -> tuple[set[F], set[F]]: ...
@overload
def wait(fs: F, *more: F, return_when: ReturnWhen | str = ..., **how: Unpack[Waiting]) -> tuple[set[F], set[F]]: ...
@overload
def wait(
    fs: Any, *more: Any, return_when: ReturnWhen | str = ..., recurse: bool = ..., **how: Unpack[Waiting]
) -> tuple[set[Any], set[Any]]: ...
def wait(
    fs: Any = NOTHING,
    *more: Any,
    timeout: float | None = None,
    return_when: ReturnWhen | str = ALL_COMPLETED,
    progress: Progress = None,
    recurse: bool = False,
    polling: object = None,
) -> tuple[set[Any], set[Any]]:
    """Wait for futures to end.

    Args:
        fs: a list, tuple, set, generator or other iterable of futures; a dict, for its values; or one future.
        more: more futures, where `fs` is one.
        timeout: seconds to wait at most; None waits as long as it takes.
        return_when: `ALL_COMPLETED`; `FIRST_COMPLETED`: when one has ended; `FIRST_EXCEPTION`: when one has failed
            (being cancelled is not failing), or all have ended. The names as text are taken too.
        progress: True, or a dict of ProgressBar options; or a function, called with (completed, total, elapsed seconds)
            in this thread, at the beginning and whenever one more is done.
        recurse: also wait for the futures in containers among the items.
        polling: ignored; nothing polls.

    Returns:
        (done, not_done): two sets of the futures as they were given. A plain value counts as done, and stands there as
        a done future. Past the timeout, what is not done is in the second.

    Raises:
        TypeError: nothing at all was given. (An empty list is fine.)
        ValueError: a structure *and* further arguments.
        RuntimeError: an asyncio future of the very loop that this call would block: use `async_wait`.
        DeadlockError: it could never end.
    """
    when = ReturnWhen(return_when)
    items = Items("wait", fs, more, timeout, recurse=recurse)
    try:
        leaves = items.unique()
        report = reporter_of("wait", progress, len(leaves))
        pending = items.pending()
        ending: bool | None = False
        try:
            if report is not None:
                report.at(len(leaves) - len(pending))
            if pending and not satisfied(when, leaves):
                _wait(when, items, pending, report, len(leaves))
            ending = ending_of(when, leaves)
        finally:
            if report is not None:
                report.end(ending)
        return sets_of(items, leaves)
    finally:
        items.let_go()


def _wait(when: ReturnWhen, items: Items, pending: Futures, report: Reporter | None, total: int) -> None:
    deadline = items.deadline
    _refuse_own_loop(items, pending, every=when is ALL_COMPLETED)
    # In an actor one by one, since with each that has ended the others may turn out to wait for it.
    if report is not None or (when is FIRST_EXCEPTION and waits.here.member is not None):
        remaining = dict.fromkeys(pending)
        for future in ended(remaining, deadline):
            del remaining[future]
            if report is not None:
                report.at(total - len(remaining))
            if when is FIRST_COMPLETED or (when is FIRST_EXCEPTION and raised(future)):
                return
    elif when is ALL_COMPLETED:
        with waits.waiting(pending) as broken:
            _wait_for_all(pending, deadline, broken)
    elif when is FIRST_COMPLETED:
        with waits.waiting(pending, every=False):
            wait_until(pending, 1, deadline)
    else:
        wait_until(pending, len(pending), deadline, raised)


def _wait_for_all(pending: Futures, deadline: float | None, broken: Stops | None) -> None:
    if broken is None:
        wait_for_all(pending, deadline)
    else:
        wait_until(pending, len(pending), deadline, broken)


# A Mapping is an Iterable of its keys too: the checkers take the first that fits.
@overload
def gather(  # type: ignore[overload-overlap]
    fs: Mapping[K, AnyFuture[T]],
    *,
    iter: Literal[False] = ...,
    return_exceptions: Literal[False] = ...,
    **how: Unpack[Waiting],
) -> dict[K, T]: ...
@overload
def gather(  # type: ignore[overload-overlap]
    fs: Mapping[K, AnyFuture[T]],
    *,
    iter: Literal[False] = ...,
    return_exceptions: Literal[True],
    **how: Unpack[Waiting],
) -> dict[K, T | BaseException]: ...
@overload
def gather(  # type: ignore[overload-overlap]
    fs: Mapping[K, AnyFuture[T]],
    *,
    iter: Literal[True],
    return_exceptions: Literal[False] = ...,
    **how: Unpack[Waiting],
) -> Iterator[tuple[K, T]]: ...
@overload
def gather(  # type: ignore[overload-overlap]
    fs: Mapping[K, AnyFuture[T]], *, iter: Literal[True], return_exceptions: Literal[True], **how: Unpack[Waiting]
) -> Iterator[tuple[K, T | BaseException]]: ...
@overload
def gather(
    fs: Iterable[AnyFuture[T]],
    *,
    iter: Literal[False] = ...,
    return_exceptions: Literal[False] = ...,
    **how: Unpack[Waiting],
) -> list[T]: ...
@overload
def gather(
    fs: Iterable[AnyFuture[T]], *, iter: Literal[False] = ..., return_exceptions: Literal[True], **how: Unpack[Waiting]
) -> list[T | BaseException]: ...
@overload
def gather(
    fs: Iterable[AnyFuture[T]], *, iter: Literal[True], return_exceptions: Literal[False] = ..., **how: Unpack[Waiting]
) -> Iterator[tuple[int, T]]: ...
@overload
def gather(
    fs: Iterable[AnyFuture[T]], *, iter: Literal[True], return_exceptions: Literal[True], **how: Unpack[Waiting]
) -> Iterator[tuple[int, T | BaseException]]: ...
@overload
def gather(
    fs: AnyFuture[T],
    *more: AnyFuture[T],
    iter: Literal[False] = ...,
    return_exceptions: Literal[False] = ...,
    **how: Unpack[Waiting],
) -> list[T]: ...
@overload
def gather(
    fs: Any, *more: Any, iter: bool = ..., return_exceptions: bool = ..., recurse: bool = ..., **how: Unpack[Waiting]
) -> Any: ...
def gather(
    fs: Any = NOTHING,
    *more: Any,
    return_exceptions: bool = False,
    iter: bool = False,
    timeout: float | None = None,
    progress: Progress = None,
    recurse: bool = False,
    polling: object = None,
) -> Any:
    """The results of futures, waited for.

    Args:
        fs: a list, tuple, set, generator or other iterable of futures; a dict of them; or one future.
        more: more futures, where `fs` is one.
        return_exceptions: an exception takes the place of the result. Without it, the first one that happens is raised
            at once, be the others done or not (of those that have happened before the call, the first in order).
        iter: return an iterator of `(index or key, result)`, in the order in which they end. It keeps no result.
        timeout: seconds to wait at most, from now; None waits as long as it takes.
        progress: True, or a dict of ProgressBar options; or a function, called with (completed, total, elapsed seconds)
            in this thread, at the beginning and whenever one more is done.
        recurse: also wait for the futures in lists, tuples, sets and dicts among the items; such an item's result is a
            container of the same kind.
        polling: ignored; nothing polls.

    Returns:
        A list in the given order, or a dict with the same keys in the same order. A plain value is its own result.

    Raises:
        TimeoutError: not all were done in time. The others go on, here as after an exception.
        Exception: whatever the first future to fail raised; `CancelledError` where it was cancelled.
        TypeError: nothing at all was given. (Of an empty list the result is an empty list.)
        ValueError: a structure *and* further arguments.
        RuntimeError: an asyncio future of the very loop that this call would block: use `async_gather`.
        DeadlockError: it could never end.
    """
    items = Items("gather", fs, more, timeout, recurse=recurse)
    fs = more = None  # type: ignore[assignment]
    if iter:
        _refuse_own_loop(items, items.pending())
        report = reporter_of("gather", progress, len(items.unique()))
        return iterate(items, report, return_exceptions)
    first: BaseFuture[Any] | None = None
    try:
        first = _gather(items, progress, return_exceptions)
        if first is not None:
            first.result()
        return items.results(outcome)
    finally:
        items.let_go()
        first = items = None  # type: ignore[assignment]  # a traceback must not keep futures alive


def _gather(items: Items, progress: Progress, return_exceptions: bool) -> BaseFuture[Any] | None:
    """Wait for all. Returns the future whose exception is to be raised; None: all are done, and their values good."""
    leaves = items.leaves
    pending = items.pending()
    first = None if return_exceptions else first_failed(leaves)
    total = len(items.unique()) if progress else 0
    report = reporter_of("gather", progress, total)
    good = False
    try:
        if report is not None:
            report.at(total - len(pending))
        if pending and first is None:
            _refuse_own_loop(items, pending)
            with waits.waiting(pending) as broken:
                if report is not None:
                    first = _follow(pending, items.deadline, report, total, return_exceptions)
                elif return_exceptions:
                    _wait_for_all(pending, items.deadline, broken)
                else:
                    first = wait_until(pending, len(pending), items.deadline, failed).first
            if first is None:
                left = sum(not leaf.done() for leaf in pending)
                if left:
                    raise items.too_late(left, len(items.unique()))
                if not return_exceptions:
                    first = first_failed(pending)  # it failed at the very end of the time
        good = first is None
    finally:
        if report is not None:
            report.end(good)
    return first


def _follow(
    pending: Futures, deadline: float | None, report: Reporter, total: int, return_exceptions: bool
) -> BaseFuture[Any] | None:
    remaining = dict.fromkeys(pending)
    for future in ended(remaining, deadline):
        del remaining[future]
        report.at(total - len(remaining))
        if not return_exceptions and failed(future):
            return future
    return None


@overload
def as_completed(
    fs: Mapping[Any, F], timeout: float | None = ..., *, progress: Progress = ..., polling: object = ...
) -> Iterator[F]: ...
@overload
def as_completed(
    fs: Iterable[F], timeout: float | None = ..., *, progress: Progress = ..., polling: object = ...
) -> Iterator[F]: ...
@overload
def as_completed(
    fs: Any, timeout: float | None = ..., *, progress: Progress = ..., recurse: bool = ..., polling: object = ...
) -> Iterator[Any]: ...
def as_completed(
    fs: Any,
    timeout: float | None = None,
    *,
    progress: Progress = None,
    recurse: bool = False,
    polling: object = None,
) -> Iterator[Any]:
    """Iterate over futures in the order in which they end; those that are done already come first.

    Args:
        fs: an iterable of futures, or a dict, for its values. One given twice comes once.
        timeout: seconds in all, from now; None waits as long as it takes.
        progress, recurse, polling: as for `wait`.

    Returns:
        An iterator of the futures as they were given; a plain value comes as a done future. It keeps none.

    Raises:
        TimeoutError: from the iterator, when the time is over; it says how many were done, and the others go on.
        DeadlockError: from the iterator, when none of the others could ever end.
        RuntimeError: an asyncio future of the very loop that this call would block.
    """
    items = Items("as_completed", fs, (), timeout, recurse=recurse)
    _refuse_own_loop(items, items.pending())
    report = reporter_of("as_completed", progress, len(items.unique()))
    return as_given(items, report)


def _refuse_own_loop(items: Items, pending: Futures, *, every: bool = True) -> None:
    """Raise where blocking would stop for ever the loop that must end what is waited for. `every`: all must end."""
    if items.deadline is not None:
        return
    ours = [leaf for leaf in pending if isinstance(leaf, AsyncioFuture)]
    if ours and (every or len(ours) == len(pending)):
        for leaf in ours if every else ours[-1:]:
            leaf.refuse_in_own_loop(f"use `await {items.twin}(...)`")
