"""The notebooks of docs/notebooks: they stand in git as nobody has run them, and every cell of them runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_they_are_clean() -> None:
    checked = subprocess.run([sys.executable, str(FOLDER / "clean.py"), "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path: Path, kernel: Any) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code
    shown = []
    for source in code:
        cell = kernel.run(source).good()
        assert cell.said == "", source
        shown += kernel.bars(cell)
    assert len(kernel.processes()) == 1  # what was started is stopped
    assert {bar.color for bar in shown} == {"#43a047"}
