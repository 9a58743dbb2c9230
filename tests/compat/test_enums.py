"""The enums: members, aliases, and how they are called."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import concurry
from concurry import (
    ExecutionMode,
    LoadBalancingAlgorithm,
    PollingAlgorithm,
    RateLimitAlgorithm,
    RateWindow,
    RetryAlgorithm,
    ReturnWhen,
)

ENUMS: list[Any] = [
    *(ExecutionMode, LoadBalancingAlgorithm, RateLimitAlgorithm, RetryAlgorithm, PollingAlgorithm),
    *(ReturnWhen, RateWindow),
]
MEMBERS = {
    ExecutionMode: "Auto Sync Asyncio Threads Processes Ray",
    LoadBalancingAlgorithm: "RoundRobin LeastActiveLoad LeastTotalLoad Random",
    RateLimitAlgorithm: "TokenBucket LeakyBucket SlidingWindow FixedWindow GCRA",
    RetryAlgorithm: "Linear Exponential Fibonacci Fixed",
    PollingAlgorithm: "Fixed Adaptive Exponential Progressive",
    ReturnWhen: "ALL_COMPLETED FIRST_COMPLETED FIRST_EXCEPTION",
    RateWindow: "Secondly Minutely Hourly Daily Weekly",
}
ALIASES: list[tuple[Any, str]] = [
    (ExecutionMode.Sync, "sync synchronous"),
    (ExecutionMode.Asyncio, "async asyncio asynchronous"),
    (ExecutionMode.Threads, "thread threads"),
    (ExecutionMode.Processes, "process processes proc procs"),
    (ExecutionMode.Ray, "ray"),
    (ExecutionMode.Auto, "auto"),
    (LoadBalancingAlgorithm.RoundRobin, "rr round_robin"),
    (LoadBalancingAlgorithm.LeastActiveLoad, "active least_active"),
    (LoadBalancingAlgorithm.LeastTotalLoad, "total least_total"),
    (LoadBalancingAlgorithm.Random, "rand random"),
    (RateLimitAlgorithm.TokenBucket, "token token_bucket"),
    (RateLimitAlgorithm.LeakyBucket, "leaky leaky_bucket"),
    (RateLimitAlgorithm.SlidingWindow, "sliding sliding_window"),
    (RateLimitAlgorithm.FixedWindow, "fixed fixed_window"),
    (RateLimitAlgorithm.GCRA, "gcra"),
    (ReturnWhen.ALL_COMPLETED, "all"),
    (ReturnWhen.FIRST_COMPLETED, "first"),
    (ReturnWhen.FIRST_EXCEPTION, "exception"),
    (RateWindow.Secondly, "second seconds sec secs"),
    (RateWindow.Minutely, "minute minutes min mins"),
    (RateWindow.Hourly, "hour hours hr hrs"),
    (RateWindow.Daily, "day days"),
    (RateWindow.Weekly, "week weeks wk wks"),
]


@pytest.mark.parametrize("enum", ENUMS)
def test_the_members(enum: Any) -> None:
    assert set(MEMBERS[enum].split()) <= {it.name for it in enum}
    assert all(getattr(enum, name).name == name for name in MEMBERS[enum].split())


@pytest.mark.parametrize("enum", ENUMS)
def test_each_member_is_a_str(enum: Any) -> None:
    members: list[Any] = list(enum)
    assert all(isinstance(it, str) for it in members)
    assert all(it == it.value and {it: 1}[it.value] for it in members)


@pytest.mark.parametrize("enum", ENUMS)
def test_each_is_called_with_any_case_of_a_name(enum: Any) -> None:
    for it in enum:
        assert enum(it) is enum(it.name) is enum(it.name.upper()) is enum(it.name.lower()) is enum(it.value) is it


@pytest.mark.parametrize("enum", ENUMS)
def test_each_member_is_pickled_and_copied_as_itself(enum: Any) -> None:
    for it in enum:
        assert pickle.loads(pickle.dumps(it)) is copy.deepcopy(it) is it


@pytest.mark.parametrize(("member", "aliases"), ALIASES, ids=lambda it: str(it))
def test_each_is_called_with_any_case_of_an_alias(member: Any, aliases: str) -> None:
    for alias in aliases.split():
        assert type(member)(alias) is type(member)(alias.upper()) is type(member)(alias.capitalize()) is member


@pytest.mark.parametrize("enum", ENUMS)
@pytest.mark.parametrize("unknown", ["nonsense", "", 5, None])
def test_an_unknown_value(enum: Any, unknown: Any) -> None:
    with pytest.raises(ValueError, match="Could not find enum with value"):
        enum(unknown)


def test_the_three_of_return_when_are_top_level_names() -> None:
    for it in ReturnWhen:
        assert getattr(concurry, it.name) is it


def test_windows_in_seconds() -> None:
    seconds = {"Secondly": 1, "Minutely": 60, "Hourly": 3600, "Daily": 86400, "Weekly": 604800}
    assert {it.name: it.to_seconds() for it in RateWindow} == seconds


@pytest.mark.parametrize(
    ("member", "aliases"), [it for it in ALIASES if isinstance(it[0], RateWindow)], ids=lambda it: str(it)
)
def test_each_alias_of_a_window_may_have_per_before_it(member: Any, aliases: str) -> None:
    window: Any = RateWindow
    assert {window("per_" + alias) for alias in aliases.split()} == {member}


def test_auto_chooses_by_the_methods() -> None:
    class AsyncOnly(concurry.Worker):
        async def ask(self) -> int:
            return 1

    class Mixed(AsyncOnly):
        def tell(self) -> int:
            return 2

    for cls, mode in ((AsyncOnly, ExecutionMode.Asyncio), (Mixed, ExecutionMode.Threads)):
        with cls.options(mode=ExecutionMode.Auto).init() as handle:
            assert handle.mode is mode
            assert handle.ask().result() == 1
