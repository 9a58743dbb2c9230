"""Calls that are asked back from an actor elsewhere: those that it has not begun, and now never will.

    ask_back (a cancel; waits a moment), recall (sharing out again) --ASK_BACK, numbers--> GivesBack, which looks
    ASKED_BACK, those that are given back --> reopened: they wait again, or have ended as somebody wished meanwhile

Guarantees: who waits for an answer waits `_ASK_S` at most; a later answer has its effect all the same. Nothing is asked
for in vain: what has begun is not. One recall is open at a time, whichever thread asks and whenever the answer comes.
Called by: the channels (`Asking`), from any thread; the wires of the other side (`GivesBack`).
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
        under_way: the channel's calls by number. begun: whether the call of a number has begun, as far as can be told.
        tell: sends a message to the actor. given_back: told what waits again, by who takes in the answer.
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
        self._lock = allocate_lock()  # protects the two above; innermost

    def ask_back(self, number: int | None, *, wait: bool) -> None:
        """Ask for one call. `wait`: for the answer, for a moment."""
        if number is None or self._begun(number):
            return
        answered = allocate_lock()
        answered.acquire()
        self._ask(next(self._questions), [number], answered)
        if wait:
            answered.acquire(True, _ASK_S)

    def recall(self) -> None:
        """Ask for all that have not begun; once more, where that is being asked, when the answer has come."""
        question = next(self._questions)
        try:
            while self._is_mine(question):
                waiting = [number for number in list(self._under_way) if not self._begun(number)]
                if waiting:
                    self._ask(question, waiting, None)
                    return
                if not self._recalled(question):
                    return
        except BaseException:  # a Ctrl-C: no answer may come that would let in the next
            self._recalled(question)
            raise

    def _is_mine(self, question: int) -> bool:
        """Make this the question that is open to recall. False: there is one, and it is asked again after."""
        with self._lock:
            if self._recall:
                self._again = True
                return False
            self._recall = question  # before it is sent: the answer may be here before `tell` has returned
            return True

    def _recalled(self, question: int) -> bool:
        """It is over, if it was that. Returns whether somebody wished it again meanwhile."""
        with self._lock:
            if question != self._recall:
                return False
            self._recall, again, self._again = 0, self._again, False
            return again

    def _ask(self, question: int, numbers: list[int], answered: Any) -> None:
        self._open[question] = answered
        self._tell([ASK_BACK, question, numbers])

    def answer(self, question: int, numbers: list[int]) -> None:
        """The actor's answer; on the thread that takes in what it says."""
        calls = [self._under_way.pop(number, None) for number in numbers]
        waiting = [call for call in calls if call is not None and call.reopen()]
        self._close(question)
        self._given_back(waiting)
        if self._recalled(question):
            self.recall()

    def _close(self, question: int) -> None:
        answered = self._open.pop(question, None)
        if answered is not None:
            answered.release()

    def close(self) -> None:
        """No answer will come."""
        for question in list(self._open):
            self._close(question)


class GivesBack:
    """The other side of it, of a wire: calls that are given back, and must not begin.

    Args:
        begun: whether the call of a number has begun.

    Attributes:
        asked_back: the numbers of those that were given back, until their turn comes.
    """

    def __init__(self, begun: Callable[[int], bool]) -> None:
        self.asked_back: set[int] = set()
        self._has_begun = begun
        self._asking = allocate_lock()  # protects `asked_back`

    def give_back(self, numbers: list[int]) -> list[int]:
        """Those of these calls that have not begun: now they never will."""
        given: list[int] = []
        with self._asking:
            for number in numbers:
                # First this, then the look; who begins a call does it the other way round.
                self.asked_back.add(number)
                if self._has_begun(number):
                    self.asked_back.discard(number)
                else:
                    given.append(number)
        return given

    def was_given_back(self, number: int) -> bool:
        """Whether a call was given back, and must not run. Asked after it was marked as begun."""
        with self._asking:
            if number in self.asked_back:
                self.asked_back.discard(number)
                return True
            return False
