"""Whether the system lets this process start threads: zmq does not ask, it aborts the process where there is none.

Guarantees: an OSError instead of an abort, but for what others of the same user start in that very moment.
Called by: the hub and the child, before they make a zmq context.
"""

from __future__ import annotations

import errno
import threading

ZMQ_THREADS = 2  # of a context: the reaper, and the one that reads and writes


def for_threads(count: int) -> None:
    """Raises OSError where so many more threads cannot run at once. They are started, and end."""
    go = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=go.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise OSError(
            errno.EAGAIN,
            "no more threads or processes can be started: raise the limit (ulimit -u, or the container's), or lower "
            "max_workers",
        ) from error
    finally:
        go.set()
        for thread in started:
            thread.join()
