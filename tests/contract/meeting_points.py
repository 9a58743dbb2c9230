"""Where a test and its worker meet: signals, logs, and places where several calls wait for each other.

In one process a signal is an event and a log is a list. Those of processes travel as paths: a pipe, and a file.
Called by: the fixtures of `conftest`; workers get them as arguments, so a child imports this file, and not the tests'.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

# What is waited for comes at once; past this the test fails instead of hanging. Ray takes seconds to start an actor.
PATIENCE_S = 60.0 if os.environ.get("CONCURRY_TEST_RAY") == "1" else 10.0


class Signal:
    """Something that happens once. Made by the test; set and waited for on either side."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(PATIENCE_S), "what this test waits for has not happened"

    def happened(self) -> bool:
        return self._event.is_set()

    def close(self) -> None:
        self.set()


class PipeSignal:
    """The same across processes: a named pipe with a byte in it, which nobody takes out. It travels as its path."""

    def __init__(self, path: str | None = None) -> None:
        self._made = path is None
        self.path = path or os.path.join(tempfile.mkdtemp(prefix="signal-"), "pipe")
        if self._made:
            os.mkfifo(self.path)
            self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)  # as long as it is open the byte stays

    def __reduce__(self) -> tuple[Any, ...]:
        return PipeSignal, (self.path,)

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def set(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # its test is over
            fd = self._open()
            os.write(fd, b"!")
            os.close(fd)

    def _wait(self, seconds: float) -> bool:
        fd = self._open()
        try:
            return bool(select.select([fd], [], [], seconds)[0])
        finally:
            os.close(fd)

    def wait(self) -> None:
        assert self._wait(PATIENCE_S), "what this test waits for has not happened"

    def happened(self) -> bool:
        return self._wait(0)

    def close(self) -> None:
        self.set()
        os.close(self._fd)
        os.unlink(self.path)
        os.rmdir(os.path.dirname(self.path))


class FileLog:
    """A list that processes share: what they append stands in a file, in one order for all. It travels as its path."""

    def __init__(self, path: str | None = None) -> None:
        if path is None:
            fd, path = tempfile.mkstemp(prefix="log-")
            os.close(fd)
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return FileLog, (self.path,)

    def append(self, value: Any) -> None:
        with contextlib.suppress(FileNotFoundError):  # its test is over
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            os.write(fd, pickle.dumps(value).hex().encode() + b"\n")  # in one go: it is whole, or not there yet
            os.close(fd)

    def clear(self) -> None:
        os.truncate(self.path, 0)

    def _all(self) -> list[Any]:
        with open(self.path, "rb") as file:
            return [pickle.loads(bytes.fromhex(line.decode())) for line in file]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __eq__(self, other: object) -> bool:
        return self._all() == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._all())

    def close(self) -> None:
        os.unlink(self.path)


class Meeting:
    """Where so many calls come together, once: each waits here until all are there."""

    def __init__(self, number: int, came: Any, complete: Any) -> None:
        self._number = number
        self._came = came
        self._complete = complete

    def wait(self) -> None:
        self._came.append(os.getpid())
        if len(self._came) >= self._number:
            self._complete.set()
        self._complete.wait()
