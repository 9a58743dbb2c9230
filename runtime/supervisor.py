"""The supervisor of a pool: it starts actors, hears of their ends, and starts them again or gives up.

    start:  open each -> built (in the actor's context) -> all in: let them take calls; one failed: end all, raise
    gone:   a begun call  -> WorkerDiedError, or again where its retry policy allows it (`lost_calls`)
            one not begun -> first in its mailbox again
            the actor     -> `restart.decide`: open again after a delay, or failed; the last one failed -> the pool has

Guarantees: a death costs the calls that had begun (on Ray, where nobody can look: all that had been sent) and no other;
a call is never lost; after the last actor has failed every open and new call ends with RestartIntensityError; when all
have ended, the pool leaves nothing behind.
Assumes: `built` comes from the actor's context, `gone` exactly once an incarnation.
Called by: `pool.start`, members, the spawner (`launch`), `shutdown`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from concurry.runtime import lost_calls, shutdown
from concurry.runtime.init_errors import as_init_error, died_in_init
from concurry.runtime.latency import Sums, add_cut_short, bucket
from concurry.runtime.member import FAILED, GONE, READY, STARTING, Member
from concurry.runtime.notifier import notifier
from concurry.runtime.raw_lock import acquire_within
from concurry.runtime.restart import Decision, decide
from concurry.transports.errors import RestartIntensityError, WorkerInitError
from concurry.transports.logs import about

log = logging.getLogger("concurry")


class Supervisor:
    """See the module's docstring.

    Attributes:
        closing: no actor is started again. Set once, by `shutdown` or when the pool has failed.
        draining: what was accepted is still run, and started again for; then the pool is over.
        past, past_sums: figures of on-demand actors that are gone, and their calls by method.
        finished: the pool is over, but for threads that are stuck in a user's call.
    """

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.closing = False
        self.draining = False
        self.past = {"done": 0, "failed": 0, "retries": 0, "restarts": 0}
        self.past_sums: dict[str, Sums] = {}
        self._on_demand: set[Member] = set()
        self._leaving: list[Any] = []  # channels of on-demand actors whose context is just about to end
        self._launched = 0
        # Protects the fields below and members' states. Reentrant: a transport may report from within `open`. Order:
        # this one, then a mailbox's; on demand the other way round, since there the mailbox launches.
        self._lock = threading.RLock()
        self._unbuilt = len(pool.members)
        self._starting = True
        self._error: BaseException | None = None
        self._all_built = threading.Lock()  # held until every actor is built, or one has failed
        self._all_built.acquire()
        self._living = 0  # incarnations that are open
        self.finished = False
        self._pending: dict[Member, Any] = {}  # those that are to be started again -> their timers
        self._inits: dict[Member, Any] = {}  # those elsewhere that are being built -> the timers of `init_timeout`

    # -- starting ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open every actor, and wait until each is built. Raises what went wrong; no actor is left then."""
        pool = self.pool
        notifier.retain()
        shutdown.register(pool)
        late: BaseException | None = None
        try:
            for member in pool.members:
                self._open(member)
            if pool.members and not acquire_within(self._all_built, pool.plan.init_timeout_s):
                late = self._init_late(pool.members)
        except BaseException as failed:
            late = failed
        error: BaseException | None = None
        with self._lock:
            self._starting = False
            error, self._error = self._error or late, None
            if error is not None:
                self.close()
                shutdown.close_intakes(pool)
            self._let_in(pool.members)  # where it is closed, each is told that no calls will come
        if error is None:
            if pool.spawner is not None:
                pool.intakes[0].mailbox.enter([pool.spawner])
            return
        shutdown.stop(pool, 0.0, grace_s=0.2)
        try:
            raise error
        finally:
            del error, late

    def _let_in(self, members: Sequence[Member]) -> None:
        """Let those that are built take calls. Under the lock: one that dies now is heard of, and taken off, after."""
        self.pool.find_sole()
        if self.pool.transport.direct:
            return
        by_mailbox: dict[Any, list[Any]] = {}
        for member in members:
            if member.state == READY:
                for mailbox, taker in member.takers():
                    by_mailbox.setdefault(mailbox, []).append(taker)
        for mailbox, takers in by_mailbox.items():
            mailbox.enter(takers)

    def _open(self, member: Member, call: Any = None) -> None:
        with self._lock:
            self._living += 1
        try:
            member.open(call)
        except BaseException:
            with self._lock:
                self._living -= 1
            raise
        if self.pool.transport.elsewhere and (call is not None or not self._starting):  # `start` sees to the others
            self._time_init(member)

    def _time_init(self, member: Member) -> None:
        timeout_s, clock = self.pool.plan.init_timeout_s, self.pool.clock
        if timeout_s is None:
            return
        incarnation = member.incarnation
        with self._lock:
            if member.state == STARTING:  # else it has been built, or has died, meanwhile
                try:
                    late = clock.call_at(clock.now() + timeout_s, lambda: self._init_over(member, incarnation))
                except RuntimeError as error:  # the system has no thread for a timer: better untimed than not at all
                    log.warning("%s: its start is not timed: %s", member, error, extra=about(member))
                    return
                self._inits[member] = late

    def _init_over(self, member: Member, incarnation: int) -> None:
        with self._lock:
            self._inits.pop(member, None)
            if member.state != STARTING or member.incarnation != incarnation:
                return
            member.init_error = self._init_late([member])
            channel = member.channel
        for _ in range(2):  # for good
            channel.kill()

    def _no_init_timer(self, member: Member) -> None:
        """Under the lock."""
        timer = self._inits.pop(member, None)
        if timer is not None:
            timer.cancel()

    def _init_late(self, members: Sequence[Member]) -> WorkerInitError:
        late = [str(member) for member in members if member.state != READY]
        timeout = self.pool.plan.init_timeout_s
        return WorkerInitError(
            f"{', '.join(late[:5])}{' ...' if len(late) > 5 else ''}: __init__ was not done within init_timeout="
            f"{timeout:g} s. {_ENDED if self.pool.transport.forcible else _NOT_ENDED} Raise init_timeout, or do the "
            f"slow part in a method."
        )

    def built(self, member: Member, error: BaseException | None) -> None:
        """An actor is built, or its `__init__` has failed."""
        if error is not None and not isinstance(error, Exception):
            error = as_init_error(member, error)
        with self._lock:
            self._no_init_timer(member)
            if self._starting and member not in self._on_demand:
                self._unbuilt -= 1
                self._error = self._error or error
                self._look_whether_all_are_built()
            elif error is not None:
                member.init_error = error
            elif member not in self._on_demand:
                self._let_in([member])

    def _look_whether_all_are_built(self) -> None:
        if (self._unbuilt == 0 or self._error is not None) and self._all_built.locked():
            self._all_built.release()

    def launch(self, call: Any) -> None:
        """Start an on-demand actor for one call. Raises why there is none; the call is the caller's to end then."""
        with self._lock:  # so that a stop either finds the actor, opened, or is found by it
            if self.closing:
                raise shutdown.refusal(self.pool.plan)()
            member = self.pool.new_member(self._launched)
            self._launched += 1
            self._on_demand.add(member)
            try:
                self._open(member, call)
            except BaseException:
                self._on_demand.discard(member)
                raise

    # -- ends ----------------------------------------------------------------------------------------------------

    def gone(self, member: Member, reason: Any) -> None:
        """An incarnation has ended. Comes once for each."""
        pool = self.pool
        with self._lock, member.quiet():
            on_demand = member in self._on_demand
            if not on_demand:  # one that is on demand never was among the ready, and may end under the mailbox's lock
                for mailbox, taker in member.takers():
                    mailbox.leave(taker)
            held = member.let_go()
            self._no_init_timer(member)
            member.state = GONE
            init_error, member.init_error = member.init_error, None
            if self._starting and not on_demand:
                self._living -= 1
                self._error = self._error or died_in_init(member, reason)
                self._look_whether_all_are_built()
                return
        begun, unbegun = list[Any](), list[Any]()
        for call in held:
            if init_error is not None:
                call.abandon(init_error)
            elif call.running():
                begun.append(call)
            elif on_demand:
                call.abandon(died_in_init(member, reason))
            else:
                unbegun.append(call)
        for intake in pool.intakes:
            intake.put_back([call for call in unbegun if call.owner is intake])
        for call in begun:
            lost_calls.lost(pool, call, member, reason)
        asked = (self.closing or self.draining) and reason.clean and not begun
        if on_demand:
            pool.spawner.ended()  # still listed: a stop that comes now waits for the call that is taken here
            self._forget(member)
        elif not self.closing and (init_error is not None or not asked):
            self._died(member, init_error or reason, begun)
        with self._lock:
            self._living -= 1  # after the lines above, which may have opened another
        self.finish_if_over()

    def _forget(self, member: Member) -> None:
        with self._lock:
            self._on_demand.discard(member)
            self._leaving = [it for it in self._leaving if not it.join(0)]
            self._leaving.append(member.channel)
            for key, value in member.stats().items():
                if key in self.past:
                    self.past[key] += value
            member.add_to(self.past_sums)

    def _died(self, member: Member, why: Any, begun: Sequence[Any], *, opened: bool = True) -> None:
        clock, plan = self.pool.clock, self.pool.plan
        expected, during = getattr(why, "expected", None) is not None, lost_calls.during(member, begun)
        decision = decide(member.deaths, clock.now(), counted=not (begun or expected), intensity=plan.intensity)
        if expected:
            decision = Decision(True, 0.0, decision.deaths)  # we ended it, to start it again
        member.deaths = decision.deaths
        if decision.restart and self._start_again(member, why, decision, opened, during):
            return
        said = "%s died (%s)%s; it is not started again: %s is used up"
        log.error(said, member, why, during[0], plan.intensity, extra=during[1])
        with self._lock:
            member.state = FAILED
            all_failed = all(other.state == FAILED for other in self.pool.members)
        if all_failed:
            self._fail(member, why)

    def _start_again(self, member: Member, why: Any, decision: Decision, opened: bool, during: Any) -> bool:
        """Start it now or later. False: neither can be."""
        delay_s = decision.delay_s
        if getattr(why, "expected", None) is None:
            when = f"in {delay_s:.1f} s" if delay_s else "now"
            log.warning("%s died (%s)%s; it is started again %s", member, why, during[0], when, extra=during[1])
        else:
            ended_by = why.expected.removeprefix("its end by ")
            log.info("%s has ended (%s); it is started again now", member, ended_by, extra=about(member))
        with self._lock:
            if self.closing:
                return True
            if delay_s:
                clock = self.pool.clock
                try:
                    self._pending[member] = clock.call_at(clock.now() + delay_s, lambda: self._again(member))
                except RuntimeError:  # the system has no thread for a timer: at once then, but not for ever
                    if not opened:
                        return False
                    delay_s = 0.0
            member.restarts += 1
            self._living += 1  # one that is about to be: the pool is not over yet
        if not delay_s:
            self._again(member)
        return True

    def _again(self, member: Member) -> None:
        error: Any = None
        with self._lock:
            self._pending.pop(member, None)
            self._living -= 1
            if not self.closing:
                try:
                    self._open(member)
                except Exception as failed:  # it could not even be opened: another death, and counted
                    error = failed
        if error is not None:
            self._died(member, error, (), opened=False)
        self.finish_if_over()

    def _fail(self, member: Member, why: Any) -> None:
        plan = self.pool.plan
        self.close()

        def refusal() -> BaseException:
            return RestartIntensityError(
                f"{plan.name}: every actor died more than max_restarts={plan.intensity.max_restarts} times within "
                f"restart_window={plan.intensity.window_s:g} s; the last death was {member}'s: {why}. This call never "
                f"ran. Mend what kills the worker, or raise max_restarts; then make a new one.",
                worker=str(member),
                incarnation=member.incarnation,
            )

        for intake in self.pool.intakes:
            intake.close(refusal, refusal)

    def close(self) -> None:
        """From now on no actor is started, and those that were about to be are not."""
        with self._lock:
            self.closing = True
            for timer in self._pending.values():
                self._living -= timer.cancel()  # where it is too late to cancel, `_again` counts and does nothing
            self._pending.clear()
            for member in list(self._inits):
                self._no_init_timer(member)

    def after_fork_in_child(self) -> None:
        """The lock may have been held by a thread that is not here any more."""
        self._lock = threading.RLock()

    # -- being over ----------------------------------------------------------------------------------------------

    def join_leaving(self, timeout_s: float) -> None:
        """Wait until the contexts of on-demand actors that are gone have ended as well: a matter of microseconds."""
        with self._lock:
            leaving, self._leaving = self._leaving, []
        for channel in leaving:
            channel.join(timeout_s)

    def everybody(self) -> list[Member]:
        """The members, and the on-demand actors that live now."""
        with self._lock:
            return [*self.pool.members, *self._on_demand]

    def figures(self) -> tuple[list[dict[str, Any]], list[Any], dict[str, int]]:
        """Their figures, their open calls, and the figures of those that are gone: nobody counts in both."""
        with self._lock:
            members = [*self.pool.members, *self._on_demand]
            return [it.stats() for it in members], [call for it in members for call in it.open_calls()], dict(self.past)

    def late(self, name: str, seconds: float) -> None:
        """A call was ended elsewhere by its time: nobody else will tell how long it ran."""
        with self._lock:
            spans, at = self.past_sums.setdefault(name, Sums()).spans, bucket(int(seconds * 1e9))
            spans[at] = spans.get(at, 0) + 1

    def latencies(self) -> dict[str, dict[str, Any]]:
        """Their calls by method, and of those that are gone: see `Member.methods`."""
        sums: dict[str, Sums] = {}
        with self._lock:
            for name, past in self.past_sums.items():
                sums.setdefault(name, Sums()).add(past)
            for member in [*self.pool.members, *self._on_demand]:
                member.add_to(sums)
        for intake in self.pool.intakes:
            add_cut_short(intake.cut_short, sums)
        return {name: each.told() for name, each in sums.items() if each.count}

    def finish_if_over(self) -> None:
        """When nothing lives and no call will come: leave nothing behind."""
        if not (self.closing or self.draining) or (self.draining and not self.closing and self.pool.queued()):
            return
        with self._lock:
            if self._living:
                return
            if self.finished:  # the last of those that were stuck when the pool was stopped
                self.pool.plan.init.let_go()
                return
        shutdown.close_intakes(self.pool)
        self.finish()

    def spawner_over(self) -> None:
        """The spawner will be given no more calls. It may hold the mailbox's lock."""
        if self.draining and not self.closing:
            notifier.post(self.finish_if_over)

    def finish(self) -> threading.Thread | None:
        """Let go what the pool shares with others. Once. Returns a thread that now ends, for joining."""
        with self._lock:
            if self.finished:
                return None
            self.finished = True
            if not self._living:
                self.pool.plan.init.let_go()
        if self.pool.deadlines is not None:
            self.pool.deadlines.close()
        if self.pool.elsewhere is not None:
            self.pool.elsewhere.close()
        shutdown.unregister(self.pool)
        return notifier.release()


_NOT_ENDED = "A thread cannot be ended from outside: it ends when its __init__ returns."
_ENDED = "It was ended."
