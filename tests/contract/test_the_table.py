"""The table of what a mode leaves out names only tests and ways that there are, each with its reason."""

from __future__ import annotations

from typing import Any

import pytest


def test_the_table_names_what_there_is(request: pytest.FixtureRequest, way: Any, table: Any) -> None:
    known = {item.originalname for item in request.session.items if isinstance(item, pytest.Function)}
    files = {item.path.parent for item in request.session.items if item.path.name == "test_the_table.py"}
    here = {path.name for folder in files for path in folder.glob("test_*.py")}
    asked = {item.path.name for item in request.session.items if item.path.parent in files}
    if here <= asked:  # the whole folder is run
        assert set(table.skips) <= known
    for reasons in table.skips.values():
        assert set(reasons) <= table.ways
        assert all(len(reason) > 10 for reason in reasons.values())
    assert way.name in table.ways
