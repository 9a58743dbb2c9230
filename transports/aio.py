"""An event loop in a thread of its own: calls are handed to the loop, many with one wake-up.

Guarantees: see `base`. `loop.stop()` called by a method does not end the actor. When the actor ends, its loop's
leftover tasks are cancelled, its async generators and default executor are shut down, and the loop is closed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from concurry.transports.base import Channel, Gone, Job, Transport
from concurry.transports.own_loop import close_loop, run_through
from concurry.transports.thread import join_over

log = logging.getLogger("concurry")


class LoopChannel(Channel):
    """A thread whose event loop runs `job.serve_async`, which sets `deliver`: what to do with the calls given."""

    deliver: Callable[[Any], None]

    def __init__(self, job: Job) -> None:
        self._job = job
        self._given: deque[Any] = deque()
        self._over = threading.Event()
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name=job.name, daemon=True)
        try:
            self.thread.start()
        except BaseException:
            self.loop.close()
            raise

    def give(self, call: Any) -> bool:
        self._given.append(call)
        try:
            self.loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop is closed: `gone` is on its way, and `undelivered` has the call
            log.debug("%s: given a call after its loop was closed", self._job.name)
        return False

    def undelivered(self) -> list[Any]:
        return [call for call in list(self._given) if call is not None]  # a copy: somebody may be giving still

    def _drain(self) -> None:
        while self._given:
            self.deliver(self._given.popleft())

    def _run(self) -> None:
        cause: BaseException | None = None
        try:
            try:
                asyncio.set_event_loop(self.loop)
                run_through(self.loop, self._serve(), self._job.name)
            except BaseException as error:  # the loop's outermost edge: whatever comes here is this actor's death
                cause = error
            try:
                close_loop(self.loop, self._job.name)
            except BaseException as error:  # the same
                cause = cause or error
            finally:
                asyncio.set_event_loop(None)
            self._job.gone(self, Gone(cause))
        finally:
            self._over.set()

    async def _serve(self) -> None:
        await self._job.serve_async(self)

    def kill(self) -> None:
        """A thread cannot be ended from outside; its tasks are cancelled by the runtime."""

    def join(self, timeout: float | None) -> bool:
        if self.thread is threading.current_thread():
            return False
        return join_over(self._over, self.thread, timeout)


class AioTransport(Transport):
    """`mode="asyncio"`, and whatever else runs several calls at once in one actor. `apart`: see `Transport`."""

    def __init__(self, *, apart: bool = False) -> None:
        self.apart = apart

    def open(self, job: Job) -> Channel:
        return LoopChannel(job)
