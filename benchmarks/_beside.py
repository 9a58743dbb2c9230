"""What the benchmarks share: ours beside the other's in interleaved pairs, medians, and the row that they return.

A benchmark is a file `bench_*.py` here with `rows(quick: bool) -> list[dict]`; `run.py` finds it, runs it in its own
interpreter and judges its rows. Only ratios within one run mean anything: the machine's own pace moves by a factor of
two, so ours and the other's take turns, and the ratio is the median of the pairs' ratios.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Pair:
    """Medians of what the two sides measured, and the median of the ratios ours / other of each turn."""

    ours: float
    other: float
    ratio: float


def pairs(ours: Callable[[], float], other: Callable[[], float], *, repeat: int = 5, warm_up: bool = True) -> Pair:
    """Call the two by turns, `repeat` times each; each returns its own measurement (seconds, calls/s, bytes).

    Who goes first changes with every turn. `warm_up` adds one turn of each that does not count.
    """
    if warm_up:
        ours()
        other()
    turns: list[tuple[float, float]] = []
    for turn in range(repeat):
        gc.collect()
        if turn % 2:
            second = other()
            first = ours()
        else:
            first = ours()
            second = other()
        turns.append((first, second))
    return Pair(
        statistics.median(first for first, _ in turns),
        statistics.median(second for _, second in turns),
        statistics.median(first / second for first, second in turns),
    )


def seconds(fn: Callable[[], object]) -> float:
    """How long one call of `fn` takes."""
    begun = time.perf_counter()
    fn()
    return time.perf_counter() - begun


def median_seconds(fn: Callable[[], object], *, repeat: int = 5) -> float:
    """The median of several calls, after one that does not count."""
    fn()
    return statistics.median(seconds(fn) for _ in range(repeat))


def row(
    name: str,
    measured: Pair | float,
    *,
    unit: str,
    better: Better,
    at_least: float | None = None,
    aim: float | None = None,
) -> dict[str, Any]:
    """A row for `rows()`. A `Pair` is judged by its ratio, a single figure by itself."""
    pair = measured if isinstance(measured, Pair) else None
    return {
        "name": name,
        "ours": pair.ours if pair else measured,
        "other": pair.other if pair else None,
        "ratio": pair.ratio if pair else None,
        "at_least": at_least,
        "aim": aim,
        "unit": unit,
        "better": better,
    }


def rss_bytes() -> int:
    """The resident memory of this process now."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine() -> str:
    """One line on where this ran, which belongs to every figure."""
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = f"Python {platform.python_version()}"
    return f"{cores} cores, load {load:.1f}, {python}, {platform.system()} {platform.machine()}"
