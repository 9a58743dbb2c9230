"""What the conformance kit runs: every transport of the registry, behind one job that a test can steer."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from concurry.transports import registry
from concurry.transports.base import Gone, Transport

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Wire:
    """One entry of the registry. `loop`: calls are delivered on an event loop; `credit`: several may be under way."""

    name: str
    mode: str
    concurrent: bool = False
    loop: bool = False

    def transport(self) -> Transport:
        return registry.find(self.mode, concurrent=self.concurrent)


WIRES = [
    Wire("sync", "sync"),
    Wire("thread", "thread"),
    Wire("thread-concurrent", "thread", concurrent=True, loop=True),
    Wire("asyncio", "asyncio", loop=True),
]
# Their actors are made by the runtime's own code on the other side: tests/contract, tests/faults and tests/ray.
ELSEWHERE = {"process", "ray"}
assert {wire.mode for wire in WIRES} | ELSEWHERE == set(registry._WIRES), "a new mode is a new line in WIRES"


class KitJob:
    """A job whose actor does what the test says.

    Attributes:
        taken: what the actor took, in order; with a `hold` set, it first waits for `go` each time.
        reasons: what `gone` said; `on_take`: called in the actor's context with each call.
    """

    name = "kit"

    def __init__(self, on_take: Callable[[Any], None] | None = None) -> None:
        self.taken: list[Any] = []
        self.reasons: list[tuple[Any, Gone, bool]] = []
        self.on_take = on_take
        self.begin = threading.Event()  # the actor's context takes nothing before this
        self.begin.set()
        self.is_gone = threading.Event()
        self.room = threading.Semaphore(0)  # one for each call that was taken
        self.thread: threading.Thread | None = None
        self.channel: Any = None

    def _take(self, call: Any) -> None:
        self.taken.append(call)
        self.room.release()
        if self.on_take is not None:
            self.on_take(call)

    def serve(self, channel: Any) -> None:
        self.thread = threading.current_thread()
        self.channel = channel
        assert self.begin.wait(PATIENCE_S)
        while (call := channel.receive()) is not None:
            self._take(call)

    async def serve_async(self, channel: Any) -> None:
        import asyncio

        self.thread = threading.current_thread()
        self.channel = channel
        ended = asyncio.get_running_loop().create_future()

        def deliver(call: Any) -> None:
            if call is None:
                ended.set_result(None)
                return
            try:
                self._take(call)
            except BaseException as error:
                ended.set_exception(error)

        channel.deliver = deliver
        assert self.begin.wait(PATIENCE_S)
        await ended

    def serve_direct(self, channel: Any) -> None:
        self.thread = threading.current_thread()
        self.channel = channel
        channel.run = self._take
        channel.close = lambda: None

    def ready(self, channel: Any) -> None: ...

    def failed_to_build(self, error: BaseException) -> None: ...

    def gone(self, channel: Any, reason: Gone) -> None:
        self.reasons.append((channel, reason, threading.current_thread() is self.thread))
        self.is_gone.set()

    # -- the test's side ---------------------------------------------------------------------------------------------

    def give_all(self, channel: Any, calls: list[Any]) -> None:
        """Give them as the runtime does: the next when there is credit."""
        for call in calls:
            if not channel.give(call):
                assert self.room.acquire(timeout=PATIENCE_S)

    def wait_gone(self) -> Gone:
        assert self.is_gone.wait(PATIENCE_S)
        return self.reasons[0][1]


@pytest.fixture(params=WIRES, ids=lambda wire: wire.name)
def wire(request: pytest.FixtureRequest) -> Wire:
    found: Wire = request.param
    return found


@pytest.fixture
def beside(wire: Wire) -> None:
    """Asked for by tests that need a context beside the caller's."""
    if wire.mode == "sync":
        pytest.skip("sync: there is no context beside the caller's")


class Kit:
    """Opens channels, and ends what is left of them."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.transport = wire.transport()
        self._open: list[tuple[Any, KitJob]] = []

    def job(self, on_take: Callable[[Any], None] | None = None) -> KitJob:
        return KitJob(on_take)

    def open(self, job: KitJob | None = None) -> tuple[Any, KitJob]:
        job = job or KitJob()
        actor: Any = job  # of this process: what an actor elsewhere needs besides, it has not
        channel = self.transport.open(actor)
        self._open.append((channel, job))
        return channel, job

    def close(self) -> None:
        for channel, job in self._open:
            job.begin.set()
            if not job.is_gone.is_set() and not channel.undelivered():
                channel.give(None)
            assert channel.join(PATIENCE_S)
            assert len(job.reasons) == 1


@pytest.fixture
def kit(wire: Wire) -> Iterator[Kit]:
    made = Kit(wire)
    yield made
    made.close()


@pytest.fixture
def fake_transport() -> Any:
    """The class of the fake transport."""
    name = "concurry_fake_transport"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("fake_transport.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name].FakeTransport
