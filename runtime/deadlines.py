"""`call_timeout`: which running calls are past their time.

Guarantees: a call's clock runs from its start, retries and their waits included; a call past it ends with
`TimeoutError`, its caller is not kept; an async method is cancelled. A thread cannot be stopped: its actor stays busy,
is reported, and takes the next call when the method returns. While *every* actor of a pool is held like that, calls
that wait are given up as well, each after its own `call_timeout`, at most twice that: they would never start.
One timer for a whole pool. Nothing is kept of calls that have ended.
Assumes: `watch` and `ended` come from where the call runs; the timer's thread expires.
Called by: the actor's layers; the supervisor (`close`).
"""

from __future__ import annotations

import logging
from _thread import allocate_lock
from collections.abc import Callable, Collection
from typing import Any, Protocol

from concurry.runtime.clock import Clock
from concurry.runtime.settle import interrupt
from concurry.transports.logs import about

log = logging.getLogger("concurry")


class Watched(Protocol):
    """What the deadlines ask of a pool."""

    def held_up(self, stuck: Collection[Any]) -> list[Any] | None: ...

    def give_up(self, call: Any, reason: BaseException) -> None: ...


class Deadlines:
    """See the module's docstring."""

    def __init__(self, clock: Clock, name: str, pool: Watched, timeout_for: Callable[[str], float | None]) -> None:
        self._clock = clock
        self._name = name
        self._pool = pool
        self._timeout_for = timeout_for
        self._lock = allocate_lock()  # protects all fields below; a timer's lock is taken under it
        # By span: call -> (when it is due, its actor). A dict keeps its order, and equal spans fall due in order.
        self._running: dict[float, dict[Any, tuple[float, Any]]] = {}
        self._stuck: dict[Any, Any] = {}  # expired calls that still run -> their actors
        self._seen: dict[Any, float] = {}  # waiting calls -> since when no actor was free for them
        self._timer: Any = None
        self._armed = 0.0
        self._closed = False

    def watch(self, call: Any, member: Any, seconds: float) -> float:
        """A call begins. Returns when it is due, by the clock."""
        due = self._clock.now() + seconds
        with self._lock:
            calls = self._running.setdefault(seconds, {})
            calls[call] = (due, member)
            try:
                self._arm(due)
            except RuntimeError:  # no thread for the timer: the call does not begin
                del calls[call]
                raise
        return due

    def ended(self, call: Any, seconds: float) -> None:
        """It has ended, in whatever way."""
        with self._lock:
            self._running[seconds].pop(call, None)
            member = self._stuck.pop(call, None)
        if member is not None:
            said = "%s: %s(), which ran past its call_timeout, has ended; the actor goes on"
            log.info(said, member, call.name, extra=about(member, call.name))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _arm(self, when: float) -> None:
        # Not cancelled when the last call ends: a timer set and taken back for every call would start a thread each.
        if self._closed or (self._timer is not None and self._armed <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = when
        self._timer = self._clock.call_at(when, self._due)

    def _due(self) -> None:
        now = self._clock.now()
        late: list[tuple[Any, Any, float]] = []
        with self._lock:
            self._timer = None
            for seconds, calls in self._running.items():
                while calls:
                    call, (due, member) = next(iter(calls.items()))
                    if due > now:
                        self._arm(due)
                        break
                    del calls[call]
                    if call.extra is None:  # no task to cancel: its thread goes on
                        self._stuck[call] = member
                    late.append((call, member, seconds))
        for call, member, seconds in late:
            self._expire(call, member, seconds)
        self._give_up_waiting(now)

    def _expire(self, call: Any, member: Any, seconds: float) -> None:
        task, method = call.extra, call.name
        stuck = task is None and not member.call_waits.waits(call)  # else its wait ends with it, and the method soon
        if not call.abandon(
            TimeoutError(
                f"{member}.{method}() was not done within its call_timeout of {seconds:g} s"
                + (". Its thread cannot be stopped: the actor is busy until the method returns" if stuck else "")
            ),
            member,
        ):
            return
        if task is not None:
            interrupt(task)
        elif stuck:
            log.warning(
                "%s: %s() runs past its call_timeout of %g s. Its thread cannot be stopped: the actor stays busy until "
                "the method returns. Give what the method waits for a time-out of its own, shorter than call_timeout.",
                member,
                method,
                seconds,
                extra=about(member, method),
            )

    def _give_up_waiting(self, now: float) -> None:
        """Calls that wait while no actor can ever take them."""
        with self._lock:
            stuck = list(self._stuck.values())
        waiting = self._pool.held_up(stuck) if stuck else None
        if waiting is None:
            self._seen.clear()
            return
        before, self._seen = self._seen, {}
        again = now + min(span for span in self._running)
        for call in waiting:
            span = self._timeout_for(call.name)
            if span is None:
                continue
            since = before.get(call, now)
            if now - since >= span:
                reason = (
                    f"{self._name}.{call.name}() never started: every actor is held by a call past its call_timeout"
                )
                self._pool.give_up(call, TimeoutError(reason))
            else:
                self._seen[call] = since
                again = min(again, since + span)
        with self._lock:
            self._arm(again)
