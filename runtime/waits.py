"""Who waits for whom, so that a wait that could never end is refused.

Guarantees: `DeadlockError` for a wait in an actor, of one call at a time, on itself, or round a circle of such actors.
Actors with several calls at once and pools of several actors are left out: another call or actor may free them.
Costs nothing outside actors, and nothing where the future is done.
Assumes: an actor's loop sets `here.member` in its thread.
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
    member: Any = None  # the actor whose call this thread runs, where it is one of a single call at a time
    inside: Any = None  # the member whose actor this thread belongs to, of whatever kind


here = _Here()
_edges: dict[Any, frozenset[Any]] = {}  # waiting actor -> the actors it waits for
_lock = allocate_lock()  # protects `_edges`; no other lock is taken under it


@contextmanager
def waiting(futures: Iterable[Any]) -> Iterator[None]:
    """Around a blocking wait for *all* of `futures`. Raises `DeadlockError` where that could never end."""
    me = here.member
    if me is None:
        yield
        return
    targets = frozenset(
        target
        for future in futures
        if not future.done() and future.owner is not None and (target := future.owner.sole_member()) is not None
    )
    if not targets:
        yield
        return
    with _lock:
        path = _way(targets, me)
        if path is None:
            _edges[me] = targets
    if path is not None:
        chain = " -> ".join(str(step) for step in (me, *path))
        raise DeadlockError(
            f"{me} would wait for ever: {chain}. The call itself is accepted and runs later; do not wait for it inside "
            f"the worker, or give the worker max_concurrency > 1, or call the method directly on self."
        )
    try:
        yield
    finally:
        with _lock:
            _edges.pop(me, None)


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
            stack.extend([*path, member] for member in _edges.get(path[-1], ()))
    return None
