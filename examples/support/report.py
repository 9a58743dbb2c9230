"""What the main example prints and saves: a table, the failures with their reasons, a plot, the ratings.

Guarantees: every prompt of a run is accounted for: rated, failed with a reason, or not asked because of Ctrl-C. Ctrl-C
ends the runs, not the report. `exit_code` is 0 where every prompt of every run was rated, 1 where any failed, 130
after Ctrl-C.
Called by: `batch_llm.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from support.job import Job
from support.plot import save_plot
from support.server import server_stats

SHOWN = 20  # failures that are printed for each run; all of them are in the file


class Run:
    """One way of asking all prompts, and what came of it."""

    def __init__(self, name: str, docstrings: dict[str, str], total: int) -> None:
        self.name = name
        self.docstrings = docstrings
        self.total = total  # prompts of the whole job; a sample asks fewer
        self.progress: dict[str, Any] = {"desc": name, "unit": "prompt"}
        self.rated: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}
        self.finished_at: list[float] = []  # seconds since the start, one for each prompt
        self.seconds = 0.0
        self.statuses: dict[str, int] = {}
        self._started = time.monotonic()

    def add(self, name: str, reply: Any) -> None:
        """Note a reply, a future of one, or the exception that took its place."""
        if isinstance(reply, Future):
            reply = reply.exception() or reply.result()
        if isinstance(reply, BaseException):
            self.failed[name] = f"{type(reply).__name__}: {str(reply).partition(chr(10))[0]}"
        else:
            self.rated[name] = read_rating(reply)
        self.finished_at.append(time.monotonic() - self._started)

    def end(self) -> None:
        self.seconds = time.monotonic() - self._started

    @property
    def is_sample(self) -> bool:
        return len(self.docstrings) < self.total

    @property
    def missing(self) -> int:
        """Prompts that were not asked, or whose answer nobody waited for."""
        return len(self.docstrings) - len(self.rated) - len(self.failed)

    @property
    def projected_s(self) -> float:
        """Seconds for all prompts: measured, or from those that finished."""
        return self.seconds * self.total / max(1, len(self.finished_at))


class Report:
    """Collects the runs of a job. Leaving it prints the summary and saves the plot; Ctrl-C inside it ends there."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.runs: list[Run] = []
        self.interrupted = False

    def __enter__(self) -> Report:
        return self

    @contextmanager
    def run(self, name: str, sample: int | None = None) -> Iterator[Run]:
        """One run, timed, over all docstrings or the first `sample` of them."""
        texts = dict(islice(self.job.docstrings.items(), sample))
        before = server_stats(self.job.base_url) if self.job.is_demo else {}
        run = Run(name, texts, len(self.job.docstrings))
        self.runs.append(run)
        try:
            yield run
        finally:
            run.end()
            if self.job.is_demo:
                after = server_stats(self.job.base_url)
                run.statuses = {status: after.get(status, 0) - before.get(status, 0) for status in after}

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.interrupted = kind is KeyboardInterrupt
        if kind is None or self.interrupted:
            self._show()
        return self.interrupted

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        return 1 if any(run.failed or run.missing for run in self.runs) else 0

    def _show(self) -> None:
        print("\nInterrupted: what was done until then.\n" if self.interrupted else "")
        print("\n".join(table(self.runs)))
        for run in self.runs:
            if run.failed:
                print(f"\n{run.name}: {len(run.failed)} failed")
                for name, reason in islice(run.failed.items(), SHOWN):
                    print(f"  {name}: {reason[:200]}")
                if len(run.failed) > SHOWN:
                    print(f"  and {len(run.failed) - SHOWN} more, in the file below")
        rated = self.runs[-1].rated if self.runs else {}
        if rated:
            mean = sum(rating["clarity"] for rating in rated.values()) / len(rated)
            print(f"\nclarity: {mean:.1f} of 10 in the mean; least clear: {', '.join(_lowest(rated))}")
        print("saved:", ", ".join(map(str, self._save())))

    def _save(self) -> list[Path]:
        folder = Path(self.job.out)
        folder.mkdir(parents=True, exist_ok=True)
        ratings = folder / "batch_llm.jsonl"
        with ratings.open("w", encoding="utf-8") as file:
            for run in self.runs:
                for name, rating in run.rated.items():
                    file.write(json.dumps({"run": run.name, "name": name, **rating}) + "\n")
                for name, reason in run.failed.items():
                    file.write(json.dumps({"run": run.name, "name": name, "error": reason}) + "\n")
        if self.interrupted:
            return [ratings]
        return [ratings, save_plot(self.runs, folder / "batch_llm.png")]


def read_rating(reply: str) -> dict[str, Any]:
    """The JSON object of a reply; some models put it between other words. Raises ValueError where there is none."""
    rating = json.loads(reply[reply.find("{") : reply.rfind("}") + 1])
    if not isinstance(rating, dict) or not isinstance(rating.get("clarity"), int | float):
        raise ValueError(f"not a rating: {reply[:100]!r}")
    return rating


def table(runs: list[Run]) -> list[str]:
    """The runs as lines of text. Times faster: against the first run, both for all prompts."""
    rows = [["", "asked", "rated", "failed", "seconds", "prompts/s", "times faster", "429", "500"]]
    notes = []
    for run in runs:
        done = len(run.finished_at)
        seconds = f"{run.projected_s:,.1f}"
        if run.is_sample and done:
            seconds += " *"
            notes = [f"* for {run.total:,} prompts, from {done} that took {run.seconds:.1f} s"]
        if run.missing:
            seconds = f"{run.seconds:,.1f}"
            notes.append(f"{run.name}: {run.missing:,} prompts not answered")
        faster = (
            f"{runs[0].projected_s / run.projected_s:,.0f} x"
            if done and not run.missing and runs[0].finished_at
            else ""
        )
        statuses = [str(run.statuses.get(status, 0)) if run.statuses else "" for status in ("429", "500")]
        rate = f"{done / run.seconds:,.1f}" if run.seconds else ""
        counts = [f"{len(it):,}" for it in (run.docstrings, run.rated, run.failed)]
        rows.append([run.name, *counts, seconds, rate, faster, *statuses])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in rows)
    ]
    return [line.rstrip() for line in lines] + notes


def _lowest(rated: dict[str, dict[str, Any]]) -> list[str]:
    lowest = sorted(rated, key=lambda name: (rated[name]["clarity"], name))[:3]
    return [f"{name} ({rated[name]['clarity']})" for name in lowest]
