"""Time: a monotonic `now`, and `call_at`, on one timer thread that lives only while a timer is pending.

Guarantees: a timer's function runs once, on the timer thread, at or after its time, unless cancelled before; nothing
polls (the thread waits for the next due time or for a change of it); with no timer pending there is no thread.
Assumes: the functions are short and never block; one that raises is logged and harms no other timer.
Called by: the limiter (the head waiter's due time), call deadlines, restart back-off, retries of async methods.

Every decision in the runtime takes a `Clock`, so that tests can hand in a `FakeClock`.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("concurry")


class Timer:
    """One pending `call_at`. `cancel()` says whether it was in time: True means that the function will never run."""

    __slots__ = ("clock", "fn", "when")

    def __init__(self, clock: _Cancels, when: float, fn: Callable[[], object]) -> None:
        self.clock = clock
        self.when = when
        self.fn: Callable[[], object] | None = fn

    def cancel(self) -> bool:
        return self.clock.cancel(self)


class _Cancels(Protocol):
    def cancel(self, timer: Timer) -> bool: ...


class Clock(Protocol):
    """What the runtime asks of time. Seconds, monotonic."""

    def now(self) -> float: ...

    def call_at(self, when: float, fn: Callable[[], object]) -> Timer: ...

    def cancel(self, timer: Timer) -> bool: ...


class SystemClock:
    """The real one. `concurry.runtime.clock.system` is the instance that everything shares."""

    def __init__(self) -> None:
        self._cond = threading.Condition()  # protects all fields below; no other lock is taken under it
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._live = 0  # Invariant: how many timers in the heap still have their function
        self._thread: threading.Thread | None = None

    now = staticmethod(time.monotonic)

    def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
        """Run `fn` at `when`. Raises RuntimeError where the timer thread is needed and cannot be started."""
        timer = Timer(self, when, fn)
        with self._cond:
            first = not self._heap or when < self._heap[0][0]
            heapq.heappush(self._heap, (when, next(self._order), timer))
            self._live += 1
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="concurry-timer", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the system has no more threads: the caller's to handle
                    timer.fn = None
                    self._live -= 1
                    raise
                self._thread = thread
            elif first:
                self._cond.notify()
        return timer

    def cancel(self, timer: Timer) -> bool:
        with self._cond:
            if timer.fn is None:
                return False
            timer.fn = None
            self._live -= 1
            if not self._live:
                self._cond.notify()  # nothing is pending: the thread ends
            return True

    def _run(self) -> None:
        while True:
            with self._cond:
                while True:
                    if not self._live:
                        self._heap.clear()
                        self._thread = None
                        return
                    due, _, timer = self._heap[0]
                    if timer.fn is None:
                        heapq.heappop(self._heap)
                        continue
                    left = due - self.now()
                    if left <= 0:
                        break
                    self._cond.wait(min(left, threading.TIMEOUT_MAX))
                heapq.heappop(self._heap)
                fn, timer.fn = timer.fn, None
                self._live -= 1
            try:
                fn()
            except BaseException:
                log.exception("concurry: a timer's function raised; the other timers go on")

    def after_fork_in_child(self) -> None:
        """The thread did not survive the fork, and the lock may have been held: begin anew."""
        self.__init__()  # type: ignore[misc]


class FakeClock:
    """A clock for tests: time stands still until `advance`, which runs what falls due, in order."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
        timer = Timer(self, when, fn)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def cancel(self, timer: Timer) -> bool:
        pending = timer.fn is not None
        timer.fn = None
        return pending

    def advance(self, seconds: float) -> None:
        """Move time on by `seconds`, running each due timer at its own time."""
        end = self._now + seconds
        while self._heap and self._heap[0][0] <= end:
            when, _, timer = heapq.heappop(self._heap)
            fn, timer.fn = timer.fn, None
            if fn is not None:
                self._now = max(self._now, when)
                fn()
        self._now = end

    def pending(self) -> int:
        """How many timers wait."""
        return sum(timer.fn is not None for _, _, timer in self._heap)


system = SystemClock()
