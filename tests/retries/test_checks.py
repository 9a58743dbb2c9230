"""Predicates and validators are called with what they can take."""

from __future__ import annotations

import functools
import operator
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from concurry.runtime.retry_check import CONTEXT, compile_check
from tests.names import steady

CTX = {
    "attempt": 2,
    "elapsed_time": 1.5,
    "method_name": "call_llm",
    "worker_class_name": "LLM",
    "args": ("hello",),
    "kwargs": {"n": 1},
}


def say(fn: Callable[..., Any], result: Any = "the result") -> bool:
    return compile_check(fn, "result")({**CTX, "result": result})


class Judge:
    least = 3

    def long(self, result: str) -> bool:
        return len(result) >= self.least

    def informed(self, result: str, attempt: int, **ctx: Any) -> bool:
        return attempt == 2 and ctx == {k: v for k, v in CTX.items() if k != "attempt"}

    @classmethod
    def of_class(cls, result: str) -> bool:
        return len(result) >= cls.least

    @staticmethod
    def static(result: str, *, method_name: str) -> bool:
        return method_name == "call_llm"


class Object:
    def __call__(self, result: str, elapsed_time: float) -> bool:
        return elapsed_time == 1.5 and result == "the result"


def positional_only(result: str, attempt: int, /) -> bool:
    return (result, attempt) == ("the result", 2)


def everything(
    args: tuple[Any, ...], result: str, attempt: int, kwargs: dict[str, Any], *, worker_class_name: str
) -> bool:
    return (args, result, attempt, kwargs, worker_class_name) == (("hello",), "the result", 2, {"n": 1}, "LLM")


def wrapper(*args: Any, **kwargs: Any) -> bool:
    return args == ("the result",) and kwargs == CTX


def by_name_only(**ctx: Any) -> bool:
    return ctx == {**CTX, "result": "the result"}


def with_default_first(threshold: int = 5, *, result: str) -> bool:
    return threshold == 5 and result == "the result"


def skipped_default(result: str, least: int = 3, attempt: int = 0, /, method_name: str = "") -> bool:
    return (least, attempt, method_name) == (3, 0, "call_llm")


def after_skipped(result: str, least: int = 3, attempt: int = 0) -> bool:
    return (least, attempt) == (3, 2)


def limited(result: str, limit: int, **ctx: Any) -> bool:
    return limit == 4 and ctx == CTX


def fixed_attempt(result: str, attempt: int, **ctx: Any) -> bool:
    return attempt == 99 and "attempt" not in ctx


@functools.lru_cache
def cached(result: str) -> bool:
    return result == "the result"


@pytest.mark.parametrize(
    "fn",
    [
        lambda r: r == "the result",
        lambda result, **ctx: result == "the result" and ctx == CTX,
        lambda r, **ctx: r == "the result" and ctx == CTX,
        lambda result, attempt, elapsed_time, **ctx: (attempt, elapsed_time, len(ctx)) == (2, 1.5, 4),
        lambda attempt, r: (attempt, r) == (2, "the result"),
        lambda r, extra=7: (r, extra) == ("the result", 7),
        lambda r, attempt=7: attempt == 2,
        lambda *a: a == ("the result",),
        lambda attempt, *a: (attempt, a) == (2, ("the result",)),
        lambda *, result: result == "the result",
        lambda attempt: attempt == 2,
        lambda args: args == ("hello",),
        positional_only,
        everything,
        wrapper,
        by_name_only,
        with_default_first,
        skipped_default,
        after_skipped,
        cached,
        Judge().long,
        Judge().informed,
        Judge.of_class,
        Judge.static,
        Object(),
        functools.partial(limited, limit=4),
        functools.partial(fixed_attempt, attempt=99),
        functools.partial(operator.eq, "the result"),
        functools.partial(functools.partial(limited, limit=4)),
        bool,
        str,
        len,
        any,
        str.isascii,
        re.compile("the").match,
        operator.itemgetter(0),
        operator.methodcaller("startswith", "the"),
        {"the result"}.__contains__,
        {"the result": True}.get,
        np.size,
    ],
    ids=lambda it: getattr(it, "__qualname__", steady(it)),
)
def test_it_is_called_with_what_it_can_take(fn: Callable[..., Any]) -> None:
    assert say(fn) is True


def test_predicates_take_the_exception() -> None:
    error = ValueError("x")
    known = {**CTX, "exception": error}
    for fn in (
        lambda e: e is error,
        lambda exception, attempt, elapsed_time, **ctx: exception is error and attempt == 2 and len(ctx) == 4,
        lambda attempt, exception: exception is error,
        lambda **ctx: set(ctx) == {*CONTEXT, "exception"},
    ):
        assert compile_check(fn, "exception")(known) is True


@pytest.mark.parametrize("answer", [0, "", None, [], np.bool_(False)])
def test_the_answer_is_a_truth_value(answer: Any) -> None:
    assert say(lambda r: answer) is False


@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (lambda: True, "it takes nothing"),
        (lambda r, context: True, "nothing is known for its parameter 'context'"),
        (lambda r, *, limit: True, "nothing is known for its parameter 'limit'"),
        (Judge.long, "nothing is known for its parameter 'self'"),
        (functools.partial(lambda result: True, "given"), "it takes nothing"),
    ],
    ids=["nothing", "unknown", "unknown-by-name", "unbound", "used-up"],
)
def test_what_cannot_be_called_is_refused_with_its_signature(fn: Callable[..., Any], why: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be called with the result") as caught:
        compile_check(fn, "result")
    text = str(caught.value)
    assert why in text
    assert "its signature is (" in text
    assert "attempt, elapsed_time, method_name" in text
    if "lambda" in getattr(fn, "__name__", ""):
        assert "test_checks.py:" in text  # where it stands


async def slow(result: str) -> bool:
    return True


class SlowObject:
    async def __call__(self, result: str) -> bool:
        return True


def test_an_async_one_is_refused() -> None:
    # a coroutine is true, whatever it would come to: every result would pass
    for fn in (slow, SlowObject(), functools.partial(slow)):
        with pytest.raises(ValueError, match="is async; it must be a plain function"):
            compile_check(fn, "result")
    with pytest.raises(TypeError, match="must answer at once, and returned coroutine"):
        say(lambda r: slow(r))


def test_the_form_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    check = compile_check(lambda result, **ctx: bool(ctx), "result")
    import inspect

    monkeypatch.setattr(inspect, "signature", lambda *a, **k: pytest.fail("inspected again"))
    assert check({**CTX, "result": 1})


def test_it_can_be_pickled() -> None:
    check = pickle.loads(pickle.dumps(compile_check(everything, "result")))
    assert check({**CTX, "result": "the result"})
