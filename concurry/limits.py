"""Limits: the public names, and the two functions by which a handle turns its `limits` option into `self.limits`.

Called by: users, who take the names from here or from `concurry`; the handle (`shared_limits`, once) and its actors
(`limits_for_worker`, once each).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from concurry.acquisition import Acquired, Acquisition
from concurry.limit import CallLimit, Limit, RateLimit, ResourceLimit
from concurry.limit_pool import LimitPool
from concurry.limit_set import LimitSet
from concurry.runtime.enums import LoadBalancingAlgorithm

__all__ = [
    "Acquired",
    "Acquisition",
    "CallLimit",
    "Limit",
    "LimitPool",
    "LimitSet",
    "RateLimit",
    "ResourceLimit",
    "limits_for_worker",
    "shared_limits",
]

NO_LIMITS: Final = LimitPool([LimitSet(shared=True)], LoadBalancingAlgorithm.RoundRobin)


def shared_limits(option: Any, *, pooled: bool) -> LimitPool:
    """What all workers of one handle share, from the option `limits`.

    Args:
        option: None, a limit, a list of limits, a LimitSet, a list of LimitSets, or a LimitPool.
        pooled: whether the handle stands for several actors.

    Raises:
        ValueError: something else, limits mixed with sets, two limits of one key, or a set with shared=False for
            several actors.
    """
    if option is None:
        return NO_LIMITS
    if isinstance(option, LimitPool):
        pool = option
    elif isinstance(option, LimitSet):
        pool = LimitPool([option])
    else:
        parts: list[Any] = [option] if isinstance(option, Limit) else _listed(option)
        if not parts:
            return NO_LIMITS
        if all(isinstance(part, LimitSet) for part in parts):
            pool = LimitPool(parts)
        elif all(isinstance(part, Limit) for part in parts):
            pool = LimitPool([LimitSet(parts, shared=True)])
        else:
            raise _refusal(option)
    if pooled:
        for each in pool.limit_sets:
            if not each.shared:
                raise ValueError(
                    f"{each!r} has shared=False and is given to several actors, which share it: write "
                    f"LimitSet(..., shared=True), or hand over the list of limits"
                )
    return pool


def limits_for_worker(normalised: LimitPool, worker_index: int) -> LimitPool:
    """`self.limits` of the actor with this number: the same sets, its own turn among them."""
    return LimitPool(normalised.limit_sets, normalised.load_balancing, worker_index)


def _listed(option: Any) -> list[Any]:
    if isinstance(option, (str, bytes, Mapping)) or not hasattr(option, "__iter__"):
        raise _refusal(option)
    return list(option)


def _refusal(option: Any) -> ValueError:
    return ValueError(
        f"limits={option!r} is refused: it must be a limit, a list of limits, a LimitSet, a list of LimitSets, or a "
        f"LimitPool"
    )
