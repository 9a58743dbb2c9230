"""A lease: a granted amount, or the wish for one. And the ticket: one wait, at one arbiter or at several.

    NEW --try_request--> HELD --release--> ENDED
    NEW --request--> WAITING --served--> HELD           a wait that is taken back: WAITING --> ENDED

A lease belongs to one arbiter, whose lock guards its state. A pool of sets waits with one lease at each set and one
ticket for all of them: the first arbiter that claims the ticket serves it, the others find it claimed and pass on. So
of several sets exactly one is taken, without anybody holding two locks at once.

Called by: the arbiter, waiting, owners.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from concurry.runtime.limiter.arbiter import Arbiter
    from concurry.runtime.limiter.owner import LeaseOwner

NEW: Final = 0
WAITING: Final = 1
HELD: Final = 2
ENDED: Final = 3

_CLAIMS = allocate_lock()  # protects `_claimed` and `served` of every ticket; taken under an arbiter's lock


class Lease:
    """`amounts` by key, at `arbiter`, for `owner` (or nobody in particular).

    Attributes:
        usage: what was spent, by key, as far as it was reported; settled when the lease ends.
        marks: what the meters gave, in the order of `amounts`; one for each amount that is taken.
        number: its place in the order of requests.
    """

    __slots__ = ("amounts", "arbiter", "marks", "number", "owner", "state", "ticket", "usage")

    def __init__(self, arbiter: Arbiter, amounts: Mapping[str, float], owner: LeaseOwner | None = None) -> None:
        self.arbiter = arbiter
        self.amounts = amounts
        self.owner = owner
        self.state = NEW
        self.usage: dict[str, float] | None = None
        self.marks: list[Any] = []
        self.ticket: Ticket | None = None
        self.number = 0


class Ticket:
    """One wait. It is claimed once: by the arbiter that serves it, or by whoever ends the wait.

    Attributes:
        wake: called once when somebody else than the waiter has claimed it; from any thread, with no lock held. Never
            blocks, never raises.
        served: the lease that is granted; None where the wait was ended.
    """

    __slots__ = ("_claimed", "served", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.served: Lease | None = None
        self._claimed = False

    def claim(self, lease: Lease | None = None) -> bool:
        """Serve it with `lease`, or end the wait. False: somebody else was first."""
        with _CLAIMS:
            if self._claimed:
                return False
            self._claimed = True
            self.served = lease
            return True
