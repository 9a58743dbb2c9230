"""How long a step took: `with Timer("step") as t: ...`, then `t.time_taken_sec`.

Guarantees: durations come from the performance counter, whatever happens to the wall clock; that one serves for display
only. A timer goes from not started to running to stopped, once; from outside nothing else can be changed. A finished
timer can be pickled, and keeps its times.
Assumes: one thread starts and stops it; any thread may read.
Called by: users; nothing of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from concurry.errors import ConcurryError

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from types import TracebackType

__all__ = ["Timer", "TimerError"]

_UNITS = (("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000))
_READS = {
    **dict.fromkeys(("str", "string"), "str"),
    **dict.fromkeys(("s", "sec", "second", "seconds"), "sec"),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), "ns"),
    **dict.fromkeys(("td", "timedelta"), "td"),
}


class TimerError(ConcurryError, RuntimeError):
    """A timer was started twice, stopped twice, or asked before it was started."""


class Timer:
    """Measures one step, and says so.

    Args:
        task: what is measured, for the messages.
        logger: called with each message, one line of text.
        silent: no messages.
        single_line: one message, at the end, instead of one at each end.
        i: the number of the step, from 0; shown as `[i]`.
        max_i: how many steps there are; shown as `[i+1/max_i]`.
    """

    __slots__ = (
        "_end_ns",
        "_end_wall",
        "_start_ns",
        "_start_wall",
        "i",
        "logger",
        "max_i",
        "silent",
        "single_line",
        "task",
    )
    task: str
    logger: Callable[[str], object]
    silent: bool
    single_line: bool
    i: int | None
    max_i: int | None
    _start_ns: int | None  # of the performance counter
    _end_ns: int | None
    _start_wall: float | None  # seconds since 1970
    _end_wall: float | None

    def __init__(
        self,
        task: str = "",
        logger: Callable[[str], object] = print,
        silent: bool = False,
        single_line: bool = False,
        i: int | None = None,
        max_i: int | None = None,
    ) -> None:
        self._put(task=task, logger=logger, silent=silent, single_line=single_line, i=i, max_i=max_i)
        self._put(_start_ns=None, _end_ns=None, _start_wall=None, _end_wall=None)

    def start(self) -> None:
        """Begin. Raises TimerError where it has begun already."""
        if self.has_started:
            raise TimerError(f"{self._who()} has already been started; a timer measures once, make a new one")
        self._put(_start_wall=time.time(), _start_ns=time.perf_counter_ns())
        if not self.single_line:
            self._log(f"Started at {self.start_time_str}.")

    def stop(self) -> None:
        """End. Raises TimerError where it has not begun, or has ended already."""
        self._stop("completed in")

    def alert(self, text: str = "") -> None:
        """Log how long it has been running, with `text`. Raises TimerError where it is not running."""
        self._must_run()
        self._log(f"{text + ': ' if text else ''}Timer has been running for {self.time_taken_human}.")

    def __enter__(self) -> Timer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._end_ns is None:  # the block may have stopped it
            self._stop("completed in" if kind is None else f"failed with {kind.__name__} after")

    def _stop(self, how: str) -> None:
        self._must_run()
        self._put(_end_ns=time.perf_counter_ns(), _end_wall=time.time())
        begin = f"Started at {self.start_time_str}, " if self.single_line else ""
        self._log(f"{begin}{how} {self.time_taken_human}.")

    def _must_run(self) -> None:
        if not self.has_started:
            raise TimerError(f"{self._who()} has not been started; call start(), or use it in a `with`")
        if self.has_stopped:
            raise TimerError(f"{self._who()} has already been stopped; a timer measures once, make a new one")

    # -- what it knows --------------------------------------------------------------------------------------------

    @property
    def has_started(self) -> bool:
        """Whether it has begun; also when it has ended."""
        return self._start_ns is not None

    @property
    def has_stopped(self) -> bool:
        """Whether it has ended."""
        return self._end_ns is not None

    @property
    def should_log(self) -> bool:
        """Whether there are messages."""
        return not self.silent

    @property
    def time_taken_ns(self) -> int:
        """Nanoseconds, up to now while it runs. Raises TimerError before it has begun, as all of these do."""
        if self._start_ns is None:
            raise TimerError(f"{self._who()} has not been started; call start(), or use it in a `with`")
        return (time.perf_counter_ns() if self._end_ns is None else self._end_ns) - self._start_ns

    @property
    def time_taken_us(self) -> float:
        """Microseconds."""
        return self.time_taken_ns / 1e3

    @property
    def time_taken_ms(self) -> float:
        """Milliseconds."""
        return self.time_taken_ns / 1e6

    @property
    def time_taken_sec(self) -> float:
        """Seconds."""
        return self.time_taken_ns / 1e9

    @property
    def time_taken_td(self) -> timedelta:
        """As a timedelta."""
        from datetime import timedelta

        return timedelta(microseconds=self.time_taken_us)

    @property
    def time_taken_str(self) -> str:
        """As text, in seconds: "75.250 s"."""
        return f"{self.time_taken_sec:.3f} s"

    @property
    def time_taken_human(self) -> str:
        """As text, in the units that suit: "1 h 2 min 3 s", "1.25 s", "350 us"."""
        return _human(self.time_taken_ns)

    def time_taken(self, format: Any = "str") -> Any:
        """The time in a format: str, string · s, sec, seconds · ms, milliseconds · us, microseconds · ns, nanoseconds ·
        td, timedelta. Raises NotImplementedError for any other."""
        read = _READS.get(format.strip().lower()) if isinstance(format, str) else None
        if read is None:
            raise NotImplementedError(f"time_taken has no format {format!r}; it has {', '.join(_READS)}")
        return getattr(self, f"time_taken_{read}")

    @property
    def start_datetime(self) -> datetime | None:
        """When it began, by the wall clock, in the local zone; None before."""
        return _datetime(self._start_wall)

    @property
    def end_datetime(self) -> datetime | None:
        """When it ended, by the wall clock, in the local zone; None before."""
        return _datetime(self._end_wall)

    @property
    def start_time_str(self) -> str | None:
        """When it began: "2026-03-01 13:05:09"; None before."""
        return _wall_text(self._start_wall)

    @property
    def end_time_str(self) -> str | None:
        """When it ended: "2026-03-01 13:05:09"; None before."""
        return _wall_text(self._end_wall)

    # -- the rest -------------------------------------------------------------------------------------------------

    def _log(self, text: str) -> None:
        if self.should_log:
            number = "" if self.i is None else f"[{self.i}] " if self.max_i is None else f"[{self.i + 1}/{self.max_i}] "
            self.logger(f"{number}{self.task + ': ' if self.task else ''}{text}")

    def _who(self) -> str:
        return f"Timer({self.task!r})" if self.task else "this Timer"

    def _put(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self._who()} is immutable: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self._who()} is immutable: {name} cannot be deleted")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), {name: getattr(self, name) for name in Timer.__slots__})

    def __repr__(self) -> str:
        state = "not started" if self._start_ns is None else self.time_taken_human
        return f"<Timer {self.task!r}, {state}{', running' if self.has_started and not self.has_stopped else ''}>"


def _rebuilt(cls: type[Timer], values: dict[str, Any]) -> Timer:
    timer = cls.__new__(cls)
    timer._put(**values)  # pyright: ignore[reportPrivateUsage]
    return timer


def _human(ns: int) -> str:
    seconds = ns / 1e9
    if seconds < 60:
        unit, size = next((it for it in _UNITS if ns < 999.5 * it[1]), _UNITS[-1])
        return f"{ns / size:.3g} {unit}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours} h ' if hours else ''}{minutes} min {rest} s"


def _datetime(wall: float | None) -> datetime | None:
    from datetime import datetime

    return None if wall is None else datetime.fromtimestamp(wall).astimezone()


def _wall_text(wall: float | None) -> str | None:
    return None if wall is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall))
