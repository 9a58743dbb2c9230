"""The public names: which there are, that each can be had, and that each says what it does."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import concurry

PUBLIC = [
    "ALL_COMPLETED",
    "AsyncioFuture",
    "BaseFuture",
    "CallLimit",
    "ConcurrentFuture",
    "ConcurryError",
    "DeadlockError",
    "EncodeError",
    "ExecutionMode",
    "Executor",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
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


def test_these_are_the_public_names() -> None:
    """Adding one is a decision: it stays. Taking one away breaks somebody's program."""
    assert sorted(concurry.__all__) == sorted(PUBLIC)
    assert len(set(concurry.__all__)) == len(concurry.__all__)


def test_dir_lists_them_before_they_are_loaded() -> None:
    assert set(PUBLIC) <= set(dir(concurry))


@pytest.mark.parametrize("name", PUBLIC)
def test_each_can_be_had(name: str) -> None:
    value = getattr(concurry, name)
    assert value is getattr(concurry, name)
    namespace: dict[str, Any] = {}
    exec(f"from concurry import {name}", namespace)
    assert namespace[name] is value


def test_each_is_loaded_alone_in_a_fresh_interpreter() -> None:
    """No name needs another to have been loaded first."""
    program = """
import sys
for name in sys.argv[1:]:
    for module in [it for it in sys.modules if it.partition(".")[0] == "concurry"]:
        del sys.modules[module]
    import concurry
    getattr(concurry, name)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program, *PUBLIC], check=True, timeout=60)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'concurry' has no attribute 'nothing'"):
        concurry.nothing  # noqa: B018


def test_everything_in_star_import() -> None:
    namespace: dict[str, Any] = {}
    exec("from concurry import *", namespace)
    assert set(PUBLIC) <= set(namespace)


def functions_of(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if inspect.isfunction(value):
        yield name, value
    elif inspect.isclass(value):
        for member, raw in vars(value).items():
            function = raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw
            function = function.fget if isinstance(function, property) else function
            if not member.startswith("_") and inspect.isfunction(function):
                yield f"{name}.{member}", function


OURS = [(name, getattr(concurry, name)) for name in PUBLIC if not name.startswith("_")]
FUNCTIONS = [it for name, value in OURS for it in functions_of(name, value)]
CLASSES = [(name, value) for name, value in OURS if inspect.isclass(value)]


@pytest.mark.parametrize(("name", "cls"), CLASSES, ids=[name for name, _ in CLASSES])
def test_each_class_says_what_it_is(name: str, cls: type) -> None:
    doc = vars(cls).get("__doc__")
    assert doc, f"{name} has no docstring"
    assert doc.rstrip().endswith(".") or "\n" in doc


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_each_function_says_what_it_does(name: str, function: Any) -> None:
    doc = inspect.getdoc(function)
    assert doc, f"{name} has no docstring"
    if "." in name and name.partition(".")[0] not in ("Handle", "Worker"):
        return  # the one line of a method may speak for its parameters
    missing = [
        parameter
        for parameter in inspect.signature(function).parameters
        if parameter not in ("self", "cls") and parameter not in doc
    ]
    elsewhere = any(f"`{other}" in doc for other in PUBLIC if other != name)  # "as `wait`": it stands there
    assert not missing or elsewhere, f"{name} says nothing of {missing}"
    if "raise " in inspect.getsource(function):
        assert "Raises" in doc, f"{name} raises, and does not say what"


def test_errors_say_their_public_home() -> None:
    import pickle

    for error in (value for _, value in CLASSES if issubclass(value, concurry.ConcurryError)):
        assert error.__module__ in ("concurry.errors", "concurry.timer")
        made = pickle.loads(pickle.dumps(error("who did what")))
        assert type(made) is error
        assert "who did what" in str(made)
