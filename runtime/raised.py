"""An exception of a method as its caller gets it.

Guarantees: it is the user's own object, with the frames of ours at its traceback's beginning left out; what would end
the caller's thread is wrapped. Nothing here raises, whatever a user's class does.
Called by: the loops and lanes, where a call ends with an exception; the member and supervisor, for `__init__`.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from concurry.runtime.retry_notes import brief
from concurry.transports.errors import RemoteBaseError

# Taken from BaseException itself: a property, a `__getattribute__` or a `__setattr__` of the user's may refuse.
_args: Any = BaseException.__dict__["args"]
_traceback: Any = BaseException.__dict__["__traceback__"]
_OURS: Final = frozenset({"concurry", "asyncio", "concurrent"})  # who may stand between a loop and the user's frame


def cut_ours(error: BaseException) -> None:
    """Let its traceback begin with the first frame of the user's; where there is none, drop the catching frame only."""
    newest = _traceback.__get__(error)
    if newest is None:
        return
    entry: Any = newest
    while entry is not None and _package(entry.tb_frame.f_globals.get("__name__")) in _OURS:
        entry = entry.tb_next
    _traceback.__set__(error, newest.tb_next if entry is None else entry)


def _package(module: Any) -> str:
    return module.partition(".")[0] if type(module) is str else ""


def is_cancellation(exception: BaseException) -> bool:
    """Whether this is how a task or a coroutine is told to end, which nothing may overrule."""
    kind = type(exception)  # its `__class__` may be a user's
    if issubclass(kind, Exception):
        return False
    # Where nobody has imported asyncio there are none of its exceptions.
    module = sys.modules.get("asyncio.exceptions")
    return issubclass(kind, GeneratorExit) or (module is not None and issubclass(kind, module.CancelledError))


def wrapped(error: BaseException, who: str) -> BaseException:
    """A `BaseException` as an `Exception`: those that asyncio and threads know as cancellation stay what they are."""
    import concurrent.futures
    from asyncio import CancelledError

    if issubclass(type(error), CancelledError):
        return concurrent.futures.CancelledError(*_args.__get__(error))
    try:
        remote = _told(error, who)
    except BaseException:  # of a class whose very name raises
        remote = RemoteBaseError(f"{who} raised what is no Exception and cannot be shown. It ended this call only.")
    remote.__cause__ = error
    return remote


def _told(error: BaseException, who: str) -> RemoteBaseError:
    from traceback import format_exception

    name, text = type(error).__name__, brief(error).partition(": ")[2]
    try:
        trace = "".join(format_exception(error))
    except BaseException as failed:  # a property or a __str__ of the user's
        trace = f"(its traceback cannot be shown: {brief(failed)})"
    return RemoteBaseError(
        f"{who} raised {name}{f'({text})' if text else ''}. It ended this call only; the worker goes on. To report a "
        f"failure raise an Exception; to end the worker call stop() on its handle.",
        type_name=f"{type(error).__module__}.{type(error).__qualname__}",
        traceback=trace,
    )
