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
