"""A LimitSet: what a request takes, what a report does, how it ends. On a clock that stands still."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from concurry.limits import Acquisition, CallLimit, LimitSet, RateLimit, ResourceLimit
from concurry.runtime.enums import ExecutionMode, RateLimitAlgorithm

Make = Callable[..., LimitSet]
Used = Callable[[LimitSet], dict[str, float]]
Said = Callable[[], list[str]]


# -- the set ------------------------------------------------------------------------------------------------------


def test_what_a_set_is_made_of(make_set: Make) -> None:
    limits = make_set(tokens=5, slots=1, mode="thread", config={"account": 1})
    assert [limit.key for limit in limits.limits] == list(limits) == ["tokens", "slots"]
    assert (limits.shared, limits.mode, len(limits)) == (True, ExecutionMode.Threads, 2)
    assert "tokens" in limits
    assert limits.config == {"account": 1}
    limits.config["account"] = 2
    assert limits.config == {"account": 1}
    assert LimitSet([]).shared is False
    with pytest.raises(KeyError, match="no key of this LimitSet"):
        limits["x"]
    with pytest.raises(ValueError, match="Duplicate limit key"):
        LimitSet([ResourceLimit("a", 1), ResourceLimit("a", 2)])
    with pytest.raises(TypeError, match="made of limits"):
        LimitSet([5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="Could not find enum with value"):
        LimitSet([], mode="x")
    with pytest.raises(AttributeError, match="cannot be changed"):
        limits.shared = False


def test_a_set_is_not_copied(make_set: Make) -> None:
    for copying in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copying(make_set(tokens=5))


# -- requests -----------------------------------------------------------------------------------------------------


def test_what_is_taken_without_being_named(make_set: Make, used: Used) -> None:
    limits = make_set(tokens=10, calls=5, slots=2)
    _ = limits.acquire({"tokens": 4})
    assert used(limits) == {"tokens": 4, "call_count": 1, "slots": 1}
    _ = limits.acquire({"call_count": 2})  # something is named, so the tokens need not be
    assert used(limits) == {"tokens": 4, "call_count": 3, "slots": 2}
    assert make_set(calls=5, slots=2).acquire().acquisitions.keys() == {"call_count", "slots"}


@pytest.mark.parametrize("requested", [None, {}, {"unknown": 3}])
def test_a_rate_limit_must_be_named_where_nothing_is(make_set: Make, requested: dict[str, float] | None) -> None:
    with pytest.raises(ValueError, match=r"Must specify requested amount for RateLimit.*tokens"):
        _ = make_set(tokens=10, slots=1).acquire(requested)


@pytest.mark.parametrize("method", ["acquire", "try_acquire"])
@pytest.mark.parametrize("amount", [0, -1, float("nan"), float("inf"), True, "x", None, np.float64("nan"), np.bool_(1)])
def test_an_amount_is_a_finite_number_above_zero(make_set: Make, used: Used, method: str, amount: Any) -> None:
    for limits in (make_set(tokens=10, slots=1), make_set(tokens=float("inf"), slots=1)):
        with pytest.raises(ValueError, match="tokens"):
            getattr(limits, method)({"tokens": amount})
        assert used(limits) == {"tokens": 0, "slots": 0}


@pytest.mark.parametrize("amount", [2, 2.5, np.float32(2.5), np.int64(3), np.float64(2.5)])
def test_amounts_of_all_kinds(make_set: Make, used: Used, amount: Any) -> None:
    limits = make_set(tokens=10)
    with limits.acquire({"tokens": amount}) as acq:
        acq.update({"tokens": amount / 2})
    assert used(limits)["tokens"] == amount / 2


@pytest.mark.parametrize("method", ["acquire", "try_acquire"])
def test_more_than_the_capacity_is_refused_at_once(make_set: Make, method: str) -> None:
    with pytest.raises(ValueError, match=r"'tokens' exceeds capacity 10.* can never be fulfilled"):
        getattr(make_set(tokens=10, slots=1), method)({"tokens": 10.001})


def test_an_unknown_key_is_said_once_and_ignored(make_set: Make, used: Used, warnings_of: Said) -> None:
    limits = make_set(tokens=10)
    for _ in range(3):
        acq = limits.acquire({"tokens": 1, "toknes": 5})
        assert list(acq.acquisitions) == ["tokens"]
    (said,) = warnings_of()
    assert "Unknown limit key 'toknes'" in said
    assert "Available limit keys: ['tokens']" in said
    _ = make_set(tokens=10).acquire({"tokens": 1, "toknes": 5})
    assert len(warnings_of()) == 1  # once a set


def test_all_or_nothing(make_set: Make, used: Used) -> None:
    limits = make_set(tokens=10, calls=5, slots=1)
    _ = limits.acquire({"tokens": 1})
    before = used(limits)
    failed = limits.try_acquire({"tokens": 1})
    assert not failed.successful
    assert used(limits) == before
    with pytest.raises(TimeoutError, match=r"not free within 0 s.*tokens.*1 of 10"):
        _ = limits.acquire({"tokens": 1}, timeout=0)
    with pytest.raises(TimeoutError):
        _ = limits.acquire({"tokens": 1}, timeout=-1)
    assert used(limits) == before


@pytest.mark.parametrize("wrong", [5, "tokens", ["tokens"], [("tokens", 5)]])
def test_amounts_come_by_key(make_set: Make, used: Used, wrong: Any) -> None:
    limits = make_set(tokens=10, slots=1)
    for method in (limits.acquire, limits.try_acquire):
        with pytest.raises(TypeError, match="amounts by key"):
            method(wrong)
    with limits.acquire({"slots": 1}) as acq, pytest.raises(TypeError, match="amounts by key"):
        acq.update(wrong)
    assert used(limits) == {"tokens": 0, "slots": 0}


@pytest.mark.parametrize("algorithm", list(RateLimitAlgorithm))
def test_a_usage_beyond_all_measure(make_set: Make, warnings_of: Said, algorithm: RateLimitAlgorithm) -> None:
    limits = make_set(tokens=0.001, slots=1, algorithm=algorithm)
    with limits.acquire({"tokens": 0.001}) as acq:
        acq.update({"tokens": 1.7e308})
    assert len(warnings_of()) == 1
    with pytest.raises(TimeoutError):
        limits.acquire({"tokens": 0.001}, timeout=0)
    assert limits.acquire({"slots": 1}).successful


@pytest.mark.parametrize("timeout", ["x", float("nan"), True, []])
def test_a_timeout_is_a_number(make_set: Make, timeout: Any) -> None:
    limits = make_set(slots=1)
    with pytest.raises(ValueError, match="timeout"):
        limits.acquire(timeout=timeout)
    _ = limits.acquire()
    with pytest.raises(ValueError, match="timeout"):
        _ = limits.acquire(timeout=timeout)


# -- reports ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", list(RateLimitAlgorithm))
def test_what_is_not_used_comes_free_where_the_algorithm_refunds(
    make_set: Make, used: Used, algorithm: RateLimitAlgorithm
) -> None:
    limits = make_set(tokens=100, slots=1, algorithm=algorithm)
    with limits.acquire({"tokens": 80}) as acq:
        assert used(limits) == {"tokens": 80, "slots": 1}
        acq.update(usage={"tokens": 30})
    left = 80 if algorithm is RateLimitAlgorithm.LeakyBucket else 30
    assert used(limits) == {"tokens": left, "slots": 0}
    acq.release()
    assert used(limits) == {"tokens": left, "slots": 0}  # once


@pytest.mark.parametrize("algorithm", list(RateLimitAlgorithm))
def test_what_is_used_beyond_is_charged(
    make_set: Make, used: Used, warnings_of: Said, algorithm: RateLimitAlgorithm
) -> None:
    limits = make_set(tokens=100, algorithm=algorithm)
    for _ in range(2):
        with limits.acquire({"tokens": 10}) as acq:
            acq.update(usage={"tokens": 50})
        (said,) = warnings_of()  # each time
        assert "exceeds requested amount" in said
        assert "'tokens'" in said
    assert used(limits) == {"tokens": 100}
    assert not limits.try_acquire({"tokens": 1}).successful


def test_a_report_that_cannot_be(make_set: Make, used: Used) -> None:
    limits = make_set(tokens=100, calls=9)
    acq = limits.acquire({"tokens": 10})
    for wrong in (-1, float("nan"), float("inf"), True, "x", None):
        with pytest.raises(ValueError, match="tokens"):
            acq.update({"tokens": wrong})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="implicit acquisition"):
        acq.update({"call_count": 0})
    acq.update({"call_count": 1})
    acq.update({"tokens": 0})
    assert acq.acquisitions["tokens"].requested == 10
    assert acq.acquisitions["tokens"].used == 0
    assert acq.acquisitions["call_count"].used == 1
    acq.update({"tokens": 4})
    acq.update({"tokens": 7})  # the last one counts
    acq.release()
    assert used(limits) == {"tokens": 7, "call_count": 1}


def test_a_report_of_what_was_not_acquired(make_set: Make, warnings_of: Said) -> None:
    limits = make_set(tokens=10, calls=9)
    for _ in range(2):
        with limits.acquire({"call_count": 1}) as acq:
            acq.update({"tokens": 5})
    (said,) = warnings_of()
    assert "Cannot update limit 'tokens'" in said
    assert "not acquired" in said
    assert "Available keys: ['call_count']" in said


def test_reporting_too_late(make_set: Make) -> None:
    with make_set(tokens=10).acquire({"tokens": 5}) as acq:
        acq.update({"tokens": 5})
    with pytest.raises(RuntimeError, match="Cannot update an already released"):
        acq.update({"tokens": 5})
    with pytest.raises(RuntimeError, match="already released"), acq:
        pass


def test_a_rate_limit_must_be_reported(make_set: Make, used: Used) -> None:
    limits = make_set(tokens=10, calls=9, slots=1)
    missing = r"Not all limits in the LimitSet were updated: \['tokens', 'call_count'\]"
    with pytest.raises(RuntimeError, match=missing), limits.acquire({"tokens": 5, "call_count": 2}):
        pass
    assert used(limits) == {"tokens": 5, "call_count": 2, "slots": 0}
    with limits.acquire({"call_count": 1}):
        pass  # a call taken with 1 and a resource have nothing to report
    with limits.acquire({"tokens": 1}) as acq:
        acq.release()  # by hand: the report is over, and so is the question


def test_leaving_never_hides_what_the_block_raised(make_set: Make, used: Used) -> None:
    """F30."""
    limits = make_set(tokens=100, slots=1)

    class Ours(BaseException):
        pass

    for error in (ValueError("bad answer"), KeyError("x"), Ours()):
        with pytest.raises(type(error)) as caught, limits.acquire({"tokens": 10}):
            raise error
        assert caught.value is error
        assert caught.value.__context__ is None
        assert used(limits)["slots"] == 0
    assert used(limits)["tokens"] == 30  # what was not reported counts as used


def test_a_failed_try_may_be_used_in_with(make_set: Make) -> None:
    limits = make_set(slots=1, config={"account": 7})
    with limits.try_acquire() as first:
        assert first.successful
        with limits.try_acquire() as second:
            assert not second.successful
            assert second.acquisitions == {}
            assert second.config == {"account": 7}
            second.release()
            with pytest.raises(RuntimeError, match="not granted"):
                second.update({"slots": 1})
    assert limits.try_acquire().successful


def test_an_acquisition_has_a_copy_of_the_config(make_set: Make) -> None:
    limits = make_set(slots=1, config={"account": 7})
    acq = limits.acquire()
    acq.config["account"] = 8
    assert acq.config == limits.config == {"account": 7}
    assert "slots" in repr(acq)


# -- without limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, [], ()])
def test_a_set_without_limits_grants_everything(given: Any, warnings_of: Said) -> None:
    limits = LimitSet(given, config={"account": 7})
    assert limits
    for _ in range(2):
        with limits.acquire() as acq:
            assert acq.successful
            assert acq.acquisitions == {}
            acq.update(usage={})
        with limits.acquire({"tokens": 5}, timeout=0) as acq:
            acq.update({"tokens": 5})
            acq.release()
            assert acq.config == {"account": 7}
    assert isinstance(limits.try_acquire({"tokens": 5}), Acquisition)
    assert limits.try_acquire().successful
    assert limits.get_stats() == {}
    assert list(warnings_of()) == []  # a class that was written for limits also runs without


def test_an_infinite_capacity(used: Used) -> None:
    limits = LimitSet([RateLimit("tokens", capacity=float("inf"), window=1), CallLimit(capacity=2, window=1)])
    with limits.acquire({"tokens": 1e300}) as acq:
        acq.update({"tokens": 1e308})
    assert limits.get_stats()["tokens"]["available"] == float("inf")
    assert limits["tokens"].get_stats()["utilization"] == 0
