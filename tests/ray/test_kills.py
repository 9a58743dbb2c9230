"""F01, F02, F07, F10, F25 over Ray: actors that are killed.

What differs from processes: of the calls that an actor held, nobody can tell which had begun. Each of them may be lost.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from concurry import RestartIntensityError, WorkerDiedError, wait

pytestmark = pytest.mark.faults
PATIENCE_S = 60.0


def noted(path: Path) -> Counter[str]:
    """How often each line was written."""
    return Counter(path.read_text().split("\n")[:-1])


class Batch:
    """A thousand calls of two milliseconds on four actors, one of which is killed when the 300th has ended."""

    def __init__(self, start: Any, pids: Any, path: Path, **options: Any) -> None:
        self.worker = start(max_workers=4, **options)
        living = pids(self.worker)
        self.futures = [self.worker.note(str(path), n, seconds=0.002) for n in range(1000)]
        self.futures[300].result(PATIENCE_S)
        os.kill(living[1], signal.SIGKILL)
        wait(self.futures, timeout=PATIENCE_S)
        assert all(future.done() for future in self.futures), "unresolved"
        self.errors = {n: error for n, each in enumerate(self.futures) if (error := each.exception(0)) is not None}
        self.ran = noted(path)


def test_one_of_four_is_killed(start: Any, pids: Any, tmp_path: Path) -> None:  # F01
    batch = Batch(start, pids, tmp_path / "ran")
    assert len(batch.errors) <= 100, "what one actor held"
    assert {type(error) for error in batch.errors.values()} <= {WorkerDiedError}
    assert all(error.maybe_executed for error in batch.errors.values())
    assert set(batch.ran.values()) == {1}, "at most once"
    assert {str(n) for n in range(1000)} - set(batch.ran) <= set(map(str, batch.errors))
    again = [batch.worker.echo(n) for n in range(12)]
    assert [future.result(PATIENCE_S) for future in again] == list(range(12))


def test_one_of_four_is_killed_and_its_calls_retried(start: Any, pids: Any, tmp_path: Path) -> None:  # F02
    batch = Batch(start, pids, tmp_path / "ran", num_retries=1, retry_wait=0.01)
    assert batch.errors == {}
    assert len(batch.ran) == 1000
    assert max(batch.ran.values()) <= 2


def test_the_only_one_is_killed_and_not_started_again(start: Any, pids: Any, pipe: Any) -> None:  # F03
    worker, began, go = start(max_restarts=0), pipe(), pipe()
    running = worker.hold(began.path, go.path)
    pid = int(began.wait(PATIENCE_S))
    queued = [worker.echo(n) for n in range(50)]
    os.kill(pid, signal.SIGKILL)
    assert type(running.exception(PATIENCE_S)) is WorkerDiedError
    for future in queued:
        assert isinstance(future.exception(PATIENCE_S), WorkerDiedError)
    with pytest.raises(RestartIntensityError):
        worker.echo(1).result(PATIENCE_S)


def test_a_reply_and_then_an_exit(start: Any, outcome: Any) -> None:  # F07
    def exits_soon() -> str:
        threading.Thread(target=os._exit, args=(0,)).start()
        return "replied"

    worker = start(max_restarts=None)
    for _ in range(3):
        found = outcome(worker.call(exits_soon))
        assert found == "replied" or type(found) is WorkerDiedError


@pytest.mark.parametrize(("retries", "starts"), [(0, 1), (5, 2)])
def test_a_call_that_kills_its_actor_among_good_ones(
    start: Any, tmp_path: Path, retries: int, starts: int
) -> None:  # F10
    worker = start(num_retries=retries, retry_wait=0.01)
    good = [worker.echo(n) for n in range(50)]
    bad = worker.dies(str(tmp_path / "ran"))
    assert type(bad.exception(PATIENCE_S)) is WorkerDiedError
    good += [worker.echo(n) for n in range(50, 100)]
    assert [future.result(PATIENCE_S) for future in good] == list(range(100))
    assert noted(tmp_path / "ran") == {"started": starts}


def test_order_across_a_death(start: Any, pids: Any, tmp_path: Path) -> None:  # F25
    calls, worker, path = 1000, start(), tmp_path / "order"
    pid = pids(worker)[0]
    half = threading.Semaphore(0)
    futures: list[list[Any]] = [[] for _ in range(8)]

    def submit(thread: int) -> None:
        for n in range(calls):
            futures[thread].append(worker.note(str(path), thread, n))
            if n == calls // 2:
                half.release()

    threads = [threading.Thread(target=submit, args=(thread,)) for thread in range(8)]
    for each in threads:
        each.start()
    half.acquire()
    os.kill(pid, signal.SIGKILL)
    for each in threads:
        each.join(PATIENCE_S)
    ended = {
        f"{thread} {n}": future.exception(PATIENCE_S)
        for thread, mine in enumerate(futures)
        for n, future in enumerate(mine)
    }
    lost = {name for name, error in ended.items() if error is not None}
    assert {type(ended[name]) for name in lost} <= {WorkerDiedError}
    seen = path.read_text().splitlines()
    assert set(ended) - set(seen) <= lost
    for thread in range(8):
        mine = [int(n) for who, n in (line.split() for line in seen) if int(who) == thread]
        assert mine == sorted(set(mine))


def test_the_count_of_attempts_goes_on_after_a_death(start: Any, pipe: Any, acts: Any, tmp_path: Path) -> None:  # F02
    class Tries(acts):  # type: ignore[misc]
        def tries(self, path: str, began: str, go: str) -> None:
            with open(path, "a") as file:
                file.write("attempt\n")
            with open(path) as file:
                count = len(file.readlines())
            if count == 3:
                self.hold(began, go)
            raise ValueError(count)

    worker, began, go, path = start(cls=Tries, num_retries=4, retry_wait=0.01), pipe(), pipe(), tmp_path / "ran"
    future = worker.tries(str(path), began.path, go.path)
    pid = int(began.wait(PATIENCE_S))
    channel = worker.__dict__["_pool"].members[0].channel
    told = threading.Event()  # what the actor has said before it began to wait has come when it answers
    channel.hear(told.set)
    assert told.wait(PATIENCE_S)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ValueError, match="5"):
        future.result(PATIENCE_S)
    assert noted(path) == {"attempt": 5}
