"""Bad input: each gets its own clear error, at the line that caused it, with what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

import concurry
from concurry import (
    BaseFuture,
    CallLimit,
    LimitSet,
    RateLimit,
    ResourceLimit,
    RetryValidationError,
    Worker,
    WorkerStoppedError,
    as_completed,
    async_gather,
    gather,
    wait,
)

Start = Callable[..., Any]


class Plain(Worker):
    def method(self, value: Any = None) -> Any:
        return value

    async def method_later(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"max_worker": 2}, TypeError, "Plain: unknown option 'max_worker'; did you mean 'max_workers'"),
        ({"qqqq": 2}, TypeError, "unknown option 'qqqq'; there are mode"),
        ({"auto_init": True}, TypeError, "it belongs on the class"),
        ({"max_workers": "many"}, ValueError, "Plain: max_workers='many' is refused: it must be a whole number"),
        ({"max_workers": -1}, ValueError, "max_workers=-1 is refused"),
        ({"max_workers": 2.5}, ValueError, r"max_workers=2.5 is refused"),
        ({"max_workers": True}, ValueError, "max_workers=True is refused"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency=0 is refused: it must be a whole number, 1 or more"),
        ({"mode": "threed"}, ValueError, "Could not find enum with value 'threed'.*'thread'"),
        ({"mode": "sync", "max_workers": 2}, ValueError, "max_workers must be 1 for Sync mode.*mode='thread' takes"),
        ({"mode": "asyncio", "max_workers": 2}, ValueError, "max_workers must be 1 for Asyncio mode"),
        ({"mode": "sync", "on_demand": True}, ValueError, "on_demand mode is not supported for Sync"),
        ({"mode": "asyncio", "on_demand": True}, ValueError, "on_demand mode is not supported for Asyncio"),
        ({"load_balancing": "fair"}, ValueError, "Could not find enum with value 'fair'"),
        ({"blocking": "perhaps"}, ValueError, "blocking='perhaps' is refused: it must be True or False"),
        ({"mailbox_size": 0}, ValueError, "mailbox_size=0 is refused"),
        ({"on_full": "drop"}, ValueError, "on_full='drop' is refused: it must be 'block' or 'raise'"),
        ({"call_timeout": 0}, ValueError, "call_timeout=0 is refused: it must be seconds, above 0"),
        ({"call_timeout": float("nan")}, ValueError, "call_timeout=nan is refused"),
        ({"stop_timeout": -1}, ValueError, "stop_timeout=-1 is refused"),
        ({"num_retries": -1}, ValueError, "num_retries=-1 is refused"),
        ({"num_retries": None, "max_restarts": -1}, ValueError, "max_restarts=-1 is refused"),
    ],
)
def test_options_that_cannot_be(given: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        Plain.options(**given)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"max_workers": 0}, ValueError, "max_workers=0 is for on_demand=True"),
        ({"num_retries": {"method": 2}}, ValueError, r"must include '\*' key for default value"),
        ({"num_retries": {"*": 0, "methud": 2}}, ValueError, "methud.*did you mean 'method'"),
        ({"call_timeout": {"methud": 2}}, ValueError, "methud.*did you mean 'method'"),
        ({"num_retries": 1, "retry_on": [int]}, (TypeError, ValueError), "must be subclasses of BaseException"),
        ({"limits": 5}, ValueError, "limits=5 is refused: it must be a limit, a list of limits"),
        ({"limits": [ResourceLimit(key="a", capacity=1)] * 2}, ValueError, "Duplicate limit key"),
        (
            {"limits": LimitSet(limits=[ResourceLimit(key="a", capacity=1)], shared=False), "max_workers": 2},
            ValueError,
            "shared=False",
        ),
    ],
)
def test_options_that_cannot_be_for_this_class(given: dict[str, Any], kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        Plain.options(mode="thread", **given).init()


def test_options_on_the_class_are_checked_at_its_line() -> None:
    with pytest.raises(TypeError, match="Bad: unknown option 'max_wrokers'; did you mean 'max_workers'"):

        class Bad(Worker, mode="thread", max_wrokers=2):  # type: ignore[call-arg]
            pass


def test_positional_options() -> None:
    with pytest.raises(TypeError, match="positional argument"):
        Plain.options("thread")  # type: ignore[call-arg]


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_a_mode_whose_library_is_not_installed() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"mode='ray' needs Ray, which is not installed: pip install ray\."):
        Plain.options(mode="ray").init()


def test_a_method_that_does_not_exist(start: Start) -> None:
    with pytest.raises(AttributeError, match="Plain has no method 'methd'; did you mean 'method'"):
        start(Plain).methd(1)


def test_calling_after_stop(start: Start) -> None:
    worker = start(Plain)
    worker.stop()
    with pytest.raises(WorkerStoppedError, match=r"is stopped: Plain takes no more calls. Make a new one with .init"):
        worker.method()


def test_waiting_on_nothing() -> None:
    assert gather([]) == []
    assert gather({}) == {}
    assert wait(list[BaseFuture[int]]()) == (set(), set())
    assert list(as_completed([])) == []
    for function in (gather, wait):
        with pytest.raises((TypeError, ValueError)):
            function()  # type: ignore[call-overload]


@pytest.mark.parametrize("capacity", [0, -1, float("nan")])
def test_a_limit_without_capacity(capacity: float) -> None:
    with pytest.raises(ValueError, match="capacity"):
        RateLimit(key="k", window_seconds=1, capacity=capacity)
    with pytest.raises(ValueError, match="capacity"):
        CallLimit(window_seconds=1, capacity=capacity)
    with pytest.raises(ValueError, match="capacity"):
        ResourceLimit(key="k", capacity=capacity)  # type: ignore[arg-type]


def test_a_request_above_capacity() -> None:
    limits = LimitSet(limits=[RateLimit(key="tokens", window_seconds=1, capacity=10)])
    with pytest.raises(ValueError, match=r"tokens.*exceeds capacity.*can never be fulfilled"):
        limits.acquire(requested={"tokens": 11})


def test_a_validator_that_raises(start: Start) -> None:
    def validator(result: Any) -> bool:
        raise KeyError("from the validator")

    worker = start(Plain, options={"retry_until": validator})
    with pytest.raises(RetryValidationError, match="from the validator"):
        worker.method().result()


def test_an_iterable_that_raises_in_the_middle(start: Start) -> None:
    worker = start(Plain)
    made: list[Any] = []

    def futures() -> Any:
        for i in range(3):
            made.append(worker.method(i))
            yield made[-1]
        raise OSError("the source is gone")

    for function in (gather, wait, lambda fs: list(as_completed(fs))):
        made.clear()
        with pytest.raises(OSError, match="the source is gone"):
            function(futures())
        assert [future.result() for future in made] == [0, 1, 2]


def test_a_coroutine_never_awaited() -> None:
    async def lonely() -> None: ...

    coroutine = lonely()
    with pytest.raises(RuntimeError, match="no running event loop"):
        concurry.wrap_future(coroutine)
    coroutine.close()
    awaitable: list[Any] = [async_gather([1])]
    with pytest.warns(RuntimeWarning, match="never awaited"):
        awaitable.clear()


def test_waiting_in_the_loop_of_what_is_awaited() -> None:
    async def main() -> None:
        future = concurry.wrap_future(asyncio.get_running_loop().create_future())
        with pytest.raises(RuntimeError):
            future.result()
        future.cancel()

    asyncio.run(main())


def test_arguments_for_a_class_without_init(start: Start) -> None:
    words, plain = r"Plain\(\) takes no arguments", Plain
    for make in (lambda *args, **kwargs: start(plain, *args, **kwargs), plain):
        with pytest.raises(TypeError, match=words):
            make(1)
        with pytest.raises(TypeError, match=words):
            make(a=1)


@pytest.mark.parametrize("timeout", ["soon", float("nan"), object()])
def test_a_timeout_that_is_none(start: Start, timeout: Any) -> None:
    future = start(Plain).method(concurry.SyncFuture(1))
    with pytest.raises((TypeError, ValueError)):
        gather([future], timeout=timeout)
