"""The future of a call whose actor lives elsewhere: its arguments leave encoded, its outcome is decoded when read.

    submission: encode(call) -> args: the encoded call, kwargs: its buffers
    I/O thread: close (plain values), close_unread, fail_unread -> done; waiters wake
    the first who reads: decoded once, in that thread

Guarantees: those of `BaseFuture`; whether it failed is known when it is done, what it holds is rebuilt by the first
reader and is the same object for all. A payload that cannot be rebuilt is an EncodeError of this call alone.
Called by: the intake (makes them), the channel (closes them), users (read them).
"""

from __future__ import annotations

from _thread import allocate_lock
from concurrent.futures import CancelledError
from contextlib import nullcontext
from time import monotonic
from typing import Any, TypeVar

from concurry.runtime.foreign import ConcurrentFuture, RayFuture
from concurry.runtime.future import CANCELLED, FINISHED, PENDING
from concurry.runtime.waits import here
from concurry.transports import codec
from concurry.transports.luggage import Arriving

T = TypeVar("T")


class Unread:
    """An outcome as it came."""

    __slots__ = ("body", "failed", "handles", "how", "lock", "parcel")

    def __init__(self, how: int, body: Any, parcel: Any, *, failed: bool, handles: Any = None) -> None:
        self.how = how
        self.body = body
        self.parcel = parcel
        self.failed = failed
        self.handles = handles  # that came with it: `luggage.Arriving`, which gives them back if nobody reads it
        self.lock = allocate_lock()  # held by who decodes: the others wait for the same object


class WireFuture(ConcurrentFuture[T]):
    """See the module's docstring."""

    __slots__ = ("attempts_lost",)  # set where its actor died: the attempts it had begun there

    # -- the runner's side: the channel, for an actor elsewhere ------------------------------------------------------

    def close_unread(self, how: int, body: Any, parcel: Any, edge: Any) -> bool:
        """Close with a result that is decoded later. `edge()`: along which its handles came. False: somebody else
        closed it before."""
        handles = None
        if how == codec.CARRYING:
            handles = Arriving(edge(), codec.tickets_of(body))
        return self.close(Unread(how, body, parcel, failed=False, handles=handles))

    def fail_unread(self, how: int, body: Any) -> bool:
        """Close with an exception that is rebuilt later. False: somebody else closed it before."""
        unread: Any = Unread(how, body, None, failed=True)
        return self.fail(unread)

    def is_unread(self) -> bool:
        """Whether reading it would decode something now."""
        return Unread in (self._result.__class__, self._exception.__class__)

    def unread(self) -> Unread:
        """What it holds, as it came; where `is_unread` says so."""
        held: Any = self
        found: Unread = held._result if held._exception is None else held._exception
        return found

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call that has not ended, decoded again."""
        _, how, body = codec.read(self.args)[0]
        args, kwargs = codec.unpack_call(how, body, self.kwargs)
        return args, kwargs or {}

    # -- the user's side -----------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T:
        """See `BaseFuture.result`."""
        if self._status is not FINISHED:
            channel = self.extra
            if timeout is None and channel is not None and here.member is None:  # the short way of most
                channel.lead(self, None)
                if self._status is PENDING:
                    self._wait(None)
            elif timeout is None or channel is None or here.member is not None or not _is_span(timeout):
                self._wait(timeout)
            else:
                self._lead(channel, timeout)
        if self._exception is None:
            value: Any = self._result
            if value.__class__ is not Unread:
                return value  # type: ignore[no-any-return]
        self.read()
        return super().result()

    def _lead(self, channel: Any, timeout: float) -> None:
        """Wait as the one who receives, as far as that goes, then as everybody does."""
        begun = monotonic()
        channel.lead(self, timeout)
        if self._status is PENDING:
            try:
                self._wait(max(0.0, timeout - (monotonic() - begun)))
            except TimeoutError:
                raise TimeoutError(self._late(timeout)) from None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See `BaseFuture.exception`."""
        self._wait(timeout)
        if self._status is CANCELLED:
            raise CancelledError()
        self.read()
        return self._exception

    def read(self) -> None:
        """Decode what it holds, once."""
        held: Any = self
        unread = held._result if held._exception is None else held._exception
        if unread.__class__ is not Unread:
            return
        with unread.lock:
            if unread.failed:
                if held._exception is unread:
                    self._exception = codec.unpack_failure(unread.how, unread.body)
            elif held._result is unread:
                try:
                    buffers = None if unread.parcel is None else unread.parcel.open()
                    with unread.handles or nullcontext():
                        self._result = codec.unpack_value(unread.how, unread.body, buffers)
                except Exception as error:
                    self._exception = error
                    self._result = None
            unread.body = unread.parcel = unread.handles = None

    def running(self) -> bool:
        """Whether its method has begun and not ended."""
        channel = self.extra
        return self._stage == 1 and self._status is PENDING and (channel is None or bool(channel.begun(self)))

    def __repr__(self) -> str:
        if self._status is FINISHED and self.is_unread():
            outcome = "raised" if self._exception is not None else "returned"
            return f"<{type(self).__name__} of {self.name}() finished {outcome} what nobody has read yet>"
        return super().__repr__()


def _is_span(timeout: Any) -> bool:
    """What is none is refused where everybody waits."""
    return isinstance(timeout, int | float) and timeout > 0


class RayWireFuture(WireFuture[T], RayFuture[T]):
    """The same, of a call on a Ray actor."""

    __slots__ = ()
