"""Python's own classes, as checkers shall take them where what is looked at may be anything: off the wire, a user's.

`type(it) is list` leaves a checker with a list of unknown things, and each use of them is an error to a strict one;
with `LIST` it is a list of anything.

Guarantees: each but `is_list` is the builtin itself and costs what that costs.
Called by: whoever reads messages, or walks through values of users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeGuard

type_of: Final[Callable[[Any], type[Any]]] = type
LIST: Final[type[list[Any]]] = list
TUPLE: Final[type[tuple[Any, ...]]] = tuple
DICT: Final[type[dict[Any, Any]]] = dict


def is_list(value: object) -> TypeGuard[list[Any]]:
    """`isinstance(value, list)`, where the call costs nothing that matters."""
    return isinstance(value, list)
