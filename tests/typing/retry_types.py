"""What type checkers infer of functions that are said in retry options. Checked in `test_types.py`; never run.

In pyright's strict mode a lambda is flagged whose parameters are not known: none of these is.
"""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, assert_type

from concurry import BaseFuture, Executor, Handle, RetryConfig, TaskWorker, Worker, task, worker


class LLM(Worker):
    def call(self, prompt: str) -> str:
        return prompt


def worth(exception: BaseException) -> bool:
    return isinstance(exception, OSError)


def worth_of(exception: ConnectionError) -> bool:
    return bool(exception.errno)


def worth_in_time(exception: BaseException, attempt: int, elapsed_time: float, **ctx: Any) -> bool:
    return elapsed_time < 60


def good(result: str) -> bool:
    return bool(result)


def good_for(result: str, method_name: str, **ctx: Any) -> bool:
    return bool(result)


def good_by_name(*, result: str, attempt: int) -> bool:
    return bool(result) or attempt > 3


class Longer:
    """A validator with a state."""

    def __call__(self, result: str) -> bool:
        return len(result) > 5

    def than_before(self, result: str, attempt: int) -> bool:
        return len(result) > attempt


def lambdas() -> None:
    """Of one parameter: it is Any."""
    LLM.options(retry_until=lambda r: len(r) > 3)
    LLM.options(retry_on=lambda e: True)
    LLM.options(retry_on=lambda e: e.status == 429)
    LLM.options(retry_until=lambda r: "answer" in json.loads(r))
    LLM.options(mode="thread").options(retry_until=lambda r: len(r) > 3, retry_on=lambda e: True)
    assert_type(LLM.options(mode="thread", retry_until=lambda r: len(r) > 3).init(), Handle[LLM])


def lambdas_of_more() -> None:
    """What else they may take, by name."""
    LLM.options(retry_until=lambda result, **ctx: len(result) > 3)
    LLM.options(retry_until=lambda result, attempt: len(result) > attempt)
    LLM.options(retry_until=lambda result, attempt, elapsed_time: len(result) > attempt or elapsed_time > 5)
    LLM.options(retry_until=lambda result, method_name, **ctx: len(result) > 3)
    LLM.options(retry_on=lambda exception, attempt, elapsed_time, **ctx: exception.code == 503 and elapsed_time < 60)
    LLM.options(retry_on=lambda exception, least=500: exception.code >= least)


def several() -> None:
    """Lists, tuples and sets of them, beside types."""
    LLM.options(retry_until=[lambda r: len(r) > 3, lambda result, **ctx: bool(result), good, bool])
    LLM.options(retry_on=[ConnectionError, lambda e: True, lambda exception, attempt, **ctx: attempt < 3, worth])
    LLM.options(retry_on=(ConnectionError, lambda e: True))
    LLM.options(retry_on={ConnectionError, TimeoutError})


def by_method() -> None:
    """Dicts by method name."""
    LLM.options(retry_until={"call": lambda r: len(r) > 3, "*": None})
    LLM.options(retry_until={"call": [lambda r: len(r) > 3, good], "*": lambda result, attempt, **ctx: bool(result)})
    LLM.options(retry_on={"call": lambda e: True, "*": [ConnectionError, lambda e: e.status == 429]})
    LLM.options(retry_on={"call": worth_in_time, "*": lambda exception, attempt, **ctx: attempt < 3})


def functions(longer: Longer) -> None:
    """Whatever can be called."""
    LLM.options(retry_on=worth)
    LLM.options(retry_on=worth_of)
    LLM.options(retry_on=worth_in_time)
    LLM.options(retry_until=good)
    LLM.options(retry_until=good_for)
    LLM.options(retry_until=good_by_name)
    LLM.options(retry_until=functools.partial(good_for, method_name="call"))
    LLM.options(retry_until=[longer, longer.than_before, bool, len, str.strip])


def handed_on(
    check: Callable[..., bool],
    of_text: Callable[[str], bool] | None,
    anything: Any,
    kind: type[Exception],
    kinds: list[type[Exception]],
    fixed: tuple[type[Exception], ...],
) -> None:
    """Values that come from elsewhere."""
    LLM.options(retry_until=check, retry_on=kind)
    LLM.options(retry_until=of_text, retry_on=kinds)
    LLM.options(retry_until=anything, retry_on=fixed)
    LLM.options(retry_until=[check, good], retry_on=[*kinds, check, lambda e: True])
    LLM.options(retry_until={"*": check, "call": [good]}, retry_on={"*": kinds, "call": fixed})
    RetryConfig(retry_until=check, retry_on=kinds)
    RetryConfig(retry_until=of_text, retry_on=fixed)


def configs() -> None:
    """The same in a RetryConfig."""
    RetryConfig(retry_until=lambda r: len(r) > 3, retry_on=lambda e: True)
    RetryConfig(retry_until=lambda result, **ctx: len(result) > 3)
    RetryConfig(retry_on=lambda exception, attempt, elapsed_time, **ctx: attempt < 3)
    RetryConfig(retry_until=[lambda r: len(r) > 3, lambda result, **ctx: bool(result), good])
    RetryConfig(retry_on=[OSError, lambda e: e.errno == 5, worth_in_time])
    RetryConfig(retry_on=(it for it in (OSError, KeyError)))
    LLM.options(retry_config={"call": RetryConfig(retry_until=lambda r: len(r) > 3), "*": RetryConfig()})


@task(mode="thread", retry_until=lambda r: len(r) > 3, retry_on=lambda e: True)
def fetch(url: str) -> str:
    return url


@task(retry_until=lambda result, **ctx: len(result) > 3, retry_on=[OSError, lambda e: True])
def fetch_again(url: str) -> str:
    return url


@worker(mode="thread", retry_until=lambda r: len(r) > 3, retry_on=lambda e: True)
class Decorated(Worker):
    pass


class OnClass(Worker, mode="thread", retry_until=lambda r: len(r) > 3, retry_on=lambda e: True):
    pass


def elsewhere() -> None:
    """Every place that takes options."""
    assert_type(fetch("u"), BaseFuture[str])
    assert_type(fetch_again("u"), BaseFuture[str])
    TaskWorker.options(mode="thread", retry_until=lambda r: len(r) > 3)
    with Executor(mode="thread", retry_until=lambda r: len(r) > 3, retry_on=lambda e: True) as executor:
        assert_type(executor.submit(good, "a"), BaseFuture[bool])


def misuse() -> None:
    """What cannot be called is none."""
    LLM.options(retry_until=5)  # type: ignore[arg-type]
    LLM.options(retry_until=["long"])  # type: ignore[list-item]
    LLM.options(retry_until={"*": 5})  # type: ignore[dict-item]
    LLM.options(retry_on="ValueError")  # type: ignore[arg-type]
    LLM.options(retry_on=ValueError("the error, not its type"))  # type: ignore[arg-type]
    LLM.options(retry_on=RetryConfig())  # type: ignore[arg-type]
    RetryConfig(retry_until=5)  # type: ignore[arg-type]
    RetryConfig(retry_on="ValueError")  # type: ignore[arg-type]
