"""Who waits for whom, so that a wait that could never end is refused.

    wait begins: enter --> a circle in this process: DeadlockError at once
                       --> a chain that leads out of it: a probe goes along, by the lines that the calls went
    probe comes: chase --> along the waits here, and out again where they lead on
                       --> back at the wait that sent it: that wait ends with DeadlockError

Guarantees: `DeadlockError` for a wait in an actor, of one call at a time, on itself, or round a circle of such actors,
in whatever processes they are. A wait for the first of some futures is refused once each of them leads back to it; a
call that waits for futures among its arguments leads to them. An actor's event loop counts as one of them while it is
blocked: by an async method that waits without `await`. Actors with several calls at once, as long as their loop is not
blocked, and pools of several actors are left out: another call or actor may free them. So are, across processes, a
circle with two waits for the first of several that lead to different actors, and one that closes only when a call that
has waited for its arguments is sent. Costs nothing outside actors, and nothing where the future is done; a
message only where a wait leads to another process that handles have come from or gone to.
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

import sys
import threading
from _thread import allocate_lock
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from concurry.runtime.wait_nodes import Parked, Together, Wait, needed_by
from concurry.runtime.wait_nodes import together as together
from concurry.transports import luggage
from concurry.transports.errors import DeadlockError

Ends = Callable[[Any], bool]
_LONGEST = 100  # steps of a probe; it may have come upon a circle that is not its own, and go round


class _Here(threading.local):
    member: Any = None  # the actor or lane whose calls this thread runs: one at a time, or on its event loop
    inside: Any = None  # the member whose actor this thread belongs to, of whatever kind


here = _Here()
trunk: Any = None  # in a child: its actor, where it runs one call at a time


_edges: dict[Any, list[Wait]] = {}  # who waits -> its waits: one loop may await several futures
_firsts: set[Wait] = set()  # those of them that are for the first of several
_lock = allocate_lock()  # protects both; no other lock is taken under it


@contextmanager
def waiting(futures: Collection[Any], *, awaits: bool = False, every: bool = True) -> Generator[Ends | None]:
    """Around a wait for `futures`. Raises `DeadlockError` where that could never end. Gives what is true for the future
    whose end tells so while it is being waited for, after which the wait is left; None: it will not.

    Args:
        awaits: whether the thread's event loop goes on meanwhile.
        every: all of them must end; False: one of them must, and they are not changed meanwhile.
    """
    me = here.member
    if me is None or (awaits and getattr(me, "interleaves", False)):
        if awaits and me is None and "ipykernel.kernelapp" in sys.modules:
            from concurry.runtime import kernel_interrupt

            with kernel_interrupt.heard():
                yield None
            return
        yield None
        return
    wait = _enter(me, futures) if every or len(futures) == 1 else _enter_first(me, futures)
    if wait is None:
        yield None
        return
    try:
        yield wait.is_broken_by
    finally:
        _leave(me, wait)
    if wait.broken is not None:
        raise wait.broken


def _leave(me: Any, wait: Wait) -> None:
    with _lock:
        waits = _edges[me]
        waits.remove(wait)
        if not waits:
            del _edges[me]
        _firsts.discard(wait)


def _enter(me: Any, futures: Iterable[Any]) -> Wait | None:
    """A wait for all begins. None: it needs no actor to go on."""
    targets: dict[Any, Any] = {}
    for future in futures:
        target = needed_by(future)
        if target is not None:
            targets.setdefault(target, future)
    if not targets:
        return None
    wait = Wait(targets)
    with _lock:
        _edges.setdefault(me, []).append(wait)
        path, ends = _walk([[target] for target in targets], me)
        if path is None and _firsts:
            path = _knot(me)
    if path is not None:
        _leave(me, wait)
        raise _deadlock(me, path)
    if ends:
        order = [*targets]
        _probe(ends, luggage.process(), wait.number, lambda path: _which(order, path[0]), [str(me)])
    return wait


def _enter_first(me: Any, futures: Collection[Any]) -> Wait | None:
    """A wait for the first begins. Looks at one of them: where that leads nowhere, the others need not be known."""
    one = needed_by(next(iter(futures)))
    if one is None:
        return None
    wait = Wait({}, futures)
    back: list[Any] | None = None
    with _lock:
        _edges.setdefault(me, []).append(wait)
        _firsts.add(wait)
        path, ends = _walk([[one]], me)
        if path is not None or _waits_on(one):
            back = _knot(me)
    if back is not None:
        _leave(me, wait)
        raise _deadlock(me, back)
    if path is not None:
        if _go_on(me, wait):  # another one began to wait just now
            _leave(me, wait)
            raise _deadlock(me, path)
    elif ends:
        _probe(ends, luggage.process(), wait.number, lambda _: 0, [str(me)])
    return wait


def _waits_on(node: Any) -> Sequence[Any]:
    """What a node waits for: each one is enough for it to be stuck."""
    return (node,) if isinstance(node, Parked) else _edges.get(node, ())


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
            stack.extend([*path, target] for wait in _waits_on(last) for target in wait.onward())
    return None, ends


def _knot(me: Any) -> list[Any] | None:
    """The path back to `me`, where nobody on the way can go on: those who wait for the first of several are stuck when
    each of these is. Under the lock."""
    needs: dict[Any, list[tuple[bool, list[Any]]]] = {}  # node -> its waits: whether one way is enough; the ways
    queue = [me]
    while queue:
        node = queue.pop()
        if node not in needs:
            needs[node] = [
                (True, wait.onward()) if isinstance(wait, Parked) else (wait.futures is None, wait.ways())
                for wait in _waits_on(node)
            ]
            queue.extend(way for _, ways in needs[node] for way in ways)
    stuck = set(needs)
    size = 0
    while size != len(stuck):
        size = len(stuck)
        for node, waits in needs.items():
            if not any(ways and (any if one else all)(way in stuck for way in ways) for one, ways in waits):
                stuck.discard(node)
    paths = [[way] for _, ways in needs[me] for way in ways if me in stuck]
    seen: set[Any] = set()
    while paths:
        path = paths.pop()
        if path[-1] is me:
            return path
        if path[-1] in stuck and path[-1] not in seen:
            seen.add(path[-1])
            paths.extend([*path, way] for _, ways in needs[path[-1]] for way in ways)
    return None


# -- across processes -------------------------------------------------------------------------------------------------


def _which(order: list[Any], first: Any) -> int | None:
    """Which of a wait's targets a probe follows: below 0 for those of this process; for calls that were sent, their
    number, which who receives the probe fills in. Of a wait for the first: 0 for a first look, or one of its ways."""
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
            if isinstance(path[-1], Together):
                edge.probe([process, number, which(path), way, True], call)
                continue
            _, calls = together.setdefault((edge, which(path)), (way, []))
            if call is not None:
                calls.append(call)
    for (edge, follows), (way, calls) in together.items():
        edge.probe([process, number, follows, way, False], calls)


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
    found: tuple[Wait, list[Any]] | None = None
    firsts: list[tuple[Any, Wait]] = []
    with _lock:
        while stack and found is None:
            path = stack.pop()
            last = path[-1]
            if last in seen:
                continue
            seen.add(last)
            if getattr(last, "beyond", None) is not None:
                ends.append(path)
            for wait in _waits_on(last):
                if ours and isinstance(wait, Wait) and wait.number == number:
                    found = wait, path
                elif number > 0 and wait in _firsts:  # for it something may have changed; not for two of them by turns
                    firsts.append((last, wait))
                stack.extend([*path, target] for target in wait.onward())
    for node, first in firsts:
        if _go_on(node, first):
            _break(first, None, [str(node), *chain, str(node)])
    if found is None:
        _probe(ends, process, number, which, chain)
    else:
        wait, path = found
        chain = [*chain, *map(str, path)]
        if wait.futures is None:
            _break(wait, which(path), chain)
        else:
            _led_back(path[-1], wait, which(path), chain)


def _led_back(me: Any, wait: Wait, which: int | None, chain: list[str]) -> None:
    """A probe of a wait for the first has come back: on with the next of its ways, until none is left."""
    with _lock:
        expected = which == 0 or which == -1 - wait.led_back
        if which and expected:
            wait.led_back += 1
    if expected and _go_on(me, wait):
        _break(wait, None, chain)


def _go_on(me: Any, wait: Wait) -> bool:
    """Follow the next way that is not known to lead back. True: there is none."""
    with _lock:
        if wait not in _firsts:  # it is over
            return False
        ways = wait.ways()
        ends: list[list[Any]] = []
        while wait.led_back < len(ways):
            path, ends = _walk([[ways[wait.led_back]]], me)
            if path is None:
                break
            wait.led_back += 1
        follows = -1 - wait.led_back
        over = 0 < len(ways) == wait.led_back
    if not over:
        _probe(ends, luggage.process(), wait.number, lambda _: follows, [str(me)])
    return over


def _break(wait: Wait, which: int | None, chain: list[str]) -> None:
    if wait.futures is not None:
        future = next((each for each in list(wait.futures) if not each.done()), None)
    elif which is not None and which < 0:
        future = [*wait.targets.values()][-1 - which]
    else:
        calls = {sent.number: it for sent, it in wait.targets.items() if hasattr(sent, "edge")}
        future = calls.get(which)
    wait.broken = error = _error(chain[0], " -> ".join(chain), interleaves=False)
    at = future.owner if future is not None and future.running() and hasattr(future.owner, "outside") else None
    if future is None or not future.abandon(error, at):  # it has ended
        wait.broken = None


def _deadlock(me: Any, path: list[Any]) -> DeadlockError:
    chain = " -> ".join(str(step) for step in (me, *path))
    return _error(str(me), chain, interleaves=getattr(me, "interleaves", False))


def _error(me: str, chain: str, *, interleaves: bool) -> DeadlockError:
    instead = (
        "await the future, instead of blocking the event loop on which it would run"
        if interleaves
        else "do not wait for it inside the worker, or give the worker max_concurrency > 1 (on demand: max_workers > "
        "1), or call the method directly on self (a task's function is its __wrapped__)"
    )
    return DeadlockError(f"{me} would wait for ever: {chain}. The call itself is accepted and runs later; {instead}.")


def after_fork_in_child() -> None:
    """Nobody else waits here, and the lock may have been held."""
    global _lock
    _lock = allocate_lock()
    _edges.clear()
    _firsts.clear()
