"""The borrower: the receiving side of a channel's large buffers.

    the peer's announcement (descriptor) -> announced() -> mapping, once for each segment
    the peer's message (reference)       -> get()       -> views --refer to--> Loan --refers to--> mapping
    the last view dies -> the Loan dies  -> freed(serial) -> ... -> the peer's Lender.freed

Guarantees: nothing is copied; views are read-only, and so is the memory where it will be used again. Each loan is
reported once, when its last view is gone or when `get` fails; none is after `close`. Views live on after `close`, and
so do loans that had arrived and that nobody has looked at: `get` gives them also then. A segment that could not be
mapped is reported as such (`~serial`) before any loan of it is. What a peer says is checked against what there is.
Assumes: `get` or `views` succeeds or fails once for each reference that arrives.
Called by: the channel and the child's wire. After a fork the child uses nothing of it.
"""

from __future__ import annotations

import errno
import functools
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from concurry.transports import segment
from concurry.transports.anything import LIST
from concurry.transports.errors import ProtocolError
from concurry.transports.segment import Mapping, Span, copy_bytearray, copy_bytes

_REMEMBERED: Final = 1024  # retired serial numbers: a peer that uses one all the same is told so


class _Outlet:
    """Where loans report. They must not keep the borrower alive, and it shuts this when it closes."""

    __slots__ = ("freed",)

    def __init__(self, freed: Callable[[int], None]) -> None:
        self.freed: Callable[[int], None] | None = freed


class Loan:
    """One loan's memory: its views refer to it, and it reports when it dies. Mixed with an array of ctypes."""

    serial: int
    mapping: Mapping
    outlet: _Outlet | None = None
    drainable: int = -1  # bytes of the buffer, where it is alone in a segment for once
    drained: bool = False

    def release(self) -> None:
        """Report, unless that is done."""
        outlet, self.outlet = self.outlet, None
        if outlet is not None:
            freed = outlet.freed
            if freed is not None:
                freed(self.serial)

    # Rather than a weak reference, which would have to be kept somewhere, and would need a lock there.
    def __del__(self) -> None:
        self.release()

    def drain(self, view: memoryview) -> bytes:
        """The bytes of a view, by a reader that needs it no more.

        A buffer that is alone in a segment for once is given back to the kernel meanwhile, piece by piece, so that it
        is not in memory twice: all views of it show zeros afterwards.
        """
        punch = view.nbytes == self.drainable
        if punch:
            self.drainable = -1
            self.drained = True
        return copy_bytes(view, punch=punch)


class _Known(NamedTuple):
    """A segment that was announced."""

    mapping: Mapping | None  # None: it could not be mapped, because of `error`
    once: bool = False
    error: OSError | ProtocolError | None = None


class Borrower:
    """See the module's docstring.

    Args:
        freed: told the serial number of each loan that ended, and `~serial` of each segment that is of no use here:
            whatever is lent of it cannot be had. It is called in a finalizer: in any thread, in the middle
            of anything, by a thread that may hold any lock. So it must take none and not block, like `deque.append`
            and then a write to an eventfd. One call may still be on its way while `close` returns: whatever it writes
            to must stay open as long as the callback lives.
        copies: hand out writable copies, which end the loan at once.
    """

    def __init__(self, freed: Callable[[int], None], *, copies: bool = False) -> None:
        self._outlet = _Outlet(freed)
        self._copies = copies
        # Protects all below; notified of each announcement and of the end. No finalizer takes it.
        self._news = threading.Condition(threading.Lock())
        self._known: dict[int, _Known] = {}
        self._retired: deque[int] = deque(maxlen=_REMEMBERED)
        self._unread: set[int] = set()  # arrived, and nobody has looked at them; taken from also by finalizers
        self._closed = False

    def announced(self, serial: int, fd: int, size: int) -> None:
        """A segment has come. The descriptor is closed here: it is mapped at once, since a thousand results that nobody
        has read yet must not use up the descriptors. What is wrong with it, `get` raises. A descriptor below 0: it was
        lost on the way, for want of room.

        Raises:
            ProtocolError: there is one of this number already.
        """
        try:
            known = _look_at(fd, size)
        finally:
            if fd >= 0:
                os.close(fd)
        with self._news:
            if serial in self._known:
                raise ProtocolError(f"segment {serial} was announced twice")
            if (not self._closed or serial in self._unread) and serial not in self._retired:
                if known.mapping is None:
                    self._report(~serial)  # before anybody can `get` it
                self._known[serial] = known
                self._news.notify_all()

    def retired(self, serial: int) -> None:
        """A segment will not be used again."""
        with self._news:
            gone = self._known.pop(serial, None)
            self._retired.append(serial)
            self._news.notify_all()
        del gone  # unmapped here, outside of the lock

    def arrived(self, ref: Any) -> None:
        """A reference has arrived; it may be looked at later, or never (`dropped`)."""
        if type(ref) is LIST and ref and type(ref[0]) is int:  # else `get` says what is wrong with it
            self._unread.add(ref[0])

    def dropped(self, serial: int) -> None:
        """What has arrived is not looked at any more. From a finalizer: no lock is taken."""
        self._unread.discard(serial)
        if self._closed:
            self._known.pop(serial, None)

    def get(self, ref: Any) -> list[memoryview]:
        """The buffers of a reference: views, or copies where those are wanted. See `views`.

        Raises:
            MemoryError: there is no memory for the copies.
        """
        views = self.views(ref)
        if not self._copies or not views:
            return views
        try:
            return copies_of(views)
        finally:
            loan: Any = views[0].obj
            loan.release()  # by hand: a traceback may keep it alive

    def views(self, ref: Any) -> list[memoryview]:
        """The buffers of a reference, as flat views of bytes. Waits until their segment is announced. An interrupt
        leaves all as it was: it may be asked for again.

        Raises:
            ProtocolError: it refers to what is not there.
            OSError: the memory cannot be mapped; or BrokenPipeError, it is closed.
        """
        serial, spans = _read(ref)
        mapping, once, error = self._wait_for(serial)
        if mapping is None:
            self.dropped(serial)
            self._report(serial)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror or str(error)) from error
            raise ProtocolError(str(error)) from error
        if any(offset + size > mapping.size for offset, size in spans):
            self.dropped(serial)
            self._report(serial)
            raise ProtocolError(f"a buffer outside of segment {serial}, which has {mapping.size} bytes: {spans}")
        loan = _exporter(mapping.size).from_address(mapping.address)
        loan.mapping, loan.serial = mapping, serial
        if once and len(spans) == 1:
            loan.drainable = spans[0][1]
        whole = memoryview(loan).cast("B").toreadonly()
        views = [whole[offset : offset + size] for offset, size in spans]
        self.dropped(serial)
        loan.outlet = self._outlet  # last: from now on its end is told
        return views

    def _wait_for(self, serial: int) -> _Known:
        with self._news:
            while True:
                known = self._known.get(serial)
                if known is not None:
                    return known
                if self._closed:
                    break
                if serial in self._retired:
                    raise ProtocolError(f"a loan of segment {serial}, which was retired before")
                self._news.wait()
        raise BrokenPipeError(errno.ESHUTDOWN, "the channel is closed: the memory of this message is not to be had")

    def _report(self, serial: int) -> None:
        freed = self._outlet.freed
        if freed is not None:
            freed(serial)

    def close(self) -> None:
        """No more loans; whoever waits for one is told. Views that are held stay valid, and what has arrived can be
        had. Idempotent."""
        self._outlet.freed = None
        with self._news:
            self._closed = True
            gone = dict(self._known)  # at once: finalizers take from it
            unread = {serial: known for serial, known in gone.items() if serial in self._unread}
            self._known = unread
            for serial in unread.keys() - self._unread:  # dropped meanwhile, by a finalizer that saw the old ones
                unread.pop(serial, None)
            self._news.notify_all()
        gone.clear()  # unmapped here, outside of the lock


def copies_of(views: list[memoryview]) -> list[memoryview]:
    """Writable copies of a loan's views. One that is alone in a segment for once goes back to the kernel meanwhile."""
    loan: Any = views[0].obj
    punch = loan.drainable >= 0
    if punch:
        loan.drainable, loan.drained = -1, True
    return [memoryview(copy_bytearray(view, punch=punch)) for view in views]


def _look_at(fd: int, size: int) -> _Known:
    if fd < 0:
        return _Known(None, error=OSError(errno.EMFILE, "no descriptor was left to receive shared memory with"))
    try:
        mapping, once = segment.receive(fd, size)
    except (OSError, ProtocolError) as error:
        return _Known(None, error=error)
    return _Known(mapping, once)


def _read(ref: Any) -> tuple[int, list[Span]]:
    """Check the form of a reference."""
    match ref:
        case [int(serial), spans] if type(spans) is LIST and all(
            type(span) is LIST and len(span) == 2 and all(type(each) is int and each >= 0 for each in span)
            for span in spans
        ):
            return serial, spans
        case _:
            pass
    raise ProtocolError("a reference to shared memory is [number, [[offset, size], ...]]")


@functools.lru_cache(maxsize=64)
def _exporter(size: int) -> Any:
    # Kept by size, which there are few of, since making a class takes longer than all the rest of `get`.
    return segment.exporter(Loan, size)
