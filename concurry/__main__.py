"""`python -m concurry config`: the configuration in force, and where each value comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
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
         (a CONCURRY_* variable, or the built-in default); exit code 1 where a variable is refused
"""
REFUSED = "  <- refused"


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0, 1 where a variable is refused, 2 for a wrong command."""
    if list(arguments) != ["config"]:
        sys.stderr.write(USAGE)
        return 2
    found = rows()
    lines = [("option", "mode", "value", "from")]
    name = ""
    for row in found:
        origin = row.origin + (REFUSED if row.refused else "")
        lines.append(("" if row.name == name else row.name, row.modes, _text(row.value), origin))
        name = row.name
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        sys.stdout.write("  ".join([*padded, line[3]]).rstrip() + "\n")
    refused = dict.fromkeys(row.refused for row in found if row.refused)  # one that holds for all modes is told once
    sys.stdout.flush()  # the errors stand below the table, also where both go into one file
    for message in refused:
        sys.stderr.write(f"{message}\n")
    return 1 if refused else 0


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
    value: Any  # the text of the variable, where that is refused
    origin: str  # "default", or the name of a variable or of an assignment
    refused: str = ""  # why no worker can have it


class _Answer(NamedTuple):
    """What an option or a setting is in one mode."""

    value: Any
    origin: str
    refused: str = ""


def rows() -> list[Row]:
    """What is in force, option by option. A `CONCURRY_*` variable whose value cannot be is marked as refused."""
    found: dict[str, dict[ExecutionMode, _Answer]] = {}
    said = layers()
    for mode in MODES.values():
        options, refused = _resolved(said, mode)
        for name, value in {**options.values, **options.ray}.items():
            only = KNOWN[name].only
            if name != "mode" and (not only or mode in only):
                rank = options.given.get(name)
                origin = "default" if rank is None else _layers_origin(said[rank - 1], name, mode, options.on_demand)
                found.setdefault(name, {})[mode] = refused.get(name) or _Answer(value, origin)
        for name in SETTINGS:
            found.setdefault(name, {})[mode] = _setting(name, mode)
    result = [_mode_row(said)]
    for name in (*(it for it in KNOWN if it in found), *SETTINGS):
        by_mode = found[name]
        answers = list(by_mode.values())
        usual = max(answers, key=answers.count)
        result.append(Row(name, "all" if len(by_mode) > 1 else next(iter(by_mode)).value, *usual))
        result += [Row(name, mode.value, *answer) for mode, answer in by_mode.items() if answer != usual]
    return result


def _resolved(said: Sequence[Layer], mode: ExecutionMode) -> tuple[Options, dict[str, _Answer]]:
    """The options of a mode without the variables that are refused, and those, by option."""
    environment, *others = said
    refused: dict[str, _Answer] = {}
    while True:
        try:
            return Options.resolve([{"mode": mode}, environment, *others], worker="configuration"), refused
        except ValueError as error:
            places: list[tuple[Mapping[str, Any], ExecutionMode | None]] = [
                (environment.by_mode.get(mode, {}), mode),
                (environment, None),
            ]
            for values, of_mode in places:
                name = next((it for it in values if f"(from {environment.origin(it, of_mode)})" in str(error)), None)
                if name is not None:
                    answer = _Answer(values[name], environment.origin(name, of_mode), str(error))
                    refused.setdefault(name, answer)  # the variable of the mode goes first
                    environment = _without(environment, name, of_mode)
                    break
            else:
                raise  # no variable's doing


def _without(layer: Layer, name: str, mode: ExecutionMode | None) -> Layer:
    values, by_mode = dict(layer), {it: dict(values) for it, values in layer.by_mode.items()}
    del (values if mode is None else by_mode[mode])[name]
    return Layer(values, by_mode, layer.origin)


def _setting(name: str, mode: ExecutionMode) -> _Answer:
    try:
        return _Answer(*setting_with_origin(name, mode))
    except ValueError as error:
        variable = str(error).partition("=")[0]
        return _Answer(os.environ[variable], variable, str(error))


def _mode_row(said: list[Layer]) -> Row:
    for layer in said:
        origin = layer.origin("mode", None)
        try:
            mode = check_one("mode", layer.get("mode"), worker="configuration", origin=origin)
        except ValueError as error:
            return Row("mode", "all", layer["mode"], origin, str(error))
        if mode is not None:
            return Row("mode", "all", mode, origin)
    return Row("mode", "all", None, "default: each worker says its own")


def _layers_origin(layer: Layer, name: str, mode: ExecutionMode, on_demand: bool) -> str:
    key = ON_DEMAND.get(name, name) if on_demand else name
    of_mode = layer.by_mode.get(mode, {})
    return layer.origin(key, mode if key in of_mode and says_something(name, of_mode[key]) else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
