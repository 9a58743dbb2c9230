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
at the arbiter like any other. Then neither taking nor releasing needs a message: releases go with the next request,
and what frees itself by release only is used again. From a lease ahead on, until the parent asks back (LIMIT_SPARE),
the set is *open*; the parent asks back after a few ms in any case, and at once where somebody waits or looks. A lease
ahead is used within `lend_s` of its grant, or not at all: a rate is true to that. It is not used either where the
parent has said something that was not heard yet.

Assumes: the line keeps the order of messages. What comes is handled on the thread of the child's ear.
Called by: `LimitSet`, owners, `waiting` in a child; the ear.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Final

from concurry.runtime import kinds
from concurry.runtime.limiter.desk import Desk, discard, flat
from concurry.runtime.limiter.lease import ENDED, HELD, NEW, Lease, Ticket
from concurry.runtime.limiter.meter import Meter

_MOST_AHEAD: Final = 32
_MOST_RELEASES: Final = 64  # that are kept for the next message


class RemoteArbiter:
    """See the module's docstring. `index`: of the set among the parent's."""

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
        desk.join(self)

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
                told = flat(self.places, usage) if usage else ()
                self.desk.send([kinds.LIMIT_RELEASE, [[lease.number, *told]]])
            elif self._recycles and len(self._ahead) < self._most and lease.amounts == self._amounts:
                self._ahead.append(lease.number)
            else:
                self._released.append([lease.number, *flat(self.places, usage)] if usage else [lease.number])
                if len(self._released) >= _MOST_RELEASES:
                    released, self._released = self._released, []
                    self.desk.send([kinds.LIMIT_RELEASE, released])
        discard(lease)

    def withdraw(self, lease: Lease) -> None:
        with self.desk.lock:
            self.desk.withdraw(lease)
        discard(lease)

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
        waiting, free_at, share = self.desk.ask("prospect", self.index, *flat(self.places, amounts))
        return waiting, free_at, share

    def look(self, key: str) -> tuple[float, int]:
        used, waiting = self.desk.ask("look", self.index, self.places[key])
        return used, waiting

    def never_fits(self, key: str, amount: float) -> float | None:
        capacity = self._capacities.get(key)
        return capacity if capacity is not None and amount > capacity else None

    # -- ahead of need: for the desk, under its lock -----------------------------------------------------------------

    def take_along(self, lease: Lease, released: list[Any], unused: list[int]) -> None:
        """A request goes: with it what the parent has not been told of, and what is ahead and was not fit for it."""
        released += self._released
        unused += self._ahead
        self._released = []
        self._ahead = []
        if lease.amounts != self._amounts:
            self._amounts = dict(lease.amounts)
            self._asked_at = 0.0
            self._taken = 0

    def wish(self) -> int:
        """How many to ask for ahead: what is taken within half of `lend_s`, by the pace since the last."""
        now = monotonic()
        seconds, self._asked_at = now - self._asked_at, now
        taken, self._taken = self._taken, 1
        return min(_MOST_AHEAD, int(0.5 * self.desk.lend_s * taken / seconds)) if seconds > 0 else 0

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
        # Where clocks differ: the grant came after its request was sent.
        self._until = (stamp if self.desk.one_clock else self._asked_at) + self.desk.lend_s

    def tell_all(self, *, asked: bool) -> None:
        """Nothing is ahead any more, and the parent knows all. `asked`: it asked back, and waits for this."""
        if self._open or asked:
            unused, self._ahead = self._ahead, []
            released, self._released = self._released, []
            self._open = False
            self.desk.send([kinds.LIMIT_SPARE, self.index, asked, unused, released])
