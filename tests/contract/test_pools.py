"""Pools and figures: every actor has work while there is any, and the figures are right."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import concurry
from concurry import LoadBalancingAlgorithm, Worker, gather, wait

Start = Callable[..., Any]


class Who(Worker):
    """Its calls tell which actor ran them."""

    def me(self) -> tuple[int, int]:
        return os.getpid(), id(self)

    def meet(self, meeting: Any) -> tuple[int, int]:
        meeting.wait()
        return self.me()

    def hold(self, began: Any, go: Any) -> tuple[int, int]:
        began.set()
        go.wait()
        return self.me()

    def fail(self) -> None:
        raise ValueError

    async def later(self) -> int:
        return 1


def test_length_and_repr(start: Start, way: Any) -> None:
    worker = start(Who)
    assert len(worker) == (0 if way.name == "demand" else way.options.get("max_workers", 1))
    assert bool(worker)
    text = repr(worker)
    assert "Who" in text
    assert way.options["mode"] in text
    many = way.options.get("max_workers", 1)
    assert (f"{many} workers" in text) is (len(worker) > 1)


def test_so_many_calls_run_at_once(start: Start, way: Any, new_meeting: Any) -> None:
    worker = start(Who)
    for _ in range(5):
        meeting = new_meeting(way.sync_at_once)
        found = gather([worker.meet(meeting) for _ in range(way.sync_at_once)], timeout=20)
        assert len(set(found)) == (way.sync_at_once if way.pooled else 1)


def test_the_figures(start: Start, way: Any) -> None:
    worker = start(Who)
    gather([worker.me() for _ in range(10)] + [worker.later() for _ in range(5)])
    wait([worker.fail() for _ in range(3)])
    stats = worker.stats()
    assert (stats["done"], stats["failed"], stats["queued"], stats["restarts"]) == (15, 3, 0, 0)
    assert stats["total_dispatched"] >= 18
    assert stats["name"] == "Who"
    assert stats["mode"] == way.options["mode"]
    assert stats["alive"] is True
    assert concurry.stats(worker)["done"] == 15
    worker.stop()
    stats = worker.stats()
    assert (stats["done"], stats["failed"], stats["queued"], stats["running"]) == (15, 3, 0, 0)
    assert stats["alive"] is False


def test_pool_figures(start: Start, way: Any) -> None:
    worker = start(Who)
    gather([worker.me() for _ in range(12)])
    stats = worker.get_pool_stats()
    demand = way.name == "demand"
    assert stats["total_workers"] == len(worker)
    assert stats["max_workers"] == way.options.get("max_workers", 0 if way.needs_ray else 1)
    assert stats["on_demand"] is demand
    assert stats["load_balancer"]["algorithm"] == ("Random" if demand else "RoundRobin")
    assert stats["load_balancer"]["total_dispatched"] >= 12
    assert stats["stopped"] is False
    assert stats["max_queued_tasks"] == (100 if way.options["mode"] == "process" else None)
    assert stats["done"] == 12
    worker.stop()
    assert worker.get_pool_stats()["stopped"] is True
    assert worker.get_pool_stats()["on_demand_active"] == 0


def test_figures_of_each_worker(start: Start, way: Any) -> None:
    worker = start(Who)
    gather([worker.me() for _ in range(12)])
    each = [worker.get_worker_stats(i) for i in range(len(worker))]
    assert [stats["worker_index"] for stats in each] == list(range(len(worker)))
    assert sum(stats["done"] for stats in each) == (0 if way.name == "demand" else 12)
    for wrong in (-1, len(worker), 99):
        with pytest.raises(IndexError, match=f"and no {wrong}"):
            worker.get_worker_stats(wrong)


def test_what_runs_and_what_waits(start: Start, way: Any, new_signal: Any) -> None:
    worker, go, held = start(Who), new_signal(), []
    for _ in range(way.sync_at_once):
        began = new_signal()
        held.append(worker.hold(began, go))
        began.wait()
    waiting = [worker.me() for _ in range(7)]
    stats = worker.stats()
    assert (stats["running"], stats["queued"], stats["done"]) == (way.sync_at_once, 7, 0)
    assert "7 waiting" in repr(worker)
    waiting[0].cancel()
    assert worker.stats()["queued"] == 6
    go.set()
    gather([*held, *waiting[1:]])
    assert worker.stats()["done"] == way.sync_at_once + 6


@pytest.fixture
def pool_of_three(new_signal: Any) -> Any:
    made: list[Any] = []

    def make(algorithm: str) -> Any:
        made.append(Who.options(mode="thread", max_workers=3, load_balancing=algorithm).init())
        return made[-1]

    yield make
    new_signal.set_all()
    for worker in made:
        worker.stop()


def test_round_robin_takes_each_in_turn(pool_of_three: Any) -> None:
    worker = pool_of_three("round_robin")
    meeting = threading.Barrier(3)
    first = gather([worker.meet(meeting) for _ in range(3)])
    assert len(set(first)) == 3
    counts = Counter(worker.me().result() for _ in range(30))
    assert len(counts) == 3


@pytest.mark.parametrize("algorithm", ["least_active", "active", "least_total", "total", "random", "rr"])
def test_every_algorithm_answers_every_call(pool_of_three: Any, algorithm: str) -> None:
    worker = pool_of_three(algorithm)
    assert len(gather([worker.me() for _ in range(200)])) == 200
    assert worker.get_pool_stats()["load_balancer"]["algorithm"] == LoadBalancingAlgorithm(algorithm).name
    assert worker.stats()["done"] == 200


def test_least_total_evens_out(pool_of_three: Any, new_signal: Any) -> None:
    worker, go = pool_of_three("least_total"), new_signal()
    held = []
    for _ in range(2):  # two actors are busy with their first call; the third does all the rest
        began = new_signal()
        held.append(worker.hold(began, go))
        began.wait()
    third = {worker.me().result() for _ in range(10)}
    assert len(third) == 1
    go.set()
    gather(held)


@pytest.mark.parametrize("algorithm", ["round_robin", "least_active", "least_total", "random"])
def test_nothing_waits_behind_a_busy_actor(pool_of_three: Any, new_signal: Any, algorithm: str) -> None:
    worker, go, held = pool_of_three(algorithm), new_signal(), []
    for _ in range(2):
        began = new_signal()
        held.append(worker.hold(began, go))
        began.wait()
    assert len(set(gather([worker.me() for _ in range(100)], timeout=20))) == 1
    go.set()
    assert gather(held)


def test_on_demand_ends_its_actors(new_signal: Any) -> None:
    ended = [threading.Event() for _ in range(5)]

    class Ends(Worker):
        def __init__(self, ended: list[threading.Event]) -> None:
            self.ended = ended

        def run(self, number: int) -> int:
            self.number = number
            return number

        def stop(self) -> None:
            self.ended[self.number].set()

    with Ends.options(mode="thread", on_demand=True, max_workers=0).init(ended) as worker:
        assert gather([worker.run(i) for i in range(5)]) == list(range(5))
        for event in ended:
            assert event.wait(10)
        assert len(worker) == 0


def test_on_demand_is_bounded() -> None:
    class Counts(Worker):
        lock = threading.Lock()
        now = most = 0

        def __init__(self) -> None:
            with Counts.lock:
                Counts.now += 1
                Counts.most = max(Counts.most, Counts.now)

        def run(self, barrier: threading.Barrier) -> None:
            barrier.wait(10)

        def stop(self) -> None:
            with Counts.lock:
                Counts.now -= 1

    barrier = threading.Barrier(3)
    with Counts.options(mode="thread", on_demand=True, max_workers=3).init() as worker:
        gather([worker.run(barrier) for _ in range(30)], timeout=20)
    assert Counts.most == 3
    assert Counts.now == 0


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_on_demand_an_actor_has_one_call_whatever_it_could_run_at_once(mode: str) -> None:
    with Who.options(mode=mode, on_demand=True, max_workers=2, max_concurrency=4).init() as worker:
        assert len(gather([worker.me() for _ in range(4)], timeout=60)) == 4
        assert gather([worker.later() for _ in range(2)], timeout=60) == [1, 1]


def test_threads_and_processes_are_named_after_their_worker(start: Start, way: Any) -> None:
    class Named(Worker):
        def names(self) -> tuple[str, str]:
            return threading.current_thread().name, Path("/proc/self/comm").read_text()

    thread, process = start(Named).names().result()
    named = thread if way.same_objects or way.needs_ray else process  # Ray names its processes
    assert ("Named" in named) is way.background


def test_two_hundred_actors() -> None:
    with Who.options(mode="thread", max_workers=200).init() as worker:
        assert len(worker) == 200
        assert len(gather([worker.me() for _ in range(1000)])) == 1000
    assert worker.stats()["done"] == 1000
