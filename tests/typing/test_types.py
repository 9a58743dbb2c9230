"""mypy and pyright agree with what the files beside this one say of types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = sorted(str(path.relative_to(ROOT)) for path in HERE.glob("*_types.py") if not path.name.startswith("test_"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_mypy_strict() -> None:
    done = run("mypy", "--strict", "--follow-imports=silent", "--no-error-summary", *FILES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright() -> None:
    pytest.importorskip("pyright")
    done = run("pyright", "--outputjson", *FILES)
    found: list[dict[str, Any]] = json.loads(done.stdout)["generalDiagnostics"]
    told = [f"{Path(it['file']).name}:{it['range']['start']['line'] + 1}: {it['message']}" for it in found]
    assert not told, "\n".join(told)
    assert done.returncode == 0, done.stderr
