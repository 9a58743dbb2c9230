"""Limits used in a way that cannot work: such errors are never tried again, whatever a retry policy says."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from concurry import DeadlockError, Worker
from concurry.errors import LimitStateError, LimitTypeError, LimitValueError, MisuseError
from concurry.limits import LimitPool, LimitSet, RateLimit
from concurry.runtime.limiter.lease import Lease
from concurry.runtime.limiter.owner import LeaseOwner, current_owner

Make = Callable[..., LimitSet]
Used = Callable[[LimitSet], dict[str, float]]


def _not_updated(limits: LimitSet) -> None:
    with limits.acquire({"tokens": 1, "slots": 1}):
        pass


def _updated_late(limits: LimitSet) -> None:
    with limits.acquire({"tokens": 1}) as acq:
        acq.update({"tokens": 1})
    acq.update({"tokens": 1})


def _entered_late(limits: LimitSet) -> None:
    acq = limits.acquire({"tokens": 1})
    acq.release()
    with acq:
        pass


def _updated_nothing(limits: LimitSet) -> None:
    with limits.acquire({"slots": 1}):
        limits.try_acquire({"slots": 1}).update({"slots": 1})


def _report(usage: Any) -> Callable[[LimitSet], None]:
    def report(limits: LimitSet) -> None:
        with limits.acquire({"tokens": 1, "call_count": 1}) as acq:
            acq.update(usage)

    return report


def _nested(limits: LimitSet) -> None:
    with limits.acquire({"slots": 1}), limits.acquire({"slots": 1}):
        pass


MISUSES: list[tuple[Callable[[LimitSet], object], type[Exception], str]] = [
    (_not_updated, RuntimeError, "Not all limits in the LimitSet were updated"),
    (_updated_late, RuntimeError, "Cannot update an already released"),
    (_entered_late, RuntimeError, "already released"),
    (_updated_nothing, RuntimeError, "not granted"),
    (lambda it: it.acquire(), ValueError, "Must specify requested amount for RateLimit"),
    (lambda it: it.try_acquire(), ValueError, "Must specify requested amount for RateLimit"),
    (lambda it: it.acquire({"tokens": 10**9}), ValueError, "can never be fulfilled"),
    (lambda it: it.acquire({"tokens": -1}), ValueError, "above 0"),
    (lambda it: it.acquire({"tokens": "many"}), ValueError, "must be a number"),  # type: ignore[dict-item]
    (lambda it: it.acquire({"slots": 1}, timeout="soon"), ValueError, "timeout"),  # type: ignore[arg-type]
    (lambda it: it.acquire(["tokens"]), TypeError, "amounts by key"),  # type: ignore[arg-type]
    (_report({"tokens": -1}), ValueError, "cannot be negative"),
    (_report({"tokens": None}), ValueError, "must be a number"),
    (_report({"call_count": 2}), ValueError, "implicit acquisition"),
    (_report(7), TypeError, "amounts by key"),
    (_nested, DeadlockError, "could never end"),
]


@pytest.mark.parametrize(("misuse", "kind", "message"), MISUSES)
def test_each_is_of_its_old_type_and_marked(
    make_set: Make, misuse: Callable[[LimitSet], object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(MisuseError, match=message) as caught:
        misuse(make_set(tokens=1000, calls=1000, slots=1))
    assert isinstance(caught.value, kind)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (type(caught.value), str(caught.value))


class Paying(Worker):
    """Counts how often it pays."""

    def __init__(self) -> None:
        self.paid = 0

    def call(self, misuse: Callable[[Any], object]) -> None:
        self.paid += 1
        misuse(self.limits)

    def bill(self) -> int:
        return self.paid


MODES: list[dict[str, Any]] = [{"mode": "sync"}, {"mode": "thread"}, {"mode": "asyncio"}]


@pytest.mark.parametrize("options", MODES, ids=lambda it: it["mode"])
def test_no_policy_tries_one_again(make_set: Make, options: dict[str, Any], used: Used) -> None:
    """What was paid once is not paid again for an error that the next attempt would only repeat."""
    limits = make_set(tokens=1000, calls=1000, slots=1)
    policy = {"num_retries": 3, "retry_wait": 0, "retry_on": [BaseException, MisuseError, lambda e: True]}
    with Paying.options(**options, **policy, limits=limits).init() as worker:  # type: ignore[arg-type]
        for times, (misuse, kind, message) in enumerate(MISUSES, start=1):
            with pytest.raises(kind, match=message):
                worker.call(misuse).result(timeout=10)
            assert worker.bill().result(timeout=10) == times, message
    assert used(limits)["slots"] == 0


def test_the_error_of_a_forgotten_report_says_what_to_do(make_set: Make) -> None:
    with pytest.raises(LimitStateError) as caught, make_set(tokens=10, calls=9).acquire({"tokens": 5}):
        pass
    said = str(caught.value)
    assert "['tokens']" in said
    assert "fully used" in said
    assert "acq.update(usage={'tokens': ...})" in said
    assert "lost" in said
    assert "not tried again" in said


def test_the_types() -> None:
    for error, base in ((LimitStateError, RuntimeError), (LimitValueError, ValueError), (LimitTypeError, TypeError)):
        assert issubclass(error, MisuseError)
        assert issubclass(error, base)
        assert error.__module__ == "concurry.errors"


# -- waits that could never end -----------------------------------------------------------------------------------


class Watched(LeaseOwner):
    """Tells when the last of `lines` has its request. That is under the arbiter's lock, so whoever releases something
    after it finds the request in line."""

    __slots__ = ("_left", "in_line")

    def __init__(self, lines: int) -> None:
        super().__init__("a test")
        self._left = lines
        self.in_line = threading.Event()

    def add(self, lease: Lease, *, waits: bool = False) -> bool:
        added = super().add(lease, waits=waits)
        self._left -= waits
        if not self._left:
            self.in_line.set()
        return added


@pytest.fixture
def run_until_it_waits(run: Any) -> Callable[..., Any]:
    """Runs a function on a thread of its own, and returns when it stands in line: at so many sets."""

    def start(fn: Callable[[], object], sets: int = 1) -> Any:
        owner = Watched(sets)

        def owned() -> object:
            current_owner.set(owner)  # a thread has a context of its own
            return fn()

        running = run(owned)
        assert owner.in_line.wait(10)
        return running

    return start


@contextmanager
def _held_by(limits: LimitSet, amount: int) -> Iterator[None]:
    with limits.acquire({"slots": amount}):
        yield


def test_a_block_within_a_block_of_the_same_thread(make_set: Make, used: Used) -> None:
    limits = make_set(slots=3)
    with limits.acquire({"slots": 1}), _held_by(limits, 1):
        with limits.acquire({"slots": 1}), pytest.raises(DeadlockError, match=r"'slots'.*holds 3 of 3") as caught:
            _ = limits.acquire({"slots": 1})
        assert "leave" in str(caught.value)
        with limits.acquire({"slots": 1}):
            pass
        with pytest.raises(DeadlockError, match="holds 2 of 3"):
            _ = limits.acquire({"slots": 2})
    assert used(limits) == {"slots": 0}
    assert limits.get_stats()["slots"]["waiting"] == 0
    assert limits.acquire({"slots": 3}, timeout=0).successful


def test_a_wait_that_will_end_by_itself_may_begin(make_set: Make, run_until_it_waits: Any, used: Used) -> None:
    """Somebody else holds the rest: it comes free."""
    limits = make_set(slots=3)
    other = limits.acquire({"slots": 2})  # in no block of this thread's: anybody may release it

    def user() -> bool:
        with limits.acquire({"slots": 1}), limits.acquire({"slots": 2}) as acq:
            return bool(acq.successful)

    waiting = run_until_it_waits(user)
    other.release()
    assert waiting.result()
    assert used(limits) == {"slots": 0}


def test_what_another_thread_holds_is_waited_for(make_set: Make, run_until_it_waits: Any) -> None:
    limits = make_set(slots=1)
    with limits.acquire():
        waiting = run_until_it_waits(lambda: limits.acquire().successful)
    assert waiting.result()


def test_a_time_out_is_said_as_such_and_why(make_set: Make) -> None:
    limits = make_set(slots=1)
    with limits.acquire():
        with pytest.raises(TimeoutError, match=r"holds 1 of 1 of 'slots' itself"):
            _ = limits.acquire(timeout=0)
        assert not limits.try_acquire().successful


def test_a_rate_frees_itself(make_set: Make, clock: Any, run: Any) -> None:
    limits = make_set(tokens=10, slots=5)

    def user() -> bool:
        with limits.acquire({"tokens": 10}) as outer, limits.acquire({"tokens": 10}) as inner:
            outer.update({"tokens": 10})
            inner.update({"tokens": 10})
            return bool(inner.successful)

    waiting = run(user)
    assert clock.armed.wait(10)
    clock.advance(60)
    assert waiting.result()


def test_blocks_that_were_left_count_no_more(make_set: Make) -> None:
    limits = make_set(slots=1)
    for _ in range(3):
        with limits.acquire():
            pass
    with limits.acquire() as acq:
        acq.release()
        with limits.acquire() as again, pytest.raises(DeadlockError):
            _ = limits.acquire()
        assert again.successful
    acq = limits.acquire()
    with acq, acq, pytest.raises(DeadlockError, match="holds 1 of 1"):  # entered twice, held once
        _ = limits.acquire()
    assert limits.try_acquire().successful


def test_a_block_that_another_thread_leaves(make_set: Make, run: Any) -> None:
    """A generator that is begun here and ended there."""
    limits = make_set(slots=1)

    def generator() -> Iterator[int]:
        with limits.acquire():
            yield 1

    it = generator()
    assert next(it) == 1
    assert run(next, it, None).result() is None
    with limits.acquire(timeout=0) as acq:
        assert acq.successful
    assert limits.acquire(timeout=0).successful


def test_another_sets_limits_are_another_matter(make_set: Make, run_until_it_waits: Any) -> None:
    one, two = make_set(slots=1), make_set(slots=1)
    held = two.acquire()

    def user() -> bool:
        with one.acquire(), two.acquire() as acq:
            return bool(acq.successful)

    waiting = run_until_it_waits(user)
    held.release()
    assert waiting.result()


def test_in_a_pool_one_set_that_others_hold_is_enough_to_wait(make_set: Make, run_until_it_waits: Any) -> None:
    sets = [make_set(slots=1), make_set(slots=1)]
    pool = LimitPool(sets)
    other = sets[1].acquire()

    def user() -> bool:
        with sets[0].acquire(), pool.acquire() as acq:
            return bool(acq.successful)

    waiting = run_until_it_waits(user, sets=2)
    other.release()
    assert waiting.result()
    with pool.acquire(), pool.acquire(), pytest.raises(DeadlockError, match="every set"):
        _ = pool.acquire()


class Nesting(Worker):
    """Takes the slot, and again: by itself, by a method that a policy names, by another worker."""

    def __init__(self) -> None:
        self.tries = 0

    def twice(self) -> None:
        with self.limits.acquire({"slots": 1}):
            self.inner()

    def inner(self) -> None:
        self.tries += 1
        with self.limits.acquire({"slots": 1}):
            pass

    def other(self, handle: Any) -> None:
        with self.limits.acquire({"slots": 1}):
            handle.inner().result()

    def count(self) -> int:
        return self.tries


@pytest.mark.parametrize("options", MODES, ids=lambda it: it["mode"])
def test_in_a_call_and_in_a_named_retry_within_it(make_set: Make, options: dict[str, Any], used: Used) -> None:
    limits = make_set(slots=1)
    retries: dict[str, Any] = {"num_retries": {"*": 2, "inner": 5}, "retry_wait": 0}
    with Nesting.options(**options, **retries, limits=limits).init() as worker:
        with pytest.raises(DeadlockError, match=r"twice\(\) waits for 1 of 'slots', and holds 1 of 1"):
            worker.twice().result(timeout=10)
        assert worker.count().result(timeout=10) == 1
        worker.inner().result(timeout=10)
    assert used(limits) == {"slots": 0}


def test_in_a_worker_that_runs_in_the_callers_thread(make_set: Make, used: Used) -> None:
    limits = make_set(slots=1)
    with Nesting.options(mode="sync", limits=limits).init() as one, limits.acquire(), pytest.raises(DeadlockError):
        one.inner().result()
    with Nesting.options(mode="sync", limits=limits).init() as one:
        with Nesting.options(mode="sync", limits=limits).init() as two, pytest.raises(DeadlockError):
            one.other(two).result()
        one.inner().result()
    assert used(limits) == {"slots": 0}


def test_the_repr_in_errors_leaves_the_mode_out() -> None:
    limits = LimitSet([RateLimit("tokens", capacity=5, window=60)], mode="thread", config={"account": 1})
    assert "mode" not in repr(limits)
    assert "tokens" in repr(limits)
    assert "config={'account': 1}" in repr(limits)
