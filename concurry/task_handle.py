"""The handle of a TaskWorker: `submit`, `map`, and the call of the bound function; and how such a worker is started.

    handle.submit(fn, x)   handle(x)   handle.map(fn, xs)  -->  one of the calls of `task_calls`  -->  the pool, as ever

Guarantees: which function a call runs, and whether it is an async one, is decided at the caller's line; from there its
way is that of any method's. What has no function, or one that cannot be called, fails there.
Assumes: `task_calls` says what the actor runs; `task_map` makes the many calls of a `map`.
Called by: `TaskWorker`, `@task` and `Executor` (`launch`); users.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, ParamSpec, TypeVar, overload

from concurry import config, declared, task_calls
from concurry.handle import Anchor, Handle
from concurry.methods import method_table, no_such_method
from concurry.options import Options
from concurry.planning import make_plan
from concurry.runtime import shutdown
from concurry.runtime.enums import ExecutionMode
from concurry.runtime.notifier import notifier
from concurry.runtime.plan import Plan
from concurry.runtime.pool import start
from concurry.task_calls import CHUNKS, COROUTINE, methods_of, refuse_own, runs_async, sendable, undecorated

if TYPE_CHECKING:
    from typing import Unpack

    from concurry.runtime.future import BaseFuture
    from concurry.task_map import MapArgs
    from concurry.task_worker import TaskWorker
    from concurry.tasks import Task
    from concurry.waiting_items import Progress

P = ParamSpec("P")
R = TypeVar("R")
P2 = ParamSpec("P2")
R2 = TypeVar("R2")
_OWN: Final = ("submit", "map")


class TaskHandle(Handle["TaskWorker"], Generic[P, R]):
    """A running TaskWorker. See `Handle` for what all handles have."""

    def __init__(self, cls: type[TaskWorker], options: Options, pool: Any, anchor: Any = None) -> None:
        super().__init__(cls, options, pool, anchor)
        names = self.__dict__
        theirs = method_table(cls)  # of a subclass; the others are ours
        calls = {name: names.pop(name) for name in pool.plan.methods if name not in theirs}
        bound = "submit_fn" in calls
        call = calls["submit"] if bound else None
        names.update(
            _call=call or _refusing(pool.plan.name),
            _bound=bound,
            submit=_submitter(call, calls["submit_fn" if bound else "submit"], calls["submit_async"]),
        )

    @overload
    def submit(self, fn: Task[P2, R2], /, *args: P2.args, **kwargs: P2.kwargs) -> BaseFuture[R2]: ...
    @overload
    def submit(
        self, fn: Callable[P2, Coroutine[Any, Any, R2]], /, *args: P2.args, **kwargs: P2.kwargs
    ) -> BaseFuture[R2]: ...
    @overload
    def submit(self, fn: Callable[P2, R2], /, *args: P2.args, **kwargs: P2.kwargs) -> BaseFuture[R2]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> BaseFuture[R]: ...
    def submit(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]  # mypy: of each overload
        """Run a function with these arguments: the first one, where it can be called; else the bound function.

        Args:
            args: the function and its arguments; or, where one is bound, only the arguments.
            kwargs: the function's.

        Returns:
            The future of its result; with `blocking=True` the result.

        Raises:
            TypeError: there is no function. Else as a call of any worker's method.
        """
        raise AssertionError("made in __init__, one for each handle")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> BaseFuture[R]:
        """Run the bound function with these arguments, also where the first of them is a function."""
        return self._call(*args, **kwargs)

    # The first of each two is what `return_exceptions` leaves alone.
    @overload
    def map(
        self,
        fn: Task[..., R2],
        /,
        *iterables: Iterable[Any],
        return_exceptions: Literal[False] = ...,
        **how: Unpack[MapArgs],
    ) -> Iterator[R2]: ...
    @overload
    def map(
        self, fn: Task[..., R2], /, *iterables: Iterable[Any], return_exceptions: bool, **how: Unpack[MapArgs]
    ) -> Iterator[R2 | BaseException]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, R2]],
        /,
        *iterables: Iterable[Any],
        return_exceptions: Literal[False] = ...,
        **how: Unpack[MapArgs],
    ) -> Iterator[R2]: ...
    @overload
    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, R2]],
        /,
        *iterables: Iterable[Any],
        return_exceptions: bool,
        **how: Unpack[MapArgs],
    ) -> Iterator[R2 | BaseException]: ...
    @overload
    def map(
        self,
        fn: Callable[..., R2],
        /,
        *iterables: Iterable[Any],
        return_exceptions: Literal[False] = ...,
        **how: Unpack[MapArgs],
    ) -> Iterator[R2]: ...
    @overload
    def map(
        self, fn: Callable[..., R2], /, *iterables: Iterable[Any], return_exceptions: bool, **how: Unpack[MapArgs]
    ) -> Iterator[R2 | BaseException]: ...
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
        *args: Any,
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Progress = None,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """Run a function over iterables, as Python's `map`: the results in order, up to the shortest iterable's end.

        Args:
            args: the function and the iterables; or, where a function is bound, only the iterables.
            timeout: seconds from now for all results; None: as long as they take.
            chunksize: how many items go in one call. Where calls are retried or have a `call_timeout`, 1 in any case.
            buffersize: how many calls (of `chunksize` items) may be open. None: all at once where every iterable has a
                length and the mailbox no bound; else two for each call that can run at one time, and at least 64.
            progress: True, or a dict of ProgressBar options; or a function, called with (completed, total, elapsed
                seconds), where the total may be None. Counts the results that were taken.
            return_exceptions: an exception takes the place of its item's result, and all the others are run. A call
                that fails as a whole, as with its worker's death, gives its exception for each item of its chunk.

        Returns:
            An iterator of the results. The first calls begin now. Closing or dropping it once begun cancels the rest.

        Raises:
            TypeError, ValueError: there is no function; a number that cannot be.
            TimeoutError: from the iterator, when the time is over.
            Exception: from the iterator, what the function raised, after the results before it (unless
                `return_exceptions`), or what an iterable did; it ends there.
        """
        return mapped(self, args, timeout, chunksize, buffersize, progress, return_exceptions)

    def _functions(self) -> dict[Any, Any]:
        from concurry.task_worker import TaskWorker

        return {**super()._functions(), TaskWorker.submit: self.submit, TaskWorker.map: self.map}

    def __reduce__(self) -> tuple[Any, ...]:
        from concurry.task_remote import packed

        return packed(self)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            own = [name for name in vars(Handle) if not name.startswith("_")]
            raise no_such_method(self.__dict__["_cls"], name, [*_OWN, *method_table(self.__dict__["_cls"])], own)


def mapped(
    handle: TaskHandle[..., Any],
    args: tuple[Any, ...],
    timeout: float | None,
    chunksize: int,
    buffersize: int | None,
    progress: Progress,
    return_exceptions: bool,
    guard: Callable[..., Any] | None = None,
) -> Iterator[Any]:
    """See `TaskHandle.map`. `guard(call, *args)`: makes each call, if anybody else is to."""
    from concurry import task_map

    task_map.check_numbers(timeout, chunksize, buffersize)
    pool = handle.__dict__["_pool"]
    plan: Plan = pool.plan
    fn, iterables = (None, args)
    if not handle.__dict__["_bound"] or _overrides_in_map(args):
        fn, iterables = function_of_map(None, args)
    if "map_chunk" not in plan.methods:
        chunksize = 1
    source = task_map.Source(iterables, chunksize)
    most = buffersize
    if most is None and (not source.is_sized or plan.mailbox_size is not None):
        most = task_map.default_buffersize(plan)
    submit = _for_map(handle, fn, guard, chunked=source.chunked, go_on=return_exceptions)
    return task_map.results(
        submit,
        source,
        most=most,
        direct=pool.transport.direct,
        timeout=timeout,
        progress=progress,
        return_exceptions=return_exceptions,
    )


def _for_map(
    handle: TaskHandle[..., Any], fn: Any, guard: Callable[..., Any] | None, *, chunked: bool, go_on: bool
) -> Callable[[Any], Any]:
    """What makes one call of an item, or of a chunk of them."""
    pool, bound = handle.__dict__["_pool"], handle.__dict__["_bound"]
    is_async = pool.plan.methods["submit"].is_async if fn is None else runs_async(fn)
    if fn is not None:
        fn = task_calls.for_many_calls(fn) if pool.intake_of("submit").encodes else sendable(fn)
    if chunked:
        name = "map_chunk_async" if is_async else "map_chunk"
    elif fn is None:
        name = "submit"
    else:
        name = "submit_async" if is_async else "submit_fn" if bound else "submit"
    call = handle.__dict__["_anchor"].keeps(pool.caller(name, blocking=False))
    if guard is not None:
        call = partial(guard, call)
    if chunked:
        return (lambda items: call(fn, items, True)) if go_on else (lambda items: call(fn, items))
    if fn is None:
        return lambda args: call(*args)
    return lambda args: call(fn, *args)


class QuietAnchor(Anchor):
    """As an executor of the standard library: whoever drops it need not stop it first."""

    __slots__ = ()

    def __del__(self, warn: Any = None) -> None:
        pool = self._pool
        if not pool.forked and pool.alive():
            notifier.post(shutdown.drain, pool)


def launch(
    cls: type[TaskWorker],
    given: Mapping[str, Any],
    fn: Any = None,
    *,
    name: str | None = None,
    say_mode: str | None = None,
    weaker: Sequence[Mapping[str, Any]] = (),
    anchor: type[Anchor] = Anchor,
) -> TaskHandle[..., Any]:
    """Start a TaskWorker with what is `given` in front of what its class and the configuration say.

    Args:
        name: what it is called in messages; None: as its function, or its class.
        say_mode: how its mode is said, for the message where nobody has; None: as a TaskWorker's.
        weaker: layers of options behind all others.
    """
    check_bound(fn)
    plain = undecorated(fn)
    theirs = method_table(cls)
    refuse_own(cls.__name__, theirs)
    methods = {"submit": methods_of(plain)["submit"], **theirs}
    options = Options.resolve(
        [given, *declared.layers(cls), *config.layers(), *weaker],
        worker=name or cls.__name__,
        auto=lambda: ExecutionMode.Asyncio if methods["submit"] else ExecutionMode.Threads,
        methods=methods,
        say_mode=say_mode or f"{cls.__name__}.options(mode='thread')",
    )
    if options.ray.get("lifetime") == "detached":
        raise ValueError(f"{name or cls.__name__}: lifetime='detached' is for worker classes, which others can find")
    args = () if fn is None else (sendable(fn),)
    plan, transport = make_plan(cls, args, {}, options, methods, class_gives_limits=True)
    plan = _with_all_calls(plan, plain, name or _name_of(plain) or cls.__name__, apart=transport.apart)
    pool = start(plan, transport)
    return TaskHandle(cls, options, pool, anchor(pool))


def _with_all_calls(plan: Plan, fn: Any, name: str, *, apart: bool) -> Plan:
    """The plan with every way in which an actor of tasks is called: what is said of "submit" holds for them."""
    table = dict(plan.methods)
    submit = table["submit"] = table["submit"]._replace(named=False)  # nothing inside calls it
    for method, is_async in methods_of(fn).items():
        if method in CHUNKS:  # retries and time-outs are for each item: there are no chunks then
            if submit.policy is None and submit.timeout_s is None:
                table[method] = submit._replace(name=method, is_async=is_async)
        elif method != "submit":
            table[method] = submit._replace(name=method, is_async=is_async)
    lanes: tuple[frozenset[str], ...] = ()
    if apart:
        on_loop = frozenset(method.name for method in table.values() if method.is_async)
        lanes = on_loop, frozenset(table) - on_loop
    return plan._replace(name=name, methods=table, lanes=lanes)


def _name_of(fn: Any) -> str | None:
    if fn is None:
        return None
    return str(getattr(fn, "__name__", None) or type(fn).__name__)


def _refusing(who: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        raise unbound(who)

    return call


def _submitter(
    call: Callable[..., Any] | None, by_call: Callable[..., Any], by_call_async: Callable[..., Any]
) -> Callable[..., Any]:
    """The function behind `handle.submit`. `call`: the bound function's; the others take a function first."""

    def submit(*args: Any, **kwargs: Any) -> Any:
        first = args[0] if args else None
        if type(first) is FunctionType:  # what most are, at once
            if first.__code__.co_flags & COROUTINE:
                return by_call_async(*args, **kwargs)
            return by_call(*args, **kwargs)
        if not callable(first):
            if call is not None:
                return call(*args, **kwargs)
            raise _no_function("submit", args)
        bring = by_call_async if runs_async(first) else by_call
        return bring(sendable(first), *args[1:], **kwargs)

    return submit


def check_bound(fn: Any) -> None:
    if fn is not None and not callable(fn):
        raise TypeError(f"TaskWorker.init(fn) takes the function that it is to run, or nothing; got {_kind(fn)}")


def _kind(value: Any) -> str:
    return type(value).__name__


def _no_function(who: str, args: tuple[Any, ...]) -> TypeError:
    got = f", got {_kind(args[0])}" if args else ""
    return TypeError(
        f"{who}() requires a callable function{got}. Give it one first, {who}(fn, ...), or bind one: "
        f"TaskWorker.options(...).init(fn)"
    )


def unbound(who: str) -> TypeError:
    return TypeError(f"{who} requires a bound function to be called: use submit(fn, ...), or start it with .init(fn)")


def function_of(who: str, bound: Any, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    if args and callable(args[0]):
        return undecorated(args[0]), args[1:]
    if bound is None:
        raise _no_function(who, args)
    return bound, args


def _overrides_in_map(args: tuple[Any, ...]) -> bool:
    """Whether the first argument of a bound `map` is a function. What can be iterated over is an iterable, although it
    may be called as well: an Enum class."""
    return bool(args) and callable(args[0]) and not _iterable(args[0])


def _iterable(value: Any) -> bool:
    try:
        iter(value)
    except TypeError:
        return False
    return True


def function_of_map(bound: Any, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    if bound is not None and not _overrides_in_map(args):
        return bound, args
    if not args or not callable(args[0]):
        raise _no_function("map", args)
    return (args[0] if bound is None else undecorated(args[0])), args[1:]
