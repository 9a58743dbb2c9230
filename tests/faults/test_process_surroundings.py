"""F20, F21, F22, S10, rules 9 and 12: locks of threads, `os.fork`, scripts without a main guard, notebooks."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("context", ["forkserver", "spawn"])
def test_locks_that_threads_hold(process: Any, context: str) -> None:  # F20
    """A forked child would find the import lock of `decimal`, logging's and stdio's locks held, by nobody."""
    import logging
    import sys

    held, done = threading.Barrier(2), threading.Event()

    def holds() -> None:
        with logging._lock:  # type: ignore[attr-defined]
            held.wait(20)
            done.wait(60)

    thread = threading.Thread(target=holds)
    thread.start()
    held.wait(20)
    try:

        def logs() -> str:
            logging.getLogger("there").warning("said")
            sys.stdout.flush()
            import decimal

            return str(decimal.Decimal(1))

        worker = process(mp_context=context)
        assert worker.call(logs).result(20) == "1"
    finally:
        done.set()
        thread.join()


def test_fork_in_a_process_with_threads_warns(process: Any) -> None:  # rule 12
    done = threading.Event()
    thread = threading.Thread(target=done.wait, args=(60,), name="mine")
    thread.start()
    try:
        with pytest.warns(RuntimeWarning, match=r"mp_context='fork' in a process with 2 threads .*mine"):
            worker = process(mp_context="fork")
        assert worker.echo(1).result(20) == 1
    finally:
        done.set()
        thread.join()


HEAD = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from concurry import ForkedHandleError, Worker, gather

class Works(Worker):
    def echo(self, value=None):
        return value
    def hold(self, began, go):
        with open(began, "wb", buffering=0) as said:
            said.write(b"!")
        with open(go, "rb", buffering=0) as told:
            told.read(1)
        return "parents"
"""


def test_a_forked_child_uses_a_handle(script: Any) -> None:  # F21, S10
    run = script(
        HEAD
        + """
from concurry.transports import hub
os.mkfifo("began"); os.mkfifo("go")
pools = [Works.options(mode="process", max_workers=n, mp_context=way).init()
         for n, way in ((1, "forkserver"), (2, "forkserver"), (1, "spawn"))]
for pool in pools:
    assert pool.echo(1).result(20) == 1
large = pools[0].echo(bytes(4 << 20))
running = pools[0].hold("began", "go")
with open("began", "rb", buffering=0) as told:
    told.read(1)
queued = [pools[0].echo(n) for n in range(50)]
called = []
running.add_done_callback(called.append)
for leaves in ("sys.exit", "os._exit"):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for pool in pools:
                for use in (lambda: pool.echo(2), lambda: pool.hold("x", "y")):
                    try:
                        use()
                    except ForkedHandleError:
                        continue
                    raise AssertionError("no ForkedHandleError")
                assert not pool.is_alive()
                pool.stats(); repr(pool)
                pool.stop()
                with pool:
                    pass
            for future in [running, *queued]:
                try:
                    future.result(20)
                except ForkedHandleError:
                    continue
                raise AssertionError("a future of the parent's")
            assert called == []
            assert hub._hub is None
            with Works.options(mode="process", max_workers=2).init() as fresh:
                assert gather([fresh.echo(n) for n in range(20)], timeout=20) == list(range(20))
            idle = Works.options(mode="process").init()  # and leaves without stopping it
            assert idle.echo(1).result(20) == 1
            del pool, pools
            status = 0
        finally:
            if status:
                import traceback; traceback.print_exc()
                os._exit(1)
        if leaves == "sys.exit":
            sys.exit(3)
        os._exit(3)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 3, (leaves, status)
with open("go", "wb", buffering=0) as said:
    said.write(b"!")
assert running.result(20) == "parents"
assert gather(queued, timeout=20) == list(range(50))
assert large.result(20) == bytes(4 << 20)
for pool in pools:
    assert gather([pool.echo(n) for n in range(100)], timeout=20) == list(range(100))
    pool.stop()
print("unharmed", flush=True)
"""
    )
    run.finish()
    assert run.status == 0, run.err
    assert run.out.strip() == "unharmed"
    assert run.err == ""


def test_fork_while_other_threads_submit(script: Any) -> None:  # F21
    run = script(
        HEAD
        + """
worker = Works.options(mode="process", max_workers=2).init()
ends = threading.Event()
def submit():
    while not ends.is_set():
        worker.echo(1).result(20)
        worker.echo(2).cancel()
threads = [threading.Thread(target=submit) for _ in range(3)]
for thread in threads: thread.start()
for n in range(12):
    pid = os.fork()
    if pid == 0:
        try:
            worker.echo(1)
        except ForkedHandleError:
            if n % 4 == 0:
                with Works.options(mode="process").init() as fresh:
                    assert fresh.echo(1).result(20) == 1
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
ends.set()
for thread in threads: thread.join()
assert worker.echo(3).result(20) == 3
worker.stop()
print("unharmed", flush=True)
"""
    )
    run.finish()
    assert (run.status, run.err) == (0, ""), run.err
    assert run.out.strip() == "unharmed"


def test_a_script_without_a_main_guard(script: Any) -> None:  # F22
    runs = [
        script(
            f"""
import dataclasses, enum, os
from concurry import Worker
with open("ran", "a") as file:
    file.write("the script\\n")
class Color(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Point:
    x: int
class Error(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)
shift = 3
def helper(n):
    return n + shift
class Works(Worker):
    def __init__(self, point):
        self.point = point
    def move(self, point, color):
        assert color is Color.RED
        assert type(point) is type(self.point) is Point
        return Point(point.x + helper(self.point.x))
    def fail(self):
        raise Error(1, 2)
for way in {ways!r}:
    with Works.options(mode="process", mp_context=way, max_workers=2).init(Point(1)) as worker:
        moved = worker.move(Point(2), Color.RED).result(20)
        assert type(moved) is Point and moved == Point(6), moved
        try:
            worker.fail().result(20)
        except Error as error:
            assert error.args == (1, 2)
        else:
            raise AssertionError
with open("ran") as file:
    print(file.read().split("\\n").count("the script"), flush=True)
"""
        )
        for ways in (["forkserver", "fork"], ["spawn"])
    ]
    for run in runs:
        run.finish()
        assert (run.status, run.err) == (0, ""), run.err
        assert run.out.strip() == "1"


def test_a_script_on_standard_input_and_by_dash_c(script: Any) -> None:  # F22
    run = script(
        """
import subprocess, sys
code = '''
from concurry import Worker
class Works(Worker):
    def echo(self, value):
        return [value, shift]
shift = 3
with Works.options(mode="process").init() as worker:
    print(worker.echo(1).result(20), flush=True)
'''
for how, given in (["-"], code), (["-c", code], None):
    done = subprocess.run([sys.executable, *how], input=given, capture_output=True, text=True, timeout=60)
    print(done.stdout.strip(), done.stderr.strip(), done.returncode)
"""
    )
    run.finish()
    assert run.out.splitlines() == ["[1, 3]  0"] * 2, run.out


def test_a_notebook_cell(script: Any) -> None:  # F22
    pytest.importorskip("IPython")
    run = script(
        """
import os
os.environ["IPYTHONDIR"] = os.getcwd()
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in (
    "from concurry import Worker",
    "class Works(Worker):\\n    def echo(self, value):\\n        return [value, shift, Point]\\n"
    "class Point: pass\\nshift = 3",
    "worker = Works.options(mode='process', max_workers=2).init()",
    "found = worker.echo(1).result(20)",
    "assert found == [1, 3, Point], found",
    "class Works(Worker):\\n    def echo(self, value):\\n        return 'anew'",  # the cell is run again
    "with Works.options(mode='process').init() as other:\\n    assert other.echo(1).result(20) == 'anew'",
    "value = await worker.echo(2)\\nassert value[0] == 2",
    "worker.stop(); print('all', flush=True)",
):
    result = shell.run_cell(cell, store_history=False)
    result.raise_error()
os._exit(0)
"""
    )
    run.finish()
    assert (run.status, run.out.strip()) == (0, "all"), run.err + run.out
