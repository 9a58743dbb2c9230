"""Ways to run a worker, for what tells about workers: each must tell it in every mode."""

from __future__ import annotations

from typing import Any

import pytest

from tests.with_ray import WITH_RAY

WAYS: dict[str, dict[str, Any]] = {
    "sync": {"mode": "sync"},
    "thread": {"mode": "thread"},
    "pool": {"mode": "thread", "max_workers": 2},
    "concurrent": {"mode": "thread", "max_concurrency": 2},
    "asyncio": {"mode": "asyncio"},
    "process": {"mode": "process"},
    "process-concurrent": {"mode": "process", "max_concurrency": 2},
    "demand": {"mode": "thread", "on_demand": True, "max_workers": 2},
}
if WITH_RAY:
    WAYS["ray"] = {"mode": "ray", "num_cpus": 0}


@pytest.fixture(scope="session", autouse=True)
def cluster(request: pytest.FixtureRequest) -> None:
    """Ray, where it is tested, runs before anything is looked at."""
    if WITH_RAY:
        request.getfixturevalue("ray_cluster")


@pytest.fixture(params=WAYS)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How this test runs its workers."""
    return dict(WAYS[request.param])
