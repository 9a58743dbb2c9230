"""Which wire a mode uses. The one place that asks for the mode; each is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurry.transports.base import Transport

_WIRES = {
    "sync": ("concurry.transports.inline", "InlineTransport"),
    "thread": ("concurry.transports.thread", "ThreadTransport"),
    "asyncio": ("concurry.transports.aio", "AioTransport"),
    "process": ("concurry.transports.process", "ProcessTransport"),
    "ray": ("concurry.transports.ray", "RayTransport"),
}


def find(mode: str, *, concurrent: bool) -> Transport:
    """The transport of a mode.

    Args:
        mode: its name, in lower case.
        concurrent: whether one actor runs several calls at once; threads then have an event loop beside them.

    Raises:
        ModuleNotFoundError: what the mode needs is not installed.
    """
    module, name = _WIRES["asyncio" if concurrent and mode == "thread" else mode]
    how = {"apart": True} if mode == "asyncio" else {}
    transport: Transport = getattr(import_module(module), name)(**how)
    return transport
