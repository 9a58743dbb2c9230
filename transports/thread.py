"""Threads: one thread an actor, which takes its calls from the mailbox itself; nothing is encoded.

Guarantees: see `base`. The thread is a daemon, so that a call that never returns cannot keep the interpreter.
Assumes: nothing can end a thread from outside; `kill` says so by doing nothing, and `join` tells.
"""

from __future__ import annotations

import threading
from typing import Any

from concurry.transports.base import Channel, Gone, Handover, Job, Transport


class ThreadChannel(Channel):
    """A thread that runs `job.serve`."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._handover = Handover()
        self.give = self._handover.give  # type: ignore[method-assign]  # a step less on the way of each call
        self.receive = self._handover.receive
        self._over = threading.Event()
        self.thread = threading.Thread(target=self._run, name=job.name, daemon=True)
        self.thread.start()

    def give(self, call: Any) -> bool:
        raise AssertionError("bound in __init__")

    def _run(self) -> None:
        cause: BaseException | None = None
        try:
            try:
                self._job.serve(self)
            except BaseException as error:  # the loop's outermost edge: whatever comes here is this actor's death
                cause = error
            self._job.gone(self, Gone(cause))
        finally:
            self._over.set()

    def undelivered(self) -> list[Any]:
        return self._handover.left()

    def kill(self) -> None:
        """A thread cannot be ended from outside."""

    def join(self, timeout: float | None) -> bool:
        if self.thread is threading.current_thread():
            return False
        return join_over(self._over, self.thread, timeout)


def join_over(over: threading.Event, thread: threading.Thread, timeout: float | None) -> bool:
    """Wait for a thread that sets `over` as its last deed. Not by `Thread.join` alone: a join that a Ctrl-C interrupts
    marks a thread that runs as ended (CPython 3.11, bpo-45274)."""
    left = None if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)
    if not over.wait(left):
        return False
    thread.join(left)
    return not thread.is_alive()


class ThreadTransport(Transport):
    """`mode="thread"`."""

    def open(self, job: Job) -> Channel:
        return ThreadChannel(job)
