"""A handle in another process than its worker: an address, which travels with calls, results and init arguments.

    packed(handle) --in a message--> arrived(...) -> the handle itself, where its worker is at home here
                                                  -> one that has come before, else a RemoteHandle

Guarantees: a RemoteHandle does what a handle does: the same methods, class, options and errors; `handle[Cls.method]`,
figures, `stop`, `with`. Dropping it never stops the worker. It can be sent on, also back. What it is pickled for are
messages between actors; any other pickle would be an address that nobody keeps valid, and is refused.
Of the options, what only the worker's own process can use (limits, retry policies) stays there.
Assumes: the worker's class can be had in the process it arrives in.
Called by: pickle, through `Handle.__reduce__`; `detached`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, TypeVar

from concurry.handle import Anchor, Handle
from concurry.methods import method_table
from concurry.options import Options
from concurry.runtime.edges import Edge
from concurry.runtime.plan import Init, Method, Plan
from concurry.runtime.proxy import Proxy
from concurry.transports import luggage
from concurry.transports.errors import WorkerDiedError, WorkerStoppedError

W = TypeVar("W")
_UNSAID: Any = object()
_STAY: Final = ("limits", "retry_on", "retry_until", "retry_config")
_FACTS: Final = (  # of the plan
    "name",
    "mode",
    "actors",
    "most_actors",
    "on_demand",
    "max_concurrency",
    "mailbox_size",
    "block",
    "unwrap",
    "stop_timeout_s",
    "exit_timeout_s",
)


def packed(handle: Handle[Any]) -> tuple[Any, ...]:
    """How pickle takes a handle along. Raises TypeError where what it makes is no message of ours."""
    uid, ticket, options, facts = address(handle)
    return arrived, (uid, ticket, handle.__dict__["_cls"], options, facts)


def address(handle: Handle[Any]) -> tuple[str, int, Options, dict[str, Any]]:
    """What a message takes along for a handle: all that `arrived` needs but the class. Raises TypeError where what is
    packed now is no message of ours."""
    plan: Plan = handle.__dict__["_pool"].plan
    ticket = luggage.check_in(handle)
    if ticket is None:
        raise TypeError(
            f"the handle of {plan.name} cannot be pickled by itself: it is valid only while somebody keeps it so. Give "
            f"it to a worker as an argument, or return it from a method; in this process, hand on the handle itself"
        )
    options: Options = handle.__dict__["options"]
    said = Options({**options.values, **dict.fromkeys(_STAY)}, options.ray, options.given)
    return luggage.uid_of(handle), ticket, said, {name: getattr(plan, name) for name in _FACTS}


def arrived(
    uid: str,
    ticket: int,
    cls: type[W],
    options: Options,
    facts: dict[str, Any],
    methods: Mapping[str, bool] | None = None,
    kind: Any = None,
) -> Handle[W]:
    """The handle in this process. `methods`: those of its calls that the class does not tell. `kind`: its own class.
    Raises WorkerDiedError where the process that it came from is gone already."""
    here: Handle[W] | None = luggage.known.get(uid)
    if here is not None:
        return here
    message = luggage.arriving()
    if message is None or message.edge is None:
        raise WorkerDiedError(
            f"a handle of {facts['name']} has arrived after the end of the process that it came from",
            maybe_executed=False,
        )
    table = {name: Method(name, is_async) for name, is_async in (methods or method_table(cls)).items()}
    proxy = Proxy(message.edge, ticket, Plan(init=Init(cls), methods=table, **facts))
    handle: Handle[W] = (kind or RemoteHandle)(cls, options, proxy, _Hold(proxy))
    handle.__dict__["_uid"] = uid
    luggage.known[uid] = handle
    message.keep(ticket)
    return handle


class RemoteHandle(Handle[W]):
    """See the module's docstring."""

    def stop(self, timeout: float | None = _UNSAID) -> None:
        """See `Handle.stop`: the worker is stopped where it is, for everybody."""
        proxy: Proxy = self.__dict__["_pool"]
        if timeout is _UNSAID:
            timeout = proxy.plan.stop_timeout_s
        elif timeout is not None and (math.isnan(timeout) or timeout < 0):
            raise ValueError(f"stop(timeout={timeout}): seconds, 0 or more, or None for as long as it takes")
        _stop(proxy, timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        proxy: Proxy = self.__dict__["_pool"]
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        _stop(proxy, proxy.plan.exit_timeout_s if interrupted else proxy.plan.stop_timeout_s)

    def get_pool_stats(self) -> dict[str, Any]:
        """See `Handle.get_pool_stats`."""
        figures: dict[str, Any] = self.__dict__["_pool"].ask("get_pool_stats")
        return figures

    def get_worker_stats(self, index: int) -> dict[str, Any]:
        """See `Handle.get_worker_stats`."""
        figures: dict[str, Any] = self.__dict__["_pool"].ask("get_worker_stats", index)
        return figures

    def __len__(self) -> int:
        """How many actors stand ready: 0 on demand."""
        count: int = self.__dict__["_pool"].ask("__len__")
        return count

    def __repr__(self) -> str:
        proxy: Proxy = self.__dict__["_pool"]
        options: Options = self.__dict__["options"]
        return f"<Handle of {proxy.plan.name}: {options.mode.value}, in another process>"


class _Hold(Anchor):
    """Held by a remote handle and by each of its functions; when nobody holds any, the address is given back."""

    __slots__ = ()

    def __del__(self, warn: Any = None) -> None:
        self._pool.let_go()


def _stop(proxy: Proxy, timeout_s: float | None) -> None:
    edge: Edge = proxy.edge
    if edge.forked or edge.gone is not None:
        return  # another process's to stop; or gone, with its process
    try:
        proxy.ask("stop", timeout_s)
    except (WorkerDiedError, WorkerStoppedError):
        if edge.gone is None:  # else it has stopped, and its process with it
            raise
