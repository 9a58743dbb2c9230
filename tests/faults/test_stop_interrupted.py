"""Ctrl-C while `stop` waits for calls: it waits no more, and leaves no future open."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from concurry import Worker, WorkerStoppedError
from concurry.runtime import shutdown

SECONDS = 20.0


class Holds(Worker):
    """Runs until its test lets it end."""

    def hold(self, begun: threading.Event, go: threading.Event) -> str:
        begun.set()
        go.wait()
        return "held"


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """`ctrl_c()`: from now on the next `stop` is interrupted where it waits for its actors."""
    waits, heard = threading.Event(), threading.Event()
    join = shutdown._join

    def joining(*args: Any) -> Any:
        waits.set()
        try:
            return join(*args)
        except KeyboardInterrupt:
            heard.set()
            raise

    def press() -> None:
        waits.wait(SECONDS)
        os.kill(os.getpid(), signal.SIGINT)
        # A signal that comes in the instant before the main thread waits for a lock is seen after it: press again.
        while not heard.wait(0.3):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)

    def begin() -> None:
        monkeypatch.setattr(shutdown, "_join", joining)
        thread.start()

    yield begin
    heard.set()
    waits.set()
    thread.join()


def stop_is_interrupted(worker: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        worker.stop(timeout=None)


@pytest.mark.parametrize("within", [False, True], ids=["alone", "in its with block"])
def test_every_future_is_done(
    start: Callable[..., Any], beside: Any, event: Any, ctrl_c: Callable[[], None], within: bool
) -> None:
    worker = start(Holds, beside)
    go = event()
    begun = [event() for _ in range(beside.sync_at_once)]
    futures = [worker.hold(each, go) for each in begun]
    queued = worker.hold(event(), go)
    assert all(each.wait(SECONDS) for each in begun)
    ctrl_c()
    if within:
        with worker:
            stop_is_interrupted(worker)
    else:
        stop_is_interrupted(worker)
    assert all(future.done() for future in [*futures, queued])
    assert {type(future.exception()) for future in futures} == {WorkerStoppedError}
    assert queued.cancelled()
    worker.stop(timeout=0)


def test_the_threads_end_when_their_calls_do(start: Callable[..., Any], event: Any, ctrl_c: Callable[[], None]) -> None:
    worker = start(Holds, "pool")
    members = worker.__dict__["_pool"].members
    channels = [member.channel for member in members]
    go, begun = event(), event()
    worker.hold(begun, go)
    assert begun.wait(SECONDS)
    idle = [member.channel for member in members if not member.active]
    assert len(idle) == len(members) - 1
    ctrl_c()
    stop_is_interrupted(worker)
    assert all(channel.join(SECONDS) for channel in idle)
    assert [channel.join(0) for channel in channels].count(False) == 1, "the one whose call runs"
    go.set()
    assert all(channel.join(SECONDS) for channel in channels)
    assert not any(channel.thread.is_alive() for channel in channels)
