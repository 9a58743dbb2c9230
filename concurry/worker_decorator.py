"""`@worker`: a class that does not inherit from `Worker` becomes a worker class.

Guarantees: it is the user's own class that comes back: the same object, with its bases, its name, its `isinstance`,
its pickling. What it is given in front of everybody's eyes are the members that `Worker` would give: `options`, `init`,
`get_actor` where it has none, `limits` where it has none, and `__new__` and `__reduce_ex__` where calling it shall
start a worker (`auto_init`). A class that inherits from `Worker` has them already, and gets its options noted, nothing
else.
For type checkers: a class that inherits is kept exactly. No type says "this class, and `options` besides", so a plain
class is not checked from here on (by mypy, which ignores class decorators, `options` of it has to be asked through
`worker(Counter)`). What types best with both is inheriting from `Worker`.
Called by: users.

    @worker                                        @worker(mode="thread", max_workers=4)
    class Counter: ...                             class Counter: ...
    Counter.options(mode="thread").init(5)         Counter(5)           # starts, as `auto_init` is True here
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from concurry import declared, self_starting
from concurry.methods import Given, has_own_limits, refuse_taken
from concurry.workers import Launcher, Limits, Worker
from concurry.workers import init as start

if TYPE_CHECKING:
    from typing import Unpack

    from concurry.handle import Handle
    from concurry.option_types import OptionArgs

W = TypeVar("W")
ByInheritance = TypeVar("ByInheritance", bound=Worker)


class _Decorator(Protocol):
    @overload
    def __call__(self, cls: type[ByInheritance], /) -> type[ByInheritance]: ...
    @overload
    def __call__(self, cls: type[object], /) -> Any: ...


@overload
def worker(cls: type[ByInheritance], /) -> type[ByInheritance]: ...
@overload
def worker(cls: type[object], /) -> Any: ...
@overload
def worker(*, auto_init: bool | None = None, **given: Unpack[OptionArgs]) -> _Decorator: ...


def worker(cls: Any = None, /, *, auto_init: bool | None = None, **given: Any) -> Any:
    """Make a class a worker class, which it becomes itself: it is neither subclassed nor wrapped.

    `@worker` and `@worker(mode="thread", ...)` above a class give it `.options(...)` and `.init(...)`, and its objects
    `self.limits`. It may be a dataclass, a pydantic model, or have other decorators, which go beneath this one.

    Args:
        cls: the class.
        auto_init: `cls(...)` itself starts the worker and returns the handle. None: where any option is given.
        given: the options of `.options()`. They go before class arguments, and subclasses inherit them.

    Returns:
        The class; with options only, the decorator for it.

    Raises:
        TypeError: what is decorated is no class, or has an `options` or `init` of its own; an unknown option.
        ValueError: an option that cannot have this value.
    """
    if cls is None:

        def decorator(cls: Any) -> Any:
            return _declare(cls, auto_init, given)

        return decorator
    return _declare(cls, auto_init, given)


def _declare(given_cls: Any, auto_init: bool | None, given: dict[str, Any]) -> Any:
    cls: type[Any] = given_cls
    if not isinstance(given_cls, type):
        raise TypeError(
            f"@worker is for classes, and was given {given_cls!r}. Functions have @task; options go by keyword: "
            f"@worker(mode='thread')"
        )
    said = declared.checked(cls, given, auto_init)
    refuse_taken(cls)
    places = [owner.__name__ for owner in cls.__mro__ if declared.of(owner).arguments]
    if said and places:
        warnings.warn(
            f"{cls.__name__}: its options come from the @worker decorator and, by inheritance, from the class "
            f"arguments of {', '.join(places)}. That is an anti-pattern: what the decorator says goes before the rest. "
            f"Say them in one place",
            UserWarning,
            stacklevel=3,
        )
    declared.say(cls, decorator=said)
    if not issubclass(cls, Worker):
        _give(cls)
    self_starting.set_on(cls)
    return cls


def _give(cls: Any) -> None:
    """The members of `Worker`, but for `__new__`."""
    own: Any = cls.__dict__
    if not isinstance(own.get("init"), Given):
        cls.options = Given(options)
        cls.init = Given(init)
        if not hasattr(cls, "get_actor"):
            cls.get_actor = Given(get_actor)
    if not hasattr(cls, "limits") and not has_own_limits(cls):
        cls.limits = Limits()


def options(cls: type[W], **given: Unpack[OptionArgs]) -> Launcher[W]:
    """Say how this worker is run; `.init(...)` on what is returned starts it. See `Worker.options`."""
    return Launcher(cls, declared.checked(cls, given))


def init(cls: type[W], *args: Any, **kwargs: Any) -> Handle[W]:
    """Start the worker with the options of its class and of the configuration. See `Worker.init`."""
    return start(cls, {}, args, kwargs)


def get_actor(cls: type[W], name: str, *, namespace: str | None = None) -> Handle[W]:
    """The handle of a detached worker on a Ray cluster. See `Worker.get_actor`."""
    from concurry import detached

    return detached.find(cls, name, namespace)
