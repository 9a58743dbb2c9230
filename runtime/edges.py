"""The edges along which handles travel: one for each pair of a process and its child, with an end on either side.

    parent  Edge <======= control line, both ways =======> Edge  child

    CALL          number, ticket of the handle, method, encoded call, buffers, question   (see `served`)
    CALL_ENDED    number, encoded reply or nil for cancelled, buffers
    CALL_CANCEL   number, question
    HANDLE_ASK    question, ticket, what, arguments          figures, `stop`
    ANSWER        question, encoded reply
    HANDLE_RELEASE  tickets
    WAIT          probe, numbers of calls (of several that lead on as one, or each); none: for the actor itself
                  (see `waits`)

Guarantees: a handle that has been sent is held here until the other side needs it no more (`release`, counted by
message) or is gone; the handle of a stopped pool keeps nothing but itself. Calls of one thread reach the other side in
their order. When the other side is gone, every call that was made there ends with WorkerDiedError, every question is
answered, and what was lent is let go. Nothing of the user's runs on the threads that bring messages, and they do not
wait. After a fork the child's copies refuse.
Assumes: `heard` is called by one thread, in the order of the messages.
Called by: the member and the child's actor (`edge_to`, `parent`; they bring messages), `proxy` (calls), `served`.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import weakref
from _thread import allocate_lock
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import Any

from concurry.runtime import kinds, served, waits
from concurry.runtime.notifier import helper
from concurry.runtime.served import Served, accept
from concurry.runtime.std_view import PENDING
from concurry.transports import codec
from concurry.transports.errors import ForkedHandleError, WorkerDiedError
from concurry.transports.luggage import Arriving, Carrying

log = logging.getLogger("concurry")

_ASK_S = 0.1  # how long a cancel waits for the answer: the owner may have to ask a child of its own
ASKED = frozenset({"stop", "is_alive", "stats", "get_pool_stats", "get_worker_stats", "__len__"})


class Edge:
    """One end. See the module's docstring.

    Attributes:
        who: the process at the other end, for messages. gone: makes the error for those who still want something of it.
        member: of the actor at the other end, where that is a child. serving: calls from there, by their number.
    """

    def __init__(
        self,
        who: str,
        send: Callable[[list[Any]], object],
        *,
        member: Any = None,
        base: Mapping[int, Any] | None = None,
    ) -> None:
        self.who = who
        self.member = member
        self.gone: Callable[[], BaseException] | None = None
        self.forked = False
        self.serving: dict[int, Served] = {}
        self._send = send
        self._base = base or {}  # lent for as long as there is a pool: what its init arguments have
        self._lent: dict[int, list[Any]] = {}  # ticket -> [handle, how many messages took it there]
        self._open: dict[int, Any] = {}  # calls that were made there
        self._questions: dict[int, _Question] = {}
        self._lock = allocate_lock()  # protects `_lent`'s counts; nothing is taken under it
        helper.retain()
        _edges.add(self)

    def send(self, message: list[Any]) -> None:
        """To the other side. Raises OSError where there is no memory for a large one."""
        self._send(message)

    # -- handles -----------------------------------------------------------------------------------------------------

    def lend(self, handles: Mapping[int, Any]) -> None:
        """A message with these handles goes there."""
        with self._lock:
            if self.gone is not None:
                return
            for ticket, handle in handles.items():
                self._lent.setdefault(ticket, [handle, 0])[1] += 1

    def lent(self, ticket: int) -> Any:
        """The handle of a ticket; None: it was given back."""
        found = self._lent.get(ticket)
        return self._base.get(ticket) if found is None else found[0]

    def _given_back(self, tickets: list[int]) -> None:
        dropped: list[Any] = []  # let go after the lock: a handle's end may be the pool's
        with self._lock:
            for ticket in tickets:
                entry = self._lent.get(ticket)
                if entry is not None:
                    entry[1] -= 1
                    if entry[1] <= 0:
                        dropped.append(self._lent.pop(ticket))

    def release(self, tickets: list[int]) -> None:
        """Handles of the other side that are not needed here any more. Also from a finalizer: it takes no lock."""
        if self.gone is None and not self.forked:
            helper.post(self._release, tickets)

    def _release(self, tickets: list[int]) -> None:
        if self.gone is None:
            self.send([kinds.HANDLE_RELEASE, tickets])

    def unpack_call(self, how: int, body: Any, buffers: Any) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
        """The arguments of a call that came from there."""
        if how != codec.CARRYING:
            return codec.unpack_call(how, body, buffers)
        with Arriving(self, codec.tickets_of(body)):
            return codec.unpack_call(how, body, buffers)

    # -- calls, questions: from any thread -----------------------------------------------------------------------------

    def call(self, ticket: int, call: Any, *, waits_for_room: bool) -> None:
        """Send a call to the handle of that ticket.

        Args:
            waits_for_room: whether to wait until it is accepted, and to raise why it is not.
        """
        self.refuse_if_forked()
        encoded, buffers, call.args, call.kwargs = call.args, call.kwargs, None, None
        number = next(_numbers)
        call.extra = Sent(self, number, ticket, call.name)
        self._open[number] = call
        question = self._question() if waits_for_room else None
        try:
            if encoded.__class__ is Carrying:
                self.lend(encoded.handles)
            self.send([kinds.CALL, number, ticket, call.name, encoded, buffers, question and question.number])
        except Exception as error:  # no memory for it
            self._open.pop(number, None)
            call.abandon(error)
            return
        if self.gone is not None:  # asked after it stands among the open ones: one of the two sides ends it
            self._fail_open()
        elif question is not None:
            try:
                self._answer_of(question)
            except BaseException:
                self._open.pop(number, None)
                raise

    def cancel(self, sent: Sent) -> None:
        """Ask that a call does not run, and wait for the answer for a moment; where it is cancelled, its future is."""
        if self.gone is None and not self.forked:
            question = self._question()
            self.send([kinds.CALL_CANCEL, sent.number, question.number])
            question.wait(_ASK_S)
            self._questions.pop(question.number, None)

    def ask(self, ticket: int, what: str, *args: Any) -> Any:
        """Have the owner do one of `ASKED` with the handle; returns, or raises, what that gives. Waits for it."""
        self.refuse_if_forked()
        if self.gone is not None:
            raise self.gone()
        question = self._question()
        self.send([kinds.HANDLE_ASK, question.number, ticket, what, list(args)])
        return self._answer_of(question)

    def _question(self) -> _Question:
        question = _Question(next(_numbers))
        self._questions[question.number] = question
        return question

    def _answer_of(self, question: _Question) -> Any:
        if self.gone is not None:
            question.answered(None)
        try:
            question.wait(None)
        finally:
            self._questions.pop(question.number, None)
        if question.reply is None:
            assert self.gone is not None
            raise self.gone()
        _, status, how, body = codec.read(question.reply)[0]
        if status != codec.OK:
            raise codec.unpack_failure(how, body)
        return codec.unpack_value(how, body, None)

    def refuse_if_forked(self) -> None:
        """Raises ForkedHandleError in a forked child."""
        if self.forked:
            raise _forked()

    # -- what comes ----------------------------------------------------------------------------------------------------

    def heard(self, message: list[Any]) -> None:
        """A message from the other side. Never blocks."""
        kind = message[0]
        if kind == kinds.CALL:
            accept(self, *message[1:])
        elif kind == kinds.CALL_ENDED:
            self._ended(*message[1:])
        elif kind == kinds.CALL_CANCEL:
            call = self.serving.get(message[1])
            if call is None:
                self.answer(message[2], codec.pack_result(0, False)[0])
            else:
                call.cancel(message[2])
        elif kind == kinds.HANDLE_RELEASE:
            self._given_back(message[1])
        elif kind == kinds.HANDLE_ASK:
            threading.Thread(target=self._asked, args=message[1:], name="concurry-asked", daemon=True).start()
        elif kind == kinds.ANSWER:
            question = self._questions.get(message[1])
            if question is not None:
                question.answered(message[2])
        elif kind == kinds.WAIT:
            self._probed(message[1], message[2])

    def _ended(self, number: int, reply: bytes | None, buffers: list[bytes] | None) -> None:
        call = self._open.pop(number, None)
        if call is None:
            return
        if reply is None:
            call.abandon(CancelledError())
            return
        _, status, how, body = codec.read(reply)[0]
        if status != codec.OK:
            call.fail_unread(how, body)
        elif how == codec.PLAIN:
            call.close(body)
        else:
            call.close_unread(how, body, None if buffers is None else _Buffers(buffers), lambda: self)

    def _asked(self, question: int, ticket: int, what: str, args: list[Any]) -> None:
        """On a thread of its own: a `stop` takes a while, and figures may have to be asked for further on."""
        waits.here.inside = self.member  # a `stop` does not wait for the very call that asks for it
        handle: Any = self.lent(ticket)
        try:
            if what not in ASKED or handle is None:
                raise WorkerDiedError(f"{what}() of a handle that {self.who} has given back")
            reply, _ = codec.pack_result(0, getattr(handle.__class__, what)(handle, *args))
        except BaseException as error:  # whatever it is, it is the asker's
            reply = codec.pack_failure(0, error, f"{what}() in the process that has the worker")
        self.answer(question, reply)

    def answer(self, question: int, reply: bytes) -> None:
        self.send([kinds.ANSWER, question, reply])

    # -- deadlocks -----------------------------------------------------------------------------------------------------

    def probe(self, probe: list[Any], numbers: list[int]) -> None:
        """Follow a chain of waits on the other side. See `waits`."""
        if self.gone is None and not self.forked:
            self.send([kinds.WAIT, probe, numbers])

    def _probed(self, probe: list[Any], numbers: list[int]) -> None:
        *follows, together = probe
        nodes: dict[Any, int | None] = {}
        open_ones = 0
        for number in numbers:
            call = self.serving.get(number)
            if call is None:
                continue
            if call.is_on_its_way():  # behind it
                call.entrance().post(self._probed, probe, numbers if together else [number])
                if together:
                    return
                continue
            node = call.needs()
            if node is not None:
                nodes.setdefault(node, number)
                open_ones += 1
        if together:  # they lead on only as one
            only = waits.together(nodes)
            nodes = {only[0]: numbers[0]} if len(only) == 1 and open_ones == len(numbers) else {}
        elif not numbers and waits.trunk is not None:
            nodes[waits.trunk] = None
        if nodes:
            waits.chase(nodes, follows)

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self, gone: Callable[[], BaseException]) -> None:
        """The other side is gone."""
        with self._lock:
            self.gone = gone
            lent, self._lent = self._lent, {}
        self._base = {}
        self.serving.clear()
        self._fail_open()
        for question in list(self._questions.values()):
            question.answered(None)
        helper.release()
        lent.clear()

    def _fail_open(self) -> None:
        assert self.gone is not None
        while self._open:
            try:
                _, call = self._open.popitem()
            except KeyError:  # the other one who ends them took the last
                return
            call.abandon(self.gone())

    def after_fork_in_child(self) -> None:
        """The line is the parent's. End the copies of open calls, without hooks: those run in the parent, once."""
        self.forked = True
        self._lock = allocate_lock()
        for call in list(self._open.values()):
            if call._status is PENDING:
                call._hooks = None
                call._stage = 0
                call.abandon(_forked())


class Sent:
    """A call that was made on the other side of an edge: what stands beside its future, as a channel does elsewhere."""

    __slots__ = ("_name", "edge", "number", "ticket")

    def __init__(self, edge: Edge, number: int, ticket: int, name: str) -> None:
        self.edge = edge
        self.number = number
        self.ticket = ticket
        self._name = name

    @property
    def beyond(self) -> tuple[Edge, int]:
        """Where those are who must go on for it to end; see `waits`."""
        return self.edge, self.number

    def lead(self, future: Any, timeout: float | None) -> None:
        """Nothing to receive here: the edge's thread does."""

    def begun(self, call: Any) -> bool:
        """Only its owner knows."""
        return False

    def ask_back(self, call: Any) -> None:
        self.edge.cancel(self)


class _Question:
    __slots__ = ("_lock", "number", "reply")

    def __init__(self, number: int) -> None:
        self.number = number
        self.reply: bytes | None = None
        self._lock = allocate_lock()
        self._lock.acquire()

    def answered(self, reply: bytes | None) -> None:
        if self._lock.locked():  # once: by the answer, or by the end of the other side; both on one thread
            self.reply = reply
            self._lock.release()

    def wait(self, timeout: float | None) -> None:
        self._lock.acquire(True, -1 if timeout is None else timeout)


class _Buffers:
    """Buffers of a reply, as a parcel is."""

    __slots__ = ("_buffers",)

    def __init__(self, buffers: list[bytes]) -> None:
        self._buffers = buffers

    def open(self) -> list[Any]:
        return [memoryview(buffer) for buffer in self._buffers]


_numbers = itertools.count(1)  # of calls and questions, whatever the edge
_edges: weakref.WeakSet[Edge] = weakref.WeakSet()
_up: Edge | None = None
_making = allocate_lock()  # protects `_up`


def parent(wire: Any) -> Edge:
    """In a child: the edge to its parent."""
    global _up
    if _up is None:
        with _making:
            if _up is None:
                _up = Edge("the parent process", wire.line.send)
    return _up


def _forked() -> BaseException:
    return ForkedHandleError(
        "this handle came to the process that has called os.fork(); its line to the worker is that process's. Make a "
        "new worker in the child, or start children with multiprocessing's 'spawn' or 'forkserver'."
    )


def _after_fork_in_child() -> None:
    global _making
    _making = allocate_lock()
    served.after_fork_in_child()
    for edge in list(_edges):
        edge.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
