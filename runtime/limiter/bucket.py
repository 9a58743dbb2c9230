"""Token bucket, leaky bucket and GCRA: one meter, of which the rule is

    taken in [a, b] <= capacity + rate * (b - a)      for every a <= b

The token bucket counts what is left, the leaky bucket what is in it, GCRA the time at which it will be empty. The
three decide alike: ITU-T I.371 defines GCRA by the other two forms and calls them equivalent. Here it is the leaky
bucket's: a level that falls at `rate` and rises by what is taken. They differ in refunds only: what was poured into a
leaky bucket runs out of it, used or not.

A refund takes part of the past back. Had less been taken then, the level would since have been lower, but where it
came near to zero not by as much: an empty bucket does not empty further. So a refund is worth the lowest level since
it was taken, at most. `_floors` knows that: for each take (by its number) the lowest level since.
"""

from __future__ import annotations

from bisect import bisect_right
from math import inf, nextafter

from concurry.runtime.limiter.meter import Meter

_MOST_FLOORS = 64  # more are thinned out, downwards: an old refund is then worth less than it could be, never more


class Bucket(Meter):
    """`capacity` at once, and `capacity / window_s` a second."""

    __slots__ = ("_at", "_floors", "_level", "_numbers", "_rate", "_taken")

    def __init__(self, capacity: float, window_s: float) -> None:
        super().__init__(capacity)
        self._rate = capacity / window_s
        self._level: float = 0
        self._at = -inf  # when `_level` was true
        self._taken = 0  # the number of the last take
        # Invariant: both rise. _floors[i]: the lowest level just before any take numbered above _numbers[i - 1]
        self._numbers: list[int] = []
        self._floors: list[float] = []

    def fits(self, amount: float, now: float) -> bool:
        level = self._level - (now - self._at) * self._rate
        return (level if level > 0 else 0) + amount <= self._most

    def free_at(self, amount: float, now: float) -> float:
        if self.fits(amount, now):
            return now
        when = max(now, self._at + (self._level + amount - self.capacity) / self._rate)
        while not self.fits(amount, when) and when < inf:
            when = nextafter(when, inf)  # rounding; some two steps
        return when

    def take(self, amount: float, now: float) -> int:
        level = self._level - (now - self._at) * self._rate
        if level < 0:
            level = 0
        numbers, floors = self._numbers, self._floors
        while floors and floors[-1] >= level:
            floors.pop()
            numbers.pop()
        self._taken += 1
        numbers.append(self._taken)
        floors.append(level)
        if len(floors) > _MOST_FLOORS:
            # Of each two, the later number with the lower floor: the earlier one's.
            numbers[:] = numbers[1::2] + numbers[len(numbers) // 2 * 2 :]
            floors[:] = floors[0::2]
        self._level = level + amount
        self._at = now
        return self._taken

    charge = take  # debt: it raises the level as a grant does, and nobody asks whether it fits

    def give_back(self, mark: int, amount: float, now: float) -> None:
        level = self.used(now)
        numbers, floors = self._numbers, self._floors
        since = bisect_right(numbers, mark)  # the first take after that one
        worth = min(amount, level, floors[since]) if since < len(floors) else min(amount, level)
        self._level = level - worth
        self._at = now
        if since < len(floors):  # the takes after it found less in the bucket than they seemed to
            floors[since:] = [floor - worth for floor in floors[since:]]
            first = since
            while first and floors[first - 1] >= floors[since]:
                first -= 1
            del numbers[first:since], floors[first:since]

    def used(self, now: float) -> float:
        return max(0, self._level - (now - self._at) * self._rate)


class TokenBucket(Bucket):
    """Tokens come in at the rate, up to the capacity; a grant takes some out."""

    __slots__ = ()


class LeakyBucket(Bucket):
    """A grant pours in, the rate runs out. No refunds."""

    __slots__ = ()
    refunds = False


class GCRA(Bucket):
    """The generic cell rate algorithm, with a burst of the capacity."""

    __slots__ = ()
