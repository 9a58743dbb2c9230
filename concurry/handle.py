"""The handle: the user's end of a worker or pool.

Guarantees: it has one function for each method of the class, made once; they are the first thing that attribute access
finds, so a method of the user's goes before a name of the handle's own (but `stop`, `init` and `options`). What is no
method fails at the caller's line. A handle that nobody holds any more lets its accepted calls finish, then its actors
stop, with a ResourceWarning; whoever keeps one of its methods keeps it as well.

    Handle --methods--> functions --> Pool
       '----> Anchor <-----'            ^ when the last one goes: drain
                  '---------------------'
Called by: `.init()` makes it; users.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, overload

from concurry.methods import no_such_method, shown_as_method
from concurry.options import Options
from concurry.runtime import shutdown
from concurry.runtime.notifier import notifier
from concurry.runtime.pool import Pool
from concurry.transports.logs import about

if TYPE_CHECKING:
    from typing import Self

    from concurry.runtime.enums import ExecutionMode
    from concurry.runtime.future import BaseFuture

W = TypeVar("W")
P = ParamSpec("P")
R = TypeVar("R")
_UNSAID: Any = object()
log = logging.getLogger("concurry")


class Handle(Generic[W]):
    """A running worker, or a pool of them. Calling one of its methods submits a call and returns a future.

    Attributes:
        mode, blocking, max_queued_tasks, unwrap_futures, mp_context: the options in force; worker_cls: the class.
        options: all of them. None of these can be assigned.
    """

    def __init__(self, cls: type[W], options: Options, pool: Any, anchor: Any = None) -> None:
        anchor = anchor or Anchor(pool)
        names: dict[str, Any] = {
            "_pool": pool,
            "_anchor": anchor,
            "_cls": cls,
            "_by_function": None,
            "options": options,
            "worker_cls": cls,
            **{
                name: getattr(options, name)
                for name in ("mode", "blocking", "max_queued_tasks", "unwrap_futures", "mp_context")
            },
        }
        for name in pool.plan.methods:
            names[name] = shown_as_method(cls, name, anchor.keeps(pool.caller(name, blocking=options.blocking)))
        self.__dict__.update(names)

    # -- calling -----------------------------------------------------------------------------------------------------

    @overload
    def __getitem__(
        self, method: Callable[Concatenate[W, P], Awaitable[R]]
    ) -> Callable[P, BaseFuture[R]]: ...  # an async method gives the awaited type

    @overload
    def __getitem__(self, method: Callable[Concatenate[W, P], R]) -> Callable[P, BaseFuture[R]]: ...

    @overload  # a static or class method, which has no `self`; what has another class's is an error where it is called
    def __getitem__(self, method: Callable[P, Awaitable[R]]) -> Callable[P, BaseFuture[R]]: ...

    @overload
    def __getitem__(self, method: Callable[P, R]) -> Callable[P, BaseFuture[R]]: ...

    def __getitem__(self, method: Any) -> Any:
        """The same call for type checkers: `llm[LLM.call_llm](prompt)`.

        Raises:
            TypeError: what is given is no method of this worker's class.
        """
        known: dict[Any, Any] | None = self.__dict__["_by_function"]
        if known is None:
            known = self.__dict__["_by_function"] = self._functions()
        try:
            return known[getattr(method, "__func__", method)]
        except (KeyError, TypeError):  # TypeError: it cannot be hashed
            cls, table = self.__dict__["_cls"], self.__dict__["_pool"].plan.methods
        name: str = getattr(method, "__name__", "")
        if name in table:
            own: Any = getattr(cls, name)
            made_anew = own is not getattr(cls, name)  # as a singledispatchmethod is, at each look
            if made_anew and getattr(own, "__qualname__", None) == getattr(method, "__qualname__", ""):
                return self.__dict__[name]
        raise TypeError(
            f"{cls.__name__}: {method!r} is none of its methods; write handle[{cls.__name__}.method](...), "
            f"with one of: {', '.join(table)}"
        )

    def _functions(self) -> dict[Any, Any]:
        """What the class and its bases have under the names of its methods, and the function here that calls it."""
        cls: type[Any] = self.__dict__["_cls"]
        found: dict[Any, Any] = {}
        for name in self.__dict__["_pool"].plan.methods:
            for owner in cls.__mro__:
                if name in vars(owner):
                    function = getattr(owner, name)
                    function = getattr(function, "__func__", function)
                    if callable(getattr(function, "__hash__", None)):
                        found[function] = self.__dict__[name]
        return found

    if TYPE_CHECKING:  # they stand in the instance, where a method of the user's of that name takes their place

        @property
        def mode(self) -> ExecutionMode: ...

        @property
        def worker_cls(self) -> type[W]: ...

        @property
        def options(self) -> Options: ...

        @property
        def blocking(self) -> bool: ...

        @property
        def max_queued_tasks(self) -> int | None: ...

        @property
        def unwrap_futures(self) -> bool: ...

        @property
        def mp_context(self) -> str: ...

        def __getattr__(self, name: str) -> Callable[..., BaseFuture[Any]]: ...

    else:

        def __getattr__(self, name: str) -> Any:
            own = [name for name in vars(Handle) if not name.startswith("_")]
            raise no_such_method(self.__dict__["_cls"], name, self.__dict__["_pool"].plan.methods, own)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"{name} of a handle cannot be assigned: its options are fixed, and the worker's attributes stay in the "
            f"actor. Use a method of the worker, or make a new one"
        )

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name} of a handle cannot be deleted")

    # -- ending ------------------------------------------------------------------------------------------------------

    def stop(self, timeout: float | None = _UNSAID) -> None:
        """Stop: refuse new calls, cancel those that wait, let those that run end, then end the actors.

        Idempotent, from any thread. A `stop` that the class itself defines runs in each actor first.

        Args:
            timeout: seconds that running calls may still take; past it their futures fail with WorkerStoppedError.
                None: as long as they take. Left out: the option `stop_timeout`.

        Raises:
            ValueError: a timeout below 0, or NaN. TypeError: no number.
        """
        pool: Pool = self.__dict__["_pool"]
        if timeout is _UNSAID:
            timeout = pool.plan.stop_timeout_s
        elif timeout is not None:
            said = f"stop(timeout={timeout!r}): seconds, 0 or more, or None for as long as it takes"
            try:
                wrong = math.isnan(timeout) or timeout < 0
            except TypeError:
                raise TypeError(said) from None
            if wrong:
                raise ValueError(said)
        shutdown.stop(pool, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pool: Pool = self.__dict__["_pool"]
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        if interrupted:
            cancelled = shutdown.stop(pool, pool.plan.exit_timeout_s, more=shutdown.AFTER_CTRL_C)
        else:
            cancelled = shutdown.stop(pool, pool.plan.stop_timeout_s)
        if cancelled and kind is None:
            log.warning(
                "%s: the end of the `with` block cancelled %d calls that had not begun. Collect the results inside it.",
                pool.plan.name,
                cancelled,
                extra=about(pool.plan.name),
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        import asyncio

        # On a thread: the calls that run may need this loop to end.
        await asyncio.get_running_loop().run_in_executor(None, self.__exit__, kind, error, traceback)

    # -- asking ------------------------------------------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Whether it takes calls: it was not stopped, and not all of its actors have failed."""
        pool: Pool = self.__dict__["_pool"]
        return pool.alive()

    def stats(self) -> dict[str, Any]:
        """Figures of now: `queued`, `running`, `done`, `failed`, `retries` (attempts after a call's first), `restarts`,
        and the same per actor in `workers`.

        Returns:
            Of each method that was called, under `methods`: `count`, `failed`, `retries`, and how long its calls ran,
            in seconds, waits for limits and retries included: `p50_s`, which half of them stay below, and `p99_s`.
        """
        pool: Pool = self.__dict__["_pool"]
        return pool.stats()

    def get_pool_stats(self) -> dict[str, Any]:
        """Figures of the pool: how many workers, how many on demand, what the balancer has given out."""
        pool: Pool = self.__dict__["_pool"]
        options: Options = self.__dict__["options"]
        stats = pool.stats()
        return {
            "total_workers": len(pool.members),
            "max_workers": options.max_workers,
            "on_demand": options.on_demand,
            "on_demand_active": pool.spawner.active if pool.spawner is not None else 0,
            "load_balancer": {
                "algorithm": options.load_balancing.name,
                "total_dispatched": stats["total_dispatched"],
            },
            "stopped": not pool.alive(),
            "max_queued_tasks": options.max_queued_tasks,
            **{key: stats[key] for key in _SUMS},
        }

    def get_worker_stats(self, index: int) -> dict[str, Any]:
        """Figures of one actor of the pool.

        Args:
            index: its number, from 0.

        Raises:
            IndexError: there is none of that number.
        """
        pool: Pool = self.__dict__["_pool"]
        if not 0 <= index < len(pool.members):
            there = f"the workers 0 to {len(pool.members) - 1}" if pool.members else "a worker for each call only"
            raise IndexError(f"{pool.plan.name} has {there}, and no {index}")
        member = pool.members[index]
        return {**member.stats(), "methods": member.methods()}

    def __len__(self) -> int:
        """How many actors stand ready: 0 on demand."""
        return len(self.__dict__["_pool"].members)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        pool: Pool = self.__dict__["_pool"]
        options: Options = self.__dict__["options"]
        count = f", {len(pool.members)} workers" if options.pooled and not options.on_demand else ""
        count = ", on demand" if options.on_demand else count
        return f"<Handle of {pool.plan.name}: {options.mode.value}{count}, {pool.state()}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from concurry import remote_handle

        return remote_handle.packed(self)


class Anchor:
    """Held by a handle and by each of its functions; when nobody holds any of them, the pool is drained."""

    __slots__ = ("_pool",)

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def keeps(self, function: Any) -> Any:
        function.anchor = self
        return function

    def __del__(self, warn: Any = warnings.warn) -> None:
        pool = self._pool
        if pool.forked or not pool.alive():
            return
        notifier.post(shutdown.drain, pool)  # before the warning, which may be an error and end this function
        if not pool.transport.direct:
            warn(
                f"a worker of {pool.plan.name} was dropped without stop(): its accepted calls finish, then its actors "
                f"end. Use `with {pool.plan.name}.options(...).init(...) as worker:`, or call stop()",
                ResourceWarning,
                source=None,
                stacklevel=2,
            )


_SUMS = ("queued", "running", "done", "failed", "cancelled", "retries", "restarts")
_Own: type[Handle[Any]] = Handle  # its own functions, which no method of the user's hides


def stats(handle: Handle[Any]) -> dict[str, Any]:
    """The figures of a handle, also where its class has a method named `stats`. See `Handle.stats`."""
    return _Own.stats(handle)


def is_alive(handle: Handle[Any]) -> bool:
    """Whether a handle takes calls, also where its class has a method named `is_alive`."""
    return _Own.is_alive(handle)


def stacks(handle: Handle[Any]) -> str:
    """What each actor of a handle does at this moment: the stacks of its threads, as text for people.

    Also of a process whose call hangs in C code: the signal handler writes them (`faulthandler`). Waits for two seconds
    at most for a process that does not answer.

    Raises:
        TypeError: the worker is another process's, and its handle came here.
    """
    pool: Pool = handle.__dict__["_pool"]
    if not hasattr(pool, "supervisor"):
        raise TypeError(f"stacks() of {handle!r}: only the process that has started it can look")
    parts = [
        f"-- {member} ({member.state}) --\n{member.channel.stacks() if member.channel is not None else ''}"
        for member in pool.supervisor.everybody()
    ]
    return "\n".join(parts)
