"""The feed of an actor elsewhere: which calls it is given, and how many at a time. To the mailbox it is a taker.

    mailbox --give: while it has room (`width`)-----> channel       an idle actor is given what comes
            --take_some: from the backlog, in batches--> channel    a busy one is sent ahead, by its credit
    replies --> credit adapts, pump                                 an idle one has others give back what waits there

Guarantees: a call goes to an actor that has room before it is sent ahead to a busy one. Sent ahead is as much as takes
`Transport.ahead_s`, by how long calls took, and no more than `most`: over a short way, for calls of milliseconds one,
for those of tenths of a second none. What was sent ahead and has not begun comes back when another actor has nothing to
do. So none waits behind a slow call while an actor is free, as long as the slow call lets its process hear.
Assumes: `replied` comes from the channel's I/O thread, `pump` also from threads that submit; `give` from anywhere,
under the mailbox's lock.
Called by: the member (owns it), the mailbox, the intake (`pump`, now and then, where a backlog grows).
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

from concurry.runtime.mailbox import Mailbox

_LONG_S = 0.05  # calls that take longer are not sent ahead: a round trip is nothing beside them


class Feed:
    """See the module's docstring.

    Args:
        width: calls that the actor runs at once. most: calls that it may hold; None: no bound but the adapting.
    """

    def __init__(self, member: Any, channel: Any, mailbox: Mailbox, width: int, most: int | None) -> None:
        self.member = member
        self.channel = channel
        self.listed = False  # among the mailbox's ready; changed under its lock
        self.over = False  # it was told that no more calls will come
        self.killed = False  # its actor is being ended: nothing that it runs is waited for
        self._mailbox = mailbox
        self._most = _ROOM if most is None else max(1, min(most, _ROOM))
        self._width = min(width, self._most)
        self._ahead_s: float = member.pool.transport.ahead_s
        self._seconds: float | None = None
        self._limits = member.pool.elsewhere.time_limits
        # Sends calls that have begun, as far as this process knows.
        self.send: Callable[[list[Any]], None] = channel.send if self._limits is None else self._send_timed
        self._has_siblings = len(member.pool.members) > 1
        self.pumping = allocate_lock()  # protects the order of what is taken and sent; the mailbox's is taken under it

    def __str__(self) -> str:
        return str(self.member)

    @property
    def active(self) -> int:
        """How many calls it holds."""
        return len(self.channel.under_way)

    @property
    def total(self) -> int:
        total: int = self.member.total + self.active
        return total

    @property
    def beyond(self) -> tuple[Any, None] | None:
        """Where its actor is, for `waits`: it can wait for one of this process where it was given a handle."""
        member = self.member
        if not member.pool.plan.serial or not member.has_edge(self.channel):
            return None
        return member.edge_to(self.channel), None

    def has_room(self) -> bool:
        return len(self.channel.under_way) < self._width

    def give(self, call: Any) -> bool:
        """Send one; None: no more will come. Under the mailbox's lock."""
        if call is None:
            self.listed = False
            self.over = True
            self.channel.give(None)
            return False
        # First this, then the look for room: a reply that comes now is seen here, or sees that we are not listed.
        self.listed = False
        try:
            if call.begin():
                self.send([call])
        finally:
            self.listed = self.has_room()
        return self.listed

    def replied(self, seconds_each: float) -> None:
        """Some calls have ended, having taken so long in the mean."""
        before = self._seconds
        self._seconds = seconds_each if before is None else before + 0.5 * (seconds_each - before)
        mailbox = self._mailbox
        # The short way of one call after the other: nothing waits, and nothing else is under way.
        if mailbox.waiting or self.channel.under_way or self._has_siblings or not mailbox.rest(self):
            self.pump()

    def credit(self) -> int:
        """How many calls it may hold now."""
        seconds = self._seconds
        if seconds is None or seconds > _LONG_S:
            return self._width
        ahead = self._most if seconds <= 0 else max(1, int(self._width * self._ahead_s / seconds))
        return min(self._most, self._width + ahead)

    def pump(self) -> None:
        """Take from the backlog what there is room for, or be ready."""
        if self.listed or self.over:
            return
        under_way = self.channel.under_way
        with self.pumping:
            credit, held = self.credit(), self.channel.held()
            # Not one for one: calls that go singly come back singly, and cost a message each for ever.
            if held < self._width or credit - held > credit // 4:
                self._pump(credit)
        listed: bool = self.listed  # `take_some` may have listed us
        if self._has_siblings and listed and not under_way:
            self.member.pool.elsewhere.nothing_to_do(self.member)

    def _pump(self, credit: int) -> None:
        begun: list[Any] = []
        # Once, but where all of them have ended meanwhile: then there is no reply that would bring us here again.
        while not (begun and self.channel.under_way) and (room := credit - self.channel.held()) > 0:
            least = self._width - len(self.channel.under_way)
            calls = self._mailbox.take_some(self, room, least, 2 * len(self.member.pool.members))
            if not calls:
                return
            begun = [call for call in calls if call.begin()]
            self.send(begun)

    def _send_timed(self, calls: list[Any]) -> None:
        self.channel.send(calls)
        self._limits.sent(calls)

    def unbegun(self) -> bool:
        """Whether it holds calls that it cannot have begun."""
        return len(self.channel.under_way) > self._width


_ROOM = 4000  # calls on one channel: what a board has room for
