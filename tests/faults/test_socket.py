"""S1 - S7, S9: what a stranger at our sockets can do. (S8, the codec under fuzz, is in tests/fuzz; S10 is F21.)

A worker's own sockets can be connected to for an instant only, so the strangers come to a `gate` of their own kind.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from concurry import WorkerDiedError, WorkerInitError
from concurry.transports import hub
from concurry.transports.gate import Gate

pytestmark = pytest.mark.faults
long = pytest.mark.long
PATIENCE_S = 20.0


class Open:
    """A gate that expects `pid`."""

    def __init__(self, at: hub.Hub, pid: int) -> None:
        self.at = at
        self.gate = Gate(at, 10**9 + id(self) % 10**6)
        self.on_hub(self.gate.open, pid)
        self.user, self.token = self.gate._user.encode(), self.gate._token
        self.path = self.gate._paths[1]

    def on_hub(self, fn: Callable[..., object], *args: Any) -> None:
        done = threading.Event()
        self.at.call(fn, *args)
        self.at.call(done.set)
        assert done.wait(PATIENCE_S)

    def refused(self) -> int:
        return self.at.door.refused

    def came(self, timeout: float = 0.0) -> list[bytes]:
        """What was delivered."""
        return self.gate.pull.recv_multipart() if self.gate.pull.poll(timeout * 1000) else []

    def close(self) -> None:
        self.on_hub(self.gate.close)


@pytest.fixture
def gate(nursery: None) -> Iterator[Callable[[int], Open]]:
    """`gate(pid)` opens a gate for that process."""
    at = hub.retain()
    made: list[Open] = []

    def make(pid: int) -> Open:
        made.append(Open(at, pid))
        return made[-1]

    yield make
    for each in made:
        each.close()
    hub.release(at)


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


def knock(context: zmq.Context[Any], path: str, content: bytes, **options: Any) -> zmq.Socket[bytes]:
    """A peer that connects and sends."""
    peer: zmq.Socket[bytes] = context.socket(zmq.PUSH)
    peer.linger = 0
    for name, value in options.items():
        setattr(peer, name, value)
    peer.connect(f"ipc://{path}")
    with contextlib.suppress(zmq.Again):  # it has not been let in yet, or was thrown out again
        peer.send(content, zmq.NOBLOCK)
    return peer


# -- S1 ----------------------------------------------------------------------------------------------------------------


def test_the_directory_is_private(script: Any) -> None:  # S1
    run = script(
        """
import os, stat
from concurry import Worker
from concurry.transports import hub
class Works(Worker):
    def echo(self, value): return value
os.makedirs("x" * 100)
for mask in (0o000, 0o022):
    for folder in (None, os.path.abspath("x" * 100)):
        os.umask(mask)
        if folder:
            os.environ["TMPDIR"] = folder
        import tempfile; tempfile.tempdir = None
        with Works.options(mode="process").init() as worker:
            assert worker.echo(1).result(20) == 1
            at = hub._hub.folder
            assert stat.S_IMODE(os.stat(at).st_mode) == 0o700
            assert len(os.path.join(at, "1000000000c")) <= 107
            assert os.listdir(at) == [], "no path is left"
        assert not os.path.exists(at)
        os.environ.pop("TMPDIR", None)
print("private")
"""
    )
    run.finish()
    assert (run.status, run.out.strip()) == (0, "private"), run.err


def test_no_tcp_and_no_abstract_names(process: Any) -> None:  # S1
    worker = process(max_workers=2)
    assert worker.echo(1).result(20) == 1
    me = psutil.Process()
    ours = [me, *me.children(recursive=True)]
    assert [connection for each in ours for connection in each.net_connections("inet")] == []
    inodes = set()
    for each in ours:
        for link in Path(f"/proc/{each.pid}/fd").iterdir():
            try:
                target = os.readlink(link)
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    assert [line for line in lines if line[6] in inodes and len(line) > 7 and line[7].startswith("@")] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="it becomes another user")
def test_another_user_is_refused(gate: Any) -> None:  # S1, S2
    opened = gate(os.getpid())
    code = f"""
import os, socket
os.setgid(65534); os.setuid(65534)
try:
    socket.socket(socket.AF_UNIX).connect({opened.path!r})
except PermissionError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "refused", done.stderr


# -- S2 ----------------------------------------------------------------------------------------------------------------


def test_strangers(gate: Any, context: Any) -> None:  # S2
    """Who has the right token and is the right process comes in; of all others nothing is delivered."""
    opened = gate(os.getpid())
    before = opened.refused()
    strangers = []
    for n in range(180):
        options: dict[str, Any] = [
            {},  # no mechanism at all
            {"plain_username": opened.user, "plain_password": b"wrong"},
            {"plain_username": opened.user, "plain_password": b"0" * 64},
            {"plain_username": opened.user, "plain_password": opened.token[:-1]},
            {"plain_username": b"x", "plain_password": opened.token[::-1]},
        ][n % 5]
        strangers.append(knock(context, opened.path, b"rubbish", **options))
    raw = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for each in raw:
        each.connect(opened.path)
        each.send(os.urandom(500))
    end = time.monotonic() + PATIENCE_S
    while opened.refused() < before + 144 and time.monotonic() < end:  # those without a mechanism do not even knock
        assert opened.came(0.02) == []
    assert opened.refused() >= before + 144
    with pytest.raises(AssertionError):
        handshake(opened, b"")
    assert opened.came() == []
    with closing(knock(context, opened.path, b"", plain_username=opened.user, plain_password=opened.token)) as friend:
        friend.send(b"a friend")
        assert opened.came(PATIENCE_S) in ([b"a friend"], [b""])
    for stranger in strangers:
        stranger.close()
    for each in raw:
        each.close()


def test_the_right_token_from_another_process(gate: Any, context: Any) -> None:  # S2
    opened = gate(os.getppid())
    before = opened.refused()
    with closing(knock(context, opened.path, b"x", plain_username=opened.user, plain_password=opened.token)):
        end = time.monotonic() + PATIENCE_S
        while opened.refused() == before and time.monotonic() < end:
            assert opened.came(0.02) == []
    assert opened.refused() > before


# -- S3 ----------------------------------------------------------------------------------------------------------------


def test_the_token_is_nowhere_to_be_read(process: Any, pids: Any) -> None:  # S3
    worker = process(max_restarts=None)
    worker.echo().result(20)

    def token() -> bytes:
        found: bytes = worker.__dict__["_pool"].members[0].channel._gate._token
        return found

    first = token()
    assert len(first) == 64, "256 bits, in hex"
    me = psutil.Process()
    for each in [me, *me.children(recursive=True)]:
        for name in ("cmdline", "environ"):
            assert first not in Path(f"/proc/{each.pid}/{name}").read_bytes()
    at = hub._hub
    assert at is not None
    for path in Path(at.folder).rglob("*"):
        assert first.decode() not in path.name
    os.kill(pids(worker)[0], signal.SIGKILL)
    assert worker.echo(1).result(20) == 1
    assert token() != first, "a new one for each incarnation"


# -- S4 ----------------------------------------------------------------------------------------------------------------


def test_a_rival_that_binds_the_path(process: Any, in_thread: Any, tmp_path: Path) -> None:  # S4
    at = hub._hub
    assert at is not None
    helper = at.nursery.pid
    os.kill(helper, signal.SIGSTOP)  # so that the sockets stand, and there is no child yet
    try:
        start = in_thread(process)
        end = time.monotonic() + PATIENCE_S
        while len(names := os.listdir(at.folder)) < 2 and time.monotonic() < end:
            os.sched_yield()
        path = os.path.join(at.folder, next(name for name in names if name.endswith("c")))
        code = f"""
import os, socket, sys
os.unlink({path!r})
server = socket.socket(socket.AF_UNIX)
server.bind({path!r}); server.listen()
print("listens", flush=True)
peer, _ = server.accept()
got = b""
while piece := peer.recv(10000):
    got += piece
open({str(tmp_path / "got")!r}, "wb").write(got)
"""
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as rival:
            assert rival.stdout is not None
            assert rival.stdout.readline() == b"listens\n"
            os.kill(helper, signal.SIGCONT)
            with pytest.raises(WorkerDiedError, match=f"process {rival.pid} of user") as caught:
                start()
            assert isinstance(caught.value.__cause__, WorkerInitError)
            rival.wait(PATIENCE_S)
    finally:
        os.kill(helper, signal.SIGCONT)
    got = (tmp_path / "got").read_bytes()
    assert b"HELLO" not in got, "not even the token was sent"
    worker = process()
    assert worker.echo(1).result(20) == 1
    assert os.listdir(at.folder) == []


# -- S5 ----------------------------------------------------------------------------------------------------------------


def handshake(opened: Open, token: bytes | None = None) -> socket.socket:
    """A raw ZMTP 3.0 connection, authenticated with PLAIN."""
    peer = socket.socket(socket.AF_UNIX)
    try:
        return _handshake(opened, peer, opened.token if token is None else token)
    except BaseException:
        peer.close()
        raise


def _handshake(opened: Open, peer: socket.socket, token: bytes) -> socket.socket:
    peer.settimeout(PATIENCE_S)
    peer.connect(opened.path)
    peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"PLAIN".ljust(20, b"\0") + bytes(32))
    take(peer, 64)
    hello = b"\x05HELLO" + bytes([len(opened.user)]) + opened.user + bytes([len(token)]) + token
    peer.sendall(b"\x04" + bytes([len(hello)]) + hello)
    size = take(peer, 2)[1]
    assert take(peer, size).startswith(b"\x07WELCOME")
    initiate = b"\x08INITIATE" + b"\x0bSocket-Type" + struct.pack(">I", 4) + b"PUSH"
    peer.sendall(b"\x04" + bytes([len(initiate)]) + initiate)
    size = take(peer, 2)[1]
    assert take(peer, size).startswith(b"\x05READY")
    return peer


def take(peer: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = peer.recv(count - len(found))
        assert piece, "cut off"
        found += piece
    return found


@pytest.mark.parametrize("size", [2 << 30, 1 << 40, (1 << 63) - 1, 1 << 63])
@pytest.mark.parametrize("authenticated", [False, True])
def test_frames_that_are_announced_too_large(gate: Any, size: int, authenticated: bool) -> None:  # S5
    opened = gate(os.getpid())
    memory = psutil.Process().memory_info
    before = memory().rss
    if authenticated:
        peer = handshake(opened)
        peer.sendall(b"\x00\x02ok")
        assert opened.came(PATIENCE_S) == [b"ok"]
    else:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(PATIENCE_S)
        peer.connect(opened.path)
        peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"PLAIN".ljust(20, b"\0") + bytes(32))
        take(peer, 64)
    with peer:
        peer.sendall(b"\x02" + struct.pack(">Q", size) + b"x" * 1000)
        with suppress(ConnectionResetError):
            assert peer.recv(100) == b"", "disconnected"
    assert memory().rss < before + (50 << 20)
    assert opened.came() == []


# -- S6, S7 ------------------------------------------------------------------------------------------------------------


class Touches:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_what_strangers_send_is_not_unpickled(gate: Any, context: Any, tmp_path: Path) -> None:  # S6
    path = str(tmp_path / "touched")
    opened = gate(os.getpid())
    content = pickle.dumps(Touches(path))
    forged: list[dict[str, Any]] = [{}, {"plain_username": b"x", "plain_password": b"x"}]
    peers = [knock(context, opened.path, content, **options) for options in forged]
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(opened.path)
        raw.sendall(content)
        raw.settimeout(PATIENCE_S)
        with suppress(ConnectionResetError):
            while raw.recv(1000):
                continue
    opened.came(0.1)
    for peer in peers:
        peer.close()
    assert not os.path.exists(path)


@pytest.mark.parametrize("count", [1000])
def test_replayed_and_forged_frames_from_the_child_itself(process: Any, tmp_path: Path, count: int) -> None:  # S6, S7
    """Over an authenticated socket: what belongs to no call under way is dropped and counted, and not unpickled."""
    path = str(tmp_path / "touched")
    forged = pickle.dumps(Touches(path))

    def sends(count: int, forged: bytes) -> int:
        import gc

        import msgpack

        from concurry.transports import parcel

        wire = next(each for each in gc.get_objects() if type(each).__name__ == "Wire")
        header = msgpack.packb([parcel.REPLIES, 0, None, None, None])
        frames = [header + msgpack.packb([1, 0, 0, "replayed"])] * count  # number 1 was replied to long ago
        frames += [header + msgpack.packb([number, 0, 1, forged]) for number in (1, 10**9, -1, 2**60)]
        frames += [header + msgpack.packb([number, 1, 1, forged]) for number in (1, 10**9)]
        frames += [
            msgpack.packb([kind, 0, None, None, None]) + msgpack.packb([1, 0, 1, forged]) for kind in (0, 1, 2, 9, 32)
        ]
        frames += [
            b"",
            b"\xc1",
            b"\x93",
            forged,
            msgpack.packb("text"),
            header + b"\xdd\xff\xff\xff\xff",
            os.urandom(200),
        ]
        with wire._out_lock:
            for frame in frames:
                wire._replies.send(frame)
        return len(frames)

    worker = process()
    first = worker.echo("mine")
    assert first.result(20) == "mine"
    replies = worker.__dict__["_pool"].members[0].channel.replies
    before = replies.dropped
    sent = worker.call(sends, count, forged).result(20)
    assert [worker.echo(n).result(20) for n in range(100)] == list(range(100))
    assert first.result(20) == "mine"
    assert replies.dropped - before == sent
    assert not os.path.exists(path)


# -- S9 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=long)])
def test_half_open_and_rubbish_connections(process: Any, gate: Any, count: int) -> None:  # S9
    worker, opened = process(), gate(os.getpid())
    memory_fds = psutil.Process().num_fds

    def p99() -> float:
        took = []
        for n in range(400):
            began = time.perf_counter()
            assert worker.echo(n).result(20) == n
            took.append(time.perf_counter() - began)
        return sorted(took)[int(0.99 * len(took))]

    p99()
    quiet, before = p99(), memory_fds()
    peers = []
    for n in range(count):
        peer = socket.socket(socket.AF_UNIX)
        peer.setblocking(False)
        peers.append(peer)
        with suppress(BrokenPipeError, ConnectionResetError):
            while True:
                try:
                    peer.connect(opened.path)
                    break
                except BlockingIOError:  # as many as may wait at the door do
                    os.sched_yield()
            if n % 2:
                peer.send(os.urandom(200))
            elif n % 4:
                peer.send(b"\xff" + bytes(8) + b"\x7f\x03")
    loud = p99()
    assert opened.came() == []
    for peer in peers:
        peer.close()
    end = time.monotonic() + PATIENCE_S
    while memory_fds() > before and time.monotonic() < end:
        os.sched_yield()
    assert memory_fds() <= before, "descriptors come back"
    assert loud <= 2 * quiet + 0.01, (loud, quiet)
