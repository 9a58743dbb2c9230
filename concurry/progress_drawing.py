"""How a `ProgressBar` is drawn: tqdm in a terminal and in a notebook, Ray's own bar inside Ray.

Guarantees: no monitor thread (tqdm starts one otherwise), no semaphore, the user's own tqdm bars and settings
untouched; ours and theirs share positions and a lock, so that they never write into each other. No colours where the
output is no terminal. Elapsed time by the monotonic clock.
Assumes: the caller serialises calls of one drawing (`ProgressBar` holds its lock).
Called by: `ProgressBar`, which imports this file with its first drawn bar: it imports tqdm (15 ms).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

_std: Any = import_module("tqdm.std")  # a value, and not an import: its published types lack half of what is used here

if TYPE_CHECKING:

    class _Tqdm:
        def __init__(self, **keywords: Any) -> None: ...
        @property
        def format_dict(self) -> dict[str, Any]: ...
        def __getattr__(self, name: str) -> Any: ...

else:
    _Tqdm = _std.tqdm


class Drawing(Protocol):
    """One bar on some screen."""

    n: Any
    unit: Any

    def update(self, n: float) -> Any: ...
    def refresh(self) -> Any: ...
    def set_postfix(self, ordered_dict: Any, refresh: bool, **values: Any) -> Any: ...
    def describe(self, desc: str) -> None: ...
    def set_total(self, total: float | None) -> None: ...
    def finish(self, state: str, color: str) -> None:
        """Draw it for the last time ("success", "failure", "stopped") and let go of the screen."""


def start(
    style: str,
    *,
    color: str | None,
    only_in_terminal: bool,
    default_ncols: int | None,
    default_smoothing: float | None,
    default_miniters: float | None,
    **tqdm: Any,
) -> Drawing | None:
    """A bar on the screen that `style` asks for; None where there is none to draw on."""
    tqdm.setdefault("smoothing", default_smoothing)
    tqdm.setdefault("miniters", default_miniters)
    if style == "ray" and (ray := _ray_bar()) is not None:
        return _RayDrawing(ray, tqdm)
    if style == "notebook" or (style == "auto" and in_notebook()):
        made = _notebook(tqdm, color, must=style == "notebook")
        if made is not None:
            return made
    stream = sys.stderr if tqdm.get("file") is None else tqdm["file"]
    if stream is None:  # a program without a console
        return None
    terminal = _is_terminal(stream)
    if only_in_terminal and not terminal:
        return None
    columns, rows = _size(stream) if terminal else (None, None)
    if "ncols" not in tqdm:
        # a line that is longer than the terminal is wide would wrap, and leave a copy of itself with each drawing
        tqdm["ncols"] = min(default_ncols, columns - 1) if default_ncols and columns else default_ncols
    if rows == 0:
        # a pseudo-terminal that nobody gave a size: tqdm would take every bar to be below its last line, and hide it
        tqdm.setdefault("nrows", 24)
        tqdm["ncols"] = 80 if tqdm["ncols"] is None else tqdm["ncols"]
    made = _Std(colored=terminal, colour=color if terminal else None, **tqdm)
    return None if made.disable else made  # TQDM_DISABLE is respected


def in_notebook() -> bool:
    """Whether this code runs in a Jupyter kernel (JupyterLab, VS Code, Colab). IPython is not imported for that."""
    shell: Callable[[], Any] | None = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return shell is not None and getattr(shell(), "kernel", None) is not None


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # no such method; closed
        return False


def _size(stream: Any) -> tuple[int | None, int | None]:
    """Columns and rows; 0 where the terminal does not know, None where it cannot be asked."""
    try:
        return os.get_terminal_size(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None, None


# -- tqdm -----------------------------------------------------------------------------------------------------------


class _SharedLock:
    """tqdm's lock if the user's bars have made or set one, else the thread lock that every later one contains.

    tqdm would make a multiprocessing lock: that is a semaphore, and fixes the start method for the whole program.
    """

    def __get__(self, obj: object, owner: type | None = None) -> Any:
        theirs: Any = _std.tqdm.__dict__
        return theirs.get("_lock") or _std.TqdmDefaultWriteLock.th_lock


class _Ours(_Tqdm):
    """What a terminal's bar and a notebook's have in common."""

    monitor_interval = 0  # no thread
    _lock: Any = _SharedLock()
    outcome = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls, *args, **kwargs)
        # Fixed for the bar's life: what is acquired and what is released must be one lock, also where the user's first
        # bar is made in between.
        made._lock = cls._lock
        return made

    def __init__(self, **tqdm: Any) -> None:
        super().__init__(**tqdm)
        if not self.disable:
            self._time = time.monotonic  # tqdm's own is the wall clock
            self.start_t = self.last_print_t = time.monotonic()

    @classmethod
    def get_lock(cls) -> Any:
        return cls._lock

    @property
    def format_dict(self) -> dict[str, Any]:
        shown = super().format_dict
        if self.outcome == "success" and shown["n"] and shown["n"] > (shown["total"] or 0):
            shown["total"] = shown["n"]  # it was not known, or too low; now it is: a full bar, in green
        return shown

    def describe(self, desc: str) -> None:
        self.desc = desc

    def set_total(self, total: float | None) -> None:
        self.total = None if total == float("inf") else total


class _Std(_Ours):
    def __init__(self, *, colored: bool, **tqdm: Any) -> None:
        self.colored = colored
        super().__init__(**tqdm)

    def __str__(self) -> str:
        text = str(super().__str__())
        if self.colour and "\x1b" not in text:  # without a total there is no bar that could have the colour
            return f"{_std.Bar(0, colour=self.colour).colour}{text}{_std.Bar.COLOUR_RESET}"
        return text

    def finish(self, state: str, color: str) -> None:
        self.outcome = state
        self.colour = color if self.colored else None
        self.close()


def _notebook(tqdm: dict[str, Any], color: str | None, must: bool) -> Drawing | None:
    try:
        import_module("IPython.display")
        import_module("ipywidgets")
    except ImportError as error:
        if must:
            raise ImportError(
                f"ProgressBar(style='notebook') needs ipywidgets and IPython ({error}): pip install ipywidgets"
            ) from error
        return None
    made = _notebook_class()(colour=color, **tqdm)
    return None if made.disable else made


class _InNotebook(_Ours):
    """Stands before tqdm's class for notebooks, which is imported with the first such bar."""

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "ncols": None}  # there it is pixels or "80%"; tqdm would cut the text by it

    def set_total(self, total: float | None) -> None:
        super().set_total(total)
        bar = self.container.children[1]
        bar.max, bar.bar_style = total or max(self.n, 1), "" if total else "info"
        bar.layout.width = None if total or self.ncols else "20px"

    def finish(self, state: str, color: str) -> None:
        self.outcome = state
        bar = self.container.children[1]
        if not self.total:
            bar.layout.width = None
        bar.max = self.format_dict["total"] or 1
        self.colour = color
        self.close()

    def close(self) -> None:
        if self.disable:
            return
        _std.tqdm.close(self)  # tqdm's own for notebooks takes every bar that is not full for a failure
        if self.leave or self.outcome == "failure":
            self.disp(check_delay=False)
            self.container.children[1].bar_style = {"success": "success", "failure": "danger"}.get(self.outcome, "")
        else:
            self.disp(close=True, check_delay=False)


@cache
def _notebook_class() -> Any:
    return type("Notebook", (_InNotebook, import_module("tqdm.notebook").tqdm_notebook), {})


# -- Ray ------------------------------------------------------------------------------------------------------------


def _ray_bar() -> Any:
    """Ray's bar class where Ray runs. It sends the state to the driver, which draws the bars of all workers."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    try:
        return import_module("ray.experimental.tqdm_ray").tqdm
    except ImportError:
        return None


class _RayDrawing:
    """Ray's bar knows a description, a total and a position; it disappears when it ends, and has no colours."""

    def __init__(self, bar: Any, tqdm: dict[str, Any]) -> None:
        self.n: Any = tqdm.get("initial", 0)
        self.unit: Any = tqdm["unit"]
        self._total = tqdm["total"]
        self._bar = bar(desc=tqdm["desc"], total=tqdm["total"], position=tqdm.get("position"))
        self._sent: Any = 0
        self._seconds: float = tqdm.get("mininterval", 0.1)
        self._next = time.monotonic()
        self.refresh()

    def update(self, n: float) -> None:
        self.n += n
        if time.monotonic() >= self._next:  # each one is a line that Ray carries to the driver
            self.refresh()

    def refresh(self) -> None:
        self._bar.update(self.n - self._sent)
        self._sent = self.n
        self._next = time.monotonic() + self._seconds

    def set_postfix(self, ordered_dict: Any, refresh: bool, **values: Any) -> None:
        """It has no place for that."""

    def describe(self, desc: str) -> None:
        self._bar.set_description(desc)

    def set_total(self, total: float | None) -> None:
        self._bar._total = total  # it has no other way; what it sends with its next state

    def finish(self, state: str, color: str) -> None:
        self.refresh()
        self._bar.close()
