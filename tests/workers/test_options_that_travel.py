"""Classes of a script go to processes by value, and take along what is said of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
from concurry import CallLimit, Worker, worker

class Inner(Worker, mode="thread", num_retries=1, retry_wait=0.01, retry_until=lambda result: Inner.accepts(result)):
    def __init__(self, number):
        self.number = number

    @classmethod
    def accepts(cls, result):
        return result > 0

    def get(self):
        self.number += 1
        return self.number

@worker(mode="thread", limits=[CallLimit(capacity=5, window_seconds=60)])
class Limited:
    def get(self):
        with self.limits.acquire():
            return 1

class Outer(Worker, mode="process"):
    def retried(self):
        with Inner(-1) as inner:
            return inner.get().result()

    def limited(self):
        try:
            Limited()
        except ValueError as error:
            return str(error)

    def limited_again(self):
        with Limited.options(limits=CallLimit(capacity=5, window_seconds=60)).init() as limited:
            return limited.get().result()

class Further(Worker, mode="process"):
    def limited(self):
        with Outer() as outer:
            return outer.limited().result()

with Further() as further:
    assert "limits=... stands on a class of a script or notebook" in further.limited().result(60)
with Outer() as outer:
    assert outer.retried().result(60) == 1
    assert "limits=... stands on a class of a script or notebook" in outer.limited().result(60)
    assert outer.limited_again().result(60) == 1
with Limited() as limited:
    assert limited.get().result(60) == 1
print("all of it")
"""


def test_options_of_a_script_s_classes_hold_in_processes(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, str(path)],
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.stdout == "all of it\n", ended.stderr
