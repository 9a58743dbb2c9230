"""The worker: the class that a user writes, and how it is started.

Guarantees: the class stays as it was written. `LLM(...)` is the plain object, for tests and debugging (but where
`auto_init` holds); `LLM.options(...).init(...)` starts actors that hold one each and returns the handle.
Called by: users.

    class LLM(Worker, mode="thread"): ...      options on the class, inherited by subclasses
    LLM.options(max_workers=8).init("…")       stronger ones for this handle; checked at their line
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

from concurry import config, declared, self_starting
from concurry.handle import Handle
from concurry.methods import GivenLimits, method_table, refuse_taken
from concurry.options import Options
from concurry.planning import make_plan
from concurry.runtime.actor import building
from concurry.runtime.enums import ExecutionMode
from concurry.runtime.pool import start

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self, Unpack

    from concurry.limits import LimitPool
    from concurry.option_types import OptionArgs

W = TypeVar("W")


class Limits(GivenLimits):
    """`self.limits` of an object that was given none: limits that grant everything. No data descriptor, so what is
    set on an instance goes before it."""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> LimitPool: ...

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        if building.limits is not None and building.limits[0] is instance:
            return building.limits[1] or _no_limits()  # pydantic's __init__ has dropped what was set on the instance
        return _no_limits()


_none: Any = None


def _no_limits() -> Any:
    global _none
    if _none is None:
        from concurry.limits import limits_for_worker, shared_limits

        _none = limits_for_worker(shared_limits(None, pooled=False), 0)
    return _none


class Worker:
    """The base of a worker class: write any `__init__` and any methods, sync or async.

    Class arguments are options: `class LLM(Worker, mode="thread", max_workers=8)`. `auto_init=True`, the default where
    a class has any option, makes `LLM(...)` itself start the worker and return the handle.

    Attributes:
        limits: what the option `limits` gives; always there, and granting everything where there are none.
    """

    __slots__ = ()
    limits = Limits()

    if TYPE_CHECKING:

        def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...

    else:
        __new__ = self_starting.SelfStarting()
        __reduce_ex__ = self_starting.Reducing()

    def __init_subclass__(cls, *, auto_init: bool | None = None, **given: Unpack[OptionArgs]) -> None:
        last = not hasattr(super().__init_subclass__, "__func__")  # only object's comes after ours
        theirs = {} if last else _not_ours(given)
        super().__init_subclass__(**theirs)
        refuse_taken(cls)
        ours = {name: value for name, value in given.items() if name not in theirs}
        declared.say(cls, arguments=declared.checked(cls, ours, auto_init))
        self_starting.set_on(cls)

    @classmethod
    def options(cls: type[W], **given: Unpack[OptionArgs]) -> Launcher[W]:
        """Say how this worker is run; `.init(...)` on what is returned starts it.

        Args:
            given: any of the options below, by keyword, and Ray's own by Ray's names. [In brackets]: the default. Those
                with a * may be dicts by method name, with "*" for the rest. docs/options.md has all values and modes.

                mode: where actors run: 'sync', 'thread', 'asyncio', 'process', 'ray', 'auto' [must be said]
                on_demand: an actor for each call, ended after it [False]
                max_workers: how many actors; above 1: a pool with one mailbox [1; ray: 0]
                max_concurrency: how many calls one actor runs at once [1; asyncio: 1000]
                blocking: a call returns its result instead of a future [False]
                load_balancing: which of the free actors is given a call [round_robin; on demand: random]
                max_queued_tasks: the most calls handed to one actor at a time [None; process: 100]
                mailbox_size: the most accepted calls that no actor holds; None: no bound [None]
                on_full: 'block' or 'raise' (MailboxFullError) at a full mailbox [block]
                unwrap_futures: futures among the arguments are replaced by their results [True]
                limits: what `self.limits` grants: a limit, several, a LimitSet, a LimitPool [None]
                num_retries: * attempts after the first one [0]
                retry_on: * exception types and predicates: what is tried again [[Exception]]
                retry_algorithm: * how the wait grows: 'linear', 'exponential', 'fibonacci', 'fixed' [exponential]
                retry_wait: * seconds before the first retry [1.0]
                retry_jitter: * above 0: a wait is drawn from 0 to wait [0.3]
                retry_until: * validators: a result that fails one is tried again [None]
                retry_config: * a RetryConfig: the six above as one object [None]
                max_restarts: deaths of one actor in restart_window that are followed by a restart [3]
                restart_window: seconds [60.0]
                call_timeout: * seconds that a call may take from its start; past it: TimeoutError [None]
                stop_timeout: seconds that stop() leaves to calls that run [30.0]
                init_timeout: seconds for `__init__` [60.0]
                exit_timeout: seconds left to running calls at interpreter exit, and after Ctrl-C [2.0]
                mp_context: how child processes are started: 'forkserver', 'spawn', 'fork' [forkserver]
                limit_native_threads: BLAS and OpenMP in the children share the cores [True]
                shared_memory_threshold: bytes from which arrays go through shared memory; None: never [262144]
                writable_arrays: arrays from another process are copied and writable; else read-only [False]
                max_calls_per_worker: calls after which a process is replaced by a new one [None]
                max_memory_per_worker: bytes resident after which a process is replaced, after its call [None]

        Returns:
            The class with these options, to be started any number of times: `.init(...)`.

        Raises:
            TypeError: an unknown option, with the nearest known one.
            ValueError: an option that cannot have this value.
        """
        return Launcher(cls, declared.checked(cls, given))

    @classmethod
    def init(cls: type[W], *args: Any, **kwargs: Any) -> Handle[W]:
        """Start the worker with the options of its class and of the configuration.

        Args:
            args, kwargs: what `__init__` is given.

        Returns:
            The handle: one function for each method, `stop()`, and a context manager that stops.

        Raises:
            WorkerInitError: `__init__` took longer than `init_timeout`.
            TypeError, ValueError: options that cannot be, or no mode; a class that cannot take `limits`.
            Exception: whatever `__init__` raised. No actor is left in any of these cases.
        """
        return init(cls, {}, args, kwargs)

    @classmethod
    def get_actor(cls: type[W], name: str, *, namespace: str | None = None) -> Handle[W]:
        """The handle of a worker on a Ray cluster that was started with `lifetime="detached"`, maybe by another driver.

        Args:
            name: the option `name` that it was started with.
            namespace: the option `namespace` that it was started with. None: it was started without.

        Raises:
            ValueError: there is none of that name, with those that there are.
            TypeError: it is of another class, or no worker of concurry's.
            WorkerDiedError: it is about to end. ModuleNotFoundError: Ray is not installed.
        """
        from concurry import detached

        return detached.find(cls, name, namespace)


class Launcher(Generic[W]):
    """A worker class with options, ready to be started. May be used any number of times."""

    def __init__(self, cls: type[W], given: dict[str, Any]) -> None:
        self._cls = cls
        self._given = given

    def options(self, **given: Unpack[OptionArgs]) -> Launcher[W]:
        """The same with further options (`given`), which go before those that were said already.

        Raises:
            TypeError, ValueError: as `Worker.options` does.
        """
        return Launcher(self._cls, {**self._given, **declared.checked(self._cls, given)})

    if not TYPE_CHECKING:  # for people; checkers know that these are not there

        def __enter__(self) -> NoReturn:
            raise TypeError(
                f"{self!r} is not started: say `with {self._cls.__name__}.options(...).init(...) as worker:`"
            )

        def __exit__(self, *exc_info: object) -> None:
            """Never reached; `with` asks for it."""

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"{self._cls.__name__}.options(...) has no {name!r}: it is not started yet. Call .init(...) on it, "
                f"which returns the handle"
            )

    def init(self, *args: Any, **kwargs: Any) -> Handle[W]:
        """Start the actors, each with an object made by `cls(*args, **kwargs)`, and wait until all are there.

        Args:
            args, kwargs: what `__init__` is given.

        Returns:
            The handle: one function for each method, `stop()`, and a context manager that stops.

        Raises:
            WorkerInitError: `__init__` took longer than `init_timeout`.
            TypeError, ValueError: options that cannot be; a class that cannot take `limits`.
            Exception: whatever `__init__` raised. No actor is left in any of these cases.
        """
        return init(self._cls, self._given, args, kwargs)

    def __repr__(self) -> str:
        return f"{self._cls.__name__}.options({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"


def init(cls: type[W], given: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Handle[W]:
    """Start a worker with what is `given` in front of what its class and the configuration say."""
    self_starting.refuse_arguments(cls, args, kwargs)
    declared.refuse_what_was_left(cls, given)
    methods = method_table(cls)
    options = Options.resolve(
        [given, *declared.layers(cls), *config.layers()],
        worker=cls.__name__,
        auto=lambda: _auto(methods),
        methods=methods,
    )
    gives_limits = any(isinstance(vars(owner).get("limits"), Limits) for owner in cls.__mro__)
    if options.ray.get("lifetime") == "detached":
        from concurry import detached

        return detached.launch(cls, args, kwargs, options, class_gives_limits=gives_limits)
    plan, transport = make_plan(cls, args, kwargs, options, methods, class_gives_limits=gives_limits)
    return Handle(cls, options, start(plan, transport))


def _auto(methods: dict[str, bool]) -> ExecutionMode:
    return ExecutionMode.Asyncio if methods and all(methods.values()) else ExecutionMode.Threads


def _not_ours(given: Mapping[str, Any]) -> dict[str, Any]:
    """Class arguments that are for another base's `__init_subclass__`."""
    from concurry.options import KNOWN

    return {name: value for name, value in given.items() if name not in KNOWN}
