"""Whether a dead actor is started again. Pure: its counted deaths and `now` in, a decision out.

Source: restart intensity as in Erlang/OTP's `supervisor`. Only deaths at start or while idle are counted; a death
inside a call is charged to that call.
"""

from __future__ import annotations

from typing import NamedTuple

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0


class Intensity(NamedTuple):
    """More than `max_restarts` counted deaths within `window_s` seconds are too many. None: no bound."""

    max_restarts: int | None = 3
    window_s: float = 60.0

    def __str__(self) -> str:
        return f"max_restarts={self.max_restarts} within restart_window={self.window_s:g} s"


class Decision(NamedTuple):
    """Start again after `delay_s`, or not at all. `deaths`: the counted ones to remember."""

    restart: bool
    delay_s: float
    deaths: tuple[float, ...]


def decide(deaths: tuple[float, ...], now: float, *, counted: bool, intensity: Intensity) -> Decision:
    """Decide about one death at `now`, given the counted ones before."""
    recent = tuple(when for when in deaths if now - when < intensity.window_s)
    if not counted:
        if intensity.max_restarts == 0:
            return Decision(False, 0.0, recent)
        return Decision(True, 0.0, recent)
    recent = (*recent, now)
    if intensity.max_restarts is not None and len(recent) > intensity.max_restarts:
        return Decision(False, 0.0, recent)
    return Decision(True, min(_FIRST_DELAY_S * 2.0 ** min(len(recent) - 1, 10), _LONGEST_DELAY_S), recent)
