from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import pytest


class Screen(io.StringIO):
    """A stream that says it is a terminal. `last`: what the last line shows, without what was overwritten."""

    def isatty(self) -> bool:
        return True

    @property
    def last(self) -> str:
        return self.getvalue().rstrip("\n").rpartition("\r")[2]


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No thread is left, and no bar that would move those of later tests."""
    from tqdm.std import tqdm

    before = set(threading.enumerate())
    monitor = tqdm.monitor
    yield
    assert set(threading.enumerate()) == before
    assert tqdm.monitor is monitor
    assert not list(tqdm._instances)  # pyright: ignore[reportAttributeAccessIssue]
