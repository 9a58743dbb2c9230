"""A notebook's cell that awaits hears the interrupt of its kernel.

    SIGINT -> ipykernel's handler -> a callback in the kernel's event loop, which cancels the cell
                                     `loop.call_soon`, for the handler runs in the loop's own thread: the loop is not
                                     woken by it, and sleeps in `select` until something else happens

So a cell that awaits calls which hang could not be interrupted at all. Here the signal itself wakes the loop, while one
of our futures is awaited: Python writes a byte where `signal.set_wakeup_fd` says, and the loop reads it.

Guarantees: does nothing but in the main thread of a Jupyter kernel, and nothing where somebody has set such a
descriptor already, or where the loop cannot read from one. It is taken back, and closed, when the last await is over.
Called by: `waits.waiting`, for every await of ours outside actors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Generator

log = logging.getLogger("concurry")


class _Waker:
    """A pair of sockets: a signal writes to one end, the loop reads from the other.

    Raises:
        NotImplementedError, OSError, ValueError: it cannot be here; nothing is left behind.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ours, self._signals = socket.socketpair()
        try:
            self._listen()
        except BaseException:
            self._ours.close()
            self._signals.close()
            raise

    def _listen(self) -> None:
        self._ours.setblocking(False)
        self._signals.setblocking(False)
        self._loop.add_reader(self._ours, self._read)
        before = signal.set_wakeup_fd(self._signals.fileno(), warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)  # somebody's own, who wakes the loop as well

    def _read(self) -> None:
        self._ours.recv(4096)  # the numbers of signals, which nobody needs: their handlers have run

    def close(self) -> None:
        now = signal.set_wakeup_fd(-1)
        if now != self._signals.fileno():
            signal.set_wakeup_fd(now)
        if not self._loop.is_closed():
            self._loop.remove_reader(self._ours)
        self._ours.close()
        self._signals.close()


_awaiting = 0  # how many awaits go on; only the main thread comes here
_waker: _Waker | None = None  # there while some go on


@contextlib.contextmanager
def heard() -> Generator[None]:
    """Around an await where ipykernel is imported: a signal wakes the main thread's event loop."""
    global _awaiting, _waker
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _waker is None:
        try:
            _waker = _Waker()
        except (NotImplementedError, OSError, ValueError) as error:  # a loop of another kind, or no descriptor left
            log.debug("an interrupt may not end this await: %r", error)
    _awaiting += 1
    try:
        yield
    finally:
        _awaiting -= 1
        if _awaiting == 0 and _waker is not None:
            _waker.close()
            _waker = None
