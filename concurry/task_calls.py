"""What a task is on the actor's side: functions that run what they are given, and what brings a function there.

    submit        the bound function itself: nothing stands between the loop and it; where none is bound, as submit_fn
    submit_fn     (fn, *args): a function that comes with its call              submit_async   the same for async ones
    map_chunk     (fn or None, [args, ...]): several items of a `map`     map_chunk_async    the same for async ones

Guarantees: a bound function is sent once for each actor, with what makes the actor. One that stands under `@task` in a
module goes by its name, although that name means the task there. One that goes by value is pickled once for a `map`.
Called by: `TaskWorker` (what its actors run), the handle and `map` (what they send).
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final

from concurry.methods import is_async
from concurry.runtime.raised import cut_ours, is_cancellation, wrapped
from concurry.runtime.settle import GENERATORS, UNSETTLED, refuse_generator

COROUTINE: Final = 0x80  # of `co_flags`: made by `async def`
_ANY_KEYWORDS: Final = 0x08  # of `co_flags`: it has a `**kwargs`
_MOST_KEPT: Final = 4  # functions that came by value with a `map`, beside the one in use
_MOST_KEPT_BYTES: Final = 16 << 20  # of their streams


def calls_of(fn: Any, limits: Any) -> dict[str, Callable[..., Any]]:
    """What an actor runs, by the names of its calls.

    Args:
        fn: the bound function, or None.
        limits: what a function with a parameter of that name is given, where its call does not.
    """
    brings = _bringing(limits)
    bound = None if fn is None else _given(limits, fn)
    calls = {
        "submit": brings if bound is None else bound,
        "submit_async": brings,
        "map_chunk": partial(_chunk, limits, bound),
        "map_chunk_async": partial(_chunk_async, limits, bound),
    }
    if bound is not None:
        calls["submit_fn"] = brings
    return calls


def methods_of(fn: Any) -> dict[str, bool]:
    """The names of the calls of such an actor; True for those that run on an event loop."""
    own = {"submit": fn is not None and runs_async(fn)}
    return {**own, **({} if fn is None else {"submit_fn": False}), "submit_async": True, **CHUNKS}


CHUNKS: Final = {"map_chunk": False, "map_chunk_async": True}


def refuse_own(cls: str, methods: Iterable[str]) -> None:
    """Raises TypeError where a class has a method by one of these names, or a `map`."""
    for taken in methods:
        if taken in ("map", "submit", "submit_fn", "submit_async", *CHUNKS):
            raise TypeError(
                f"{cls}: a TaskWorker cannot have a method {taken}() of its own, which is how its actors are called; "
                f"rename it"
            )


def runs_async(fn: Any) -> bool:
    """Whether a function is an async one, as far as can be told without calling it."""
    return is_async(undecorated(fn))


def place_of_limits(fn: Any) -> int | None:
    """Where a function has a parameter named `limits` that is open, and can be given by name: how many arguments by
    place leave it open. None: it has none."""
    if type(fn) is FunctionType and not fn.__dict__:
        code = fn.__code__
        if "limits" not in code.co_varnames:
            return None
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        place = names.index("limits") if "limits" in names else -1
        return None if place < code.co_posonlyargcount else place if place < code.co_argcount else sys.maxsize
    if type(fn) is BuiltinFunctionType or getattr(fn, "__module__", None) == "builtins":
        return None  # they hide their signatures, or take long to tell
    if "limits" in getattr(fn, "keywords", ()):  # of a partial, which has said it
        return None
    import inspect

    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):  # in C, and hides its signature
        return None
    parameter = parameters.get("limits")
    if parameter is None or parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        return None
    return sys.maxsize if parameter.kind is parameter.KEYWORD_ONLY else list(parameters).index("limits")


def _given(limits: Any, fn: Any) -> Any:
    """A function for many calls, which is given the limits where it has a place for them."""
    place = place_of_limits(fn)
    return fn if place is None else partial(_at_its_place, limits, place, fn)


def _at_its_place(limits: Any, place: int, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    if "limits" in kwargs or len(args) > place:
        return fn(*args, **kwargs)
    return fn(*args, limits=limits, **kwargs)


def _bringing(limits: Any) -> Callable[..., Any]:
    """What runs a function that comes with its call."""
    plain: Any = None  # the code of the last function that had no place for limits: most calls bring the same

    def bring(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        if type(fn) is FunctionType and fn.__code__ is plain:
            return fn(*args, **kwargs)
        place = place_of_limits(fn)
        if place is not None:
            return _at_its_place(limits, place, fn, *args, **kwargs)
        # One that takes any keywords may stand for another function, which the code does not tell.
        if type(fn) is FunctionType and not fn.__code__.co_flags & _ANY_KEYWORDS:
            plain = fn.__code__
        return fn(*args, **kwargs)

    return bring


# -- several items in one call ---------------------------------------------------------------------------------------


class Failed:
    """What comes back in the place of a result: the exception of an item, whole in any process."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        from concurry.transports.codec_exceptions import describe

        error = self.error if isinstance(self.error, Exception) else wrapped(self.error, "map(): an item")
        return _failed_there, (describe(error, "map()"),)


def _failed_there(described: bytes) -> Failed:
    from concurry.transports.codec_exceptions import rebuild

    return Failed(rebuild(described))


def _failed(error: BaseException) -> Failed:
    """In the place of a result. Raises what ends the whole call: a Ctrl-C, and what cancels the task it runs in."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    if is_cancellation(error) and not isinstance(error, GeneratorExit):
        import asyncio

        if asyncio._get_running_loop() is not None and (task := asyncio.current_task()) and task.cancelling():
            raise error
    cut_ours(error)
    return Failed(error)


# `go_on`: items after one that failed are run as well; else the results end with it.


def _chunk(limits: Any, bound: Any, fn: Any, items: list[tuple[Any, ...]], go_on: bool = False) -> Any:
    run = bound if fn is None else _given(limits, fn)
    results: list[Any] = []
    for number, args in enumerate(items):
        try:
            result = run(*args)
        except BaseException as error:
            results.append(_failed(error))
            if go_on:
                continue
            return results
        if result.__class__ in UNSETTLED:  # the loop runs what is returned
            return _settled(run, results, result, items[number + 1 :], go_on)
        results.append(result)
    return results


async def _chunk_async(limits: Any, bound: Any, fn: Any, items: list[tuple[Any, ...]], go_on: bool = False) -> Any:
    run = bound if fn is None else _given(limits, fn)
    results: list[Any] = []
    for args in items:
        try:
            results.append(await run(*args))
        except GeneratorExit:  # nobody awaits this any more
            raise
        except BaseException as error:
            results.append(_failed(error))
            if not go_on:
                break
    return results


async def _settled(run: Any, results: list[Any], result: Any, rest: list[tuple[Any, ...]], go_on: bool) -> Any:
    """Go on where a plain function has returned what is no result yet."""
    for number in range(len(rest) + 1):
        try:
            got: Any = run(*rest[number - 1]) if number else result
            if got.__class__ in GENERATORS:
                raise refuse_generator(got, "map(): the function")
            results.append(await got if isinstance(got, Coroutine) else got)
        except GeneratorExit:  # as above
            raise
        except BaseException as error:
            results.append(_failed(error))
            if not go_on:
                break
    return results


# -- how functions travel --------------------------------------------------------------------------------------------


class Decorated:
    """What `@task` makes of a function: told here, so that nothing in this module needs to know tasks.

    Attributes:
        __wrapped__: the function itself.
    """

    __wrapped__: Callable[..., Any]
    __module__: str
    __qualname__: str

    def is_importable(self) -> bool:
        """Whether another process finds it by the names of its module and of itself."""
        raise NotImplementedError


class OfInstance:
    """A task as a method of an object, which is its first argument.

    Attributes:
        __func__: the task. __self__: the object.
    """

    __func__: Any
    __self__: Any


class Undecorated:
    """The function under a task that other processes can import: sent by the task's name."""

    __slots__ = ("fn", "names")

    def __init__(self, fn: Callable[..., Any], names: tuple[str, str]) -> None:
        self.fn, self.names = fn, names

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name, self.names


def _by_name(module: str, qualname: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return Undecorated(undecorated(found), (module, qualname))


def undecorated(fn: Any) -> Any:
    """The function itself, of a task as well."""
    if isinstance(fn, Undecorated):
        return fn.fn
    if isinstance(fn, OfInstance):
        return partial(fn.__func__.__wrapped__, fn.__self__)
    return fn.__wrapped__ if isinstance(fn, Decorated) else fn


def sendable(fn: Any) -> Any:
    """A function as it is sent to an actor: of a task the function, by name where that can be."""
    if isinstance(fn, OfInstance):
        return partial(sendable(fn.__func__), fn.__self__)
    if isinstance(fn, Decorated):
        return Undecorated(fn.__wrapped__, (fn.__module__, fn.__qualname__)) if fn.is_importable() else fn.__wrapped__
    return fn


class _Pickled:
    """A function that goes by value, pickled once for many calls."""

    def __init__(self, key: bytes, stream: bytes) -> None:
        self._made_of = key, stream

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, self._made_of


_came: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()  # by key, with their bytes; those used last at the end
_came_lock = threading.Lock()  # protects `_came`


def _unpickled(key: bytes, stream: bytes) -> Any:
    with _came_lock:
        known = _came.get(key)
        if known is not None:
            _came.move_to_end(key)
            return known[0]
    from concurry.transports import codec_pickle

    fn = codec_pickle.load(stream, None)
    dropped: list[Any] = []  # ends after the lock: a finalizer may come back here
    with _came_lock:
        _came[key] = fn, len(stream)
        others = sum(size for _, size in _came.values()) - len(stream)
        while len(_came) > 1 + _MOST_KEPT or others > _MOST_KEPT_BYTES:
            dropped.append(_came.popitem(last=False)[1])
            others -= dropped[-1][1]
    return fn


def _after_fork_in_child() -> None:
    """A thread that is not here may have held the lock, in the middle of a change."""
    global _came_lock
    _came_lock = threading.Lock()
    _came.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def for_many_calls(fn: Any) -> Any:
    """A function as it is sent with each call of a `map` to actors elsewhere: what goes by value is pickled here."""
    from concurry.transports import codec_pickle

    fn = sendable(fn)
    try:
        stream = codec_pickle.dump_alone(fn)
    except Exception:  # what is wrong with it each call tells; and a handle in it travels with each
        return fn
    return _Pickled(os.urandom(16), stream) if b"cloudpickle" in stream else fn
