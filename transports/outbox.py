"""Calls on their way to one child: numbered in the order in which they are sent, until they are replied to.

    send(calls) --under the lock--> messages --> zmq PUSH
                --large buffers--> aside: a helper thread copies them, and sends what came behind them, in order

Guarantees: calls reach the child in the order of their numbers, and END after all of them. Nothing blocks: neither a
child that takes nothing nor a copy of a gigabyte holds up who sends. A call that has ended before is not sent. Numbers
rise, from 1; one whose place on the board is taken by a call that is still under way is passed over, so that the board
tells of that call also when thousands have begun after it.
What is sent after the end comes back to the job, once the supervisor has taken what was under way.
Assumes: a call is a future of the runtime's, whose `args` are its encoded form and `kwargs` its buffers, or None.
Called by: the channel.
"""

from __future__ import annotations

import logging
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import zmq

from concurry.transports import codec, parcel
from concurry.transports.board import CALLS

T = TypeVar("T")
log = logging.getLogger("concurry")

_ASIDE: Final = 1 << 20  # bytes of buffers from which on a call is sent by a helper thread: the copy takes a while
_NOTHING: Final = b"\xc0"  # nil, in the place of a call


class Outbox:
    """See the module's docstring.

    Attributes:
        under_way: the calls that were sent and not replied to, by their number, in their order.
        last: the number of the last call.
    """

    def __init__(self, channel: Any, job: Any, push: zmq.Socket[bytes]) -> None:
        self.under_way: dict[int, Any] = {}
        self.last = 0
        self._channel = channel
        self._job = job
        self._push = push
        self._send = parcel.sender(push)
        self._lock = allocate_lock()  # protects the fields here; innermost
        self._aside: deque[tuple[int, list[Any]] | None] = deque()  # what the helper sends; None: END
        self._old: dict[int, int] = {}  # place on the board -> the call that had it when its turn came again
        self._closed = self._collected = False

    def send(self, calls: list[Any]) -> None:
        """Send calls, which have begun as far as this process knows. Never blocks, never raises."""
        with self._lock:
            collected = self._collected
            if not collected and not (len(calls) == 1 and self._send_one(calls[0])):
                self._number(calls)
        if collected:  # it is gone: they wait for another one
            waiting = [call for call in calls if call.reopen()]  # aside: a mailbox's lock may be held here
            self._job.aside(lambda: self._job.given_back(self._channel, waiting))

    def _send_one(self, call: Any) -> bool:
        """The short way of one small call. False: it must go the long one."""
        encoded = call.args
        # No bytes: it was ended, or it carries handles.
        if encoded.__class__ is not bytes or call.kwargs is not None or call.carried is not None:
            return False
        if self._closed or self._aside:
            return False
        number = self.last + 1
        if self._old or number - CALLS in self.under_way:
            number = self._with_a_place(number)
        self.last = number
        call.extra = self._channel
        self.under_way[number] = call
        try:
            self._send(parcel.header(parcel.CALLS, number) + encoded, parcel.NOBLOCK)
        except zmq.Again:  # the child is gone, and its sentinel will say so
            log.debug("%s: a message could not be sent any more", self._job.who)
        return True

    def _number(self, calls: list[Any]) -> None:
        first, under_way, channel = self.last + 1, self.under_way, self._channel
        number = self.last
        numbered: list[Any] = []  # a message has one number for each: None where it is passed over
        for call in calls:
            number += 1
            if self._old or number - CALLS in under_way:
                number = self._with_a_place(number)
                numbered.extend([None] * (number - first - len(numbered)))
            numbered.append(call)
            call.extra = channel
            under_way[number] = call
        self.last = number
        if self._closed:
            return
        if self._aside or any(_size(call.kwargs) >= _ASIDE for call in calls):
            self._put_aside((first, numbered))
            return
        for frames in self._messages(first, numbered):
            self._put(frames)

    def _with_a_place(self, first: int) -> int:
        """The first number from here on whose place on the board is free. Under the lock."""
        old = self._old
        for number in range(first, first + CALLS):
            place = number % CALLS
            holder = old.pop(place, number - CALLS)
            if holder not in self.under_way:
                return number
            old[place] = holder
        return first  # there is none: more are under way than the board has room for

    def end(self) -> None:
        """No more calls will come: the child ends when it has run those that it has."""
        with self._lock:
            if self._closed:
                return
            if self._aside:
                self._put_aside(None)
            else:
                self._put([parcel.header(parcel.END, 0)])

    def _messages(self, first: int, calls: list[Any]) -> Iterator[list[Any]]:
        """The frames of each message. A call with buffers has one of its own; none is longer than a frame may be."""
        batch: list[bytes] = []
        carried: dict[int, Any] = {}
        begin, size = first, 0
        for number, call in enumerate(calls, first):
            if call is None:
                batch.append(_NOTHING)
                continue
            encoded, buffers, what = call.args, call.kwargs, call.carried
            if encoded is None:  # it was ended meanwhile, such as by a cancel: its number goes unused
                self.under_way.pop(number, None)
                encoded, buffers = _NOTHING, None
            elif encoded.__class__ is not bytes:
                self._job.carries(self._channel, encoded)
            if buffers is not None and batch:
                yield _message(begin, batch, carried)
                begin, batch, carried = number, [], {}
            if what is not None:
                carried[number] = [what.attempts, what.started, what.earlier]
            batch.append(encoded)
            size += len(encoded)
            if buffers is not None:
                ref, sizes, frames = parcel.stow(self._channel.memory.lender(), buffers, self._channel.large)
                yield _message(begin, batch, carried, ref, sizes, frames)
            elif size >= codec.LARGE:
                yield _message(begin, batch, carried)
            else:
                continue
            begin, batch, carried, size = number + 1, [], {}, 0
        if batch:
            yield _message(begin, batch, carried)

    def _put(self, frames: list[Any]) -> None:
        """Under the lock."""
        try:
            if len(frames) == 1:
                self._send(frames[0], parcel.NOBLOCK)
            else:
                self._push.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:  # the child is gone, and its sentinel will say so
            log.debug("%s: a message could not be sent any more", self._job.who)

    def _put_aside(self, what: tuple[int, list[Any]] | None) -> None:
        self._aside.append(what)
        if len(self._aside) == 1:
            self._job.aside(self._send_aside)

    def _send_aside(self) -> None:
        """On the helper thread. What it works on stays first in the line, so that nobody passes it."""
        while True:
            with self._lock:
                if self._closed:
                    self._aside.clear()
                if not self._aside:
                    return
                what = self._aside[0]
            messages = iter([[parcel.header(parcel.END, 0)]]) if what is None else self._messages(*what)
            for frames in messages:
                with self._lock:
                    if not self._closed:
                        self._put(frames)
            with self._lock:
                if self._aside:
                    self._aside.popleft()
                left = bool(self._aside)
            if not left:
                self._job.given_back(self._channel, [])  # some may have ended unsent: there may be room
                return

    def close(self) -> None:
        """Nothing is sent any more."""
        with self._lock:
            self._closed = True
            self._push.close(linger=0)

    def collect(self) -> list[tuple[int, Any]]:
        """What is under way, by number. After `close` this is the last look: what comes now comes back to the job."""
        with self._lock:
            self._collected = self._closed
            return list(self.under_way.items())

    def locked(self, function: Callable[[], T]) -> T:
        """Call it while nobody sends."""
        with self._lock:
            return function()

    def after_fork_in_child(self) -> None:
        """The lock may have been held by a thread that is not here any more."""
        self._lock = allocate_lock()

    def number_of(self, call: Any) -> int | None:
        """The number of a call that is under way."""
        return next((number for number, each in list(self.under_way.items()) if each is call), None)


def _message(
    first: int, batch: list[bytes], carried: dict[int, Any], ref: Any = None, sizes: Any = None, frames: Any = ()
) -> list[Any]:
    return [parcel.header(parcel.CALLS, first, carried or None, ref, sizes) + b"".join(batch), *frames]


def _size(buffers: Any) -> int:
    return 0 if buffers is None else sum(buffer.nbytes for buffer in buffers)
