"""The mailbox under any order of what is done to it: no call lost, none taken twice, first in first out; while a call
waits nobody is ready; the bound is exact."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from concurry.runtime.balancing import BY_NAME
from concurry.runtime.mailbox import CLOSED, Bound, Mailbox
from concurry.transports.errors import MailboxFullError, WorkerStoppedError


class FakeCall:
    """A call as the mailbox knows it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ended: BaseException | None = None

    def withdraw(self, reason: BaseException) -> bool:
        if self.ended is not None:
            return False
        self.ended = reason
        return True

    def __repr__(self) -> str:
        return f"call {self.number}"


class FakeTaker:
    """An actor with credit for so many calls at once."""

    def __init__(self, number: int, credit: int) -> None:
        self.number = number
        self.credit = credit
        self.holds: list[FakeCall] = []
        self.total = 0
        self.told_to_end = 0
        self.ready = False

    @property
    def active(self) -> int:
        return len(self.holds)

    def give(self, call: Any) -> bool:
        assert self.ready, "only who is ready is given anything"
        self.ready = False
        if call is None:
            self.told_to_end += 1
            return False
        self.holds.append(call)
        self.total += 1
        self.ready = len(self.holds) < self.credit
        return self.ready

    def __repr__(self) -> str:
        return f"taker {self.number}"


def refusal() -> BaseException:
    return WorkerStoppedError("stopped")


class MailboxMachine(RuleBasedStateMachine):
    """A mailbox of any balancing, bounded or not, and takers that come, work, die and go."""

    takers: Bundle[FakeTaker] = Bundle("takers")

    @initialize(
        choose=st.sampled_from(sorted(BY_NAME)),
        capacity=st.one_of(st.none(), st.integers(1, 4)),
    )
    def make(self, choose: str, capacity: int | None) -> None:
        self.capacity = capacity
        self.bound = None if capacity is None else Bound(capacity, block=False, who="Test")
        self.mailbox = Mailbox(BY_NAME[choose], self.bound)
        self.expected: list[FakeCall] = []  # what must wait now, in this order
        self.accepted: list[FakeCall] = []
        self.done: list[FakeCall] = []
        self.dropped: list[FakeCall] = []  # cancelled, or ended by `close`
        self.everybody: list[FakeTaker] = []
        self.closed = False
        self.draining = False
        self.numbers = 0
        self.over_capacity = False  # calls that came back may go over it

    # -- what the model says ------------------------------------------------------------------------------------------

    def held(self) -> list[FakeCall]:
        return [call for taker in self.everybody for call in taker.holds]

    def settle(self) -> None:
        """Whoever was handed something took it from the front."""
        held = set(map(id, self.held()))
        while self.expected and id(self.expected[0]) in held:
            self.expected.pop(0)
        assert not [call for call in self.expected if id(call) in held], "somebody was passed over"
        if self.capacity is None or len(self.expected) <= self.capacity:
            self.over_capacity = False

    # -- what is done -------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.everybody) < 4)
    @rule(target=takers, credit=st.integers(1, 2), together=st.integers(1, 2))
    def new_takers(self, credit: int, together: int) -> Any:
        made = [FakeTaker(len(self.everybody) + i, credit) for i in range(together)]
        self.everybody.extend(made)
        for taker in made:
            taker.ready = True
        self.mailbox.enter(list(made))
        self.settle()
        return multiple(*made)

    @rule()
    def put(self) -> None:
        call = FakeCall(self.numbers)
        self.numbers += 1
        if self.bound is not None and not self.closed:
            if len(self.expected) >= (self.capacity or 0):
                with pytest.raises(MailboxFullError, match="the mailbox of Test is full"):
                    self.bound.admit()
                return
            self.bound.admit()
        if self.closed:
            with pytest.raises(WorkerStoppedError):
                (self.bound.admit if self.bound is not None else lambda: self.mailbox.put(call))()
            return
        self.accepted.append(call)
        self.expected.append(call)
        self.mailbox.put(call)
        self.settle()

    @rule(taker=takers)
    def ask(self, taker: FakeTaker) -> None:
        """A busy actor, done with its call or with room for another, asks for the next."""
        self.take(taker)

    def take(self, taker: FakeTaker) -> None:
        if taker.ready or taker.told_to_end or taker not in self.everybody or len(taker.holds) >= taker.credit:
            return
        taker.ready = True  # before taking: once it is among the ready it may be given one at once
        call = self.mailbox.take(taker)
        if call is None:
            assert not self.expected
            return
        taker.ready = False
        if call is CLOSED:
            assert self.closed or (self.draining and not self.expected)
            taker.told_to_end += 1
            return
        assert call is self.expected[0]
        taker.holds.append(call)
        taker.total += 1
        self.settle()

    @rule(taker=takers, last=st.booleans())
    def finish(self, taker: FakeTaker, last: bool) -> None:
        """A call of an actor ends."""
        if taker.holds:
            self.done.append(taker.holds.pop(-1 if last else 0))

    @precondition(lambda self: self.held())
    @rule(data=st.data())
    def finish_and_take(self, data: st.DataObject) -> None:
        """What an actor's loop does all the time."""
        taker = data.draw(st.sampled_from([taker for taker in self.everybody if taker.holds]))
        self.done.append(taker.holds.pop(0))
        self.take(taker)

    @rule(taker=takers)
    def die(self, taker: FakeTaker) -> None:
        """An actor dies; what it held and never began comes back, first in the line and in its order."""
        if taker not in self.everybody:
            return
        self.mailbox.leave(taker)
        taker.ready = False
        self.everybody.remove(taker)
        calls, taker.holds = taker.holds, []
        if not calls:
            return
        if not self.closed:
            self.expected[:0] = calls
            self.over_capacity = True
        if self.mailbox.put_back(list(calls)):
            assert not self.closed
            self.settle()
        else:
            assert self.closed
            self.dropped.extend(calls)

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.bound is None:
            return  # the husk stays in its place until its turn, see `withdrawn`
        call = data.draw(st.sampled_from(self.expected))
        assert call.withdraw(ValueError("cancelled"))
        self.mailbox.withdrawn(call)
        self.expected.remove(call)
        self.dropped.append(call)
        self.settle()

    @rule()
    def match(self) -> None:
        """Once more than is needed: it changes nothing."""
        self.mailbox.match()
        self.settle()

    @precondition(lambda self: len(self.accepted) > 3)
    @rule()
    def drain(self) -> None:
        self.draining = True
        self.mailbox.drain()
        self.settle()

    @precondition(lambda self: len(self.accepted) > 3)
    @rule()
    def close(self) -> None:
        left = self.mailbox.close(refusal)
        assert left == ([] if self.closed else self.expected)
        self.closed = True
        for call in left:
            assert call.withdraw(refusal())
        self.dropped.extend(left)
        self.expected = []

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_and_nothing_doubled(self) -> None:
        places = [*self.expected, *self.held(), *self.done, *self.dropped]
        assert sorted(call.number for call in places) == [call.number for call in self.accepted]

    @invariant()
    def what_waits_stands_in_its_order(self) -> None:
        assert list(self.mailbox.waiting) == self.expected

    @invariant()
    def while_a_call_waits_nobody_is_ready(self) -> None:
        ready = [taker for taker in self.everybody if taker.ready]
        if self.closed:
            assert self.mailbox.ready == [None], "so that the hot path's one look refuses later calls"
            assert not ready
            return
        assert sorted(map(id, self.mailbox.ready)) == sorted(map(id, ready))
        if self.expected:
            assert not ready
        if self.draining:
            assert not ready, "who has nothing to do is told to end"

    @invariant()
    def who_ends_is_told_once(self) -> None:
        assert all(taker.told_to_end <= 1 for taker in self.everybody)

    @invariant()
    def the_bound_is_exact(self) -> None:
        if self.bound is None or self.closed:
            return
        assert self.bound._used == len(self.expected)
        assert self.over_capacity or len(self.expected) <= (self.capacity or 0)


TestMailbox = MailboxMachine.TestCase
TestMailbox.settings = settings(max_examples=150, stateful_step_count=40)


class Place:
    """A lock that tells when somebody waits for it."""

    def __init__(self, waits: threading.Semaphore) -> None:
        self._lock = threading.Lock()
        self._waits = waits

    def acquire(self) -> bool:
        if self._lock.locked():
            self._waits.release()
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


class Blocked:
    """Callers that wait at a bound, each in a thread, in their order."""

    def __init__(self, bound: Bound, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        waits = threading.Semaphore(0)
        monkeypatch.setattr("concurry.runtime.mailbox.allocate_lock", lambda: Place(waits))
        self.admitted: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.threads = [threading.Thread(target=self._admit, args=(bound, i)) for i in range(count)]
        for thread in self.threads:
            thread.start()
            assert waits.acquire(timeout=10)

    def _admit(self, bound: Bound, number: int) -> None:
        try:
            bound.admit()
        except BaseException as error:
            self.admitted.put(error)
        else:
            self.admitted.put(number)

    def end(self) -> None:
        for thread in self.threads:
            thread.join(10)


def test_who_waits_longest_is_admitted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = Bound(1, block=True, who="Test")
    bound.admit()
    blocked = Blocked(bound, 4, monkeypatch)
    for number in range(4):
        bound.free()
        assert blocked.admitted.get(timeout=10) == number
    blocked.end()
    bound.free()
    bound.admit()


def test_nobody_is_admitted_while_calls_that_came_back_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = Bound(1, block=True, who="Test")
    bound.admit()
    blocked = Blocked(bound, 1, monkeypatch)
    bound.readmit(2)
    bound.free()
    bound.free()
    assert blocked.admitted.empty()
    assert bound._used == 1
    bound.free()
    assert blocked.admitted.get(timeout=10) == 0
    assert bound._used == 1
    blocked.end()


def test_close_wakes_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = Bound(1, block=True, who="Test")
    bound.admit()
    blocked = Blocked(bound, 3, monkeypatch)
    bound.close(refusal)
    blocked.end()
    assert [type(blocked.admitted.get(timeout=10)) for _ in range(3)] == [WorkerStoppedError] * 3
    with pytest.raises(WorkerStoppedError):
        bound.admit()


def test_many_threads_and_takers_lose_nothing() -> None:
    mailbox = Mailbox(bound=(bound := Bound(7, block=True, who="Test")))
    seen: list[list[int]] = [[] for _ in range(4)]

    class Real:
        active = total = 0

        def __init__(self, log: list[int]) -> None:
            self.log = log
            self.given: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def give(self, call: Any) -> bool:
            self.given.put(call)
            return False

        def run(self) -> None:
            take = mailbox.source(self, self.given.get)
            call = self.given.get()
            while call is not None:
                self.log.append(call.number)
                call = take()

    takers = [Real(log) for log in seen]
    threads = [threading.Thread(target=taker.run) for taker in takers]
    for thread in threads:
        thread.start()
    mailbox.enter(list(takers))

    def submit(first: int) -> None:
        for number in range(first, first + 2000):
            bound.admit()
            mailbox.put(FakeCall(number))

    givers = [threading.Thread(target=submit, args=(i * 2000,)) for i in range(4)]
    for giver in givers:
        giver.start()
    for giver in givers:
        giver.join(30)
    mailbox.drain()
    for thread in threads:
        thread.join(30)
    assert sorted(number for log in seen for number in log) == list(range(8000))
    for log in seen:  # what one caller put, one taker takes in its order
        for i in range(4):
            mine = [number for number in log if number // 2000 == i]
            assert mine == sorted(mine)
    assert bound._used == 0
