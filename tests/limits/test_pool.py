"""A LimitPool: which set is taken, and what happens where none is free. And `self.limits`, as the handle makes it."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from concurry.config import temp_config
from concurry.limits import (
    CallLimit,
    LimitPool,
    LimitSet,
    RateLimit,
    ResourceLimit,
    limits_for_worker,
    shared_limits,
)
from concurry.runtime.enums import LoadBalancingAlgorithm

Make = Callable[..., LimitSet]
Used = Callable[[LimitSet], dict[str, float]]


@pytest.fixture
def sets(make_set: Make) -> list[LimitSet]:
    return [make_set(tokens=10, slots=2, config={"account": account}) for account in range(3)]


def accounts(pool: LimitPool, count: int, tokens: float = 1) -> list[int | None]:
    taken = (pool.try_acquire({"tokens": tokens}) for _ in range(count))
    return [acq.config["account"] if acq.successful else None for acq in taken]


@pytest.mark.parametrize("worker_index", [0, 1, 5])
def test_round_robin_starts_at_the_workers_number(sets: list[LimitSet], worker_index: int) -> None:
    taken = accounts(LimitPool(sets, "round_robin", worker_index), 7)
    first = worker_index % 3
    assert taken == [first, (first + 1) % 3, (first + 2) % 3] * 2 + [None]


def test_a_set_that_is_taken_is_passed_over(sets: list[LimitSet]) -> None:
    _ = sets[1].acquire({"tokens": 10})
    assert accounts(LimitPool(sets), 5) == [0, 2, 2, 0, None]


def test_random_comes_to_all_of_them(make_set: Make) -> None:
    many = [make_set(tokens=1000, config={"account": account}) for account in range(3)]
    taken = Counter(accounts(LimitPool(many, "random"), 300))
    assert set(taken) == {0, 1, 2}
    assert min(taken.values()) > 50


def test_soonest_takes_the_one_that_has_most_left_or_is_free_first(sets: list[LimitSet], clock: Any) -> None:
    pool = LimitPool(sets, "soonest")
    with sets[0].acquire({"tokens": 5}) as acq:
        acq.update({"tokens": 5})
    assert accounts(pool, 1, 2) == [1]
    assert accounts(pool, 1, 2) == [2]
    clock.advance(10)
    assert accounts(pool, 1, 10) == [None]


def test_what_a_pool_is_made_of(sets: list[LimitSet]) -> None:
    pool = LimitPool(limit_sets=sets, load_balancing=LoadBalancingAlgorithm.RoundRobin, worker_index=1)
    assert pool[0] is sets[0]
    assert pool[-1]["tokens"].capacity == 10
    assert list(pool) == list(pool.limit_sets) == sets
    assert len(pool) == 3
    with pytest.raises(TypeError, match=r"must be integers, not str"):
        pool["tokens"]  # type: ignore[index]
    with pytest.raises(IndexError):
        pool[3]
    with pytest.raises(AttributeError, match="cannot be changed"):
        pool.worker_index = 2
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(pool)
    _ = pool.try_acquire({"tokens": 1})
    _ = pool.acquire({"tokens": 1})
    stats = pool.get_stats()
    assert stats.pop("limit_sets") == [each.get_stats() for each in sets]
    assert stats == {
        "num_limit_sets": 3,
        "load_balancing": "RoundRobin",
        "worker_index": 1,
        "balancer_stats": {"algorithm": "RoundRobin", "offset": 1, "total_dispatched": 2},
    }
    assert pool.get_stats()["balancer_stats"]["total_dispatched"] == 2


def test_what_a_pool_cannot_be_made_of(sets: list[LimitSet]) -> None:
    with pytest.raises(ValueError, match="at least one LimitSet"):
        LimitPool([])
    for algorithm in ("least_active", LoadBalancingAlgorithm.LeastTotalLoad):
        with pytest.raises(ValueError, match="Unsupported load balancing algorithm"):
            LimitPool(sets, algorithm)
    with pytest.raises(ValueError, match="Could not find enum with value"):
        LimitPool(sets, "x")
    with pytest.raises(TypeError, match="made of LimitSets"):
        LimitPool([ResourceLimit("slots", 1)])  # type: ignore[list-item]
    for index in (-1, True, 1.0, None):
        with pytest.raises(ValueError, match="worker_index"):
            LimitPool(sets, worker_index=index)  # type: ignore[arg-type]


def test_the_configuration_chooses_where_nothing_is_said(sets: list[LimitSet]) -> None:
    with temp_config(global_limit_pool_load_balancing="random"):
        assert LimitPool(sets).load_balancing is LoadBalancingAlgorithm.Random
    assert LimitPool(sets).load_balancing is LoadBalancingAlgorithm.RoundRobin


def test_where_all_are_taken_the_first_that_is_free_serves(make_set: Make, used: Used, run: Any) -> None:
    sets = [make_set(slots=1, config={"account": account}) for account in range(3)]
    held = [each.acquire() for each in sets]
    pool = LimitPool(sets)
    waiting = run(pool.acquire)
    held[2].release()
    acq = waiting.result()
    assert acq.config == {"account": 2}
    assert [used(each)["slots"] for each in sets] == [1, 1, 1]
    assert [each.get_stats()["slots"]["waiting"] for each in sets] == [0, 0, 0]
    held[0].release()
    assert used(sets[0])["slots"] == 0
    acq.release()
    assert used(sets[2])["slots"] == 0


def test_a_time_out_leaves_every_set_as_it_was(sets: list[LimitSet], used: Used, clock: Any) -> None:
    for each in sets:
        _ = each.acquire({"tokens": 10})
    pool = LimitPool(sets)
    with pytest.raises(TimeoutError, match="not free within"):
        _ = pool.acquire({"tokens": 1}, timeout=0.01)
    assert all(used(each) == {"tokens": 10, "slots": 1} for each in sets)
    assert all(each.get_stats()["tokens"]["waiting"] == 0 for each in sets)
    assert clock.pending() == 0


def test_many_threads_on_a_pool(run: Any) -> None:
    sets = [LimitSet([ResourceLimit("slots", 1)], shared=True) for _ in range(3)]
    pool = LimitPool(sets)

    def user() -> None:
        for _ in range(100):
            with pool.acquire() as acq:
                assert acq.successful

    for each in [run(user) for _ in range(8)]:
        each.result()
    assert all(each.get_stats()["slots"]["current_usage"] == 0 for each in sets)
    assert all(each.get_stats()["slots"]["waiting"] == 0 for each in sets)
    assert pool.get_stats()["balancer_stats"]["total_dispatched"] == 800


def test_a_set_that_could_never_serve_is_left_out(make_set: Make) -> None:
    small, large = make_set(tokens=10, config={"account": 0}), make_set(tokens=100, config={"account": 1})
    pool = LimitPool([small, large])
    assert accounts(pool, 2, tokens=50) == [1, 1]
    assert LimitPool([small, large], "soonest").acquire({"tokens": 0.5}, timeout=0).config == {"account": 0}
    for algorithm in ("round_robin", "soonest", "random"):
        pool = LimitPool([small, large], algorithm)
        assert not pool.try_acquire({"tokens": 50}).successful
        for method in ("acquire", "try_acquire"):
            with pytest.raises(ValueError, match="exceeds capacity"):
                getattr(LimitPool([small, large], algorithm), method)({"tokens": 500})


# -- self.limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [None, [], ()])
def test_without_limits_self_limits_is_there(option: Any) -> None:
    limits = limits_for_worker(shared_limits(option, pooled=True), 3)
    assert isinstance(limits, LimitPool)
    assert limits.worker_index == 3
    with limits.acquire() as acq:
        assert acq.successful
    assert limits.try_acquire({}).successful


@pytest.mark.parametrize("pooled", [False, True])
def test_limits_in_a_list_are_one_set_for_all_workers(pooled: bool, used: Used) -> None:
    for option in (
        [ResourceLimit("slots", 3), CallLimit(capacity=5, window=60)],
        ResourceLimit("slots", 3),
        iter([ResourceLimit("slots", 3)]),
    ):
        shared = shared_limits(option, pooled=pooled)
        first, second = (limits_for_worker(shared, index) for index in range(2))
        assert first[0] is second[0]
        assert first[0].shared
        _ = first.acquire()
        _ = second.acquire()
        assert used(first[0])["slots"] == 2


def test_a_set_is_the_same_for_everybody_who_is_given_it(make_set: Make, used: Used) -> None:
    limits = make_set(slots=3)
    pools = [limits_for_worker(shared_limits(limits, pooled=True), 0) for _ in range(2)]
    for pool in pools:
        _ = pool.acquire()
    assert used(limits) == {"slots": 2}
    assert shared_limits(LimitSet([ResourceLimit("slots", 1)]), pooled=False)[0].shared is False


def test_several_sets_and_a_pool(sets: list[LimitSet]) -> None:
    assert limits_for_worker(shared_limits(sets, pooled=True), 1).limit_sets == tuple(sets)
    given = LimitPool(sets, "random", worker_index=7)
    pool = limits_for_worker(shared_limits(given, pooled=True), 2)
    assert pool.load_balancing is LoadBalancingAlgorithm.Random
    assert pool.worker_index == 2
    assert pool.limit_sets == tuple(sets)


def test_options_that_are_refused(sets: list[LimitSet]) -> None:
    private = LimitSet([ResourceLimit("slots", 1)], shared=False)
    for option in (private, [private], LimitPool([sets[0], private])):
        with pytest.raises(ValueError, match="shared=False"):
            shared_limits(option, pooled=True)
        shared_limits(option, pooled=False)
    for wrong in (5, "tokens", {"tokens": 5}, [5], [sets[0], ResourceLimit("slots", 1)], b"x"):
        with pytest.raises(ValueError, match=r"limits=.* is refused"):
            shared_limits(wrong, pooled=False)
    with pytest.raises(ValueError, match="Duplicate limit key"):
        shared_limits([RateLimit("a", capacity=1, window=1), ResourceLimit("a", 1)], pooled=True)
