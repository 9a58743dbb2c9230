"""The gate of one child: the two sockets that it connects to, and what it is told so that it can.

    bound (paths in the hub's directory) -> the child is told where, as whom and with which token -> connected -> shut:
    the paths are gone, the token is worth nothing, frames go on flowing

Guarantees: each incarnation has sockets and a token of its own; the token goes through the inherited control line only.
Called by: the channel.
"""

from __future__ import annotations

import os
import secrets
import sys
from typing import Any

import zmq

from concurry.transports import nesting, parcel
from concurry.transports.nursery import import_path


class Gate:
    """See the module's docstring."""

    def __init__(self, hub: Any, serial: int) -> None:
        self._hub = hub
        self._user = f"concurry-{serial}"
        self._token = secrets.token_bytes(32).hex().encode()
        self._paths = [os.path.join(hub.folder, f"{serial}{name}") for name in ("c", "r")]
        self.push = self._bound(zmq.PUSH, self._paths[0])
        try:
            self.pull = self._bound(zmq.PULL, self._paths[1])
        except BaseException:
            self.push.close(linger=0)
            raise

    def _bound(self, kind: int, path: str) -> Any:
        made = self._hub.context.socket(kind)
        try:
            made.set_hwm(0)  # what is under way is bounded by the credit
            made.linger = 0
            made.maxmsgsize = parcel.MAX_FRAME
            made.plain_server = True
            made.zap_domain = self._user.encode()
            made.bind(f"ipc://{path}")
        except BaseException:
            made.close(linger=0)
            raise
        return made

    def open(self, pid: int) -> None:
        """Let the child in, which is this process."""
        self._hub.door.expect(self._user, self._token, pid)

    def shut(self) -> None:
        """Let nobody in any more. Idempotent."""
        self._hub.door.expect_no_more(self._user)
        for path in self._paths:
            try:
                os.unlink(path)
            except FileNotFoundError:  # it was shut before
                continue

    def close(self) -> None:
        """Undo the making, where the channel cannot be made."""
        self.shut()
        self.push.close(linger=0)
        self.pull.close(linger=0)

    def boot(self, job: Any, memory: Any, makings: list[int] | None) -> dict[str, Any]:
        """What a child is told first: how to connect, and this process's surroundings of now."""
        return {
            "who": job.who,
            "level": nesting.level + 1,
            "title": job.name,
            "parent": os.getpid(),
            "user": self._user.encode(),
            "token": self._token,
            "calls": f"ipc://{self._paths[0]}",
            "replies": f"ipc://{self._paths[1]}",
            "environment": list(os.environb.items()),
            "path": [_told(each) for each in import_path()],
            "argv": [_told(each) for each in getattr(sys, "argv", ()) if isinstance(each, str)],
            "folder": _folder(),
            "copies": memory.copies,
            "makings": makings,
            "large": job.settings["large"],
            "native_threads": job.settings["native_threads"],
        }


def _told(text: str) -> bytes:
    """Any text: a file's name need not be UTF-8. `child.heard` undoes it."""
    return text.encode("utf-8", "surrogatepass")


def _folder() -> bytes:
    try:
        return os.getcwdb()
    except FileNotFoundError:  # it was deleted under us
        return b"/"
