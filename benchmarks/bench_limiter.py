"""The limiter: what an uncontended acquisition costs, and how much of a rate is granted under steady demand.

The cost is real time; the share is by a clock that stands still, so it is exact and says nothing about this machine.
"""

from __future__ import annotations

from typing import Any

from benchmarks._beside import median_seconds, row
from concurry.limits import CallLimit, LimitPool, LimitSet, RateLimit, ResourceLimit, limits_for_worker, shared_limits
from concurry.runtime.clock import FakeClock
from concurry.runtime.enums import RateLimitAlgorithm
from concurry.runtime.limiter.algorithms import rate_meter
from concurry.runtime.limiter.arbiter import Arbiter
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
    """Of what the rate allows in `windows` windows, the share that is granted while somebody always waits."""
    clock = FakeClock(start=12_345.678)
    arbiter = Arbiter({"tokens": rate_meter(algorithm, capacity, window_s)}, clock)
    wanted = {"tokens": amount}
    granted_at: list[float] = []
    end = clock.now() + windows * window_s
    asked = 0
    while clock.now() < end:
        arbiter.request(Lease(arbiter, wanted), Ticket(lambda: granted_at.append(clock.now())))
        asked += 1
        while len(granted_at) < asked:
            clock.advance(arbiter.prospect(wanted)[1] - clock.now())
    return sum(at < end for at in granted_at) * amount / (capacity * windows)


def rows(quick: bool) -> list[dict[str, Any]]:
    count = 2_000 if quick else 20_000
    with_two = microseconds_each(two_keys(), count)
    result = [
        row("limiter: acquire + update + release, two keys", with_two, unit="µs", better="lower", at_least=12, aim=5),
        row(
            "limiter: the same inside a call",
            microseconds_each(two_keys(), count, owned=True),
            unit="µs",
            better="lower",
        ),
        row("limiter: acquire + release, one resource", microseconds_each_resource(count), unit="µs", better="lower"),
        row("limiter: no limits", microseconds_each_without_limits(count), unit="µs", better="lower", aim=1),
    ]
    for algorithm in RateLimitAlgorithm:
        # Amounts that divide the capacity, in whole numbers and in floats that are no sums of themselves.
        shares = [
            share_of_nominal(algorithm.value, capacity, amount, window_s, 10)
            for capacity, amount, window_s in ((100, 1, 60.0), (100, 100, 60.0), (0.3, 0.1, 1.0), (7.0, 0.7, 0.1))
        ]
        name = f"limiter: granted of the nominal rate, {algorithm.value}"
        result.append(row(name, min(shares), unit="share", better="higher", at_least=0.97))
    return result


def main() -> None:
    """Print the rows."""
    for each in rows(quick=False):
        aims = f"at least {each['at_least']}, aim {each['aim']}"
        print(f"{each['name']:60} {each['ours']:8.3f} {each['unit']:6} {aims}")


if __name__ == "__main__":
    main()
