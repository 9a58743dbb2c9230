"""What the tests of handles share: signals that reach every process, and workers that are stopped afterwards."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 20.0  # what is waited for comes at once; past this the test fails instead of hanging
MODES = ["thread", "asyncio", "sync", "process"]


class Signal:
    """Something that happens once, in any process: a named pipe with a byte in it, which nobody takes out."""

    def __init__(self, path: str) -> None:
        self.path = path

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def make(self) -> None:
        os.mkfifo(self.path)
        self._kept = self._open()  # as long as it is open the byte stays

    def __reduce__(self) -> tuple[Any, ...]:
        return Signal, (self.path,)

    def set(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # its test is over
            fd = self._open()
            os.write(fd, b"!")
            os.close(fd)

    def happened(self, seconds: float = 0) -> bool:
        fd = self._open()
        try:
            return bool(select.select([fd], [], [], seconds)[0])
        finally:
            os.close(fd)

    def wait(self) -> None:
        assert self.happened(PATIENCE_S), "what this test waits for has not happened"

    def close(self) -> None:
        self.set()
        os.close(self._kept)
        os.unlink(self.path)


@pytest.fixture
def new_signal(tmp_path: Path) -> Iterator[Callable[[], Signal]]:
    """`new_signal()` makes a signal; all of them happen at the end of the test at the latest."""
    made: list[Signal] = []

    def new() -> Signal:
        signal = Signal(str(tmp_path / f"signal{len(made)}"))
        signal.make()
        made.append(signal)
        return signal

    yield new
    for signal in made:
        signal.close()


@pytest.fixture
def start(new_signal: Any) -> Iterator[Callable[..., Any]]:
    """`start(cls, mode, *args, **options)`: a worker, stopped when the test is over."""
    started: list[Any] = []

    def start_worker(cls: Any, mode: str, *args: Any, **options: Any) -> Any:
        handle = cls.options(mode=mode, **options).init(*args)
        started.append(handle)
        return handle

    yield start_worker
    while started:
        started.pop().stop(timeout=3)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each mode that the worker which is called may have."""
    found: str = request.param
    return found


@pytest.fixture(scope="package", autouse=True)
def nursery() -> Iterator[None]:
    """The helper that starts processes is started once for these tests, and not anew for each."""
    from concurry import Worker
    from concurry.transports import hub, nursery

    retained = hub.retain()

    class First(Worker):
        """Its process brings up what is started by the first one only."""

    with pytest.MonkeyPatch.context() as patch:  # what the test modules import takes longer than all the rest
        patch.setattr(nursery, "_PRELOADED", (*nursery._PRELOADED, "pytest"))
        First.options(mode="process").init().stop()
    yield
    thread = hub.release(retained)
    if thread is not None:
        thread.join()
