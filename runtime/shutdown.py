"""The end of a pool: asked for, at interpreter exit, by a handle that was dropped, in a forked child.

    stop:  refuse new calls -> cancel those that wait in the mailbox; end those that wait inside their method, for
           limits or for their next attempt -> wait for those that run, one deadline for all
           -> give up on what still runs: its future fails, its task is cancelled -> report threads that are stuck
    drain: nobody holds the handle any more: accepted calls finish, then the actors end; nobody waits for that, but an
           executor that is shut down
    exit:  stop, with `exit_timeout`, for every pool that is left; all at once, before the interpreter goes

Guarantees: idempotent, from any thread, also an actor's own (which ends after its call); every future is done when
`stop` returns; it returns within the timeout and a short grace, and at a Ctrl-C it waits no more. Nothing is printed at
interpreter exit.
Assumes: the transports' actors end when they are given None, if their call ends.
Called by: the handle, the supervisor (a failed start), `atexit`, `os.fork`.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from concurry.runtime import future, latency, waits
from concurry.runtime.clock import system
from concurry.runtime.notifier import helper, judge, notifier
from concurry.runtime.plan import Plan
from concurry.runtime.settle import interrupt
from concurry.runtime.std_view import PENDING
from concurry.runtime.waits import here
from concurry.transports.errors import ForkedHandleError, WorkerStoppedError
from concurry.transports.logs import about

log = logging.getLogger("concurry")

_KILLED_S = 1.0  # for what was killed to be gone
_GRACE_S = 1.0  # for async methods to be cancelled and pauses to be left, after the deadline
_MORE = "Give it more: stop(timeout=...), or stop_timeout=... in the options."
AT_EXIT = "Give it more: exit_timeout=... in the options, which holds here, as after a Ctrl-C in a `with` block."
AFTER_CTRL_C = "Give it more: exit_timeout=... in the options, which holds after a Ctrl-C."
_INTERRUPTED = "A Ctrl-C while it was waited for ended that wait."
_live: weakref.WeakSet[Any] = weakref.WeakSet()  # pools that are not over
_lock = threading.Lock()  # protects `_live`, `_hooked` and `_drained`
_hooked = False
_drained: dict[Any, list[Callable[[], object]]] = {}  # pools whose end somebody waits for; protected by `_lock`


def register(pool: Any) -> None:
    """From now on the pool is stopped at interpreter exit."""
    global _hooked
    with _lock:
        _live.add(pool)
        if not _hooked:
            _hooked = True
            atexit.register(_at_exit)
            os.register_at_fork(after_in_child=_after_fork_in_child)


def unregister(pool: Any) -> None:
    with _lock:
        _live.discard(pool)
        waiters = _drained.pop(pool, ())
    for wake in waiters:
        wake()


def refusal(plan: Plan) -> Callable[[], BaseException]:
    """Why a stopped pool takes no calls."""
    what = "Worker pool" if plan.pooled else "Worker"

    def stopped() -> BaseException:
        return WorkerStoppedError(f"{what} is stopped: {plan.name} takes no more calls. Make a new one with .init().")

    return stopped


def close_intakes(pool: Any) -> int:
    """Take no more calls; those that wait are cancelled. Returns how many."""
    what = "Worker pool" if pool.plan.pooled else "Worker"

    def cancelled() -> BaseException:
        return CancelledError(
            f"{what} is stopped: {pool.plan.name} was stopped before this call began. Collect results before stop(), "
            f"which the end of a `with` block calls."
        )

    return sum(intake.close(refusal(pool.plan), cancelled) for intake in pool.intakes)


def leave_waits(pool: Any) -> None:
    """Calls that wait inside their method, for limits or for their next attempt, end: they are not running anything."""
    what = "Worker pool" if pool.plan.pooled else "Worker"
    for member in pool.supervisor.everybody():

        def waited(call: Any, member: Any = member) -> BaseException:
            return WorkerStoppedError(
                f"{what} is stopped: {member}.{call.name}() waited for its limits, which were not taken"
            )

        member.call_waits.leave(waited)


def stop(
    pool: Any,
    timeout_s: float | None,
    *,
    grace_s: float = _GRACE_S,
    quiet: bool = False,
    more: str = _MORE,
) -> int:
    """Stop a pool. Again: returns at once. Returns how many calls were cancelled that had not begun.

    Args:
        timeout_s: how long calls that run may go on; None: as long as they need.
        grace_s: how long, after that, cancelled ones may take to end.
        quiet: log what is stuck for debugging only. more: how calls get more time, for the message.
    """
    if pool.forked:
        return 0  # its actors live in the parent, and are the parent's to stop
    if pool.supervisor.finished:
        return 0
    pool.supervisor.close()
    cancelled = close_intakes(pool)
    leave_waits(pool)
    _finish(pool, None if timeout_s is None else pool.clock.now() + timeout_s, grace_s, quiet, more)
    return cancelled


def _finish(pool: Any, deadline: float | None, grace_s: float, quiet: bool, more: str) -> None:
    try:
        _end_all(pool, deadline, grace_s, quiet, more)
    except KeyboardInterrupt:  # whoever presses Ctrl-C during a stop does not want to wait for it
        _end_all(pool, pool.clock.now(), 0.0, True, _INTERRUPTED)
        raise


def _end_all(pool: Any, deadline: float | None, grace_s: float, quiet: bool, more: str) -> None:
    members = pool.supervisor.everybody()
    if pool.transport.direct:
        for member in members:
            if member.channel is not None:
                member.channel.give(None)
    late = _join(pool, members, deadline)
    # Twice: between taking a call and showing it there is a moment; and what is cancelled first are calls, then the
    # class's own `stop`, which follows them.
    for grace in (grace_s, _KILLED_S if pool.transport.forcible else 0.3 * grace_s):
        if not late:
            break
        tasks = 0
        for member in late:
            tasks += _give_up(pool, member, more)
            tasks += member.interrupt()
            member.channel.kill()
        # Only what was cancelled needs the time to end: a method that runs in a thread hears of nothing.
        late = _join(pool, late, pool.clock.now() + (grace if tasks else 0.1 * grace))
    if late:
        log.log(
            logging.DEBUG if quiet else logging.WARNING,
            "%s is stopped, but %s in a call that cannot be ended: %s. Such a thread ends with its call, or with the "
            "interpreter.",
            pool.plan.name,
            "one thread is" if len(late) == 1 else f"{len(late)} threads are",
            ", ".join(member.name for member in late[:5]) + (" ..." if len(late) > 5 else ""),
            extra=about(pool.plan.name),
        )
    pool.supervisor.join_leaving(grace_s)
    ending = pool.supervisor.finish()
    if ending is not None and not notifier.is_here():
        ending.join(grace_s)


def _give_up(pool: Any, member: Any, more: str) -> int:
    """End the calls that an actor still holds, and cancel the tasks of its async methods. Returns how many tasks."""
    tasks = 0
    for call in member.held():
        task = call.extra  # closing the call drops it
        call.abandon(_given_up(pool.plan, member, call, more), member)
        if task is not None:
            interrupt(task)
            tasks += 1
    return tasks or pool.transport.forcible


def _join(pool: Any, members: list[Any], deadline: float | None) -> list[Any]:
    """Those that have not ended by the deadline. The actor whose own call stops the pool is left out."""
    late: list[Any] = []
    for member in members:
        if member.channel is None or member is here.inside or member.channel.is_here():
            continue
        left = None if deadline is None else max(0.0, deadline - pool.clock.now())
        if not member.channel.join(left):
            late.append(member)
    return late


def _given_up(plan: Plan, member: Any, call: Any, more: str) -> BaseException:
    how = "still ran" if call.running() else "had been given to its actor, and had not begun as far as could be told,"
    return WorkerStoppedError(
        f"{'Worker pool' if plan.pooled else 'Worker'} is stopped: {member}.{call.name}() {how} when the time for "
        f"stop() was over. {more}"
    )


def drain(pool: Any) -> None:
    """Let accepted calls finish, then end the actors. Nobody waits."""
    if pool.transport.direct:  # what runs there runs in its caller's thread, and nothing waits
        pool.supervisor.close()
        close_intakes(pool)
        for member in pool.supervisor.everybody():
            if member.channel is not None:
                member.channel.give(None)
        pool.supervisor.finish_if_over()
        return
    pool.supervisor.draining = True
    for intake in pool.intakes:
        intake.drain()
    pool.supervisor.finish_if_over()


def drain_and_wait(pool: Any) -> None:
    """The same, and wait until it is so: until every accepted call has ended, and every actor. As long as it takes.
    A call of the pool's own, and a callback, would wait for themselves: they do not wait."""
    if pool.forked or notifier.is_here() or here.inside in pool.supervisor.everybody():
        drain(pool)
        return
    over = threading.Event()
    with _lock:
        if pool in _live:
            _drained.setdefault(pool, []).append(over.set)
        else:
            over.set()
    drain(pool)
    over.wait()
    _join(pool, pool.supervisor.everybody(), None)
    pool.supervisor.join_leaving(_GRACE_S)


def cancel_unbegun(pool: Any) -> None:
    """Cancel the calls that have not begun: those that wait, and those that an actor was given and may give back."""
    if pool.forked:
        return
    given = [call for member in pool.supervisor.everybody() for call in reversed(member.given())]
    parked = [call for intake in pool.intakes for call in list(intake.parked)]
    for call in [*reversed(pool.waiting_calls()), *parked, *given]:
        if not call.running():
            call.cancel()


def _at_exit() -> None:
    """Stop what is left: idle pools at once, busy ones within their `exit_timeout`, all at the same time."""
    pools = list(_live)
    for pool in pools:
        pool.supervisor.close()
        close_intakes(pool)
        leave_waits(pool)
    began = pools[0].clock.now() if pools else 0.0
    try:
        for pool in pools:
            timeout = pool.plan.exit_timeout_s
            _finish(pool, None if timeout is None else began + timeout, 0.2, True, AT_EXIT)
    except KeyboardInterrupt:  # the interpreter ends already: what is left is the others
        for pool in pools:
            _end_all(pool, began, 0.0, True, _INTERRUPTED)


def _after_fork_in_child() -> None:
    """The actors live in the parent only."""
    global _lock
    _lock = threading.Lock()
    notifier.after_fork_in_child()
    helper.after_fork_in_child()
    judge.after_fork_in_child()
    system.after_fork_in_child()
    waits.after_fork_in_child()
    future.after_fork_in_child()
    latency.after_fork_in_child()

    def forked() -> BaseException:
        return ForkedHandleError(
            "this handle was made before os.fork(); its actors live in the parent process. Make a new worker in the "
            "child, or start children with multiprocessing's 'spawn' or 'forkserver'."
        )

    for pool in list(_live):
        pool.forked = True
        pool.supervisor.after_fork_in_child()
        for intake in pool.intakes:
            intake.after_fork_in_child(forked)
        if not pool.transport.direct:
            _end_in_child(pool, forked)
    _live.clear()
    _drained.clear()  # who waits for these ends is not here


def _end_in_child(pool: Any, forked: Callable[[], BaseException]) -> None:
    """End the copies of open calls: nobody here would. Without hooks: callbacks run in the parent, once."""
    # No locks: they may have been held by threads that are not here any more.
    members = [*pool.members, *pool.supervisor._on_demand]
    for member in members:
        if member.channel is not None:
            member.channel.after_fork_in_child()
    waiting = [call for intake in pool.intakes for call in (*intake.parked, *intake.mailbox.waiting)]
    for call in [*waiting, *(call for member in members for call in member.held())]:
        if call._status is PENDING:
            call._hooks = None
            call._stage = 0  # it may have been about to be closed
            call.abandon(forked())
