"""The wire of a child: calls come in, replies go out, and an ear hears what must be heard while a call runs.

    zmq PULL --receive--> the actor's loop --reply--> outbox --flush--> zmq PUSH
    control line, parent's pidfd --> ear (a thread): calls asked back, interrupts, shared memory; the end

Guarantees: a reply is sent at once unless calls take microseconds and more of them wait; then many go together, and
where one of them turns out to be slow, the ear sends what is left lying: before it has lain three times `_HOLD_NS`, if
the call lets other threads run. With nothing to do nothing wakes. What is asked back has not begun and never will, or
is not given back: the board decides.
Assumes: `receive` is called by one thread; replies may come from any.
Called by: `child` (makes it), the runtime's code in the child.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
import traceback
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

import zmq

from concurry.transports import codec, control, folder, parcel
from concurry.transports.asking import GivesBack
from concurry.transports.board import Board
from concurry.transports.codec import read
from concurry.transports.control import Control
from concurry.transports.errors import ProtocolError
from concurry.transports.events import event_of
from concurry.transports.memory import Memory
from concurry.transports.parcel import sender

_HOLD_NS = 1_000_000  # how long a reply may wait for others, while calls are quick
_QUICK_NS = 100_000  # calls that take less, in the mean, are replied to in batches
_MOST_HELD = 32  # replies: fewer than may be under way, so that the next calls come while these run
_MUCH = 4096  # bytes: a reply of that length goes at once
_LINGER_MS = 10_000  # for what is under way when it ends
_NOTHING: list[Any] = []  # stays empty


class Stranger(Exception):
    """Somebody else than the parent serves a socket of ours."""


class Wire(GivesBack):
    """See the module's docstring.

    Attributes:
        who: the worker's name, such as ``LLM[3]``.
        on_message: what to do with the runtime's own messages; on the ear's thread.
        on_interrupt: told the numbers of calls that nobody waits for any more; on the ear's thread.
    """

    pack_result = staticmethod(codec.pack_result)

    def __init__(self, line: Control, boot: dict[str, Any], board_fd: int) -> None:
        self.line = line
        self.who: str = boot["who"]
        self._boot = boot
        self.large: int | None = boot["large"]
        self.board = Board(board_fd)
        self.board.close_fd()
        self.numbers = self.board.numbers
        super().__init__(self.board.begun)
        self.waiting: deque[Any] = deque()  # calls that came and were not taken yet; the runtime's
        self.looks_for_more = False  # whether who takes calls looks for more before it waits; the runtime's
        self.running: dict[int, Any] = {}  # calls that run, by number; the runtime's
        self.on_message: Callable[[list[Any], list[int]], None] = _ignore
        self.on_interrupt: Callable[[list[int]], None] = _ignore
        self.makings: list[Any] | None = None  # large buffers of what the actor is made of, until it is made
        self.replied = 0  # calls whose replies were sent
        self._out: list[tuple[bytes, float]] = []  # replies, and how long their calls took, in ns
        self._last: list[Any] = _NOTHING  # the frames of the last message, where that is too large for the board
        self._out_lock = allocate_lock()  # protects `_out`, `replied`, the socket and the lender
        self._held_since = 0  # ns
        self._mean_ns = 1e9
        self._busy_ns = self._told_ns = 0  # what calls took whose replies were held; and as far as that was told
        self._flushing = False  # whether the ear looks after the outbox now
        self._freed: deque[int] = deque()  # loans that nobody looks at any more
        self.memory = Memory(line.send, self._let_go, copies=boot["copies"])
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._context: zmq.Context[Any] = zmq.Context()
        self._ear = threading.Thread(target=self._listen, name="concurry-ear", daemon=True)

    # -- connecting --------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect both sockets. Raises Stranger where anybody but the parent serves one of them."""
        self._ear.start()
        self._calls = self._connected(zmq.PULL, self._boot["calls"])
        self._replies = self._connected(zmq.PUSH, self._boot["replies"])
        self._send = sender(self._replies)

    def _connected(self, kind: int, address: str) -> Any:
        made = self._context.socket(kind)
        made.set_hwm(0)  # what is under way is bounded by the credit
        made.maxmsgsize = parcel.MAX_FRAME
        made.plain_username, made.plain_password = self._boot["user"], self._boot["token"]
        made.reconnect_ivl = -1  # the path is gone after the first time; who listens there later is no parent
        made.linger = _LINGER_MS
        monitor = made.get_monitor_socket(zmq.EVENT_CONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | _FAILURES)
        try:
            made.connect(address)
            event, fd = event_of(monitor.recv_multipart())
            if event != zmq.EVENT_CONNECTED:
                raise Stranger(f"{self.who}: its socket could not be reached ({zmq.Event(event)!r})")
            self._check_server(fd)
            event, _ = event_of(monitor.recv_multipart())
            if event != zmq.EVENT_HANDSHAKE_SUCCEEDED:
                raise Stranger(f"{self.who}: its socket refused it ({zmq.Event(event)!r})")
        finally:
            made.disable_monitor()
            monitor.close(linger=0)
        return made

    def _check_server(self, fd: int) -> None:
        with socket.socket(fileno=os.dup(fd)) as peer:
            pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if (pid, uid) != (self._boot["parent"], os.geteuid()):
            raise Stranger(
                f"{self.who}: process {pid} of user {uid} serves its socket instead of its parent, process "
                f"{self._boot['parent']}: refused"
            )

    # -- calls and replies -------------------------------------------------------------------------------------------

    def receive(self) -> tuple[int, Any, list[list[Any]], list[Any] | None] | None:
        """Wait for calls. Returns the number of the first, what some of them carry, the calls as `codec` has them, and
        the buffers of the one that has any; None: no more will come."""
        calls = self._calls
        if self._out:
            try:
                frame = calls.recv(zmq.NOBLOCK)
            except zmq.Again:
                self.flush()
                frame = calls.recv()
        else:
            frame = calls.recv()
        items = read(frame)
        kind, first, more, ref, sizes = items[0]
        if kind == parcel.END:
            return None
        if kind != parcel.CALLS:
            raise ProtocolError(f"a message of kind {kind} where calls come")
        del items[0]
        if ref is None and sizes is None:
            return first, more, items, None
        frames: list[bytes] = []
        while calls.rcvmore:
            frames.append(calls.recv())
        try:
            buffers: Any = parcel.opened(self.memory, ref, sizes, frames)
        except (OSError, MemoryError) as error:  # this call's own
            buffers = parcel.Missing(error)
        return first, more, items, buffers

    def reply(self, reply: bytes, buffers: list[memoryview] | None, begun_ns: int, now_ns: int) -> None:
        """Send a reply, now or with the next ones. `begun_ns`: when its call began, and now, by the monotonic clock."""
        busy_ns = now_ns - begun_ns
        self._mean_ns += 0.2 * (busy_ns - self._mean_ns)
        if buffers is not None:
            self._send_large(reply, buffers, busy_ns)
            return
        self.board.keep(reply)
        out = self._out
        if not out and not self.waiting:  # by far the most frequent, where calls come one by one
            with self._out_lock:  # several calls at once all come here, or have large results
                self.replied += 1
                self._post(parcel.header(parcel.REPLIES, busy_ns) + reply)
            return
        self._busy_ns += busy_ns
        out.append((reply, busy_ns))  # without the lock: who flushes takes away what it has seen, and no more
        if self._mean_ns < _QUICK_NS:
            held = len(out)
            if held > 1 and not self.waiting and self.looks_for_more:
                return
            if held == 1 and self.waiting:
                self._held_since = now_ns
                if not self._flushing:
                    self._flushing = True
                    os.eventfd_write(self._wake, 1)
                return
            if self.waiting and held < _MOST_HELD and now_ns - self._held_since < _HOLD_NS and len(reply) < _MUCH:
                return
        self.flush()

    def _send_large(self, reply: bytes, buffers: list[memoryview], busy_ns: int) -> None:
        self.flush()
        with self._out_lock:
            ref, sizes, frames = parcel.stow(self.memory.lender(), buffers, self.large)
            self.replied += 1
            self._last = [parcel.header(parcel.REPLIES, busy_ns, None, ref, sizes) + reply, *frames]
            self._replies.send_multipart(self._last, copy=True)

    def _send_again(self) -> None:
        """The parent may have lost the last reply; those that are on the board it finds there."""
        self.flush()
        with self._out_lock:
            if self._last:
                self._replies.send_multipart(self._last, copy=True)

    def flush(self) -> None:
        """Send what is held."""
        out = self._out
        if out:
            with self._out_lock:
                batch, busy_ns = out[:], self._busy_ns
                if batch:
                    del out[: len(batch)]
                    self.replied += len(batch)
                    mean_ns = (busy_ns - self._told_ns) // len(batch)
                    self._told_ns = busy_ns
                    more = parcel.spans([each_ns for _, each_ns in batch]) if len(batch) > 1 else None
                    self._post(parcel.header(parcel.REPLIES, mean_ns, more) + b"".join([each for each, _ in batch]))

    def _post(self, frame: bytes) -> None:
        """Under the lock."""
        self._last = _NOTHING if len(frame) < _MUCH else [frame]  # the board has those that are smaller
        self._send(frame, parcel.NOBLOCK)

    def end(self) -> None:
        """All of it is sent: wait until it has gone out, and close."""
        self.flush()
        self._calls.close(linger=0)
        self._replies.close()
        self._context.term()

    def end_with_the_call(self, end: Callable[..., Any]) -> None:
        """This process is a forked copy: nothing may come or go here. Whatever comes back from a call's code replies
        first: `end` is called then, with whatever arguments."""
        self.reply = self.pack_result = self.tried_again = self.receive = end  # type: ignore[method-assign]

    # -- shared memory -----------------------------------------------------------------------------------------------

    def _let_go(self, serial: int) -> None:
        self._freed.append(serial)  # in a finalizer: the ear does the rest
        os.eventfd_write(self._wake, 1)

    # -- the ear -----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            self._hear()
        except BaseException:  # deaf, it would outlive its parent, and somebody may wait for what it has not heard
            traceback.print_exc()
        finally:
            os._exit(1)

    def _hear(self) -> NoReturn:
        parent = self._boot["parent"]
        poll = select.poll()
        poll.register(self.line.fileno(), select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        watched: int
        try:
            watched = os.pidfd_open(parent)
            poll.register(watched, select.POLLIN)
        except ProcessLookupError:
            self._leave(-1)
        except OSError:  # no descriptor left: the line's end tells as well
            watched = -1
        while True:
            ready = {fd for fd, _ in poll.poll(_HOLD_NS * 2e-6 if self._flushing else None)}
            if watched in ready:
                self._leave(watched)
            if self.line.fileno() in ready:
                came = self.line.receive()
                if came is None:
                    self._leave(watched)
                self._heard(*came)
            if self._wake in ready:
                os.eventfd_read(self._wake)
                self._send_freed()
            # Also between messages that come one after the other; but not at each wake-up: most are of quick calls.
            if not ready or (self._flushing and self._lies_long()):
                self._look_after_the_outbox()

    def _leave(self, watched: int) -> NoReturn:
        """The parent is gone: nobody needs this process, or would hear of its end. `watched`: the parent's pidfd."""
        gone = select.poll()
        if watched >= 0:
            gone.register(watched, select.POLLIN)
        # Its end of the line is closed a moment before it is gone itself.
        if watched < 0 or gone.poll(500):
            folder.remove(os.path.dirname(self._boot["calls"].removeprefix("ipc://")))
        os._exit(1)

    def _look_after_the_outbox(self) -> None:
        with self._out_lock:
            # First this, then the look: who holds a reply does it the other way round, so one sees the other.
            self._flushing = False
            if not self._out:
                return
            self._flushing = True
        if self._lies_long():
            self.flush()

    def _lies_long(self) -> bool:
        return time.monotonic_ns() - self._held_since >= _HOLD_NS

    def _send_freed(self) -> None:
        freed: list[int] = []
        while self._freed:
            freed.append(self._freed.popleft())
        if freed:
            self.memory.freed(freed)

    def _heard(self, message: list[Any], fds: list[int]) -> None:
        kind = message[0]
        if kind >= control.RUNTIME:
            self.on_message(message, fds)
        elif kind == control.ASK_BACK:
            self.line.send([control.ASKED_BACK, message[1], self.give_back(message[2])])
        elif kind == control.AGAIN:
            self._send_again()
        elif kind == control.INTERRUPT:
            self.on_interrupt(message[1])
        else:
            self.memory.heard(message, fds)

    def tried_again(self, number: int) -> None:
        """Another attempt of a call begins, after its first."""
        self.board.tried_again(number)

    def total(self) -> int:
        """How many calls were replied to, also where their replies are held."""
        with self._out_lock:
            return self.replied + len(self._out)


_FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_CONNECT_RETRIED
)


def _ignore(*_: Any) -> None:
    """Nobody has said yet what to do."""
