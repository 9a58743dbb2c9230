"""Fixed window: at most the capacity within each window, and windows follow each other without a gap.

They are counted from the first grant, and keep that alignment: window k is [first + k·window, first + (k+1)·window).
A refund counts within the window of its grant. Debt goes into the next windows, as far as it is above the capacity.
"""

from __future__ import annotations

from math import inf

from concurry.runtime.limiter.meter import SLACK, Meter


class FixedWindow(Meter):
    """At most `capacity` in each window of `window_s` seconds."""

    __slots__ = ("_ends", "_first", "_index", "_level", "_window_s")

    def __init__(self, capacity: float, window_s: float) -> None:
        super().__init__(capacity)
        self._window_s = window_s
        self._first = 0.0  # when window 0 began
        self._index = 0
        self._ends = -inf  # of window number `_index`; -inf: there was no grant
        self._level: float = 0  # Invariant: what counts in window number `_index`

    def fits(self, amount: float, now: float) -> bool:
        if now >= self._ends:
            self._enter(now)
        return self._level + amount <= self._most

    def free_at(self, amount: float, now: float) -> float:
        if self.fits(amount, now):
            return now
        # Each window that ends takes one capacity off the level; never below 0, and amount <= capacity.
        excess = (self._level + amount) / self.capacity - 1
        windows = max(1, int(excess) + (excess - int(excess) > SLACK))
        if max(0, self._level - windows * self.capacity) + amount > self._most:
            windows += 1  # rounding
        return self._start_of(self._index + windows)

    def take(self, amount: float, now: float) -> int:
        if self._ends == -inf:
            self._first = now
            self._ends = self._start_of(1)
        self._level += amount
        return self._index

    def charge(self, amount: float, now: float) -> None:
        if now >= self._ends:
            self._enter(now)
        self.take(amount, now)

    def give_back(self, mark: int, amount: float, now: float) -> None:
        if now >= self._ends:
            self._enter(now)
        if mark == self._index:
            self._level = max(0, self._level - amount)

    def used(self, now: float) -> float:
        if now >= self._ends:
            self._enter(now)
        return self._level

    def _start_of(self, index: int) -> float:
        return self._first + index * self._window_s

    def _enter(self, now: float) -> None:
        """Go on to the window of `now`."""
        if self._ends == -inf:
            return
        index = max(self._index + 1, int((now - self._first) / self._window_s))
        while self._start_of(index) > now:  # rounding, in the two loops; a step at most
            index -= 1
        while self._start_of(index + 1) <= now:
            index += 1
        self._level = max(0, self._level - (index - self._index) * self.capacity)
        self._index = index
        self._ends = self._start_of(index + 1)
