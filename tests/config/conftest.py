from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from concurry.config import global_config


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variables of ours, and nothing assigned, before and after."""
    for variable in [it for it in os.environ if it.startswith("CONCURRY_")]:
        monkeypatch.delenv(variable)
    global_config.reset_to_defaults()
    yield
    global_config.reset_to_defaults()
