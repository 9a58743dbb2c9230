"""The options of a worker: each has here its one declaration, with its default, its check and its meaning.

Guarantees: `Options` is complete, checked and fixed. A value that cannot be is refused with the worker, the option, the
value, where it came from and what is allowed; an unknown name with the nearest known one. What means nothing in the
chosen mode is accepted, so that changing the one word `mode` is enough; a debug line on the logger `concurry` says so.
Assumes: retry policies and limits are compiled by their own modules; here they pass through as they were given.
Called by: the face (`.options`, `@worker`, class arguments: `check` at their own line), then `Options.resolve` once a
handle, which `option_layers` carries out; the configuration (`KNOWN`, `check_one`, `defaults_for`).
"""

from __future__ import annotations

import logging
import os
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeGuard

from concurry import option as check_for
from concurry.option import UNSAID, Option, is_mapping
from concurry.option_hints import SAY_MODE, unknown
from concurry.option_ray import RAY
from concurry.runtime.enums import ExecutionMode, LoadBalancingAlgorithm, RetryAlgorithm

log = logging.getLogger("concurry")
_SYNC, _ASYNCIO, _RAY = ExecutionMode.Sync, ExecutionMode.Asyncio, ExecutionMode.Ray
_QUEUED = tuple(mode for mode in ExecutionMode if mode is not _SYNC)  # the modes in which a call can wait


_WHOLE: Final = "a whole number, 0 or more"
_NO_BOUND: Final = ", or None for no bound"


def _of(check: Callable[[Any], Any] | None, default: Any, allowed: str, doc: str) -> Option[Any]:
    """An option that may be a dict by method name. Without a check it is the retry policy that checks it."""
    checked = check_for.raw if check is None else check_for.by_method(check)
    return Option(checked, default, f"{allowed}, or a dict of these by method name", doc, as_text=check is not None)


class Options:
    """Every option of one worker, for every mode, checked. Made by `resolve`; cannot be changed.

    `ray`: what is handed to Ray as it is (empty in other modes). `given`: which options somebody said, each with the
    number of the layer that said it (0 is the strongest); the others have their defaults.
    """

    mode = Option[ExecutionMode](
        check_for.one_of(ExecutionMode), UNSAID, "a mode", "where the actor runs; auto: by the class's methods"
    )
    on_demand = Option(
        check_for.flag,
        False,
        "True or False",
        "an actor per call, ended after it; not sync, asyncio. `@task` has True where nobody says it",
    )
    max_workers = Option(
        check_for.count(0),
        1,
        "a whole number, 0 or more",
        "actors; above 1: a pool. On demand: the most at one time, and 0 for no bound (thread, process: the cores)",
        per={_RAY: 0},
    )
    max_concurrency = Option(
        check_for.count(1),
        1,
        "a whole number, 1 or more",
        "calls that one actor runs at once: async methods as tasks, sync methods on threads",
        per={_ASYNCIO: 1000},
        only=_QUEUED,
    )
    blocking = Option(check_for.flag, False, "True or False", "a call returns its result instead of a future")
    load_balancing = Option(
        check_for.one_of(LoadBalancingAlgorithm, but=(LoadBalancingAlgorithm.Soonest,)),
        LoadBalancingAlgorithm.RoundRobin,
        "an algorithm",
        "who is given a call, among the actors that have credit",
        on_demand=LoadBalancingAlgorithm.Random,
    )
    max_queued_tasks = Option[int | None](
        check_for.optional(check_for.count(0)),
        None,
        _WHOLE + _NO_BOUND,
        "the most calls handed to one actor at a time; submission does not wait for it",
        per={ExecutionMode.Processes: 100},
        only=_QUEUED,
    )
    mailbox_size = Option(
        check_for.optional(check_for.count(1)),
        None,
        "a whole number, 1 or more" + _NO_BOUND,
        "the most accepted calls that no actor holds yet",
        only=_QUEUED,
    )
    on_full = Option(
        check_for.word_of("block", "raise"),
        "block",
        "'block' or 'raise'",
        "what a call does at a full mailbox: wait, or MailboxFullError",
        only=_QUEUED,
    )
    unwrap_futures = Option(
        check_for.flag, True, "True or False", "futures in arguments become their results (Executor: False)"
    )
    limits = Option(check_for.raw, None, "a limit, or several", "what `self.limits` grants", as_text=False)
    num_retries = _of(check_for.count(0), 0, _WHOLE, "attempts after the first one")
    retry_on = _of(None, [Exception], "exception types or predicates", "which failures are tried again")
    retry_algorithm = _of(
        check_for.one_of(RetryAlgorithm), RetryAlgorithm.Exponential, "an algorithm", "how the wait grows by attempt"
    )
    retry_wait = _of(check_for.number(), 1.0, "seconds, 0 or more", "the wait before the first retry, seconds")
    retry_jitter = _of(check_for.number(), 0.3, "a number, 0 or more", "above 0: the wait is drawn from [0, wait]")
    retry_until = _of(None, None, "a function of the result, or several", "a result that fails one is tried again")
    retry_config = _of(None, None, "a RetryConfig", "num_retries and the retry_ options as one object")
    max_restarts = Option[int | None](
        check_for.optional(check_for.count(0)),
        3,
        _WHOLE + _NO_BOUND,
        "deaths of one actor, at start or idle within `restart_window`, after which it is started again",
    )
    restart_window = Option(check_for.number(above=True), 60.0, "seconds, above 0", "the span of max_restarts, seconds")
    call_timeout = _of(
        check_for.call_seconds,
        None,
        "seconds, above 0" + _NO_BOUND,
        "how long a call may take, seconds; past it, it fails with TimeoutError",
    )
    stop_timeout = Option(check_for.timeout(), 30.0, "seconds, 0 or more" + _NO_BOUND, "for `stop()`, seconds")
    init_timeout = Option(
        check_for.timeout(above=True), 60.0, "seconds, above 0" + _NO_BOUND, "for the worker's `__init__`, seconds"
    )
    exit_timeout = Option(
        check_for.timeout(),
        2.0,
        "seconds, 0 or more" + _NO_BOUND,
        "for calls that run when the interpreter exits or Ctrl-C leaves the `with`, seconds",
    )
    mp_context = Option(
        check_for.word_of("forkserver", "spawn", "fork"),
        "forkserver",
        "'forkserver', 'spawn' or 'fork'",
        "how a child process is started",
        only=(ExecutionMode.Processes,),
    )

    limit_native_threads = Option(
        check_for.flag,
        True,
        "True or False",
        "BLAS and OpenMP libraries in the children share the cores, instead of each taking all of them",
        only=(ExecutionMode.Processes,),
    )
    shared_memory_threshold = Option[int | None](
        check_for.optional(check_for.count(1)),
        256 * 1024,
        "bytes, 1 or more, or None for never",
        "arrays and bytes from this size on reach another process through shared memory",
        only=(ExecutionMode.Processes,),
    )
    writable_arrays = Option(
        check_for.flag,
        False,
        "True or False",
        "arrays that come from another process are copied, and may be written to; otherwise they are read-only",
        only=(ExecutionMode.Processes,),
    )
    max_calls_per_worker = Option[int | None](
        check_for.optional(check_for.count(1)),
        None,
        "a whole number, 1 or more" + _NO_BOUND,
        "calls after which a process is replaced by a new one",
        only=(ExecutionMode.Processes,),
    )
    max_memory_per_worker = Option[int | None](
        check_for.optional(check_for.count(1)),
        None,
        "bytes, 1 or more" + _NO_BOUND,
        "resident memory above which a process is replaced by a new one, after the call that runs",
        only=(ExecutionMode.Processes,),
    )

    __slots__ = ("given", "ray", "values")
    values: Mapping[str, Any]
    ray: Mapping[str, Any]
    given: Mapping[str, int]

    def __init__(self, values: Mapping[str, Any], ray: Mapping[str, Any], given: Mapping[str, int]) -> None:
        for slot, content in (("values", values), ("ray", ray), ("given", given)):
            object.__setattr__(self, slot, MappingProxyType(dict(content)))

    @classmethod
    def resolve(
        cls,
        layers: Sequence[Mapping[str, Any]],
        *,
        worker: str,
        auto: Callable[[], ExecutionMode] | None = None,
        methods: Collection[str] | None = None,
        defaults: Callable[[ExecutionMode, bool], Mapping[str, Any]] | None = None,
        say_mode: str = SAY_MODE,
    ) -> Options:
        """Bring together what was said, the strongest first.

        Args:
            layers: mappings from option to value; a `Layer` may say other things by mode. None is a value only where
                the option has a use for it, and counts as not said elsewhere.
            worker: its name, for messages.
            auto: chooses the mode where it is "auto"; it knows the class.
            methods: the worker's methods; a `call_timeout` for any other is refused. None: not checked.
            defaults: what holds where no layer says anything, by mode and on_demand; `defaults_for` if None.
            say_mode: how the mode is said of such a worker, for the message where nobody has said one.

        Raises:
            TypeError: an unknown option.
            ValueError: a value that cannot be, alone or in this mode; no mode.
        """
        from concurry.option_layers import gather  # it reads the table below

        base = defaults or defaults_for
        return cls(*gather(layers, worker=worker, auto=auto, methods=methods, defaults=base, say_mode=say_mode))

    @property
    def actors(self) -> int:
        """How many actors stand ready: 0 on demand, else 1 or more."""
        return 0 if self.on_demand else max(1, self.max_workers)

    @property
    def most_actors(self) -> int | None:
        """How many actors there can be at one time; None: no bound of ours."""
        if not self.on_demand:
            return self.actors
        return self.max_workers or (None if self.mode is _RAY else cores())

    @property
    def pooled(self) -> bool:
        """Whether the handle stands for a pool."""
        return self.on_demand or self.max_workers > 1

    def timeout_for(self, method: str) -> float | None:
        """The seconds a call of `method` may take, or None for no bound."""
        timeout: Any = self.call_timeout
        found: float | None = timeout.get(method, timeout.get("*")) if is_mapping(timeout) else timeout
        return found

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"options are fixed once a worker has them: {name} cannot be changed; make a new worker")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"options are fixed once a worker has them: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and (self.values, self.ray) == (other.values, other.ray)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Options, (dict(self.values), dict(self.ray), dict(self.given))

    def __repr__(self) -> str:
        said = {name: self.ray.get(name, self.values.get(name)) for name in self.given}
        return f"Options({', '.join(f'{name}={_short(value)}' for name, value in said.items())})"


def _is_option(value: object) -> TypeGuard[Option[Any]]:
    return isinstance(value, Option)


TABLE: Final[Mapping[str, Option[Any]]] = {name: it for name, it in vars(Options).items() if _is_option(it)}


KNOWN: Final[Mapping[str, Option[Any]]] = {**TABLE, **RAY}
CONFIGURATION_ONLY: Final = (  # settings of the configuration that no single worker has
    "rate_limit_algorithm",
    "limit_pool_load_balancing",
    "task_decorator_on_demand",
    "load_balancing_on_demand",
    "progress_bar_ncols",
    "progress_bar_smoothing",
    "progress_bar_miniters",
)
IGNORED: Final = (  # older names that belong to polling; nothing polls
    "polling_*",
    "asyncio_future_poll_interval",
    "async_*_poll_interval",
    "ray_monitor_*",
    "rate_limiter_min_wait_time",
    "limit_set_acquire_sleep",
    "worker_pool_cleanup_sleep",
    "worker_*_timeout",
    "pool_on_demand_*",
)


def defaults_for(mode: ExecutionMode, on_demand: bool = False) -> dict[str, Any]:
    """The default of every option that has one, in a mode."""
    known = {name: option.default_for(mode, on_demand) for name, option in KNOWN.items()}
    return {name: value for name, value in known.items() if value is not UNSAID}


def check_one(name: str, value: Any, *, worker: str = "worker", origin: str = "") -> Any:
    """`value` as the option `name` keeps it; a None that says nothing comes back as None. `origin`: where it was said.

    Raises:
        TypeError: there is no such option. ValueError: it cannot have this value.
    """
    option = KNOWN.get(name)
    if option is None:
        raise unknown(name, worker, TABLE, RAY, CONFIGURATION_ONLY)
    if value is None and not option.takes_none:
        return None
    try:
        return option.check(value)
    except (ValueError, TypeError, OverflowError) as error:
        why = f" ({error})" if str(error) else ""
        said = f" (from {origin})" if origin else ""
        raise ValueError(
            f"{worker}: {name}={_short(value)}{said} is refused: it must be {option.allowed}{why}"
        ) from error


def check(given: Mapping[str, Any], *, worker: str) -> dict[str, Any]:
    """The options of one line of the user's (`.options(...)`, `@worker(...)`, class arguments), each checked.

    Raises:
        TypeError: an unknown option. ValueError: a value that cannot be, or not in the mode that stands beside it.
    """
    checked = {name: check_one(name, value, worker=worker) for name, value in known_only(given, worker).items()}
    mode = checked.get("mode")
    if mode is not None:
        for name in ("max_workers", "on_demand"):
            # on_demand may stand on another line, so the one question that needs it waits for `resolve`
            if checked.get(name) is not None and (problem := conflict(name, checked[name], mode, on_demand=True)):
                raise ValueError(f"{worker}: {problem}")
    return checked


def conflict(name: str, value: Any, mode: ExecutionMode, on_demand: bool) -> str | None:
    """Why an option cannot have this value in this mode; None where it can."""
    instead = _SINGLE.get(mode)
    if name == "max_workers":
        if instead is not None and value != 1:
            return f"max_workers must be 1 for {mode.name} mode, and is {value}: {instead}"
        if value == 0 and mode is not _RAY and not on_demand:
            return f"max_workers=0 is for on_demand=True (no bound) and for Ray; with mode={mode.value!r} say 1 or more"
    elif name == "on_demand" and value and instead is not None:
        return f"on_demand mode is not supported for {mode.name}: {instead}"
    return None


_SINGLE: Final[Mapping[ExecutionMode, str]] = {
    _SYNC: "it runs in the caller's own thread. mode='thread' takes several actors",
    _ASYNCIO: "its one event loop runs many calls at once, up to max_concurrency. mode='thread' takes several actors",
}


def known_only(given: Mapping[str, Any], worker: str) -> dict[str, Any]:
    """What is given, without the older names that have no effect. Raises TypeError for a name that nobody knows."""
    known: dict[str, Any] = {}
    for name, value in given.items():
        if name in KNOWN:
            known[name] = value
        elif ignored(name):
            log.debug("%s: %s is accepted and ignored: nothing polls", worker, name)
        else:
            raise unknown(name, worker, TABLE, RAY, CONFIGURATION_ONLY)
    return known


def ignored(name: str) -> bool:
    """Whether it is one of the older names that belong to polling."""
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, pattern) for pattern in IGNORED)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # those that this process may use: fewer in a container
    return os.cpu_count() or 1


def _short(value: Any) -> str:
    try:
        return reprlib.repr(value.value if isinstance(value, Enum) else value)
    except ValueError:  # a whole number of more digits than Python prints
        return f"<{type(value).__name__}>"
