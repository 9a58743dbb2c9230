"""Runs the benchmarks, one after the other, each in its own interpreter, and prints one table with a verdict a row.

    .venv/bin/python benchmarks/run.py [--quick] [--only NAME]... [--json FILE]

`benchmarks/bench_*.py` are found by themselves; each has `rows(quick: bool) -> list[dict]`, a row being {"name",
"ours", "other", "ratio", "at_least", "aim", "unit", "better": "higher" or "lower"}. A row is judged by its ratio, or
by `ours` where there is no other (ratio None). Verdicts: `aim`, `ok` (at least), `MISSED`, `-` (nothing to reach).
Exit code: 1 where a benchmark crashed; without --quick also where a row is MISSED.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIMIT_S = 900  # of one benchmark; it is ended then and counts as crashed
NEEDS = {"bench_ray": "ray"}  # modules that the tests do without: where one is not installed, its benchmark is skipped
Row = dict[str, Any]
COLUMNS = ("benchmark", "ours", "other", "ratio", "at least", "aim", "verdict")


def verdict(row: Row) -> str:
    """How a row stands: "aim", "ok", "MISSED" or "-"."""
    value, at_least, aim = row.get("ratio"), row.get("at_least"), row.get("aim")
    if value is None:
        value = row["ours"]
    if math.isnan(value):
        return "MISSED"
    sign = -1 if row["better"] == "lower" else 1
    if aim is not None and sign * value >= sign * aim:
        return "aim"
    if at_least is not None:
        return "ok" if sign * value >= sign * at_least else "MISSED"
    return "-"


def checked(rows: Any, bench: str) -> list[Row]:
    """`rows` as returned by a benchmark. Raises ValueError that names the row that is not one."""
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{bench}.rows() returned {rows!r}; it must return a list of rows, and not an empty one")
    for row in rows:
        missing = {"name", "ours", "unit", "better"} - row.keys()
        if missing or row["better"] not in ("higher", "lower"):
            raise ValueError(f"{bench}: {row!r} lacks {sorted(missing) or 'better: higher or lower'}")
        if row.get("ratio") is None and row.get("other") is not None:
            row["ratio"] = row["ours"] / row["other"]
    return rows


def number(value: float | None, unit: str = "") -> str:
    """Three digits, thousands with commas."""
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def table(rows: list[Row]) -> str:
    """All rows, in columns."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    for row in rows:
        unit = row["unit"] if row.get("ratio") is None else ""
        low = "≤ " if row["better"] == "lower" else "≥ "
        limits = [low + number(row[key], unit) if row.get(key) is not None else "" for key in ("at_least", "aim")]
        ratio = f"{row['ratio']:.2f} ×" if row.get("ratio") is not None else ""
        ours, other = number(row["ours"], row["unit"]), number(row.get("other"), row["unit"])
        lines.append((row["name"], ours, other, ratio, *limits, verdict(row)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, 6) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def run_one(bench: str, quick: bool) -> list[Row]:
    """Run one benchmark in a fresh interpreter. Raises subprocess.SubprocessError where it crashed or took too long."""
    with tempfile.TemporaryDirectory(prefix="concurry-bench-") as folder:
        out = Path(folder, "rows.json")
        command = [sys.executable, str(HERE / "run.py"), "--child", bench, "--json", str(out)]
        subprocess.run(command + ["--quick"] * quick, check=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
        rows: list[Row] = json.loads(out.read_text())
        return rows


def child(bench: str, quick: bool, out: str) -> None:
    """In the fresh interpreter: run it and write its rows."""
    rows = checked(importlib.import_module(f"benchmarks.{bench}").rows(quick), bench)
    Path(out).write_text(json.dumps(rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small and few: to see that all of it runs")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="names that contain NAME")
    parser.add_argument("--json", metavar="FILE", help="write the rows and the machine there as well")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # The checkout comes first, so that `benchmarks` and `concurry` are the ones beside this file.
    sys.path.insert(0, str(HERE.parent))
    if options.child:
        child(options.child, options.quick, options.json)
        return 0

    from benchmarks._beside import machine

    found = sorted(path.stem for path in HERE.glob("bench_*.py"))
    chosen = [name for name in found if not options.only or any(part in name for part in options.only)]
    if not chosen:
        parser.error(f"no benchmark's name contains {' or '.join(options.only)}; there are {', '.join(found)}")
    begun = machine()
    rows: list[Row] = []
    crashed: list[str] = []
    for bench in chosen:
        needed = NEEDS.get(bench)
        if needed is not None and importlib.util.find_spec(needed) is None:
            print(f"{bench}: skipped, {needed} is not installed", file=sys.stderr, flush=True)
            continue
        started = time.perf_counter()
        try:
            rows += [{"bench": bench, **row} for row in run_one(bench, options.quick)]
            note = ""
        except subprocess.SubprocessError as error:
            crashed.append(bench)
            note = f", CRASHED: {error}"
        print(f"{bench}: {time.perf_counter() - started:.1f} s{note}", file=sys.stderr, flush=True)
    missed = [row["name"] for row in rows if verdict(row) == "MISSED"]
    if rows:
        print(table(rows))
    print(f"{begun}{'; a quick run: the figures mean little' if options.quick else ''}")
    if options.json:
        judged = [{**row, "verdict": verdict(row)} for row in rows]
        Path(options.json).write_text(json.dumps({"machine": begun, "quick": options.quick, "rows": judged}, indent=1))
    if crashed:
        print(f"crashed: {', '.join(crashed)}")
    if missed and not options.quick:
        print(f"missed: {', '.join(missed)}")
    return 1 if crashed or (missed and not options.quick) else 0


if __name__ == "__main__":
    sys.exit(main())
