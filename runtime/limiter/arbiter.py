"""The arbiter of a set of limits: who is given what, and when. The one object that everybody asks, in every mode.

    try_request(lease)       free now and nobody before us?   -> HELD, or not
    request(lease, ticket)   queue                            -> ... served -> HELD -> ticket.wake()
    lend(leases)             ahead of need, to a process that takes many: only what nobody else needs now
    release(lease)           settle what was used, serve the queue
    withdraw(lease)          as if it had never been asked for

Guarantees
- All or nothing: a lease is granted with all its amounts or with none, and a denied request changes nothing.
- First come, first served: a request passes waiters only where it shares no key with any of them. So a large request
  is not passed for ever by small ones, and a wait for one limit does not hold up those who want another.
- A lease is settled once, whoever comes first: its holder, or its owner's end.
- Nothing polls: a release serves the queue, and one timer a set is set to the time at which the first waiters' amounts
  are free. No waiters, no timer.
Assumes: the keys of a lease are keys of the set, its amounts above 0 and at most the capacities; `Ticket.wake` does not
block.
Called by: the face (through `waiting`), owners, and for processes `remote_leases`, for which a request is a message,
and `wake` sends one back.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from operator import itemgetter
from typing import Any

from concurry.runtime.clock import Clock, Timer
from concurry.runtime.clock import system as system_clock
from concurry.runtime.limiter.lease import ENDED, HELD, WAITING, Lease, Ticket
from concurry.runtime.limiter.meter import Meter


class _Line:
    """Those who wait for the same keys, in order. None of them passes another, so only the first is looked at."""

    __slots__ = ("keys", "live", "waiting")

    def __init__(self, keys: frozenset[str]) -> None:
        self.keys = keys
        self.waiting: deque[Lease] = deque()  # those that are not WAITING any more are left in, and skipped
        self.live = 0  # how many are WAITING: for statistics and for clearing away; nobody's turn hangs on it

    def first(self) -> Lease | None:
        """The first that is WAITING; None where there is none, and the line can go."""
        waiting = self.waiting
        while waiting:
            if waiting[0].state == WAITING:
                return waiting[0]
            waiting.popleft()
        return None

    def left(self) -> None:
        """One of them has stopped waiting. Where most have, they are cleared away, so that none is kept for long."""
        self.live -= 1
        if len(self.waiting) > 2 * self.live + 16:
            self.waiting = deque(lease for lease in self.waiting if lease.state == WAITING)


class Arbiter:
    """See the module's docstring.

    Args:
        meters: one for each limit, by key; the arbiter's own from now on.
        clock: what time it is, and the timer.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_due",
        "_lines",
        "_lock",
        "_meters",
        "_now",
        "_requests",
        "_timer",
        "holds",
        "outside",
    )

    desk: Any = None  # see `AnyArbiter`

    def __init__(self, meters: Mapping[str, Meter], clock: Clock = system_clock) -> None:
        self._meters = dict(meters)
        self.holds = any(meter.holds for meter in meters.values())  # whether some of it frees itself by release only
        self._clock = clock
        self._now = clock.now
        # Protects all below, the meters, and the state of every lease. Under it are taken an owner's lock, a ticket's
        # and the clock's; a ticket is woken with none held.
        self._lock = allocate_lock()
        self._lines: dict[frozenset[str], _Line] = {}
        self._requests = 0  # the number of the last one that had to wait
        self._timer: Timer | None = None
        self._due = inf  # when the timer is set to; inf: there is none
        self.outside: Any = None  # what processes hold of it (`remote_leases.Outside`), once one has asked

    # -- asking --------------------------------------------------------------------------------------------------

    def try_request(self, lease: Lease) -> bool:
        """Grant a NEW lease if it is free now, without passing anybody. False: nothing was changed."""
        meters = self._meters
        amounts = lease.amounts
        with self._lock:
            if self._lines and self._somebody_waits(amounts):
                return False
            now = self._now()
            for key, amount in amounts.items():
                if not meters[key].fits(amount, now):
                    return False
            owner = lease.owner
            if owner is not None and not owner.add(lease):
                return False
            self._grant(lease, now)
        return True

    def try_settled(self, lease: Lease) -> bool:
        """The same for whoever does not wait if it is denied: what other processes have released, or were granted ahead
        and do not use, is waited for before that, for a moment."""
        if self.try_request(lease):
            return True
        outside = self.outside
        return outside is not None and outside.settle() and self.try_request(lease)

    def lend(self, leases: Sequence[Lease]) -> int:
        """Grant NEW leases of the same amounts ahead of need: while nobody waits, and half of each limit stays free for
        others. Returns how many, from the first."""
        meters = self._meters
        with self._lock:
            now = self._now()
            for count, lease in enumerate(leases):
                if self._lines:
                    return count
                for key, amount in lease.amounts.items():
                    meter = meters[key]
                    if meter.used(now) + amount > meter.capacity / 2:
                        return count
                if lease.owner is not None and not lease.owner.add(lease):
                    return count
                self._grant(lease, now)
        return len(leases)

    def request(self, lease: Lease, ticket: Ticket) -> None:
        """Let a NEW lease wait its turn; it may come at once. A ticket that is claimed already is let go.

        The ticket is woken once: with this lease HELD, or with none where the lease's owner has ended.
        """
        refused = False
        woken: list[Ticket] = []
        try:
            with self._lock:
                owner = lease.owner
                if owner is not None and not owner.add(lease, waits=True):
                    refused = ticket.claim()
                else:
                    self._requests += 1
                    lease.number = self._requests
                    lease.ticket = ticket
                    keys = frozenset(lease.amounts)
                    line = self._lines.get(keys)
                    if line is None:
                        line = self._lines[keys] = _Line(keys)
                    lease.state = WAITING
                    line.waiting.append(lease)
                    line.live += 1
                    if line.first() is lease:  # else its place is behind somebody whose time is known
                        self._serve(woken)
        finally:
            _wake(woken)
        if refused:
            ticket.wake()
        elif self.outside is not None and lease.state == WAITING:
            self.outside.wanted()

    # -- giving back ---------------------------------------------------------------------------------------------

    def release(self, lease: Lease) -> None:
        """End a HELD lease: what `usage` reports was used, and all of what it does not report. Otherwise no effect."""
        meters = self._meters
        woken: list[Ticket] = []
        try:
            with self._lock:
                if lease.state != HELD:
                    return
                lease.state = ENDED
                usage = lease.usage
                # Invariant: a HELD lease has as many marks as amounts
                for (key, amount), mark in zip(lease.amounts.items(), lease.marks):  # noqa: B905
                    used = amount if usage is None else usage.get(key, amount)
                    meter = meters[key]
                    if used != amount or meter.holds:
                        meter.settle(mark, amount, used, self._now())
                if self._lines:
                    self._serve(woken)
        finally:
            _wake(woken)
        if lease.owner is not None:
            lease.owner.discard(lease)

    def withdraw(self, lease: Lease) -> None:
        """Take back a lease in whatever state: a wait ends, a grant is undone, unused, also where there are no refunds.
        Nobody is woken for it."""
        woken: list[Ticket] = []
        try:
            with self._lock:
                state = lease.state
                lease.state = ENDED
                lease.ticket = None
                if state == WAITING:
                    self._leave(lease)
                elif lease.marks and state != ENDED:
                    self._undo(lease)
                if self._lines or self._timer is not None:  # the last waiter takes the timer along
                    self._serve(woken)
        finally:
            _wake(woken)
        if lease.owner is not None:
            lease.owner.discard(lease)

    def end(self, lease: Lease) -> None:
        """The owner has ended: take a wait back and tell the waiter, or release what is held."""
        if not self.end_wait(lease):
            self.release(lease)  # also a grant that is being made right now: the lock orders the two

    def end_wait(self, lease: Lease) -> bool:
        """Take a wait back and tell the waiter. False: it does not wait, or not any more."""
        with self._lock:  # a request that is being made right now has its ticket when this is free
            ticket = lease.ticket
        if ticket is None or not ticket.claim():
            return False
        self.withdraw(lease)
        ticket.wake()
        return True

    # -- looking -------------------------------------------------------------------------------------------------

    def fits(self, key: str, amount: float) -> bool:
        """Whether `amount` of one limit is free now, whoever waits for it. Changes nothing."""
        with self._lock:
            return self._meters[key].fits(amount, self._now())

    def prospect(self, amounts: Mapping[str, float]) -> tuple[int, float, float]:
        """How soon a request would be granted, to be compared with other sets': how many wait before it; when its
        amounts are free, a time of the clock; and the share of the fullest of its limits that is taken."""
        with self._lock:
            now = self._now()
            wanted = [(self._meters[key], amount) for key, amount in amounts.items()]
            return (
                sum(line.live for line in self._lines.values() if not line.keys.isdisjoint(amounts)),
                max((meter.free_at(amount, now) for meter, amount in wanted), default=now),
                max((meter.used(now) / meter.capacity for meter, _ in wanted), default=0),
            )

    def never_fits(self, key: str, amount: float) -> float | None:
        """The capacity of a limit that frees nothing by itself, where `amount` is more than that; else None."""
        meter = self._meters[key]  # what is looked at never changes: no lock
        return meter.capacity if meter.holds and amount > meter.capacity else None

    def look(self, key: str) -> tuple[float, int]:
        """How much of a limit is taken (above its capacity where there is debt), and how many wait for it."""
        with self._lock:
            waiting = sum(line.live for line in self._lines.values() if key in line.keys)
            return self._meters[key].used(self._now()), waiting

    # -- under the lock ------------------------------------------------------------------------------------------

    def _somebody_waits(self, keys: Iterable[str]) -> bool:
        return any(not line.keys.isdisjoint(keys) for line in self._lines.values())

    def _grant(self, lease: Lease, now: float) -> None:
        meters, marks = self._meters, lease.marks
        try:
            for key, amount in lease.amounts.items():
                marks.append(meters[key].take(amount, now))
            lease.state = HELD
        except BaseException:  # Ctrl-C between two of them
            self._undo(lease)
            raise

    def _undo(self, lease: Lease) -> None:
        now = self._now()
        for (key, amount), mark in zip(lease.amounts.items(), lease.marks, strict=False):
            self._meters[key].give_back(mark, amount, now)
        lease.marks.clear()

    def _leave(self, lease: Lease) -> None:
        line = self._lines.get(frozenset(lease.amounts))
        if line is not None:
            line.left()

    def _serve(self, woken: list[Ticket]) -> None:
        """Grant whatever can be granted now, in order, and set the timer to when there will be more."""
        due = inf
        now = self._now()
        while self._lines:
            due = inf
            taken: set[str] = set()  # keys that somebody waits for who came earlier
            heads: list[tuple[int, _Line, Lease]] = []
            for line in list(self._lines.values()):
                first = line.first()
                if first is None:
                    del self._lines[line.keys]
                else:
                    heads.append((first.number, line, first))
            if len(heads) > 1:
                heads.sort(key=itemgetter(0))
            for _, line, first in heads:
                if taken.isdisjoint(line.keys):
                    when = self._free_at(first.amounts, now)
                    if when <= now:
                        self._serve_first(first, line, now, woken)
                        break  # the next in that line may have to stand behind another line now
                    due = min(due, when)
                taken |= line.keys
            else:
                break
        self._set_timer(due if self._lines else inf)

    def _serve_first(self, lease: Lease, line: _Line, now: float, woken: list[Ticket]) -> None:
        ticket = lease.ticket
        lease.ticket = None  # the two would keep each other
        if ticket is not None and ticket.claim(lease):
            woken.append(ticket)
            self._grant(lease, now)
        else:
            lease.state = ENDED  # served by another set, or the wait is over; its waiter knows
        line.left()

    def _free_at(self, amounts: Mapping[str, float], now: float) -> float:
        when = now
        for key, amount in amounts.items():
            when = max(when, self._meters[key].free_at(amount, now))
        return when

    def _set_timer(self, due: float) -> None:
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = inf
        if due < inf:
            self._timer = self._clock.call_at(due, self._tick)
            self._due = due  # last: a Ctrl-C before this line leaves a timer too many, not one too few

    def _tick(self) -> None:
        woken: list[Ticket] = []
        try:
            with self._lock:
                if self._now() >= self._due:  # else it is an old timer, that was due while it was being cancelled
                    self._timer = None
                    self._due = inf
                self._serve(woken)
        finally:
            _wake(woken)


def _wake(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        ticket.wake()
