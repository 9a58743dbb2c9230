"""An exception of a method as its caller gets it.

Guarantees: it is the user's own object, with the frames of ours at its traceback's beginning left out; what would end
the caller's thread is wrapped. Nothing here raises because of what a user's `__str__` or `__setattr__` does.
Called by: the loops and lanes, where a call ends with an exception; the member and supervisor, for `__init__`.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from concurry.runtime.retry_notes import brief
from concurry.transports.errors import RemoteBaseError

_OURS: Final = frozenset({"concurry", "asyncio", "concurrent"})  # who may stand between a loop and the user's frame


def cut_ours(error: BaseException) -> None:
    """Let its traceback begin with the first frame of the user's; where there is none, drop the catching frame only."""
    newest = error.__traceback__
    if newest is None:
        return
    entry: Any = newest
    while entry is not None and entry.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        entry = entry.tb_next
    # Not `__traceback__ =`: it goes through `__setattr__`, which a frozen exception refuses.
    error.with_traceback(newest.tb_next if entry is None else entry)


def is_cancellation(exception: BaseException) -> bool:
    """Whether this is how a task or a coroutine is told to end, which nothing may overrule."""
    if isinstance(exception, Exception):
        return False
    # Where nobody has imported asyncio there are none of its exceptions.
    module = sys.modules.get("asyncio.exceptions")
    return isinstance(exception, GeneratorExit) or (module is not None and isinstance(exception, module.CancelledError))


def wrapped(error: BaseException, who: str) -> BaseException:
    """A `BaseException` as an `Exception`: those that asyncio and threads know as cancellation stay what they are."""
    import concurrent.futures
    from asyncio import CancelledError
    from traceback import format_exception

    if isinstance(error, CancelledError):
        return concurrent.futures.CancelledError(*error.args)
    name, text = type(error).__name__, brief(error).partition(": ")[2]
    try:
        trace = "".join(format_exception(error))
    except Exception as failed:  # a property or a __str__ of the user's
        trace = f"(its traceback cannot be shown: {brief(failed)})"
    remote = RemoteBaseError(
        f"{who} raised {name}{f'({text})' if text else ''}. It ended this call only; the worker goes on. To report a "
        f"failure raise an Exception; to end the worker call stop() on its handle.",
        type_name=f"{type(error).__module__}.{type(error).__qualname__}",
        traceback=trace,
    )
    remote.__cause__ = error
    return remote
