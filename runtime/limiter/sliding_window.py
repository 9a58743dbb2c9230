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

Entry = list[float]  # [the time it ends, the amount]; ended: an amount of 0


class SlidingWindow(Meter):
    """At most `capacity` in any `window_s` seconds."""

    __slots__ = ("_debt", "_entries", "_next_end", "_used", "_window_s")

    def __init__(self, capacity: float, window_s: float) -> None:
        super().__init__(capacity)
        self._window_s = window_s
        self._entries: deque[Entry] = deque()  # Invariant: in the order of their ends
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
        for ends, size in self._entries:
            when = ends
            missing -= size
            if missing <= 0:
                break
        return when + shift

    def take(self, amount: float, now: float) -> Entry:
        window_s = self._window_s
        ends = now + window_s
        if ends - now < window_s:
            ends = nextafter(ends, inf)  # rounded down: it would end a moment too early
        self._used += amount
        entries = self._entries
        if entries:
            last = entries[-1]
            if last[0] == ends:
                last[1] += amount
                return last
        else:
            self._next_end = ends
        entry = [ends, amount]
        entries.append(entry)
        return entry

    def give_back(self, mark: Entry, amount: float, now: float) -> None:
        if self._debt:
            self._drop_ended(now)  # debt may have taken its place
        if amount > mark[1]:
            amount = mark[1]  # it has ended, and counts no more
        mark[1] -= amount
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
        entries = self._entries
        while entries and entries[0][0] <= now:
            entry = entries.popleft()
            self._used -= entry[1]
            entry[1] = 0
            if not entries:
                self._used = self._debt  # and with it what rounding has left
            if self._debt:
                self._pay(entry[0])
        self._next_end = entries[0][0] if entries else inf

    def _pay(self, at: float) -> None:
        """Put as much of the debt as fits into an entry."""
        part = min(self._debt, self.capacity - (self._used - self._debt))
        if part > 0:
            self._debt -= part
            self._used -= part
            self.take(part, at)
