"""A program as people have them who wrote it for the older interface: every part of it used, in its older spellings.

Nothing in `program` may be changed to make it run.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
from typing import Any

import pytest

import concurry
from concurry import (
    AsyncioFuture,
    BaseFuture,
    CallLimit,
    ConcurrentFuture,
    ExecutionMode,
    LimitPool,
    LimitSet,
    LoadBalancingAlgorithm,
    PollingAlgorithm,
    RateLimit,
    RateLimitAlgorithm,
    RateWindow,
    ResourceLimit,
    RetryAlgorithm,
    RetryConfig,
    RetryValidationError,
    ReturnWhen,
    SyncFuture,
    TaskWorker,
    Timer,
    Worker,
    async_gather,
    async_wait,
    calculate_retry_wait,
    gather,
    global_config,
    task,
    temp_config,
    wait,
    worker,
    wrap_future,
)
from concurry.utils.progress import ProgressBar
from tests.with_ray import WITH_RAY


class RateLimited(Exception):
    """What a provider says to somebody who is too fast."""


class LLM(Worker):
    def __init__(self, model: str, fail_first: int = 0) -> None:
        self.model = model
        self.left_to_fail = fail_first

    def call_llm(self, prompt: str) -> dict[str, Any]:
        with self.limits.acquire(requested={"tokens": 100, "connections": 1}) as acq:
            if self.left_to_fail:
                self.left_to_fail -= 1
                acq.update(usage={"tokens": 1})
                raise RateLimited("429")
            acq.update(usage={"tokens": len(prompt)})
            return {"text": prompt.upper(), "account": acq.config.get("account"), "model": self.model}

    def embed(self, text: str) -> list[float]:
        acq = self.limits.try_acquire(requested={"tokens": 1})
        if acq.successful:
            acq.update(usage={"tokens": 1})
            acq.release()
        return [float(len(text))]

    async def stream(self, prompt: str) -> int:
        await asyncio.sleep(0)
        return len(prompt)


class Plain(Worker):
    def double(self, value: int) -> int:
        return value * 2


@worker(mode="thread", max_workers=2, auto_init=False)
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.start = start

    def add(self, value: int) -> int:
        return self.start + value


def account(name: str) -> LimitSet:
    return LimitSet(
        limits=[
            RateLimit(
                key="tokens",
                window_seconds=60,
                capacity=50_000,
                algorithm=RateLimitAlgorithm.TokenBucket,
            ),
            CallLimit(window=RateWindow.Minutely, capacity=500),
            ResourceLimit(key="connections", capacity=10),
        ],
        shared=True,
        mode=ExecutionMode.Threads,
        config={"account": name},
    )


def is_rate_limit(exception: BaseException, **ctx: Any) -> bool:
    return isinstance(exception, RateLimited) and ctx["attempt"] < 10


def has_text(result: dict[str, Any], **ctx: Any) -> bool:
    return bool(result["text"])


def program(mode: str, out: io.StringIO) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    pool = LimitPool(
        limit_sets=[account("east"), account("west")], load_balancing=LoadBalancingAlgorithm.RoundRobin, worker_index=0
    )
    llm = LLM.options(
        mode=mode,
        max_workers=2 if mode in ("thread", "process") else 1,
        load_balancing="active",
        max_queued_tasks=10,
        unwrap_futures=True,
        polling_adaptive_min_interval=0.001,  # type: ignore[call-arg]  # older names, which do nothing
        num_retries={"*": 1, "call_llm": 5},
        retry_on={"*": [ConnectionError], "call_llm": [is_rate_limit, TimeoutError]},
        retry_algorithm={"*": RetryAlgorithm.Exponential, "call_llm": "linear"},
        retry_wait={"*": 0.5, "call_llm": 0.001},
        retry_jitter={"*": 0.3, "call_llm": 0},
        retry_until={"*": None, "call_llm": has_text},
        limits=pool,
    ).init("gpt", fail_first=2)
    try:
        with Timer("calls", logger=out.write, i=0, max_i=1) as timer:
            futures = [llm.call_llm(f"prompt {number}") for number in range(10)]
            calls: list[tuple[int, int]] = []
            results = gather(
                futures,
                timeout=60,
                polling=PollingAlgorithm.Adaptive,
                progress=lambda completed, total, elapsed: calls.append((completed, total)),
            )
        seen["texts"] = [it["text"] for it in results]
        seen["accounts"] = {it["account"] for it in results}
        seen["progress"] = calls[-1]
        seen["timed"] = timer.time_taken_sec > 0 and timer.time_taken("ms") > 0 and timer.has_stopped
        seen["by key"] = gather({"a": llm.embed("x"), "b": llm.stream("four")})
        seen["as they finish"] = sorted(gather([llm.embed("1"), llm.embed("22")], iter=True))
        done, not_done = wait([llm.embed("1")], return_when=ReturnWhen.FIRST_COMPLETED, timeout=60, progress=False)
        seen["wait"] = len(done), len(not_done)
        seen["nested"] = gather([[llm.stream("1")], {"k": (llm.stream("22"),)}], recurse=True)
        seen["argument"] = llm.stream(llm.call_llm("abc")).result(timeout=60)
        seen["bar"] = gather([llm.embed("1")], progress={"desc": "embedding", "unit": "text", "file": out})
    finally:
        llm.stop(timeout=10)
    try:
        llm.embed("late").result()
    except RuntimeError as error:
        seen["late"] = "stopped" in str(error)

    with temp_config(global_num_retries=3, thread_max_workers=3), Plain.options(mode="thread").init() as plain:
        seen["workers"] = plain.get_pool_stats()["max_workers"]
        seen["plain"] = [plain.double(it).result() for it in range(3)]
    global_config.thread.max_workers = 2
    seen["defaults"] = global_config.get_defaults(ExecutionMode.Threads).max_workers
    global_config.reset_to_defaults()

    with Counter.options(blocking=True).init(start=10) as counter:  # type: ignore[attr-defined]  # mypy ignores @worker
        seen["counter"] = counter.add(5)
    with TaskWorker.options(mode=mode).init() as tasks:
        seen["tasks"] = tasks.submit(pow, 2, 5).result(), list(tasks.map(abs, [-1, 2, -3]))

    @task(mode="thread", max_workers=4)
    def square(value: int) -> int:
        """The square."""
        return value * value

    seen["task"] = [it.result() for it in [square(3), square.submit(4)]], list(square.map(range(4))), square.__doc__
    square.stop()

    standard: concurrent.futures.Future[int] = concurrent.futures.Future()
    standard.set_result(7)
    with ProgressBar(
        [wrap_future(standard), wrap_future(8), SyncFuture(9)], desc="all", color="GREEN", file=out
    ) as bar:
        seen["wrapped"] = [it.result() for it in bar]
    seen["kinds"] = type(wrap_future(standard)) is ConcurrentFuture, isinstance(SyncFuture(1), BaseFuture)

    async def in_a_loop() -> Any:
        theirs = AsyncioFuture(asyncio.ensure_future(asyncio.sleep(0, result="slept")))
        async with LLM.options(mode="asyncio", limits=[CallLimit(window="minute", capacity=100)]).init(
            "local"
        ) as local:
            ended, _ = await async_wait([local.stream("abc"), asyncio.sleep(0)], return_when="all")
            return len(ended), await async_gather([theirs, local.stream("abc"), local.embed("ab"), asyncio.sleep(0, 1)])

    seen["loop"] = asyncio.run(in_a_loop())
    config = RetryConfig(num_retries=2, retry_algorithm="fibonacci", retry_wait=1, retry_jitter=0)
    seen["waits"] = [calculate_retry_wait(attempt, config) for attempt in (1, 2, 3, 4)]
    with Plain.options(mode="sync", num_retries=1, retry_wait=0, retry_until=[lambda r: r > 100]).init() as never:
        try:
            never.double(3).result()
        except RetryValidationError as error:
            seen["never"] = error.attempts, error.all_results, error.method_name
    return seen


@pytest.mark.parametrize("mode", ["sync", "thread", "process", "asyncio", *(["ray"] if WITH_RAY else [])])
def test_it_runs(mode: str) -> None:
    out = io.StringIO()
    assert program(mode, out) == {
        "texts": [f"PROMPT {number}" for number in range(10)],
        "accounts": {"east", "west"},
        "progress": (10, 10),
        "timed": True,
        "by key": {"a": [1.0], "b": 4},
        "as they finish": [(0, [1.0]), (1, [2.0])],
        "wait": (1, 0),
        "nested": [[1], {"k": (2,)}],
        "argument": 3,
        "bar": [[1.0]],
        "late": True,
        "workers": 3,
        "plain": [0, 2, 4],
        "defaults": 2,
        "counter": 15,
        "tasks": (32, [1, 2, 3]),
        "task": ([9, 16], [0, 1, 4, 9], "The square."),
        "wrapped": [7, 8, 9],
        "kinds": (True, True),
        "loop": (2, ["slept", 3, [2.0], 1]),
        "waits": [1, 1, 2, 3],
        "never": (2, [6, 6], "double"),
    }
    for words in ("[1/1] calls", "completed in", "embedding", "all"):
        assert words in out.getvalue()


def test_the_names_it_uses_are_public() -> None:
    assert {"worker", "task", "TaskWorker", "Executor"} <= set(concurry.__all__)
