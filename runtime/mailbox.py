"""The mailbox: accepted calls that no actor holds yet, and the actors that have nothing to do.

Guarantees
- First in, first out. A call that is put is taken by exactly one actor, or handed back by `close`.
- While a call waits, no actor with credit is idle, and the other way round: `put` appends and *then* looks whether
  anybody is ready; a taker enters the ready and *then* looks whether anything waits. Whoever comes second sees the
  first; where both do, the lock decides.
- `close` wakes every taker and every blocked caller. What is put afterwards is refused, with the reason.
- With a capacity, no more calls than that are accepted and unheld (those that wait for a future argument count).
Assumes: a taker's `give` never blocks; takers and callers come from any thread.
Called by: the pool (put, close), actors (take, or the source that `source` makes), the intake (put_back).

The hot path is two lines: `waiting.append(call)`, `if ready: match(call)`. A busy actor takes by `popleft` alone.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from concurry.runtime.balancing import Choose, round_robin
from concurry.runtime.notifier import notifier
from concurry.transports.errors import MailboxFullError


class Taker(Protocol):
    """Who takes calls: one actor, or one lane of it."""

    @property
    def active(self) -> int: ...

    @property
    def total(self) -> int: ...

    def give(self, call: Any, /) -> bool: ...


CLOSED: Final[Any] = object()  # what `take` returns when no more will come


class Mailbox:
    """See the module's docstring."""

    def __init__(self, choose: Choose = round_robin, bound: Bound | None = None) -> None:
        self.waiting: deque[Any] = deque()
        # Invariant: empty while no taker is idle and the mailbox is open. Once closed it is never empty, so that the
        # hot path's one look at it leads every later caller to `match`, which refuses.
        self.ready: list[Any] = []
        self.bound = bound
        self.refusal: Callable[[], BaseException] | None = None  # why it is closed
        self._draining = False
        self._choose = choose
        self._lock = allocate_lock()  # protects `ready`, `refusal` and matching; then the bound's lock is taken

    def put(self, call: Any) -> None:
        """Accept a call. Raises the refusal where the mailbox is closed."""
        self.waiting.append(call)
        if self.ready:
            self.match(call)

    def match(self, call: Any = None) -> None:
        """Bring waiting calls and ready takers together. `call`: the one just appended, refused where closed."""
        with self._lock:
            refusal = self.refusal
            if refusal is None:
                ready, waiting = self.ready, self.waiting
                while ready and waiting:
                    try:
                        next_call = waiting.popleft()
                    except IndexError:  # a busy actor was faster
                        break
                    taker = ready.pop(self._choose(ready) if len(ready) > 1 else 0)
                    try:
                        if taker.give(next_call):
                            ready.append(taker)
                    except BaseException:  # Ctrl-C in the middle of it
                        if getattr(taker, "listed", False) and taker not in ready:
                            ready.append(taker)
                        raise
                    if self.bound is not None:
                        self.bound.free()
                return
        if call is not None:
            self._refuse(call, refusal())

    def _refuse(self, call: Any, reason: BaseException) -> None:
        # Invariant: `close` has emptied `waiting` after it set the refusal. So a call that is here came too late, or
        # `close` has it and ends it; `withdraw` tells which.
        self.discard(call)
        if call.withdraw(reason):
            raise reason

    def take(self, taker: Taker) -> Any:
        """The next call; or None, and the taker is given one when there is one; or `CLOSED`."""
        try:
            call = self.waiting.popleft() if self.waiting else self._take_or_enter(taker)
        except IndexError:  # another actor was faster
            call = self._take_or_enter(taker)
        if self.bound is not None and call is not None and call is not CLOSED:
            self.bound.free()
        return call

    def _take_or_enter(self, taker: Taker) -> Any:
        waiting = self.waiting
        with self._lock:
            while True:
                if waiting:
                    try:
                        return waiting.popleft()
                    except IndexError:  # a busy actor was faster
                        continue
                if self.refusal is not None or self._draining:
                    return CLOSED
                self.ready.append(taker)
                if not waiting:
                    return None
                self.ready.pop()

    def source(self, taker: Taker, receive: Callable[[], Any]) -> Callable[[], Any]:
        """A function for an actor's loop: waits for the next call and returns it, or None when no more will come."""
        waiting, bound, enter = self.waiting, self.bound, self._take_or_enter
        popleft = waiting.popleft

        def next_call() -> Any:
            # The look at `waiting` first: with nothing to do, raising and catching would cost more than all the rest.
            try:
                call = popleft() if waiting else enter(taker)
            except IndexError:  # another actor was faster
                call = enter(taker)
            if call is None:
                return receive()
            if call is CLOSED:
                return None
            if bound is not None:
                bound.free()
            return call

        return next_call

    def rest(self, taker: Any) -> bool:
        """Let one be ready that has just run out of calls: the short way. False: something waits, or it ends."""
        ready, waiting = self.ready, self.waiting
        with self._lock:
            if waiting or taker.listed or taker.over or self.refusal is not None or self._draining:
                return False
            if taker.pumping.locked():  # somebody has taken calls for it that it has not been sent yet: those go first
                return False
            ready.append(taker)
            taker.listed = True
            if waiting:  # put by somebody who looked at the ready before that
                ready.pop()
                taker.listed = False
            return not waiting

    def take_some(self, taker: Any, most: int, least: int, parts: int) -> list[Any]:
        """Calls for a taker that takes several at once: `most`, or fewer where that leaves more for others.

        Args:
            taker: has, besides, `listed`: whether it is among the ready; `over`; and `has_room()`.
            least: how many it takes in any case, where it has nothing to run. parts: into how many the waiting are
                divided, of which it takes one.

        Returns:
            The calls. None of them: the taker is among the ready now, where it has room; or was told that no more come.
        """
        waiting = self.waiting
        taken: list[Any] = []
        with self._lock:
            if taker.listed or taker.over:
                return taken
            if waiting:
                many = min(most, max(least, -(-len(waiting) // parts)))
                while waiting and len(taken) < many:
                    taken.append(waiting.popleft())
            elif self.refusal is not None or self._draining:
                taker.give(None)
            elif taker.has_room():
                self.ready.append(taker)
                taker.listed = True
                if waiting:  # put by somebody who looked at the ready before that
                    self.ready.pop()
                    taker.listed = False
                    taken.append(waiting.popleft())
        if self.bound is not None:
            for _ in taken:
                self.bound.free()
        return taken

    def enter(self, takers: list[Any]) -> None:
        """Let these be ready, in this order: those that have just been started."""
        with self._lock:
            if self.refusal is None and not (self._draining and not self.waiting):
                self.ready.extend(takers)
                for taker in takers:
                    taker.listed = True
                takers = []
        for taker in takers:
            taker.give(None)
        self.match()
        if self._draining:  # those that the last waiting calls were not enough for
            with self._lock:
                if self.refusal is None and not self.waiting:
                    self._end_ready()

    def leave(self, taker: Any) -> None:
        """Take a dead actor off the ready. None: a lane that was never opened, since `__init__` failed."""
        with self._lock:
            if getattr(taker, "over", None) is False:  # one that takes several: it shall not come back
                taker.over = True
            if taker is not None and taker in self.ready:  # a closed mailbox has a None among the ready
                self.ready.remove(taker)
                taker.listed = False

    def put_back(self, calls: list[Any]) -> bool:
        """Calls that an actor held and never began stand first again, in their order. False: closed."""
        with self._lock:
            if self.refusal is not None:
                return False
            self.waiting.extendleft(reversed(calls))
            if self.bound is not None:
                self.bound.readmit(len(calls))
        self.match()
        return True

    def discard(self, call: Any) -> bool:
        """Forget a call that will not run. True: it was here."""
        try:
            self.waiting.remove(call)
        except ValueError:
            return False
        return True

    def withdrawn(self, call: Any) -> None:
        """A waiting call was cancelled. With a bound its place is free at once; without one the husk, which holds no
        arguments any more, goes when its turn comes (taking it out of the middle would cost a walk)."""
        if self.bound is not None and self.discard(call):
            self.bound.free()

    def close(self, refusal: Callable[[], BaseException]) -> list[Any]:
        """Take nothing more; end the ready; return what waited. Again: keeps the first reason, returns []."""
        with self._lock:
            if self.refusal is not None:
                return []
            self.refusal = refusal
            self._end_ready()
            left = list(self.waiting)
            self.waiting.clear()
        if self.bound is not None:
            self.bound.close(refusal)
        return left

    def drain(self) -> None:
        """Let what waits be taken, and each taker end when nothing does."""
        with self._lock:
            if self.refusal is None and not self._draining:
                self._draining = True
                self._end_ready()

    def go_on(self) -> None:
        """Undo `drain`: a call that was lost with its actor will come back."""
        with self._lock:
            self._draining = False

    def _end_ready(self) -> None:
        for taker in self.ready:
            taker.give(None)
        self.ready[:] = [None] if self.refusal is not None else []

    def after_fork_in_child(self, refusal: Callable[[], BaseException]) -> None:
        """The actors did not survive the fork, and the lock may have been held: refuse from now on."""
        self._lock = allocate_lock()
        self.refusal = refusal
        self.ready[:] = [None]


class Bound:
    """How many calls may be accepted and unheld at once. Callers that must wait are admitted in their order."""

    def __init__(self, capacity: int, *, block: bool, who: str) -> None:
        self.capacity = capacity
        self._block = block
        self._who = who
        self._used = 0
        self._blocked: deque[Any] = deque()  # a raw lock a waiting caller
        self._refusal: Callable[[], BaseException] | None = None
        self._lock = allocate_lock()  # protects the fields above; the innermost lock

    def admit(self, *, may_block: bool = True) -> None:
        """Take one place, waiting for it where `on_full="block"`. Raises MailboxFullError, or the refusal.

        Args:
            may_block: False for the one actor that takes the calls: it would wait for itself.
        """
        with self._lock:
            if self._refusal is not None:
                raise self._refusal()
            if self._used < self.capacity:
                self._used += 1
                return
            if not self._block or not may_block or notifier.is_here():
                raise MailboxFullError(self._full(may_block))
            place = allocate_lock()
            place.acquire()
            self._blocked.append(place)
        try:
            place.acquire()
        except BaseException:  # KeyboardInterrupt while waiting: give the place, or the turn, back
            with self._lock:
                waiting = place in self._blocked
                if waiting:
                    self._blocked.remove(place)
            if not waiting:
                self.free()
            raise
        if self._refusal is not None:
            raise self._refusal()

    def readmit(self, count: int) -> None:
        """Calls that had left come back: they are accepted already, so it may be over the capacity for a while."""
        with self._lock:
            self._used += count

    def free(self) -> None:
        """Give one place back; it goes to the caller that has waited longest."""
        with self._lock:
            if self._blocked and self._used <= self.capacity:
                self._blocked.popleft().release()
            else:
                self._used -= 1

    def close(self, refusal: Callable[[], BaseException]) -> None:
        """Wake every caller that waits, with the refusal."""
        with self._lock:
            self._refusal = refusal
            while self._blocked:
                self._blocked.popleft().release()

    def after_fork_in_child(self, refusal: Callable[[], BaseException]) -> None:
        """Nobody frees a place any more, and the lock may have been held: refuse from now on."""
        self._lock = allocate_lock()
        self._refusal = refusal

    def _full(self, may_block: bool) -> str:
        why = "the notifier thread must never block" if self._block else 'on_full="raise"'
        if not may_block:
            why = "its only actor would wait for itself"
        return (
            f"the mailbox of {self._who} is full: {self.capacity} calls wait (mailbox_size={self.capacity}; {why}). "
            f"Submit fewer at once, wait for results in between, or raise mailbox_size."
        )
