"""Figures: each call that began and ended counts once, by how its future ended, and no figure ever falls."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from concurry import Worker, WorkerDiedError, WorkerStoppedError, gather

Start = Callable[..., Any]
FALLS_NEVER = ("done", "failed", "cancelled", "retries", "restarts", "total_dispatched")


class Ends(Worker):
    """Its calls end in every way there is."""

    def good(self) -> int:
        return 1

    def bad(self) -> None:
        raise ValueError

    def hold(self, began: Any, go: Any) -> None:
        began.set()
        go.wait()

    async def hold_later(self, began: Any, ended: Any) -> None:
        import asyncio

        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def fails_twice(self) -> int:
        self.fails = getattr(self, "fails", 0) + 1
        if self.fails < 3:
            raise ValueError
        return self.fails

    async def fails_twice_later(self) -> int:
        return self.fails_twice()

    def calls_inside(self) -> int:
        return self.fails_twice()

    def fails_and_holds(self, began: Any, go: Any) -> None:
        if not hasattr(self, "fails"):
            self.fails = 1
            raise ValueError
        self.hold(began, go)

    def leave(self) -> None:
        os._exit(3)

    def leave_once(self, been: str) -> None:
        if not os.path.exists(been):
            open(been, "w").close()
            os._exit(3)
        raise ValueError

    def fails_and_leaves_once(self, been: str) -> int:
        """Each of its two lives begins with a failure; the first one ends at its second attempt."""
        self.fails = getattr(self, "fails", 0) + 1
        if self.fails == 1:
            raise ValueError
        if not os.path.exists(been):
            open(been, "w").close()
            os._exit(3)
        return self.fails


def counted(worker: Any) -> tuple[int, int, int]:
    stats = worker.stats()
    return stats["done"], stats["failed"], stats["total_dispatched"]


def retried(worker: Any) -> tuple[int, dict[str, int]]:
    """Attempts after the first, in all and by method: the same in each place where they are told."""
    stats = worker.stats()
    by_method = {name: calls["retries"] for name, calls in stats["methods"].items() if calls["retries"]}
    assert stats["retries"] == sum(by_method.values()) == worker.get_pool_stats()["retries"]
    workers = [worker.get_worker_stats(index) for index in range(len(worker))]
    if workers:
        assert stats["retries"] == sum(one["retries"] for one in workers)
        assert stats["retries"] == sum(calls["retries"] for one in workers for calls in one["methods"].values())
    return stats["retries"], by_method


@pytest.mark.parametrize("method", ["fails_twice", "fails_twice_later"])
def test_retries_are_counted_by_method(start: Start, way: Any, method: str) -> None:
    worker = start(Ends, options={"num_retries": {method: 5, "bad": 2, "*": 0}, "retry_wait": 0.001})
    worker.good().result(20)
    assert retried(worker) == (0, {})
    assert getattr(worker, method)().result(20) == 3
    assert isinstance(worker.bad().exception(20), ValueError)
    worker.stop()
    assert retried(worker) == (4, {method: 2, "bad": 2})
    assert counted(worker) == (2, 1, 3)


def test_of_a_method_that_another_one_calls_nothing_is_counted(start: Start, way: Any) -> None:
    worker = start(Ends, options={"num_retries": {"fails_twice": 5, "*": 0}, "retry_wait": 0.001})
    assert worker.calls_inside().result(20) == 3
    assert retried(worker) == (0, {})
    assert counted(worker) == (1, 0, 1)


def test_retries_of_a_call_past_its_time_are_counted(start: Start, way: Any, new_signal: Any) -> None:
    options = {"num_retries": {"fails_and_holds": 2, "*": 0}, "retry_wait": 0.001, "call_timeout": 0.3}
    worker, began, go = start(Ends, options=options), new_signal(), new_signal()
    assert isinstance(worker.fails_and_holds(began, go).exception(20), TimeoutError)
    go.set()
    worker.stop()
    assert retried(worker) == (1, {"fails_and_holds": 1})


def test_what_ends_by_itself(start: Start, way: Any) -> None:
    worker = start(Ends)
    worker.good().result(20)
    assert counted(worker) == (1, 0, 1)
    worker.bad().exception(20)
    assert counted(worker) == (1, 1, 2)
    worker.stop()
    assert counted(worker) == (1, 1, 2)


def test_a_call_past_its_time_has_failed(start: Start, way: Any, new_signal: Any) -> None:
    worker, began, go = start(Ends, options={"call_timeout": {"hold": 0.05}}), new_signal(), new_signal()
    worker.good().result(20)
    assert isinstance(worker.hold(began, go).exception(20), TimeoutError)
    assert counted(worker) == (1, 1, 2)
    go.set()  # on a thread its method returns only now
    worker.good().result(20)
    assert counted(worker) == (2, 1, 3)
    worker.stop()
    assert counted(worker) == (2, 1, 3)


def test_an_async_call_past_its_time_has_failed(start: Start, way: Any, new_signal: Any) -> None:
    worker, began, ended = start(Ends, options={"call_timeout": {"hold_later": 0.05}}), new_signal(), new_signal()
    assert isinstance(worker.hold_later(began, ended).exception(20), TimeoutError)
    assert counted(worker) == (0, 1, 1)
    worker.good().result(20)
    worker.stop()
    assert counted(worker) == (1, 1, 2)


def test_what_stop_gives_up_has_failed(start: Start, way: Any, new_signal: Any) -> None:
    worker, began, go = start(Ends), new_signal(), new_signal()
    held = worker.hold(began, go)
    began.wait()
    worker.stop(timeout=0)
    assert isinstance(held.exception(20), WorkerStoppedError)
    assert counted(worker) == (0, 1, 1)
    go.set()


def test_a_running_async_call_that_is_cancelled_counts_once(start: Start, way: Any, new_signal: Any) -> None:
    worker, began, ended = start(Ends), new_signal(), new_signal()
    held = worker.hold_later(began, ended)
    began.wait()
    if held.cancel():
        ended.wait()
        worker.stop()
        assert counted(worker) == (0, 1, 1)


def test_a_lost_call_has_failed(start: Start, way: Any, tmp_path: Any) -> None:
    worker = start(Ends, options={"num_retries": {"leave_once": 2, "*": 0}, "retry_wait": 0.01})
    worker.good().result(20)
    assert isinstance(worker.leave().exception(20), WorkerDiedError)
    assert counted(worker) == (1, 1, 2)
    assert isinstance(worker.leave_once(str(tmp_path / "been")).exception(20), ValueError)
    assert counted(worker) == (1, 2, 3)  # once, though it was begun three times
    worker.stop()
    assert counted(worker) == (1, 2, 3)
    assert retried(worker) == (2, {"leave_once": 2})


def test_retries_before_and_after_a_death_are_counted(start: Start, way: Any, tmp_path: Any) -> None:
    options = {"num_retries": 5, "retry_wait": 0.001, "retry_on": [ValueError, WorkerDiedError]}
    worker = start(Ends, options=options)
    assert worker.fails_and_leaves_once(str(tmp_path / "been")).result(20) == 2
    assert retried(worker) == (3, {"fails_and_leaves_once": 3})


def test_a_lost_call_that_waits_for_its_next_attempt(start: Start, way: Any, tmp_path: Any) -> None:
    options = {"num_retries": 2, "retry_wait": 1000, "retry_jitter": 0, "retry_on": [WorkerDiedError]}
    worker = start(Ends, options=options)
    lost = worker.leave_once(str(tmp_path / "been"))
    while not worker.stats()["queued"]:
        assert not lost.done()
    assert counted(worker) == (0, 0, 1)
    worker.stop()
    assert worker.stats()["total_dispatched"] == 1


def test_a_lost_call_that_is_cancelled_has_failed(start: Start, way: Any, tmp_path: Any) -> None:
    """It has begun, so it is none of those that never did."""
    worker = start(Ends, options={"num_retries": 2, "retry_wait": 1000, "retry_jitter": 0})
    lost = worker.leave_once(str(tmp_path / "been"))
    while not worker.stats()["queued"]:
        assert not lost.done()
    assert lost.cancel()
    assert lost.cancelled()
    assert counted(worker) == (0, 1, 1)
    assert worker.stats()["cancelled"] == 0


def test_no_figure_falls(start: Start, way: Any) -> None:
    worker, over = start(Ends), threading.Event()
    fell: list[Any] = []

    def look() -> None:
        last = worker.stats()
        while not over.is_set():
            stats = worker.stats()
            fell.extend((key, last[key], stats[key]) for key in FALLS_NEVER if stats[key] < last[key])
            last = stats

    looks = threading.Thread(target=look)
    looks.start()
    try:
        for _ in range(20):
            gather([worker.good() for _ in range(20)], timeout=20)
            worker.bad().exception(20)
    finally:
        over.set()
        looks.join()
    assert fell == []
    assert counted(worker) == (400, 20, 420)


@pytest.mark.parametrize("policy", [{}, {"num_retries": 2, "retry_wait": 0.01}], ids=["plain", "retried"])
def test_no_figure_falls_over_deaths(start: Start, way: Any, policy: Any) -> None:
    worker = start(Ends, options={**policy, "call_timeout": 60, "max_restarts": None})
    last = worker.stats()
    for name in ("good", "leave", "good"):
        call = getattr(worker, name)()
        while True:
            over, stats = call.done(), worker.stats()
            assert all(stats[key] >= last[key] for key in FALLS_NEVER), (last, stats)
            last = stats
            if over:
                break
    assert counted(worker) == (2, 1, 3)
