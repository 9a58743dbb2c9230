"""What worker classes say of themselves: class arguments and `@worker(...)`, under one private name of the class.

Guarantees: nothing else is written into a class here. Subclasses inherit what their bases say, the nearest class first;
within one class `@worker(...)` goes before class arguments. A class that is made a second time from another one's
members, as `@dataclass(slots=True)` does it, keeps what was said of the first. Entries go with their classes, also
those that refer to them. A class that travels by value, as those of a script do, takes along what can be sent; limits
stay, for a copy of them would be another limit: where such a class is started, they must be said again. Where it comes
back to, which sets its members anew, it has its own again.
Called by: `Worker` and `@worker` (`say`), `.init()` (`layers`), whatever makes an object of a class (`starts_itself`).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from threading import local
from typing import Any, Final
from weakref import WeakValueDictionary

from concurry import option
from concurry.options import check

AUTO = "auto_init"  # said on classes only; no option of a worker that runs
_NAME: Final = "__concurry_said__"


class Said:
    """What one class says, by place. `key`: by which it is found where its class comes back to. `left`: the names of
    what did not come along. `is_whole`: not just on its way."""

    __slots__ = ("__weakref__", "_key", "arguments", "decorator", "is_whole", "left")

    def __init__(self, decorator: Mapping[str, Any], arguments: Mapping[str, Any], key: str = "") -> None:
        self.decorator = decorator
        self.arguments = arguments
        self.left: tuple[str, ...] = ()
        self.is_whole = True
        self._key = key

    def places(self) -> tuple[Mapping[str, Any], ...]:
        """The stronger place first."""
        return self.decorator, self.arguments

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._key:
            from uuid import uuid4

            self._key = uuid4().hex
            _sent[self._key] = self
        if _packing.now:  # an option that refers to the class, whose own entry this is, or another's
            return _here, (self._key,)
        _packing.now = True
        try:
            packed = [{name: _packed(name, value) for name, value in place.items()} for place in self.places()]
            packed[0].update(dict.fromkeys(self.left))  # what did not come here does not come there
        finally:
            _packing.now = False
        return _here, (self._key, *packed)


class _Packing(local):
    now = False  # whether options are being pickled


_packing = _Packing()
_NOTHING: Final = Said({}, {})
_sent: WeakValueDictionary[str, Said] = WeakValueDictionary()


def _packed(name: str, value: Any) -> bytes | None:
    """None: it cannot be sent, or must not."""
    import cloudpickle

    if name == "limits":
        return None
    try:
        return cloudpickle.dumps(value)
    except Exception:  # whoever needs it there is told
        return None


def _here(key: str, *places: Mapping[str, bytes | None]) -> Said:
    """What goes by that key here: the class's own where it comes back to, else what it has taken along."""
    found = _sent.get(key)
    if found is None:
        found = _sent[key] = Said({}, {}, key)  # before an option is loaded that refers to the class
        found.is_whole = False
    if places and not found.is_whole:
        found.is_whole = True
        found.left = tuple(name for place in places for name, stream in place.items() if stream is None)
        found.decorator, found.arguments = (
            {name: pickle.loads(stream) for name, stream in place.items() if stream is not None} for place in places
        )
    return found


def refuse_what_was_left(cls: type, given: Mapping[str, Any]) -> None:
    """Raise ValueError where an option of the class did not come along to this process, and was not said again."""
    for owner in cls.__mro__:
        for name in of(owner).left:
            if name not in given:
                raise ValueError(
                    f"{cls.__name__}: its option {name}=... stands on a class of a script or notebook, and does not "
                    f"come along to other processes: say it here, by .options({name}=...), or put the class in a module"
                )


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
