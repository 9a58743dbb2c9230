"""Sets on a clock that stands still, and threads that tests wait for by events."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from concurry.limits import CallLimit, LimitSet, RateLimit, ResourceLimit
from concurry.runtime.clock import FakeClock, Timer


class SignallingClock(FakeClock):
    """`armed` is set when a timer is: somebody waits then."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = threading.Event()

    def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
        timer = super().call_at(when, fn)
        self.armed.set()
        return timer


class Running:
    """A function on a thread of its own; `result()` joins it."""

    def __init__(self, fn: Callable[..., Any], *args: Any) -> None:
        self._answer: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(fn, args), daemon=True)
        self._thread.start()

    def _run(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self._answer = fn(*args)
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self._thread.join(10)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._answer


@pytest.fixture
def clock() -> SignallingClock:
    return SignallingClock()


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(fn: Callable[..., Any], *args: Any) -> Running:
        started.append(Running(fn, *args))
        return started[-1]

    yield start
    for each in started:
        each._thread.join(10)


@pytest.fixture
def make_set(clock: SignallingClock) -> Callable[..., LimitSet]:
    """`make_set(tokens=100, calls=5, slots=2)`: limits of a minute, by name; further arguments are the set's."""

    def make(
        tokens: float | None = None,
        calls: float | None = None,
        slots: int | None = None,
        algorithm: str = "sliding_window",
        **more: Any,
    ) -> LimitSet:
        limits: list[Any] = []
        if tokens is not None:
            limits.append(RateLimit("tokens", capacity=tokens, window=60, algorithm=algorithm))
        if calls is not None:
            limits.append(CallLimit(capacity=calls, window=60, algorithm=algorithm))
        if slots is not None:
            limits.append(ResourceLimit("slots", slots))
        return LimitSet(limits, shared=True, clock=clock, **more)

    return make


@pytest.fixture
def used() -> Callable[[LimitSet], dict[str, float]]:
    """What is taken of each limit of a set."""
    return lambda limits: {key: it["current_usage"] for key, it in limits.get_stats().items()}


@pytest.fixture
def warnings_of(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings logged so far; asking empties the list."""

    def take() -> list[str]:
        said = [it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING and it.name == "concurry"]
        caplog.clear()
        return said

    return take
