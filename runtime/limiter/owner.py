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

if TYPE_CHECKING:
    from concurry.runtime.limiter.lease import Lease


class LeaseOwner:
    """What one attempt of a call holds. `name`: for messages."""

    __slots__ = ("_leases", "_lock", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        # Invariant: the leases that wait or are held; None once it is closed. Made with the first lease: most calls
        # take none.
        self._leases: set[Lease] | None = _NOTHING
        self._lock = allocate_lock()  # protects `_leases`; may be taken under an arbiter's lock, never around one

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._leases is None

    def add(self, lease: Lease) -> bool:
        """Note a lease that waits or is granted. False: the owner has ended, the lease must not be granted."""
        with self._lock:
            if self._leases is None:
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

    def close(self) -> None:
        """End: every wait is taken back and every lease is released. Idempotent, from any thread."""
        with self._lock:
            leases, self._leases = self._leases, None
        for lease in leases or ():
            lease.arbiter.end(lease)


_NOTHING: set[Lease] = set()  # stays empty: it stands for a set that was not made yet

current_owner: ContextVar[LeaseOwner | None] = ContextVar("concurry_current_owner", default=None)
