"""F05, F08, F30 over Ray: methods that end their process, or take, return or raise what cannot travel."""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import sys
import threading
from typing import Any

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
PATIENCE_S = 60.0


def fails_alone(worker: Any, future: Any, behind: list[Any]) -> BaseException:
    """A call fails; those queued behind it and the next one do not. Returns its exception."""
    error = future.exception(PATIENCE_S)
    assert error is not None
    assert [each.result(PATIENCE_S) for each in behind] == list(range(len(behind)))
    assert worker.echo("next").result(PATIENCE_S) == "next"
    found: BaseException = error
    return found


# -- F05: it ends its process ------------------------------------------------------------------------------------------


def exits_in_a_thread() -> None:
    threading.Thread(target=os._exit, args=(5,)).start()
    threading.Event().wait(60)


def segfault() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def abort() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


def exits() -> None:
    os._exit(3)


@pytest.mark.parametrize("end", [exits, exits_in_a_thread, segfault, abort])
def test_a_method_that_ends_its_process(start: Any, end: Any) -> None:
    worker = start()
    pid = worker.pid().result(PATIENCE_S)
    future = worker.call(end)
    behind = [worker.echo(n) for n in range(5)]
    error = future.exception(PATIENCE_S)
    assert type(error) is WorkerDiedError
    assert (error.pid, error.method, error.incarnation, error.maybe_executed) == (pid, "call", 0, True)
    assert error.__cause__ is not None, "Ray's own words"
    for n, each in enumerate(behind):  # those that it held may have begun, as far as anybody knows
        lost = each.exception(PATIENCE_S)
        assert type(lost) is WorkerDiedError if lost is not None else each.result() == n
    assert worker.echo("next").result(PATIENCE_S) == "next"


def test_the_same_with_several_at_once(start: Any) -> None:
    worker = start(max_concurrency=4)
    assert type(fails_alone(worker, worker.call_later(exits), [])) is WorkerDiedError


def test_the_same_on_demand(start: Any) -> None:
    worker = start(max_workers=2, on_demand=True)
    assert type(worker.call(exits).exception(PATIENCE_S)) is WorkerDiedError
    assert worker.echo("next").result(PATIENCE_S) == "next"


# -- F05: it raises ----------------------------------------------------------------------------------------------------


def test_a_method_that_raises_what_is_no_exception(start: Any) -> None:
    def raises(end: BaseException) -> None:
        raise end

    worker = start()
    pid = worker.pid().result(PATIENCE_S)
    for end in (SystemExit(3), SystemExit(None), KeyboardInterrupt(), GeneratorExit(), BaseException("x")):
        error = fails_alone(worker, worker.call(raises, end), [worker.echo(n) for n in range(5)])
        assert isinstance(error, RemoteBaseError)
        assert type(error.__cause__) is type(end)
    error = fails_alone(worker, worker.call(lambda: sys.exit(2)), [])
    assert isinstance(error, RemoteBaseError)
    assert worker.pid().result(PATIENCE_S) == pid, "the actor lives"


def test_exceptions_that_cannot_be_rebuilt_as_they_are(start: Any) -> None:
    worker = start()

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


def test_arguments_that_cannot_be_sent_or_rebuilt(start: Any) -> None:
    worker = start()
    for make in (threading.Lock, PicklesNot, endless, lambda: (str(n) for n in range(3))):
        error = fails_alone(worker, worker.echo(make()), [worker.echo(n) for n in range(5)])
        assert isinstance(error, EncodeError)
    for kind in (UnpicklesNot, ExitsWhenUnpickled):
        error = fails_alone(worker, worker.echo(kind()), [worker.echo(n) for n in range(5)])
        assert isinstance(error, EncodeError | LookupError | RemoteBaseError)


def test_results_that_cannot_be_sent_or_rebuilt(start: Any) -> None:
    worker = start()
    kinds: list[Any] = [PicklesNot, UnpicklesNot, ExitsWhenPickled, threading.Lock]
    for kind in kinds:
        error = fails_alone(worker, worker.call(kind), [worker.echo(n) for n in range(5)])
        assert isinstance(error, EncodeError | LookupError | RemoteBaseError)
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


def raises(error: Any) -> Any:
    def first() -> None:
        raise error() if callable(error) else error  # pyright: ignore[reportGeneralTypeIssues]

    return first


def test_init_that_fails(start: Any) -> None:
    fails: list[tuple[Any, Any]] = [
        (raises(LookupError("mine")), LookupError),
        (lambda: sys.exit(3), WorkerInitError),
        (lambda: os._exit(3), WorkerDiedError),
        (raises(lambda: CannotTravel(1, 2)), (CannotTravel, RemoteError)),
        (raises(KeyboardInterrupt), WorkerInitError),
    ]
    for first, kind in fails:
        with pytest.raises(kind) as caught:
            start(first)
        error = caught.value
        if isinstance(error, WorkerDiedError):
            assert not error.maybe_executed
        elif isinstance(error, LookupError):
            assert error.args == ("mine",)
            assert "in first" in str(error.__cause__), "the remote traceback"
    with pytest.raises(LookupError):
        start(raises(LookupError("mine")), max_workers=2)


def test_init_that_takes_too_long(start: Any, gone: Any, tmp_path: Any) -> None:
    path = tmp_path / "pid"

    def sleeps() -> None:
        path.write_text(str(os.getpid()))
        threading.Event().wait(60)

    with pytest.raises(WorkerInitError, match="init_timeout"):
        start(sleeps, init_timeout=20)
    assert gone([int(path.read_text())], PATIENCE_S)


def test_a_class_that_cannot_be_sent_or_rebuilt(start: Any) -> None:
    with pytest.raises(EncodeError):
        start(threading.Lock())
    with pytest.raises((LookupError, EncodeError, RemoteError), match="no unpickling"):
        start(UnpicklesNot())
    with pytest.raises(WorkerInitError):
        start(ExitsWhenUnpickled())


# -- F30 ---------------------------------------------------------------------------------------------------------------


def test_user_errors_before_update(start: Any, acts: Any) -> None:
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
    worker = start(cls=Limited, limits=limits)
    for kind in (ValueError, KeyError, SystemExit):
        with pytest.raises(kind if issubclass(kind, Exception) else RemoteBaseError, match="the user's own"):
            worker.fail(kind).result(PATIENCE_S)
    assert [worker.work().result(PATIENCE_S) for _ in range(5)] == ["worked"] * 5


def test_what_was_pickled_is_as_it_was() -> None:
    """The poison above is poison: each does what its name says."""
    with pytest.raises(ZeroDivisionError):
        pickle.dumps(PicklesNot())
    with pytest.raises(LookupError):
        pickle.loads(pickle.dumps(UnpicklesNot()))
