"""The mailbox loop of an actor that runs several calls at once, on an event loop.

    mailbox --give (one wake-up for many)--> deliver --> start: async method -> a task each, up to `width` at once
       ^                                                        sync method  -> a thread of the crew
       '------ pump: take the next as each one ends ------------'

Guarantees: async methods start in the order of the mailbox and interleave at their awaits; no call blocks the loop;
`width` calls run at once and no more; a task is kept alive until it ends, and can be cancelled from any thread.
Assumes: all methods run on the loop's thread, but `give` (the channel's) and what the crew reports.
Called by: the member (`serve_async`), the supervisor (`interrupt_all`).
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Any

from concurry.runtime.crew import Crew
from concurry.runtime.latency import Tallies
from concurry.runtime.loop import end_anyway
from concurry.runtime.mailbox import CLOSED
from concurry.runtime.settle import GENERATORS, refuse_generator
from concurry.runtime.waits import here

_task_class: Any = None


def task_class() -> Any:
    """The class of the tasks that calls run as: asyncio's own, but none is cancelled before its first step.

    asyncio ends such a task without running a line of it, so its call would never be closed: a method that cancels
    `asyncio.all_tasks()`, as programs do at their end, would hang its callers and use up the lane's width.
    """
    global _task_class
    if _task_class is None:
        import asyncio

        class CallTask(asyncio.Task[None]):
            __slots__ = ()

            def cancel(self, msg: Any = None) -> bool:
                coroutine: Any = self.get_coro()
                frame = coroutine.cr_frame
                if frame is not None and not coroutine.cr_running and not coroutine.cr_suspended:
                    self.get_loop().call_soon(super().cancel, msg)  # its first step stands in the queue before this
                    return True
                return super().cancel(msg)

        _task_class = CallTask
    return _task_class


class LoopLane:
    """The lane of one actor. It is the taker that the mailbox knows.

    The token. Either the mailbox has this lane among its ready ones or is giving it a call (`_away`), or the lane
    itself goes on taking. Only who has the token takes; so no call is taken twice and no wake-up is lost.
    """

    interleaves = True  # see `waits`

    def __init__(self, member: Any, mailbox: Any, width: int, sync_names: frozenset[str]) -> None:
        self.member = member
        self.mailbox = mailbox
        self.width = width
        self.active = 0
        self.running: dict[Any, Any] = {}  # call -> its task; also keeps the task alive
        self._sync_names = sync_names
        self._crew = Crew(member.name)
        self._tallies: Tallies = member.tallies
        self._away = True
        self._closed = False

    def open(self, loop: Any, actor: Any, channel: Any) -> Any:
        """Take calls from now on. Returns a future of the loop's that is done when no more will come and none runs."""
        self.loop = loop
        self._task = task_class()
        self._actor = actor
        self.ended = loop.create_future()
        channel.deliver = self.deliver
        return self.ended

    def __str__(self) -> str:
        return str(self.member)

    @property
    def give(self) -> Any:
        return self.member.channel.give

    @property
    def total(self) -> int:
        return self._tallies.total + self.active

    def deliver(self, call: Any) -> None:
        """A call that the mailbox gave (None: no more will come), now on the loop's thread."""
        self._away = False
        if call is None:
            self._finish()
        else:
            self._start(call)
            self._pump()

    def _pump(self) -> None:
        take = self.mailbox.take
        while self.active < self.width:
            self._away = True  # before taking: once we are among the ready, a give may follow at once
            call = take(self)
            if call is None:
                return
            self._away = False
            if call is CLOSED:
                self._finish()
                return
            self._start(call)

    def _start(self, call: Any) -> None:
        if not call.begin():
            return
        self.active += 1
        if call.name in self._sync_names:
            self.running[call] = None
            try:
                self._crew.run(self._run_sync, call)
            except RuntimeError as error:  # no thread can be started: it is this call's failure, and the lane goes on
                del self.running[call]
                self.active -= 1
                if call.closes():
                    self._tallies[call.name].add(failed=True)
                call.fail(error)
        else:
            task = self.running[call] = call.extra = self._task(self._run(call), loop=self.loop, name=call.name)
            if call.done():  # cancelled between its beginning and the line above
                task.cancel()

    async def _run(self, call: Any) -> None:
        weight = begun_ns = 0
        tally = self._tallies[call.name]
        number = tally.begun
        tally.begun = number + 1
        if number >= tally.due:
            weight, begun_ns = tally.pick(number), monotonic_ns()
        try:
            try:
                method = tally.method
                if method is not None:
                    kwargs = call.kwargs
                    result = await (method(*call.args, **kwargs) if kwargs else method(*call.args))
                else:
                    result = await self._actor.async_body(call)
                if result.__class__ in GENERATORS:
                    raise refuse_generator(result, f"{self.member}.{call.name}()")
            except BaseException as error:  # the loop's boundary: a method's exception is its call's
                if weight:
                    tally.took(monotonic_ns() - begun_ns, weight)
                if call.closes():
                    tally.failed += 1
                    tally.total += 1  # before it is closed: whoever has the result finds it counted
                call.fail(self._actor.seen(error, call))
            else:
                if weight:
                    tally.took(monotonic_ns() - begun_ns, weight)
                call.close(result, tally)
        except BaseException as error:
            end_anyway(call, error, self)
        finally:
            self._over(call)

    def _over(self, call: Any) -> None:
        del self.running[call]
        self.active -= 1
        if self._closed:
            self._finish()
        elif not self._away:
            self._pump()

    def _run_sync(self, call: Any) -> None:
        """On a thread of the crew."""
        here.inside = self.member
        try:
            try:
                result = self._actor.run(call)
            except BaseException as error:  # the loop's boundary, for a sync method
                if call.closes():
                    self._tallies[call.name].add(failed=True)
                call.fail(self._actor.seen(error, call))
            else:
                if call.closes():
                    self._tallies[call.name].add(failed=False)
                call.close(result)
        except BaseException as error:
            end_anyway(call, error, self)
        finally:
            here.inside = None
            self.loop.call_soon_threadsafe(self._over, call)

    def _finish(self) -> None:
        self._closed = True
        if not self.active and not self.ended.done():
            self._crew.close()
            self.ended.set_result(None)

    def join_crew(self) -> None:
        """After its end: wait until the threads of the crew are gone. They have nothing to do any more."""
        self._crew.join()

    def interrupt_all(self) -> None:
        """Cancel every task that is not being cancelled already; on the loop's thread."""
        for task in list(self.running.values()):
            if task is not None and not task.cancelling():
                task.cancel()
