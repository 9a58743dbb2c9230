"""The life of each call, printed on stderr: what `CONCURRY_DEBUG=1` does.

    driver          mailbox, parked calls, the feed of an actor elsewhere, the call's end    --> one line each
    the actor, there or here      begun, each attempt, each wait for the next, came to its end --> one line each

Guarantees: a line is written in one piece, and never fails a call. Whether a pool is traced is decided when it is
planned: one that is not does nothing for it. A call has one number in the lines of its process; the line that says to
whom it was sent tells its number there, where it has not ended before that line is written.
Assumes: what is put in the place of a deque or dict is used by its own methods only. `sys.stderr` takes a line without
calling us: some lines are written under a mailbox's lock, and a pipe that is full holds up the pool.
Called by: the pool and the actor, where their plan says so.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from concurry.runtime.call_waits import running_call
from concurry.runtime.retry_notes import brief
from concurry.transports.errors import WorkerDiedError

_numbers = itertools.count(1)
_attempts: dict[int, int] = {}  # of the calls that run here, how many have begun


def say(call: Any, who: Any, what: str) -> None:
    """Write one line. `who`: the worker or actor."""
    now = time.time()
    clock = f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now * 1000) % 1000:03}"
    try:
        sys.stderr.write(f"concurry {clock} [{os.getpid()}] {who}.{call.name}() {_label(call)}: {what}\n")
    except Exception:  # closed, or none, or somebody's own that raises: nobody reads it
        return


def _label(call: Any) -> str:
    number = getattr(call, "number", None)  # of a call that came from another process
    if number is not None:
        return f"no. {number}"
    traced: dict[str, Any] = call.__dict__
    if "traced" not in traced:
        traced["traced"] = next(_numbers), time.monotonic()
    return f"#{traced['traced'][0]}"


def accepted(call: Any, who: str, *, waits: bool = False) -> None:
    """The first that is heard of a call; from now on its end is told too."""
    if "traced" in vars(call):
        return
    say(call, who, "accepted; it waits for a future among its arguments" if waits else "accepted")

    def ended(call: Any) -> None:
        say(call, who, _ending(call))

    call.add_hook(ended)


def _ending(call: Any) -> str:
    seconds: float = time.monotonic() - call.__dict__["traced"][1]
    error = call._exception
    if call.cancelled():
        what = "cancelled"
    elif error is None:
        what = "done"
    elif isinstance(error, WorkerDiedError):
        what = f"lost: {error}"
    else:
        what = f"failed: {brief(error)}" if isinstance(error, BaseException) else "failed"
    return f"{what}, {seconds:.6f} s after it was accepted"


class Waiting(deque[Any]):
    """A mailbox's calls."""

    who = ""

    def append(self, call: Any, /) -> None:
        if "traced" in vars(call):
            say(call, self.who, "its arguments are there, or its wait is over: it is in the mailbox")
        accepted(call, self.who)
        super().append(call)

    def extendleft(self, calls: Any, /) -> None:
        calls = list(calls)
        for call in calls:
            say(call, self.who, "not begun where it was sent: it is in the mailbox again")
        super().extendleft(calls)


class Parked(dict[Any, Any]):
    """Calls that wait for their arguments, or, lost with an actor, for their next attempt."""

    who = ""

    def __setitem__(self, call: Any, parked: Any) -> None:
        if parked is True:
            say(call, self.who, f"lost with its actor: {brief(call.carried.last)}; it may be tried again")
        accepted(call, self.who, waits=True)
        super().__setitem__(call, parked)


def trace(intake: Any, who: str) -> None:
    """Tell what comes to an intake. Before its callers are made."""
    intake.mailbox.waiting = waiting = Waiting()
    intake.parked = parked = Parked()
    waiting.who = parked.who = who


def direct(give: Callable[[Any], bool], who: str) -> Callable[[Any], bool]:
    """The way of a call that runs in its caller's thread."""

    def accept_and_give(call: Any) -> bool:
        accepted(call, who)
        return give(call)

    return accept_and_give


def sends(send: Callable[[list[Any]], None], channel: Any, who: Any) -> Callable[[list[Any]], None]:
    """The way of calls to an actor elsewhere."""

    def tell_and_send(calls: list[Any]) -> None:
        send(calls)
        numbers = {id(call): number for number, call in list(channel.under_way.items())}
        for call in calls:
            number = numbers.get(id(call))
            there = "" if number is None else f", where it is no. {number}"
            say(call, _worker(who), f"sent to {who}{there}")

    return tell_and_send


def runs(layers: Callable[[Any], Any], who: str) -> Callable[[Any], Any]:
    """Around a call where it runs."""

    def traced(call: Any) -> Any:
        with _telling(call, who):
            return layers(call)

    return traced


def runs_async(layers: Callable[[Any], Any], who: str) -> Callable[[Any], Any]:
    """The same of an async method."""

    async def traced(call: Any) -> Any:
        with _telling(call, who):
            return await layers(call)

    return traced


@contextmanager
def _telling(call: Any, who: str) -> Any:
    say(call, _worker(who), f"begun on {who}")
    begun = time.monotonic()
    try:
        yield
    except BaseException as error:
        say(call, _worker(who), f"raised after {time.monotonic() - begun:.6f} s on {who}: {brief(error)}")
        raise
    finally:
        _attempts.pop(id(call), None)
    say(call, _worker(who), f"returned after {time.monotonic() - begun:.6f} s on {who}")


def _worker(who: Any) -> str:
    return str(who).partition("[")[0]


def attempts(scope: Callable[[], Any], who: str) -> Callable[[], Any]:
    """Around each attempt of a call with a retry policy or limits."""

    @contextmanager
    def attempt() -> Any:
        call = running_call()
        if call is None:
            with scope():
                yield
            return
        key = id(call)
        carried = getattr(call, "carried", None)
        number = _attempts[key] = _attempts.get(key, 0 if carried is None else carried.attempts) + 1
        say(call, _worker(who), f"attempt {number}")
        try:
            with scope():
                yield
        except Exception as error:
            say(call, _worker(who), f"attempt {number} raised {brief(error)}")
            raise

    return attempt


def pauses(pause: Callable[[float], Any], who: str) -> Callable[[float], Any]:
    """Before each wait for a next attempt."""

    def tell_and_pause(seconds: float) -> Any:
        call = running_call()
        if call is not None:
            say(call, _worker(who), f"the next attempt in {seconds:.3f} s")
        return pause(seconds)

    return tell_and_pause
