"""The actor in a process of its own: what the parent's plan becomes there.

    wire.receive (many calls at once) -> waiting -> THE loop, or a lane of an event loop -> the method -> wire.reply

Guarantees: the loop, the lanes and the layers around a method are the very ones of the other modes. An `__init__` that
fails is told to the parent. After END every call that came is run, then the class's own `stop`.
Called by: `transports.child`, by the payload that the parent made (`payload`).
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from concurry.runtime import kinds, waits
from concurry.runtime.actor import Actor
from concurry.runtime.call_waits import CallWaits
from concurry.runtime.clock import system
from concurry.runtime.latency import NEVER, Tallies
from concurry.runtime.loop import serve as serve_calls
from concurry.runtime.plan import Init, Plan
from concurry.runtime.raised import cut_ours
from concurry.runtime.remote_call import RemoteCall, parent
from concurry.runtime.waits import here
from concurry.transports import codec, codec_pickle, control
from concurry.transports.errors import WorkerStoppedError
from concurry.transports.luggage import Arriving, Packing


class RemoteActor:
    """The member of an actor, on its own side: what the loop counts on and shows.

    Attributes: as a member's: `call`, `tallies`, `call_waits`, `index`; as text its name.
    """

    interleaves = False  # see `waits`

    def __init__(self, wire: Any, plan: Plan, index: int) -> None:
        self.wire = wire
        self.plan = plan
        self.index = index
        self.name = f"concurry: {wire.who}"
        self.call: Any = None
        self.channel: Any = None  # a lane's own, where calls run at once
        self.call_waits = CallWaits()
        self.tallies = Tallies(NEVER)  # the driver counts and times them, as the wire tells
        self._most_calls: int | None = plan.settings["most_calls"]
        self._most_memory: int | None = plan.settings["most_memory"]
        self.handlers: dict[int, Any] = {kinds.LEAVE: self._leave}  # of the runtime's messages, by their kind

        def heard(message: list[Any], _: Any) -> None:
            parent(wire).heard(message)

        self.handlers.update(dict.fromkeys(kinds.HANDLES, heard))
        self.desk: Any = None  # where its limits are asked for
        init: Any = plan.init
        if init.limits is not None:
            from concurry.runtime.limiter.desk import Desk
            from concurry.runtime.limiter.remote_arbiter import RemoteArbiter

            self.desk = desk = Desk(wire.line, plan.settings["lend_s"])
            self.handlers.update(desk.handlers)
            init.limits = partial(init.limits, partial(RemoteArbiter, desk))
        wire.on_interrupt = self.interrupt
        wire.on_message = self.heard

    def __str__(self) -> str:
        return str(self.wire.who)

    def build(self) -> Actor | None:
        """Make the user's object; None: it failed, and the parent has been told."""
        try:
            return Actor(self.plan, self, clock=system, again=self._tried_again)
        except BaseException as error:
            cut_ours(error)
            failure = codec.pack_failure(0, error, f"{self}.__init__()")
            self.wire.line.send([control.UNBUILT, failure])
            return None

    def _tried_again(self, call: RemoteCall) -> None:
        self.wire.tried_again(call.number)

    # -- calls of one at a time ------------------------------------------------------------------------------------

    def take(self) -> RemoteCall | None:
        """The next call; None: no more will come."""
        wire = self.wire
        waiting = wire.waiting
        if self.worn_out():
            return None
        while not waiting:
            came = wire.receive()
            if came is None:
                return None
            waiting.extend(calls_of(wire, *came))
        call: RemoteCall = waiting.popleft()
        return call

    def worn_out(self) -> bool:
        """Whether it has run as many calls, or takes as much memory, as it may: then it leaves, and the parent, which
        is told here, starts another one. What has not begun goes back to the parent with its end."""
        most_calls, most_memory = self._most_calls, self._most_memory
        why = None  # after a call at least: one whose object is larger than that would never do anything
        if most_calls is not None and self.wire.total() >= most_calls:
            why = f"its end by max_calls_per_worker={most_calls}"
        elif most_memory is not None and self.wire.total() and (memory := _resident()) > most_memory:
            why = f"its end by max_memory_per_worker={most_memory}: {memory} bytes are resident"
        if why is None:
            return False
        self.wire.flush()
        self.wire.line.send([control.LEAVING, why])
        return True

    def tell_its_size(self) -> None:
        """Where it is too large before its first call, the parent says so: it will be replaced after each."""
        if self._most_memory is not None and (memory := _resident()) > self._most_memory:
            self.wire.line.send([kinds.OVER_MEMORY, memory])

    def run(self, actor: Actor) -> None:
        """One call at a time, in this thread, to the end."""
        here.member = here.inside = waits.trunk = self
        self.wire.looks_for_more = True
        try:
            take = self.take
            if self._most_calls is None and self._most_memory is None:  # the short way, where calls stand ready
                wire, waiting, receive = self.wire, self.wire.waiting, self.wire.receive
                popleft: Callable[[], RemoteCall] = waiting.popleft

                def take() -> RemoteCall | None:
                    while not waiting:
                        came = receive()
                        if came is None:
                            return None
                        first, carried, items, buffers = came
                        if len(items) == 1 and carried is None and buffers is None and items[0] is not None:
                            return RemoteCall(wire, first, items[0])
                        waiting.extend(calls_of(wire, *came))
                    return popleft()

            serve_calls(take, take, actor, self)
        finally:
            actor.close()
            here.member = here.inside = None

    # -- what the parent says meanwhile: on the ear's thread ----------------------------------------------------------

    def interrupt(self, numbers: list[int]) -> None:
        """Nobody waits for these calls any more: their waits end, and a task that runs one is cancelled."""
        from concurry.runtime.settle import interrupt

        for number in numbers:
            call = self.wire.running.get(number)
            if call is not None:
                task = call.extra
                call.abandon(WorkerStoppedError(f"{self}.{call.name}() is not waited for any more"))
                if task is not None:
                    interrupt(task)

    def heard(self, message: list[Any], fds: list[int]) -> None:
        """A message of the runtime's own, from the parent."""
        self.handlers[message[0]](message, fds)

    def _leave(self, *_: Any) -> None:
        self.call_waits.leave(
            lambda call: WorkerStoppedError(
                f"Worker is stopped: {self}.{call.name}() waited for its limits, which were not taken"
            )
        )


def calls_of(wire: Any, first: int, carried: Any, items: list[Any], buffers: Any) -> list[RemoteCall]:
    """The calls of one message. Those that are None were ended before they were sent."""
    calls = [RemoteCall(wire, number, item) for number, item in enumerate(items, first) if item is not None]
    if buffers is not None:
        calls[0].kwargs = buffers
    if carried is not None:
        from concurry.runtime.lost_calls import Carried

        for call in calls:
            what = carried.get(call.number)
            if what is not None:
                call.carried = Carried(what[0], 0, what[1], what[2])
    return calls


def _resident() -> int:
    """Bytes of memory that this process takes now, without what it shares with its siblings."""
    with open("/proc/self/statm", "rb") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * resource.getpagesize()


def payload(plan: Plan, *, beside: bool) -> tuple[bytes, list[memoryview], dict[int, Any]]:
    """What a child makes its actor of, large buffers beside it if they may be, and the handles in it. Raises whatever
    pickling raises."""
    init = plan.init
    limits: Any = init.elsewhere[1] if init.elsewhere is not None else None  # until it has its desk
    there = Init(
        init.cls,
        init.args,
        dict(init.kwargs),
        limits,
        leases=init.leases,
        sets_limits=init.sets_limits,
        ends=init.ends,
    )
    from concurry.runtime.balancing import round_robin

    it = plan._replace(init=there, choose=round_robin, methods=dict(plan.methods))
    with Packing() as handles:
        if not beside:
            return codec_pickle.dump_alone(it), [], handles
        made, buffers = codec_pickle.dump(it, (*init.args, *init.kwargs.values()))
    return made, buffers, handles


def serve(wire: Any, plan: list[bytes], index: int, carrying: bool) -> bool:
    """Be the actor, in this process, to its end. False: it could not be made. `plan`: pickled; taken out of its list,
    and so held no longer than needed. `carrying`: there are handles in it."""
    try:
        with Arriving(parent(wire), ()) if carrying else nullcontext():
            there: Plan = codec_pickle.load(plan.pop(), wire.__dict__.pop("makings", None))
    except (
        BaseException
    ) as error:  # a module that is not there, an argument that refuses: whatever, the parent shall know
        failure = codec.pack_failure(0, error, f"{wire.who}: unpickling its class and arguments")
        wire.line.send([control.UNBUILT, failure])
        return False
    it = RemoteActor(wire, there, index)
    actor = it.build()
    if actor is None:
        return False
    wire.line.send([control.READY])
    it.tell_its_size()
    if it.plan.serial:
        it.run(actor)
    else:
        from concurry.runtime.remote_lane import run

        run(it, actor)
    if it.desk is not None:
        it.desk.close()
    return True
