"""Which part of a class, or of what it is made of, cannot be sent to another process: for the text of the error.

    the class -> its methods -> the variables they use, and the functions and classes among those -> ...
    the init arguments, one by one; the retry policies, one by one

Guarantees: raises nothing for what it looks at; no part is looked at twice, so it ends. What it names was tried by
itself, and could not be pickled, but each of the parts that it could be taken into could.
Assumes: pickling it as a whole has failed, so that nobody minds the time.
Called by: `elsewhere` and `wire_check`, in the line of `.init()`.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType
from typing import Any, Final, cast

from concurry.transports import codec_pickle
from concurry.transports.logs import log
from concurry.transports.luggage import Packing

_NOT_SENT: Final = ("__dict__", "__weakref__", "_abc_impl")  # of a class: made anew there
_GLOBAL: Final = ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL")

Part = tuple[str, Any]  # what it is, in words, and itself


def named(cls: type[Any], args: Iterable[Any], kwargs: dict[str, Any], policies: dict[str, Any]) -> str:
    """What cannot be sent, as a sentence with a space behind it; empty where no part of it is found.

    Args:
        policies: retry policies, by method.
    """
    whole: list[Part] = [(f"the class {cls.__name__}", cls)]
    whole += [(f"argument {place} of .init()", value) for place, value in enumerate(args, 1)]
    whole += [(f"argument {name}= of .init()", value) for name, value in kwargs.items()]
    whole += [(f"the retry policy of {name}()", policy) for name, policy in policies.items()]
    seen: set[int] = set()
    try:
        for what, value in whole:
            found = _culprit(what, value, seen)
            if found is not None and found != whole[0][0]:
                return f"It is {found}. "
    except Exception as error:  # a user's hooks, or too deep a nest: what pickling has raised is told in any case
        log.debug("%s: which part of it cannot be pickled was not found: %s", cls.__name__, error)
    return ""


def _culprit(what: str, value: Any, seen: set[int]) -> str | None:
    """The part of a value that is to blame, in words; the value itself where none is; None: it can be sent."""
    if id(value) in seen:
        return None
    seen.add(id(value))
    if _can_be_sent(value):
        return None
    for part, inner in _parts(value):
        found = _culprit(part, inner, seen)
        if found is not None:
            return found
    return what


def _can_be_sent(value: Any) -> bool:
    try:
        with Packing():
            codec_pickle.dump_alone(value)
    except Exception:  # whatever a user's hook raises; what is said is what the whole has raised
        return False
    return True


def _parts(value: Any) -> Iterator[Part]:
    """What a class or a function takes along."""
    if isinstance(value, type):
        for base in value.__bases__:
            yield f"the class {base.__name__}", base
        for name, own in list(vars(value).items()):
            if name not in _NOT_SENT and not isinstance(own, GetSetDescriptorType | MemberDescriptorType):
                for function in _functions(own):
                    yield f"{value.__name__}.{name}", function
    elif isinstance(value, FunctionType):
        yield from _of_function(value)


def _functions(own: Any) -> Iterable[Any]:
    """The functions in an attribute of a class; what holds none stands for itself."""
    if isinstance(own, staticmethod | classmethod | MethodType):
        return [cast("Any", own).__func__]
    if isinstance(own, property):
        return [each for each in (own.fget, own.fset, own.fdel) if each is not None]
    if isinstance(own, functools.cached_property | functools.partialmethod | functools.partial):
        return [own.func, own]
    return [own]


def _of_function(function: FunctionType) -> Iterator[Part]:
    used_by = f", which {function.__name__}() uses"
    for name in sorted(_globals_of(function.__code__)):
        if name in function.__globals__:
            yield f"the variable {name}{used_by}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # it has no value yet
            continue
        yield f"the variable {name}{used_by}", value
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for value in defaults:
        yield f"a default value among the parameters of {function.__name__}()", value
    for name, value in list(vars(function).items()):
        yield f"the attribute {name} of {function.__name__}()", value


def _globals_of(code: CodeType) -> set[str]:
    """The global variables that it uses, and the functions inside it: not every name, for those are attributes too."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in _GLOBAL}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _globals_of(constant)
    return names
