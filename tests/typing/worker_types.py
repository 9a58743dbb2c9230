"""What a type checker knows of workers and handles. Checked by mypy and pyright in `test_types.py`; never run.

A line that must be an error says so by `# type: ignore`: both checkers report an ignore that nothing needs.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedExpression=false

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, assert_type

from concurry import (
    BaseFuture,
    ConcurrentFuture,
    ExecutionMode,
    Handle,
    LimitPool,
    LimitSet,
    RateLimit,
    RetryConfig,
    SyncFuture,
    Worker,
    async_gather,
    gather,
    wait,
    wrap_future,
)
from concurry.workers import Launcher

T = TypeVar("T")


class LLM(Worker):
    """The usual: plain and async, static and class methods."""

    def __init__(self, model: str, temperature: float = 0.5) -> None:
        self.model = model
        self.temperature = temperature

    def call(self, prompt: str, *, times: int = 1) -> str:
        assert_type(self.limits, LimitPool)
        with self.limits.acquire(requested={"tokens": 1}) as acquired:
            acquired.update(usage={"tokens": 1})
        return prompt * times

    async def call_later(self, prompt: str) -> list[str]:
        return [prompt]

    def stop_it(self) -> None: ...

    @staticmethod
    def static(value: int) -> int:
        return value

    @classmethod
    def of_class(cls, value: int) -> bytes:
        return bytes(value)


class OnClass(Worker, mode="thread", max_workers=8):
    """Options as class arguments."""

    def method(self) -> int:
        return 1


class Box(Worker, Generic[T]):
    """A generic worker."""

    def __init__(self, value: T) -> None:
        self.value = value

    def get(self) -> T:
        return self.value


def making() -> None:
    """`.options()` is a launcher of this class, and `.init()` a handle on it."""
    assert_type(LLM.options(mode="thread"), Launcher[LLM])
    assert_type(LLM.options(mode="thread").init("m"), Handle[LLM])
    assert_type(LLM.options(mode="thread").options(max_workers=3).init("m"), Handle[LLM])
    assert_type(LLM.init("m"), Handle[LLM])
    assert_type(LLM("m"), LLM)
    assert_type(OnClass.init(), Handle[OnClass])
    with LLM.options(mode="thread").init("m") as llm:
        assert_type(llm, Handle[LLM])
    assert_type(Box[int].options(mode="sync").init(1), Handle[Box[int]])


async def making_later() -> None:
    """The same in a coroutine."""
    async with LLM.options(mode="asyncio").init("m") as llm:
        assert_type(llm, Handle[LLM])
        assert_type(await llm[LLM.call]("p"), str)
        assert_type(await llm[LLM.call_later]("p"), list[str])
        assert_type(await async_gather([llm[LLM.call]("p")]), list[str])


def options() -> None:
    """Every option has its type."""
    LLM.options(
        mode=ExecutionMode.Threads,
        max_workers=100,
        max_concurrency=4,
        blocking=False,
        load_balancing="least_active",
        on_demand=False,
        max_queued_tasks=5,
        mailbox_size=1000,
        on_full="raise",
        unwrap_futures=True,
        limits=[RateLimit(key="tokens", window_seconds=60, capacity=1000)],
        num_retries={"*": 0, "call": 3},
        retry_on=[ConnectionError, lambda exception, **_: True],
        retry_algorithm="exponential",
        retry_wait=1,
        retry_jitter=0.3,
        retry_until=lambda r: len(r) > 10,
        retry_config=RetryConfig(num_retries=3),
        max_restarts=None,
        call_timeout={"call": 5.0},
        stop_timeout=30,
        init_timeout=None,
        mp_context="spawn",
    )
    LLM.options(limits=LimitSet(limits=[], shared=True))
    mode: str = "thread"
    LLM.options(mode=mode)
    LLM.options(max_worker=2)  # type: ignore[call-arg]
    LLM.options(max_workers="two")  # type: ignore[arg-type]
    LLM.options(on_full="drop")  # type: ignore[arg-type]
    LLM.options(blocking="yes")  # type: ignore[arg-type]
    LLM.options(limits=5)  # type: ignore[arg-type]
    LLM.options("thread")  # type: ignore[call-arg]


def calling(llm: Handle[LLM]) -> None:
    """By attribute a call gives a future of anything; by `[LLM.method]` arguments and result are known."""
    assert_type(llm.call("p"), BaseFuture[Any])
    assert_type(llm.call("p").result(), Any)
    assert_type(llm.anything_at_all(1, 2, three=3), BaseFuture[Any])
    assert_type(llm[LLM.call]("p"), BaseFuture[str])
    assert_type(llm[LLM.call]("p", times=2).result(timeout=5), str)
    assert_type(llm[LLM.call_later]("p"), BaseFuture[list[str]])
    assert_type(llm[LLM.call_later]("p").result(), list[str])
    assert_type(llm[LLM.stop_it](), BaseFuture[None])
    llm[LLM.call](5)  # type: ignore[arg-type]
    llm[LLM.call]()  # type: ignore[call-arg]
    llm[LLM.call]("p", 2)  # type: ignore[call-arg]
    llm[LLM.call]("p", time=2)  # type: ignore[call-arg]
    llm[LLM.call_later](5)  # type: ignore[arg-type]
    llm[OnClass.method]()  # type: ignore[call-arg]


def generic(box: Handle[Box[int]]) -> None:
    """The type parameter of the worker is that of the call."""
    assert_type(box[Box[int].get](), BaseFuture[int])


def collecting(llm: Handle[LLM]) -> None:
    """`gather` and `wait` over typed futures."""
    futures = [llm[LLM.call](p) for p in ("a", "b")]
    assert_type(gather(futures), list[str])
    assert_type(gather(futures, progress=True, timeout=3), list[str])
    assert_type(gather({1: llm[LLM.call]("a")}), dict[int, str])
    assert_type(gather(futures, return_exceptions=True), list[str | BaseException])
    for answer in gather([llm.call("p")]):
        assert_type(answer, Any)
    assert_type(wait(futures), tuple[set[BaseFuture[str]], set[BaseFuture[str]]])


def ending(llm: Handle[LLM]) -> None:
    """The handle's own side."""
    assert_type(llm.stop(), None)
    assert_type(llm.stop(timeout=None), None)
    assert_type(llm.is_alive(), bool)
    assert_type(llm.stats(), dict[str, Any])
    assert_type(llm.get_pool_stats(), dict[str, Any])
    assert_type(len(llm), int)
    assert_type(llm.mode, ExecutionMode)
    assert_type(llm.worker_cls, type[LLM])
    assert_type(llm.blocking, bool)
    llm.stop(timeout="soon")  # type: ignore[arg-type]
    llm.mode = ExecutionMode.Sync  # type: ignore[misc]


def futures(llm: Handle[LLM], coroutine: Coroutine[Any, Any, int]) -> None:
    """Futures of every kind."""
    future = llm[LLM.call]("p")
    callback: Callable[[BaseFuture[str]], None] = print
    future.add_done_callback(callback)
    assert_type(future.exception(), BaseException | None)
    assert_type(future.cancel(), bool)
    assert_type(SyncFuture(5).result(), int)
    assert_type(wrap_future(future), BaseFuture[str])
    assert_type(isinstance(future, ConcurrentFuture), bool)
    coroutine.close()
