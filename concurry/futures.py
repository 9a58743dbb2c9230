"""The kinds of futures that users name, and `wrap_future`, which makes one of ours of any.

All of them are `concurrent.futures.Future`s; `concurry.runtime.future` says what they guarantee.
"""

from concurry.runtime.foreign import AsyncioFuture, ConcurrentFuture, RayFuture, wrap_future
from concurry.runtime.future import BaseFuture, SyncFuture

__all__ = ["AsyncioFuture", "BaseFuture", "ConcurrentFuture", "RayFuture", "SyncFuture", "wrap_future"]
