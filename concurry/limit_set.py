"""LimitSet: limits that are taken together, all or nothing.

Guarantees: one arbiter counts it, so a set that is handed to several workers, of whatever modes, is one limit. It is
first come, first served over the whole set. What is wrong with a request is said at its line.
Called by: users; workers, through the LimitPool that is their `self.limits`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf, isnan
from types import MappingProxyType
from typing import Any, NoReturn, cast

from concurry.acquiring import acquire_later, checked, late, pending
from concurry.acquisition import Acquisition, NothingToAcquire
from concurry.limit import Limit, RateLimit, checked_amount, number
from concurry.runtime.clock import Clock
from concurry.runtime.clock import system as system_clock
from concurry.runtime.enums import ExecutionMode
from concurry.runtime.limiter.arbiter import Arbiter
from concurry.runtime.limiter.lease import AnyArbiter, Lease
from concurry.runtime.limiter.meter import Meter
from concurry.runtime.limiter.owner import current_owner
from concurry.runtime.limiter.waiting import wait
from concurry.transports.errors import LimitTypeError, LimitValueError
from concurry.transports.logs import log

__all__ = ["LimitSet"]

_MOST = sys.float_info.max
_EMPTY: Mapping[str, Any] = MappingProxyType({})


class LimitSet:
    """Limits that are taken together.

    Args:
        limits: the limits; no key twice. None or empty: everything is granted.
        shared: whether the actors of a pool may share it; False on a pool is an error there.
        mode: a hint, which may differ from the worker's.
        config: anything that belongs with the limits, such as the account they are for; `acq.config` is a copy.
        clock: for tests.

    Raises:
        ValueError: "Duplicate limit key", or an unknown mode. TypeError: something that is no limit.
    """

    __slots__ = (
        "_arbiter",
        "_by_key",
        "_config",
        "_implied",
        "_nothing",
        "_warned",
        "limits",
        "mode",
        "reported",
        "shared",
    )

    limits: tuple[Limit, ...]
    shared: bool
    mode: ExecutionMode
    reported: Mapping[str, float | None]  # the keys to be reported; the value: an amount that need not be

    def __init__(
        self,
        limits: Iterable[Limit] | Limit | None = None,
        shared: bool = False,
        mode: ExecutionMode | str = ExecutionMode.Sync,
        config: Mapping[str, Any] | None = None,
        *,
        clock: Clock = system_clock,
    ) -> None:
        self._set_up(limits, shared, mode, config, lambda meters: Arbiter(meters, clock))

    @classmethod
    def asking(
        cls,
        limits: Iterable[Limit],
        shared: bool,
        mode: ExecutionMode | str,
        config: Mapping[str, Any],
        arbiter: Callable[[Mapping[str, Meter]], AnyArbiter],
    ) -> LimitSet:
        """The same set in another process (`limits`, `shared`, `mode` and `config` as there): it asks `arbiter(...)`,
        by messages, what is free."""
        made = cls.__new__(cls)
        made._set_up(limits, shared, mode, config, arbiter)
        return made

    def _set_up(
        self,
        limits: Iterable[Limit] | Limit | None,
        shared: bool,
        mode: ExecutionMode | str,
        config: Mapping[str, Any] | None,
        make_arbiter: Callable[[Mapping[str, Meter]], AnyArbiter],
    ) -> None:
        given: list[Any] = [limits] if isinstance(limits, Limit) else list(limits or ())
        by_key: dict[str, Limit] = {}
        for limit in given:
            if not isinstance(limit, Limit):
                raise TypeError(f"a LimitSet is made of limits (RateLimit, CallLimit, ResourceLimit), not of {limit!r}")
            if limit.key in by_key:
                raise ValueError(f"Duplicate limit key {limit.key!r}: a key names one limit of a LimitSet")
            by_key[limit.key] = limit
        arbiter = make_arbiter({key: limit.make_meter() for key, limit in by_key.items()})
        by_key = {key: limit.bound_to(arbiter) for key, limit in by_key.items()}
        self._fix(
            limits=tuple(by_key.values()),
            shared=bool(shared),
            mode=ExecutionMode(mode),
            reported={key: limit.default_amount for key, limit in by_key.items() if isinstance(limit, RateLimit)},
            _arbiter=arbiter,
            _by_key=by_key,
            _config=dict(config) if config else _EMPTY,
            _implied={key: it.default_amount for key, it in by_key.items() if it.default_amount is not None},
            _warned=set(),
        )
        self._fix(_nothing=None if by_key else NothingToAcquire(self))

    _arbiter: AnyArbiter
    _by_key: dict[str, Limit]
    _config: Mapping[str, Any]
    _implied: dict[str, float]  # what a request takes without naming it
    _nothing: NothingToAcquire | None  # of a set without limits, what every request gets
    _warned: set[tuple[str, str]]

    def _fix(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def config(self) -> dict[str, Any]:
        """A copy of what was given as `config`."""
        return dict(self._config)

    # -- taking ------------------------------------------------------------------------------------------------

    def acquire(self, requested: Mapping[str, float] | None = None, timeout: float | None = None) -> Acquisition:
        """Take what is requested, all or nothing, or wait for it, first come, first served.

        In a running event loop it returns at once: `async with` or `await` on the result takes it, plain `with` only
        where it is free without waiting.

        Args:
            requested: amounts by key. A CallLimit or ResourceLimit that is not named is taken with 1, a RateLimit not
                at all. An unknown key: one log warning, and ignored.
            timeout: seconds to wait at most; None waits as long as it takes, or until the call that asks ends.

        Returns:
            The acquisition, to be used in `with`, or released by `release()`.

        Raises:
            TimeoutError: it was not free in time; nothing is taken.
            ValueError: nothing requested and a RateLimit in the set; more than a capacity; no number above 0.
            TypeError: `requested` is no mapping.
            DeadlockError: this thread waits without a timeout for so much of a ResourceLimit that it could be granted
                only after a `with` block that this very thread is in.
            concurrent.futures.CancelledError: the worker's call that asks has ended meanwhile: its `call_timeout` is
                over, it was cancelled, or the worker stops. It is raised here, in the method, so that the method ends
                as well; nothing is taken, and the caller has got its own error already.
            RuntimeError: on leaving the block, where something rate-limited was not reported by `update`.

        No retry policy tries the ValueError, TypeError, DeadlockError or RuntimeError again: they are slips in the
        program (`concurry.errors.MisuseError`).
        """
        if not requested and self._nothing is not None:
            return self._nothing
        loops = sys.modules.get("asyncio.events")  # not imported: no loop runs
        if loops is not None and loops._get_running_loop() is not None:
            return pending((self,), requested, timeout)
        if timeout is not None:
            timeout = checked(timeout)
        amounts = self.amounts(requested)
        if not amounts:
            return self.nothing()
        lease = Lease(self._arbiter, amounts, current_owner.get())
        if not self._arbiter.try_request(lease) and wait((lease,), timeout) is None:
            raise late((self,), requested, timeout, (lease,))
        return Acquisition(self, lease)

    def try_acquire(self, requested: Mapping[str, float] | None = None) -> Acquisition:
        """Take what is requested if it is free now and nobody waits for it; never waits.

        Args:
            requested: as for `acquire`.

        Returns:
            An acquisition; `.successful` says whether it was granted. One that was not may be used in `with` too.

        Raises:
            ValueError, TypeError: as `acquire` does.
        """
        if not requested and self._nothing is not None:
            return self._nothing
        lease = self.lease(requested)
        if lease is None:
            return self.nothing()
        return Acquisition(self, lease if self._arbiter.try_settled(lease) else None)

    async def async_acquire(
        self,
        requested: Mapping[str, float] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # as `acquire`
    ) -> Acquisition:
        """`acquire` for coroutines: waits without holding up the loop. A task that is cancelled takes its request back.

        Args:
            requested: as for `acquire`.
            timeout: seconds to wait at most; None waits as long as it takes.

        Returns:
            The acquisition, to be used in `with` or `async with`.

        Raises:
            TimeoutError, ValueError, TypeError: as `acquire` does. No DeadlockError: whether another task of this loop
                will release is not known.
        """
        return await acquire_later((self,), requested, timeout)

    # -- looking -----------------------------------------------------------------------------------------------

    def get_stats(self) -> dict[str, dict[str, Any]]:
        """The statistics of each limit, by key."""
        return {key: limit.get_stats() for key, limit in self._by_key.items()}

    def __getitem__(self, key: str) -> Limit:
        try:
            return self._by_key[key]
        except KeyError:
            raise KeyError(f"{key!r} is no key of this LimitSet; it has {list(self._by_key)}") from None

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)

    def __bool__(self) -> bool:
        return True  # also without limits: it is there

    def __repr__(self) -> str:
        config = f", config={dict(self._config)!r}" if self._config else ""
        # `mode` is left out: a hint without effect, which would be taken for the worker's
        return f"LimitSet({list(self.limits)!r}, shared={self.shared}{config})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a LimitSet cannot be changed: make a new one with another {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a LimitSet cannot be changed")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            "a LimitSet cannot be copied or pickled: the copy would be another limit. Hand it to a worker with "
            "limits=..., and use self.limits there"
        )

    # -- for LimitPool and acquisitions --------------------------------------------------------------------------

    def amounts(self, requested: Mapping[str, float] | None) -> dict[str, float]:
        """What a request (`requested`) takes, by key; empty where the set has no limits. Raises ValueError as `acquire`
        does."""
        amounts = self._implied.copy()
        named = False
        given: Any = requested
        if given.__class__ is not dict:
            given = _by_key(given)
        for key, amount in given.items():
            limit = self._by_key.get(key)
            if limit is None:
                self._warn_unknown(key)
                continue
            named = True
            if type(amount) is not int and type(amount) is not float:
                amount = checked_amount(limit, amount)
            if not 0 < amount <= limit.capacity or amount > _MOST:
                raise _impossible(limit, amount)
            amounts[key] = amount
        if not named and self.reported and (needed := [k for k, implied in self.reported.items() if implied is None]):
            raise LimitValueError(
                f"Must specify requested amount for RateLimit {needed}: acquire(requested={{{needed[0]!r}: ...}})"
            )
        return amounts

    def lease(self, requested: Mapping[str, float] | None) -> Lease | None:
        """A new lease for what is `requested`; None where there is nothing to lease."""
        amounts = self.amounts(requested)
        return Lease(self._arbiter, amounts, current_owner.get()) if amounts else None

    @property
    def arbiter(self) -> AnyArbiter:
        """Who counts it."""
        return self._arbiter

    def counts(self, lease: Lease) -> bool:
        """Whether a lease is one of this set's."""
        return lease.arbiter is self._arbiter

    def nothing(self) -> NothingToAcquire:
        """What a request gets that takes nothing."""
        return self._nothing or NothingToAcquire(self)

    def prospect(self, requested: Mapping[str, float] | None) -> tuple[int, float, float]:
        """How soon what is `requested` would be granted; the least is the soonest."""
        try:
            return self._arbiter.prospect(self.amounts(requested))
        except ValueError:
            return (0, inf, inf)  # never; whoever asks for it is told why

    def number(self, key: str, used: Any) -> float:
        """A reported usage (`used`, of `key`) as a number."""
        return number(used, f"the usage of {key!r}")

    def _warn_unknown(self, key: str) -> None:
        if self._by_key and ("unknown", key) not in self._warned:  # a worker without limits is no slip of the pen
            self._warned.add(("unknown", key))
            log.warning("Unknown limit key %r is ignored. Available limit keys: %s", key, list(self._by_key))

    def warn_not_acquired(self, key: str, acquired: Iterable[str]) -> None:
        """Log, once per key, that a report names what was not acquired."""
        if self._by_key and ("update", key) not in self._warned:
            self._warned.add(("update", key))
            log.warning("Cannot update limit %r: it was not acquired. Available keys: %s", key, list(acquired))


def _by_key(requested: Any) -> Mapping[str, Any]:
    if requested is None:
        return _EMPTY
    if not isinstance(requested, Mapping):
        raise LimitTypeError(
            f"requested must be amounts by key, as {{'tokens': 100}}, not {requested!r} ({type(requested).__name__})"
        )
    return cast("Mapping[str, Any]", requested)


def _impossible(limit: Limit, amount: Any) -> LimitValueError:
    if isnan(amount) or not 0 < amount <= _MOST:
        return LimitValueError(f"the requested amount of {limit.key!r} must be above 0 and finite, not {amount!r}")
    return LimitValueError(
        f"requested {amount} of {limit.key!r} exceeds capacity {limit.capacity}: it can never be fulfilled; ask for "
        f"less at a time, or raise the capacity"
    )
