"""Sliding window, as a log: what was taken within the last `window_s` seconds is at most the capacity, at every time.

A grant at t counts in [t, t + window). Grants of one time are one entry; memory is one entry for each time within the
window. A refund lowers the entry. A charge is an entry of its own, at the time when it is reported; what of it does
not fit stays as debt, and takes up the room that entries leave as they end, before any further grant. With debt of
more than a whole window, `free_at` is right but for rounding; whoever comes then is told the rest.
"""

from __future__ import annotations

from collections import deque
from math import inf, nextafter

from concurry.runtime.limiter.meter import Meter


class SlidingWindow(Meter):
    """At most `capacity` in any `window_s` seconds."""

    __slots__ = ("_amounts", "_debt", "_dropped", "_ends", "_next_end", "_used", "_window_s")

    def __init__(self, capacity: float, window_s: float) -> None:
        super().__init__(capacity)
        self._window_s = window_s
        # The entries. Two rows of floats and no objects: thousands of entries are no work for the garbage collector.
        self._ends: deque[float] = deque()  # Invariant: rising
        self._amounts: deque[float] = deque()  # Invariant: as long as `_ends`
        self._dropped = 0  # how many entries have ended; entry number n stands at n - _dropped
        self._next_end = inf  # Invariant: when the first of them ends; inf: there is none
        self._used: float = 0  # Invariant: the sum of the entries' amounts, and the debt
        self._debt: float = 0  # Invariant: above 0 only while the entries fill the capacity

    def fits(self, amount: float, now: float) -> bool:
        if now >= self._next_end:
            self._drop_ended(now)
        return self._used + amount <= self._most

    def free_at(self, amount: float, now: float) -> float:
        if self.fits(amount, now):
            return now
        # Half the slack: `fits` adds in another order, and must not be stricter than this when the time has come.
        missing = self._used + amount - (self.capacity + self._most) / 2
        shift: float = 0
        in_window = self._used - self._debt
        if missing > in_window:  # of debt beyond that, each window takes up the capacity once
            rounds = -((in_window - missing) // self.capacity)
            missing -= rounds * self.capacity
            shift = rounds * self._window_s
        when = now
        for ends, amount in zip(self._ends, self._amounts, strict=True):
            when = ends
            missing -= amount
            if missing <= 0:
                break
        return when + shift

    def take(self, amount: float, now: float) -> int:
        window_s = self._window_s
        ends = now + window_s
        if ends - now < window_s:
            ends = nextafter(ends, inf)  # rounded down: it would end a moment too early
        self._used += amount
        rows = self._ends
        if not rows:
            self._next_end = ends
        elif rows[-1] == ends:
            self._amounts[-1] += amount
            return self._dropped + len(rows) - 1
        rows.append(ends)
        self._amounts.append(amount)
        return self._dropped + len(rows) - 1

    def give_back(self, mark: int, amount: float, now: float) -> None:
        if self._debt:
            self._drop_ended(now)  # debt may have taken its place
        place = mark - self._dropped
        if place < 0:
            return  # it has ended, and counts no more
        self._amounts[place] -= amount
        self._used -= amount
        if self._debt:
            self._pay(now)

    def charge(self, amount: float, now: float) -> None:
        self._drop_ended(now)
        self._debt += amount
        self._used += amount
        self._pay(now)

    def used(self, now: float) -> float:
        self._drop_ended(now)
        return self._used

    def _drop_ended(self, now: float) -> None:
        ends = self._ends
        while ends and ends[0] <= now:
            ended_at = ends.popleft()
            self._used -= self._amounts.popleft()
            self._dropped += 1
            if not ends:
                self._used = self._debt  # and with it what rounding has left
            if self._debt:
                self._pay(ended_at)
        self._next_end = ends[0] if ends else inf

    def _pay(self, at: float) -> None:
        """Put as much of the debt as fits into an entry."""
        part = min(self._debt, self.capacity - (self._used - self._debt))
        if part > 0:
            self._debt -= part
            self._used -= part
            self.take(part, at)
