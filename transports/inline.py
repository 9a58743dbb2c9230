"""The caller's own thread: `give` runs the call before it returns.

Guarantees: see `base`; the actor is made inside `open`, so what its `__init__` raises is raised there.
"""

from __future__ import annotations

from typing import Any

from concurry.transports.base import Channel, Gone, Job, Transport


class InlineChannel(Channel):
    """`run` is set by the job: how one call is run."""

    run: Any = None

    def __init__(self, job: Job) -> None:
        self._job = job
        self._ended = False
        job.serve_direct(self)

    def give(self, call: Any) -> bool:
        if call is None:
            if not self._ended:
                self._ended = True
                self._job.gone(self, Gone())
            return False
        self.run(call)
        return True

    def kill(self) -> None:
        self.give(None)

    def join(self, timeout: float | None) -> bool:
        return self._ended


class InlineTransport(Transport):
    """`mode="sync"`."""

    direct = True

    def open(self, job: Job) -> Channel:
        return InlineChannel(job)
