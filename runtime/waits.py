"""Who waits for whom, so that a wait that could never end is refused.

    wait begins: enter --> a circle in this process: DeadlockError at once
                       --> a chain that leads out of it: a probe goes along, by the lines that the calls went
    probe comes: chase --> along the waits here, and out again where they lead on
                       --> back at the wait that sent it: that wait ends with DeadlockError

Guarantees: `DeadlockError` for a wait in an actor, of one call at a time, on itself, or round a circle of such actors,
in whatever processes they are. An actor's event loop counts as one of them while it is blocked: by an async method that
waits without `await`. Actors with several calls at once, as long as their loop is not blocked, and pools of several
actors are left out: another call or actor may free them. Costs nothing outside actors, and nothing where the future is
done; a message only where a wait leads to another process that handles have come from or gone to.
No wait is refused wrongly: each step of a probe is taken while the call that it follows is open and the one who has it
waits. The wait that sent the probe still goes on when it comes back, so nobody on the way can have gone on meanwhile.
Each process keeps its own waits, and no others. Source: Chandy, Misra and Haas, Distributed deadlock detection (1983).
A circle in this process is seen before the wait begins, and leaves the future alone; one through others is seen while
it is being waited for, and ends that future with the DeadlockError. The call itself is accepted, and runs later.
Assumes: an actor's loop sets `here.member` in its thread. Those that stand there, and that intakes name as theirs,
have `interleaves`: whether an `await` there lets other calls go on; those that are at home elsewhere have `beyond`.
Called by: futures and `wait`/`gather`, before they block; `edges` (`chase`).
"""

from __future__ import annotations

import itertools
import threading
from _thread import allocate_lock
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from concurry.transports import luggage
from concurry.transports.errors import DeadlockError

_LONGEST = 100  # steps of a probe; it may have come upon a circle that is not its own, and go round


class _Here(threading.local):
    member: Any = None  # the actor or lane whose calls this thread runs: one at a time, or on its event loop
    inside: Any = None  # the member whose actor this thread belongs to, of whatever kind


here = _Here()
trunk: Any = None  # in a child: its actor, where it runs one call at a time


class _Wait:
    """One wait of an actor for all of some futures.

    Attributes:
        targets: who must go on for them to end, each with one of the futures. broken: why it ends now.
    """

    __slots__ = ("broken", "number", "targets")

    def __init__(self, targets: dict[Any, Any]) -> None:
        self.number = next(_numbers)
        self.targets = targets
        self.broken: DeadlockError | None = None


_numbers = itertools.count(1)
_edges: dict[Any, list[_Wait]] = {}  # who waits -> its waits: one loop may await several futures
_lock = allocate_lock()  # protects `_edges`; no other lock is taken under it


@contextmanager
def waiting(futures: Iterable[Any], *, awaits: bool = False) -> Iterator[None]:
    """Around a wait for *all* of `futures`. Raises `DeadlockError` where that could never end.

    Args:
        awaits: whether the thread's event loop goes on meanwhile.
    """
    me = here.member
    if me is None or (awaits and getattr(me, "interleaves", False)):
        yield
        return
    wait = _enter(me, futures)
    if wait is None:
        yield
        return
    try:
        yield
    finally:
        with _lock:
            waits = _edges[me]
            waits.remove(wait)
            if not waits:
                del _edges[me]
    if wait.broken is not None:
        raise wait.broken


def _enter(me: Any, futures: Iterable[Any]) -> _Wait | None:
    """A wait begins. None: it needs no actor to go on."""
    targets: dict[Any, Any] = {}
    for future in futures:
        target = needed_by(future)
        if target is not None:
            targets.setdefault(target, future)
    if not targets:
        return None
    wait = _Wait(targets)
    with _lock:
        path, ends = _walk([[target] for target in targets], me)
        if path is None:
            _edges.setdefault(me, []).append(wait)
    if path is not None:
        raise _deadlock(me, path)
    if ends:
        order = [*targets]
        _probe(ends, luggage.process(), wait.number, lambda path: _which(order, path[0]), [str(me)])
    return wait


def needed_by(future: Any) -> Any:
    """The one actor or lane that must go on for the future to end, or the call that was sent to a handle elsewhere,
    whose owner knows; None where it is done, or there is no such one."""
    if future.done() or future.owner is None:
        return None
    taker = future.owner.sole_member()
    if taker is None:
        sent = future.extra
        return sent if hasattr(sent, "beyond") else None
    if getattr(taker, "interleaves", False) and future.extra is None and future.running():
        return None  # it has begun on a thread of its own, and needs the loop no more
    return taker


def _walk(stack: list[list[Any]], goal: Any) -> tuple[list[Any] | None, list[list[Any]]]:
    """From the ends of these paths along the edges. Returns the path to `goal`, or None; and the paths to those whose
    waits are in another process. Under the lock."""
    ends: list[list[Any]] = []
    seen: set[Any] = set()
    while stack:
        path = stack.pop()
        last = path[-1]
        if last is goal:
            return path, []
        if last not in seen:
            seen.add(last)
            if getattr(last, "beyond", None) is not None:
                ends.append(path)
            stack.extend([*path, target] for wait in _edges.get(last, ()) for target in wait.targets)
    return None, ends


# -- across processes -------------------------------------------------------------------------------------------------


def _which(order: list[Any], first: Any) -> int | None:
    """Which of a wait's targets a probe follows: below 0 for those of this process; for calls that were sent, their
    number, which who receives the probe fills in."""
    return None if hasattr(first, "edge") else -1 - order.index(first)


def _probe(
    ends: Iterable[list[Any]], process: str, number: int, which: Callable[[list[Any]], int | None], chain: list[str]
) -> None:
    """Send a probe on, to where these paths lead: one for each line, with all the calls there that it follows.

    Args:
        process, number: the wait that it is for. which: see `_which`. chain: the way so far.
    """
    together: dict[tuple[Any, int | None], tuple[list[str], list[int]]] = {}
    for path in ends:
        beyond = path[-1].beyond
        if beyond is not None:
            edge, call = beyond
            way = [*chain, *map(str, path[:-1])]  # the last one is named over there
            _, calls = together.setdefault((edge, which(path)), (way, []))
            if call is not None:
                calls.append(call)
    for (edge, follows), (way, calls) in together.items():
        edge.probe([process, number, follows, way], calls)


def chase(nodes: Mapping[Any, int | None], probe: list[Any]) -> None:
    """A probe has come, for these actors. Never blocks; on an I/O thread.

    Args:
        nodes: each with the number of the call that leads to it, which the probe followed first; None otherwise.
        probe: whose it is: process, number of the wait, which of its targets it follows; and the way so far.
    """
    process, number, follows, chain = probe
    if len(chain) > _LONGEST:
        return

    def which(path: list[Any]) -> int | None:
        return nodes[path[0]] if follows is None else int(follows)

    ours = process == luggage.process()
    stack = [[node] for node in nodes]
    ends: list[list[Any]] = []
    seen: set[Any] = set()
    found: tuple[_Wait, list[Any]] | None = None
    with _lock:
        while stack and found is None:
            path = stack.pop()
            last = path[-1]
            if last in seen:
                continue
            seen.add(last)
            if getattr(last, "beyond", None) is not None:
                ends.append(path)
            for wait in _edges.get(last, ()):
                if ours and wait.number == number:
                    found = wait, path
                stack.extend([*path, target] for target in wait.targets)
    if found is None:
        _probe(ends, process, number, which, chain)
    else:
        wait, path = found
        _break(wait, which(path), [*chain, *map(str, path)])


def _break(wait: _Wait, which: int | None, chain: list[str]) -> None:
    if which is not None and which < 0:
        future = [*wait.targets.values()][-1 - which]
    else:
        calls = {sent.number: it for sent, it in wait.targets.items() if hasattr(sent, "edge")}
        future = calls.get(which)
    wait.broken = error = _error(chain[0], " -> ".join(chain), interleaves=False)
    if future is None or not future.abandon(error):  # it has ended
        wait.broken = None


def _deadlock(me: Any, path: list[Any]) -> DeadlockError:
    chain = " -> ".join(str(step) for step in (me, *path))
    return _error(str(me), chain, interleaves=getattr(me, "interleaves", False))


def _error(me: str, chain: str, *, interleaves: bool) -> DeadlockError:
    instead = (
        "await the future, instead of blocking the event loop on which it would run"
        if interleaves
        else "do not wait for it inside the worker, or give the worker max_concurrency > 1, or call the method "
        "directly on self"
    )
    return DeadlockError(f"{me} would wait for ever: {chain}. The call itself is accepted and runs later; {instead}.")


def after_fork_in_child() -> None:
    """Nobody else waits here, and the lock may have been held."""
    global _lock
    _lock = allocate_lock()
    _edges.clear()
