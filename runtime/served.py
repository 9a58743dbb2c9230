"""Calls that come from another process, for a handle that it was sent: accepted by the handle's own pool, and answered.

    edge's thread: accept --> helper, or the pool's entrance: decode or pass on --> the pool's intake --> future
    future ends --hook--> helper: encode or pass on --> CALL_ENDED

Guarantees: such a call is an ordinary accepted call of the pool: its mailbox, bound, retries and limits hold. Calls
reach it in the order in which they came. What is encoded already, and goes to a process, is passed on as it came; so is
a result that comes from one. Handles among the arguments or in the result are never passed on so: they travel by edges.
When the caller's process dies, its calls go on, and nobody is told their ends.
A pool whose calls run in the caller's thread (sync), or may have to wait to be accepted (a bound that blocks), has an
entrance of its own: a thread that lives while there is something to do.
Called by: `edges`.
"""

from __future__ import annotations

import weakref
from _thread import allocate_lock
from typing import Any

from concurry.runtime import kinds
from concurry.runtime.notifier import Notifier, helper
from concurry.runtime.wait_nodes import needed_by
from concurry.runtime.waits import here
from concurry.transports import codec
from concurry.transports.errors import EncodeError, WorkerDiedError
from concurry.transports.luggage import Carrying

_entrances: weakref.WeakKeyDictionary[Any, Notifier] = weakref.WeakKeyDictionary()
_lock = allocate_lock()  # protects the making of entrances, and the meeting of `submit` and `cancel`


class Served:
    """One such call."""

    __slots__ = ("_cancelled", "_edge", "_future", "_handle", "_name", "_number", "pool")

    def __init__(self, edge: Any, number: int, handle: Any, name: str) -> None:
        self._edge = edge
        self._number = number
        self._handle = handle  # until it has ended: nobody else may have it any more
        self.pool: Any = handle.__dict__["_pool"]
        self._name = name
        self._future: Any = None  # once it is accepted
        self._cancelled: Any = False  # or True, from another thread

    def is_on_its_way(self) -> bool:
        """Whether nobody can tell yet who is to run it: it goes on to another process, and has not left."""
        return self._future is None and hasattr(self.pool, "edge")  # a proxy

    def entrance(self) -> Notifier:
        """What has it accepted, one call after the other."""
        return _entrance(self.pool)

    def needs(self) -> Any:
        """See `waits.needed_by`."""
        if self._future is not None:
            return needed_by(self._future)
        pool = self.pool
        return pool.intake_of(self._name).sole_member() if self._name in pool.plan.methods else None

    def submit(self, encoded: bytes, buffers: list[bytes] | None, question: int | None) -> None:
        """Have it accepted. On the helper, or the pool's entrance."""
        edge = self._edge
        if self._cancelled or edge.gone is not None:
            return
        views = None if buffers is None else [memoryview(buffer) for buffer in buffers]
        try:
            future = self._accepted(encoded, views)
        except BaseException as error:  # a pool that was stopped, a full mailbox, arguments that cannot be rebuilt
            failure = codec.pack_failure(0 if question is not None else self._number, error, self._who())
            if question is None:
                self._end(failure, None)
            else:
                self._over()
                edge.answer(question, failure)
            return
        if question is not None:
            edge.answer(question, codec.pack_result(0, None)[0])
        with _lock:
            self._future = future
            cancelled = self._cancelled
        if cancelled:
            future.cancel()
        else:
            future.add_hook(self._ended)

    def _accepted(self, encoded: bytes, buffers: Any) -> Any:
        pool, name = self.pool, self._name
        _, how, body = codec.read(encoded)[0]
        if name not in pool.plan.methods:
            raise AttributeError(f"{pool.plan.name} has no method {name!r}")
        intake = pool.intake_of(name)
        before = here.member
        here.member = self._submitter(pool, intake)
        try:
            if intake.encodes and how != codec.CARRYING:
                return intake.pass_on(name, encoded, buffers)
            args, kwargs = self._edge.unpack_call(how, body, buffers)
            return pool.caller(name, blocking=False)(*args, **(kwargs or {}))
        finally:
            here.member = before

    def _submitter(self, pool: Any, intake: Any) -> Any:
        """On whose behalf this thread acts. A sync pool's calls run here, as its one actor; an actor that submits to
        its own full mailbox must be known, for it would wait for itself."""
        if pool.transport.direct:
            return pool.members[0]
        caller = self._edge.member
        return intake.sole if caller is not None and getattr(intake.sole, "member", None) is caller else None

    def cancel(self, question: int) -> None:
        """Its caller asks that it does not run."""
        with _lock:
            accepted = self._future is not None
            self._cancelled = not accepted
        if accepted:
            helper.post(self._cancel, question)
        else:
            self._end(None, None)
            self._edge.answer(question, codec.pack_result(0, True)[0])

    def _cancel(self, question: int) -> None:
        self._edge.answer(question, codec.pack_result(0, bool(self._future.cancel()))[0])

    # -- its end -------------------------------------------------------------------------------------------------------

    def _ended(self, _: Any) -> None:
        if self._edge.gone is not None:
            return
        if self._future.cancelled():
            self._end(None, None)  # at once: whoever asked for it is told after this
        else:
            helper.post(self._answer)

    def _answer(self) -> None:
        try:
            reply, buffers = _outcome(self._number, self._future, self._who())
            if isinstance(reply, Carrying):
                self._edge.lend(reply.handles)
            self._end(reply, buffers)
        except Exception as error:  # no memory for it
            self._end(codec.pack_failure(self._number, error, self._who()), None)

    def _end(self, reply: bytes | None, buffers: Any) -> None:
        self._over()
        if self._edge.gone is None:
            self._edge.send([kinds.CALL_ENDED, self._number, reply, buffers])

    def _over(self) -> None:
        self._edge.serving.pop(self._number, None)
        self._handle = None

    def _who(self) -> str:
        return f"{self.pool.plan.name}.{self._name}()"


def accept(
    edge: Any, number: int, ticket: int, name: str, encoded: bytes, buffers: list[bytes] | None, question: int | None
) -> None:
    """A call has come, for the handle of that ticket. On the edge's thread: never blocks."""
    handle = edge.lent(ticket)
    if handle is None:
        gone = WorkerDiedError(
            f"{name}() of a handle that {edge.who} has given back", method=name, maybe_executed=False
        )
        failure = codec.pack_failure(number if question is None else 0, gone, name)
        if question is None:
            edge.send([kinds.CALL_ENDED, number, failure, None])
        else:
            edge.answer(question, failure)
        return
    served = edge.serving[number] = Served(edge, number, handle, name)
    _entrance(served.pool).post(served.submit, encoded, buffers, question)


def _entrance(pool: Any) -> Notifier:
    plan = pool.plan
    if not pool.transport.direct and (plan.mailbox_size is None or not plan.block):
        return helper
    with _lock:
        found = _entrances.get(pool)
        if found is None:
            found = _entrances[pool] = Notifier(f"concurry-calls-of-{plan.name}")
        return found


def after_fork_in_child() -> None:
    """The lock may have been held."""
    global _lock
    _lock = allocate_lock()


def _outcome(number: int, future: Any, who: str) -> tuple[bytes, Any]:
    """The reply to a call that has ended."""
    if future.is_unread():
        unread = future.unread()
        if unread.failed:
            return codec.pack_again(number, codec.FAILED, unread.body), None
        if unread.how == codec.PICKLED:
            buffers = None if unread.parcel is None else unread.parcel.open()
            return codec.pack_again(number, codec.OK, unread.body), buffers
    error = future.exception()
    if error is None:
        try:
            return codec.pack_result(number, future.result())
        except EncodeError as failed:
            error = failed
    return codec.pack_failure(number, error, who), None
