"""A transport of which the test decides everything: when an actor is built, runs, answers and dies, and of what.

It works as a transport to another process would: nothing of the user's runs here, the test begins and ends the calls
that a channel was given. So no thread is needed, and with a `FakeClock` a whole life of a pool is one straight test.
Loaded by the conftest of this folder and of tests/runtime.
"""

from __future__ import annotations

from typing import Any

from concurry.runtime.mailbox import CLOSED
from concurry.transports.base import Channel, Gone, Job, Transport


class FakeChannel(Channel):
    """One incarnation of one actor. `given`: the calls it holds, begun or not; `log`: the names of all it was given."""

    def __init__(self, transport: FakeTransport, job: Any) -> None:
        self.transport = transport
        self.job = job
        self.given: list[Any] = []
        self.log: list[Any] = []
        self.open = True
        self.killed = 0
        self.last_given = False  # None was given: no more will come

    # -- what the runtime calls ----------------------------------------------------------------------------------

    def give(self, call: Any) -> bool:
        if call is None:
            self.last_given = True
            if not self.given and self.open and self.transport.polite:
                self.transport.later.append(self.end)
        else:
            self.given.append(call)
            self.log.append(getattr(call, "name", call))
        return False

    def undelivered(self) -> list[Any]:
        return list(self.given)

    def kill(self) -> None:
        self.killed += 1
        if self.open and self.transport.killable:
            self.die(signal="SIGKILL")

    def join(self, timeout: float | None) -> bool:
        self.transport.run_later()
        return not self.open

    # -- what the test calls -------------------------------------------------------------------------------------

    def build(self) -> None:
        """The user's object is made."""
        self.job.ready(self)

    def fail_to_build(self, error: BaseException) -> None:
        """Its `__init__` raised; the context ends."""
        self.job.failed_to_build(error)
        self.end()

    def begin(self) -> Any:
        """Begin the first call that was given."""
        call = self.given[0]
        assert call.begin()
        return call

    def answer(self, result: Any = None, *, error: BaseException | None = None) -> None:
        """End the call that has begun, and take the next as a free actor does."""
        call = self.given.pop(0)
        if error is None:
            call.close(result)
        else:
            call.fail(error)
        if self.last_given:
            self.end()
            return
        following = self.job.pool.intakes[0].mailbox.take(self.job)
        if following is CLOSED:
            self.end()
        elif following is not None:
            self.give(following)

    def serve(self, result: Any = None) -> Any:
        """Begin and end one call."""
        call = self.begin()
        self.answer(result)
        return call

    def die(self, **of: Any) -> None:
        """The context is lost."""
        assert self.open
        self.open = False
        self.job.gone(self, Gone(**of))

    def end(self) -> None:
        """The context ends as it was asked to."""
        if self.open:
            self.die()


class FakeTransport(Transport):
    """See the module's docstring.

    Attributes:
        builds: what becomes of each actor that is opened, in turn: True: built at once; an exception: its `__init__`
            raises it; a dict: it dies of that at once; None: the test will say. When used up: True.
        refusals: exceptions that `open` raises, in turn; None: it does not.
        polite: whether actors end when they are given None; killable: whether `kill` ends them.
    """

    def __init__(self, *builds: Any, polite: bool = True, killable: bool = True) -> None:
        self.builds = list(builds)
        self.refusals: list[BaseException | None] = []
        self.polite = polite
        self.killable = killable
        self.channels: list[FakeChannel] = []
        self.later: list[Any] = []  # what must not happen inside `give`: ends, which are heard of from outside

    def open(self, job: Job) -> Channel:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise refusal
        channel = FakeChannel(self, job)
        self.channels.append(channel)
        how: Any = self.builds.pop(0) if self.builds else True
        if how is True:
            channel.build()
        elif isinstance(how, BaseException):
            channel.fail_to_build(how)
        elif how is not None:
            channel.die(**how)
        return channel

    def run_later(self) -> None:
        """Let happen what was put off."""
        while self.later:
            self.later.pop(0)()

    def living(self) -> list[FakeChannel]:
        return [channel for channel in self.channels if channel.open]
