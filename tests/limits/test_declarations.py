"""What a limit may be, and what it says about itself."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from concurry.config import temp_config
from concurry.limits import CallLimit, Limit, LimitSet, RateLimit, ResourceLimit
from concurry.runtime.clock import FakeClock
from concurry.runtime.enums import RateLimitAlgorithm, RateWindow

NO_CAPACITY = [0, -1, float("nan"), True, False, "x", None, 0.0, 1j, [1], np.bool_(True)]


@pytest.mark.parametrize("capacity", NO_CAPACITY)
def test_a_capacity_is_a_number_above_zero(capacity: Any) -> None:
    for make in (
        lambda: RateLimit("tokens", capacity=capacity, window=60),
        lambda: CallLimit(capacity=capacity, window=60),
        lambda: ResourceLimit("slots", capacity),
    ):
        with pytest.raises(ValueError, match="capacity"):
            make()


@pytest.mark.parametrize("capacity", [1.5, float("inf"), 0.5])
def test_a_resource_is_counted_in_whole_numbers(capacity: float) -> None:
    with pytest.raises(ValueError, match="whole number"):
        ResourceLimit("slots", capacity)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 or more"):
        CallLimit(capacity=0.5, window=1)


def test_numbers_of_all_kinds_are_taken() -> None:
    assert RateLimit("t", capacity="1.5", window=1).capacity == 1.5  # type: ignore[arg-type]
    assert RateLimit("t", capacity=np.float32(2), window=np.int64(3)).window_seconds == 3  # type: ignore[arg-type]
    assert ResourceLimit("r", np.int32(4)).capacity == 4  # type: ignore[arg-type]
    assert RateLimit("t", capacity=float("inf"), window=1).can_acquire(1e300)


@pytest.mark.parametrize(
    ("window", "seconds"),
    [(60, 60), ("minute", 60), ("per_hour", 3600), (RateWindow.Daily, 86_400), ("1.5", 1.5), (0.25, 0.25)],
)
@pytest.mark.parametrize("name", ["window", "per", "window_seconds"])
def test_a_window_is_said_in_one_of_three_ways(name: str, window: Any, seconds: float) -> None:
    limit = RateLimit("tokens", capacity=5, **{name: window})
    assert limit.window_seconds == limit.window == seconds


@pytest.mark.parametrize("window", [0, -1, float("nan"), float("inf"), True, "eon", 1e-9, [1]])
def test_a_window_is_seconds(window: Any) -> None:
    with pytest.raises(ValueError, match=r"window|Could not find enum"):
        RateLimit("tokens", capacity=5, window=window)


def test_one_window_it_must_be() -> None:
    with pytest.raises(ValueError, match="window and per are given"):
        RateLimit("tokens", capacity=5, window=1, per=1)
    with pytest.raises(ValueError, match="no window"):
        RateLimit("tokens", capacity=5)
    with pytest.raises(ValueError, match="no rate"):
        RateLimit("tokens", capacity=1e-300, window=1e100)


@pytest.mark.parametrize("key", ["", None, 3])
def test_a_key_is_a_text(key: Any) -> None:
    with pytest.raises(ValueError, match="key"):
        ResourceLimit(key, 1)


def test_the_algorithm_is_the_sliding_window_unless_said() -> None:
    assert RateLimit("t", capacity=1, window=1).algorithm is RateLimitAlgorithm.SlidingWindow
    assert RateLimit("t", capacity=1, window=1, algorithm="Token").algorithm is RateLimitAlgorithm.TokenBucket
    with temp_config(global_rate_limit_algorithm="gcra"):
        assert CallLimit(capacity=1, window=1).algorithm is RateLimitAlgorithm.GCRA
    with pytest.raises(ValueError, match="Could not find enum with value"):
        RateLimit("t", capacity=1, window=1, algorithm="x")


def test_the_signature() -> None:
    assert RateLimit("t", capacity=300, window=60, algorithm="gcra").params_signature() == "c300w60gcr"
    assert RateLimit("t", capacity=0.5, window=1.5, algorithm="token").params_signature() == "c0.5w1.5tok"
    assert CallLimit(capacity=2.0, window=60).params_signature() == "c2w60sli"


def test_a_limit_is_fixed_and_equal_by_its_parameters() -> None:
    limits: list[Callable[[], Limit]] = [
        lambda: RateLimit("t", capacity=1, window=1),
        lambda: CallLimit(capacity=3, window=2),
        lambda: ResourceLimit("r", 3),
    ]
    for make in limits:
        limit = make()
        for twin in (make(), pickle.loads(pickle.dumps(limit)), copy.deepcopy(limit)):
            assert twin == limit
            assert hash(twin) == hash(limit)
            assert repr(twin) == repr(limit)
        assert limit != ResourceLimit("x", 1)
        with pytest.raises(AttributeError, match="cannot be changed"):
            limit.capacity = 5
        with pytest.raises(AttributeError):
            limit.acquire()  # type: ignore[attr-defined]


def test_can_acquire_looks_and_takes_nothing(make_set: Callable[..., LimitSet]) -> None:
    limits = make_set(tokens=100)
    tokens = limits["tokens"]
    assert tokens.can_acquire(100)
    assert tokens.can_acquire(100)
    _ = limits.acquire({"tokens": 60})
    assert tokens.can_acquire(40)
    assert not tokens.can_acquire(40.5)
    assert not tokens.can_acquire(1000)
    for wrong in (0, -1, float("nan"), True):
        with pytest.raises(ValueError, match="tokens"):
            tokens.can_acquire(wrong)


def test_a_limit_of_two_sets_is_counted_twice() -> None:
    limit = ResourceLimit("slots", 2)
    assert limit.can_acquire(2)
    first, second = LimitSet([limit]), LimitSet([limit])
    assert first["slots"] is limit
    assert second["slots"] == limit
    _ = first.acquire()
    assert not first["slots"].can_acquire(2)
    assert second["slots"].can_acquire(2)
    assert not limit.can_acquire(2)
    del first, _
    third = LimitSet([limit])  # the first set is gone, and with it its count
    assert third["slots"] is limit
    assert limit.can_acquire(2)


def test_usage_is_checked_by_kind(warnings_of: Callable[[], list[str]]) -> None:
    tokens = RateLimit("tokens", capacity=10, window=1)
    tokens.validate_usage(5, 0)
    assert warnings_of() == []
    tokens.validate_usage(5, 7)
    assert "exceeds requested amount" in warnings_of()[0]
    for wrong in (-1, float("nan"), float("inf"), "x", True):
        with pytest.raises(ValueError, match="tokens"):
            tokens.validate_usage(5, wrong)  # type: ignore[arg-type]
    calls = CallLimit(capacity=10, window=1)
    calls.validate_usage(1, 1)
    calls.validate_usage(3, 0)
    with pytest.raises(ValueError, match="implicit acquisition"):
        calls.validate_usage(1, 0)
    with pytest.raises(ValueError, match="cannot be negative"):
        calls.validate_usage(3, -1)


def test_statistics(make_set: Callable[..., LimitSet]) -> None:
    limits = make_set(tokens=100, slots=2)
    _ = limits.acquire({"tokens": 25})
    assert limits.get_stats() == {
        "tokens": {
            "key": "tokens",
            "capacity": 100,
            "window": 60,
            "algorithm": "sliding_window",
            "current_usage": 25,
            "available": 75,
            "utilization": 0.25,
            "waiting": 0,
        },
        "slots": {
            "key": "slots",
            "capacity": 2,
            "current_usage": 1,
            "available": 1,
            "utilization": 0.5,
            "waiting": 0,
        },
    }
    assert limits["slots"].get_stats() == limits.get_stats()["slots"]


@pytest.mark.parametrize(
    ("algorithm", "around_an_end", "then"),
    [
        (RateLimitAlgorithm.SlidingWindow, 60, 0),
        (RateLimitAlgorithm.FixedWindow, 119, 60),
        (RateLimitAlgorithm.TokenBucket, 60, 30),
        (RateLimitAlgorithm.GCRA, 60, 30),
        (RateLimitAlgorithm.LeakyBucket, 60, 30),
    ],
)
def test_what_the_docstring_says_of_bursts(algorithm: RateLimitAlgorithm, around_an_end: int, then: int) -> None:
    """60 in 60 s: one at 0; as many as there are at 59.9 and 60.1; and again 30 s after that."""
    clock = FakeClock()
    limits = LimitSet([RateLimit("tokens", capacity=60, window=60, algorithm=algorithm)], clock=clock)

    def grants() -> int:
        count = 0
        while limits.try_acquire({"tokens": 1}).successful:
            count += 1
        return count

    assert limits.try_acquire({"tokens": 1}).successful
    clock.advance(59.9)
    first = grants()
    clock.advance(0.2)
    assert first + grants() == around_an_end
    clock.advance(30)
    left = grants()
    assert left == (then if algorithm is not RateLimitAlgorithm.FixedWindow else 0)
    clock.advance(30)
    assert grants() == (60 if "window" in algorithm.value else 30)
