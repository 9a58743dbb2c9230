"""F23, F31: large payloads, and a machine that has no memory to share, no descriptors or no processes left."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

pytestmark = pytest.mark.faults
long = pytest.mark.long

HEAD = """
import gc, os, resource, sys, threading, time
import logging
logging.disable()
import psutil
from concurry import Worker, WorkerDiedError, gather

class Works(Worker):
    def echo(self, value=None):
        return value
    def length(self, value):
        return len(value)
    def make(self, size, kind="bytes"):
        if kind == "bytes":
            return bytes(size)
        import numpy
        return numpy.ones(size, numpy.uint8)
    def memory(self):
        return pss(os.getpid())

def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))

def fds():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))

def settled(wanted):
    end = time.monotonic() + 10
    while fds() > wanted and time.monotonic() < end:
        os.sched_yield()
    return fds()
"""


@pytest.mark.parametrize("size", [128 << 20, pytest.param(1 << 30, marks=long)])
@pytest.mark.parametrize("kind", ["bytes", "numpy"])
def test_memory_of_large_payloads(script: Any, size: int, kind: str) -> None:  # F23
    """PSS counts shared pages once over all; it is summed over the two processes, with what is under way."""
    run = script(
        HEAD
        + f"""
size, kind = {size}, {kind!r}
def make():
    if kind == "bytes":
        return b"x" * size
    import numpy
    return numpy.ones(size, numpy.uint8)
with Works.options(mode="process").init() as worker:
    child = worker.__dict__["_pool"].members[0].channel.pid
    make(), worker.make(10, kind).result(20)
    gc.collect()
    highest = base = pss(os.getpid()) + pss(child)
    ends = threading.Event()
    def watch():
        global highest
        while not ends.wait(0.01):
            highest = max(highest, pss(os.getpid()) + pss(child))
    watcher = threading.Thread(target=watch)
    watcher.start()
    value = make()
    assert worker.length(value).result(60) == size
    to, highest = highest - base - size, base
    del value
    back = worker.make(size, kind).result(60)
    assert len(back) == size
    ends.set(); watcher.join()
    # Coming back, the caller's own object is the payload as it arrives; the worker's own copy is its own object.
    came = highest - base - size
    room = size + (300 << 20)
    assert to <= room, to
    assert came <= room, came
print("flat", flush=True)
"""
    )
    run.finish()
    assert (run.status, run.out.strip()) == (0, "flat"), run.err


def test_no_memory_to_share(script: Any) -> None:  # F31
    """A limit on the size of files holds for anonymous memory too: what is large goes over the socket then."""
    run = script(
        HEAD
        + """
with Works.options(mode="process").init() as worker:
    large = os.urandom(8 << 20)
    assert worker.echo(large).result(20) == large
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    # The one that runs was started without it; the second one has it as well.
    with Works.options(mode="process").init() as other:
        for one in (worker, other):
            larger = os.urandom(40 << 20)
            assert one.echo(larger).result(20) == larger
            assert len(one.make(40 << 20).result(20)) == 40 << 20
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert worker.echo(large).result(20) == large
print("fine", flush=True)
"""
    )
    run.finish()
    assert (run.status, run.out.strip()) == (0, "fine"), run.err


def test_no_descriptors_left(script: Any) -> None:  # F31
    run = script(
        HEAD
        + """
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
def limit(more=None):
    resource.setrlimit(resource.RLIMIT_NOFILE, (fds() + more if more is not None else hard, hard))
failed = worked = 0
for context in ("forkserver", "spawn"):
    with Works.options(mode="process").init() as first:
        first.echo().result(20)
        Works.options(mode="process", mp_context=context).init().stop()
        before = fds()
        for more in range(0, 30, 6 if context == 'forkserver' else 13):
            limit(more)
            try:
                with Works.options(mode="process", mp_context=context).init() as worker:
                    assert worker.echo(more).result(20) == more
                    worked += 1
            except Exception as error:
                failed += 1
                assert isinstance(error, (OSError, WorkerDiedError)) or "Too many open files" in str(error), repr(error)
            assert first.echo(more).result(20) == more, "the others go on"
            limit()
            with Works.options(mode="process", mp_context=context).init() as worker:
                assert worker.echo(more).result(20) == more
        assert settled(before) <= before, (fds(), before)  # below: some were still being closed when it was counted
        # Calls with large payloads, where each segment takes a descriptor.
        limit(2)
        futures = [first.echo(bytes(2 << 20)) for _ in range(8)]
        assert all(future.exception(20) is None or True for future in futures)
        limit()
        assert first.echo(bytes(2 << 20)).result(20) == bytes(2 << 20)
assert failed > 2 and worked > 1, (failed, worked)
print("recovered", flush=True)
"""
    )
    run.finish()
    assert (run.status, run.out.strip()) == (0, "recovered"), run.err


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="it becomes another user, whose processes are counted"
)
def test_no_processes_left(script: Any) -> None:  # F31
    """It becomes a user of its own: for root there is no such limit. Threads count as well."""
    run = script(
        HEAD
        + """
if os.getuid() == 0:  # it reads what root reads, since the interpreter may stand in a home; no more
    os.chmod(os.getcwd(), 0o777)
    user = str(60_000 + os.getpid() % 5_000)
    caps = "+dac_override"
    os.execvp("setpriv", ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps", caps,
                          "--ambient-caps", caps, sys.executable, "-X", "faulthandler", __file__])
soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
def limit(most):
    resource.setrlimit(resource.RLIMIT_NPROC, (most if most is not None else hard, hard))
failed = worked = 0
for context in ("forkserver", "spawn"):
    for most in (1, 4, 5, 40) if context == "forkserver" else (1, 5):
        limit(most)
        began = time.monotonic()
        try:
            with Works.options(mode="process", mp_context=context).init() as worker:
                assert worker.echo(1).result(20) == 1
                worked += 1
        except Exception as error:
            failed += 1
            assert isinstance(error, (OSError, RuntimeError, WorkerDiedError)), repr(error)
        assert time.monotonic() - began < 10
        limit(None)
        with Works.options(mode="process", mp_context=context).init() as worker:
            assert worker.echo(2).result(20) == 2
# A worker that cannot be started again now is started again when there is room.
with Works.options(mode="process", max_restarts=None).init() as worker:
    pid = worker.__dict__["_pool"].members[0].channel.pid
    limit(1)
    os.kill(pid, 9)
    waiting = worker.echo(3)
    try:
        waiting.result(0.5)
    except (TimeoutError, WorkerDiedError):
        pass
    limit(None)
    assert isinstance(waiting.exception(20), (WorkerDiedError, type(None)))
    assert worker.echo(4).result(20) == 4
assert failed > 2 and worked > 0, (failed, worked)
assert [child.status() for child in psutil.Process().children(recursive=True)] == []
print("recovered", flush=True)
"""
    )
    run.finish()
    assert (run.status, run.out.strip()) == (0, "recovered"), run.err
