"""A segment: anonymous shared memory, how it is filled, mapped, and copied out of.

Guarantees: never a name in /dev/shm; the kernel frees it with its last mapping or descriptor, whatever killed the
holder. Whoever has mapped it never dies of SIGBUS: all of it is allocated before anybody maps it, so that a lack of
memory is an OSError, and seals keep its size. A mapping holds no descriptor, so loans do not use those up. Copies of
a MiB and more leave the GIL to other threads.
Assumes: Linux. `ctypes` is imported with the first mapping only.
Called by: lender and borrower.

What was measured for 64 MiB, in MB/s: into fresh memory, writing to the descriptor 1,700 (the kernel need not zero the
pages first), allocating and then copying 1,200; into touched memory, memmove 6,000 to 10,000, writing to the descriptor
6,000. So fresh memory is written to, and kept memory is mapped.
"""

from __future__ import annotations

import ctypes  # here: `_c` is called on threads that must not wait for an import
import errno
import fcntl
import functools
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final

from concurry.transports.errors import ProtocolError

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_FREE_GIL: Final = 1 << 20  # bytes from which a copy takes so long that other threads should go on meanwhile
_CHUNK: Final = 16 << 20  # bytes that are there twice, at most, while a segment is drained
# Numbers of Linux, written out: the import succeeds elsewhere, and `create` says what is missing.
_ADD_SEALS, _GET_SEALS = 1033, 1034
_FIXED_SIZE: Final = 0x2 | 0x4  # F_SEAL_SHRINK | F_SEAL_GROW
_FUTURE_WRITE: Final = 0x10  # F_SEAL_FUTURE_WRITE (Linux 5.1): nobody can map it for writing any more
_PROT_READ, _PROT_WRITE, _MAP_SHARED, _MADV_REMOVE = 1, 2, 1, 9

Span = list[int]  # [offset, size] of one buffer


def flat(buffer: Any) -> memoryview:
    """The bytes of a contiguous buffer. Raises BufferError for another."""
    view = memoryview(buffer)
    if view.nbytes == 0:
        return memoryview(b"")  # an empty one of several dimensions cannot be cast
    if not view.c_contiguous:
        raise BufferError("a buffer with gaps cannot be lent")
    return view if view.ndim == 1 and view.format == "B" else view.cast("B")


def create(size: int, parts: Iterable[tuple[Span, memoryview]], *, keep: bool) -> tuple[int, Mapping | None]:
    """A segment that holds these parts. Returns its descriptor, and its mapping where it is to be kept.

    Raises:
        OSError: no memory, no descriptor, or no Linux; nothing is left.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "anonymous shared memory needs Linux")
    fd = os.memfd_create("concurry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    done = False
    try:
        os.ftruncate(fd, size)
        end = 0
        for (offset, _), view in parts:
            end = offset
            while view:
                written = os.pwrite(fd, view, end)  # 2 GiB at most, or up to a signal
                end += written
                view = view[written:]
        if end < size:
            os.posix_fallocate(fd, end, size - end)
        mapping = Mapping(fd, size, writable=True) if keep else None
        _seal(fd, keep=keep)
        done = True
        return fd, mapping
    finally:
        if not done:
            os.close(fd)


def _seal(fd: int, *, keep: bool) -> None:
    # What will be used again is closed to writers, but for the mapping that exists: the receiver can neither spoil the
    # next loan nor punch holes into it. A segment for once stays open, so that its receiver may (see Loan.drain).
    if keep:
        try:
            fcntl.fcntl(fd, _ADD_SEALS, _FIXED_SIZE | _FUTURE_WRITE)
            return
        except OSError as error:
            if error.errno != errno.EINVAL:  # an older kernel: then holes may be punched, and cost time only
                raise
    fcntl.fcntl(fd, _ADD_SEALS, _FIXED_SIZE)


def receive(fd: int, size: int) -> tuple[Mapping, bool]:
    """Map what a peer has created. Returns whether it is for once, too. The descriptor stays the caller's.

    Raises:
        ProtocolError: it is no sealed memory of that size.
        OSError: it cannot be mapped.
    """
    try:
        seals = fcntl.fcntl(fd, _GET_SEALS)
    except OSError as error:
        raise ProtocolError("a segment that is no anonymous memory") from error
    found = os.fstat(fd).st_size
    if seals & _FIXED_SIZE != _FIXED_SIZE or found != size or size <= 0:
        raise ProtocolError(f"a segment announced with {size} bytes has {found}, and seals {seals:#x}")
    once = not seals & _FUTURE_WRITE
    return Mapping(fd, size, writable=once), once


class Mapping:
    """Memory of this process that shows a segment, until nobody refers to this object any more.

    It is unmapped by reference count alone: closing never takes it from under a copy or a view.
    """

    __slots__ = ("_munmap", "_view", "address", "size")

    def __init__(self, fd: int, size: int, *, writable: bool) -> None:
        c = _c()
        self.address = 0
        self.size = size
        self._munmap = c.munmap  # of its own: module globals may be gone when the interpreter ends
        address = c.mmap(None, size, _PROT_READ | (_PROT_WRITE if writable else 0), _MAP_SHARED, fd, 0)
        if address is None or address == c.failed:
            code = c.errno()
            raise OSError(code, f"{os.strerror(code)}: {size} bytes of shared memory cannot be mapped")
        self.address = address
        self._view: memoryview | None = None

    def __del__(self) -> None:
        if self.address:
            self._munmap(self.address, self.size)

    def write(self, offset: int, source: memoryview) -> None:
        """Copy into a writable mapping; the caller has checked the bounds."""
        size = source.nbytes
        if size < _FREE_GIL:
            if self._view is None:
                self._view = memoryview((_c().byte * self.size).from_address(self.address)).cast("B")
            self._view[offset : offset + size] = source
            return
        with _pinned(source) as address:
            _c().memmove(self.address + offset, address, size)


def copy_bytes(view: memoryview, *, punch: bool = False) -> bytes:
    """The content as bytes. `punch`: give the memory back to the kernel on the way; the view shows zeros afterwards."""
    if view.nbytes < _FREE_GIL and not punch:
        return bytes(view)
    copied: bytes = _copied(view, _c().new_bytes, punch)
    return copied


def copy_bytearray(view: memoryview, *, punch: bool = False) -> bytearray:
    """The same as a bytearray."""
    copied: bytearray = _copied(view, _c().new_bytearray, punch)
    return copied


def _copied(view: memoryview, new: Callable[[None, int], Any], punch: bool) -> Any:
    c = _c()
    size = view.nbytes
    copy = new(None, size)  # not initialised: it is filled before anybody else sees it
    if not size:
        return copy
    with _pinned(view) as source, _pinned(copy) as target:
        for at in range(0, size, _CHUNK):
            step = min(_CHUNK, size - at)
            c.memmove(target + at, source + at, step)
            if punch:
                first, end = (source + at) // PAGE * PAGE, (source + at + step) // PAGE * PAGE
                # Where it fails, the memory is there twice for a while, and that is all.
                c.madvise(first, end - first, _MADV_REMOVE)
    return copy


@contextmanager
def _pinned(source: Any) -> Generator[int]:
    """The address of a contiguous buffer, read-only ones included, which stays where it is meanwhile."""
    c = _c()
    buffer = c.buffer()
    c.get_buffer(source, buffer, 0)
    try:
        yield buffer.buf
    finally:
        c.release_buffer(buffer)


@functools.cache
def _c() -> SimpleNamespace:
    """The C functions needed, and types. CDLL lets other threads run meanwhile, pythonapi does not."""
    address, size, integer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

    class Buffer(ctypes.Structure):  # Py_buffer; part of the stable ABI since 3.11
        _fields_ = (
            ("buf", address),
            ("obj", address),
            ("len", ctypes.c_ssize_t),
            ("itemsize", ctypes.c_ssize_t),
            ("readonly", integer),
            ("ndim", integer),
            ("format", address),
            ("shape", address),
            ("strides", address),
            ("suboffsets", address),
            ("internal", address),
        )

    def function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
        found = library[name]  # an object of our own: attributes are shared with everybody who uses ctypes
        found.restype, found.argtypes = result, arguments
        return found

    libc = ctypes.CDLL(None, use_errno=True)
    api = ctypes.pythonapi
    pointer = ctypes.POINTER(Buffer)
    return SimpleNamespace(
        byte=ctypes.c_char,
        buffer=Buffer,
        errno=ctypes.get_errno,
        failed=address(-1).value,
        mmap=function(libc, "mmap", address, address, size, integer, integer, integer, ctypes.c_long),
        munmap=function(libc, "munmap", integer, address, size),
        madvise=function(libc, "madvise", integer, address, size, integer),
        memmove=function(libc, "memmove", address, address, address, size),
        get_buffer=function(api, "PyObject_GetBuffer", integer, ctypes.py_object, pointer, integer),
        release_buffer=function(api, "PyBuffer_Release", None, pointer),
        new_bytes=function(api, "PyBytes_FromStringAndSize", ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t),
        new_bytearray=function(
            api, "PyByteArray_FromStringAndSize", ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t
        ),
    )


def exporter(base: type, size: int) -> Any:
    """A class, made from `base`, of which `from_address` gives an object that exports this many bytes.

    In 3.11 no class written in Python can export a buffer; an array of ctypes can, and views keep it alive.
    """
    return type(base.__name__, (base, _c().byte * size), {})
