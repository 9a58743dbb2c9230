"""What worker classes say of themselves: class arguments and `@worker(...)`, under one private name of the class.

Guarantees: nothing else is written into a class here. Subclasses inherit what their bases say, the nearest class first;
within one class `@worker(...)` goes before class arguments. A class that is made a second time from another one's
members, as `@dataclass(slots=True)` does it, keeps what was said of the first. Entries go with their classes, also
those that refer to them. They stay in this process: a class that travels by value goes without, and has them again
where it comes back, which sets its members anew.
Called by: `Worker` and `@worker` (`say`), `.init()` (`layers`), whatever makes an object of a class (`starts_itself`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from weakref import WeakValueDictionary

from concurry import option
from concurry.options import check

AUTO = "auto_init"  # said on classes only; no option of a worker that runs
_NAME: Final = "__concurry_said__"


class Said:
    """What one class says, by place. `key`: by which it is found where its class comes back to."""

    __slots__ = ("__weakref__", "_key", "arguments", "decorator")

    def __init__(self, decorator: Mapping[str, Any], arguments: Mapping[str, Any], key: str = "") -> None:
        self.decorator = decorator
        self.arguments = arguments
        self._key = key

    def places(self) -> tuple[Mapping[str, Any], ...]:
        """The stronger place first."""
        return self.decorator, self.arguments

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._key:
            from uuid import uuid4

            self._key = uuid4().hex
            _sent[self._key] = self
        return _of_this_process, (self._key,)


_NOTHING: Final = Said({}, {})
_sent: WeakValueDictionary[str, Said] = WeakValueDictionary()


def _of_this_process(key: str) -> Said:
    """What goes by that key here: nothing, where the class is another process's. Options need not be able to travel."""
    return _sent.setdefault(key, Said({}, {}, key))


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
    if decorator or arguments:
        before = of(cls)
        said = Said({**before.decorator, **(decorator or {})}, {**before.arguments, **(arguments or {})})
        type.__setattr__(cls, _NAME, said)  # a metaclass may have a way of its own


def of(cls: type) -> Said:
    """What this class itself says."""
    found: Said = vars(cls).get(_NAME, _NOTHING)
    return found


def layers(cls: type) -> list[dict[str, Any]]:
    """The options that the class and its bases say, the strongest first."""
    places = (place for owner in cls.__mro__ for place in of(owner).places())
    return [{name: value for name, value in place.items() if name != AUTO} for place in places if place]


def starts_itself(cls: type) -> bool:
    """Whether calling the class starts a worker: as `auto_init` says, else where any option is said."""
    places = [place for owner in cls.__mro__ for place in of(owner).places()]
    auto: bool | None = next((place[AUTO] for place in places if AUTO in place), None)
    return any(places) if auto is None else auto
