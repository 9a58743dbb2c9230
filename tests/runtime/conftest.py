"""A pool on a fake transport and a fake clock: the test says when actors are built, answer and die, and the time."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from concurry.retry import RetryConfig
from concurry.runtime import shutdown
from concurry.runtime.clock import FakeClock
from concurry.runtime.notifier import Notifier
from concurry.runtime.plan import Init, Method, Plan
from concurry.runtime.pool import Pool, start
from concurry.runtime.restart import Intensity


def _load(name: str, path: Path) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


fake = _load("concurry_fake_transport", Path(__file__).parents[1] / "transports" / "fake_transport.py")


class Thing:
    """The worker's class; the fake transport never makes one."""


class House:
    """Pools on fakes. `transport`, `clock`: those of the last one that was made."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.transport = fake.FakeTransport()
        self.pools: list[Pool] = []

    def plan(self, **changes: Any) -> Plan:
        methods = {"work": Method("work"), **changes.pop("methods", {})}
        plan = Plan(name="Thing", mode="fake", init=Init(Thing), methods=methods, intensity=Intensity(), lanes=())
        return plan._replace(**changes)

    def start(self, transport: Any = None, **changes: Any) -> Pool:
        if transport is not None:
            self.transport = transport
        pool = start(self.plan(**changes), self.transport, self.clock)
        self.pools.append(pool)
        return pool

    def call(self, pool: Pool, name: str = "work", *args: Any) -> Any:
        return pool.caller(name, blocking=False)(*args)

    @property
    def last(self) -> Any:
        """The channel that was opened last."""
        return self.transport.channels[-1]

    def retrying(self, **options: Any) -> Method:
        """A method under a retry policy."""
        config = RetryConfig(**{"num_retries": 3, "retry_wait": 1.0, "retry_jitter": 0.0, **options})
        return Method("work", policy=config.compile())

    def after(self, notifier: Notifier) -> None:
        """Wait until it has done what was posted so far."""
        passed = threading.Event()
        notifier.post(passed.set)
        assert passed.wait(20)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.transport.polite = made.transport.killable = True
    for pool in made.pools:
        shutdown.stop(pool, 0.0)
    assert made.clock.pending() == 0, "a stopped pool leaves no timer behind"


@pytest.fixture
def fake_transport() -> Callable[..., Any]:
    """The class of the fake transport."""
    made: Callable[..., Any] = fake.FakeTransport
    return made
