"""`map`: a function over iterables, in many calls, the results in order.

    items (or chunks of them) --at once, or as room is--> calls --> results, one by one, in order
            '<-------- one more for each that was taken --------'

Guarantees: the calls begin at the line of `map`. Where every iterable has a length, the mailbox has no bound and no
`buffersize` is said, all calls are submitted at once, as by the standard library. Else no more than `buffersize` are
open at one time, and an iterable is read no further than that: it may be endless. A slow iterable holds up no result
that is there, once it was read from for a moment. In sync mode such a `map` runs one call, gives its results, and only
then runs the next. An item that fails, an iterable that does, or a call that is not accepted any more raises at its
place, after the results before it (one that is not accepted in the line of `map` is told there); with
`return_exceptions` the exception of an item stands there as its result, and the rest goes on. Whatever ends the
iteration early (an exception, a time-out, `close()`, dropping an iterator that was begun) cancels the calls that have
not begun.
Assumes: one thread iterates over what is returned.
Called by: the handle of a TaskWorker, for its own `map`, a task's and an executor's.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from concurry.options import cores
from concurry.runtime.clock import system
from concurry.runtime.raised import cut_ours, wrapped
from concurry.task_calls import Failed
from concurry.transports.errors import EncodeError

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
_MOMENT_S: Final = 0.01  # as long as an iterable may be read from while a result is there


def default_buffersize(plan: Any) -> int:
    """How many calls are kept open where nobody says it: two for each that can run at one time, and `LEAST_OPEN` at
    least; no more than the mailbox holds."""
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
    if timeout is not None and math.isnan(timeout):
        raise ValueError("map(timeout=nan): seconds, or None for as long as it takes; NaN is no number of them")


class Same:
    """An iterable that gives one value for each item of the others: the object whose method is mapped."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(self.value)


class Source:
    """What the calls are made of: the items of several iterables side by side, by themselves or in chunks."""

    def __init__(self, iterables: tuple[Iterable[Any], ...], chunksize: int) -> None:
        lengths = [_length(it) for it in iterables if type(it) is not Same]
        # What an iterable has raised, or a call that was not accepted: its place is after what was accepted before.
        self.error: BaseException | None = None
        self.refused: BaseException | None = None  # the error of such a call
        self.is_late = False  # the time was over before all was read
        self.is_slow = False  # the last time it was read from took longer than a moment
        self.total = min((it for it in lengths if it is not None), default=None)
        self.is_sized = None not in lengths
        self.chunksize = chunksize
        self.chunked = chunksize > 1
        items = zip(*iterables, strict=False)
        self._calls: Iterator[Any] = items if chunksize == 1 else _chunks(items, chunksize)

    def next(self) -> Any:
        """What the next call is made of; None: there is no more."""
        if self.error is None and not self.is_late:
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


@dataclass(slots=True)
class How:
    """How one `map` goes on.

    Attributes:
        most: how many calls may be open; None: no bound.
        direct: whether a call runs where it is submitted (sync mode).
        timeout: seconds, as the caller said them.
        deadline: what they come to, by the clock.
        return_exceptions: the exception of an item takes its place, and nothing ends there.
    """

    most: int | None
    direct: bool
    timeout: float | None
    deadline: float | None
    progress: Progress
    return_exceptions: bool


def results(
    submit: Callable[[Any], Any],
    source: Source,
    *,
    most: int | None,
    direct: bool,
    timeout: float | None,
    progress: Progress,
    return_exceptions: bool,
) -> Iterator[Any]:
    """Submit the first calls, and return the iterator of the results.

    Args:
        submit: makes one call of what `source` gives, and returns its future.
        timeout: seconds from now, for the last result that is asked for.
        most, direct, progress, return_exceptions: see `How`.
    """
    deadline = None if timeout is None else system.now() + timeout
    how = How(1 if direct and most is not None else most, direct, timeout, deadline, progress, return_exceptions)
    pending: deque[tuple[Any, int]] = deque()
    try:
        _fill(pending, source, submit, how, first=True)
        if source.refused is not None and (not pending or isinstance(source.refused, Exception)):
            raise source.refused
    except BaseException:
        _cancel(pending)
        raise
    return _in_order(pending, source, submit, how)


def _fill(
    pending: deque[tuple[Any, int]], source: Source, submit: Callable[[Any], Any], how: How, *, first: bool = False
) -> None:
    """Make calls while there is room: each stands in `pending` with the number of its items."""
    most, deadline, now = how.most, how.deadline, system.now
    began = now()
    source.is_slow = False
    while most is None or len(pending) < most:
        if deadline is not None and not first and now() >= deadline:
            source.is_late = True
            return
        first = False
        item = source.next()
        if item is None:
            return
        try:
            pending.append((submit(item), len(item) if source.chunked else 1))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a stopped worker, a full mailbox, a call in sync mode that ends the program
            cut_ours(error)
            source.error = source.refused = error
            return
        if most is not None and now() - began > _MOMENT_S:
            source.is_slow = True
            if pending[0][0].done():
                return


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


def _too_late(how: How, taken: int) -> TimeoutError:
    return TimeoutError(
        f"map() was not done within {how.timeout:g} s: {taken} {'result was' if taken == 1 else 'results were'} given; "
        f"calls that had not begun were cancelled"
    )


def _of_chunk(error: BaseException, source: Source, items: int) -> BaseException:
    """The exception of a whole chunk: what is said of its list of results is said of the items instead."""
    if not source.chunked or type(error) is not EncodeError:
        return error
    told = EncodeError(
        f"map(chunksize={source.chunksize}): the result of one of the {items} items of a chunk cannot be sent, and so "
        f"none of them came. With chunksize=1 each item has a call of its own. Of the chunk was said: {error}"
    )
    told.__cause__ = error.__cause__
    return told


def _in_order(pending: deque[tuple[Any, int]], source: Source, submit: Callable[[Any], Any], how: How) -> Iterator[Any]:
    report, taken, good = None, 0, None
    got: Any = None
    one: Any = None
    future: Any = None
    error: BaseException | None = None
    deadline, is_lazy = how.deadline, how.most is not None
    by_itself = not (source.chunked or how.return_exceptions)  # what an item raises ends it all
    try:
        if how.progress is not None and how.progress is not False:
            from concurry.waiting_items import Reporter

            report = Reporter("map", how.progress, source.total)
            report.at(0)
        while pending:
            future, items = pending[0]
            left = None if deadline is None else max(0.0, deadline - system.now())
            try:
                if by_itself:
                    got = (future.result(left),)
                elif (error := _lost(future, left)) is None:
                    got = future.result() if source.chunked else (future.result(),)
                else:
                    got = [Failed(_of_chunk(error, source, items))] * items
                    error = None
            except TimeoutError:
                if future.done():  # it is what the function has raised
                    raise
                raise _too_late(how, taken) from None
            pending.popleft()
            future = None
            # Before the result is given, so that what runs beside is kept busy; after it where that would hold it up.
            later = how.direct or source.is_slow
            if is_lazy and not later:
                _fill(pending, source, submit, how)
            for one in got:
                if type(one) is Failed:
                    one = one.error
                    if not how.direct and not isinstance(one, Exception):
                        one = wrapped(one, "map(): an item")
                    if not how.return_exceptions:
                        raise one
                taken += 1
                if report is not None:
                    report.at(taken)
                yield one
                one = None  # nothing of what was taken is kept
            got = None
            if is_lazy and later:
                _fill(pending, source, submit, how)
        if source.error is not None:
            raise source.error
        if source.is_late and taken != source.total:
            raise _too_late(how, taken)
        good = True
    except Exception:
        good = False
        raise
    finally:
        _cancel(pending)
        if report is not None:
            report.end(good)
        # A traceback must not keep what was not taken, nor the worker.
        future = got = one = error = source = submit = None  # type: ignore[assignment]
