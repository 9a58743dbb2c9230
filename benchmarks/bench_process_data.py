"""Large data in process mode: how fast 64 MiB get to a child and back beside `ProcessPoolExecutor`, and how much memory
1 GiB takes on its way. A Ray actor belongs beside the first two as well; Ray is not installed here.

Whoever gets an array reads a number of every page of it: memory that is only mapped has not arrived.
"""

from __future__ import annotations

import pathlib
import select
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks._beside import pairs, row
from benchmarks.bench_process import pool_of_one
from benchmarks.bench_process_life import descendants, smaps
from concurry import Worker

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB, GIB = 1 << 20, 1 << 30


def made(kind: str, size: int) -> Any:
    return np.ones(size // 8) if kind == "array" else b"x" * size


def read(value: Any) -> float:
    """A number of every page."""
    data = np.frombuffer(value, dtype=np.uint8) if isinstance(value, bytes) else value.view(np.uint8)
    return float(data[::4096].sum(dtype=np.uint64))


def read_and_return(value: Any) -> Any:
    read(value)
    return value


class Data(Worker):
    def __init__(self, kind: str = "array", size: int = 0) -> None:
        self._own = made(kind, size)

    def read(self, value: Any) -> float:
        return read(value)

    def read_and_return(self, value: Any) -> Any:
        return read_and_return(value)

    def give(self) -> Any:
        return self._own


# -- how fast ---------------------------------------------------------------------------------------------------------


def ours(size: int, times: int, *, back: bool) -> float:
    with Data.options(mode="process").init() as worker:
        send = worker.read_and_return if back else worker.read
        return _mb_a_second(lambda array: send(array).result(), size, times)


def executors(size: int, times: int, *, back: bool) -> float:
    function = read_and_return if back else read
    with pool_of_one() as executor:
        return _mb_a_second(lambda array: executor.submit(function, array).result(), size, times)


def _mb_a_second(send: Any, size: int, times: int) -> float:
    """MB of the array per second, of which there and back counts once."""
    array = made("array", size)
    for _ in range(2):  # the first one imports, and makes memory that is used again
        send(array)
    begun = time.perf_counter()
    for _ in range(times):
        result = send(array)
        if not isinstance(result, float):
            read(result)
        del result
    return size * times / (time.perf_counter() - begun) / 1e6


# -- how much memory --------------------------------------------------------------------------------------------------


def move(kind: str, size: int, back: bool) -> None:
    """In a process of its own: be ready with what will be sent; send it when told to; keep it until told again."""
    with Data.options(mode="process").init(kind, size if back else 0) as worker:
        worker.read(made("array", 8)).result()
        own = None if back else made(kind, size)
        print("ready", flush=True)
        sys.stdin.readline()
        if back:
            kept = worker.give().result()
            read(kept)
        else:
            worker.read(own).result()
        print("done", flush=True)
        sys.stdin.readline()


def growth_gib(kind: str, size: int, *, back: bool) -> float:
    """How much more memory there is, at most, while it is on its way and after: over what stands ready to be sent."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from benchmarks import bench_process_data as it"
    program += f"; it.move({kind!r}, {size}, {back})"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        _wait_for(parent, b"ready")
        before = most = _memory(parent.pid)
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        over = False
        while not over:
            over = bool(select.select([parent.stdout], [], [], 0.002)[0])
            most = max(most, _memory(parent.pid))
        _wait_for(parent, b"done")
        parent.stdin.write(b"\n")
        parent.stdin.close()
        if parent.wait():
            raise subprocess.CalledProcessError(parent.returncode, program)
    return (most - before) / GIB


def _wait_for(parent: Any, word: bytes) -> None:
    line = parent.stdout.readline()
    if line.strip() != word:
        raise RuntimeError(f"the process that moves data says {line!r} where it should say {word!r}")


def _memory(pid: int) -> int:
    """Bytes of a process and all below it: what is shared counts once. Shared memory by the machine's own figure, for
    a segment that is being filled, or is on its way, is mapped by nobody."""
    own = 0
    for each in (pid, *descendants(pid)):
        sizes = smaps(each)
        own += sizes.get("Pss", 0) - sizes.get("Pss_Shmem", 0)
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Shmem:"):
            return own + int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo does not say how much shared memory there is")


def rows(quick: bool) -> list[dict[str, Any]]:
    size, times, repeat, large = (8 * MIB, 2, 2, 64 * MIB) if quick else (64 * MIB, 6, 5, GIB)
    found = [
        row(
            f"{size // MIB} MiB array {name} / ProcessPoolExecutor(1)",
            pairs(
                lambda back=back: ours(size, times, back=back),  # type: ignore[misc]
                lambda back=back: executors(size, times, back=back),  # type: ignore[misc]
                repeat=repeat,
                warm_up=False,
            ),
            unit="MB/s",
            better="higher",
            at_least=6.0,
            aim=15.0,
        )
        for name, back in (("as argument", False), ("there and back", True))
    ]
    for kind in ("array", "bytes"):
        for name, back in (("as argument", False), ("as result", True)):
            found.append(
                row(
                    f"{large // MIB} MiB of {kind} {name}: memory over the sender's own",
                    growth_gib(kind, large, back=back),
                    unit="GiB",
                    better="lower",
                    at_least=large / GIB + 0.3,
                )
            )
    return found
