"""The ways to run a worker that these tests go through, and the starting and stopping of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from concurry import Worker
from tests.with_ray import WITH_RAY

WAYS: dict[str, dict[str, Any]] = {
    "sync": {"mode": "sync"},
    "thread": {"mode": "thread"},
    "pool": {"mode": "thread", "max_workers": 3},
    "concurrent": {"mode": "thread", "max_concurrency": 3},
    "demand": {"mode": "thread", "on_demand": True, "max_workers": 3},
    "asyncio": {"mode": "asyncio"},
    "process": {"mode": "process"},
    "process-demand": {"mode": "process", "on_demand": True, "max_workers": 2},
    **({"ray": {"mode": "ray", "num_cpus": 0}} if WITH_RAY else {}),
}


@pytest.fixture(scope="session", autouse=True)
def cluster(request: pytest.FixtureRequest) -> None:
    """Ray, where it is tested, runs before anything is looked at."""
    if WITH_RAY:
        request.getfixturevalue("ray_cluster")


@pytest.fixture(scope="session", autouse=True)
def nursery() -> Iterator[None]:
    """The helper that starts processes is started once for all these tests, and not anew for each."""
    from concurry.transports import hub, nursery

    retained = hub.retain()

    class First(Worker):
        """Its process brings up what is started by the first one only."""

    with pytest.MonkeyPatch.context() as patch:  # what the test modules import takes longer than all the rest
        patch.setattr(nursery, "_PRELOADED", (*nursery._PRELOADED, "pytest", "pydantic"))
        First.options(mode="process").init().stop()
    yield
    thread = hub.release(retained)
    if thread is not None:
        thread.join()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The options of each way in turn."""
    return WAYS[request.param]


@pytest.fixture
def start(way: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """`start(cls, *args, options={...}, **kwargs)`: a worker in the way of this test, stopped when the test is over."""
    started: list[Any] = []

    def start_worker(cls: Any, *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        handle = cls.options(**{**way, **(options or {})}).init(*args, **kwargs)
        started.append(handle)
        return handle

    yield start_worker
    while started:
        started.pop().stop(timeout=3)
