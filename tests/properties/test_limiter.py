"""The limiter's properties (faults.md, last section), by hypothesis and a clock that stands still.

`Trace` drives one meter and keeps its own account of what was used, and when; the rules are checked against that.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from concurry.runtime.clock import FakeClock
from concurry.runtime.enums import RateLimitAlgorithm
from concurry.runtime.limiter.algorithms import rate_meter
from concurry.runtime.limiter.arbiter import Arbiter
from concurry.runtime.limiter.lease import HELD, NEW, WAITING, Lease, Ticket
from concurry.runtime.limiter.owner import LeaseOwner
from concurry.runtime.limiter.resource import Resource

ALGORITHMS = [algorithm.value for algorithm in RateLimitAlgorithm]
BUCKETS = ["token_bucket", "leaky_bucket", "gcra"]
EPSILON = 1e-9  # of the capacity

algorithms = st.sampled_from(ALGORITHMS)
capacities = st.one_of(st.integers(1, 1000), st.floats(0.01, 1e6))
windows = st.floats(0.01, 1000)
shares = st.floats(0.001, 1)
starts = st.sampled_from([0.0, 1000.0, 123_456.789, 3e6])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), shares),
        st.tuples(st.just("refund"), st.integers(0, 10), st.floats(0, 1)),
        st.tuples(st.just("debt"), st.floats(0.01, 3)),
        st.tuples(st.just("wait"), st.floats(0.001, 1.5)),
        st.tuples(st.just("until_free"), shares),
    ),
    max_size=60,
)


class Trace:
    """One meter, and an account of its own: `grants`, each [time, used by now]."""

    def __init__(self, algorithm: str, capacity: float, window_s: float, start: float) -> None:
        self.algorithm = algorithm
        self.capacity, self.window_s, self.now = capacity, window_s, start
        self.meter = rate_meter(algorithm, capacity, window_s)
        self.grants: list[list[float]] = []
        self.open: list[tuple[list[float], Any]] = []

    def take(self, amount: float) -> bool:
        if not self.meter.fits(amount, self.now):
            return False
        grant = [self.now, amount]
        self.open.append((grant, self.meter.take(amount, self.now)))
        self.grants.append(grant)
        return True

    def refund(self, which: int, share: float) -> None:
        grant, mark = self.open.pop(which % len(self.open))
        amount = grant[1]
        used = amount * share
        self.meter.settle(mark, amount, used, self.now)
        if self.meter.refunds:
            grant[1] = used

    def check_rule(self) -> None:
        most = self.capacity * (1 + EPSILON)
        if self.algorithm in BUCKETS:
            rate = self.capacity / self.window_s
            for first, (begun, _) in enumerate(self.grants):
                for (ended, _), used in zip(
                    self.grants[first:], accumulate(it[1] for it in self.grants[first:]), strict=True
                ):
                    assert used <= most + rate * (ended - begun) * (1 + EPSILON)
        elif self.algorithm == "sliding_window":
            for begun, _ in self.grants:
                in_window = [used for at, used in self.grants if at >= begun and at < begun + self.window_s]
                same = [used for at, used in self.grants if at >= begun and at - begun < self.window_s]
                assert max(sum(in_window), sum(same)) <= most
        elif self.grants:
            by_window: dict[int, float] = {}
            for at, used in self.grants:
                index = _aligned(at, self.grants[0][0], self.window_s)
                by_window[index] = by_window.get(index, 0) + used
            assert max(by_window.values()) <= most


def _aligned(at: float, first: float, window_s: float) -> int:
    index = int((at - first) / window_s)
    while first + index * window_s > at:
        index -= 1
    while first + (index + 1) * window_s <= at:
        index += 1
    return index


@given(algorithms, capacities, windows, starts, steps)
@settings(max_examples=300)
def test_grants_stay_within_the_rule_whatever_is_refunded(
    algorithm: str, capacity: float, window_s: float, start: float, script: list[tuple[Any, ...]]
) -> None:
    trace = Trace(algorithm, capacity, window_s, start)
    for action, *of in script:
        if action == "take":
            trace.take(of[0] * capacity)
        elif action == "refund" and trace.open:
            trace.refund(*of)
        elif action == "wait":
            trace.now += of[0] * window_s
        elif action == "until_free":
            amount = of[0] * capacity
            trace.now = trace.meter.free_at(amount, trace.now)
            assert trace.take(amount)  # to the last bit
    trace.check_rule()


@given(algorithms, capacities, windows, starts, steps)
@settings(max_examples=300)
def test_waiting_until_free_is_enough_also_in_debt(
    algorithm: str, capacity: float, window_s: float, start: float, script: list[tuple[Any, ...]]
) -> None:
    trace = Trace(algorithm, capacity, window_s, start)
    for action, *of in script:
        if action == "take":
            trace.take(of[0] * capacity)
        elif action == "refund" and trace.open:
            trace.refund(*of)
        elif action == "debt":
            trace.meter.charge(of[0] * capacity, trace.now)
        elif action == "wait":
            trace.now += of[0] * window_s
        elif action == "until_free":
            amount = of[0] * capacity
            asked = 0
            while not trace.meter.fits(amount, trace.now):
                later = trace.meter.free_at(amount, trace.now)
                assert later > trace.now
                trace.now = later
                asked += 1
            assert asked <= 3  # once; debt beyond a window is right but for rounding
            assert trace.take(amount)


@given(algorithms, capacities, windows, starts, steps, shares)
@settings(max_examples=200)
def test_a_question_changes_nothing(
    algorithm: str, capacity: float, window_s: float, start: float, script: list[tuple[Any, ...]], share: float
) -> None:
    quiet, asked = (Trace(algorithm, capacity, window_s, start) for _ in range(2))
    for action, *of in script:
        for _ in range(3):
            asked.meter.fits(share * capacity, asked.now)
            asked.meter.free_at(share * capacity, asked.now)
            asked.meter.used(asked.now)
        answers = []
        for trace in (quiet, asked):
            if action == "take":
                answers.append(trace.take(of[0] * capacity))
            elif action == "refund" and trace.open:
                trace.refund(*of)
            elif action == "debt":
                trace.meter.charge(of[0] * capacity, trace.now)
            elif action == "wait":
                trace.now += of[0] * window_s
        assert len(set(answers)) <= 1
        assert quiet.meter.used(quiet.now) == pytest.approx(asked.meter.used(asked.now), abs=1e-6 * capacity)


@given(
    algorithms,
    st.one_of(st.integers(1, 10_000), st.floats(0.01, 1e6)),
    st.integers(1, 60),
    windows,
    starts,
    st.integers(0, 3),
)
@settings(max_examples=300)
def test_steady_demand_gets_what_is_nominal(
    algorithm: str, capacity: float, parts: int, window_s: float, start: float, questions: int
) -> None:
    amount = capacity / parts
    trace = Trace(algorithm, capacity, window_s, start)
    while trace.now < start + 5 * window_s:
        if trace.take(amount):
            continue
        due = trace.meter.free_at(amount, trace.now)
        for question in range(questions):  # however often it is asked
            assert not trace.take(amount)
            trace.now += (due - trace.now) * question / (questions + 1)
        trace.now = due
    trace.check_rule()
    granted = sum(used for at, used in trace.grants if at < start + 5 * window_s)
    assert granted >= 0.97 * 5 * capacity


@given(algorithms.filter(lambda it: it != "leaky_bucket"), capacities, windows, starts, shares, shares)
def test_a_refund_makes_its_amount_free_and_never_more_than_the_capacity(
    algorithm: str, capacity: float, window_s: float, start: float, share: float, part: float
) -> None:
    trace = Trace(algorithm, capacity, window_s, start)
    amount = share * capacity
    trace.take(amount)
    before = trace.meter.used(start)
    trace.refund(0, 1 - part)
    assert before - trace.meter.used(start) == pytest.approx(amount * part, abs=1e-9 * capacity)
    trace.now += 10 * window_s
    trace.take(capacity)
    assert not trace.meter.fits(0.001 * capacity, trace.now)


def test_a_late_refund_is_worth_what_still_counts() -> None:
    bucket = rate_meter("token_bucket", 10, 10)
    first = bucket.take(10, 0)
    bucket.take(9, 9)  # it was down to 1 then
    bucket.settle(first, 10, 0, 9)
    assert bucket.used(9) == 9

    window = rate_meter("sliding_window", 10, 10)
    first = window.take(10, 0)
    window.take(10, 10)
    window.settle(first, 10, 0, 10)
    assert window.used(10) == 10

    fixed = rate_meter("fixed_window", 10, 10)
    first = fixed.take(10, 0)
    fixed.take(10, 10)
    fixed.settle(first, 10, 0, 10)
    assert fixed.used(10) == 10


def test_a_leaky_bucket_refunds_nothing_but_a_wait_that_was_taken_back_is_undone() -> None:
    leaky = rate_meter("leaky_bucket", 10, 10)
    mark = leaky.take(10, 0)
    leaky.settle(mark, 10, 4, 0)
    assert leaky.used(0) == 10
    leaky.give_back(mark, 10, 0)
    assert leaky.used(0) == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_debt_is_paid_before_anything_is_granted(algorithm: str) -> None:
    meter = rate_meter(algorithm, 10, 10)
    mark = meter.take(2, 100)
    meter.settle(mark, 2, 32, 100)
    assert meter.used(100) == 32
    due = meter.free_at(10, 100)
    assert due == pytest.approx({"sliding_window": 140, "fixed_window": 140}.get(algorithm, 132))
    assert not meter.fits(10, due - 0.001)
    assert meter.fits(10, due + 1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_memory_stays_bounded(algorithm: str) -> None:
    meter = rate_meter(algorithm, 1000, 10)
    for step in range(50_000):
        now = 100 + step / 100
        if meter.fits(0.9, now):
            meter.take(0.9, now)
    rows = [getattr(meter, name) for name in meter.__slots__ + type(meter).__base__.__slots__]  # type: ignore[union-attr]
    assert all(len(row) <= 1200 for row in rows if hasattr(row, "__len__"))


# -- the arbiter: everything that can happen to those who hold and wait --------------------------------------------


class Holders(RuleBasedStateMachine):
    """Owners ask for some of a resource and of a rate; they release, give up, are killed, or their time is over.

    used + free = capacity at every moment, and nobody is passed.
    """

    @initialize(algorithm=algorithms, resource=st.integers(1, 5), rate=st.integers(1, 20))
    def begin(self, algorithm: str, resource: int, rate: int) -> None:
        self.clock = FakeClock()
        self.resource, self.rate = resource, rate
        self.meters = {"slots": Resource(resource), "tokens": rate_meter(algorithm, rate, 10.0)}
        self.arbiter = Arbiter(self.meters, self.clock)
        self.leases: list[Lease] = []
        self.woken: list[Ticket] = []
        self.tickets: dict[Lease, Ticket] = {}
        self.granted: list[int] = []  # numbers of the leases that waited, in the order of their grants

    def _lease(self, slots: int, tokens: int) -> Lease:
        amounts: dict[str, float] = {}
        if slots:
            amounts["slots"] = min(slots, self.resource)
        if tokens or not slots:
            amounts["tokens"] = min(max(tokens, 1), self.rate)
        lease = Lease(self.arbiter, amounts, LeaseOwner("test"))
        self.leases.append(lease)
        return lease

    @rule(slots=st.integers(0, 5), tokens=st.integers(0, 20))
    def ask_now(self, slots: int, tokens: int) -> None:
        lease = self._lease(slots, tokens)
        before = self._used()
        waiters = [it for it in self.leases if it.state == WAITING and set(it.amounts) & set(lease.amounts)]
        if self.arbiter.try_request(lease):
            assert not waiters
        else:
            assert self._used() == before
            assert lease.state == NEW

    @rule(slots=st.integers(0, 5), tokens=st.integers(0, 20))
    def ask(self, slots: int, tokens: int) -> None:
        lease = self._lease(slots, tokens)
        ticket = Ticket(lambda: self.woken.append(ticket))
        self.tickets[lease] = ticket
        self.arbiter.request(lease, ticket)

    @precondition(lambda self: any(it.state == HELD for it in self.leases))
    @rule(which=st.integers(0, 50), used=st.floats(0, 2), how=st.sampled_from(["release", "kill", "raise", "undo"]))
    def end_one(self, which: int, used: float, how: str) -> None:
        held = [it for it in self.leases if it.state == HELD]
        lease = held[which % len(held)]
        owner = lease.owner
        assert owner is not None
        if how == "kill":
            owner.close()
        elif how == "undo":
            self.arbiter.withdraw(lease)
        else:
            if how == "release" and "tokens" in lease.amounts:
                lease.usage = {"tokens": lease.amounts["tokens"] * used}
            self.arbiter.release(lease)
        before = self._used()
        self.arbiter.release(lease)  # once per lease
        owner.close()
        assert self._used() == before

    @precondition(lambda self: any(it.state == WAITING for it in self.leases))
    @rule(which=st.integers(0, 50), how=st.sampled_from(["late", "kill"]))
    def give_up(self, which: int, how: str) -> None:
        waiting = [it for it in self.leases if it.state == WAITING]
        lease = waiting[which % len(waiting)]
        ticket = self.tickets[lease]
        if how == "late":
            assert ticket.claim()
            self.arbiter.withdraw(lease)
            assert ticket not in self.woken
        else:
            assert lease.owner is not None
            lease.owner.close()
            assert ticket in self.woken
        assert ticket.served is None

    @rule(seconds=st.floats(0.1, 12))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def _used(self) -> tuple[float, float]:
        now = self.clock.now()
        return self.meters["slots"].used(now), self.meters["tokens"].used(now)

    @invariant()
    def the_account_is_right(self) -> None:
        held = sum(it.amounts.get("slots", 0) for it in self.leases if it.state == HELD)
        assert self._used()[0] == held <= self.resource
        assert self.meters["slots"].fits(self.resource - held, self.clock.now()) or held == self.resource

    @invariant()
    def served_are_woken_once(self) -> None:
        assert len(set(self.woken)) == len(self.woken)
        for lease, ticket in self.tickets.items():
            assert (lease.state == WAITING) == (ticket not in self.woken and not ticket._claimed)

    @invariant()
    def nobody_is_passed(self) -> None:
        for line in self.arbiter._lines.values():
            assert line.live == sum(it.state == WAITING for it in line.waiting) > 0
            assert len(line.waiting) <= 2 * line.live + 17
        waiting = sorted((it for it in self.leases if it.state == WAITING), key=lambda it: it.number)
        taken: set[str] = set()
        for lease in waiting:
            if taken.isdisjoint(lease.amounts):  # nobody stands before it, so what it wants is not free
                now = self.clock.now()
                assert not all(self.meters[key].fits(it, now) for key, it in lease.amounts.items())
            taken |= set(lease.amounts)
        assert self.clock.pending() <= 1
        if not waiting:
            assert self.clock.pending() == 0

    def teardown(self) -> None:
        if hasattr(self, "leases"):
            for lease in self.leases:
                assert lease.owner is not None
                lease.owner.close()
            assert self._used()[0] == 0
            assert self.clock.pending() == 0
            assert not self.arbiter._lines
            self.clock.advance(10_000)
            assert self._used()[1] == 0


Holders.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestHolders = Holders.TestCase


@given(algorithms, st.lists(st.integers(1, 20), min_size=2, max_size=25), st.integers(20, 40))
def test_everybody_is_served_in_the_order_of_asking(algorithm: str, amounts: list[int], capacity: int) -> None:
    clock = FakeClock()
    arbiter = Arbiter({"tokens": rate_meter(algorithm, capacity, 60.0)}, clock)
    served: list[int] = []
    for index, amount in enumerate(amounts):
        arbiter.request(Lease(arbiter, {"tokens": amount}), Ticket(lambda index=index: served.append(index)))  # type: ignore[misc]
    clock.advance(60.0 * (sum(amounts) / capacity * 2 + 2))
    assert served == list(range(len(amounts)))
    assert clock.pending() == 0


def test_a_large_request_is_not_passed_for_ever() -> None:
    clock = FakeClock()
    arbiter = Arbiter({"slots": Resource(4)}, clock)
    small = [Lease(arbiter, {"slots": 1}) for _ in range(4)]
    assert all(arbiter.try_request(lease) for lease in small)
    served: list[str] = []
    arbiter.request(Lease(arbiter, {"slots": 4}), Ticket(lambda: served.append("large")))
    for lease in small:
        arbiter.release(lease)
        newcomer = Lease(arbiter, {"slots": 1})
        assert not arbiter.try_request(newcomer)
        arbiter.request(newcomer, Ticket(lambda: served.append("small")))
    assert served == ["large"]


def test_a_wait_for_one_limit_does_not_hold_up_those_who_want_another() -> None:
    arbiter = Arbiter({"a": Resource(1), "b": Resource(1)}, FakeClock())
    holder = Lease(arbiter, {"a": 1})
    assert arbiter.try_request(holder)
    served: list[str] = []
    arbiter.request(Lease(arbiter, {"a": 1}), Ticket(lambda: served.append("a")))
    other = Lease(arbiter, {"b": 1})
    assert arbiter.try_request(other)
    arbiter.request(Lease(arbiter, {"a": 1, "b": 1}), Ticket(lambda: served.append("both")))
    arbiter.request(Lease(arbiter, {"b": 1}), Ticket(lambda: served.append("b")))
    arbiter.release(other)
    assert served == []  # "b" shares its key with "both", which came before it
    arbiter.release(holder)
    assert served == ["a"]
