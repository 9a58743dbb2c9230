"""The arbiter of a set of limits, as a child process sees it: it asks the one in the parent, by messages.

    this process                                                  the parent (`remote_leases`)
    request(leases, ticket) --LIMIT_REQUEST: what, how many ahead-->  free now? --LIMIT_GRANTED--> HELD -> ticket.wake()
                                                                      else LIMIT_ANSWER: it waits ... LIMIT_GRANTED
    try_settled(lease)      --LIMIT_TRY----------------------------->  LIMIT_GRANTED, or LIMIT_ANSWER: denied
    release, withdraw       --LIMIT_RELEASE, LIMIT_WITHDRAW--------->
    look, fits, prospect    --LIMIT_LOOK---------------------------->  LIMIT_ANSWER

Guarantees: those of `Arbiter`, which decides everything. A wait ends here as it does there: by its owner, its time, its
task. To take what is free costs one round trip; to release costs a message that nobody waits for.

Ahead of need. Whoever takes the same amounts many times within milliseconds is lent some leases more, which are taken
at the arbiter like any other. Then neither taking nor releasing needs a message: releases go with the next request, and
what frees itself by release only is used again. From a lease ahead on, until the parent asks back (LIMIT_SPARE), the set
is *open*; the parent asks back after a few ms in any case, and at once where somebody waits or looks. A lease ahead
is used within `_FRESH_S` of its grant, or not at all: a rate is true to that.

Assumes: the line keeps the order of messages. What comes is handled on the thread of the child's ear.
Called by: `LimitSet`, owners, `waiting` in a child; the ear.
"""

from __future__ import annotations

import select
from _thread import allocate_lock
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

from concurry.runtime import kinds
from concurry.runtime.limiter.lease import ENDED, HELD, NEW, WAITING, Lease, Ticket
from concurry.runtime.limiter.meter import Meter

_FRESH_S: Final = 0.004  # how long after its grant a lease ahead may be used
_AHEAD_S: Final = 0.002  # so far ahead is asked for, by the pace of what was taken last
_MOST_AHEAD: Final = 32
_MOST_RELEASES: Final = 64  # that are kept for the next message
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

    def __init__(self, line: Any) -> None:
        self._send: Callable[[list[Any]], object] = line.send
        self._poll = select.poll()
        self._poll.register(line.fileno(), select.POLLIN)
        # Protects all below, every arbiter's fields and the state of every lease of theirs. A message that tells of a
        # change is sent under it, so that messages keep the order of the changes. Under it are taken an owner's lock, a
        # ticket's and the line's; a ticket is woken with none held.
        self.lock = allocate_lock()
        self._last = 0  # the last number of a lease or a question
        self._requests: dict[int, _Request] = {}  # by the number of each of their leases
        self._questions: dict[int, list[Any]] = {}  # number -> the lock that its answer releases, and the answer
        self._arbiters: dict[int, RemoteArbiter] = {}
        self.handlers = {
            kinds.LIMIT_GRANTED: self._granted,
            kinds.LIMIT_ANSWER: self._answered,
            kinds.LIMIT_SPARE: self._asked_back,
        }

    def arbiter(self, index: int, meters: Mapping[str, Meter]) -> RemoteArbiter:
        """That of the set with this number among the parent's."""
        made = self._arbiters[index] = RemoteArbiter(self, index, meters)
        return made

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

    def has_news(self) -> bool:
        """Whether the parent has said something that the ear, which may wait for the interpreter, has not heard. Under
        the lock."""
        return bool(self._poll.poll(0))

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
            wanted.append([number, arbiter.index, *_flat(arbiter.places, lease.amounts)])
            arbiter.take_along(lease, released, unused)
            number += 1
        ahead = leases[0].arbiter.wish() if len(leases) == 1 else 0  # type: ignore[attr-defined]
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
        _discard(lease)
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
                    _discard(lease)
            if stamp:
                arbiter.open(None if lease is None else lease.amounts, range(first, first + count), stamp)
        if woken is not None:
            woken.wake()

    def _forget(self, lease: Lease) -> None:
        if self._requests.pop(lease.number, None) is not None:
            lease.state = ENDED
            lease.ticket = None
            _discard(lease)

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
                    _discard(lease)
                else:
                    self._forget(lease)
        if claimed:
            request.ticket.wake()

    def _asked_back(self, message: list[Any], _: list[int]) -> None:
        with self.lock:
            self._arbiters[message[1]].tell_all(asked=True)


class RemoteArbiter:
    """See the module's docstring. Made by `Desk.arbiter`."""

    __slots__ = (
        "__weakref__",
        "_ahead",
        "_amounts",
        "_asked_at",
        "_capacities",
        "_most",
        "_open",
        "_recycles",
        "_released",
        "_taken",
        "_until",
        "desk",
        "holds",
        "index",
        "outside",
        "places",
    )

    def __init__(self, desk: Desk, index: int, meters: Mapping[str, Meter]) -> None:
        self.desk: Any = desk
        self.index = index
        self.outside: Any = None
        self.places = {key: place for place, key in enumerate(meters)}
        self.holds = any(meter.holds for meter in meters.values())
        self._capacities = {key: meter.capacity for key, meter in meters.items() if meter.holds}
        self._recycles = all(meter.holds for meter in meters.values())  # what is released is as it was before
        # Protected by the desk's lock:
        self._amounts: Mapping[str, float] = {}  # what was asked for last
        self._asked_at = 0.0
        self._taken = 0  # how often that was taken since
        self._ahead: list[int] = []  # leases of `_amounts` that nobody uses, by their numbers
        self._until = 0.0  # how long they may be used
        self._open = False  # from a lease ahead on until the parent asks back
        self._most = 0  # how many may be ahead
        self._released: list[Any] = []  # what the parent has not been told of; only while it is open

    # -- asking --------------------------------------------------------------------------------------------------

    def try_request(self, lease: Lease) -> bool:
        """Take one that is here ahead of need. False says nothing about the parent's: `request` asks there first."""
        if not self._ahead:
            return False
        with self.desk.lock:
            if not self._ahead or lease.amounts != self._amounts or monotonic() > self._until:
                return False
            if self.desk.has_news():  # maybe it is asked back, since somebody waits
                return False
            owner = lease.owner
            if owner is not None and not owner.add(lease):
                return False
            lease.number = self._ahead.pop()
            lease.state = HELD
            self._taken += 1
            return True

    def try_settled(self, lease: Lease) -> bool:
        """Take it if it is free now: a round trip."""
        if self.try_request(lease):
            return True
        gate = allocate_lock()
        gate.acquire()
        ticket = Ticket(gate.release)
        try:
            self.desk.request((lease,), ticket, waits=False)
            gate.acquire()
        except BaseException:
            self.withdraw(lease)
            raise
        if lease.state == HELD:
            return True
        lease.state = NEW
        return False

    def lend(self, leases: Sequence[Lease]) -> int:
        """What is only ours to use is not passed on."""
        return 0

    def request(self, lease: Lease, ticket: Ticket) -> None:
        self.desk.request((lease,), ticket)

    # -- giving back ---------------------------------------------------------------------------------------------

    def release(self, lease: Lease) -> None:
        with self.desk.lock:
            if lease.state != HELD:
                return
            lease.state = ENDED
            usage = lease.usage
            if not self._open:
                told = _flat(self.places, usage) if usage else ()
                self.desk.send([kinds.LIMIT_RELEASE, [[lease.number, *told]]])
            elif self._recycles and len(self._ahead) < self._most and lease.amounts == self._amounts:
                self._ahead.append(lease.number)
            else:
                self._released.append([lease.number, *_flat(self.places, usage)] if usage else [lease.number])
                if len(self._released) >= _MOST_RELEASES:
                    released, self._released = self._released, []
                    self.desk.send([kinds.LIMIT_RELEASE, released])
        _discard(lease)

    def withdraw(self, lease: Lease) -> None:
        with self.desk.lock:
            self.desk.withdraw(lease)
        _discard(lease)

    def end(self, lease: Lease) -> None:
        if not self.desk.end_wait(lease, now=True):
            self.release(lease)

    def end_wait(self, lease: Lease) -> bool:
        ended: bool = self.desk.end_wait(lease)
        return ended

    # -- looking: round trips, but for one -------------------------------------------------------------------------

    def fits(self, key: str, amount: float) -> bool:
        return bool(self.desk.ask("fits", self.index, self.places[key], amount))

    def prospect(self, amounts: Mapping[str, float]) -> tuple[int, float, float]:
        waiting, free_at, share = self.desk.ask("prospect", self.index, *_flat(self.places, amounts))
        return waiting, free_at, share

    def look(self, key: str) -> tuple[float, int]:
        used, waiting = self.desk.ask("look", self.index, self.places[key])
        return used, waiting

    def never_fits(self, key: str, amount: float) -> float | None:
        capacity = self._capacities.get(key)
        return capacity if capacity is not None and amount > capacity else None

    # -- ahead of need: for the desk, under its lock -----------------------------------------------------------------

    def take_along(self, lease: Lease, released: list[Any], unused: list[int]) -> None:
        """A request goes: what the parent has not been told of goes with it, and what is ahead and was not fit for it."""
        released += self._released
        unused += self._ahead
        self._released = []
        self._ahead = []
        if lease.amounts != self._amounts:
            self._amounts = dict(lease.amounts)
            self._asked_at = 0.0
            self._taken = 0

    def wish(self) -> int:
        """How many to ask for ahead: what is taken within `_AHEAD_S`, by the pace since the last request."""
        now = monotonic()
        seconds, self._asked_at = now - self._asked_at, now
        taken, self._taken = self._taken, 1
        return min(_MOST_AHEAD, int(_AHEAD_S * taken / seconds)) if seconds > 0 else 0

    def open(self, amounts: Mapping[str, float] | None, numbers: Sequence[int], stamp: float) -> None:
        """The parent has lent so many, maybe none, of the amounts that were asked for."""
        if amounts is None or amounts != self._amounts or self._ahead:
            self._ahead += numbers
            self._open = True
            self.tell_all(asked=False)
            return
        self._open = True
        self._ahead = list(numbers)
        self._most = len(numbers) + 1
        self._until = stamp + _FRESH_S

    def tell_all(self, *, asked: bool) -> None:
        """Nothing is ahead any more, and the parent knows all. `asked`: it asked back, and waits for this."""
        if self._open or asked:
            unused, self._ahead = self._ahead, []
            released, self._released = self._released, []
            self._open = False
            self.desk.send([kinds.LIMIT_SPARE, self.index, asked, unused, released])


def _discard(lease: Lease) -> None:
    if lease.owner is not None:
        lease.owner.discard(lease)


def _flat(places: Mapping[str, int], amounts: Mapping[str, float]) -> list[Any]:
    """Amounts by key, as places and amounts by turns."""
    flat: list[Any] = []
    for key, amount in amounts.items():
        flat += (places[key], amount)
    return flat


def _floats(value: Any) -> Any:
    if isinstance(value, list):
        return [_floats(each) for each in value]
    return float(value) if type(value) is int and not -_MOST_INT <= value < _MOST_INT else value
