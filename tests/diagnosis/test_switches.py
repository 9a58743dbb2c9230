"""`CONCURRY_DEBUG` and `CONCURRY_CHECK_WIRE`, in every mode."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from concurry import EncodeError, Worker, wait
from concurry.option_layers import switched_on

SCRIPT = """
import sys
from concurry import Worker, wait

class Odd(Worker):
    def __init__(self):
        self.asked = 0
    def one(self, value=1):
        return value
    async def later(self):
        return 1
    def bad(self):
        raise ValueError("no")
    def flaky(self):
        self.asked += 1
        if self.asked < 2:
            raise ConnectionError("refused")

odd = Odd.options(num_retries={"flaky": 2, "*": 0}, retry_wait=0.01, **OPTIONS).init()
with odd:
    first = odd.one()
    wait([first, odd.later(), odd.bad(), odd.flaky(), odd.one(first)], timeout=60)
"""


def lines_of(options: dict[str, Any], tmp_path: Path) -> list[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("OPTIONS", repr(options)))
    environment = {**os.environ, "CONCURRY_DEBUG": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, env=environment, timeout=100
    )
    return done.stderr.splitlines()


def test_the_life_of_each_call_is_told(options: dict[str, Any], tmp_path: Path) -> None:
    if options.get("on_demand") or options.get("max_workers", 1) > 1:
        options["max_workers"] = 1  # `flaky` counts in its actor
    told = "\n".join(lines_of(options, tmp_path))
    begin = r"concurry \d\d:\d\d:\d\d\.\d{3} \[\d+\] Odd\."
    for line in (
        r"one\(\) #\d+: accepted$",
        r"one\(\) (#|no\. )\d+: begun on Odd",
        r"one\(\) #\d+: done, \d+\.\d+ s after it was accepted$",
        r"later\(\) #\d+: done",
        r"bad\(\) (#|no\. )\d+: raised after \d+\.\d+ s on Odd.*: ValueError: no$",
        r"bad\(\) #\d+: failed",
        r"flaky\(\) (#|no\. )\d+: attempt 1 raised ConnectionError: refused$",
        r"flaky\(\) (#|no\. )\d+: the next attempt in 0\.\d+ s$",
        r"flaky\(\) (#|no\. )\d+: attempt 2$",
        r"flaky\(\) #\d+: done",
    ):
        assert re.search(begin + line, told, re.MULTILINE), (line, told)
    if options["mode"] in ("process", "ray"):
        assert re.search(begin + r"one\(\) #\d+: sent to Odd.*$", told, re.MULTILINE), told  # it may have ended by then
        assert re.search(begin + r"\w+\(\) #\d+: sent to Odd.*, where it is no\. \d+$", told, re.MULTILINE), told


def test_nothing_is_told_without_it(capfd: pytest.CaptureFixture[str]) -> None:
    class One(Worker):
        def one(self) -> int:
            return 1

    with One.options(mode="thread").init() as worker:
        worker.one().result(20)
    assert capfd.readouterr().err == ""


def test_a_cancelled_call_is_told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CONCURRY_DEBUG", "1")
    go, began = threading.Event(), threading.Event()

    class Held(Worker):
        def hold(self) -> None:
            began.set()
            go.wait()

    with Held.options(mode="thread").init() as held:
        first, second = held.hold(), held.hold()
        assert began.wait(20)
        assert second.cancel()
        go.set()
        wait([first], timeout=20)
    assert re.search(r"hold\(\) #\d+: cancelled, ", capfd.readouterr().err)


def test_a_closed_stderr_fails_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCURRY_DEBUG", "1")
    monkeypatch.setattr(sys, "stderr", None)

    class One(Worker):
        def one(self) -> int:
            return 1

    with One.options(mode="thread").init() as worker:
        assert worker.one().result(20) == 1


@pytest.mark.parametrize(
    ("text", "on"), [("1", True), ("true", True), ("", False), ("0", False), ("false", False), ("off", False)]
)
def test_what_turns_a_switch_on(text: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCURRY_DEBUG", text)
    assert switched_on("CONCURRY_DEBUG") is on


# -- CONCURRY_CHECK_WIRE -------------------------------------------------------------------------------------------


class Keeps(Worker):
    def same(self, value: Any) -> Any:
        return value

    async def same_later(self, value: Any) -> Any:
        return value

    def lock(self) -> Any:
        return threading.Lock()

    def is_it(self, value: Any, where: int) -> bool:
        return id(value) == where


@pytest.fixture(params=["sync", "thread", "asyncio"])
def checked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CONCURRY_CHECK_WIRE", "1")
    with Keeps.options(mode=request.param).init() as worker:
        yield worker


def test_what_travels_arrives(checked: Any) -> None:
    for value in (1, "text", [1, (2, {"three": 3})], {"a": {1, 2}}, b"x" * 100_000):
        assert checked.same(value).result(20) == checked.same_later(value).result(20) == value
        assert checked.same(value=value).result(20) == value
    mine = [1]
    assert checked.is_it(mine, id(mine)).result(20) is False, "the method has a copy, as in another process"


def test_what_would_not_travel_fails_its_call(checked: Any) -> None:
    with pytest.raises(EncodeError, match="CONCURRY_CHECK_WIRE"):
        checked.same(threading.Lock()).result(20)
    with pytest.raises(EncodeError, match=r"Keeps\.lock\(\) would fail in another process"):
        checked.lock().result(20)
    assert checked.same(2).result(20) == 2, "the worker goes on"


def test_init_arguments_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Has(Worker):
        def __init__(self, what: Any) -> None:
            self.what = what

        def get(self) -> Any:
            return 1

    monkeypatch.setenv("CONCURRY_CHECK_WIRE", "1")
    with pytest.raises(EncodeError, match="init arguments"):
        Has.options(mode="thread").init(threading.Lock())
    with Has.options(mode="thread").init([1]) as worker:
        assert worker.get().result(20) == 1


def test_futures_and_handles_among_the_arguments(checked: Any) -> None:
    assert checked.same(checked.same(3)).result(20) == 3
    assert checked.same(checked).result(20) is checked
