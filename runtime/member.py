"""One actor of a pool, as the supervisor knows it, through all its incarnations.

    supervisor --open--> transport --serve (in the actor's context)--> build the user's object --built--> supervisor
                                            the loop takes calls
    supervisor <--gone-- transport          the class's own stop()

Guarantees: an incarnation is built before it takes a call; `held` names every call that it was given and that is not
closed; what goes wrong in `__init__` is told, not raised in the actor's context.
Assumes: one incarnation at a time; the supervisor alone opens it.
Called by: the transport (`serve`, `serve_async`, `serve_direct`, `gone`: it is the transport's Job), the supervisor.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from concurry.runtime.actor import Actor
from concurry.runtime.call_waits import CallWaits
from concurry.runtime.lanes import LoopLane
from concurry.runtime.latency import Sums, Tallies, add_cut_short
from concurry.runtime.loop import serve
from concurry.runtime.mailbox import Mailbox
from concurry.runtime.raised import cut_ours, is_cancellation
from concurry.runtime.settle import UNSETTLED, interrupt
from concurry.runtime.side_lane import SideLane
from concurry.runtime.waits import here
from concurry.transports.logs import about

log = logging.getLogger("concurry")

STARTING, READY, GONE, FAILED = "starting", "ready", "gone", "failed"


class Member:
    """See the module's docstring. To the mailbox it is a taker: `active`, `total` and `give`.

    Attributes:
        call: the one that runs, where it runs one at a time.
        outside: calls that were ended while they ran, as by their time or a death: each failed, and is in no tally.
            cut_short: the same by method.
        call_waits: what its calls wait for inside their methods.
        tallies: how many calls of each method have ended, and how long they took; of all its incarnations.
    """

    interleaves = False  # see `waits`

    def __init__(self, pool: Any, index: int) -> None:
        self.pool = pool
        self.index = index
        self.number = f"{pool.plan.name}[{index}]" if pool.plan.pooled else pool.plan.name
        self.name = f"concurry: {self.number}"
        self.incarnation = -1
        self.deaths: tuple[float, ...] = ()
        self.restarts = 0
        self.state = STARTING
        self.channel: Any = None
        self.call: Any = None
        self.outside = 0
        self.cut_short: Counter[str] = Counter()
        self._dispatched = 0  # the most that was told: a figure never falls
        self.call_waits = CallWaits()
        self.waits_as: Any = None  # who waits, for deadlock detection, where it is not itself
        self.tallies = Tallies()
        self.lane: LoopLane | None = None
        self.side: SideLane | None = None
        self.give: Callable[[Any], bool] = self._give_later
        self.init_error: BaseException | None = None
        self._only: list[Any] | None = None  # on demand: the one call that this actor is for
        self._actor: Actor | None = None
        self._last_words: Any = None  # the task of the class's own async `stop`, while it runs

    def __str__(self) -> str:
        return self.number

    @property
    def total(self) -> int:
        """How many calls have ended here."""
        return self.tallies.total

    @property
    def active(self) -> int:
        """How many calls it runs now."""
        lane, side = self.lane, self.side
        beside = side is not None and side.call is not None
        return (self.call is not None) + (lane.active if lane is not None else 0) + beside

    def open_calls(self) -> list[Any]:
        """The calls it has begun that have not ended, nor are counted."""
        return [call for call in self._shown() if call.running()]

    def given(self) -> list[Any]:
        """The calls that it was given and that have not ended, whether they have begun or not."""
        return [call for call in [*(self._only or ()), *self._shown()] if not call.done()]

    def running(self) -> int:
        """How many methods run in it, also those that nobody waits for any more."""
        return sum(call._stage != 2 for call in self._shown())

    def _shown(self) -> list[Any]:
        lane, side = self.lane, self.side
        calls = [self.call, side.call if side is not None else None]
        return [call for call in [*calls, *(lane.running if lane is not None else ())] if call is not None]

    def _give_later(self, call: Any) -> bool:
        raise AssertionError("a member is given calls while it is ready, and only then")

    # -- the supervisor's side -----------------------------------------------------------------------------------

    def open(self, call: Any = None) -> None:
        """Start an incarnation. With a `call`: it is for that one call, and ends after it."""
        self.incarnation += 1
        self.state = STARTING
        self._only = None if call is None else [call]
        channel = self.pool.transport.open(self)
        self.channel = channel

    def takers(self) -> list[tuple[Mailbox, Any]]:
        """Itself as its mailboxes know it: a taker in each."""
        mailboxes = [intake.mailbox for intake in self.pool.intakes]
        return list(zip(mailboxes, [self.lane or self, self.side], strict=False))

    def held(self) -> list[Any]:
        """After its end: the calls it was given and that are not closed, in their order."""
        calls = [*(self._only or ())]
        calls += [] if self.call is None else [self.call]
        if self.lane is not None:
            calls += self.lane.running
        if self.side is not None:
            calls += self.side.held()
        if self.channel is not None:
            calls += self.channel.undelivered()
        return [call for call in dict.fromkeys(calls) if not call.done()]

    def quiet(self) -> Any:
        """A context in which nobody is just about to send it a call that was taken for it."""
        return nullcontext()

    def let_go(self) -> list[Any]:
        """Its incarnation has ended: what it held, once, so that the next one does not seem to hold it."""
        calls = self.held()
        self.call = self._only = self.lane = self.side = None
        self.give = self._give_later
        return calls

    def interrupt(self) -> bool:
        """Do not wait any further in async methods: they are cancelled. Returns whether there may be any."""
        last_words = self._last_words or (self._actor and self._actor.last_call.extra)
        if last_words:
            interrupt(last_words)
        lane = self.lane
        if lane is not None:
            try:
                lane.loop.call_soon_threadsafe(lane.interrupt_all)
            except RuntimeError:  # it has ended meanwhile
                log.debug("%s: ended before it was interrupted", self)
        return bool(last_words) or lane is not None

    # -- the actor's context -------------------------------------------------------------------------------------

    def _build(self, channel: Any) -> Actor | None:
        self.channel = channel
        pool = self.pool
        try:
            actor = Actor(pool.plan, self, clock=pool.clock, deadlines=pool.deadlines)
        except BaseException as error:  # told to whoever called `.init()`, or to the supervisor that started it again
            cut_ours(error)
            self.failed_to_build(error)
            return None
        self._actor = actor
        return actor

    def failed_to_build(self, error: BaseException) -> None:
        """The user's object could not be made. The end of the context follows."""
        self.state = FAILED
        self.pool.supervisor.built(self, error)

    def ready(self, channel: Any) -> None:
        """The user's object is made, and `channel.give` may be used."""
        self.channel = channel
        self.give = channel.give
        self.state = READY
        self.pool.supervisor.built(self, None)

    def serve(self, channel: Any) -> None:
        """Be an actor of one call at a time, in this thread."""
        actor = self._build(channel)
        if actor is None:
            return
        here.inside = self
        here.member = self.waits_as or self
        try:
            first, take = self._sources(channel)
            serve(first, take, actor, self)
        finally:
            actor.close()
            self._actor = None
            here.member = here.inside = None

    def _sources(self, channel: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """Where the first call comes from, and where the others do."""
        if self._only is not None:
            self.ready(channel)
            return self._take_only, self._take_only
        take = self.pool.intakes[0].mailbox.source(self, channel.receive)
        self.ready(channel)
        # The supervisor lets a new actor in among the ready: its first call is given to it, not taken by it.
        return channel.receive, take

    def _take_only(self) -> Any:
        return self._only.pop() if self._only else None

    def serve_direct(self, channel: Any) -> None:
        """Be the actor of the caller's own thread."""
        actor = self._build(channel)
        if actor is None:
            return
        channel.run = _direct(actor)
        channel.close = self._end_direct
        self.ready(channel)

    def _end_direct(self) -> None:
        """The end of a direct actor, in whichever thread stops it, or whose call was the last."""
        actor, self._actor = self._actor, None
        if actor is not None:
            actor.close()

    async def serve_async(self, channel: Any) -> None:
        """Be an actor of several calls at once, on this thread's event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        actor = self._build(channel)
        if actor is None:
            return
        plan, intakes = self.pool.plan, self.pool.intakes
        apart = len(intakes) > 1  # sync methods wait apart from the async ones, and run one at a time
        sync_names = frozenset(n for n, m in plan.methods.items() if not (m.is_async or apart))
        self.lane = lane = LoopLane(self, intakes[0].mailbox, plan.max_concurrency, sync_names)
        actor.settle_on(loop)
        ended = lane.open(loop, actor, channel)
        if apart:
            self.side = SideLane(self, intakes[1].mailbox, actor)
        self.ready(channel)
        here.inside = self
        here.member = lane
        try:
            await _undisturbed(ended)
            if self.side is not None:
                await _undisturbed(self.side.ended(loop))
                self.side.join()
            lane.join_crew()
            await self._end_async(actor)
        finally:
            here.member = None
            self._actor = None
            actor.let_go()

    async def _end_async(self, actor: Actor) -> None:
        """The class's own `stop`, as a task, so that it can be cancelled when the time is over."""
        awaitable: Any
        ending = awaitable = actor.end()
        if ending.__class__ not in UNSETTLED:
            return
        import asyncio

        self._last_words = task = asyncio.ensure_future(awaitable)
        try:
            await asyncio.wait([task])
        finally:
            self._last_words = None
        error = asyncio.CancelledError("its time was over") if task.cancelled() else task.exception()
        if error is not None:
            told = about(self, "stop")
            log.error("%s: its own stop() raised; the actor ends all the same", self, exc_info=error, extra=told)

    def gone(self, channel: Any, reason: Any) -> None:
        """The transport says that the actor's context has ended."""
        self.channel = channel  # `open` may not have returned it yet
        self.pool.supervisor.gone(self, reason)

    def add_to(self, sums: dict[str, Sums]) -> None:
        """Add its calls to those of others, by method."""
        for name, tally in list(self.tallies.items()):
            sums.setdefault(name, Sums()).add(tally)
        add_cut_short(self.cut_short, sums)

    def methods(self) -> dict[str, dict[str, Any]]:
        """Its calls by method: `count`, `failed`, `retries`, `p50_s` and `p99_s`."""
        sums: dict[str, Sums] = {}
        self.add_to(sums)
        return {name: each.told() for name, each in sums.items() if each.count}

    def stats(self) -> dict[str, Any]:
        """Its figures, for `get_worker_stats`."""
        total, failed = self.tallies.ended()
        outside = self.outside
        total, failed = total + outside, failed + outside
        self._dispatched = max(self._dispatched, total + len(self.open_calls()))  # this last: a call never counts twice
        return {
            "worker_index": self.index,
            "name": str(self),
            "state": self.state,
            "running": self.running(),
            "done": total - failed,
            "failed": failed,
            "total_dispatched": self._dispatched,
            "retries": self.tallies.retries,
            "restarts": self.restarts,
            "incarnation": max(self.incarnation, 0),
        }


async def _undisturbed(future: Any) -> None:
    """Wait for a future of the loop's, also where a method cancels every task it finds: this one is not its own."""
    import asyncio

    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            log.warning("concurry: a method cancelled the task that serves its actor; the actor goes on")


def _direct(actor: Actor) -> Callable[[Any], None]:
    """How a direct actor runs one call: as the loop does, but what is no `Exception` also passes through."""
    tally_of: Any = actor.tallies.get  # Invariant: it has all methods

    def run(call: Any) -> None:
        if not call.begin():
            return
        tally = tally_of(call.name)
        try:
            method = tally.method
            if method is None:
                result = actor.run(call)
            elif tally.total < tally.due:
                result = method(*call.args, **(call.kwargs or {}))
                if result.__class__ in UNSETTLED:
                    result = actor.settle(result, call)
            else:
                result = actor.timed(tally, call)
        except Exception as error:
            if call.closes():
                tally.failed += 1
                tally.total += 1
            cut_ours(error)
            call.fail(error)
        except BaseException as error:  # a Ctrl-C is a Ctrl-C: it is the caller's own thread
            if call.closes():
                tally.failed += 1
                tally.total += 1
            if not call.fail(error) and is_cancellation(error):
                return  # another thread has stopped the worker, which cancelled the method: the future says so
            raise
        else:
            call.close(result, tally)

    return run
