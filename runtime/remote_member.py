"""One actor that runs elsewhere, as the supervisor knows it: a member whose loop is on the other side of a wire.

    supervisor --open--> transport --payload--> the other side builds the object --READY--> feed <--> mailbox

Guarantees: those of `Member`. What it holds are the calls that were sent and not replied to; those that had not begun
when it died wait again.
Called by: the transport (it is its Job), the pool, the supervisor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from concurry.runtime.feed import Feed
from concurry.runtime.mailbox import Mailbox
from concurry.runtime.member import Member
from concurry.runtime.notifier import helper


class RemoteMember(Member):
    """See the module's docstring. `feed`: of this incarnation; None before it is ready."""

    def __init__(self, pool: Any, index: int) -> None:
        super().__init__(pool, index)
        self.who = self.number
        self.settings: Mapping[str, Any] = pool.plan.settings
        self.feed: Feed | None = None
        self.give: Callable[[Any], bool] = self._give_later

    @property
    def payload(self) -> bytes:
        """What makes the actor on the other side."""
        made: bytes = self.pool.elsewhere.payload(self.index)
        return made

    @property
    def active(self) -> int:
        channel = self.channel
        return 0 if channel is None else min(len(channel.under_way), self.pool.plan.max_concurrency)

    def takers(self) -> list[tuple[Mailbox, Any]]:
        return [(self.pool.intakes[0].mailbox, self.feed or self)]

    def held(self) -> list[Any]:
        calls = [*(self._only or ())]
        if self.channel is not None:
            calls += self.channel.undelivered()
        return [call for call in dict.fromkeys(calls) if not call.done()]

    def let_go(self) -> list[Any]:
        calls = super().let_go()
        self.feed = None
        return calls

    def interrupt(self) -> bool:
        """Its process can be ended: there is always something to wait for."""
        return True

    # -- what the channel tells, on its own thread ------------------------------------------------------------------

    def ready(self, channel: Any) -> None:
        plan = self.pool.plan
        self.channel = channel
        self.feed = Feed(self, channel, self.pool.intakes[0].mailbox, plan.max_concurrency, plan.most_held)
        only, self._only = self._only, None
        if only is not None:
            self.feed.over = True
            if only[0].begin():
                self.feed.send(only)
            channel.give(None)
        super().ready(channel)

    def replied(self, channel: Any, ended: int, failed: int, seconds_each: float) -> None:
        self.total += ended
        self.failed += failed
        if self.feed is not None:
            self.feed.replied(seconds_each)
        limits = self.pool.elsewhere.time_limits
        if limits is not None:
            limits.replied(self)

    def leaving(self, channel: Any) -> None:
        if self.feed is not None:
            self.feed.over = True
            self.pool.intakes[0].mailbox.leave(self.feed)

    def given_back(self, channel: Any, calls: list[Any]) -> None:
        if calls:
            self.pool.elsewhere.put_back(calls)
        limits = self.pool.elsewhere.time_limits
        if limits is not None:
            limits.replied(self)
        if self.feed is not None:
            self.feed.pump()

    def message(self, channel: Any, message: list[Any], fds: list[int]) -> None:
        self.pool.elsewhere.handlers[message[0]](self, channel, message, fds)

    def aside(self, fn: Callable[[], object]) -> None:
        helper.post(fn)
