"""What a handle says of itself, and the warning of one that is dropped."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from concurry import RestartIntensityError, TaskWorker, Worker


class Held(Worker):
    def hold(self, began: threading.Event, go: threading.Event) -> None:
        began.set()
        go.wait()

    def wait(self) -> None:
        threading.Event().wait()

    def leave(self) -> None:
        os._exit(3)

    def one(self) -> int:
        return 1


def test_it_tells_what_waits_and_runs() -> None:
    began, go = threading.Event(), threading.Event()
    with Held.options(mode="thread").init() as held:
        assert repr(held) == "<Handle of Held: thread, 0 waiting, 0 running>"
        running, waiting = held.hold(began, go), held.one()
        assert began.wait(20)
        assert repr(held) == "<Handle of Held: thread, 1 waiting, 1 running>"
        assert repr(running) == "<ConcurrentFuture of hold() running>"
        assert repr(waiting) == "<ConcurrentFuture of one() pending>"
        go.set()
        waiting.result(20)
    assert repr(held) == "<Handle of Held: thread, stopped>"
    assert repr(waiting) == "<ConcurrentFuture of one() finished returned int>"


def test_in_every_mode(options: dict[str, Any]) -> None:
    with Held.options(**options).init() as held:
        held.one().result(20)
        assert repr(held).startswith(f"<Handle of Held: {options['mode']}")
    assert repr(held).endswith("stopped>")


def test_what_is_ended_by_its_time_does_not_run_any_more() -> None:
    with Held.options(mode="process", call_timeout={"wait": 0.05}).init() as held:
        assert isinstance(held.wait().exception(20), TimeoutError)
        assert repr(held) == "<Handle of Held: process, 0 waiting, 0 running>"
        assert held.stats()["running"] == 0
        assert held.one().result(20) == 1


def _call_until_refused(held: Any) -> None:
    while True:
        held.one().result(20)


def test_one_that_has_failed_tells_why() -> None:
    with Held.options(mode="process", max_restarts=0).init() as held:
        held.leave().exception(20)
        with pytest.raises(RestartIntensityError):
            _call_until_refused(held)
        assert "failed: Held: every actor died more than max_restarts=0 times" in repr(held)


@pytest.mark.parametrize("options", [{"mode": "thread"}, {"mode": "thread", "on_demand": True}], ids=["one", "demand"])
@pytest.mark.parametrize("kind", [Held, TaskWorker])
def test_a_dropped_handle_warns(kind: Any, options: dict[str, Any]) -> None:
    handle = kind.options(**options).init()
    held = [handle]
    del handle
    with pytest.warns(ResourceWarning, match=r"was dropped without stop\(\)"):
        held.clear()
