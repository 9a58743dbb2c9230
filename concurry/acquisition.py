"""An acquisition: what was taken of a LimitSet, and the way to report and to give back.

Guarantees: it is given back once, when the block ends, however it ends; leaving the block never hides what the block
raised. A missing report is an error of the block only where it ended normally, and after everything is given back:
what was not reported counts as used.
Called by: LimitSet and LimitPool make them; users hold them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Awaitable, Callable, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from concurry.runtime.limiter import blocks
from concurry.runtime.limiter.lease import HELD, Lease
from concurry.transports.errors import LimitStateError, LimitTypeError

if TYPE_CHECKING:
    from concurry.limit_set import LimitSet

__all__ = ["Acquired", "Acquisition"]


class Acquired(NamedTuple):
    """Of one limit: what was requested, and what is reported as used; None where nothing is reported."""

    requested: float
    used: float | None


class Acquisition:
    """See the module's docstring. A context manager, for `with` and for `async with`."""

    __slots__ = ("_lease", "_of")

    def __init__(self, of: LimitSet, lease: Lease | None) -> None:
        self._of = of
        self._lease = lease  # None: nothing was taken

    @property
    def successful(self) -> bool:
        """Whether it was granted."""
        return self._lease is not None

    @property
    def acquisitions(self) -> dict[str, Acquired]:
        """What was taken and what is reported, by key."""
        lease = self._lease
        if lease is None:
            return {}
        usage = lease.usage or {}
        return {key: Acquired(amount, usage.get(key)) for key, amount in lease.amounts.items()}

    @property
    def config(self) -> dict[str, Any]:
        """A copy of the `config` of the set that it was taken from."""
        return self._of.config

    def update(self, usage: Mapping[str, float]) -> None:
        """Report what was spent: `usage`, amounts by key. A later report of a key replaces the earlier one; it is
        settled at the end.

        Less than requested: the rest is free again, where the algorithm refunds. More: a log warning, and the excess
        is charged, so that later requests wait for it. A key that was not acquired: one log warning, and ignored.

        Raises:
            RuntimeError: it is released already, or was never granted.
            ValueError: a value that cannot be. TypeError: no mapping. No retry policy tries any of these again.
        """
        lease = self._lease
        if lease is None:
            raise LimitStateError("Cannot update an acquisition that was not granted: look at .successful first")
        if lease.state != HELD:
            raise LimitStateError("Cannot update an already released acquisition: report before the block or call ends")
        if usage.__class__ is not dict and not isinstance(usage, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # users
            raise LimitTypeError(f"usage must be amounts by key, as {{'tokens': 100}}, not {usage!r}")
        known = lease.usage
        if known is None:
            known = lease.usage = {}
        for key, used in usage.items():
            amount = lease.amounts.get(key)
            if amount is None:
                self._of.warn_not_acquired(key, lease.amounts)
                continue
            if type(used) is not int and type(used) is not float:
                used = self._of.number(key, used)
            if amount == 1 or not 0 <= used <= amount:  # 1: a call that need not be reported has a rule of its own
                self._of[key].validate_usage(amount, used)
            known[key] = used

    def release(self) -> None:
        """Give it back. Idempotent, from any thread. What was not reported counts as used."""
        lease = self._lease
        if lease is not None:
            lease.arbiter.release(lease)

    def __enter__(self) -> Self:
        lease = self._lease
        if lease is not None:
            if lease.state != HELD:
                raise LimitStateError("this acquisition is already released: acquire again")
            if lease.arbiter.holds:
                blocks.enter(lease)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lease = self._lease
        if lease is None:
            return
        held = lease.state == HELD
        if lease.arbiter.holds:
            blocks.leave(lease)
        lease.arbiter.release(lease)
        if kind is None and held:
            usage = lease.usage or ()
            amounts = lease.amounts
            missing = [
                key
                for key, silent in self._of.reported.items()
                if key not in usage and amounts.get(key, silent) != silent
            ]
            if missing:
                raise LimitStateError(
                    f"Not all limits in the LimitSet were updated: {missing}. They count as fully used. What the block "
                    f"came to is lost with this error, and it is not tried again, since it would be paid for again. "
                    f"Report on every way out of the block, also before a `return` in it: "
                    f"acq.update(usage={{{', '.join(f'{key!r}: ...' for key in missing)}}})"
                )

    async def __aenter__(self) -> Self:
        # Not `blocks.enter`: the block is a task's, and the thread goes on with other tasks
        if self._lease is not None and self._lease.state != HELD:
            raise LimitStateError("this acquisition is already released: acquire again")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __await__(self) -> Generator[Any, None, Self]:
        """What was granted at once may be awaited as well."""
        yield from ()
        return self

    def __repr__(self) -> str:
        lease = self._lease
        if lease is None:
            return f"<{type(self).__name__}: not granted>"
        return f"<{type(self).__name__} of {dict(lease.amounts)}{'' if lease.state == HELD else ', released'}>"


class PendingAcquisition(Acquisition):
    """What `acquire` returns inside a running event loop: it is taken by `async with` or `await`, which wait without
    holding up the loop. Plain `with` takes it where it is free at once.

    `now` takes it without waiting, or returns None; `later` waits for it.
    """

    __slots__ = ("_later", "_line", "_now")

    def __init__(
        self, of: LimitSet, now: Callable[[], Acquisition | None], later: Callable[[], Awaitable[Acquisition]]
    ) -> None:
        super().__init__(of, None)
        self._now: Callable[[], Acquisition | None] | None = now  # None: it was asked for
        self._later = later
        self._line = _users_line()

    def _adopt(self, taken: Acquisition) -> Self:
        self._of, self._lease = taken._of, taken._lease
        return self

    def __enter__(self) -> Self:
        if self._now is None:
            return super().__enter__()
        now, self._now = self._now, None
        taken = now()
        if taken is None:
            raise RuntimeError(
                "these limits are not free at once, and waiting here would hold up the event loop: write "
                "`async with limits.acquire(...)`, or `await limits.async_acquire(...)`"
            )
        return self._adopt(taken)

    async def __aenter__(self) -> Self:
        if self._now is None:
            return await super().__aenter__()
        self._now = None
        return self._adopt(await self._later())

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    def __del__(self) -> None:
        if getattr(self, "_now", None) is not None:
            filename, line, names = self._line
            warnings.warn_explicit(
                "limits.acquire() inside an event loop was neither awaited nor entered, so nothing was taken: write "
                "`async with limits.acquire(...)` or `await limits.acquire(...)`",
                RuntimeWarning,
                filename,
                line,
                module=names.get("__name__"),
                registry=names.setdefault("__warningregistry__", {}),  # so that it is said once a line, as others are
                source=self,
            )


def _users_line() -> tuple[str, int, dict[str, Any]]:
    """Where the caller outside concurry stands: the file, the line, and the module's names."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "concurry":
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno, frame.f_globals


class NothingToAcquire(Acquisition):
    """Of an empty set: always granted, never used up. One for the whole set, since it has nothing to keep."""

    __slots__ = ()

    def __init__(self, of: LimitSet) -> None:
        super().__init__(of, None)

    @property
    def successful(self) -> bool:
        return True

    def update(self, usage: Mapping[str, float]) -> None:
        for key in usage:
            self._of.warn_not_acquired(key, {})

    def release(self) -> None:
        """There is nothing to give back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None
