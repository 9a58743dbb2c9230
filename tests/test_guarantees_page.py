"""docs/guarantees.md says which test holds each promise: the tests are there, under the names that it gives."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
LINK = re.compile(r"\[`(?P<file>[\w/.]*)::(?P<test>\w+)`\]\((?P<target>[^)]+)\)")
PROMISES = 10


def links() -> list[tuple[str, str, str]]:
    """(file as written, or "" for that of the link before; test; target) of each link to a test."""
    return [(it["file"], it["test"], it["target"]) for it in LINK.finditer(PAGE.read_text(encoding="utf-8"))]


def functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {it.name for it in ast.walk(tree) if isinstance(it, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize(("file", "test", "target"), links(), ids=[f"{target}::{test}" for _, test, target in links()])
def test_the_test_is_there(file: str, test: str, target: str) -> None:
    there = (PAGE.parent / target).resolve()
    assert there.is_file(), f"{target} is no file"
    assert file in ("", str(there.relative_to(ROOT))), f"{file} is written, and {target} is linked"
    assert test in functions_in(there), f"{target} has no {test}: was it renamed? The page must follow"


def test_each_promise_has_its_tests() -> None:
    parts = re.split(r"^## (\d+)\. ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    promises = dict(zip(map(int, parts[::2]), parts[1::2], strict=True))
    assert list(promises) == list(range(1, PROMISES + 1))
    assert not [number for number, text in promises.items() if not LINK.search(text)]


def test_no_test_is_named_without_a_link() -> None:
    unlinked = LINK.sub("", PAGE.read_text(encoding="utf-8"))
    assert "::test_" not in unlinked
