"""The future of a call, which in this process is also the message: one object from acceptance to result.

Guarantees
- It *is* a `concurrent.futures.Future`: the standard library's `wait`, `as_completed`, `asyncio.wrap_future` take it.
- It is closed exactly once, whoever comes first: the runner with a result, or an outsider (cancel, time-out, stop,
  a death) with an exception. A call that was withdrawn before it began never runs.
- It makes no lock until somebody waits. Waiting is on a lock that closing releases; nothing polls.

How that holds without a lock on the hot path. Two fields, each written by one side only:

    _stage   by the runner:     0 waiting, 1 begun, 2 closing (3: begun, and ended by an outsider, who counted it)
    _veto    by the outsiders:  None, or the exception that the call shall end with

Each side writes its own field first and reads the other's after. Under the GIL at least one of the two sees the
other; both may. A runner that sees a veto goes through `_LOCK`, where the state decides; an outsider always does.
So: outsider saw stage 0 -> the runner will see the veto in `begin` and not run it. Outsider saw stage 2 -> it yields,
the runner closes. (Needs the GIL's ordering; `concurry` refuses nothing on free-threaded builds, but they take the
locked way at each step: `FREE_THREADED`.)

Called by: the pool (makes them), the loop (begins and closes them), everybody (waits).
"""

from __future__ import annotations

import concurrent.futures
from _thread import allocate_lock
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from typing import Any, Generic, TypeVar

from concurry.runtime import std_view, waits
from concurry.runtime.raw_lock import acquire_within
from concurry.runtime.std_view import CANCELLED as CANCELLED
from concurry.runtime.std_view import FINISHED as FINISHED
from concurry.runtime.std_view import PENDING as PENDING
from concurry.runtime.std_view import Callback, StandardView, call_back
from concurry.transports.gil import FREE_THREADED
from concurry.transports.logs import log

T = TypeVar("T")

_LOCK = allocate_lock()  # protects contested closes and the first hook of a future; held for a few lines, never nested

Hook = Callable[["BaseFuture[Any]"], object]


class BaseFuture(StandardView, concurrent.futures.Future[T], Generic[T]):
    """The result of a call that may still be on its way. Made by handles, `wrap_future` and the kinds below."""

    __slots__ = (
        "_exception",
        "_hooks",  # None until somebody waits; then a list that closing empties
        "_result",
        "_stage",
        "_status",
        "_std",  # what the standard library asks for, made when it asks
        "_uuid",
        "_veto",
        "args",
        "carried",  # unset, or None, but for a call that was lost with a worker: what it has been through
        "extra",  # what a transport or lane keeps beside a call, such as how to interrupt it
        "kwargs",
        "name",  # the method
        "owner",  # who can cancel it: a pool, or None
    )

    _status: str
    _exception: BaseException | None
    _hooks: list[Hook] | None
    args: Any
    kwargs: Any
    carried: Any

    def __init__(self) -> None:
        self._status = PENDING
        self._result: T | None = None
        self._exception = None
        self._hooks = None
        self._stage = 0
        self._veto: BaseException | None = None
        self.owner: Any = None
        self.name = ""
        self.extra: Any = None

    # -- the runner's side -------------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Claim the call. False: it was withdrawn; it is closed and must not run."""
        self._stage = 1
        if self._veto is None and not FREE_THREADED:
            return True
        return self._begin_contested()

    def _begin_contested(self) -> bool:
        with _LOCK:
            veto = self._veto
        if veto is None:
            return True
        self._stage = 0
        self.abandon(veto)
        return False

    def closes(self) -> bool:
        """The runner is about to close it, and counts it first. False: somebody else has closed it, and counted it."""
        self._stage = 2
        if self._veto is None and not FREE_THREADED:
            return True
        with _LOCK:
            return self._status is PENDING

    def close(self, result: Any, at: Any = None) -> bool:
        """Close with the method's result. False: somebody else closed it before, the result is dropped. `at`: who
        counts it (`total`), before it is closed."""
        self._stage = 2
        if self._veto is not None or FREE_THREADED:
            return self._close_contested(result, None, at)
        if at is not None:
            at.total += 1
        self._result = result
        self.args = self.kwargs = self.extra = None
        self._status = FINISHED
        if self._hooks is not None:
            self._fire()
        return True

    def fail(self, exception: BaseException) -> bool:
        """Close with the method's exception. False: somebody else closed it before."""
        self._stage = 2
        if self._veto is not None or FREE_THREADED:
            return self._close_contested(None, exception)
        self._result = None
        self._exception = exception
        self.args = self.kwargs = self.extra = None
        self._status = FINISHED
        if self._hooks is not None:
            self._fire()
        return True

    def _close_contested(self, result: Any, exception: BaseException | None, at: Any = None) -> bool:
        with _LOCK:
            if self._status is not PENDING:
                return False
            if at is not None:
                at.total += 1
            self._set(FINISHED, result, exception)
        self._fire()
        return True

    def _set(self, status: str, result: Any, exception: BaseException | None) -> None:
        self._result = result
        self._exception = exception
        self.args = self.kwargs = self.extra = None
        self._status = status

    # -- the outsiders' side -----------------------------------------------------------------------------------

    def withdraw(self, reason: BaseException, at: Any = None) -> bool:
        """Close a call that has not begun, or waits to be tried again, with `reason` (`at`: as with `abandon`).
        True: its body does not run, and never will. False promises nothing."""
        self._veto = reason
        if self._stage:
            return False
        return self.abandon(reason, at)

    def abandon(self, reason: BaseException, at: Any = None) -> bool:
        """Close a call with `reason`, whether or not it runs. False: it is closed, or its runner is about to close it.
        `at`: for one that has begun, the member or intake that counts it (`outside`)."""
        self._veto = reason
        with _LOCK:
            if self._status is not PENDING or self._stage == 2:
                return False
            if at is not None:
                self._stage = 3  # before it is counted: it never shows twice
                at.outside += 1
                at.cut_short[self.name] += 1
            # Not by `_stage`: the runner, who does not take the lock, may set it to closing at this very moment.
            self._set(CANCELLED if isinstance(reason, CancelledError) else FINISHED, None, reason)
        self._fire()
        return True

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call that has not ended."""
        return self.args, self.kwargs or {}

    def reopen(self) -> bool:
        """Make a begun call waiting again, for another incarnation. False: it is closed, maybe just now, by somebody
        who asked while it ran that it should not."""
        with _LOCK:
            if self._status is not PENDING:
                return False
            self._stage = 0
            veto = self._veto
        if veto is None:
            return True
        self.abandon(veto)
        return False

    def is_unread(self) -> bool:
        """Whether its outcome has yet to be decoded; `read` does that. See `WireFuture`."""
        return False

    def read(self) -> None:
        """Decode its outcome, where it is unread."""

    # -- hooks: how closing reaches those who wait ---------------------------------------------------------------

    def add_hook(self, hook: Hook) -> None:
        """Run `hook(future)` once, in the thread that closes it, or here and now where it is closed already.

        For the runtime's own short functions, which never block and never raise. Each hook is a distinct object.
        """
        hooks = self._hooks
        if hooks is None:
            with _LOCK:
                hooks = self._hooks
                if hooks is None:
                    hooks = self._hooks = []
        hooks.append(hook)
        # The closer sets the state first and empties the list after; we append first and read the state after. So
        # either the closer finds the hook, or we find it closed; where both do, `remove` and `pop` decide.
        if self._status is not PENDING and self.remove_hook(hook):
            hook(self)

    def remove_hook(self, hook: Hook) -> bool:
        """Take a hook back. False: it has run or is running."""
        hooks = self._hooks
        if hooks is None:
            return False
        try:
            hooks.remove(hook)
        except ValueError:
            return False
        return True

    def _fire(self) -> None:
        hooks = self._hooks
        while hooks:
            try:
                hook = hooks.pop(0)
            except IndexError:  # its owner took the last one back between the two lines
                return
            hook(self)

    # -- the user's side -----------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T:
        """The result of the call, waited for.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: not done in time; the call goes on.
            concurrent.futures.CancelledError: it was cancelled.
            DeadlockError: this actor waits, directly or through others, for itself.
            Exception: whatever the method raised.
        """
        if self._status is FINISHED and self._exception is None:
            return self._result  # type: ignore[return-value]
        self._wait(timeout)
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]  # the traceback must not keep the future alive
        return self._result  # type: ignore[return-value]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The exception of the call, or None where it has a result; waited for, `timeout` seconds at most. Raises as
        `result` does for a time-out or a cancelled call."""
        self._wait(timeout)
        if self._status is CANCELLED:
            raise CancelledError()
        return self._exception

    def done(self) -> bool:
        """Whether it has ended: with a result, an exception or cancelled."""
        return self._status is not PENDING

    def running(self) -> bool:
        """Whether its method has begun and not ended."""
        return self._stage == 1 and self._status is PENDING

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._status is CANCELLED

    def cancel(self) -> bool:
        """Ask that it does not run.

        Returns:
            True: the body never ran and never will, or it is an async method, which is being cancelled, or it was lost
            with its worker and is not tried again; the future is cancelled now. False: it is running or done.
        """
        if self._status is not PENDING:
            return self._status is CANCELLED
        return self._cancel()

    def _cancel(self) -> bool:
        return self.owner is not None and bool(self.owner.cancel(self))

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn(future)` when it is done: on the notifier thread, or here and at once where it is done already.
        What it raises is logged. It may submit calls; a submission that would block raises `MailboxFullError`."""
        if self._status is not PENDING:
            call_back(fn, self)
        else:
            self.add_hook(Callback(fn))

    def __await__(self) -> Generator[Any, None, T]:
        if self._status is PENDING:
            yield from self._wait_in_loop().__await__()
        return self.result()

    async def _wait_in_loop(self) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        waiter = loop.create_future()

        def wake(_: BaseFuture[Any]) -> None:
            try:
                loop.call_soon_threadsafe(release, waiter)
            except RuntimeError:  # the loop was closed: nobody waits any more
                log.debug("concurry: the event loop that awaited %r is closed", self)

        try:
            self.add_hook(wake)
            with waits.waiting((self,), awaits=True):
                await waiter
        except asyncio.CancelledError:
            # As in asyncio: cancelling the one who awaits cancels what is awaited, where it still can be.
            self.cancel()
            raise
        finally:
            self.remove_hook(wake)

    def _wait(self, timeout: float | None) -> None:
        if self._status is not PENDING:
            return
        done = allocate_lock()
        done.acquire()
        wake: Any = done.__exit__  # releases it, and takes whatever it is called with
        try:
            self.add_hook(wake)
            if waits.here.member is None:
                arrived = done.acquire() if timeout is None else acquire_within(done, timeout)
            else:
                with waits.waiting((self,)):
                    arrived = acquire_within(done, timeout)
        except BaseException:
            self.remove_hook(wake)
            raise
        if arrived:
            return
        self.remove_hook(wake)
        if self._status is PENDING:
            raise TimeoutError(self._late(timeout))

    def _late(self, timeout: float | None) -> str:
        what = f"{self.name}() was" if self.name else "the future was"
        return f"{what} not done within {timeout} s; it goes on, and may be waited for again"

    def __repr__(self) -> str:
        state = {FINISHED: "finished", CANCELLED: "cancelled"}.get(self._status)
        state = state or ("running" if self.running() else "pending")
        what = f" of {self.name}()" if self.name else ""
        if self._status is FINISHED:
            exception = self._exception
            state += f" raised {type(exception).__name__}" if exception else f" returned {type(self._result).__name__}"
        return f"<{type(self).__name__}{what} {state}>"


class SyncFuture(BaseFuture[T]):
    """A future that is done when it is made.

    Args:
        result_value: what `result()` returns.
        exception_value: what `result()` raises instead.

    Raises:
        TypeError: `exception_value` is not an exception.
    """

    __slots__ = ()

    def __init__(self, result_value: T | None = None, exception_value: BaseException | None = None) -> None:
        if exception_value is not None and not isinstance(exception_value, BaseException):  # pyright: ignore[reportUnnecessaryIsInstance]  # users
            raise TypeError(f"exception_value must be an Exception or None, not {type(exception_value).__name__}")
        self._result = result_value
        self._exception = exception_value
        self._hooks = None
        self._stage = 2
        self._veto = None
        self.owner = None
        self.name = ""
        self._status = FINISHED


def release(waiter: Any) -> None:
    """Wake the coroutine that awaits `waiter`, an asyncio future of the loop that runs this."""
    if not waiter.done():
        waiter.set_result(None)


def after_fork_in_child() -> None:
    """The locks may have been held by threads that are not here any more. In place: other modules have them too."""
    _LOCK._at_fork_reinit()  # type: ignore[attr-defined]
    std_view._MAKING._at_fork_reinit()  # type: ignore[attr-defined]
