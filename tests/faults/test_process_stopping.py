"""F13, F14, F15, F18, F19, F24, F28, F33, F34: stopping, cancelling, slow calls and many calls, with processes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import tracemalloc
from typing import Any

import psutil
import pytest

from concurry import MailboxFullError, WorkerDiedError, WorkerStoppedError, gather, wait
from tests.machine import shared_memory

pytestmark = pytest.mark.faults
long = pytest.mark.long
SLACK_S = 1.5


def hold_all(worker: Any, pipe: Any, count: int = 1) -> tuple[list[Any], Any]:
    """Let `count` actors run a call. Returns the futures, and the pipe that lets them go."""
    began, go = pipe(), pipe()
    held = []
    for _ in range(count):
        held.append(worker.hold(began.path, go.path))
        began.wait()
    return held, go


# -- F13, F14 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_workers": 3}, {"max_concurrency": 3}], ids=str)
@pytest.mark.parametrize("timeout", [0.2, pytest.param(2, marks=long)])
def test_stop_with_one_running_and_twenty_queued(
    process: Any, pipe: Any, pids: Any, gone: Any, options: Any, timeout: float
) -> None:  # F13
    worker = process(**options)
    running, _ = hold_all(worker, pipe, max(options.values(), default=1))
    queued = [worker.echo(n) for n in range(20)]
    processes = pids(worker)
    began = time.monotonic()
    worker.stop(timeout)
    assert time.monotonic() - began < timeout + 2
    assert all(future.done() for future in [*running, *queued])
    assert all(future.cancelled() for future in queued)
    for future in running:
        with pytest.raises(WorkerStoppedError, match=r"hold\(\) still ran"):
            future.result(0)
    assert gone(processes, 0)
    worker.stop()
    with pytest.raises(WorkerStoppedError):
        worker.echo()


def test_stop_with_a_method_that_ignores_sigterm(process: Any, pipe: Any, pids: Any, gone: Any) -> None:
    worker, began = process(), pipe()

    def ignores(path: str) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open(path, "wb", buffering=0) as said:
            said.write(b"!")
        while True:
            signal.pause()

    running = worker.call(ignores, began.path)
    began.wait()
    processes = pids(worker)
    at = time.monotonic()
    worker.stop(0)
    assert time.monotonic() - at < 2
    assert running.done()
    assert gone(processes, 0)


def test_stop_waits_for_what_runs(process: Any, pipe: Any, in_thread: Any) -> None:
    worker = process(max_workers=2)
    running, go = hold_all(worker, pipe, 2)
    waiting = worker.echo()
    stopped = in_thread(worker.stop, 20)
    with pytest.raises(BaseException, match="stopped"):
        waiting.result(20)
    go.tell(b"!!")
    stopped()
    assert gather(running, timeout=0) == ["held"] * 2


@pytest.mark.parametrize("timeout", [0.2, pytest.param(2, marks=long)])
def test_stop_of_a_stopped_process(process: Any, pids: Any, gone: Any, timeout: float) -> None:  # F14
    worker = process(max_workers=2)
    worker.echo().result(20)
    processes = pids(worker)
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    futures = [worker.echo(n) for n in range(10)]
    began = time.monotonic()
    worker.stop(timeout)
    assert time.monotonic() - began < timeout + 2
    assert all(future.done() for future in futures)
    assert gone(processes, 0)


# -- F15 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [3, pytest.param(50, marks=long)])
@pytest.mark.parametrize("options", [{}, {"max_workers": 3}], ids=str)
def test_submitting_against_stop(process: Any, options: Any, rounds: int) -> None:  # F15
    for n in range(rounds):
        worker = process(**options)
        ready = threading.Barrier(9)
        accepted: list[list[Any]] = [[] for _ in range(8)]
        refused: list[BaseException] = []

        def submit(mine: list[Any], worker: Any = worker, ready: Any = ready, refused: Any = refused) -> None:
            ready.wait(20)
            try:
                while True:
                    mine.append(worker.echo(len(mine)))
            except BaseException as refusal:
                refused.append(refusal)

        threads = [threading.Thread(target=submit, args=(mine,)) for mine in accepted]
        for thread in threads:
            thread.start()
        ready.wait(20)
        if n % 2:
            worker.echo().result(20)
        worker.stop(10)
        unresolved = [future for mine in accepted for future in mine if not future.done()]
        for thread in threads:
            thread.join(20)
        assert unresolved == []
        assert all(future.done() for mine in accepted for future in mine)
        assert [type(error) for error in refused] == [WorkerStoppedError] * 8
        for future in (future for mine in accepted for future in mine):
            assert future.cancelled() or future.exception(0) is None


# -- F18, F19 ----------------------------------------------------------------------------------------------------------


def test_cancel_one_running_and_ten_queued(process: Any, pipe: Any, tmp_path: Any) -> None:  # F18
    worker = process()
    [running], go = hold_all(worker, pipe)
    queued = [worker.note(str(tmp_path / "ran"), n) for n in range(10)]
    assert running.cancel() is False
    assert [future.cancel() for future in queued] == [True] * 10
    assert all(future.cancelled() for future in queued)
    go.tell()
    assert running.result(20) == "held"
    assert worker.echo("next").result(20) == "next"
    assert not (tmp_path / "ran").exists()


def test_cancel_what_a_child_has_already(process: Any, pipe: Any, tmp_path: Any) -> None:
    """Calls that were sent ahead to a busy child are asked back, which takes 50 ms at most."""
    worker = process()
    assert gather([worker.echo(n) for n in range(500)], timeout=20) == list(
        range(500)
    )  # calls are quick: many go ahead
    [running], go = hold_all(worker, pipe)
    queued = [worker.note(str(tmp_path / "ran"), n) for n in range(20)]
    began = time.monotonic()
    cancelled = [future.cancel() for future in queued]
    assert time.monotonic() - began < 20 * 0.05 + SLACK_S
    go.tell()
    assert running.result(20) == "held"
    assert worker.echo("next").result(20) == "next"
    ran = (tmp_path / "ran").read_text().split() if (tmp_path / "ran").exists() else []
    assert [str(n) for n in range(20) if not cancelled[n]] == ran
    assert [future.cancelled() for future in queued] == cancelled


def test_wait_for_on_queued_and_on_running_calls(process: Any, pipe: Any) -> None:  # F19
    worker = process()
    [running], go = hold_all(worker, pipe)

    async def main() -> None:
        queued = worker.echo("never")
        for future in (queued, running):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(future, 0.05)
        assert queued.cancelled()
        assert not running.done(), "a plain method goes on"

    asyncio.run(main())
    go.tell()
    assert worker.echo("next").result(20) == "next"


def test_wait_for_on_a_running_async_method(process: Any, pipe: Any, acts: Any) -> None:  # F19
    class Later(acts):  # type: ignore[misc]
        async def hold_later(self, began: str, ended: str) -> None:
            self.tell(began)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.tell(ended)

        def tell(self, path: str) -> None:
            with open(path, "wb", buffering=0) as said:
                said.write(b"!")

    for options in ({}, {"max_concurrency": 4}):
        worker, began, over = process(cls=Later, **options), pipe(), pipe()
        running = worker.hold_later(began.path, over.path)
        began.wait()

        async def main(running: Any = running) -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(running, 0.05)

        asyncio.run(main())
        over.wait()
        assert running.cancelled()
        assert worker.echo("next").result(20) == "next"


# -- F24 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=long)])
def test_memory_of_waiting_calls(process: Any, pipe: Any, count: int) -> None:  # F24
    worker = process()
    _, go = hold_all(worker, pipe)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        futures = [worker.echo(n) for n in range(count)]
        each = (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()
    assert each <= 2000, f"{each:.0f} B a call"
    go.tell()
    assert gather(futures, timeout=100) == list(range(count))


def test_a_bounded_mailbox(process: Any, pipe: Any) -> None:  # F24
    worker = process(mailbox_size=1000, on_full="raise")
    _, go = hold_all(worker, pipe)
    futures: list[Any] = []

    def submit() -> None:
        for n in range(1200):
            futures.append(worker.echo(n))

    with pytest.raises(MailboxFullError):
        submit()
    assert 1000 <= len(futures) <= 1000 + 100, "its mailbox, and what is sent ahead"
    go.tell()
    assert gather(futures, timeout=20) == list(range(len(futures)))


# -- F28 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [8, pytest.param(200, marks=long)])
@pytest.mark.parametrize("options", [{}, {"mp_context": "spawn"}, {"max_concurrency": 2}], ids=str)
def test_create_and_stop(process: Any, options: Any, rounds: int) -> None:  # F28
    if "mp_context" in options:
        rounds = max(2, rounds // 10)

    def once() -> None:
        worker = process(**options)
        assert worker.echo(bytes(2 << 20)).result(20) == bytes(2 << 20)
        worker.stop()

    def held() -> tuple[int, int, set[str], int]:
        gc.collect()
        return (
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            shared_memory(),
            len(psutil.Process().children(recursive=True)),
        )

    def more() -> Any:
        """What there is beyond what was there before. What is on its way out is waited for."""
        end = time.monotonic() + 5
        while True:
            now: Any = held()  # numbers and a set, which compare alike
            found = [after for after, first in zip(now, before, strict=True) if not after <= first]
            if not found or time.monotonic() > end:
                return found
            os.sched_yield()

    once()
    once()
    before = held()
    for _ in range(rounds):
        once()
    assert more() == []


# -- F33, F34 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_workers": 2}, {"max_concurrency": 4}], ids=str)
def test_a_call_that_sleeps_for_ever(process: Any, pipe: Any, options: Any) -> None:  # F33
    worker = process(call_timeout=1, **options)
    began = pipe()
    submitted = time.monotonic()
    stuck = worker.hold(began.path, pipe().path)
    began.wait()
    at = time.monotonic()
    good = [worker.echo(n) for n in range(100)]
    with pytest.raises(TimeoutError):
        stuck.result(20)
    ended = time.monotonic()
    assert ended - submitted >= 1
    assert ended - at < 1.2 + SLACK_S
    assert gather(good, timeout=20) == list(range(100))


@pytest.mark.parametrize("seconds", [0.8, pytest.param(5, marks=long)])
def test_nothing_waits_behind_a_slow_call(process: Any, seconds: float) -> None:  # F34
    worker = process(max_workers=4)
    wait([worker.pause(0.005) for _ in range(40)], timeout=20)  # it has seen how long they take
    began = time.monotonic()
    slow = worker.pause(seconds)
    quick = [worker.pause(0.005) for _ in range(min(399, int(399 * seconds / 5) + 60))]
    gather(quick, timeout=20)
    assert time.monotonic() - began < seconds + SLACK_S
    assert slow.result(20) == seconds
    assert time.monotonic() - began < seconds + 0.3 + SLACK_S


def test_a_lost_call_between_two_attempts_is_not_cancelled(process: Any, pipe: Any) -> None:
    """It has begun, and may have been executed: it ends with what it was lost by, and is counted."""
    worker, began, go = process(num_retries=3, retry_wait=1000, retry_jitter=0), pipe(), pipe()
    future = worker.hold(began.path, go.path)
    os.kill(int(began.wait()), signal.SIGKILL)
    intake = worker.__dict__["_pool"].intakes[0]
    end = time.monotonic() + 20
    while not intake.parked and time.monotonic() < end:
        os.sched_yield()
    worker.stop()
    assert isinstance(future.exception(20), WorkerDiedError)
    stats = worker.stats()
    assert (stats["failed"], stats["cancelled"], stats["done"]) == (1, 0, 0)


def test_each_call_of_a_pool_that_is_stopped_at_once_is_in_one_figure(process: Any) -> None:
    for _ in range(5):
        worker = process(max_workers=2)
        futures = [worker.echo(n) for n in range(300)]
        futures[20].result(20)
        worker.stop(0)
        assert all(future.done() for future in futures)
        stats = worker.stats()
        assert stats["done"] + stats["failed"] + stats["cancelled"] == 300, stats
