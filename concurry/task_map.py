"""`map`: a function over iterables, in many calls, the results in order.

    items (or chunks of them) --at once, or as room is--> calls --> results, one by one, in order
            '<-------- one more for each that was taken --------'

Guarantees: the calls begin at the line of `map`. Where every iterable has a length, the mailbox has no bound and no
`buffersize` is said, all calls are submitted at once, as by the standard library. Else no more than `buffersize` are
open at one time, and an iterable is read no further than that: it may be endless. An item that fails, or an iterable
that does, raises at its place, after the results before it; with `return_exceptions` the exception of an item stands
there as its result, and the rest goes on. Whatever ends the iteration early (an exception, a time-out, `close()`,
dropping an iterator that was begun) cancels the calls that have not begun.
Assumes: one thread iterates over what is returned.
Called by: the handle of a TaskWorker, for its own `map`, a task's and an executor's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final

from concurry.options import cores
from concurry.runtime.clock import system
from concurry.task_calls import Failed

if TYPE_CHECKING:
    from typing import TypedDict

    from concurry.waiting_items import Progress

    class MapArgs(TypedDict, total=False):
        """The keywords of `map`, but for `return_exceptions`, which decides what it gives."""

        timeout: float | None
        chunksize: int
        buffersize: int | None
        progress: Progress


LEAST_OPEN: Final = 64  # calls; enough that tiny ones keep their actors busy


def default_buffersize(plan: Any, *, direct: bool) -> int:
    """How many calls are kept open where nobody says it: two for each that can run at one time, and `LEAST_OPEN` at
    least; no more than the mailbox holds. In sync mode 1: nothing runs ahead."""
    if direct:
        return 1
    most: int = max(LEAST_OPEN, 2 * (plan.most_actors or cores()) * plan.max_concurrency)
    bound: int | None = plan.mailbox_size
    return most if bound is None else min(most, bound)


def check_numbers(timeout: Any, chunksize: Any, buffersize: Any) -> None:
    """Raises TypeError or ValueError where one of them cannot be."""
    for name, value, least in (("chunksize", chunksize, 1), ("buffersize", buffersize, 1)):
        if value is None and name == "buffersize":
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"map({name}={value!r}): {name} must be an integer{' or None' * (name == 'buffersize')}")
        if value < least:
            raise ValueError(f"map({name}={value}): {name} must be {least} or more")
    if timeout is not None and not isinstance(timeout, (int, float)):
        raise TypeError(f"map(timeout={timeout!r}): seconds, or None for as long as it takes")


class Source:
    """What the calls are made of: the items of several iterables side by side, by themselves or in chunks."""

    def __init__(self, iterables: tuple[Iterable[Any], ...], chunksize: int) -> None:
        lengths = [_length(it) for it in iterables]
        self.error: Exception | None = None  # what an iterable has raised: its place is after what it gave before
        self.total = min((it for it in lengths if it is not None), default=None)
        self.is_sized = None not in lengths
        self.chunked = chunksize > 1
        items = zip(*iterables, strict=False)
        self._calls: Iterator[Any] = items if chunksize == 1 else _chunks(items, chunksize)

    def next(self) -> Any:
        """What the next call is made of; None: there is no more."""
        if self.error is None:
            try:
                return next(self._calls, None)
            except Exception as error:
                self.error = error
        return None


def _length(iterable: Any) -> int | None:
    try:
        return len(iterable)
    except Exception:  # it has none; libraries raise whatever they like for that
        return None


def _chunks(items: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    chunk: list[tuple[Any, ...]] = []
    try:
        for item in items:
            chunk.append(item)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except Exception:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def results(
    submit: Callable[[Any], Any],
    source: Source,
    *,
    most: int | None,
    timeout: float | None,
    progress: Progress,
    return_exceptions: bool,
) -> Iterator[Any]:
    """Submit the first calls, and return the iterator of the results.

    Args:
        submit: makes one call of what `source` gives, and returns its future.
        most: how many calls may be open; None: no bound.
        timeout: seconds from now, for the last result that is asked for.
        return_exceptions: the exception of an item takes its place, and nothing ends there.
    """
    deadline = None if timeout is None else system.now() + timeout
    pending: deque[tuple[Any, int]] = deque()
    try:
        _fill(pending, source, submit, most)
    except BaseException:
        _cancel(pending)
        raise
    return _in_order(pending, source, submit, most, deadline, progress, return_exceptions)


def _fill(pending: deque[tuple[Any, int]], source: Source, submit: Callable[[Any], Any], most: int | None) -> None:
    """Make calls while there is room: each stands in `pending` with the number of its items."""
    while most is None or len(pending) < most:
        item = source.next()
        if item is None:
            return
        pending.append((submit(item), len(item) if source.chunked else 1))


def _cancel(pending: deque[tuple[Any, int]]) -> None:
    while pending:
        pending.pop()[0].cancel()  # the last first: what is cancelled does not make room for what will be


def _lost(future: Any, left: float | None) -> BaseException | None:
    """The exception of a whole call, waited for. Raises what the wait itself does, a time-out for example."""
    try:
        error: BaseException | None = future.exception(left)
    except CancelledError as cancelled:  # the call was, with its worker
        return cancelled.with_traceback(None)  # which would keep the future
    return error


def _in_order(
    pending: deque[tuple[Any, int]],
    source: Source,
    submit: Callable[[Any], Any],
    most: int | None,
    deadline: float | None,
    progress: Progress,
    return_exceptions: bool,
) -> Iterator[Any]:
    report, taken, good = None, 0, None
    got: Any = None
    one: Any = None
    try:
        if progress is not None and progress is not False:
            from concurry.waiting_items import Reporter

            report = Reporter("map", progress, source.total)
            report.at(0)
        while pending:
            future, items = pending[0]
            left = None if deadline is None else max(0.0, deadline - system.now())
            if return_exceptions and (error := _lost(future, left)) is not None:
                got = [Failed(error)] * items
                error = None
            else:
                got = future.result(left)
                if not source.chunked:
                    got = (got,)
            pending.popleft()
            future = None
            if most is not None:
                _fill(pending, source, submit, most)
            for one in got:
                if type(one) is Failed:
                    if not return_exceptions:
                        raise one.error
                    one = one.error
                taken += 1
                if report is not None:
                    report.at(taken)
                yield one
                one = None  # nothing of what was taken is kept
            got = None
        if source.error is not None:
            raise source.error
        good = True
    except Exception:
        good = False
        raise
    finally:
        _cancel(pending)
        if report is not None:
            report.end(good)
        future = got = one = source = None  # type: ignore[assignment]  # a traceback must not keep what was not taken
