"""F16, F17, rules 9 and 11: the end of a script that has processes, and Ctrl-C, in scripts of their own.

A script's bound is what faults.md says and slack for a busy machine; what would hang hangs for a minute and more.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.machine import shared_memory

pytestmark = pytest.mark.faults

SLACK_S = 2.0
HEAD = """
import json, os, signal, sys, threading, time
import psutil
from concurry import Worker, gather, wait
from concurry.transports import hub

class Works(Worker):
    def __init__(self, held=False):
        if held:
            self.hold(held)
    def echo(self, value=None):
        return value
    def hold(self, began):
        with open(began, "wb", buffering=0) as said:
            said.write(b"!")
        threading.Event().wait(100)
    async def hold_later(self, began):
        self.hold(began)

futures = []
os.mkfifo("began")

def begin(worker, count=1, method="hold"):
    for _ in range(count):
        futures.append(getattr(worker, method)("began"))
        wait_for()

def wait_for():
    with open("began", "rb", buffering=0) as told:
        told.read(1)

def tell():
    held = [child.pid for child in psutil.Process().children(recursive=True)]
    print(json.dumps({"pids": held, "folder": hub._hub.folder}), flush=True)
"""
STATES = {
    "idle": """
pools = [Works.options(mode="process", max_workers=2).init(), Works.options(mode="process").init()]
for pool in pools:
    pool.echo().result(20)
""",
    "running": """
pools = [Works.options(mode="process", max_workers=2, exit_timeout=0.5).init(),
         Works.options(mode="process", max_concurrency=4, exit_timeout=0.5).init()]
for pool in pools:
    begin(pool, 2)
""",
    "queued": """
pool = Works.options(mode="process", exit_timeout=0.5, call_timeout=60, num_retries=3).init()
begin(pool)
futures += [pool.echo(n) for n in range(200)]
futures += [pool.echo([futures[0]]) for n in range(20)]
futures[-1].add_done_callback(lambda future: None)
""",
    "spawned": """
pool = Works.options(mode="process", mp_context="spawn", exit_timeout=0.5).init()
begin(pool)
""",
    "starting": """
def starts():
    try:
        Works.options(mode="process", exit_timeout=0.5).init("began")
    except Exception:
        pass  # it was stopped before it was there: this thread's own affair
threading.Thread(target=starts, daemon=True).start()
wait_for()
""",
    "dropped": """
import warnings
warnings.simplefilter("ignore")
pool = Works.options(mode="process", exit_timeout=0.5).init()
begin(pool)
pool.echo(3)
del pool
""",
}
ENDS = {"normal": ("", 0), "sys.exit": ("sys.exit(7)", 7), "exception": ("raise LookupError('the script')", 1)}


def said(run: Any) -> dict[str, Any]:
    line = run.process.stdout.readline()
    assert line, run.process.stderr.read()
    told: dict[str, Any] = json.loads(line)
    return told


def left_nothing(told: dict[str, Any], gone: Any) -> None:
    assert gone(told["pids"], 1), "a process is left"
    assert not Path(told["folder"]).exists()


@pytest.mark.parametrize("state", list(STATES))
def test_exit_without_stop(script: Any, gone: Any, state: str) -> None:  # F17
    ends = ENDS if state in ("idle", "queued") else {"exception": ENDS["exception"]}
    before = shared_memory()
    runs = {end: script(HEAD + STATES[state] + "tell()\n" + code) for end, (code, _) in ends.items()}
    for end, run in runs.items():
        told = said(run)
        run.finish()
        assert run.status == ENDS[end][1], run.err
        assert run.took_s < (1.0 if state == "idle" else 0.5 + 2.0) + SLACK_S, (end, run.took_s)
        if end == "exception":
            assert run.err.count("Traceback") == 1, run.err
            assert run.err.splitlines()[-1] == "LookupError: the script"
            assert "concurry" not in run.err
        else:
            assert run.err == ""
        left_nothing(told, gone)
    assert shared_memory() <= before


WAITS = {
    "result": "futures[0].result()",
    "result with a timeout": "futures[0].result(60)",
    "gather": "gather(futures)",
    "wait": "wait(futures)",
    "with": "with pool:\n    futures[0].result()",
    "a full mailbox": """
small = Works.options(mode="process", mailbox_size=1, exit_timeout=0.5).init()
begin(small)
small.echo(1)
small.echo(2)
""",
    "stop": "pool.stop(60)",
    "init": "Works.options(mode='process').init('began')",
}


def press(run: Any, *, group: bool = True, until: Callable[[float], bool]) -> int:
    """Ctrl-C, once the script's main thread sleeps, until it shows. Returns how often: CPython does not see a signal
    that comes in the instant before a thread begins to wait, and what a user does then is press again."""
    for times in range(1, 6):
        end = time.monotonic() + 5
        while not asleep(run.process.pid) and time.monotonic() < end:
            os.sched_yield()
        (os.killpg if group else os.kill)(run.process.pid, signal.SIGINT)
        if until(2.0):
            return times
    raise AssertionError("it does not hear a Ctrl-C")


def asleep(pid: int) -> bool:
    def state() -> str:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]

    for _ in range(20):
        if state() not in "SZ":
            return False
        os.sched_yield()
    return True


def ended(run: Any) -> Callable[[float], bool]:
    """Whether the script ends within some seconds."""

    def waits(seconds: float) -> bool:
        fd = os.pidfd_open(run.process.pid)
        try:
            return bool(select.select([fd], [], [], seconds)[0])
        finally:
            os.close(fd)

    return waits


def says(run: Any) -> Callable[[float], bool]:
    """Whether the script says something within some seconds."""
    return lambda seconds: bool(select.select([run.process.stdout], [], [], seconds)[0])


@pytest.mark.parametrize("to", ["the parent", "the group"])
def test_ctrl_c(script: Any, gone: Any, to: str) -> None:  # F16
    head = HEAD + "pool = Works.options(mode='process', exit_timeout=0.5).init()\nbegin(pool)\ntell()\n"
    chosen = WAITS if to == "the group" else {where: WAITS[where] for where in ("result", "with", "init")}
    runs = {where: script(head + code) for where, code in chosen.items()}
    for where, run in runs.items():
        told = said(run)
        began = time.monotonic()
        once = press(run, group=to == "the group", until=ended(run)) == 1
        run.finish()
        assert run.status in (-signal.SIGINT, 130), (where, run.status, run.err)
        assert "KeyboardInterrupt" in run.err, (where, run.err)
        if once:
            assert run.err.count("Traceback (most recent call last)") == 1, (where, run.err)
            assert run.err.splitlines()[-1] == "KeyboardInterrupt", (where, run.err)
            assert time.monotonic() - began < 3 + SLACK_S, where
        left_nothing(told, gone)


def test_a_worker_lives_on_after_a_ctrl_c_that_is_caught(script: Any, gone: Any) -> None:
    run = script(
        HEAD
        + """
pool = Works.options(mode="process", exit_timeout=0.5).init()
begin(pool)
tell()
try:
    futures[0].result()
except KeyboardInterrupt:
    print("at once", futures[0].done(), futures[0].cancel(), flush=True)
other = Works.options(mode="process").init()
print(other.echo(3).result(20), flush=True)
"""
    )
    told = said(run)
    press(run, until=says(run))
    run.finish()
    assert (run.status, run.err) == (0, "")
    assert run.out.split("\n") == ["at once False False", "3", ""]
    left_nothing(told, gone)


TWICE = {
    "at exit": "futures[0].result()",
    "leaving a with": "with pool:\n    futures[0].result()",
    "in stop": "try:\n    futures[0].result()\nexcept KeyboardInterrupt:\n    pool.stop(100)",
}


@pytest.mark.parametrize("where", list(TWICE))
def test_a_second_ctrl_c_kills_at_once(script: Any, gone: Any, where: str) -> None:  # F16
    run = script(
        HEAD
        + """
pool = Works.options(mode="process", exit_timeout=100).init()
begin(pool)
tell()
from concurry.runtime import shutdown
join = shutdown._join
def joins(*args):
    if not told:
        told.append(print("stops", flush=True))
    return join(*args)
told = []
shutdown._join = joins
"""
        + TWICE[where]
    )
    told = said(run)
    press(run, until=says(run))
    run.wait_for_line("stops")
    once = press(run, until=ended(run)) == 1
    run.finish()
    assert run.status in (-signal.SIGINT, 130), (run.status, run.err)
    assert run.took_s < 1 + SLACK_S
    left_nothing(told, gone)
    if not once:
        return
    assert run.err.count("Traceback (most recent call last)") <= (2 if where != "at exit" else 1), run.err
    assert run.err.rstrip().splitlines()[-1] == "KeyboardInterrupt", run.err
