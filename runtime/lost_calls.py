"""A call that had begun and lost its actor: it fails, or is tried again where its retry policy says so.

    lost:  no policy, or poison -> WorkerDiedError
           else the call waits with its intake, as any accepted call that no actor holds (it can be cancelled, a stop
           ends it, a dropped handle waits for it) -> decided -> WorkerDiedError | a timer -> mailbox

Guarantees: it ends or goes on, whatever goes wrong while that is decided; at most once where no policy asks for more;
the attempt count goes on from where the worker was; a call that two actors died of is poison and fails, whatever its
policy. The policy's predicates are asked where its types do not say yes, on a thread of their own, for a callback on
the notifier may wait for this very call. No timer is left of a call that has ended meanwhile.
Called by: the supervisor, once per death and begun call; for the log of each death.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from concurry.runtime.notifier import judge
from concurry.runtime.retry_notes import brief
from concurry.transports.errors import WorkerDiedError
from concurry.transports.logs import about

_MOST_DEATHS = 2


class Carried:
    """What a call has been through: attempts begun, actors it died with, since when, and how those of its attempts
    ended that are known of here; how long it waits now."""

    __slots__ = ("attempts", "deaths", "earlier", "last", "started", "timer", "where")

    def __init__(self, attempts: int, deaths: int, started: float, earlier: Sequence[tuple[int, str]] = ()) -> None:
        self.attempts = attempts
        self.deaths = deaths
        self.started = started
        self.earlier = earlier  # the number of an attempt, and its outcome in words
        self.where = ""  # the last actor that it was lost with, for the log
        self.timer: Any = None  # of the wait before its next attempt
        self.last: BaseException | None = None  # the death, as it ends with where it is not tried again

    def wait_no_more(self) -> None:
        """The call has ended, or goes on: no timer shall be left of its wait."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()


def lost(pool: Any, call: Any, member: Any, reason: Any) -> None:
    """See the module's docstring."""
    now = pool.clock.now()
    before = getattr(call, "carried", None)
    carried = call.carried = Carried(
        getattr(call, "attempts_lost", 1) if before is None else before.attempts + getattr(call, "attempts_lost", 1),
        (0 if before is None else before.deaths) + member.channel.blames(call),
        now if before is None else before.started,
        () if before is None else before.earlier,
    )
    policy = pool.plan.methods[call.name].policy
    poison = carried.deaths >= _MOST_DEATHS and policy is not None
    error = WorkerDiedError(
        f"worker {named(member, reason)} died of {reason} while running {call.name}(); the calls behind it go on"
        f"{', this one has killed two workers and is not tried again' if poison else ''}{reason.advice}",
        worker=str(member),
        method=call.name,
        pid=reason.pid,
        exit_code=reason.exit_code,
        signal=reason.signal,
        incarnation=member.incarnation,
    )
    error.__cause__ = reason.cause
    carried.last, carried.where = error, str(member)
    if policy is None or carried.deaths >= _MOST_DEATHS:
        call.abandon(error, member)
        return
    call.owner.wait_again(call)
    if pool.spawner is not None:
        pool.spawner.go_on()
    if not policy.predicates or policy.retries_type(error):
        _decide(pool, call, policy, carried, error, asks=False)
    elif not judge.post(_decide, pool, call, policy, carried, error, True):
        _undecided(call, error, "the system has no thread for its predicates")


def during(member: Any, begun: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """What a dead actor ran, as far as anybody can tell: in words for the log, and the record's `extra`."""
    names = list(dict.fromkeys(call.name for call in begun if member.channel.blames(call)))
    ran = f" while running {', '.join(f'{name}()' for name in names)}" if names else ""
    return ran, about(member, names[0] if len(names) == 1 else None)


def named(member: Any, reason: Any) -> str:
    """The dead actor, for messages."""
    return str(member) if reason.pid is None else f"{member} (pid {reason.pid})"


def _decide(pool: Any, call: Any, policy: Any, carried: Carried, error: WorkerDiedError, asks: bool) -> None:
    """`asks`: its policy's predicates are asked, which see its arguments."""
    from concurry.runtime.attempts import Attempts, CallInfo, Wait

    now = pool.clock.now()
    try:
        given: tuple[Any, dict[str, Any]] = call.arguments() if asks and not call.done() else ((), {})
        if call.done():
            return
        info = CallInfo(call.name, pool.plan.name, carried.where)
        number, earlier = carried.attempts, carried.earlier
        attempts = Attempts(policy, info, *given, carried.started, number=number, earlier=earlier)
        step = attempts.raised(error, now)
        carried.earlier = [*earlier, (number, brief(error))]
    except BaseException as failed:  # arguments that only its worker can rebuild, a predicate that ends its thread
        _undecided(call, error, brief(failed))
        return
    if not isinstance(step, Wait):
        call.owner.give_up(call, step.error)
        return
    try:
        carried.timer = pool.clock.call_at(now + step.seconds, lambda: call.owner.resume(call))
    except RuntimeError:  # the system has no thread for a timer: at once then
        call.owner.resume(call)
        return
    if call.done():  # ended before it had a timer that could be cancelled
        carried.wait_no_more()


def _undecided(call: Any, error: WorkerDiedError, why: str) -> None:
    error.add_note(f"concurry: whether {call.name}() is tried again could not be decided: {why}. It is not")
    call.owner.give_up(call, error)
