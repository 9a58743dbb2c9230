"""The board: a few numbers in memory that a child and its parent share, written by the child, read by the parent.

It tells, also of a child that was killed, which calls had begun, since when, and at which attempt they were; at no
cost but a store each. Calls of a channel are numbered in the order in which they were sent, and they start in that
order, so one number says of every call whether it has begun.

    [0] the last call that has begun    [2n + 2], [2n + 3] of call i, n = i % CALLS: when it began (monotonic ns),
                                        and the attempts begun after its first
    behind them: the last replies, in two halves that are filled by turns; each has its own length, written last

The replies are there for a child that dies right after it has sent them: what it had sent may still have been on its
own side, waiting for others or for zmq's thread.

Guarantees: each number is written in one aligned store; the memory is anonymous and goes with its last holder.
Assumes: no two calls under way have the same n: the outbox passes over numbers whose place is taken. CLOCK_MONOTONIC is
one clock for the whole machine.
Called by: the child's calls, when they begin, which write here themselves; the channel reads.
"""

from __future__ import annotations

import mmap
import os
from _thread import allocate_lock
from collections import defaultdict
from collections.abc import Callable
from typing import Any

CALLS = 4096  # places: more than calls may be under way on one channel
_LENGTHS = 2 * CALLS + 2  # where the two lengths of what is kept stand
_KEPT = 8 * (_LENGTHS + 2)
_HALF = 32 << 10  # bytes: the replies of some milliseconds
_SIZE = _KEPT + 2 * _HALF


class Board:
    """Made by the parent; the child opens the same memory by its descriptor."""

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create("concurry board")
            os.ftruncate(fd, _SIZE)
        self.fd: int | None = fd
        self._memory: Any = mmap.mmap(fd, _SIZE)
        self.numbers: Any = memoryview(self._memory)[:_KEPT].cast("Q")
        self._half, self._room = 1, -1  # the half that is filled, and its bytes that are free
        self._write: Callable[[bytes], object] = self._memory.write
        self.keep: Callable[[bytes], object] = self._keep

    def close_fd(self) -> None:
        """The peer has it: only the mapping is needed any more."""
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)

    def tried_again(self, number: int) -> None:
        """Another attempt of a call begins, after its first."""
        self.numbers[2 * (number % CALLS) + 3] += 1

    def begun(self, number: int) -> bool:
        """Whether the call of that number has begun."""
        return bool(self.numbers[0] >= number)

    def last_begun(self) -> int:
        last: int = self.numbers[0]
        return last

    def began_at(self, number: int) -> float | None:
        """When it began, by the monotonic clock, in seconds; None: the board is closed."""
        nanoseconds: int = self.numbers[2 * (number % CALLS) + 2]
        return nanoseconds / 1e9 if nanoseconds else None

    def attempts(self, number: int) -> int:
        """How many attempts of a call have begun."""
        return 1 + int(self.numbers[2 * (number % CALLS) + 3])

    def _keep(self, reply: bytes) -> None:
        """A reply is sent, or is about to be; a large one is not kept. It costs some 0.2 us."""
        room = self._room - len(reply)
        if room < 0:
            if len(reply) > _HALF // 8:
                return
            self._half = 1 - self._half
            self.numbers[_LENGTHS + self._half] = 0
            self._memory.seek(_KEPT + self._half * _HALF)
            room = _HALF - len(reply)
        self._write(reply)
        self._room = room
        self.numbers[_LENGTHS + self._half] = _HALF - room

    def keep_for_many(self) -> None:
        """From now on several threads keep replies."""
        lock = allocate_lock()

        def keep(reply: bytes) -> None:
            with lock:
                self._keep(reply)

        self.keep = keep

    def kept(self) -> bytes:
        """The last replies, one after the other."""
        found = b""
        for half in (0, 1):
            begin = _KEPT + half * _HALF
            found += self._memory[begin : begin + min(self.numbers[_LENGTHS + half], _HALF)]
        return found

    def kept_by_the_living(self) -> bytes:
        """The same of a child that may be writing here: twice the same."""
        before = self.kept()
        while (now := self.kept()) != before:
            before = now
        return now

    def close(self) -> None:
        """Let go of the memory. Idempotent."""
        if self._memory is None:
            return
        self.close_fd()
        # Somebody may be looking right now: the memory goes with the last who has it, and who looks later sees what it
        # said last of what has begun, and zeros.
        last, self.numbers = self.numbers[0], defaultdict(int)
        self.numbers[0] = last
        self._memory = None
        self.keep = self._write = _nowhere


def _nowhere(_: bytes) -> None:
    """There is no memory to write to any more."""
