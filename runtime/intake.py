"""The intake: how a call is accepted, from the user's line into the mailbox.

    handle.method(...)  --no future among the arguments, no bound-->  mailbox.waiting.append      (the hot path)
                        --bounded-->  a place is taken (or waited for)  -->  mailbox
                        --futures among the arguments-->  parked: when the last is done, their results take their places
                                                          and the call goes to the mailbox; one that failed ends it

Guarantees: an accepted call is in the mailbox, parked, held by an actor, or closed; nothing else. Submission never
waits for a future. Calls from one thread reach the mailbox in the order they were made (parked ones when they can).
Assumes: the mailbox and the bound belong to this intake alone.
Called by: the handle (`caller`), futures (`cancel`, `sole_member`: it is their owner), the supervisor and members
(`close`, `put_back`).
"""
# pyright: reportPrivateUsage=false
# It makes futures, slot by slot.

from __future__ import annotations

from _thread import allocate_lock
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from concurry.runtime import arguments
from concurry.runtime.arguments import PLAIN
from concurry.runtime.foreign import ConcurrentFuture
from concurry.runtime.future import PENDING, BaseFuture
from concurry.runtime.mailbox import Bound, Mailbox
from concurry.runtime.notifier import helper
from concurry.runtime.settle import interrupt
from concurry.runtime.waits import here
from concurry.transports.base import Transport
from concurry.transports.errors import EncodeError


class Intake:
    """One lane of a pool: the methods that share a mailbox.

    Attributes:
        cancelled: how many calls were cancelled that had not begun.
        outside: how many that had begun were ended from here, as by a cancel or after a death: each failed.
        cut_short: the same by method.
        sole: the one actor, or lane of one, behind it, where there is only one; for deadlock detection.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        bound: Bound | None,
        *,
        unwrap: bool,
        encode: Callable[[Any], None] | None = None,
        result_of: Callable[[Any], Any] = Transport.result_of,
        future: Any = None,
    ) -> None:
        self.mailbox = mailbox
        self.bound = bound
        self.sole: Any = None
        self.is_async: Callable[[str], bool] = lambda _: False
        self.backlog: Callable[[], None] = lambda: None  # told now and then, by who submits, where calls pile up
        self.cancelled = 0
        self.outside = 0
        self.cut_short: Counter[str] = Counter()
        self.parked: dict[Any, Any] = {}  # whoever takes a call out of it goes on with that call
        self._unwrap = unwrap
        self._encode = encode  # for actors elsewhere: brings a call into the form in which it is sent
        self._result_of = result_of
        self._future = future  # their class; None: WireFuture
        self._draining = False

    # -- accepting -----------------------------------------------------------------------------------------------

    def caller(self, name: str) -> Callable[..., ConcurrentFuture[Any]]:
        """The function behind `handle.<name>`. It is the hot path: everything it needs is looked up once, here."""
        if self._encode is not None:
            return self._encoding_caller(name, self._encode)
        cls: type[ConcurrentFuture[Any]] = ConcurrentFuture
        new, plain, pending = cls.__new__, PLAIN, PENDING
        submit, mailbox, owner = self.submit, self.mailbox, self
        append, ready, match = mailbox.waiting.append, mailbox.ready, mailbox.match
        bounded, unwrap = self.bound is not None, self._unwrap

        def call_method(*args: Any, **kwargs: Any) -> ConcurrentFuture[Any]:
            call = new(cls)
            call._status = pending
            call._stage = 0
            call._veto = call._hooks = call._exception = call.extra = None
            call.name = name
            call.args = args
            call.kwargs = kwargs or None
            call.owner = owner
            if bounded or (
                unwrap and not (plain.issuperset(map(type, args)) and plain.issuperset(map(type, kwargs.values())))
            ):
                submit(call)
                return call
            append(call)
            if ready:
                match(call)
            return call

        call_method.__name__ = call_method.__qualname__ = name
        return call_method

    def _encoding_caller(self, name: str, encode: Callable[[Any], None]) -> Callable[..., ConcurrentFuture[Any]]:
        """The same for actors elsewhere: the call is encoded here, in the caller's thread. One that cannot be has
        failed, and nothing else."""
        from concurry.runtime.wire_future import WireFuture
        from concurry.transports.codec import pack_scalars

        cls: type[WireFuture[Any]] = self._future or WireFuture
        new, plain, pending = cls.__new__, PLAIN, PENDING
        submit, mailbox, owner = self.submit, self.mailbox, self
        waiting, ready, match = mailbox.waiting, mailbox.ready, mailbox.match
        append = waiting.append
        bounded, unwrap = self.bound is not None, self._unwrap

        def call_method(*args: Any, **kwargs: Any) -> ConcurrentFuture[Any]:
            call: WireFuture[Any] = new(cls)
            call._status = pending
            call._stage = 0
            call._veto = call._hooks = call._result = call._exception = call.extra = call.carried = None
            call.name = name
            call.owner = owner
            frame = None if bounded or kwargs else pack_scalars(name, args)
            if frame is not None:  # scalars only: there is no future among them
                call.args = frame
                call.kwargs = None
            else:
                call.args = args
                call.kwargs = kwargs or None
                if bounded or (
                    unwrap and not (plain.issuperset(map(type, args)) and plain.issuperset(map(type, kwargs.values())))
                ):
                    submit(call)
                    return call
                try:
                    encode(call)
                except EncodeError as error:
                    owner.refused(call, error)
                    return call
            append(call)
            if ready:
                match(call)
            elif not len(waiting) & 63:  # a thread that submits many leaves the I/O thread little time
                owner.backlog()
            return call

        call_method.__name__ = call_method.__qualname__ = name
        return call_method

    @property
    def encodes(self) -> bool:
        """Whether its calls leave encoded."""
        return self._encode is not None

    def pass_on(self, name: str, encoded: bytes, buffers: Any) -> Any:
        """Accept a call that came encoded, from another process, for one elsewhere. Raises as `submit` does."""
        from concurry.runtime.wire_future import WireFuture

        cls: type[WireFuture[Any]] = self._future or WireFuture
        call = cls.__new__(cls)
        base: type[BaseFuture[Any]] = BaseFuture
        base.__init__(call)
        call.name, call.args, call.kwargs, call.owner, call.carried = name, encoded, buffers, self, None
        if self.bound is not None:
            self.bound.admit(may_block=self.sole is None or here.member is not self.sole)
        self.mailbox.put(call)
        return call

    def refused(self, call: Any, error: BaseException) -> None:
        """A call that cannot be sent: its future tells. Where the pool takes no calls, that is said first."""
        if self.mailbox.refusal is not None:
            raise self.mailbox.refusal()
        call.abandon(error)

    def submit(self, call: Any) -> None:
        """Accept a call of any kind. Raises MailboxFullError, or why the pool takes no more."""
        futures = arguments.find(call.args, call.kwargs) if self._unwrap else ()
        if self._encode is not None and not futures:
            try:
                self._encode(call)
            except EncodeError as error:
                self.refused(call, error)
                return
        parked = _Parked(self, call, futures) if futures else None  # before a place is taken: it may refuse a future
        if self.bound is not None:
            self.bound.admit(may_block=self.sole is None or here.member is not self.sole)
        if parked is not None:
            self._park(call, parked)
        else:
            self.mailbox.put(call)

    def wait_for_arguments(self, call: Any) -> bool:
        """Wait, in the caller's own thread, for futures among the arguments. False: one failed and ended the call."""
        if not self._unwrap or not (futures := arguments.find(call.args, call.kwargs)):
            return True
        from concurry.runtime.foreign import wrap_future

        try:
            results = {id(future): wrap_future(future).result() for future in futures}
            call.args = arguments.replace(call.args, results)
            call.kwargs = arguments.replace(call.kwargs, results)
        except Exception as error:  # the failure of an argument is the call's
            call.abandon(error)
            return False
        return True

    def _park(self, call: Any, parked: _Parked) -> None:
        refusal = self.mailbox.refusal
        if refusal is not None:
            raise refusal()
        self.parked[call] = parked
        parked.start()
        refusal = self.mailbox.refusal
        if refusal is not None and self._unpark(call) and call.withdraw(refusal()):  # closed meanwhile
            raise refusal()

    def _unpark(self, call: Any) -> bool:
        """Take a call out of the parked. True: it was there, and is the caller's to go on with."""
        if self.parked.pop(call, None) is None:
            return False
        carried = getattr(call, "carried", None)
        if carried is not None:
            carried.wait_no_more()
        return True

    def resolved(self, call: Any, futures: Any) -> None:
        """Every future among the call's arguments is done, or one has failed. Never raises: it runs in a hook."""
        if self._encode is not None or any(ours.is_unread() for _, ours in futures):
            helper.post(self._fill_in, call, futures)  # the hook's thread may be one that must not be held up
        else:
            self._fill_in(call, futures)

    def _fill_in(self, call: Any, futures: Any) -> None:
        if not self._unpark(call):
            return
        try:
            results = {id(future): self._result_of(ours) for future, ours in futures}
            call.args = arguments.replace(call.args, results)
            call.kwargs = arguments.replace(call.kwargs, results)
            if self._encode is not None:
                self._encode(call)
        except BaseException as error:  # the failure of an argument is the call's
            self._end(call, error)
            return
        self._put(call)

    def _end(self, call: Any, error: BaseException) -> None:
        if self.bound is not None:
            self.bound.free()
        call.abandon(error)
        self._drain_if_over()

    def wait_again(self, call: Any) -> None:
        """A call that was lost with its actor waits for its next attempt: accepted, and held by no actor."""
        if self.bound is not None:
            self.bound.readmit(1)
        self.parked[call] = True
        if self._draining:
            self.mailbox.go_on()  # its actors must not end before this call has
        if not call.reopen():
            self._gone(call)
        elif self.mailbox.refusal is not None and self._unpark(call):  # closed meanwhile
            call.withdraw(self.mailbox.refusal())

    def resume(self, call: Any) -> None:
        """Its wait is over. Never raises: it runs on a timer."""
        if self._unpark(call):
            self._put(call)

    def put_back(self, calls: list[Any]) -> None:
        """Calls that an actor held and never began: first in the mailbox again, in their order. Where it is closed,
        each ends with the reason."""
        if not calls or self.mailbox.put_back(calls):
            return
        refusal = self.mailbox.refusal
        assert refusal is not None  # that is what it said
        for call in calls:
            call.abandon(refusal())

    def _put(self, call: Any) -> None:
        try:
            self.mailbox.put(call)
        except BaseException as error:  # closed meanwhile: the call was withdrawn by `put`, its future tells
            call.abandon(error)
        self._drain_if_over()

    # -- what a future asks of its owner -----------------------------------------------------------------------------

    def cancel(self, call: Any) -> bool:
        """See `BaseFuture.cancel`."""
        task = call.extra
        was_lost = getattr(call, "carried", None) is not None  # it has begun, and waits for its next attempt
        if call.withdraw(CancelledError(), self if was_lost else None):
            self.cancelled += not was_lost
            self._gone(call)
            return True
        if self._encode is not None:
            return self._ask_back(call, task)
        if task is not None and call.abandon(CancelledError(), self):
            interrupt(task)
            return True
        return False

    def _ask_back(self, call: Any, channel: Any) -> bool:
        """Cancel a call that was sent: where it has not begun, or is an async method."""
        if channel is None:
            return bool(call.cancelled())
        channel.ask_back(call)  # given back, it ends as `withdraw` wished
        if call.cancelled():
            self.cancelled += 1
            return True
        if self.is_async(call.name) and call.abandon(CancelledError(), self if call.running() else None):
            channel.interrupt(call)
            return True
        return False

    def give_up(self, call: Any, reason: BaseException) -> None:
        """End a call that waits."""
        if call.withdraw(reason, self if getattr(call, "carried", None) else None):
            self._gone(call)

    def _gone(self, call: Any) -> None:
        if self._unpark(call):
            if self.bound is not None:
                self.bound.free()
            self._drain_if_over()
        else:
            self.mailbox.withdrawn(call)

    def tried_again(self) -> list[Any]:
        """The calls that were lost with an actor, and wait for their next attempt."""
        calls = [*list(self.parked), *list(self.mailbox.waiting)]
        return [call for call in calls if getattr(call, "carried", None) is not None and not call.done()]

    def sole_member(self) -> Any:
        """The one actor, or lane, that could run this intake's calls, where there is only one."""
        return self.sole

    # -- ending ------------------------------------------------------------------------------------------------------

    def close(self, refusal: Callable[[], BaseException], left_reason: Callable[[], BaseException]) -> int:
        """Take no more calls, and end those that wait: those that have not begun with a `left_reason()` each, those
        that were lost with an actor, and waited for their next attempt, with that. Returns how many had not begun."""
        left = self.mailbox.close(refusal)
        ended = [*left, *[call for call in list(self.parked) if self._unpark(call)]]
        count = 0
        for call in ended:
            carried = getattr(call, "carried", None)
            if carried is None or carried.last is None:
                count += call.withdraw(left_reason())
            else:
                call.abandon(carried.last, self)
        self.cancelled += count
        return count

    def drain(self) -> None:
        """Let what was accepted be run, and the actors end when nothing is left."""
        self._draining = True
        self._drain_if_over()

    def _drain_if_over(self) -> None:
        if self._draining and not self.parked:
            self.mailbox.drain()

    def after_fork_in_child(self, refusal: Callable[[], BaseException]) -> None:
        self.mailbox.after_fork_in_child(refusal)
        if self.bound is not None:
            self.bound.after_fork_in_child(refusal)


class _Parked:
    """A call that waits for futures among its arguments. Each of them has one hook, an object of its own."""

    __slots__ = ("_call", "_futures", "_intake", "_left", "_lock")

    def __init__(self, intake: Intake, call: Any, futures: list[Any]) -> None:
        from concurry.runtime.foreign import wrap_future

        self._intake = intake
        self._call = call
        self._futures = [(future, wrap_future(future)) for future in futures]
        self._left = len(futures)
        self._lock = allocate_lock()  # protects `_left`

    def start(self) -> None:
        for _, future in self._futures:
            future.add_hook(_OneDone(self))

    def one_done(self, future: Any) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        # The first failure ends the call at once; it does not wait for the rest.
        if last or (future._status is not PENDING and future._exception is not None):
            self._intake.resolved(self._call, [pair for pair in self._futures if pair[1].done()])


class _OneDone:
    __slots__ = ("_parked",)

    def __init__(self, parked: _Parked) -> None:
        self._parked = parked

    def __call__(self, future: Any) -> None:
        self._parked.one_done(future)
