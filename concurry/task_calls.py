"""What a task is on the actor's side: functions that run what they are given, and what brings a function there.

    submit        the bound function itself: nothing stands between the loop and it; where none is bound, as submit_fn
    submit_fn     (fn, *args): a function that comes with its call              submit_async   the same for async ones
    map_chunk     (fn or None, [args, ...]): several items of a `map`     map_chunk_async    the same for async ones

Guarantees: a bound function is sent once for each actor, with what makes the actor. One that stands under `@task` in a
module goes by its name, although that name means the task there. One that goes by value is pickled once for a `map`.
Called by: `TaskWorker` (what its actors run), the handle and `map` (what they send).
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial
from types import FunctionType
from typing import Any, Final

from concurry.methods import is_async
from concurry.runtime.raised import cut_ours
from concurry.runtime.settle import GENERATORS, UNSETTLED, refuse_generator

COROUTINE: Final = 0x80  # of `co_flags`: made by `async def`
_MOST_KEPT: Final = 32  # functions that came by value with a `map`


def calls_of(fn: Any, limits: Any, given: Any) -> dict[str, Callable[..., Any]]:
    """What an actor runs, by the names of its calls.

    Args:
        fn: the bound function, or None.
        limits: what a bound function with a parameter of that name is given.
        given: the limits that the option says, for functions that come with their calls; None: it says none.
    """
    brings: Callable[..., Any] = operator.call if given is None else partial(_with_limits, given)
    bound = partial(fn, limits=limits) if fn is not None and wants_limits(fn) else fn
    calls = {
        "submit": brings if bound is None else bound,
        "submit_async": brings,
        "map_chunk": partial(_chunk, brings, bound),
        "map_chunk_async": partial(_chunk_async, brings, bound),
    }
    if bound is not None:
        calls["submit_fn"] = brings
    return calls


def methods_of(fn: Any) -> dict[str, bool]:
    """The names of the calls of such an actor; True for those that run on an event loop."""
    own = {"submit": fn is not None and runs_async(fn)}
    return {**own, **({} if fn is None else {"submit_fn": False}), "submit_async": True, **CHUNKS}


CHUNKS: Final = {"map_chunk": False, "map_chunk_async": True}


def runs_async(fn: Any) -> bool:
    """Whether a function is an async one, as far as can be told without calling it."""
    return is_async(undecorated(fn))


def wants_limits(fn: Any) -> bool:
    """Whether a function has a parameter named `limits` that is open, and can be given by name."""
    import inspect

    if "limits" in getattr(fn, "keywords", ()):  # of a partial, which has said it
        return False
    if type(fn) is FunctionType and not fn.__dict__:
        code = fn.__code__
        return "limits" in code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    try:
        parameter = inspect.signature(fn).parameters.get("limits")
    except (TypeError, ValueError):  # in C, and hides its signature
        return False
    return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _with_limits(limits: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    if "limits" not in kwargs and wants_limits(fn):
        return fn(*args, limits=limits, **kwargs)
    return fn(*args, **kwargs)


# -- several items in one call ---------------------------------------------------------------------------------------


class Failed:
    """What comes back in the place of a result: the exception of an item, whole in any process."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        from concurry.transports.codec_exceptions import describe

        return _failed_there, (describe(self.error, "map()"),)


def _failed_there(described: bytes) -> Failed:
    from concurry.transports.codec_exceptions import rebuild

    return Failed(rebuild(described))


def _failed(error: Exception) -> Failed:
    cut_ours(error)
    return Failed(error)


# `go_on`: items after one that failed are run as well; else the results end with it.


def _chunk(brings: Any, bound: Any, fn: Any, items: list[tuple[Any, ...]], go_on: bool = False) -> Any:
    run = bound if fn is None else partial(brings, fn)
    results: list[Any] = []
    for number, args in enumerate(items):
        try:
            result = run(*args)
        except Exception as error:  # a BaseException is the whole call's
            results.append(_failed(error))
            if go_on:
                continue
            return results
        if result.__class__ in UNSETTLED:  # the loop runs what is returned
            return _settled(run, results, result, items[number + 1 :], go_on)
        results.append(result)
    return results


async def _chunk_async(brings: Any, bound: Any, fn: Any, items: list[tuple[Any, ...]], go_on: bool = False) -> Any:
    run = bound if fn is None else partial(brings, fn)
    results: list[Any] = []
    for args in items:
        try:
            results.append(await run(*args))
        except Exception as error:  # as above
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
        except Exception as error:  # as above
            results.append(_failed(error))
            if not go_on:
                break
    return results


# -- how functions travel --------------------------------------------------------------------------------------------


class Undecorated:
    """The function under a task that other processes can import: sent by the task's name."""

    __slots__ = ("task",)

    def __init__(self, task: Any) -> None:
        self.task = task

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.task.__wrapped__(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Undecorated, (self.task,)


def undecorated(fn: Any) -> Any:
    """The function itself, of a task as well."""
    from concurry.tasks import Task

    if isinstance(fn, Undecorated):
        fn = fn.task
    return fn.__wrapped__ if isinstance(fn, Task) else fn


def sendable(fn: Any) -> Any:
    """A function as it is sent to an actor: of a task the function, by name where that can be."""
    from concurry.tasks import Task

    if isinstance(fn, Task):
        return Undecorated(fn) if fn.is_importable() else fn.__wrapped__
    return fn


class _Pickled:
    """A function that goes by value, pickled once for many calls."""

    def __init__(self, key: bytes, stream: bytes) -> None:
        self._made_of = key, stream

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, self._made_of


_came: OrderedDict[bytes, Any] = OrderedDict()  # by key, those used last at the end


def _unpickled(key: bytes, stream: bytes) -> Any:
    from concurry.transports import codec_pickle

    fn = _came.get(key)
    if fn is None:
        fn = _came[key] = codec_pickle.load(stream, None)
        while len(_came) > _MOST_KEPT:
            _came.popitem(last=False)
    return fn


def for_many_calls(fn: Any) -> Any:
    """A function as it is sent with each call of a `map` to actors elsewhere: what goes by value is pickled here."""
    from os import urandom

    from concurry.transports import codec_pickle

    fn = sendable(fn)
    try:
        stream = codec_pickle.dump_alone(fn)
    except Exception:  # what is wrong with it each call tells; and a handle in it travels with each
        return fn
    return _Pickled(urandom(16), stream) if b"cloudpickle" in stream else fn
