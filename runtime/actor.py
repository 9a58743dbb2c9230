"""The actor: the user's object, and how one of its methods is run.

A call from outside passes these layers, outermost first; a method has only those that were asked for, and the loop
calls it directly where none was:

    call_timeout -> retry policy -> leases of one attempt -> the method -> settle (run a coroutine, refuse a generator)

Guarantees: the object is the user's own, never subclassed or wrapped; only `limits`, and methods that a retry policy
names, are set on the instance, before `__init__` runs. Whatever a method raises, also a `BaseException`, comes out of
`run` and `run_async` as an exception of that one call.
Assumes: built and used in the actor's own context (its thread, its loop); the side lane of a loop may call `run` too.
Called by: the member builds it; the serial loop and the loop's lanes call it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext
from time import monotonic_ns
from types import CoroutineType
from typing import Any

from concurry.runtime.call_waits import Running
from concurry.runtime.clock import Clock
from concurry.runtime.latency import Tallies, Tally
from concurry.runtime.plan import Method, Plan
from concurry.runtime.raised import cut_ours, wrapped
from concurry.runtime.settle import GENERATORS, UNSETTLED, OtherLoop, OwnLoop, refuse_generator
from concurry.transports.anything import type_of
from concurry.transports.logs import about

log = logging.getLogger("concurry")

_STOP_RAISED = "%s: its own stop() raised; the actor ends all the same"


class _Building(threading.local):
    """What is being made in this thread, for the class-level hooks of `Worker`."""

    raw: type | None = None  # the class of which `__new__` shall make one plain object, for an actor, and not a handle
    made: Callable[[Any], None] | None = None  # what is to be done with that object at once
    limits: Any = None  # those of the object whose `__init__` runs


building = _Building()


class Actor:
    """See the module's docstring.

    Args:
        member: whose actor it is: `index`, its number in the pool; `call_waits`; as text its name, such as ``LLM[3]``;
            `tallies`.
        again: told of a call that another attempt of it begins, after its first; None: its tally counts them.
        deadlines: what watches over `call_timeout`, where any method has one.
    """

    def __init__(
        self,
        plan: Plan,
        member: Any,
        *,
        clock: Clock,
        deadlines: Any = None,
        again: Callable[[Any], object] | None = None,
    ) -> None:
        self.name = str(member)
        self._plan = plan
        self._clock = clock
        self._member = member
        self._waits = member.call_waits
        self.tallies: Tallies = member.tallies
        self._deadlines = deadlines
        self._again = again or self._tried_again
        self._own_loop: OwnLoop | OtherLoop = OwnLoop(self.name)
        self.last_call = _StopCall()  # its `extra`: the task of the class's own async `stop`, while that runs here
        self._layers: dict[str, Callable[[Any], Any]] = {}
        self._async_layers: dict[str, Callable[[Any], Any]] = {}
        self._unwrapped: dict[str, Callable[..., Any]] = {}  # by name: what a policy that names it is wrapped around
        self._scope: Callable[[], Any] = member.call_waits.leases if plan.init.leases else nullcontext
        self._pause, self._pause_async = self._waits.pause, self._waits.pause_async
        if plan.traced:
            from concurry.runtime import tracing

            self._scope = tracing.attempts(self._scope, self.name)
            self._pause = tracing.pauses(self._pause, self.name)
            self._pause_async = tracing.pauses(self._pause_async, self.name)
        self.instance: Any = self._build(member.index)
        for method in plan.methods.values():  # Invariant: those that need no layer may be called by their tally
            self.tallies[method.name].method = None if self._layered(method) else getattr(self.instance, method.name)

    def _layered(self, method: Method) -> bool:
        plan = self._plan
        watched = plan.traced or plan.checks_wire
        return watched or method.policy is not None or plan.init.leases or method.timeout_s is not None

    def _watched(self, layers: Callable[[Any], Any], *, is_async: bool = False) -> Callable[[Any], Any]:
        """The layers, with what looks on around them, where that was asked for."""
        if self._plan.checks_wire:
            from concurry.runtime import wire_check

            layers = (wire_check.runs_async if is_async else wire_check.runs)(layers, self.name)
        if self._plan.traced:
            from concurry.runtime import tracing

            layers = (tracing.runs_async if is_async else tracing.runs)(layers, self.name)
        return layers

    # -- building ------------------------------------------------------------------------------------------------

    def _build(self, index: int) -> Any:
        init = self._plan.init
        limits = init.limits(index) if init.limits is not None else None
        own_way = type(init.cls).__call__ is not type.__call__  # its metaclass makes objects in a way of its own
        building.raw = init.cls
        try:
            if own_way:
                building.made = lambda instance: self._set_on(instance, limits)
                instance = init.cls(*init.args, **init.kwargs)
                self._set_on(instance, limits)
                return instance
            instance = init.cls.__new__(init.cls, *init.args, **init.kwargs)
        finally:
            building.raw = building.made = None
        if not isinstance(instance, init.cls):
            return instance
        self._set_on(instance, limits)
        before, building.limits = building.limits, (instance, limits)
        try:
            returned: Any = type(instance).__init__(instance, *init.args, **init.kwargs)
        finally:
            building.limits = before
        if returned is not None:  # Python's own check, which stands where a class is called
            if returned.__class__ is CoroutineType:
                returned.close()
            raise TypeError(f"{init.cls.__name__}.__init__() should return None, not {type(returned).__name__!r}")
        self._set_on(instance, limits)  # again: pydantic's __init__ replaces the instance's __dict__
        return instance

    def _set_on(self, instance: Any, limits: Any) -> None:
        if self._plan.init.sets_limits:
            object.__setattr__(instance, "limits", limits)
        for method in self._plan.methods.values():
            if method.named and method.policy is not None:
                current = getattr(instance, "__dict__", {}).get(method.name)
                if current is not None and getattr(current, "__wrapped__", None) is self._unwrapped.get(method.name):
                    continue  # it has stayed
                bound = current or _bound(instance, method.name)  # a user's `__init__` may have set one of its own
                self._unwrapped[method.name] = bound
                object.__setattr__(instance, method.name, self._named(method, bound))

    def _named(self, method: Method, bound: Callable[..., Any]) -> Callable[..., Any]:
        from concurry.runtime import attempts

        assert method.policy is not None
        return attempts.wrap_named(
            method.policy,
            bound,
            attempts.CallInfo(method.name, self._plan.name, self.name),
            is_async=method.is_async,
            clock=self._clock,
            wait=self._pause_async if method.is_async else self._pause,
            scope=self._scope,
        )

    # -- running -------------------------------------------------------------------------------------------------

    def run(self, call: Any) -> Any:
        """Run a call to its end in this thread; an async method on the actor's own loop."""
        layers = self._layers.get(call.name)
        if layers is None:
            layers = self._layers[call.name] = self._watched(self._layers_of(self._plan.methods[call.name]))
        tally = self.tallies[call.name]
        number = tally.begun
        tally.begun = number + 1
        weight, begun_ns = tally.pick(number) if number >= tally.due else 0, monotonic_ns()
        try:
            return layers(call)
        finally:
            if weight:
                tally.took(monotonic_ns() - begun_ns, weight)

    def timed(self, tally: Tally, call: Any) -> Any:
        """Run a call of a method that needs no layer, in this thread, and note how long it took."""
        weight, begun_ns = tally.pick(tally.total), monotonic_ns()
        try:
            result = tally.method(*call.args, **(call.kwargs or {}))
            return self.settle(result, call) if result.__class__ in UNSETTLED else result
        finally:
            tally.took(monotonic_ns() - begun_ns, weight)

    def settle(self, result: Any, call: Any) -> Any:
        """The result that `result`, a coroutine or a generator, stands for."""
        if result.__class__ not in GENERATORS:
            result = self._own_loop.run(result, call)
        if result.__class__ in GENERATORS:
            raise refuse_generator(result, f"{self.name}.{call.name}()")
        return result

    def settle_on(self, loop: Any) -> None:
        """From now on `settle` runs coroutines on `loop`, which runs in another thread."""
        self._own_loop = OtherLoop(loop)

    def _layers_of(self, method: Method) -> Callable[[Any], Any]:
        from concurry.runtime import attempts  # with what it brings along, where somebody asked for it

        bound, settle, scope = self._unretried(method), self.settle, self._scope
        info = attempts.CallInfo(method.name, self._plan.name, self.name)
        policy, deadlines = method.policy, self._deadlines
        timeout_s = method.timeout_s
        bare = policy is None and not self._plan.init.leases

        def once(call: Any) -> Callable[..., Any]:
            def method_settled(*args: Any, **kwargs: Any) -> Any:
                result = bound(*args, **kwargs)
                return settle(result, call) if result.__class__ in UNSETTLED else result

            return method_settled

        def layers(call: Any) -> Any:
            deadline = self._deadline(call, timeout_s)
            try:
                if bare:
                    return once(call)(*call.args, **(call.kwargs or {}))
                with Running(call):
                    if policy is None:
                        with scope():
                            return once(call)(*call.args, **(call.kwargs or {}))
                    return attempts.run(
                        policy,
                        once(call),
                        call.args,
                        call.kwargs or {},
                        info,
                        clock=self._clock,
                        wait=self._pause,
                        scope=scope,
                        deadline=deadline,
                        again=lambda: self._again(call),
                        **_carried(call),
                    )
            finally:
                if timeout_s is not None and deadlines is not None:
                    deadlines.ended(call, timeout_s)

        return layers

    def _deadline(self, call: Any, timeout_s: float | None) -> float | None:
        """When the call is due. In the caller's own thread nobody can end it then: no attempt begins after it."""
        if timeout_s is None:
            return None
        if self._deadlines is None:
            return self._clock.now() + timeout_s
        due: float = self._deadlines.watch(call, self._member, timeout_s)
        return due

    def async_body(self, call: Any) -> Any:
        """An awaitable of the call's result, for the loop's lane to await: the method itself where it has no layer."""
        method = self._plan.methods[call.name]
        if not self._layered(method):
            return getattr(self.instance, call.name)(*call.args, **(call.kwargs or {}))
        layers = self._async_layers.get(call.name)
        if layers is None:
            layers = self._async_layers[call.name] = self._watched(self._async_layers_of(method), is_async=True)
        return layers(call)

    def _async_layers_of(self, method: Method) -> Callable[[Any], Any]:
        from concurry.runtime import attempts  # with what it brings along, where somebody asked for it

        bound, scope = self._unretried(method), self._scope
        info = attempts.CallInfo(method.name, self._plan.name, self.name)
        policy, deadlines = method.policy, self._deadlines
        timeout_s = method.timeout_s
        bare = policy is None and not self._plan.init.leases

        async def layers(call: Any) -> Any:
            args: Any = call.args
            kwargs: dict[str, Any] = call.kwargs or {}
            deadline = self._deadline(call, timeout_s)
            try:
                if bare:
                    return await bound(*args, **kwargs)
                with Running(call):
                    if policy is None:
                        with scope():
                            return await bound(*args, **kwargs)
                    return await attempts.run_async(
                        policy,
                        bound,
                        args,
                        kwargs,
                        info,
                        clock=self._clock,
                        wait=self._pause_async,
                        scope=scope,
                        deadline=deadline,
                        again=lambda: self._again(call),
                        **_carried(call),
                    )
            finally:
                if timeout_s is not None and deadlines is not None:
                    deadlines.ended(call, timeout_s)

        return layers

    def _tried_again(self, call: Any) -> None:
        self.tallies[call.name].tried_again()

    def _unretried(self, method: Method) -> Callable[..., Any]:
        """The bound method as the class has it: the policy is applied once, outside."""
        if not (method.named and method.policy is not None):
            own: Callable[..., Any] = getattr(self.instance, method.name)
            return own
        return self._unwrapped[method.name]

    # -- ending --------------------------------------------------------------------------------------------------

    def end(self) -> Any:
        """Call the class's own `stop`, where it has one. Returns an awaitable where that is async."""
        if not self._plan.init.ends:
            return None
        try:
            return self.instance.stop()
        except BaseException:
            log.exception(_STOP_RAISED, self.name, extra=about(self.name, "stop"))
            return None

    def close(self) -> None:
        """Call the class's own `stop`, close the actor's own event loop, and let the user's object go."""
        ending = self.end()
        if ending.__class__ in UNSETTLED:
            try:
                self.settle(ending, self.last_call)
            except BaseException:
                log.exception(_STOP_RAISED, self.name, extra=about(self.name, "stop"))
        self.let_go()

    def let_go(self) -> None:
        """Close the actor's own event loop and drop the user's object."""
        self._own_loop.close()
        for tally in self.tallies.values():
            tally.method = None  # it keeps the object
        self._layers.clear()
        self._async_layers.clear()
        self._unwrapped.clear()
        for method in self._plan.methods.values():
            if method.named and getattr(self.instance, "__dict__", {}).pop(method.name, None):
                log.debug("%s: %s is the class's own again", self.name, method.name)
        self.instance = None

    def seen(self, error: BaseException, call: Any) -> BaseException:
        """The exception as the caller gets it: without our own frames, and never one that would end the caller."""
        cut_ours(error)
        if issubclass(type(error), Exception):  # its `__class__` may be a user's
            return error
        return wrapped(error, f"{self.name}.{call.name}()")


def _bound(instance: Any, name: str) -> Callable[..., Any]:
    """The method as the class has it, also where another one is set on the instance."""
    cls = type_of(instance)
    raw: Any = next(vars(owner)[name] for owner in cls.__mro__ if name in vars(owner))
    bound: Callable[..., Any] = raw.__get__(instance, cls) if hasattr(raw, "__get__") else raw
    return bound


def _carried(call: Any) -> dict[str, Any]:
    carried = getattr(call, "carried", None)
    if carried is None:
        return {}
    return {"first_attempt": carried.attempts + 1, "started": carried.started, "earlier": carried.earlier}


class _StopCall:
    """Stands for a call while the class's own async `stop` runs."""

    name = "stop"
    extra: Any = None

    @staticmethod
    def done() -> bool:
        return False
