"""Large init arguments of processes: they are there once, stay the worker's own, and come again with each start."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from concurry import EncodeError, Worker, gather
from concurry.transports import makings

pytestmark = pytest.mark.faults
MB = 1 << 20


def memory() -> dict[str, int]:
    """Bytes that this process has for itself, and that it shares, in megabytes."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return {"own": int(fields["RssAnon"].split()[0]) >> 10, "shared": int(fields["RssShmem"].split()[0]) >> 10}


class Holds(Worker):
    def __init__(self, given: Any = None, more: Any = None) -> None:
        self.given, self.more = given, more

    def memory(self) -> dict[str, int]:
        return memory()

    def total(self) -> float:
        return float(self.given.sum())

    def change(self, value: float) -> tuple[bool, float]:
        self.given[0] = value
        return self.given.flags.writeable, float(self.given[0])

    def kinds(self) -> list[str]:
        return [type(each).__name__ for each in self.given]

    def pid(self) -> int:
        return os.getpid()

    def first(self) -> float:
        return float(self.given[0])


@pytest.fixture
def ones() -> Any:
    return pytest.importorskip("numpy").ones(8 * MB)  # 64 MB


def test_arrays_are_there_once(ones: Any) -> None:
    with Holds.options(mode="process").init() as empty:
        before = empty.memory().result(30)
    with Holds.options(mode="process").init(ones, more={"again": ones}) as worker:
        assert worker.total().result(30) == ones.sum()
        found = worker.memory().result(30)
    assert found["own"] - before["own"] < 32, "no copy of its own"
    assert found["shared"] - before["shared"] < 96, "shared with its siblings, once"


def test_what_is_in_the_pickle_is_there_once() -> None:
    with Holds.options(mode="process").init() as empty:
        before = empty.memory().result(30)
    text = "x" * (64 * MB)
    with Holds.options(mode="process").init(text) as worker:
        found = worker.memory().result(30)
    assert 60 < found["own"] - before["own"] < 96


def test_without_shared_memory_they_are_there_once(ones: Any) -> None:
    with Holds.options(mode="process").init() as empty:
        before = empty.memory().result(30)
    with Holds.options(mode="process", shared_memory_threshold=None).init(ones) as worker:
        assert worker.total().result(30) == ones.sum()
        found = worker.memory().result(30)
    assert 60 < found["own"] - before["own"] < 96


@pytest.mark.parametrize("writable", [True, False])
def test_each_may_write_to_its_own(ones: Any, writable: bool) -> None:
    with Holds.options(mode="process", max_workers=2, writable_arrays=writable, max_restarts=None).init(ones) as pool:
        pids = {pool.pid().result(30) for _ in range(20)}
        assert len(pids) == 2
        assert pool.change(7.0).result(30) == (True, 7.0)
        assert sorted(gather([pool.first() for _ in range(2)], timeout=30)) == [1.0, 7.0]
        ones[:] = 3.0  # too late: what was given is that of `.init()`, also after a death
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        while pids & (now := {pool.pid().exception(30) or pool.pid().result(30) for _ in range(4)}):
            assert now
        assert gather([pool.first() for _ in range(4)], timeout=30) == [1.0] * 4


def test_what_it_is_made_of_arrives_as_it_was() -> None:
    large = 300_000
    given = [bytes(large), bytearray(large), memoryview(bytes(large)), memoryview(bytes(10)), b"x", "y" * large]
    with Holds.options(mode="process").init(given) as worker:
        assert worker.kinds().result(30) == [type(each).__name__ for each in given]


def test_with_a_large_environment(ones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCURRY_TEST_LARGE", "x" * 100_000)  # then what is told first takes a descriptor more
    with Holds.options(mode="process").init(ones) as worker:
        assert worker.total().result(30) == ones.sum()


def test_without_memory_to_share_they_go_in_the_pickle(ones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Any) -> Any:
        raise OSError("no memory")

    monkeypatch.setattr(makings, "put", full)
    with Holds.options(mode="process").init(ones) as worker:
        assert worker.total().result(30) == ones.sum()


def test_an_argument_that_cannot_be_pickled_beside_a_large_one(ones: Any) -> None:
    with pytest.raises(EncodeError, match="cannot be sent to another process"):
        Holds.options(mode="process").init(ones, more=threading.Lock())
