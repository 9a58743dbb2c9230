"""Waiting in threads: order, time-outs, Ctrl-C, owners that end. Threads meet by events, nothing by sleeping."""

from __future__ import annotations

import contextvars
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import pytest

from concurry.limits import CallLimit, LimitPool, LimitSet, RateLimit, ResourceLimit
from concurry.runtime.clock import system
from concurry.runtime.limiter.owner import LeaseOwner, current_owner

Make = Callable[..., LimitSet]
Used = Callable[[LimitSet], dict[str, float]]


@contextmanager
def owned_by(owner: LeaseOwner) -> Iterator[LeaseOwner]:
    token = current_owner.set(owner)
    try:
        yield owner
    finally:
        current_owner.reset(token)


def test_a_released_resource_wakes_the_one_who_waits(make_set: Make, used: Used, run: Any) -> None:
    limits = make_set(slots=1)
    first = limits.acquire()

    def user() -> str:
        with limits.acquire() as acq:
            return str(acq.successful)

    waiting = run(user)
    first.release()
    assert waiting.result() == "True"
    assert used(limits) == {"slots": 0}


def test_the_timer_wakes_the_one_who_waits_for_time(make_set: Make, used: Used, clock: Any, run: Any) -> None:
    limits = make_set(tokens=10)
    _ = limits.acquire({"tokens": 10})
    waiting = run(limits.acquire, {"tokens": 5})
    assert clock.armed.wait(10)
    assert limits.get_stats()["tokens"]["waiting"] == 1
    assert clock.pending() == 1
    clock.advance(59.999)
    assert limits.get_stats()["tokens"]["waiting"] == 1
    clock.advance(0.001)
    assert waiting.result().successful
    assert clock.pending() == 0
    assert used(limits) == {"tokens": 5}


def test_a_time_out_leaves_everything_as_it_was(make_set: Make, used: Used, clock: Any) -> None:
    limits = make_set(tokens=10, slots=1)
    _ = limits.acquire({"tokens": 8})
    before = used(limits)
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        _ = limits.acquire({"tokens": 5}, timeout=0.01)
    assert used(limits) == before
    assert limits.get_stats()["tokens"]["waiting"] == 0
    assert clock.pending() == 0


def test_a_try_does_not_pass_those_who_wait(make_set: Make, clock: Any, run: Any) -> None:
    limits = make_set(tokens=10)
    _ = limits.acquire({"tokens": 6})
    large = run(limits.acquire, {"tokens": 8})
    assert clock.armed.wait(10)
    assert limits["tokens"].can_acquire(2)
    assert not limits.try_acquire({"tokens": 2}).successful
    with pytest.raises(TimeoutError):
        _ = limits.acquire({"tokens": 2}, timeout=0.01)
    clock.advance(60)
    assert large.result().successful
    assert limits.try_acquire({"tokens": 2}).successful


def test_ctrl_c_while_waiting(make_set: Make, used: Used, clock: Any, run: Any) -> None:
    limits = make_set(tokens=10, slots=3)
    _ = limits.acquire({"tokens": 8})
    before = used(limits)
    main = threading.get_ident()
    arrived = threading.Event()

    def handler(*_: Any) -> None:
        if not arrived.is_set():
            arrived.set()
            raise KeyboardInterrupt

    def interrupt() -> None:
        assert clock.armed.wait(10)
        # Again and again: CPython runs no handler for a signal that comes just before its wait begins.
        while not arrived.wait(0.05):
            signal.pthread_kill(main, signal.SIGINT)

    before_handler = signal.signal(signal.SIGINT, handler)
    try:
        interrupting = run(interrupt)
        with pytest.raises(KeyboardInterrupt):
            _ = limits.acquire({"tokens": 5})
        interrupting.result()
    finally:
        signal.signal(signal.SIGINT, before_handler)
    assert used(limits) == before
    assert limits.get_stats()["tokens"]["waiting"] == 0
    clock.advance(60)
    assert limits.try_acquire({"tokens": 10}).successful


def test_threads_never_hold_more_than_there_is(run: Any) -> None:
    limits = LimitSet([ResourceLimit("slots", 2), CallLimit(capacity=1e9, window=60)], shared=True)
    most = 0
    inside = 0
    lock = threading.Lock()

    def user() -> None:
        nonlocal most, inside
        for _ in range(200):
            with limits.acquire():
                with lock:
                    inside += 1
                    most = max(most, inside)
                with lock:
                    inside -= 1

    for each in [run(user) for _ in range(8)]:
        each.result()
    assert most <= 2
    assert inside == 0
    assert limits.get_stats()["slots"]["current_usage"] == 0
    assert limits.get_stats()["call_count"]["current_usage"] == 1600


def test_by_the_real_clock_a_window_is_kept_and_used(run: Any) -> None:
    """40 calls at 10 in 50 ms: four windows, so the last is granted 150 ms after the first or, on a slow machine,
    whenever. The clock is read before the first is asked for and after each grant: a thread that is held up between
    its grant and its look at the clock makes the time seem longer, never shorter."""
    limits = LimitSet([RateLimit("calls", capacity=10, window=0.05)], shared=True)
    times: list[float] = []
    began = system.now()

    def user() -> None:
        for _ in range(10):
            with limits.acquire({"calls": 1}) as acq:
                times.append(system.now())
                acq.update({"calls": 1})

    for each in [run(user) for _ in range(4)]:
        each.result()
    assert len(times) == 40
    assert max(times) - began >= 0.1499


# -- owners -------------------------------------------------------------------------------------------------------


def test_an_owner_gives_back_what_was_forgotten(make_set: Make, used: Used) -> None:
    limits = make_set(tokens=100, slots=3)
    with owned_by(LeaseOwner("call 1")) as owner:
        reported = limits.acquire({"tokens": 10})
        reported.update({"tokens": 4})
        _ = limits.acquire({"tokens": 10})
        with limits.acquire({"tokens": 10}) as acq:
            acq.update({"tokens": 1})
    assert used(limits) == {"tokens": 21, "slots": 2}
    owner.close()
    assert used(limits) == {"tokens": 15, "slots": 0}  # as reported, and fully where it was not
    owner.close()
    reported.release()
    assert used(limits) == {"tokens": 15, "slots": 0}
    with pytest.raises(RuntimeError, match="already released"):
        reported.update({"tokens": 1})


def test_an_owner_keeps_nothing_that_has_ended(make_set: Make) -> None:
    limits = make_set(slots=1)
    with owned_by(LeaseOwner("call 1")) as owner:
        for _ in range(3):
            with limits.acquire():
                assert len(owner._leases or ()) == 1
        with limits.acquire():
            assert not limits.try_acquire().successful
            with pytest.raises(TimeoutError):
                _ = limits.acquire(timeout=0)
    assert owner._leases == set()


def test_an_owner_that_ends_takes_its_waits_back(make_set: Make, used: Used, clock: Any, run: Any) -> None:
    limits = make_set(tokens=10, slots=3)
    _ = limits.acquire({"tokens": 8})
    before = used(limits)
    owner = LeaseOwner("call 1")

    def user() -> None:
        with owned_by(owner):
            _ = limits.acquire({"tokens": 5})

    waiting = run(user)
    assert clock.armed.wait(10)
    owner.close()
    with pytest.raises(CancelledError, match="has ended"):
        waiting.result()
    assert used(limits) == before
    assert clock.pending() == 0


@pytest.mark.parametrize("pooled", [False, True])
def test_an_owner_that_has_ended_is_given_nothing(make_set: Make, used: Used, pooled: bool) -> None:
    sets = [make_set(slots=1), make_set(slots=1)]
    limits = LimitPool(sets) if pooled else sets[0]
    owner = LeaseOwner("call 1")
    owner.close()
    with owned_by(owner):
        with pytest.raises(CancelledError):
            _ = limits.acquire()
        assert not limits.try_acquire().successful
    assert used(sets[0]) == used(sets[1]) == {"slots": 0}
    assert limits.acquire().successful


def test_an_owner_is_of_the_context(make_set: Make, used: Used) -> None:
    limits = make_set(slots=5)
    owner = LeaseOwner("call 1")
    context = contextvars.copy_context()
    context.run(current_owner.set, owner)
    kept = [context.run(limits.acquire), limits.acquire()]
    owner.close()
    assert used(limits) == {"slots": 1}
    assert len(kept) == 2


def test_owners_end_while_others_take(run: Any) -> None:
    """A grant and an end that meet: whoever comes first, nothing is lost."""
    limits = LimitSet([ResourceLimit("slots", 2)], shared=True)

    def call() -> int:
        ended = 0
        for _ in range(100):
            owner = LeaseOwner("call")
            killer = threading.Thread(target=owner.close)
            with owned_by(owner):
                killer.start()
                try:
                    _ = limits.acquire()
                except CancelledError:
                    ended += 1
            killer.join()
            owner.close()
        return ended

    for each in [run(call) for _ in range(4)]:
        each.result()
    assert limits.get_stats()["slots"]["current_usage"] == 0
    assert limits.get_stats()["slots"]["waiting"] == 0
