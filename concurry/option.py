"""What one option is (`Option`), and the checks that options have. The options themselves stand in `concurry.options`.

Guarantees: a check is pure, and takes its own answer unchanged, so that a value may be checked at the line that says it
and once more where all options come together. It accepts the text that an environment variable would hold ("4", "true",
"1.5"), and numbers of other libraries; a bool is never a number, NaN is never a time.
Assumes: who calls a check turns its `ValueError`, `TypeError` or `OverflowError` into a message that names the worker
and the option (`concurry.options.check_one`).
Called by: `concurry.options` only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, Protocol, TypeGuard, TypeVar, cast, overload

from concurry.runtime.enums import ExecutionMode, NamedEnum
from concurry.transports import logs as logs  # before an option is complained of

T = TypeVar("T")
E = TypeVar("E", bound=NamedEnum)
UNSAID: Final[Any] = object()  # the default of an option that has none

_YES = frozenset({"true", "t", "yes", "y", "on", "1"})
_NO = frozenset({"false", "f", "no", "n", "off", "0"})


# -- checks -------------------------------------------------------------------------------------------------------


def flag(value: Any) -> bool:
    """True or False; also 1 and 0, "true" and "false", "yes" and "no", "on" and "off", in any case."""
    if _is_bool(value):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
    elif isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError


def count(least: int) -> Callable[[Any], int]:
    """A whole number, `least` or more; also as text, and as a float without a fraction."""

    def check(value: Any) -> int:
        if isinstance(value, str) or (isinstance(value, float) and value.is_integer()):
            whole = int(value)
        else:
            whole = operator.index(_no_bool(value))
        if whole < least:
            raise ValueError
        return whole

    return check


def number(least: float = 0.0, *, above: bool = False) -> Callable[[Any], float]:
    """A finite or infinite number, `least` or more (`above`: more than it); also as text."""

    def check(value: Any) -> float:
        result = float(_no_bool(value))
        if math.isnan(result) or result < least or (above and result == least):
            raise ValueError
        return result

    return check


def timeout(least: float = 0.0, *, above: bool = False) -> Callable[[Any], float]:
    """Seconds, as `number`; None, which everywhere in Python means to wait without a bound, is infinity."""
    seconds = number(least, above=above)

    def check(value: Any) -> float:
        return math.inf if value is None else seconds(value)

    return check


def call_seconds(value: Any) -> float | None:
    """Seconds above 0, or None for no bound, which infinity is too."""
    seconds = timeout(above=True)(value)
    return None if math.isinf(seconds) else seconds


def one_of(enum: type[E], *, but: tuple[E, ...] = ()) -> Callable[[Any], E]:
    """A member of `enum`, its name or an alias in any case; none of `but`. Its own error lists what there is."""

    def check(value: Any) -> E:
        member = enum(value)
        if member in but:
            allowed = ", ".join(repr(it.value) for it in enum if it not in but)
            raise ValueError(f"{member.value!r} has no meaning here; there are {allowed}")
        return member

    return check


def word_of(*words: str) -> Callable[[Any], str]:
    """One of `words`, in any case."""

    def check(value: Any) -> str:
        word = value.strip().lower() if isinstance(value, str) else value
        if word not in words:
            raise ValueError
        return str(word)

    return check


def optional(check: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """None, or what `check` takes."""

    def checked(value: Any) -> T | None:
        return None if value is None else check(value)

    return checked


def by_method(check: Callable[[Any], T]) -> Callable[[Any], T | dict[str, T]]:
    """What `check` takes, or a dict of it by method name, with ``"*"`` for the rest."""

    def checked(value: Any) -> T | dict[str, T]:
        if not is_mapping(value):
            return check(value)
        result: dict[str, T] = {}
        for method, entry in value.items():
            if not isinstance(method, str):
                raise ValueError(f"{method!r} is no method name; the keys are text, as in {{'fetch': 2, '*': 1}}")
            try:
                result[method] = check(entry)
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"the entry for {method!r} is not") from error
        return result

    return checked


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether it is a dict or the like."""
    return isinstance(value, Mapping)


def raw(value: Any) -> Any:
    """Anything: who uses it checks it (limits, retry policies), or Ray does."""
    return value


def keyed(value: Any) -> dict[str, Any]:
    """A dict with text as keys."""
    if not is_mapping(value) or not all(isinstance(key, str) for key in value):
        raise ValueError
    return dict(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # numpy's own are no `bool`


def _no_bool(value: Any) -> Any:
    if _is_bool(value):
        raise ValueError("True and False are no numbers")
    return value


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of `names`, or None where none is."""
    import difflib  # 2 ms, for errors only

    return next(iter(difflib.get_close_matches(name, list(names), 1)), None)


# -- what one option is -------------------------------------------------------------------------------------------


class _Holder(Protocol):
    """Who has values for options: `concurry.options.Options`."""

    @property
    def values(self) -> Mapping[str, Any]: ...


class Option(Generic[T]):
    """One option. On an `Options` it reads as its value; on the class as itself.

    Args:
        check: takes a value to its final form, or raises `ValueError`, `TypeError` or `OverflowError`.
        default: its value where nobody says any; `per`: by mode, `on_demand`: in a pool with an actor a call.
        allowed: completes "it must be ...".
        doc: what it means, with units.
        only: the modes in which it has a meaning; empty for all.
        as_text: whether an environment variable can say it.
    """

    __slots__ = ("allowed", "as_text", "check", "default", "doc", "name", "on_demand", "only", "per", "takes_none")

    def __init__(
        self,
        check: Callable[[Any], T],
        default: T,
        allowed: str,
        doc: str,
        *,
        per: Mapping[ExecutionMode, T] | None = None,
        on_demand: T = UNSAID,
        only: tuple[ExecutionMode, ...] = (),
        as_text: bool = True,
    ) -> None:
        self.name = ""
        self.check, self.default, self.allowed, self.doc = check, default, allowed, doc
        self.per = per or {}
        self.on_demand, self.only, self.as_text = on_demand, only, as_text
        try:
            check(None)
            self.takes_none = True
        except (ValueError, TypeError):
            self.takes_none = False  # None then means that nothing was said

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, obj: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, obj: _Holder, owner: type) -> T: ...
    def __get__(self, obj: _Holder | None, owner: type) -> Option[T] | T:
        return self if obj is None else cast(T, obj.values[self.name])

    def default_for(self, mode: ExecutionMode, on_demand: bool = False) -> T:
        """The default in a mode; a list is a new one each time."""
        if on_demand and self.on_demand is not UNSAID:
            return self.on_demand
        value = self.per.get(mode, self.default)
        return value.copy() if isinstance(value, list) else value  # type: ignore[return-value]  # a list[X] copies to one
