"""The lender: the sending side of a channel's large buffers.

    put(buffers) -> ref ...in a message... Borrower.get(ref) -> views ...the last dies... freed(serial)

    a new segment:   filled -> announced -> lent         what is lent comes back to `kept`, and is taken from there
    a kept segment:            filled    -> lent         first; what there is too much of is retired, oldest first

Touching fresh memory costs several times the copy, so segments are kept. One too large to be kept is for once.

Guarantees: a `put` that raises has changed nothing, but that nothing is kept where memory was short. A segment that is
lent is not written to. No descriptor stays open. After `close` the memory goes with the last copy or view that uses it.
Assumes: the message with the reference is sent after `put` returns; `freed` comes once for each loan.
Called by: the channel and the child's wire, from any thread. After a fork the child uses nothing of it.
"""

from __future__ import annotations

import errno
import os
from _thread import allocate_lock
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from concurry.transports import segment
from concurry.transports.segment import PAGE, Mapping, Span, flat

Ref = list[Any]  # [serial, [[offset, size], ...]]: plain data for a message

_ALIGN: Final = 64  # bytes: a cache line, and what arrays like
_SMALLEST: Final = 64 << 10  # bytes
_MOST_LENT: Final = 1024  # a loan is a mapping in both processes; of these a process may have some 65,000 altogether
_MOST_KEPT: Final = 256


class Stats(NamedTuple):
    """What a lender holds, in bytes; and how often something was freed that was not lent."""

    lent: int
    kept: int
    strangers: int


class _Segment(NamedTuple):
    serial: int
    size: int
    mapping: Mapping | None  # None: for once, it is never written again


class Lender:
    """See the module's docstring.

    Args:
        announce: told the serial number, descriptor and size of each new segment, from within `put`. It passes the
            descriptor on at once, or a duplicate of it later: this one is closed when it returns. What it raises,
            `put` raises.
        retire: told the serial number of a segment that will not come again; from within `put` or `freed`.
        keep_each: bytes of the largest segment that is kept.
        keep_all: bytes of all that are kept and not lent.
    """

    def __init__(
        self,
        announce: Callable[[int, int, int], None],
        retire: Callable[[int], None],
        *,
        keep_each: int = 128 << 20,
        keep_all: int = 256 << 20,
    ) -> None:
        self.refused = False  # whether that has been said; the caller's
        self._announce = announce
        self._retire = retire
        self._keep_each = min(keep_each, keep_all)
        self._keep_all = keep_all
        # Protects all below. Nothing is copied, mapped or told under it, and no other lock is taken.
        self._lock = allocate_lock()
        self._last_serial = 0
        self._lent: dict[int, _Segment] = {}
        self._kept: OrderedDict[int, _Segment] = OrderedDict()  # the one that came back last, last
        self._useless: set[int] = set()  # which the peer could not map, and which are not retired yet
        # Invariant: a segment is in one of these two, or in the hands of one `put`.
        self._lent_bytes = self._kept_bytes = self._strangers = 0
        self._closed = False

    @property
    def stats(self) -> Stats:
        with self._lock:
            return Stats(self._lent_bytes, self._kept_bytes, self._strangers)

    def put(self, buffers: Sequence[Any]) -> Ref:
        """Copy contiguous buffers into one segment, and lend it.

        Raises:
            OSError, MemoryError: no memory, descriptor or mapping is left, too much is lent already, or it is closed.
                Send them otherwise.
        """
        views = [flat(buffer) for buffer in buffers]
        spans, need = _layout(views)
        taken = self._take(need)
        if taken is None:
            taken = self._create(need, spans, views)
        else:
            self._fill(taken, spans, views)
        self._lend(taken)
        return [taken.serial, spans]

    def _take(self, need: int) -> _Segment | None:
        """The smallest kept segment that fits and is not much too large; the last used of equal ones."""
        most = max(2 * need, _SMALLEST)
        with self._lock:
            self._check_room()
            best: _Segment | None = None
            for each in reversed(self._kept.values()):
                if need <= each.size <= most and (best is None or each.size < best.size):
                    best = each
            if best is not None:
                del self._kept[best.serial]
                self._kept_bytes -= best.size
            return best

    def _check_room(self) -> None:
        if self._closed:
            raise BrokenPipeError(errno.ESHUTDOWN, "the channel is closed, and lends no memory")
        if len(self._lent) >= _MOST_LENT:
            raise OSError(
                errno.ENOBUFS,
                f"{_MOST_LENT} arguments or results in shared memory are still looked at: drop some, or raise "
                f"shared_memory_threshold",
            )

    def _fill(self, taken: _Segment, spans: list[Span], views: list[memoryview]) -> None:
        assert taken.mapping is not None
        done = False
        try:
            for (offset, _), view in zip(spans, views, strict=True):
                taken.mapping.write(offset, view)
            done = True
        finally:
            if not done:
                self._keep(taken)

    def _create(self, need: int, spans: list[Span], views: list[memoryview]) -> _Segment:
        size, keep = _size(need, self._keep_each)
        try:
            fd, mapping = segment.create(size, zip(spans, views, strict=True), keep=keep)
        except (OSError, MemoryError):
            self.retire_kept()  # what is kept did not fit, and may be what is missing
            raise
        try:
            with self._lock:
                self._last_serial += 1
                serial = self._last_serial
            self._announce(serial, fd, size)
        finally:
            os.close(fd)
        return _Segment(serial, size, mapping)

    def _lend(self, taken: _Segment) -> None:
        # Only now: a peer that says too early that it is done does not bring the segment into two hands.
        with self._lock:
            if not self._closed:
                self._lent[taken.serial] = taken
                self._lent_bytes += taken.size
                return
        raise BrokenPipeError(errno.ESHUTDOWN, "the channel was closed meanwhile")

    def freed(self, serial: int) -> None:
        """The peer holds no view of this loan any more. One that is not lent is counted only. `~serial`: the peer could
        not map that segment, so it is not lent again; this comes before the end of its loan."""
        if serial < 0:
            with self._lock:
                if 0 < ~serial <= self._last_serial:
                    self._useless.add(~serial)
                else:
                    self._strangers += 1
            return
        with self._lock:
            back = self._lent.pop(serial, None)
            if back is None:
                self._strangers += 1
                return
            self._lent_bytes -= back.size
            useless = serial in self._useless
            self._useless.discard(serial)
        if useless or back.mapping is None:
            self._retire(serial)
        else:
            self._keep(back)

    def _keep(self, back: _Segment) -> None:
        with self._lock:
            if self._closed:
                return
            self._kept[back.serial] = back
            self._kept_bytes += back.size
        self._trim(self._keep_all, _MOST_KEPT)

    def _trim(self, size: int, number: int) -> None:
        """Retire the kept segments that were not used for longest, until no more than this is kept."""
        gone: list[_Segment] = []
        with self._lock:
            while self._kept_bytes > size or len(self._kept) > number:
                _, oldest = self._kept.popitem(last=False)
                self._kept_bytes -= oldest.size
                gone.append(oldest)
        for each in gone:
            self._retire(each.serial)

    def retire_kept(self) -> None:
        """Keep nothing of what is kept for later."""
        self._trim(0, 0)

    def close(self) -> None:
        """Lend no more, and let go of all memory. The peer is not told: its channel ends, too. Idempotent."""
        with self._lock:
            self._closed = True
            gone = [*self._lent.values(), *self._kept.values()]
            self._lent.clear()
            self._kept.clear()
            self._lent_bytes = self._kept_bytes = 0
        gone.clear()  # unmapped here, outside of the lock


def _layout(views: list[memoryview]) -> tuple[list[Span], int]:
    """Where each goes, and the bytes they need together."""
    spans: list[Span] = []
    end = 0
    for view in views:
        start = -(-end // _ALIGN) * _ALIGN
        end = start + view.nbytes
        spans.append([start, view.nbytes])
    return spans, end


def _size(need: int, keep_each: int) -> tuple[int, bool]:
    """The size of a new segment, and whether it is to be kept. A kept one is up to an eighth larger than needed: sizes
    that differ a little can use one another's."""
    pages = max(1, -(-need // PAGE)) * PAGE
    if pages > keep_each:
        return pages, False
    step = max(PAGE, (1 << (need - 1).bit_length()) // 16) if need else PAGE
    roomy = max(_SMALLEST, -(-need // step) * step)
    return (roomy if roomy <= keep_each else pages), True
