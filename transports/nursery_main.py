"""The nursery process: it has loaded what every child needs, holds no `__main__`, and forks when it is asked to.

Guarantees: it runs one thread and nothing of the user's, so that a fork is safe; each child that ends is reaped at
once, and its status told. When its line ends, since the parent is gone or needs it no more, it kills what it has
started, removes the sockets' directory and leaves.
Called by: `nursery`, as a fresh interpreter.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import select
import signal
import socket
from typing import NoReturn

from concurry.transports import folder
from concurry.transports.control import EXITED, FORK, FORKED, UNBORN, Control


def main(fd: int, arguments: tuple[str, ...]) -> NoReturn:
    """Serve the line `fd` to its end. `arguments`: the directory of the sockets, and the modules to load."""
    sockets, *preload = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to handle
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # blocked until here by who has started it
    line = Control(socket.socket(fileno=fd), blocks=True)
    for name in preload:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child shall not write to these pages, and so copy them
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    children: dict[int, int] = {}  # pid -> pidfd
    poll = select.poll()
    poll.register(line.fileno(), select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        ready = {it for it, _ in poll.poll()}
        if woken in ready:
            os.read(woken, 4096)
            _reap(line, children)
        if line.fileno() in ready:
            came = line.receive()
            if came is None:
                break
            message, fds = came
            if message[0] == FORK and fds:
                _fork(line, message[1], fds[0], children, (woken, wake))
            elif message[0] == FORK:
                line.send([UNBORN, message[1], errno.EMFILE, os.strerror(errno.EMFILE)])
            for passed in fds:
                os.close(passed)
    for pidfd in children.values():
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:  # ended a moment ago
            continue
    folder.remove(sockets)
    os._exit(0)


def _reap(line: Control, children: dict[int, int]) -> None:
    while children:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        pidfd = children.pop(pid, None)
        if pidfd is not None:
            os.close(pidfd)
            line.send([EXITED, pid, status])


def _fork(line: Control, serial: int, end: int, children: dict[int, int], wakes: tuple[int, int]) -> None:
    try:
        pid = os.fork()
    except OSError as error:
        line.send([UNBORN, serial, error.errno or 0, error.strerror or "fork failed"])
        return
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (*wakes, *children.values()):
            os.close(fd)
        line.close()
        from concurry.transports.child import main as child_main

        child_main(end, ())
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        line.send([UNBORN, serial, error.errno or 0, error.strerror or "no descriptor"])
        return
    children[pid] = pidfd
    line.send([FORKED, serial, pid], (pidfd,))
