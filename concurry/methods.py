"""Which methods a worker class has: a table made once per class, from the class alone.

Guarantees: public methods of the user's own, also inherited ones, static and class methods; nothing that `Worker`, a
pydantic or morphic base or Python itself brings along. Nothing is called or instantiated.
Called by: planning (what an actor runs), the handle (what can be called, and what to say where it cannot).
"""

from __future__ import annotations

import builtins
from functools import cached_property
from typing import Any, Final

from concurry.option import nearest

# Whoever inherits from a class of these modules inherits helpers, not worker methods.
_LIBRARIES: Final = frozenset({"builtins", "abc", "typing", "typing_extensions", "pydantic", "morphic", "concurry"})
_TAKEN: Final = ("init", "options")  # class methods of Worker, which no worker may have as methods of its own


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
    if isinstance(raw, (property, cached_property, type)) or name == "stop":
        return False
    if _is_library(owners[0]):
        return False
    # A hook of a library that the user fills in, such as `model_post_init`, is the library's to call.
    if name.startswith("model_") and any(map(_is_library, owners)):
        return False
    return callable(getattr(cls, name, None))


def _is_library(cls: type) -> bool:
    module = cls.__module__
    if module == "builtins":  # also what code that was run without a `__name__` says of its classes
        return getattr(builtins, cls.__name__, None) is cls
    return module.partition(".")[0] in _LIBRARIES


def refuse_taken(cls: type) -> None:
    """Raises TypeError where a worker class defines a name that `Worker` needs for itself."""
    for name in _TAKEN:
        if name in vars(cls):
            raise TypeError(
                f"{cls.__name__}: a worker cannot have a {name} of its own, since {cls.__name__}.{name}(...) starts "
                f"workers; rename it"
            )


def ends_itself(cls: type) -> bool:
    """Whether the class has a `stop` of its own, which runs in the actor at its end."""
    return callable(getattr(cls, "stop", None))


def no_such_method(cls: type, name: str, methods: Any, own: Any) -> AttributeError:
    """The error for `handle.<name>`, which says what there is instead."""
    import inspect

    who = cls.__name__
    if name.startswith("_"):
        return AttributeError(f"{who}: {name} is private to the worker; only its public methods can be called")
    known = inspect.getattr_static(cls, name, None) is not None or name in getattr(cls, "__annotations__", {})
    if known or name in getattr(cls, "model_fields", {}):
        return AttributeError(
            f"{who}: {name} is an attribute, and attributes stay in the actor. Give {who} a method that returns it, "
            f"such as `def get_{name}(self): return self.{name}`, and call that"
        )
    near = nearest(name, [*methods, *own])
    hint = f"did you mean {near!r}?" if near else f"it has: {', '.join(methods) or 'none'}"
    return AttributeError(
        f"{who} has no method {name!r}; {hint} (an attribute that __init__ sets is read through a method)"
    )
