"""What every meter has: the state of one limit, and decisions over `now`. Pure: no clock, no lock, no thread.

Guarantees, for each algorithm
- `fits` and `free_at` change nothing. `free_at` is a time at which `fits` says yes, to the last bit: whoever waits
  for it is not denied, and does not wake a moment early to ask again. It stays free until somebody takes it.
- What was taken is never above the rule, but for `SLACK`.
- `give_back` makes an amount free again, as if it had never been taken, as far as the rule still counts it; never
  more, so that a late refund cannot let others above the rule.
- `charge` counts an amount that was spent without being asked for. It may go above the capacity; later grants wait.
Assumes: `now` never goes back; amounts are finite and above 0; the arbiter's lock is held.
Called by: the arbiter.
"""

from __future__ import annotations

from typing import Any, Final

# Sums of floats are off by some 1e-16 of the capacity a step: without slack, the third 0.1 of a capacity of 0.3 is
# denied (0.1 + 0.1 + 0.1 > 0.3), and a third of the rate is lost.
SLACK: Final = 1e-11

_MOST_DEBT: Final = 1e12  # capacities, of one charge: for ever, and still far from where floats end


class Meter:
    """One limit. `capacity`: the most that can be taken at once."""

    __slots__ = ("_most", "capacity")

    holds = False  # what is taken is held until it is given back, and does not come free with time
    refunds = True  # what was asked for and not used comes free at once

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self._most = capacity + capacity * SLACK

    def fits(self, amount: float, now: float) -> bool:
        """Whether `amount` can be taken now."""
        raise NotImplementedError

    def free_at(self, amount: float, now: float) -> float:
        """When `amount`, at most the capacity, can be taken if nobody else takes or gives back; `now` where it can be
        now, `inf` where only a release can free it."""
        raise NotImplementedError

    def take(self, amount: float, now: float) -> Any:
        """Take what fits, as `fits` has just said. Returns a mark, by which `settle` and `give_back` find it again."""
        raise NotImplementedError

    def give_back(self, mark: Any, amount: float, now: float) -> None:
        """Undo `amount` of what was taken under `mark`."""
        raise NotImplementedError

    def charge(self, amount: float, now: float) -> object:
        """Count what was spent without being asked for."""
        raise NotImplementedError

    def used(self, now: float) -> float:
        """How much of the capacity is taken; above it where there is debt."""
        raise NotImplementedError

    def settle(self, mark: Any, amount: float, used: float, now: float) -> None:
        """The end of a lease: of `amount`, taken under `mark`, `used` was spent. Once per mark."""
        if used > amount:
            self.charge(min(used - amount, self.capacity * _MOST_DEBT), now)
        elif used < amount and self.refunds:
            self.give_back(mark, amount - used, now)


class Unbounded(Meter):
    """A limit of infinite capacity: everything fits."""

    __slots__ = ()

    def fits(self, amount: float, now: float) -> bool:
        return True

    def free_at(self, amount: float, now: float) -> float:
        return now

    def take(self, amount: float, now: float) -> None:
        return None

    def give_back(self, mark: Any, amount: float, now: float) -> None:
        """Nothing is counted."""

    def charge(self, amount: float, now: float) -> None:
        """Nothing is counted."""

    def used(self, now: float) -> float:
        return 0
