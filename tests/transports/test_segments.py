"""Shared memory between a lender and a borrower: what arrives, what is reused, what is given back, and when not."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import concurry
from concurry.errors import ProtocolError
from concurry.transports.segments import Borrower, Lender

MIB = 1 << 20


class Both:
    """A lender and a borrower in one process, and a channel of plain calls between them."""

    def __init__(self, *, copies: bool = False, **keep: int) -> None:
        self.lose_descriptors = False
        self.freed: deque[int] = deque()  # told by finalizers, not passed on yet
        self.known: dict[int, int] = {}  # serial -> a descriptor of ours
        self.retired: list[int] = []
        self.borrower = Borrower(self.freed.append, copies=copies)
        self.lender = Lender(self._announce, self._retire, **keep)

    def _announce(self, serial: int, fd: int, size: int) -> None:
        self.known[serial] = os.dup(fd)
        self.borrower.announced(serial, -1 if self.lose_descriptors else os.dup(fd), size)

    def _retire(self, serial: int) -> None:
        self.retired.append(serial)
        self.borrower.retired(serial)

    def send(self, *buffers: Any) -> list[memoryview]:
        return self.borrower.get(self.lender.put([memoryview(each) for each in buffers]))

    def pass_on(self) -> int:
        """Bring what was freed to the lender. Returns how many loans."""
        count = 0
        while True:
            try:
                serial = self.freed.popleft()
            except IndexError:
                return count
            self.lender.freed(serial)
            count += 1

    def allocated(self, serial: int) -> int:
        """The bytes that the kernel holds for a segment."""
        return os.fstat(self.known[serial]).st_blocks * 512

    def close(self) -> None:
        self.lender.close()
        self.borrower.close()
        while self.known:
            os.close(self.known.popitem()[1])


def mapped() -> int:
    """How many segments are mapped in this process."""
    gc.collect()
    return sum("/memfd:concurry" in line for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.fixture(autouse=True)
def all_unmapped() -> Iterator[None]:
    before = mapped()
    yield
    assert mapped() == before


@pytest.fixture
def both() -> Iterator[Both]:
    made = Both()
    yield made
    made.close()


# -- what arrives -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 300_000) | st.sampled_from([0, 1, 63, 64, 65, 4096, MIB, 2 * MIB + 1]), max_size=6))
def test_buffers_arrive_as_they_were(sizes: list[int]) -> None:
    both = Both()
    try:
        for _ in range(2):  # into new memory, and into memory that was used
            sent = [os.urandom(size) for size in sizes]
            serial, spans = ref = both.lender.put([memoryview(each) for each in sent])
            views = both.borrower.get(ref)
            assert serial == 1
            assert [bytes(view) for view in views] == sent
            assert all(view.readonly and view.format == "B" and view.ndim == 1 for view in views)
            assert all(offset % 64 == 0 for offset, _ in spans)
            del views
            assert both.pass_on() == 1
    finally:
        both.close()


def test_sources_of_every_shape(both: Both) -> None:
    array: Any = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    others = [bytearray(b"abc"), np.zeros((0, 3)), memoryview(b"0123")[1:3], np.asfortranarray(array).T]
    for source in (array, *others):
        view: memoryview = memoryview(source)
        assert bytes(both.send(view)[0]) == view.tobytes()
        both.pass_on()
    for gaps in (memoryview(array[:, ::2]), memoryview(bytes(100))[::2]):
        with pytest.raises(BufferError):
            both.lender.put([gaps])
    assert both.lender.stats[:2] == (0, 64 << 10)


def test_arrays_arrive_read_only_and_uncopied(both: Both) -> None:
    array = np.arange(MIB, dtype=np.float64)
    beside: list[pickle.PickleBuffer] = []
    stream = pickle.dumps({"a": array, "b": array[:10]}, protocol=5, buffer_callback=beside.append)
    views = both.send(*[each.raw() for each in beside])
    got = pickle.loads(stream, buffers=views)
    assert np.array_equal(got["a"], array)
    assert np.array_equal(got["b"], array[:10])
    assert np.shares_memory(got["a"], np.frombuffer(views[0]))
    assert not got["a"].flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        got["a"].flags.writeable = True
    del views
    held = got.pop("b")
    got.clear()
    assert not both.freed
    del held
    assert list(both.freed) == [1]


def test_copies_are_writable_and_end_the_loan_at_once() -> None:
    both = Both(copies=True, keep_each=4 * MIB)
    for size in (0, 10, 2 * MIB, 20 * MIB):
        sent = os.urandom(size)
        (view,) = both.send(sent)
        assert both.pass_on() == 1
        assert isinstance(view.obj, bytearray)
        assert bytes(view) == sent
        if size:
            view[0] = view[0] ^ 1
    both.close()


# -- when a loan ends -------------------------------------------------------------------------------------------------


def test_freed_once_after_the_last_of_many_views(both: Both) -> None:
    views = both.send(*[bytes(1000)] * 50)
    parts = [view[i : i + 10] for view in views for i in range(0, 1000, 100)]
    arrays = [np.frombuffer(view, np.uint8) for view in views]
    cycle: list[Any] = [parts.pop()]
    cycle.append(cycle)
    for each in (views, parts, arrays):
        each.clear()
    gc.collect()
    assert not both.freed
    del cycle, each
    gc.collect()
    assert list(both.freed) == [1]


def test_freed_once_where_many_threads_let_go(both: Both) -> None:
    shared = [[view] for view in both.send(*[bytes(100)] * 64)]
    ready = threading.Barrier(8)

    def let_go(mine: list[list[memoryview]]) -> None:
        ready.wait()
        for each in mine:
            each.clear()

    threads = [threading.Thread(target=let_go, args=(shared[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(both.freed) == [1]


def test_views_outlive_close() -> None:
    both = Both()
    (view,) = both.send(b"abc" * MIB)
    both.close()
    both.close()
    assert mapped() == 1
    assert bytes(view[-3:]) == b"abc"
    del view
    assert not both.freed  # nobody is there to be told
    assert mapped() == 0
    with pytest.raises(BrokenPipeError):
        both.lender.put([memoryview(b"x")])
    with pytest.raises(BrokenPipeError):
        both.borrower.get([1, [[0, 3]]])


def test_an_unknown_loan_is_counted(both: Both) -> None:
    view = both.send(b"x")
    both.lender.freed(7)
    both.lender.freed(-1)
    del view
    assert both.pass_on() == 1
    both.lender.freed(1)
    assert both.lender.stats == (0, 64 << 10, 3)


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_segments_are_used_again(both: Both) -> None:
    for size in (MIB, MIB - 5000, MIB // 2 + 1, MIB):
        del both.send(bytes(size))[0]
        both.pass_on()
    assert list(both.known) == [1]
    first = both.lender.put([memoryview(bytes(MIB))])
    second = both.lender.put([memoryview(bytes(MIB))])  # the first is in use
    third = both.lender.put([memoryview(bytes(100))])  # and never one that is much too large
    assert [first[0], second[0], third[0]] == [1, 2, 3]
    assert both.lender.stats.kept == 0


def test_what_is_too_large_is_for_once() -> None:
    both = Both(keep_each=MIB)
    view = both.send(bytes(MIB + 1))
    assert both.lender.stats.lent >= MIB + 1
    assert mapped() == 1  # the borrower's: the lender writes it once, to the descriptor
    del view
    both.pass_on()
    assert both.retired == [1]
    assert both.lender.stats[:2] == (0, 0)
    assert mapped() == 0
    both.close()


def test_what_was_not_used_for_longest_is_retired() -> None:
    both = Both(keep_each=MIB, keep_all=3 * MIB)
    views = [both.send(bytes(MIB)) for _ in range(5)]
    views.clear()
    both.freed = deque(sorted(both.freed))
    both.pass_on()
    assert both.retired == [1, 2]
    assert both.lender.stats[:2] == (0, 3 * MIB)
    with pytest.raises(ProtocolError, match="retired"):
        both.borrower.get([1, [[0, 1]]])
    both.close()


def test_not_without_bound(both: Both) -> None:
    held = [both.send(b"x") for _ in range(1024)]
    with pytest.raises(OSError, match="still looked at"):
        both.lender.put([memoryview(b"x")])
    held.pop()
    both.pass_on()
    held.append(both.send(b"y"))
    assert bytes(held[-1][0]) == b"y"


# -- a segment for once is drained ------------------------------------------------------------------------------------


def drained(view: memoryview) -> bytes:
    owner: Any = view.obj
    content: bytes = owner.drain(view)
    return content


def test_drain_gives_the_memory_back_on_the_way() -> None:
    both = Both(keep_each=MIB)
    sent = os.urandom(40 * MIB + 123)
    (view,) = both.send(sent)
    assert both.allocated(1) >= 40 * MIB
    assert drained(view) == sent
    assert both.allocated(1) <= mmap.PAGESIZE
    assert not both.freed
    del view
    assert list(both.freed) == [1]
    both.close()


def test_drain_leaves_alone_what_others_may_read() -> None:
    both = Both(keep_each=4 * MIB)
    for sent, keep in (([os.urandom(2 * MIB)], True), ([os.urandom(3 * MIB)] * 2, False)):
        serial = len(both.known) + 1
        views = both.send(*sent)
        for i, content in enumerate(sent):
            assert drained(views[i]) == content
            assert drained(views[i][10:20]) == content[10:20]
            assert bytes(views[i]) == content
        assert both.allocated(serial) >= 2 * MIB
        views.clear()
        both.pass_on()
        assert (serial in both.retired) is not keep
    (view,) = both.send(bytes(5 * MIB))
    assert drained(view[: 2 * MIB]) == bytes(2 * MIB)  # a part: the rest may be wanted
    assert both.allocated(3) >= 5 * MIB
    del view
    both.close()


# -- what a peer may do, and what the kernel forbids ------------------------------------------------------------------


@pytest.mark.parametrize(
    "ref",
    [None, [], [1], [1, None], [1, [[0]]], [1, [[0, "1"]]], [1, [[-1, 1]]], [1, [[0, -1]]], [1, [[True, 1]]],
     ["1", [[0, 1]]], [1, [[0, 65537]]], [1, [[65537, 0]]], [1, [[0, 1], [2**63, 1]]]],
)  # fmt: skip
def test_references_to_what_is_not_there(both: Both, ref: Any) -> None:
    both.lender.put([memoryview(b"x")])
    with pytest.raises(ProtocolError):
        both.borrower.get(ref)


def test_a_loan_that_cannot_be_had_is_reported(both: Both) -> None:
    both.lender.put([memoryview(b"x")])
    with pytest.raises(ProtocolError, match="outside"):
        both.borrower.get([1, [[0, MIB]]])
    assert list(both.freed) == [1]


def test_a_segment_whose_descriptor_was_lost_is_not_lent_again(both: Both) -> None:
    """Its loan is over as soon as `get` fails; another `put` may come before anything else is said."""
    both.lose_descriptors = True
    with pytest.raises(OSError, match="no descriptor"):
        both.send(b"x" * MIB)
    both.lose_descriptors = False
    assert [*both.freed] == [~1, 1], "that it is of no use is said first"
    both.lender.freed(both.freed.popleft())
    both.lender.freed(both.freed.popleft())
    assert both.retired == [1]
    assert bytes(both.send(b"x" * MIB)[0]) == b"x" * MIB


def test_announcements_that_are_wrong(both: Both) -> None:
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 100)
    read, write = os.pipe()
    os.close(write)
    both.lender.put([memoryview(b"x")])
    other_size = os.dup(both.known[1])
    for serial, fd in ((11, unsealed), (12, read), (13, other_size)):
        both.borrower.announced(serial, fd, 100)
        with pytest.raises(ProtocolError):
            both.borrower.get([serial, [[0, 1]]])
    both.borrower.announced(14, -1, 100)  # lost on the way
    with pytest.raises(OSError, match="no descriptor") as raised:
        both.borrower.get([14, [[0, 1]]])
    assert raised.value.errno == errno.EMFILE
    with pytest.raises(ProtocolError, match="twice"):
        both.borrower.announced(1, os.dup(both.known[1]), 64 << 10)


def test_neither_side_can_be_hurt_by_the_other() -> None:
    both = Both(keep_each=MIB)
    views = both.send(b"x"), both.send(bytes(2 * MIB))
    for fd in both.known.values():
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)  # SIGBUS in whoever reads
    with pytest.raises(PermissionError):
        os.pwrite(both.known[1], b"y", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(both.known[1], 100)
    del views
    both.close()


def test_get_waits_for_the_announcement(both: Both) -> None:
    late: list[tuple[int, int, int]] = []
    lender = Lender(lambda serial, fd, size: late.append((serial, os.dup(fd), size)), both.borrower.retired)
    ref = lender.put([memoryview(b"late")])
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(bytes(both.borrower.get(ref)[0]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.borrower.announced(*late[0])
    for thread in threads:
        thread.join()
    assert got == [b"late"] * 2
    lender.close()


def test_close_wakes_who_waits_for_an_announcement(both: Both) -> None:
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            both.borrower.get([5, [[0, 1]]])
        except BrokenPipeError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    both.borrower.close()
    for thread in threads:
        thread.join()
    assert len(errors) == 3
    both.borrower.announced(5, os.memfd_create("late"), 1)  # its descriptor is closed all the same


def test_an_announcement_that_fails_leaves_nothing() -> None:
    def fail(serial: int, fd: int, size: int) -> None:
        raise ConnectionResetError("gone")

    lender = Lender(fail, lambda serial: None)
    with pytest.raises(ConnectionResetError):
        lender.put([memoryview(b"x")])
    assert lender.stats == (0, 0, 0)
    assert mapped() == 0


def test_threads_put_and_free_at_once() -> None:
    both = Both(keep_each=3 * MIB, keep_all=6 * MIB)
    sizes = [1, 5000, 70_000, 200_000, MIB + 1, 3 * MIB, 4 * MIB]
    wrong: list[object] = []

    def work(number: int) -> None:
        held: list[tuple[memoryview, int, int]] = []
        for turn in range(60):
            size = sizes[(turn * 7 + number * 3) % len(sizes)]
            byte = (number * 61 + turn) % 256
            held.append((both.send(bytes([byte]) * size)[0], byte, size))
            if len(held) > 2:
                view, byte, size = held.pop(0)
                if view != bytes([byte]) * size:
                    wrong.append((number, turn))
                del view
                both.pass_on()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    both.pass_on()
    assert not wrong
    assert not both.freed
    lent, kept, strangers = both.lender.stats
    assert (lent, strangers) == (0, 0)
    assert 0 < kept <= 6 * MIB
    both.close()


def test_close_while_others_put() -> None:
    for _ in range(10):
        both = Both()
        begun = threading.Barrier(3)

        def work(both: Both = both, begun: threading.Barrier = begun) -> None:
            begun.wait()
            while True:
                try:
                    both.send(bytes(2 * MIB))
                except BrokenPipeError:
                    return
                both.pass_on()

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        begun.wait()
        both.lender.close()
        for thread in threads:
            thread.join()
        assert both.lender.stats[:2] == (0, 0)
        both.close()


# -- other processes --------------------------------------------------------------------------------------------------

PRELUDE = """
import os, resource, socket, sys
from pathlib import Path
from concurry.transports.segments import Borrower, Lender

def fds(): return len(os.listdir("/proc/self/fd"))
def mapped(): return Path("/proc/self/maps").read_text().count("/memfd:concurry")
"""


def start(script: str, **more: Any) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(concurry.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    )


def run(script: str) -> None:
    with start(script) as child:
        output, _ = child.communicate()
    assert (child.returncode, output) == (0, "")


CHILD = """
line = socket.socket(fileno=LINE)
def freed(serial): line.send(b"F%d" % serial)
borrower = Borrower(freed)
held = []
while True:
    packet, fds, _, _ = socket.recv_fds(line, 1000, 1)
    kind, *numbers = packet.decode().split()
    numbers = list(map(int, numbers))
    if kind == "announce":
        borrower.announced(numbers[0], fds[0], numbers[1])
    elif kind == "retire":
        borrower.retired(numbers[0])
    elif kind == "get":
        held += borrower.get([numbers[0], [[numbers[1], numbers[2]]]])
        line.send(b"G%d" % sum(held[-1]))
    elif kind == "drop":
        held.clear()
    else:
        break
"""


class Apart:
    """A lender here, and a borrower in a child that answers over a socket."""

    def __init__(self, **keep: int) -> None:
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.announced: list[int] = []
        with theirs:
            self.child = start(CHILD.replace("LINE", str(theirs.fileno())), pass_fds=[theirs.fileno()])
        self.lender = Lender(self._announce, lambda serial: self.say(f"retire {serial}"), **keep)

    def _announce(self, serial: int, fd: int, size: int) -> None:
        self.announced.append(serial)
        socket.send_fds(self.line, [f"announce {serial} {size}".encode()], [fd])

    def say(self, what: str) -> None:
        self.line.send(what.encode())

    def lend(self, content: bytes) -> int:
        serial, [[offset, size]] = self.lender.put([memoryview(content)])
        self.say(f"get {serial} {offset} {size}")
        assert self.line.recv(100) == b"G%d" % sum(content)
        return int(serial)

    def drop(self) -> None:
        """The child lets go of all it holds, which is one loan."""
        self.say("drop")
        answer = self.line.recv(100)
        assert answer[:1] == b"F"
        self.lender.freed(int(answer[1:]))

    def end(self) -> None:
        self.line.close()
        with self.child:  # waits, and closes the pipe
            self.child.kill()


def test_in_a_child() -> None:
    apart = Apart(keep_each=2 * MIB)
    try:
        for content in (os.urandom(MIB), os.urandom(MIB - 99), os.urandom(3 * MIB), os.urandom(MIB)):
            apart.lend(content)
            maps = Path(f"/proc/{apart.child.pid}/maps").read_text()
            assert {line.split()[1] for line in maps.splitlines() if "/memfd:" in line} <= (
                {"r--s"} if len(content) <= 2 * MIB else {"r--s", "rw-s"}  # what is used again, nobody there can write
            )
            apart.drop()
        assert apart.announced == [1, 2]
        apart.say("end")
        assert apart.child.communicate()[0] == ""
        assert apart.child.returncode == 0
        apart.lender.close()
    finally:
        apart.end()


@pytest.mark.faults
@pytest.mark.parametrize("size", [MIB, 3 * MIB])
def test_a_child_killed_while_it_holds_a_loan(size: int) -> None:
    apart = Apart(keep_each=2 * MIB)
    try:
        serial = apart.lend(bytes(size))
        held = apart.lender._lent[serial]
        apart.child.send_signal(signal.SIGKILL)
        apart.child.wait()
        assert apart.lender.stats.lent == held.size
        del held
        apart.lender.close()
        assert apart.lender.stats == (0, 0, 0)
        assert mapped() == 0  # nor is a descriptor open, or the check of every test fails: nobody holds the memory
    finally:
        apart.end()


@pytest.mark.faults
def test_no_descriptor_left() -> None:
    run("""
lender = Lender(lambda serial, fd, size: None, lambda serial: None)
lender.put([memoryview(bytes(100))])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
before = fds(), mapped(), lender.stats
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
try:
    lender.put([memoryview(bytes(100))])
except OSError as error:
    assert error.errno == 24, error
else:
    raise AssertionError("no error")
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
assert before == (fds(), mapped(), lender.stats), before
lender.put([memoryview(bytes(100))])
""")


@pytest.mark.faults
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_FSIZE"])
def test_no_memory_left(limit: str) -> None:
    run(f"""
retired = []
lender = Lender(lambda serial, fd, size: None, retired.append)
content = bytes(64 << 20)
for _ in range(2):
    lender.freed(lender.put([memoryview(content[:100])])[0])
before, kept = fds(), mapped()
soft, hard = resource.getrlimit(resource.{limit})
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (20 << 20)
resource.setrlimit(resource.{limit}, (size if "{limit}" == "RLIMIT_AS" else 32 << 20, hard))
try:
    lender.put([memoryview(content)])
except (OSError, MemoryError):
    pass
else:
    raise AssertionError("no error")
assert (fds(), mapped(), kept) == (before, 0, 1)
assert lender.stats == (0, 0, 0) and retired == [1]  # what was kept may be what is missing
lender.put([memoryview(content[:100])])
resource.setrlimit(resource.{limit}, (soft, hard))
lender.put([memoryview(content)])
""")


@pytest.mark.faults
def test_a_borrower_without_room_says_so() -> None:
    run("""
freed, late = [], []
borrower = Borrower(freed.append)
lender = Lender(lambda serial, fd, size: late.append((serial, os.dup(fd), size)), borrower.retired, keep_each=1)
ref = lender.put([memoryview(bytes(64 << 20))])
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (20 << 20)
resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
borrower.announced(*late[0])
try:
    borrower.get(ref)
except OSError as error:
    assert error.errno == 12 and "67108864" in str(error), error
else:
    raise AssertionError("no error")
assert freed == [~1, 1]
""")


def test_views_held_at_exit() -> None:
    run("""
freed = []
borrower = Borrower(freed.append)
lender = Lender(lambda serial, fd, size: borrower.announced(serial, os.dup(fd), size), borrower.retired)
views = borrower.get(lender.put([memoryview(bytes(100)), memoryview(bytes(3 << 20))]))
views[0].obj.itself = views  # a cycle, too
sys.views = views
""")
