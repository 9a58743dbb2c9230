"""Calls that have been replied to are closed: the same, whichever wire brought the reply.

Guarantees: the job is told before anybody wakes; what goes wrong with one call is that call's alone. A call
that somebody else has ended is not counted again. Nothing is decoded here.
Called by: whoever receives replies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from concurry.transports.codec import OK, PLAIN
from concurry.transports.gil import FREE_THREADED

log = logging.getLogger("concurry")

Told = Callable[[list[tuple[str, float, bool]], float], object]


def close_calls(
    who: str,
    ended: list[Any],
    seconds_each: float,
    told: Told,
    edge: Callable[[], Any],
) -> None:
    """Close `ended`, a list of (call, status, how, body, parcel, nanoseconds), and empty it. `told`: see `Job.replied`,
    without the channel; before they are closed: what wakes callers comes last.

    It may be broken off anywhere, by a Ctrl-C, and called again with what is left and more: None stands behind those
    that were told of."""
    counted: list[tuple[str, float, bool]] = []
    for item in ended:
        if item is None:
            counted = []
            continue
        call = item[0]
        call._stage = 2  # as in `BaseFuture.closes`, which costs more
        if (call._veto is None and not FREE_THREADED) or call.closes():
            counted.append((call.name, item[5], item[1] != OK))
    try:
        told(counted, seconds_each)
    except Exception:  # who waits for them shall hear of it all the same
        log.exception("%s: that calls have ended could not be told", who)
    ended.append(None)
    for item in ended:
        if item is None:
            continue
        call, status, how, body, parcel, _ = item
        try:
            if status != OK:
                call.fail_unread(how, body)
            elif how == PLAIN:
                call.close(body)
            else:
                call.close_unread(how, body, parcel, edge)
        except Exception as error:  # this call's alone
            log.exception("%s: a reply could not be delivered", who)
            call.abandon(error)
    ended.clear()
