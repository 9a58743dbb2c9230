"""The wire of a child by itself: what is held back, and how replies are counted."""

from __future__ import annotations

import os
import threading
from typing import Any

import msgpack
import pytest

from concurry.transports import codec, control
from concurry.transports.wire import Wire


def _packed(item: Any) -> bytes:
    packed: Any = msgpack.packb(item)
    return bytes(packed)


def test_the_ear_does_not_forget_a_reply_that_is_held_as_it_looks() -> None:
    """At the very moment at which the ear finds the outbox empty, the child's main thread holds a reply, and looks
    whether the ear has to be woken."""
    wire: Any = Wire.__new__(Wire)
    woken: list[bool] = []

    class Out(list[tuple[bytes, float]]):
        def __bool__(self) -> bool:
            found = len(self) > 0
            if not found:  # what `Wire.reply` does on the other thread
                self.append((b"held", 1))
                woken.extend([True] if not wire._flushing else [])
            return found

    wire._out_lock = threading.Lock()
    wire._out = Out()
    wire._flushing = True
    wire._held_since = 0
    wire._look_after_the_outbox()
    assert wire._flushing or woken


class Sockets:
    """What is sent from a wire."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send_multipart(self, frames: list[Any], copy: bool) -> None:
        self.sent.append(frames[0])

    def send(self, frame: bytes, _: int) -> None:
        self.sent.append(frame)


def silent_wire() -> Any:
    """A wire that is not connected: what it would send is in `sockets.sent`."""
    wire: Any = Wire.__new__(Wire)
    wire.sockets = wire._replies = Sockets()
    wire._send = wire.sockets.send
    wire.board = wire.memory = wire
    wire.keep = lambda reply: None
    wire.waiting = ()
    wire.large = 0
    wire.lender = lambda: None
    wire._out_lock = threading.Lock()
    wire._last, wire._out = [], []
    wire.replied = wire._busy_ns = wire._told_ns = wire._held_since = 0
    wire._mean_ns, wire._flushing = 1e9, False
    return wire


def test_replies_of_several_threads_are_all_counted() -> None:
    """One thread sends a large reply, with the outbox's lock, as another one comes with a small one."""
    wire = silent_wire()
    lock = wire._out_lock
    comes = threading.Event()

    class Lock:
        def __enter__(self) -> None:
            if threading.current_thread() is other:
                comes.set()
            lock.acquire()

        def __exit__(self, *_: Any) -> None:
            lock.release()

    def lender() -> None:
        other.start()
        assert comes.wait(20)

    wire._out_lock, wire.lender = Lock(), lender
    other = threading.Thread(target=wire.reply, args=(_packed([2, codec.OK, codec.PLAIN, "small"]), None, 0, 300))
    wire.reply(_packed([1, codec.OK, codec.PLAIN, None]), [memoryview(b"large")], 0, 100)
    other.join(20)
    assert wire.total() == 2
    assert [codec.read(frame)[0][1] for frame in wire.sockets.sent] == [100, 300], "each with how long it took"


def test_replies_that_are_held_are_counted_once() -> None:
    wire = silent_wire()
    wire.waiting, wire.looks_for_more = [None], True
    wire._wake = os.eventfd(0)
    wire._mean_ns = 0.0
    for number in range(1, 4):
        wire.reply(_packed([number, codec.OK, codec.PLAIN, None]), None, 0, 100 * number)
        assert wire.total() == number
    assert wire.sockets.sent == []
    wire.flush()
    assert wire.total() == 3
    assert [codec.read(frame)[0][1] for frame in wire.sockets.sent] == [200], "the mean"
    os.close(wire._wake)


def test_a_busy_control_line_does_not_keep_the_ear_from_what_is_held() -> None:
    class HeardEnough(Exception):
        pass

    class Line:
        """There is always another message."""

        heard = 0

        def fileno(self) -> int:
            return line_fd

        def receive(self) -> Any:
            self.heard += 1
            if wire.sockets.sent or self.heard > 2:
                raise HeardEnough
            return [control.RUNTIME], []

    line_fd = os.eventfd(1)
    wire = silent_wire()
    wire._boot = {"parent": -1}  # no process: nobody's end is waited for
    wire._wake = os.eventfd(0)
    wire.line = Line()
    wire.on_message = lambda message, fds: None
    wire._out.append((_packed([1, codec.OK, codec.PLAIN, None]), 1))
    wire._flushing, wire._held_since = True, 0
    try:
        with pytest.raises(HeardEnough):
            wire._hear()
        assert len(wire.sockets.sent) == 1
    finally:
        os.close(line_fd)
        os.close(wire._wake)
