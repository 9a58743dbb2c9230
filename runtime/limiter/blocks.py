"""The `with` blocks that a thread is in, and what they hold: to tell a wait that could never end.

    with limits.acquire({"slots": 1}):          enter
        with limits.acquire({"slots": 1}):      own_hold: the slot comes free only after the line that waits for it
            ...

Guarantees: `own_hold` names only what this very thread holds by blocks that it cannot leave while it waits, and only of
limits that time does not free. What it holds otherwise is left out: whoever has the acquisition may release it from
another thread, and a task's block is left by the loop. So a wait that might end is never refused.
Assumes: an acquisition in a block is released by leaving that block. `enter` and `leave` are called for sets with such
limits only; a block may be left in another thread (a generator's), or not at all.
Called by: acquisitions (`enter`, `leave`); whoever is about to wait in a thread, or has waited in vain (`own_hold`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from concurry.runtime.limiter.lease import HELD

if TYPE_CHECKING:
    from concurry.runtime.limiter.lease import Lease


class _Blocks(threading.local):
    def __init__(self) -> None:
        self.leases: list[Lease] = []  # the innermost last; those that have ended elsewhere are left in, and skipped


_mine = _Blocks()


def enter(lease: Lease) -> None:
    """This thread enters a block that holds `lease`."""
    leases = _mine.leases
    if leases and leases[-1].state != HELD:
        leases[:] = [it for it in leases if it.state == HELD]
    leases.append(lease)


def leave(lease: Lease) -> None:
    """This thread leaves it; or another one's, or a task's, of which nothing stands here."""
    leases = _mine.leases
    if leases and leases[-1] is lease:
        leases.pop()
    elif lease in leases:
        leases.remove(lease)


def own_hold(leases: Sequence[Lease]) -> str | None:
    """Why none of `leases`, for which this thread would wait at once, could be granted before one of its own blocks
    ends; None where one of them could, as far as is known."""
    if not _mine.leases or not leases:
        return None
    found = ""
    for lease in leases:
        found = _own_hold(lease)
        if not found:
            return None
    everywhere = "" if len(leases) == 1 else ", and it is so of every set of the pool"
    return (
        f"{found}, in a `with` block that it is still in{everywhere}. Take all that is needed with the first acquire, "
        f"leave the outer block before, or raise the capacity"
    )


def _own_hold(lease: Lease) -> str:
    arbiter = lease.arbiter
    # Once each: the same acquisition may be entered twice
    mine = [it for it in dict.fromkeys(_mine.leases) if it.arbiter is arbiter and it.state == HELD]
    for key, amount in lease.amounts.items():
        held = sum(it.amounts.get(key, 0) for it in mine)
        capacity = arbiter.never_fits(key, held + amount) if held else None
        if capacity is not None:
            who = "this thread" if lease.owner is None else lease.owner.name
            return f"{who} waits for {amount} of {key!r}, and holds {held} of {capacity} of {key!r} itself"
    return ""
