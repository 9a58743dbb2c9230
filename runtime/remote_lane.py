"""An actor of several calls at once, in a process of its own: the lane of an event loop, fed by a reader.

    reader thread: wire.receive --> mailbox of this process --> LoopLane on the main thread's loop --> tasks, crew
                                                    (the very mailbox and lane of thread mode)

Guarantees: those of `LoopLane`: async methods are tasks, sync ones run on a crew of threads, `max_concurrency` at once.
Called by: `remote.serve`.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from concurry.runtime.actor import Actor
from concurry.runtime.lanes import LoopLane
from concurry.runtime.mailbox import Mailbox
from concurry.runtime.remote import RemoteActor, calls_of
from concurry.runtime.waits import here
from concurry.transports.own_loop import close_loop, run_through


class _Channel:
    """What the lane needs of a channel: a way for the mailbox to give it calls, on its loop."""

    deliver: Any

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._given: deque[Any] = deque()

    def give(self, call: Any) -> bool:
        self._given.append(call)
        self._loop.call_soon_threadsafe(self._drain)
        return False

    def _drain(self) -> None:
        while self._given:
            self.deliver(self._given.popleft())


def run(it: RemoteActor, actor: Actor) -> None:
    """Serve until no more calls will come and none runs."""
    import asyncio

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    mailbox = Mailbox()
    it.channel = channel = _Channel(loop)
    it.wire.board.keep_for_many()
    sync_names = frozenset(name for name, method in it.plan.methods.items() if not method.is_async)
    lane = LoopLane(it, mailbox, it.plan.max_concurrency, sync_names)

    def read() -> None:
        while not it.worn_out() and (came := it.wire.receive()) is not None:
            for call in calls_of(it.wire, *came):
                mailbox.put(call)
        mailbox.drain()

    async def serve() -> None:
        actor.settle_on(loop)
        ended = lane.open(loop, actor, channel)
        here.inside = it
        here.member = lane
        mailbox.enter([lane])
        reader.start()
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError:  # a method cancelled every task that it found
                continue
        lane.join_crew()
        ending: Any = actor.end()
        if ending is not None and asyncio.iscoroutine(ending):
            await ending

    reader = threading.Thread(target=read, name="concurry-reader", daemon=True)
    try:
        run_through(loop, serve(), it.name)
        actor.let_go()
    finally:
        here.member = here.inside = None
        close_loop(loop, it.name)
