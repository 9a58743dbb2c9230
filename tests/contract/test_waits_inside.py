"""Calls that wait inside their method, for limits or for their next attempt: such a wait ends with the call, and
nothing is begun for an answer that nobody will get."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

from concurry import LimitSet, MailboxFullError, ResourceLimit, Worker, WorkerStoppedError

Start = Callable[..., Any]


class Sends(Worker):
    """Sends under a limit; what was sent stands in a list of the test's."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def send(self, asks: Any, value: int) -> int:
        asks.set()
        with self.limits.acquire():
            self.log.append(value)
        return value

    async def send_later(self, asks: Any, value: int) -> int:
        asks.set()
        async with self.limits.acquire():
            self.log.append(value)
        return value

    def fail(self, fails: Any) -> None:
        self.log.append("attempt")
        fails.set()
        raise ConnectionError(f"attempt {len(self.log)}")

    async def fail_later(self, fails: Any) -> None:
        await asyncio.sleep(0)
        self.fail(fails)

    def ping(self) -> str:
        return "pong"


@pytest.fixture
def one() -> LimitSet:
    return LimitSet([ResourceLimit("connections", 1)], shared=True)


@pytest.mark.parametrize("method", ["send", "send_later"])
def test_a_call_past_its_time_takes_no_limit(
    start: Start, one: LimitSet, new_signal: Any, method: str, new_log: Any
) -> None:
    log = new_log()
    worker = start(Sends, log, options={"limits": one, "call_timeout": {method: 0.05, "*": None}})
    with one.acquire():
        with pytest.raises(TimeoutError):
            getattr(worker, method)(new_signal(), 1).result(timeout=10)
        # The actor is free again, while the limit is not.
        assert worker.ping().result(timeout=10) == "pong"
    assert log == []
    with one.acquire(timeout=10):  # from another process it may come back a moment later: the grant was on its way
        assert log == []


@pytest.mark.parametrize("method", ["send", "send_later"])
def test_stop_ends_calls_that_wait_for_limits(
    start: Start, one: LimitSet, new_signal: Any, method: str, new_log: Any
) -> None:
    log = new_log()
    worker, asks = start(Sends, log, options={"limits": one}), new_signal()
    with one.acquire():
        future = getattr(worker, method)(asks, 1)
        asks.wait()
        worker.stop(timeout=None)  # it would wait for ever
    with pytest.raises(WorkerStoppedError, match="waited for its limits"):
        future.result(timeout=10)
    assert log == []
    assert one.get_stats()["connections"]["current_usage"] == 0


@pytest.mark.parametrize("method", ["fail", "fail_later"])
def test_stop_ends_calls_between_two_attempts(start: Start, new_signal: Any, method: str, new_log: Any) -> None:
    log = new_log()
    worker = start(Sends, log, options={"num_retries": 5, "retry_wait": 1000, "retry_jitter": 0})
    fails = new_signal()
    future = getattr(worker, method)(fails)
    fails.wait()
    worker.stop(timeout=None)
    with pytest.raises(ConnectionError, match="attempt 1") as caught:
        future.result(timeout=10)
    assert "the worker is stopping" in "".join(caught.value.__notes__)
    assert log == ["attempt"]


@pytest.mark.parametrize("method", ["fail", "fail_later"])
def test_a_call_past_its_time_makes_no_further_attempt(
    start: Start, way: Any, new_signal: Any, method: str, new_log: Any
) -> None:
    log = new_log()
    options = {"num_retries": 5, "retry_wait": 0.04, "retry_algorithm": "fixed", "retry_jitter": 0, "call_timeout": 0.1}
    worker = start(Sends, log, options=options)
    with pytest.raises(TimeoutError):
        getattr(worker, method)(new_signal()).result(timeout=10)
    attempts = len(log)
    assert worker.ping().result(timeout=10) == "pong"
    worker.stop()
    # In a process of its own one attempt may begin while it is being told.
    assert attempts <= len(log) <= attempts + (not way.same_objects)


def test_the_end_of_a_block_says_how_many_calls_it_cancelled(new_signal: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Waits(Worker):
        def wait(self, begun: Any, go: Any) -> str:
            begun.set()
            go.wait()
            return "done"

    begun, go = new_signal(), new_signal()
    with caplog.at_level(logging.WARNING, "concurry"), Waits.options(mode="thread").init() as worker:
        runs = worker.wait(begun, go)
        begun.wait()
        waiting = [worker.wait(begun, go) for _ in range(10)]
        waiting[-1].add_done_callback(lambda _: go.set())
    assert runs.result() == "done"
    for future in waiting:
        assert future.cancelled()
        with pytest.raises(CancelledError, match="was stopped before this call began"):
            future.result()
    assert "cancelled 10 calls that had not begun" in caplog.text
    assert worker.get_pool_stats()["cancelled"] == 10


def test_the_only_actor_is_not_kept_by_its_own_full_mailbox(start: Start) -> None:
    class Submits(Worker):
        def many(self, handle: list[Any]) -> str:
            try:
                for _ in range(100):
                    handle[0].nothing()
            except MailboxFullError as error:
                return str(error)
            return "all taken"

        def nothing(self) -> None:
            return

    handle: list[Any] = []
    worker = start(Submits, options={"mailbox_size": 2})
    handle.append(worker)
    said = worker.many(handle).result(timeout=20)
    assert said == "all taken" or "its only actor would wait for itself" in said
