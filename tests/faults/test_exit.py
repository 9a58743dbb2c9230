"""F16, F17, F21, rules 9, 11 and 12: the interpreter's end, Ctrl-C and fork, in scripts of their own.

A script's bound is what faults.md says and slack for a loaded machine; what would hang hangs for a minute and more.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytestmark = pytest.mark.faults

SLACK_S = 6.0

HEAD = """
import asyncio, sys, threading, time
from concurry import Worker, gather, wait

class Works(Worker):
    def echo(self, value=None):
        return value
    def hold(self, began):
        began.set()
        threading.Event().wait(100)
    async def hold_later(self, began):
        began.set()
        await asyncio.sleep(100)

def begin(worker, name, count=1):
    for _ in range(count):
        began = threading.Event()
        futures.append(getattr(worker, name)(began))
        assert began.wait(20)

OPTIONS = {
    "thread": dict(mode="thread"),
    "pool": dict(mode="thread", max_workers=4),
    "concurrent": dict(mode="thread", max_concurrency=4),
    "asyncio": dict(mode="asyncio"),
    "demand": dict(mode="thread", on_demand=True, max_workers=3),
}
AT_ONCE = {"thread": 1, "pool": 4, "concurrent": 4, "asyncio": 1, "demand": 3}
futures = []
workers = {}
"""
STATES = {
    "idle": """
for name, options in OPTIONS.items():
    workers[name] = worker = Works.options(**options).init()
    assert worker.echo(name).result(20) == name
""",
    "running": """
for name, options in OPTIONS.items():
    workers[name] = worker = Works.options(**options, exit_timeout=0.5).init()
    begin(worker, "hold_later", AT_ONCE[name])
for name, options in OPTIONS.items():
    workers[name + "2"] = worker = Works.options(**options, exit_timeout=0.5).init()
    begin(worker, "hold", AT_ONCE[name])
""",
    "queued": """
for name, options in OPTIONS.items():
    workers[name] = worker = Works.options(**options, exit_timeout=0.5).init()
    begin(worker, "hold", AT_ONCE[name])
    futures.extend(worker.echo(n) for n in range(100))
    futures[-1].add_done_callback(lambda future: None)
""",
}
ENDS = {
    "normal": ("print('end', flush=True)", 0),
    "sys.exit": ("print('end', flush=True); sys.exit(7)", 7),
    "exception": ("print('end', flush=True); raise LookupError('the script')", 1),
}


@pytest.mark.parametrize("state", list(STATES))
def test_exit_without_stop(script: Any, state: str) -> None:  # F17
    runs = {end: script(HEAD + STATES[state] + code) for end, (code, _) in ENDS.items()}
    for end, run in runs.items():
        run.wait_for_line("end")
        run.finish()
        assert run.status == ENDS[end][1], run.err
        assert run.took_s < (1.0 if state == "idle" else 0.5 + 2.0) + SLACK_S, (end, run.took_s)
        if end == "exception":
            assert run.err.count("Traceback") == 1, run.err
            assert "LookupError: the script" in run.err
            assert "concurry" not in run.err
        else:
            assert run.err == ""


def test_exit_while_the_notifier_is_busy(script: Any) -> None:
    run = script(
        HEAD
        + """
worker = Works.options(mode="thread").init()
busy = threading.Event()
def block(future):
    busy.set()
    threading.Event().wait(100)
future = worker.echo(1)
future.add_done_callback(block) if not future.done() else None
while not busy.is_set():
    future = worker.echo(1)
    future.add_done_callback(block) if not future.done() else None
    future.result()
print("end", flush=True)
"""
    )
    run.wait_for_line("end")
    run.finish()
    assert (run.status, run.err) == (0, "")
    assert run.took_s < 3 + SLACK_S


def test_exit_with_a_dropped_handle_and_in_the_middle_of_init(script: Any) -> None:
    run = script(
        HEAD
        + """
import warnings
warnings.simplefilter("ignore")
worker = Works.options(mode="thread", exit_timeout=0.5).init()
begin(worker, "hold")
del worker
class Hangs(Worker):
    def __init__(self, began):
        began.set()
        threading.Event().wait(100)
    def work(self): pass
began = threading.Event()
threading.Thread(target=lambda: Hangs.options(mode="thread", exit_timeout=0.5).init(began), daemon=True).start()
assert began.wait(20)
print("end", flush=True)
"""
    )
    run.wait_for_line("end")
    run.finish()
    assert run.status == 0, run.err
    assert run.took_s < 3 + SLACK_S


def test_exit_with_futures_that_wait_for_each_other_and_timers(script: Any) -> None:
    run = script(
        HEAD
        + """
worker = Works.options(mode="thread", max_workers=2, exit_timeout=0.5, call_timeout=60).init()
begin(worker, "hold", 2)
chain = worker.echo(1)
for _ in range(50):
    chain = worker.echo([chain])
class Fails(Worker):
    def __init__(self): self.began = threading.Event()
    def fail(self, began):
        began.set()
        raise ValueError
retries = Fails.options(mode="thread", num_retries=3, retry_wait=100, retry_jitter=0, exit_timeout=0.5).init()
begin(retries, "fail")
print("end", flush=True)
"""
    )
    run.wait_for_line("end")
    run.finish()
    assert (run.status, run.err) == (0, "")
    assert run.took_s < 3 + SLACK_S


WAITS = {
    "result": "futures[0].result()",
    "result with a timeout": "futures[0].result(60)",
    "gather": "gather(futures)",
    "gather with iter": "list(gather(futures, iter=True))",
    "wait": "wait(futures)",
    "with": """
with workers["thread"]:
    futures[0].result()
""",
    "a full mailbox": """
small = Works.options(mode="thread", mailbox_size=1, exit_timeout=0.5).init()
begin(small, "hold")
small.echo(1)
small.echo(2)
""",
    "stop": """workers["thread"].stop(60)""",
    "init": """
class Hangs(Worker):
    def __init__(self): threading.Event().wait(100)
Hangs.options(mode="thread").init()
""",
}


@pytest.mark.parametrize("where", list(WAITS))
def test_ctrl_c(script: Any, where: str) -> None:  # F16
    run = script(
        HEAD
        + """
for name in ("thread", "asyncio"):
    workers[name] = Works.options(**OPTIONS[name], exit_timeout=0.5).init()
    begin(workers[name], "hold")
import faulthandler
class Notes:
    def __init__(self, out): self.out = out
print("waits", flush=True)
"""
        + WAITS[where]
    )
    run.wait_for_line("waits")
    # It prints, and then waits; a signal between the two is a Ctrl-C like any other.
    run.signal(signal.SIGINT)
    run.finish(press_again=True)
    assert run.status in (-signal.SIGINT, 130), (run.status, run.err)
    # It may come where another exception is handled, as in a look at os.environ.
    within = run.err.count("During handling of the above exception")
    assert run.err.count("Traceback (most recent call last)") == 1 + within, run.err
    assert "KeyboardInterrupt" in run.err
    assert run.took_s < 3 + SLACK_S


def test_a_second_ctrl_c_ends_a_stop_that_takes_long(script: Any) -> None:
    run = script(
        HEAD
        + """
worker = Works.options(mode="thread", stop_timeout=100, exit_timeout=100).init()
begin(worker, "hold")
import atexit, os, signal
from concurry.transports.thread import ThreadChannel
real = ThreadChannel.join
def join(self, timeout):
    print("joins", flush=True)
    return real(self, timeout)
ThreadChannel.join = join
try:
    with worker:
        print("waits", flush=True)
        futures[0].result()
finally:
    os._exit(5)
"""
    )
    run.wait_for_line("waits")
    run.signal(signal.SIGINT)
    run.wait_for_line("joins")
    run.signal(signal.SIGINT)
    run.finish()
    assert run.status == 5, run.err
    assert run.took_s < 3 + SLACK_S


def test_ctrl_c_in_sync_mode_is_the_callers(script: Any) -> None:
    run = script(
        HEAD
        + """
worker = Works.options(mode="sync").init()
class Says:
    def set(self): print("waits", flush=True)
try:
    worker.hold_later(Says())
except KeyboardInterrupt:
    assert worker.echo(1).result() == 1
    worker.stop()
    sys.exit(9)
"""
    )
    run.wait_for_line("waits")
    run.signal(signal.SIGINT)
    run.finish()
    assert run.status == 9, run.err
    assert run.err == ""


def test_fork_with_live_pools(script: Any) -> None:  # F21, rule 12
    run = script(
        HEAD
        + """
import os, warnings
warnings.simplefilter("ignore")
from concurry import ForkedHandleError
OPTIONS["sync"] = dict(mode="sync")
OPTIONS["small"] = dict(mode="thread", mailbox_size=3)
for name, options in OPTIONS.items():
    workers[name] = Works.options(**options).init()
    workers[name].echo(1).result(20)
go = threading.Event()
class Waits(Worker):
    def wait(self, began): began.set(); go.wait(100); return "parents"
waiting = Waits.options(mode="thread").init()
began = threading.Event()
running = waiting.wait(began)
began.wait(20)
queued = [waiting.wait(began) for _ in range(3)]
called = []
running.add_done_callback(called.append)
pid = os.fork()
if pid == 0:
    status = 1
    try:
        for worker in workers.values():
            try:
                worker.echo(2)
            except ForkedHandleError:
                pass
            else:
                raise AssertionError("no ForkedHandleError")
            assert not worker.is_alive()
            worker.stats(); repr(worker)
            worker.stop()
            worker.stop()
            with worker:
                pass
        for future in [running, *queued]:
            try:
                future.result(20)
            except ForkedHandleError:
                pass
            else:
                raise AssertionError("a future of the parent's")
        assert called == [], "callbacks are the parent's"
        for name, options in OPTIONS.items():
            with Works.options(**options).init() as fresh:
                assert fresh.echo(name).result(20) == name
                done = threading.Event()
                future = fresh.echo(1)
                future.add_done_callback(lambda _: done.set())
                assert done.wait(20)
        del workers, waiting, worker, fresh
        assert not [t for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
        status = 0
    finally:
        sys.stdout.flush()
        if status == 0:
            sys.exit(3)
        import traceback; traceback.print_exc()
        os._exit(1)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 3, status
go.set()
assert running.result(20) == "parents"
assert gather(queued) == ["parents"] * 3
for name, worker in workers.items():
    assert worker.echo(name).result(20) == name
    worker.stop()
waiting.stop()
print("unharmed", flush=True)
"""
    )
    run.finish()
    assert run.status == 0, run.err
    assert run.out.strip().endswith("unharmed")


def test_fork_while_other_threads_are_busy(script: Any) -> None:
    """Whatever lock another thread holds at that moment, the child's own workers go."""
    run = script(
        HEAD
        + """
import os, warnings
warnings.simplefilter("ignore")
worker = Works.options(mode="thread", max_workers=2).init()
ends = threading.Event()
def submit():
    while not ends.is_set():
        future = worker.echo(1)
        future.cancel()
        future.add_done_callback(lambda _: None)
        future.uuid
threads = [threading.Thread(target=submit) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        with Works.options(mode="thread").init() as fresh:
            future = fresh.echo(1)
            done = threading.Event()
            future.add_done_callback(lambda _: done.set())
            assert done.wait(20)
            fresh.echo(2).cancel()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
ends.set()
for thread in threads: thread.join()
worker.stop()
print("unharmed", flush=True)
"""
    )
    run.finish()
    assert run.status == 0, run.err
    assert run.out.strip() == "unharmed", run.err
