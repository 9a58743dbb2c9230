"""The meter of an algorithm, by name.

| algorithm | rule | refund |
|---|---|---|
| `token_bucket`, `gcra` | in any [a, b]: capacity + rate·(b - a) | yes |
| `leaky_bucket` | the same | no: what was poured in runs out of it, used or not |
| `sliding_window` | capacity in any window | yes: lowers its entry, while that counts |
| `fixed_window` | capacity in each window, counted from the first grant | yes, within the window of the grant |
"""

from __future__ import annotations

from collections.abc import Callable
from math import isinf

from concurry.runtime.enums import RateLimitAlgorithm
from concurry.runtime.limiter.bucket import GCRA, LeakyBucket, TokenBucket
from concurry.runtime.limiter.fixed_window import FixedWindow
from concurry.runtime.limiter.meter import Meter, Unbounded
from concurry.runtime.limiter.sliding_window import SlidingWindow

BY_NAME: dict[str, Callable[[float, float], Meter]] = {
    RateLimitAlgorithm.TokenBucket.value: TokenBucket,
    RateLimitAlgorithm.LeakyBucket.value: LeakyBucket,
    RateLimitAlgorithm.SlidingWindow.value: SlidingWindow,
    RateLimitAlgorithm.FixedWindow.value: FixedWindow,
    RateLimitAlgorithm.GCRA.value: GCRA,
}


def rate_meter(algorithm: str, capacity: float, window_s: float) -> Meter:
    """A new meter for `capacity` in `window_s` seconds, both above 0; the capacity may be infinite."""
    if isinf(capacity):
        return Unbounded(capacity)
    return BY_NAME[algorithm](capacity, window_s)
