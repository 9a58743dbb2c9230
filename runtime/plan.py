"""What a pool is to be: everything that was decided about it before the first actor is started.

Guarantees: fixed, complete and checked; no module below reads options, the environment or the user's class again. The
one change ever is `Init.let_go`, when nothing is left to be made.
Called by: the face makes one per `.init()`; every part of the engine reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from concurry.runtime.balancing import Choose, round_robin
from concurry.runtime.restart import Intensity

if TYPE_CHECKING:
    from concurry.runtime.retry_policy import Policy


class Method(NamedTuple):
    """One method of the worker's class. `timeout_s`: its `call_timeout`."""

    name: str
    is_async: bool = False
    policy: Policy | None = None
    named: bool = False  # its policy names it, so it holds for `self.method()` inside the worker as well
    timeout_s: float | None = None


class Init:
    """How the user's object is made: `cls(*args, **kwargs)`, with `limits` set on it before `__init__` runs.

    Args:
        limits: makes the limits of the actor of that number.
        elsewhere: what an actor elsewhere makes them of: (the sets, as `remote_leases.Counted`; and a function that can
            be pickled, of what gives it an arbiter for a set's number and meters, and of the actor's number).
        leases: whether those limits can hold anything back; where not, nothing is kept per attempt.
        sets_limits: whether `limits` is set on the instance; the class has its own way where not.
        ends: whether the class has a `stop` of its own, to be called at the end.
    """

    __slots__ = ("args", "cls", "elsewhere", "ends", "kwargs", "leases", "limits", "sets_limits")

    def __init__(
        self,
        cls: type[Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
        limits: Callable[[int], Any] | None = None,
        *,
        leases: bool = False,
        sets_limits: bool = False,
        ends: bool = False,
        elsewhere: tuple[Any, Callable[[Any, int], Any]] | None = None,
    ) -> None:
        self.cls = cls
        self.args: tuple[Any, ...] = args
        self.kwargs: Mapping[str, Any] = kwargs
        self.limits = limits
        self.leases = leases
        self.sets_limits = sets_limits
        self.ends = ends
        self.elsewhere = elsewhere

    def let_go(self) -> None:
        """No object will be made any more: keep nothing that only making one needs. Futures and the handle lead here,
        and may be kept for long."""
        self.args, self.kwargs, self.limits = (), MappingProxyType({}), None
        self.elsewhere = None


class Plan(NamedTuple):
    """See the module's docstring. Times are in seconds; None is no bound."""

    name: str
    mode: str
    init: Init
    methods: Mapping[str, Method]
    actors: int = 1  # how many stand ready; 0 on demand
    most_actors: int | None = 1
    on_demand: bool = False
    max_concurrency: int = 1
    lanes: tuple[frozenset[str], ...] = ()  # groups of methods that wait apart from each other; (): all in one
    choose: Choose = round_robin
    mailbox_size: int | None = None
    block: bool = True
    unwrap: bool = True
    intensity: Intensity = Intensity()
    stop_timeout_s: float | None = 30.0
    init_timeout_s: float | None = 60.0
    exit_timeout_s: float | None = 2.0
    most_held: int | None = None  # calls that an actor elsewhere may hold
    settings: Mapping[str, Any] = MappingProxyType({})  # what the transport of such an actor is told
    traced: bool = False  # whether the life of each call is printed
    checks_wire: bool = False  # whether calls are encoded and decoded where they need not be
    future: Any = None  # the class of the futures of calls that leave encoded; None: WireFuture

    @property
    def pooled(self) -> bool:
        """Whether there can be more than one actor."""
        return self.on_demand or self.actors > 1

    @property
    def serial(self) -> bool:
        """Whether each actor runs one call at a time."""
        return self.max_concurrency == 1

    @property
    def times_out(self) -> bool:
        """Whether any method has a `call_timeout`."""
        return any(method.timeout_s is not None for method in self.methods.values())
