"""What was said about a worker, in several places of different strength, brought together.

Guarantees: the strongest layer that says something about an option decides; within a `Layer`, what it says for the mode
goes before what it says for all modes. What a user said of this worker and cannot be is an error; what was said of all
workers (the environment, the configuration) and cannot be in this worker's mode is passed over.
Called by: `Options.resolve` (`gather`), the face (`environment_layer`), the configuration (`Layer`).

    .options(...)   @worker(...)   class arguments   CONCURRY_*   global_config
         |               |               |               |             |
         +------- mappings, firm --------+               +--- Layers --+      then the defaults
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from concurry.option import Option, nearest
from concurry.option_hints import SAY_MODE
from concurry.option_ray import RAY
from concurry.options import (
    CONFIGURATION_ONLY,
    KNOWN,
    TABLE,
    check_one,
    conflict,
    defaults_for,
    ignored,
    known_only,
)
from concurry.runtime.enums import ExecutionMode

log = logging.getLogger("concurry")
PREFIX: Final = "CONCURRY_"
_SWITCHES: Final = ("CONCURRY_DEBUG", "CONCURRY_CHECK_WIRE")  # variables of ours that are no options
_BY_PREFIX: Final = {mode.value: mode for mode in ExecutionMode if mode is not ExecutionMode.Auto}
ON_DEMAND: Final = {"load_balancing": "load_balancing_on_demand"}  # in a `Layer`, for workers that are on demand
_warned: set[str] = set()  # variables that a warning was given about: one each is enough; adding to a set is atomic


class Layer(dict[str, Any]):
    """What one source says about many workers (the environment, the configuration): for all modes, and `by_mode`.

    A worker is not refused for what is said here for all modes: `CONCURRY_MAX_WORKERS=8` leaves sync workers alone.
    `origin` names the place where an option is said, for messages. `ON_DEMAND` names what is said of workers on demand.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        by_mode: Mapping[ExecutionMode, Mapping[str, Any]],
        origin: Callable[[str, ExecutionMode | None], str],
    ) -> None:
        super().__init__(values)
        self.by_mode = by_mode
        self.origin = origin


# -- the environment ----------------------------------------------------------------------------------------------


def environment_layer(environ: Mapping[str, str] | None = None) -> Layer:
    """The `CONCURRY_*` variables: `CONCURRY_NUM_RETRIES=3` for all modes, `CONCURRY_THREAD_MAX_WORKERS=8` for one.

    Text is read as the option needs it: numbers, "true", names, "none" for None, JSON for dicts. An empty variable
    says nothing. One that is no option never breaks anything; where it looks like a slip of the pen, a warning is
    logged once.

    Args:
        environ: the variables; those of this process, if None.
    """
    layer = Layer({}, {}, _variable)
    by_mode: dict[ExecutionMode, dict[str, Any]] = {}
    for variable, text in (os.environ if environ is None else environ).items():
        if not variable.startswith(PREFIX) or variable in _SWITCHES or not text.strip():
            continue
        name = variable[len(PREFIX) :].lower()
        head, _, rest = name.partition("_")
        mode = _BY_PREFIX.get(head)
        if mode is not None:
            name = rest
        option = KNOWN.get(name)
        if option is None or not option.as_text or (mode is not None and name == "mode"):
            _no_option(variable, name, option)
        elif mode is None:
            layer[name] = _read(option, text.strip())
        else:
            by_mode.setdefault(mode, {})[name] = _read(option, text.strip())
    layer.by_mode = by_mode
    return layer


def switched_on(variable: str) -> bool:
    """Whether a switch of ours, such as CONCURRY_DEBUG, is set to anything but 0, false, no or off."""
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no", "off")


def _variable(name: str, mode: ExecutionMode | None) -> str:
    return f"{PREFIX}{'' if mode is None else mode.value.upper() + '_'}{name.upper()}"


def _read(option: Option[Any], text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    if option.name in RAY or text[0] in "{[":
        import json

        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text  # plain words of Ray's; anything else meets the option's check, which names the variable
    return text


def _no_option(variable: str, name: str, option: Option[Any] | None) -> None:
    if variable in _warned or name in CONFIGURATION_ONLY:
        return
    if ignored(name):
        log.debug("%s is accepted and ignored: nothing polls", variable)
        return
    if name == "mode":
        hint = f"the mode is chosen by {PREFIX}MODE"
    elif option is not None:
        hint = "what it takes cannot be written as text; say it on the class or in .options()"
    elif near := nearest(name, (known for known, it in KNOWN.items() if it.as_text)):
        hint = f"did you mean {PREFIX}{near.upper()}?"
    else:
        log.debug("%s is no option of ours, and is ignored", variable)
        return
    _warned.add(variable)
    log.warning("%s is ignored: %s", variable, hint)


# -- bringing together --------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """One layer's say in one mode."""

    rank: int
    values: Mapping[str, Any]
    firm: bool  # what the mode cannot have is an error, and not passed over
    origin: Callable[[str], str]
    from_ray: bool = False  # the contents of an `actor_options`
    about_many: bool = False  # of a `Layer`


class Gathered(NamedTuple):
    """The contents of an `Options`."""

    values: Mapping[str, Any]
    ray: Mapping[str, Any]
    given: Mapping[str, int]


def gather(
    layers: Sequence[Mapping[str, Any]],
    *,
    worker: str,
    auto: Callable[[], ExecutionMode] | None,
    methods: Collection[str] | None,
    defaults: Callable[[ExecutionMode, bool], Mapping[str, Any]] = defaults_for,
    say_mode: str = SAY_MODE,
) -> Gathered:
    """See `Options.resolve`."""
    layers = [layer if isinstance(layer, Layer) else known_only(layer, worker) for layer in layers]
    mode, rank = _mode(layers, worker, auto, say_mode)
    parts = _parts(layers, mode, worker)
    found: dict[str, tuple[Any, int] | None] = {"mode": (mode, rank)}
    first = found["on_demand"] = _find("on_demand", parts, mode, False, worker)  # others depend on it
    on_demand: bool = defaults(mode, False)["on_demand"] if first is None else first[0]
    base = defaults(mode, on_demand)
    for name in TABLE:
        if name not in found:
            found[name] = _find(name, parts, mode, on_demand, worker)
    values = {name: base[name] if it is None else it[0] for name, it in found.items()}
    given = {name: it[1] for name, it in found.items() if it is not None}
    if methods is not None and isinstance(values["call_timeout"], dict):
        _check_methods(values["call_timeout"], methods, worker)  # pyright: ignore[reportUnknownArgumentType]
    ray = {name: base[name] for name in RAY if name in base}
    for name, (value, at) in _for_ray(parts).items():
        ray[name], given[name] = value, at
    for name in given:
        only = KNOWN[name].only if name in KNOWN else ()
        if only and mode not in only:
            log.debug("%s: %s has no meaning with mode=%r and is ignored", worker, name, mode.value)
    return Gathered(values, ray if mode is ExecutionMode.Ray else {}, given)


def _mode(
    layers: Iterable[Mapping[str, Any]], worker: str, auto: Callable[[], ExecutionMode] | None, say_mode: str
) -> tuple[ExecutionMode, int]:
    for rank, layer in enumerate(layers):
        origin = layer.origin("mode", None) if isinstance(layer, Layer) else ""
        mode: ExecutionMode | None = check_one("mode", layer.get("mode"), worker=worker, origin=origin)
        if mode is None:
            continue
        if mode is ExecutionMode.Auto:
            if auto is None:
                raise ValueError(f"{worker}: mode='auto' goes by a class's methods, and here is none; say which mode")
            mode = ExecutionMode(auto())
        return mode, rank
    raise ValueError(
        f"{worker}: mode parameter is required: say {say_mode} (or 'asyncio', 'sync', 'process', 'ray', 'auto'), or "
        f"set {PREFIX}MODE"
    )


def _parts(layers: Iterable[Mapping[str, Any]], mode: ExecutionMode, worker: str) -> list[_Part]:
    parts: list[_Part] = []
    for rank, layer in enumerate(layers):
        says: list[tuple[Mapping[str, Any], bool, Callable[[str], str]]]
        if isinstance(layer, Layer):
            says = [
                (layer.by_mode.get(mode, {}), True, lambda name, of=layer: of.origin(name, mode)),  # type: ignore[misc]
                (layer, False, lambda name, of=layer: of.origin(name, None)),  # type: ignore[misc]
            ]
        else:
            says = [(layer, True, _unnamed)]
        for values, firm, origin in says:
            parts.append(_Part(rank, values, firm, origin, about_many=isinstance(layer, Layer)))
            if mode is ExecutionMode.Ray and values.get("actor_options"):
                # max_restarts and max_concurrency are names of Ray's and of ours: ours in meaning, wherever they stand
                theirs = check_one(
                    "actor_options", values["actor_options"], worker=worker, origin=origin("actor_options")
                )
                parts.append(_Part(rank, theirs, firm, _in_actor_options, True))
    return parts


def _in_actor_options(name: str) -> str:
    return "actor_options"


def _unnamed(name: str) -> str:
    return ""  # the user's own line, which the error's traceback shows


def _find(name: str, parts: list[_Part], mode: ExecutionMode, on_demand: bool, worker: str) -> tuple[Any, int] | None:
    """The strongest say about an option, and the number of its layer."""
    for part in parts:
        key = ON_DEMAND.get(name, name) if on_demand and part.about_many else name
        if key not in part.values:
            continue
        origin = part.origin(key)
        value = check_one(name, part.values[key], worker=worker, origin=origin)
        if value is None and not KNOWN[name].takes_none:
            continue  # nothing was said
        problem = conflict(name, value, mode, on_demand)
        if problem is None:
            return value, part.rank
        if part.firm:
            raise ValueError(f"{worker}: {problem}{f' (from {origin})' if origin else ''}")
        log.debug("%s: %s=%r of %s is passed over: %s", worker, name, value, origin, problem)
    return None


def _for_ray(parts: list[_Part]) -> dict[str, tuple[Any, int]]:
    """What goes to Ray as it is. A None is Ray's own default: nothing was said."""
    found: dict[str, tuple[Any, int]] = {}
    for part in reversed(parts):  # the strongest last; within a layer, `actor_options` first
        for name, value in part.values.items():
            ours = name in TABLE or name == "actor_options"
            if value is not None and not ours and (part.from_ray or name in RAY):
                found[name] = value, part.rank
    return found


def _check_methods(by_method: Mapping[str, Any], methods: Collection[str], worker: str) -> None:
    for name in by_method:
        if name != "*" and name not in methods:
            near = nearest(name, methods)
            hint = f"did you mean {near!r}?" if near else f"it has: {', '.join(sorted(methods)) or 'none'}"
            raise ValueError(f"{worker}: call_timeout names a method {name!r} that {worker} has not; {hint}")
