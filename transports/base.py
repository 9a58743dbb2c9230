"""What every wire offers to the runtime, and what it asks of it.

    runtime                               transport
    Job.serve / serve_async / serve_direct   <--  Transport.open(job) -> Channel       where the actor runs here
    Job.ready, Job.failed_to_build           <--  the other side says so               where it runs elsewhere
    mailbox matches a call                   -->  Channel.give(call); where the actor runs elsewhere: send(calls)
    supervisor hears                         <--  Job.gone(channel, Gone(...)), exactly once per channel

Guarantees each transport must keep (tests/transports holds the conformance kit):
- `open` returns at once; what the actor does runs elsewhere (except `direct` transports, see there).
- `give` never blocks or raises, may be called from any thread, also after `gone`, and keeps the order of its calls. So
  does `send`.
- `gone` comes exactly once, after the actor's context has ended or been lost, whatever the reason, and never polls. It
  never comes from within `give` of a call, whose caller may hold a mailbox's lock, nor after an `open` that raised.
- `join` waits for that end; it is True also for one that ended before.
Assumes: the runtime gives a call only to a channel that has credit, and None when no more will come.
"""

from __future__ import annotations

from _thread import allocate_lock
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol


class Gone(NamedTuple):
    """Why an actor's context has ended. `cause` None and no exit code: it ended as it was asked to.

    `expected`: why we ended it ourselves, for no fault of its, such as a call past its time. `killed_by_us`: it was
    sent a signal of ours. `unknown`: it has ended, and nobody can tell how. `said`: the reason in words, where those of
    the cause are not for people.
    """

    cause: BaseException | None = None
    pid: int | None = None
    exit_code: int | None = None
    signal: str | None = None
    expected: str | None = None
    killed_by_us: bool = False
    unknown: bool = False
    said: str | None = None

    @property
    def clean(self) -> bool:
        return self.cause is None and not self.exit_code and self.signal is None and not self.unknown

    @property
    def advice(self) -> str:
        """What to do about it, as a sentence to append, where something can be said."""
        if self.signal == "SIGKILL" and not self.killed_by_us and self.expected is None:
            return ". Often out of memory: lower max_workers, or set max_memory_per_worker"
        return ""

    def __str__(self) -> str:
        if self.expected is not None:
            return self.expected
        if self.said is not None:
            return self.said
        if self.cause is not None:
            return f"{type(self.cause).__name__}: {self.cause}"
        if self.signal is not None:
            return self.signal
        if self.unknown:
            return "a cause that nobody can tell (the helper that started it was killed before, or has not told)"
        if self.exit_code is not None:
            return f"exit code {self.exit_code}"
        return "its own end"


class Job(Protocol):
    """What the runtime hands to a transport: what to run, under which name, and whom to tell.

    Attributes:
        name: for people who look at threads and processes, as ``concurry: LLM[3]``.

    Where the actor runs elsewhere also:
        who: for messages, as ``LLM[3]``; payload: what makes the actor, pickled, (entry, arguments); the other side
        calls `entry(wire, *arguments)`. settings: what the transport is told (`Plan.settings`). retried: whether any
        method has a retry policy, so that attempts are to be told.
    """

    name: str
    who: str
    payload: bytes
    settings: Mapping[str, Any]
    retried: bool

    def serve(self, channel: Any) -> None:
        """Be the actor, in this thread, until `channel.receive()` says that no more will come."""

    def serve_async(self, channel: Any) -> Awaitable[None]:
        """The same on this thread's event loop, many calls at once."""
        ...

    def serve_direct(self, channel: Any) -> None:
        """Make the actor in this thread, and set `channel.run` and `channel.close`."""

    def ready(self, channel: Any) -> None:
        """The actor is made, by one of the three above, or on the other side of a wire."""

    def failed_to_build(self, error: BaseException) -> None:
        """The actor's `__init__` raised this, on the other side of a wire; `gone` follows."""

    def gone(self, channel: Channel, reason: Gone) -> None:
        """The channel's context has ended."""

    # Only where the actor runs elsewhere; none of them may block.

    def makings(self) -> tuple[int, list[int]] | None:
        """Of one start, the large buffers that belong to `payload`: a descriptor for `makings.mapped`, which is the
        caller's to close, and their sizes."""

    def replied(self, channel: Any, ended: list[tuple[str, float, bool]], seconds_each: float) -> None:
        """Calls were replied to, and are closed after this: there may be room for more. `ended`, of each: its method,
        how many nanoseconds it ran (0: nobody knows), and whether it failed. Not among them: those that somebody else
        had ended before. `seconds_each`: in the mean."""

    def tried_again(self, call: Any, attempts: int) -> None:
        """A call has ended there, or its actor has, after so many attempts in this context. Of calls that ended, only
        where `retried`."""

    def given_back(self, channel: Any, calls: list[Any]) -> None:
        """Calls that had not begun wait again, in their order; maybe none."""

    def leaving(self, channel: Any) -> None:
        """The actor ends by itself, to be replaced by another: it takes no more calls."""

    def message(self, channel: Any, message: list[Any], fds: list[int]) -> None:
        """The runtime's own, from the other side."""

    def carries(self, channel: Any, message: Any) -> None:
        """A call with handles in it (`luggage.Carrying`) is about to be sent there."""

    def edge_to(self, channel: Any) -> Any:
        """The edge that handles which come from there have come along."""

    def aside(self, fn: Callable[[], object]) -> None:
        """Run something that takes a while on a helper thread, in order."""


class Channel(ABC):
    """One actor's open connection."""

    @abstractmethod
    def give(self, call: Any) -> bool:
        """Hand over a call (None: no more will come). Returns whether there is credit for another; a direct channel
        says False for a call that it did not run, since None came before. Where the actor runs elsewhere, calls go by
        `send`, as many as there are, and only None comes here."""

    def undelivered(self) -> list[Any]:
        """The calls that it was given and that nobody else shows, in their order.

        Here: those that the actor has not taken. Elsewhere: all that are not replied to. Those that never began are
        reopened where that is known, which is once the actor has ended; those that ended by that are left out. May be
        called before the end, and more than once; a call that is sent after the last look, once the channel is closed,
        comes back by `Job.given_back`.
        """
        return []

    def blames(self, call: Any) -> bool:
        """After `gone`: whether a call that may have begun may be what it died of."""
        return True

    def after_fork_in_child(self) -> None:
        """In a forked child, where the context is not: `undelivered` must work, whoever held its locks."""
        return

    def stacks(self) -> str:
        """The stacks of the actor's threads, now, as text for people."""
        import sys
        import traceback

        thread = getattr(self, "thread", None)
        frame = sys._current_frames().get(thread.ident) if thread is not None else None  # pyright: ignore[reportPrivateUsage]
        return "it has no thread of its own now\n" if frame is None else "".join(traceback.format_stack(frame))

    def is_here(self) -> bool:
        """Whether the caller runs inside one of its calls, as far as the channel can tell."""
        return False

    @abstractmethod
    def kill(self) -> None:
        """End the context by force, where the mode has any; `gone` follows."""

    @abstractmethod
    def join(self, timeout: float | None) -> bool:
        """Wait `timeout` seconds at most for the context to end. Returns whether it has."""


class Transport(ABC):
    """One way to run actors.

    Attributes:
        direct: calls run in the caller's thread, there is no mailbox between.
        apart: an actor's sync methods wait apart from its async ones, and run one at a time beside them.
        elsewhere: the actor runs in another process: its calls are encoded, and several are under way at once.
        forcible: `Channel.kill` ends whatever runs: the first time politely, the second time for good.
        refers: elsewhere, results are objects of a store, and its futures are `RayFuture`s.
        makings_beside: elsewhere, large buffers among what makes an actor go beside it (`Job.makings`).
        lend_s: elsewhere, how long a lease that was granted ahead of need may lie there unused: some round trips.
        ahead_s: elsewhere, how many seconds' worth of calls a busy actor is sent ahead: some round trips.
    """

    direct: bool = False
    apart: bool = False
    elsewhere: bool = False
    forcible: bool = False
    refers: bool = False
    makings_beside: bool = False
    ahead_s: float = 0.005
    lend_s: float = 0.004

    @staticmethod
    def encode(call: Any) -> None:
        """Where the actor is elsewhere: bring a call's `args` and `kwargs` into the form in which they are sent, in the
        caller's thread. Raises EncodeError where that cannot be."""
        raise NotImplementedError

    @staticmethod
    def result_of(future: Any) -> Any:
        """What stands for a future that is done among the arguments of a call. Raises what it failed with."""
        return future.result()

    @abstractmethod
    def open(self, job: Job) -> Channel:
        """Start one actor's context."""


class Handover:
    """One place for one call, between a giver and a thread that waits for it.

    `give` may be called again only after `receive` has returned: the mailbox sees to that, since a taker that was
    given a call is no longer among the ready.
    """

    __slots__ = ("_call", "_lock")

    def __init__(self) -> None:
        self._call: Any = None
        self._lock = allocate_lock()  # held while the place is empty: releasing it is the wake-up
        self._lock.acquire()

    def give(self, call: Any) -> bool:
        self._call = call
        self._lock.release()
        return False

    def left(self) -> list[Any]:
        """What was given and not received."""
        return [] if self._call is None else [self._call]

    def receive(self) -> Any:
        """Wait for what is given, and take it."""
        self._lock.acquire()
        call, self._call = self._call, None
        return call
