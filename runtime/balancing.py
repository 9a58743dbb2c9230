"""Who is given a call, among those that have credit. Pure: the ready ones in, an index out.

The ready stand in the order in which they became ready, the longest idle first. Round robin takes that one: with calls
of equal length it is the rotation 0, 1, 2, …, and it needs no counter that a slow call could hold up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from concurry.runtime.enums import LoadBalancingAlgorithm

Choose = Callable[[Sequence[Any]], int]


def round_robin(ready: Sequence[Any]) -> int:
    """The one that has been ready longest."""
    return 0


def least_active(ready: Sequence[Any]) -> int:
    """The one that runs the fewest calls now; of equals, the longest ready."""
    return min(range(len(ready)), key=lambda i: ready[i].active)


def least_total(ready: Sequence[Any]) -> int:
    """The one that has been given the fewest calls so far; of equals, the longest ready."""
    return min(range(len(ready)), key=lambda i: ready[i].total)


def any_of(ready: Sequence[Any]) -> int:
    """One at random."""
    import random

    return random.randrange(len(ready))


BY_NAME: dict[str, Choose] = {
    LoadBalancingAlgorithm.RoundRobin.value: round_robin,
    LoadBalancingAlgorithm.LeastActiveLoad.value: least_active,
    LoadBalancingAlgorithm.LeastTotalLoad.value: least_total,
    LoadBalancingAlgorithm.Random.value: any_of,
}
