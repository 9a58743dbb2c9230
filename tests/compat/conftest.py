"""What the tests of this folder share. Each of them is one statement that programs for the older interface rely on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

import pytest

from concurry import global_config
from tests.with_ray import WITH_RAY


@pytest.fixture(scope="session", autouse=True)
def cluster(request: pytest.FixtureRequest) -> None:
    """Ray, where it is tested, runs before anything is looked at."""
    if WITH_RAY:
        request.getfixturevalue("ray_cluster")


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variables of ours but those of the tests themselves, and nothing assigned, before and after."""
    for variable in [it for it in os.environ if it.startswith("CONCURRY_") and it != "CONCURRY_TEST_RAY"]:
        monkeypatch.delenv(variable)
    global_config.reset_to_defaults()
    yield
    global_config.reset_to_defaults()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """`logged(level)`: what was logged so far at this level on the logger `concurry`; asking empties the list."""
    caplog.set_level(logging.DEBUG, "concurry")

    def take(level: int) -> list[str]:
        said = [it.getMessage() for it in caplog.records if it.levelno == level and it.name == "concurry"]
        caplog.clear()
        return said

    return take
