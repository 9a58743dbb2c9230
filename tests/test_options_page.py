"""docs/options.md and `help(Worker.options)` say what the options are, and not what they were."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from concurry import Worker
from concurry.option_ray import RAY
from concurry.options import TABLE

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "options.md"


@pytest.fixture(scope="module")
def tables() -> Any:
    spec = importlib.util.spec_from_file_location("docs_options_table", DOCS / "options_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_page_are_those_of_the_code(tables: Any) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == tables.with_tables(page), "python docs/options_table.py --write"


def test_the_tables_have_every_option(tables: Any) -> None:
    rows = [line.split("`")[1] for name in ("options", "ray") for line in list(tables.TABLES[name]())[2:]]
    assert rows == [*TABLE, *RAY]


def test_a_page_without_its_marks_is_refused(tables: Any) -> None:
    with pytest.raises(ValueError, match=re.escape("<!-- table: options -->")):
        tables.with_tables("# Options\n")


def test_help_lists_the_options_with_their_defaults(tables: Any) -> None:
    lines = re.findall(r"^ {8}(\w+): (\* )?\S.* \[(.*)\]$", inspect.getdoc(Worker.options) or "", re.MULTILINE)
    assert [name for name, *_ in lines] == list(TABLE)
    for name, by_method, default in lines:
        assert default == tables.default(TABLE[name]), name
        assert bool(by_method) == TABLE[name].allowed.endswith(tables.BY_METHOD), name
