"""What the processes of a pool hold of its limits: the parent's side of `remote_arbiter`, which has the picture.

Guarantees: each process's leases are real ones at the arbiter, of one owner, which is closed when the process is gone:
so whatever it held or waited for is free at once, however it ended. A set that several pools share, of whatever modes,
has one arbiter, and is one limit. Leases that were granted ahead of need count as taken; they are asked back after
three quarters of `Transport.lend_s`, and at once when somebody waits for the set or looks at it. Of a process that died
with some of them, those of a rate count as used: nobody knows better.
Assumes: messages are handled on the I/O thread, and nothing here blocks it; `gone` comes after a channel's last one.
Called by: `Elsewhere` (messages, ends); arbiters (`Outside`).
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from concurry.runtime import kinds
from concurry.runtime.clock import system
from concurry.runtime.limiter.lease import AnyArbiter, Lease, Ticket
from concurry.runtime.limiter.owner import LeaseOwner
from concurry.runtime.raw_lock import acquire_within

_ANSWER_S: Final = 0.05  # how long a look waits for processes to answer: one may be stopped, or busy in C
_MOST_AHEAD: Final = 32
_MOST_INT: Final = 2**63  # what a message can carry
_MAKING: Final = allocate_lock()  # protects the making of an arbiter's `outside`; no other lock is taken under it


class Counted(NamedTuple):
    """A set of limits: its arbiter, its keys in order, whether leases may be granted ahead of need, and whether one
    that is released may be used again as it is."""

    arbiter: AnyArbiter
    keys: tuple[str, ...]
    ahead: bool
    again: bool


class Outside:
    """Who in other processes holds something of one arbiter's."""

    def __init__(self, arbiter: AnyArbiter) -> None:
        self._arbiter = arbiter
        self.books: dict[_Book, None] = {}  # single steps on it are atomic

    def wanted(self) -> None:
        """Somebody waits: what is not used shall come back."""
        for book in list(self.books):
            book.ask_back(self._arbiter)

    def settle(self) -> bool:
        """Wait, for a moment at most, until what was released before now is free, and what is not used as well. False:
        there is nothing to wait for."""
        gate = allocate_lock()
        gate.acquire()
        if not self.when_settled(gate.release):
            return False
        acquire_within(gate, _ANSWER_S)
        return True

    def when_settled(self, then: Callable[[], object], *, but: _Book | None = None) -> bool:
        """Call `then` when that is so. False: it is so now."""
        books = [book for book in list(self.books) if book is not but and book.holds(self._arbiter)]
        if books:
            done = _Last(len(books), then)
            for book in books:
                book.settle(self._arbiter, done)
        return bool(books)


class _Last:
    """Called so many times, it calls `then`."""

    def __init__(self, count: int, then: Callable[[], object]) -> None:
        self._left = count
        self._then = then
        self._lock = allocate_lock()  # protects `_left`

    def __call__(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        self._then()


class _Open:
    """A set of which a process was lent leases ahead, until it has answered that it has none any more."""

    __slots__ = ("asked", "told")

    def __init__(self) -> None:
        self.asked = False
        self.told: list[Callable[[], object]] = []  # who is to be told of the answer


class _Book:
    """What one process holds."""

    def __init__(self, sets: Sequence[Counted], channel: Any, name: str, lend_s: float) -> None:
        self._sets = sets
        self._lend_s = lend_s
        self._channel = channel
        self.owner = LeaseOwner(name)
        # Those that are held or wait, each with the keys of its set, by the numbers that the process has given.
        self._leases: dict[int, tuple[Lease, Sequence[str]]] = {}
        # Protects the two below and the order of what is told about them; an arbiter's may be taken under it.
        self._lock = allocate_lock()
        self._open: dict[int, _Open] = {}  # by the number of the set
        self._timer: Any = None

    def holds(self, arbiter: AnyArbiter) -> bool:
        """Whether it has something of that arbiter's."""
        return any(lease.arbiter is arbiter for lease, _ in list(self._leases.values()))

    # -- messages: on the I/O thread ---------------------------------------------------------------------------------

    def asked(self, message: list[Any]) -> None:
        kind, wanted, first, count, released, unused = message
        self.take_back(released, unused)
        leases: list[tuple[int, int, Lease]] = []
        index: int
        for number, index, *amounts in wanted:
            counted = self._sets[index]
            self._join(counted.arbiter)
            leases.append((number, index, Lease(counted.arbiter, _by_key(counted.keys, amounts), self.owner)))
        if self._try(leases, first, count):
            return
        if kind == kinds.LIMIT_REQUEST:
            self._wait(leases)
            return

        def once_more() -> None:
            if not self._try(leases, first, 0):
                self._tell([kinds.LIMIT_ANSWER, leases[0][0], None])

        again = _Once(once_more)
        waits_for = [it for it in {lease.arbiter: None for _, _, lease in leases} if it.outside is not None]
        last = _Last(len(waits_for) + 1, again)
        for arbiter in waits_for:
            if not arbiter.outside.when_settled(last, but=self):
                last()
            else:  # one that does not answer holds nobody up for long
                again.timer = again.timer or system.call_at(system.now() + _ANSWER_S, again)
        last()

    def _try(self, leases: list[tuple[int, int, Lease]], first: int, count: int) -> bool:
        for number, index, lease in leases:
            arbiter = lease.arbiter
            if arbiter.try_request(lease) if arbiter.desk is None else arbiter.try_settled(lease):
                self._leases[number] = lease, self._sets[index].keys
                self._grant(number, index, lease, first, count)
                return True
        return False

    def _grant(self, number: int, index: int, lease: Lease, first: int, count: int) -> None:
        with self._lock:  # so that the process hears of what it is lent before it is asked back
            state = self._open.get(index)
            lent = 0
            now: float = 0
            if count > 0 and self._sets[index].ahead and not (state is not None and state.asked):
                lent = self._lend(index, lease, first, min(count, _MOST_AHEAD))
                now = system.now() if index in self._open else 0
            self._tell([kinds.LIMIT_GRANTED, number, index, first, lent, now])

    def _lend(self, index: int, lease: Lease, first: int, count: int) -> int:
        leases = [Lease(lease.arbiter, lease.amounts, self.owner) for _ in range(count)]
        lent = lease.arbiter.lend(leases)
        if lent or self._sets[index].again:
            for number, each in zip(range(first, first + lent), leases, strict=False):
                self._leases[number] = each, self._sets[index].keys
            self._open.setdefault(index, _Open())
            if self._timer is None:
                self._timer = system.call_at(system.now() + 0.75 * self._lend_s, self._idle)
        return lent

    def _wait(self, leases: list[tuple[int, int, Lease]]) -> None:
        self._tell([kinds.LIMIT_ANSWER, leases[0][0], None])  # it waits; said before it can be granted

        def wake() -> None:
            for number, index, lease in leases:
                if lease is ticket.served:  # None where the owner has ended: nobody is there to be told
                    self._tell([kinds.LIMIT_GRANTED, number, index, 0, 0, 0])

        ticket = Ticket(wake)
        for number, index, lease in leases:
            self._leases[number] = lease, self._sets[index].keys
        for _, _, lease in leases:
            lease.arbiter.request(lease, ticket)

    def take_back(self, released: Sequence[Sequence[Any]], unused: Sequence[int]) -> None:
        """Leases that the process has ended, with what was used of them; and those that it never used."""
        for number, *usage in released:
            found = self._leases.pop(number, None)
            if found is not None:
                lease, keys = found
                if usage:
                    lease.usage = _by_key(keys, usage)
                lease.arbiter.release(lease)
        for number in unused:
            self.withdrawn(number)

    def withdrawn(self, number: int) -> None:
        found = self._leases.pop(number, None)
        if found is not None:
            found[0].arbiter.withdraw(found[0])

    def given_back(self, message: list[Any]) -> None:
        _, index, was_asked, unused, released = message
        self.take_back(released, unused)
        if was_asked:
            with self._lock:
                state = self._open.pop(index, None)
            for told in state.told if state is not None else ():
                told()

    def looked(self, message: list[Any]) -> None:
        index: int
        _, number, index, what, *about = message
        arbiter, keys, *_ = self._sets[index]

        def answer() -> None:
            found: Any
            if what == "prospect":
                waiting, free_at, share = arbiter.prospect(_by_key(keys, about))
                found = waiting, float(free_at), float(share)
            elif what == "fits":
                found = arbiter.fits(_key(keys, about[0]), about[1])
            else:
                used, waiting = arbiter.look(_key(keys, about[0]))
                found = used if abs(used) < _MOST_INT else float(used), waiting
            self._tell([kinds.LIMIT_ANSWER, number, found])

        once = _Once(answer)
        if what == "prospect" or arbiter.outside is None or not arbiter.outside.when_settled(once, but=self):
            once()
        else:
            once.timer = system.call_at(system.now() + _ANSWER_S, once)

    # -- asking back: from any thread --------------------------------------------------------------------------------

    def ask_back(self, arbiter: AnyArbiter) -> None:
        """What the process was lent of this arbiter's and does not use shall come back."""
        if self._open:
            with self._lock:
                self._ask_back([index for index in self._open if self._sets[index].arbiter is arbiter])

    def _ask_back(self, indices: list[int]) -> None:
        for index in indices:
            state = self._open[index]
            if not state.asked:
                state.asked = True
                self._tell([kinds.LIMIT_SPARE, index])

    def _idle(self) -> None:
        with self._lock:
            self._timer = None
            self._ask_back(list(self._open))

    def settle(self, arbiter: AnyArbiter, done: Callable[[], object]) -> None:
        """Call `done` when what the process has released by now of this arbiter's, and was lent, is taken back."""
        with self._lock:
            open_ones = [index for index in self._open if self._sets[index].arbiter is arbiter]
            if open_ones:
                last = _Last(len(open_ones), done)
                for index in open_ones:
                    self._open[index].told.append(last)
                self._ask_back(open_ones)
                return
        self._channel.hear(done)

    # -- its end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The process is gone."""
        with self._lock:
            states, self._open = self._open, {}
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self.owner.close()
        self._leases.clear()
        for counted in self._sets:
            if counted.arbiter.outside is not None:
                counted.arbiter.outside.books.pop(self, None)
        for state in states.values():
            for told in state.told:
                told()

    def _join(self, arbiter: AnyArbiter) -> None:
        if arbiter.outside is None:
            with _MAKING:
                if arbiter.outside is None:
                    arbiter.outside = Outside(arbiter)
        arbiter.outside.books[self] = None

    def _tell(self, message: list[Any]) -> None:
        self._channel.tell(message)


class _Once:
    """Calls `fn` the first time that it is called. `timer`: what calls it at the latest."""

    def __init__(self, fn: Callable[[], object]) -> None:
        self._fn: Callable[[], object] | None = fn
        self._lock = allocate_lock()  # protects `_fn`
        self.timer: Any = None

    def __call__(self) -> None:
        with self._lock:
            fn, self._fn = self._fn, None
        if fn is not None:
            if self.timer is not None:
                self.timer.cancel()
            fn()


class RemoteLeases:
    """What the processes of one pool hold. `handlers`: see `Elsewhere.handlers`."""

    def __init__(self, sets: Sequence[Counted]) -> None:
        self._sets = tuple(sets)
        self._books: dict[Any, _Book] = {}  # by channel
        self.handlers: dict[int, Callable[[Any, Any, list[Any], list[int]], object]] = {
            kinds.LIMIT_TRY: lambda member, channel, message, _: self._book(member, channel).asked(message),
            kinds.LIMIT_REQUEST: lambda member, channel, message, _: self._book(member, channel).asked(message),
            kinds.LIMIT_RELEASE: lambda member, channel, message, _: self._book(member, channel).take_back(
                message[1], ()
            ),
            kinds.LIMIT_WITHDRAW: lambda member, channel, message, _: self._book(member, channel).withdrawn(message[1]),
            kinds.LIMIT_LOOK: lambda member, channel, message, _: self._book(member, channel).looked(message),
            kinds.LIMIT_SPARE: lambda member, channel, message, _: self._book(member, channel).given_back(message),
        }

    def _book(self, member: Any, channel: Any) -> _Book:
        book = self._books.get(channel)
        if book is None:
            book = self._books[channel] = _Book(self._sets, channel, str(member), member.pool.transport.lend_s)
        return book

    def owner(self, channel: Any) -> LeaseOwner | None:
        """Who holds what a process has taken; None: it has asked for nothing yet."""
        book = self._books.get(channel)
        return None if book is None else book.owner

    def gone(self, channel: Any) -> None:
        """A process is gone: what it held and waited for is free."""
        book = self._books.pop(channel, None)
        if book is not None:
            book.close()


def _key(keys: Sequence[str], place: int) -> str:
    return keys[place]


def _by_key(keys: Sequence[str], flat: list[Any]) -> dict[str, float]:
    """Amounts by key, from places and amounts by turns."""
    key_at: Any = keys
    return {key_at[flat[n]]: flat[n + 1] for n in range(0, len(flat), 2)}
