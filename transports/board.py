"""The board: a few numbers in memory that a child and its parent share, written by the child, read by the parent.

It tells, also of a child that was killed, which calls had begun, since when, and at which attempt they were; at no
cost but a store each. Calls of a channel are numbered from 1 in the order in which they were sent, and they start in
that order, so one number says of every call whether it has begun.

    [0] the last call that has begun    [2n + 2], [2n + 3] of call i, n = i % CALLS: when it began (monotonic ns),
                                        and the attempts begun

Guarantees: each number is written in one aligned store; the memory is anonymous and goes with its last holder.
Assumes: at most `CALLS` calls are under way on one channel; CLOCK_MONOTONIC is one clock for the whole machine.
Called by: the child's loop (`begin`, `attempt`), the channel.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

CALLS = 4096  # more than may be under way on one channel
_SIZE = 8 * (2 * CALLS + 2)


class Board:
    """Made by the parent; the child opens the same memory by its descriptor."""

    def __init__(self, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create("concurry board")
            os.ftruncate(fd, _SIZE)
        self.fd: int | None = fd
        self._memory = mmap.mmap(fd, _SIZE)
        self.numbers: Any = memoryview(self._memory).cast("Q")

    def close_fd(self) -> None:
        """The peer has it: only the mapping is needed any more."""
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)

    def begin(self, number: int, now_ns: int) -> None:
        """The call of that number begins."""
        numbers, place = self.numbers, 2 * (number % CALLS) + 2
        numbers[place] = now_ns
        numbers[place + 1] = 0
        numbers[0] = number

    def attempt(self, number: int) -> None:
        """An attempt of it begins, where attempts are counted."""
        self.numbers[2 * (number % CALLS) + 3] += 1

    def begun(self, number: int) -> bool:
        """Whether the call of that number has begun."""
        return bool(self.numbers[0] >= number)

    def last_begun(self) -> int:
        last: int = self.numbers[0]
        return last

    def began_at(self, number: int) -> float:
        """When it began, by the monotonic clock, in seconds."""
        return float(self.numbers[2 * (number % CALLS) + 2]) / 1e9

    def attempts(self, number: int) -> int:
        """How many attempts had begun; 1 where it was never told."""
        return max(1, self.numbers[2 * (number % CALLS) + 3])

    def close(self) -> None:
        """Let go of the memory. Idempotent."""
        self.close_fd()
        if self.numbers is not None:
            self.numbers.release()
            self.numbers = None
            self._memory.close()
