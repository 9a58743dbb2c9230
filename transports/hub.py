"""The hub: the one I/O thread of a process that has children. It waits on everything they can say, at once.

    replies (zmq), control lines, process sentinels, the nursery, newcomers at a socket's door (ZAP), `call`
        --> its handler, on the hub's thread

Guarantees: nothing polls: the thread sleeps in one wait on all of them. It decodes no payload and runs no code of the
user's. It lives while somebody retains it; with the last one go its thread, the zmq context, the nursery and the
directory of the sockets. A handler that raises is logged and harms no other.
Assumes: handlers are short and never block. `watch` and `forget` are for the hub's own thread; `call` brings you there.
Called by: the channels of process mode.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from concurry.transports import folder, room
from concurry.transports.door import Door
from concurry.transports.nursery import Nursery

log = logging.getLogger("concurry")

IN, OUT = select.EPOLLIN, select.EPOLLOUT
_ONE = (1).to_bytes(8, sys.byteorder)


class Hub:
    """See the module's docstring. Made by `retain`."""

    def __init__(self) -> None:
        self.folder = folder.make()
        self.context = zmq.Context()
        try:
            self._set_up()
        except BaseException:  # no descriptors left, most likely
            self.context.destroy(linger=0)
            folder.remove(self.folder)
            raise

    def _set_up(self) -> None:
        self._todo: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        # A file, which knows whether it is closed: `call` may come late, from a finalizer, and a bare number could be
        # somebody else's by then.
        self._wake = open(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+b", buffering=0)  # noqa: SIM115
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._epoll = select.epoll()
        # `change(fd, events)`: wait for other events of a descriptor that is watched, or for none for now. From any
        # thread, at once.
        self.change = self._epoll.modify
        self._ending = False
        self.retained = 0
        self.nursery = Nursery(self)
        self.door = Door(self)
        self.watch(self._wake.fileno(), self._on_wake)
        self.thread = threading.Thread(target=self._run, name="concurry-io", daemon=True)

    # -- from any thread ---------------------------------------------------------------------------------------------

    def call(self, fn: Callable[..., object], *args: Any) -> None:
        """Run `fn(*args)` on the hub's thread, in the order of the calls. Never blocks."""
        self._todo.append((fn, args))
        try:
            self._wake.write(_ONE)
        except ValueError:  # closed: the hub has ended, with everything that it was for
            log.debug("concurry: the hub has ended before %r", fn)

    def is_here(self) -> bool:
        return threading.current_thread() is self.thread

    # -- on the hub's thread -----------------------------------------------------------------------------------------

    def watch(self, fd: int, handler: Callable[[int], None], events: int = IN) -> None:
        """Call `handler(events)` when a descriptor is ready. Again: the events that are waited for change. That of a
        zmq socket tells of news once: its handler reads until there is nothing."""
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Undo `watch`, before the descriptor is closed. Idempotent."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _run(self) -> None:
        handlers, wait = self._handlers, self._epoll.poll
        while not self._ending:
            for fd, events in wait():
                handler = handlers.get(fd)
                if handler is None:  # forgotten by a handler before it in this round
                    continue
                try:
                    handler(events)
                except Exception:
                    log.exception("concurry: an event could not be handled")
        self._close()

    def _on_wake(self, _: int) -> None:
        self._wake.read(8)
        todo = self._todo
        while todo:
            fn, args = todo.popleft()
            try:
                fn(*args)
            except Exception:
                log.exception("concurry: %r failed", fn)

    def end(self) -> None:
        """Leave the loop after this round, and let everything go."""
        self._ending = True

    def _close(self) -> None:
        self.nursery.close()
        self.door.close()
        self.context.destroy(linger=0)
        self._epoll.close()
        self._wake.close()
        folder.remove(self.folder)


_lock = allocate_lock()  # protects `_hub` and every hub's `retained`
_hub: Hub | None = None


def retain() -> Hub:
    """The hub of this process, for one more who needs it; started where there is none."""
    global _hub
    with _lock:
        if _hub is None:
            room.for_threads(room.ZMQ_THREADS + 1)
            made = Hub()
            try:
                made.thread.start()
            except RuntimeError:  # the system has no more threads
                made._close()  # pyright: ignore[reportPrivateUsage]
                raise
            _hub = made
        _hub.retained += 1
        return _hub


def release(hub: Hub) -> threading.Thread | None:
    """One needs it no more. Returns the hub's thread where it now ends, for joining."""
    global _hub
    with _lock:
        hub.retained -= 1
        if hub.retained:
            return None
        if _hub is hub:
            _hub = None
    hub.call(hub.end)
    return hub.thread


def after_fork_in_child() -> None:
    """The thread is the parent's, and so are its sockets: the copies here are never touched, but kept, since closing a
    zmq context of another process would wait for its threads for ever. Descriptors whose end-of-file means something
    are closed."""
    global _hub, _lock
    _lock = allocate_lock()
    hub, _hub = _hub, None
    if hub is not None:
        _of_the_parent.append(hub)
        hub.nursery.after_fork_in_child()


_of_the_parent: list[Hub] = []
os.register_at_fork(after_in_child=after_fork_in_child)
