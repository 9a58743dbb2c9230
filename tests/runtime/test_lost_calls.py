"""Calls whose actor has died: each is decided about by itself, and ends; those that had not begun keep their order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from concurry.runtime import shutdown
from concurry.runtime.clock import FakeClock, Timer
from concurry.runtime.notifier import judge
from concurry.runtime.plan import Method
from concurry.runtime.restart import Intensity
from concurry.runtime.time_limits import TimeLimits
from concurry.transports.errors import WorkerDiedError

KILLED = {"signal": "SIGKILL", "pid": 4711}


def always(exception: BaseException, **_: Any) -> bool:
    """A policy's own predicate."""
    return True


def leaves(exception: BaseException, **_: Any) -> bool:
    """One that ends the thread it runs on."""
    raise SystemExit(3)


class FullMachine(FakeClock):
    """A clock on a machine that has no thread for a timer, while `full`."""

    full = True

    def call_at(self, when: float, fn: Callable[[], object]) -> Timer:
        if self.full:
            raise RuntimeError("can't start new thread")
        return super().call_at(when, fn)


def sent_ahead(pool: Any, channel: Any, calls: list[Any]) -> None:
    """Give an actor calls beside the one it has, as a feed does with those that wait."""
    waiting = pool.intakes[0].mailbox.waiting
    channel.given += [waiting.popleft() for _ in calls]
    assert channel.given[1:] == calls


def test_an_idle_actor_takes_what_a_dead_one_held_in_its_order(house: Any) -> None:
    pool = house.start(actors=2, intensity=Intensity(0, 60.0))
    for n in range(2):
        house.call(pool, "work", n)
    dies, idle = house.transport.channels
    sent_ahead(pool, dies, [house.call(pool, "work", n) for n in range(2, 7)])
    idle.serve()
    assert idle.given == []
    dies.begin()
    dies.die(**KILLED)
    order = []
    for _ in range(5):
        order.append(idle.begin().args[0])
        idle.answer()
    assert order == [2, 3, 4, 5, 6]


def test_what_a_dead_actor_held_ends_with_the_reason_where_no_calls_are_taken(house: Any) -> None:
    pool = house.start()
    held = [house.call(pool)]
    ahead = [house.call(pool) for _ in range(3)]
    sent_ahead(pool, house.last, ahead)
    pool.intakes[0].close(lambda: RuntimeError("closed"), lambda: RuntimeError("left"))
    house.last.die(**KILLED)
    for future in [*held, *ahead]:
        with pytest.raises(RuntimeError, match="closed"):
            future.result(0)


def test_a_lost_call_that_no_timer_can_be_had_for_is_tried_again_at_once(house: Any) -> None:
    house.clock = FullMachine()
    pool = house.start(methods={"work": house.retrying()})
    lost = house.call(pool, "work", 0)
    ahead = [house.call(pool, "work", n) for n in (1, 2)]
    sent_ahead(pool, house.last, ahead)
    house.last.begin()
    house.last.die(**KILLED)
    assert len(house.transport.channels) == 2
    for n in (1, 2, 0):
        assert house.last.begin().args == (n,)
        house.last.answer(n)
    assert [future.result(0) for future in (lost, *ahead)] == [0, 1, 2]
    shutdown.stop(pool, 0.0)
    assert pool.supervisor._living == 0


def test_a_predicate_that_ends_its_thread_ends_its_call(house: Any) -> None:
    pool = house.start(methods={"work": house.retrying(retry_on=[leaves])})
    lost = house.call(pool)
    house.last.begin()
    house.last.die(**KILLED)
    house.after(judge)
    error = lost.exception(0)
    assert type(error) is WorkerDiedError
    assert "SystemExit" in error.__notes__[0]
    assert pool.queued() == 0


def test_predicates_that_no_thread_can_be_had_for_end_their_call(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = house.start(methods={"work": house.retrying(retry_on=[always])})
    house.after(judge)
    thread = judge._thread
    if thread is not None:
        thread.join(20)
    lost = house.call(pool)
    house.last.begin()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        house.last.die(**KILLED)
    error = lost.exception(0)
    assert type(error) is WorkerDiedError
    assert "no thread" in error.__notes__[0]
    house.after(judge)  # what was posted finds the call ended
    assert house.clock.pending() == 0


def test_predicates_are_not_asked_where_the_types_say_yes(house: Any) -> None:
    """So a death costs no thread and no decoding there."""
    pool = house.start(methods={"work": house.retrying(retry_on=[WorkerDiedError, leaves])})
    go = threading.Event()
    judge.post(go.wait, 20)  # predicates would wait behind it
    lost = house.call(pool)
    house.last.begin()
    house.last.die(**KILLED)
    decided = house.clock.pending()
    go.set()
    assert decided == 1
    house.clock.advance(1.0)
    house.last.serve("second")
    assert lost.result(0) == "second"


def test_a_time_limit_that_no_timer_can_be_had_for_harms_no_call(house: Any) -> None:
    house.clock = FullMachine()
    pool = house.start(methods={"timed": Method("timed", timeout_s=1.0)})
    limits, call = TimeLimits(pool), house.call(pool, "timed")
    limits.sent([call])
    house.clock.full = False
    limits.sent([call])
    assert house.clock.pending() == 1, "the next call finds one"
    limits.close()
    house.last.serve()
