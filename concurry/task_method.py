"""A task as a method: `@task` in a class.

    job.render(5)    job.render.submit(5)    job.render.map(pages)    -->  the task's own, with `job` as first argument

Guarantees: the object is the first argument of each call, and is sent along; whatever else a task has (`stop`, `stats`,
its name) is the task's. It is equal to another look at the same method of the same object, as Python's own are.
Called by: `Task.__get__`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, overload

from concurry.task_calls import OfInstance
from concurry.task_map import Same

if TYPE_CHECKING:
    from typing import Unpack

    from concurry.runtime.future import BaseFuture
    from concurry.task_map import MapArgs
    from concurry.tasks import Task

P = ParamSpec("P")
R = TypeVar("R")


class MethodTask(OfInstance, Generic[P, R]):
    """A task, and the object whose method it is.

    Attributes:
        __func__: the task. __self__: the object. __wrapped__: the method itself, to call it here and now.
    """

    __name__: str
    __qualname__: str

    def __init__(self, task: Task[..., R], instance: Any) -> None:
        self.__func__: Any = task  # typed so, it would be taken for a method
        self.__self__ = instance
        self.__doc__ = task.__doc__
        self.__module__ = task.__module__

    @property
    def __wrapped__(self) -> Callable[P, Any]:
        return MethodType(self.__func__.__wrapped__, self.__self__)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> BaseFuture[R]:
        future: BaseFuture[R] = self.__func__(self.__self__, *args, **kwargs)
        return future

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> BaseFuture[R]:
        """The same as calling it.

        Args:
            args, kwargs: the method's, without the object.

        Returns:
            The future of its result; with `blocking=True` the result.

        Raises:
            WorkerStoppedError: the task was stopped.
        """
        return self(*args, **kwargs)

    @overload
    def map(
        self, *iterables: Iterable[Any], return_exceptions: Literal[False] = ..., **how: Unpack[MapArgs]
    ) -> Iterator[R]: ...
    @overload
    def map(
        self, *iterables: Iterable[Any], return_exceptions: bool, **how: Unpack[MapArgs]
    ) -> Iterator[R | BaseException]: ...
    def map(self, *iterables: Iterable[Any], **how: Any) -> Iterator[Any]:
        """Run the method of this object over iterables: see `Task.map`.

        Args:
            iterables: one for each parameter but the object, up to the shortest one's end.
            how: the keywords of `Task.map`.

        Returns:
            An iterator of the results. The first calls begin now.

        Raises:
            TypeError, ValueError: a keyword that cannot be. Else as `Task.map`.
        """
        results: Iterator[Any] = self.__func__.map(*((Same(self.__self__), *iterables) if iterables else ()), **how)
        return results

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in ("__func__", "__self__"):  # not there yet: it is being unpickled
                raise AttributeError(name)
            return getattr(self.__func__, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MethodTask):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> tuple[Any, ...]:
        return MethodTask, (self.__func__, self.__self__)

    def __repr__(self) -> str:
        return f"<method of {self.__self__!r}: {self.__func__!r}>"
