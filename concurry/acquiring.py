"""To take what is requested from the first of several LimitSets that has it: in a thread, or in a coroutine.

Guarantees: exactly one set is taken from, in the order given where several are free. Where none is, the request waits
at all of them at once, in its place in each line, and the first to have it free serves. A set that could never serve
the request is left out; the request is an error where that is so of every set.
Called by: LimitSet (with itself alone) and LimitPool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from concurry.acquisition import Acquisition, PendingAcquisition
from concurry.limit import number
from concurry.runtime.limiter.blocks import own_hold
from concurry.runtime.limiter.lease import Lease
from concurry.runtime.limiter.waiting import take_now, take_settled, wait, wait_async

if TYPE_CHECKING:
    from concurry.limit_set import LimitSet

Requested = Mapping[str, float] | None


def take(sets: Sequence[LimitSet], requested: Requested) -> Acquisition | None:
    """From the first set that has it free now, without passing anybody; None where none has.

    Raises:
        ValueError: the request cannot be served by any of them.
    """
    leases = _leases(sets, requested)
    return leases if isinstance(leases, Acquisition) else _taken(sets, take_settled(leases))


def acquire(sets: Sequence[LimitSet], requested: Requested, timeout: float | None) -> Acquisition:
    """The same, waiting in this thread.

    Raises:
        ValueError: the request cannot be served by any of them. TimeoutError: not free in time, nothing is taken.
        DeadlockError: without a timeout, and this thread itself holds what it would wait for.
    """
    seconds = checked(timeout)
    leases = _leases(sets, requested)
    if isinstance(leases, Acquisition):
        return leases
    taken = _taken(sets, take_now(leases) or wait(leases, seconds))
    if taken is None:
        raise late(sets, requested, timeout, leases)
    return taken


async def acquire_later(
    sets: Sequence[LimitSet],
    requested: Requested,
    timeout: float | None,  # noqa: ASYNC109  # part of the request
) -> Acquisition:
    """The same in a coroutine; the loop goes on meanwhile."""
    seconds = checked(timeout)
    leases = _leases(sets, requested)
    if isinstance(leases, Acquisition):
        return leases
    taken = _taken(sets, take_now(leases) or await wait_async(leases, seconds))
    if taken is None:
        raise late(sets, requested, timeout)
    return taken


def pending(sets: Sequence[LimitSet], requested: Requested, timeout: float | None) -> Acquisition:
    """What will be taken by `async with`, `await` or, where it is free at once, `with`. A request that no set can
    serve is refused here already."""
    checked(timeout)
    leases = _leases(sets, requested)
    if isinstance(leases, Acquisition):
        return leases  # there is nothing to wait for
    requested = dict(requested or {})  # the caller's may change until it is taken
    return PendingAcquisition(sets[0], lambda: take(sets, requested), lambda: acquire_later(sets, requested, timeout))


def checked(timeout: Any) -> float | None:
    """A timeout as seconds. Raises ValueError where it is no number."""
    return None if timeout is None else number(timeout, "timeout")


def late(
    sets: Sequence[LimitSet], requested: Requested, timeout: float | None, leases: Sequence[Lease] = ()
) -> TimeoutError:
    """The error of a request that was not served in time. `leases`: those that waited, where a thread did."""
    own = own_hold(leases)
    seen = [{key: f"{it['current_usage']} of {it['capacity']}" for key, it in s.get_stats().items()} for s in sets]
    return TimeoutError(
        f"limits were not free within {timeout} s: requested {dict(requested or {}) or 'the implied amounts'}, "
        f"taken are {seen[0] if len(seen) == 1 else seen}; nothing was acquired. "
        + (f"It could not be: {own}" if own else "Raise the timeout, or ask for less")
    )


def _leases(sets: Sequence[LimitSet], requested: Requested) -> list[Lease] | Acquisition:
    """A lease for each set that can serve the request, or an acquisition where one has nothing to lease."""
    leases: list[Lease] = []
    refusal: ValueError | None = None
    for each in sets:
        try:
            lease = each.lease(requested)
        except ValueError as error:
            refusal = refusal or error
            continue
        if lease is None:
            return each.nothing()
        leases.append(lease)
    if refusal is not None and not leases:
        raise refusal
    return leases


def _taken(sets: Sequence[LimitSet], lease: Lease | None) -> Acquisition | None:
    if lease is None:
        return None
    return Acquisition(next(each for each in sets if each.counts(lease)), lease)
