"""F05, F08, F30: methods that kill their process, or take, return or raise what cannot travel; failing `__init__`s."""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from concurry import (
    CallLimit,
    EncodeError,
    RateLimit,
    RemoteBaseError,
    RemoteError,
    ResourceLimit,
    WorkerDiedError,
    WorkerInitError,
)
from concurry.transports.board import CALLS
from tests.names import steady
from tests.odd import (
    ExitsWhenPickled,
    ExitsWhenUnpickled,
    HoldsALock,
    NoText,
    PicklesNot,
    ReducesNot,
    TwoArguments,
    UnpicklesNot,
    endless,
)

pytestmark = pytest.mark.faults


def fails_alone(worker: Any, future: Any, behind: list[Any]) -> BaseException:
    """A call fails within a second; those queued behind it and the next one do not. Returns its exception."""
    began = time.monotonic()
    error = future.exception(20)
    assert time.monotonic() - began < 1 + 1, "within 1 s, on a machine that is busy"
    assert error is not None
    assert [each.result(20) for each in behind] == list(range(len(behind)))
    assert worker.echo("next").result(20) == "next"
    found: BaseException = error
    return found


# -- F05: it ends its process ------------------------------------------------------------------------------------------


def exits_in_a_thread() -> Any:
    def run() -> None:
        threading.Thread(target=os._exit, args=(5,)).start()
        threading.Event().wait(60)

    return run


def signals_itself(number: int) -> Any:
    def run() -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    return run


def segfault() -> Any:
    def run() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)

    return run


def abort() -> Any:
    def run() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.abort()

    return run


ENDS: dict[str, tuple[Any, tuple[int | None, str | None]]] = {  # what makes the method, and how its process ends
    "_exit": (lambda: lambda: os._exit(3), (3, None)),
    "_exit in a thread": (exits_in_a_thread, (5, None)),
    "a segmentation fault": (segfault, (None, "SIGSEGV")),
    "abort": (abort, (None, "SIGABRT")),
    "SIGTERM": (lambda: signals_itself(signal.SIGTERM), (None, "SIGTERM")),
    "SIGKILL": (lambda: signals_itself(signal.SIGKILL), (None, "SIGKILL")),
}


@pytest.mark.parametrize("end", list(ENDS))
def test_a_method_that_ends_its_process(process: Any, end: str) -> None:
    worker = process()
    make, (code, sign) = ENDS[end]
    future = worker.call(make())
    behind = [worker.echo(n) for n in range(5)]
    error = fails_alone(worker, future, behind)
    assert type(error) is WorkerDiedError
    assert (error.exit_code, error.signal, error.method, error.maybe_executed) == (code, sign, "call", True)
    assert f"(pid {error.pid})" in str(error)


@pytest.mark.parametrize("options", [{"max_concurrency": 4}, {"max_workers": 2, "on_demand": True}])
def test_the_same_with_several_at_once_and_on_demand(process: Any, options: Any) -> None:
    worker = process(**options)
    if "on_demand" in options:
        error = worker.call(lambda: os._exit(3)).exception(20)
        assert type(error) is WorkerDiedError
        assert error.exit_code == 3
        assert worker.echo("next").result(20) == "next"
        return
    error = fails_alone(worker, worker.call_later(lambda: os._exit(3)), [])
    assert type(error) is WorkerDiedError


def test_a_method_that_exceeds_its_address_space(process: Any) -> None:
    def takes_too_much() -> None:
        with open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), before[1]))
        try:
            bytearray(1 << 30)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    worker = process()
    future = worker.call(takes_too_much)
    assert type(fails_alone(worker, future, [worker.echo(n) for n in range(5)])) is MemoryError


# -- F05: it hangs -----------------------------------------------------------------------------------------------------


def test_a_method_that_hangs_while_thousands_pass_it_is_known_by_its_own_time(process: Any, pipe: Any) -> None:
    worker, began, go = process(max_concurrency=2), pipe(), pipe()
    held = worker.hold(began.path, go.path)
    began.wait()
    channel = worker.__dict__["_pool"].members[0].channel
    (number,) = channel.under_way
    since = channel.began_at(number)
    assert [each.result(20) for each in [worker.echo(n) for n in range(CALLS + 5)]] == list(range(CALLS + 5))
    assert list(channel.under_way) == [number]
    assert channel.began_at(number) == since
    go.tell()
    assert held.result(20) == "held"


# -- F05: it raises ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", [SystemExit(3), SystemExit(None), KeyboardInterrupt(), GeneratorExit(), BaseException("x")]
)
def test_a_method_that_raises_what_is_no_exception(process: Any, end: BaseException) -> None:
    def raises() -> None:
        raise end

    worker = process()
    pid = worker.pid().result(20)
    error = fails_alone(worker, worker.call(raises), [worker.echo(n) for n in range(5)])
    assert isinstance(error, RemoteBaseError)
    assert type(error.__cause__) is type(end)
    assert worker.pid().result(20) == pid, "the worker lives"
    error = fails_alone(worker, worker.call(lambda: sys.exit(2)), [])
    assert isinstance(error, RemoteBaseError)


def test_exceptions_that_cannot_be_rebuilt_as_they_are(process: Any) -> None:
    worker = process()

    def raises(kind: Any, *args: Any) -> None:
        raise kind(*args)

    error = fails_alone(worker, worker.call(raises, TwoArguments, 4, "four"), [worker.echo(0)])
    assert type(error) is TwoArguments
    assert (error.code, error.args) == (4, ("4: four",))
    kinds: list[Any] = [HoldsALock, ReducesNot, NoText]
    for kind in kinds:
        error = fails_alone(worker, worker.call(raises, kind), [worker.echo(n) for n in range(5)])
        assert isinstance(error, kind | RemoteError)
        assert kind.__name__ in (type(error).__name__, getattr(error, "type_name", "").rpartition(".")[2])


# -- F05: it takes or returns what cannot travel -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [threading.Lock, PicklesNot, endless, lambda: (str(n) for n in range(3)), ExitsWhenPickled], ids=steady
)
def test_arguments_that_cannot_be_sent(process: Any, make: Any) -> None:
    worker = process()
    try:
        future = worker.echo(make())
    except SystemExit:  # in the caller's own thread: his own
        assert make is ExitsWhenPickled
        return
    error = fails_alone(worker, future, [worker.echo(n) for n in range(5)])
    assert isinstance(error, EncodeError)


@pytest.mark.parametrize("kind", [UnpicklesNot, ExitsWhenUnpickled])
def test_arguments_that_cannot_be_rebuilt(process: Any, kind: Any) -> None:
    worker = process()
    error = fails_alone(worker, worker.echo(kind()), [worker.echo(n) for n in range(5)])
    assert isinstance(error, EncodeError | LookupError | RemoteBaseError)


@pytest.mark.parametrize("kind", [PicklesNot, UnpicklesNot, ExitsWhenPickled, ExitsWhenUnpickled, threading.Lock])
def test_results_that_cannot_be_sent_or_rebuilt(process: Any, kind: Any) -> None:
    worker = process()
    future, behind = worker.call(kind), [worker.echo(n) for n in range(5)]
    if kind is ExitsWhenUnpickled:
        try:
            error = future.exception(20)
        except SystemExit:  # what its own bytes say, in the thread that reads it
            error = None
        assert error is None or isinstance(error, EncodeError | RemoteBaseError)
    else:
        error = fails_alone(worker, future, behind)
        assert isinstance(error, EncodeError | LookupError | RemoteBaseError)
    assert [each.result(20) for each in behind] == list(range(5))


def test_a_result_that_recurses(process: Any) -> None:
    worker = process()
    error = fails_alone(worker, worker.call(endless), [worker.echo(n) for n in range(5)])
    assert isinstance(error, EncodeError | RecursionError)

    def down(n: int) -> Any:
        return down(n + 1) + 1

    assert type(fails_alone(worker, worker.call(down, 0), [worker.echo(0)])) is RecursionError


# -- F08 ---------------------------------------------------------------------------------------------------------------


class CannotTravel(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)
        self.lock = threading.Lock()


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE}


@pytest.mark.parametrize("workers", [1, 3])
def test_init_that_fails(process: Any, workers: int) -> None:
    def raises(error: Any) -> Any:
        def first() -> None:
            raise error() if callable(error) else error  # pyright: ignore[reportGeneralTypeIssues]

        return first

    before = children()
    fails: list[tuple[Any, Any]] = [
        (raises(LookupError("mine")), LookupError),
        (lambda: sys.exit(3), WorkerInitError),
        (lambda: os._exit(3), WorkerDiedError),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), WorkerDiedError),
        (raises(lambda: CannotTravel(1, 2)), (CannotTravel, RemoteError)),
        (raises(KeyboardInterrupt), WorkerInitError),
    ]
    for first, kind in fails:
        began = time.monotonic()
        with pytest.raises(kind) as caught:
            process(first, max_workers=workers)
        assert time.monotonic() - began < 1 + 1
        error = caught.value
        if isinstance(error, WorkerDiedError):
            assert (error.exit_code, error.signal) in [(3, None), (None, "SIGKILL")]
            assert not error.maybe_executed
        elif isinstance(error, LookupError):
            assert error.args == ("mine",)
            assert "in first" in str(error.__cause__), "the remote traceback"
        assert children() == before, "no process is left"


def test_init_that_takes_too_long(process: Any) -> None:
    before = children()
    began = time.monotonic()
    with pytest.raises(WorkerInitError, match="init_timeout"):
        process(signal.pause, init_timeout=0.3)
    assert time.monotonic() - began < 0.3 + 2
    assert children() == before


def test_a_class_that_cannot_be_sent_or_rebuilt(process: Any) -> None:
    before = children()
    with pytest.raises(EncodeError):
        process(threading.Lock())
    with pytest.raises((LookupError, EncodeError, RemoteError), match="no unpickling"):
        process(UnpicklesNot())
    with pytest.raises(WorkerInitError):
        process(ExitsWhenUnpickled())
    assert children() == before


# -- F30 ---------------------------------------------------------------------------------------------------------------


def test_user_errors_before_update(process: Any, acts: Any) -> None:
    class Limited(acts):  # type: ignore[misc]
        def fail(self, kind: Any) -> None:
            with self.limits.acquire(requested={"tokens": 10}):
                raise kind("the user's own")

        def work(self) -> str:
            with self.limits.acquire(requested={"tokens": 10}, timeout=20) as taken:
                taken.update(usage={"tokens": 1})
            return "worked"

    limits = [
        RateLimit(key="tokens", window_seconds=0.01, capacity=30),
        CallLimit(window_seconds=0.01, capacity=10),
        ResourceLimit(key="connection", capacity=1),
    ]
    worker = process(cls=Limited, limits=limits)
    for kind in (ValueError, KeyError, SystemExit):
        with pytest.raises(kind if issubclass(kind, Exception) else RemoteBaseError, match="the user's own"):
            worker.fail(kind).result(20)
    assert [worker.work().result(20) for _ in range(5)] == ["worked"] * 5


def test_what_was_pickled_is_as_it_was() -> None:
    """The poison above is poison: each does what its name says."""
    with pytest.raises(ZeroDivisionError):
        pickle.dumps(PicklesNot())
    with pytest.raises(LookupError):
        pickle.loads(pickle.dumps(UnpicklesNot()))
    with pytest.raises(SystemExit):
        pickle.loads(pickle.dumps(ExitsWhenUnpickled()))
    assert Path("/proc/self/statm").exists()
