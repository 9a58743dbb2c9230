"""Retries: `RetryConfig`, the options by method, validators, and what is raised."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from concurry import RetryAlgorithm, RetryConfig, RetryValidationError, Worker, calculate_retry_wait
from tests.with_ray import WITH_RAY

MODES = ["sync", "thread", "asyncio", "process", *(["ray"] if WITH_RAY else [])]
QUICK: dict[str, Any] = {"retry_wait": 0, "retry_jitter": 0}


class Counting(Worker):
    def __init__(self) -> None:
        self.calls = 0

    def fail(self, error: Exception, times: int = 1_000) -> int:
        self.calls += 1
        if self.calls <= times:
            raise error
        return self.calls

    def other(self, error: Exception) -> int:
        self.calls += 1
        raise error

    def grow(self) -> int:
        self.calls += 1
        return self.calls

    def count(self) -> int:
        return self.calls


def test_the_defaults_of_a_config() -> None:
    config = RetryConfig()
    assert (config.num_retries, config.retry_on, config.retry_algorithm) == (0, [Exception], RetryAlgorithm.Exponential)
    assert (config.retry_wait, config.retry_jitter, config.retry_until) == (1.0, 0.3, None)


def good(result: Any, **context: Any) -> bool:
    return True


def test_rules_and_validators_are_kept_as_lists() -> None:
    config = RetryConfig(num_retries=1, retry_on=ValueError, retry_until=good)
    assert (config.retry_on, config.retry_until) == ([ValueError], [good])
    config = RetryConfig(num_retries=1, retry_on=(ValueError, KeyError), retry_until=(good, good))
    assert (config.retry_on, config.retry_until) == ([ValueError, KeyError], [good, good])


@pytest.mark.parametrize("rule", [int, "ValueError", 5, ValueError("one of them")])
def test_rules_are_types_of_exceptions_or_callables(rule: Any) -> None:
    with pytest.raises(ValueError, match="must be subclasses of BaseException"):
        RetryConfig(num_retries=1, retry_on=[rule])


def test_any_base_exception_is_a_rule() -> None:
    assert RetryConfig(retry_on=[KeyboardInterrupt, lambda exception, **_: True]).retry_on[0] is KeyboardInterrupt


@pytest.mark.parametrize(
    "wrong",
    [{"num_retries": -1}, {"num_retries": "many"}, {"retry_wait": -1}, {"retry_jitter": -1}, {"retry_algorithm": "x"}],
)
def test_a_value_that_cannot_be(wrong: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryConfig(**wrong)


@pytest.mark.parametrize(
    ("algorithm", "waits"),
    [
        ("exponential", [2, 4, 8, 16, 32]),
        ("linear", [2, 4, 6, 8, 10]),
        ("fibonacci", [2, 2, 4, 6, 10]),
        ("fixed", [2, 2, 2, 2, 2]),
    ],
)
def test_how_the_wait_grows(algorithm: str, waits: list[int]) -> None:
    config = RetryConfig(retry_algorithm=algorithm, retry_wait=2, retry_jitter=0)
    assert [calculate_retry_wait(attempt, config) for attempt in range(1, 6)] == waits
    assert calculate_retry_wait(attempt=1, config=config) == 2


def test_jitter_is_full() -> None:
    config = RetryConfig(retry_wait=8, retry_jitter=0.3)
    drawn = [calculate_retry_wait(2, config) for _ in range(200)]
    assert all(0 <= it <= 16 for it in drawn)
    assert min(drawn) < 8 < max(drawn)


def test_a_dict_needs_a_star() -> None:
    with pytest.raises(ValueError, match=r"must include '\*' key for default value"):
        Counting.options(mode="sync", num_retries={"fail": 1}).init()


@pytest.mark.parametrize(
    "option",
    [{"num_retries": {"*": 0, "fial": 1}}, {"num_retries": 1, "retry_on": {"*": [Exception], "fial": [ValueError]}}],
)
def test_a_dict_names_methods_that_exist(option: Any) -> None:
    with pytest.raises(ValueError, match=r"'fial'.*did you mean 'fail'"):
        Counting.options(mode="sync", **option).init()


@pytest.mark.parametrize("mode", MODES)
def test_attempts_after_the_first(mode: str) -> None:
    with Counting.options(mode=mode, num_retries=3, **QUICK).init() as it:
        assert it.fail(ValueError("no"), 3).result() == 4


@pytest.mark.parametrize("mode", MODES)
def test_out_of_retries_the_last_exception_is_raised(mode: str) -> None:
    with Counting.options(mode=mode, num_retries=2, **QUICK).init() as it:
        with pytest.raises(ValueError, match="no"):
            it.fail(ValueError("no")).result()
        assert it.count().result() == 3


@pytest.mark.parametrize("mode", MODES)
def test_by_method_name(mode: str) -> None:
    options: Any = {
        "num_retries": {"*": 0, "fail": 2},
        "retry_on": {"*": [Exception], "fail": [ValueError]},
        "retry_algorithm": {"*": "fixed", "fail": RetryAlgorithm.Linear},
        "retry_wait": {"*": 0, "fail": 0},
        "retry_jitter": {"*": 0.3, "fail": 0},
        "retry_until": {"*": None, "fail": good},
    }
    with Counting.options(mode=mode, **options).init() as it:
        for call in (it.fail(ValueError("no")), it.other(ValueError("no")), it.fail(KeyError("no"))):
            assert isinstance(call.exception(), (ValueError, KeyError))
        assert it.count().result() == 3 + 1 + 1


@pytest.mark.parametrize(
    "rule",
    [
        lambda exception: isinstance(exception, ValueError),
        lambda exception, **ctx: isinstance(exception, ValueError),
        lambda exception, attempt, elapsed_time, **ctx: attempt < 99 and elapsed_time >= 0,
        lambda exception, method_name, worker_class_name, **ctx: (
            (method_name, worker_class_name) == ("fail", "Counting")
        ),
        lambda exception, args, kwargs, **ctx: isinstance(args[0], ValueError) and kwargs == {"times": 2},
        lambda e: True,
    ],
)
@pytest.mark.parametrize("mode", ["sync", "thread"])
def test_predicates_are_called_with_what_they_take(mode: str, rule: Callable[..., bool]) -> None:
    with Counting.options(mode=mode, num_retries=2, retry_on=rule, **QUICK).init() as it:
        assert it.fail(ValueError("no"), times=2).result() == 3


@pytest.mark.parametrize(
    "validator",
    [
        lambda r: r == 3,
        lambda result: result == 3,
        lambda result, **ctx: result == 3 and ctx["attempt"] == 3,
        lambda result, attempt, elapsed_time, **ctx: result == attempt == 3 and elapsed_time >= 0,
        [lambda r: r > 1, lambda r: r > 2],
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_validators_are_called_with_what_they_take(mode: str, validator: Any) -> None:
    with Counting.options(mode=mode, num_retries=5, retry_until=validator, **QUICK).init() as it:
        assert it.grow().result() == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_retries", [0, 2])
def test_out_of_retries_without_a_good_result(mode: str, num_retries: int) -> None:
    """`retry_until` runs also with no retries."""
    until = lambda result, **_: result > 10  # noqa: E731
    with Counting.options(mode=mode, num_retries=num_retries, retry_until=until, **QUICK).init() as it:
        error = it.grow().exception()
    assert isinstance(error, RetryValidationError)
    assert error.attempts == num_retries + 1
    assert error.all_results == list(range(1, num_retries + 2))
    assert len(error.validation_errors) == num_retries + 1
    assert error.method_name == "grow"


@pytest.mark.parametrize("mode", MODES)
def test_one_object_for_all_of_it(mode: str) -> None:
    config = RetryConfig(num_retries=3, retry_on=[ValueError], **QUICK)
    with Counting.options(mode=mode, retry_config=config).init() as it:
        assert it.fail(ValueError("no"), 3).result() == 4


class InItself(Worker):
    def __init__(self) -> None:
        self.calls = 0

    def flaky(self) -> int:
        self.calls += 1
        if self.calls < 3:
            raise ValueError(self.calls)
        return self.calls

    def outer(self) -> int:
        return self.flaky()


@pytest.mark.parametrize("mode", MODES)
def test_a_named_method_is_retried_wherever_it_is_called_from(mode: str) -> None:
    with InItself.options(mode=mode, num_retries={"*": 0, "flaky": 5}, **QUICK).init() as it:
        assert it.outer().result() == 3


@pytest.mark.parametrize("mode", MODES)
def test_a_policy_for_all_holds_for_calls_from_outside(mode: str) -> None:
    with InItself.options(mode=mode, num_retries=1, **QUICK).init() as it:
        assert isinstance(it.outer().exception(), ValueError)


def test_an_exception_may_carry_its_wait(caplog: pytest.LogCaptureFixture) -> None:
    class Busy(Exception):
        retry_after = 0.001

    caplog.set_level(logging.DEBUG, "concurry")
    with Counting.options(mode="thread", num_retries=1, **QUICK).init() as it:
        assert it.fail(Busy(), 1).result() == 2
