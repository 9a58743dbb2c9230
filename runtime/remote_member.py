"""One actor that runs elsewhere, as the supervisor knows it: a member whose loop is on the other side of a wire.

    supervisor --open--> transport --payload--> the other side builds the object --READY--> feed <--> mailbox

Guarantees: those of `Member`. What it holds are the calls that were sent and not replied to; those that had not begun
when it died wait again.
Called by: the transport (it is its Job), the pool, the supervisor.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from concurry.runtime import kinds
from concurry.runtime.call_waits import CallWaits
from concurry.runtime.edges import Edge  # here: the I/O thread must not wait for an import
from concurry.runtime.feed import Feed
from concurry.runtime.mailbox import Mailbox
from concurry.runtime.member import Member
from concurry.runtime.notifier import helper
from concurry.transports.errors import WorkerDiedError


class RemoteMember(Member):
    """See the module's docstring. `feed`: of this incarnation; None before it is ready."""

    def __init__(self, pool: Any, index: int) -> None:
        super().__init__(pool, index)
        self.who = self.number
        self.settings: Mapping[str, Any] = pool.plan.settings
        self.retried = any(method.policy is not None for method in pool.plan.methods.values())
        self.feed: Feed | None = None
        self.call_waits = _WaitsThere(self)
        # To its process, by channel, where handles go there or come from there; None: that process is gone.
        self._edges: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._edge_lock = allocate_lock()  # protects them; taken under a channel's lock

    @property
    def payload(self) -> bytes:
        """What makes the actor on the other side."""
        made: bytes = self.pool.elsewhere.payload(self.index)
        return made

    def makings(self) -> tuple[int, list[int]] | None:
        """The large buffers that go with it: a descriptor for one start, and their sizes."""
        made: tuple[int, list[int]] | None = self.pool.elsewhere.makings()
        return made

    @property
    def active(self) -> int:
        feed = self.feed
        return 0 if feed is None else min(feed.active, self.pool.plan.max_concurrency)

    def open_calls(self) -> list[Any]:
        feed = self.feed
        sent = [] if feed is None else [call for call in list(feed.channel.under_way.values()) if not call.done()]
        return sent[: self.pool.plan.max_concurrency]

    def given(self) -> list[Any]:
        sent = [] if self.feed is None else list(self.feed.channel.under_way.values())
        return [call for call in [*(self._only or ()), *sent] if not call.done()]

    def running(self) -> int:
        feed = self.feed
        return 0 if feed is None or feed.killed else self.active

    def takers(self) -> list[tuple[Mailbox, Any]]:
        return [(self.pool.intakes[0].mailbox, self.feed or self)]

    def held(self) -> list[Any]:
        calls = [*(self._only or ())]
        if self.channel is not None:
            calls += self.channel.undelivered()
        return [call for call in dict.fromkeys(calls) if not call.done()]

    def quiet(self) -> Any:
        return super().quiet() if self.feed is None else self.feed.pumping

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
        if plan.traced:
            from concurry.runtime import tracing

            self.feed.send = tracing.sends(self.feed.send, channel, self)
        only, self._only = self._only, None
        if only is not None:
            self.feed.over = True
            if only[0].begin():
                self.feed.send(only)
            channel.give(None)
        if self.pool.supervisor.closing:  # set before `leave`, which has not found the feed, or does it once more
            channel.tell([kinds.LEAVE])
        super().ready(channel)

    def replied(self, channel: Any, ended: list[tuple[str, float, bool]], seconds_each: float) -> None:
        self.tallies.all_ended(ended)
        if self.feed is not None:
            self.feed.replied(seconds_each)
        limits = self.pool.elsewhere.time_limits
        if limits is not None:
            limits.replied(self)

    def tried_again(self, call: Any, attempts: int) -> None:
        retries = attempts - (call.carried is None)  # of one that was lost before, each is another one
        if retries:
            self.tallies[call.name].tried_again(retries)

    def leaving(self, channel: Any) -> None:
        if self.feed is not None:
            self.feed.over = True
            self.pool.intakes[0].mailbox.leave(self.feed)

    def given_back(self, channel: Any, calls: list[Any]) -> None:
        self.pool.intakes[0].put_back(calls)
        limits = self.pool.elsewhere.time_limits
        if limits is not None:
            limits.replied(self)
        if self.feed is not None:
            self.feed.pump()

    def carries(self, channel: Any, message: Any) -> None:
        edge = self.edge_to(channel)
        if edge is not None:
            edge.lend(message.handles)

    def edge_to(self, channel: Any) -> Any:
        """The edge along which handles go to its process, made when it is first asked for; None: that is gone."""
        with self._edge_lock:
            if channel not in self._edges:
                base = self.pool.elsewhere.handles
                self._edges[channel] = Edge(f"{self}'s process", channel.tell, member=self, base=base)
            return self._edges[channel]

    def has_edge(self, channel: Any) -> bool:
        """Whether handles may have gone there, or come from there."""
        if channel in self._edges:
            return self._edges[channel] is not None
        return bool(self.pool.elsewhere.handles)

    def gone(self, channel: Any, reason: Any) -> None:
        with self._edge_lock:
            edge, self._edges[channel] = self._edges.get(channel), None
        self.pool.elsewhere.gone(channel)
        super().gone(channel, reason)
        channel.under_way.clear()  # they have ended, or are somebody else's: who keeps the channel keeps no call
        if edge is not None:

            def gone() -> BaseException:
                return WorkerDiedError(
                    f"worker {self} died of {reason}, and with it what it had made or passed on",
                    worker=str(self),
                    pid=reason.pid,
                    exit_code=reason.exit_code,
                    signal=reason.signal,
                    incarnation=self.incarnation,
                )

            edge.close(gone)

    def message(self, channel: Any, message: list[Any], fds: list[int]) -> None:
        self.pool.elsewhere.handlers[message[0]](self, channel, message, fds)

    def aside(self, fn: Callable[[], object]) -> None:
        helper.post(fn)


class _WaitsThere(CallWaits):
    """The waits of its calls, which are in its process."""

    def __init__(self, member: RemoteMember) -> None:
        super().__init__()
        self._member = member

    def leave(self, stopped: Callable[[Any], BaseException]) -> None:
        channel = self._member.channel
        if channel is not None and self._member.feed is not None:  # else it is not there yet: `ready` says so
            channel.tell([kinds.LEAVE])
