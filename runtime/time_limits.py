"""`call_timeout` of actors elsewhere, whose process can be ended.

    calls are sent --> one timer a pool --> at its time: a look at the boards: who began when
    past its time: TimeoutError at once; then its process is ended and another one started; what had not begun goes on

Guarantees: a call's clock runs from its start, retries and their waits included; nothing is sent for it but the call
itself: the board tells when it began. Where an actor runs several calls at once, an async method is cancelled, and the
process is ended only when nothing else runs in it, so that no other call is harmed.
Assumes: both sides share the machine's monotonic clock. Called by: the feed (`sent`), the member (`replied`), the pool.
"""

from __future__ import annotations

import logging
from _thread import allocate_lock
from collections.abc import Iterable
from math import inf
from typing import Any

log = logging.getLogger("concurry")

_BESIDE_OTHERS = "It was cancelled; its process is ended if it does not end by that, once no other call runs there"
_GRACE_S = 0.2  # for a cancelled method to end by itself, where other calls share its process


class TimeLimits:
    """See the module's docstring."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._clock = pool.clock
        self._methods = pool.plan.methods
        self._lock = allocate_lock()  # protects the three below; the clock's is taken under it
        self._timer: Any = None
        self._due = inf
        self._closed = False
        self._stuck: dict[Any, float] = {}  # members with calls past their time beside others -> since when

    def sent(self, calls: Iterable[Any]) -> None:
        """These are on their way: none can be past its time before its span is over."""
        spans = [span for call in calls if (span := self._methods[call.name].timeout_s) is not None]
        if spans:
            self._arm(self._clock.now() + min(spans))

    def replied(self, member: Any) -> None:
        """Some call of a member has ended: maybe the last one that kept its process from being ended."""
        since = self._stuck.get(member)
        if since is not None and self._clock.now() >= since + _GRACE_S:
            self._look_at_stuck(member)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()

    def _arm(self, when: float) -> None:
        with self._lock:
            if self._closed or when >= self._due:
                return
            if self._timer is not None:
                self._timer.cancel()
            self._due = when
            self._timer = self._clock.call_at(when, self._look)

    def _look(self) -> None:
        with self._lock:
            self._due, self._timer = inf, None
        now = self._clock.now()
        again = inf
        for member in self._pool.supervisor.everybody():
            channel = member.channel
            if channel is None:
                continue
            for number, call in list(channel.under_way.items()):
                span = self._methods[call.name].timeout_s
                if span is None or call.done():
                    continue
                began = channel.began_at(number)
                due = (now if began is None else began) + span
                if due <= now:
                    self._expire(member, channel, call, span)
                else:
                    again = min(again, due)
        for member, since in list(self._stuck.items()):
            if now >= since + _GRACE_S:
                self._look_at_stuck(member)
        if again < inf:
            self._arm(again)

    def _expire(self, member: Any, channel: Any, call: Any, span: float) -> None:
        name = f"{member}.{call.name}()"
        alone = self._pool.plan.serial
        what = "Its process was ended, and another one is started" if alone else _BESIDE_OTHERS
        # Before its caller hears of it: what the caller then releases must not go to a process that is being ended.
        owner = self._pool.elsewhere.owner(channel) if alone else None
        if owner is not None:
            owner.refuse()
        if not call.abandon(TimeoutError(f"{name} was not done within its call_timeout of {span:g} s. {what}")):
            if owner is not None:  # it has just ended by itself, and its process goes on
                owner.accept()
            return
        log.warning("%s ran past its call_timeout of %g s (pid %s)", name, span, channel.pid)
        if alone:
            channel.end(f"its end by call_timeout: {name} ran longer than {span:g} s")
        else:
            channel.interrupt(call)
            self._stuck.setdefault(member, self._clock.now())
            self._arm(self._clock.now() + _GRACE_S)

    def _look_at_stuck(self, member: Any) -> None:
        """What is past its time and still runs keeps its process from being of use: it takes no more calls, gives back
        what has not begun, and is ended when nothing but such calls is left."""
        channel = member.channel
        calls = list(channel.under_way.values())
        late = [call for call in calls if call.done()]
        if not late:
            self._stuck.pop(member, None)
        elif len(late) == len(calls):
            self._stuck.pop(member, None)
            channel.end(f"its end by call_timeout: {late[0].name}() ran longer than that, and could not be cancelled")
        else:
            member.leaving(channel)
            channel.recall()
