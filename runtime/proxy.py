"""A pool that is in another process, as its handle here needs it: calls go along the edge by which the handle came.

    handle.method(...) --> Intake (futures among the arguments, encoding) --> _Line --> Edge --> the owner's pool

Guarantees: calls are encoded in the caller's thread, at submission, as for any actor elsewhere; futures among the
arguments are waited for here, without the caller. Where the pool's mailbox is bounded, the caller waits until the call
is accepted, and MailboxFullError is raised at its line. Other refusals (a pool that was stopped) are in the future. A
proxy never stops its pool by being dropped.
Called by: the handle that was made of what came (`concurry.remote_handle`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from concurry.runtime.edges import Edge
from concurry.runtime.intake import Intake
from concurry.runtime.notifier import helper
from concurry.runtime.plan import Plan
from concurry.transports import codec
from concurry.transports.errors import WorkerError


class Proxy:
    """See the module's docstring. `plan`: what is known of the pool here."""

    def __init__(self, edge: Edge, ticket: int, plan: Plan) -> None:
        self.edge = edge
        self.ticket = ticket
        self.plan = plan
        self.transport = _NoTransport
        line: Any = _Line(self)  # what of a mailbox an intake asks for
        self._intake = Intake(line, None, unwrap=plan.unwrap, encode=_encode)

    def caller(self, name: str, *, blocking: bool) -> Callable[..., Any]:
        """See `Pool.caller`."""
        call = self._intake.caller(name)
        if not blocking:
            return call

        def call_and_wait(*args: Any, **kwargs: Any) -> Any:
            return call(*args, **kwargs).result()

        call_and_wait.__name__ = call_and_wait.__qualname__ = name
        return call_and_wait

    def intake_of(self, name: str) -> Intake:
        """See `Pool.intake_of`."""
        return self._intake

    def ask(self, what: str, *args: Any) -> Any:
        """See `Edge.ask`."""
        return self.edge.ask(self.ticket, what, *args)

    def alive(self) -> bool:
        """Whether calls are accepted."""
        if self.edge.forked or self._has_gone():
            return False
        try:
            return bool(self.ask("is_alive"))
        except WorkerError:
            if not self._has_gone():  # else it has ended meanwhile
                raise
            return False

    def _has_gone(self) -> bool:
        return self.edge.gone is not None

    def stats(self) -> dict[str, Any]:
        """The pool's figures."""
        found: dict[str, Any] = self.ask("stats")
        return found

    def let_go(self) -> None:
        """Nobody here needs it any more. From a finalizer."""
        if not sys.is_finalizing():
            self.edge.release([self.ticket])


class _NoTransport:
    direct = False


class _Line:
    """Where the intake of a proxy puts its calls: they are on their way at once. To the intake it is a mailbox."""

    refusal = None
    ready = ()

    def __init__(self, proxy: Proxy) -> None:
        self._edge = proxy.edge
        self._ticket = proxy.ticket
        self._bounded = proxy.plan.mailbox_size is not None
        self.waiting = self

    def __len__(self) -> int:
        return 1  # never a backlog; see the intake

    def append(self, call: Any) -> None:
        """Send a call."""
        self._edge.refuse_if_forked()
        if call.begin():  # from now on only its owner can say that it does not run
            self._edge.call(self._ticket, call, waits_for_room=self._bounded and not helper.is_here())

    put = append

    def match(self, call: Any) -> None:
        """Nobody is ever ready here."""

    def withdrawn(self, call: Any) -> None:
        """It was cancelled before it was sent."""


def _encode(call: Any) -> None:
    call.args, call.kwargs = codec.pack_call(call.name, call.args, call.kwargs)
