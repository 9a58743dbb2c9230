"""The plot of the main example: prompts done over time, and how long all of them take.

Assumes: matplotlib; it is imported when a plot is drawn, so that Ctrl-C before that need not wait for it.
Called by: `support/report.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Timed(Protocol):
    """What is drawn of a run."""

    name: str
    total: int
    finished_at: list[float]

    @property
    def is_sample(self) -> bool: ...
    @property
    def projected_s(self) -> float: ...


COLOURS = ("#9e9e9e", "#0288d1", "#e65100")


def save_plot(runs: Sequence[Timed], path: Path) -> Path:
    """Draw `runs`, of which the first is what the others are compared with, and save them as a PNG at `path`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")  # no pyplot: it would look for a display
    FigureCanvasAgg(figure)
    over_time, bars = figure.subplots(1, 2, width_ratios=[3, 2])
    for run, colour in zip(runs, COLOURS, strict=False):
        times = sorted(run.finished_at)
        over_time.step([0.0, *times], range(len(times) + 1), where="post", color=colour, label=run.name)
        if run.is_sample and times:
            over_time.plot([times[-1], run.projected_s], [len(times), run.total], "--", color=colour)
    over_time.set_xlim(0, 1.5 * max((max(run.finished_at, default=0.0) for run in runs), default=0.0) or 1)
    over_time.set_ylim(bottom=0)
    over_time.set_xlabel("seconds")
    over_time.set_ylabel("prompts done")
    over_time.legend(frameon=False)

    names, seconds = [run.name for run in runs], [run.projected_s for run in runs]
    drawn = bars.barh(names, seconds, color=COLOURS[: len(runs)])
    labels = [f"{it:,.1f} s" + (f", {seconds[0] / it:.0f} x" if n else "") for n, it in enumerate(seconds)]
    bars.bar_label(drawn, labels, padding=4)
    bars.set_xscale("log")
    bars.set_xlim(min(seconds) / 2, max(seconds) * 6)
    bars.set_xlabel(f"seconds for {runs[0].total:,} prompts (log)")
    bars.invert_yaxis()
    for axes in (over_time, bars):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    return path
