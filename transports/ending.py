"""How a child has ended: its process is gone, what it had sent has come, and its exit status is known.

The three come in any order, and none may be waited for for ever: a nursery that was killed tells no status.

What a dead process has sent is in this process's kernel, so libzmq's thread has it in moments, and says DISCONNECTED
behind it; but not where a forked copy of the process holds the socket open. Then silence has to do.

Guarantees: `over` is called once, when all three are there. After the process is gone, what it had sent counts as come
when nothing has come for `_SILENCE_S`, and its status as unknown after `_STATUS_S`.
Assumes: everything here runs on the hub's thread. Called by: the channel.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from concurry.transports.base import Gone

_SILENCE_S = 0.05
_STATUS_S = 0.5


class Ending:
    """See the module's docstring.

    Args:
        call: brings a function to the hub's thread. over: what to do at the end. waited_for: how many replies have not
            come; it changes as they do.
    """

    def __init__(self, call: Callable[..., None], over: Callable[[], None], waited_for: Callable[[], int]) -> None:
        self.gone = False  # the process is
        self.cause: BaseException | None = None
        self.expected: str | None = None
        self.signals: list[int] = []  # those that we sent
        self._silent = False
        self._status: int | None = None
        self._status_known = False
        self._untold: str | None = None  # why its status is not known
        self._call = call
        self._over: Callable[[], None] | None = over
        self._waited_for = waited_for
        self._timer: threading.Timer | None = None
        self._gone_at = 0.0

    def process_gone(self, *, was_connected: bool) -> None:
        """The sentinel says so. Where the child never was connected nothing of it is on its way."""
        self.gone = True
        self._silent = self._silent or not was_connected
        self._gone_at = time.monotonic()
        self._look()
        self._wait()

    def _wait(self) -> None:
        if self._over is None:
            return
        left_s = self._gone_at + _STATUS_S - time.monotonic()
        wait_s = left_s if self._silent else min(left_s, _SILENCE_S)
        self._timer = threading.Timer(wait_s, self._call, (self._waited, self._waited_for()))
        self._timer.daemon = True
        self._timer.name = "concurry-ending"  # a fork tells of threads that are not ours
        try:
            self._timer.start()
        except RuntimeError:  # the system has no thread for it: what has come by now is all
            self._timer = None
            self._silent = self._status_known = True
            self._call(self._look)

    def _waited(self, waited_for: int) -> None:
        late = time.monotonic() >= self._gone_at + _STATUS_S
        self._silent = self._silent or late or self._waited_for() == waited_for
        self._status_known = self._status_known or late
        self._look()
        self._wait()

    def silent(self) -> None:
        """What it had sent has come."""
        self._silent = True
        self._look()

    def exited(self, status: int | None, *, untold: str | None = None) -> None:
        """Its exit status, as `waitpid` has it; None: nobody knows, and `untold` says why."""
        self._status, self._status_known, self._untold = status, True, untold
        self._look()

    def never_lived(self, cause: BaseException) -> None:
        """There is no process."""
        self.cause = cause
        self.gone = self._silent = self._status_known = True
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
        unknown = self._status is None and self.cause is None
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
            unknown=unknown,
            said=self._untold if unknown else None,
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
