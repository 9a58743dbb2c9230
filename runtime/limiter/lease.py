"""A lease: a granted amount, or the wish for one. And the ticket: one wait, at one arbiter or at several.

    NEW --try_request--> HELD --release--> ENDED
    NEW --request--> WAITING --served--> HELD           a wait that is taken back: WAITING --> ENDED

A lease belongs to one arbiter, whose lock guards its state. A pool of sets waits with one lease at each set and one
ticket for all of them: the first arbiter that claims the ticket serves it, the others find it claimed and pass on. So
of several sets exactly one is taken, without anybody holding two locks at once.

`AnyArbiter` is what a lease asks of its arbiter, in the process where it counts or in another one.
Called by: the arbiter, waiting, owners.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from concurry.runtime.limiter.owner import LeaseOwner

NEW: Final = 0
WAITING: Final = 1
HELD: Final = 2
ENDED: Final = 3

_CLAIMS = allocate_lock()  # protects `_claimed` and `served` of every ticket; taken under an arbiter's lock


class AnyArbiter(Protocol):
    """An `Arbiter`, or a `RemoteArbiter` that asks one in another process. See there.

    Attributes:
        holds: whether some of it frees itself by release only.
        desk: where requests of several arbiters are handed in together; None where each is asked by itself.
        outside: what other processes hold of it; None where no process asks here.
    """

    holds: bool
    desk: Any
    outside: Any

    def try_request(self, lease: Lease) -> bool: ...
    def try_settled(self, lease: Lease) -> bool: ...
    def lend(self, leases: Sequence[Lease]) -> int: ...
    def request(self, lease: Lease, ticket: Ticket) -> None: ...
    def release(self, lease: Lease) -> None: ...
    def withdraw(self, lease: Lease) -> None: ...
    def end(self, lease: Lease) -> None: ...
    def end_wait(self, lease: Lease) -> bool: ...
    def fits(self, key: str, amount: float) -> bool: ...
    def prospect(self, amounts: Mapping[str, float]) -> tuple[int, float, float]: ...
    def never_fits(self, key: str, amount: float) -> float | None: ...
    def look(self, key: str) -> tuple[float, int]: ...


class Lease:
    """`amounts` by key, at `arbiter`, for `owner` (or nobody in particular).

    Attributes:
        usage: what was spent, by key, as far as it was reported; settled when the lease ends.
        marks: what the meters gave, in the order of `amounts`; one for each amount that is taken.
        number: its place in the order of requests; in another process, what it is called between the two.
    """

    __slots__ = ("amounts", "arbiter", "marks", "number", "owner", "state", "ticket", "usage")

    def __init__(self, arbiter: AnyArbiter, amounts: Mapping[str, float], owner: LeaseOwner | None = None) -> None:
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
