"""F05: hooks that raise KeyboardInterrupt in a child, where it is no Ctrl-C; and what goes wrong in ending a call."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from concurry import EncodeError, RemoteError, Worker, WorkerError
from concurry.runtime.actor import Actor
from concurry.transports.wire import Wire
from tests.faults.conftest import PATIENCE_S
from tests.names import steady

pytestmark = pytest.mark.faults


def interrupts_elsewhere(there: int) -> str:
    if os.getpid() != there:
        raise KeyboardInterrupt("a hook's own")
    return "rebuilt"


class InterruptsWhenRebuilt:
    def __reduce__(self) -> Any:
        return interrupts_elsewhere, (os.getpid(),)


class InterruptsWhenPickled:
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt("a hook's own")


class ReduceInterruptsError(Exception):
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt("a hook's own")


class StateInterruptsError(Exception):
    def __setstate__(self, _: Any) -> None:
        raise KeyboardInterrupt("a hook's own")


class TextInterruptsError(Exception):
    def __init__(self) -> None:
        super().__init__(InterruptsWhenPickled())

    def __str__(self) -> str:
        raise KeyboardInterrupt("a hook's own")

    __repr__ = __str__


class NoNames(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__", "__module__"):
            raise RuntimeError(f"no {name}")
        return super().__getattribute__(name)


def nameless() -> Any:
    return NoNames("Nameless", (), {"__reduce__": lambda self: 1 / 0})()


def nameless_error() -> Any:
    return NoNames("NamelessError", (Exception,), {"__reduce__": lambda self: 1 / 0})()


@pytest.fixture(params=[1, 4], ids=["one at a time", "four"])
def worker(process: Any, request: pytest.FixtureRequest) -> Any:
    return process(max_restarts=0, **({} if request.param == 1 else {"max_concurrency": request.param}))


def goes_on(worker: Any, future: Any) -> Any:
    """Its exception; the worker lives on."""
    pid = worker.pid()
    error = future.exception(PATIENCE_S)
    assert worker.pid().result(PATIENCE_S) == pid.result(PATIENCE_S)
    return error


@pytest.mark.parametrize("make", [InterruptsWhenPickled, nameless], ids=steady)
def test_results(worker: Any, make: Any) -> None:
    error = goes_on(worker, worker.call(make))
    assert type(error) is EncodeError


def test_arguments(worker: Any) -> None:
    error = goes_on(worker, worker.echo(InterruptsWhenRebuilt()))
    assert type(error) is EncodeError
    assert "KeyboardInterrupt" in str(error)


@pytest.mark.parametrize(
    "make", [ReduceInterruptsError, StateInterruptsError, TextInterruptsError, nameless_error], ids=steady
)
def test_exceptions(worker: Any, make: Any) -> None:
    def raises() -> None:
        raise make()

    error = goes_on(worker, worker.call(raises))
    assert isinstance(error, RemoteError) if make is nameless_error else type(error) is make


def test_where_it_may_be_a_ctrl_c_it_stays_one(worker: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        worker.echo(InterruptsWhenPickled())
    found: list[Any] = []
    beside = threading.Thread(target=lambda: found.append(worker.echo(InterruptsWhenPickled())))
    beside.start()
    beside.join(PATIENCE_S)
    assert type(goes_on(worker, found[0])) is EncodeError, "in no other thread is there a Ctrl-C"


# -- what ends a call raises -------------------------------------------------------------------------------------------


class SeesBadly(Worker):
    """In its process what prepares an exception is broken, and large results cannot be sent."""

    def __init__(self, driver: int) -> None:
        if os.getpid() != driver:
            Actor.seen = seen_badly  # type: ignore[method-assign, assignment]
            Wire._send_large = sent_badly  # type: ignore[method-assign, assignment]

    def fail(self) -> None:
        raise LookupError("mine")

    async def fail_later(self) -> None:
        raise LookupError("mine")

    def large(self) -> bytes:
        return bytes(4 << 20)

    def pid(self) -> int:
        return os.getpid()


def seen_badly(*_: Any) -> Any:
    raise ZeroDivisionError("not seen")


def sent_badly(*_: Any) -> Any:
    raise OSError("no room for it")


@pytest.mark.parametrize("method", ["fail", "fail_later"])
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "thread"},
        {"mode": "thread", "max_concurrency": 3},
        {"mode": "asyncio"},
        {"mode": "process"},
        {"mode": "process", "max_concurrency": 3},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_what_fails_in_failing_a_call_is_that_calls(
    options: dict[str, Any], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = SeesBadly.options(**options, max_restarts=0).init(os.getpid())
    with worker:
        monkeypatch.setattr(Actor, "seen", seen_badly)
        error = goes_on(worker, getattr(worker, method)())
        assert type(error) is WorkerError
        assert "could not be ended as it should: ZeroDivisionError: not seen" in str(error)


@pytest.mark.parametrize("at_once", [{}, {"max_concurrency": 3}], ids=["one at a time", "three"])
def test_a_result_that_cannot_be_sent_is_its_calls_failure(at_once: dict[str, Any]) -> None:
    with SeesBadly.options(mode="process", max_restarts=0, **at_once).init(os.getpid()) as worker:
        error = goes_on(worker, worker.large())
        assert type(error) is EncodeError
        assert "OSError: no room for it" in str(error)
