"""Large buffers of what an actor is made of, such as arrays among its init arguments: beside the pickle, in memory that
all processes of a pool map.

    parent: put(buffers) -> a file of anonymous memory, written once, kept for the next start
    child:  mapped(descriptor, sizes) -> views, for unpickling; the mapping goes with the last of them

Guarantees: they are those of the moment of `put`, at each start. A process sees changes of its own only (the mapping is
private), and takes memory of its own for the pages that it writes to, and for no other.
Called by: the pool's `elsewhere` (`put`), `child` (`mapped`).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

_ALIGNED = 64  # what vector instructions and numpy like


def put(buffers: Sequence[memoryview]) -> BinaryIO:
    """A file with these in it. Raises OSError where there is no memory or descriptor for it."""
    file = open(os.memfd_create("concurry-init"), "r+b", buffering=0)  # noqa: SIM115  # the caller's to close
    try:
        for at, view in zip(_places([it.nbytes for it in buffers]), buffers, strict=True):
            left = view
            while left:
                at += (wrote := os.pwrite(file.fileno(), left, at))
                left = left[wrote:]
    except BaseException:
        file.close()
        raise
    return file


def mapped(fd: int, sizes: Sequence[int]) -> list[memoryview]:
    """The buffers, writable. The descriptor is closed."""
    try:
        whole = memoryview(mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE))
    finally:
        os.close(fd)
    return [whole[at : at + size] for at, size in zip(_places(sizes), sizes, strict=True)]


def _places(sizes: Sequence[int]) -> Iterator[int]:
    at = 0
    for size in sizes:
        yield at
        at += -(-size // _ALIGNED) * _ALIGNED
