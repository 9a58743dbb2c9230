"""The end of an event loop that is ours.

Guarantees: leftover tasks are cancelled and waited for, async generators and the default executor are shut down, the
loop is closed, as `asyncio.run` does it.
Called by: the loop wire, and actors of other modes that keep a loop for their async methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Leave nothing of a loop behind. Called in the thread that ran it, while it does not run."""
    import asyncio

    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
