"""TaskWorker: a worker that runs functions, and the handle of one.

    pool = TaskWorker.options(mode="process", max_workers=4).init()        pool.submit(fn, x)    pool.map(fn, xs)
    double = TaskWorker.options(mode="thread").init(lambda x: 2 * x)       double(x)             double.map(xs)

Guarantees: what the actors run stands in their object, by the names of the calls (`task_calls`); `TaskWorker(fn)` by
itself is a plain object that runs it here.
Assumes: `task_handle` makes the calls.
Called by: users; `@task` and `Executor`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from concurry import declared, task_calls
from concurry.runtime.actor import building
from concurry.task_calls import undecorated
from concurry.task_handle import TaskHandle, check_bound, function_of, function_of_map, launch, unbound
from concurry.workers import Launcher, Worker

if TYPE_CHECKING:
    from typing import Unpack

    from concurry.option_types import OptionArgs
    from concurry.tasks import Task
    from concurry.waiting_items import Progress

P = ParamSpec("P")
R = TypeVar("R")


class TaskWorker(Worker):
    """A worker that runs functions: any that it is given, or the one that it is bound to.

    `TaskWorker.options(...).init()` or `.init(fn)` starts it. `TaskWorker(fn)` by itself is the plain object, whose
    `submit` and `map` run the function at once, here.

    Args:
        fn: the function it is bound to; None: each call brings its own.

    Raises:
        TypeError: `fn` cannot be called.
    """

    def __init__(self, fn: Callable[..., Any] | None = None) -> None:
        check_bound(fn)
        self._fn = fn = undecorated(fn)
        if building.limits is not None and building.limits[0] is self:  # an actor's object
            vars(self).update(task_calls.calls_of(fn, self.limits))

    @classmethod
    def options(cls, **given: Unpack[OptionArgs]) -> TaskLauncher:
        """Say how it is run: see `Worker.options`. In options by method name, "submit" is the name of all its calls.

        Args:
            given: options, by keyword.

        Returns:
            What `.init()` or `.init(fn)` starts it with.

        Raises:
            TypeError: an unknown option. ValueError: an option that cannot have this value.
        """
        return TaskLauncher(cls, declared.checked(cls, given))

    @overload
    @classmethod
    def init(cls, fn: None = None) -> TaskHandle[[], Any]: ...
    @overload
    @classmethod
    def init(cls, fn: Task[P, R]) -> TaskHandle[P, R]: ...
    @overload
    @classmethod
    def init(cls, fn: Callable[P, Coroutine[Any, Any, R]]) -> TaskHandle[P, R]: ...
    @overload
    @classmethod
    def init(cls, fn: Callable[P, R]) -> TaskHandle[P, R]: ...
    @classmethod
    def init(cls, fn: Any = None) -> TaskHandle[..., Any]:
        """Start it with the options of its class and of the configuration.

        Args:
            fn: the function it is bound to, which is sent to each actor once; None: each call brings its own.

        Returns:
            The handle: `submit`, `map`, the call itself where a function is bound, `stop()`, and a context manager.

        Raises:
            TypeError: `fn` cannot be called. Else as `Worker.init`.
        """
        return launch(cls, {}, fn)

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """The plain object's: the result of the function, which is run with `args` and `kwargs` here and now."""
        fn, rest = function_of("submit", self._fn, args)
        return fn(*rest, **kwargs)

    def map(
        self,
        *args: Any,
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Progress = None,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """The plain object's: Python's own `map`.

        Args:
            args: the function and the iterables; or, where a function is bound, only the iterables.
            timeout: seconds, as the handle's; here it says nothing, as do chunksize (items), buffersize (calls) and
                progress.
            return_exceptions: as the handle's.
        """
        fn, iterables = function_of_map(self._fn, args)
        return map(partial(_or_its_exception, fn) if return_exceptions else fn, *iterables)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The plain object's: run the bound function."""
        if self._fn is None:
            raise unbound(type(self).__name__)
        return self._fn(*args, **kwargs)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            name_of = type(self).__name__
            if name in _MADE_IN_INIT:
                raise AttributeError(
                    f"{name_of}.__init__ did not call super().__init__(fn), which a TaskWorker needs: add it, with the "
                    f"function that it is bound to, or None"
                )
            raise AttributeError(f"{name_of!r} object has no attribute {name!r}")


_MADE_IN_INIT: Final = frozenset(("_fn", "submit_fn", "submit_async", *task_calls.CHUNKS))


def _or_its_exception(fn: Any, *args: Any) -> Any:
    try:
        return fn(*args)
    except Exception as error:
        return error


class TaskLauncher(Launcher[TaskWorker]):
    """`TaskWorker` with options, ready to be started any number of times."""

    def options(self, **given: Unpack[OptionArgs]) -> TaskLauncher:
        """The same with further options (`given`), which go before those that were said already.

        Raises:
            TypeError, ValueError: as `Worker.options` does.
        """
        return TaskLauncher(self._cls, {**self._given, **declared.checked(self._cls, given)})

    @overload
    def init(self, fn: None = None) -> TaskHandle[[], Any]: ...
    @overload
    def init(self, fn: Task[P, R]) -> TaskHandle[P, R]: ...
    @overload
    def init(self, fn: Callable[P, Coroutine[Any, Any, R]]) -> TaskHandle[P, R]: ...
    @overload
    def init(self, fn: Callable[P, R]) -> TaskHandle[P, R]: ...
    def init(self, fn: Any = None) -> TaskHandle[..., Any]:
        """Start the actors, and wait until all are there. See `TaskWorker.init`.

        Args:
            fn: the function they are bound to, which is sent to each actor once; None: each call brings its own.

        Returns:
            The handle: `submit`, `map`, the call itself where a function is bound, `stop()`, and a context manager.

        Raises:
            TypeError: `fn` cannot be called. Else as `Worker.init`.
        """
        return launch(self._cls, self._given, fn)
