"""A resource: what is taken is held until it is given back. Time frees nothing."""

from __future__ import annotations

from math import inf
from typing import Any

from concurry.runtime.limiter.meter import Meter


class Resource(Meter):
    """At most `capacity` held at one time."""

    __slots__ = ("_held", "_leases")

    holds = True

    def __init__(self, capacity: float) -> None:
        super().__init__(capacity)
        self._held: float = 0
        self._leases = 0  # how many leases hold some of it

    def fits(self, amount: float, now: float) -> bool:
        return self._held + amount <= self._most

    def free_at(self, amount: float, now: float) -> float:
        return now if self.fits(amount, now) else inf

    def take(self, amount: float, now: float) -> None:
        self._held += amount
        self._leases += 1

    def give_back(self, mark: Any, amount: float, now: float) -> None:
        self._leases -= 1
        self._held = self._held - amount if self._leases else 0  # no lease: rounding leaves nothing behind either

    def charge(self, amount: float, now: float) -> None:
        """A report has no meaning for a resource: it is held or not."""

    def settle(self, mark: Any, amount: float, used: float, now: float) -> None:
        self.give_back(mark, amount, now)

    def used(self, now: float) -> float:
        return self._held
