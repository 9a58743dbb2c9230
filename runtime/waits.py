"""Who waits for whom, so that a wait that could never end is refused.

Guarantees: `DeadlockError` for a wait in an actor, of one call at a time, on itself, or round a circle of such actors.
An actor's event loop counts as one of them while it is blocked: by an async method that waits without `await`.
Actors with several calls at once, as long as their loop is not blocked, and pools of several actors are left out:
another call or actor may free them. Costs nothing outside actors, and nothing where the future is done.
Assumes: an actor's loop sets `here.member` in its thread. Those that stand there, and that intakes name as theirs,
have `interleaves`: whether an `await` there lets other calls go on.
Called by: futures and `wait`/`gather`, before they block.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from concurry.transports.errors import DeadlockError


class _Here(threading.local):
    member: Any = None  # the actor or lane whose calls this thread runs: one at a time, or on its event loop
    inside: Any = None  # the member whose actor this thread belongs to, of whatever kind


here = _Here()
_edges: dict[Any, list[frozenset[Any]]] = {}  # who waits -> for whom, by wait: one loop may await several futures
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
    targets = frozenset(target for future in futures if (target := _needed_by(future)) is not None)
    if not targets:
        yield
        return
    with _lock:
        path = _way(targets, me)
        if path is None:
            _edges.setdefault(me, []).append(targets)
    if path is not None:
        chain = " -> ".join(str(step) for step in (me, *path))
        instead = (
            "await the future, instead of blocking the event loop on which it would run"
            if getattr(me, "interleaves", False)
            else "do not wait for it inside the worker, or give the worker max_concurrency > 1, or call the method "
            "directly on self"
        )
        raise DeadlockError(
            f"{me} would wait for ever: {chain}. The call itself is accepted and runs later; {instead}."
        )
    try:
        yield
    finally:
        with _lock:
            waits = _edges[me]
            waits.remove(targets)
            if not waits:
                del _edges[me]


def _needed_by(future: Any) -> Any:
    """The one actor or lane that must go on for the future to end; None where it is done, or there is no such one."""
    if future.done() or future.owner is None:
        return None
    taker = future.owner.sole_member()
    if taker is not None and getattr(taker, "interleaves", False) and future.extra is None and future.running():
        return None  # it has begun on a thread of its own, and needs the loop no more
    return taker


def _way(start: Iterable[Any], goal: Any) -> list[Any] | None:
    """A path from one of `start` to `goal` along the edges, or None."""
    stack = [[member] for member in start]
    seen: set[Any] = set()
    while stack:
        path = stack.pop()
        if path[-1] is goal:
            return path
        if path[-1] not in seen:
            seen.add(path[-1])
            stack.extend([*path, member] for targets in _edges.get(path[-1], ()) for member in targets)
    return None


def after_fork_in_child() -> None:
    """Nobody else waits here, and the lock may have been held."""
    global _lock
    _lock = allocate_lock()
    _edges.clear()
