"""A call in the process that runs it: what the loops and the actor's layers ask of a call, towards the wire.

Guarantees: it is replied to once, whatever happens, so that its sender knows that there is room again; a result that
cannot be encoded is the call's failure. `begin` marks it on the board before a line of it runs.
Called by: the loop or lanes of a child; `remote` makes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from concurry.runtime.std_view import PENDING
from concurry.transports import codec
from concurry.transports.errors import EncodeError

_OVER = "OVER"


class RemoteCall:
    """One call as it came.

    Attributes:
        number: on its channel. extra: the task that runs it, so that it can be interrupted.
        carried: what it has been through in other incarnations, or None.
    """

    __slots__ = ("_hooks", "_since", "_status", "_wire", "args", "carried", "extra", "kwargs", "name", "number", "owner")

    def __init__(self, wire: Any, number: int, name: str, how: int, body: Any, buffers: Any, carried: Any) -> None:
        self._wire = wire
        self.number = number
        self.name = name
        self.args: Any = (how, body, buffers)  # until it begins
        self.kwargs: Any = None
        self.carried = carried
        self.extra: Any = None
        self.owner: Any = None
        self._hooks: list[Callable[[Any], object]] | None = None
        self._status = PENDING

    def begin(self) -> bool:
        """Claim it. False: it was given back, or its arguments cannot be rebuilt: it must not run."""
        wire = self._wire
        if not wire.begin(self.number):
            return False
        wire.running[self.number] = self
        self._since = time.monotonic_ns()
        how, body, buffers = self.args
        try:
            self.args, self.kwargs = codec.unpack_call(how, body, buffers)
        except Exception as error:
            self.fail(error)
            return False
        return True

    def close(self, result: Any) -> bool:
        """It has come to this result."""
        try:
            reply, buffers = codec.pack_result(self.number, result)
        except EncodeError as error:
            return self.fail(error)
        return self._reply(reply, buffers)

    def fail(self, error: BaseException) -> bool:
        """It has ended with this exception."""
        return self._reply(codec.pack_failure(self.number, error, f"{self._wire.who}.{self.name}()"), None)

    def _reply(self, reply: bytes, buffers: Any) -> bool:
        wire = self._wire
        was_open = self._status is PENDING
        self._status = _OVER
        self.args = self.kwargs = self.extra = None
        del wire.running[self.number]
        wire.reply(reply, buffers, time.monotonic_ns() - self._since, more=bool(wire.waiting))
        return was_open

    def abandon(self, reason: BaseException) -> bool:
        """Nobody waits for it any more, or it shall end like that. It still runs, and is replied to at its end."""
        if self._status is not PENDING:
            return False
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
