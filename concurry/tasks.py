"""`@task`: a function whose calls run elsewhere.

    @task(mode="thread", max_workers=8)
    def fetch(url: str) -> bytes: ...

    future = fetch("https://...")        results = fetch.map(urls)        fetch.stop()

Guarantees: the function keeps its name, docstring and signature. Nothing is started before the first call, so that a
module with tasks may be imported anywhere, also in the actors. Options are read then; what cannot be by itself is
refused at the decorator's line.
Called by: users.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from functools import update_wrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from concurry import config
from concurry.option_layers import Layer
from concurry.options import check
from concurry.retry import FIELDS, compile_policies
from concurry.runtime.enums import ExecutionMode
from concurry.task_calls import Decorated, undecorated
from concurry.task_handle import QuietAnchor, TaskHandle, launch
from concurry.task_method import MethodTask
from concurry.task_worker import TaskWorker
from concurry.transports.errors import WorkerStoppedError

if TYPE_CHECKING:
    from typing import Self, Unpack

    from concurry.option_types import OptionArgs
    from concurry.runtime.future import BaseFuture
    from concurry.task_map import MapArgs
    from concurry.waiting_items import Progress

P = ParamSpec("P")
P2 = ParamSpec("P2")
R = TypeVar("R")
_RETRIES: Final = (*FIELDS, "retry_config")
_UNSAID: Any = object()


class Task(Decorated, Generic[P, R]):
    """A function under `@task`. Calling it submits a call and returns a future.

    In a child that `os.fork` made it starts anew at its first call there.

    Attributes:
        __wrapped__: the function itself, to call it here and now.
    """

    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str

    def __init__(self, fn: Callable[..., Any], given: Mapping[str, Any]) -> None:
        update_wrapper(self, fn)
        self._given = dict(given)
        # Protects the start, and the end before it: several threads may make the first call.
        self._lock = threading.Lock()
        self._stopped = False  # protected by `_lock`
        self._handle: TaskHandle[..., Any] | None = None
        self._call: Callable[..., Any] | None = None  # the handle's own, once it is started
        _all.add(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> BaseFuture[R]:
        call = self._call or self.handle.__call__
        return call(*args, **kwargs)

    @property
    def handle(self) -> TaskHandle[..., Any]:
        """The handle of the TaskWorker that runs it, which this starts where it was not started yet.

        Raises:
            WorkerStoppedError: it was stopped before.
        """
        return self._started() or self._begin()

    def _started(self) -> TaskHandle[..., Any] | None:
        """Its handle, if it has one in this process."""
        handle = self._handle
        return None if handle is None or handle.__dict__["_pool"].forked else handle

    def _begin(self) -> TaskHandle[..., Any]:
        with self._lock:
            handle = self._started()
            if handle is None:
                if self._stopped:
                    raise WorkerStoppedError(
                        f"the task {self._name()} was stopped, and takes no more calls: make a new one, "
                        f"task(...)(function)"
                    )
                handle = self._handle = self._start()
                self._call = handle.__dict__["_call"]
            return handle

    def _end(self) -> TaskHandle[..., Any] | None:
        """From now on nothing starts it. Returns its handle, if there is one; a start that goes on is waited for."""
        with self._lock:
            self._stopped = True
            return self._started()

    def after_fork_in_child(self) -> None:
        """A thread that is not here may have held the lock; what was started lives in the parent."""
        self._lock = threading.Lock()
        self._call = None  # so that its handle is looked at

    def _name(self) -> str:
        return getattr(self, "__qualname__", None) or repr(self.__wrapped__)

    def _start(self) -> TaskHandle[..., Any]:
        fn = self if self.is_importable() else self.__wrapped__
        return launch(
            TaskWorker,
            self._given,
            fn,
            name=getattr(self, "__name__", None),
            say_mode="@task(mode='thread')",
            weaker=_on_demand(),
            anchor=QuietAnchor,
        )

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> BaseFuture[R]:
        """The same as calling it; but a function as the first argument is run in this one's place.

        Args:
            args, kwargs: the function's.

        Returns:
            The future of its result; with `blocking=True` the result.

        Raises:
            WorkerStoppedError: it was stopped.
        """
        return self.handle.submit(*args, **kwargs)

    @overload
    def map(
        self, *iterables: Iterable[Any], return_exceptions: Literal[False] = ..., **how: Unpack[MapArgs]
    ) -> Iterator[R]: ...
    @overload
    def map(
        self, *iterables: Iterable[Any], return_exceptions: bool, **how: Unpack[MapArgs]
    ) -> Iterator[R | BaseException]: ...
    def map(
        self,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Progress = None,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """Run it over iterables, as Python's `map`: the results in order. See `TaskHandle.map`.

        Args:
            iterables: one for each parameter, up to the shortest one's end.
            timeout: seconds from now for all results; None: as long as they take.
            chunksize: how many items go in one call.
            buffersize: how many calls may be open; None: see `TaskHandle.map`.
            progress: True, a dict of ProgressBar options, or a function of (completed, total, elapsed seconds).
            return_exceptions: an exception takes the place of its item's result, and all the others are run.

        Returns:
            An iterator of the results. The first calls begin now.

        Raises:
            TimeoutError: from the iterator, when the time is over.
            Exception: from the iterator, what the function raised, after the results before it (unless
                `return_exceptions`), or what an iterable did.
        """
        return self.handle.map(
            *iterables,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            progress=progress,
            return_exceptions=return_exceptions,
        )

    def stop(self, timeout: float | None = _UNSAID) -> None:
        """Stop: see `Handle.stop`. It takes no more calls, also where it was never called.

        Args:
            timeout: seconds that running calls may still take. None: as long as they take. Left out: `stop_timeout`.

        Raises:
            ValueError: a timeout below 0, or NaN. TypeError: no number.
        """
        handle = self._end()
        if handle is not None:
            handle.stop() if timeout is _UNSAID else handle.stop(timeout)

    def is_alive(self) -> bool:
        """Whether it takes calls: it was not stopped."""
        handle = self._started()
        return not self._stopped if handle is None else handle.is_alive()

    def stats(self) -> dict[str, Any]:
        """Its figures: see `Handle.stats`."""
        return self.handle.stats()

    def get_pool_stats(self) -> dict[str, Any]:
        """The figures of its pool: see `Handle.get_pool_stats`."""
        return self.handle.get_pool_stats()

    def __enter__(self) -> Task[P, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        handle = self._end()
        if handle is not None:
            handle.__exit__(kind, error, traceback)

    async def __aenter__(self) -> Task[P, R]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        handle = self._end()
        if handle is not None:
            await handle.__aexit__(kind, error, traceback)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: Task[Concatenate[Any, P2], R], instance: object, owner: type | None = None
    ) -> MethodTask[P2, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a function's: under `@task` in a class, the instance is the first argument, and is sent along."""
        return self if instance is None else MethodTask(self, instance)

    def is_importable(self) -> bool:
        """Whether another process finds it by the names of its module and of itself."""
        from concurry.transports.codec_pickle import BY_VALUE

        module = getattr(self, "__module__", None)
        found: Any = sys.modules.get(module) if module not in BY_VALUE and isinstance(module, str) else None
        for name in getattr(self, "__qualname__", "").split("."):
            found = getattr(found, name, None)
        return found is self

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self.__qualname__ if self.is_importable() else (type(self), (self.__wrapped__, self._given))

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "not started"
        handle = self._started()
        return f"<task {self._name()}: {state if handle is None else repr(handle)}>"


class StaticTask(Task[P, R]):
    """A function under `@task` and `@staticmethod`: the instance is none of its arguments."""

    def __get__(self, instance: object, owner: type | None = None) -> Self:  # type: ignore[override]
        return self


_all: weakref.WeakSet[Task[..., Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for each in list(_all):
        each.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _refuse_here(given: Mapping[str, Any], fn: Any) -> None:
    """Raises ValueError for retries and limits that cannot be, whatever else is said of them at the first call."""
    who = f"@task {getattr(fn, '__name__', None) or repr(fn)}"
    if any(given.get(name) is not None for name in _RETRIES):
        # It is not asked here how often: the configuration may say that.
        retries = {"num_retries": 1} | {name: given[name] for name in _RETRIES if given.get(name) is not None}
        compile_policies(retries, ("submit",), who)
    if given.get("limits") is not None:
        from concurry.limits import shared_limits

        try:
            shared_limits(given["limits"], pooled=False)
        except ValueError as error:
            raise ValueError(f"{who}: {error}") from None


def _on_demand() -> tuple[Layer, ...]:
    """An actor for each call, where nobody says otherwise and the mode can have that."""

    def origin(name: str, mode: ExecutionMode | None) -> str:
        return "task_decorator_on_demand"

    by_mode = {
        mode: {"on_demand": config.setting("task_decorator_on_demand", mode)}
        for mode in (ExecutionMode.Threads, ExecutionMode.Processes, ExecutionMode.Ray)
    }
    return (Layer({}, by_mode, origin),)


class _Decorator(Protocol):
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**given: Unpack[OptionArgs]) -> _Decorator: ...
def task(fn: Any = None, /, **given: Any) -> Any:
    """Turn a function into a task: `@task(mode="thread")`, or `task(mode="thread")(fn)`; `@task` alone where the
    configuration says the mode.

    A parameter named `limits` is given the limits, where the call does not. Each call gets an actor of its own, which
    ends after it (`on_demand`; not in the modes sync and asyncio), unless `on_demand=False` is said here, or
    `task_decorator_on_demand` in the configuration.

    Args:
        fn: the function, sync or async.
        given: options, by keyword, as for `Worker.options`. In options by method name its calls are "submit".

    Returns:
        A `Task`, which is called like the function and returns a future; or what makes one of a function.

    Raises:
        TypeError: an unknown option; `fn` is no function. ValueError: an option that cannot have this value.
    """
    checked = check(given, worker="@task")

    def decorate(fn: Any) -> Task[Any, Any]:
        if not callable(fn):
            raise TypeError(f"@task takes a function, and options by keyword: @task(mode='thread'); got {fn!r}")
        _refuse_here(checked, fn)
        if isinstance(fn, staticmethod):
            return StaticTask(fn.__func__, checked)  # pyright: ignore[reportUnknownMemberType]
        return (StaticTask if isinstance(fn, StaticTask) else Task)(undecorated(fn), checked)

    return decorate if fn is None else decorate(fn)
