"""Which methods a worker class has: a table made once per class, from the class alone.

Guarantees: public methods of the user's own, also inherited ones, static and class methods; nothing that `Worker`, a
pydantic or morphic base or Python itself brings along. Nothing is called or instantiated.
Called by: planning (what an actor runs), the handle (what can be called, and what to say where it cannot).
"""

from __future__ import annotations

import builtins
import sys
from functools import cached_property
from types import FunctionType, MethodType
from typing import Any, Final

from concurry.option import nearest

# Whoever inherits from a class of these modules inherits helpers, not worker methods.
_LIBRARIES: Final = frozenset(
    {"builtins", "abc", "typing", "typing_extensions", "pydantic", "pydantic_settings", "morphic", "concurry"}
)
_HAVE_IT: Final = "TaskWorker and @task run functions, and have `{}`"
_OF_TASKS: Final = {  # what a pool of functions has, and how that is said of methods
    "map": f"say gather([handle.method(x) for x in xs]). {_HAVE_IT.format('map')}",
    "submit": f"say handle.method(x), which returns the future. {_HAVE_IT.format('submit')}",
}
_TAKEN: Final = ("init", "options")  # class methods of Worker, which no worker may have as methods of its own


class Given(classmethod):  # type: ignore[type-arg]
    """A class method that `@worker` gives to a class; no method of the worker."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Given, (self.__func__,)  # pyright: ignore[reportUnknownMemberType]


class GivenLimits:
    """What `Worker` and `@worker` have a class say for `limits`; no attribute of the user's."""


def method_table(cls: type) -> dict[str, bool]:
    """The methods of a class by name, in the order they are written, base classes last; True for an async one."""
    found: dict[str, bool] = {}
    for owner in cls.__mro__:
        for name in vars(owner):
            if name not in found and not name.startswith("_") and _is_method(cls, name):
                found[name] = is_async(getattr(cls, name))
    return found


def is_async(function: Any) -> bool:
    """Whether calling it gives a coroutine, as far as can be told without calling it."""
    import inspect

    if inspect.isroutine(function) or isinstance(function, type):
        return inspect.iscoroutinefunction(function)
    called: Any = getattr(function.__class__, "__call__", None)  # noqa: B004  # an object that is called, and what runs then
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _is_method(cls: type, name: str) -> bool:
    owners = [owner for owner in cls.__mro__ if name in vars(owner)]
    raw = vars(owners[0])[name]
    if isinstance(raw, (property, cached_property, type, Given)) or name == "stop":
        return False
    if _is_library(owners[0]):
        return False
    # A hook of a library that the user fills in, such as `model_post_init`, is the library's to call.
    hook = name.startswith(("model_", "settings_")) or any(_root(owner) == "morphic" for owner in owners)
    if hook and any(map(_is_library, owners)):
        return False
    return callable(getattr(cls, name, None))


def _is_library(cls: type) -> bool:
    module = cls.__module__
    if module == "builtins":  # also what code that was run without a `__name__` says of its classes
        return getattr(builtins, cls.__name__, None) is cls
    return _root(cls) in _LIBRARIES


def _root(cls: type) -> str:
    return cls.__module__.partition(".")[0]


def refuse_taken(cls: type) -> None:
    """Raises TypeError where a worker class has a name of its own, also from a base, that starting it needs."""
    for name in _TAKEN:
        owner = next((owner for owner in cls.__mro__ if name in vars(owner)), None)
        if owner is None or isinstance(vars(owner)[name], Given) or _root(owner) == "concurry":
            continue
        where = "of its own" if owner is cls else f"of {owner.__name__}"
        raise TypeError(
            f"{cls.__name__}: a worker cannot have a {name} {where}, since {cls.__name__}.{name}(...) starts workers; "
            f"rename it"
        )


def has_own_limits(cls: type) -> bool:
    """Whether `limits` is the user's: an attribute or a field. What only tells type checkers of ours is none:
    `limits: LimitPool` in a plain class, `limits: ClassVar[LimitPool]` in a dataclass or a model."""
    for owner in cls.__mro__:
        value = vars(owner).get("limits")
        if value is not None and not isinstance(value, GivenLimits) and not is_slot(owner, "limits"):
            return True
        annotation = annotations_of(owner).get("limits")
        if annotation is not None and not (
            "LimitPool" in (said := str(annotation)) and ("ClassVar" in said or "limits" not in _fields(cls))
        ):
            return True
    return False


def is_slot(cls: type, name: str) -> bool:
    """Whether the instances have a slot of that name."""
    return any(type(vars(owner).get(name)).__name__ == "member_descriptor" for owner in cls.__mro__)


def annotations_of(cls: type) -> dict[str, Any]:
    """The annotations in the class's own body, by name; what they name need not exist."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    found: dict[str, Any] = vars(cls).get("__annotations__", {})
    return found


def _fields(cls: type) -> set[str]:
    """The names that a dataclass, a pydantic model or a class of attrs takes as arguments."""
    attrs = (field.name for field in getattr(cls, "__attrs_attrs__", ()))
    return {*getattr(cls, "__dataclass_fields__", ()), *getattr(cls, "__pydantic_fields__", ()), *attrs}


def shown_as_method(cls: type, name: str, function: Any) -> Any:
    """The function of a handle, with the docstring and the signature of its method: for `help` and editors."""
    method: Any = getattr(cls, name, None)
    if not isinstance(method, (FunctionType, MethodType)):
        return function
    raw = next(vars(owner)[name] for owner in cls.__mro__ if name in vars(owner))
    function.__name__ = name
    function.__qualname__ = f"{cls.__qualname__}.{name}"
    function.__doc__ = method.__doc__
    function.__wrapped__ = MethodType(method, cls) if raw is method else method  # bound to anything: without `self`
    return function


def ends_itself(cls: type) -> bool:
    """Whether the class has a `stop` of its own, which runs in the actor at its end."""
    return callable(getattr(cls, "stop", None))


def no_such_method(cls: type, name: str, methods: Any, own: Any) -> AttributeError:
    """The error for `handle.<name>`, which says what there is instead."""
    import inspect

    who = cls.__name__
    if name.startswith("_"):
        return AttributeError(f"{who}: {name} is private to the worker; only its public methods can be called")
    if name in ("init", "get_actor"):
        return AttributeError(f"{who}: {name} is the class's, {who}.{name}(...); this is a worker that runs")
    known = inspect.getattr_static(cls, name, None) is not None or any(name in annotations_of(it) for it in cls.__mro__)
    if known or name in getattr(cls, "model_fields", {}):
        return AttributeError(
            f"{who}: {name} is an attribute, and attributes stay in the actor. Give {who} a method that returns it, "
            f"such as `def get_{name}(self): return self.{name}`, and call that"
        )
    if name in _OF_TASKS:
        return AttributeError(f"{who} has no method {name!r}; {_OF_TASKS[name]}")
    near = nearest(name, [*methods, *own])
    hint = f"did you mean {near!r}?" if near else f"it has: {', '.join(methods) or 'none'}"
    return AttributeError(
        f"{who} has no method {name!r}; {hint} (an attribute that __init__ sets is read through a method)"
    )
