"""The caller's own thread: `give` runs the call before it returns.

Guarantees: see `base`; the actor is made inside `open`, so what its `__init__` raises is raised there. Several threads
may call at once. The actor ends in the thread that gives None, or, while calls run, in that of the last of them: never
under a call's feet.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from typing import Any

from concurry.transports.base import Channel, Gone, Job, Transport


class InlineChannel(Channel):
    """`run` and `close` are set by the job: how one call is run, and how the actor ends."""

    run: Callable[[Any], None]
    close: Callable[[], None] | None = None  # there is no actor where its making failed

    def __init__(self, job: Job) -> None:
        self._job = job
        self._running: dict[Any, int] = {}  # call -> its thread
        # Who calls enters `_running` first and looks at `_asked` after; who ends the actor the other way round. So no
        # call begins that the one who ends it has not seen.
        self._asked = False
        self._ended = False
        self._lock = allocate_lock()  # protects `_ended`
        self._over = threading.Event()
        job.serve_direct(self)

    def give(self, call: Any) -> bool:
        if call is None:
            self._asked = True
            self._end_if_idle()
            return False
        running = self._running
        running[call] = get_ident()
        try:
            if self._asked:
                return False
            self.run(call)
        finally:
            del running[call]
            if self._asked:
                self._end_if_idle()
        return True

    def _end_if_idle(self) -> None:
        with self._lock:
            if self._running or self._ended:
                return
            self._ended = True
        try:
            if self.close is not None:
                self.close()
        finally:
            self._over.set()
            self._job.gone(self, Gone())

    def undelivered(self) -> list[Any]:
        """The calls that run: nobody else knows of them."""
        return list(self._running)

    def is_here(self) -> bool:
        return get_ident() in list(self._running.values())

    def kill(self) -> None:
        """A thread cannot be ended from outside, least of all the caller's own."""
        self.give(None)

    def join(self, timeout: float | None) -> bool:
        if self.is_here():
            return False
        return self._over.wait(None if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))


class InlineTransport(Transport):
    """`mode="sync"`."""

    direct = True

    def open(self, job: Job) -> Channel:
        return InlineChannel(job)
