"""What the caller of `.init()` gets, or a call on demand, where an actor could not be made.

Guarantees: an `Exception`, which names the actor and what it ended with.
Called by: the supervisor.
"""

from __future__ import annotations

from typing import Any

from concurry.runtime.lost_calls import named
from concurry.runtime.raised import wrapped
from concurry.runtime.retry_notes import brief
from concurry.transports.errors import WorkerDiedError, WorkerInitError


def as_init_error(member: Any, error: BaseException) -> BaseException:
    """What ended an `__init__` that is no `Exception`, as the caller of `.init()` gets it."""
    made = WorkerInitError(f"{member}: __init__ raised {brief(error)}; the worker was not started")
    made.__cause__ = wrapped(error, f"{member}.__init__()")
    return made


def died_in_init(member: Any, reason: Any) -> WorkerDiedError:
    """The end of an actor that took no call."""
    error = WorkerDiedError(
        f"worker {named(member, reason)} died of {reason} in or right after its __init__; it took no "
        f"call{reason.advice}",
        worker=str(member),
        method="__init__",
        pid=reason.pid,
        exit_code=reason.exit_code,
        signal=reason.signal,
        incarnation=member.incarnation,
        maybe_executed=False,
    )
    error.__cause__ = reason.cause
    return error
