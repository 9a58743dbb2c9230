"""Write a class, and run it on threads, an event loop, processes or a Ray cluster by changing one word.

    from concurry import Worker, gather

    class LLM(Worker):
        def __init__(self, model: str): ...
        def call_llm(self, prompt: str) -> str: ...

    with LLM.options(mode="thread", max_workers=100, num_retries=5).init(model="...") as llm:
        answers = gather([llm.call_llm(prompt) for prompt in prompts], progress=True)

Everything public is here; each name is loaded when it is first asked for, so that `import concurry` costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if __name__ != "concurry":
    raise ImportError("concurry is imported as 'concurry', from its own folder's parent")

from concurry.version import __version__

if TYPE_CHECKING:
    from concurry.config import global_config, temp_config
    from concurry.errors import (
        ConcurryError,
        DeadlockError,
        EncodeError,
        ForkedHandleError,
        LimitStateError,
        LimitValueError,
        MailboxFullError,
        ProtocolError,
        RemoteBaseError,
        RemoteError,
        RestartIntensityError,
        RetryValidationError,
        WorkerDiedError,
        WorkerError,
        WorkerInitError,
        WorkerStoppedError,
    )
    from concurry.executor import Executor
    from concurry.futures import AsyncioFuture, BaseFuture, ConcurrentFuture, RayFuture, SyncFuture, wrap_future
    from concurry.handle import Handle, is_alive, stacks, stats
    from concurry.limits import CallLimit, LimitPool, LimitSet, RateLimit, ResourceLimit
    from concurry.progress import ProgressBar
    from concurry.retry import RetryConfig, calculate_retry_wait
    from concurry.runtime.enums import (
        ExecutionMode,
        LoadBalancingAlgorithm,
        PollingAlgorithm,
        RateLimitAlgorithm,
        RateWindow,
        RetryAlgorithm,
        ReturnWhen,
    )
    from concurry.task_worker import TaskWorker
    from concurry.tasks import task
    from concurry.timer import Timer, TimerError
    from concurry.waiting import (
        ALL_COMPLETED,
        FIRST_COMPLETED,
        FIRST_EXCEPTION,
        as_completed,
        async_gather,
        async_wait,
        gather,
        wait,
    )
    from concurry.worker_decorator import worker
    from concurry.workers import Worker

_FROM = {
    "concurry.config": "global_config temp_config",
    "concurry.errors": (
        "ConcurryError DeadlockError EncodeError ForkedHandleError LimitStateError LimitValueError MailboxFullError "
        "ProtocolError RemoteBaseError RemoteError RestartIntensityError RetryValidationError WorkerDiedError "
        "WorkerError WorkerInitError WorkerStoppedError"
    ),
    "concurry.executor": "Executor",
    "concurry.futures": "AsyncioFuture BaseFuture ConcurrentFuture RayFuture SyncFuture wrap_future",
    "concurry.handle": "Handle is_alive stacks stats",
    "concurry.limits": "CallLimit LimitPool LimitSet RateLimit ResourceLimit",
    "concurry.progress": "ProgressBar",
    "concurry.retry": "RetryConfig calculate_retry_wait",
    "concurry.runtime.enums": (
        "ExecutionMode LoadBalancingAlgorithm PollingAlgorithm RateLimitAlgorithm RateWindow RetryAlgorithm ReturnWhen"
    ),
    "concurry.task_worker": "TaskWorker",
    "concurry.tasks": "task",
    "concurry.timer": "Timer TimerError",
    "concurry.waiting": (
        "ALL_COMPLETED FIRST_COMPLETED FIRST_EXCEPTION as_completed async_gather async_wait gather wait"
    ),
    "concurry.workers": "Worker",
    "concurry.worker_decorator": "worker",
}
_HOME = {name: module for module, names in _FROM.items() for name in names.split()}

__all__ = [  # tests/test_public_names.py pins it
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "AsyncioFuture",
    "BaseFuture",
    "CallLimit",
    "ConcurrentFuture",
    "ConcurryError",
    "DeadlockError",
    "EncodeError",
    "ExecutionMode",
    "Executor",
    "ForkedHandleError",
    "Handle",
    "LimitPool",
    "LimitSet",
    "LimitStateError",
    "LimitValueError",
    "LoadBalancingAlgorithm",
    "MailboxFullError",
    "PollingAlgorithm",
    "ProgressBar",
    "ProtocolError",
    "RateLimit",
    "RateLimitAlgorithm",
    "RateWindow",
    "RayFuture",
    "RemoteBaseError",
    "RemoteError",
    "ResourceLimit",
    "RestartIntensityError",
    "RetryAlgorithm",
    "RetryConfig",
    "RetryValidationError",
    "ReturnWhen",
    "SyncFuture",
    "TaskWorker",
    "Timer",
    "TimerError",
    "Worker",
    "WorkerDiedError",
    "WorkerError",
    "WorkerInitError",
    "WorkerStoppedError",
    "__version__",
    "as_completed",
    "async_gather",
    "async_wait",
    "calculate_retry_wait",
    "gather",
    "global_config",
    "is_alive",
    "stacks",
    "stats",
    "task",
    "temp_config",
    "wait",
    "worker",
    "wrap_future",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'concurry' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
