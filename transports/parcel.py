"""A message between parent and child: its frames, and the large buffers that go beside it.

    frame 0   header [kind, number, more, ref, sizes], then the calls or replies themselves, one msgpack array each
    frames    buffers that are small, or that found no room in shared memory, in pieces of `PIECE` at most

`ref` names a loan of shared memory that holds the buffers; `sizes` tells how the frames make them up. A message with
buffers carries one call or one reply.

Guarantees: buffers arrive in their order and number; a full memory is no error, they go over the socket then. What is
announced is checked against what came. Memory that the receiver cannot map fails one message, and is not lent again.
Called by: the channel and the child's wire, each with a Lender for what it sends and a Borrower for what it gets.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable
from itertools import chain, repeat
from typing import Any, Final

import msgpack
import zmq

from concurry.transports.borrower import copies_of
from concurry.transports.errors import ProtocolError

log = logging.getLogger("concurry")
_pack = msgpack.packb

CALLS, END, REPLIES = 1, 2, 3  # kinds of header
PIECE: Final = 64 << 20  # bytes of a buffer that one frame holds at most
NOBLOCK: Final = int(zmq.NOBLOCK)  # an int: an enum's member costs more than sending
MAX_FRAME: Final = 128 << 20  # bytes: a peer that announces a larger frame is cut off


def sender(socket: Any) -> Any:
    """`socket.send(frame, flags)` without pyzmq's layer in Python, for what we do not use: trackers, views."""
    return super(zmq.Socket, socket).send if isinstance(socket, zmq.Socket) else socket.send


def header(kind: int, number: int, more: Any = None, ref: Any = None, sizes: Any = None) -> bytes:
    """The first object of frame 0: the array [kind, number, more, ref, sizes]. `number`: of the first call, or the
    nanoseconds that the calls took in the mean.
    `more`: of calls, what some of them carry; of replies, how long each took (`spans`)."""
    if more is ref is sizes is None:  # by hand: making a packer costs more than all the rest of sending a call
        return _FIVE[kind] + number.to_bytes(8, "big") + _NONE_OF_THREE
    if more.__class__ is bytes and len(more) < 256 and ref is sizes is None:
        return _FIVE[kind] + number.to_bytes(8, "big") + b"\xc4" + len(more).to_bytes() + more + _NONE_OF_THREE[:2]
    packed: bytes = _pack([kind, number, more, ref, sizes])
    return packed


def spans(each_ns: list[float]) -> bytes:
    """How long calls took, in the order of their replies: the header's `more`, where there are several."""
    return array("f", each_ns).tobytes()


def spans_of(more: Any, mean_ns: int) -> Iterable[float]:
    """The same, as it came; without end where it is told of all of them together."""
    each: Any = array("f", more) if more.__class__ is bytes and not len(more) % 4 else ()
    return chain(each, repeat(mean_ns))  # there is one for each reply, whatever has come


_FIVE: Final = tuple(
    bytes([0x95, kind, 0xCF]) for kind in range(4)
)  # an array of five, a small int, an unsigned 64-bit
_NONE_OF_THREE: Final = b"\xc0\xc0\xc0"


def stow(lender: Any, buffers: list[memoryview], large: int | None) -> tuple[Any, Any, list[Any]]:
    """Bring buffers under way: in shared memory where they are `large` together and there is room, else as frames.

    Returns:
        The header's `ref` and `sizes`, and the frames.
    """
    total = sum(buffer.nbytes for buffer in buffers)
    if large is not None and total >= large and lender is not None:
        try:
            return lender.put(buffers), None, []
        except (OSError, MemoryError) as error:
            first, lender.refused = not lender.refused, True
            log.log(
                logging.WARNING if first else logging.DEBUG,
                "concurry: no shared memory for %d bytes (%s); they go over the socket, which is slower%s",
                total,
                error,
                ". Said once for each process" if first else "",
            )
    frames = [buffer[at : at + PIECE] for buffer in buffers for at in range(0, max(buffer.nbytes, 1), PIECE)]
    return None, [buffer.nbytes for buffer in buffers], frames


def unstow(get: Any, ref: Any, sizes: Any, frames: list[Any], *, copies: bool) -> list[Any] | None:
    """The buffers of a message; None where it has none. Frames are memory of our own already.

    Raises:
        ProtocolError: what came is not what was announced.
    """
    if ref is not None:
        if frames or get is None:
            raise ProtocolError("a message whose buffers are in two places")
        buffers: list[Any] = get(ref)
        return buffers
    if sizes is None:
        if frames:
            raise ProtocolError("a message with buffers that it does not announce")
        return None
    found: list[Any] = []
    left = iter(frames)
    for size in sizes:
        pieces: list[Any] = [next(left, b"") for _ in range(max(1, -(-size // PIECE)))]
        if sum(map(len, pieces)) != size:
            raise ProtocolError("a message whose buffers are not as long as it says")
        found.append(bytearray().join(pieces) if copies or len(pieces) > 1 else pieces[0])
    if next(left, None) is not None:
        raise ProtocolError("a message with buffers that it does not announce")
    return found if copies else [memoryview(each).toreadonly() for each in found]


def opened(memory: Any, ref: Any, sizes: Any, frames: list[Any], *, lent: bool = False) -> list[Any] | None:
    """The same, from the memory of a channel. Raises OSError or MemoryError where that cannot be had: the loan has been
    given back then. `lent`: views of what is lent, also where copies are wanted."""
    borrower = memory.borrower() if ref is not None else None
    get = borrower and (borrower.views if lent else borrower.get)
    return unstow(get, ref, sizes, frames, copies=memory.copies)


def frames_of(sizes: Any) -> int:
    """How many frames the buffers of these sizes make."""
    return sum(max(1, -(-size // PIECE)) for size in sizes)


class Missing:
    """Buffers that could not be had: whoever asks for one is told why."""

    def __init__(self, why: BaseException) -> None:
        self._why = why

    def __getitem__(self, _: Any) -> Any:
        raise self._why


class Parcel:
    """The buffers of a reply that nobody has read yet; they can be had also when its channel has been closed."""

    __slots__ = ("_buffers", "_copied", "_frames", "_memory", "_ref", "_sizes")

    def __init__(self, memory: Any, ref: Any, sizes: Any, frames: list[bytes]) -> None:
        self._buffers: list[Any] | None = None  # once they have been asked for
        self._copied = ref is not None and memory.copies
        self._memory = memory
        self._ref = ref
        self._sizes = sizes
        self._frames = frames
        if ref is not None:
            memory.arrived(ref)

    def open(self) -> list[Any] | None:
        """The buffers; again, where a reader was interrupted. What is lent stays so for as long as this lives. Raises
        as `opened` does; also OSError: it was interrupted after parts of it, too large to be kept twice, had gone."""
        if self._ref is not None or self._buffers is None:
            try:
                self._buffers = opened(self._memory, self._ref, self._sizes, self._frames, lent=True)
            except Exception:  # the loan has been given back
                self._ref = None
                raise
            self._ref = None
        buffers = self._buffers or []
        if any(getattr(getattr(each, "obj", None), "drained", False) for each in buffers):
            raise OSError("its reading was interrupted after parts of it had been given back to the kernel")
        return copies_of(buffers) if self._copied and buffers else self._buffers

    def __del__(self) -> None:
        if self._ref is not None:  # nobody wanted it: the loan is over
            self._memory.drop(self._ref[0])
