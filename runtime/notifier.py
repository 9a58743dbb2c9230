"""The notifier: the one thread on which users' callbacks run, and whatever else must not run where a call ended.

Guarantees: in the order posted, one at a time; `post` never blocks and may be called from anywhere, also from a
finaliser; the thread lives while a pool retains it or something is posted, and is gone afterwards; it waits on its
queue and polls nothing.
Assumes: what is posted handles its own exceptions; what escapes all the same is logged.
Called by: futures (done-callbacks), handles that were dropped; each of the others below for its own kind of work.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

log = logging.getLogger("concurry")


class Notifier:
    """See the module's docstring. `retain` and `release` count the pools that are alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None] = SimpleQueue()
        # Protects the two fields below. Reentrant: a finaliser may post while this very thread holds it.
        self._lock = threading.RLock()
        self._retained = 0
        self._thread: threading.Thread | None = None

    def post(self, fn: Callable[..., object], *args: Any) -> bool:
        """Run `fn(*args)` on the notifier thread. False: it waits for the next post, since there is no thread now."""
        self._queue.put((fn, args))
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    return self._start()
        return True

    def _start(self) -> bool:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no more threads, or the interpreter ends
            self._thread = None
            log.warning(
                "concurry: callbacks wait, since their thread cannot be started (%s); the next post tries again", error
            )
            return False
        return True

    def is_here(self) -> bool:
        """Whether the caller is the notifier thread, which must never block on a mailbox."""
        return threading.current_thread() is self._thread

    def retain(self) -> None:
        """Keep the thread, once there is one."""
        with self._lock:
            self._retained += 1

    def release(self) -> threading.Thread | None:
        """Undo one `retain`. Returns the thread, for joining, where it now ends when its queue is empty."""
        with self._lock:
            self._retained -= 1
            if self._retained or self._thread is None:
                return None
            self._queue.put(None)
            return self._thread

    def _run(self) -> None:
        while True:
            if not self._retained and self._queue.empty():
                with self._lock:
                    # Invariant: `post` puts first and looks at `_thread` after, so an empty queue here means that
                    # whoever posts next sees None and starts a new thread.
                    if not self._retained:
                        self._thread = None
                        if self._queue.empty():
                            return
                        self._thread = threading.current_thread()
            item = self._queue.get()
            if item is None:
                continue
            fn, args = item
            try:
                fn(*args)
            except BaseException:
                log.exception("concurry: %r raised on the notifier thread", fn)
            item = fn = args = None  # type: ignore[assignment]  # keep nothing alive while waiting

    def after_fork_in_child(self) -> None:
        """The thread did not survive the fork: begin anew."""
        self.__init__(self._name)  # type: ignore[misc]


notifier = Notifier("concurry-notifier")
helper = Notifier("concurry-helper")  # what takes a while and is no code to wait for: encoding, copying
judge = Notifier("concurry-predicates")  # those of retry policies, of calls that were lost
