from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from concurry.timer import Timer, TimerError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the performance counter ahead by seconds; it stands still otherwise."""
    now = [1_000_000_000]
    monkeypatch.setattr("time.perf_counter_ns", lambda: now[0])

    def ahead(seconds: float) -> None:
        now[0] += round(seconds * 1e9)

    return ahead


def test_with_measures_the_block(clock: Callable[[float], None]) -> None:
    lines: list[str] = []
    with Timer("step", logger=lines.append) as t:
        assert (t.has_started, t.has_stopped) == (True, False)
        clock(1.25)
        assert t.time_taken_sec == 1.25  # also while it runs
    clock(10)
    assert (t.time_taken_sec, t.has_stopped) == (1.25, True)
    assert len(lines) == 2
    assert lines[0] == f"step: Started at {t.start_time_str}."
    assert lines[1] == "step: completed in 1.25 s."


def test_prints_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    with Timer("step"):
        pass
    printed = capsys.readouterr().out
    assert "Started at" in printed
    assert "completed in" in printed


def test_silent_says_nothing() -> None:
    lines: list[str] = []
    t = Timer("step", logger=lines.append, silent=True)
    with t:
        t.alert("here")
    assert (lines, t.should_log) == ([], False)


def test_single_line_is_one_line() -> None:
    lines: list[str] = []
    with Timer("step", logger=lines.append, single_line=True) as t:
        pass
    (line,) = lines
    assert f"Started at {t.start_time_str}" in line
    assert "completed in" in line


@pytest.mark.parametrize(("i", "max_i", "shown"), [(0, 10, "[1/10] a: "), (4, None, "[4] a: "), (None, 3, "a: ")])
def test_the_number_of_the_step(i: int | None, max_i: int | None, shown: str) -> None:
    lines: list[str] = []
    with Timer("a", logger=lines.append, i=i, max_i=max_i):
        pass
    assert all(line.startswith(shown) for line in lines)


def test_alert_while_it_runs(clock: Callable[[float], None]) -> None:
    lines: list[str] = []
    t = Timer(logger=lines.append)
    t.start()
    clock(0.2)
    t.alert("half of it")
    t.alert()
    assert lines[1:] == ["half of it: Timer has been running for 200 ms.", "Timer has been running for 200 ms."]


def test_a_block_that_raises_says_so_and_lets_it_through() -> None:
    lines: list[str] = []
    with pytest.raises(KeyError), Timer("a", logger=lines.append) as t:
        raise KeyError
    assert t.has_stopped
    assert lines[1].startswith("a: failed with KeyError after ")


def test_a_block_may_stop_it() -> None:
    with Timer(silent=True) as t:
        t.stop()
    assert t.has_stopped


def test_wrong_order() -> None:
    t = Timer("a", silent=True)
    for early in (t.stop, t.alert, lambda: t.time_taken_sec, lambda: t.time_taken("ms")):
        with pytest.raises(TimerError, match="has not been started"):
            early()
    t.start()
    with pytest.raises(TimerError, match="already been started"):
        t.start()
    t.stop()
    for late in (t.stop, t.alert):
        with pytest.raises(TimerError, match="already been stopped"):
            late()
    with pytest.raises(TimerError, match="already been started"):
        t.start()


def test_formats(clock: Callable[[float], None]) -> None:
    with Timer(silent=True) as t:
        clock(75.25)
    expected: dict[str, Any] = {
        "s": 75.25, "sec": 75.25, "seconds": 75.25, "ms": 75250.0, "milliseconds": 75250.0,
        "us": 75250000.0, "microseconds": 75250000.0, "ns": 75250000000, "nanoseconds": 75250000000,
        "td": timedelta(seconds=75.25), "timedelta": timedelta(seconds=75.25), "str": "75.250 s", "string": "75.250 s",
    }  # fmt: skip
    assert {name: t.time_taken(name) for name in expected} == expected
    assert (t.time_taken_ns, t.time_taken_us, t.time_taken_ms) == (75250000000, 75250000.0, 75250.0)
    assert (t.time_taken_td, t.time_taken_str) == (timedelta(seconds=75.25), "75.250 s")
    with pytest.raises(NotImplementedError, match="weeks"):
        t.time_taken("weeks")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(0, "0 ns"), (2.5e-7, "250 ns"), (3.5e-4, "350 us"), (0.0125, "12.5 ms"), (0.9996, "1 s"), (59.4, "59.4 s")],
        *[(75.25, "1 min 15 s"), (3723, "1 h 2 min 3 s"), (3599.9, "1 h 0 min 0 s")],
    ],
)
def test_human_text(clock: Callable[[float], None], seconds: float, text: str) -> None:
    with Timer(silent=True) as t:
        clock(seconds)
    assert t.time_taken_human == text


def test_datetimes_are_for_display() -> None:
    t = Timer(silent=True)
    assert (t.start_datetime, t.end_datetime, t.start_time_str, t.end_time_str) == (None, None, None, None)
    t.start()
    t.stop()
    assert isinstance(t.start_datetime, datetime)
    assert isinstance(t.end_datetime, datetime)
    assert t.start_datetime.tzinfo is not None
    assert t.end_time_str == t.end_datetime.strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize("name", ["task", "silent", "time_taken_sec", "_start_ns", "other"])
def test_nothing_can_be_assigned_or_deleted(name: str) -> None:
    t = Timer("a", silent=True)
    with pytest.raises(AttributeError, match="immutable"):
        setattr(t, name, 1)
    with pytest.raises(AttributeError, match="immutable"):
        delattr(t, name)


def test_a_finished_timer_can_be_pickled() -> None:
    with Timer("a", silent=True, i=1) as t:
        pass
    again = pickle.loads(pickle.dumps(t))
    assert (again.task, again.i, again.time_taken_ns, again.start_time_str) == (
        "a",
        1,
        t.time_taken_ns,
        t.start_time_str,
    )
    assert isinstance(pickle.loads(pickle.dumps(TimerError("x"))), TimerError)
