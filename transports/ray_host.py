"""The Ray actor in which an actor of ours lives, and its wire: messages come in by three Ray methods, go out by two.

    exchange (an idle actor is given one call) --+                          +--> the return value of `exchange`, which
                                                 |                          |    has a second slot for a large result
    push     (many calls to a busy one) ---------+--> in order --> THE loop-+
    tell     (what must be heard meanwhile)                                 +--> the return value of `drain`, kept open

Guarantees: calls start in the order in which they were sent, whichever method brought them. Whatever is to go out goes
with the first of the open calls that can take it, and all that is there by then goes with it. The user's object lives
on one thread, whichever thread of Ray's brought a call. A large result waits here until the driver has fetched it into
the object store, as an object that the driver owns.
Assumes: one driver, which keeps one `drain` open, and numbers what it sends.
Called by: Ray, for `ray_channel`.
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
import threading
import traceback
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import msgpack
import ray

from concurry.transports import control, parcel, ray_refs
from concurry.transports.asking import GivesBack
from concurry.transports.board import CALLS
from concurry.transports.codec import pack_failure, pack_result, read
from concurry.transports.in_order import InOrder
from concurry.transports.ray_refs import WithRefs, collecting, there

# Kinds of message beside those of `control`: this side has ended; a large result is here; a question, and its answer;
# the process that it is, and its node;
# which attempt of a call begins, after its first; a large result is in the other slot of this very call; how
# long the calls took that are replied to.
ENDED, LARGE, PING, PONG, BORN, ATTEMPT, BESIDE, SPANS = 18, 19, 20, 21, 22, 23, 24, 25
_HOLD_S = 0.06  # how long a reply may wait for others, while more calls stand ready
_MANY = 64  # replies that need not wait for more
SEQUENCE = 8  # bytes before each frame: its place among all that were sent


class RayWire(GivesBack):
    """See `wire.Wire`, of which this is the counterpart: what the runtime asks of it stands there."""

    one_clock = False

    def __init__(self, who: str) -> None:
        super().__init__(self.begun)
        self.who = who
        self.line = self
        self.board = self
        self.numbers = [0] * (2 * CALLS + 2)
        self.waiting: deque[Any] = deque()
        self.looks_for_more = False
        self.running: dict[int, Any] = {}
        self.on_message: Callable[[list[Any], list[int]], None] = _ignore
        self.on_interrupt: Callable[[list[int]], None] = _ignore
        self.replied = 0
        self.kept: dict[int, tuple[bytes, list[Any]]] = {}  # large results that were not fetched yet
        self._in: SimpleQueue[Any] = SimpleQueue()
        self._frames: InOrder[Any] = InOrder()
        self._arriving = allocate_lock()  # protects it, and the order of `_in`
        self._out: list[bytes] = []
        self._spans: list[float] = []  # of the calls that they are of, how long each took, in ns
        self._told: list[Any] = []
        self._ended = self._busy_ns = 0  # calls, since the last message
        self._places = itertools.count()  # of what goes out
        self._holds = False  # whether replies wait for others
        self._full = allocate_lock()  # held while they do
        self._takers: list[Any] = []  # locks of the open calls that wait for something to take along
        self._first: Any = None  # the lock of the last `exchange`
        self._over = False  # nothing more will go out: nobody waits for it
        self._lock = allocate_lock()  # protects the fields since `_out`

    # -- what comes, on Ray's threads ----------------------------------------------------------------------------------

    def arrive(self, frame: bytes, refs: Any = None, buffers: tuple[Any, ...] = ()) -> None:
        """Calls, or the END."""
        view = memoryview(frame)
        place = int.from_bytes(view[:SEQUENCE], "big")
        with self._arriving:
            for due in self._frames.due(place, (view[SEQUENCE:], refs, buffers)):
                self._in.put(due)

    def heard(self, packed: bytes) -> None:
        """A message on the line."""
        message = msgpack.unpackb(packed, strict_map_key=False)
        kind = message[0]
        if kind >= control.RUNTIME:
            self.on_message(message, [])
        elif kind == control.ASK_BACK:
            self.send([control.ASKED_BACK, message[1], self.give_back(message[2])])
        elif kind == control.INTERRUPT:
            given = self.give_back(message[1])  # it may have come before its call, which then must never begin
            if given:
                self.send([control.ASKED_BACK, 0, given])  # nobody's question
            self.on_interrupt([number for number in message[1] if number not in given])
        elif kind == PING:
            self.send([PONG, message[1]])

    # -- what goes out -------------------------------------------------------------------------------------------------

    def enter(self, *, first: bool) -> Any:
        """Be one of those who take. `first`: before the others; who was it before goes, with nothing, since no call is
        under way for it any more. It enters before its call does, whose reply it then cannot miss."""
        waits = allocate_lock()
        with self._lock:
            if first:
                before, self._first = self._first, waits
                if before in self._takers:
                    self._takers.remove(before)
                    before.release()
            if not self._out and not self._told and not self._over:
                waits.acquire()
                self._takers.insert(0 if first else len(self._takers), waits)
        return waits

    def take(self, waits: Any) -> tuple[int, list[bytes], list[Any], int]:
        """Wait until there is something to go out, and take all of it; maybe another one was quicker. Gives its place,
        the replies, the messages, and the mean time of the calls in nanoseconds."""
        waits.acquire()
        if self._more_to_come():
            self._full.acquire(True, _HOLD_S)
        with self._lock:
            self._holds = False
            place = next(self._places)
            out, told, ended, busy_ns = self._out, self._told, self._ended, self._busy_ns
            self._out, self._told = [], []
            spans, self._spans = self._spans, []
            if len(spans) > 1 or len(spans) < ended:  # else the mean is what the one took
                told.append([SPANS, parcel.spans(spans)])
            self._ended = self._busy_ns = 0
        return place, out, told, busy_ns // ended if ended else 0

    def _more_to_come(self) -> bool:
        """Whether replies may wait for others: only where calls stand ready to run."""
        with self._lock:
            if not self._out or self._told or len(self._out) >= _MANY or not (self.waiting or self._in.qsize()):
                return False
            self._full = allocate_lock()
            self._full.acquire()
            self._holds = True
            return True

    def _go(self) -> None:
        """Under the lock: what is held goes out."""
        if self._holds:
            self._holds = False
            self._full.release()

    def _wake(self) -> None:
        """Under the lock, where there was nothing to go out before."""
        if self._takers:
            self._takers.pop(0).release()

    def reply(self, reply: bytes, buffers: list[memoryview] | None, begun_ns: int, now_ns: int) -> None:
        """See `Wire.reply`."""
        with self._lock:
            nothing = not self._out and not self._told
            self._ended += 1
            self._busy_ns += now_ns - begun_ns
            self.replied += 1
            if buffers is None:
                self._out.append(reply)
                self._spans.append(now_ns - begun_ns)
            else:
                self.kept[self.replied] = reply, buffers
                self._told.append([LARGE, self.replied, now_ns - begun_ns])
            if nothing:
                self._wake()
            elif self._holds and (self._told or len(self._out) >= _MANY or not (self.waiting or self._in.qsize())):
                self._go()

    def send(self, message: list[Any], _: tuple[int, ...] = ()) -> bool:
        """A message on the line, which it is itself."""
        with self._lock:
            nothing = not self._out and not self._told
            self._told.append(message)
            if nothing:
                self._wake()
            self._go()
        return True

    def end(self) -> None:
        """The last message: which call was the last that began. All who wait go."""
        with self._lock:
            self._told.append([ENDED, self.numbers[0]])
            self._over = True
            self._go()
            takers, self._takers = self._takers, []
        for waits in takers:
            waits.release()

    # -- what the runtime asks of it -----------------------------------------------------------------------------------

    def receive(self) -> tuple[int, Any, list[list[Any]], list[Any] | None] | None:
        """See `Wire.receive`."""
        frame, refs, buffers = self._in.get()
        items = read(frame)
        kind, first, more, ref, _ = items[0]
        if kind == parcel.END:
            return None
        del items[0]
        return first, more, items, None if ref is None else there(buffers, refs)

    def pack_result(self, number: int, value: Any) -> tuple[bytes, list[Any] | None]:
        """See `codec.pack_result`; references to Ray's objects go beside it."""
        with collecting() as refs:
            reply, buffers = pack_result(number, value)
        return reply, WithRefs(buffers, list(refs.values())) if refs else buffers

    def has_news(self) -> bool:
        """What is on its way from another node cannot be seen."""
        return False

    def flush(self) -> None:
        """Nothing is held back here."""

    def total(self) -> int:
        """How many calls were replied to."""
        return self.replied

    def tried_again(self, number: int) -> None:
        """See `Wire.tried_again`. Nobody can look at these numbers after its end, so it is told."""
        place = 2 * (number % CALLS) + 3
        self.numbers[place] += 1
        self.send([ATTEMPT, number, 1 + self.numbers[place]])

    def begun(self, number: int) -> bool:
        """Whether a call has begun."""
        return self.numbers[0] >= number

    def keep_for_many(self) -> None:
        """Nothing is kept here for an end that nobody could look at."""


class Host:
    """The Ray actor. Each of its methods has a concurrency group of its own: none waits for another.

    Args:
        who: as ``LLM[3]``. payload: see `base.Job`. copies: whether arrays that arrive may be written to.
    """

    def __init__(self, who: str, payload: bytes, copies: bool) -> None:
        ray_refs.copies = copies
        self._wire = RayWire(who)
        makings = [payload]  # taken from there: a thread keeps its arguments for as long as it lives
        thread = threading.Thread(target=self._live, args=(makings,), name=f"concurry: {who}", daemon=True)
        thread.start()

    def __repr__(self) -> str:
        return self._wire.who

    def _live(self, makings: list[bytes]) -> None:
        wire = self._wire
        wire.send([BORN, os.getpid(), ray.util.get_node_ip_address()])
        try:
            entry, args = pickle.loads(makings.pop())
        except BaseException as error:  # a module that is not there, a class that refuses: whatever
            wire.send([control.UNBUILT, pack_failure(0, error, f"{wire.who}: unpickling its class and arguments")])
        else:
            try:
                entry(wire, *args)
            except BaseException:
                traceback.print_exc()
        wire.end()

    def exchange(self, frame: bytes, refs: Any = None, *buffers: Any) -> bytes:
        """Take a call, and bring back what is ready first."""
        waits = self._wire.enter(first=True)
        self._wire.arrive(frame, refs, buffers)
        return _packed(*self._wire.take(waits))

    def exchange_large(self, frame: bytes, refs: Any = None, *buffers: Any) -> tuple[bytes, Any]:
        """The same, and the first large result with it, if there is one."""
        waits = self._wire.enter(first=True)
        self._wire.arrive(frame, refs, buffers)
        place, out, told, mean_ns = self._wire.take(waits)
        large = next((at for at, message in enumerate(told) if message[0] == LARGE), None)
        beside = None
        if large is not None:
            reply, beside = self.fetch(told[large][1])
            told[large] = [BESIDE, reply, told[large][2]]
        return _packed(place, out, told, mean_ns), beside

    def push(self, frame: bytes) -> None:
        """Take calls."""
        self._wire.arrive(frame)

    def push_large(self, frame: bytes, refs: Any, *buffers: Any) -> None:
        """Take a call whose arguments come through the object store."""
        self._wire.arrive(frame, refs, buffers)

    def drain(self, *frames: bytes) -> bytes:
        """Take calls, and bring back what is ready as soon as there is anything."""
        waits = self._wire.enter(first=False)
        for frame in frames:
            self._wire.arrive(frame)
        return _packed(*self._wire.take(waits))

    def tell(self, packed: bytes) -> None:
        """Hear a message."""
        self._wire.heard(packed)

    def fetch(self, key: int) -> tuple[bytes, Any]:
        """Bring a large result into the object store: the reply itself; its buffers, and the references in it."""
        reply, buffers = self._wire.kept.pop(key)
        return reply, ([pickle.PickleBuffer(each) for each in buffers], getattr(buffers, "refs", []))

    def stacks(self) -> str:
        """The stacks of all threads, now."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        return "\n".join(
            f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
            for ident, frame in sys._current_frames().items()
        )


def _packed(place: int, out: list[bytes], told: list[Any], mean_ns: int) -> bytes:
    """What goes out, as a frame."""
    header = parcel.header(parcel.REPLIES, mean_ns, told or None)
    return place.to_bytes(SEQUENCE, "big") + header + (out[0] if len(out) == 1 else b"".join(out))


_METHODS = (  # method, its concurrency group, return values
    ("exchange", "exchange", 1),
    ("exchange_large", "exchange", 2),
    ("push", "push", 0),
    ("push_large", "push", 1),
    ("drain", "drain", 1),
    ("tell", "tell", 0),
    ("fetch", "fetch", 2),
    ("stacks", "tell", 1),
)
GROUPS = {group: 1 for _, group, _ in _METHODS}  # how many calls of each run at once
GROUPS["exchange"] = 2  # one comes while the one before is still there, and has it go
for _name, _group, _returns in _METHODS:  # no decorators: without Ray they have no types
    ray.method(concurrency_group=_group, num_returns=_returns)(getattr(Host, _name))


def _ignore(*_: Any) -> None:
    """Nobody has said yet what to do."""
