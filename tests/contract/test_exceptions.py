"""What a method raises arrives whole, ends its call, and nothing else."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import pytest

from concurry import RemoteBaseError, Worker

Start = Callable[..., Any]
PATIENCE_S = 20.0  # what is waited for comes at once


class TwoArgumentsError(Exception):
    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text


class UnpicklableError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


class OddStrError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@dataclass(frozen=True)
class FrozenError(Exception):
    """It refuses `__traceback__ =`, `__cause__ =` and `add_note`."""

    code: int = 3


class OddBaseError(BaseException):
    def __str__(self) -> str:
        raise ValueError("no text")


class NoWithTracebackError(Exception):
    def with_traceback(self, tb: Any) -> Any:
        raise RuntimeError("no with_traceback")


class HiddenError(Exception):
    @property
    def __traceback__(self) -> Any:
        raise SystemExit("no __traceback__")

    @__traceback__.setter
    def __traceback__(self, _: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise RuntimeError("no __traceback__")

    @property
    def __notes__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no __notes__")

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise KeyboardInterrupt("no __cause__")


class RefusesAllError(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")


class ExitsError(Exception):
    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


class RefusesAllBaseError(BaseException):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __str__(self) -> str:
        raise KeyboardInterrupt("no text")


def deep_below(error: Any) -> None:
    """A frame of the user's."""
    raise error() if isinstance(error, FunctionType) else error


class Raises(Worker):
    def throw(self, error: BaseException) -> None:
        deep_below(error)

    async def throw_later(self, error: BaseException) -> None:
        await asyncio.sleep(0)
        deep_below(error)

    def throw_from_coroutine(self, error: BaseException) -> Any:
        return self.throw_later(error)

    def chained(self) -> None:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            error = ValueError("outer", 3)
            error.add_note("note 1")
            error.extra = {"a": 1}  # type: ignore[attr-defined]
            raise error from inner

    def group(self) -> None:
        raise ExceptionGroup("several", [ValueError(1), TypeError(2)])

    def fine(self) -> int:
        return 1

    def stop_iteration(self) -> None:
        raise StopIteration(5)


METHODS = ["throw", "throw_later", "throw_from_coroutine"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "error",
    [
        ValueError("v", 2),
        TwoArgumentsError(1, "t"),
        UnpicklableError(),
        OddStrError(),
        FrozenError(),
        StopAsyncIteration(),
        TimeoutError("mine"),
        RecursionError("deep"),
        MemoryError(),
        concurrent.futures.InvalidStateError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_very_exception_arrives(start: Start, way: Any, method: str, error: Exception) -> None:
    worker = start(Raises)
    # One that cannot be pickled can be raised in another process, but is no argument that could be sent there.
    by_class = not way.same_objects and isinstance(error, UnpicklableError | FrozenError)
    sent = type(error) if by_class else error
    future = getattr(worker, method)(sent)
    with pytest.raises(type(error)) as caught:
        future.result()
    assert way.same(caught.value, error)
    assert future.exception() is caught.value
    assert future.done()
    assert not future.cancelled()
    assert worker.fine().result() == 1


def test_stop_iteration_is_an_exception_like_any_other(start: Start) -> None:
    worker = start(Raises)
    with pytest.raises(StopIteration):
        worker.stop_iteration().result()
    with pytest.raises(StopIteration):
        worker.throw(StopIteration(1)).result()
    assert worker.fine().result() == 1


def test_notes_cause_arguments_and_attributes(start: Start) -> None:
    error = start(Raises).chained().exception()
    assert type(error) is ValueError
    assert error.args == ("outer", 3)
    assert error.__notes__ == ["note 1"]
    assert error.extra == {"a": 1}  # type: ignore[attr-defined]
    assert isinstance(error.__cause__, KeyError)


def test_an_exception_group(start: Start) -> None:
    with pytest.raises(ExceptionGroup, match="several") as caught:
        start(Raises).group().result()
    assert [type(part) for part in caught.value.exceptions] == [ValueError, TypeError]


_LAYERS = [
    {},
    {"num_retries": 1, "retry_wait": 0, "retry_jitter": 0},
    {"num_retries": {"*": 0, "throw": 1, "throw_later": 1}, "retry_wait": 0, "retry_jitter": 0},
    {"call_timeout": 100},
]


@pytest.mark.parametrize("options", _LAYERS, ids=["plain", "retries", "named retries", "call_timeout"])
@pytest.mark.parametrize("method", METHODS)
def test_the_traceback_shows_the_users_frames(start: Start, way: Any, method: str, options: dict[str, Any]) -> None:
    future = getattr(start(Raises, options=options), method)(ValueError("x"))
    error = future.exception()
    assert error is not None
    assert way.frames_of(error) == [METHODS[0] if method == "throw" else METHODS[1], "deep_below"]


@pytest.mark.parametrize("options", _LAYERS, ids=["plain", "retries", "named retries", "call_timeout"])
def test_an_exception_that_misbehaves_ends_its_call_only(start: Start, way: Any, options: dict[str, Any]) -> None:
    worker = start(Raises, options=options)
    for method in METHODS:
        for kind in (NoWithTracebackError, HiddenError, RefusesAllError, ExitsError):
            sent: Any = kind()
            # As no argument: what looks through those asks it for its class.
            future = getattr(worker, method)((lambda sent=sent: sent) if way.same_objects else kind)
            behind = [worker.fine() for _ in range(2)]
            error = future.exception(PATIENCE_S)
            assert error is sent if way.same_objects else type(error) is kind, (method, kind)
            assert [each.result(PATIENCE_S) for each in behind] == [1, 1]
    assert worker.stats()["restarts"] == 0


def test_a_base_exception_that_misbehaves_ends_its_call_only(start: Start, way: Any) -> None:
    worker = start(Raises)
    for method in METHODS:
        future = getattr(worker, method)(RefusesAllBaseError)
        error = future.exception(PATIENCE_S)
        assert type(error) is RemoteBaseError
        assert type(error.__cause__) is RefusesAllBaseError
        assert worker.fine().result(PATIENCE_S) == 1
    assert worker.stats()["restarts"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_base_exception_ends_its_call_only(start: Start, way: Any, method: str) -> None:
    worker = start(Raises)
    for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit("g")):
        with pytest.raises(RemoteBaseError, match=f"raised {type(error).__name__}.*the worker goes on") as caught:
            getattr(worker, method)(error).result()
        assert way.same(caught.value.__cause__, error)
        assert caught.value.type_name == f"builtins.{type(error).__name__}"
        assert "deep_below" in caught.value.traceback
    assert worker.fine().result() == 1


@pytest.mark.parametrize("method", METHODS)
def test_other_base_exceptions_come_wrapped(start: Start, method: str) -> None:
    worker = start(Raises)
    with pytest.raises(RemoteBaseError, match="raised OddBaseError"):
        getattr(worker, method)(OddBaseError()).result()
    assert worker.fine().result() == 1


@pytest.mark.parametrize("method", METHODS)
def test_an_asyncio_cancellation_raised_by_a_method_is_the_standard_one(start: Start, way: Any, method: str) -> None:
    worker = start(Raises)
    kind = concurrent.futures.CancelledError if way.background else (asyncio.CancelledError)
    with pytest.raises(kind):
        getattr(worker, method)(asyncio.CancelledError()).result()
    assert worker.fine().result() == 1


def test_in_sync_mode_they_pass_through() -> None:
    with Raises.options(mode="sync").init() as worker:
        for method in METHODS:
            with pytest.raises(KeyboardInterrupt):
                getattr(worker, method)(KeyboardInterrupt())
            with pytest.raises(SystemExit):
                getattr(worker, method)(SystemExit(2))
        assert worker.fine().result() == 1


def test_a_failed_call_among_many(start: Start) -> None:
    worker = start(Raises)
    futures = [worker.throw(ValueError(i)) if i % 3 == 0 else worker.fine() for i in range(30)]
    assert [f.exception() is None for f in futures] == [i % 3 != 0 for i in range(30)]


def test_one_exception_object_raised_by_two_calls(start: Start, way: Any) -> None:
    worker, error = start(Raises), ValueError("shared")
    first, second = worker.throw(error), worker.throw(error)
    assert way.same(first.exception(), error)
    assert way.same(second.exception(), error)
