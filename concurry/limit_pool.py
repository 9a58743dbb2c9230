"""LimitPool: several LimitSets, of which each acquisition takes one, such as the quotas of several accounts.

Guarantees: a set that would have to wait is passed over for one that is free. Where all would have to wait, the
request waits at all of them, and the first that is free serves it; so no quota lies idle while somebody waits.
Called by: users; the handle, which makes one for each worker: its `self.limits`.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from concurry.acquiring import acquire, acquire_later, pending, take
from concurry.acquisition import Acquisition
from concurry.limit_set import LimitSet
from concurry.runtime.enums import LoadBalancingAlgorithm

__all__ = ["LimitPool"]

_ROUND_ROBIN: Final = LoadBalancingAlgorithm.RoundRobin
_RANDOM: Final = LoadBalancingAlgorithm.Random
_SOONEST: Final = LoadBalancingAlgorithm.Soonest


class LimitPool:
    """Several sets, of which each acquisition takes one.

    Args:
        limit_sets: the sets, one or more.
        load_balancing: which set is asked first: "round_robin" (each in turn), "random", or "soonest" (the one with
            the fewest waiters, that is free soonest, and of equals has the most left); None: the configuration's,
            which is round_robin.
        worker_index: where round robin starts, so that the workers of a pool do not all begin at one set.

    Raises:
        ValueError: no set, or another algorithm. TypeError: something that is no LimitSet.
    """

    __slots__ = ("_next", "_only", "_totals", "limit_sets", "load_balancing", "worker_index")

    limit_sets: tuple[LimitSet, ...]
    load_balancing: LoadBalancingAlgorithm
    worker_index: int
    _only: LimitSet | None  # the set, where there is one
    _next: Iterator[int]  # the turns
    _totals: Iterator[int]  # counts what was asked for by `acquire`, and the tries that were granted

    def __init__(
        self,
        limit_sets: Iterable[LimitSet] | LimitSet,
        load_balancing: LoadBalancingAlgorithm | str | None = None,
        worker_index: int = 0,
    ) -> None:
        sets: tuple[Any, ...] = (limit_sets,) if isinstance(limit_sets, LimitSet) else tuple(limit_sets)
        for each in sets:
            if not isinstance(each, LimitSet):
                raise TypeError(f"a LimitPool is made of LimitSets, not of {each!r}; put limits into a LimitSet")
        if not sets:
            raise ValueError("a LimitPool needs at least one LimitSet")
        if isinstance(worker_index, bool) or not isinstance(worker_index, int) or worker_index < 0:  # type: ignore[redundant-expr]  # users
            raise ValueError(f"worker_index must be a whole number, 0 or more, not {worker_index!r}")
        if load_balancing is None:
            from concurry.config import setting  # here: it reads the environment

            load_balancing = setting("limit_pool_load_balancing")
        algorithm = LoadBalancingAlgorithm(load_balancing)
        if algorithm not in (_ROUND_ROBIN, _RANDOM, _SOONEST):
            raise ValueError(
                f"Unsupported load balancing algorithm {algorithm.value!r} for a LimitPool; it has "
                f"'round_robin', 'random' and 'soonest'"
            )
        self._fix(limit_sets=sets, load_balancing=algorithm, worker_index=worker_index)
        self._fix(_only=sets[0] if len(sets) == 1 else None, _next=itertools.count(worker_index))
        self._fix(_totals=itertools.count())

    def _fix(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def acquire(self, requested: Mapping[str, float] | None = None, timeout: float | None = None) -> Acquisition:
        """Take what is requested from one of the sets, or wait for it. `acq.config` tells from which.

        A set that could never serve the request is left out; it is an error where that is so of every set. In a
        running event loop it returns at once: `async with` or `await` on the result takes it, plain `with` only where
        it is free without waiting.

        Args:
            requested: amounts by key. A CallLimit or ResourceLimit that is not named is taken with 1, a RateLimit not
                at all. An unknown key: one log warning, and ignored.
            timeout: seconds to wait at most; None waits as long as it takes, or until the call that asks ends.

        Returns:
            The acquisition, to be used in `with`, or released by `release()`.

        Raises:
            TimeoutError: none was free in time; nothing is taken.
            ValueError: nothing requested and a RateLimit in the set; more than a capacity; no number above 0.
            TypeError: `requested` is no mapping.
            DeadlockError: this thread waits, without a timeout, for what it holds itself; see `LimitSet.acquire`.
            concurrent.futures.CancelledError: the worker's call that asks has ended meanwhile: its `call_timeout` is
                over, it was cancelled, or the worker stops. It is raised here, in the method, so that the method ends
                as well; nothing is taken, and the caller has got its own error already.
            RuntimeError: on leaving the block, where something rate-limited was not reported by `update`.
        """
        if self._only is not None:
            taken = self._only.acquire(requested, timeout)
        else:
            loops = sys.modules.get("asyncio.events")  # not imported: no loop runs
            if loops is not None and loops._get_running_loop() is not None:
                taken = pending(self._in_order(requested), requested, timeout)
            else:
                taken = acquire(self._in_order(requested), requested, timeout)
        next(self._totals)
        return taken

    def try_acquire(self, requested: Mapping[str, float] | None = None) -> Acquisition:
        """Take what is requested from the first set that has it free; never waits, passes nobody who waits.

        Args:
            requested: as for `acquire`.

        Returns:
            An acquisition; `.successful` says whether it was granted. One that was not may be used in `with` too.

        Raises:
            ValueError, TypeError: as `acquire` does.
        """
        sets = self._in_order(requested)
        taken = take(sets, requested)
        if taken is None:
            return Acquisition(sets[0], None)
        next(self._totals)
        return taken

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
        taken = await acquire_later(self._in_order(requested), requested, timeout)
        next(self._totals)
        return taken

    def get_stats(self) -> dict[str, Any]:
        """What it was asked for, and the statistics of its sets."""
        return {
            "num_limit_sets": len(self.limit_sets),
            "load_balancing": self.load_balancing.name,
            "worker_index": self.worker_index,
            "balancer_stats": {
                "algorithm": self.load_balancing.name,
                "offset": self.worker_index,
                "total_dispatched": int(repr(self._totals)[6:-1]),  # "count(7)": looks without counting
            },
            "limit_sets": [each.get_stats() for each in self.limit_sets],
        }

    def _in_order(self, requested: Mapping[str, float] | None) -> Sequence[LimitSet]:
        sets = self.limit_sets
        if self._only is not None:
            return sets
        if self.load_balancing is _SOONEST:
            return sorted(sets, key=lambda each: each.prospect(requested))
        first = random.randrange(len(sets)) if self.load_balancing is _RANDOM else next(self._next) % len(sets)
        return sets[first:] + sets[:first]

    def __getitem__(self, index: int) -> LimitSet:
        if not isinstance(index, int):  # pyright: ignore[reportUnnecessaryIsInstance]  # users write pool["key"]
            raise TypeError(
                f"LimitPool indices must be integers, not {type(index).__name__}: pool[0] is a set, and "
                f"pool[0]['key'] a limit of it"
            )
        return self.limit_sets[index]

    def __len__(self) -> int:
        return len(self.limit_sets)

    def __iter__(self) -> Iterator[LimitSet]:
        return iter(self.limit_sets)

    def __repr__(self) -> str:
        return (
            f"LimitPool({list(self.limit_sets)!r}, load_balancing={self.load_balancing.value!r}, "
            f"worker_index={self.worker_index})"
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a LimitPool cannot be changed: make a new one with another {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a LimitPool cannot be changed")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            "a LimitPool cannot be copied or pickled: the copy would be other limits. Hand it to a worker with "
            "limits=..., and use self.limits there"
        )
