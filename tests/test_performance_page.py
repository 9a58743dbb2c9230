"""docs/performance.md has the figures of README.md, and no others: they are measured once and written down once."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def part(path: str, heading: str) -> str:
    """What stands under a heading, to the next of its kind."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return text.partition(f"\n{heading}\n")[2].partition("\n## ")[0].strip()


def test_the_figures_are_those_of_the_front_page() -> None:
    figures = part("README.md", "## Speed")
    assert figures
    assert figures in part("docs/performance.md", "## The figures"), "copy the section of README.md"
