"""Order, and bounds: calls of one thread start in their order; a bounded mailbox holds so many and no more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from concurry import MailboxFullError, Worker, WorkerStoppedError, gather

Start = Callable[..., Any]


class Logs(Worker):
    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def run(self, *what: int) -> None:
        self.log.append(what)

    async def run_later(self, *what: int) -> None:
        self.log.append(what)
        await asyncio.sleep(0)

    def hold(self, began: Any, go: Any) -> None:
        began.set()
        go.wait()


def test_calls_of_one_thread_run_in_their_order(start: Start, new_log: Any) -> None:
    log = new_log()
    worker = start(Logs, log)
    gather([worker.run(i) for i in range(500)])
    assert log == [(i,) for i in range(500)]


def test_async_calls_of_one_thread_start_in_their_order(start: Start, new_log: Any) -> None:
    log = new_log()
    worker = start(Logs, log)
    gather([worker.run_later(i) for i in range(500)])
    assert log == [(i,) for i in range(500)]


def test_eight_threads_keep_each_its_own_order(start: Start, new_log: Any) -> None:
    log = new_log()
    worker = start(Logs, log)
    everything: list[Any] = []

    def submit(who: int) -> None:
        everything.extend([worker.run(who, i) for i in range(300)])

    threads = [threading.Thread(target=submit, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gather(everything)
    assert len(log) == 2400
    for who in range(8):
        assert [i for w, i in log if w == who] == list(range(300))


def occupy(worker: Any, way: Any, new_signal: Any) -> tuple[list[Any], Any]:
    go, held = new_signal(), []
    for _ in range(way.sync_at_once):
        began = new_signal()
        held.append(worker.hold(began, go))
        began.wait()
    return held, go


def test_a_full_mailbox_raises(start: Start, way: Any, new_signal: Any, new_log: Any) -> None:
    log = new_log()
    worker = start(Logs, log, options={"mailbox_size": 3, "on_full": "raise"})
    held, go = occupy(worker, way, new_signal)
    accepted = [worker.run(i) for i in range(3)]
    for _ in range(5):
        with pytest.raises(MailboxFullError, match=r"mailbox of Logs is full: 3 calls wait.*raise mailbox_size"):
            worker.run(99)
    assert worker.stats()["queued"] == 3
    go.set()
    gather(held + accepted)
    assert sorted(log) == [(0,), (1,), (2,)]
    assert worker.run(4).exception() is None


def test_a_full_mailbox_blocks_until_there_is_room(start: Start, way: Any, new_signal: Any, new_log: Any) -> None:
    log = new_log()
    worker = start(Logs, log, options={"mailbox_size": 1})
    held, go = occupy(worker, way, new_signal)
    futures = [worker.run(0)]
    began, ended = new_signal(), new_signal()

    def submit() -> None:
        began.set()
        futures.append(worker.run(1))
        ended.set()

    thread = threading.Thread(target=submit)
    thread.start()
    began.wait()
    assert worker.stats()["queued"] == 1
    assert not ended.happened()
    go.set()
    ended.wait()
    thread.join()
    gather(held + futures)
    assert sorted(log) == [(0,), (1,)]


def test_everything_gets_through_a_mailbox_of_one(start: Start, new_log: Any) -> None:
    log = new_log()
    worker = start(Logs, log, options={"mailbox_size": 1})
    everything: list[Any] = []

    def submit(who: int) -> None:
        everything.extend([worker.run(who, i) for i in range(100)])

    threads = [threading.Thread(target=submit, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gather(everything)
    assert len(log) == 400


def test_calls_that_wait_for_an_argument_count(start: Start, way: Any, new_signal: Any, new_log: Any) -> None:
    import concurrent.futures

    log = new_log()
    worker = start(Logs, log, options={"mailbox_size": 2, "on_full": "raise"})
    pending: concurrent.futures.Future[int] = concurrent.futures.Future()
    waiting = [worker.run(pending), worker.run(pending)]
    with pytest.raises(MailboxFullError):
        worker.run(1)
    assert waiting[0].cancel(), "its place is free again"
    worker.run(2).result()
    pending.set_result(7)
    gather(waiting[1])
    assert log == [(2,), (7,)]
    gather([worker.run(3)])


def test_a_cancelled_call_gives_its_place_back(start: Start, way: Any, new_signal: Any) -> None:
    worker = start(Logs, [], options={"mailbox_size": 1, "on_full": "raise"})
    held, go = occupy(worker, way, new_signal)
    for i in range(20):
        assert worker.run(i).cancel()
    go.set()
    gather(held)


def test_a_callback_never_blocks(start: Start, way: Any, new_signal: Any) -> None:
    worker = start(Logs, [], options={"mailbox_size": 1, "on_full": "block"})
    held, go = occupy(worker, way, new_signal)
    waiting = worker.run(0)
    other = start(Logs, [])
    told, seen = new_signal(), []

    def callback(future: Any) -> None:
        try:
            worker.run(1)
        except Exception as error:
            seen.append(error)
        told.set()

    gate = new_signal()
    future = other.hold(new_signal(), gate)
    future.add_done_callback(callback)
    gate.set()
    told.wait()
    assert [type(error) for error in seen] == [MailboxFullError]
    assert "the notifier thread must never block" in str(seen[0])
    go.set()
    gather([*held, waiting])


def test_stop_wakes_callers_that_are_blocked(start: Start, way: Any, new_signal: Any) -> None:
    worker = start(Logs, [], options={"mailbox_size": 1})
    held, go = occupy(worker, way, new_signal)
    waiting = worker.run(0)
    seen: list[Any] = []
    began = [new_signal() for _ in range(3)]

    def submit(signal: Any) -> None:
        signal.set()
        try:
            worker.run(1)
        except Exception as error:
            seen.append(error)

    threads = [threading.Thread(target=submit, args=(signal,)) for signal in began]
    for thread, signal in zip(threads, began, strict=True):
        thread.start()
        signal.wait()
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    for thread in threads:
        thread.join(20)
    assert [type(error) for error in seen] == [WorkerStoppedError] * 3
    assert waiting.cancelled()
    go.set()
    stopper.join(20)
    gather(held)
