"""Finds the code blocks of a Markdown page, and runs a page: `python page.py PAGE` executes its blocks in order.

Guarantees: a block of Python is either run, or compared with the example that it is a part of, or left out by a mark
that readers can see. Blocks run in one namespace, as `__main__`; a traceback gives the page's own line numbers.
Marks: ```` ```python title="sketch" ````, or in the line before the block `<!-- not run: REASON -->` or
`<!-- from examples/FILE.py -->` (the block stands in that file word for word, and the file is run by a test).
Called by: `tests/test_docs.py`, as a module and as the script of a fresh process.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<ticks>`{3,}|~{3,})(?P<info>[^`]*)$")
MARK = re.compile(r"^\s*<!--\s*(?P<word>not run|from)\b:?\s*(?P<rest>.*?)\s*-->\s*$")


@dataclass(frozen=True)
class Block:
    """One block of Python on a page."""

    line: int  # of its first line of code, from 1
    code: str
    sketch: bool = False  # left out by its title
    not_run: str | None = None  # left out, and why; empty where no reason is given
    source: str | None = None  # the file that it is a part of

    @property
    def runs(self) -> bool:
        return not self.sketch and self.not_run is None and self.source is None


def blocks(text: str) -> list[Block]:
    """The blocks of Python on a page, in order."""
    return list(_blocks(text.splitlines()))


def _blocks(lines: list[str]) -> Iterator[Block]:
    number = 0
    while number < len(lines):
        opening = FENCE.match(lines[number])
        before = number - 1
        number += 1
        if opening is None:
            continue
        first = number
        while number < len(lines) and not _closes(lines[number], opening["ticks"]):
            number += 1
        words = opening["info"].split()
        if words and words[0].lower() in ("python", "py", "python3"):
            while before >= 0 and not lines[before].strip():
                before -= 1
            mark = MARK.match(lines[before]) if before >= 0 else None
            said = {"not_run" if mark["word"] == "not run" else "source": mark["rest"]} if mark else {}
            sketch = 'title="sketch"' in opening["info"]
            yield Block(first + 1, dedent("\n".join(lines[first:number])), sketch, **said)
        number += 1


def _closes(line: str, ticks: str) -> bool:
    bare = line.strip()
    return len(bare) >= len(ticks) and set(bare) == {ticks[0]}


def run(path: Path) -> None:
    """Run the page's blocks in this process, in a new `__main__`."""
    main = types.ModuleType("__main__")
    main.__file__ = str(path)
    sys.modules["__main__"] = main  # where classes of the page say that they come from
    sys.argv = [str(path)]
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.runs:
            code = compile("\n" * (block.line - 1) + block.code, str(path), "exec", dont_inherit=True)
            exec(code, main.__dict__)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
