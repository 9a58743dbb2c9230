"""The child's side of process mode: it becomes what its parent says, connects, and runs the actor that it is given.

    BOOT on the control line -> surroundings (environment, paths, title) -> the two sockets, each checked for who serves
    it -> CONNECTED -> the actor's code (`entry(wire)`, unpickled) -> READY -> calls and replies -> END -> leave

Guarantees: nothing of the parent's script runs. When the parent is gone, in whatever way, so is this process: its ear,
a thread, waits for the line's end and for the parent's pidfd. What was sent arrives before it leaves.
Assumes: it is the only thread of a new process, started by `nursery`.
Called by: `nursery` (`main`).
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import socket
import sys
import threading
import traceback
from typing import Any, NoReturn

from concurry.transports import nesting, room
from concurry.transports.control import CONNECTED, RIVAL, UNBUILT, Control, read_memory
from concurry.transports.stacks import STACKS_SIGNAL

# Libraries that start as many threads as there are cores, in each process. Told before anything imports them.
_THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def main(fd: int, _: tuple[str, ...] = (), *, forked: bool = False) -> NoReturn:
    """Be the child whose control line is `fd`. Never returns, and never lets an exception out into the parent's code
    (of which a forked child has a copy on its stack)."""
    status = 1
    try:
        line = Control(socket.socket(fileno=fd), blocks=True)  # kept to the end: it is never closed
        status = _live(line, forked=forked)
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def _live(line: Control, *, forked: bool) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to handle
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # blocked until here where it was spawned
    came = line.receive()
    if came is None:
        return 0
    (_, boot), fds = came
    _settle_in(boot, forked=forked)
    from concurry.transports.wire import Stranger, Wire

    show_stacks_to(fds[2])
    try:
        room.for_threads(room.ZMQ_THREADS + 1)
    except OSError as error:
        from concurry.transports.codec import pack_failure

        line.send([UNBUILT, pack_failure(0, error, f"{boot['who']}: starting its threads")])
        return 1
    wire = Wire(line, boot, board_fd=fds[0])
    os.register_at_fork(after_in_child=lambda: wire.end_with_the_call(_end_the_copy))
    try:
        wire.connect()
    except Stranger as error:
        line.send([RIVAL, str(error)])
        return 1
    line.send([CONNECTED])
    if not _run(wire, fds[1], fds[3:], boot["makings"]):
        return 1
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
    _flush()
    wire.end()
    return 0


def _run(wire: Any, payload_fd: int, makings_fd: list[int], sizes: list[int] | None) -> bool:
    """Run the actor. False: it could not be had; the parent has been told why."""
    from concurry.transports.codec import pack_failure

    try:
        import pickle

        if makings_fd and sizes:
            from concurry.transports.makings import mapped

            wire.makings = mapped(makings_fd[0], sizes)
        entry, args = pickle.loads(read_memory(payload_fd))
    except BaseException as error:  # a module that is not there, a class that refuses: whatever, the parent shall know
        wire.line.send([UNBUILT, pack_failure(0, error, f"{wire.who}: unpickling its class and arguments")])
        return False
    done: bool = entry(wire, *args)
    return done


def _end_the_copy(*_: Any) -> NoReturn:
    """A method has forked, and its call has ended in the copy too: that is the end of the copy, as of any that leaves
    the code it was forked in. The call, the wire and the object are those of the process it is a copy of."""
    error = sys.exception()
    status = 1
    try:
        if error is None:
            status = 0
        elif not isinstance(error, SystemExit):
            traceback.print_exception(error)
        elif error.code is None or isinstance(error.code, int):
            status = error.code or 0
        else:
            sys.stderr.write(f"{error.code}\n")
        _flush()
    finally:
        os._exit(status & 0xFF)


def _settle_in(boot: dict[str, Any], *, forked: bool) -> None:
    """Take on the parent's surroundings, as they are now: a nursery has those of the moment at which it was started."""
    if forked:
        atexit._clear()  # pyright: ignore[reportPrivateUsage]  # they are the parent's to run
        sys.stdin = open(os.devnull)  # noqa: SIM115  # for good
    else:
        environment = dict(boot["environment"])
        for old in set(os.environb) - set(environment):
            del os.environb[old]
        for variable, value in environment.items():
            if os.environb.get(variable) != value:
                os.environb[variable] = value
        sys.path[:] = map(heard, boot["path"])
    threads = boot["native_threads"]
    if threads:
        for name in _THREAD_COUNTS:
            os.environ.setdefault(name, str(threads))
    try:
        os.chdir(boot["folder"])
    except OSError:  # it was deleted, or is another's: the parent has it open still, we cannot
        sys.stderr.write(f"{boot['title']}: its working directory {os.fsdecode(boot['folder'])} cannot be entered\n")
    sys.argv = [*map(heard, boot["argv"])]
    nesting.level = boot["level"]
    set_title(boot["title"])
    threading.current_thread().name = boot["title"]  # as a thread's on which an actor runs, for %(threadName)s


def heard(told: bytes) -> str:
    """Any text, also a file's name that is no UTF-8."""
    return told.decode("utf-8", "surrogatepass")


def show_stacks_to(fd: int) -> None:
    """On STACKS_SIGNAL write the stacks of all threads to `fd`, and the signal's number after them, also while a call
    in C holds the interpreter: all of it happens in the signal handler (faulthandler's, then Python's own, which
    writes the number)."""
    number = STACKS_SIGNAL
    signal.signal(number, lambda _number, _frame: None)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    faulthandler.register(number, file=fd, all_threads=True, chain=True)


def set_title(title: str) -> None:
    """Show `title` in `ps` and `top`, as far as there is room. Written over the arguments, in this process's memory."""
    name = title.encode()
    try:
        with open("/proc/self/comm", "wb", buffering=0) as comm:
            comm.write(name[:15])
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        begin, end = int(fields[45]), int(fields[46])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(begin)
            memory.write(name[: end - begin - 1].ljust(end - begin, b"\0"))
    except (OSError, ValueError, IndexError):  # a kernel that does not let us: it is only a title
        return


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed, or none: there is nobody to tell
            continue
