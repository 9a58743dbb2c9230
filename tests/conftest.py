"""What every test gets without asking: the leak check, and hypothesis without clocks or files.

Guarantees: a test that ends with a thread, a child process (running or not waited for), a file descriptor or a
`/dev/shm` file more than it began with fails, in its teardown, with the names of what is left. About 0.1 ms a test.
Assumes: fixtures of a wider scope are set up before the check looks, which is pytest's order. What such a fixture
starts later (a server that opens sockets for this very test) counts for the test.
Skipped by: `@pytest.mark.leaks("the reason")`. What a loop or a coroutine leaves behind shows as a warning besides,
and warnings are errors (pyproject.toml).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests import with_ray

# No deadline and no "too slow": the machines are shared, and a test must not depend on the clock. No database: the
# source tree stays as it is; a failure prints a blob that brings it back.
settings.register_profile(
    "concurry", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("concurry")

# A shell without job control starts what it puts into the background with SIGINT ignored, and nohup what it starts with
# SIGHUP ignored: a Ctrl-C or a hang-up of the tests, here or in a script of theirs, would come to nobody.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

GRACE_S = 2.0  # for what is on its way out: threads that were told to end, sockets that their server's thread closes


@dataclass(frozen=True)
class Held:
    """What this process holds at one moment."""

    threads: frozenset[threading.Thread]
    children: frozenset[int]
    fds: frozenset[int]
    shm: frozenset[str]

    def __sub__(self, other: Held) -> Held:
        return Held(
            self.threads - other.threads, self.children - other.children, self.fds - other.fds, self.shm - other.shm
        )

    def __bool__(self) -> bool:
        return bool(self.threads or self.children or self.fds or self.shm)

    def describe(self) -> str:
        lines = [f"thread {thread.name!r}{' (daemon)' * thread.daemon}: {_where(thread)}" for thread in self.threads]
        lines += [f"child process {pid}: {_command(pid)}" for pid in sorted(self.children)]
        lines += [f"file descriptor {fd}: {_target(fd)}" for fd in sorted(self.fds)]
        lines += [f"shared memory /dev/shm/{name}" for name in sorted(self.shm)]
        return "\n  ".join(lines)


def look() -> Held:
    """Read what is held. The standard library's own helpers, which live as long as the process, are left out."""
    # A _DummyThread stands for a thread that Python did not start; it stays in the list after that thread's end.
    threads = [thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)]
    children, fds = _children(), _fds()
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    if tracker is not None:
        children.discard(tracker._resource_tracker._pid)
        fds.discard(tracker._resource_tracker._fd)
    server = sys.modules.get("multiprocessing.forkserver")
    if server is not None:
        children.discard(server._forkserver._forkserver_pid)
        fds.discard(server._forkserver._forkserver_alive_fd)
    if with_ray.running() is not None:
        # To its actors and its store; over Ray nothing of ours opens any. It closes them when it likes.
        fds = {fd for fd in fds if not _target(fd).startswith("socket:")}
    return Held(frozenset(threads), frozenset(children), frozenset(fds), frozenset(_shm()))


def _children() -> set[int]:
    try:
        found: set[int] = set()
        for task in os.listdir("/proc/self/task"):  # a child hangs on the thread that forked it
            with open(f"/proc/self/task/{task}/children", "rb") as file:
                found.update(map(int, file.read().split()))
        return found
    except FileNotFoundError:  # a thread just ended, or not Linux: the slow way
        return {child.pid for child in psutil.Process().children()}


def _fds() -> set[int]:
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    return {fd for fd in map(int, os.listdir(folder)) if _is_open(fd)}


def _is_open(fd: int) -> bool:
    """False for the descriptor of the listing itself, which is closed by now."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _shm() -> set[str]:
    if not os.path.isdir("/dev/shm"):
        return set()
    mine = f"concurry-left-{os.getpid()}"  # what tests/test_house.py leaves there on purpose, in one of two processes
    return {name for name in os.listdir("/dev/shm") if name == mine or not name.startswith("concurry-left-")}


def _strangers_shm(names: frozenset[str]) -> set[str]:
    """Those of `names` that another program holds: /dev/shm belongs to the whole machine."""
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    held: set[str] = set()
    for process in psutil.process_iter():
        if process.pid not in ours:
            try:
                maps = Path(f"/proc/{process.pid}/maps").read_text()
                open_files = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
            except OSError:  # ended meanwhile, or another user's
                continue
            held |= {name for name in names if f"/dev/shm/{name}" in maps or f"/dev/shm/{name}" in open_files}
    return held


def _where(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    places: list[str] = []
    while frame is not None and len(places) < 4:
        places.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(places)


def _command(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return f"{process.status()} {' '.join(process.cmdline())}"
    except psutil.Error as error:
        return str(error)


def _target(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError as error:
        return str(error)


def _left_after_grace(before: Held) -> Held:
    """What is still there once garbage is collected and what was told to end has had its time."""
    end = time.monotonic() + GRACE_S
    gc.collect()  # a descriptor or an executor may hang in a cycle only
    left = look() - before
    # A descriptor that another thread is about to close, or a child that its own manager is about to wait for, wakes
    # nobody: this is the one place that looks again and again, on the way to a failure only. Threads are looked for
    # again as well: what is on its way out may start one for that.
    pause = threading.Event()
    while left and time.monotonic() < end:
        for thread in left.threads:
            thread._started.wait(GRACE_S)  # type: ignore[attr-defined]  # another thread is just about to start it
            thread.join(max(0.0, end - time.monotonic()))
        if not left.threads:
            pause.wait(0.02)
        left = look() - before
    if left.shm:
        left = Held(left.threads, left.children, left.fds, left.shm - _strangers_shm(left.shm))
    return left


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test that leaves something behind."""
    marker = request.node.get_closest_marker("leaks")
    if marker is not None:
        if not marker.args and "reason" not in marker.kwargs:
            pytest.fail('@pytest.mark.leaks needs its reason: @pytest.mark.leaks("why this may leave something")')
        yield
        return
    before = look()
    yield
    if look() - before:
        left = _left_after_grace(before)
        if left:
            pytest.fail(f"this test left behind:\n  {left.describe()}", pytrace=False)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray, for all tests that run over it."""
    with with_ray.cluster():
        yield
