"""Sets on a clock that stands still, threads that tests wait for by events, and processes by named pipes."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from concurry import Worker
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


# -- processes ---------------------------------------------------------------------------------------------------------


class Pipe:
    """A named pipe: what is told stays in it while it is open here. It travels as its path."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def wait(self, count: int = 1) -> None:
        """Until so many have told."""
        for _ in range(count):
            assert select.select([self._fd], [], [], 20)[0], "what this test waits for has not happened"
            os.read(self._fd, 1)

    def told(self) -> bool:
        return bool(select.select([self._fd], [], [], 0)[0])

    def tell(self, count: int = 1) -> None:
        os.write(self._fd, b"!" * count)

    def close(self) -> None:
        self.tell(64)  # so that no call waits on after its test
        os.close(self._fd)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[], Pipe]]:
    """`pipe()` makes one."""
    made: list[Pipe] = []

    def make() -> Pipe:
        made.append(Pipe(tmp_path / f"pipe{len(made)}"))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="package")
def nursery() -> Iterator[None]:
    """The helper that starts processes is started once for these tests, and not anew for each."""
    from concurry.transports import hub

    retained = hub.retain()

    class First(Worker):
        """Its process brings up what is started by the first one only."""

    First.options(mode="process").init().stop()
    yield
    thread = hub.release(retained)
    if thread is not None:
        thread.join()


@pytest.fixture
def start(nursery: None) -> Iterator[Callable[..., Any]]:
    """`start(cls, limits, mode=..., ...)`: a worker, in processes where nothing else is said; stopped at the end."""
    started: list[Any] = []

    def start_worker(cls: Any, limits: Any, **options: Any) -> Any:
        handle = cls.options(**{"mode": "process", "limits": limits, **options}).init()
        started.append(handle)
        return handle

    yield start_worker
    while started:
        started.pop().stop(timeout=0)
