"""Figures: each call that began and ended counts once, by how its future ended, and no figure ever falls."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from concurry import Worker, WorkerDiedError, WorkerStoppedError, gather

Start = Callable[..., Any]
FALLS_NEVER = ("done", "failed", "cancelled", "restarts", "total_dispatched")


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

    def leave(self) -> None:
        os._exit(3)

    def leave_once(self, been: str) -> None:
        if not os.path.exists(been):
            open(been, "w").close()
            os._exit(3)
        raise ValueError


def counted(worker: Any) -> tuple[int, int, int]:
    stats = worker.stats()
    return stats["done"], stats["failed"], stats["total_dispatched"]


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
