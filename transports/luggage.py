"""What a message carries beside values: handles, which are addresses. This says for which pickles they are valid.

    Packing: around the pickling of a message    handle.__reduce__ --check_in--> a ticket; the message is `Carrying` now
    Arriving: around its unpickling              the ticket becomes a handle there, or is given back

Guarantees: each ticket of a message that has arrived is given back once: at the end of the unpickling where no handle
was made of it, else with that handle's end; also where nobody ever unpickles the message. Outside of both a handle
cannot be pickled (`check_in` says None). A message without handles pays for this with two attributes of its thread.
Assumes: a message is pickled and unpickled in one go, in one thread.
Called by: `codec` (Packing), whoever sends a `Carrying` message (the runtime lends its handles to the receiver),
whoever unpickles one (Arriving), the handle.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Iterable
from typing import Any


class _Here(threading.local):
    packing: dict[int, Any] | None = None  # ticket -> handle, of the message that this thread pickles
    arriving: Any = None  # the message that this thread unpickles


_here = _Here()
_tickets = itertools.count(1)
_uids = itertools.count(1)
_process = os.urandom(8).hex()
# Every handle of this process that has travelled, whether it is at home here or not, by a name that is the same in all
# processes: one that comes home is itself again, and one that comes twice is one object.
known: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


class Carrying(bytes):
    """An encoded call or reply that has handles in it; holding it holds them."""

    handles: dict[int, Any]  # by ticket


class Packing:
    """Around the pickling of one message. Gives the handles that it carries, by ticket, which grow meanwhile."""

    __slots__ = ("_before",)

    def __enter__(self) -> dict[int, Any]:
        self._before = _here.packing
        found: dict[int, Any] = {}
        _here.packing = found
        return found

    def __exit__(self, *_: object) -> None:
        _here.packing = self._before


def check_in(handle: Any) -> int | None:
    """A ticket for a handle that is being pickled, good for one message; None: what is pickled here is no message."""
    packing = _here.packing
    if packing is None:
        return None
    ticket = next(_tickets)
    packing[ticket] = handle
    return ticket


def uid_of(handle: Any) -> str:
    """The handle's name in all processes, made when it first travels."""
    names: dict[str, Any] = handle.__dict__
    known_as: str
    if "_uid" not in names:
        known_as = names.setdefault("_uid", f"{_process}-{next(_uids)}")
        known[known_as] = handle
    known_as = names["_uid"]
    return known_as


class Arriving:
    """A message with handles, from its arrival on; a context manager around its unpickling.

    Args:
        edge: the line that it came by: `edge.release(tickets)` gives them back, also from a finalizer.
        tickets: all that it carries.
    """

    __slots__ = ("_before", "_tickets", "edge")

    def __init__(self, edge: Any, tickets: Iterable[int]) -> None:
        self.edge = edge
        self._tickets: set[int] = set(tickets)

    def keep(self, ticket: int) -> None:
        """A handle has been made of it, and gives it back at its own end."""
        self._tickets.discard(ticket)

    def __enter__(self) -> None:
        self._before = _here.arriving
        _here.arriving = self

    def __exit__(self, *_: object) -> None:
        _here.arriving = self._before
        self._before = None
        self.give_back()

    def give_back(self) -> None:
        """What no handle was made of."""
        tickets, self._tickets = self._tickets, set()
        if tickets and self.edge is not None:  # None: that process is gone
            self.edge.release([*tickets])

    def __del__(self) -> None:
        self.give_back()


def arriving() -> Arriving | None:
    """The message that this thread unpickles now."""
    found: Arriving | None = _here.arriving
    return found


def process() -> str:
    """A name of this process that no other one has."""
    return _process


def _after_fork_in_child() -> None:
    global _process
    _process = os.urandom(8).hex()
    known.clear()  # they are at home in the parent; what comes from there now is a handle of this process


os.register_at_fork(after_in_child=_after_fork_in_child)
