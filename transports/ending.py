"""How a child has ended: its process is gone, what it had sent has come, and its exit status is known.

The three come in any order, and none may be waited for for ever: a nursery that was killed tells no status.

Guarantees: `over` is called once, when all three are there, or `_LAST_WORDS_S` after the process is gone.
Assumes: everything here runs on the hub's thread. Called by: the channel.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from concurry.transports.base import Gone

_LAST_WORDS_S = 0.5


class Ending:
    """See the module's docstring.

    Args:
        call: brings a function to the hub's thread. over: what to do at the end.
    """

    def __init__(self, call: Callable[..., None], over: Callable[[], None]) -> None:
        self.gone = False  # the process is
        self.cause: BaseException | None = None
        self.expected: str | None = None
        self.signals: list[int] = []  # those that we sent
        self._silent = False
        self._status: int | None = None
        self._status_known = False
        self._call = call
        self._over: Callable[[], None] | None = over
        self._timer: threading.Timer | None = None

    def process_gone(self, *, was_connected: bool) -> None:
        """The sentinel says so. Where the child never was connected nothing of it is on its way."""
        self.gone = True
        self._silent = self._silent or not was_connected
        self._look()
        if self._over is not None:
            self._timer = threading.Timer(_LAST_WORDS_S, self._call, (self._wait_no_more,))
            self._timer.daemon = True
            try:
                self._timer.start()
            except RuntimeError:  # the system has no thread for it: what has come by now is all
                self._timer = None
                self._call(self._wait_no_more)

    def silent(self) -> None:
        """What it had sent has come."""
        self._silent = True
        self._look()

    def exited(self, status: int | None) -> None:
        """Its exit status, as `waitpid` has it; None: nobody knows."""
        self._status, self._status_known = status, True
        self._look()

    def never_lived(self, cause: BaseException) -> None:
        """There is no process."""
        self.cause = cause
        self.gone = self._silent = self._status_known = True
        self._look()

    def _wait_no_more(self) -> None:
        self._silent = self._status_known = True
        self._look()

    def _look(self) -> None:
        if self.gone and self._silent and self._status_known and self._over is not None:
            over, self._over = self._over, None
            if self._timer is not None:
                self._timer.cancel()
            over()

    def reason(self, pid: int) -> Gone:
        """Why it has ended."""
        code = sign = None
        if self._status is not None:
            if os.WIFSIGNALED(self._status):
                sign = _name_of(os.WTERMSIG(self._status))
            else:
                code = os.WEXITSTATUS(self._status)
        return Gone(
            self.cause,
            pid or None,
            code,
            sign,
            expected=self.expected,
            killed_by_us=bool(self.signals),
            unknown=self._status is None and self.cause is None,
        )


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def send_signal(pidfd: int, number: int) -> Any:
    """Send a signal to a process that may have ended meanwhile, which its sentinel tells."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True
