"""To take what is asked for, or wait: in a thread, or in a coroutine.

Guarantees: whoever is not given a lease leaves nothing behind, however the wait ends: the time is over, Ctrl-C, the
task is cancelled, the owner ends; a grant that came at that very moment is given back unused.
Assumes: the leases are NEW, each at another arbiter (the sets of a pool, or the one set), in the order of choice.
Called by: `LimitSet` and `LimitPool`.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

from concurry.runtime.limiter.blocks import own_hold
from concurry.runtime.limiter.lease import HELD, Lease, Ticket
from concurry.runtime.raw_lock import acquire_within
from concurry.transports.errors import DeadlockError


def take_now(leases: Sequence[Lease]) -> Lease | None:
    """The first that is free, without passing anybody who waits; None where none is."""
    for lease in leases:
        if lease.arbiter.try_request(lease):
            return lease
    return None


def take_settled(leases: Sequence[Lease]) -> Lease | None:
    """The same for whoever does not wait after it: what other processes have just given back is seen."""
    lease = take_now(leases)
    if lease is None:
        for each in leases:
            if each.arbiter.try_settled(each):
                return each
    return lease


def wait(leases: Sequence[Lease], timeout: float | None) -> Lease | None:
    """Wait in this thread until one of them is granted: at every set at once, the first to grant serves.

    Args:
        timeout: seconds; None waits as long as it takes.

    Returns:
        The lease, HELD; None where the time is over.

    Raises:
        concurrent.futures.CancelledError: the owner of the leases has ended.
        DeadlockError: without a timeout, this thread itself holds what it would wait for.
    """
    if timeout is None and (own := own_hold(leases)) is not None:
        raise DeadlockError(f"a wait for limits that could never end: {own}")
    gate = allocate_lock()
    gate.acquire()
    ticket = Ticket(gate.release)
    try:
        _request(leases, ticket)
        woken = acquire_within(gate, timeout)
        if not woken and ticket.claim():
            _leave(leases)
            return None
        if not woken:
            gate.acquire()  # somebody is serving us right now
        return _served(ticket, leases)
    except BaseException:
        _leave(leases)
        raise


async def wait_async(leases: Sequence[Lease], timeout: float | None) -> Lease | None:  # noqa: ASYNC109  # as `wait`
    """The same in a coroutine; the loop goes on meanwhile. A task that is cancelled takes its request back."""
    import asyncio

    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake_here() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def wake() -> None:
        if asyncio._get_running_loop() is loop:
            wake_here()  # somebody released in this very loop, which needs no waking
            return
        try:
            loop.call_soon_threadsafe(wake_here)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _leave(leases)

    ticket = Ticket(wake)
    try:
        _request(leases, ticket)
        if timeout is None:
            await waiter
        else:
            await asyncio.wait((waiter,), timeout=max(0, timeout))
            if not waiter.done() and ticket.claim():
                _leave(leases)
                return None
            await waiter  # where it is not done, somebody is serving us right now
        return _served(ticket, leases)
    except BaseException:
        _leave(leases)
        raise


def _request(leases: Sequence[Lease], ticket: Ticket) -> None:
    together: dict[Any, list[Lease]] = {}
    for lease in leases:
        arbiter = lease.arbiter
        if arbiter.desk is None:
            arbiter.request(lease, ticket)
        else:
            together.setdefault(arbiter.desk, []).append(lease)
    for desk, several in together.items():  # in one message: so that one of them is granted, and in their order
        desk.request(several, ticket)


def _served(ticket: Ticket, leases: Sequence[Lease]) -> Lease:
    lease = ticket.served
    for other in leases:
        if other is not lease:
            other.arbiter.withdraw(other)
    if lease is None or lease.state != HELD:
        raise CancelledError("the call that waits for these limits has ended; what it waited for is not taken")
    return lease


def _leave(leases: Sequence[Lease]) -> None:
    for lease in leases:
        lease.arbiter.withdraw(lease)
