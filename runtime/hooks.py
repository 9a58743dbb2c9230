"""Waiting for many futures at once: one hook on all of them, one wake-up.

Guarantees: whoever waits here is woken by the future that ends, and blocks on a raw lock, so that a KeyboardInterrupt
comes out at once; no hook is left behind, however the wait ends.
Assumes: each future is given once (no duplicates) where a hook is shared.
Called by: `wait`, `gather`, `as_completed` and their async twins.
"""
# pyright: reportPrivateUsage=false
# They are a part of the future that stands apart.

from __future__ import annotations

import itertools
from _thread import allocate_lock
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from concurry.runtime.clock import system
from concurry.runtime.future import _LOCK, CANCELLED, PENDING, BaseFuture, Hook
from concurry.runtime.raw_lock import acquire_within

Stops = Callable[[BaseFuture[Any]], bool]

_CHUNK = 512  # how many futures get their hook in one turn with the lock: some 50 µs


def add_hooks(futures: Sequence[BaseFuture[Any]], hook: Hook) -> None:
    """`add_hook(hook)` on each of many different futures, at a quarter of the price."""
    for start in range(0, len(futures), _CHUNK):
        chunk = futures[start : start + _CHUNK]
        with _LOCK:
            for future in chunk:
                hooks = future._hooks
                if hooks is None:
                    future._hooks = [hook]
                else:
                    hooks.append(hook)
        for future in chunk:  # see `BaseFuture.add_hook` for why this is right
            if future._status is not PENDING and future.remove_hook(hook):
                hook(future)


def drop_hooks(futures: Iterable[BaseFuture[Any]], hook: Hook) -> None:
    """Take the hook back from all that still have it."""
    for future in futures:
        if future._hooks:
            future.remove_hook(hook)


class Countdown:
    """A hook for many futures that wakes once: when `need` of them have ended, or one of which `stops` is true.

    Attributes:
        first: the future for which `stops` was true; None where none was.
    """

    __slots__ = ("_count", "_need", "_once", "_stops", "_wake", "first")

    def __init__(self, need: int, wake: Callable[[], object], stops: Stops | None = None) -> None:
        self._count = itertools.count(1)  # its `next` is atomic: exactly one caller sees `need`
        self._need = need
        self._once = allocate_lock()  # taken by the first who wakes, and never given back
        self._stops = stops
        self._wake = wake
        self.first: BaseFuture[Any] | None = None

    def __call__(self, future: BaseFuture[Any]) -> None:
        stops = self._stops is not None and self._stops(future)
        if (next(self._count) == self._need or stops) and self._once.acquire(False):
            if stops:
                self.first = future
            self._wake()


def failed(future: BaseFuture[Any]) -> bool:
    """Whether an ended future would raise: it failed or was cancelled."""
    return future._exception is not None


def raised(future: BaseFuture[Any]) -> bool:
    """Whether an ended future failed; a cancelled one did not."""
    return future._exception is not None and future._status is not CANCELLED


def outcome(future: BaseFuture[Any]) -> Any:
    """What an ended future has: its result, or the exception itself."""
    if future.is_unread():
        future.read()
    exception = future._exception
    return future._result if exception is None else exception


def seconds_left(deadline: float | None) -> float | None:
    """Until `deadline`, on the monotonic clock; None for never."""
    return None if deadline is None else deadline - system.now()


def wait_until(
    futures: Sequence[BaseFuture[Any]],
    need: int,
    deadline: float | None,
    stops: Stops | None = None,
) -> Countdown:
    """Block until `need` of these pending futures have ended, or one that `stops`, or the deadline has passed."""
    lock = allocate_lock()
    lock.acquire()
    countdown = Countdown(need, lock.release, stops)
    try:
        add_hooks(futures, countdown)
        acquire_within(lock, seconds_left(deadline))
    finally:
        drop_hooks(futures, countdown)
    return countdown


def wait_for_all(futures: Sequence[BaseFuture[Any]], deadline: float | None) -> bool:
    """Block until all have ended. False: the deadline passed before.

    Walks from the end: calls end about in their order, so when the last one has, nearly all have, and one hook and one
    wake-up were enough. In any other order it is one hook at a time, which is right too.
    """
    lock = allocate_lock()
    lock.acquire()

    def wake(_: BaseFuture[Any]) -> None:
        lock.release()

    for future in reversed(futures):
        if future.done():
            continue
        arrived = False
        try:
            future.add_hook(wake)
            arrived = acquire_within(lock, seconds_left(deadline))
        finally:
            in_time = arrived or not future.remove_hook(wake)
        if not in_time:
            return False
        if not arrived:
            lock.acquire()  # it ended at this very moment, and its hook is about to release
    return True
