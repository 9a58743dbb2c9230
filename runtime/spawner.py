"""On demand: an actor per call, ended after it.

Guarantees: no more than `most` actors at one time; a call that waits gets its actor as soon as there may be one more;
a call whose actor cannot be started fails with the reason.
The token: the mailbox has this taker among its ready ones, or the spawner has as many actors as there may be
(`_full`), or a thread in `ended` is taking on its behalf. Only one of these holds at any time.
Called by: the mailbox (`give`: it is a taker), the supervisor (`ended`, when an actor is gone).
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

from concurry.runtime.mailbox import CLOSED, Mailbox


class Spawner:
    """See the module's docstring.

    Args:
        launch: starts an actor for one call. It returns at once; what it raises fails the call.
        over: told when no more calls will come; it must not block, the mailbox's lock may be held.
    """

    total = 0

    def __init__(
        self, mailbox: Mailbox, most: int | None, launch: Callable[[Any], None], over: Callable[[], None]
    ) -> None:
        self.active = 0
        self._mailbox = mailbox
        self._most = most
        self._launch = launch
        self._over = over
        self._full = False
        self._ended = False  # it was told that no more calls will come
        self._lock = allocate_lock()  # protects the fields above; the mailbox's lock may be held, never taken under it

    def give(self, call: Any) -> bool:
        if call is None:
            self._ended = True
            self._over()
            return False
        self._start(call)
        return not self._now_full()

    def go_on(self) -> None:
        """A call will come after all: one that was lost with its actor, and is tried again."""
        with self._lock:
            ended, self._ended = self._ended, False
        if ended:
            self._mailbox.enter([self])

    def ended(self) -> None:
        """One of the actors is gone."""
        with self._lock:
            self.active -= 1
            if not self._full:
                return
            self._full = False
        while True:
            call = self._mailbox.take(self)
            if call is None or call is CLOSED:
                return
            self._start(call)
            if self._now_full():
                return

    def _start(self, call: Any) -> None:
        if call.done():  # cancelled while it waited: no actor for it
            return
        with self._lock:
            self.active += 1
            self.total += 1
        try:
            self._launch(call)
        except Exception as error:
            with self._lock:
                self.active -= 1
            call.abandon(error)

    def _now_full(self) -> bool:
        with self._lock:
            self._full = self._most is not None and self.active >= self._most
            return self._full
