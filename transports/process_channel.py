"""Processes: one child an actor. Calls go out over a zmq socket of the child's own, replies come back over another.

    any thread: send --> Outbox --> zmq PUSH --> child          Gate: how the child gets in    Board: what it has begun
    hub:        zmq PULL --> Replies --> calls are closed       Control: everything else       Memory: large buffers
    hub:        the process sentinel (pidfd) --> Ending: what had been sent is taken first --> Job.gone

Guarantees: see `base`. After its end the channel has left nothing behind: sockets, descriptors, memory, process.
Assumes: the job bounds how many calls are under way (fewer than `board.CALLS`).
Called by: the feed (`send`, `give`), futures (`lead`, `interrupt`, `ask_back`), the supervisor (`kill`, `join`), hub.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from socket import socket
from typing import Any

import zmq

from concurry.transports import codec, control, hub, parcel
from concurry.transports.asking import Asking
from concurry.transports.base import Channel, Job
from concurry.transports.board import Board
from concurry.transports.control import Control, in_memory, pair
from concurry.transports.ending import Ending, send_signal
from concurry.transports.errors import ProtocolError, WorkerInitError
from concurry.transports.events import event_of
from concurry.transports.gate import Gate
from concurry.transports.memory import Memory
from concurry.transports.nursery import status_of
from concurry.transports.outbox import Outbox
from concurry.transports.replies import Replies
from concurry.transports.stacks import Stacks
from concurry.transports.undo import Undo

log = logging.getLogger("concurry")

_serials = itertools.count(1)
_TAKEN = (
    "a cause that nobody can tell (SIGCHLD is ignored here, or somebody waits for any child: its exit status was taken)"
)


class ProcessChannel(Channel):
    """See the module's docstring.

    Attributes:
        under_way: the calls that were sent and not replied to, by their number, in their order.
        send: sends calls, which have begun as far as this process knows; never blocks, never raises.
        pid: of the child; 0 before it is born. memory: large buffers, both ways; large: from how many bytes on.
    """

    def __init__(self, job: Job, at: hub.Hub) -> None:
        self._job = job
        self._hub = at
        self.serial = next(_serials)
        self.pid = 0
        self._begun_at_end: int | None = None
        self._closed = False  # changed on the hub's thread
        self._over = threading.Event()
        self._hub_ends: threading.Thread | None = None
        self._pidfd = -1
        self._own_child = False
        self._connected = self._forsaken = False
        self._unbuilt: bytes | None = None  # why the actor could not be made
        self._ending = Ending(at.call, self._over_now, lambda: len(self.under_way))
        self.large: int | None = job.settings["large"]
        self._serial: bool = job.settings["serial"]  # whether the child runs one call at a time
        self.memory = Memory(self.tell, self._let_go, copies=job.settings["copies"])
        with Undo() as undo:
            ours, theirs = pair()
            undo.add(ours.close, theirs.close)
            self._line = Control(ours, blocks=False)
            self._board = Board()
            undo.add(self._board.close)
            makings = job.makings()
            self._payload = [] if makings is None else [makings[0]]  # descriptors of what makes the actor
            self._makings = None if makings is None else makings[1]
            undo.add(self._close_payload)
            self._payload.insert(0, in_memory(job.payload))
            self._stacks = Stacks()
            undo.add(self._stacks.close)
            self._gate = gate = Gate(at, self.serial)
            undo.add(gate.close)
            self._monitor = gate.pull.get_monitor_socket(zmq.EVENT_DISCONNECTED, f"inproc://monitor-{self.serial}")
            undo.add(lambda: self._monitor.close(linger=0))
            self._outbox = Outbox(self, job, gate.push)
            self.under_way = self._outbox.under_way
            self.send = self._outbox.send  # a step less on the way of each call
            self.replies = Replies(
                job.who,
                gate.pull,
                self.under_way,
                partial(job.replied, self),
                self._parcel,
                lambda: self.edge,
                self._board.kept_by_the_living,
                lambda: self.tell([control.AGAIN]),
                self._note_attempts if job.retried else None,
            )
            self.lead = self.replies.lead
            self._asking = Asking(self.under_way, self._has_begun, self.tell, partial(job.given_back, self))
            self._theirs = theirs
            undo.forget()

    def start(self) -> None:
        """Start the child. What goes wrong is its end, and told as such; but a Ctrl-C goes on."""
        try:
            self._hub.nursery.start(self, self._job.settings["mp_context"], self._theirs)
        except Exception as error:
            self._hub.call(self.unborn, error)
        except BaseException as error:
            self._hub.call(self._forsake, error)
            raise

    def _forsake(self, error: BaseException) -> None:
        """Nobody knows of this channel: end it, whether or not its child is on its way."""
        self._forsaken = True
        self._ending.signals.append(signal.SIGKILL)
        if self.pid:
            self._signal(signal.SIGKILL)
        elif not self._hub.nursery.is_asked(self):
            self.unborn(error)

    # -- being born: on the hub's thread -------------------------------------------------------------------------------

    def born(self, pid: int, pidfd: int, own_child: bool) -> None:
        """The child runs. `own_child`: it is this process that must reap it."""
        self.pid, self._pidfd, self._own_child = pid, pidfd, own_child
        try:
            self._hub.watch(pidfd, self._on_death)
        except Exception as error:  # nothing would tell of its end: it ends now
            self._signal(signal.SIGKILL)
            if own_child:
                status_of(pid)
            self._ending.never_lived(error)
            return
        try:
            self._welcome()
        except Exception as error:  # whatever it is, the child would wait for ever: its sentinel tells the rest
            self._ending.cause = error
            self._signal(signal.SIGKILL)

    def _welcome(self) -> None:
        """Tell it what it is to become."""
        at, pidfd = self._hub, self._pidfd
        at.watch(self._line.fileno(), self._on_line)
        self.replies.attach(at, pidfd)
        self._gate.open(self.pid)
        board = self._board.fd
        assert board is not None
        boot = self._gate.boot(self._job, self.memory, self._makings)
        payload, *makings = self._payload
        self.tell([control.BOOT, boot], (board, payload, self._stacks.write_end(), *makings))
        self._stacks.close_write_end()
        self._board.close_fd()
        self._close_payload()
        for number in self._ending.signals:  # somebody wished it before it was there
            send_signal(pidfd, number)

    def _close_payload(self) -> None:
        while self._payload:
            os.close(self._payload.pop())

    def new_line(self) -> socket:
        """The child's end of another control line, before it is born: the helper that had the first one was killed."""
        ours, theirs = pair()
        self._line.close()
        self._line = Control(ours, blocks=False)
        return theirs

    def unborn(self, error: BaseException) -> None:
        """There is no child."""
        self._theirs.close()
        self._ending.never_lived(error)

    def exited(self, status: int | None) -> None:
        """How the child has ended, as `waitpid` has it; None: nobody knows."""
        self._ending.exited(status)

    # -- sending: from any thread --------------------------------------------------------------------------------------

    def give(self, call: Any) -> bool:
        """None, always: no more calls will come, and the child ends when it has run those it has."""
        self._outbox.end()
        return False

    def tell(self, message: list[Any], fds: tuple[int, ...] = ()) -> None:
        """Send a message on the control line. Never blocks, never raises."""
        if not self._line.send(message, fds):
            self._hub.call(self._wait_for_room)

    def hear(self, then: Callable[[], object]) -> None:
        """Take in what the child has said on its line by now, then call `then`, both on the hub's thread."""
        self._hub.call(self._hear, then)

    def _hear(self, then: Callable[[], object]) -> None:
        if self.pid and not self._closed:
            self._on_line(0)
        then()

    def _wait_for_room(self) -> None:
        if not self._closed and self._line.fileno() >= 0:
            self._hub.watch(self._line.fileno(), self._on_line, hub.IN | hub.OUT)

    # -- what comes: on the hub's thread -------------------------------------------------------------------------------

    def _parcel(self, ref: Any, sizes: Any, frames: list[bytes]) -> Any:
        return parcel.Parcel(self.memory, ref, sizes, frames)

    @property
    def edge(self) -> Any:
        """Along which handles come from there; the runtime's."""
        return self._job.edge_to(self)

    def _on_line(self, events: int) -> None:
        line = self._line
        if events & hub.OUT and line.send_waiting():
            self._hub.watch(line.fileno(), self._on_line)
        while True:
            try:
                came = line.receive()
            except BlockingIOError:
                return
            except ProtocolError as error:
                self.replies.dropped += 1
                log.error("%s: %s", self._job.who, error)
                continue
            if came is None:  # its sentinel tells the rest
                self._hub.forget(line.fileno())
                return
            self._heard(*came)

    def _heard(self, message: list[Any], fds: list[int]) -> None:
        kind = message[0]
        if kind >= control.RUNTIME:
            self._job.message(self, message, fds)
        elif kind == control.CONNECTED:
            self._gate.shut()
            self._connected = True
        elif kind == control.READY:
            self._job.ready(self)
        elif kind == control.UNBUILT:
            self._unbuilt = message[1]  # told with its end, which follows, and not here: it holds the user's exception
        elif kind == control.RIVAL:
            self._ending.cause = WorkerInitError(message[1])
        elif kind == control.ASKED_BACK:
            self._asking.answer(message[1], message[2])
        elif kind == control.LEAVING:
            self._ending.expected = message[1]
            self._job.leaving(self)
        else:
            self.memory.heard(message, fds)

    def _on_monitor(self, _: int) -> None:
        while True:
            try:
                event, _value = event_of(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            if event == zmq.EVENT_DISCONNECTED:
                self._hub.forget(self._monitor.fileno())
                self._ending.silent()  # what it had sent before has come
                return

    # -- its end: on the hub's thread ----------------------------------------------------------------------------------

    def _on_death(self, _: int) -> None:
        self._hub.forget(self._pidfd)
        try:
            self._hub.watch(self._monitor.fileno(), self._on_monitor)
        except OSError as error:  # no room for another one: then its silence tells
            log.debug("%s: its last words are not waited for: %s", self._job.who, error)
        if self._own_child:
            self._ending.exited(status_of(self.pid), untold=_TAKEN)
        self._ending.process_gone(was_connected=self._connected)
        if not self._closed:
            self._on_monitor(0)

    def _over_now(self) -> None:
        try:  # whatever fails: its end is told
            if self.pid:
                self._on_line(0)
            self._close()
        finally:
            if self._unbuilt is None:
                self._tell_the_end()
            else:
                self._job.aside(self._tell_the_end)

    def _tell_the_end(self) -> None:
        try:
            if self._unbuilt is not None:
                _, _, how, body = codec.read(self._unbuilt)[0]
                self._job.failed_to_build(codec.unpack_failure(how, body))
            if not self._forsaken:
                self._job.gone(self, self._ending.reason(self.pid))
        finally:
            self._hub_ends = hub.release(self._hub)
            self._over.set()

    def _close(self) -> None:
        self._closed = True
        self._outbox.close()
        for source in (self._line.fileno(), self._monitor.fileno()):
            self._hub.forget(source)
        self._line.close()
        self.replies.close(self._board.kept())
        self._monitor.close(linger=0)
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._close_payload()
        self._gate.shut()
        self._asking.close()
        self._begun_at_end = self._board.last_begun()
        for number, call in list(self.under_way.items()):
            if number <= self._begun_at_end:
                self._note_attempts(number, call)
        self._board.close()
        self.memory.close()
        self._stacks.close()

    def _note_attempts(self, number: int, call: Any) -> None:
        call.attempts_lost = attempts = self._board.attempts(number)
        self._job.tried_again(call, attempts)

    def undelivered(self) -> list[Any]:
        """The calls under way; after its end, those that had not begun wait again."""
        calls = self._outbox.collect()
        last = self._begun_at_end
        return [call for number, call in calls if last is None or number <= last or call.reopen()]

    def after_fork_in_child(self) -> None:
        self._outbox.after_fork_in_child()

    def kill(self) -> None:
        """The first time politely (SIGTERM), then for good."""
        self._hub.call(self._signal, signal.SIGKILL if self._ending.signals else signal.SIGTERM)

    def end(self, why: str) -> None:
        """End the child at once, for a reason that is no fault of it, such as a call past its time."""
        self._ending.expected = why
        self._hub.call(self._signal, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        self._ending.signals.append(number)
        if not self._ending.gone and self._pidfd >= 0:
            send_signal(self._pidfd, number)

    def join(self, timeout: float | None) -> bool:
        if self._hub.is_here():
            return self._over.is_set()
        if not self._over.wait(None if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)):
            return False
        if self._hub_ends is not None:
            self._hub_ends.join(None if timeout is None else max(1.0, min(timeout, threading.TIMEOUT_MAX)))
        return True

    # -- what is asked of it -------------------------------------------------------------------------------------------

    def begun(self, call: Any) -> bool:
        """Whether the child has begun a call that was sent to it."""
        number = self._outbox.number_of(call)
        if number is None:
            return False
        last = self._begun_at_end
        return number <= (self._board.last_begun() if last is None else last)

    def began_at(self, number: int) -> float | None:
        """When the call of a number began, by the monotonic clock; None: it has not."""
        return self._board.began_at(number) if self._board.begun(number) else None

    def held(self) -> int:
        """How many calls the child holds now: those that have ended are not among them, whether or not their replies
        have been received."""
        under_way = len(self.under_way)
        if not self._serial or self._begun_at_end is not None:
            return under_way
        return min(under_way, self._outbox.last - self._board.last_begun() + 1)

    def interrupt(self, call: Any) -> None:
        """Nobody waits for a call any more: its waits end, and an async method is cancelled."""
        number = self._outbox.number_of(call)
        if number is not None:
            self.tell([control.INTERRUPT, [number]])

    def stacks(self) -> str:
        """The stacks of the child's threads, now."""
        return "it has ended\n" if self._closed or self._pidfd < 0 else self._stacks.of(self._pidfd)

    def ask_back(self, call: Any) -> None:
        """Ask for a call that has not begun, and wait for the answer, for a moment at most. Where it is given back it
        is reopened: it waits again, or has ended as somebody wished before."""
        self._asking.ask_back(self._outbox.number_of(call), wait=not self._hub.is_here())

    def recall(self) -> None:
        """Ask for all that have not begun; those that are given back come by `Job.given_back`."""
        self._asking.recall()

    def _has_begun(self, number: int) -> bool:
        return self._begun_at_end is not None or self._board.begun(number)

    def _let_go(self, serial: int) -> None:
        self._hub.call(self.memory.freed, [serial])  # in a finalizer: no lock may be taken here
