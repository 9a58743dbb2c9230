"""A progress bar in the terminal, a notebook or Ray: blue while it runs; green, red or grey at the end.

Guarantees: any thread may update a bar. A bar ends once (`success`, `failure`, `stop`); whatever is done to it later
changes nothing and raises nothing, so that late updates of other threads are harmless. A disabled bar draws nothing,
and does not even import tqdm. No thread is started, and no semaphore made.
Assumes: tqdm does the drawing, by way of `concurry.progress_drawing`, which the first bar that is drawn imports.
Called by: users; `wait`, `gather` and `map` for `progress=`. Also reachable as `concurry.utils.progress`.

    for item in ProgressBar(items, desc="rate"):      # green after the last, red where the loop raised, grey at `break`
        ...
    with ProgressBar(total=len(items)) as bar:        # green, or red where the block raised
        bar.update()
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NoReturn, TypeVar, cast, overload

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TypedDict, Unpack

    from concurry.progress_drawing import Drawing

    class BarArgs(TypedDict, total=False):
        """The keywords of a ProgressBar, tqdm's included, as editors and type checkers see them."""

        unit: str
        color: str | None
        style: Literal["auto", "notebook", "std", "ray"] | str
        ncols: int | str | None
        smoothing: float | None
        miniters: float | None
        disable: bool | None
        leave: bool | None
        file: Any
        mininterval: float
        maxinterval: float
        ascii: bool | str | None
        unit_scale: bool | float
        dynamic_ncols: bool
        bar_format: str | None
        initial: float
        position: int | None
        postfix: Mapping[str, object] | str | None
        unit_divisor: float
        write_bytes: bool
        lock_args: tuple[Any, ...] | None
        nrows: int | None
        colour: str | None
        delay: float
        display: bool


__all__ = ["ProgressBar"]

T = TypeVar("T")
UNSAID: Final[Any] = object()  # the configuration decides

RUNNING, SUCCESS, FAILURE, STOPPED = "running", "success", "failure", "stopped"
BLUE: Final = "#0288d1"
_AT_END: Final = {SUCCESS: "#43a047", FAILURE: "#e53935", STOPPED: "#757575"}
_STYLES: Final = ("auto", "notebook", "std", "ray")
_TERMINAL: Final = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")  # as the terminal has them
_NAMED: Final = {"grey": "#757575", "gray": "#757575", "orange": "#fb8c00", "purple": "#8e24aa", "pink": "#d81b60"}
_OWN: Final = ("iterable", "desc", "total", "unit", "color", "style", "ncols", "smoothing", "miniters", "disable")
_TQDM: Final = (  # the keywords of tqdm's that are handed on as they are; a test compares them with tqdm's signature
    *("leave", "file", "mininterval", "maxinterval", "ascii", "unit_scale", "dynamic_ncols", "bar_format", "initial"),
    *("position", "postfix", "unit_divisor", "write_bytes", "lock_args", "nrows", "colour", "delay", "display"),
)


class ProgressBar(Generic[T]):
    """A bar over an iterable, or one that is moved by `update`.

    Args:
        iterable: what to go through, or the total as a number, or None.
        desc: the text before the bar.
        total: how many there will be; the iterable's length if None. It may differ from the length.
        unit: what is counted.
        color: while it runs: "#rrggbb", "#rgb" or a name ("MAGENTA"); None for the terminal's own. Also `colour`.
        style: "std" is a terminal; "notebook" is a widget (ipywidgets); "ray" reports from Ray workers to the driver,
            and is "std" where Ray does not run; "auto" is "notebook" where a Jupyter kernel runs, else "std".
        ncols: columns in all; 0 for no bar, None for the terminal's width. Unless said here, it is the configured
            width, or the terminal's where that is less. In a notebook pixels, or "100%".
        smoothing: 0 (mean speed) to 1 (the last speed), for the time left.
        miniters: counts between two looks at the clock.
        disable: True: no drawing at all. None: none where the output is no terminal.
        **tqdm: the other keywords of tqdm's, as they are: `position`, `leave`, `file`, `mininterval`, `postfix`, ...

    Raises:
        TypeError: an unknown keyword; `iterable` is neither an iterable nor a number.
        ValueError: an unknown colour or style.
        ImportError: style="notebook" without ipywidgets.
    """

    @overload
    def __init__(
        self,
        iterable: Iterable[T],
        desc: str | None = None,
        total: float | None = None,
        **keywords: Unpack[BarArgs],
    ) -> None: ...
    @overload
    def __init__(
        self: ProgressBar[Any],
        iterable: float | None = None,
        desc: str | None = None,
        total: float | None = None,
        **keywords: Unpack[BarArgs],
    ) -> None: ...
    def __init__(
        self,
        iterable: Iterable[T] | float | None = None,
        desc: str | None = None,
        total: float | None = None,
        *,
        unit: str = "row",
        color: str | None = BLUE,
        style: str = "auto",
        ncols: int | str | None = UNSAID,
        smoothing: float | None = UNSAID,
        miniters: float | None = UNSAID,
        disable: bool | None = False,
        **tqdm: Any,
    ) -> None:
        for name in tqdm:
            if name not in _TQDM:
                raise _unknown(name)
        self._iterable, amount = _items_or_amount(iterable)
        self._total = amount if total is None else _number(total)
        self._color = _color(tqdm.pop("colour", color))
        self._style = style = _style(style)
        self._desc, self._unit, self._n = desc or "", unit, tqdm.get("initial", 0)
        self._state = RUNNING
        self._drawing: Drawing | None = None
        # Protects the state and the counters of the drawing, whose `n += 1` is not atomic. Taken before tqdm's own
        # lock, never after it. Reentrant: the garbage collector may end a loop's generator while this thread holds it.
        self._lock = threading.RLock()
        if self._total is None and self._iterable is not None:
            self._total = _length(self._iterable)
        if disable is None or not disable:
            said = {"ncols": ncols, "smoothing": smoothing, "miniters": miniters}
            tqdm.update({name: value for name, value in said.items() if value is not UNSAID})
            self._drawing = self._start(disable, tqdm)

    def _start(self, disable: bool | None, tqdm: dict[str, Any]) -> Drawing | None:
        from concurry import config
        from concurry.progress_drawing import start

        for name in ("ncols", "smoothing", "miniters"):
            tqdm.setdefault(f"default_{name}", config.setting(f"progress_bar_{name}"))
        return start(
            self._style,
            desc=self._desc,
            total=self._total,
            unit=self._unit,
            color=self._color,
            only_in_terminal=disable is None,
            **tqdm,
        )

    # -- what it shows --------------------------------------------------------------------------------------------

    @property
    def n(self) -> float:
        """How many were counted; a disabled bar does not count."""
        return self._n if self._drawing is None else cast(float, self._drawing.n)

    @property
    def total(self) -> float | None:
        """How many there will be, if that is known."""
        return self._total

    @property
    def desc(self) -> str:
        """The text before the bar."""
        return self._desc

    @property
    def unit(self) -> str:
        """What is counted."""
        return self._unit

    @property
    def color(self) -> str | None:
        """The colour it has now."""
        return self._color

    @property
    def state(self) -> str:
        """ "running", "success", "failure" or "stopped"."""
        return self._state

    @property
    def disable(self) -> bool:
        """Whether nothing is drawn at all."""
        return self._drawing is None

    def update(self, n: float = 1) -> None:
        """Count `n` more. Safe from any thread."""
        if self._drawing is None:
            return
        with self._lock:
            if self._state is RUNNING:
                self._drawing.update(n)

    def set_n(self, n: float) -> None:
        """Set the count to `n`, and draw."""
        self._change(lambda it: it.update(n - it.n))

    def set_total(self, total: float | None) -> None:
        """Set the `total`, how many there will be (None: not known), and draw."""
        total = None if total is None else _number(total)
        if self._state is RUNNING:
            self._total = total
            self._change(lambda it: it.set_total(total))

    def set_description(self, desc: str | None = None, refresh: bool = True) -> None:
        """Set the text before the bar to `desc`, and draw unless `refresh` is False."""
        if self._state is RUNNING:
            self._desc = desc or ""
            self._change(lambda it: it.describe(self._desc), refresh)

    def set_unit(self, unit: str) -> None:
        """Set the `unit`, which is what is counted, and draw."""
        if self._state is RUNNING:
            self._unit = unit
            self._change(lambda it: setattr(it, "unit", unit))

    def set_postfix(self, ordered_dict: Any = None, refresh: bool = True, **values: Any) -> None:
        """Set the values shown after the speed (`ordered_dict`, `values` by name); draw unless `refresh` is False."""
        self._change(lambda it: it.set_postfix(ordered_dict, refresh=False, **values), refresh)

    def refresh(self) -> None:
        """Draw now."""
        self._change(lambda it: None)

    def _change(self, change: Callable[[Drawing], object], refresh: bool = True) -> None:
        with self._lock:
            if self._drawing is not None and self._state is RUNNING:
                change(self._drawing)
                if refresh:
                    self._drawing.refresh()

    # -- how it ends ----------------------------------------------------------------------------------------------

    def success(self, desc: str | None = None) -> None:
        """End it in green; `desc` replaces the text before the bar."""
        self._end(SUCCESS, desc)

    def failure(self, desc: str | None = None) -> None:
        """End it in red; `desc` replaces the text before the bar."""
        self._end(FAILURE, desc)

    def stop(self, desc: str | None = None) -> None:
        """End it in grey; `desc` replaces the text before the bar."""
        self._end(STOPPED, desc)

    def close(self) -> None:
        """End it: in green where the whole total was counted, else in grey. Where it has ended, nothing happens."""
        self._end(SUCCESS if self._total is not None and self.n >= self._total else STOPPED)

    def _end(self, state: str, desc: str | None = None) -> None:
        with self._lock:
            if self._state is not RUNNING:
                return
            self._state, self._color = state, _AT_END[state]
            self._desc = self._desc if desc is None else desc
            if self._drawing is not None:
                self._drawing.describe(self._desc)
                self._drawing.finish(state, self._color)

    def __iter__(self) -> Iterator[T]:
        if self._iterable is None:
            raise TypeError("this ProgressBar has nothing to go through: give it an iterable, or move it by update()")
        return iter(self._iterable) if self._drawing is None else self._walk(self._iterable)

    def _walk(self, iterable: Iterable[T]) -> Iterator[T]:
        try:
            for item in iterable:
                yield item
                self.update()
        except GeneratorExit:  # the loop was left before its end
            self._end(FAILURE if _left_by_error() else STOPPED)
            raise
        except BaseException:  # the iterable's own
            self._end(FAILURE)
            raise
        self._end(SUCCESS)

    def __enter__(self) -> ProgressBar[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._end(SUCCESS)
        else:
            self._end(STOPPED if issubclass(kind, GeneratorExit) else FAILURE)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a ProgressBar cannot be pickled or copied: it draws in the process that made it. Count there what the "
            "workers return (gather(futures, progress=True), or update() in a future's callback), or make the bar in "
            "the worker"
        )

    def __repr__(self) -> str:
        desc = f"{self._desc!r}, " if self._desc else ""
        return f"<ProgressBar {desc}{self.n}/{'?' if self._total is None else self._total} {self._unit}, {self._state}>"


def _left_by_error() -> bool:
    """Whether the loop two frames up, which dropped its iterator, is left by an exception, not by `break` or `return`.

    A generator that is closed is not told why: Python hides the exception on its way from what it runs meanwhile. But
    it has written a traceback entry for that frame, at the instruction where the frame stands. To find it costs a look
    through all objects, once, and only in a loop that was left early by something else than `break`.
    """
    import gc
    import sys
    from opcode import opname
    from types import TracebackType

    try:
        frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]  # inspect would take 10 ms to import
    except (AttributeError, ValueError):  # not CPython; no Python frame: dropped at the interpreter's exit
        return False
    at = opname[frame.f_code.co_code[frame.f_lasti]]
    if at in ("POP_TOP", "POP_ITER"):  # `break`, `return`
        return False
    if at == "RERAISE":  # the exception passed a `with` or `finally` inside the loop
        return True
    return any(isinstance(it, TracebackType) and it.tb_lasti == frame.f_lasti for it in gc.get_referrers(frame))


# -- what may be said -----------------------------------------------------------------------------------------------


def _length(items: Any) -> float | None:
    try:
        return len(items)
    except TypeError:  # a generator
        return None


def _items_or_amount(given: Any) -> tuple[Any, float | None]:
    if given is None:
        return None, None
    if hasattr(given, "__iter__"):  # first: arrays would pass for numbers
        return given, None
    if _is_number(given):
        return None, given
    if hasattr(given, "__getitem__"):
        return given, None
    raise TypeError(f"ProgressBar takes an iterable or a number, and got {type(given).__name__}")


def _is_number(given: Any) -> bool:
    return hasattr(given, "__index__") or hasattr(given, "__float__")  # numbers of other libraries too


def _number(total: Any) -> Any:
    if not _is_number(total):
        raise TypeError(f"ProgressBar: total={total!r} is refused: it must be a number, or None where it is not known")
    return total


def _color(color: Any) -> str | None:
    if color is None:
        return None
    text = color.strip().lower() if isinstance(color, str) else ""
    digits = text[1:]
    if text.startswith("#") and len(digits) in (3, 6) and all(it in "0123456789abcdef" for it in digits):
        return text if len(digits) == 6 else "#" + "".join(it * 2 for it in digits)
    if text in _TERMINAL:
        return text
    if text in _NAMED:
        return _NAMED[text]
    raise ValueError(f"ProgressBar: color={color!r} is refused: {_hint(text, (*_TERMINAL, *_NAMED), 'or #rrggbb')}")


def _style(style: Any) -> str:
    text = style.strip().lower() if isinstance(style, str) else ""
    if text not in _STYLES:
        raise ValueError(f"ProgressBar: style={style!r} is refused: {_hint(text, _STYLES)}")
    return text


def _unknown(name: str) -> TypeError:
    return TypeError(f"ProgressBar: unknown keyword {name!r}; {_hint(name, (*_OWN, *_TQDM))}")


def _hint(word: str, words: Iterable[str], more: str = "") -> str:
    from concurry.option import nearest

    words = list(words)
    near = nearest(word, words)
    return f"did you mean {near!r}?" if near else f"there are {', '.join(words)}{more and ' ' + more}"
