"""Futures of other libraries, as ours: `concurrent.futures`, asyncio, Ray.

Guarantees
- A wrapper ends when the wrapped one does, with the same result or the same exception object, and is woken by it: by
  its done-callback, through `call_soon_threadsafe` where it belongs to an event loop. Nothing polls.
- `cancel()` passes through. After the end nothing holds the wrapper but its user.
- Neither asyncio nor Ray is imported for those who do not use them.
Assumes: a wrapped asyncio future belongs to a loop that runs, or will; its state is read from other threads, which the
GIL makes safe, and changed in its loop only (or in a loop that does not run).
Called by: `wrap_future`, `wait`/`gather`, and whoever looks for futures among arguments. The runtime itself makes
`ConcurrentFuture`s and `RayFuture`s for its calls, without `__init__` and with a pool as `owner`.

A wrapper keeps what it wraps as its `owner`, in one of the `_Source`s below, so that it needs no field that the
future of a call does not have. The source is the done-callback too, and lets go of the wrapper when it has run:

    inner --done-callback--> _Source --until the end--> wrapper --owner--> _Source --> inner
"""
# pyright: reportPrivateUsage=false
# It ends futures, which it knows from inside.

from __future__ import annotations

import concurrent.futures
import logging
import sys
from collections.abc import Coroutine, Generator
from concurrent.futures import CancelledError
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, overload

from concurry.runtime.future import CANCELLED, PENDING, BaseFuture, SyncFuture
from concurry.runtime.std_view import Standard

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
log = logging.getLogger("concurry")


class ConcurrentFuture(BaseFuture[T]):
    """The future of a call on a thread, an event loop or a process; also, a `concurrent.futures.Future` as one of ours.

    Args:
        concurrent_future: the one to wrap.

    Raises:
        TypeError: it is none.
    """

    __slots__ = ()

    def __init__(self, concurrent_future: concurrent.futures.Future[T]) -> None:
        if not isinstance(concurrent_future, concurrent.futures.Future):  # pyright: ignore[reportUnnecessaryIsInstance]  # users
            raise TypeError(f"future must be a concurrent.futures.Future, not {type(concurrent_future).__name__}")
        super().__init__()
        self.owner = source = _Concurrent(concurrent_future, self)
        if isinstance(concurrent_future, BaseFuture):
            concurrent_future.add_hook(source)  # there and then, with no turn on the notifier
        else:
            concurrent_future.add_done_callback(source)

    def running(self) -> bool:
        """Whether its method has begun and not ended."""
        owner = self.owner
        if type(owner) is _Concurrent:
            return self._status is PENDING and bool(owner.inner.running())
        return super().running()


class AsyncioFuture(BaseFuture[T]):
    """An `asyncio.Future` or `asyncio.Task` as one of ours, to be waited for from any thread and any loop.

    In the thread of its own loop it can be awaited only: `result()` there raises RuntimeError while it is pending,
    since the loop that must end it could not go on. With a timeout, `result(timeout)` waits that long.

    Args:
        asyncio_future: the one to wrap.

    Raises:
        TypeError: it is none.
        RuntimeError: it is pending and its event loop is closed: it would never end.
    """

    __slots__ = ()

    def __init__(self, asyncio_future: asyncio.Future[T]) -> None:
        if not _is_asyncio_future(asyncio_future):
            raise TypeError(f"future must be an asyncio.Future, not {type(asyncio_future).__name__}")
        super().__init__()
        self.owner = _Asyncio(asyncio_future, self)
        if not self._look():
            self.owner.attach()

    def _look(self) -> bool:
        """Whether it is done; a loop runs callbacks some time after the end, and nobody shall see the time between."""
        if self._status is not PENDING:
            return True
        inner = self.owner.inner
        if not inner.done():
            return False
        _settle(self, inner)
        return True

    def done(self) -> bool:
        """Whether it has ended: with a result, an exception or cancelled."""
        return self._look()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._look() and self._status is CANCELLED

    def cancel(self) -> bool:
        """Cancel the wrapped one, in its loop.

        Returns:
            True: it is being cancelled, and this future is cancelled now; what a task that refuses to be cancelled
            returns is dropped. False: it was done.
        """
        self._look()
        return super().cancel()

    def add_done_callback(self, fn: Any) -> None:
        """Call `fn(future)` when it is done: on the notifier thread, or here and at once where it is done already."""
        self._look()
        super().add_done_callback(fn)

    def __await__(self) -> Generator[Any, None, T]:
        self._look()
        return super().__await__()

    def _wait(self, timeout: float | None) -> None:
        if self._look():
            return
        if timeout is None:
            self.refuse_in_own_loop("await it instead of calling result()")
        super()._wait(timeout)

    def refuse_in_own_loop(self, instead: str) -> None:
        """Raises RuntimeError where the caller's thread runs the loop that this future needs in order to end; `instead`
        is what to do, for its text."""
        if self.owner.is_here():
            raise RuntimeError(
                f"{self!r} belongs to the event loop that runs in this thread; to block here would stop that loop, and "
                f"the future would never be done: {instead}"
            )

    def _late(self, timeout: float | None) -> str:
        return f"Future did not complete within timeout ({timeout} s); it goes on, and may be waited for again"

    def _standard(self) -> Standard:
        self._look()
        return super()._standard()


class RayFuture(BaseFuture[T]):
    """The future of a call on a Ray actor; also, a `ray.ObjectRef` as one of ours.

    Args:
        object_ref: the reference to wrap.

    Raises:
        ImportError: Ray is not installed.
        TypeError: it is no ObjectRef.
    """

    __slots__ = ()

    def __init__(self, object_ref: Any) -> None:
        try:
            ray = import_module("ray")
        except ImportError:
            raise ImportError("a RayFuture wraps a ray.ObjectRef, and Ray is not installed: pip install ray") from None
        if not isinstance(object_ref, ray.ObjectRef):
            raise TypeError(f"object_ref must be a ray.ObjectRef, not {type(object_ref).__name__}")
        super().__init__()
        self.owner = source = _Ray(object_ref, self)
        source.inner.add_done_callback(source)


def _settle(wrapper: BaseFuture[Any], inner: Any) -> None:
    """End the wrapper as the wrapped one ended. May be called by several at once, and more than once."""
    if inner.cancelled():
        wrapper.abandon(CancelledError())
        return
    exception = inner.exception()
    result = inner.result() if exception is None else None
    wrapper._stage = 2
    wrapper._close_contested(result, exception)


class _Source:
    """What a wrapper has as `owner`: the wrapped one, and how to reach it; also the done-callback on it."""

    __slots__ = ("inner", "wrapper")

    def __init__(self, inner: Any, wrapper: BaseFuture[Any]) -> None:
        self.inner = inner
        self.wrapper: BaseFuture[Any] | None = wrapper  # None once the callback has run, or was cut

    def __call__(self, inner: Any) -> None:
        wrapper, self.wrapper = self.wrapper, None
        if wrapper is not None:
            _settle(wrapper, inner)

    def sole_member(self) -> None:
        """No actor of ours runs it; see `waits`."""

    def cut(self) -> None:
        """Take the callback back; the wrapper will not end any more."""
        self.wrapper = None


class _Concurrent(_Source):
    __slots__ = ()

    def cancel(self, wrapper: BaseFuture[Any]) -> bool:
        if not self.inner.cancel():
            return False
        wrapper.abandon(CancelledError())
        return wrapper.cancelled()

    def cut(self) -> None:
        super().cut()
        inner = self.inner
        if isinstance(inner, BaseFuture):
            inner.remove_hook(self)
            return
        # The standard library offers no way to take a callback back; but who waits again and again, each time for a
        # while, for one long call shall not pile up a husk each time. The callbacks are called without the lock, but
        # only after the state was set under it.
        callbacks = getattr(inner, "_done_callbacks", None)
        if callbacks is not None:
            with inner._condition:
                if not inner.done() and self in callbacks:
                    callbacks.remove(self)


class _Asyncio(_Source):
    __slots__ = ()

    def attach(self) -> None:
        if self.is_here():
            self.inner.add_done_callback(self)
            return
        loop = self.inner.get_loop()
        try:
            loop.call_soon_threadsafe(self.inner.add_done_callback, self)
        except RuntimeError:
            if not loop.is_closed():
                raise
            raise RuntimeError(
                f"{self.inner!r} is pending and its event loop is closed: it would never be done. "
                f"Wait for it while its loop runs."
            ) from None

    def is_here(self) -> bool:
        """Whether this thread runs the loop."""
        import asyncio

        try:
            return asyncio.get_running_loop() is self.inner.get_loop()
        except RuntimeError:
            return False

    def cancel(self, wrapper: BaseFuture[Any]) -> bool:
        loop = self.inner.get_loop()
        if self.is_here():
            if not self.inner.cancel():
                return False
        else:
            self._in_loop(loop, self.inner.cancel)
        wrapper.abandon(CancelledError())
        return wrapper.cancelled()

    def cut(self) -> None:
        super().cut()
        if self.is_here():
            self.inner.remove_done_callback(self)
        else:
            self._in_loop(self.inner.get_loop(), self.inner.remove_done_callback, self)

    def _in_loop(self, loop: asyncio.AbstractEventLoop, fn: Any, *args: Any) -> None:
        """Run `fn` in the loop's thread; or here, where the loop does not run, so that it is seen at once."""
        try:
            if not loop.is_running():
                fn(*args)
                fn, args = _nothing, ()  # should it have begun to run meanwhile, this wakes it
            loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:
            if not loop.is_closed():
                raise
            log.debug("concurry: the event loop of %r is closed", self.inner)


class _Ray(_Concurrent):
    """`inner` is the `concurrent.futures.Future` that Ray makes of the reference, and ends when the object is there."""

    __slots__ = ("ref",)

    def __init__(self, ref: Any, wrapper: BaseFuture[Any]) -> None:
        super().__init__(ref.future(), wrapper)
        self.ref = ref

    def cancel(self, wrapper: BaseFuture[Any]) -> bool:
        try:
            sys.modules["ray"].cancel(self.ref)
        except (TypeError, ValueError) as error:  # Ray's words for "not this kind of call"
            log.debug("concurry: Ray cannot cancel %r: %s", self.ref, error)
            return False
        wrapper.abandon(CancelledError())
        return wrapper.cancelled()


def cut(wrapper: BaseFuture[Any]) -> None:
    """Give up a wrapper that nobody waits for any more, before what it wraps has ended. It will not end."""
    if isinstance(wrapper.owner, _Source):
        wrapper.owner.cut()


def _nothing() -> None:
    """What wakes an event loop."""


def _is_asyncio_future(value: Any) -> bool:
    asyncio = sys.modules.get("asyncio")  # where nobody imported it, there are none
    # While another thread imports it, it lacks most of its names.
    return asyncio is not None and hasattr(asyncio, "isfuture") and bool(asyncio.isfuture(value))


def _is_object_ref(value: Any) -> bool:
    ray = sys.modules.get("ray")
    kind = getattr(ray, "ObjectRef", None)
    return isinstance(kind, type) and isinstance(value, kind)


def as_future(value: Any) -> BaseFuture[Any] | None:
    """`value` as one of our futures; None where it is no future of any kind. A coroutine is none."""
    given: Any = value  # no check narrows it to a future of unknown things
    if isinstance(value, BaseFuture):
        ours: BaseFuture[Any] = given
        return ours
    if isinstance(value, concurrent.futures.Future):
        return ConcurrentFuture(given)
    if _is_asyncio_future(value):
        return AsyncioFuture(value)
    if _is_object_ref(value):
        return RayFuture(value)
    return None


@overload
def wrap_future(future: BaseFuture[T]) -> BaseFuture[T]: ...  # type: ignore[overload-overlap]  # ours stay as they are
@overload
def wrap_future(future: concurrent.futures.Future[T]) -> ConcurrentFuture[T]: ...
@overload
def wrap_future(future: asyncio.Future[T]) -> AsyncioFuture[T]: ...
@overload
def wrap_future(future: Coroutine[Any, Any, T]) -> AsyncioFuture[T]: ...
@overload
def wrap_future(future: T) -> BaseFuture[T]: ...
def wrap_future(future: Any) -> BaseFuture[Any]:
    """Make one of our futures of any future, or of a plain value.

    Args:
        future: one of ours (returned as it is); a `concurrent.futures.Future`; an asyncio future or task; a coroutine,
            which is scheduled on the running event loop; a Ray ObjectRef; anything else is wrapped as done.

    Returns:
        The future. It ends when the given one does; cancelling it cancels the given one.

    Raises:
        RuntimeError: a coroutine, and no event loop runs in this thread (the coroutine is closed); or a pending
            future whose event loop is closed.
    """
    found = as_future(future)
    if found is not None:
        return found
    given: Any = future
    if isinstance(given, Coroutine):
        return scheduled(future)
    return SyncFuture(future)


def scheduled(coroutine: Coroutine[Any, Any, T]) -> AsyncioFuture[T]:
    """A task for the coroutine, on the loop that runs in this thread, as one of ours. RuntimeError where none does."""
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        name = getattr(coroutine, "__qualname__", type(coroutine).__name__)
        coroutine.close()  # or Python would complain a second time, later and elsewhere, that nobody awaited it
        raise RuntimeError(
            f"Cannot schedule coroutine {name}(): there is no running event loop in this thread. "
            f"Call from a coroutine, or run it with asyncio.run()."
        ) from None
    # Without the constructor's questions: it is a task, it is pending, and this is its loop.
    cls: type[AsyncioFuture[T]] = AsyncioFuture
    future = cls.__new__(cls)
    base: type[BaseFuture[Any]] = BaseFuture
    base.__init__(future)
    task = loop.create_task(coroutine)
    future.owner = source = _Asyncio(task, future)
    task.add_done_callback(source)
    return future
