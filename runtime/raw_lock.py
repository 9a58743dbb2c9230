"""Waiting for a raw lock, which whoever is waited for releases: what every wait here comes down to.

Called by: futures, the mailbox's bound, the supervisor.
"""

from __future__ import annotations

import threading
from typing import Any


def acquire_within(lock: Any, timeout: float | None) -> bool:
    """Wait for a raw lock, `timeout` seconds at most; any number that a user may give is good."""
    if timeout is None:
        return bool(lock.acquire())
    try:
        at_once = timeout <= 0
    except TypeError:
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}") from None
    if timeout != timeout:
        raise ValueError("timeout must be a number of seconds or None, not NaN")
    if at_once:
        return bool(lock.acquire(False))
    return bool(lock.acquire(True, min(timeout, threading.TIMEOUT_MAX)))
