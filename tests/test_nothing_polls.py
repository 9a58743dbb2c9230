"""Nothing polls: no line of the library sleeps, and none waits in a loop for a span that is written there.

An idle pool is measured by `benchmarks/bench_core.py` and `bench_process_life.py`; this test sees the reason in the
source: whoever waits is woken by what he waits for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [path for floor in ("concurry", "runtime", "transports") for path in sorted((ROOT / floor).rglob("*.py"))]
WAITS = {"wait", "get", "acquire", "join", "poll", "select", "result"}


def calls(node: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """(the last word of what is called, the call) of each call beneath."""
    for it in ast.walk(node):
        if isinstance(it, ast.Call):
            named = it.func
            yield getattr(named, "attr", getattr(named, "id", "")), it


def is_span(node: ast.expr) -> bool:
    """Whether it is a number above 0 that is written there."""
    return isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value > 0  # type: ignore[operator]


def spans(call: ast.Call, word: str) -> bool:
    said = [it.value for it in call.keywords if it.arg == "timeout"]
    return any(map(is_span, [*said, *(call.args[:1] if word in ("wait", "join", "poll", "result") else [])]))


def test_nothing_sleeps() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        for word, call in calls(ast.parse(path.read_text(encoding="utf-8")))
        if word == "sleep" and not (call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0)
    ]
    assert not found, "wait for what wakes you"


def test_no_loop_waits_for_a_written_span() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        for loop in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(loop, ast.While)
        for word, call in calls(loop)
        if word in WAITS and spans(call, word)
    ]
    assert not found, "a loop that looks again after some time polls: wait for what wakes you"


def test_both_would_be_seen() -> None:
    tree = ast.parse("while True:\n    time.sleep(0.1)\n    if stop.wait(0.5) or q.get(timeout=1): break")
    assert [(word, spans(call, word)) for word, call in calls(tree)] == [
        ("sleep", False),
        ("wait", True),
        ("get", True),
    ]
