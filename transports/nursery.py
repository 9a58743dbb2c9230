"""Starting child processes, by any of the three ways, and hearing how each has ended.

    forkserver   hub --FORK + its end of the control line--> nursery process --fork--> child
                 hub <--FORKED + pidfd / UNBORN / EXITED-- nursery
    spawn        a fresh interpreter, by posix_spawn            fork    os.fork of this very process

A child hears of its parent's death by the control line's end-of-file and by its pidfd; the nursery, which waits on a
line of its own, kills what it has started when that line ends. No child is bound to the thread that asked for it.

Guarantees: `start` returns at once; `born` or `unborn` of the channel follows on the hub's thread, and the exit status
where it can be known: a child of a nursery that was killed goes on, and how it ends, nobody is told. The next start
brings a new nursery, also one that was asked for when the old one was killed.
Assumes: Linux (pidfd). Called by: the hub (owns it), channels (`start`).
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import warnings
from select import EPOLLIN as IN
from select import EPOLLOUT as OUT
from socket import socket
from typing import TYPE_CHECKING, Any

from concurry.transports.control import EXITED, FORK, FORKED, UNBORN, Control, pair

if TYPE_CHECKING:
    from concurry.transports.hub import Hub

log = logging.getLogger("concurry")

_LEAVES_S = 0.5  # for the nursery to leave: it takes a millisecond
_LINE_FD = 3  # where a new interpreter finds its end of the line
_TITLE_ROOM = " " * 48  # an argument that makes room for a title, which stands where the arguments were
_PRELOADED = (
    "cloudpickle",
    "concurry.transports.child",
    "concurry.transports.wire",
    "concurry.runtime.remote",
    "concurry.workers",
    "concurry.planning",
    "concurry.errors",  # under which name errors travel: a child without descriptors could not import it
)


class Nursery:
    """See the module's docstring."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._line: Control | None = None
        self.pid = 0
        self._asked: dict[int, Any] = {}  # serial -> the channel whose child is being forked
        self._asked_again: set[int] = set()  # those of them that were asked for once more
        self._by_pid: dict[int, Any] = {}  # children of the nursery that live, as far as it has told

    def start(self, channel: Any, way: str, end: socket) -> None:
        """Start the child of a channel; `end` is its end of the control line, and is closed here. Any thread.

        Raises OSError where the system has no room; with the forkserver `unborn` tells instead.
        """
        if way == "forkserver":
            self._hub.call(self._ask, channel, end)
            return
        with end:
            pid = _spawn("child", end.fileno()) if way == "spawn" else _fork(end)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            _end(pid)
            raise
        self._hub.call(channel.born, pid, pidfd, True)

    # -- the nursery process: on the hub's thread ----------------------------------------------------------------------

    def _ask(self, channel: Any, end: socket) -> None:
        with end:
            try:
                if self._line is None:
                    self._open()
                assert self._line is not None
                self._asked[channel.serial] = channel
                if not self._line.send([FORK, channel.serial], (end.fileno(),)):
                    self._hub.watch(self._line.fileno(), self._on_line, IN | OUT)
            except Exception as error:  # no room, most likely; whatever it is, somebody waits for that child
                self._asked.pop(channel.serial, None)
                channel.unborn(error)

    def _open(self) -> None:
        ours, theirs = pair()
        try:
            with theirs:
                self.pid = _spawn("nursery_main", theirs.fileno(), self._hub.folder, *_PRELOADED)
        except BaseException:
            ours.close()
            raise
        self._line = Control(ours, blocks=False)
        self._hub.watch(self._line.fileno(), self._on_line)

    def _on_line(self, events: int) -> None:
        line = self._line
        if line is None:
            return
        if events & OUT and line.send_waiting():
            self._hub.watch(line.fileno(), self._on_line)
        while True:
            try:
                came = line.receive()
            except BlockingIOError:
                return
            if came is None:
                self._lost()
                return
            message, fds = came
            self._heard(message, fds)

    def _heard(self, message: list[Any], fds: list[int]) -> None:
        kind = message[0]
        if kind == EXITED:
            channel = self._by_pid.pop(message[1], None)
            if channel is not None:
                channel.exited(message[2])
            return
        channel = self._asked.pop(message[1], None)
        self._asked_again.discard(message[1])
        if kind == FORKED:
            if channel is None:
                for fd in fds:
                    os.close(fd)
            elif fds:
                self._by_pid[message[2]] = channel
                channel.born(message[2], fds[0], False)
            else:  # its sentinel found no room here; it leaves when its line ends
                channel.unborn(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        elif kind == UNBORN and channel is not None:
            channel.unborn(OSError(message[2], message[3]))

    def _lost(self) -> None:
        """The nursery is gone. What it has started goes on."""
        if self._asked or self._by_pid:
            log.warning(
                "concurry: the helper that starts child processes (pid %d) is gone; the next has another", self.pid
            )
        asked, by_pid = list(self._asked.values()), list(self._by_pid.values())
        self.close()
        for channel in by_pid:
            channel.exited(None)
        again, self._asked_again = self._asked_again, set()
        for channel in asked:
            if channel.serial in again:
                channel.unborn(OSError("the helper that starts child processes was killed twice while it was asked to"))
            else:
                self._ask_again(channel)

    def _ask_again(self, channel: Any) -> None:
        """Once more, of a new nursery. Where the lost one had just made a child, that one finds its line ended."""
        try:
            end = channel.new_line()
        except Exception as error:
            channel.unborn(error)
            return
        self._asked_again.add(channel.serial)
        self._ask(channel, end)

    def close(self) -> None:
        """End the nursery process, and wait for it: it leaves at once. Idempotent."""
        line, self._line = self._line, None
        self._asked.clear()
        self._by_pid.clear()
        if line is None:
            return
        self._hub.forget(line.fileno())
        line.close()
        _reap(self.pid)

    def is_asked(self, channel: Any) -> bool:
        """Whether the child of a channel is on its way. On the hub's thread."""
        return channel.serial in self._asked

    def after_fork_in_child(self) -> None:
        if self._line is not None:
            self._line.sock.close()


def import_path() -> list[str]:
    """What an import looks at of `sys.path`: nothing but text."""
    path: list[object] = [*sys.path]
    return [each for each in path if isinstance(each, str)]


def _spawn(what: str, fd: int, *arguments: str) -> int:
    """A fresh interpreter that runs `what` of these floors on the line `fd`. Its `__main__` is empty."""
    if not sys.executable:
        raise OSError("sys.executable is not known: there is no interpreter to start child processes with")
    code = (
        f"import sys; sys.path[:] = {import_path()!r}; from concurry.transports.{what} import main; "
        f"main({_LINE_FD}, {arguments!r})"
    )
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *flags, "-c", code, _TITLE_ROOM],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, fd, _LINE_FD),
        ],
        # A session of its own: whoever ends the driver with its whole process group (a closed terminal, `timeout`)
        # leaves it to clear up, which it does when the driver's end of the line is gone.
        setsid=True,
        setsigmask=[signal.SIGINT],  # until it ignores it, as the first thing that it does
        setsigdef=[signal.SIGCHLD],
    )


def _fork(end: socket) -> int:
    others = [thread.name for thread in threading.enumerate() if not thread.name.startswith("concurry")]
    if len(others) > 1:
        warnings.warn(
            f"mp_context='fork' in a process with {len(others)} threads ({', '.join(others[:5])}): a lock that one of "
            f"them holds stays locked in the child for ever. Use the default, mp_context='forkserver'",
            RuntimeWarning,
            stacklevel=2,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of the same: threads of ours live always
        pid = os.fork()
    if pid:
        return pid
    from concurry.transports.child import main

    main(end.detach(), (), forked=True)
    raise AssertionError("a child never comes back")


def _reap(pid: int) -> None:
    """Wait for one that was told to leave. One that does not, since it is stopped or worse, is killed."""
    try:
        pidfd = os.pidfd_open(pid)
        try:
            if not select.select([pidfd], [], [], _LEAVES_S)[0]:
                os.kill(pid, signal.SIGKILL)
        finally:
            os.close(pidfd)
        os.waitpid(pid, 0)
    except (ChildProcessError, ProcessLookupError):  # somebody else's os.wait() was faster
        log.debug("concurry: process %d was waited for by somebody else", pid)


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    _reap(pid)


def status_of(pid: int) -> int | None:
    """The exit status of an ended child of this very process, as `waitpid` has it; None: somebody else has taken it."""
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return None
