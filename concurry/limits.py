"""Limits: the public names, and the two functions by which a handle turns its `limits` option into `self.limits`.

Called by: users, who take the names from here or from `concurry`; the handle (`shared_limits`, once) and its actors
(`limits_for_worker`, once each; those in other processes `remote_limits`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from concurry.acquisition import Acquired, Acquisition
from concurry.limit import CallLimit, Limit, RateLimit, ResourceLimit
from concurry.limit_pool import LimitPool
from concurry.limit_set import LimitSet
from concurry.runtime.enums import LoadBalancingAlgorithm

if TYPE_CHECKING:
    from concurry.runtime.limiter.remote_leases import Counted

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

_LONG_S: Final = 1.0
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


def limits_elsewhere(normalised: LimitPool) -> tuple[list[Counted], Callable[[Any, int], LimitPool]]:
    """For actors in other processes: the sets, by whose arbiters they are counted here; and what makes `self.limits`
    there, which can be pickled where the sets' `config` can."""
    from concurry.runtime.limiter.remote_leases import Counted

    sets = normalised.limit_sets
    counted = [Counted(it.arbiter, tuple(it), _may_lend(it), not it.reported) for it in sets]
    described = tuple((it.limits, it.shared, it.mode.value, it.config) for it in sets)
    return counted, partial(remote_limits, described, normalised.load_balancing.value)


def remote_limits(described: Iterable[Any], load_balancing: str, arbiter: Callable[..., Any], index: int) -> LimitPool:
    """`self.limits` in another process: real sets, each of which asks `arbiter(its number, meters)`."""
    sets = [
        LimitSet.asking(limits, shared, mode, config, partial(arbiter, number))
        for number, (limits, shared, mode, config) in enumerate(described)
    ]
    return LimitPool(sets, load_balancing, index)


def _may_lend(limits: LimitSet) -> bool:
    """Whether leases may be granted some milliseconds ahead of need: where no window is so short that it would show."""
    return all(it.window_seconds >= _LONG_S for it in limits.limits if isinstance(it, RateLimit))


def _listed(option: Any) -> list[Any]:
    if isinstance(option, (str, bytes, Mapping)) or not hasattr(option, "__iter__"):
        raise _refusal(option)
    return list(option)


def _refusal(option: Any) -> ValueError:
    return ValueError(
        f"limits={option!r} is refused: it must be a limit, a list of limits, a LimitSet, a list of LimitSets, or a "
        f"LimitPool"
    )
