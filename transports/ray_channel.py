"""Ray: one Ray actor an actor. Few Ray calls carry many of ours.

    idle actor:  send --> exchange, one Ray call there and back         busy: send --> push, many of our calls at once
    replies:     drain, a Ray call that is kept open, brings back what is ready; with messages of the actor's own
    death:       the open drain fails, with Ray's reason --> Job.gone

Guarantees: see `base`. Nothing polls: whatever comes is told by Ray's completion of a call. What was sent to an actor
that dies may have begun: nobody can look there. A large result has been brought into the object store, as an object of
this process, before its future is done: it can be read after the actor has gone, and goes with the future.
Assumes: the job bounds how many calls are under way.
Called by: the feed (`send`, `give`), futures (`interrupt`, `ask_back`), the supervisor (`kill`, `join`), Ray.
"""

from __future__ import annotations

import itertools
import threading
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgpack
import ray
from ray.exceptions import ActorDiedError, RayError

from concurry.transports import codec, control, parcel
from concurry.transports.asking import Asking
from concurry.transports.base import Channel, Job
from concurry.transports.closing import close_calls
from concurry.transports.errors import WorkerInitError
from concurry.transports.in_order import InOrder
from concurry.transports.logs import log
from concurry.transports.outbox import Outbox
from concurry.transports.ray_end import why
from concurry.transports.ray_host import ATTEMPT, BESIDE, BORN, ENDED, GROUPS, LARGE, PING, PONG, SEQUENCE, SPANS, Host
from concurry.transports.ray_push import RayParcel, RayPush

_STACKS_S = 5.0
_LAST_WORDS_S = 0.5
_here = threading.local()  # `ray`: whether this thread does what has completed, and must not wait for more of it


class RayChannel(Channel):
    """See the module's docstring.

    Attributes:
        under_way: the calls that were sent and not replied to, by their number, in their order.
        pid: on its node; 0 before it is there. actor: Ray's handle. is_ready: whether it has been made.
    """

    def __init__(self, job: Job) -> None:
        settings = job.settings
        self._job = job
        self.pid = 0
        self.large: int | None = 0  # whatever goes beside a frame is Ray's to carry
        self._copies: bool = settings["copies"]
        self._width: int = settings["width"]
        self._timed: bool = settings["timed"]
        self._began: dict[int, float] = {}  # when the calls that run began, as far as this side can tell
        self.memory = push = RayPush(self)
        self._outbox = Outbox(self, job, push)  # type: ignore[arg-type]  # it takes what has a socket's methods
        self.under_way = self._outbox.under_way
        self._asking = Asking(self.under_way, self._has_begun, self.tell, partial(job.given_back, self))
        self._completed: deque[tuple[Any, Callable[[Any], object]]] = deque()  # Ray calls, with what to do then
        self._working = allocate_lock()  # whose turn it is to do that
        self._pings: dict[int, Callable[[], object]] = {}
        self._numbers = itertools.count(1)
        self._frames: InOrder[tuple[bytes, Any]] = InOrder()
        self._attempts: dict[int, int] = {}  # of calls under way, where it is not the first
        self.is_ready = self._ended = self._closed = self._killed = False
        self._node = ""
        self._fetching = 0  # large results that are on their way into the object store
        self._brings_large = False  # the last result was large
        self._last_begun: int | None = None  # the last call that the actor began, where it ended as it was asked to
        self._by_client = ray.util.client.ray.is_connected()
        self._unbuilt: bytes | None = None
        self._expected: str | None = None
        self._blamed: set[int] = set()
        self._over = threading.Event()
        self._ending = threading.Lock()  # its end is told once: held for good by who does

    def start(self) -> None:
        """Start the actor. What goes wrong later is its end, and told as such."""
        job = self._job
        made: Any = ray.remote(concurrency_groups=GROUPS)(Host)
        self.actor = made.options(**job.settings["ray"], max_restarts=0).remote(job.who, job.payload, self._copies)
        self._drain()

    # -- what Ray tells, on its own thread ---------------------------------------------------------------------------

    def expect(self, ref: Any, then: Callable[[Any], object]) -> None:
        """Have `then` called with what becomes of a Ray call, later, and never in here: the caller may hold locks. An
        error of Ray's is this channel's end."""
        here = threading.get_ident()

        def completed(future: Any) -> None:
            self._completed.append((future, then))
            # Complete before it could be asked for; or on the thread by which Ray Client hears what a call waits for.
            if (asking and threading.get_ident() == here) or self._by_client:
                self._job.aside(self._work_off)
            else:
                self._work_off()

        asking = True
        ref.future().add_done_callback(completed)
        asking = False

    def _work_off(self) -> None:
        """What has completed, one after the other, whoever does it."""
        while self._completed and self._working.acquire(False):  # who has it looks once more when he lets go
            before, _here.ray = getattr(_here, "ray", False), True
            try:
                while self._completed:
                    self._take_in(*self._completed.popleft())
            finally:
                _here.ray = before
                self._working.release()

    def _take_in(self, future: Any, then: Callable[[Any], object]) -> None:
        try:
            error = future.exception()
            if error is None:
                then(future.result())
            else:
                self.lost(error)
        except Exception as error:
            log.exception("%s: what came from its actor could not be used", self._job.who)
            self.lost(error)

    def exchange(self, frame: bytes, beside: list[Any]) -> None:
        """One call to an idle actor. Where the last result was large, with a slot for such a one: it spares a fetch."""
        if self._brings_large:
            reply, large = self.actor.exchange_large.remote(frame, *beside)
            self.expect(reply, partial(self._came, large=large))
        else:
            self.expect(self.actor.exchange.remote(frame, *beside), self._came)

    def _drain(self, *riding: bytes) -> None:
        self.expect(self.actor.drain.remote(*riding), self._drained)

    def _drained(self, frame: bytes) -> None:
        self.memory.ride()  # the calls that take the place of those that have ended
        try:
            self._came(frame)
        finally:
            riding = self._outbox.locked(self.memory.riding)
        if not self._ended and not self._closed:
            self._drain(*riding)

    def _came(self, frame: bytes, large: Any = None) -> None:
        """In the order in which it left: what comes with an exchange may pass what comes with a drain."""
        for due in self._frames.due(int.from_bytes(frame[:SEQUENCE], "big"), (frame, large)):
            if not self._closed:
                self._take(memoryview(due[0])[SEQUENCE:], due[1])

    def _take(self, frame: memoryview, large: Any) -> None:
        items = codec.read(frame)
        _, mean_ns, told, _, _ = items[0]
        ended = []
        spans = None
        for message in told or ():  # before the replies: what they end may be told of here
            if message[0] == SPANS:
                spans = message[1]
            elif message[0] == ATTEMPT and message[1] in self.under_way:
                self._attempts[message[1]] = message[2]
        for (number, status, how, body), ns in zip(items[1:], parcel.spans_of(spans, mean_ns), strict=False):
            call = self._ends(number)
            if call is not None:
                ended.append((call, status, how, body, None, ns))
        if ended:
            self._brings_large = False
            close_calls(self._job.who, ended, mean_ns / 1e9, partial(self._job.replied, self), self._edge)
        if self._timed:
            self._note_begun()
        for message in told or ():
            if not self._closed:  # after its end nobody would give back what it asks for
                self._heard(message, large)

    def _ends(self, number: int) -> Any:
        """A call is under way no more. Gives it, where it was."""
        self._began.pop(number, None)
        attempts, call = self._attempts.pop(number, 1), self.under_way.pop(number, None)
        if call is not None and self._job.retried:
            self._job.tried_again(call, attempts)
        return call

    def _edge(self) -> Any:
        return self._job.edge_to(self)

    def _heard(self, message: list[Any], large: Any) -> None:
        kind = message[0]
        if kind >= control.RUNTIME:
            self._job.message(self, message, [])
        elif kind == BORN:
            self.pid, self._node = message[1], message[2]
        elif kind == control.READY:
            self.is_ready = True
            self._job.ready(self)
        elif kind == control.UNBUILT:
            self._unbuilt = message[1]
        elif kind == control.ASKED_BACK:
            self._asking.answer(message[1], message[2])
        elif kind == control.LEAVING:
            self._expected = message[1]
            self._job.leaving(self)
        elif kind == LARGE:
            self._fetch(message[1], message[2])
        elif kind == BESIDE:
            self._large(message[1], message[2], large)
        elif kind == PONG:
            self._pings.pop(message[1], _nothing)()
        elif kind == ENDED:
            self._ended = True
            self._last_begun = message[1]
            self._end_if_over()

    def _fetch(self, key: int, ns: int) -> None:
        """A large result becomes an object of this process; only then its call is done."""
        self._fetching += 1
        reply, buffers = self.actor.fetch.remote(key)
        self.expect(reply, partial(self._fetched, ns, buffers))

    def _fetched(self, ns: int, buffers: Any, reply: bytes) -> None:
        self._fetching -= 1
        self._large(reply, ns, buffers)
        self._end_if_over()

    def _large(self, reply: bytes, ns: int, buffers: Any) -> None:
        """A large result has come: its reply, how long its call took, and the reference to the rest."""
        self._brings_large = True
        there = RayParcel(buffers, copies=self._copies)
        number, status, how, body = codec.read(reply)[0]
        if (call := self._ends(number)) is not None:
            told = partial(self._job.replied, self)
            close_calls(self._job.who, [(call, status, how, body, there, ns)], 0.001, told, self._edge)

    # -- its end -------------------------------------------------------------------------------------------------------

    def _end_if_over(self) -> None:
        if self._ended and not self._fetching and not self._closed:
            self.actor.__ray_terminate__.remote()
            self.lost(None)

    def lost(self, error: BaseException | None) -> None:
        """Ray says that the actor is gone, or it has ended as it was asked to (None)."""
        if not self._ending.acquire(False):
            return
        self._blamed = {id(call) for call in itertools.islice(list(self.under_way.values()), self._width)}
        for number, call in list(self.under_way.items()):
            if self._last_begun is None or number <= self._last_begun:
                call.attempts_lost = attempts = self._attempts.get(number, 1)
                self._job.tried_again(call, attempts)
        self._closed = True
        self._job.aside(partial(self._tell_the_end, error))  # it may start another: not on Ray's thread

    def _tell_the_end(self, error: BaseException | None) -> None:
        try:
            with self._working:  # whoever takes in something has ended, or sees that this is closed
                pass
            self._work_off()
            self._outbox.close()
            reason = why(error, self._expected, self.pid or None, self._node, killed=self._killed)
            if error is not None:
                self._kill()  # it may be alive, and nobody hears it any more
            self._asking.close()
            for number in list(self._pings):
                self._pings.pop(number, _nothing)()
            if self._unbuilt is not None:
                _, _, how, body = codec.read(self._unbuilt)[0]
                self._job.failed_to_build(codec.unpack_failure(how, body))
            elif not self.is_ready and isinstance(error, RayError) and not isinstance(error, ActorDiedError):
                self._job.failed_to_build(WorkerInitError(f"{self._job.who}: Ray cannot start it: {error}"))
            self._job.gone(self, reason)
        finally:
            del self.actor
            self._over.set()

    def _kill(self) -> None:
        self._killed = True
        try:
            ray.kill(self.actor, no_restart=True)
        except Exception as error:  # Ray was shut down, and it with it
            log.debug("%s: could not be killed: %s", self._job.who, error)

    def kill(self) -> None:
        """End the actor: Ray has no polite way."""
        if not self._closed:
            self._kill()

    def end(self, why: str) -> None:
        """End it, for a reason that is no fault of it, such as a call past its time. It is given a moment for giving
        back what it has not begun: afterwards nobody could tell."""
        self._expected = why
        late = threading.Timer(_LAST_WORDS_S, self.kill)  # where its method holds the interpreter
        late.daemon = True
        late.name = "concurry-ending"
        late.start()
        self._job.leaving(self)
        self._asking.recall()

        def answered() -> None:
            late.cancel()
            self._job.aside(self.kill)  # it waits for Ray, on whose own thread this is

        self.hear(answered)

    def join(self, timeout: float | None) -> bool:
        if getattr(_here, "ray", False):
            return self._over.is_set()
        return self._over.wait(None if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))

    def undelivered(self) -> list[Any]:
        """The calls under way: each may have begun, but where the actor has told its last; the others wait again."""
        calls, last = self._outbox.collect(), self._last_begun
        return [call for number, call in calls if last is None or number <= last or call.reopen()]

    def blames(self, call: Any) -> bool:
        """Only those that ran, as far as this side can tell: what was sent ahead is not poison."""
        return id(call) in self._blamed

    def after_fork_in_child(self) -> None:
        self._outbox.after_fork_in_child()

    # -- sending: from any thread --------------------------------------------------------------------------------------

    def give(self, call: Any) -> bool:
        """No more calls will come."""
        self._outbox.end()
        return False

    def send(self, calls: list[Any]) -> None:
        """Send calls, which have begun as far as this process knows. Never blocks, never raises."""
        self._outbox.send(calls)
        if self._timed:
            self._note_begun()

    def tell(self, message: list[Any], _: tuple[int, ...] = ()) -> None:
        """Send a message. Never blocks, never raises."""
        packed = msgpack.packb(message)
        try:
            self.actor.tell.remote(packed)
        except Exception as error:  # it has ended, or Ray has: its drain tells
            log.debug("%s: a message could not be sent: %s", self._job.who, error)

    def hear(self, then: Callable[[], object]) -> None:
        """Call `then` when what the actor has said by now was taken in."""
        number = next(self._numbers)
        self._pings[number] = then
        if self._closed:
            self._pings.pop(number, _nothing)()
        else:
            self.tell([PING, number])

    # -- what is asked of it -------------------------------------------------------------------------------------------

    def lead(self, future: Any, timeout: float | None) -> None:
        """Ray receives, on a thread of its own."""

    def _note_begun(self) -> None:
        now = time.monotonic()
        for number in itertools.islice(list(self.under_way), self._width):
            self._began.setdefault(number, now)

    def _has_begun(self, number: int) -> bool:
        """As far as this side can tell: the first ones under way have, as many as run at once."""
        last = self._last_begun
        if last is not None:
            return number <= last
        return self._closed or number in itertools.islice(list(self.under_way), self._width)

    def begun(self, call: Any) -> bool:
        """Whether the actor has begun a call that was sent to it; after its end: whether it may have."""
        number = self._outbox.number_of(call)
        return number is not None and self._has_begun(number)

    def began_at(self, number: int) -> float | None:
        """When the call of a number began, by the monotonic clock; None: it has not."""
        return self._began.get(number)

    def held(self) -> int:
        """How many calls the actor holds."""
        return len(self.under_way)

    def interrupt(self, call: Any) -> None:
        """Nobody waits for a call any more."""
        number = self._outbox.number_of(call)
        if number is not None:
            self.tell([control.INTERRUPT, [number]])

    def ask_back(self, call: Any) -> None:
        """See `ProcessChannel.ask_back`."""
        self._asking.ask_back(self._outbox.number_of(call), wait=not getattr(_here, "ray", False))

    def recall(self) -> None:
        """Ask for all that have not begun."""
        self._asking.recall()

    def stacks(self) -> str:
        """The stacks of the actor's threads, now; a method that holds the interpreter lets nobody look."""
        try:
            return str(ray.get(self.actor.stacks.remote(), timeout=_STACKS_S))
        except (RayError, AttributeError) as error:
            return f"its stacks cannot be had: {error}\n"


def _nothing(*_: Any) -> None:
    """Nobody waits for it."""
