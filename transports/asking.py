"""Calls that are asked back from one child: those that it has not begun, and now never will.

    ask_back (a cancel; waits a moment), recall (sharing out again) --ASK_BACK, numbers--> ear
    ASKED_BACK, those that are given back --> reopened: they wait again, or have ended as somebody wished meanwhile

Guarantees: who waits for an answer waits `_ASK_S` at most; a later answer has its effect all the same. Nothing is asked
of the board in vain: what has begun is not asked for.
Called by: the channel.
"""

from __future__ import annotations

import itertools
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

from concurry.transports.control import ASK_BACK

_ASK_S = 0.05


class Asking:
    """See the module's docstring.

    Args:
        under_way: the channel's calls by number. begun: whether the call of a number has begun, by the board.
        tell: sends a message on the control line. given_back: told what waits again; on the hub's thread.
    """

    def __init__(
        self,
        under_way: dict[int, Any],
        begun: Callable[[int], bool],
        tell: Callable[[list[Any]], object],
        given_back: Callable[[list[Any]], None],
    ) -> None:
        self._under_way = under_way
        self._begun = begun
        self._tell = tell
        self._given_back = given_back
        self._open: dict[int, Any] = {}  # question -> the lock that its answer releases, or None
        self._questions = itertools.count(1)
        self._recall = 0  # the question that is open to recall, or 0
        self._again = False  # whether somebody wished that meanwhile

    def ask_back(self, number: int | None, *, wait: bool) -> None:
        """Ask for one call. `wait`: for the answer, for a moment."""
        if number is None or self._begun(number):
            return
        answered = allocate_lock()
        answered.acquire()
        self._ask([number], answered)
        if wait:
            answered.acquire(True, _ASK_S)

    def recall(self) -> None:
        """Ask for all that have not begun; once more, where that is being asked, when the answer has come."""
        if self._recall:
            self._again = True
            return
        waiting = [number for number in list(self._under_way) if not self._begun(number)]
        if waiting:
            self._recall = self._ask(waiting, None)

    def _ask(self, numbers: list[int], answered: Any) -> int:
        question = next(self._questions)
        self._open[question] = answered
        self._tell([ASK_BACK, question, numbers])
        return question

    def answer(self, question: int, numbers: list[int]) -> None:
        """The child's answer; on the hub's thread."""
        calls = [self._under_way.pop(number, None) for number in numbers]
        waiting = [call for call in calls if call is not None and call.reopen()]
        self._close(question)
        self._given_back(waiting)
        if question == self._recall:
            self._recall, again, self._again = 0, self._again, False
            if again:
                self.recall()

    def _close(self, question: int) -> None:
        answered = self._open.pop(question, None)
        if answered is not None:
            answered.release()

    def close(self) -> None:
        """No answer will come."""
        for question in list(self._open):
            self._close(question)
