"""What no policy tries again: what the library says of its own misuse, which the next attempt would repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from concurry.errors import DeadlockError, LimitStateError, LimitTypeError, LimitValueError, MisuseError
from concurry.runtime.retry_policy import Policy

Make = Callable[..., Policy]


@pytest.mark.parametrize("error", [MisuseError, LimitStateError, LimitValueError, LimitTypeError, DeadlockError])
@pytest.mark.parametrize("retry_on", [Exception, BaseException, [DeadlockError, MisuseError], lambda e: True])
def test_misuse_is_never_tried_again(
    runner: Any, make_policy: Make, script: Any, error: type[Exception], retry_on: Any
) -> None:
    fn = script(error, "paid again")
    with pytest.raises(error, match="try 1"):
        runner.run(make_policy(retry_on=retry_on), fn)
    assert len(fn.calls) == 1
    assert runner.waits == []


def test_no_predicate_is_asked_about_misuse(runner: Any, make_policy: Make, script: Any) -> None:
    asked: list[BaseException] = []

    def ask(exception: BaseException) -> bool:
        asked.append(exception)
        return True

    with pytest.raises(LimitStateError):
        runner.run(make_policy(retry_on=ask), script(LimitStateError))
    assert asked == []


def test_misuse_in_a_group_of_several(runner: Any, make_policy: Make, script: Any) -> None:
    """What a TaskGroup raises in which one of several blocks forgot its report."""
    group = ExceptionGroup("both", [OSError("down"), ExceptionGroup("inner", [LimitStateError("not updated")])])
    fn = script(group, "paid again")
    with pytest.raises(ExceptionGroup):
        runner.run(make_policy(), fn)
    assert len(fn.calls) == 1
    fn = script(ExceptionGroup("both", [OSError("down")]), "answer")
    assert runner.run(make_policy(), fn) == "answer"


def test_the_earlier_attempts_are_noted(runner: Any, make_policy: Make, script: Any) -> None:
    with pytest.raises(LimitStateError) as caught:
        runner.run(make_policy(3), script(OSError, LimitStateError))
    (note,) = caught.value.__notes__
    assert "failed in attempt 2 of 4" in note
    assert "attempt 1: OSError: try 1" in note


def test_errors_that_pass_are_tried_again(runner: Any, make_policy: Make, script: Any) -> None:
    for error in (RuntimeError, ValueError, TypeError, TimeoutError):
        assert runner.run(make_policy(), script(error, "answer")) == "answer"
