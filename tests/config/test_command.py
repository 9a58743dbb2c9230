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


def test_a_bad_variable_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CONCURRY_MAX_WORKERS", "many")
    assert main(["config"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "max_workers='many' (from CONCURRY_MAX_WORKERS) is refused" in err


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
