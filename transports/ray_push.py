"""What leaves for a Ray actor, and the large results that come from it.

Guarantees: frames are numbered in the order in which they are sent. Buffers and references go as arguments of Ray's own
call, which brings what is large through the object store; a large result stays there until it is read.
Called by: the outbox, for its socket (`RayPush`); futures (`RayParcel`).
"""

from __future__ import annotations

import itertools
import pickle
from typing import Any

from concurry.transports.ray_host import SEQUENCE
from concurry.transports.ray_refs import get, there


class RayParcel:
    """The buffers of a large result, in the object store until somebody reads it."""

    __slots__ = ("_copies", "ref")

    def __init__(self, ref: Any, *, copies: bool) -> None:
        self.ref = ref
        self._copies = copies

    def open(self) -> list[Any]:
        """The buffers, mapped and not copied where they are on this node."""
        return there(*get(self.ref), writable=self._copies)


class RayPush:
    """What `Outbox` takes for its socket; under its lock. As its lender, it takes buffers along with the next frame."""

    refused = False

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._places = itertools.count()
        self._buffers: list[Any] = []
        self._refs: Any = None  # of Ray's objects among them
        self._riding: list[bytes] | None = None  # what goes with the next drain; None: none is about to be opened

    def lender(self) -> RayPush:
        return self

    def put(self, buffers: list[memoryview]) -> int:
        self._buffers = [pickle.PickleBuffer(each) for each in buffers]
        self._refs = getattr(buffers, "refs", None)
        return len(buffers)

    def send(self, frame: bytes, _: int = 0) -> None:
        channel = self._channel
        frame = next(self._places).to_bytes(SEQUENCE, "big") + frame
        beside = [self._refs, *self._buffers] if self._buffers or self._refs else []
        self._buffers, self._refs = [], None
        try:
            if len(channel.under_way) == 1:
                channel.exchange(frame, beside)
            elif self._riding is not None and not beside and not self._riding:
                self._riding.append(frame)
            elif beside:
                channel.expect(channel.actor.push_large.remote(frame, *beside), _ignore)
            else:
                channel.actor.push.remote(frame)
        except Exception as error:  # Ray was shut down under us, or the object store refuses
            channel.lost(error)

    def ride(self) -> None:
        """A drain is about to be opened: the next frame goes with it, which spares a call of Ray's."""
        self._riding = []

    def riding(self) -> list[bytes]:
        """What goes with the drain that is opened now. Under the outbox's lock, like `send`."""
        riding, self._riding = self._riding or [], None
        return riding

    def close(self, linger: int = 0) -> None:
        """There is nothing to close."""


def _ignore(_: Any) -> None:
    """It has arrived."""
