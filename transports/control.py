"""The control line of a child: one end of a socket pair that it inherits. Small messages, and descriptors, both ways.

    parent --calls--> zmq --replies--> parent        everything else, and what must be heard while a call runs:
    parent <========== control line ==========> child

Guarantees: messages keep their borders and their order; a large one goes through anonymous memory, so there is no
bound; end-of-file tells that the other side is gone, whatever happened to it. A parent never blocks in `send`: what a
stopped child does not take waits here, and goes when the socket is writable. A child does block.
Assumes: only the two processes hold the ends, so what comes is the peer's; it is checked for its form all the same.
Called by: the channel and the hub (parent), the child's side thread and whoever has something to say there.
"""

from __future__ import annotations

import os
import select
import socket
from _thread import allocate_lock
from array import array
from collections import deque
from typing import Any

import msgpack

from concurry.transports.anything import LIST
from concurry.transports.errors import ProtocolError

# Kinds of message. Those from RUNTIME on are the runtime's own, and pass through here unread.
BOOT, CONNECTED, READY, UNBUILT, RIVAL = 1, 2, 3, 4, 5
ASK_BACK, ASKED_BACK, INTERRUPT = 6, 7, 8
SEGMENT, RETIRED, FREED = 9, 10, 11
LEAVING, AGAIN = 12, 17  # the child ends by itself, to be replaced; the last reply is wanted once more
FORK, FORKED, UNBORN, EXITED = 13, 14, 15, 16  # with the nursery
RUNTIME = 32

_SMALL = 48 << 10  # bytes: what goes into a packet itself; the kernel's bound is some 200 kB
_MOST_FDS = 6
_INLINE, _IN_MEMORY = b"m", b"f"
_pack = msgpack.packb


class Control:
    """See the module's docstring.

    Args:
        sock: this side's end, of type SOCK_SEQPACKET; owned from now on.
        blocks: whether `send` may wait for the peer.
    """

    one_clock = True  # for both sides

    def __init__(self, sock: socket.socket, *, blocks: bool) -> None:
        self.sock = sock
        self.closed = False
        self._blocks = blocks
        sock.setblocking(blocks)
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        self._lock = allocate_lock()  # protects the order of what is sent, `_waiting` and `closed`
        self._waiting: deque[tuple[bytes, list[int]]] = deque()  # what the peer has not taken yet

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: list[Any], fds: tuple[int, ...] = ()) -> bool:
        """Send. The descriptors stay the caller's. True: all of it is on its way; False: call `send_waiting` when the
        socket is writable. To a peer that is gone: nothing happens, end-of-file is on its way here."""
        packet: bytes = _INLINE + _pack(message)
        own: list[int] = []
        if len(packet) > _SMALL:
            own = [in_memory(packet[1:])]
            packet = _IN_MEMORY
        with self._lock:
            if self.closed:
                _close_all(own)
                return True
            if not self._waiting and self._try(packet, [*fds, *own]):
                _close_all(own)
                return True
            self._waiting.append((packet, [*map(os.dup, fds), *own]))
            return False

    def send_waiting(self) -> bool:
        """Go on with what waits. True: nothing waits any more."""
        with self._lock:
            while self._waiting and not self.closed:
                packet, fds = self._waiting[0]
                if not self._try(packet, fds):
                    return False
                self._waiting.popleft()
                _close_all(fds)
            return True

    def _try(self, packet: bytes, fds: list[int]) -> bool:
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        try:
            self.sock.sendmsg([packet], passed, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):  # the peer is gone: who reads here hears of it
            return True
        return True

    def has_news(self) -> bool:
        """Whether something has come that nobody has received yet."""
        return bool(self._poll.poll(0))

    def receive(self) -> tuple[list[Any], list[int]] | None:
        """The next message, with the descriptors that came along, which are the caller's now; None: the peer is gone.

        Raises:
            BlockingIOError: there is none now (where this side does not block).
            ProtocolError: what came is no message of ours.
        """
        try:
            packet, fds, _, _ = socket.recv_fds(self.sock, _SMALL + 64, _MOST_FDS)
        except ConnectionResetError:
            return None
        if not packet:
            _close_all(fds)
            return None
        body = read_memory(fds.pop()) if packet[:1] == _IN_MEMORY and fds else packet[1:]
        try:
            message = msgpack.unpackb(body, strict_map_key=False)
            if type(message) is not LIST or not message or type(message[0]) is not int:
                raise ProtocolError("a control message is an array that begins with its kind")
        except ProtocolError:
            _close_all(fds)
            raise
        except Exception as error:  # whatever msgpack says about bytes that are none of its own
            _close_all(fds)
            raise ProtocolError(f"a control message that cannot be read: {error}") from error
        return message, fds

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            while self._waiting:
                _close_all(self._waiting.popleft()[1])
            self.sock.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a new line."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def in_memory(content: bytes | memoryview) -> int:
    """A descriptor of anonymous memory with this content. Raises OSError where there is none."""
    fd = os.memfd_create("concurry")
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_memory(fd: int) -> bytes:
    """The content of what `in_memory` made; the descriptor is closed."""
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
