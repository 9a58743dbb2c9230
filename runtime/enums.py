"""The enums of the public interface. Each member is also a `str`, and each enum is called with any case of a name or
alias: `ExecutionMode("Thread")`, `ExecutionMode("threads")` and `ExecutionMode.Threads` are one value.

Assumes nothing; called by every floor above the wires. Exported from `concurry`.
"""

from __future__ import annotations

from enum import Enum
from typing import Any


class NamedEnum(str, Enum):  # noqa: UP042 - StrEnum takes no aliases in __new__
    """A `str` enum whose members are found by name or alias, in any case; `_` and `-` count for nothing."""

    aliases: tuple[str, ...]

    def __new__(cls, value: str, *aliases: str) -> NamedEnum:
        member = str.__new__(cls, value)
        member._value_ = value
        member.aliases = aliases
        return member

    @classmethod
    def _missing_(cls, value: object) -> Any:
        if isinstance(value, str):
            wanted = _plain(value)
            for member in cls:
                if wanted in (_plain(member.name), _plain(member._value_), *map(_plain, member.aliases)):
                    return member
        names = ", ".join(repr(member._value_) for member in cls)
        raise ValueError(f"Could not find enum with value {value!r} in {cls.__name__}; it has {names}")

    def __str__(self) -> str:
        return str(self._value_)


def _plain(text: str) -> str:
    return text.strip().lower().replace("_", "").replace("-", "").replace(" ", "")


class ExecutionMode(NamedEnum):
    """Where an actor runs. `Auto`: asyncio for a class that has async methods only, else thread."""

    Auto = "auto"
    Sync = "sync", "synchronous"
    Asyncio = "asyncio", "async", "asynchronous"
    Threads = "thread", "threads"
    Processes = "process", "processes", "proc", "procs"
    Ray = "ray"


class LoadBalancingAlgorithm(NamedEnum):
    """Who is given a call, among the actors that have credit; or, in a LimitPool, which set is asked first.

    `Soonest` is for a LimitPool only, which has no other but `RoundRobin` and `Random`.
    """

    RoundRobin = "round_robin", "rr"
    LeastActiveLoad = "least_active", "active", "least_active_load"
    LeastTotalLoad = "least_total", "total", "least_total_load"
    Random = "random", "rand"
    Soonest = "soonest", "free_soonest"


class RateLimitAlgorithm(NamedEnum):
    """How a `RateLimit` counts. The default is `SlidingWindow` (another one: the setting `rate_limit_algorithm`).

    Each grants a limit of 60 in 60 seconds 60 a minute in the long run, and all 60 at one moment, a burst, where
    nothing was taken before. They differ in what may follow that, and in what comes free of what was not used:

    - `SlidingWindow`: at most 60 in any 60 s. After a burst nothing for 60 s, then the next 60. What is not used comes
      free at once, as long as it counts.
    - `FixedWindow`: at most 60 in each window, counted from the first grant; so 120 around the end of a window. After
      a burst nothing until the window ends, then the next 60. What is not used comes free within its window.
    - `TokenBucket` and `GCRA`: 60, and 1 more each second: at most 120 in the first 60 s, 60 in each 60 s after that.
      After a burst 1 each second: they smooth. What is not used comes free at once.
    - `LeakyBucket`: as these two, and smooths alike; but what is not used does not come free, it runs out with time.

    The sliding window is the one that never grants more than a provider allows who counts over any minute. No burst at
    all takes a smaller limit of the same rate, such as 1 in 1 s; then nobody can request more than 1 at a time.
    What is used beyond the request is charged in each of them, and later grants wait for it.
    """

    TokenBucket = "token_bucket", "token"
    LeakyBucket = "leaky_bucket", "leaky"
    SlidingWindow = "sliding_window", "sliding"
    FixedWindow = "fixed_window", "fixed"
    GCRA = "gcra"


class RetryAlgorithm(NamedEnum):
    """How the wait grows from one attempt to the next."""

    Linear = "linear"
    Exponential = "exponential"
    Fibonacci = "fibonacci"
    Fixed = "fixed"


class PollingAlgorithm(NamedEnum):
    """Accepted where older code passes it, and ignored: nothing polls."""

    Fixed = "fixed"
    Adaptive = "adaptive"
    Exponential = "exponential"
    Progressive = "progressive"


class ReturnWhen(NamedEnum):
    """When `wait` returns."""

    ALL_COMPLETED = "all_completed", "all"
    FIRST_COMPLETED = "first_completed", "first"
    FIRST_EXCEPTION = "first_exception", "exception"


class RateWindow(NamedEnum):
    """A span of time by name, for `RateLimit(window=...)`."""

    seconds: int

    def __new__(cls, value: str, seconds: int, *aliases: str) -> RateWindow:
        member = str.__new__(cls, value)
        member._value_ = value
        stems = (value.removesuffix("ly") if value != "daily" else "day", *aliases)
        plural = tuple(word + end for word in stems for end in ("", "s"))
        member.aliases = (*plural, *("per_" + word for word in plural))
        member.seconds = seconds
        return member

    def to_seconds(self) -> int:
        """The span in seconds."""
        return self.seconds

    Secondly = "secondly", 1, "sec"
    Minutely = "minutely", 60, "min"
    Hourly = "hourly", 3600, "hr"
    Daily = "daily", 86_400
    Weekly = "weekly", 604_800, "wk"
