"""The input of the main example: what Python's own standard library says about its public functions.

Guarantees: real texts without a download, always the same ones in the same order on one version of Python. Nothing is
imported: the files are read and parsed, so that no module's side effects are set off.
Called by: `batch_llm.py` and the smaller examples.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

LONGEST = 2_000  # characters of one docstring; the few longer ones are cut


def docstrings(count: int) -> dict[str, str]:
    """The docstrings of `count` public functions and methods, by their full names; fewer where there are fewer."""
    return dict(islice(_walk(Path(sysconfig.get_path("stdlib"))), count))


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()  # a function can be defined twice, for two platforms, and a text said twice
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if any(part.startswith("_") for part in parts if part != "__init__") or _SKIPPED.intersection(parts):
            continue
        module = ".".join(part for part in parts if part != "__init__")
        for name, text in _functions(path):
            name = f"{module}.{name}"
            if seen.isdisjoint((name, text)):
                seen.update((name, text))
                yield name, text[:LONGEST]


# Not for users of the library, or not Python's own.
_SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo", "ensurepip"}


def _functions(path: Path) -> Iterator[tuple[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about other people's escape sequences
        tree = ast.parse(path.read_bytes(), filename=str(path))
    yield from _documented("", tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _documented(f"{node.name}.", node)


def _documented(prefix: str, parent: ast.Module | ast.ClassDef) -> Iterator[tuple[str, str]]:
    for node in parent.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            text = ast.get_docstring(node)
            if text:
                yield prefix + node.name, text
