"""Takes the pictures of the bars: `make screenshots`, or `python docs/screenshots.py [terminal] [notebook]`.

    bars-terminal.svg   the program in a pseudo-terminal; pyte is the terminal, and what its screen shows becomes SVG
    bars-notebook.png   the same in two cells in JupyterLab, looked at by a Chromium without a window

Guarantees: what is shown was drawn by a program that ran, in the moment of the picture: three bars have ended, and one
is at 62 %. Nothing is fetched from anywhere; JupyterLab listens on the loopback address, and ends with this script.
Assumes: the extra `screenshots`, and for the notebook a Chromium on PATH (Debian: apt-get install chromium), or the
name of one in CHROMIUM.
Called by: whoever has changed how bars look. The pictures are kept in git.
"""

import errno
import fcntl
import html
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
ROWS, COLUMNS = 5, 96

WORKER = """\
import threading
import time

from concurry import ProgressBar, Worker, gather

more = threading.Event()


class Rater(Worker):
    def rate(self, number: int) -> int:
        more.wait() if number >= 310 else time.sleep(0.01)
        return number % 10


rater = Rater.options(mode="thread", max_workers=8).init()
each = {"mininterval": 0, "unit": "text"}
"""
BARS = """\
gather([rater.rate(number) for number in range(300)], progress={"desc": "success", **each})

try:
    for number in ProgressBar(range(300), desc="failure", **each):
        time.sleep(0.001)
        if number == 117:
            raise ValueError(number)
except ValueError:
    pass

for number in ProgressBar(range(300), desc="stopped", **each):
    time.sleep(0.001)
    if number == 210:
        break

gather([rater.rate(number) for number in range(500)], progress={"desc": "running", **each})
"""
MOMENT = re.compile(r"running:\s+62%.* 310/500 ", re.DOTALL)


# -- a terminal -------------------------------------------------------------------------------------------------------


def terminal() -> None:
    """Run the program in a pseudo-terminal up to the moment, and write its screen."""
    import pyte

    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(b"$ python rate.py\r\n")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    program = subprocess.Popen(
        [sys.executable, "-c", WORKER + BARS],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": ""},
    )
    os.close(theirs)
    try:
        while not MOMENT.search("\n".join(screen.display)):
            stream.feed(_read(ours))
    finally:
        program.kill()
        program.wait()
        os.close(ours)
    (IMAGES / "bars-terminal.svg").write_text(svg_of(screen), encoding="utf-8")


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError as error:
        if error.errno != errno.EIO:  # how Linux says that the other side is closed
            raise
    sys.exit("the program ended before the moment of the picture")


WIDTH, HEIGHT, MARGIN = 8.4, 20, 14  # of a character, in a font of 14 pixels; of the frame
GROUND, TEXT = "#1e1e1e", "#d4d4d4"
FONT = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"
TITLE = "Bars in a terminal: green after success, red after failure, grey when stopped, blue while running"


def svg_of(screen: Any) -> str:
    """The screen of a terminal. Blocks are drawn as rectangles, so that no font leaves gaps between them."""
    wide, high = COLUMNS * WIDTH + 2 * MARGIN, ROWS * HEIGHT + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}">',
        f"<title>{TITLE}</title>",
        f'<rect width="100%" height="100%" rx="6" fill="{GROUND}"/>',
        f'<g font-family="{FONT}" font-size="14">',
    ]
    for row in range(ROWS):
        cells = [(column, screen.buffer[row][column]) for column in range(COLUMNS)]
        for (color, is_block), run in groupby(cells, lambda it: (_color(it[1].fg), it[1].data in BLOCKS)):
            drawn = list(run)
            text = "".join(cell.data for _, cell in drawn)
            if text.strip():
                parts.append((_blocks if is_block else _text)(text, drawn[0][0], row, color))
    return "\n".join([*parts, "</g>", "</svg>", ""])


BLOCKS = {chr(0x2590 - eighths): eighths for eighths in range(1, 9)}  # one to eight eighths of a cell, from the left


def _color(name: str) -> str:
    return TEXT if name == "default" else f"#{name}"


def _blocks(text: str, column: int, row: int, color: str) -> str:
    wide = sum(BLOCKS[block] for block in text) / 8 * WIDTH
    x, y = MARGIN + column * WIDTH, MARGIN + row * HEIGHT + 3
    return f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{HEIGHT - 6}" fill="{color}"/>'


def _text(text: str, column: int, row: int, color: str) -> str:
    bare = html.escape(text.strip()).replace(" ", "\u00a0")  # spaces would be drawn as one
    column += len(text) - len(text.lstrip())
    x, y = MARGIN + column * WIDTH, MARGIN + row * HEIGHT + 15
    return f'<text x="{x:.1f}" y="{y}" textLength="{len(text.strip()) * WIDTH:.1f}" fill="{color}">{bare}</text>'


# -- a notebook -------------------------------------------------------------------------------------------------------


def notebook() -> None:
    """Run the program in JupyterLab up to the moment, and take a picture of the cell and what is below it."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on PATH (Debian: apt-get install chromium); CHROMIUM=/path/to/it names one")
    with jupyterlab() as address, sync_playwright() as playwright:
        args = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to be root's with one
        browser = playwright.chromium.launch(executable_path=chromium, args=args)
        page = browser.new_page(viewport={"width": 900, "height": 1100}, device_scale_factor=1)
        page.goto(address)
        cells = page.locator(".jp-Notebook .jp-CodeCell")
        cells.first.locator(".cm-content").click()
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(state="attached")
        page.keyboard.press("Shift+Enter")
        page.keyboard.press("Control+Enter")
        cells.last.filter(has_text="310/500").wait_for()
        cells.last.screenshot(path=IMAGES / "bars-notebook.png")
        browser.close()


@contextmanager
def jupyterlab() -> Iterator[str]:
    """JupyterLab with that notebook, in a folder of its own. Gives the notebook's address."""
    with tempfile.TemporaryDirectory() as folder:
        empty: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
        cells = [{**empty, "id": f"cell-{at}", "source": part.strip()} for at, part in enumerate((WORKER, BARS))]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        Path(folder, "bars.ipynb").write_text(json.dumps(content))
        own = dict.fromkeys(("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR"), folder)
        env = {**os.environ, **own, "JUPYTERLAB_WORKSPACES_DIR": folder, "IPYTHONDIR": folder, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root"]
        command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
        with subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            try:
                for line in server.stderr:
                    found = re.search(r"http://127\.0\.0\.1:\d+/lab\?token=\w+", line)
                    if found:
                        break
                else:
                    sys.exit("JupyterLab did not start; its words are above")
                yield found[0].replace("/lab?", "/doc/tree/bars.ipynb?")
            finally:
                server.terminate()
                server.communicate()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    for name, take in (("terminal", terminal), ("notebook", notebook)):
        if name in (sys.argv[1:] or [name]):
            take()


if __name__ == "__main__":
    main()
