"""What the standard library sees of our futures: state, condition, waiters, done-callbacks, and setters that refuse.

Guarantees: `concurrent.futures.wait`, `as_completed` and `asyncio.wrap_future` take our futures, and under their lock
see one consistent state. It costs nothing until one of them asks.
Assumes: the class that inherits has the slots `_status`, `_exception` and `_std`, and `add_hook`.
Called by: the standard library, through the attributes that it reads of any `concurrent.futures.Future`.
"""

from __future__ import annotations

import logging
import threading
from _thread import allocate_lock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from concurry.runtime.notifier import notifier

log = logging.getLogger("concurry")

# The standard library's own state strings: its `wait` and `as_completed` read them.
PENDING = "PENDING"
CANCELLED = "CANCELLED_AND_NOTIFIED"
FINISHED = "FINISHED"

_MAKING = allocate_lock()  # protects the making of a future's view and uuid; no other lock is taken under it


class StandardView:
    """The part of a future that only the standard library, and whoever uses it like one of its own, asks for."""

    __slots__ = ()

    if TYPE_CHECKING:
        _status: str
        _exception: BaseException | None
        _std: Standard
        _uuid: str
        owner: Any
        name: str

        def add_hook(self, hook: Callable[[Any], object]) -> None: ...

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.owner is None:  # nobody's call
            return super().__reduce_ex__(protocol)
        from concurry.transports.codec_pickle import Unsendable

        what = f"the future of {self.name}()" if self.name else "a future"
        raise Unsendable(
            f"{what} stays in the process that made it. Call .result() on it, or make the method that has it async and "
            f"await it"
        )

    @property
    def uuid(self) -> str:
        """An identifier, made when first asked for."""
        try:
            return self._uuid
        except AttributeError:
            import uuid

            with _MAKING:
                if not hasattr(self, "_uuid"):
                    self._uuid = str(uuid.uuid4())  # type: ignore[misc]  # a slot of the heir
            return self._uuid

    if TYPE_CHECKING:
        # As typeshed has them: to a checker, a property is none of the attributes that `as_completed` asks for.
        _state: str
        _condition: threading.Condition
        _waiters: list[Any]
    else:

        @property
        def _state(self) -> str:
            """The state as the standard library sees it; `_status` is the state."""
            try:
                return self._std.state
            except AttributeError:
                return self._status

        @property
        def _condition(self) -> threading.Condition:
            std = self._standard()
            if std.state is PENDING and self._status is not PENDING:
                std(self)  # who knows that it is done, and asks the standard library, shall hear the same
            return std.condition

        @property
        def _waiters(self) -> list[Any]:
            return self._standard().waiters

    def _standard(self) -> Standard:
        try:
            return self._std
        except AttributeError:
            made = Standard()  # once, below
        with _MAKING:
            if hasattr(self, "_std"):
                return self._std
            self._std = made  # type: ignore[misc]  # a slot of the heir
        self.add_hook(made)
        return made

    def set_result(self, result: Any) -> None:
        """Not for users, whatever the result: raises NotImplementedError."""
        raise NotImplementedError(f"{type(self).__name__} is immutable: its result is set by the call it stands for")

    def set_exception(self, exception: Any) -> None:
        """Not for users, whatever the exception: raises NotImplementedError."""
        raise NotImplementedError(f"{type(self).__name__} is immutable: its exception is set by the call it stands for")

    def set_running_or_notify_cancel(self) -> bool:
        """Not for users: raises NotImplementedError."""
        raise NotImplementedError(f"{type(self).__name__} manages state internally")


class Standard:
    """What the standard library's `wait` and `as_completed` know of a future, and the hook that tells them.

    They hold the condition, read the state, several times, and leave a waiter behind. So the state they see changes
    under that condition only, together with telling the waiters: were it to change between two of their reads, they
    would count one too few, and return early or never.
    """

    __slots__ = ("condition", "state", "waiters")

    def __init__(self) -> None:
        self.condition = threading.Condition()  # protects the two below; nothing of ours is taken under it
        self.state = PENDING
        self.waiters: list[Any] = []

    def __call__(self, future: Any) -> None:
        with self.condition:
            if self.state is not PENDING:
                return
            self.state = future._status
            for waiter in self.waiters:
                if future._status is CANCELLED:
                    waiter.add_cancelled(future)
                elif future._exception is not None:
                    waiter.add_exception(future)
                else:
                    waiter.add_result(future)
            self.condition.notify_all()


class Callback:
    """A hook that has a user's done-callback run on the notifier."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[[Any], object]) -> None:
        self.fn = fn

    def __call__(self, future: Any) -> None:
        notifier.post(call_back, self.fn, future)


def call_back(fn: Callable[[Any], object], future: Any) -> None:
    """Run a user's done-callback here and now; what it raises is logged."""
    try:
        fn(future)
    except Exception:
        log.exception("concurry: a callback of %r raised; the result is not touched by it", future)
