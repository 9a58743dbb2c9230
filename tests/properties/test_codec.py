"""Whatever is sent arrives as it was, type by type; whatever is read is a list of values or a ProtocolError."""

from __future__ import annotations

import copy
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from concurry.transports import codec
from concurry.transports.codec_exceptions import RemoteTraceback
from concurry.transports.errors import ProtocolError

INTEGERS = st.integers() | st.integers(-(2**64) - 2, 2**64 + 2) | st.sampled_from([2**63, -(2**63), 2**64 - 1, 2**64])
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=20)  # lone surrogates among them
LARGE_BYTES = st.binary(min_size=1, max_size=9).map(lambda some: some * codec.INLINE)
SCALARS = st.one_of(st.none(), st.booleans(), INTEGERS, st.floats(), TEXTS, st.binary(max_size=20))
LEAVES = st.one_of(
    SCALARS,
    LARGE_BYTES,
    LARGE_BYTES.map(bytearray),
    st.binary(max_size=9).map(bytearray),
    st.complex_numbers(),
    st.just(...),
)
FLAT = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=20),
    st.lists(SCALARS, max_size=20).map(tuple),
    st.dictionaries(SCALARS, SCALARS, max_size=8),
)
ANY = st.one_of(
    FLAT,
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, max_size=5),
            st.lists(inner, max_size=5).map(tuple),
            st.dictionaries(SCALARS | st.tuples(SCALARS, SCALARS), inner, max_size=4),
            st.frozensets(SCALARS, max_size=4),
        ),
        max_leaves=15,
    ),
)
NAMES = st.text(st.characters(codec="utf-8"), max_size=12)


def same(a: Any, b: Any) -> bool:
    """Equal, with equal types all the way down, signs of zeros and the order of dicts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, frozenset):
        return sorted(map(repr, a)) == sorted(map(repr, b))
    return repr(a) == repr(b)


@given(NAMES, st.lists(ANY, max_size=4), st.none() | st.dictionaries(NAMES, ANY, max_size=3))
def test_calls_arrive_as_they_were(method: str, args: list[Any], kwargs: dict[str, Any] | None) -> None:
    frame, buffers = codec.pack_call(method, tuple(args), kwargs)
    [(name, how, body)] = codec.read(frame)
    arrived = codec.unpack_call(how, body, buffers and [memoryview(bytes(buffer)) for buffer in buffers])
    assert same((name, arrived), (method, (tuple(args), kwargs)))


@given(st.integers(0, 2**63), ANY)
def test_results_arrive_as_they_were(call_id: int, value: Any) -> None:
    frame, buffers = codec.pack_result(call_id, value)
    [(number, status, how, body)] = codec.read(frame)
    assert (number, status) == (call_id, codec.OK)
    assert same(codec.unpack_value(how, body, buffers), value)


@given(FLAT)
def test_flat_values_are_plain_unless_msgpack_refuses_them(value: Any) -> None:
    [(_, _, how, _)] = codec.read(codec.pack_result(1, value)[0])
    refused = False
    try:
        msgpack.packb(value)
    except (OverflowError, ValueError):
        refused = True
    assert how == (codec.PICKLED if refused else codec.PLAIN)


ERRORS = st.sampled_from([ValueError, KeyError, OSError, StopIteration, SystemExit, ImportError, RuntimeError])


@given(ERRORS, st.lists(ANY, max_size=3), st.dictionaries(NAMES, ANY, max_size=2), st.lists(TEXTS, max_size=2))
def test_exceptions_arrive_as_they_were(kind: Any, args: list[Any], state: dict[str, Any], notes: list[str]) -> None:
    assume("__notes__" not in state)
    error = kind(*args)
    error.__dict__.update(state)
    for note in notes:
        error.add_note(note)
    [(_, status, how, body)] = codec.read(codec.pack_failure(1, error, "W"))
    assert status == codec.FAILED
    arrived = codec.unpack_failure(how, body)
    assert same((arrived.args, arrived.__dict__), (error.args, error.__dict__))
    assert type(arrived) is type(error)
    assert type(arrived.__cause__) is RemoteTraceback


# -- rubbish ----------------------------------------------------------------------------------------------------------

GOOD = st.one_of(
    st.tuples(NAMES, st.lists(FLAT, max_size=3)).map(lambda call: codec.pack_call(call[0], tuple(call[1]), None)[0]),
    FLAT.map(lambda value: codec.pack_result(1, value)[0]),
    TEXTS.map(lambda text: codec.pack_failure(1, ValueError(text), "W")),
)
HEADERS = st.sampled_from(
    [
        b"\x91", b"\x92", b"\x81", b"\x9f", b"\x8f", b"\xdc\xff\xff", b"\xdd\x00\x0f\xff\xff", b"\xdd\xff\xff\xff\xff",
        b"\xde\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01", b"\xd4\x01", b"\xd4\x01\x05", b"\xc7\xff\x01", b"\xc8\xff\xff\x01\xdc\xff\xff",
        b"\x90", b"\x80", b"\xc0", b"\xc4\x00", b"\xa2\xc4\x80", b"\x81\x01\x01",
    ]
)  # fmt: skip


def read_or_refuse(frame: bytes) -> None:
    try:
        objects = codec.read(frame)
    except ProtocolError:
        return
    for value in objects:
        if type(value) is list and len(value) == 3:
            _, how, body = value
            if how == codec.PLAIN:
                try:
                    args, kwargs = codec.unpack_call(how, body, None)
                except ProtocolError:
                    continue
                assert type(args) is tuple
                assert kwargs is None or type(kwargs) is dict


@given(st.binary(max_size=200))
def test_random_bytes(frame: bytes) -> None:
    read_or_refuse(frame)


@given(GOOD, st.data())
def test_mutated_frames(frame: bytes, data: st.DataObject) -> None:
    mutated = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated)))
        cut = data.draw(st.integers(0, 3))
        mutated[place : place + cut] = data.draw(st.binary(max_size=3) | HEADERS)
    read_or_refuse(bytes(mutated))


@given(GOOD, st.data())
def test_a_frame_that_ends_too_soon_is_refused(frame: bytes, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(ProtocolError):
        codec.read(frame[:end])


@given(st.lists(GOOD, min_size=1, max_size=6))
def test_frames_one_after_the_other(frames: list[bytes]) -> None:
    assert len(codec.read(b"".join(frames))) == len(frames)


def peak_of_reading(frame: bytes) -> int:
    """Bytes that Python allocates meanwhile."""
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        read_or_refuse(frame)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if started:
            tracemalloc.stop()


@settings(max_examples=25)
@given(st.lists(HEADERS, min_size=1, max_size=3).map(b"".join), st.sampled_from([4096, 60_000, 262_144, 1_000_000]))
def test_bombs_take_little_memory(pattern: bytes, size: int) -> None:
    assert peak_of_reading((pattern * (size // len(pattern) + 1))[:size]) < 50 * 1024 * 1024


@pytest.mark.parametrize("container", [b"\x91", b"\x81\x01", b"\x81\xc0", b"\xdc\x00\x01", b"\xd4\x01"])
def test_a_nesting_of_a_million(container: bytes) -> None:
    frame = container * 1_000_000 + b"\xc0"
    with pytest.raises(ProtocolError):
        codec.read(frame)
    assert peak_of_reading(frame) < 50 * 1024 * 1024


@given(FLAT)
def test_packing_leaves_the_value_as_it_was(value: Any) -> None:
    before = copy.deepcopy(value)
    codec.pack_call("m", (value,), None)
    assert same(value, before)
