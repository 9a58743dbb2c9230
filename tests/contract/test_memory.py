"""What is kept alive: nothing of a call after it, nothing of a worker after its stop."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from concurry import ResourceLimit, Worker, gather

Start = Callable[..., Any]


class Thing:
    """Something that can be watched."""


class Keeps(Worker):
    def __init__(self, thing: Any = None, *, named: Any = None) -> None:
        self.something = 1

    def make(self, thing: Any = None, *, named: Any = None) -> Thing:
        return Thing()

    async def make_later(self, thing: Any = None, *, named: Any = None) -> Thing:
        return Thing()

    def fail(self, thing: Any = None, *, named: Any = None) -> None:
        raise ValueError

    def nothing(self) -> None: ...


_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "retries": {"num_retries": 1, "retry_wait": 0},
    "named retries": {"num_retries": {"*": 0, "make": 1, "make_later": 1, "fail": 1}, "retry_wait": 0},
    "call_timeout": {"call_timeout": 100},
    "limits": {"limits": [ResourceLimit(key="k", capacity=1)]},
    "bounded": {"mailbox_size": 10},
}


class Watch:
    """Tells when a thing is gone. A thread that has just ended a call may hold it a moment longer."""

    def __init__(self, thing: Any) -> None:
        self._gone = threading.Event()
        self._ref = weakref.ref(thing, lambda _: self._gone.set())

    def there(self) -> bool:
        return self._ref() is not None

    def gone(self) -> bool:
        """Whether it goes, if need be after a collection: it may hang in a cycle."""
        if not self._gone.wait(0.1):
            gc.collect()
        return self._gone.wait(5)


@pytest.fixture(params=list(_OPTIONS))
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return _OPTIONS[request.param]


@pytest.mark.parametrize("method", ["make", "make_later", "fail"])
def test_arguments_are_free_when_the_call_has_ended(start: Start, options: dict[str, Any], method: str) -> None:
    worker = start(Keeps, options=options)
    thing, named = Thing(), Thing()
    watched = [Watch(thing), Watch(named)]
    future = getattr(worker, method)(thing, named=named)
    concurrent.futures.wait([future])
    error = future.exception()
    if error is not None:  # its traceback holds the frame of the method, as it does anywhere
        error.__traceback__ = None
        error.__cause__ = None
    worker.nothing().result()  # so that the line after the call that we look at is over as well
    del thing, named
    assert all(watch.gone() for watch in watched)
    assert future.done()


@pytest.mark.parametrize("method", ["make", "make_later"])
def test_a_result_is_the_futures_alone(start: Start, options: dict[str, Any], method: str) -> None:
    worker = start(Keeps, options=options)
    future = getattr(worker, method)()
    watched = Watch(future.result())
    worker.nothing().result()
    assert watched.there()
    del future
    assert watched.gone()


def test_a_future_is_free_when_nobody_has_it(start: Start) -> None:
    worker = start(Keeps)
    futures = [worker.make() for _ in range(3)] + [worker.make_later() for _ in range(3)]
    gather(futures)
    watched = [Watch(future) for future in futures]
    worker.nothing().result()
    del futures
    assert all(watch.gone() for watch in watched)


def test_an_argument_future_is_not_kept(start: Start) -> None:
    worker = start(Keeps)
    first = worker.make()
    watched = Watch(first)
    second = worker.make([first])
    second.result()
    worker.nothing().result()
    del first
    assert watched.gone()


def test_cancelled_calls_let_their_arguments_go(start: Start, way: Any, new_signal: Any) -> None:
    class Holds(Keeps):
        def hold(self, began: Any, go: Any) -> None:
            began.set()
            go.wait()

    worker, go = start(Holds), new_signal()
    for _ in range(way.sync_at_once):
        began = new_signal()
        worker.hold(began, go)
        began.wait()
    thing = Thing()
    watched = Watch(thing)
    future = worker.make(thing)
    assert future.cancel()
    del thing
    assert watched.gone()
    go.set()


@pytest.mark.parametrize("ended", ["done", "failed", "cancelled"])
def test_init_arguments_are_free_after_stop(start: Start, options: dict[str, Any], ended: str) -> None:
    thing, named = Thing(), Thing()
    watched = [Watch(thing), Watch(named)]
    worker = start(Keeps, thing, named=named, options=options)
    kept = [worker.make(), worker.make_later(), worker.nothing()]
    concurrent.futures.wait(kept)
    if ended == "failed":
        kept.append(worker.fail())
        concurrent.futures.wait(kept)
    if ended == "cancelled":
        kept.append(worker.make(concurrent.futures.Future()) if worker.mode.value != "sync" else worker.make())
        kept[-1].cancel()
    worker.stop()
    del thing, named
    assert all(watch.gone() for watch in watched)
    assert worker.stats()["alive"] is False
    assert kept
    with pytest.raises(RuntimeError, match="is stopped"):
        worker.make()


class Itself(Worker):
    def method(self) -> None: ...

    async def method_later(self) -> None: ...

    def watch(self, gone: Any) -> None:
        """Sets the signal when this object is let go."""
        weakref.finalize(self, gone.set).atexit = False


def test_the_users_object_is_free_after_stop(start: Start, new_signal: Any, options: dict[str, Any]) -> None:
    retries = options.get("num_retries")
    if isinstance(retries, dict):
        options = {**options, "num_retries": {"*": 0, "method": 1, "method_later": 1}}
    worker = start(Itself, options=options)
    kept = [worker.method(), worker.method_later()]
    gather(kept)
    gone = new_signal()
    worker.watch(gone).result()
    worker.stop()
    gc.collect()  # it may hang in a cycle
    gone.wait()


def test_a_dropped_and_drained_worker_is_free(way: Any) -> None:
    thing = Thing()
    watched = Watch(thing)
    worker = Keeps.options(**way.options).init(thing)
    future = worker.make()
    future.result()
    threads = [thread for thread in threading.enumerate() if "Keeps" in thread.name or "notifier" in thread.name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del worker
        gc.collect()
    for thread in threads:
        thread.join(10)
    threads = [thread for thread in threading.enumerate() if "notifier" in thread.name]
    for thread in threads:
        thread.join(10)
    del thing, threads
    assert future.done()
    assert watched.gone()
