"""`call_timeout` of actors elsewhere, whose process can be ended.

    calls are sent --> one timer a pool --> at its time: a look at the boards: who began when
    past its time: TimeoutError at once; then its process is ended and another one started; what had not begun goes on

Guarantees: a call's clock runs from its start, retries and their waits included; nothing is sent for it but the call
itself: the board tells when it began. Where an actor runs several calls at once, an async method is cancelled, and the
process is ended only when nothing else runs in it, so that no other call is harmed. A call is timed at the actor that
has it now, and not at one that has died.
Assumes: both sides share the machine's monotonic clock. Called by: the feed (`sent`), the member (`replied`), the pool.
"""

from __future__ import annotations

import logging
from _thread import allocate_lock
from collections.abc import Iterable
from math import inf
from typing import Any

from concurry.transports.logs import about

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
        self._stuck: dict[Any, float] = {}  # feeds with calls past their time beside others -> since when

    def sent(self, calls: Iterable[Any]) -> None:
        """These are on their way: none can be past its time before its span is over."""
        spans = [span for call in calls if (span := self._methods[call.name].timeout_s) is not None]
        if spans:
            self._arm(self._clock.now() + min(spans))

    def replied(self, member: Any) -> None:
        """Some call of a member has ended: maybe the last one that kept its process from being ended."""
        feed = member.feed
        since = self._stuck.get(feed)
        if since is not None and self._clock.now() >= since + _GRACE_S:
            self._look_at_stuck(feed)

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
            self._due, self._timer = inf, None
            try:
                self._timer = self._clock.call_at(when, self._look)
            except RuntimeError as error:  # no thread for a timer: the next call that is sent tries again
                log.warning("%s: its calls are not timed now: %s", self._pool.plan.name, error)
                return
            self._due = when

    def _look(self) -> None:
        with self._lock:
            self._due, self._timer = inf, None
        now = self._clock.now()
        again = inf
        for member in self._pool.supervisor.everybody():
            feed = member.feed
            if feed is None:  # it is not there yet, or has died: what it held has ended, or is held by others
                continue
            channel = feed.channel
            for number, call in list(channel.under_way.items()):
                span = self._methods[call.name].timeout_s
                if span is None or call.done():
                    continue
                began = channel.began_at(number)
                due = (now if began is None else began) + span
                if due <= now:
                    self._expire(feed, call, span)
                else:
                    again = min(again, due)
        for feed, since in list(self._stuck.items()):
            if now >= since + _GRACE_S:
                self._look_at_stuck(feed)
        if again < inf:
            self._arm(again)

    def _expire(self, feed: Any, call: Any, span: float) -> None:
        channel, name = feed.channel, f"{feed}.{call.name}()"
        alone = self._pool.plan.serial
        what = "Its process was ended, and another one is started" if alone else _BESIDE_OTHERS
        # Before its caller hears of it: what the caller then releases must not go to a process that is being ended.
        owner = self._pool.elsewhere.owner(channel) if alone else None
        if owner is not None:
            owner.refuse()
        feed.killed = alone  # the same: nothing runs there any more
        late = TimeoutError(f"{name} was not done within its call_timeout of {span:g} s. {what}")
        if not call.abandon(late, feed.member):
            feed.killed = False
            if owner is not None:  # it has just ended by itself, and its process goes on
                owner.accept()
            return
        self._pool.supervisor.late(call.name, span)
        told = about(feed, call.name)
        log.warning("%s ran past its call_timeout of %g s (pid %s)", name, span, channel.pid, extra=told)
        if alone:
            channel.end(f"its end by call_timeout: {name} ran longer than {span:g} s")
        else:
            channel.interrupt(call)
            self._stuck.setdefault(feed, self._clock.now())
            self._arm(self._clock.now() + _GRACE_S)

    def _look_at_stuck(self, feed: Any) -> None:
        """What is past its time and still runs keeps its process from being of use: it takes no more calls, gives back
        what has not begun, and is ended when nothing but such calls is left."""
        channel = feed.channel
        calls = list(channel.under_way.values())
        late = [call for call in calls if call.done()]
        if not late or feed.member.feed is not feed:
            self._stuck.pop(feed, None)
        elif len(late) == len(calls):
            self._stuck.pop(feed, None)
            feed.killed = True
            channel.end(f"its end by call_timeout: {late[0].name}() ran longer than that, and could not be cancelled")
        else:
            feed.member.leaving(channel)
            channel.recall()
