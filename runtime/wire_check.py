"""What would not travel to another process, found in one: what `CONCURRY_CHECK_WIRE=1` does.

    a call begins  --> its arguments are encoded and decoded: the method gets what it would get in another process
    it has a result --> the same; an EncodeError, where one of the two cannot be, is the call's

Guarantees: the very codec of the other modes. Handles among them stay what they are. A pool that is not checked does
nothing for it: that is decided when it is planned.
Called by: the actor and the pool, where their plan says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from concurry.runtime.plan import Init
from concurry.transports import codec, codec_pickle
from concurry.transports.errors import EncodeError
from concurry.transports.luggage import Carrying, Packing


def check_init(name: str, init: Init) -> None:
    """Raises EncodeError where a class or its init arguments could not be sent to another process."""
    try:
        with Packing():
            codec_pickle.dump_alone((init.cls, init.args, dict(init.kwargs)))
    except Exception as error:
        from concurry.runtime import unsendable

        found = unsendable.named(init.cls, init.args, dict(init.kwargs), {})
        raise EncodeError(
            f"{name}: its class or init arguments cannot be sent to another process, which CONCURRY_CHECK_WIRE asks "
            f"for: {type(error).__name__}: {error}. {found}".strip()
        ) from error


def runs(layers: Callable[[Any], Any], who: str) -> Callable[[Any], Any]:
    """Around a call where it runs."""

    def checked(call: Any) -> Any:
        _arguments(call, who)
        return _result(layers(call), call, who)

    return checked


def runs_async(layers: Callable[[Any], Any], who: str) -> Callable[[Any], Any]:
    """The same of an async method."""

    async def checked(call: Any) -> Any:
        _arguments(call, who)
        return _result(await layers(call), call, who)

    return checked


def _arguments(call: Any, who: str) -> None:
    try:
        frame, buffers = codec.pack_call(call.name, call.args, call.kwargs)
        if not isinstance(frame, Carrying):
            _, how, body = codec.read(frame)[0]
            call.args, call.kwargs = codec.unpack_call(how, body, _sent(buffers))
    except EncodeError as error:
        raise _told(error, call, who) from error


def _result(value: Any, call: Any, who: str) -> Any:
    try:
        frame, buffers = codec.pack_result(0, value)
        if isinstance(frame, Carrying):
            return value
        _, _, how, body = codec.read(frame)[0]
        return codec.unpack_value(how, body, _sent(buffers))
    except EncodeError as error:
        raise _told(error, call, who) from error


def _sent(buffers: Any) -> Any:
    """Large buffers as they would arrive: copies that cannot be written to."""
    return None if buffers is None else [memoryview(bytes(each)) for each in buffers]


def _told(error: EncodeError, call: Any, who: str) -> EncodeError:
    return EncodeError(f"{who}.{call.name}() would fail in another process (CONCURRY_CHECK_WIRE): {error}")
