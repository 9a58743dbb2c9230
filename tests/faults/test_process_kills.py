"""F01 - F04, F06, F07, F09, F10, F25: workers that are killed."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from concurry import RestartIntensityError, WorkerDiedError, wait

pytestmark = pytest.mark.faults
long = pytest.mark.long
MB = 1 << 20


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def noted(path: Path) -> Counter[str]:
    """How often each line was written."""
    return Counter(path.read_text().split("\n")[:-1])


class Batch:
    """A thousand calls of two milliseconds on four workers, one of which is killed when the 300th has ended."""

    def __init__(self, process: Any, pids: Any, path: Path, **options: Any) -> None:
        self.worker = process(max_workers=4, **options)
        self.futures = [self.worker.note(str(path), n, seconds=0.002) for n in range(1000)]
        self.futures[300].result(20)
        kill(pids(self.worker)[1])
        self.killed_at = time.monotonic()
        wait(self.futures, timeout=20)
        self.took_s = time.monotonic() - self.killed_at
        assert all(future.done() for future in self.futures), "unresolved"
        self.errors = [error for future in self.futures if (error := future.exception(0)) is not None]
        self.ran = noted(path)


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=long)])
def test_one_of_four_is_killed(process: Any, pids: Any, tmp_path: Path, rounds: int) -> None:  # F01
    for n in range(rounds):
        batch = Batch(process, pids, tmp_path / str(n))
        assert len(batch.errors) <= 1
        assert {type(error) for error in batch.errors} <= {WorkerDiedError}
        assert set(batch.ran.values()) == {1}, "at most once"
        assert len(batch.ran) >= 1000 - len(batch.errors)
        again = [batch.worker.echo(n) for n in range(12)]
        assert [future.result(20) for future in again] == list(range(12))
        batch.worker.stop()


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=long)])
def test_one_of_four_is_killed_and_its_call_retried(
    process: Any, pids: Any, tmp_path: Path, rounds: int
) -> None:  # F02
    for n in range(rounds):
        batch = Batch(process, pids, tmp_path / str(n), num_retries=1, retry_wait=0.01)
        assert batch.errors == []
        assert len(batch.ran) == 1000
        assert sum(batch.ran.values()) <= 1001
        assert batch.took_s < 2 + 1, "0.4 s of it is work"
        batch.worker.stop()


def test_one_of_four_is_killed_and_not_started_again(process: Any, pids: Any, tmp_path: Path) -> None:  # F03
    batch = Batch(process, pids, tmp_path / "ran", max_restarts=0)
    assert len(batch.errors) <= 1
    assert {type(error) for error in batch.errors} <= {WorkerDiedError}
    assert set(batch.ran.values()) == {1}
    stats = batch.worker.get_pool_stats()
    assert [batch.worker.echo(n).result(20) for n in range(12)] == list(range(12)), stats


def test_the_only_one_is_killed_and_not_started_again(process: Any, pids: Any, pipe: Any) -> None:  # F03
    worker, began, go = process(max_restarts=0), pipe(), pipe()
    running = worker.hold(began.path, go.path)
    began.wait()
    queued = [worker.echo(n) for n in range(50)]
    kill(pids(worker)[0])
    killed = time.monotonic()
    error = running.exception(20)
    assert type(error) is WorkerDiedError
    assert error.maybe_executed
    for future in queued:
        assert isinstance(refused := future.exception(20), RestartIntensityError)
        assert not refused.maybe_executed
    assert time.monotonic() - killed < 1
    with pytest.raises(RestartIntensityError):
        worker.echo(1).result(20)


def test_what_a_death_says(process: Any, pipe: Any) -> None:
    """pid, signal, incarnation and method; and where a SIGKILL came from nobody here: that it may be the memory."""
    worker, began, go = process(), pipe(), pipe()
    running = worker.hold(began.path, go.path)
    pid = int(began.wait())
    at = time.monotonic()
    kill(pid)
    error = running.exception(20)
    assert time.monotonic() - at < 0.1 + 0.4, "100 ms, on a machine that has nothing else to do"
    assert type(error) is WorkerDiedError
    assert (error.pid, error.signal, error.exit_code, error.method) == (pid, "SIGKILL", None, "hold")
    assert (error.worker, error.incarnation, error.maybe_executed) == ("Acts", 0, True)
    assert f"pid {pid}" in str(error)
    assert "SIGKILL" in str(error)
    assert "out of memory: lower max_workers" in str(error)
    assert "max_memory_per_worker" in str(error)
    error = worker.call(lambda: os._exit(7)).exception(20)
    assert type(error) is WorkerDiedError
    assert (error.signal, error.exit_code, error.incarnation) == (None, 7, 1)
    assert "memory" not in str(error)


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=long)])
def test_a_kill_every_200_ms(process: Any, pids: Any, seconds: int) -> None:  # F04
    worker = process(max_workers=4, max_restarts=None)
    me = psutil.Process()
    open_calls = {worker.pause(0.002) for _ in range(100)}
    turn, pace = itertools.count(), threading.Event()
    ok = 0

    def go_on(until: float) -> None:
        nonlocal ok, open_calls
        while time.monotonic() < until:
            done, open_calls = wait(open_calls, timeout=20, return_when="FIRST_COMPLETED")
            assert done, "nothing comes any more"
            for future in done:
                error = future.exception(0)
                ok += error is None
                assert error is None or type(error) is WorkerDiedError
            open_calls |= {worker.pause(0.002) for _ in done}

    def kills(until: float) -> None:
        while time.monotonic() < until:
            pace.wait(0.2)  # this is what is asked for: one every 200 ms
            living = pids(worker)
            pid = living[next(turn) % len(living)]
            if pid:
                try:
                    kill(pid)
                except ProcessLookupError:  # ended a moment ago, and the next one is not there yet
                    continue

    def held() -> tuple[int, int]:
        gc.collect()
        return me.num_fds(), me.memory_info().rss

    end = time.monotonic() + seconds
    killer = threading.Thread(target=kills, args=(end,))
    killer.start()
    go_on(time.monotonic() + seconds * 0.4)
    before = held()
    go_on(end)
    killer.join(20)
    _, left = wait(open_calls, timeout=20)
    assert not left, "unresolved"
    assert ok > 100 * seconds
    after = held()
    assert after[0] <= before[0] * 1.05 + 20, "descriptors: a starting worker has some more"
    assert after[1] <= before[1] * 1.05 + 2 * MB


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=long)])
@pytest.mark.parametrize("direction", ["to", "from"])
def test_killed_while_64_mb_are_under_way(process: Any, pids: Any, rounds: int, direction: str) -> None:  # F06
    size = 64 * MB
    worker = process(max_restarts=None, restart_window=0.001)  # no back-off: it is killed while idle as well
    for n in range(rounds):
        worker.pid().result(20)
        pid = pids(worker)[0]
        content = bytes(size) if direction == "to" else None
        future = worker.call(len, content) if direction == "to" else worker.call(bytes, size)
        timer = threading.Timer(0.004 * (n % 10), kill, (pid,))  # at another moment each time
        timer.start()
        timer.join()
        error = future.exception(3)
        assert error is None or type(error) is WorkerDiedError
        if error is None:
            assert future.result(0) in (size, bytes(size))
        assert worker.echo(n).result(5) == n


@pytest.mark.parametrize("rounds", [6, pytest.param(100, marks=long)])
def test_a_reply_and_then_an_exit(process: Any, outcome: Any, rounds: int) -> None:  # F07
    def exits_soon() -> str:
        threading.Thread(target=os._exit, args=(0,)).start()
        return "replied"

    for _ in range(rounds):
        worker = process()
        found = outcome(worker.call(exits_soon), 5)
        assert found == "replied" or type(found) is WorkerDiedError
        worker.stop(0)


def test_every_later_start_dies(process: Any, pipe: Any, tmp_path: Path) -> None:  # F09
    path, times = str(tmp_path / "first"), str(tmp_path / "times")

    def first() -> None:
        if os.path.exists(path):
            with open(times, "ab", buffering=0) as file:
                file.write(b"%f\n" % time.monotonic())
            os._exit(3)
        open(path, "w").close()

    worker, began, go = process(first, max_restarts=2), pipe(), pipe()
    running = worker.hold(began.path, go.path)
    pid = int(began.wait())
    queued = [worker.echo(n) for n in range(5)]
    kill(pid)
    assert type(running.exception(20)) is WorkerDiedError
    for future in queued:
        error = future.exception(20)
        assert type(error) is RestartIntensityError
        assert "exit code 3" in str(error)
    starts = [float(line) for line in Path(times).read_text().split()]
    assert len(starts) == 3
    assert time.monotonic() - starts[-1] < 1
    assert not worker.is_alive()


@pytest.mark.parametrize(("retries", "starts"), [(0, 1), (5, 2)])
def test_a_call_that_kills_its_worker_among_good_ones(
    process: Any, tmp_path: Path, retries: int, starts: int
) -> None:  # F10
    worker = process(max_workers=2, num_retries=retries, retry_wait=0.01)
    good = [worker.echo(n) for n in range(50)]
    bad = worker.dies(str(tmp_path / "ran"))
    good += [worker.echo(n) for n in range(50, 100)]
    assert [future.result(20) for future in good] == list(range(100))
    assert type(bad.exception(20)) is WorkerDiedError
    assert noted(tmp_path / "ran") == {"started": starts}


def test_what_one_that_hears_nothing_held_goes_on_in_its_order(process: Any, tmp_path: Path) -> None:
    worker, path = process(max_workers=2, max_restarts=0), tmp_path / "order"
    wait([worker.echo(n) for n in range(400)], timeout=20)  # quick calls: they are sent ahead
    stopped, _ = worker.__dict__["_pool"].members
    pid, held = stopped.channel.pid, stopped.channel.under_way
    os.kill(pid, signal.SIGSTOP)
    left = {worker.note(str(path), n) for n in range(200)}
    while len(left) > len(held):  # the other one has done the rest, and has what is held here asked for
        done, left = wait(left, timeout=20, return_when="FIRST_COMPLETED")
        assert done, "nothing comes any more"
    assert len(left) > 2
    before = len(noted(path))
    kill(pid)
    wait(left, timeout=20)
    after = [int(line) for line in path.read_text().split()][before:]
    assert len(after) >= len(left) - 1
    assert after == sorted(after)


def test_a_call_that_goes_on_elsewhere_is_not_timed_by_the_dead(process: Any, pids: Any, pipe: Any) -> None:
    retried = {"num_retries": 1, "retry_wait": 0.0, "retry_on": [WorkerDiedError]}
    worker, began, go = process(max_workers=2, max_restarts=0, call_timeout=30, **retried), pipe(), pipe()
    pool = worker.__dict__["_pool"]
    limits = pool.elsewhere.time_limits
    held = worker.hold(began.path, go.path)
    first = int(began.wait())
    dead = next(member for member in pool.members if member.channel.pid == first)
    kill(first)
    assert int(began.wait()) != first
    assert dead.channel.join(20)
    limits._timer.cancel()
    limits._look()  # as its timer does, for a call that was sent before
    assert not held.done()
    assert dead.channel.under_way == {}
    assert [each["running"] for each in pool.stats()["workers"]] == [each is not dead for each in pool.members]
    go.tell()
    assert held.result(20) == "held"


def test_a_call_whose_arguments_only_its_worker_can_rebuild_is_lost(process: Any, outcome: Any) -> None:
    """Its policy's predicates are asked in this process, and shown the arguments."""

    def rebuilt(pid: int) -> str:
        if os.getpid() == pid:
            raise ValueError("not here")
        return "there"

    class Odd:
        def __reduce__(self) -> Any:
            return rebuilt, (os.getpid(),)

    def dies(what: str) -> None:
        assert what == "there"
        os.kill(os.getpid(), signal.SIGKILL)

    worker = process(num_retries=3, retry_wait=0.0, retry_on=[lambda exception, **_: True])
    error = outcome(worker.call(dies, Odd()))
    assert type(error) is WorkerDiedError
    assert "not here" in error.__notes__[0]
    assert worker.echo(1).result(20) == 1


def test_many_calls_that_kill_their_worker_are_charged_for_it(process: Any) -> None:
    """Rule 4: a batch with many bad inputs ends with each of them failed and all others answered."""
    worker = process(max_restarts=1)
    futures = [worker.dies() if n % 5 == 0 else worker.echo(n) for n in range(30)]
    for n, future in enumerate(futures):
        if n % 5 == 0:
            assert type(future.exception(20)) is WorkerDiedError
        else:
            assert future.result(20) == n


@pytest.mark.parametrize("calls", [300, pytest.param(3000, marks=long)])
def test_order_across_a_death(process: Any, pids: Any, tmp_path: Path, calls: int) -> None:  # F25
    worker, path = process(), tmp_path / "order"
    half = threading.Semaphore(0)
    futures: list[list[Any]] = [[] for _ in range(8)]

    def submit(thread: int) -> None:
        for n in range(calls):
            futures[thread].append(worker.note(str(path), thread, n))
            if n == calls // 2:
                half.release()

    threads = [threading.Thread(target=submit, args=(thread,)) for thread in range(8)]
    for each in threads:
        each.start()
    half.acquire()
    kill(pids(worker)[0])
    for each in threads:
        each.join(60)
    errors = [error for each in futures for future in each if (error := future.exception(60)) is not None]
    assert len(errors) <= 1
    seen = [(int(thread), int(n)) for thread, n in (line.split() for line in path.read_text().splitlines())]
    for thread in range(8):
        mine = [n for who, n in seen if who == thread]
        assert mine == sorted(set(mine))
        assert len(mine) >= calls - 1
