"""`map`: a function over iterables, in many calls, the results in order.

    items (or chunks of them) --at once, or as room is--> calls --> results, one by one, in order
            '<-------- one more for each that was taken --------'

Guarantees: the calls begin at the line of `map`. Where every iterable has a length, the mailbox has no bound and no
`buffersize` is said, all calls are submitted at once, as by the standard library. Else no more than `buffersize` are
open at one time, and an iterable is read no further than that: it may be endless. An item that fails, or an iterable
that does, raises at its place, after the results before it. Whatever ends the iteration early (an exception, a
time-out, `close()`, dropping an iterator that was begun) cancels the calls that have not begun.
Assumes: one thread iterates over what is returned.
Called by: the handle of a TaskWorker, for its own `map`, a task's and an executor's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from concurry.options import cores
from concurry.runtime.clock import system
from concurry.task_calls import Broken

if TYPE_CHECKING:
    from typing import TypedDict

    from concurry.waiting_items import Progress

    class MapArgs(TypedDict, total=False):
        """The keywords of `map`."""

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
    chunked: bool,
    timeout: float | None,
    progress: Progress,
) -> Iterator[Any]:
    """Submit the first calls, and return the iterator of the results.

    Args:
        submit: makes one call of what `source` gives, and returns its future.
        most: how many calls may be open; None: no bound.
        timeout: seconds from now, for the last result that is asked for.
    """
    deadline = None if timeout is None else system.now() + timeout
    pending: deque[Any] = deque()
    try:
        _fill(pending, source, submit, most)
    except BaseException:
        _cancel(pending)
        raise
    return _in_order(pending, source, submit, most, chunked, deadline, progress)


def _fill(pending: deque[Any], source: Source, submit: Callable[[Any], Any], most: int | None) -> None:
    while most is None or len(pending) < most:
        item = source.next()
        if item is None:
            return
        pending.append(submit(item))


def _cancel(pending: deque[Any]) -> None:
    while pending:
        pending.pop().cancel()  # the last first: what is cancelled does not make room for what will be


def _in_order(
    pending: deque[Any],
    source: Source,
    submit: Callable[[Any], Any],
    most: int | None,
    chunked: bool,
    deadline: float | None,
    progress: Progress,
) -> Iterator[Any]:
    report, taken, good = None, 0, None
    try:
        if progress is not None and progress is not False:
            from concurry.waiting_items import Reporter

            report = Reporter("map", progress, source.total)
            report.at(0)
        while pending:
            got: Any = pending[0].result(None if deadline is None else max(0.0, deadline - system.now()))
            pending.popleft()
            if most is not None:
                _fill(pending, source, submit, most)
            broken: BaseException | None = None
            if not chunked:
                got = (got,)
            elif isinstance(got, Broken):
                broken, got = got.error, got.results
            for one in got:
                taken += 1
                if report is not None:
                    report.at(taken)
                yield one
                one = None  # nothing of what was taken is kept
            got = None
            if broken is not None:
                raise broken
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
        broken = source = None  # type: ignore[assignment]  # a traceback must not keep what was not taken
