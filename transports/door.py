"""The door of our sockets: who may connect. zmq asks it (ZAP, RFC 27) before it lets a peer send or get anything.

    child --connect, PLAIN user and token--> zmq --ZAP request--> Door --200 or 400--> zmq

Guarantees: only the process that we started, of our own user, as the kernel attests both of the connection, and only
with the token that this incarnation was given; compared in constant time. A token is good while it is announced, and
never again. Whoever is refused is counted, and logged once a socket.
Assumes: the address of a peer on ipc:// is `localhost:<uid>:<gid>:<pid>`, as libzmq makes it from SO_PEERCRED.
Called by: the hub, with what zmq asks; channels announce whom they expect.
"""

from __future__ import annotations

import hmac
import logging
import os
from typing import Any

import zmq

log = logging.getLogger("concurry")

_VERSION = b"1.0"


class Door:
    """See the module's docstring. `refused`: how many were not let in."""

    def __init__(self, hub: Any) -> None:
        self.refused = 0
        self._expected: dict[str, tuple[bytes, int]] = {}  # user -> token, pid
        self.socket: zmq.Socket[bytes] = hub.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")
        # Always watched: a socket of ours that was closed is let go only when this one, its peer, says that it knows.
        hub.watch(self.socket.fileno(), self.on_knock)

    def expect(self, user: str, token: bytes, pid: int) -> None:
        """Let this one in, until `expect_no_more`."""
        self._expected[user] = (token, pid)

    def expect_no_more(self, user: str) -> None:
        """Idempotent."""
        self._expected.pop(user, None)

    def on_knock(self, _: int) -> None:
        """Answer what zmq asks."""
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            split = frames.index(b"")
            envelope, request = frames[: split + 1], frames[split + 1 :]
            good = self._is_good(request)
            if not good:
                self.refused += 1
                log.warning("concurry: a stranger was refused at a socket of ours (%d so far)", self.refused)
            code, text = (b"200", b"OK") if good else (b"400", b"refused")
            number = request[1] if len(request) > 1 else b""
            self.socket.send_multipart([*envelope, _VERSION, number, code, text, b"", b""])

    def _is_good(self, request: list[bytes]) -> bool:
        if len(request) != 8 or request[0] != _VERSION or request[5] != b"PLAIN":
            return False
        expected = self._expected.get(request[2].decode("ascii", "replace"))  # the domain is the channel's
        if expected is None:
            return False
        token, pid = expected
        host, *who = request[3].split(b":")  # the group, who[1], may be any: user and process decide
        is_child = host == b"localhost" and len(who) == 3 and (who[0], who[2]) == (b"%d" % os.geteuid(), b"%d" % pid)
        return hmac.compare_digest(request[7], token) and is_child

    def close(self) -> None:
        self.socket.close(linger=0)
