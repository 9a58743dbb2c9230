"""A call that had begun and lost its actor: it fails, or is tried again where its retry policy says so.

Guarantees: at most once where no policy asks for more; the attempt count goes on from where the worker was; a call
that two actors died of is poison and fails, whatever its policy. The policy's predicates run on the notifier.
Called by: the supervisor, once per death and begun call.
"""

from __future__ import annotations

from typing import Any

from concurry.runtime.notifier import notifier
from concurry.transports.errors import WorkerDiedError

_MOST_DEATHS = 2


class Carried:
    """What a call has been through: attempts begun, actors it died with, and since when."""

    __slots__ = ("attempts", "deaths", "started")

    def __init__(self, attempts: int, deaths: int, started: float) -> None:
        self.attempts = attempts
        self.deaths = deaths
        self.started = started


def lost(pool: Any, call: Any, member: Any, reason: Any) -> None:
    """See the module's docstring."""
    now = pool.clock.now()
    before = getattr(call, "carried", None)
    carried = call.carried = Carried(
        1 if before is None else before.attempts + 1,
        1 if before is None else before.deaths + 1,
        now if before is None else before.started,
    )
    error = WorkerDiedError(
        f"worker {member} died of {reason} while running {call.name}(); the calls behind it go on",
        worker=str(member),
        method=call.name,
        pid=reason.pid,
        exit_code=reason.exit_code,
        signal=reason.signal,
        incarnation=member.incarnation,
    )
    error.__cause__ = reason.cause
    policy = pool.plan.methods[call.name].policy
    if policy is None or carried.deaths >= _MOST_DEATHS:
        call.fail(error)
    else:
        notifier.post(_decide, pool, call, policy, carried, error)


def _decide(pool: Any, call: Any, policy: Any, carried: Carried, error: WorkerDiedError) -> None:
    from concurry.runtime.attempts import Attempts, CallInfo, Wait

    now = pool.clock.now()
    info = CallInfo(call.name, pool.plan.name)
    args, kwargs = call.args, call.kwargs
    if call.done():
        return
    attempts = Attempts(policy, info, args, kwargs or {}, carried.started, number=carried.attempts)
    step = attempts.raised(error, now)
    if not isinstance(step, Wait):
        call.fail(step.error)
        return
    call.owner.wait_again(call)
    pool.clock.call_at(now + step.seconds, lambda: call.owner.resume(call))
