"""The handle of a TaskWorker in another process than its worker: see `remote_handle`.

Guarantees: it does what the handle does; functions and items are encoded here, and go the way of any call.
Called by: pickle, through `TaskHandle.__reduce__`.
"""

from __future__ import annotations

from typing import Any, ParamSpec, TypeVar

from concurry import remote_handle
from concurry.task_handle import TaskHandle

P = ParamSpec("P")
R = TypeVar("R")


class RemoteTaskHandle(TaskHandle[P, R], remote_handle.RemoteHandle[Any]):
    """See the module's docstring."""


def packed(handle: TaskHandle[..., Any]) -> tuple[Any, ...]:
    """How pickle takes such a handle along. Raises TypeError where what it makes is no message of ours."""
    uid, ticket, options, facts = remote_handle.address(handle)
    methods = {name: method.is_async for name, method in handle.__dict__["_pool"].plan.methods.items()}
    return remote_handle.arrived, (uid, ticket, handle.__dict__["_cls"], options, facts, methods, RemoteTaskHandle)
