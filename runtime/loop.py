"""The mailbox loop of an actor that runs one call at a time. It exists once; every such actor runs it.

    take() -> call -> begin -> the method -> close or fail -> take() ...

Guarantees: ends only when `take` says that no more will come; a call that was withdrawn does not run; whatever a
method raises, also `SystemExit`, ends that call and nothing else; nothing of a finished call is kept alive meanwhile.
Called by: the member, in the actor's thread; the side lane of an event-loop actor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from concurry.runtime.retry_notes import brief
from concurry.runtime.settle import UNSETTLED
from concurry.transports.errors import WorkerError
from concurry.transports.logs import about

log = logging.getLogger("concurry")


def end_anyway(call: Any, error: BaseException, who: Any) -> None:
    """What ends a call has raised. It is that call's failure, and its lane goes on. Raises only where it cannot be told
    at all: the connection of a process is broken."""
    told = WorkerError(f"{who}.{call.name}() has run, and could not be ended as it should: {brief(error)}")
    log.error("concurry: %s", told, extra=about(who, call.name))
    if not call.done():
        call.fail(told)


def serve(first: Callable[[], Any], take: Callable[[], Any], actor: Any, member: Any) -> None:
    """Run calls until there will be no more.

    Args:
        first: waits for the first call; take: for each one after it. None: no more will come.
        actor: its `tallies` count. member: shows (`call`) what its actor does.
    """
    tally_of = actor.tallies.get  # Invariant: it has all methods
    next_call = first
    while True:
        call = next_call()
        next_call = take
        if call is None:
            return
        if not call.begin():
            call = None
            continue
        member.call = call
        try:
            tally = tally_of(call.name)
            try:
                method = tally.method
                if method is None:
                    result = actor.run(call)
                elif tally.total < tally.due:
                    kwargs = call.kwargs
                    result = method(*call.args, **kwargs) if kwargs else method(*call.args)
                    if result.__class__ in UNSETTLED:
                        result = actor.settle(result, call)
                else:
                    result = actor.timed(tally, call)
            except BaseException as error:  # the loop's boundary: a method's exception is its call's
                if call.closes():
                    tally.failed += 1
                    tally.total += 1
                call.fail(actor.seen(error, call))
            else:
                call.close(result, tally)  # counted before it is closed: whoever has the result finds it counted
        except BaseException as error:
            end_anyway(call, error, member)
        call = result = kwargs = member.call = None
