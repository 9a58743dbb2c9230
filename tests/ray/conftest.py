"""Workers in Ray actors, and what of the faults' tests is the same here. Skipped but with CONCURRY_TEST_RAY=1.

Ray's workers are on this machine: a test and its worker meet by named pipes and files, as those of processes do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Pipe, _acts, are_gone, outcome_of, script
from tests.with_ray import WITH_RAY

if not WITH_RAY:
    collect_ignore_glob = ["test_*.py"]

__all__ = ["script"]  # a fixture
PATIENCE_S = 60.0  # Ray starts a process in seconds on a busy machine


@pytest.fixture(scope="session", autouse=True)
def cluster(request: pytest.FixtureRequest) -> None:
    """Ray runs before anything is looked at."""
    request.getfixturevalue("ray_cluster")


@pytest.fixture(scope="session")
def acts() -> Any:
    """The worker class of these tests."""
    return _acts()


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[], Pipe]]:
    """`pipe()` makes one. At the end each is told, so that no call waits on after its test."""
    made: list[Pipe] = []

    def make() -> Pipe:
        made.append(Pipe(tmp_path / f"pipe{len(made)}"))
        return made[-1]

    yield make
    for each in made:
        each.tell(b"!" * 64)
        os.close(each.fd)


@pytest.fixture
def start(acts: Any, pipe: Any) -> Iterator[Callable[..., Any]]:
    """`start(*args, **options)` starts Ray actors with `acts`, or with another `cls=`; stopped at the test's end."""
    started: list[Any] = []

    def start_worker(*args: Any, cls: Any = None, **options: Any) -> Any:
        handle = (cls or acts).options(**{"mode": "ray", "num_cpus": 0, **options}).init(*args)
        started.append(handle)
        return handle

    yield start_worker
    while started:
        started.pop().stop(timeout=0)


@pytest.fixture(scope="session")
def pids() -> Callable[[Any], list[int]]:
    """`pids(worker)`: those of its actors, by Ray, also while they are busy."""
    import ray

    def of(worker: Any) -> list[int]:
        members = worker.__dict__["_pool"].supervisor.everybody()
        actors = [member.channel.actor for member in members if member.channel is not None]
        found: list[int] = ray.get([it.__ray_call__.remote(lambda _: os.getpid()) for it in actors], timeout=PATIENCE_S)
        return found

    return of


@pytest.fixture(scope="session")
def gone() -> Callable[[list[int], float], bool]:
    """`gone(pids, seconds)`: whether these processes end within that time."""
    return are_gone


@pytest.fixture(scope="session")
def outcome() -> Callable[..., Any]:
    """`outcome(future)`: its exception, or its result."""
    return lambda future: outcome_of(future, PATIENCE_S)
