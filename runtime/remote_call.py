"""A call in the process that runs it: what the loops and the actor's layers ask of a call, towards the wire.

Guarantees: it is replied to once, whatever happens, so that its sender knows that there is room again; a result that
cannot be encoded is the call's failure. `begin` marks it on the board before a line of it runs.
Called by: the loop or lanes of a child; `remote` makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Any

from concurry.runtime.retry_notes import brief
from concurry.runtime.std_view import PENDING
from concurry.transports import codec
from concurry.transports.board import CALLS
from concurry.transports.codec import CARRYING, unpack_call
from concurry.transports.errors import EncodeError
from concurry.transports.luggage import Carrying

_OVER = "OVER"


def parent(wire: Any) -> Any:
    """The edge to the parent, for the handles in a call."""
    from concurry.runtime import edges  # where there are any

    return edges.parent(wire)


class RemoteCall:
    """One call as it came.

    Attributes:
        number: on its channel. extra: the task that runs it, so that it can be interrupted.
        carried: what it has been through in other incarnations, or None.
    """

    __slots__ = ("_hooks", "_since", "_status", "_why", "_wire", "args", "carried", "extra", "kwargs", "name", "number")
    owner = None  # calls are counted where they are sent

    def __init__(self, wire: Any, number: int, item: list[Any]) -> None:
        self._wire = wire
        self.number = number
        self.name: str = item[0]
        self.args: Any = item  # until it begins: as `codec` has it,
        self.kwargs: Any = None  # and its buffers
        self.carried = self.extra = self._hooks = self._why = None
        self._status = PENDING

    carried: Any
    extra: Any
    _hooks: list[Callable[[Any], object]] | None
    _why: BaseException | None  # what somebody else has ended it with

    def begin(self) -> bool:
        """Claim it. False: it was given back, or its arguments cannot be rebuilt: it must not run."""
        wire, number = self._wire, self.number
        self._since = now = monotonic_ns()
        wire.running[number] = self  # before the mark: who finds it begun, to interrupt it, finds it here
        numbers, place = wire.numbers, 2 * (number % CALLS) + 2  # the board; see there
        numbers[place] = now
        numbers[place + 1] = 0
        numbers[0] = number
        _, how, body = self.args
        if wire.asked_back and wire.was_given_back(number):  # asked after the mark: one of the two sides sees the other
            del wire.running[number]
            if how == CARRYING:
                parent(wire).release(codec.tickets_of(body))
            return False
        try:
            if how == CARRYING:
                self.args, self.kwargs = parent(wire).unpack_call(how, body, self.kwargs)
            else:
                self.args, self.kwargs = unpack_call(how, body, self.kwargs)
        except BaseException as error:
            self.fail(error)
            return False
        return True

    def closes(self) -> bool:
        """As a future's: whether its loop counts it."""
        return True

    def close(self, result: Any, at: Any = None) -> bool:
        """It has come to this result."""
        try:
            reply, buffers = self._wire.pack_result(self.number, result)
            return self._reply(reply, buffers)
        except EncodeError as error:
            told = EncodeError(f"{self._wire.who}.{self.name}(): {error}")
            told.__cause__ = error.__cause__
        except BaseException as error:  # no memory to send it in, or a class whose very name raises
            told = EncodeError(f"{self._wire.who}.{self.name}(): its result cannot be sent: {brief(error)}")
        return self.fail(told)

    def fail(self, error: BaseException) -> bool:
        """It has ended with this exception, or as somebody has said before."""
        error = error if self._why is None else self._why
        who = f"{self._wire.who}.{self.name}()"
        try:
            reply = codec.pack_failure(self.number, error, who)
        except BaseException as failed:
            told = EncodeError(f"{who} raised what cannot be sent to another process: {brief(failed)}")
            reply = codec.pack_failure(self.number, told, who)
        return self._reply(reply, None)

    def _reply(self, reply: bytes, buffers: Any) -> bool:
        wire = self._wire
        if isinstance(reply, Carrying):
            parent(wire).lend(reply.handles)
        was_open = self._status is PENDING
        self.args = self.kwargs = self.extra = None
        wire.running.pop(self.number, None)  # not there any more where a reply failed to leave before
        wire.reply(reply, buffers, self._since, monotonic_ns())
        self._status = _OVER
        return was_open

    def abandon(self, reason: BaseException, at: Any = None) -> bool:
        """Nobody waits for it any more, or it shall end like that. It still runs, and is replied to at its end."""
        if self._status is not PENDING:
            return False
        self._why = reason
        self._status = _OVER
        hooks, self._hooks = self._hooks, None
        for hook in hooks or ():
            hook(self)
        return True

    def done(self) -> bool:
        """Whether somebody has ended it."""
        return self._status is not PENDING

    def add_hook(self, hook: Callable[[Any], object]) -> None:
        """Run `hook(call)` when somebody else ends it."""
        if self._hooks is None:
            self._hooks = []
        self._hooks.append(hook)
        if self._status is not PENDING and self.remove_hook(hook):
            hook(self)

    def remove_hook(self, hook: Callable[[Any], object]) -> bool:
        """Take a hook back. False: it has run."""
        hooks = self._hooks
        if not hooks or hook not in hooks:
            return False
        hooks.remove(hook)
        return True
