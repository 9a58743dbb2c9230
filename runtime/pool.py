"""The pool: several actors of one class (or one) behind one handle. It holds the parts together and decides nothing.

    handle --caller--> Intake (mailbox, futures) <--take-- Member (actor) <--open-- Supervisor --> Transport
                                                  <--give-- Spawner (on demand)     Deadlines

Guarantees: what the parts need of each other stands here; figures are read without stopping anybody.
Called by: the handle; its parts.
"""
# pyright: reportPrivateUsage=false
# It makes futures, slot by slot.

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from concurry.runtime.clock import Clock, system
from concurry.runtime.deadlines import Deadlines
from concurry.runtime.future import PENDING, SyncFuture
from concurry.runtime.intake import Intake
from concurry.runtime.mailbox import Bound, Mailbox
from concurry.runtime.member import FAILED, READY, Member
from concurry.runtime.plan import Plan
from concurry.runtime.spawner import Spawner
from concurry.runtime.supervisor import Supervisor
from concurry.runtime.wait_nodes import Turns
from concurry.transports.base import Transport
from concurry.transports.errors import RestartIntensityError

if TYPE_CHECKING:
    from concurry.runtime.elsewhere import Elsewhere


class Pool:
    """See the module's docstring. Made and started by `start`."""

    def __init__(self, plan: Plan, transport: Transport, clock: Clock = system) -> None:
        self.plan = plan
        self.transport = transport
        self.clock = clock
        self.forked = False
        self._dispatched = 0
        lanes = plan.lanes or (frozenset(plan.methods),)
        bound = None
        if plan.mailbox_size is not None:
            bound = Bound(plan.mailbox_size, block=plan.block, who=plan.name)  # one bound, whatever the lane
        encode = transport.encode if transport.elsewhere else None
        self.intakes = [
            Intake(
                Mailbox(plan.choose, bound),
                bound,
                unwrap=plan.unwrap,
                encode=encode,
                result_of=transport.result_of,
                future=plan.future,
            )
            for _ in lanes
        ]
        if plan.traced:
            from concurry.runtime import tracing

            for intake in self.intakes:
                tracing.trace(intake, plan.name)
        if plan.checks_wire:
            from concurry.runtime.wire_check import check_init

            check_init(plan.name, plan.init)
        for intake in self.intakes:
            intake.is_async = lambda name: plan.methods[name].is_async
        self._lane_of = {name: intake for lane, intake in zip(lanes, self.intakes, strict=True) for name in lane}
        self.deadlines = (
            Deadlines(clock, plan.name, self, lambda name: plan.methods[name].timeout_s)
            if plan.times_out and not (transport.direct or transport.elsewhere)
            else None
        )
        self.elsewhere: Elsewhere | None = _elsewhere(self) if transport.elsewhere else None
        if self.elsewhere is not None:
            self.intakes[0].backlog = self.elsewhere.backlog
        self.members = [self.new_member(index) for index in range(plan.actors)]
        self.spawner: Spawner | None = None
        self.supervisor = Supervisor(self)
        if plan.on_demand:
            tell = self.supervisor
            self.spawner = Spawner(self.intakes[0].mailbox, plan.most_actors, tell.launch, tell.spawner_over)

    def new_member(self, index: int) -> Member:
        """One place in the pool."""
        if self.elsewhere is not None:
            return self.elsewhere.new_member(index)
        member = Member(self, index)
        if self.plan.on_demand and self.plan.most_actors == 1:
            for intake in self.intakes:
                intake.sole = member.waits_as = intake.sole or Turns(self.plan.name)
        return member

    def intake_of(self, name: str) -> Intake:
        """Where the calls of a method come in."""
        return self._lane_of[name]

    def caller(self, name: str, *, blocking: bool) -> Callable[..., Any]:
        """The function behind `handle.<name>`."""
        call = self._direct_caller(name) if self.transport.direct else self._lane_of[name].caller(name)
        if not blocking:
            return call

        def call_and_wait(*args: Any, **kwargs: Any) -> Any:
            return call(*args, **kwargs).result()

        call_and_wait.__name__ = call_and_wait.__qualname__ = name
        return call_and_wait

    def _direct_caller(self, name: str) -> Callable[..., SyncFuture[Any]]:
        """In sync mode the call runs before its line is over, in the caller's thread."""
        intake, give = self._lane_of[name], self.members[0].channel.give
        if self.plan.traced:
            from concurry.runtime import tracing

            give = tracing.direct(give, self.plan.name)
        cls: type[SyncFuture[Any]] = SyncFuture

        def call_method(*args: Any, **kwargs: Any) -> SyncFuture[Any]:
            refusal = intake.mailbox.refusal
            if refusal is not None:
                raise refusal()
            call = cls.__new__(cls)
            call._status = PENDING
            call._stage = 0
            call._veto = call._hooks = call._exception = call.extra = None
            call.owner = intake
            call.name = name
            call.args = args
            call.kwargs = kwargs or None
            if not intake.wait_for_arguments(call):
                return call
            if not give(call):  # stopped meanwhile
                refusal = intake.mailbox.refusal
                assert refusal is not None  # it is set before the actor is told to end
                raise refusal()
            return call

        call_method.__name__ = call_method.__qualname__ = name
        return call_method

    # -- what the deadlines ask -------------------------------------------------------------------------------------

    def waiting_calls(self) -> list[Any]:
        """Accepted calls that no actor holds and that wait for nothing else."""
        return [call for intake in self.intakes for call in _waiting(intake)]

    def held_up(self, stuck: Collection[Any]) -> list[Any] | None:
        """Calls that wait where nobody will take them; None where somebody will.

        Args:
            stuck: of each call past its time that still runs, its actor.
        """
        plan = self.plan
        if self.spawner is not None:
            all_stuck = plan.most_actors is not None and len(stuck) >= plan.most_actors
        elif plan.lanes:  # what is past its time and still runs is a sync method: those run one at a time
            return _waiting(self.intakes[1]) if stuck else None
        else:
            calls = Counter(stuck)
            all_stuck = all(calls[member] >= plan.max_concurrency for member in self.members)
        return self.waiting_calls() if all_stuck else None

    def give_up(self, call: Any, reason: BaseException) -> None:
        """End a call that waits."""
        call.owner.give_up(call, reason)

    # -- figures ----------------------------------------------------------------------------------------------------

    def queued(self) -> int:
        """How many accepted calls no actor holds."""
        return sum(len(intake.parked) for intake in self.intakes) + len(self.waiting_calls())

    def alive(self) -> bool:
        """Whether calls are accepted."""
        return all(intake.mailbox.refusal is None for intake in self.intakes)

    def state(self) -> str:
        """What it does now, in a few words, for people. Cheap: what was cancelled while it waits is counted."""
        if self.forked:
            return "of the parent process"
        for intake in self.intakes:
            if intake.mailbox.refusal is not None:
                why = intake.mailbox.refusal()
                return f"failed: {why}" if isinstance(why, RestartIntensityError) else "stopped"
        waiting = sum(len(intake.parked) + len(intake.mailbox.waiting) for intake in self.intakes)
        members = self.supervisor.everybody()
        dead = sum(member.state == FAILED for member in members)
        running = sum(member.running() for member in members)
        return f"{waiting} waiting, {running} running{f', {dead} of its workers failed' if dead else ''}"

    def stats(self) -> dict[str, Any]:
        """The pool's figures, read now."""
        outside = sum(intake.outside for intake in self.intakes)
        workers, calls, gone = self.supervisor.figures()
        figures = {key: sum(worker[key] for worker in workers) + gone[key] for key in gone}
        figures["failed"] += outside
        # First what has ended, then what is open: a call that ends meanwhile is in neither, and none is in both. What
        # was told never falls.
        calls += [call for intake in self.intakes for call in intake.tried_again()]
        begun = figures["done"] + figures["failed"] + len(set(calls))
        self._dispatched = figures["total_dispatched"] = max(self._dispatched, begun)
        return {
            "name": self.plan.name,
            "mode": self.plan.mode,
            "queued": self.queued(),
            "cancelled": sum(intake.cancelled for intake in self.intakes),
            "running": sum(worker["running"] for worker in workers),
            **figures,
            "alive": self.alive(),
            "methods": self.supervisor.latencies(),
            "workers": workers,
        }

    def ready_members(self) -> int:
        return sum(member.state == READY for member in self.members)

    def find_sole(self) -> None:
        """Tell each intake which actor, or lane of it, is the only one behind it, for deadlock detection."""
        if len(self.members) == 1:
            for intake, (_, taker) in zip(self.intakes, self.members[0].takers(), strict=True):
                intake.sole = taker


def _elsewhere(pool: Pool) -> Elsewhere:
    from concurry.runtime.elsewhere import Elsewhere  # with what it brings along, where it is needed

    return Elsewhere(pool)


def _waiting(intake: Intake) -> list[Any]:
    return [call for call in list(intake.mailbox.waiting) if not call.done()]


def start(plan: Plan, transport: Transport, clock: Clock = system) -> Pool:
    """Start a pool's actors, and wait until each is built.

    Raises:
        WorkerInitError: an `__init__` took longer than `init_timeout`, or ended in a way that cannot be shown.
        Exception: whatever an `__init__` raised. No actor is left in any of these cases.
    """
    pool = Pool(plan, transport, clock)
    pool.supervisor.start()
    return pool
