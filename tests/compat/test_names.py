"""The names: whatever a program for the older interface imports is there."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import concurry

NAMES = """
    Worker worker TaskWorker task Executor Handle stats
    ExecutionMode LoadBalancingAlgorithm RateLimitAlgorithm RetryAlgorithm PollingAlgorithm ReturnWhen RateWindow
    ALL_COMPLETED FIRST_COMPLETED FIRST_EXCEPTION
    BaseFuture SyncFuture ConcurrentFuture AsyncioFuture RayFuture wrap_future
    wait gather async_wait async_gather as_completed
    RateLimit CallLimit ResourceLimit LimitSet LimitPool
    RetryConfig RetryValidationError calculate_retry_wait
    ProgressBar Timer TimerError
    global_config temp_config
    ConcurryError WorkerError WorkerDiedError WorkerStoppedError WorkerInitError RestartIntensityError MailboxFullError
    DeadlockError ForkedHandleError RemoteError RemoteBaseError EncodeError ProtocolError
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_each_is_exported(name: str) -> None:
    assert name in concurry.__all__
    assert getattr(concurry, name) is not None


SIGNATURES: list[tuple[Any, str]] = [
    (concurry.SyncFuture, "result_value=None, exception_value=None"),
    (concurry.ConcurrentFuture, "concurrent_future"),
    (concurry.AsyncioFuture, "asyncio_future"),
    (concurry.RayFuture, "object_ref"),
    (
        concurry.wait,
        "fs, *more, timeout=None, return_when=<ReturnWhen.ALL_COMPLETED: 'all_completed'>, progress=None, "
        "recurse=False",
    ),
    (
        concurry.gather,
        "fs, *more, return_exceptions=False, iter=False, timeout=None, progress=None, recurse=False",
    ),
    (concurry.as_completed, "fs, timeout=None"),
    (concurry.BaseFuture.result, "timeout=None"),
    (concurry.BaseFuture.exception, "timeout=None"),
    (concurry.LimitSet, "limits, shared=False, mode=<ExecutionMode.Sync: 'sync'>, config=None"),
    (concurry.LimitPool, "limit_sets, load_balancing, worker_index=0"),
    (concurry.LimitSet.acquire, "requested=None, timeout=None"),
    (concurry.LimitPool.acquire, "requested=None, timeout=None"),
    (concurry.LimitSet.try_acquire, "requested=None"),
    (
        concurry.RetryConfig,
        "num_retries=0, retry_on, retry_algorithm=<RetryAlgorithm.Exponential: 'exponential'>, retry_wait=1.0, "
        "retry_jitter=0.3, retry_until=None",
    ),
    (concurry.calculate_retry_wait, "attempt, config"),
    (concurry.Timer, f"task='', logger={print!r}, silent=False, single_line=False, i=None, max_i=None"),
]


@pytest.mark.parametrize(("callable_", "expected"), SIGNATURES, ids=[it[0].__qualname__ for it in SIGNATURES])
def test_arguments_and_defaults(callable_: Any, expected: str) -> None:
    """In the order of the page; a parameter without a default on the page may have one here."""
    wanted = [it.partition("=") for it in expected.split(", ")]
    has = [it for it in inspect.signature(callable_).parameters.values() if it.name != "self"]
    for (name, says, default), parameter in zip(wanted, has, strict=False):
        assert name.lstrip("*") == parameter.name
        assert not says or default == repr(parameter.default)
    assert len(has) >= len(wanted)
