"""Shared memory for large buffers between a parent and its child: the two ends, under one name.

    Lender (the sender's process)                                Borrower (the receiver's process)
    put(buffers) ---announce: serial, descriptor, size---------> announced      over a socket of the system, once for
         |                                                           |          each segment
         +----------message with [serial, [[offset, size], ...]]-> get -> views
    freed <-----------------serial---------------------------------- the last view dies
         +------retire: serial---------------------------------> retired

Guarantees, assumptions and callers: see the modules lender, borrower and segment.
"""

from concurry.transports.borrower import Borrower
from concurry.transports.lender import Lender, Ref

__all__ = ["Borrower", "Lender", "Ref"]
