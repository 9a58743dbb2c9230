"""Takes out of the notebooks in this folder what running them has put in: outputs, counts, the kernel's name.

Guarantees: the same notebook always gives the same file, whoever has run it where, so that a change is a change of its
cells. `--check` writes nothing, and ends with exit code 1 where a file would change.
Called by: whoever has edited a notebook (`python docs/notebooks/clean.py`), and the tests, with `--check`.
"""

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


def cleaned(text: str) -> str:
    """A notebook's file as it should be."""
    cells = [_cell(number, cell) for number, cell in enumerate(json.loads(text)["cells"], 1)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, cell: dict[str, Any]) -> dict[str, Any]:
    source = "".join(cell["source"]).strip("\n").splitlines(keepends=True)
    kept = {"cell_type": cell["cell_type"], "id": f"cell-{number}", "metadata": {}, "source": source}
    if cell["cell_type"] == "code":
        kept |= {"execution_count": None, "outputs": []}
    return dict(sorted(kept.items()))


def main() -> int:
    dirty = []
    for path in sorted(FOLDER.glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        clean = cleaned(text)
        if clean != text:
            dirty.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(clean, encoding="utf-8")
    if dirty and "--check" in sys.argv:
        print(f"not clean: {', '.join(dirty)}. Run: python docs/notebooks/clean.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
