"""What calls, results and failures look like on a wire between processes. Nothing here knows which wire.

    caller's thread    pack_call(method, args, kwargs)         -->  read, unpack_call        actor
    first reader       read, unpack_value or unpack_failure    <--  pack_result, pack_failure

A call is the msgpack array [method, how, body], a reply [call id, OK or FAILED, how, body], so that a frame can hold
several objects one after the other, headers among them. `how` is

- PLAIN: the body is msgpack. Of a call: [list of arguments, map of keywords or nil]. Plain are None, bool, 64-bit int,
  float, str and bytes of exactly these types, and flat lists, tuples and dicts of them; all of them keep their type (a
  tuple is an extension, see `_TUPLE`), dicts their key types and order.
- PICKLED: the body is a bin, a pickle as `codec_pickle` makes it, of (args, kwargs) or of the value, with buffers
  beside it. An empty bin: the stream was large and is the first buffer.
- CARRYING: the same with handles in it. The body is [their tickets, the bin]; see `luggage`.

Guarantees: `pack_call` and `pack_result` raise nothing but EncodeError, `pack_failure` and `unpack_failure` nothing,
`read` nothing but ProtocolError, `unpack_call` and `unpack_value` either (a Ctrl-C passes everywhere). `read`
unpickles nothing, and takes less than a second and 50 MiB for any rubbish up to 1 MB. All of it may be called from any
thread, also from a `__del__` that runs in the middle of it.
Assumes: a frame larger than `LARGE` holds at most `MANY` containers; whoever puts calls together into a frame stays
below `LARGE`. What is unpickled comes from an authenticated peer.
Called by: the process transport, on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType
from typing import Any, Final, NoReturn

from msgpack import ExtType, Packer, Unpacker

from concurry.transports import codec_exceptions, codec_pickle
from concurry.transports.anything import DICT, LIST, TUPLE, type_of
from concurry.transports.codec_pickle import INLINE as INLINE
from concurry.transports.codec_pickle import LARGE as LARGE
from concurry.transports.codec_pickle import take_bytes as take_bytes
from concurry.transports.ctrl_c import ctrl_c
from concurry.transports.errors import EncodeError, ProtocolError
from concurry.transports.luggage import Carrying, Packing

PLAIN: Final = 0
PICKLED: Final = 1
CARRYING: Final = 2
OK: Final = 0
FAILED: Final = 1
MANY: Final = 128 * 1024  # containers in a frame above LARGE; an empty one costs 88 bytes, and one on the wire

_TUPLE: Final = 1  # the extension of a tuple: its items, one after the other, without a header
_SMALL: Final = 4096  # bytes; up to here 1,024 nested lists, each announced as long as the frame, take 32 MiB at most
_LONG: Final = 16 * 1024  # items; pickle is as fast for a list this long, and can put it beside the frame

_NUMBERS: Final = frozenset({NoneType, bool, int, float})
_SIZED: Final = frozenset({str, bytes})
_SCALARS: Final = _NUMBERS | _SIZED
_all_numbers = _NUMBERS.issuperset
_all_scalars = _SCALARS.issuperset
# What a packer says to 2**64, to a lone surrogate, to something that another thread changes meanwhile.
_REFUSED: Final = (OverflowError, ValueError, TypeError, RuntimeError, MemoryError)

# Packers and unpackers nobody uses. A list, since taking from it and putting back are atomic; not one per thread, for a
# `__del__` may come here while its own thread is inside one. One that raised is not put back: it may hold half a value.
_packers: list[Packer] = []
_unpackers: list[Unpacker] = []
_item_unpackers: list[Unpacker] = []


# -- there ------------------------------------------------------------------------------------------------------------


def pack_call(
    method: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> tuple[bytes, list[memoryview] | None]:
    """One call, and the buffers that go beside it. Raises EncodeError, which says which argument and why."""
    frame: bytes | None
    if (_all_numbers(map(type, args)) or _are_small(args)) and (not kwargs or _are_small(kwargs.values())):
        frame = _packed((method, PLAIN, (args, kwargs)))
    else:
        frame = _plain_call(method, args, kwargs)
    if frame is not None:
        return frame, None
    with Packing() as handles:
        try:
            tops = (*args, *kwargs.values()) if kwargs else args
            stream, buffers = codec_pickle.dump((args, kwargs), tops)
            return _beside((method,), stream, buffers, handles)
        except ctrl_c():
            raise
        except BaseException as error:  # a user's __reduce__ may raise anything
            raise _refusal(method, args, kwargs, error) from error


def pack_scalars(method: str, args: tuple[Any, ...]) -> bytes | None:
    """A call with nothing but small scalars, by position: the frame that `pack_call` makes of it, in half the time.
    None: it is another kind of call."""
    for value in args:
        kind = type_of(value)
        if kind not in _NUMBERS and (kind not in _SIZED or len(value) >= INLINE):
            return None
    return _packed((method, PLAIN, (args, None)))


def pack_result(call_id: int, value: Any) -> tuple[bytes, list[memoryview] | None]:
    """The reply to a call that returned, and the buffers that go beside it. Raises EncodeError."""
    kind = type_of(value)
    if kind in _NUMBERS or (kind in _SIZED and len(value) < INLINE):
        frame = _packed((call_id, OK, PLAIN, value))
    else:
        try:
            frame = _packed((call_id, OK, PLAIN, _plain(value)))
        except _REFUSED:
            frame = None
    if frame is not None:
        return frame, None
    try:
        with Packing() as handles:
            stream, buffers = codec_pickle.dump(value, (value,))
        return _beside((call_id, OK), stream, buffers, handles)
    except ctrl_c():
        raise
    except BaseException as error:
        raise EncodeError(
            f"the result, {_named(value)}, cannot be sent to another process: "
            + _why(error, "Return what can be pickled, or keep it in the worker and return what the caller needs of it")
        ) from error


def pack_failure(call_id: int, error: BaseException, who: str) -> bytes:
    """The reply to a call that raised: `who` is the worker, for the texts. Never raises an Exception."""
    return Packer().pack((call_id, FAILED, PICKLED, codec_exceptions.describe(error, who)))


def _packed(value: Any) -> bytes | None:
    """None where msgpack refuses it, or where it belongs into shared memory."""
    try:
        packer = _packers.pop()
    except IndexError:
        packer = Packer()
    try:
        frame = packer.pack(value)
    except _REFUSED:
        return None
    if len(frame) >= LARGE:
        return None  # and the packer goes, with a buffer that has grown
    _packers.append(packer)
    return frame


def _are_small(args: Iterable[Any]) -> bool:
    """Whether all are plain scalars, and none so large that it belongs beside the frame."""
    for value in args:
        kind = type_of(value)
        if kind not in _NUMBERS and (kind not in _SIZED or len(value) >= INLINE):
            return False
    return True


def _plain_call(method: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bytes | None:
    try:
        named = kwargs and {name: _plain(value) for name, value in kwargs.items()}
        return _packed((method, PLAIN, ([_plain(value) for value in args], named)))
    except _REFUSED:
        return None


def _plain(value: Any) -> Any:
    """A plain value as msgpack takes it. Raises TypeError for any other, and for what is better pickled: too long, or
    with bytes that go beside the frame."""
    kind = type_of(value)
    if kind in _NUMBERS:
        return value
    if kind in _SIZED:
        if len(value) < (INLINE if kind is bytes else LARGE):
            return value
    elif (kind is list or kind is tuple) and len(value) <= _LONG and _all_scalars(map(type, value)):
        if not _has_long_bytes(value):
            return value if kind is list else _tuple(value)
    elif kind is dict and len(value) <= _LONG and _all_scalars(map(type, value)):
        items = value.values()
        if _all_scalars(map(type, items)) and not _has_long_bytes(items):
            return value
    raise TypeError("not plain")


def _has_long_bytes(items: Iterable[Any]) -> bool:
    return bytes in map(type, items) and any(type(item) is bytes and len(item) >= INLINE for item in items)


def _tuple(items: tuple[Any, ...]) -> ExtType:
    with_header = _packed(items)
    if with_header is None:
        raise TypeError("not plain")
    # msgpack says how many they are in one byte, three or five; their number is at most _LONG
    return ExtType(_TUPLE, with_header[1 if len(items) < 16 else 3 :])


def pack_again(call_id: int, status: int, body: bytes) -> bytes:
    """A reply that came pickled, to be sent on under another number."""
    return Packer().pack((call_id, status, PICKLED, body))


def _beside(
    head: tuple[Any, ...], stream: bytes, buffers: list[memoryview], handles: dict[int, Any]
) -> tuple[bytes, list[memoryview] | None]:
    if len(stream) >= LARGE:
        buffers.insert(0, memoryview(stream))
        stream = b""
    if not handles:
        return Packer().pack((*head, PICKLED, stream)), buffers or None
    frame = Carrying(Packer().pack((*head, CARRYING, ([*handles], stream))))
    frame.handles = handles
    return frame, buffers or None


# -- and back ---------------------------------------------------------------------------------------------------------


def read(frame: bytes | memoryview) -> list[Any]:
    """All the objects of a frame, which has at least one. Raises ProtocolError."""
    try:
        size = len(frame)
        if size > _SMALL:
            return _read_long(frame, size)
        try:
            unpacker = _unpackers.pop()
        except IndexError:
            unpacker = Unpacker(max_buffer_size=2 * _SMALL, max_array_len=_SMALL, strict_map_key=False, ext_hook=_items)
        end = unpacker.tell() + size
        unpacker.feed(frame)
        objects = [unpacker.unpack()]
        while unpacker.tell() != end:
            objects.append(unpacker.unpack())
    except Exception as error:  # msgpack's own, UnicodeDecodeError, an unhashable key, ...
        raise _rubbish(error) from error
    _unpackers.append(unpacker)
    return objects


def _read_long(frame: bytes | memoryview, size: int) -> list[Any]:
    # First without making anything: an array's announced length is allocated at once, 8 bytes an item, and again for
    # each array inside it. Where all of them are really there, their lengths add up to the frame's at most.
    checker = Unpacker(max_buffer_size=size)
    checker.feed(frame)
    while checker.tell() != size:
        checker.skip()
    del checker  # its buffer is as large as the frame
    if size <= LARGE:
        unpacker = Unpacker(max_buffer_size=size, strict_map_key=False, ext_hook=_items)
    else:
        count = _Count()
        unpacker = Unpacker(
            max_buffer_size=size,
            strict_map_key=False,
            ext_hook=lambda code, data: count(_items(code, data)),
            list_hook=count,
            object_hook=count,
        )
    unpacker.feed(frame)
    objects: list[Any] = []
    while unpacker.tell() != size:
        objects.append(unpacker.unpack())
    return objects


class _Count:
    """Refuses to make more than `MANY` containers."""

    def __init__(self) -> None:
        self._left = MANY

    def __call__(self, container: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ProtocolError(f"more than {MANY} lists, maps and tuples in one frame")
        return container


def _items(code: int, data: bytes) -> tuple[Any, ...]:
    """A tuple, out of its extension. Nothing can be nested in it, not even something empty."""
    if code != _TUPLE:
        raise ProtocolError(f"extension {code} is none of ours")
    if not data:
        return ()
    try:
        unpacker = _item_unpackers.pop()
    except IndexError:
        unpacker = Unpacker(
            max_buffer_size=2 * LARGE,
            read_size=_SMALL,
            max_array_len=0,
            list_hook=_nested,
            object_hook=_nested,
            ext_hook=_nested,
        )
    end = unpacker.tell() + len(data)
    unpacker.feed(data)
    items: list[Any] = []
    while unpacker.tell() != end:
        items.append(unpacker.unpack())
    _item_unpackers.append(unpacker)
    return tuple(items)


def _nested(*_: Any) -> NoReturn:
    raise ProtocolError("a tuple with something nested in it")


def _rubbish(error: Exception) -> ProtocolError:
    if isinstance(error, ProtocolError):
        return error
    return ProtocolError(f"a frame is no message of ours: {_said(error)}")


def unpack_call(how: Any, body: Any, buffers: list[Any] | None) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    """(args, kwargs) of a call. Raises EncodeError where they cannot be rebuilt here, ProtocolError for rubbish."""
    if how == PLAIN:
        if type(body) is LIST and len(body) == 2 and type(body[0]) is list:
            args, kwargs = body
            if kwargs is None or (type(kwargs) is DICT and all(type(name) is str for name in kwargs)):
                return tuple(args), kwargs
    elif how in (PICKLED, CARRYING):
        rebuilt = _rebuilt(body if how == PICKLED else stream_of(body), buffers, "the arguments")
        if type(rebuilt) is TUPLE and len(rebuilt) == 2:
            args, kwargs = rebuilt
            if type(args) is TUPLE and (kwargs is None or type(kwargs) is DICT):
                return args, kwargs
    raise ProtocolError("a call that is none: its body must hold its arguments and its keywords")


def unpack_value(how: Any, body: Any, buffers: list[Any] | None) -> Any:
    """The value that a call returned. Raises EncodeError where it cannot be rebuilt here, ProtocolError for rubbish."""
    if how == PLAIN:
        return body
    if how == PICKLED:
        return _rebuilt(body, buffers, "the result")
    if how == CARRYING:
        return _rebuilt(stream_of(body), buffers, "the result")
    raise ProtocolError("a result that is none: it says neither plain nor pickled")


def tickets_of(body: Any) -> list[int]:
    """The tickets of a CARRYING body. Raises ProtocolError."""
    if type(body) is LIST and len(body) == 2 and type(body[0]) is LIST and all(type(it) is int for it in body[0]):
        tickets: list[int] = body[0]
        return tickets
    raise ProtocolError("a message with handles whose tickets are none")


def stream_of(body: Any) -> Any:
    """The pickle of a CARRYING body. Raises ProtocolError."""
    tickets_of(body)
    return body[1]


def unpack_failure(how: Any, body: Any) -> BaseException:
    """The exception that a call raised, or RemoteError. Never raises."""
    return codec_exceptions.rebuild(body if how == PICKLED else None)


def _rebuilt(body: Any, buffers: list[Any] | None, what: str) -> Any:
    try:
        return codec_pickle.load(body, buffers)
    except ctrl_c():
        raise
    except ProtocolError:
        raise
    except BaseException as error:  # a user's __setstate__ may raise anything
        raise EncodeError(
            f"{what} cannot be rebuilt in this process: {_said(error)}. What is sent must be importable on both sides "
            f"and survive pickle.loads(pickle.dumps(it))."
        ) from error


# -- what is said -----------------------------------------------------------------------------------------------------


def _refusal(method: str, args: tuple[Any, ...], kwargs: Any, error: BaseException) -> EncodeError:
    named: list[tuple[str, Any]] = [(f"argument {place}", value) for place, value in enumerate(args, 1)]
    named += [(f"argument {name}=", value) for name, value in kwargs.items()] if kwargs else ()
    which = "its arguments"
    for name, value in named if not isinstance(error, MemoryError) else ():
        try:
            codec_pickle.dump(value, (value,))
        except ctrl_c():
            raise
        except BaseException as reason:
            which, error = f"{name} ({_named(value)})", reason
            break
    return EncodeError(
        f"{method}() was not called: {which} cannot be sent to another process: "
        + _why(error, "Send what can be pickled, or what the worker can make it from")
    )


def _named(value: Any) -> str:
    return f"of type {type(value).__module__}.{type(value).__qualname__}"


def _why(error: BaseException, advice: str) -> str:
    return f"{error}." if isinstance(error, codec_pickle.Unsendable) else f"{_said(error)}. {advice}."


def _said(error: BaseException) -> str:
    return codec_exceptions.brief(error)
