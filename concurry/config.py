"""The configuration: what holds for all workers, or for all workers of a mode, where a worker does not say it itself.

Guarantees: an assignment is checked at its line; what no worker of the mode could have is refused there. Any thread
may read and assign; a reader sees one state, never half of a change. `temp_config` is seen by the thread or task that
entered it and by nobody else, and ends with its block.
Called by: users; the face, at `.options()` and `.init()` (`layers`); `ProgressBar`, limits and tasks (`setting`);
`python -m concurry config`.

    CONCURRY_*   >   [ temp_config over global_config ]: <mode>.<name>, then defaults.<name>   >   the built-in default
       a Layer                    a Layer
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn

from concurry.option import nearest
from concurry.option_layers import ON_DEMAND, PREFIX, Layer, environment_layer
from concurry.options import KNOWN, Options, check_one, conflict, defaults_for, ignored
from concurry.runtime.enums import ExecutionMode
from concurry.settings import SETTINGS

__all__ = ["global_config", "temp_config"]

log = logging.getLogger("concurry")
Said = Mapping[str, Mapping[str, Any]]  # section -> name -> value
MODES: Final = {mode.value: mode for mode in ExecutionMode if mode is not ExecutionMode.Auto}
NOTHING: Final[Said] = {}

_said: Said = NOTHING  # Invariant: never changed in place, only replaced, so that readers need no lock
_lock = threading.Lock()  # protects the replacing of _said; no other lock is taken under it


class _Block(NamedTuple):
    """One `with temp_config(...)` that was entered: what it and those around it say."""

    said: Said
    around: _Block | None


_temporary: ContextVar[_Block | None] = ContextVar("concurry_temp_config", default=None)


# -- one name in one place ------------------------------------------------------------------------------------------


def _mode_of(section: str) -> ExecutionMode | None:
    return MODES.get(section)  # None: "defaults"


def _has(section: str, name: str) -> bool:
    return name in SETTINGS or (name in KNOWN and (name != "mode" or section == "defaults"))


def _checked(section: str, name: str, value: Any, said_as: str) -> Any:
    """The value as it is kept; None where that says nothing. Assumes that the section has the name."""
    setting = SETTINGS.get(name)
    if setting is None:
        value = check_one(name, value, worker="configuration", origin=said_as)
        mode = _mode_of(section)
        # on_demand may be said elsewhere, so the one question that needs it waits for the worker
        if mode and value is not None and (problem := conflict(name, value, mode, on_demand=True)):
            raise ValueError(f"{said_as}: {problem}")
        return value
    if value is None and not setting.takes_none:
        return None
    try:
        return setting.check(value)
    except (ValueError, TypeError, OverflowError) as error:
        why = f" ({error})" if str(error) else ""
        raise ValueError(f"{said_as}={value!r} is refused: it must be {setting.allowed}{why}") from error


def says_something(name: str, value: Any) -> bool:
    """False for a None that is no value of the option."""
    option = KNOWN.get(name) or SETTINGS.get(name)
    return value is not None or option is None or option.takes_none


def _hint(section: str, name: str) -> str:
    if name == "mode":
        return "the mode is chosen by global_config.defaults.mode"
    names = [it for it in (*KNOWN, *SETTINGS) if _has(section, it)]
    near = nearest(name, names)
    return f"did you mean {near!r}?" if near else f"there are {', '.join(names)}"


def _over(base: Said, top: Said) -> Said:
    return {section: {**base.get(section, {}), **top.get(section, {})} for section in {**base, **top}}


def _in_force() -> Said:
    block = _temporary.get()
    return _said if block is None else _over(_said, block.said)


def _temporarily() -> Said:
    block = _temporary.get()
    return NOTHING if block is None else block.said


# -- global_config --------------------------------------------------------------------------------------------------


class Section:
    """What is said of all workers (`global_config.defaults`) or of a mode (`global_config.thread`), by attribute.

    Assigning checks the value; assigning None, where None is no value of the option, and `del` take it back. Reading
    gives what is in force by the configuration: for a mode what was said of it, else of all, else the built-in default.
    """

    __slots__ = ("_name",)
    _name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __setattr__(self, name: str, value: Any) -> None:
        if _has(self._name, name):
            value = _checked(self._name, name, value, f"global_config.{self._name}.{name}")
            self._replace(name, value, says_something(name, value))
        elif ignored(name):
            log.debug("global_config.%s.%s is accepted and ignored: nothing polls", self._name, name)
            self._replace(name, value, True)
        else:
            raise self._unknown(name)

    def __delattr__(self, name: str) -> None:
        if not _has(self._name, name) and not ignored(name):
            raise self._unknown(name)
        self._replace(name, None, False)

    def __getattr__(self, name: str) -> Any:
        if not _has(self._name, name):
            if ignored(name):
                return _in_force().get(self._name, {}).get(name)
            raise self._unknown(name)
        return _read(name, _in_force(), _mode_of(self._name))[0]

    def _replace(self, name: str, value: Any, says: bool) -> None:
        global _said
        with _lock:
            section = {it: was for it, was in _said.get(self._name, {}).items() if it != name}
            if says:
                section[name] = value
            _said = {**_said, self._name: section}

    def _unknown(self, name: str) -> AttributeError:
        return AttributeError(f"global_config.{self._name} has no {name!r}; {_hint(self._name, name)}")

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *(name for name in (*KNOWN, *SETTINGS) if _has(self._name, name))]

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in _in_force().get(self._name, {}).items())
        return f"<global_config.{self._name}: {said or 'nothing said'}>"


def _read(name: str, said: Said, mode: ExecutionMode | None) -> tuple[Any, str]:
    """A value, and the section that says it ("" for the built-in default). What the mode cannot have is passed over."""
    if mode is not None and name in said.get(mode.value, {}):
        return said[mode.value][name], mode.value
    if name in said.get("defaults", {}):
        value = said["defaults"][name]
        if mode is None or name in SETTINGS or conflict(name, value, mode, on_demand=True) is None:
            return value, "defaults"
    if name in SETTINGS:
        return SETTINGS[name].default, ""
    if name == "mode":
        return None, ""
    return defaults_for(mode or ExecutionMode.Threads).get(name), ""


class Resolved(Mapping[str, Any]):
    """What a worker of one mode gets where nothing is said of it: read as attributes or as a mapping."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = MappingProxyType(dict(values))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            near = nearest(name, self._values)
            raise AttributeError(f"there is no {name!r}{f'; did you mean {near!r}?' if near else ''}")
        return self._values[name]

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Resolved({dict(self._values)!r})"


class GlobalConfig:
    """The configuration of this process. `global_config` is the only one."""

    __slots__ = ("asyncio", "defaults", "process", "ray", "sync", "thread")
    defaults: Section
    sync: Section
    thread: Section
    process: Section
    asyncio: Section
    ray: Section

    def __init__(self) -> None:
        for name in GlobalConfig.__slots__:
            object.__setattr__(self, name, Section(name))

    def get_defaults(self, mode: ExecutionMode | str) -> Resolved:
        """Everything that a worker of `mode` gets where nothing is said of it, the `CONCURRY_*` variables included.

        Args:
            mode: a member of ExecutionMode, its name or an alias; not auto.
        Raises:
            ValueError: no such mode, or "auto"; a variable whose value cannot be.
        """
        mode = ExecutionMode(mode)
        if mode is ExecutionMode.Auto:
            raise ValueError("get_defaults: 'auto' goes by a class's methods; say which mode")
        options = Options.resolve([{"mode": mode}, *layers()], worker="configuration")
        return Resolved({**options.values, **options.ray, **{name: setting(name, mode) for name in SETTINGS}})

    def reset_to_defaults(self) -> None:
        """Take back everything that was assigned. What a `temp_config` says holds until its block ends."""
        global _said
        with _lock:
            _said = NOTHING

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        if name in GlobalConfig.__slots__:
            raise AttributeError(
                f"global_config.{name} cannot be replaced; assign its parts: global_config.{name}.num_retries"
            )
        raise AttributeError(f"assign global_config.defaults.{name}, or global_config.<mode>.{name} for one mode")

    def __repr__(self) -> str:
        said = (f"{name}: {dict(section)}" for name, section in _in_force().items() if section)
        return f"<global_config {', '.join(said) or 'nothing said'}>"


global_config: Final = GlobalConfig()
"""The configuration of this process, as in `global_config.defaults.num_retries = 3`."""


class temp_config:  # a class, so that it may be entered again; users see a function
    """Other values in a block: `with temp_config(global_num_retries=3, thread_max_workers=100): ...`.

    It is as if they had been assigned to `global_config`, for this thread or task only. Workers keep the options that
    they were made with.

    Args:
        **settings: `global_<name>` for all modes; `sync_`, `thread_`, `process_`, `asyncio_` or `ray_<name>` for one.

    Raises:
        ValueError: "Invalid mode", "Invalid attribute", or a value that cannot be.
    """

    __slots__ = ("_said",)

    def __init__(self, **settings: Any) -> None:
        said: dict[str, dict[str, Any]] = {}
        for key, given in settings.items():
            head, _, name = key.partition("_")
            if head != "global" and head not in MODES:
                hint = f"global_{key}" if _has("defaults", key) else f"<mode>_<name>, as in thread_{name or key}"
                raise ValueError(
                    f"temp_config({key}=...): Invalid mode {head!r}; say {hint} (modes: global, {', '.join(MODES)})"
                )
            section = "defaults" if head == "global" else head
            if _has(section, name):
                value = _checked(section, name, given, f"temp_config({key}=...)")
                if not says_something(name, value):
                    continue
            elif ignored(name):
                log.debug("temp_config: %s is accepted and ignored: nothing polls", key)
                value = given
            else:
                raise ValueError(f"temp_config({key}=...): Invalid attribute {name!r}; {_hint(section, name)}")
            said.setdefault(section, {})[name] = value
        self._said: Said = said

    # What was entered stands in the context and not here, so that several threads may use one object at the same time.
    def __enter__(self) -> GlobalConfig:
        _temporary.set(_Block(_over(_temporarily(), self._said), _temporary.get()))
        return global_config

    def __exit__(self, *exc_info: object) -> None:
        block = _temporary.get()
        assert block is not None, "a temp_config is left in a context that has not entered it"
        _temporary.set(block.around)


# -- what others ask ------------------------------------------------------------------------------------------------


def layers() -> list[Layer]:
    """What the environment and the configuration say now, the strongest first, for `Options.resolve`."""
    said, temporary = _in_force(), _temporarily()

    def origin(name: str, mode: ExecutionMode | None) -> str:
        section = "defaults" if mode is None else mode.value
        if name in temporary.get(section, {}):
            return f"temp_config({'global' if mode is None else section}_{name}=...)"
        return f"global_config.{section}.{name}"

    environment = environment_layer()
    of_modes = dict(environment.by_mode)
    for name in ON_DEMAND.values():  # a setting, so that `environment_layer` leaves it to us; `gather` has a use for it
        for mode in (None, *MODES.values()):
            if (text := _variable(name, mode)[1]) and mode is None:
                environment[name] = text
            elif text and mode is not None:
                of_modes[mode] = {**of_modes.get(mode, {}), name: text}
    environment.by_mode = of_modes
    by_mode: dict[ExecutionMode, Mapping[str, Any]] = {mode: said[it] for it, mode in MODES.items() if it in said}
    return [environment, Layer(said.get("defaults", {}), by_mode, origin)]


def _variable(name: str, mode: ExecutionMode | None) -> tuple[str, str]:
    """The variable that says `name`, and what it holds; "" where it says nothing."""
    variable = f"{PREFIX}{'' if mode is None else mode.value.upper() + '_'}{name.upper()}"
    return variable, os.environ.get(variable, "").strip()


def setting(name: str, mode: ExecutionMode | None = None) -> Any:
    """The value in force of a setting that no single worker has: `setting("progress_bar_ncols")`.

    Args:
        name: one of `SETTINGS`.
        mode: what is said of this mode goes first; None: what is said of all.
    Raises:
        KeyError: no such setting. ValueError: a `CONCURRY_*` variable whose value cannot be.
    """
    return setting_with_origin(name, mode)[0]


def setting_with_origin(name: str, mode: ExecutionMode | None = None) -> tuple[Any, str]:
    """See `setting`; and where the value is said, "default" if nowhere."""
    if name not in SETTINGS:
        raise KeyError(f"{name!r} is no setting of the configuration; there are {', '.join(SETTINGS)}")
    for said_of in (mode, None):
        variable, text = _variable(name, said_of)
        if text:
            value = _checked("defaults", name, None if text.lower() in ("none", "null") else text, variable)
            if says_something(name, value):
                return value, variable
    value, section = _read(name, _in_force(), mode)
    return value, _origin(name, section)


def _origin(name: str, section: str) -> str:
    if not section:
        return "default"
    if name in _temporarily().get(section, {}):
        return f"temp_config({'global' if section == 'defaults' else section}_{name}=...)"
    return f"global_config.{section}.{name}"
