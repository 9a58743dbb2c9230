"""F13, F15, F18 over Ray, and that a stop leaves no actor."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from concurry import Worker, WorkerStoppedError

pytestmark = pytest.mark.faults
PATIENCE_S = 60.0


def test_stop_gives_up_what_runs_and_cancels_what_waits(start: Any, pipe: Any, gone: Any) -> None:  # F13
    worker, began, go = start(), pipe(), pipe()
    running = worker.hold(began.path, go.path)
    pid = int(began.wait(PATIENCE_S))
    waiting = [worker.echo(n) for n in range(20)]
    worker.stop(0.2)
    assert all(future.done() for future in [running, *waiting])
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(WorkerStoppedError, match=r"hold\(\) still ran"):
        running.result()
    assert gone([pid], PATIENCE_S)


def test_stop_waits_for_what_runs(start: Any, pipe: Any) -> None:
    worker, began, go = start(), pipe(), pipe()
    running = worker.hold(began.path, go.path)
    began.wait(PATIENCE_S)
    waiting = worker.echo()
    waiting.add_done_callback(lambda _: go.tell())  # it is cancelled first
    worker.stop(PATIENCE_S)
    assert waiting.cancelled()
    assert running.result(0) == "held"


def test_stop_leaves_no_actor(start: Any, pids: Any, gone: Any) -> None:
    for options in ({"max_workers": 3}, {"max_concurrency": 3}):
        worker = start(**options)
        living = pids(worker)
        assert len(set(living)) == options.get("max_workers", 1)
        worker.stop()
        assert gone(living, PATIENCE_S)


def test_an_actor_of_one_call_goes_with_it(start: Any, gone: Any) -> None:
    worker = start(on_demand=True, max_workers=2)
    living = [future.result(PATIENCE_S) for future in [worker.pid() for _ in range(4)]]
    assert len(set(living)) == 4
    assert gone(living, PATIENCE_S)


def test_a_dropped_handle_lets_its_calls_finish(acts: Any, pipe: Any, gone: Any) -> None:
    worker, began, go = acts.options(mode="ray", num_cpus=0).init(), pipe(), pipe()
    futures = [worker.hold(began.path, go.path), worker.echo("echo")]
    pid = int(began.wait(PATIENCE_S))
    with pytest.warns(ResourceWarning, match="was dropped without stop"):
        del worker
    go.tell()
    assert [future.result(PATIENCE_S) for future in futures] == ["held", "echo"]
    assert gone([pid], PATIENCE_S)


class Echoes(Worker):
    def echo(self, value: Any = None) -> Any:
        return value

    async def echo_later(self, value: Any = None) -> Any:
        return value


def test_submitting_against_stop(start: Any) -> None:  # F15
    for _ in range(3):
        worker = start(cls=Echoes)
        ready = threading.Barrier(9)
        accepted: list[list[Any]] = [[] for _ in range(8)]
        refused: list[BaseException] = []

        def submit(mine: list[Any], worker: Any = worker, ready: Any = ready, refused: Any = refused) -> None:
            ready.wait(PATIENCE_S)
            try:
                while True:
                    mine.append(worker.echo(len(mine)))
                    if len(mine) % 3 == 0:
                        mine.append(worker.echo_later(len(mine)))
            except BaseException as refusal:
                refused.append(refusal)

        threads = [threading.Thread(target=submit, args=(mine,)) for mine in accepted]
        for thread in threads:
            thread.start()
        ready.wait(PATIENCE_S)
        worker.stop(10)
        unresolved = [future for mine in accepted for future in mine if not future.done()]
        for thread in threads:
            thread.join(PATIENCE_S)
        assert unresolved == []
        assert [type(error) for error in refused] == [WorkerStoppedError] * 8
        for future in (future for mine in accepted for future in mine):
            assert future.cancelled() or future.exception(0) is None


def test_cancel_one_running_and_ten_waiting(start: Any, pipe: Any, tmp_path: Any) -> None:  # F18
    worker, began, go = start(), pipe(), pipe()
    running = worker.hold(began.path, go.path)
    began.wait(PATIENCE_S)
    waiting = [worker.note(str(tmp_path / "ran"), n) for n in range(10)]
    assert not running.cancel()
    assert [future.cancel() for future in waiting] == [True] * 10
    go.tell()
    assert running.result(PATIENCE_S) == "held"
    assert worker.echo("next").result(PATIENCE_S) == "next"
    assert not os.path.exists(tmp_path / "ran")
