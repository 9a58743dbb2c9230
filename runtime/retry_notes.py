"""What is kept and told of attempts that failed: short words, never an exception or a traceback.

Guarantees: however many attempts there are, what is listed stays short. A note is not doubled where the same exception
object is raised again, and its traceback does not grow from attempt to attempt. Nothing here raises because of what a
user's `__str__`, `__repr__`, `__getattribute__` or `__setattr__` does.
Called by: `concurry.runtime.attempts`, `concurry.runtime.retry_policy`.
"""

from __future__ import annotations

import reprlib
from typing import Any

from concurry.transports.anything import is_list
from concurry.transports.ctrl_c import ctrl_c

# Taken from BaseException itself: a property or a `__getattribute__` of the user's may refuse.
_traceback: Any = BaseException.__dict__["__traceback__"]
_dict: Any = BaseException.__dict__["__dict__"]
_LISTED = 8  # runs of equal outcomes: the first two and the last ones; what lies between is left out
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 120


class Outcomes:
    """What attempts ended with, in words. Equal ones in a row are one entry, and of many the middle is left out."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, int, str]] = []  # from attempt, to attempt, outcome

    def add(self, attempt: int, outcome: str) -> None:
        first = attempt
        if self._runs and self._runs[-1][2] == outcome:
            first = self._runs.pop()[0]
        self._runs.append((first, attempt, outcome))
        if len(self._runs) > _LISTED:
            self._runs[2:4] = [(self._runs[2][0], self._runs[3][1], "…")]

    def __str__(self) -> str:
        lines = (f"attempt {a}: {text}" if a == b else f"attempts {a} to {b}: {text}" for a, b, text in self._runs)
        return "\n".join(f"  {line}" for line in lines)


def note(exception: BaseException, text: str, *, replacing: str) -> None:
    """Add a note, in the place of those that begin with `replacing`: the same exception object may be raised again, in
    this call or in a later one."""
    try:
        notes: Any = object.__getattribute__(exception, "__notes__")
    except AttributeError:
        notes = []
    except Exception:  # a property of the user's
        return
    if is_list(notes):
        kept = [it for it in notes if not (isinstance(it, str) and it.startswith(replacing))]
        # Not `add_note`: it goes through `__setattr__`, which a frozen exception refuses.
        _dict.__get__(exception)["__notes__"] = [*kept, text]


def cut_traceback(exception: BaseException) -> None:
    """Drop the entries of earlier attempts, which an exception that is raised again and again would pile up.

    A traceback begins with the frame that caught it; that frame once more, further down, is where the older part
    begins.
    """
    newest = _traceback.__get__(exception)
    entry = newest
    while entry is not None and entry.tb_next is not None:
        if newest is not None and entry.tb_next.tb_frame is newest.tb_frame:
            entry.tb_next = None
        entry = entry.tb_next


def brief(exception: BaseException, length: int = 200) -> str:
    """The type of an exception and the beginning of its text, on one line."""
    try:
        text = " ".join(str(exception).split())
    except ctrl_c():
        raise
    except BaseException as error:  # a __str__ of the user's
        text = f"<its __str__ raised {type(error).__name__}>"
    name = type(exception).__name__
    if len(text) > length:
        text = text[: length - 1] + "…"
    return f"{name}: {text}" if text else name


def short(result: Any) -> str:
    """The beginning of a result's repr, on one line."""
    try:
        return _SHORT.repr(result)
    except ctrl_c():
        raise
    except BaseException as error:  # a __repr__ of the user's, or one that recurses
        return f"<{type(result).__name__}, whose __repr__ raised {type(error).__name__}>"
