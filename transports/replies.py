"""Replies of one child: who receives them, and what becomes of them.

    zmq PULL --> inbox --> taken apart --> calls closed, job told        usually on the hub's thread
                                                                         or by the thread that waits for the only call
                                                                         under way: one thread less to wake (`lead`)

Guarantees: a reply closes its call once; those of calls that are not under way are dropped and counted, and so is what
is no message of ours. No reply is lost to a Ctrl-C in a thread that leads: a frame stays in the inbox until all of it
is done, and what pyzmq loses then is had again, from the board or from the child. Payloads are not decoded here.
Assumes: whoever receives has the turn (a lock), which is held for moments, or by one who wakes for whatever the hub
wakes for. A zmq socket's descriptor tells of news once only: so it is always read until it has nothing.
Source of the idea: leader and followers (Schmidt and others, 2000).
Called by: the channel (owns it), the hub, futures that are waited for (through the channel).
"""

from __future__ import annotations

import logging
import os
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any, Final

import zmq
from zmq import backend

from concurry.transports import codec, parcel
from concurry.transports.closing import Told, close_calls
from concurry.transports.errors import ProtocolError

log = logging.getLogger("concurry")

poll: Any = backend.zmq_poll  # releases the interpreter, and takes sockets and descriptors
IN: Final = int(zmq.POLLIN)
_NOBLOCK: Final = (parcel.NOBLOCK,)
_NO_WAIT: Final = (False,)
_LONGEST_MS: Final = 1 << 30  # a wait for longer ends early, and goes on as everybody's does


class Replies:
    """See the module's docstring.

    Args:
        who: for messages. pull: the socket, owned from now on. under_way: the channel's calls by number.
        told: `Job.replied`, without the channel. ends: told of each call that is replied to, by its number, while its
            place on the board is its own; None: nobody asks.
    """

    def __init__(
        self,
        who: str,
        pull: zmq.Socket[bytes],
        under_way: dict[int, Any],
        told: Told,
        parcels: Callable[[Any, Any, list[bytes]], Any],
        edge: Callable[[], Any],
        kept: Callable[[], bytes],
        ask_again: Callable[[], None],
        ends: Callable[[int, Any], None] | None = None,
    ) -> None:
        self.dropped = 0
        self.pull = pull
        self._who = who
        self._under_way = under_way
        self._told = told
        self._parcels = parcels
        self._edge = edge  # along which handles come
        self._kept = kept
        self._ask_again = ask_again
        self._ends = ends
        self._lost = False  # whether a message may have been lost by one who led
        self._only = [(pull, IN)]
        self._turn = allocate_lock()  # whose turn it is to receive; protects the socket and the inbox
        self._inbox: list[bytes] = []
        self._ended: list[Any] = []  # calls that are no longer under way and not yet closed, with their replies
        self._hook = _Wake(self)  # one: one leads at a time
        self._hub: Any = None
        self._closed = False

    def attach(self, hub: Any, pidfd: int) -> None:
        """From now on replies are received; on the hub's thread."""
        # A file, which knows whether it is closed.
        self._wake = open(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+b", buffering=0)  # noqa: SIM115
        self._hub, self._fd, self._watch = hub, self.pull.fileno(), hub.change
        self._wake_fd = self._wake.fileno()
        self._sources = [(self.pull, IN), (pidfd, IN), (self._wake_fd, IN)]
        hub.watch(self._fd, self.on_news)
        self.on_news(0)

    # -- on the hub's thread -------------------------------------------------------------------------------------------

    def on_news(self, _: int) -> None:
        """Receive and do all there is. Where somebody leads: he does, or has us called when he has let go. It never
        waits for that: the hub has others to hear."""
        if self._turn.acquire(False):
            try:
                if not self._closed:
                    self._fetch()
                    self._work_off()
            finally:
                self._turn.release()

    def _fetch(self) -> None:
        """Receive what has come."""
        only, inbox, receive = self._only, self._inbox, self.pull.recv
        while poll(only, 0):  # cheaper than a receive that says there is nothing
            inbox.extend(map(receive, _NOBLOCK))

    def _work_off(self) -> None:
        inbox = self._inbox
        while inbox:
            try:
                self._apart()
            except Exception as error:
                self.dropped += 1
                log.error("%s: a message that no child of ours sends was dropped: %s", self._who, error)
                del inbox[:1]

    def _apart(self) -> None:
        """Do the first message of the inbox, and take it out."""
        inbox, under_way = self._inbox, self._under_way
        items = codec.read(inbox[0])
        kind, mean_ns, more, ref, sizes = items[0]
        if kind != parcel.REPLIES:
            raise ProtocolError(f"a message of kind {kind} where replies come")
        frames = 1 if sizes is None else 1 + parcel.frames_of(sizes)
        buffers = None
        del items[0]
        if ref is not None or sizes is not None:
            if len(inbox) < frames:
                raise ProtocolError("a message without the buffers that it announces")
            if items and items[0][0] in under_way:  # else it has come before
                buffers = self._parcels(ref, sizes, inbox[1:frames])
        # Invariant: who is no longer under way is in `ended`, until it is closed; so this may be broken off anywhere.
        ended = self._ended
        try:
            for (number, status, how, body), ns in zip(items, parcel.spans_of(more, mean_ns), strict=False):
                call = under_way.get(number)
                if call is None:
                    self.dropped += 1
                else:
                    if self._ends is not None:
                        self._ends(number, call)
                    ended.append((call, status, how, body, buffers, ns))
                    under_way.pop(number, None)
        finally:  # also those before an item that is none
            if ended:
                close_calls(self._who, ended, mean_ns / 1e9, self._told, self._edge)
        del inbox[:frames]

    # -- in the thread of somebody who waits ---------------------------------------------------------------------------

    def lead(self, future: Any, timeout: float | None) -> None:
        """Receive here until the only call under way is done; the hub stays asleep. Returns early, and at once, where
        that is not so (any more): the caller then waits as everybody does.

        Args:
            timeout: seconds at most.
        """
        mine: list[bool] = []
        try:
            mine.extend(map(self._turn.acquire, _NO_WAIT))  # in C: where a Ctrl-C follows, `mine` says whose turn it is
            if mine[0] and not self._lost and not self._closed and self._hub is not None:
                self._lead(future, timeout)
        except BaseException:
            # pyzmq raises it also when it has taken a message off the socket already: look what is missing.
            self._lost = True
            raise
        finally:
            if mine and mine[0]:
                self._turn.release()
            # After that: neither of the two waits for the turn.
            if self._hub is not None and self._lost:
                self._hub.call(self.find_lost)
            elif self._hub is not None and self._inbox:
                self._hub.call(self.on_news, IN)

    def _lead(self, future: Any, timeout: float | None) -> None:
        inbox, under_way, hook = self._inbox, self._under_way, self._hook
        if inbox or len(under_way) != 1:
            return
        try:
            self._watch(self._fd, 0)  # the hub does not: somebody else waits here
            future.add_hook(hook)
            try:
                # Who had the turn before has read all there was: what came since then has made the socket ready.
                for source, _ in poll(self._sources, -1 if timeout is None else _milliseconds(timeout)):
                    if source is self.pull:
                        inbox.extend(map(self.pull.recv, _NOBLOCK))
                        self._fetch()
                    elif source == self._wake_fd:
                        self._wake.read(8)
            finally:
                future.remove_hook(hook)
            if len(inbox) == 1 and len(under_way) == 1:
                self._apart()
        finally:
            self._watch(self._fd, IN)

    def find_lost(self) -> None:
        """After a Ctrl-C in a thread that led: what it may have lost is on the board, or is sent once more by the
        child. On the hub's thread; nobody leads until it is done."""
        if self._closed or not self._lost:
            return
        if not self._turn.acquire(False):  # who has it began before he could know, and has us called when he lets go
            self.wake_leader()
            return
        try:
            self._fetch()
            self._work_off()
            self._take_kept(self._kept())
            self._lost = False
        finally:
            self._turn.release()
        self._ask_again()

    def wake_leader(self) -> None:
        """Whoever leads shall look up."""
        try:
            self._wake.write(_ONE)
        except ValueError:  # closed: nobody leads any more
            return

    def _take_kept(self, kept: bytes) -> None:
        """The last replies, as the board has them: those that had been sent, and were still on the child's side."""
        if kept and self._under_way:
            dropped = self.dropped
            self._inbox.append(parcel.header(parcel.REPLIES, 0) + kept)  # as a message of its own
            self._work_off()
            self.dropped = dropped  # most of them had come before

    def close(self, kept: bytes) -> None:
        """Take what has come, and what the board has `kept`, and close. On the hub's thread; one who leads has been
        woken by what led here."""
        with self._turn:
            self._closed = True
            if self._hub is not None:
                self._fetch()
                self._work_off()
                self._take_kept(kept)
                self._hub.forget(self._fd)
                self._wake.close()
            self.pull.close(linger=0)


def _milliseconds(seconds: float) -> int:
    return int(min(seconds * 1000 + 1, _LONGEST_MS))


_ONE = (1).to_bytes(8, "little")


class _Wake:
    """A hook: the call that a leader waits for has been ended by somebody else."""

    __slots__ = ("_replies",)

    def __init__(self, replies: Replies) -> None:
        self._replies = replies

    def __call__(self, _: Any) -> None:
        self._replies.wake_leader()
