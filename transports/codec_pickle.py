"""Pickling for the wire: whatever is not plain, with its large buffers beside it.

    dump(value, tops) -> (stream, buffers)     in the caller's thread, at submission
    load(body, buffers) -> value               in the reader's thread; what it unpickles is `body`, or the first buffer

Guarantees:
- Protocol 5. Buffers of `INLINE` bytes or more are not copied: they come as flat memoryviews, in the order in which the
  stream asks for them. `bytes`, `bytearray` and `memoryview` are among them where one stands in `tops` or one level
  inside a list, tuple or dict of `tops`; each arrives as what it was.
- What refers to `__main__`, be it under another name (`BY_VALUE`), goes by value, through cloudpickle, and so does what
  the plain pickle refuses. A class keeps its identity there and back, and its attributes: a process that knows it
  already does not take them again.
- A stream of `LARGE` bytes or more becomes the first buffer, and the body is empty.
Assumes: nobody changes the buffers before they are sent; a body comes from a peer that has been authenticated.
Called by: `codec` and `codec_exceptions`. Errors pass as they are; `codec` gives them their words.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
import weakref
from array import array
from collections import ChainMap
from collections.abc import Callable, Iterable
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

from concurry.transports.anything import TUPLE, type_of
from concurry.transports.errors import ProtocolError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

INLINE: Final = 16 * 1024  # bytes; a buffer below this is cheaper to copy than to carry by itself
LARGE: Final = 256 * 1024  # bytes; a stream from this on is a buffer itself, so that it can go through shared memory
# Modules that are other ones in other processes: a script; the same in a child of multiprocessing's; and as
# `runpy.run_path` names what it runs, for as long as it does.
BY_VALUE: Final = ("__main__", "__mp_main__", "<run_path>")
_BUFFERS: Final = frozenset({bytes, bytearray, memoryview})

Pickled = tuple[bytes, list[memoryview]]


class Unsendable(TypeError):
    """What a thing of ours raises that cannot be pickled, and says itself what to do."""


def dump(value: Any, tops: Iterable[Any]) -> Pickled:
    """Pickle `value`; `tops` are the parts of it whose bytes are worth looking for. Raises what pickling raises."""
    buffers: list[memoryview] = []
    return _dump(value, _has_buffers(tops), buffers), buffers


def dump_alone(value: Any) -> bytes:
    """The same with nothing beside the stream, however large."""
    return _dump(value, False, None)


def load(body: Any, buffers: list[Any] | None) -> Any:
    """Rebuild what `dump` was given. Raises ProtocolError for what is no body, or what unpickling raises."""
    if type(body) is not bytes:
        raise ProtocolError(f"a pickled body must be bytes, not {type(body).__name__}")
    if not body:
        if not buffers:
            raise ProtocolError("an empty body says that its stream is the first buffer, and there is none")
        source = io.BufferedReader(_View(buffers[0]), LARGE)  # loads() would not know of persistent ids
        return _BufferUnpickler(source, buffers=buffers[1:]).load()
    if b"Q" in body:  # BINPERSID, or a letter
        return _BufferUnpickler(io.BytesIO(body), buffers=buffers).load()
    return pickle.loads(body, buffers=buffers)


def take_bytes(buffer: ReadableBuffer) -> bytes:
    """The bytes of a buffer that came beside a stream.

    An owner of the memory that has `drain(view) -> bytes` is asked for them: it may free while it copies, so that a
    large value is not in memory twice.
    """
    if type(buffer) is bytes:
        return buffer
    view = memoryview(buffer)
    owner: Any = view.obj
    for candidate in (owner, getattr(owner, "obj", None)):
        drain = getattr(type_of(candidate), "drain", None)
        if drain is not None:
            drained: bytes = drain(candidate, view)
            return drained
    return bytes(view)


# -- there ------------------------------------------------------------------------------------------------------------


def _has_buffers(tops: Iterable[Any]) -> bool:
    """Whether there are bytes worth carrying by themselves. Views count at any size: pickle knows none."""
    for top in tops:
        kind = type_of(top)
        inner: Iterable[Any]
        if kind in _BUFFERS:
            inner = (top,)
        elif kind is list or kind is tuple:
            inner = top
        elif kind is dict:
            inner = top.values()
        else:
            continue
        if not _BUFFERS.isdisjoint(map(type, inner)):
            for value in inner:
                kind = type_of(value)
                if kind is memoryview or (kind in _BUFFERS and len(value) >= INLINE):
                    return True
    return False


def _dump(value: Any, with_buffers: bool, buffers: list[memoryview] | None) -> bytes:
    """Plainly, or by value where that is needed. `buffers` is filled; None keeps them in the stream."""
    stream: bytes | None = None
    try:
        if with_buffers:
            stream = _dump_with(_BufferPickler, value, buffers)
        else:
            stream = pickle.dumps(value, 5, buffer_callback=_collector(buffers))
    except (KeyboardInterrupt, RecursionError, MemoryError):
        raise  # cloudpickle would end alike
    except BaseException:  # lambdas, local classes, and whatever a user's hook raises: cloudpickle has the last word
        stream = None
    if stream is not None and b"_main__" not in stream and b"<run_path>" not in stream:
        return stream
    # Plain pickle names what is in `__main__`, and only the other side would notice that its `__main__` is another one.
    kept = buffers and buffers.copy()
    if buffers:
        buffers.clear()
    try:
        return _dump_with(_by_value_pickler(), value, buffers)
    except (KeyboardInterrupt, RecursionError, MemoryError):
        raise
    except BaseException:
        if stream is None or _refers_to_main(stream):
            raise
        if buffers is not None:
            buffers[:] = kept or ()
        return stream


def _refers_to_main(stream: bytes) -> bool:
    """Whether a plain pickle names something of `__main__`, and does not only hold the word."""
    from pickletools import genops

    memo: Any = []  # a list; what genops gives for its indices has all types
    strings: list[Any] = [None, None]  # the last two pushed: what STACK_GLOBAL takes
    top: Any = None  # the last thing pushed, where that is a string
    for opcode, argument, _ in genops(stream):
        if opcode.name == "MEMOIZE":
            memo.append(top)
            continue
        if opcode.name == "STACK_GLOBAL" and strings[0] in BY_VALUE:
            return True
        top = memo[argument] if opcode.name in ("BINGET", "LONG_BINGET") else argument
        top = top if isinstance(top, str) else None
        if top is not None:
            strings = [strings[1], top]
    return False


def _collector(buffers: list[memoryview] | None) -> Callable[[pickle.PickleBuffer], Any] | None:
    if buffers is None:
        return None

    def collect(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:
            return True  # not contiguous: pickle says so
        if view.nbytes < INLINE:
            return True  # True: keep it in the stream
        buffers.append(view)
        return False

    return collect


def _dump_with(kind: Callable[..., Any], value: Any, buffers: list[memoryview] | None) -> bytes:
    file = io.BytesIO()
    kind(file, 5, buffer_callback=_collector(buffers)).dump(value)
    return file.getvalue()


class _Seen:
    """Persistent ids for bytes, bytearrays and views: `(number, how to make it again, ...)` the first time, `(number,)`
    from then on, so that one object sent twice is one object there, and is carried once.

    Not wrapper objects in copies of the containers: a container that is also reached another way would become two.
    """

    # Invariant: holds what it numbers, or an id could come to mean another object.
    _numbered: dict[int, tuple[int, Any]]

    def persistent_id(self, value: Any) -> tuple[Any, ...] | None:
        kind = type_of(value)
        if kind is bytes or kind is bytearray:
            if len(value) < INLINE:
                return None
        elif kind is not memoryview:
            return None
        try:
            numbered = self._numbered
        except AttributeError:
            numbered = self._numbered = {}
        known = numbered.get(id(value))
        if known is not None:
            return (known[0],)
        number = len(numbered)
        numbered[id(value)] = (number, value)
        if kind is memoryview:
            return number, "memoryview", *_described(value)
        return number, kind.__name__, pickle.PickleBuffer(value)


class _BufferPickler(_Seen, pickle.Pickler):
    """C's pickler, that lets large bytes go beside the stream."""


_made: list[Callable[..., Any]] = []  # the class below, once somebody needs it


def _by_value_pickler() -> Callable[..., Any]:
    if not _made:
        import cloudpickle

        table: Any = cloudpickle.Pickler.dispatch_table
        reduce_code = table[CodeType]

        def code_of_its_file(code: CodeType) -> tuple[Any, ...]:
            make, args = reduce_code(code)
            return make, tuple(code.co_filename if arg == "<dynamic-code>" else arg for arg in args)

        class ByValuePickler(_Seen, cloudpickle.Pickler):
            """cloudpickle's pickler, with views kept what they are (by itself it makes them bytes), with classes kept
            as they are where they are known, and with the names of files, for tracebacks."""

            def reducer_override(self, value: Any) -> Any:
                reduced = super().reducer_override(value)
                if isinstance(value, type) and type(reduced) is TUPLE and len(reduced) == 6:
                    with _class_lock:
                        _known_classes.add(value)
                    return *reduced[:5], _set_class_state
                return reduced

        ByValuePickler.dispatch_table = ChainMap({CodeType: code_of_its_file}, table)
        _made.append(ByValuePickler)
    for name in BY_VALUE[1:]:
        script = sys.modules.get(name)
        if script is not None:
            from cloudpickle import register_pickle_by_value

            register_pickle_by_value(script)
    return _made[0]


# Classes that were sent or have arrived by value. cloudpickle would set all attributes of such a class anew with each
# pickle that has it: what a worker counts in its class would begin again with each call, and the methods of the user's
# own class would be copies, with copied globals, once an instance came back.
_known_classes: weakref.WeakSet[type] = weakref.WeakSet()
_class_lock = threading.RLock()  # protects the set, and a class whose attributes are being set; nothing is taken inside


def _set_class_state(kind: type, state: Any) -> None:
    """Called by a pickle, where a class arrives: filled the first time only."""
    from cloudpickle.cloudpickle import _class_setstate  # pyright: ignore[reportPrivateUsage]

    with _class_lock:
        if kind not in _known_classes:
            _class_setstate(kind, state)
            _known_classes.add(kind)


def _described(view: memoryview) -> tuple[pickle.PickleBuffer, str, tuple[int, ...]]:
    flat, shape = view if view.c_contiguous else memoryview(view.tobytes()), view.shape or ()
    _shaped(flat, view.format, shape)  # raises here what would raise there
    return pickle.PickleBuffer(flat), view.format, shape


# -- and back ---------------------------------------------------------------------------------------------------------


def _shaped(flat: ReadableBuffer, form: str, shape: tuple[int, ...]) -> memoryview:
    try:
        if 0 not in shape:
            view: Any = memoryview(flat).cast("B")  # of any form
            shaped: memoryview = view.cast(form, shape)
            return shaped
        if len(shape) == 1:
            made: Any = array  # of what, the format says
            return memoryview(made(form))  # an empty view cannot be cast
    except (TypeError, ValueError) as error:
        raise TypeError(f"a memoryview of format {form!r} and shape {shape} cannot be sent: {error}") from error
    raise TypeError(f"a memoryview of format {form!r} and shape {shape} cannot be sent")


class _BufferUnpickler(pickle.Unpickler):
    _values: dict[int, Any]

    def persistent_load(self, pid: Any) -> Any:
        try:
            values = self._values
        except AttributeError:
            values = self._values = {}
        number, *made_from = pid
        if made_from:
            kind, buffer, *view = made_from
            if kind == "bytes":
                values[number] = take_bytes(buffer)
            elif kind == "bytearray":
                values[number] = bytearray(buffer)
            else:
                values[number] = _shaped(buffer, *view)
        return values[number]


class _View(io.RawIOBase):
    """A buffer as a file that copies no more than what is read."""

    def __init__(self, buffer: ReadableBuffer) -> None:
        self._rest = memoryview(buffer).cast("B")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
