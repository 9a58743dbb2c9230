"""The tables of docs/options.md, made from the code: `python docs/options_table.py --write` puts them there.

Guarantees: a table stands on the page between `<!-- table: NAME -->` and `<!-- end of NAME -->`; nothing else of the
page is touched. Without `--write`: exit code 1 where the page is behind.
Called by: whoever changes an option; `tests/test_options_page.py` compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from concurry.option import UNSAID, Option
from concurry.option_ray import RAY
from concurry.options import TABLE, conflict
from concurry.runtime.enums import (
    ExecutionMode,
    LoadBalancingAlgorithm,
    NamedEnum,
    RateLimitAlgorithm,
    RateWindow,
    RetryAlgorithm,
    ReturnWhen,
)

PAGE = Path(__file__).resolve().parent / "options.md"
MODES = [ExecutionMode(name) for name in ("sync", "thread", "asyncio", "process", "ray")]  # in the README's order
WORDS: dict[str, type[NamedEnum]] = {  # what "a mode" and "an algorithm" can be
    "mode": ExecutionMode,
    "load_balancing": LoadBalancingAlgorithm,
    "retry_algorithm": RetryAlgorithm,
}
WORDS_OF: dict[str, type[NamedEnum]] = {  # whatever takes the words of an enum, and where else than in options
    "`mode`": ExecutionMode,
    "`load_balancing`; that of a `LimitPool`": LoadBalancingAlgorithm,
    "`RateLimit(algorithm=...)`": RateLimitAlgorithm,
    "`RateLimit(window=...)`": RateWindow,
    "`wait(return_when=...)`": ReturnWhen,
}
BY_METHOD = ", or a dict of these by method name"


def values(name: str, option: Option[Any]) -> str:
    """What it may be."""
    allowed = option.allowed.removesuffix(BY_METHOD)
    if name in WORDS:
        allowed = " ".join(f"`{member.value}`" for member in WORDS[name] if takes(option, member))
    return allowed + ("; by method" if option.allowed.endswith(BY_METHOD) else "")


def takes(option: Option[Any], value: Any) -> bool:
    """Whether a value passes its check."""
    try:
        option.check(value)
    except ValueError:
        return False
    return True


def default(option: Option[Any]) -> str:
    """What it is where nobody says it, by mode where that differs."""
    parts = [plain(option.default), *(f"{mode.value}: {plain(value)}" for mode, value in option.per.items())]
    if option.on_demand is not UNSAID:
        parts.append(f"on demand: {plain(option.on_demand)}")
    return "; ".join(parts)


def plain(value: Any) -> str:
    """A default as people write it."""
    if value is UNSAID:
        return "must be said"
    if isinstance(value, list):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, NamedEnum):
        return str(value)
    return value.__name__ if isinstance(value, type) else str(value)


def modes(name: str, option: Option[Any]) -> str:
    """In which modes it has a meaning, or a choice."""
    other = {"max_workers": 2, "on_demand": True}.get(name)
    has = [
        mode
        for mode in MODES
        if (not option.only or mode in option.only) and (other is None or not conflict(name, other, mode, True))
    ]
    if len(has) == len(MODES):
        return "all"
    if len(has) == len(MODES) - 1:
        return f"all but {next(mode.value for mode in MODES if mode not in has)}"
    return ", ".join(mode.value for mode in has)


def options() -> Iterator[str]:
    """The lines of the table of options."""
    yield "| option | values | default | modes | meaning |"
    yield "|---|---|---|---|---|"
    for name, option in TABLE.items():
        cells = f"`{name}`", values(name, option), default(option), modes(name, option), option.doc
        yield f"| {' | '.join(cells)} |"


def ray() -> Iterator[str]:
    """The lines of the table of what is handed to Ray."""
    yield "| option | default | meaning |"
    yield "|---|---|---|"
    for name, option in RAY.items():
        said = "that of Ray" if option.default is UNSAID else default(option)
        yield f"| `{name}` | {said} | {option.doc} |"


def words() -> Iterator[str]:
    """The lines of the table of aliases."""
    yield "| where | words, and after each what is taken for it |"
    yield "|---|---|"
    for where, enum in WORDS_OF.items():
        yield f"| {where} | {' · '.join(' '.join([f'`{it.value}`', *aliases(it)]) for it in enum)} |"


def aliases(member: NamedEnum) -> list[str]:
    """The aliases that a table shows: of a span of time neither the plurals nor those with `per_`."""
    shown: tuple[str, ...] = member.aliases
    if isinstance(member, RateWindow):
        shown = tuple(it for it in shown if not it.startswith("per_") and not it.endswith("s"))
    return [f"({', '.join(f'`{it}`' for it in shown)})"] if shown else []


TABLES = {"options": options, "words": words, "ray": ray}


def with_tables(page: str) -> str:
    """The page with its tables as they should be. Raises ValueError where a mark is missing."""
    for name, lines in TABLES.items():
        begin, end = f"<!-- table: {name} -->\n", f"<!-- end of {name} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{PAGE.name} needs the marks {begin.strip()} and {end}")
        page = before + begin + "\n" + "\n".join(lines()) + "\n\n" + end + after
    return page


def main(arguments: list[str]) -> int:
    """Write the tables, or tell whether the page is behind."""
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_tables(page)
    if "--write" in arguments:
        PAGE.write_text(wanted, encoding="utf-8")
    elif page != wanted:
        print(f"{PAGE} is behind concurry/options.py: python {sys.argv[0]} --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
