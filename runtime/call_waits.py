"""What a call waits for inside its method: limits, and the next attempt. Such a wait ends with the call.

    call_timeout, stop, cancel --abandon--> the call's future --hook--> the wait ends, and nothing is begun after it
    stop begins  --leave--> calls that wait for limits end; those between two attempts end with the last one's outcome

Guarantees: a call that was reported as ended takes no limit and begins no attempt afterwards (nothing is sent, or paid,
for an answer that nobody will get); what it holds stays held until its method returns. Nothing polls.
Assumes: the actor's layers enter `Running` while a call runs that has limits or a retry policy.
Called by: the actor's layers (`leases`, `pause`, `pause_async`); the member and `shutdown` (`leave`); the deadlines.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_running: ContextVar[Running | None] = ContextVar("concurry_running_call", default=None)


class Running:
    """Around a call while it runs: so its waits know it. What the user starts meanwhile copies the context and may live
    for long, so the call does not stand in it itself."""

    __slots__ = ("_token", "call")

    def __init__(self, call: Any) -> None:
        self.call = call

    def __enter__(self) -> None:
        self._token = _running.set(self)

    def __exit__(self, *_: object) -> None:
        _running.reset(self._token)
        self.call = None


def running_call() -> Any:
    """The call that this code runs for, where it has limits or a retry policy; else None."""
    running = _running.get()
    return None if running is None else running.call


class CallWaits:
    """The waits of one actor's calls."""

    def __init__(self) -> None:
        self.running: set[Leases] = set()  # of attempts that run; adding and discarding are atomic
        self.stopped: Callable[[Any], BaseException] | None = None  # set when the actor shall end
        self._wakes: dict[Callable[[], object], Any] = {}  # what ends a pause -> its call

    def leases(self) -> Leases:
        """A context manager around one attempt: what it takes of the limits is given back when it ends."""
        return Leases(self)

    def waits(self, call: Any) -> bool:
        """Whether a call is in such a wait now."""
        return call in list(self._wakes.values()) or any(it.call is call and it.waits() for it in list(self.running))

    def leave(self, stopped: Callable[[Any], BaseException]) -> None:
        """The actor shall end: no call of its waits any more, now and from now on.

        Args:
            stopped: makes what a call ends with that would have to wait for its limits.
        """
        self.stopped = stopped
        for leases in list(self.running):
            leases.leave()
        for wake in list(self._wakes):
            wake()

    def pause(self, seconds: float) -> bool:
        """Wait in this thread, such as before the next attempt. False, early: the call or the actor ends."""
        woken = threading.Event()
        with self._pausing(woken.set) as ended:
            return not ended() and not woken.wait(min(seconds, threading.TIMEOUT_MAX))

    async def pause_async(self, seconds: float) -> bool:
        """The same in a coroutine; the loop runs other calls meanwhile."""
        import asyncio

        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

        with self._pausing(wake) as ended:
            if ended():
                return False
            try:
                async with asyncio.timeout(seconds):
                    await woken.wait()
            except TimeoutError:
                return True
            return False

    @contextmanager
    def _pausing(self, wake: Callable[[], object]) -> Generator[Callable[[], bool]]:
        call = running_call()

        def hook(_: Any) -> None:
            wake()

        self._wakes[wake] = call
        if call is not None:
            call.add_hook(hook)
        try:
            yield lambda: self.stopped is not None or (call is not None and call.done())
        finally:
            del self._wakes[wake]
            if call is not None:
                call.remove_hook(hook)


class Leases:
    """What one attempt of a call holds of the limits: given back when it ends, however it ends."""

    __slots__ = ("_of", "_owner", "_token", "call")

    def __init__(self, of: CallWaits) -> None:
        self._of = of
        self.call: Any = None

    def waits(self) -> bool:
        """Whether the attempt waits for limits now."""
        return self._owner.waits()

    def leave(self) -> None:
        """The actor shall end: limits that are free at once may still be taken, others not."""
        self._owner.refuse(waits_only=True)

    def __enter__(self) -> None:
        from concurry.runtime.limiter.owner import LeaseOwner, current_owner

        self.call = call = running_call()
        self._owner = LeaseOwner("a call" if call is None else f"{call.name}()")
        self._of.running.add(self)
        if self._of.stopped is not None:
            self.leave()
        if call is not None:
            call.add_hook(self)
        self._token = current_owner.set(self._owner)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        from concurry.runtime.limiter.owner import current_owner

        current_owner.reset(self._token)
        self._of.running.discard(self)
        call, stopped = self.call, self._of.stopped
        if call is not None:
            call.remove_hook(self)
            if stopped is not None and kind is not None and issubclass(kind, CancelledError):
                call.abandon(stopped(call), call.owner)  # it had to wait, and was refused
        self._owner.close()

    def __call__(self, call: Any) -> None:
        """The hook: somebody has ended the call while the attempt runs."""
        self._owner.refuse()
