"""The ways to run a worker under faults, workers that are started and stopped, and scripts in processes of their own.

Nothing here sleeps: a test and its worker meet by events; a script and its test by lines on a pipe and its exit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from concurry.runtime import shutdown

PATIENCE_S = 20.0  # what is waited for comes at once; past this the test fails instead of hanging
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Way:
    """One way to run a worker. `sync_at_once`: how many plain methods of one handle run at the same time."""

    name: str
    options: dict[str, Any]
    background: bool = True
    sync_at_once: int = 1
    pooled: bool = False
    has_loop: bool = False


WAYS = {
    way.name: way
    for way in [
        Way("sync", {"mode": "sync"}, background=False),
        Way("thread", {"mode": "thread"}),
        Way("pool", {"mode": "thread", "max_workers": 4}, sync_at_once=4, pooled=True),
        Way("concurrent", {"mode": "thread", "max_concurrency": 4}, sync_at_once=4, has_loop=True),
        Way("asyncio", {"mode": "asyncio"}, has_loop=True),
        Way("demand", {"mode": "thread", "on_demand": True, "max_workers": 3}, sync_at_once=3, pooled=True),
    ]
}
BACKGROUND = [way for way in WAYS.values() if way.background]


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    """Every way."""
    return WAYS[request.param]


@pytest.fixture(params=[way.name for way in BACKGROUND])
def beside(request: pytest.FixtureRequest) -> Way:
    """Every way in which a call runs beside its caller."""
    return WAYS[request.param]


class Events:
    """Makes events and sets them all at the end, so that no call waits on after its test."""

    def __init__(self) -> None:
        self._made: list[threading.Event] = []

    def __call__(self) -> threading.Event:
        self._made.append(threading.Event())
        return self._made[-1]

    def set_all(self) -> None:
        for event in self._made:
            event.set()


@pytest.fixture
def event() -> Iterator[Events]:
    """`event()` makes one; all are set when the test is over."""
    made = Events()
    yield made
    made.set_all()


@pytest.fixture
def start(event: Events) -> Iterator[Callable[..., Any]]:
    """`start(cls, way, *args, **options)`: a worker, stopped when the test is over. `args=` go to `__init__`."""
    started: list[Any] = []

    def start_worker(cls: Any, way: Any, *args: Any, **options: Any) -> Any:
        given = WAYS[way].options if isinstance(way, str) else way.options
        handle = cls.options(**{**given, **options}).init(*args)
        started.append(handle)
        return handle

    yield start_worker
    event.set_all()
    while started:
        started.pop().stop(timeout=PATIENCE_S)


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Any]]:
    """`in_thread(fn, *args)` runs it in a thread; the returned function joins it and gives its result or raises."""
    threads: list[threading.Thread] = []

    def run(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
        outcome: list[Any] = []

        def body() -> None:
            try:
                outcome.append((fn(*args, **kwargs), None))
            except BaseException as error:
                outcome.append((None, error))

        thread = threading.Thread(target=body)
        thread.start()
        threads.append(thread)

        def join() -> Any:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "it hangs"
            result, error = outcome[0]
            if error is not None:
                raise error
            return result

        return join

    yield run
    for thread in threads:
        thread.join(PATIENCE_S)


class Script:
    """A script in a process of its own, in its own process group."""

    def __init__(self, source: str, folder: Path) -> None:
        path = folder / "script.py"
        path.write_text(textwrap.dedent(source))
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"},
            start_new_session=True,
        )
        self.status: int | None = None
        self.out = self.err = ""
        self.took_s = 0.0

    def wait_for_line(self, line: str) -> None:
        """Until it prints this line."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == line

    def signal(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def finish(self, timeout: float = 60.0, *, press_again: bool = False) -> Script:
        """Wait for its end. `took_s`: how long that was from now.

        Args:
            press_again: CPython does not see a signal that comes in the instant before the main thread begins to wait
                for a lock, whoever's lock it is; what a user does then is press again.
        """
        began = time.monotonic()
        if press_again:
            try:
                self.out, self.err = self.process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGINT)
                began = time.monotonic()
        try:
            self.out, self.err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler prints where it hangs
            self.out, self.err = self.process.communicate()
            pytest.fail(f"the script hangs:\n{self.out}\n{self.err}")
        self.took_s = time.monotonic() - began
        self.status = self.process.returncode
        return self

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[[str], Script]]:
    """`script(source)` starts a script. Several may run at the same time."""
    started: list[Script] = []

    def start_script(source: str) -> Script:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Script(source, folder))
        return started[-1]

    yield start_script
    for each in started:
        each.kill()


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that are stuck on purpose are waited for 0.4 s after a stop's time, and not 1 s: there are many here."""
    monkeypatch.setitem(shutdown.stop.__kwdefaults__, "grace_s", 0.4)  # type: ignore[arg-type]
