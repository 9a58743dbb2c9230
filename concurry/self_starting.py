"""The `__new__` of a class that starts workers where it is called: what `auto_init` means.

Guarantees: `cls(...)` starts a worker and returns its handle. The objects that the actors hold are plain ones, made by
the `__new__` that the class has anyway, and so are those that are made from them: by `copy`, `dataclasses.replace`,
pydantic's `model_copy` and `model_validate`, by unpickling wherever that is called. The signature of the class stays
what it was.
Assumes: it is set on a class whose own line says so, by `@worker` or a class argument; never behind somebody's back.
A `__reduce_ex__` of the user's that asks no `super()` says itself how an object is made, and may start a worker.
Called by: Python, where the class is called. Members of `Worker`; set by `Worker.__init_subclass__` (where another
base's `__new__` comes first and would lose the arguments) and by `@worker`.
"""

from __future__ import annotations

import copyreg
import sys
import threading
from collections.abc import Callable
from types import FrameType, MethodType
from typing import Any, Final

from concurry.declared import starts_itself
from concurry.runtime.actor import building

_COPIERS: Final = frozenset({"copy", "copyreg", "dataclasses", "attr"})
_MODELS: Final = frozenset({"pydantic", "pydantic_settings", "morphic"})  # of their own classes


class _Inside(threading.local):
    """The class of which this thread makes a plain object, while it goes through the `__new__`s of its bases."""

    cls: type | None = None


inside = _Inside()


def wants_worker(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of the class, which is no actor's, is to start a worker."""
    if inside.cls is cls or not starts_itself(cls) or _copies_one(cls):
        return False
    return bool(args or kwargs) or _takes_none(cls)


def _copies_one(cls: type) -> bool:
    """Whether who makes an object of the class makes it from one that there is: copies it, has received it, and so on.

    Python calls `__new__` there as it does where the class is called; only the calling module tells.
    """
    frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    name = __name__
    while frame is not None and name == __name__:
        name = frame.f_globals.get("__name__") or ""
        frame = frame.f_back
    root = name.partition(".")[0]
    if root in _COPIERS or name.startswith("concurry.transports."):  # which unpickle
        return True
    return root in _MODELS and hasattr(cls, "__pydantic_validator__")


def _takes_none(cls: type) -> bool:
    """False where `__init__` needs arguments: whoever gives none wants an empty object, or gets its TypeError."""
    import inspect

    try:
        inspect.signature(cls).bind()
    except TypeError:
        return False
    except ValueError:  # a class in C, or one that hides its signature
        return True
    return True


class SelfStarting:
    """See the module's docstring. `theirs`: the `__new__` that the class itself has, as it stands among its members."""

    __slots__ = ("theirs",)

    def __init__(self, theirs: Any = None) -> None:
        self.theirs = theirs

    def __get__(self, instance: object, owner: type) -> _Bound:
        return _Bound(self, owner)

    def __reduce__(self) -> tuple[Any, ...]:
        return SelfStarting, (self.theirs,)

    def plain(self, cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An object of `cls` as it is made without us."""
        if self.theirs is not None:
            return self.theirs.__get__(None, cls)(cls, *args, **kwargs)
        refuse_arguments(cls, args, kwargs)
        owner = next(owner for owner in cls.__mro__ if vars(owner).get("__new__") is self)
        following: Any = super(owner, cls).__new__  # type: ignore[arg-type]
        return following(cls) if following is object.__new__ else following(cls, *args, **kwargs)


class _Bound:
    """`cls.__new__`, as it is looked up."""

    __slots__ = ("_new", "_owner")

    def __init__(self, new: SelfStarting, owner: type) -> None:
        self._new = new
        self._owner = owner

    def __call__(self, cls: Any, /, *args: Any, **kwargs: Any) -> Any:
        made = None
        if building.raw is not None and issubclass(cls, building.raw):
            made, building.made = building.made, None
            building.raw = None  # it holds for this one object, not for workers that it makes
        elif wants_worker(cls, args, kwargs):
            return cls.init(*args, **kwargs)
        before, inside.cls = inside.cls, cls
        try:
            instance = self._new.plain(cls, args, kwargs)
        finally:
            inside.cls = before
        if made is not None:
            made(instance)
        return instance

    @property
    def __signature__(self) -> Any:
        """That of the class without us, for `inspect.signature` and editors."""
        import inspect

        if self._new.theirs is not None:
            return inspect.signature(self._new.theirs.__get__(None, self._owner))
        own_init: Any = getattr(self._owner, "__init__")  # noqa: B009  # mypy: of a class that is not known
        if own_init is object.__init__:
            return inspect.Signature([inspect.Parameter("cls", inspect.Parameter.POSITIONAL_ONLY)])
        return inspect.signature(own_init)


class Reducing:
    """The `__reduce_ex__` of such a class: what it says has unpickling and copying make a plain object.

    Python's own says no more than that `cls.__new__` is called, by C, where nothing tells it from a call of the class.
    """

    __slots__ = ()

    def __get__(self, instance: object, owner: type) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        return Reducing, ()

    def __call__(self, instance: object, protocol: Any, /) -> Any:
        cls = type(instance)
        owner: Any = next(owner for owner in cls.__mro__ if vars(owner).get("__reduce_ex__") is self)
        reduced = super(owner, instance).__reduce_ex__(protocol)  # type: ignore[misc]
        if not isinstance(reduced, tuple) or not starts_itself(cls):
            return reduced
        call, args, *state = reduced
        if call is not cls and call not in (copyreg.__newobj__, copyreg.__newobj_ex__):  # type: ignore[attr-defined]
            return reduced
        return remake, (cls, call, *args), *state


def remake(cls: type, call: Callable[..., Any], /, *args: Any) -> Any:
    """An object as it was reduced, by `call(*args)`: a plain one. Pickles name this function."""
    before = building.raw, building.made
    building.raw, building.made = cls, None
    try:
        return call(*args)
    finally:
        building.raw, building.made = before


def first_new(cls: type) -> Any:
    """The `__new__` that the class has or inherits, as it stands among the members of its owner."""
    return next(vars(owner)["__new__"] for owner in cls.__mro__ if "__new__" in vars(owner))


def refuse_arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Without an `__init__` there are no arguments. Python says so where nothing overrides `__new__`, and we do."""
    if not (args or kwargs) or getattr(cls, "__init__") is not object.__init__:  # noqa: B009  # mypy: it is not known
        return
    new = first_new(cls)
    if isinstance(new, SelfStarting):
        new = new.theirs or object.__new__
    if new is object.__new__:
        raise TypeError(f"{cls.__name__}() takes no arguments: it has no __init__")


def set_on(cls: type) -> None:
    """Have `cls(...)` start workers, where the class says so and nothing that it inherits sees to it first.

    A metaclass that makes objects in a way of its own leaves no other place to reach the object before its `__init__`.
    """
    own_way = type(cls).__call__ is not type.__call__
    reduces: Any = cls.__reduce_ex__
    if (own_way or starts_itself(cls)) and not isinstance(first_new(cls), SelfStarting):
        setattr(cls, "__new__", SelfStarting(vars(cls).get("__new__")))  # noqa: B010  # mypy: it is of another type
    if starts_itself(cls) and reduces is object.__reduce_ex__:
        setattr(cls, "__reduce_ex__", Reducing())  # noqa: B010  # mypy: it is of another type
