"""The small parts, each by itself: clock, notifier, crew, restart, waits, deadlines."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from concurry.runtime import waits
from concurry.runtime.call_waits import CallWaits
from concurry.runtime.clock import FakeClock, SystemClock
from concurry.runtime.crew import Crew
from concurry.runtime.deadlines import Deadlines
from concurry.runtime.future import BaseFuture
from concurry.runtime.notifier import Notifier
from concurry.runtime.restart import Intensity, decide
from concurry.transports.errors import DeadlockError
from concurry.transports.own_loop import close_loop, run_through

# -- clock -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Iterator[SystemClock]:
    made = SystemClock()
    yield made
    thread = made._thread
    if thread is not None:
        thread.join(20)
    assert made._thread is None, "no timer is pending: there is no thread"


def test_timers_run_in_the_order_of_their_times(clock: SystemClock) -> None:
    ran: list[int] = []
    last = threading.Event()
    now = clock.now()
    clock.call_at(now + 0.03, last.set)
    clock.call_at(now + 0.02, lambda: ran.append(3))
    clock.call_at(now + 0.01, lambda: ran.append(2))
    clock.call_at(now - 1.0, lambda: ran.append(1))
    assert last.wait(20)
    assert ran == [1, 2, 3]


def test_a_cancelled_timer_does_not_run_and_needs_no_thread(clock: SystemClock) -> None:
    timers = [clock.call_at(clock.now() + 1000, lambda: None) for _ in range(3)]
    assert [timer.cancel() for timer in timers] == [True] * 3
    assert [timer.cancel() for timer in timers] == [False] * 3


def test_a_timer_may_set_timers_cancel_them_and_raise(clock: SystemClock, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    later = clock.call_at(clock.now() + 1000, lambda: None)

    def fails() -> None:
        later.cancel()
        clock.call_at(clock.now(), done.set)
        raise SystemExit("not the timers' business")

    clock.call_at(clock.now(), fails)
    assert done.wait(20)
    assert "a timer's function raised" in caplog.text


def test_a_clock_without_a_thread_says_so_and_goes_on(clock: SystemClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            clock.call_at(clock.now(), lambda: pytest.fail("it was refused"))
    done = threading.Event()
    clock.call_at(clock.now(), done.set)
    assert done.wait(20)


def test_the_fake_clock_runs_what_falls_due_at_its_time() -> None:
    clock = FakeClock(10.0)
    at: list[float] = []
    clock.call_at(12.0, lambda: at.append(clock.now()))
    clock.call_at(11.0, lambda: clock.call_at(11.5, lambda: at.append(clock.now())))
    clock.advance(1.0)
    assert at == []
    clock.advance(5.0)
    assert at == [11.5, 12.0]
    assert clock.now() == 16.0
    assert clock.pending() == 0


# -- notifier ----------------------------------------------------------------------------------------------------------


def test_the_notifier_keeps_its_order_and_goes_when_nobody_needs_it() -> None:
    notifier, last = Notifier("notifier"), threading.Event()
    ran: list[int] = []
    notifier.retain()
    for n in range(100):
        notifier.post(ran.append, n)
    notifier.post(last.set)
    assert last.wait(20)
    assert ran == list(range(100))
    thread = notifier.release()
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()
    again = threading.Event()
    notifier.post(again.set)  # nobody retains it: it comes for this, and goes
    assert again.wait(20)


def test_the_notifier_outlives_what_it_runs(caplog: pytest.LogCaptureFixture) -> None:
    notifier, done = Notifier("notifier"), threading.Event()

    def fails() -> None:
        raise SystemExit(1)

    notifier.post(fails)
    notifier.post(done.set)
    assert done.wait(20)
    assert "raised on the notifier thread" in caplog.text


def test_posts_from_many_threads_all_run() -> None:
    notifier = Notifier("notifier")
    ran: list[int] = []
    full = threading.Event()

    def note(n: int) -> None:
        ran.append(n)
        if len(ran) == 800:
            full.set()

    def post() -> None:
        for n in range(100):
            notifier.post(note, n)

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert full.wait(20)


def test_posts_without_a_thread_wait_for_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    notifier, last = Notifier("notifier"), threading.Event()
    ran: list[int] = []

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        notifier.post(ran.append, 1)
    assert "cannot be started" in caplog.text
    notifier.post(last.set)
    assert last.wait(20)
    assert ran == [1]


# -- crew --------------------------------------------------------------------------------------------------------------


def test_a_crew_uses_its_threads_again_and_ends_them() -> None:
    crew = Crew("crew")
    idents: list[int] = []

    def note(done: threading.Event) -> None:
        idents.append(threading.get_ident())
        done.set()

    for _ in range(3):
        done = threading.Event()
        crew.run(note, done)
        assert done.wait(20)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("crew")]
    assert len(idents) == 3
    assert len(threads) == len(set(idents)) <= 3
    crew.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_a_busy_thread_of_a_closed_crew_ends_after_its_call() -> None:
    crew, began, go = Crew("crew"), threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        began.set()
        assert go.wait(20)

    crew.run(hold, None)
    assert began.wait(20)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("crew")]
    crew.close()
    go.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


# -- restart -----------------------------------------------------------------------------------------------------------


def test_restart_decisions() -> None:
    three = Intensity(3, 60.0)
    assert decide((), 0.0, counted=True, intensity=three) == (True, 0.1, (0.0,))
    assert decide((1.0, 2.0, 3.0), 4.0, counted=True, intensity=three) == (False, 0.0, (1.0, 2.0, 3.0, 4.0))
    assert decide((1.0, 2.0, 3.0), 61.0, counted=True, intensity=three) == (True, 0.4, (2.0, 3.0, 61.0))
    assert decide((1.0, 2.0, 3.0), 4.0, counted=False, intensity=three) == (True, 0.0, (1.0, 2.0, 3.0))
    assert decide((), 4.0, counted=False, intensity=Intensity(0, 60.0)).restart is False
    many = tuple(float(n) for n in range(50))
    assert decide(many, 50.0, counted=True, intensity=Intensity(None, 60.0)) == (True, 5.0, (*many, 50.0))


# -- waits -------------------------------------------------------------------------------------------------------------


class Owner:
    """Stands for an intake: whoever must go on for its futures to end."""

    def __init__(self, name: str, *, interleaves: bool = False) -> None:
        self.name = name
        self.interleaves = interleaves

    def __str__(self) -> str:
        return self.name

    def sole_member(self) -> Owner:
        return self

    def call(self) -> Any:
        future: BaseFuture[Any] = BaseFuture()
        future.owner = self
        return future


@pytest.fixture
def at() -> Iterator[Any]:
    def enter(who: Any) -> None:
        waits.here.member = who

    yield enter
    waits.here.member = None
    assert waits._edges == {}


def test_a_circle_of_three(at: Any) -> None:
    one, two, three = Owner("one"), Owner("two"), Owner("three")
    at(one)
    with waits.waiting([two.call()]):
        at(two)
        with waits.waiting([three.call()]):
            at(three)
            with pytest.raises(DeadlockError, match="three -> one -> two -> three"), waits.waiting([one.call()]):
                pytest.fail("it would hang")
    at(three)
    with waits.waiting([one.call()]):
        pass


def test_a_done_future_is_no_wait(at: Any) -> None:
    one = Owner("one")
    future = one.call()
    future.begin()
    future.close(1)
    at(one)
    with waits.waiting([future]):
        pass


def test_one_loop_may_wait_for_several(at: Any) -> None:
    """A serial actor's own loop: two awaits at a time, of which the first to end must not hide the other."""
    one, two, three = Owner("one"), Owner("two"), Owner("three")
    at(one)
    first, second = waits.waiting([two.call()]), waits.waiting([three.call()])
    first.__enter__()
    second.__enter__()
    second.__exit__(None, None, None)
    at(two)
    with pytest.raises(DeadlockError), waits.waiting([one.call()]):
        pytest.fail("it would hang")
    first.__exit__(None, None, None)
    with waits.waiting([one.call()]):
        pass


def test_a_loop_that_awaits_is_not_blocked(at: Any) -> None:
    loop, serial = Owner("loop", interleaves=True), Owner("serial")
    at(loop)
    with waits.waiting([loop.call(), serial.call()], awaits=True):
        at(serial)
        with waits.waiting([loop.call()]):
            at(loop)
            with pytest.raises(DeadlockError, match="await the future"), waits.waiting([serial.call()]):
                pytest.fail("it would hang")


def test_a_call_on_a_thread_of_its_own_needs_the_loop_no_more(at: Any) -> None:
    loop = Owner("loop", interleaves=True)
    future = loop.call()
    assert future.begin()
    at(loop)
    with waits.waiting([future]):
        pass
    future.extra = "a task"
    with pytest.raises(DeadlockError), waits.waiting([future]):
        pytest.fail("it would hang")


# -- deadlines ---------------------------------------------------------------------------------------------------------


class Watched:
    """Stands for a pool: `waiting` is what it says is held up."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.given_up: list[Any] = []

    def held_up(self, stuck: Any) -> list[Any]:
        return self.waiting

    def give_up(self, call: Any, reason: BaseException) -> None:
        self.given_up.append(call)
        self.waiting.remove(call)


class AnActor:
    def __init__(self) -> None:
        self.call_waits = CallWaits()
        self.outside = 0
        self.cut_short: Counter[str] = Counter()

    def __str__(self) -> str:
        return "actor"


def a_call() -> Any:
    future: BaseFuture[Any] = BaseFuture()
    future.name = "work"
    assert future.begin()
    return future


def test_calls_that_end_in_time_leave_nothing() -> None:
    clock = FakeClock()
    deadlines = Deadlines(clock, "Thing", Watched(), lambda _: 2.0)
    for _ in range(100):
        call = a_call()
        assert deadlines.watch(call, AnActor(), 2.0) == clock.now() + 2.0
        call.close(1)
        deadlines.ended(call, 2.0)
        clock.advance(0.1)
    clock.advance(100)
    assert clock.pending() == 0
    assert not any(deadlines._running.values())


def test_a_late_call_ends_and_its_actor_is_reported_twice(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "concurry")
    clock, call = FakeClock(), a_call()
    deadlines = Deadlines(clock, "Thing", Watched(), lambda _: 2.0)
    deadlines.watch(call, AnActor(), 2.0)
    clock.advance(1.9)
    assert not call.done()
    clock.advance(0.2)
    with pytest.raises(TimeoutError, match=r"actor.work\(\) was not done within its call_timeout of 2 s"):
        call.result(0)
    assert "runs past its call_timeout" in caplog.text
    call.close("too late")
    deadlines.ended(call, 2.0)
    assert "has ended; the actor goes on" in caplog.text
    deadlines.close()
    assert clock.pending() == 0


def test_calls_that_nobody_will_take_are_given_up_after_their_own_time() -> None:
    clock, pool, call = FakeClock(), Watched(), a_call()
    waiting = BaseFuture[Any]()
    waiting.name = "work"
    deadlines = Deadlines(clock, "Thing", pool, lambda _: 2.0)
    deadlines.watch(call, AnActor(), 2.0)
    pool.waiting = [waiting]
    clock.advance(2.0)
    assert pool.given_up == []
    clock.advance(2.1)
    assert pool.given_up == [waiting]
    deadlines.ended(call, 2.0)
    clock.advance(100)
    deadlines.close()
    assert clock.pending() == 0


def test_a_deadline_without_a_timer_leaves_nothing() -> None:
    class NoTimer(FakeClock):
        def call_at(self, when: float, fn: Any) -> Any:
            raise RuntimeError("can't start new thread")

    deadlines = Deadlines(NoTimer(), "Thing", Watched(), lambda _: 2.0)
    with pytest.raises(RuntimeError, match="can't start"):
        deadlines.watch(a_call(), AnActor(), 2.0)
    assert not any(deadlines._running.values())


def test_a_keyboard_interrupt_in_a_task_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    """In the main thread it comes out, and asyncio does not say besides that nobody saw it."""

    async def interrupted() -> None:
        raise KeyboardInterrupt

    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        run_through(loop, interrupted(), "it")
    close_loop(loop)
    gc.collect()
    assert caplog.text == ""
