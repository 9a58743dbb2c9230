"""Retries, limits and call_timeout as a worker has them, in every mode."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from concurry import (
    CallLimit,
    LimitPool,
    LimitSet,
    RateLimit,
    ResourceLimit,
    RetryConfig,
    RetryValidationError,
    Worker,
    gather,
)

Start = Callable[..., Any]
AT_ONCE = {"retry_wait": 0, "retry_jitter": 0}


class Flaky(Worker):
    """Fails until it was called `good` times. What was done is written into a list of the test's."""

    def __init__(self, log: list[Any], good: int = 3) -> None:
        self.log = log
        self.good = good

    def _count(self, name: str) -> int:
        self.log.append(name)
        if len(self.log) < self.good:
            raise ConnectionError(f"attempt {len(self.log)}")
        return len(self.log)

    def call(self) -> int:
        return self._count("call")

    async def call_later(self) -> int:
        await asyncio.sleep(0)
        return self._count("call_later")

    @staticmethod
    def static_call(log: list[Any]) -> int:
        log.append("static")
        if len(log) < 3:
            raise ConnectionError
        return len(log)

    @classmethod
    def class_call(cls, log: list[Any]) -> int:
        return cls.static_call(log)

    def outer(self) -> int:
        return self.call()

    async def outer_later(self) -> int:
        return await self.call_later()

    def short(self) -> str:
        self.log.append("short")
        return "x" * len(self.log)

    def wrong(self) -> None:
        self.log.append("wrong")
        raise ValueError("wrong")


@pytest.mark.parametrize("method", ["call", "call_later"])
def test_a_call_is_tried_again(start: Start, method: str, new_log: Any) -> None:
    log = new_log()
    worker = start(Flaky, log, options={"num_retries": 2, **AT_ONCE})
    assert getattr(worker, method)().result() == 3
    assert log == [method] * 3
    assert worker.stats()["done"] == 1


@pytest.mark.parametrize("method", ["call", "call_later"])
def test_out_of_retries_it_is_the_last_exception(start: Start, method: str) -> None:
    worker = start(Flaky, [], 9, options={"num_retries": 2, **AT_ONCE})
    with pytest.raises(ConnectionError, match="attempt 3") as caught:
        getattr(worker, method)().result()
    notes = "\n".join(caught.value.__notes__)
    assert f"Flaky.{method}() failed in attempt 3 of 3" in notes
    assert "attempt 1: ConnectionError: attempt 1" in notes


def test_by_method(start: Start, new_log: Any) -> None:
    log = new_log()
    worker = start(Flaky, log, options={"num_retries": {"*": 0, "call": 5}, **AT_ONCE})
    with pytest.raises(ValueError, match="wrong"):
        worker.wrong().result()
    assert log == ["wrong"]
    assert worker.call().result() == 3


def test_retry_on(start: Start, new_log: Any) -> None:
    log = new_log()
    worker = start(Flaky, log, options={"num_retries": 5, "retry_on": [ConnectionError], **AT_ONCE})
    with pytest.raises(ValueError, match="wrong"):
        worker.wrong().result()
    assert log == ["wrong"]
    predicate = {"num_retries": 5, "retry_on": lambda exception, attempt, **ctx: attempt < 2, **AT_ONCE}
    worker = start(Flaky, log, 99, options=predicate)
    with pytest.raises(ConnectionError, match="attempt 3"):
        worker.call().result()


@pytest.mark.parametrize(("outer", "inner"), [("outer", "call"), ("outer_later", "call_later")])
def test_a_named_method_is_tried_again_from_inside_too(start: Start, outer: str, inner: str, new_log: Any) -> None:
    log = new_log()
    worker = start(Flaky, log, options={"num_retries": {"*": 0, inner: 2}, **AT_ONCE})
    assert getattr(worker, outer)().result() == 3
    assert log == [inner] * 3


def test_a_policy_for_all_holds_from_outside_only(start: Start, new_log: Any) -> None:
    log = new_log()
    worker = start(Flaky, log, options={"num_retries": 2, **AT_ONCE})
    assert worker.outer().result() == 3
    log.clear()
    worker = start(Flaky, log, options={"num_retries": {"*": 2, "short": 0}, **AT_ONCE})
    assert worker.outer().result() == 3
    assert log == ["call"] * 3


@pytest.mark.parametrize("method", ["static_call", "class_call"])
@pytest.mark.parametrize("named", [False, True])
def test_static_and_class_methods_are_tried_again(start: Start, method: str, named: bool, new_log: Any) -> None:
    log = new_log()
    retries: Any = {"*": 0, method: 2} if named else 2
    worker = start(Flaky, [], options={"num_retries": retries, **AT_ONCE})
    assert getattr(worker, method)(log).result() == 3


@pytest.mark.parametrize("retries", [2, {"*": 0, "own": 2}])
def test_a_method_that_init_puts_on_the_instance_is_the_one_that_runs(start: Start, retries: Any) -> None:
    class Puts(Worker):
        def __init__(self, log: list[Any]) -> None:
            self.log = log
            vars(self)["own"] = self._mine

        def own(self) -> str:
            return "the class's"

        def _mine(self) -> str:
            self.log.append(1)
            if len(self.log) < 3:
                raise ConnectionError
            return "the instance's"

        def inside(self) -> str:
            return self.own()

    assert start(Puts, [], options={"num_retries": retries, **AT_ONCE}).own().result() == "the instance's"
    assert start(Puts, [], options={"num_retries": retries, **AT_ONCE}).inside().result() == "the instance's"


def test_retry_until(start: Start) -> None:
    worker = start(Flaky, [], options={"num_retries": 5, "retry_until": lambda r: len(r) > 2, **AT_ONCE})
    assert worker.short().result() == "xxx"
    worker = start(Flaky, [], options={"num_retries": 1, "retry_until": lambda r: len(r) > 2, **AT_ONCE})
    with pytest.raises(RetryValidationError) as caught:
        worker.short().result()
    error = caught.value
    assert (error.attempts, error.all_results, error.method_name) == (2, ["x", "xx"], "short")
    assert len(error.validation_errors) == 2


def test_a_validator_that_raises_refuses_the_result(start: Start) -> None:
    worker = start(Flaky, [], options={"retry_until": lambda r: r.missing, **AT_ONCE})
    with pytest.raises(RetryValidationError, match="missing") as caught:
        worker.short().result()
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_retry_config(start: Start) -> None:
    config = RetryConfig(num_retries=2, retry_wait=0, retry_jitter=0)
    assert start(Flaky, [], options={"retry_config": config}).call().result() == 3


class Limited(Worker):
    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.free = threading.Lock()

    def spend(self, amount: int) -> int:
        with self.limits.acquire(requested={"tokens": amount}) as acquired:
            acquired.update(usage={"tokens": amount})
        return amount

    async def spend_later(self, amount: int) -> int:
        async with self.limits.acquire(requested={"tokens": amount}) as acquired:
            acquired.update(usage={"tokens": amount})
        return amount

    def use(self) -> float:
        with self.limits.acquire(requested={"slots": 1}):
            return float(self.limits[0]["slots"].get_stats()["current_usage"])

    def forget(self) -> None:
        """Keeps what it acquired, and fails."""
        self.limits.acquire(requested={"slots": 1})
        self.log.append("forgot")
        raise ConnectionError

    async def forget_later(self) -> None:
        await self.limits.async_acquire(requested={"slots": 1})
        self.log.append("forgot")
        raise ConnectionError

    def too_much(self) -> None:
        self.limits.acquire(requested={"slots": 5})

    def not_reported(self) -> None:
        with self.limits.acquire(requested={"tokens": 1}):
            pass

    def breaks(self) -> None:
        with self.limits.acquire(requested={"tokens": 1}):
            raise KeyError("mine")

    def free_limits(self) -> bool:
        with self.limits.acquire() as acquired:
            return bool(acquired.successful)

    def kind(self) -> str:
        return type(self.limits).__name__


def limits() -> list[Any]:
    return [RateLimit(key="tokens", window_seconds=60, capacity=1000), ResourceLimit(key="slots", capacity=2)]


def test_limits_in_methods(start: Start) -> None:
    worker = start(Limited, [], options={"limits": limits()})
    assert gather([worker.spend(i) for i in range(1, 10)]) == list(range(1, 10))
    assert gather([worker.spend_later(i) for i in range(1, 10)]) == list(range(1, 10))
    assert all(1 <= used <= 2 for used in gather([worker.use() for _ in range(20)]))
    assert worker.kind().result() == "LimitPool"


@pytest.mark.parametrize(
    "given",
    [
        lambda: ResourceLimit(key="slots", capacity=2),
        lambda: LimitSet(limits=limits(), shared=True),
        lambda: [LimitSet(limits=limits(), shared=True), LimitSet(limits=limits(), shared=True)],
        lambda: LimitPool([LimitSet(limits=limits(), shared=True)]),
        lambda: (limit for limit in limits()),
    ],
)
def test_every_form_of_limits(start: Start, given: Callable[[], Any]) -> None:
    worker = start(Limited, [], options={"limits": given()})
    assert worker.use().result() >= 1
    assert worker.kind().result() == "LimitPool"


def test_without_limits_everything_is_granted(start: Start) -> None:
    worker = start(Limited, [])
    assert worker.free_limits().result() is True
    assert worker.kind().result() == "LimitPool"


def test_errors_of_limits_are_the_calls(start: Start) -> None:
    worker = start(Limited, [], options={"limits": limits()})
    with pytest.raises(ValueError, match=r"exceeds capacity.*can never be fulfilled"):
        worker.too_much().result()
    with pytest.raises(RuntimeError, match="Not all limits in the LimitSet were updated"):
        worker.not_reported().result()
    with pytest.raises(KeyError, match="mine"):
        worker.breaks().result()


@pytest.mark.parametrize("method", ["forget", "forget_later"])
def test_a_failed_attempt_gives_its_limits_back_before_the_next(start: Start, method: str, new_log: Any) -> None:
    log = new_log()
    one = [ResourceLimit(key="slots", capacity=1)]
    worker = start(Limited, log, options={"limits": one, "num_retries": 4, **AT_ONCE})
    with pytest.raises(ConnectionError):
        getattr(worker, method)().result(timeout=20)
    assert log == ["forgot"] * 5
    assert worker.use().result(timeout=10) == 1


@pytest.mark.parametrize("method", ["forget", "forget_later"])
def test_a_call_that_ends_gives_its_limits_back(start: Start, method: str) -> None:
    worker = start(Limited, [], options={"limits": [ResourceLimit(key="slots", capacity=1)]})
    for _ in range(3):
        with pytest.raises(ConnectionError):
            getattr(worker, method)().result(timeout=20)
    assert worker.use().result(timeout=10) == 1


def test_a_call_limit_counts_calls(start: Start) -> None:
    class Calls(Worker):
        def ask(self) -> bool:
            taken = self.limits.try_acquire()
            with taken:
                return bool(taken.successful)

    worker = start(Calls, options={"limits": [CallLimit(window_seconds=600, capacity=3)]})
    assert sorted(gather([worker.ask() for _ in range(5)])) == [False, False, True, True, True]


class Slow(Worker):
    def hold(self, began: Any, go: Any) -> str:
        began.set()
        go.wait()
        return "held"

    async def hold_later(self, ended: Any) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    def quick(self) -> int:
        return 1

    async def quick_later(self) -> int:
        return 1

    def where(self) -> int:
        return os.getpid()

    def returns_hold(self, ended: Any) -> Any:
        return self.hold_later(ended)


def test_a_call_past_its_time_fails(start: Start, way: Any, new_signal: Any) -> None:
    worker, began, go = start(Slow, options={"call_timeout": 0.05}), new_signal(), new_signal()
    future = worker.hold(began, go)
    why = "thread cannot be" if way.same_objects else "process"
    with pytest.raises(TimeoutError, match=rf"hold\(\) was not done within its call_timeout of 0.05 s.*{why}"):
        future.result(timeout=20)
    go.set()
    assert worker.quick().result() == 1


@pytest.mark.parametrize("method", ["hold_later", "returns_hold"])
def test_an_async_call_past_its_time_is_ended(start: Start, way: Any, new_signal: Any, method: str) -> None:
    """It is cancelled; where it has a process for itself, that is ended, and the next call finds another one."""
    alone = not way.same_objects and way.async_at_once == 1
    worker, ended = start(Slow, options={"call_timeout": {method: 0.05}}), new_signal()
    before = worker.where().result()
    with pytest.raises(TimeoutError, match=r"not done within its call_timeout of 0\.05 s"):
        getattr(worker, method)(ended).result(timeout=20)
    if not alone:
        ended.wait()
    assert worker.quick_later().result() == 1
    assert (worker.where().result() != before) is alone


def test_by_method_it_holds_for_these_only(start: Start, new_signal: Any) -> None:
    worker, ended = start(Slow, options={"call_timeout": {"hold_later": 0.05}}), new_signal()
    with pytest.raises(TimeoutError):
        worker.hold_later(ended).result(timeout=20)
    assert worker.quick().result() == 1
    began, go = new_signal(), new_signal()
    future = worker.hold(began, go)
    began.wait()
    go.set()
    assert future.result() == "held"


def test_calls_that_wait_behind_stuck_ones_are_given_up(start: Start, way: Any, new_signal: Any) -> None:
    """They would never start, but where what is stuck can be ended, with its process."""
    worker, go = start(Slow, options={"call_timeout": 0.05}), new_signal()
    held = []
    for _ in range(way.sync_at_once):
        began = new_signal()
        held.append(worker.hold(began, go))
        began.wait()
    waiting = worker.quick()
    if way.same_objects:
        with pytest.raises(TimeoutError, match=r"never started|not done"):
            waiting.result(timeout=20)
    else:
        assert waiting.result(timeout=20) == 1
    for future in held:
        with pytest.raises(TimeoutError):
            future.result(timeout=20)
    go.set()
    assert worker.quick().result(timeout=20) == 1


def test_a_call_in_time_is_left_alone(start: Start) -> None:
    worker = start(Slow, options={"call_timeout": 60})
    assert gather([worker.quick() for _ in range(20)] + [worker.quick_later() for _ in range(20)]) == [1] * 40


def test_call_timeout_holds_over_all_attempts(start: Start, way: Any) -> None:
    worker = start(Flaky, [], 10**9, options={"call_timeout": 0.05, "num_retries": 10**6, "retry_wait": 100})
    with pytest.raises(TimeoutError, match="call_timeout"):
        worker.call().result(timeout=20)


def test_stop_leaves_a_wait_between_attempts(start: Start, new_log: Any) -> None:
    log = new_log()
    worker = start(Flaky, log, 99, options={"num_retries": 5, "retry_wait": 3600, "retry_jitter": 0})
    futures = [worker.call(), worker.call_later()]
    worker.stop(timeout=0)
    assert all(future.done() for future in futures)
