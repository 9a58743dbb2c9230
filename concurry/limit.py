"""Limits as users declare them: RateLimit, CallLimit, ResourceLimit.

Guarantees: a limit is fixed once it is made, and every number in it was checked; two of the same parameters are equal.
It is a declaration: what is taken of it is counted by the LimitSet that it is part of. `can_acquire` and `get_stats`
look there. A limit given to a second set is copied: two sets never share a count by accident.
Called by: users; LimitSet, which makes the meters.
"""

from __future__ import annotations

import sys
import weakref
from _thread import allocate_lock
from collections.abc import Callable, Mapping
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any, Final, NoReturn

from concurry.runtime.enums import RateLimitAlgorithm, RateWindow
from concurry.runtime.limiter.algorithms import rate_meter
from concurry.runtime.limiter.meter import Meter
from concurry.runtime.limiter.resource import Resource
from concurry.transports.errors import LimitValueError
from concurry.transports.logs import log

if TYPE_CHECKING:
    from concurry.runtime.limiter.lease import AnyArbiter

__all__ = ["CallLimit", "Limit", "RateLimit", "ResourceLimit"]

_BINDING: Final = allocate_lock()  # protects the `_home` of every limit; no other lock is taken under it
_BY_WORD: Final[Callable[[str], RateWindow]] = RateWindow  # type: ignore[assignment]  # an enum is called with a value
_SHORTEST_WINDOW_S: Final = 1e-6  # below it, a float that holds a monotonic time of days has no digits left


def number(value: Any, what: str, *, as_text: bool = False) -> float:
    """`value` as an int or float: any real number (numpy's too), but no bool and no NaN. `as_text`: "1.5" is one too.

    Raises:
        ValueError: it is none; `what` says what it should be.
    """
    if type(value) is int:
        return value if abs(value) <= sys.float_info.max else float("inf")
    if type(value) is not float:
        import numbers

        if as_text and isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise LimitValueError(f"{what} must be a number, not {value!r}") from None
        elif isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise LimitValueError(f"{what} must be a number, not {value!r} ({type(value).__name__})")
        elif isinstance(value, numbers.Integral):
            return number(int(value), what)
        else:
            value = float(value)
    if isnan(value):
        raise LimitValueError(f"{what} must be a number, not NaN")
    return float(value)


class Limit:
    """What all limits have in common: a key, a capacity, and nothing that changes."""

    __slots__ = ("_home", "capacity", "key")

    key: str
    capacity: float
    # Where it is counted. Weak: a declaration at the top of a module does not keep the sets of past workers.
    _home: weakref.ref[AnyArbiter] | None

    # What a request takes of it where it does not name it; None: nothing. Of a rate, so much need not be reported.
    default_amount: float | None = None

    def __init__(self, key: str, capacity: Any) -> None:
        if not isinstance(key, str) or not key:  # type: ignore[redundant-expr]  # users
            raise ValueError(f"the key of a {type(self).__name__} must be a text, not {key!r}")
        capacity = number(capacity, f"the capacity of {type(self).__name__} {key!r}", as_text=True)
        if capacity <= 0:
            raise ValueError(f"the capacity of {type(self).__name__} {key!r} must be above 0, not {capacity!r}")
        self._fix(key=key, capacity=capacity, _home=None)

    def _fix(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    # -- for LimitSet ------------------------------------------------------------------------------------------

    def make_meter(self) -> Meter:
        """A new meter, of which nothing is taken. Raises NotImplementedError where the kind of limit has none."""
        raise NotImplementedError

    def bound_to(self, arbiter: AnyArbiter) -> Limit:
        """This limit, or a copy where it is another set's already, as one that `arbiter` counts."""
        with _BINDING:
            mine = self if self._home is None or self._home() is None else self._copy()
            mine._fix(_home=weakref.ref(arbiter))
        return mine

    # -- for users -----------------------------------------------------------------------------------------------

    def can_acquire(self, requested: float) -> bool:
        """Whether so much (`requested`) is free now; nothing is taken. Those who wait in line are not looked at.

        Raises:
            ValueError: it is no number above 0.
        """
        amount = checked_amount(self, requested)
        home = self._counted()
        return amount <= self.capacity and (home is None or home.fits(self.key, amount))

    def validate_usage(self, requested: float, used: float) -> None:
        """Check a report: of `requested`, `used` was spent. More than requested is a log warning, no error.

        Raises:
            ValueError: `used` cannot be.
        """
        spent = number(used, f"the usage of {self.key!r}")
        if spent < 0 or not isfinite(spent):
            raise LimitValueError(f"the usage of {self.key!r} cannot be negative or infinite, and is {used!r}")
        self._check_usage(requested, spent)
        if spent > requested:
            log.warning(
                "usage %s of limit %r exceeds requested amount %s%s", spent, self.key, requested, self._on_excess()
            )

    def get_stats(self) -> dict[str, Any]:
        """Its parameters and what is taken now, by name."""
        home = self._counted()
        used, waiting = (0, 0) if home is None else home.look(self.key)
        return {
            "key": self.key,
            **self._parameters(),
            "current_usage": used,
            "available": max(0, self.capacity - used),
            "utilization": used / self.capacity,
            "waiting": waiting,
        }

    def _counted(self) -> AnyArbiter | None:
        """Who counts it. What other processes have released by now, or do not use, is taken in before."""
        home = None if self._home is None else self._home()
        if home is not None and home.outside is not None:
            home.outside.settle()
        return home

    def _check_usage(self, requested: float, used: float) -> None:
        """Raise ValueError where this kind of limit does not take the report."""

    def _on_excess(self) -> str:
        return ""

    def _parameters(self) -> dict[str, Any]:
        return {"capacity": self.capacity}

    def _copy(self) -> Limit:
        copy = object.__new__(type(self))
        copy._fix(key=self.key, capacity=self.capacity, _home=None)
        return copy

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed: make a new one with another {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, Limit):
            return NotImplemented
        return self.key == other.key and self._parameters() == other._parameters()

    def __hash__(self) -> int:
        return hash((type(self), self.key, self.capacity))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), {"key": self.key, **self._parameters()})

    def __repr__(self) -> str:
        fields = {"key": self.key, **self._parameters()}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


class RateLimit(Limit):
    """So much in so many seconds.

    The default algorithm, the sliding window, never grants more than the capacity in any window; the whole capacity may
    go at one moment. Of 60 a minute (more in `RateLimitAlgorithm`):

    - sliding_window (default): a burst of 60, and never more than 60 in any minute; not used: free again.
    - fixed_window: a burst of 60, and 120 around the boundary of two windows; not used: free again in its window.
    - token_bucket, gcra: a burst of 60, then smoothly 1 a second; not used: free again.
    - leaky_bucket: the same; not used: not free again.

    Args:
        key: its name in requests and reports.
        capacity: how much within the window, above 0; `inf` for no limit.
        window_seconds, window, per: the window, one of the three: seconds, a `RateWindow`, or a word as "minute".
        algorithm: None: the configuration's, which is the sliding window.

    Raises:
        ValueError: a value that cannot be, none of the three windows, or several.
    """

    __slots__ = ("algorithm", "window_seconds")

    window_seconds: float
    algorithm: RateLimitAlgorithm

    def __init__(
        self,
        key: str,
        *,
        capacity: float,
        window_seconds: float | RateWindow | str | None = None,
        window: float | RateWindow | str | None = None,
        per: float | RateWindow | str | None = None,
        algorithm: RateLimitAlgorithm | str | None = None,
    ) -> None:
        super().__init__(key, capacity)
        said = {
            name: value
            for name, value in (("window_seconds", window_seconds), ("window", window), ("per", per))
            if value is not None
        }
        if len(said) != 1:
            problem = f"{' and '.join(said)} are given" if said else "no window is given"
            raise ValueError(f"limit {key!r}: {problem}; say one of window_seconds=, window= and per=")
        seconds = _seconds(key, *said.values())
        rate = self.capacity / seconds
        if not rate or (rate == float("inf") and isfinite(self.capacity)):
            raise ValueError(f"limit {key!r}: {self.capacity} in {seconds} s is no rate that floats can hold")
        self._fix(window_seconds=seconds, algorithm=_algorithm(algorithm))

    @property
    def window(self) -> float:
        """The window, seconds."""
        return self.window_seconds

    def make_meter(self) -> Meter:
        return rate_meter(self.algorithm.value, self.capacity, self.window_seconds)

    def params_signature(self) -> str:
        """Capacity, window and algorithm in short, as ``c300w60gcr``."""
        return f"c{_plain(self.capacity)}w{_plain(self.window_seconds)}{self.algorithm.value[:3]}"

    def _on_excess(self) -> str:
        return "; the excess is charged, and later requests wait for it"

    def _parameters(self) -> dict[str, Any]:
        return {
            "capacity": self.capacity,
            "window": self.window_seconds,
            "algorithm": self.algorithm.value,
        }

    def _copy(self) -> Limit:
        copy = super()._copy()
        copy._fix(window_seconds=self.window_seconds, algorithm=self.algorithm)
        return copy


class CallLimit(RateLimit):
    """So many calls in so many seconds; its key is "call_count". A request takes 1 of it without naming it, and need
    not report that.

    Args:
        capacity: how many calls within the window, 1 or more; `inf` for no limit.
        window_seconds, window, per: the window, one of the three: seconds, a `RateWindow`, or a word as "minute".
        algorithm: None: the configuration's, which is the sliding window. `RateLimit` says what there is.

    Raises:
        ValueError: a value that cannot be, none of the three windows, or several.
    """

    __slots__ = ()

    default_amount = 1

    def __init__(
        self,
        *,
        capacity: float,
        window_seconds: float | RateWindow | str | None = None,
        window: float | RateWindow | str | None = None,
        per: float | RateWindow | str | None = None,
        algorithm: RateLimitAlgorithm | str | None = None,
    ) -> None:
        super().__init__(
            "call_count",
            capacity=capacity,
            window_seconds=window_seconds,
            window=window,
            per=per,
            algorithm=algorithm,
        )
        if self.capacity < 1:
            raise ValueError(f"the capacity of a CallLimit must be 1 or more, not {capacity!r}: no call would ever fit")

    def _check_usage(self, requested: float, used: float) -> None:
        if requested == 1 and used != 1:
            raise LimitValueError(
                f"{self.key!r} was taken with 1 (implicit acquisition), and the usage of that is 1, not {used}; leave "
                f"it out of the report, or request more than 1"
            )


class ResourceLimit(Limit):
    """So many at one time: what is taken is free again when the acquisition is released.

    Args:
        key: its name in requests.
        capacity: how many, a whole number from 1.

    Raises:
        ValueError: a value that cannot be.
    """

    __slots__ = ()

    default_amount = 1

    def __init__(self, key: str, capacity: int) -> None:
        super().__init__(key, capacity)
        if not isfinite(self.capacity) or int(self.capacity) != self.capacity:
            raise ValueError(f"the capacity of ResourceLimit {key!r} must be a whole number, not {capacity!r}")
        self._fix(capacity=int(self.capacity))

    def make_meter(self) -> Meter:
        return Resource(self.capacity)


def checked_amount(limit: Limit, amount: Any) -> float:
    """An amount that a request names, as a number.

    Raises:
        ValueError: it is no finite number above 0.
    """
    checked = number(amount, f"the requested amount of {limit.key!r}")
    if checked <= 0 or not isfinite(checked):
        raise LimitValueError(f"the requested amount of {limit.key!r} must be above 0 and finite, not {amount!r}")
    return checked


def _seconds(key: str, window: float | RateWindow | str) -> float:
    if isinstance(window, str) and not isinstance(window, RateWindow):
        word = window
        try:
            window = float(word)
        except ValueError:
            window = _BY_WORD(word)
    seconds = float(window.to_seconds()) if isinstance(window, RateWindow) else number(window, f"the window of {key!r}")
    if not (seconds >= _SHORTEST_WINDOW_S and isfinite(seconds)):
        raise ValueError(f"the window of limit {key!r} must be finite, and {_SHORTEST_WINDOW_S} s or more: {window!r}")
    return seconds


def _algorithm(algorithm: RateLimitAlgorithm | str | None) -> RateLimitAlgorithm:
    if algorithm is None:
        from concurry.config import setting  # here: it reads the environment, and most limits say it themselves

        algorithm = setting("rate_limit_algorithm")
    return RateLimitAlgorithm(algorithm)


def _plain(value: float) -> str:
    return str(int(value)) if isfinite(value) and int(value) == value else str(value)


def _rebuild(cls: type[Limit], fields: Mapping[str, Any]) -> Limit:
    fields = dict(fields)
    if issubclass(cls, CallLimit):
        del fields["key"]
    return cls(**fields)
