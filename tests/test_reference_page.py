"""The reference of the site: each public name stands in it, once, and nothing in it is gone."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import concurry

PAGES = sorted((Path(__file__).resolve().parents[1] / "docs" / "reference").glob("*.md"))
ENTRY = re.compile(r"^::: (concurry(?:\.\w+)+)$", re.MULTILINE)
ENTRIES = [(path.name, name) for path in PAGES for name in ENTRY.findall(path.read_text(encoding="utf-8"))]


def test_each_public_name_stands_in_one_page() -> None:
    counted = Counter(name.removeprefix("concurry.") for _, name in ENTRIES)
    missing = [name for name in concurry.__all__ if name not in counted]
    assert not missing, "write `::: concurry.NAME` into the page of docs/reference where one would look for it"
    assert not [name for name, times in counted.items() if times > 1]


@pytest.mark.parametrize(("page", "name"), ENTRIES, ids=[f"{page}:{name}" for page, name in ENTRIES])
def test_what_stands_there_is_there(page: str, name: str) -> None:
    home, _, last = name.rpartition(".")
    found: Any = getattr(import_module(home), last)  # what is not public is named by its module
    assert home != "concurry" or last in concurry.__all__
    assert getattr(found, "__doc__", None)


def test_each_page_is_in_the_index() -> None:
    index = next(path for path in PAGES if path.name == "index.md").read_text(encoding="utf-8")
    assert not [path.name for path in PAGES if path.name != "index.md" and f"]({path.name})" not in index]
