"""How futures that end in any thread wake a coroutine.

Guarantees: `ring` never blocks and never raises; however many ring, the loop is woken once until it has heard them.
Assumes: `heard` is awaited by one coroutine at a time, in the loop in which the bell was made.
Called by: `waiting_async`.
"""

from __future__ import annotations

import asyncio
import logging
from _thread import allocate_lock
from collections import deque
from types import TracebackType
from typing import Any

from concurry.runtime.future import BaseFuture, release
from concurry.runtime.hooks import add_hooks, drop_hooks, seconds_left

log = logging.getLogger("concurry")


class Bell:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ringing = allocate_lock()  # taken by the first who rings, given back when the loop hears it
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the one who waits, now or when it begins to wait. From any thread."""
        if self._ringing.acquire(False):
            try:
                self._loop.call_soon_threadsafe(self._hear)
            except RuntimeError:
                log.debug("concurry: the event loop that waited for futures is closed")

    def _hear(self) -> None:
        self._ringing.release()  # before anybody looks at what has arrived: what comes after that look rings anew
        self._rung = True
        if self._waiter is not None:
            release(self._waiter)

    async def heard(self, deadline: float | None) -> bool:
        """Wait until it rings; at once where it has rung since the last time. False: the deadline has passed."""
        left = seconds_left(deadline)
        if not self._rung and left is not None and left <= 0:
            await asyncio.sleep(0)  # who asks again and again with no time to wait leaves the loop its turn
        elif not self._rung:
            self._waiter = self._loop.create_future()
            timer = None if left is None else self._loop.call_later(left, release, self._waiter)
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        rung, self._rung = self._rung, False
        return rung


class Arrivals:
    """The futures of `remaining` as they end, those first that are done. `with` puts the hooks and takes them back."""

    def __init__(self, remaining: dict[BaseFuture[Any], None]) -> None:
        self._remaining = remaining  # the user of this takes off it what has come
        self._bell = Bell()
        self._arrived: deque[BaseFuture[Any]] = deque()

    def _arrive(self, future: BaseFuture[Any]) -> None:
        self._arrived.append(future)
        self._bell.ring()

    def __enter__(self) -> Arrivals:
        try:
            add_hooks(list(self._remaining), self._arrive)
        except BaseException:
            drop_hooks(self._remaining, self._arrive)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        drop_hooks(self._remaining, self._arrive)

    async def next(self, deadline: float | None) -> BaseFuture[Any] | None:
        """The next one; None: the deadline has passed before."""
        while not self._arrived:
            if not await self._bell.heard(deadline):
                break
        return self._arrived.popleft() if self._arrived else None
