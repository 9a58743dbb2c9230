"""`python -m concurry config`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from concurry.__main__ import USAGE, Row, main, rows
from concurry.config import global_config, temp_config
from concurry.options import TABLE
from concurry.runtime.enums import ExecutionMode
from concurry.settings import SETTINGS


def printed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    assert main(["config"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [line.split(maxsplit=3) for line in out.splitlines()]


def test_everything_is_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys)
    assert lines[0] == ["option", "mode", "value", "from"]
    listed = [line[0] for line in lines[1:] if len(line) == 4 and line[1] in {"all", "process", "ray"}]
    assert listed[0] == "mode"
    assert {*TABLE, *SETTINGS} <= set(listed)
    assert len(listed) == len(set(listed))
    assert ["num_retries", "all", "0", "default"] in lines
    assert ["max_workers", "all", "1", "default"] in lines
    assert ["ray", "0", "default"] in lines
    assert ["mp_context", "process", "'forkserver'", "default"] in lines


def test_every_value_has_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCURRY_NUM_RETRIES", "3")
    monkeypatch.setenv("CONCURRY_PROCESS_NUM_RETRIES", "4")
    monkeypatch.setenv("CONCURRY_MODE", "thread")
    monkeypatch.setenv("CONCURRY_MAX_WORKERS", "8")
    monkeypatch.setenv("CONCURRY_PROGRESS_BAR_NCOLS", "80")
    global_config.thread.blocking = True
    global_config.defaults.retry_wait = 2
    with temp_config(ray_num_cpus=0.5, global_progress_bar_smoothing=1):
        found = rows()
    for row in (
        Row("mode", "all", ExecutionMode.Threads, "CONCURRY_MODE"),
        Row("num_retries", "all", 3, "CONCURRY_NUM_RETRIES"),
        Row("num_retries", "process", 4, "CONCURRY_PROCESS_NUM_RETRIES"),
        Row("max_workers", "all", 8, "CONCURRY_MAX_WORKERS"),
        Row("max_workers", "sync", 1, "default"),
        Row("max_workers", "asyncio", 1, "default"),
        Row("blocking", "all", False, "default"),
        Row("blocking", "thread", True, "global_config.thread.blocking"),
        Row("retry_wait", "all", 2.0, "global_config.defaults.retry_wait"),
        Row("num_cpus", "ray", 0.5, "temp_config(ray_num_cpus=...)"),
        Row("progress_bar_ncols", "all", 80, "CONCURRY_PROGRESS_BAR_NCOLS"),
        Row("progress_bar_smoothing", "all", 1.0, "temp_config(global_progress_bar_smoothing=...)"),
    ):
        assert row in found
    assert len({(row.name, row.modes) for row in found}) == len(found)


@pytest.mark.parametrize(
    ("variables", "marked", "why"),
    [
        ({"CONCURRY_MAX_WORKERS": "many"}, ["max_workers all 'many' CONCURRY_MAX_WORKERS"], "must be a whole number"),
        ({"CONCURRY_MODE": "fast"}, ["mode all 'fast' CONCURRY_MODE"], "must be a mode"),
        ({"CONCURRY_SYNC_MAX_WORKERS": "8"}, ["sync '8' CONCURRY_SYNC_MAX_WORKERS"], "must be 1 for Sync mode"),
        (
            {"CONCURRY_PROGRESS_BAR_NCOLS": "wide"},
            ["progress_bar_ncols all 'wide' CONCURRY_PROGRESS_BAR_NCOLS"],
            "must be a whole number",
        ),
        (
            {"CONCURRY_NUM_RETRIES": "some", "CONCURRY_RAY_NUM_RETRIES": "a few"},
            ["num_retries all 'some' CONCURRY_NUM_RETRIES", "ray 'a few' CONCURRY_RAY_NUM_RETRIES"],
            "must be a whole number",
        ),
        (
            {"CONCURRY_ON_DEMAND": "1", "CONCURRY_LOAD_BALANCING_ON_DEMAND": "best"},
            ["load_balancing_on_demand all 'best' CONCURRY_LOAD_BALANCING_ON_DEMAND"],
            "must be an algorithm",
        ),
    ],
    ids=lambda it: ",".join(it) if isinstance(it, dict) else "",
)
def test_a_bad_variable_is_marked_in_the_table(
    variables: dict[str, str],
    marked: list[str],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CONCURRY_STOP_TIMEOUT", "7")
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert main(["config"]) == 1
    out, err = capsys.readouterr()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert [line for line in lines if "refused" in line] == [f"{it} <- refused" for it in marked]
    assert "stop_timeout all 7.0 CONCURRY_STOP_TIMEOUT" in lines  # the others are there as ever
    assert {*TABLE, *SETTINGS} <= {line.split()[0] for line in lines}
    told = err.splitlines()  # each once, also where it is in force in every mode
    assert len(told) == len(marked)
    for line, it in zip(told, marked, strict=True):
        assert it.split()[-1] in line
        assert why in line


def test_what_no_variable_says_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCURRY_NUM_RETRIES", "8")
    global_config.thread.max_workers = 0  # of use on demand only
    with pytest.raises(ValueError, match=r"from global_config\.thread\.max_workers"):
        rows()


@pytest.mark.parametrize("arguments", [[], ["conf"], ["config", "x"], ["--version"]])
def test_anything_else_is_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", USAGE)


def test_as_a_command() -> None:
    environment = {**os.environ, "CONCURRY_THREAD_MAX_WORKERS": "7"}
    done = subprocess.run(
        [sys.executable, "-m", "concurry", "config"], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert any(line.split() == ["thread", "7", "CONCURRY_THREAD_MAX_WORKERS"] for line in done.stdout.splitlines())
    done = subprocess.run([sys.executable, "-m", "concurry"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", USAGE)
