"""The desk: where a child process asks its parent for limits, for all its sets.

    request, ask, withdraw --message--> the parent          GRANTED, ANSWER, SPARE --the ear--> the lease, its ticket

Guarantees: of several sets that are asked at once one is granted, in their order. Whoever gives up gives back what
comes all the same. A wait that is to end, and of which it is not known yet whether it is one, ends when that is known:
what is free at once is no wait.
Assumes: the line keeps the order of messages. Called by: `RemoteArbiter`, `waiting`; the ear (`handlers`).
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from concurry.runtime import kinds
from concurry.runtime.limiter.lease import ENDED, HELD, WAITING, Lease, Ticket
from concurry.transports.anything import LIST

_MOST_INT: Final = 2**63


class _Request:
    """One wait, or one try: leases of several sets, of which one is to be granted."""

    __slots__ = ("in_flight", "leases", "ticket", "unwanted", "waits")

    def __init__(self, leases: list[Lease], ticket: Ticket, *, waits: bool) -> None:
        self.leases = leases
        self.ticket = ticket
        self.waits = waits
        self.in_flight = True  # no answer has come: it may be granted at once
        self.unwanted = not waits  # if it had to wait it shall end


class Desk:
    """Where this process asks its parent, for all its sets. `handlers`: what to do with the parent's messages."""

    def __init__(self, line: Any, lend_s: float) -> None:
        self._send: Callable[[list[Any]], object] = line.send
        # Whether the parent has said something that the ear, which may wait for the interpreter, has not heard.
        self.has_news: Callable[[], bool] = line.has_news
        self.lend_s = lend_s  # see `Transport`
        self.one_clock: bool = line.one_clock  # whether the parent's monotonic clock is this process's
        # Protects all below, every arbiter's fields and the state of every lease of theirs. A message that tells of a
        # change is sent under it, so that messages keep the order of the changes. Under it are taken an owner's lock, a
        # ticket's and the line's; a ticket is woken with none held.
        self.lock = allocate_lock()
        self._last = 0  # the last number of a lease or a question
        self._requests: dict[int, _Request] = {}  # by the number of each of their leases
        self._questions: dict[int, list[Any]] = {}  # number -> the lock that its answer releases, and the answer
        self._arbiters: dict[int, Any] = {}  # by their number
        self.handlers = {
            kinds.LIMIT_GRANTED: self._granted,
            kinds.LIMIT_ANSWER: self._answered,
            kinds.LIMIT_SPARE: self._asked_back,
        }

    def join(self, arbiter: Any) -> None:
        """A set is asked for here: its `RemoteArbiter`."""
        self._arbiters[arbiter.index] = arbiter

    def close(self) -> None:
        """The process ends: what the parent does not know yet is told."""
        with self.lock:
            for arbiter in self._arbiters.values():
                arbiter.tell_all(asked=False)

    def send(self, message: list[Any]) -> None:
        try:
            self._send(message)
        except OverflowError:  # an integer beyond what a message can carry: as a float, which is as good there
            self._send(_floats(message))

    def next(self, count: int = 1) -> int:
        """The first of so many numbers that nobody has. Under the lock."""
        first = self._last + 1
        self._last += count
        return first

    # -- asking --------------------------------------------------------------------------------------------------

    def request(self, leases: Sequence[Lease], ticket: Ticket, *, waits: bool = True) -> None:
        """Ask for the first of these NEW leases that is free, or wait for all; as `Arbiter.request`.

        Args:
            waits: False: the ticket is woken with none where none is free at once.
        """
        refused = False
        with self.lock:
            waits = waits and all(it.owner is None or it.owner.add(it, waits=True) for it in leases)
            if not waits and not all(it.owner is None or it.owner.add(it) for it in leases):
                refused = ticket.claim()
            else:
                self._request(_Request(list(leases), ticket, waits=waits))
        if refused:
            ticket.wake()

    def _request(self, request: _Request) -> None:
        leases = request.leases
        number = self.next(len(leases))
        wanted: list[list[Any]] = []
        released: list[Any] = []
        unused: list[int] = []
        for lease in leases:
            arbiter: Any = lease.arbiter
            lease.number = number
            lease.state = WAITING
            lease.ticket = request.ticket
            self._requests[number] = request
            wanted.append([number, arbiter.index, *flat(arbiter.places, lease.amounts)])
            arbiter.take_along(lease, released, unused)
            number += 1
        only: Any = leases[0].arbiter
        ahead: int = only.wish() if len(leases) == 1 else 0
        kind = kinds.LIMIT_REQUEST if request.waits else kinds.LIMIT_TRY
        self.send([kind, wanted, self.next(ahead), ahead, released, unused])

    def ask(self, what: str, index: int, *about: Any) -> Any:
        """Wait for the parent's answer to a question about one of its arbiters."""
        gate = allocate_lock()
        gate.acquire()
        question: list[Any] = [gate, None]
        with self.lock:
            number = self.next()
            self._questions[number] = question
            self._arbiters[index].tell_all(asked=False)  # ours are seen as they are
            self.send([kinds.LIMIT_LOOK, number, index, what, *about])
        try:
            gate.acquire()
        finally:
            self._questions.pop(number, None)
        return question[1]

    def withdraw(self, lease: Lease) -> None:
        """Under the lock. The parent is told of what it may know."""
        state, lease.state = lease.state, ENDED
        lease.ticket = None
        if state == WAITING:
            self._requests.pop(lease.number, None)
        if state in (WAITING, HELD):
            self.send([kinds.LIMIT_WITHDRAW, lease.number])

    def end_wait(self, lease: Lease, *, now: bool = False) -> bool:
        """As `Arbiter.end_wait`. One that has no answer yet ends with it, where it would have to wait: what is free at
        once is no wait. `now`: ends all the same."""
        with self.lock:
            request = self._requests.get(lease.number) if lease.state == WAITING else None
            if request is None:
                return False
            if request.in_flight and not now:
                request.unwanted = True
                return True
            ticket = request.ticket
            if not ticket.claim():
                return False
            self.withdraw(lease)
        ticket.wake()
        discard(lease)
        return True

    # -- what the parent says: on the ear's thread -----------------------------------------------------------------

    def _granted(self, message: list[Any], _: list[int]) -> None:
        _, number, index, first, count, stamp = message
        woken: Ticket | None = None
        with self.lock:
            request = self._requests.pop(number, None)
            arbiter = self._arbiters[index]
            lease: Lease | None = None
            for each in request.leases if request is not None else ():
                if each.number == number:
                    lease = each
                elif request is not None and request.in_flight:  # granted at once: the others were not asked for
                    self._forget(each)
            if lease is not None and request is not None:  # else it was taken back meanwhile, and the parent knows
                lease.ticket = None
                wanted = lease.owner is None or lease.owner.add(lease)  # no: its call was ended while it was asked for
                if request.ticket.claim(lease if wanted else None):
                    woken = request.ticket
                else:  # another one has served, or the time was over
                    wanted = False
                lease.state = HELD
                if not wanted:
                    self.withdraw(lease)
                    discard(lease)
            if stamp:
                arbiter.open(None if lease is None else lease.amounts, range(first, first + count), stamp)
        if woken is not None:
            woken.wake()

    def _forget(self, lease: Lease) -> None:
        if self._requests.pop(lease.number, None) is not None:
            lease.state = ENDED
            lease.ticket = None
            discard(lease)

    def _answered(self, message: list[Any], _: list[int]) -> None:
        _, number, answer = message
        question = self._questions.get(number)
        if question is not None:
            question[1] = answer
            question[0].release()
            return
        with self.lock:
            request = self._requests.get(number)
            if request is None:
                return
            request.in_flight = False
            if not request.unwanted:
                return
            claimed = request.ticket.claim()
            for lease in request.leases:
                if request.waits:
                    self.withdraw(lease)
                    discard(lease)
                else:
                    self._forget(lease)
        if claimed:
            request.ticket.wake()

    def _asked_back(self, message: list[Any], _: list[int]) -> None:
        with self.lock:
            self._arbiters[message[1]].tell_all(asked=True)


def discard(lease: Lease) -> None:
    if lease.owner is not None:
        lease.owner.discard(lease)


def flat(places: Mapping[str, int], amounts: Mapping[str, float]) -> list[Any]:
    """Amounts by key, as places and amounts by turns."""
    both: list[Any] = []
    for key, amount in amounts.items():
        both += (places[key], amount)
    return both


def _floats(value: Any) -> Any:
    if type(value) is LIST:
        return [_floats(each) for each in value]
    return float(value) if type(value) is int and not -_MOST_INT <= value < _MOST_INT else value
