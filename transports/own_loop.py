"""An event loop that is ours: running something on it to its end, and closing it.

Guarantees: `run_through` returns when what it runs has ended, and not before: also where a task beside it stops the
loop, or raises SystemExit or KeyboardInterrupt, which asyncio lets out of the loop; such an exception is logged. In the
main thread a KeyboardInterrupt is the user's, and comes out. `close_loop` cancels leftover tasks and waits for them,
shuts down async generators and the default executor, and closes the loop, as `asyncio.run` does it.
Called by: the loop wire, and actors of other modes that keep a loop for their async methods.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("concurry")


def run_through(loop: asyncio.AbstractEventLoop, awaitable: Any, who: str) -> Any:
    """Run an awaitable to its end on a loop that does not run, in this thread. See the module's docstring."""
    import asyncio

    future = asyncio.ensure_future(awaitable, loop=loop)
    future.add_done_callback(_stop)
    while not future.done():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            if threading.current_thread() is threading.main_thread():
                future.remove_done_callback(_stop)
                if future.done() and not future.cancelled():
                    future.exception()  # it is raised here: asyncio shall not complain that nobody saw it
                raise
            if not future.done():
                log.exception("%s: a task raised it beside the calls; the actor goes on", who)
    return future.result()


def _stop(future: asyncio.Future[Any]) -> None:
    future.get_loop().stop()


def close_loop(loop: asyncio.AbstractEventLoop, who: str = "an event loop") -> None:
    """Leave nothing of a loop behind. Called in the thread that ran it, while it does not run."""
    import asyncio

    if loop.is_closed():  # by asyncio itself, whose finalizer came first
        return
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            run_through(loop, asyncio.wait(left), who)
            for task in left:
                if not task.cancelled():
                    task.exception()  # it has been seen: asyncio shall not complain that it never was
        run_through(loop, loop.shutdown_asyncgens(), who)
        run_through(loop, loop.shutdown_default_executor(), who)
    finally:
        loop.close()
