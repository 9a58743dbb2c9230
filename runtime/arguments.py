"""Futures among the arguments of a call: finding them, and putting their results in their places.

Guarantees: looks into lists, tuples, sets and dicts at any depth, also into those that contain themselves; nothing
else is opened, and what holds no future is passed on as it is, not copied. Plain values cost one look at their class.
Called by: the intake, at submission and when the last future of a call is done.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

from concurry.transports.anything import type_of

# What is certainly no future and holds none.
PLAIN = frozenset(
    {str, int, float, bool, bytes, type(None), complex, bytearray, range, FunctionType, BuiltinFunctionType}
)
_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})


def is_future(value: object) -> bool:
    """Whether a value stands for a result that is still to come: ours, the standard library's, asyncio's."""
    return isinstance(value, concurrent.futures.Future) or hasattr(type(value), "_asyncio_future_blocking")


def find(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> list[Any]:
    """Every future among the arguments, each once, in order."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    stack: list[Iterable[Any]] = [args]
    if kwargs:
        stack.append(kwargs.values())
    while stack:
        values = stack.pop()
        if PLAIN.issuperset(map(type, values)):  # at C's speed: a million numbers are no million steps
            continue
        for value in values:
            kind = type_of(value)
            if kind in PLAIN:
                continue
            if kind in _CONTAINERS:
                if value and id(value) not in seen:
                    seen.add(id(value))
                    stack.append(value)
                    if kind is dict:
                        stack.append(value.values())
            elif is_future(value):
                found.setdefault(id(value), value)
    return list(found.values())


def replace(value: Any, results: Mapping[int, Any]) -> Any:
    """`value` with each future replaced by its result; `results` is by the future's id.

    Raises:
        TypeError: a result is to stand in a set, or as a key, and cannot be hashed.
    """
    return _replace(value, results, {})


def _replace(value: Any, results: Mapping[int, Any], seen: dict[int, Any]) -> Any:
    kind = type_of(value)
    if kind in PLAIN:
        return value
    if kind not in _CONTAINERS:
        return results.get(id(value), value)
    if id(value) in seen:
        return seen[id(value)]
    seen[id(value)] = value  # one that contains itself keeps itself there
    if kind is dict:
        pairs = [(_replace(k, results, seen), _replace(v, results, seen)) for k, v in value.items()]
        changed = any(a is not c or b is not d for (a, b), (c, d) in zip(pairs, value.items(), strict=True))
        made: Any = dict(pairs) if changed else value
    else:
        items = [_replace(item, results, seen) for item in value]
        changed = any(new is not old for new, old in zip(items, value, strict=True))
        made = kind(items) if changed else value
    seen[id(value)] = made
    return made
