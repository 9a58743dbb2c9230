"""Names of parameters that are the same in every process: `pytest -n 2` compares what its workers collected."""

from __future__ import annotations

import re
from types import FunctionType


def steady(value: object) -> str:
    """`value` as a test's id: its repr without addresses; a function's own name."""
    if isinstance(value, FunctionType):
        return value.__qualname__
    return re.sub(r" at 0x[0-9a-f]+| id='\d+'", "", repr(value))
