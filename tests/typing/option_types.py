"""What a type checker knows of options, retries and limits. Checked in `test_types.py`; never run.

A line that must be an error says so by `# type: ignore`: both checkers report an ignore that nothing needs.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any, assert_type

from pydantic import BaseModel

from concurry import (
    BaseFuture,
    CallLimit,
    ExecutionMode,
    Handle,
    LimitPool,
    LimitSet,
    LoadBalancingAlgorithm,
    RateLimit,
    RateLimitAlgorithm,
    RateWindow,
    ResourceLimit,
    RetryAlgorithm,
    RetryConfig,
    Worker,
    calculate_retry_wait,
)
from concurry.acquisition import Acquisition
from concurry.limit import Limit


class Plain(Worker):
    def call(self, text: str) -> str:
        return text


class OnClass(Worker, mode="thread", max_workers=8, num_retries=3, auto_init=False):
    """Options as class arguments, inherited by subclasses."""

    def call(self, text: str) -> str:
        return text


class Heir(OnClass, max_workers=2, limits=[CallLimit(window_seconds=60, capacity=5)]):
    """Its own beside the inherited ones."""


class Model(Worker, BaseModel, mode="thread", frozen=True):
    """A model's own class arguments beside them."""

    size: int = 1

    def call(self) -> int:
        return self.size


class Misspelt(Worker, mode="thread", max_worker=8):  # type: ignore[call-arg]
    """An option that there is not."""


class Mistaken(Worker, max_workers="8"):  # type: ignore[arg-type]
    """An option of another type."""


def class_arguments() -> None:
    """They change nothing about what is made."""
    assert_type(OnClass.init(), Handle[OnClass])
    assert_type(Heir.options(mode="sync", max_workers=1).init(), Handle[Heir])
    assert_type(Heir.init()[Heir.call]("x"), BaseFuture[str])
    assert_type(Model.init(size=2), Handle[Model])
    assert_type(Model.init(size=2)[Model.call](), BaseFuture[int])


def names() -> None:
    """An option that there is not."""
    Plain.options(max_worker=3)  # type: ignore[call-arg]
    Plain.options(modes="thread")  # type: ignore[call-arg]
    Plain.options(timeout=3)  # type: ignore[call-arg]
    Plain.options(mode="thread").options(max_worker=3)  # type: ignore[call-arg]
    Plain.options("thread")  # type: ignore[call-arg]
    Plain.options(auto_init=True)  # type: ignore[call-arg]


def types() -> None:
    """A value of another type."""
    Plain.options(mode=3)  # type: ignore[arg-type]
    Plain.options(max_workers="three")  # type: ignore[arg-type]
    Plain.options(max_concurrency=1.5)  # type: ignore[arg-type]
    Plain.options(blocking="yes")  # type: ignore[arg-type]
    Plain.options(load_balancing=2)  # type: ignore[arg-type]
    Plain.options(on_demand="always")  # type: ignore[arg-type]
    Plain.options(max_queued_tasks="100")  # type: ignore[arg-type]
    Plain.options(on_full="drop")  # type: ignore[arg-type]
    Plain.options(limits={"tokens": 5})  # type: ignore[dict-item]
    Plain.options(num_retries="3")  # type: ignore[arg-type]
    Plain.options(num_retries={"*": "3"})  # type: ignore[dict-item]
    Plain.options(retry_on="ValueError")  # type: ignore[arg-type]
    Plain.options(retry_wait="1s")  # type: ignore[arg-type]
    Plain.options(retry_until=5)  # type: ignore[arg-type]
    Plain.options(retry_config=3)  # type: ignore[arg-type]
    Plain.options(call_timeout="30s")  # type: ignore[arg-type]
    Plain.options(stop_timeout="30s")  # type: ignore[arg-type]
    Plain.options(mp_context="thread")  # type: ignore[arg-type]
    Plain.options(shared_memory_threshold=0.5)  # type: ignore[arg-type]
    Plain.options(num_gpus="all")  # type: ignore[arg-type]


def by_enum_or_word() -> None:
    """Enums, words, and words that are only known when it runs."""
    word = str(1)
    Plain.options(mode=ExecutionMode.Threads, load_balancing=LoadBalancingAlgorithm.Random)
    Plain.options(mode="process", load_balancing="least_active", retry_algorithm="fibonacci")
    Plain.options(mode=word, load_balancing=word, retry_algorithm=word)
    Plain.options(retry_algorithm={"*": RetryAlgorithm.Linear, "call": "fixed"})
    Plain.options(mode=None, max_workers=None, mailbox_size=None, limits=None)


def blocking() -> None:
    """A blocking handle is of the same type: what is not known of a call is its own."""
    worker = Plain.options(mode="thread", blocking=True).init()
    assert_type(worker, Handle[Plain])
    assert_type(worker.blocking, bool)


def retries() -> None:
    """Rules and validators: one or several, types or functions."""
    config = RetryConfig(num_retries=3, retry_on=ConnectionError, retry_until=lambda result, **_: bool(result))
    assert_type(config.num_retries, int)
    assert_type(config.retry_algorithm, RetryAlgorithm)
    assert_type(config.retry_wait, float)
    assert_type(config.retry_jitter, float)
    assert_type(calculate_retry_wait(1, config), float)
    RetryConfig(retry_on=[ConnectionError, TimeoutError, lambda exception, **_: True], retry_algorithm="linear")
    RetryConfig(retry_on=(OSError,), retry_until=[bool, lambda result: len(result) > 1])
    Plain.options(retry_config={"*": config, "call": RetryConfig()}, retry_on={"*": [OSError], "call": KeyError})
    RetryConfig(num_retries="3")  # type: ignore[arg-type]
    RetryConfig(retries=3)  # type: ignore[call-arg]
    RetryConfig(retry_on=5)  # type: ignore[arg-type]
    RetryConfig(retry_until="yes")  # type: ignore[arg-type]
    RetryConfig(retry_wait="1s")  # type: ignore[arg-type]
    config.num_retries = 4  # type: ignore[misc]


def limits() -> None:
    """The limits, and the sets of them."""
    tokens = RateLimit(key="tokens", window_seconds=60, capacity=1000)
    assert_type(tokens.can_acquire(5), bool)
    assert_type(tokens.get_stats(), dict[str, Any])
    RateLimit(key="tokens", window="minute", capacity=0.5, algorithm="gcra")
    RateLimit(key="tokens", window=RateWindow.Hourly, capacity=5, algorithm=RateLimitAlgorithm.TokenBucket)
    calls, sockets = CallLimit(window_seconds=60, capacity=500), ResourceLimit(key="sockets", capacity=10)
    both = LimitSet(limits=[tokens, calls, sockets], shared=True, mode="thread", config={"region": "eu"})
    assert_type(both["tokens"], Limit)
    assert_type(both.config, dict[str, Any])
    pool = LimitPool(limit_sets=[both], load_balancing="random", worker_index=0)
    assert_type(pool[0], LimitSet)
    assert_type(len(pool), int)
    assert_type(pool.get_stats(), dict[str, Any])
    for given in (tokens, [tokens, calls], both, [both], pool):
        Plain.options(limits=given)
    RateLimit(key=5, window_seconds=60, capacity=1)  # type: ignore[arg-type]
    RateLimit(key="tokens", window_seconds=60)  # type: ignore[call-arg]
    ResourceLimit(key="sockets", capacity="many")  # type: ignore[arg-type]
    ResourceLimit(key="sockets", capacity=5, window_seconds=60)  # type: ignore[call-arg]
    LimitSet(limits=[5])  # type: ignore[list-item]
    LimitPool(limit_sets=[tokens])  # type: ignore[list-item]
    pool["tokens"]  # type: ignore[index]


def acquiring(both: LimitSet, pool: LimitPool) -> None:
    """The same of a set and of a pool."""
    for source in (both, pool):
        assert_type(source.acquire(requested={"tokens": 5}), Acquisition)
        tried = source.try_acquire()
        assert_type(tried.successful, bool)
        assert_type(tried.config, dict[str, Any])
        assert_type(tried.release(), None)
        with source.acquire(requested={"tokens": 1.5}, timeout=3) as acquired:
            assert_type(acquired, Acquisition)
            assert_type(acquired.update(usage={"tokens": 4}), None)
            assert_type(acquired.acquisitions["tokens"].requested, float)
    both.acquire({"tokens": "many"})  # type: ignore[dict-item]
    both.acquire(["tokens"])  # type: ignore[arg-type]
    both.acquire(timeout="soon")  # type: ignore[arg-type]
    pool.acquire(tokens=5)  # type: ignore[call-arg]
    pool.acquire().update({"tokens": None})  # type: ignore[dict-item]


async def acquiring_later(both: LimitSet, pool: LimitPool) -> None:
    """In a coroutine."""
    for source in (both, pool):
        async with source.acquire(requested={"tokens": 5}) as acquired:
            assert_type(acquired, Acquisition)
        assert_type(await source.acquire(), Acquisition)
        assert_type(await source.async_acquire(requested={"tokens": 5}, timeout=1), Acquisition)
