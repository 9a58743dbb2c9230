"""What worker classes say of themselves: class arguments and `@worker(...)`, kept beside the classes.

Guarantees: nothing is written into a class here. Subclasses inherit what their bases say, the nearest class first;
within one class `@worker(...)` goes before class arguments. A class that is made a second time from another one's
members, as `@dataclass(slots=True)` does it, keeps what was said of the first. Entries go with their classes.
Called by: `Worker` and `@worker` (`say`), `.init()` (`layers`), whatever makes an object of a class (`starts_itself`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from concurry import option
from concurry.methods import Given
from concurry.options import check

AUTO = "auto_init"  # said on classes only; no option of a worker that runs


class Said(NamedTuple):
    """What one class says, by place, the stronger place first."""

    decorator: Mapping[str, Any] = {}
    arguments: Mapping[str, Any] = {}


_NOTHING = Said()
_said: WeakKeyDictionary[type, Said] = WeakKeyDictionary()


def checked(cls: type, given: Mapping[str, Any], auto_init: Any = None) -> dict[str, Any]:
    """The options of one line, for any number of workers: an iterator is read once, here.

    Raises:
        TypeError: an unknown option. ValueError: a value that cannot be.
    """
    said = check(given, worker=cls.__name__)
    read: dict[str, Any] = {name: [*value] for name, value in said.items() if isinstance(value, Iterator)}
    if auto_init is not None:
        try:
            read[AUTO] = option.flag(auto_init)
        except (ValueError, TypeError):
            raise ValueError(f"{cls.__name__}: auto_init={auto_init!r} is refused: it must be True or False") from None
    return {**said, **read}


def say(cls: type, *, decorator: Mapping[str, Any] | None = None, arguments: Mapping[str, Any] | None = None) -> None:
    """Note what is said of a class, over what the same place has said of it before."""
    before = of(cls)
    said = Said({**before.decorator, **(decorator or {})}, {**before.arguments, **(arguments or {})})
    if any(said):
        _said[cls] = said


def of(cls: type) -> Said:
    """What this class itself says."""
    found = _said.get(cls)
    if found is None and isinstance(given := vars(cls).get("init"), Given) and given.origin is not None:
        found = _said.get(given.origin)  # of the class that this one was made of, above `@worker`
    return found or _NOTHING


def say_of_a_copy(cls: type) -> None:
    """Note for a new class that says nothing what was said of the one that it is a copy of, if it is one."""
    if any(said := _of_a_copy(cls)):
        _said[cls] = said


def layers(cls: type) -> list[dict[str, Any]]:
    """The options that the class and its bases say, the strongest first."""
    places = (place for owner in cls.__mro__ for place in of(owner))
    return [{name: value for name, value in place.items() if name != AUTO} for place in places if place]


def starts_itself(cls: type) -> bool:
    """Whether calling the class starts a worker: as `auto_init` says, else where any option is said."""
    places = [place for owner in cls.__mro__ for place in of(owner)]
    auto: bool | None = next((place[AUTO] for place in places if AUTO in place), None)
    return any(places) if auto is None else auto


def _of_a_copy(cls: type) -> Said:
    members: dict[str, Any] = {name: it for name, it in vars(cls).items() if isinstance(it, (dict, FunctionType))}
    for other, said in list(_said.items()):
        # While it is made, a copy of a class in a function has not been given its full name.
        same_name = (other.__module__, other.__name__) == (cls.__module__, cls.__name__)
        if same_name and any(vars(other).get(name) is it for name, it in members.items()):
            return said
    return _NOTHING
