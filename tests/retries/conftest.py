"""Policies are run twice, in the sync and in the async form, with a clock that stands still and a recorded wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from concurry.retry import RetryConfig
from concurry.runtime.attempts import CallInfo, run, run_async
from concurry.runtime.clock import FakeClock
from concurry.runtime.retry_policy import Policy


class Runner:
    """Runs functions under policies. `waits`: the waits so far; `events`: what happened, in order."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.clock = FakeClock()
        self.waits: list[float] = []
        self.events: list[str] = []
        self.stop_at: int | None = None  # the number of the wait that is told to end, from 1
        self.info = CallInfo("call_llm", "LLM")

    def wait(self, seconds: float) -> Any:
        def answer() -> bool:
            self.waits.append(seconds)
            self.events.append("wait")
            if len(self.waits) == self.stop_at:
                return False
            self.clock.advance(seconds)
            return True

        async def later() -> bool:
            await asyncio.sleep(0)
            return answer()

        return later() if self.form == "async" else answer()

    @contextmanager
    def scope(self) -> Iterator[None]:
        self.events.append("enter")
        try:
            yield
        finally:
            self.events.append("leave")

    def run(self, policy: Policy, fn: Callable[..., Any], *args: Any, known: Any = None, **options: Any) -> Any:
        options = {"clock": self.clock, "wait": self.wait, **options}
        if self.form == "sync":
            return run(policy, fn, args, known or {}, self.info, **options)

        async def method(*a: Any, **k: Any) -> Any:
            await asyncio.sleep(0)
            return fn(*a, **k)

        return drive(run_async(policy, method, args, known or {}, self.info, **options))


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that awaits nothing but `asyncio.sleep(0)`. A real loop would keep exceptions in circles of its
    own, and would be ended by KeyboardInterrupt itself; `test_running.py` has tests on a real one."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as end:
            return end.value


@pytest.fixture(params=["sync", "async"])
def runner(request: pytest.FixtureRequest) -> Runner:
    return Runner(request.param)


@pytest.fixture
def make_runner() -> Callable[[str], Runner]:
    """For tests that choose the form themselves."""
    return Runner


@pytest.fixture
def make_policy() -> Callable[..., Policy]:
    """A policy from a RetryConfig's fields, without jitter unless said, and with a wait of 1 s."""

    def make(num_retries: int = 3, **fields: Any) -> Policy:
        policy = RetryConfig(num_retries, **{"retry_jitter": 0, **fields}).compile()
        assert policy is not None
        return policy

    return make


class Script:
    """A function that does one thing a call: raises what is an exception, returns anything else."""

    def __init__(self, outcomes: tuple[Any, ...]) -> None:
        self.outcomes = outcomes
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        outcome = self.outcomes[min(len(self.calls), len(self.outcomes)) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, type) and issubclass(outcome, BaseException):
            raise outcome(f"try {len(self.calls)}")
        return outcome


@pytest.fixture
def script() -> Callable[..., Script]:
    return lambda *outcomes: Script(outcomes)
