"""The settings of the configuration that no single worker has: each has here its one declaration.

Called by: the configuration, which says what each of them is now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from concurry import option as check_for
from concurry.option import Option
from concurry.options import CONFIGURATION_ONLY
from concurry.runtime.enums import LoadBalancingAlgorithm, RateLimitAlgorithm


def _smoothing(value: Any) -> float:
    smoothing = check_for.number()(value)
    if smoothing > 1:
        raise ValueError
    return smoothing


_BALANCING: Final = LoadBalancingAlgorithm
_OF_WORKERS: Final = check_for.one_of(_BALANCING, but=(_BALANCING.Soonest,))
_OF_LIMITS: Final = check_for.one_of(_BALANCING, but=(_BALANCING.LeastActiveLoad, _BALANCING.LeastTotalLoad))
SETTINGS: Final[Mapping[str, Option[Any]]] = {  # what no single worker has
    "rate_limit_algorithm": Option(
        check_for.one_of(RateLimitAlgorithm), RateLimitAlgorithm.SlidingWindow, "an algorithm", "how a RateLimit counts"
    ),
    "limit_pool_load_balancing": Option(
        _OF_LIMITS, _BALANCING.RoundRobin, "an algorithm", "how a LimitPool chooses a set"
    ),
    "task_decorator_on_demand": Option(check_for.flag, True, "True or False", "on_demand of functions under @task"),
    "load_balancing_on_demand": Option(
        _OF_WORKERS, _BALANCING.Random, "an algorithm", "load_balancing of pools with an actor per call"
    ),
    "progress_bar_ncols": Option[int | None](
        check_for.optional(check_for.count(0)),
        100,
        "a whole number, 0 or more, or None for the terminal's width",
        "the width of a ProgressBar, columns",
    ),
    "progress_bar_smoothing": Option(
        _smoothing, 0.15, "a number from 0 to 1", "0: the mean speed; 1: the last speed; for the time left"
    ),
    "progress_bar_miniters": Option[float | None](
        check_for.optional(check_for.number()),
        1,
        "a number, 0 or more, or None for tqdm's own choice",
        "counts of a ProgressBar between two looks at the clock",
    ),
}
assert tuple(SETTINGS) == CONFIGURATION_ONLY
