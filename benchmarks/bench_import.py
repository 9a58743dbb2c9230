"""What importing concurry costs over a bare interpreter: time of the whole process, and resident memory after it.

Names are loaded when they are first asked for, so what users write (`from concurry import Worker, gather`) stands
beside the bare import, and has to keep the same bounds.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks._beside import row

ROOT = Path(__file__).resolve().parent.parent
# -I and -S: no .pth file, no sitecustomize of this machine preloads what concurry would have to load. `os` and `site`
# are there in any interpreter that a user starts.
PROGRAM = """
import os, site, sys
sys.path[:0] = {path!r}
{line}
with open("/proc/self/statm", "rb") as file:
    print(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
"""


def once(line: str) -> tuple[float, float]:
    """(milliseconds of the whole process, MB of resident memory at its end) of a fresh interpreter."""
    third_party = [entry for entry in sys.path if entry.endswith("site-packages")]
    program = PROGRAM.format(path=[str(ROOT), *third_party], line=line)
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True, capture_output=True)
    return (time.perf_counter() - begun) * 1e3, json.loads(done.stdout) / 1e6


def rows(quick: bool) -> list[dict[str, Any]]:
    found = []
    for line in ("import concurry", "from concurry import Worker, gather"):
        once(line)  # writes the bytecode
        turns = [(once(line), once("")) for _ in range(5 if quick else 31)]
        time_ms = statistics.median(ours[0] - bare[0] for ours, bare in turns)
        memory_mb = statistics.median(ours[1] - bare[1] for ours, bare in turns)
        found += [
            row(f"{line}: time over a bare interpreter", time_ms, unit="ms", better="lower", at_least=60),
            row(f"{line}: memory over a bare interpreter", memory_mb, unit="MB", better="lower", at_least=12),
        ]
    return found
