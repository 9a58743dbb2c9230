"""What the waits of actors lead to: the actor that must go on, a call that was sent, one that waits for its arguments.

Guarantees: nothing here blocks, takes a lock or keeps anything.
Assumes: `waits` has its lock where it asks for what may change.
Called by: `waits`, and those who have a probe of its to pass on (`edges`, `served`).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from typing import Any

from concurry.runtime.std_view import PENDING
from concurry.transports.errors import DeadlockError

_numbers = itertools.count(1)


class Wait:
    """One wait of an actor: for all of some futures, or for the first of them.

    Attributes:
        targets: of a wait for all: who must go on for them to end, each with one of the futures.
        futures: of a wait for the first, whose own is looked at only where somebody must know; not changed meanwhile.
        led_back: how many of its ways are known to lead back to it, which they do as long as it waits.
        broken: why it ends now.
    """

    __slots__ = ("_ways", "broken", "futures", "led_back", "number", "targets")

    def __init__(self, targets: dict[Any, Any], futures: Collection[Any] | None = None) -> None:
        number = next(_numbers)
        self.number = number if futures is None else -number  # whoever receives its probe sees of which kind it is
        self.targets = targets
        self.futures = futures
        self.led_back = 0
        self.broken: DeadlockError | None = None
        self._ways: list[Any] | None = None

    def ways(self) -> list[Any]:
        """The targets; those of a wait for the first are none where one of its futures needs no actor."""
        if self.futures is None:
            return [*self.targets]
        if self._ways is None:
            nodes = dict.fromkeys(map(needed_by, self.futures))
            self._ways = [] if None in nodes else together(nodes)
        return self._ways

    def is_broken_by(self, future: Any) -> bool:
        return self.broken is not None and future._exception is self.broken

    def onward(self) -> list[Any]:
        """Each of those of whom one is enough for the wait to be stuck."""
        ways = self.ways()
        return ways if self.futures is None or len(ways) == 1 else []


class Turns:
    """Actors of which there is one at a time, one after the other: who waits in one of them is who waits in the next,
    and a call that waits for its turn needs whichever it is."""

    interleaves = False

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name


class Parked:
    """A call that waits for futures among its arguments: it needs all of them, and then who runs it."""

    __slots__ = ("call",)

    def __init__(self, call: Any) -> None:
        self.call = call

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parked) and other.call is self.call

    def __hash__(self) -> int:
        return hash(self.call)

    def __str__(self) -> str:
        return f"{self.call.name}()"

    def onward(self) -> list[Any]:
        futures = _arguments(self.call)
        needs = [needed_by(future) for future in futures] if futures else []
        needs.append(_runner(self.call))
        return [need for need in needs if need is not None]


class Together:
    """Calls that were sent to one handle elsewhere, of which the first to end is waited for: they lead on together,
    where all of them need the same actor."""

    __slots__ = ("sent",)

    def __init__(self, sent: list[Any]) -> None:
        self.sent = sent

    def __str__(self) -> str:
        return str(self.sent[0])

    @property
    def beyond(self) -> tuple[Any, list[int]]:
        return self.sent[0].edge, [each.number for each in self.sent]


def together(nodes: Iterable[Any]) -> list[Any]:
    """The nodes, with the calls that were sent to one handle as one."""
    found: dict[Any, list[Any]] = {}
    for node in nodes:
        found.setdefault((node.edge, node.ticket) if hasattr(node, "edge") else node, []).append(node)
    return [each[0] if len(each) == 1 else Together(each) for each in found.values()]


def needed_by(future: Any) -> Any:
    """The one actor or lane that must go on for the future to end, or the call that was sent to a handle elsewhere,
    whose owner knows, or that waits for its arguments; None where it is done, or there is no such one."""
    if future._status is not PENDING or future.owner is None:
        return None
    return _runner(future) if _arguments(future) is None else Parked(future)


def _arguments(call: Any) -> list[Any] | None:
    """The futures that a call waits for before it can run."""
    parked = getattr(call.owner, "parked", None)
    found = parked.get(call) if parked else None
    return None if found is None or found is True else [future for _, future in found._futures]


def _runner(future: Any) -> Any:
    taker = future.owner.sole_member()
    if taker is None:
        sent = future.extra
        return sent if hasattr(sent, "beyond") else None
    if getattr(taker, "interleaves", False) and future.extra is None and future.running():
        return None  # it has begun on a thread of its own, and needs the loop no more
    return taker
