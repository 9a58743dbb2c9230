"""The life of child processes: how soon they are ready, what they cost while idle, and what it means that one dies."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import select
import signal
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from benchmarks._beside import row
from benchmarks.bench_process import count, turns_in
from concurry import Worker

PROC = pathlib.Path("/proc")
ROOT = pathlib.Path(__file__).resolve().parent.parent
# A user's script, whose class the children get by value: they import nothing but what they need themselves.
COLD = """
import sys, time
sys.path.insert(0, {root!r})
from concurry import Worker
class Own(Worker):
    def pid(self):
        import os
        return os.getpid()
def start(many):
    begun = time.perf_counter()
    pool = Own.options(mode="process", max_workers=many).init()
    return pool, time.perf_counter() - begun
pool, cold = start(2)
more, further = start(8)
more.stop()
pids = set()
while len(pids) < 2:
    pids |= {{future.result() for future in [pool.pid() for _ in range(4)]}}
from benchmarks.bench_process_life import uss
print([cold, further / 8, max(map(uss, pids))])
pool.stop()
"""


class Mortal(Worker):
    def pid(self) -> int:
        time.sleep(0.002)  # so that none of them answers for the others
        return os.getpid()

    def count(self, turns: int) -> int:
        return count(turns)

    def hang(self) -> None:
        threading.Event().wait()


def pids_of(pool: Any, processes: int) -> set[int]:
    """The processes of a pool, once so many of them answer."""
    found: set[int] = set()
    while len(found) < processes:
        found = {future.result(timeout=30) for future in [pool.pid() for _ in range(2 * processes)]}
    return found


def cold_start() -> tuple[float, float, float]:
    """In a fresh interpreter: seconds until a first pool of 2 is ready, seconds for each process of a further pool of
    8, bytes that the larger child of the first has for itself."""
    program = COLD.format(root=str(ROOT))
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, timeout=60)
    cold, further, size = json.loads(done.stdout)
    return cold, further, size


def idle_wake_ups(processes: int, watch_s: float) -> float:
    """How often any thread of ours, here or in a child, was switched to while there was nothing to do."""
    with Mortal.options(mode="process", max_workers=processes).init() as pool:
        for future in [pool.count(1) for _ in range(1000)]:
            future.result()
        assert pids_of(pool, processes) <= set(descendants(os.getpid()))
        threading.Event().wait(0.5)  # what a reply leaves to be done
        before = _switches()
        threading.Event().wait(watch_s)
        return float(_switches() - before)


def _switches() -> int:
    here = os.getpid()
    return wake_ups(here, but=threading.get_native_id()) + sum(wake_ups(pid) for pid in descendants(here))


def death_noticed(repeat: int) -> float:
    """Milliseconds from the end of a process, as the kernel tells, to the end of the call that it ran."""
    with Mortal.options(mode="process").init():  # what a first one starts stays
        return statistics.median(_death_noticed() for _ in range(repeat))


def _death_noticed() -> float:
    with Mortal.options(mode="process").init() as worker:
        pid = worker.pid().result()
        call = worker.hang()
        while not call.running():
            time.sleep(0.001)
        pidfd = os.pidfd_open(pid)
        try:
            gone = select.poll()
            gone.register(pidfd, select.POLLIN)
            os.kill(pid, signal.SIGKILL)
            gone.poll()
            begun = time.perf_counter()
            error = call.exception(timeout=30)
            taken = time.perf_counter() - begun
        finally:
            os.close(pidfd)
        assert type(error).__name__ == "WorkerDiedError", error
        return taken * 1e3


def kill_in_the_middle(calls: int, processes: int) -> tuple[int, int, float]:
    """One of the processes is killed while they run calls of 0.2 ms. Returns (calls that never end, calls that failed,
    seconds until as many processes answer as before)."""
    turns = turns_in(0.0002)
    with Mortal.options(mode="process", max_workers=processes).init() as pool:
        victim = min(pids_of(pool, processes))
        futures = [pool.count(turns) for _ in range(calls)]
        futures[calls // 2].result(timeout=60)
        os.kill(victim, signal.SIGKILL)
        begun = time.perf_counter()
        others = pool.stats  # the figures, which wait for nothing
        while others()["restarts"] < 1 or any(worker["state"] != "ready" for worker in others()["workers"]):
            time.sleep(0.002)
        full_again = time.perf_counter() - begun
        until = time.monotonic() + 60
        unresolved = failed = 0
        for future in futures:
            try:
                failed += future.exception(timeout=max(0.0, until - time.monotonic())) is not None
            except TimeoutError:
                unresolved += 1
        assert victim not in pids_of(pool, processes)
    return unresolved, failed, full_again


# -- what /proc says -------------------------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs, now."""
    found: list[int] = []
    for task in _tasks(pid):
        for child in map(int, _text(task / "children").split()):
            found += [child, *descendants(child)]
    return found


def smaps(pid: int) -> dict[str, int]:
    """What the memory of a process consists of, in bytes, by the names of smaps_rollup; empty where it has ended."""
    lines = [line.split() for line in _text(PROC / str(pid) / "smaps_rollup").splitlines()[1:]]
    return {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines}


def uss(pid: int) -> int:
    """Bytes that would be free if the process ended, as `psutil` has it."""
    sizes = smaps(pid)
    return sizes["Private_Clean"] + sizes["Private_Dirty"]


def wake_ups(pid: int, but: int = 0) -> int:
    """Context switches of all the threads of a process; `but`: of a thread that does not count."""
    lines = [line for task in _tasks(pid) if task.name != str(but) for line in _text(task / "status").splitlines()]
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def _tasks(pid: int) -> list[pathlib.Path]:
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return ""


def rows(quick: bool) -> list[dict[str, Any]]:
    logging.getLogger("concurry").setLevel(logging.ERROR)  # that processes died is meant here
    calls, repeat = (1_000, 3) if quick else (10_000, 9)
    cold = [cold_start() for _ in range(repeat)]
    kills = [kill_in_the_middle(calls, 4) for _ in range(1 if quick else 5)]
    killed = f"{calls:,} calls on 4 processes, one killed in the middle"
    low: dict[str, Any] = {"better": "lower"}
    return [
        row(
            "first pool of 2 processes from a cold start, ready",
            statistics.median(it[0] for it in cold),
            unit="s",
            at_least=0.35,
            aim=0.2,
            **low,
        ),
        row(
            "each further process, 8 at once",
            statistics.median(it[1] for it in cold) * 1e3,
            unit="ms",
            at_least=25,
            aim=10,
            **low,
        ),
        row(
            "memory of an idle child (USS)",
            statistics.median(it[2] for it in cold) / 1e6,
            unit="MB",
            at_least=12,
            **low,
        ),
        row(
            "a death noticed: its call failed", death_noticed(5 if quick else 21), unit="ms", at_least=20, aim=5, **low
        ),
        row("idle pool of 8 processes: wake-ups", idle_wake_ups(8, 0.5 if quick else 2.0), unit="", at_least=0, **low),
        row(f"{killed}: calls that never end", float(max(it[0] for it in kills)), unit="", at_least=0, **low),
        row(f"{killed}: calls that fail", float(max(it[1] for it in kills)), unit="", at_least=1, **low),
        row(f"{killed}: pool full again", statistics.median(it[2] for it in kills), unit="s", at_least=1.0, **low),
    ]
