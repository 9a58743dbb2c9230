"""What a method returned that is no result yet: a coroutine is run to its end, a generator is refused.

Guarantees: an actor of one call at a time keeps one event loop for its life, made when it first needs one; its calls'
coroutines run there as tasks, and can be cancelled from any thread. In sync mode under a running loop (a notebook), the
actor's own loop runs on a helper thread meanwhile. `close` leaves no task, generator or executor thread behind.
Called by: the actor.
"""

from __future__ import annotations

import logging
import threading
from _thread import allocate_lock
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from concurry.transports.errors import DeadlockError
from concurry.transports.own_loop import close_loop, run_through

log = logging.getLogger("concurry")

GENERATORS = frozenset({GeneratorType, AsyncGeneratorType})
UNSETTLED = GENERATORS | {CoroutineType}


def refuse_generator(result: Any, who: str) -> TypeError:
    """The error for a method that returned a generator, which is closed."""
    if isinstance(result, GeneratorType):
        result.close()
    return TypeError(
        f"{who} returned a generator, which cannot leave the worker: results are not streamed yet. Return a list "
        f"(`return list(...)`), or call the method once per item."
    )


class OwnLoop:
    """The event loop of an actor that runs one call at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: Any = None
        self._user = 0  # the thread that runs it now
        self._lock = allocate_lock()  # held while the loop runs: in sync mode several threads may call at once

    def run(self, awaitable: Any, call: Any) -> Any:
        """Run an awaitable to its end in this thread, or on a helper thread where this one has a running loop."""
        import asyncio

        running = asyncio._get_running_loop()
        if running is None:
            return self._run(awaitable, call)
        if running is self._loop:
            awaitable.close()
            raise DeadlockError(
                f"{self._name}.{call.name}() is an async method, called from inside another one of the same worker, "
                f"whose event loop is busy with that. Await the method itself: `await self.{call.name}(...)`."
            )
        return _on_helper(self._run, self._name, awaitable, call)

    def _run(self, awaitable: Any, call: Any) -> Any:
        import asyncio
        import contextvars

        with self._lock:
            if self._loop is None:
                # In an empty context: the loop's own handles keep the context they were made in, as long as it lives.
                self._loop = contextvars.Context().run(asyncio.new_event_loop)
            loop = self._loop
            task = asyncio.ensure_future(awaitable, loop=loop)
            call.extra = task
            if call.done():  # cancelled between its beginning and the line above
                task.cancel()
            try:
                return run_through(loop, task, self._name)
            finally:
                call.extra = None
                if not task.done():  # a Ctrl-C in the main thread: it ends when the loop runs again, or is closed
                    task.cancel()

    def close(self) -> None:
        loop, self._loop = self._loop, None
        if loop is None:
            return
        import asyncio

        if asyncio._get_running_loop() is None:
            close_loop(loop)
        else:  # sync mode, stopped in a notebook or a coroutine
            _on_helper(close_loop, self._name, loop)


class OtherLoop:
    """Runs coroutines of a sync method on the actor's loop, from beside it."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def run(self, awaitable: Any, call: Any) -> Any:
        import asyncio

        # What it raises is carried by hand: on its own way out of a task asyncio would replace some exceptions by
        # others, and let SystemExit end the loop.
        async def on_loop() -> tuple[Any, BaseException | None]:
            call.extra = asyncio.current_task()
            if call.done():  # cancelled between its beginning and the line above
                awaitable.close()
                return None, None
            try:
                return await awaitable, None
            except BaseException as error:
                return None, error

        try:
            result, error = asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result()
            if error is not None:
                raise error
            return result
        finally:
            error = call.extra = None

    def close(self) -> None:
        """The loop is its owner's to close."""


def interrupt(task: Any) -> None:
    """Cancel the task that runs a call's async method (it stands in the call's `extra`); from any thread."""
    if not hasattr(task, "get_loop"):  # the channel of an actor elsewhere, which is told by its own way
        return
    try:
        task.get_loop().call_soon_threadsafe(task.cancel)
    except RuntimeError:  # the loop is closed: nothing runs there any more
        log.debug("concurry: an async method ended before it could be cancelled")


def _on_helper(run: Any, name: str, *args: Any) -> Any:
    """`run(*args)` on a thread of its own, with this thread's context variables."""
    import contextvars

    outcome: list[Any] = [None, None]
    context = contextvars.copy_context()

    def help_out() -> None:
        try:
            outcome[0] = context.run(run, *args)
        except BaseException as error:  # it is raised again below, in the thread that asked
            outcome[1] = error

    helper = threading.Thread(target=help_out, name=f"concurry: {name} helper", daemon=True)
    helper.start()
    helper.join()
    result, error = outcome
    if error is not None:
        try:
            raise error
        finally:
            outcome.clear()
            error = None
    return result
