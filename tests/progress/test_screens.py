"""Where a bar is drawn: a real pseudo-terminal, a notebook, Ray's driver."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import types
from collections.abc import Iterator
from typing import Any

import pytest

from concurry.progress import ProgressBar

BLUE, GREEN, RED, GREY = (f"\x1b[38;2;{rgb}m" for rgb in ("2;136;209", "67;160;71", "229;57;53", "117;117;117"))


def in_terminal(code: str, rows: int, columns: int) -> str:
    """What a Python script writes to its standard error, that being a terminal of this size."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        script = subprocess.Popen([sys.executable, "-W", "error", "-c", code], stderr=theirs, stdin=subprocess.DEVNULL)
    finally:
        os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError as error:
        if error.errno != errno.EIO:  # how Linux says that the other side is closed
            raise
    finally:
        os.close(ours)
        assert script.wait() == 0, b"".join(parts)
    return b"".join(parts).decode()


ENDS = """if True:
    from concurry.progress import ProgressBar
    for item in ProgressBar(range(4), desc="good"):
        pass
    for item in ProgressBar(range(4), desc="left"):
        if item == 2:
            break
    try:
        for item in ProgressBar(range(4), desc="bad"):
            int("x")
    except ValueError:
        pass
    with ProgressBar(total=3, desc="hand", color="MAGENTA") as bar:
        bar.update(3)
        bar.success("all done")
"""


@pytest.mark.parametrize(("rows", "columns", "width"), [(24, 200, 100), (24, 60, 59), (0, 0, 100)])
def test_colours_and_states_in_a_terminal(rows: int, columns: int, width: int) -> None:
    lines = in_terminal(ENDS, rows, columns).split("\r\n")
    drawn = [[it for it in line.split("\r") if it] for line in lines if line.strip()]
    assert [(line[0].partition(":")[0], line[-1].partition(":")[0]) for line in drawn] == [
        ("good", "good"),
        ("left", "left"),
        ("bad", "bad"),
        ("hand", "all done"),
    ]
    for line, begin, end in zip(drawn, [BLUE, BLUE, BLUE, "\x1b[35m"], [GREEN, GREY, RED, GREEN], strict=True):
        assert begin in line[0]
        assert end not in line[0]
        assert end in line[-1]
        assert line[-1].endswith("\x1b[0m")  # the terminal has its own colour again
    assert ["4/4" in drawn[0][-1], "2/4" in drawn[1][-1], "0/4" in drawn[2][-1], "3/3" in drawn[3][-1]] == [True] * 4

    from tqdm.utils import disp_len

    assert {disp_len(it) for line in drawn for it in line} == {width}  # none is wider, so that none wraps


def test_a_bar_that_leaves_clears_its_line_in_a_terminal() -> None:
    code = "from concurry.progress import ProgressBar\nfor _ in ProgressBar(range(2), leave=False): pass"
    assert in_terminal(code, 24, 80).rstrip("\r").rpartition("\r")[2].strip() == ""


# -- notebooks -----------------------------------------------------------------------------------------------------


class Shell:
    def __init__(self, kernel: object) -> None:
        self.kernel = kernel


class Widget:
    """What the notebook shows for one bar."""

    def __init__(self, box: Any) -> None:
        self.box = box
        self.left, self.bar, self.right = box.children

    @property
    def state(self) -> tuple[str, str]:
        return self.bar.bar_style, self.bar.style.bar_color

    @property
    def text(self) -> str:
        return str(self.left.value).replace("\u2007", " ")  # newer versions of tqdm keep spaces apart by that

    @property
    def full(self) -> float:
        return float(self.bar.value / self.bar.max)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A Jupyter kernel, as far as a bar can see; what it displays."""
    IPython = pytest.importorskip("IPython")
    pytest.importorskip("ipywidgets")
    import IPython.display as display
    import tqdm.notebook

    widgets: list[Any] = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: Shell(object()))
    monkeypatch.setattr(display, "display", widgets.append)
    monkeypatch.setattr(tqdm.notebook, "display", widgets.append)
    yield widgets
    for widget in widgets:
        widget.close()


def test_a_kernel_gets_a_widget(shown: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(range(4), desc="rate <it>")
    widget = Widget(shown[0])
    assert widget.state == ("", "#0288d1")
    assert widget.text.startswith("rate &lt;it&gt;:")
    for item in bar:
        if item == 2:
            bar.refresh()
            assert (widget.full, widget.state) == (0.5, ("", "#0288d1"))
    assert (widget.full, widget.state) == (1.0, ("success", "#43a047"))
    assert "4/4" in widget.right.value
    assert capsys.readouterr() == ("", "")


def test_the_ends_in_a_notebook(shown: list[Any]) -> None:
    for _ in ProgressBar(range(4)):
        break
    assert Widget(shown[-1]).state == ("", "#757575")
    with pytest.raises(ValueError, match="in here"), ProgressBar(range(4)):
        raise ValueError("in here")
    assert Widget(shown[-1]).state == ("danger", "#e53935")
    with ProgressBar(total=4) as bar:
        bar.update(2)
        bar.success("all that was wanted")
    assert Widget(shown[-1]).state == ("success", "#43a047")
    assert Widget(shown[-1]).text.startswith("all that")


def test_unknown_lengths_in_a_notebook(shown: list[Any]) -> None:
    bar = ProgressBar(iter(range(3)))
    widget = Widget(shown[0])
    assert (widget.bar.bar_style, widget.bar.layout.width) == ("info", "20px")
    list(bar)
    assert (widget.full, widget.state, widget.bar.layout.width) == (1.0, ("success", "#43a047"), None)
    empty: list[int] = []
    list(ProgressBar(empty))
    assert Widget(shown[-1]).bar.bar_style == "success"


def test_totals_change_in_a_notebook(shown: list[Any]) -> None:
    with ProgressBar() as bar:
        widget = Widget(shown[0])
        bar.update(3)
        bar.set_total(6)
        assert (widget.full, widget.bar.bar_style, widget.bar.layout.width) == (0.5, "", None)
        bar.set_total(None)
        assert (widget.bar.bar_style, widget.bar.layout.width) == ("info", "20px")
        bar.set_total(2)  # too low
    assert (widget.full, widget.state) == (1.0, ("success", "#43a047"))
    assert "3/3" in widget.right.value


def test_leaving_and_disabled_bars_in_a_notebook(shown: list[Any]) -> None:
    with ProgressBar(total=1, leave=False) as bar:
        bar.update()
    assert shown[0].layout.visibility == "hidden"
    with ProgressBar(total=1, disable=None):
        pass
    assert len(shown) == 2  # a notebook is a place to draw in
    with ProgressBar(total=1, disable=True):
        pass
    assert len(shown) == 2


def test_a_said_width_in_a_notebook(shown: list[Any]) -> None:
    with ProgressBar(total=1, ncols="80%"), ProgressBar(total=1):
        assert [box.layout.width for box in shown] == ["80%", None]


def test_std_is_drawn_as_text_in_a_notebook_too(shown: list[Any], screen: Any) -> None:
    with ProgressBar(total=1, style="STD", file=screen):
        pass
    assert shown == []
    assert screen.last


def test_ipython_in_a_terminal_is_no_notebook(shown: list[Any], screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython

    for shell in (None, Shell(None)):
        monkeypatch.setattr(IPython, "get_ipython", lambda shell=shell: shell)
        with ProgressBar(total=1, file=screen):
            pass
    assert shown == []
    with ProgressBar(total=1, style="notebook"):
        pass
    assert len(shown) == 1


def test_a_notebook_without_ipywidgets(shown: list[Any], screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with ProgressBar(total=1, file=screen):
        pass
    assert screen.last
    with pytest.raises(ImportError, match="pip install ipywidgets"):
        ProgressBar(total=1, style="notebook")


# -- Ray -----------------------------------------------------------------------------------------------------------


class RayBar:
    """The part of `ray.experimental.tqdm_ray.tqdm` that is there in all its versions."""

    made: list[RayBar]

    def __init__(self, iterable: Any = None, desc: Any = None, total: Any = None, position: Any = None) -> None:
        self.desc, self._total, self.position, self.x, self.closed = desc, total, position, 0, False
        RayBar.made.append(self)

    def set_description(self, desc: str) -> None:
        self.desc = desc

    def update(self, n: int = 1) -> None:
        assert not self.closed
        self.x += n

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that looks like a Ray that runs; Ray itself is no dependency of the tests."""
    RayBar.made = []
    ray, experimental, module = (
        types.ModuleType(it) for it in ("ray", "ray.experimental", "ray.experimental.tqdm_ray")
    )
    ray.is_initialized = lambda: True  # type: ignore[attr-defined]
    module.tqdm = RayBar  # type: ignore[attr-defined]
    for it in (ray, experimental, module):
        monkeypatch.setitem(sys.modules, it.__name__, it)
    return ray


def test_ray_shows_the_bar_on_the_driver(ray: Any, screen: Any) -> None:
    with ProgressBar(total=10, desc="a", style="ray", position=2, file=screen, leave=False, postfix={"a": 1}) as bar:
        (shown,) = RayBar.made
        assert (shown.desc, shown._total, shown.position) == ("a", 10, 2)
        for _ in range(4):
            bar.update()
        assert bar.n == 4
        bar.refresh()
        assert shown.x == 4
        bar.set_n(3)
        bar.set_total(20)
        bar.set_description("b")
        bar.set_unit("c")
        bar.set_postfix(d=1)
        assert (shown.x, shown._total, shown.desc) == (3, 20, "b")
        bar.update(5)
        bar.success("c")
    assert (shown.x, shown.desc, shown.closed) == (8, "c", True)
    assert screen.getvalue() == ""


def test_ray_that_does_not_run_is_std(ray: Any, screen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ray.is_initialized = lambda: False
    list(ProgressBar([1], style="ray", file=screen))
    assert "1/1" in screen.last
    monkeypatch.setitem(sys.modules, "ray", None)
    list(ProgressBar([1], style="ray", file=screen))
    assert RayBar.made == []


def test_auto_is_not_ray(ray: Any, screen: Any) -> None:
    list(ProgressBar([1], file=screen))
    assert RayBar.made == []
