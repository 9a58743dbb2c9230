"""Limits: what is declared."""

from __future__ import annotations

import math
from typing import Any

import pytest

from concurry import CallLimit, LimitPool, LimitSet, RateLimit, RateLimitAlgorithm, RateWindow, ResourceLimit


@pytest.mark.parametrize("name", ["window", "per", "window_seconds"])
@pytest.mark.parametrize("window", [60, 60.0, "minute", "60", RateWindow.Minutely, "per_minute", "mins"])
def test_a_window_by_each_of_its_names(name: str, window: Any) -> None:
    limit = RateLimit(key="tokens", capacity=5, **{name: window})
    assert limit.window_seconds == 60
    assert CallLimit(capacity=5, **{name: window}).window_seconds == 60


def test_two_windows() -> None:
    two: Any
    for two in ({"window": 1, "per": 1}, {"window": 1, "window_seconds": 1}, {"per": 1, "window_seconds": 1}):
        with pytest.raises(ValueError, match=" and "):
            RateLimit(key="tokens", capacity=5, **two)


def test_no_window() -> None:
    with pytest.raises(ValueError, match="no window is given"):
        RateLimit(key="tokens", capacity=5)


@pytest.mark.parametrize(
    ("capacity", "kept"), [(5, 5), (0.5, 0.5), (math.inf, math.inf), ("1.5", 1.5), ("inf", math.inf)]
)
def test_a_capacity(capacity: Any, kept: float) -> None:
    assert RateLimit(key="tokens", window=1, capacity=capacity).capacity == kept


@pytest.mark.parametrize("capacity", [0, -1, math.nan, "nan", "none", None])
def test_a_capacity_that_is_refused(capacity: Any) -> None:
    with pytest.raises(ValueError, match="capacity"):
        RateLimit(key="tokens", window=1, capacity=capacity)


@pytest.mark.parametrize("algorithm", [*RateLimitAlgorithm, "token_bucket", "TokenBucket", "fixed"])
def test_an_algorithm(algorithm: Any) -> None:
    limit = RateLimit(key="tokens", window=1, capacity=5, algorithm=algorithm)
    assert limit.algorithm is RateLimitAlgorithm(algorithm)


def test_the_default_algorithm() -> None:
    assert RateLimit(key="tokens", window=1, capacity=5).algorithm is RateLimitAlgorithm.SlidingWindow


@pytest.mark.parametrize("algorithm", list(RateLimitAlgorithm))
def test_can_acquire_changes_nothing(algorithm: RateLimitAlgorithm) -> None:
    limits = LimitSet([RateLimit(key="tokens", window=1000, capacity=5, algorithm=algorithm)])
    limit = limits["tokens"]
    assert all(limit.can_acquire(5) for _ in range(3))
    assert not limit.can_acquire(6)
    with limits.acquire({"tokens": 3}) as acq:
        acq.update({"tokens": 3})
        assert not limit.can_acquire(3)
    assert RateLimit(key="tokens", window=1, capacity=5).can_acquire(5)  # of no set


def test_validate_usage(logged: Any) -> None:
    limit = RateLimit(key="tokens", window=1, capacity=5)
    limit.validate_usage(requested=5, used=3)
    with pytest.raises(ValueError, match="cannot be negative"):
        limit.validate_usage(5, -1)


@pytest.mark.parametrize("limit", [RateLimit(key="a", window=60, capacity=5), CallLimit(window=60, capacity=5)])
def test_statistics_of_a_rate(limit: RateLimit) -> None:
    stats = limit.get_stats()
    assert (stats["key"], stats["capacity"], stats["window"]) == (limit.key, 5, 60)
    assert {"algorithm", "current_usage", "available", "utilization"} <= set(stats)


@pytest.mark.parametrize(
    "limit", [RateLimit(key="a", window=60, capacity=5), CallLimit(window=60, capacity=5), ResourceLimit("r", 5)]
)
def test_a_limit_alone_has_no_acquire(limit: Any) -> None:
    with pytest.raises(AttributeError):
        limit.acquire()


@pytest.mark.parametrize(
    ("capacity", "window", "algorithm", "signature"),
    [
        (300, 60, "gcra", "c300w60gcr"),
        (300.0, "minute", "token_bucket", "c300w60tok"),
        (0.5, 0.25, "leaky", "c0.5w0.25lea"),
        (10, 1, "sliding", "c10w1sli"),
        (10, 1, "fixed", "c10w1fix"),
    ],
)
def test_the_signature_of_the_parameters(capacity: float, window: Any, algorithm: str, signature: str) -> None:
    limit = RateLimit(key="tokens", window=window, capacity=capacity, algorithm=algorithm)
    assert limit.params_signature() == signature


def test_the_key_of_a_call_limit() -> None:
    assert CallLimit(window=1, capacity=5).key == "call_count"


def test_one_call_has_nothing_to_report() -> None:
    limits = LimitSet([CallLimit(window=1000, capacity=5)])
    with limits.acquire():
        pass
    with limits.acquire(requested={"call_count": 1}) as acq:
        acq.update(usage={"call_count": 1})


@pytest.mark.parametrize("used", [0, 2])
def test_one_call_is_one_call(used: int) -> None:
    limits = LimitSet([CallLimit(window=1000, capacity=5)])
    with limits.acquire() as acq, pytest.raises(ValueError, match="implicit acquisition"):
        acq.update(usage={"call_count": used})


def test_several_calls_are_reported() -> None:
    limits = LimitSet([CallLimit(window=1000, capacity=50)])
    with pytest.raises(RuntimeError, match=r"Not all limits in the LimitSet were updated.*call_count"):  # noqa: SIM117
        with limits.acquire({"call_count": 5}):
            pass
    for used in (0, 3, 5):
        with limits.acquire({"call_count": 5}) as acq:
            acq.update({"call_count": used})
    with limits.acquire({"call_count": 5}) as acq:
        with pytest.raises(ValueError, match="cannot be negative"):
            acq.update({"call_count": -1})
        acq.update({"call_count": 1})


@pytest.mark.parametrize("capacity", [0, -1, 1.5, math.inf, "many"])
def test_the_capacity_of_a_resource(capacity: Any) -> None:
    with pytest.raises(ValueError, match="capacity"):
        ResourceLimit(key="connections", capacity=capacity)


def test_statistics_of_a_resource() -> None:
    limits = LimitSet([ResourceLimit(key="connections", capacity=4)])
    with limits.acquire():
        stats = limits["connections"].get_stats()
    expected = {"key": "connections", "capacity": 4, "current_usage": 1, "available": 3, "utilization": 0.25}
    assert {name: stats[name] for name in expected} == expected
    assert limits.get_stats()["connections"]["current_usage"] == 0


def test_what_a_set_is_made_of() -> None:
    tokens, calls = RateLimit(key="tokens", window=1, capacity=5), CallLimit(window=1, capacity=5)
    limits = LimitSet([tokens, calls])
    assert list(limits.limits) == [tokens, calls]
    assert (limits.shared, limits.config) == (False, {})
    assert limits["tokens"] == tokens
    assert LimitSet(limits=[tokens], shared=True, mode="thread", config={"a": 1}).config == {"a": 1}


def test_two_limits_of_one_key() -> None:
    with pytest.raises(ValueError, match="Duplicate limit key"):
        LimitSet([ResourceLimit("a", 1), RateLimit(key="a", window=1, capacity=5)])


def test_what_a_pool_is_made_of() -> None:
    sets = [LimitSet([ResourceLimit("a", 1)], config={"account": number}) for number in range(2)]
    pool = LimitPool(limit_sets=sets, load_balancing="round_robin", worker_index=1)
    assert list(pool.limit_sets) == sets
    assert pool[1] is sets[1]
    assert pool[0]["a"].capacity == 1
    assert len(pool) == 2
    assert (LimitPool(sets).load_balancing.name, LimitPool(sets).worker_index) == ("RoundRobin", 0)


def test_a_pool_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one LimitSet"):
        LimitPool([])


@pytest.mark.parametrize("algorithm", ["least_active", "least_total"])
def test_a_pool_has_not_all_algorithms(algorithm: str) -> None:
    with pytest.raises(ValueError, match="Unsupported load balancing algorithm"):
        LimitPool([LimitSet()], load_balancing=algorithm)


@pytest.mark.parametrize("attribute", ["limit_sets", "load_balancing", "worker_index"])
def test_a_pool_is_immutable(attribute: str) -> None:
    pool = LimitPool([LimitSet()])
    with pytest.raises(AttributeError):
        setattr(pool, attribute, 1)


def test_a_pool_is_indexed_by_integers() -> None:
    pool: Any = LimitPool([LimitSet()])
    with pytest.raises(TypeError, match=r"must be integers.*not str"):
        pool["x"]


def test_statistics_of_a_pool() -> None:
    pool = LimitPool([LimitSet([ResourceLimit("a", 5)]), LimitSet([ResourceLimit("a", 5)])], worker_index=1)
    for _ in range(3):
        with pool.acquire():
            pass
    stats = pool.get_stats()
    assert (stats["num_limit_sets"], stats["load_balancing"], stats["worker_index"]) == (2, "RoundRobin", 1)
    assert stats["balancer_stats"] == {"algorithm": "RoundRobin", "offset": 1, "total_dispatched": 3}
    assert [it["a"]["capacity"] for it in stats["limit_sets"]] == [5, 5]
