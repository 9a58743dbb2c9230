"""Futures one by one, as they end: what `as_completed`, `gather(iter=True)` and every `progress` stand on.

Guarantees: what has come out is held no longer, so results do not pile up here; however the iteration ends, at its end,
by an exception or because the caller leaves it, no hook is left behind.
Assumes: whoever iterates over `ended` takes each future off the dict that it gave.
Called by: `waiting`; `waiting_async` uses `Unfinished`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

from concurry.runtime import waits
from concurry.runtime.future import BaseFuture
from concurry.runtime.hooks import add_hooks, drop_hooks, failed, outcome, seconds_left
from concurry.waiting_items import Items, Part, Reporter, build, leaves_of


def as_given(items: Items, report: Reporter | None) -> Iterator[Any]:
    for future in each(items, report):
        yield items.forget(future)


def iterate(items: Items, report: Reporter | None, return_exceptions: bool) -> Iterator[tuple[Any, Any]]:
    """`gather(iter=True)`. An item that is a container comes when the last future in it has ended."""
    waiting = Unfinished(items)
    future: BaseFuture[Any] | None = None
    try:
        yield from waiting.finished(None)
        for future in each(items, report):
            if not return_exceptions and failed(future):
                if report is not None:
                    report.end(False)
                future.result()
            yield from waiting.finished(future)
            items.forget(future)
            future = None
    finally:
        future = waiting = items = None  # type: ignore[assignment]  # a traceback must not keep futures alive


class Unfinished:
    """The items of a `gather(iter=True)` that have not come out yet."""

    def __init__(self, items: Items) -> None:
        self._keys = items.keys
        self._parts: list[Part | None] = list(items.parts)
        self._left: list[int] = []  # by item: how many of its futures have not ended
        self._where: dict[BaseFuture[Any] | None, list[int]] = {None: []}  # future -> its items; None: items without
        for index, part in enumerate(items.parts):
            leaves = (part,) if isinstance(part, BaseFuture) else tuple(leaves_of(part))
            self._left.append(len(leaves) or 1)
            for leaf in leaves or (None,):
                self._where.setdefault(leaf, []).append(index)
        items.parts = []

    def finished(self, future: BaseFuture[Any] | None) -> Iterator[tuple[Any, Any]]:
        """(key, value) of the items that this future's end completes. They are let go."""
        for index in self._where.pop(future):
            self._left[index] -= 1
            part = self._parts[index]
            if not self._left[index] and part is not None:
                self._parts[index] = None
                yield (index if self._keys is None else self._keys[index]), build(part, outcome)


def each(items: Items, report: Reporter | None) -> Iterator[BaseFuture[Any]]:
    """The leaves, each once, as they end, and let go of. Raises TimeoutError."""
    remaining = items.unique()
    items.leaves = []
    total = len(remaining)
    good: bool | None = False
    try:
        done = [leaf for leaf in remaining if leaf.done()]
        done.reverse()
        if report is not None and not done:
            report.at(0)
        while done:
            leaf = done.pop()
            del remaining[leaf]
            if report is not None:
                report.at(total - len(remaining))
            yield leaf
            del leaf
        for future in ended(remaining, items.deadline):
            del remaining[future]
            if report is not None:
                report.at(total - len(remaining))
            yield future
            del future
        if remaining:
            raise items.too_late(len(remaining), total)
        good = True
    except GeneratorExit:  # the caller has had enough
        good = None
        raise
    finally:
        if report is not None:
            report.end(good)
        items.let_go()


def ended(remaining: dict[BaseFuture[Any], None], deadline: float | None) -> Iterator[BaseFuture[Any]]:
    """The futures as they end; the caller takes each off `remaining`. Ends early when the deadline has passed."""
    queue: SimpleQueue[BaseFuture[Any]] = SimpleQueue()
    arrive = queue.put
    try:
        add_hooks(list(remaining), arrive)
        for _ in range(len(remaining)):
            # Nobody else takes from it. Not by `except Empty`: a Ctrl-C below would show two tracebacks.
            if not queue.empty():
                future = queue.get_nowait()
            else:
                left = seconds_left(deadline)
                if left is not None and left <= 0:
                    return
                try:
                    with waits.waiting(remaining, every=False):
                        future = queue.get(timeout=None if left is None else min(left, threading.TIMEOUT_MAX))
                except Empty:
                    return
            yield future
            del future
    finally:
        drop_hooks(remaining, arrive)
