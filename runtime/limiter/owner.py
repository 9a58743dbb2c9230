"""Owners: who holds leases, and gives them all back by ending.

Guarantees: after `close`, nothing of its owner's is held or waits, whoever forgot to give it back; a request that
comes later is refused, and one that waits is woken and told so. What was reported as used is settled as reported, what
was not as fully used.
Assumes: the arbiter calls `add` and `discard`; `close` is called with no arbiter's lock held.
Called by: the actor's loop: one owner for each attempt of a call, set as `current_owner` while the attempt runs, closed
when it ends. In process and Ray mode: one in the driver for each call in a child, closed also when the child dies.
"""

from __future__ import annotations

from _thread import allocate_lock
from contextvars import ContextVar
from typing import TYPE_CHECKING

from concurry.runtime.limiter.lease import WAITING

if TYPE_CHECKING:
    from concurry.runtime.limiter.lease import Lease


class LeaseOwner:
    """What one attempt of a call holds. `name`: for messages."""

    __slots__ = ("_leases", "_lock", "_never_waits", "_refuses", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        # Invariant: the leases that wait or are held; None once it is closed. Made with the first lease: most calls
        # take none.
        self._leases: set[Lease] | None = _NOTHING
        self._refuses = False
        self._never_waits = False
        # Protects the fields above; may be taken under an arbiter's lock, never around one.
        self._lock = allocate_lock()

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._leases is None

    def add(self, lease: Lease, *, waits: bool = False) -> bool:
        """Note a lease that is granted, or that `waits`. False: the owner has ended, it must not be granted."""
        with self._lock:
            if self._leases is None or self._refuses or (waits and self._never_waits):
                return False
            if self._leases is _NOTHING:
                self._leases = set()
            self._leases.add(lease)
            return True

    def discard(self, lease: Lease) -> None:
        """Forget a lease that has ended."""
        with self._lock:
            if self._leases:
                self._leases.discard(lease)

    def waits(self) -> bool:
        """Whether a request of its waits now."""
        with self._lock:
            return any(lease.state == WAITING for lease in self._leases or ())

    def refuse(self, *, waits_only: bool = False) -> None:
        """Nobody wants the result any more, but the method still runs: its waits are taken back, and a later request is
        refused. What it holds stays held until `close`. Idempotent, from any thread.

        Args:
            waits_only: a later request is granted all the same where it is free at once.
        """
        with self._lock:
            self._never_waits = True
            self._refuses = self._refuses or not waits_only
            leases = list(self._leases or ())
        for lease in leases:
            lease.arbiter.end_wait(lease)

    def accept(self) -> None:
        """Undo `refuse`, for what comes later."""
        with self._lock:
            self._refuses = self._never_waits = False

    def close(self) -> None:
        """End: every wait is taken back and every lease is released. Idempotent, from any thread."""
        with self._lock:
            leases, self._leases = self._leases, None
        for lease in leases or ():
            lease.arbiter.end(lease)


_NOTHING: set[Lease] = set()  # stays empty: it stands for a set that was not made yet

current_owner: ContextVar[LeaseOwner | None] = ContextVar("concurry_current_owner", default=None)
