"""One future of every kind, pending, with the means to end it from outside."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from concurry.futures import AsyncioFuture, BaseFuture, ConcurrentFuture, RayFuture

PATIENCE = 20  # seconds until a test gives up


class ObjectRef:
    """Stands in for Ray's: `future()` is what we use of it."""

    def __init__(self) -> None:
        self.end: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.cancelled = False

    def future(self) -> concurrent.futures.Future[Any]:
        return self.end


@dataclass
class Open:
    """A pending future: `given` is what a user has in hand, the rest ends it."""

    given: Any
    finish: Callable[[Any], object]
    fail: Callable[[BaseException], object]
    inner: Any = None


class LoopThread:
    """An event loop that runs in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def do(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run `fn(*args)` in the loop's thread, and return what it returns."""

        async def run() -> Any:
            return fn(*args)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(PATIENCE)

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> type[ObjectRef]:
    module = types.ModuleType("ray")
    module.ObjectRef = ObjectRef  # type: ignore[attr-defined]
    module.cancel = lambda ref: setattr(ref, "cancelled", True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", module)
    return ObjectRef


def _ours() -> Open:
    future: BaseFuture[Any] = BaseFuture()
    return Open(
        future, lambda value: (future.begin(), future.close(value)), lambda error: (future.begin(), future.fail(error))
    )


def _concurrent(wrapped: bool) -> Open:
    inner: concurrent.futures.Future[Any] = concurrent.futures.Future()
    return Open(ConcurrentFuture(inner) if wrapped else inner, inner.set_result, inner.set_exception, inner)


def _aio(thread: LoopThread, wrapped: bool) -> Open:
    inner: asyncio.Future[Any] = thread.do(thread.loop.create_future)
    return Open(
        AsyncioFuture(inner) if wrapped else inner,
        lambda value: thread.do(inner.set_result, value),
        lambda error: thread.do(inner.set_exception, error),
        inner,
    )


def _ray(ref: Any, wrapped: bool) -> Open:
    return Open(RayFuture(ref) if wrapped else ref, ref.end.set_result, ref.end.set_exception, ref)


KINDS = ("ours", "concurrent", "asyncio", "ray", "raw concurrent", "raw asyncio", "raw ray")


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Callable[[str], Open]:
    """Makes a pending future of a kind, by its name in `KINDS`."""

    def of(kind: str) -> Open:
        raw = kind.startswith("raw")
        if kind.endswith("concurrent"):
            return _concurrent(not raw)
        if kind.endswith("asyncio"):
            return _aio(request.getfixturevalue("loop_thread"), not raw)
        if kind.endswith("ray"):
            return _ray(request.getfixturevalue("fake_ray")(), not raw)
        return _ours()

    return of


@pytest.fixture(params=KINDS)
def open_any(request: pytest.FixtureRequest, make: Callable[[str], Open]) -> Open:
    """A pending future of every kind in turn, raw ones included."""
    return make(request.param)


@pytest.fixture(params=[kind for kind in KINDS if not kind.startswith("raw")])
def open_one(request: pytest.FixtureRequest, make: Callable[[str], Open]) -> Open:
    """A pending future of ours, of every kind in turn."""
    return make(request.param)
