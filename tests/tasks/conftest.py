"""What the tests of tasks share: the ways to run them, and signals and logs that both sides of a call can use.

A test that asks for `way` runs once for each of `WAYS`; one that asks for `apart` where a call runs beside its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from concurry import TaskWorker, Worker
from tests.contract.meeting_points import FileLog, PipeSignal, Signal
from tests.with_ray import WITH_RAY


@dataclass(frozen=True)
class Way:
    """One way to run tasks.

    Attributes:
        options: what `.options()` is given.
        background: whether a call runs elsewhere, so that its caller goes on meanwhile.
        same_objects: whether caller and function are in one process.
        serial: whether one call runs at a time, so that calls run in their order.
    """

    name: str
    options: dict[str, Any]
    background: bool = True
    same_objects: bool = True
    serial: bool = True


WAYS = [
    Way("sync", {"mode": "sync"}, background=False),
    Way("thread", {"mode": "thread"}),
    Way("pool", {"mode": "thread", "max_workers": 4}, serial=False),
    Way("concurrent", {"mode": "thread", "max_concurrency": 4}, serial=False),
    Way("asyncio", {"mode": "asyncio"}),
    Way("process", {"mode": "process"}, same_objects=False),
    *([Way("ray", {"mode": "ray", "num_cpus": 0}, same_objects=False)] if WITH_RAY else []),
]


@pytest.fixture(params=WAYS, ids=[way.name for way in WAYS])
def way(request: pytest.FixtureRequest) -> Way:
    """Each way to run tasks."""
    found: Way = request.param
    return found


@pytest.fixture(params=[way for way in WAYS if way.background], ids=[way.name for way in WAYS if way.background])
def apart(request: pytest.FixtureRequest) -> Way:
    """Each way in which a call runs beside its caller."""
    found: Way = request.param
    return found


@pytest.fixture(scope="session", autouse=True)
def cluster(request: pytest.FixtureRequest) -> None:
    """Ray, where it is tested, runs before anything is looked at."""
    if WITH_RAY:
        request.getfixturevalue("ray_cluster")


@pytest.fixture(scope="package", autouse=True)
def nursery() -> Iterator[None]:
    """The helper that starts processes is started once for these tests, and not anew for each."""
    from concurry.transports import hub, nursery

    retained = hub.retain()

    class First(Worker):
        """Its process brings up what is started by the first one only."""

    with pytest.MonkeyPatch.context() as patch:  # what the test modules import takes longer than all the rest
        patch.setattr(nursery, "_PRELOADED", (*nursery._PRELOADED, "pytest"))
        First.options(mode="process").init().stop()
    yield
    thread = hub.release(retained)
    if thread is not None:
        thread.join()


@pytest.fixture
def new_signal() -> Iterator[Callable[[Way], Any]]:
    """`new_signal(way)` makes a signal; all of them happen at the end of the test at the latest."""
    made: list[Any] = []

    def new(way: Way) -> Any:
        made.append(Signal() if way.same_objects else PipeSignal())
        return made[-1]

    yield new
    for signal in made:
        signal.close()


@pytest.fixture
def new_log() -> Iterator[Callable[[Way], Any]]:
    """`new_log(way)` makes a list, to which functions append what they do."""
    made: list[Any] = []

    def new(way: Way) -> Any:
        made.append([] if way.same_objects else FileLog())
        return made[-1]

    yield new
    for log in made:
        if isinstance(log, FileLog):
            log.close()


@pytest.fixture
def start(new_signal: Any) -> Iterator[Callable[..., Any]]:
    """`start(way, fn=None, **options)`: a TaskWorker, stopped when the test is over."""
    started: list[Any] = []

    def start_tasks(way: Way, fn: Any = None, **options: Any) -> Any:
        handle: Any = TaskWorker.options(**{**way.options, **options}).init(fn)
        started.append(handle)
        return handle

    yield start_tasks
    while started:
        started.pop().stop(timeout=3)
