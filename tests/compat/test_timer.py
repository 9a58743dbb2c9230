"""`Timer`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from concurry import Timer, TimerError


@pytest.fixture
def said() -> list[str]:
    """What a timer's logger was told."""
    return []


def test_time_taken_sec(capsys: pytest.CaptureFixture[str]) -> None:
    with Timer("step") as t:
        pass
    assert t.time_taken_sec >= 0
    assert "step" in capsys.readouterr().out  # the logger is print


def test_the_arguments_by_name(said: list[str]) -> None:
    timer = Timer(task="step", logger=said.append, silent=False, single_line=False, i=None, max_i=None)
    assert timer.should_log
    assert (timer.task, timer.i, timer.max_i) == ("step", None, None)


def test_it_says_when_it_starts_and_ends(said: list[str]) -> None:
    with Timer("step", said.append):
        assert "Started at" in said[0]
    assert "completed in" in said[1]
    assert all("step" in it for it in said)


def test_an_alert(said: list[str]) -> None:
    with Timer("step", said.append) as t:
        t.alert("still here")
    assert "Timer has been running for" in said[1]
    assert "still here" in said[1]


def test_a_silent_one_says_nothing(said: list[str]) -> None:
    with Timer("step", said.append, silent=True) as t:
        t.alert("x")
    assert (said, t.should_log) == ([], False)


def test_a_single_line(said: list[str]) -> None:
    with Timer("step", said.append, single_line=True):
        assert said == []
    (line,) = said
    assert "completed in" in line


@pytest.mark.parametrize(("numbers", "shown"), [({"i": 2, "max_i": 5}, "[3/5]"), ({"i": 2}, "[2]"), ({"i": 0}, "[0]")])
def test_the_number_of_the_step(said: list[str], numbers: Any, shown: str) -> None:
    with Timer("step", said.append, **numbers):
        pass
    assert all(it.startswith(shown) for it in said)


@pytest.mark.parametrize("name", ["task", "silent", "i", "time_taken_sec", "anything"])
def test_it_is_immutable(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Timer("step"), name, 1)


def test_by_hand() -> None:
    timer = Timer("step", silent=True)
    assert (timer.has_started, timer.has_stopped) == (False, False)
    timer.start()
    assert (timer.has_started, timer.has_stopped) == (True, False)
    timer.stop()
    assert (timer.has_started, timer.has_stopped) == (True, True)


def test_errors() -> None:
    timer = Timer("step", silent=True)
    for ask in (timer.stop, timer.alert, lambda: timer.time_taken_sec):
        with pytest.raises(TimerError, match="not been started"):
            ask()
    timer.start()
    with pytest.raises(TimerError, match="already been started"):
        timer.start()
    timer.stop()
    for again in (timer.stop, timer.alert):
        with pytest.raises(TimerError, match="already been stopped"):
            again()
    with pytest.raises(TimerError, match="already been started"):
        timer.start()


@pytest.fixture
def stopped() -> Timer:
    with Timer("step", silent=True) as t:
        pass
    return t


def test_the_time_in_its_units(stopped: Timer) -> None:
    ns = stopped.time_taken_ns
    assert isinstance(ns, int)
    assert stopped.time_taken_us == pytest.approx(ns / 1e3)
    assert stopped.time_taken_ms == pytest.approx(ns / 1e6)
    assert stopped.time_taken_sec == pytest.approx(ns / 1e9)
    assert isinstance(stopped.time_taken_td, timedelta)
    assert isinstance(stopped.time_taken_str, str)
    assert isinstance(stopped.time_taken_human, str)


@pytest.mark.parametrize(
    ("words", "attribute"),
    [
        ("str string", "time_taken_str"),
        ("s sec seconds", "time_taken_sec"),
        ("ms milliseconds", "time_taken_ms"),
        ("us microseconds", "time_taken_us"),
        ("ns nanoseconds", "time_taken_ns"),
        ("td timedelta", "time_taken_td"),
    ],
)
def test_the_time_in_a_format(stopped: Timer, words: str, attribute: str) -> None:
    for word in words.split():
        assert stopped.time_taken(word) == getattr(stopped, attribute)


@pytest.mark.parametrize("format", ["fortnights", "", None, 5])
def test_the_time_in_a_format_that_is_none(stopped: Timer, format: Any) -> None:
    with pytest.raises(NotImplementedError):
        stopped.time_taken(format)


def test_by_the_wall_clock(stopped: Timer) -> None:
    start, end = stopped.start_datetime, stopped.end_datetime
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    assert isinstance(stopped.start_time_str, str)
    assert isinstance(stopped.end_time_str, str)


def test_a_step_that_raises_is_timed_too() -> None:
    timer = Timer("step", silent=True)
    with pytest.raises(KeyError), timer:
        raise KeyError
    assert timer.has_stopped
