"""The limiter: what an uncontended acquisition costs, and how much of a rate is granted under steady demand.

The cost is real time; the share is by a clock that stands still, so it is exact and says nothing about this machine.
"""

from __future__ import annotations

from typing import Any

from benchmarks._beside import median_seconds, row
from concurry.limits import CallLimit, LimitPool, LimitSet, RateLimit, ResourceLimit, limits_for_worker, shared_limits
from concurry.runtime.clock import FakeClock
from concurry.runtime.enums import RateLimitAlgorithm
from concurry.runtime.limiter.arbiter import Arbiter
from concurry.runtime.limiter.algorithms import rate_meter
from concurry.runtime.limiter.lease import Lease, Ticket
from concurry.runtime.limiter.owner import LeaseOwner, current_owner

MANY = 10**9  # of capacity: nobody ever waits
REQUESTED = {"tokens": 1000}
REPORTED = {"tokens": 900}


def two_keys(algorithm: str = "sliding_window") -> LimitPool:
    """`self.limits` of a worker, with a quota of calls and one of tokens."""
    limits = [
        CallLimit(capacity=MANY, window=60, algorithm=algorithm),
        RateLimit("tokens", capacity=MANY * 1000, window=60, algorithm=algorithm),
    ]
    return limits_for_worker(shared_limits(LimitSet(limits, shared=True), pooled=True), 0)


def microseconds_each(limits: LimitPool, count: int, *, owned: bool = False) -> float:
    """One acquisition, its report and its release, through the public face."""

    def use() -> None:
        for _ in range(count):
            with limits.acquire(requested=REQUESTED) as acq:
                acq.update(usage=REPORTED)

    owner = LeaseOwner("benchmark")
    token = current_owner.set(owner if owned else None)
    try:
        return median_seconds(use) / count * 1e6
    finally:
        current_owner.reset(token)
        owner.close()


def microseconds_each_without_limits(count: int) -> float:
    limits = limits_for_worker(shared_limits(None, pooled=True), 0)

    def use() -> None:
        for _ in range(count):
            with limits.acquire():
                pass

    return median_seconds(use) / count * 1e6


def microseconds_each_resource(count: int) -> float:
    limits = LimitSet([ResourceLimit("connections", 10)], shared=True)

    def use() -> None:
        for _ in range(count):
            with limits.acquire():
                pass

    return median_seconds(use) / count * 1e6


def share_of_nominal(algorithm: str, capacity: float, amount: float, window_s: float, windows: int) -> float:
    """Of what the rate allows in `windows` windows, the share that waiters who always stand in line are given."""
    clock = FakeClock(start=12_345.678)
    arbiter = Arbiter({"tokens": rate_meter(algorithm, capacity, window_s)}, clock)
    granted = 0.0
    waiting: list[Ticket] = []

    def stand_in_line() -> None:
        lease = Lease(arbiter, {"tokens": amount})
        ticket = Ticket(waiting.clear)
        waiting.append(ticket)
        arbiter.request(lease, ticket)

    end = clock.now() + windows * window_s
    while clock.now() < end:
        if waiting:  # the arbiter has set its timer to when the amount is free
            clock.advance(max(0.0, arbiter._due - clock.now()))
            continue
        stand_in_line()
        granted += 0.0 if waiting else amount
    # The last one in line is not granted within the time; whoever was served by the timer is counted below.
    return granted / (capacity * windows)


def rows(quick: bool) -> list[dict[str, Any]]:
    count = 2_000 if quick else 20_000
    result = [
        row(
            "limiter: acquire + update + release, two keys, one thread",
            microseconds_each(two_keys(), count),
            unit="µs",
            better="lower",
            at_least=12,
            aim=5,
        ),
    ]
    return result
