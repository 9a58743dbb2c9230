"""`python -m concurry config`: the configuration in force, and where each value comes from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from concurry.config import MODES, layers, says_something, setting_with_origin
from concurry.option_layers import ON_DEMAND, Layer
from concurry.options import KNOWN, Options, check_one
from concurry.runtime.enums import ExecutionMode
from concurry.settings import SETTINGS
from concurry.transports.anything import is_list

USAGE = """usage: python -m concurry config

config   print every option and setting: its value, by mode where modes differ, and where it comes from
         (a CONCURRY_* variable, or the built-in default)
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0, 1 for a configuration that cannot be, 2 for a wrong command."""
    if list(arguments) != ["config"]:
        sys.stderr.write(USAGE)
        return 2
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
    if is_list(value):
        return f"[{', '.join(_text(it) for it in value)}]"
    return value.__name__ if isinstance(value, type) else repr(value)


class Row(NamedTuple):
    """One line of `python -m concurry config`."""

    name: str
    modes: str  # "all", or the one mode in which it differs from "all"
    value: Any
    origin: str  # "default", or the name of a variable or of an assignment


def rows() -> list[Row]:
    """What is in force, option by option. Raises ValueError for a `CONCURRY_*` variable whose value cannot be."""
    found: dict[str, dict[ExecutionMode, tuple[Any, str]]] = {}
    said = layers()
    for mode in MODES.values():
        options = Options.resolve([{"mode": mode}, *said], worker="configuration")
        for name, value in {**options.values, **options.ray}.items():
            only = KNOWN[name].only
            if name != "mode" and (not only or mode in only):
                rank = options.given.get(name)
                origin = "default" if rank is None else _layers_origin(said[rank - 1], name, mode, options.on_demand)
                found.setdefault(name, {})[mode] = value, origin
        for name in SETTINGS:
            found.setdefault(name, {})[mode] = setting_with_origin(name, mode)
    result = [_mode_row(said)]
    for name in (*(it for it in KNOWN if it in found), *SETTINGS):
        by_mode = found[name]
        answers = list(by_mode.values())
        usual = max(answers, key=answers.count)
        result.append(Row(name, "all" if len(by_mode) > 1 else next(iter(by_mode)).value, *usual))
        result += [Row(name, mode.value, *answer) for mode, answer in by_mode.items() if answer != usual]
    return result


def _mode_row(said: list[Layer]) -> Row:
    for layer in said:
        origin = layer.origin("mode", None)
        mode = check_one("mode", layer.get("mode"), worker="configuration", origin=origin)
        if mode is not None:
            return Row("mode", "all", mode, origin)
    return Row("mode", "all", None, "default: each worker says its own")


def _layers_origin(layer: Layer, name: str, mode: ExecutionMode, on_demand: bool) -> str:
    key = ON_DEMAND.get(name, name) if on_demand else name
    of_mode = layer.by_mode.get(mode, {})
    return layer.origin(key, mode if key in of_mode and says_something(name, of_mode[key]) else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
