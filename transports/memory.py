"""The shared memory of one channel, at either end: what this side lends, and what it keeps of the other's.

    Lender --SEGMENT + descriptor, RETIRED--> control line --> Borrower        and FREED back, by number of the loan

Guarantees: nothing is made before it is needed. A loan that nobody looks at any more is told to its owner soon after.
Called by: the channel and the child's wire.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

from concurry.transports import control
from concurry.transports.segments import Borrower, Lender  # here: the hub's thread must not wait for an import

Tell = Callable[..., object]


class Memory:
    """See the module's docstring.

    Args:
        tell: sends a control message: `tell(message, fds)`.
        let_go: told the number of a loan that is over, from a finalizer: it may take no lock, and calls `freed` later.
        copies: buffers come as private, writable copies.
    """

    def __init__(self, tell: Tell, let_go: Callable[[int], None], *, copies: bool) -> None:
        self.copies = copies
        self._tell = tell
        self._let_go = let_go
        self._lender: Any = None
        self._borrower: Any = None
        self._closed = False
        self._lock = allocate_lock()  # protects the making of the two

    def lender(self) -> Any:
        """What lends memory to the peer."""
        with self._lock:
            if self._lender is None and not self._closed:
                self._lender = Lender(self._announce, self._retire)
            return self._lender

    def _announce(self, serial: int, fd: int, size: int) -> None:
        self._tell([control.SEGMENT, serial, size], (fd,))

    def _retire(self, serial: int) -> None:
        self._tell([control.RETIRED, serial])

    def borrower(self) -> Any:
        """What keeps the memory that the peer has lent."""
        with self._lock:
            if self._borrower is None:
                self._borrower = Borrower(self._let_go, copies=self.copies)
                if self._closed:
                    self._borrower.close()
            return self._borrower

    def arrived(self, ref: Any) -> None:
        """A loan of the peer's has come, which somebody may look at later."""
        self.borrower().arrived(ref)

    def drop(self, serial: int) -> None:
        """A loan of the peer's is over that nobody has looked at. From a finalizer."""
        borrower = self._borrower
        if borrower is not None:
            borrower.dropped(serial)
        self._let_go(serial)

    def freed(self, serials: list[int]) -> None:
        """Tell the peer that these loans of its are over."""
        self._tell([control.FREED, serials])

    def heard(self, message: list[Any], fds: list[int]) -> bool:
        """Take a control message that is about memory. False: it is about something else."""
        kind = message[0]
        if kind == control.SEGMENT:
            self.borrower().announced(message[1], fds[0] if fds else -1, message[2])  # none: there was no room for it
        elif kind == control.RETIRED:
            self.borrower().retired(message[1])
        elif kind == control.FREED:
            lender = self.lender()
            if lender is not None:  # else it is closed, with all it has lent
                for serial in message[1]:
                    lender.freed(serial)
        else:
            return False
        return True

    def close(self) -> None:
        """Nothing is lent any more; what is still looked at stays as long as it is."""
        with self._lock:
            self._closed = True
            made = [self._lender, self._borrower]
        for one in made:
            if one is not None:
                one.close()
