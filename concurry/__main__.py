"""`python -m concurry config`: the configuration in force, and where each value comes from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import Enum
from typing import Any

USAGE = """usage: python -m concurry config

config   print every option and setting: its value, by mode where modes differ, and where it comes from
         (a CONCURRY_* variable, or the built-in default)
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0, 1 for a configuration that cannot be, 2 for a wrong command."""
    if list(arguments) != ["config"]:
        sys.stderr.write(USAGE)
        return 2
    from concurry.config import rows

    try:
        found = rows()
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    lines = [("option", "mode", "value", "from")]
    name = ""
    for row in found:
        lines.append(("" if row.name == name else row.name, row.modes, _text(row.value), row.origin))
        name = row.name
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        sys.stdout.write("  ".join([*padded, line[3]]).rstrip() + "\n")
    return 0


def _text(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return f"[{', '.join(_text(it) for it in items)}]"
    return value.__name__ if isinstance(value, type) else repr(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
