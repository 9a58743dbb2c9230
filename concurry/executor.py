"""Executor: `concurrent.futures.Executor` in every mode.

Guarantees: whatever takes an executor of the standard library takes this one: `submit`, `map`, `shutdown`, the context
manager, `loop.run_in_executor`; its futures are `concurrent.futures.Future`s, and futures among the arguments are
handed over as they are, unless `unwrap_futures=True` is said. `shutdown` lets what was accepted finish, and the end of
the `with` block waits for that, where a handle's cancels what has not begun. One that is dropped lets its calls finish,
without a warning.
Called by: users.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Never, ParamSpec, TypeVar, overload

from concurry.option_hints import by_keyword
from concurry.options import check, cores
from concurry.runtime import shutdown
from concurry.runtime.plan import Plan
from concurry.task_handle import QuietAnchor, TaskHandle, launch, mapped
from concurry.task_worker import TaskWorker
from concurry.transports.errors import WorkerStoppedError

if TYPE_CHECKING:
    from typing import Unpack

    from concurry.option_types import OptionArgs
    from concurry.runtime.future import BaseFuture
    from concurry.task_map import MapArgs
    from concurry.tasks import Task
    from concurry.waiting_items import Progress

P = ParamSpec("P")
R = TypeVar("R")
_SHUT_DOWN: Final = "cannot schedule new futures after shutdown: this Executor was shut down; make a new one"


class Executor(concurrent.futures.Executor):
    """An executor of functions in any mode: `Executor(mode="process", max_workers=4)`.

    Args:
        by_place: nothing may be: `Executor(4)` is an error that shows the keyword form.
        given: options, by keyword, as for `Worker.options`; in options by method name its calls are "submit". Where
            nobody says `unwrap_futures`, it is False.

    Raises:
        TypeError: an unknown option, or one that is not given by keyword. ValueError: an option that cannot have this
            value; no mode.
    """

    def __init__(self, *by_place: Never, **given: Unpack[OptionArgs]) -> None:
        if by_place:
            raise by_keyword("Executor", by_place)
        checked = check(given, worker="Executor")
        if checked.get("blocking"):
            raise ValueError("Executor: its submit() returns futures, so blocking=True cannot be; use a TaskWorker")
        self._over: Any = False  # a call asks twice, and it may have changed: no checker knows better
        self._handle: TaskHandle[..., Any] = launch(
            TaskWorker,
            {**checked, "blocking": False},
            name="Executor",
            say_mode="Executor(mode='thread')",
            weaker=({"unwrap_futures": False},),  # as the standard library's: a function is given what its call says
            anchor=QuietAnchor,
        )
        self._submit: Callable[..., Any] = self._handle.__dict__["submit"]
        plan: Plan = self._handle.__dict__["_pool"].plan
        self._max_workers = (plan.most_actors or cores()) * (1 if plan.lanes else plan.max_concurrency)  # dask asks

    @overload
    def submit(self, fn: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> BaseFuture[R]: ...
    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> BaseFuture[R]: ...
    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> BaseFuture[R]: ...
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run `fn(*args, **kwargs)`; an async function on an event loop.

        Args:
            fn: the function. args, kwargs: what it is given.

        Returns:
            The future of its result.

        Raises:
            RuntimeError: after `shutdown`. TypeError: `fn` cannot be called.
        """
        if self._over:
            raise RuntimeError(_SHUT_DOWN)
        try:
            future = self._submit(fn, *args, **kwargs)
        except WorkerStoppedError as error:
            raise self._refusal(error) from None
        return self._not_late(future) if self._over else future

    def _guarded(self, call: Callable[..., Any], *args: Any) -> Any:
        """The same for a call of `map`."""
        if self._over:
            raise RuntimeError(_SHUT_DOWN)
        try:
            future = call(*args)
        except WorkerStoppedError as error:
            raise self._refusal(error) from None
        return self._not_late(future) if self._over else future

    def _refusal(self, error: RuntimeError) -> RuntimeError:
        return RuntimeError(_SHUT_DOWN) if self._over else error

    def _not_late(self, future: Any) -> Any:
        """A call that came while this was shut down finds perhaps nobody to run it. Whoever submits looks after it was
        put, and `shutdown` says so before it ends the actors: one of the two sees the other."""
        if not future.running() and future.cancel():
            shutdown.drain(self._handle.__dict__["_pool"])  # the call may have been what that waited for
            raise RuntimeError(_SHUT_DOWN)
        return future

    @overload
    def map(
        self,
        fn: Task[..., R],
        *iterables: Iterable[Any],
        return_exceptions: Literal[False] = ...,
        **how: Unpack[MapArgs],
    ) -> Iterator[R]: ...
    @overload
    def map(
        self, fn: Task[..., R], *iterables: Iterable[Any], return_exceptions: bool, **how: Unpack[MapArgs]
    ) -> Iterator[R | BaseException]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, R]],
        *iterables: Iterable[Any],
        return_exceptions: Literal[False] = ...,
        **how: Unpack[MapArgs],
    ) -> Iterator[R]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, R]],
        *iterables: Iterable[Any],
        return_exceptions: bool,
        **how: Unpack[MapArgs],
    ) -> Iterator[R | BaseException]: ...
    @overload
    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        return_exceptions: Literal[False] = ...,
        **how: Unpack[MapArgs],
    ) -> Iterator[R]: ...
    @overload
    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], return_exceptions: bool, **how: Unpack[MapArgs]
    ) -> Iterator[R | BaseException]: ...
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Progress = None,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """Run a function over iterables, as Python's `map`: the results in order. See `TaskHandle.map`.

        Args:
            fn: the function. iterables: one for each of its parameters, up to the shortest one's end.
            timeout: seconds from now for all results; None: as long as they take.
            chunksize: how many items go in one call.
            buffersize: how many calls may be open. None: all at once where every iterable has a length, as in the
                standard library; else it is read no further than some calls ahead, see `TaskHandle.map`.
            progress: True, a dict of ProgressBar options, or a function of (completed, total, elapsed seconds).
            return_exceptions: an exception takes the place of its item's result, and all the others are run.

        Returns:
            An iterator of the results. The first calls begin now.

        Raises:
            RuntimeError: after `shutdown`. TypeError, ValueError: an argument that cannot be.
            TimeoutError: from the iterator, when the time is over.
            Exception: from the iterator, what the function raised, after the results before it (unless
                `return_exceptions`), or what an iterable did.
        """
        if self._over:
            raise RuntimeError(_SHUT_DOWN)
        return mapped(
            self._handle,
            (fn, *iterables),
            timeout,
            chunksize,
            buffersize,
            progress,
            return_exceptions,
            guard=self._guarded,
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; those that were accepted are run, and then the actors end. Idempotent. At interpreter
        exit, where nobody waited for that, calls that have not begun are cancelled, and those that run have
        `exit_timeout`.

        Args:
            wait: return when that is so; False: at once.
            cancel_futures: cancel the calls that have not begun.
        """
        self._over = True
        pool: Any = self._handle.__dict__["_pool"]
        if cancel_futures:
            shutdown.cancel_unbegun(pool)
        if wait:
            shutdown.drain_and_wait(pool)
        else:
            shutdown.drain(pool)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._over = True
            self._handle.__exit__(kind, error, traceback)
        else:
            self.shutdown()

    def __repr__(self) -> str:
        return f"<Executor: {'shut down' if self._over else repr(self._handle)}>"
