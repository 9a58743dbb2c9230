"""F24, F33, F34 over Ray: many calls, and slow ones."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from concurry import gather

pytestmark = pytest.mark.faults
PATIENCE_S = 60.0


@contextmanager
def traced() -> Iterator[Any]:
    gc.collect()
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()


def test_memory_of_waiting_calls(start: Any, pipe: Any) -> None:  # F24
    worker, began, go, count = start(), pipe(), pipe(), 20_000
    worker.hold(began.path, go.path)
    began.wait(PATIENCE_S)
    with traced() as memory:
        before = memory()[0]
        futures = [worker.echo(n) for n in range(count)]
        each = (memory()[0] - before) / count
    assert each <= 2000, f"{each:.0f} B a call"
    go.tell()
    assert gather(futures, timeout=PATIENCE_S) == list(range(count))


def test_a_bounded_mailbox_keeps_memory_flat(start: Any) -> None:  # F24
    worker = start(mailbox_size=100)

    def submit(count: int) -> None:
        for n in range(count):
            worker.echo(bytes(1000) + str(n).encode())
        worker.echo().result(PATIENCE_S)

    submit(500)
    with traced() as memory:
        submit(500)
        gc.collect()
        first = memory()[0]
        submit(5000)
        assert memory()[1] < first + 5000 * 900, "no second queue behind it"  # a call has 1,000 bytes
        gc.collect()
        assert memory()[0] < first + 200_000


@pytest.mark.parametrize("options", [{}, {"max_workers": 2}])
def test_a_call_that_sleeps_for_ever_and_good_ones_behind_it(
    start: Any, pipe: Any, gone: Any, options: Any
) -> None:  # F33
    worker, began, go = start(call_timeout={"hold": 1, "*": None}, **options), pipe(), pipe()
    bad = worker.hold(began.path, go.path)
    pid = int(began.wait(PATIENCE_S))
    good = [worker.echo(n) for n in range(100)]
    with pytest.raises(TimeoutError, match="call_timeout of 1 s"):
        bad.result(PATIENCE_S)
    assert gather(good, timeout=PATIENCE_S) == list(range(100))
    assert gone([pid], PATIENCE_S)
    assert worker.echo("next").result(PATIENCE_S) == "next"


def test_what_was_sent_ahead_behind_a_call_that_sleeps_for_ever(start: Any, pipe: Any) -> None:  # F33
    """After quick calls many are sent ahead; they are given back before the actor is ended."""
    worker, began, go = start(call_timeout={"hold": 1, "*": None}), pipe(), pipe()
    good = [worker.echo(n) for n in range(300)]
    bad = worker.hold(began.path, go.path)
    good += [worker.echo(n) for n in range(300, 600)]
    with pytest.raises(TimeoutError, match="call_timeout of 1 s"):
        bad.result(PATIENCE_S)
    assert gather(good, timeout=PATIENCE_S) == list(range(600))


def test_a_call_that_sleeps_for_ever_among_others(start: Any, acts: Any) -> None:  # F33
    class Waits(acts):  # type: ignore[misc]
        async def wait(self) -> None:
            import asyncio

            await asyncio.get_running_loop().create_future()

    worker = start(cls=Waits, max_concurrency=4, call_timeout={"wait": 1, "*": None})
    bad = worker.wait()
    good = [worker.echo(n) for n in range(100)]
    pid = worker.pid().result(PATIENCE_S)
    with pytest.raises(TimeoutError):
        bad.result(PATIENCE_S)
    assert gather(good, timeout=PATIENCE_S) == list(range(100))
    assert worker.pid().result(PATIENCE_S) == pid, "its task was cancelled: nobody else is harmed"


@pytest.mark.parametrize("options", [{"max_workers": 3}, {"max_concurrency": 4}])
def test_nothing_waits_behind_a_slow_call(start: Any, pipe: Any, options: Any) -> None:  # F34
    worker, began, go = start(**options), pipe(), pipe()
    slow = worker.hold(began.path, go.path)
    began.wait(PATIENCE_S)
    assert gather([worker.pause(0.001) for _ in range(399)], timeout=PATIENCE_S) == [0.001] * 399
    assert not slow.done()
    go.tell()
    assert slow.result(PATIENCE_S) == "held"


def test_what_was_sent_ahead_comes_back_from_behind_a_slow_call(start: Any, pipe: Any) -> None:  # F34
    """The slow one comes in the midst of quick ones, with others behind it."""
    worker, began, go = start(max_workers=2), pipe(), pipe()
    calls = [worker.echo(n) for n in range(500)]
    slow = worker.hold(began.path, go.path)
    calls += [worker.echo(n) for n in range(500, 1000)]
    assert gather(calls, timeout=PATIENCE_S) == list(range(1000))
    began.wait(PATIENCE_S)
    assert not slow.done()
    go.tell()
    assert slow.result(PATIENCE_S) == "held"
