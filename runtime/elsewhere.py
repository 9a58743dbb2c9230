"""What a pool has besides where its actors run elsewhere: what makes them there, and sharing out again.

Guarantees: the actor's makings are pickled once, at the line of `.init()`, where what cannot be pickled is said.
Called by: the pool and its members.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from typing import Any, BinaryIO

from concurry.runtime import kinds, remote
from concurry.runtime.remote_member import RemoteMember
from concurry.runtime.time_limits import TimeLimits
from concurry.transports import makings
from concurry.transports.errors import EncodeError
from concurry.transports.logs import about

log = logging.getLogger("concurry")


class Elsewhere:
    """See the module's docstring.

    Attributes:
        handlers: what to do with the runtime's messages from an actor, by their kind:
            `handler(member, channel, message, descriptors)`, on the I/O thread.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.time_limits = TimeLimits(pool) if pool.plan.times_out else None
        self.handlers: dict[int, Callable[[Any, Any, list[Any], list[int]], object]] = {}
        self.handlers.update(dict.fromkeys(kinds.HANDLES, _of_handles))
        self.handlers[kinds.OVER_MEMORY] = self._over_memory
        self._is_said = False  # that its actors are too large for their bound
        self.leases: Any = None  # what its processes hold of its limits
        if pool.plan.init.elsewhere is not None:
            from concurry.runtime.limiter.remote_leases import RemoteLeases

            self.leases = RemoteLeases(pool.plan.init.elsewhere[0])
            self.handlers.update(self.leases.handlers)
        self.handles: dict[int, Any] = {}  # those that its init arguments have
        try:
            self._plan, self._makings, self.handles = _made(pool)
        except Exception as error:
            from concurry.runtime import unsendable

            init, methods = pool.plan.init, pool.plan.methods.values()
            policies = {method.name: method.policy for method in methods if method.policy is not None}
            raise EncodeError(
                f"{pool.plan.name}: its class, init arguments, retry policy or a limit set's config cannot be sent to "
                f"another process: {type(error).__name__}: {error}. "
                f"{unsendable.named(init.cls, init.args, dict(init.kwargs), policies)}Make what cannot be pickled "
                f"(connections, locks, open files) in __init__, or use mode='thread'"
            ) from error

    def _over_memory(self, member: RemoteMember, _: Any, message: list[Any], __: Any) -> None:
        if not self._is_said:
            self._is_said = True
            most = member.settings["most_memory"]
            log.warning(
                "%s takes %d bytes for itself before its first call, which is more than max_memory_per_worker=%d: its "
                "process is replaced after every call, __init__ included. Raise it. Said once for each pool.",
                *(member, message[1], most),
                extra=about(member),
            )

    def new_member(self, index: int) -> RemoteMember:
        """One place in the pool."""
        return RemoteMember(self._pool, index)

    def payload(self, index: int) -> bytes:
        """What makes the actor of that number, in its process."""
        return pickle.dumps((remote.serve, ([self._plan], index, bool(self.handles))))

    def makings(self) -> tuple[int, list[int]] | None:
        """The large buffers among what makes an actor: a descriptor of its own, and their sizes."""
        if self._makings is None:
            return None
        file, sizes = self._makings
        return os.dup(file.fileno()), sizes

    def gone(self, channel: Any) -> None:
        """A process has ended: what it held of the limits is free."""
        if self.leases is not None:
            self.leases.gone(channel)

    def owner(self, channel: Any) -> Any:
        """Who holds what a process has taken of the limits; None: it has taken nothing."""
        return None if self.leases is None else self.leases.owner(channel)

    def backlog(self) -> None:
        """Calls pile up: let each actor be sent what it has room for."""
        for member in self._pool.members:
            feed = member.feed
            if feed is not None:
                feed.pump()

    def close(self) -> None:
        """The pool is over."""
        self.handles = {}
        if self._makings is not None:
            self._makings[0].close()
        if self.time_limits is not None:
            self.time_limits.close()

    def nothing_to_do(self, idle: Any) -> None:
        """One actor has nothing to do: what others hold and have not begun is shared out again."""
        for member in self._pool.members:
            if member is not idle and member.feed is not None and member.feed.unbegun():
                member.channel.recall()


def _made(pool: Any) -> tuple[bytes, tuple[BinaryIO, list[int]] | None, dict[int, Any]]:
    """What makes an actor: pickled, its large buffers in memory that its processes share, and the handles in it."""
    beside = pool.transport.makings_beside and pool.plan.settings["large"] is not None
    made, buffers, handles = remote.payload(pool.plan, beside=beside)
    if not buffers:
        return made, None, handles
    try:
        return made, (makings.put(buffers), [each.nbytes for each in buffers]), handles
    except OSError as error:
        log.debug("%s: no memory to share for its init arguments: %s", pool.plan.name, error)
    made, _, handles = remote.payload(pool.plan, beside=False)
    return made, None, handles


def _of_handles(member: RemoteMember, channel: Any, message: list[Any], _: list[int]) -> None:
    member.edge_to(channel).heard(message)
