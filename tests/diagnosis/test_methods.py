"""`stats()["methods"]`: each call that ended is in it once, by its method, in every mode."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

import concurry
from concurry import TaskWorker, Worker, WorkerDiedError, gather, wait


class Busy(Worker):
    def __init__(self) -> None:
        self.asked = 0

    def quick(self, value: int) -> int:
        return value

    async def later(self, value: int) -> int:
        import asyncio

        await asyncio.sleep(0.02)
        return value

    def bad(self) -> None:
        raise ValueError

    def slow(self) -> None:
        threading.Event().wait(0.05)

    def flaky(self) -> int:
        self.asked += 1
        if self.asked < 3:
            raise ConnectionError
        return self.asked

    def die(self) -> None:
        os._exit(3)

    def hang(self) -> None:
        threading.Event().wait(1)


def counts(figures: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {name: (each["count"], each["failed"]) for name, each in figures["methods"].items()}


def test_all_calls_by_method(options: dict[str, Any]) -> None:
    with Busy.options(**options).init() as worker:
        assert worker.stats()["methods"] == {}
        gather([worker.quick(n) for n in range(300)], timeout=20)
        gather([worker.later(n) for n in range(3)], timeout=20)
        wait([worker.bad(), worker.bad(), worker.slow()], timeout=20)
        expected = {"quick": (300, 0), "later": (3, 0), "bad": (2, 2), "slow": (1, 0)}
        assert counts(worker.stats()) == expected, "counted before the future is done"
    figures = worker.stats()
    assert counts(figures) == expected
    assert sum(count for count, _ in expected.values()) == figures["done"] + figures["failed"]
    methods = figures["methods"]
    for each in methods.values():
        assert 0 < each["p50_s"] <= each["p99_s"]
    assert methods["slow"]["p50_s"] > 0.045
    assert methods["later"]["p50_s"] > 0.018


def test_of_each_actor() -> None:
    with Busy.options(mode="thread", max_workers=2).init() as pool:
        gather([pool.quick(n) for n in range(50)], timeout=20)
        both = [counts(pool.get_worker_stats(index)) for index in range(2)]
    assert sum(each.get("quick", (0, 0))[0] for each in both) == 50


@pytest.mark.parametrize("mode", ["sync", "thread", "asyncio", "process"])
def test_attempts_and_their_waits_are_one_call(mode: str) -> None:
    retries: dict[str, Any] = {"num_retries": 3, "retry_wait": 0.02, "retry_jitter": 0, "retry_algorithm": "fixed"}
    with Busy.options(mode=mode, **retries).init() as worker:
        assert worker.flaky().result(20) == 3
        each = worker.stats()["methods"]["flaky"]
    assert (each["count"], each["failed"]) == (1, 0)
    assert each["p50_s"] > 0.038, "two waits"


def test_a_dead_incarnation_stays_in_the_figures() -> None:
    with Busy.options(mode="process").init() as worker:
        gather([worker.quick(n) for n in range(10)], timeout=20)
        assert isinstance(worker.die().exception(20), WorkerDiedError)
        assert worker.quick(1).result(20) == 1
        figures = worker.stats()
    assert counts(figures) == {"quick": (11, 0), "die": (1, 1)}
    assert figures["methods"]["die"]["p50_s"] is None, "nobody knows how long it ran"


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_a_call_past_its_time_is_one(mode: str) -> None:
    with Busy.options(mode=mode, call_timeout={"hang": 0.05}).init() as worker:
        assert isinstance(worker.hang().exception(20), TimeoutError)
        worker.quick(1).result(20)
        assert counts(worker.stats()) == {"hang": (1, 1), "quick": (1, 0)}
        assert worker.stats()["methods"]["hang"]["p50_s"] > 0.045


def test_of_tasks() -> None:
    with TaskWorker.options(mode="thread").init() as tasks:
        assert tasks.submit(sum, [1, 2]).result(20) == 3
        assert sum(each["count"] for each in concurry.stats(tasks)["methods"].values()) == 1


def test_several_threads_in_sync_mode() -> None:
    worker = Busy.options(mode="sync").init()
    threads = [threading.Thread(target=lambda: [worker.quick(n) for n in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(worker.stats()) == {"quick": (2000, 0)}
    worker.stop()
