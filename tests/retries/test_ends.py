"""How a call ends that was tried several times: notes that help, and nothing left behind."""

from __future__ import annotations

import gc
import pickle
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from concurry.errors import RetryValidationError
from concurry.runtime.retry_policy import Policy

Make = Callable[..., Policy]


def test_the_last_exception_with_the_earlier_ones_noted(runner: Any, make_policy: Make, script: Any) -> None:
    last = ValueError("the last one")
    with pytest.raises(ValueError, match="the last one") as caught:
        runner.run(make_policy(3), script(KeyError("a"), OSError("b\nc"), OSError("b\nc"), last))
    assert caught.value is last
    assert last.__notes__ == [
        "concurry: LLM.call_llm() failed in attempt 4 of 4; before that:\n"
        "  attempt 1: KeyError: 'a'\n"
        "  attempts 2 to 3: OSError: b c"
    ]
    assert "failed in attempt 4 of 4" in "".join(traceback.format_exception(last))


def test_an_exception_that_no_rule_names_has_the_earlier_ones_noted_too(
    runner: Any, make_policy: Make, script: Any
) -> None:
    with pytest.raises(TypeError) as caught:
        runner.run(make_policy(3, retry_on=OSError), script(OSError, TypeError("bug")))
    assert caught.value.__notes__ == [
        "concurry: LLM.call_llm() failed in attempt 2 of 4; before that:\n  attempt 1: OSError: try 1"
    ]


def test_one_attempt_is_nothing_to_note(runner: Any, make_policy: Make, script: Any) -> None:
    with pytest.raises(TypeError) as caught:
        runner.run(make_policy(3, retry_on=OSError), script(TypeError("bug")))
    assert not hasattr(caught.value, "__notes__")


def test_notes_of_many_attempts_stay_short(runner: Any, make_policy: Make) -> None:
    counter = iter(range(1, 1000))

    def fail() -> None:
        raise ValueError(f"{next(counter)} " + "x" * 10_000)

    with pytest.raises(ValueError, match=r"^501 x") as caught:
        runner.run(make_policy(500, retry_wait=0), fail)
    (note,) = caught.value.__notes__
    assert len(note) < 2_500
    lines = note.splitlines()
    assert "attempt 501 of 501" in lines[0]
    assert lines[1].startswith("  attempt 1: ValueError: 1 xxx")
    assert lines[2].startswith("  attempt 2: ")
    assert lines[3] == "  attempts 3 to 495: …"
    assert lines[-1].startswith("  attempt 500: ")
    assert len(lines) == 9


def test_the_same_exception_raised_again_and_again(runner: Any, make_policy: Make, script: Any) -> None:
    only = ValueError("the only one")
    only.add_note("the user's own")
    for _ in range(3):  # it may also be raised by many calls
        with pytest.raises(ValueError, match="the only one"):
            runner.run(make_policy(4), script(only))
        assert only.__notes__ == [
            "the user's own",
            "concurry: LLM.call_llm() failed in attempt 5 of 5; before that:\n"
            "  attempts 1 to 4: ValueError: the only one",
        ]
        only.__traceback__ = None


def test_its_traceback_does_not_grow(runner: Any, make_policy: Make, script: Any) -> None:
    def length(retries: int) -> int:
        only = ValueError("the only one")
        with pytest.raises(ValueError, match="the only one"):
            runner.run(make_policy(retries, retry_until=bool), script(only))
        return sum(1 for _ in traceback.walk_tb(only.__traceback__))

    assert length(20) == length(1) == length(0)


def test_a_traceback_shows_the_method(runner: Any, make_policy: Make) -> None:
    def inner() -> None:
        raise ValueError("x")

    def method() -> None:
        inner()

    with pytest.raises(ValueError, match="x") as caught:
        runner.run(make_policy(2), method)
    names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert names[-2:] == ["method", "inner"]
    assert names.count("inner") == 1


def test_earlier_exceptions_are_no_context_of_later_ones(runner: Any, make_policy: Make, script: Any) -> None:
    with pytest.raises(ValueError, match="try 3") as caught:
        runner.run(make_policy(2), script(KeyError, OSError, ValueError))
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_cause_of_the_users_stays(runner: Any, make_policy: Make) -> None:
    def method() -> None:
        raise ValueError("x") from KeyError("the reason")

    with pytest.raises(ValueError, match="x") as caught:
        runner.run(make_policy(2), method)
    assert isinstance(caught.value.__cause__, KeyError)


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class OddNotes(Exception):
    __notes__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


class Shy:
    def __repr__(self) -> str:
        raise RuntimeError("not me")


@pytest.mark.parametrize("exception", [Frozen(7), Mute(), OddNotes(), Exception()], ids=lambda it: type(it).__name__)
def test_exceptions_that_are_hard_to_handle(
    runner: Any, make_policy: Make, script: Any, exception: BaseException
) -> None:
    with pytest.raises(type(exception)) as caught:
        runner.run(make_policy(1), script(exception))
    assert caught.value is exception
    notes = getattr(exception, "__notes__", None) or []
    assert len(notes) == (0 if isinstance(exception, OddNotes) else 1)
    if isinstance(exception, Mute):
        assert "attempt 1: Mute: <its __str__ raised RuntimeError>" in notes[0]


def test_results_that_are_hard_to_show(runner: Any, make_policy: Make, script: Any) -> None:
    shy = Shy()
    with pytest.raises(RetryValidationError) as caught:
        runner.run(make_policy(1, retry_until=lambda r: False), script(shy, "x" * 10_000))
    assert caught.value.all_results[0] is shy
    assert "Shy" in caught.value.__notes__[0]
    assert len(caught.value.__notes__[0]) < 600
    assert len(str(caught.value)) < 600


def test_the_error_can_be_pickled(runner: Any, make_policy: Make, script: Any) -> None:
    with pytest.raises(RetryValidationError) as caught:
        runner.run(make_policy(1, retry_until=lambda r: False), script("a", "b"))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.attempts, copy.all_results, copy.method_name) == (2, ["a", "b"], "call_llm")
    assert copy.validation_errors == caught.value.validation_errors
    assert copy.__notes__ == caught.value.__notes__
    assert str(copy) == str(caught.value)


class Tracked(Exception):
    """One that can be watched."""


class Big:
    """A result that can be watched."""


@pytest.mark.parametrize("end", ["exhausted", "not named", "stopped", "deadline", "refused", "interrupted", "good"])
def test_no_circle_keeps_anything_alive(runner: Any, make_policy: Make, end: str) -> None:
    watched: list[weakref.ref[Any]] = []

    def watch(thing: Any) -> Any:
        watched.append(weakref.ref(thing))
        return thing

    def method() -> Any:  # its frame must hold nothing either
        if end == "refused" or (end == "good" and len(watched) == 2):
            return watch(Big())
        if end == "not named" and len(watched) == 2:
            raise KeyError
        raise watch(Tracked())

    policy = make_policy(2, retry_on=Tracked, retry_until=lambda r: end == "good")
    options: dict[str, Any] = {}
    if end == "stopped":
        runner.stop_at = 2
    elif end == "deadline":
        options["deadline"] = runner.clock.now() + 2
    elif end == "interrupted":

        def interrupted(seconds: float) -> Any:
            raise RuntimeError("the wait itself")

        options["wait"] = interrupted

    def call() -> None:
        try:
            runner.run(policy, method, **options)
        except (Tracked, KeyError, TimeoutError, RetryValidationError, RuntimeError):
            return
        assert end == "good"

    gc.collect()
    gc.disable()
    try:
        call()
        assert watched
        assert [ref() for ref in watched] == [None] * len(watched)
    finally:
        gc.enable()


def test_refused_results_are_kept(runner: Any, make_policy: Make) -> None:
    alive: list[int] = []
    watched: list[weakref.ref[Any]] = []

    def method() -> Big:
        alive.append(sum(ref() is not None for ref in watched))
        result = Big()
        watched.append(weakref.ref(result))
        return result

    with pytest.raises(RetryValidationError) as caught:
        runner.run(make_policy(2, retry_until=lambda r: False), method)
    assert alive == [0, 1, 2]  # they are handed out at the end
    assert len(caught.value.all_results) == 3


def test_earlier_exceptions_are_gone_when_the_next_attempt_runs(runner: Any, make_policy: Make) -> None:
    watched: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def method() -> None:
        alive.append(sum(ref() is not None for ref in watched))
        raise make()

    def make() -> Tracked:
        error = Tracked()
        watched.append(weakref.ref(error))
        return error

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(Tracked):
            runner.run(make_policy(3), method)
    finally:
        gc.enable()
    assert alive == [0, 0, 0, 0]
