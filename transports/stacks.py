"""The stacks of a child's threads, on demand: also of one that hangs in C code and hears nothing.

    parent --STACKS_SIGNAL--> the child's signal handler --text, then the signal's number--> pipe --> parent

Guarantees: nothing of the child's Python has to run. It waits for `_PATIENCE_S` at most.
Called by: the channel; the child's side is `child.show_stacks_to`.
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from typing import Final

from concurry.transports.ending import send_signal

# A real-time signal that nobody uses. Its number, as a character, is no end of a line of such a text.
STACKS_SIGNAL: Final = 61
_PATIENCE_S = 2.0
_ROOM = 1 << 20  # bytes: the handler does not wait for room


class Stacks:
    """See the module's docstring. Made by the parent, one a child."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, _ROOM)
        except OSError:  # the user has no more room for pipes: the usual 64 kB do for a hundred threads
            return

    def write_end(self) -> int:
        """The child's."""
        return self._write

    def close_write_end(self) -> None:
        """The child has it."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def of(self, pidfd: int) -> str:
        """The stacks, as faulthandler writes them."""
        self._take()  # what other signals have left there
        if not send_signal(pidfd, STACKS_SIGNAL):
            return "it has ended\n"
        end = time.monotonic() + _PATIENCE_S
        text = b""
        mark = b"\n" + bytes([STACKS_SIGNAL])
        while not text.endswith(mark):
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            piece = self._take() if ready else b""
            if not piece:
                return text.decode(errors="replace") + "(it did not answer: it may be stopped, or have just ended)\n"
            text += piece
        return text[:-1].decode(errors="replace")

    def _take(self) -> bytes:
        try:
            return os.read(self._read, _ROOM)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Idempotent."""
        self.close_write_end()
        if self._read >= 0:
            os.close(self._read)
            self._read = -1
