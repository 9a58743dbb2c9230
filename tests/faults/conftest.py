"""The ways to run a worker under faults, workers that are started and stopped, and scripts in processes of their own.

Nothing here sleeps: a test and its worker meet by events, across processes by named pipes; a script and its test by
lines on a pipe and its exit. What faults.md asks for many times, or for a minute, is marked `long` and runs where
CONCURRY_LONG=1 is set (`make faults`); its short form always runs.
"""

from __future__ import annotations

import os
import select
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

from concurry import Worker
from concurry.runtime import shutdown

PATIENCE_S = 20.0  # what is waited for comes at once; past this the test fails instead of hanging
ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CONCURRY_LONG") != "1":
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip("the long form: CONCURRY_LONG=1, or `make faults`"))


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
            os.killpg(self.process.pid, signal.SIGABRT)  # faulthandler prints where it hangs, and where its children do
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


# -- processes ---------------------------------------------------------------------------------------------------------


class Pipe:
    """A named pipe. What is written stays in it while it is open here. It travels as its path."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def wait(self, timeout: float = PATIENCE_S) -> bytes:
        """Until something is in it, which is taken out."""
        assert self.ready(timeout), "what this test waits for has not happened"
        return os.read(self.fd, 65536)

    def ready(self, timeout: float = 0) -> bool:
        return bool(select.select([self.fd], [], [], timeout)[0])

    def tell(self, what: bytes = b"!") -> None:
        os.write(self.fd, what)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[], Pipe]]:
    """`pipe()` makes one. At the end each is told, so that no call waits on after its test."""
    made: list[Pipe] = []

    def make() -> Pipe:
        made.append(Pipe(tmp_path / f"pipe{len(made)}"))
        return made[-1]

    yield make
    for each in made:
        each.tell(b"!" * 64)
        os.close(each.fd)


def _acts() -> type[Worker]:
    """A class that travels by value, as those of a script do: a child need not import pytest for it."""

    class Acts(Worker):
        """Does what its tests say. Files and pipes come as paths."""

        def __init__(self, first: Any = None) -> None:
            if first is not None:
                first()

        def echo(self, value: Any = None) -> Any:
            return value

        def pid(self) -> int:
            return os.getpid()

        def call(self, fn: Any, *args: Any) -> Any:
            return fn(*args)

        async def call_later(self, fn: Any, *args: Any) -> Any:
            return fn(*args)

        def note(self, path: str, *what: Any, seconds: float = 0.0) -> Any:
            """Writes a line, in one go, when it begins."""
            with open(path, "ab", buffering=0) as file:
                file.write(" ".join(map(str, what)).encode() + b"\n")
            if seconds:
                time.sleep(seconds)
            return what[-1]

        def hold(self, began: str, go: str) -> str:
            with open(began, "wb", buffering=0) as said:
                said.write(b"%d\n" % os.getpid())
            with open(go, "rb", buffering=0) as told:
                told.read(1)
            return "held"

        def pause(self, seconds: float) -> float:
            time.sleep(seconds)
            return seconds

        def dies(self, path: str | None = None) -> None:
            if path is not None:
                self.note(path, "started")
            os.kill(os.getpid(), signal.SIGKILL)

    return Acts


@pytest.fixture(scope="session")
def acts() -> Any:
    """The worker class of these tests."""
    return _acts()


@pytest.fixture(scope="session")
def nursery(acts: Any) -> Iterator[None]:
    """The helper that starts processes is started once for these tests, and not anew for each."""
    from concurry.transports import hub

    retained = hub.retain()
    acts.options(mode="process").init().stop()
    yield
    thread = hub.release(retained)
    if thread is not None:
        thread.join()


@pytest.fixture
def process(nursery: None, acts: Any, pipe: Any) -> Iterator[Callable[..., Any]]:
    """`process(*args, **options)` starts processes with `acts`, or with another `cls=`; stopped at the test's end."""
    started: list[Any] = []

    def start_worker(*args: Any, cls: Any = None, **options: Any) -> Any:
        handle = (cls or acts).options(mode="process", **options).init(*args)
        started.append(handle)
        return handle

    yield start_worker
    while started:
        started.pop().stop(timeout=0)


@pytest.fixture(scope="session")
def pids() -> Callable[[Any], list[int]]:
    """`pids(worker)`: those of its actors, now."""

    def of(worker: Any) -> list[int]:
        members = worker.__dict__["_pool"].supervisor.everybody()
        return [member.channel.pid for member in members if member.channel is not None]

    return of


@pytest.fixture(scope="session")
def outcome() -> Callable[..., Any]:
    """`outcome(future)`: its exception, or its result; it must come within `timeout` seconds."""
    return outcome_of


def outcome_of(future: Any, timeout: float = PATIENCE_S) -> Any:
    error = future.exception(timeout)
    return future.result(0) if error is None else error


@pytest.fixture(scope="session")
def gone() -> Callable[..., bool]:
    """`gone(pids, seconds)`: whether these processes end within that time. Zombies have ended."""
    return are_gone


def are_gone(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
                return False
        finally:
            os.close(fd)
    return True
