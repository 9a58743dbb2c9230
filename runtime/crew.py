"""Threads for the sync methods of an actor that runs several calls at once.

Guarantees: `run` never waits; a thread that is free is used again, else a new one is started, so there are never more
than calls at one time; `close` ends those that are free, and each other one when its call ends. Daemons, so that a call
which never returns cannot keep the interpreter.
Assumes: `run` and `close` come from one thread, the loop's; the crew's threads report by themselves.
Called by: the loop's lane.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

from concurry.transports.base import Handover


class Crew:
    """See the module's docstring."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._free: list[Handover] = []
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._lock = allocate_lock()  # protects `_free` and `_closed`

    def run(self, fn: Callable[[Any], None], argument: Any) -> None:
        """Run `fn(argument)`, which raises nothing, beside this thread. RuntimeError: there can be no thread for it."""
        with self._lock:
            place = self._free.pop() if self._free else None
        if place is not None:
            place.give((fn, argument))
            return
        place = Handover()
        place.give((fn, argument))
        name = f"{self._name} call thread {len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, args=(place,), name=name, daemon=True)
        thread.start()  # RuntimeError where the system has no more threads: nothing has run then
        self._threads.append(thread)

    def _work(self, place: Handover) -> None:
        while (job := place.receive()) is not None:
            fn, argument = job
            fn(argument)
            job = fn = argument = None
            with self._lock:
                if self._closed:
                    return
                self._free.append(place)

    def close(self) -> None:
        """End the threads."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for place in free:
            place.give(None)

    def join(self) -> None:
        """After `close`, and after the last call has ended: wait until the threads are gone."""
        for thread in self._threads:
            thread.join()
