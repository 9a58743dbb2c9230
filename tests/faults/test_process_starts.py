"""An actor that is started again is timed as the first one was; a lost call is decided on whatever a callback does."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from concurry import Worker, WorkerInitError

pytestmark = pytest.mark.faults


class HangsOnce(Worker):
    """Its second start hangs."""

    def __init__(self, starts: str) -> None:
        with open(starts, "a") as file:
            file.write("started\n")
        if len(Path(starts).read_text().splitlines()) == 2:
            threading.Event().wait()

    def die(self) -> None:
        os._exit(1)

    def ping(self) -> str:
        return "pong"


def test_a_start_that_hangs_is_ended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"mode": "process", "init_timeout": 4, "stop_timeout": 1}
    with HangsOnce.options(**options).init(str(tmp_path / "starts")) as worker:
        worker.die()
        assert worker.ping().result(timeout=60) == "pong"
    assert "init_timeout=4 s" in caplog.text


def test_an_actor_on_demand_that_hangs_fails_its_call(tmp_path: Path) -> None:
    options: dict[str, Any] = {"mode": "process", "on_demand": True, "init_timeout": 0.5, "stop_timeout": 1}
    (tmp_path / "starts").write_text("started\n")
    with HangsOnce.options(**options).init(str(tmp_path / "starts")) as worker, pytest.raises(WorkerInitError):
        worker.ping().result(timeout=60)


class DiesOnce(Worker):
    def go(self, mark: str) -> str:
        if not Path(mark).exists():
            Path(mark).touch()
            os._exit(1)
        return "second"

    def ping(self) -> str:
        return "pong"


@pytest.mark.parametrize(
    "retry_on", [[Exception], [ValueError], [lambda exception, **_: True]], ids=["type", "no", "own"]
)
def test_a_callback_waits_for_a_lost_call(tmp_path: Path, retry_on: list[Any]) -> None:
    options: dict[str, Any] = {"mode": "process", "num_retries": 2, "retry_wait": 0.01, "retry_on": retry_on}
    said: list[Any] = []
    done = threading.Event()
    with DiesOnce.options(**options).init() as worker:

        def wait_for_another(_: Any) -> None:
            said.append(worker.go(str(tmp_path / "mark")).exception(timeout=60))
            done.set()

        worker.ping().add_done_callback(wait_for_another)
        assert done.wait(60)
    assert [type(error).__name__ for error in said] == ["WorkerDiedError" if retry_on == [ValueError] else "NoneType"]


STARTS_AS_IT_IS_IMPORTED = """
import sys
from pathlib import Path
folder = Path(sys.argv[0]).parent
(folder / "starts_one.py").write_text('''
from concurry import task
@task(mode="process")
def f(x): return x + 1
AT_IMPORT = f(1).result(60)
''')
sys.path.insert(0, str(folder))
try:
    import starts_one
except RuntimeError as error:
    print(error)
"""


def test_a_module_that_starts_processes_as_it_is_imported_makes_no_chain(script: Any) -> None:
    """Each process would import it, and start the next one, for ever."""
    ended = script(STARTS_AS_IT_IS_IMPORTED).finish(timeout=60)
    assert "no process is started here, while starts_one is imported in a process" in ended.out, ended.err


CHILDREN_OF_MULTIPROCESSING = """
import multiprocessing, sys
from concurry import Executor, Worker, task

class Adds(Worker):
    def __init__(self, start):
        self.start = start

    def add(self, value):
        return self.start + value

@task(mode="process")
def double(value):
    return 2 * value

def child(answers, start):
    try:
        with Adds.options(mode="process").init(start) as adds, Executor(mode="process") as executor, double:
            products = list(executor.map(lambda n: n * start, [1, 2]))
            answers.put((adds.add(1).result(60), products, double(start).result(60)))
    except BaseException as error:
        answers.put(repr(error))

if __name__ == "__main__":
    for method in ("spawn", "forkserver", "fork"):
        context = multiprocessing.get_context(method)
        answers = context.Queue()
        process = context.Process(target=child, args=(answers, 10))
        process.start()
        print(answers.get(timeout=90))
        process.join()
"""


def test_a_child_of_multiprocessing_has_processes_of_ours(script: Any) -> None:
    """There the script is a module by another name, which our processes have not got."""
    ended = script(CHILDREN_OF_MULTIPROCESSING).finish(timeout=110)
    assert ended.out.splitlines() == ["(11, [10, 20], 20)"] * 3, ended.err
