"""Surroundings that are no UTF-8, a child without descriptors, copies of a child, and deaths whose status is taken."""

from __future__ import annotations

import os
import resource
import time
from typing import Any

import psutil
import pytest

from concurry import EncodeError, RestartIntensityError, Worker, WorkerDiedError
from concurry.transports import ending
from concurry.transports.gate import Gate
from concurry.transports.hub import Hub
from concurry.transports.process_channel import ProcessChannel

pytestmark = pytest.mark.faults
LARGE = 2 << 20  # bytes: goes through shared memory

HEAD = """
import os, signal, sys, threading
from pathlib import Path
from concurry import Worker, WorkerDiedError

class Works(Worker):
    def call(self, fn, *args):
        return fn(*args)
    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)
"""


# -- what it is told first ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["forkserver", "spawn", "fork"])
def test_surroundings_that_are_no_utf_8(script: Any, context: str) -> None:
    run = script(
        HEAD
        + f"""
context = {context!r}
os.mkdir(b"d\\xe9")
os.chdir(b"d\\xe9")
os.environb[b"ODD"] = b"\\xe9"
texts = [*sys.path, os.getcwd(), "\\udce9"]
sys.path[:] = [*texts, Path("odd"), b"odd", None]  # an import looks at texts only
sys.argv = ["prog", "caf\\udce9.txt", "\\ud800", Path("odd"), 3]

def seen():
    here = [each for each in sys.path if isinstance(each, str)]
    return sys.argv[:3], os.getcwdb(), here, os.environb[b"ODD"]

def wanted():
    return sys.argv[:3], os.getcwdb(), texts, b"\\xe9"

with Works.options(mode="process", mp_context=context).init() as worker:
    assert worker.call(seen).result(20) == wanted()
    os.mkdir(b"\\xff")
    os.chdir(b"\\xff")
    sys.argv[1] = "\\udcff"
    assert isinstance(worker.die().exception(20), WorkerDiedError)
    assert worker.call(seen).result(20) == wanted(), "also when it is started again"
del sys.argv
with Works.options(mode="process", mp_context=context).init() as worker:
    assert worker.call(lambda: getattr(sys, "argv", [])).result(20) == []
print("as it is", flush=True)
"""
    )
    run.finish()
    assert (run.status, run.out.strip()) == (0, "as it is"), run.err
    assert run.err.splitlines() == ["Works died (SIGKILL) while running die(); it is started again now"]


@pytest.fixture
def born(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The children that are born, by their pid."""
    pids: list[int] = []
    original = ProcessChannel.born

    def notes(self: Any, pid: int, *args: Any) -> None:
        pids.append(pid)
        original(self, pid, *args)

    monkeypatch.setattr(ProcessChannel, "born", notes)
    return pids


def fails(*_: Any) -> None:
    raise TypeError("an odd thing")


@pytest.mark.parametrize("context", ["forkserver", "spawn"])
def test_what_fails_in_the_welcome_is_its_end(
    process: Any, gone: Any, born: list[int], monkeypatch: pytest.MonkeyPatch, context: str
) -> None:
    living = process(mp_context=context, max_restarts=0)
    with monkeypatch.context() as patch:
        patch.setattr(Gate, "boot", fails)
        with pytest.raises(WorkerDiedError, match="TypeError: an odd thing") as told:
            process(mp_context=context)
        assert type(told.value.__cause__) is TypeError
        assert type(living.dies().exception(20)) is WorkerDiedError
    again = process(mp_context=context, max_restarts=1)
    with monkeypatch.context() as patch:
        patch.setattr(Gate, "boot", fails)
        assert type(again.dies().exception(20)) is WorkerDiedError
        with pytest.raises(RestartIntensityError, match="an odd thing"):
            again.echo(1).result(20)
    assert len(born) >= 4
    assert gone(born, 20)
    assert process(mp_context=context).echo(2).result(20) == 2


@pytest.mark.parametrize("context", ["forkserver", "spawn"])
def test_a_child_that_cannot_be_watched(
    process: Any, gone: Any, born: list[int], monkeypatch: pytest.MonkeyPatch, context: str
) -> None:
    watch = Hub.watch

    def refuses(self: Any, fd: int, handler: Any, *args: Any) -> None:
        if getattr(handler, "__func__", None) is ProcessChannel._on_death:
            raise OSError(28, "no room for another one")
        watch(self, fd, handler, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Hub, "watch", refuses)
        with pytest.raises(WorkerDiedError, match="no room for another one"):
            process(mp_context=context)
    assert born
    assert gone(born, 20)
    assert process(mp_context=context).echo(2).result(20) == 2


def test_a_helper_that_cannot_be_started(process: Any, script: Any) -> None:
    run = script(
        HEAD
        + """
from concurry.transports import nursery
def fails(*_):
    raise TypeError("an odd thing")
spawn, nursery._spawn = nursery._spawn, fails
try:
    Works.options(mode="process").init()
except WorkerDiedError as error:
    assert type(error.__cause__) is TypeError, repr(error)
else:
    raise AssertionError
nursery._spawn = spawn
with Works.options(mode="process").init() as worker:
    assert worker.call(len, "abc").result(20) == 3
print("told", flush=True)
"""
    )
    run.finish()
    assert (run.status, run.out.strip()) == (0, "told"), run.err


# -- no descriptors ----------------------------------------------------------------------------------------------------


def _fills() -> type[Worker]:
    class Fills(Worker):
        """Takes all descriptors that there are."""

        def __init__(self) -> None:
            self.held: list[int] = []

        def fill(self) -> None:
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
            try:
                while True:
                    self.held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                return

        def free(self) -> None:
            for fd in self.held:
                os.close(fd)

        def length(self, value: Any) -> int:
            return len(value)

        def pid(self) -> int:
            return os.getpid()

    return Fills


@pytest.mark.parametrize(
    "options", [{}, {"max_concurrency": 2}, {"writable_arrays": True}], ids=["serial", "concurrent", "copies"]
)
def test_a_child_without_descriptors(process: Any, pids: Any, options: dict[str, Any]) -> None:
    worker = process(cls=_fills(), **options)
    pid = worker.pid().result(20)
    channel = worker.__dict__["_pool"].members[0].channel
    failed = 0
    while failed < 3:
        worker.fill().result(20)  # also what has become free: zmq closes what it needs no more when it gets to it
        error = worker.length(bytes(LARGE)).exception(20)
        if error is None:  # one became free even now; the segment is known there now
            channel.memory.lender().retire_kept()
            continue
        failed += 1
        assert type(error) is EncodeError, error
        assert "no descriptor was left" in str(error)
        assert worker.pid().result(20) == pid
    assert settled(lambda: channel.memory.lender().stats.lent) == 0, "what was lent is given back"
    worker.free().result(20)
    for _ in range(3):
        assert worker.length(bytes(LARGE)).result(20) == LARGE
    assert worker.pid().result(20) == pid


def settled(held: Any) -> Any:
    end = time.monotonic() + 20
    while held() and time.monotonic() < end:
        os.sched_yield()
    return held()


def test_a_driver_without_descriptors(script: Any) -> None:
    run = script(
        HEAD
        + f"""
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
with Works.options(mode="process").init() as worker:
    worker.call(len, "abc").result(20)
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for _ in range(3):
        error = worker.call(bytes, {LARGE}).exception(20)
        assert type(error) is OSError and "no descriptor was left" in str(error), repr(error)
    for fd in held:
        os.close(fd)
    for _ in range(3):
        assert worker.call(bytes, {LARGE}).result(20) == bytes({LARGE})
print("recovered", flush=True)
"""
    )
    run.finish()
    assert (run.status, run.out.strip()) == (0, "recovered"), run.err


def test_a_child_that_hears_nothing_any_more_ends(process: Any, pipe: Any) -> None:
    """It would outlive its parent."""
    worker, began, go = process(), pipe(), pipe()

    def holds(began: str, go: str) -> None:
        from concurry.runtime import waits

        def fails(_: Any) -> None:
            raise OSError("an odd thing")

        waits.trunk.wire.on_interrupt = fails
        with open(began, "wb", buffering=0) as said:
            said.write(b"!")
        with open(go, "rb", buffering=0) as told:
            told.read(1)

    running = worker.call(holds, began.path, go.path)
    began.wait()
    channel = worker.__dict__["_pool"].members[0].channel
    channel.interrupt(running)
    error = running.exception(20)
    assert type(error) is WorkerDiedError
    assert error.exit_code == 1
    assert worker.echo(1).result(20) == 1


# -- copies of a child -------------------------------------------------------------------------------------------------


def test_a_death_while_a_copy_lives(process: Any, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy holds the socket open, so nothing says that no more will come."""
    monkeypatch.setattr(ending, "_STATUS_S", 1000.0)  # what is waited for is not this
    worker, go = process(), pipe()

    def copies(go: str) -> int:
        pid = os.fork()
        if not pid:
            with open(go, "rb", buffering=0) as told:
                told.read(1)
            os._exit(0)
        return pid

    copy = worker.call(copies, go.path).result(20)
    try:
        error = worker.dies().exception(20)
        assert type(error) is WorkerDiedError
        assert error.signal == "SIGKILL"
        assert worker.echo(1).result(20) == 1
        assert psutil.pid_exists(copy), "it lived all the while"
    finally:
        go.tell()


@pytest.mark.parametrize(
    ("how", "status"),
    [("return", 0), ("SystemExit(3)", 3), ("SystemExit", 0), ("SystemExit('text')", 1), ("KeyError", 1)],
)
@pytest.mark.parametrize("options", [{}, {"max_concurrency": 2}], ids=["serial", "concurrent"])
@pytest.mark.parametrize("method", ["call", "call_later"])
def test_a_copy_ends_where_its_call_does(
    process: Any, outcome: Any, how: str, status: int, options: dict[str, Any], method: str
) -> None:
    worker = process(**options)

    def copies(how: str) -> Any:
        pid = os.fork()
        if pid:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if how != "return":
            raise eval(how)
        return "the copy's"

    for _ in range(2):
        assert outcome(getattr(worker, method)(copies, how)) == status
    assert worker.echo(1).result(20) == 1


# -- whose status nobody can tell --------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["forkserver", "spawn", "fork"])
def test_a_status_that_somebody_else_has_taken(script: Any, context: str) -> None:
    run = script(
        HEAD
        + f"""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with Works.options(mode="process", mp_context={context!r}).init() as worker:
    error = worker.die().exception(20)
    assert type(error) is WorkerDiedError
    print(error.signal, "|", error, flush=True)
    assert worker.call(len, "abc").result(20) == 3
"""
    )
    run.finish()
    assert run.status == 0, run.err
    signal_name, _, text = run.out.partition(" | ")
    if context == "forkserver":
        assert signal_name == "SIGKILL"
        return
    assert signal_name == "None"
    assert "SIGCHLD is ignored" in text
    assert "helper" not in text
