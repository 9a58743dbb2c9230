"""From a class and its options to the plan that the engine carries out.

Guarantees: everything that can be wrong is found here, at the line of `.init()`, before an actor is started.
Called by: `.init()`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from concurry.methods import ends_itself, has_own_limits, is_slot
from concurry.option_layers import switched_on
from concurry.options import Options, cores
from concurry.runtime.actor import building
from concurry.runtime.balancing import BY_NAME
from concurry.runtime.plan import Init, Method, Plan
from concurry.runtime.restart import Intensity
from concurry.transports.base import Transport
from concurry.transports.registry import find


def make_plan(
    cls: type,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: Options,
    methods: Mapping[str, bool],
    *,
    class_gives_limits: bool,
) -> tuple[Plan, Transport]:
    """Plan a worker.

    Args:
        methods: by name; True for an async one.
        class_gives_limits: whether `self.limits` is there without anything being set on the instance.

    Raises:
        TypeError: the class cannot take what has to be set on its instances; the init arguments do not fit.
        ValueError: limits or a retry policy that cannot be; a name for several of Ray's actors.
        ModuleNotFoundError: what the mode needs is not installed.
    """
    name, mode = cls.__name__, options.mode.value
    if options.ray.get("name") and (options.on_demand or options.actors > 1):
        raise ValueError(
            f"{name}: name={options.ray['name']!r} is one actor's: Ray has each name once. Leave it out, or start a "
            f"worker for each name; a pool that has a name is one of lifetime='detached'"
        )
    width = 1 if options.on_demand else options.max_concurrency  # on demand an actor has one call, and no other
    transport = find(mode, concurrent=width > 1)
    policies, named = _retries(options, methods, name)
    table = {
        method: Method(
            method,
            is_async,
            policies.get(method),
            method in named,
            options.timeout_for(method),
        )
        for method, is_async in methods.items()
    }
    # A slot of that name is room for ours, and hides what the class gives.
    sets_limits = options.limits is not None or not class_gives_limits or is_slot(cls, "limits")
    if sets_limits and has_own_limits(cls):
        if options.limits is not None:
            raise TypeError(
                f"{name} has a `limits` of its own, so the option limits=... has no place to go; rename one of the two"
            )
        sets_limits = False
    _check_room(cls, sets_limits, [m.name for m in table.values() if m.named and m.policy is not None])
    if options.on_demand or (not transport.direct and _only_validates(cls, kwargs)):
        _check_arguments(cls, args, kwargs)  # else the first actors that are built tell
    limits, limits_elsewhere = _limits_makers(options, transport) if sets_limits else (None, None)
    init = Init(
        cls,
        args,
        dict(kwargs),
        limits,
        leases=options.limits is not None,
        sets_limits=sets_limits,
        ends=ends_itself(cls),
        elsewhere=limits_elsewhere,
    )
    plan = Plan(
        name=name,
        mode=mode,
        init=init,
        methods=table,
        actors=options.actors,
        most_actors=options.most_actors,
        on_demand=options.on_demand,
        max_concurrency=1 if transport.direct else width,
        lanes=_lanes(methods) if transport.apart else (),
        choose=BY_NAME[options.load_balancing.value],
        mailbox_size=options.mailbox_size,
        block=options.on_full == "block",
        unwrap=options.unwrap_futures,
        intensity=Intensity(options.max_restarts, options.restart_window),
        stop_timeout_s=options.stop_timeout,
        init_timeout_s=options.init_timeout,
        exit_timeout_s=options.exit_timeout,
        most_held=_most_held(options),
        settings=_settings(options, transport, width) if transport.elsewhere else {},
        traced=switched_on("CONCURRY_DEBUG"),
        checks_wire=switched_on("CONCURRY_CHECK_WIRE") and not transport.elsewhere,
        future=_future(transport),
    )
    return plan, transport


def _retries(options: Options, methods: Mapping[str, bool], name: str) -> tuple[Mapping[str, Any], Collection[str]]:
    """The policy of each method that has one, and the methods that an option names."""
    if not any(option.startswith(("retry_", "num_retries")) for option in options.given):
        return {}, ()
    from concurry.retry import compile_policies

    compiled = compile_policies(options, methods, name)
    return compiled.policies, compiled.named


def _future(transport: Transport) -> Any:
    """What the futures of its calls are, where it is not what goes without saying."""
    if not transport.refers:
        return None
    from concurry.runtime.wire_future import RayWireFuture

    return RayWireFuture


def _most_held(options: Options) -> int | None:
    """How many calls an actor elsewhere may hold: what somebody said, else enough for all that it runs at once."""
    most = options.max_queued_tasks
    if most is None or "max_queued_tasks" in options.given:
        return most
    return max(most, options.max_concurrency)


def _settings(options: Options, transport: Transport, width: int) -> dict[str, Any]:
    threads = None
    if options.limit_native_threads:
        threads = max(1, cores() // max(1, options.most_actors or 1))
    return {
        "mp_context": options.mp_context,
        "serial": width == 1,
        "width": width,
        "lend_s": transport.lend_s,
        "timed": options.call_timeout is not None,
        "ray": {name: value for name, value in options.ray.items() if value is not None},
        "copies": options.writable_arrays,
        "large": options.shared_memory_threshold,
        "native_threads": threads,
        "most_calls": options.max_calls_per_worker,
        "most_memory": options.max_memory_per_worker,
    }


def _lanes(methods: Mapping[str, bool]) -> tuple[frozenset[str], ...]:
    async_names = frozenset(name for name, is_async in methods.items() if is_async)
    return async_names, frozenset(methods) - async_names


def _limits_makers(options: Options, transport: Transport) -> tuple[Callable[[int], Any], Any]:
    """What makes the limits of an actor here, and of one elsewhere (`Init.elsewhere`)."""
    from concurry.limits import limits_elsewhere, limits_for_worker, shared_limits

    normalised = shared_limits(options.limits, pooled=options.pooled)
    elsewhere = limits_elsewhere(normalised) if transport.elsewhere else None
    return lambda index: limits_for_worker(normalised, index), elsewhere


def _check_room(cls: type, sets_limits: bool, named: list[str]) -> None:
    wanted = [*(["limits"] if sets_limits else []), *named]
    if not wanted or cls.__dictoffset__:
        return
    missing = [name for name in wanted if not is_slot(cls, name)]
    if missing:
        raise TypeError(
            f"{cls.__name__}: its __slots__ leave no room for {', '.join(missing)}, which concurry sets on the "
            f"instance (limits, and methods that a retry policy names). Add '__dict__' or the name to __slots__"
        )


def _only_validates(cls: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether making an object of a pydantic class does nothing but check, so that it may be done here first."""
    fields = getattr(cls, "__pydantic_fields__", None)
    if fields is None or getattr(cls, "__pydantic_post_init__", None) is not None:
        return False
    makes = (getattr(field, "default_factory", None) for name, field in fields.items() if name not in kwargs)
    return all(make in (None, list, dict, set, tuple) for make in makes)


def _check_arguments(cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    import inspect

    own_init: Any = getattr(cls, "__init__")  # noqa: B009  # mypy: of a class that is not known
    validator = getattr(cls, "__pydantic_validator__", None)
    if validator is not None and not args and getattr(own_init, "__pydantic_base_init__", False):
        building.raw = cls  # a plain object, which nobody keeps
        try:
            validator.validate_python(dict(kwargs))
        finally:
            building.raw = None
        return
    try:
        # What a model says of itself are its fields, which an `__init__` of its own may fill in.
        own = getattr(cls, "__pydantic_custom_init__", False)
        signature = inspect.signature(own_init if own else cls)
    except (TypeError, ValueError):  # a class in C, or one that hides it: its first call will tell
        return
    try:
        signature.bind(*([None] if own else ()), *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{cls.__name__}.init(): {error}") from None
