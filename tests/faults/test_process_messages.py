"""What is said of processes: of attempts that died, of futures that were returned, of what ends and is no death."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from concurry import EncodeError, SyncFuture, Worker, WorkerDiedError, gather

pytestmark = pytest.mark.faults


class Model(Worker):
    def score(self, number: int) -> int:
        return 2 * number

    def pid(self) -> int:
        return os.getpid()


class Holder:
    """An object with something in it."""

    def __init__(self, held: Any) -> None:
        self.held = held


class Asks(Worker):
    def __init__(self, model: Any = None, size: int = 0) -> None:
        self.model = model
        self.large = bytearray(b"x") * size

    def returns(self) -> Any:
        return self.model.score(1)

    def returns_inside(self) -> Any:
        return [1, Holder(self.model.score(1))]

    def takes(self, value: Any) -> Any:
        return value

    def ready(self) -> Any:
        return SyncFuture(3)

    def dies_then_raises(self, been: str, deaths: int) -> None:
        with open(been, "ab", buffering=0) as file:
            file.write(b"!")
        if os.path.getsize(been) <= deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError(f"attempt {os.path.getsize(been)}")

    async def dies_then_raises_later(self, been: str, deaths: int) -> None:
        self.dies_then_raises(been, deaths)


@pytest.mark.parametrize("method", ["dies_then_raises", "dies_then_raises_later"])
@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("asks", [False, True], ids=["types", "predicate"])
def test_a_death_is_among_the_attempts_that_failed(
    process: Any, tmp_path: Path, method: str, width: int, asks: bool
) -> None:
    retry_on: Any = [lambda exception, **_: True] if asks else [Exception]
    options = {"num_retries": 2, "retry_wait": 0.01, "retry_on": retry_on, "max_concurrency": width}
    worker = process(cls=Asks, **options)
    error = getattr(worker, method)(str(tmp_path / "been"), 1).exception(20)
    assert isinstance(error, ValueError)
    (note,) = error.__notes__
    first, *before = note.splitlines()
    assert first.endswith("failed in attempt 3 of 3; before that:")
    assert "  attempt 1: WorkerDiedError: worker Asks (pid " in before[0]
    assert "SIGKILL" in before[0]
    assert before[1:] == ["  attempt 2: ValueError: attempt 2"]


def test_a_call_that_dies_at_its_last_attempt_tells_of_those_before(process: Any, tmp_path: Path) -> None:
    worker = process(cls=Asks, num_retries=1, retry_wait=0.01)
    error = worker.dies_then_raises(str(tmp_path / "been"), 1).exception(20)
    assert isinstance(error, ValueError)
    assert "attempt 1: WorkerDiedError" in error.__notes__[0]


ADVICE = r"the future of score\(\) stays in the process that made it\. Call \.result\(\) on it, or make .* await it\.$"


@pytest.mark.parametrize("mode", ["sync", "thread", "process"])
def test_a_future_that_is_returned(process: Any, mode: str) -> None:
    with Model.options(mode=mode).init() as model:
        worker = process(model if mode == "process" else None, cls=Asks)
        if mode == "process":
            for method in (worker.returns, worker.returns_inside):
                with pytest.raises(EncodeError, match=ADVICE):
                    method().result(20)
        with pytest.raises(EncodeError, match=ADVICE):
            worker.takes(Holder(model.score(1))).result(20)


def test_a_future_of_nobodys_call_is_sent_as_ever(process: Any) -> None:
    assert process(cls=Asks).ready().result(20).result() == 3


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[tuple[int, str]]]:
    """`said(text)`: levels and texts of what was logged with `text` in it."""
    caplog.set_level(logging.DEBUG, "concurry")

    def find(text: str) -> list[tuple[int, str]]:
        return [(it.levelno, it.getMessage()) for it in caplog.records if text in it.getMessage()]

    return find


def test_recycling_is_no_death(process: Any, said: Any) -> None:
    worker = process(cls=Model, max_calls_per_worker=2, max_workers=2)
    assert gather([worker.score(n) for n in range(10)], timeout=20) == [2 * n for n in range(10)]
    worker.stop()
    assert said("died") == []
    found = said("is started again")
    assert found
    assert {level for level, _ in found} == {logging.INFO}
    assert {text[8:] for _, text in found} == {" has ended (max_calls_per_worker=2); it is started again now"}


def test_an_end_by_call_timeout_is_no_death(process: Any, said: Any, pipe: Any) -> None:
    worker, began, go = process(call_timeout={"hold": 0.05, "*": None}), pipe(), pipe()
    assert isinstance(worker.hold(began.path, go.path).exception(20), TimeoutError)
    assert worker.echo(1).result(20) == 1
    assert said("died") == []
    (found,) = said("is started again")
    assert found[0] == logging.INFO
    assert "Acts has ended (call_timeout: Acts.hold() ran longer than 0.05 s); it is started again now" in found[1]


def test_a_death_is_one(process: Any, said: Any) -> None:
    worker = process(cls=Model)
    os.kill(worker.pid().result(20), signal.SIGKILL)
    while not said("is started again"):
        assert worker.score(1).exception(20) is None or isinstance(worker.score(1).exception(20), WorkerDiedError)
    assert said("is started again")[0][0] == logging.WARNING
    assert said("Model died (SIGKILL)")


def test_an_object_larger_than_its_bound_is_told_once(process: Any, said: Any) -> None:
    worker = process(None, 60_000_000, cls=Asks, max_memory_per_worker=50_000_000, max_workers=2)
    assert gather([worker.takes(n) for n in range(4)], timeout=30) == list(range(4))
    worker.stop()
    ((level, text),) = said("max_memory_per_worker=50000000: its process is replaced after every call")
    assert level == logging.WARNING
    assert int(text.split(" takes ")[1].split()[0]) > 60_000_000


def test_one_within_its_bound_is_not(process: Any, said: Any) -> None:
    worker = process(cls=Asks, max_memory_per_worker=2_000_000_000)
    assert worker.takes(1).result(20) == 1
    worker.stop()
    assert said("max_memory_per_worker") == []
