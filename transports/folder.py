"""The directory of a session's sockets: only this user may enter it, and it goes with the session.

Guarantees: it is new, and of mode 0700 whatever the umask; its path leaves room for a socket's name (107 bytes are the
most that such a path may have), also where TMPDIR is long. Whoever notices first that the session is over removes it:
the hub, the nursery, or a child whose parent was killed.
Called by: the hub (`make`), and the three (`remove`).
"""

from __future__ import annotations

import os

_ROOM = 60  # bytes that its path may have


def make() -> str:
    """A new directory."""
    import tempfile

    folder = tempfile.mkdtemp(prefix="concurry-")
    if len(os.fsencode(folder)) > _ROOM:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="concurry-", dir="/tmp")
    return folder


def remove(folder: str) -> None:
    """Remove it with what is in it. Somebody else may be doing the same. Never raises."""
    try:
        for name in os.listdir(folder):
            try:
                os.unlink(os.path.join(folder, name))
            except FileNotFoundError:
                continue
        os.rmdir(folder)
    except OSError:  # it is gone already, or the system does not let us: nobody is there to tell
        return
