"""The sync methods of an asyncio actor: one at a time, on a thread beside the loop, so that they never block it.

Guarantees: the thread is started by the first call that needs it and ends with the mailbox; it runs the same loop as
any actor of one call at a time; a coroutine that a sync method returns is run on the actor's event loop.
Assumes: `settle` of the actor runs coroutines on the loop from another thread.
Called by: the member of an asyncio actor makes it; to the mailbox it is a taker.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from typing import Any

from concurry.runtime.loop import serve
from concurry.runtime.mailbox import Mailbox
from concurry.runtime.waits import here
from concurry.transports.base import Handover


class SideLane:
    """See the module's docstring. `call` is as a member's."""

    interleaves = False  # see `waits`
    total = 0  # it is the only one behind its mailbox: nothing is chosen by it

    def __init__(self, member: Any, mailbox: Mailbox, actor: Any) -> None:
        self.member = member
        self.call: Any = None
        self.thread: threading.Thread | None = None
        self._actor = actor
        self._handover = Handover()
        self._source = mailbox.source(self, self._handover.receive)
        self._lock = allocate_lock()  # protects `_over` and `_tell`
        self._over = False
        self._tell: Any = None

    def __str__(self) -> str:
        return str(self.member)

    @property
    def active(self) -> int:
        return self.call is not None

    def give(self, call: Any) -> bool:
        """As a channel's: never waits. The first call starts the thread."""
        if self.thread is None:
            if call is None:
                self._end()
                return False
            thread = threading.Thread(target=self._run, name=f"{self.member.name} sync lane", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system has no more threads: it is this call's failure
                call.abandon(error)
                return True
            self.thread = thread
        return self._handover.give(call)

    def _run(self) -> None:
        here.member = self
        here.inside = self.member
        try:
            serve(self._handover.receive, self._source, self._actor, self)
        finally:
            here.member = None
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._over = True
            tell = self._tell
        if tell is not None:
            tell()

    def ended(self, loop: Any) -> Any:
        """A future of the loop's that is done when the thread has nothing to do any more."""
        ended = loop.create_future()

        def tell() -> None:
            loop.call_soon_threadsafe(ended.set_result, None)

        with self._lock:
            self._tell = tell
            over = self._over
        if over:
            ended.set_result(None)
        return ended

    def join(self) -> None:
        """After it has ended: wait until its thread is gone."""
        if self.thread is not None:
            self.thread.join()

    def held(self) -> list[Any]:
        """The calls it was given and that have not ended."""
        return [*([] if self.call is None else [self.call]), *self._handover.left()]
