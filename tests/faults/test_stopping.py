"""F13, F15, F18, F19, F28: stopping, from everywhere, at any time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import threading
import time
import weakref
from typing import Any

import pytest

from concurry import Worker, WorkerInitError, WorkerStoppedError, gather, wait
from tests.machine import shared_memory

pytestmark = pytest.mark.faults


class Works(Worker):
    def echo(self, value: Any = None) -> Any:
        return value

    async def echo_later(self, value: Any = None) -> Any:
        await asyncio.sleep(0)
        return value

    def hold(self, began: Any, go: Any) -> str:
        began.set()
        assert go.wait(60)
        return "held"

    async def hold_later(self, began: Any) -> None:
        began.set()
        await asyncio.get_running_loop().create_future()

    def call(self, fn: Any, *args: Any) -> Any:
        return fn(*args)

    async def call_later(self, fn: Any, *args: Any) -> Any:
        await asyncio.sleep(0)
        return fn(*args)


def hold_all(worker: Any, way: Any, event: Any, go: Any) -> list[Any]:
    """Let every actor run a call."""
    held = []
    for _ in range(way.sync_at_once):
        began = event()
        held.append(worker.hold(began, go))
        assert began.wait(20)
    return held


# -- F13 ---------------------------------------------------------------------------------------------------------------


def test_stop_gives_up_what_runs_and_cancels_what_waits(start: Any, beside: Any, event: Any) -> None:  # F13
    worker, go = start(Works, beside), event()
    running = hold_all(worker, beside, event, go)
    waiting = [worker.echo(n) for n in range(20)]
    began = time.monotonic()
    worker.stop(0.2)
    assert time.monotonic() - began < 0.2 + 2
    assert all(future.done() for future in [*running, *waiting])
    assert all(future.cancelled() for future in waiting)
    for future in running:
        with pytest.raises(WorkerStoppedError, match=r"hold\(\) still ran"):
            future.result()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("concurry: Works")]
    assert len(threads) >= 1, "they are stuck in the user's call"
    assert all(thread.daemon for thread in threads)
    go.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "it ends with its call"


def test_stop_waits_for_what_runs(start: Any, beside: Any, event: Any, in_thread: Any) -> None:
    worker, go = start(Works, beside), event()
    running = hold_all(worker, beside, event, go)
    waiting = worker.echo()
    stopped = in_thread(worker.stop, 20)
    with pytest.raises(concurrent.futures.CancelledError):
        waiting.result(20)
    go.set()
    stopped()
    assert gather(running, timeout=0) == ["held"] * len(running)


def test_stop_ends_async_methods_in_every_mode(start: Any, beside: Any, event: Any) -> None:
    worker, began = start(Works, beside), event()
    running = worker.hold_later(began)
    assert began.wait(20)
    worker.stop(0)
    assert running.done()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("concurry: Works")]


def test_an_async_method_that_swallows_its_cancellation(start: Any, beside: Any, event: Any) -> None:
    class Stubborn(Worker):
        async def hold(self, began: Any, cancelled: Any) -> str:
            began.set()
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.set()
            return "swallowed"

        async def work(self) -> int:
            return 1

    worker, began, cancelled = start(Stubborn, beside), event(), event()
    future = worker.hold(began, cancelled)
    assert began.wait(20)
    assert future.cancel()
    assert cancelled.wait(20)
    assert future.cancelled()
    assert worker.work().result(20) == 1
    worker.stop(5)


# -- F15 ---------------------------------------------------------------------------------------------------------------


def submit_against_stop(cls: Any, way: Any, rounds: int) -> None:
    for _ in range(rounds):
        worker = cls.options(**way.options).init()
        ready = threading.Barrier(9)
        accepted: list[list[Any]] = [[] for _ in range(8)]
        refused: list[BaseException] = []

        def submit(mine: list[Any], worker: Any = worker, ready: Any = ready, refused: Any = refused) -> None:
            ready.wait(20)
            try:
                while True:
                    mine.append(worker.echo(len(mine)))
                    if len(mine) % 3 == 0:
                        mine.append(worker.echo_later(len(mine)))
            except BaseException as refusal:
                refused.append(refusal)

        threads = [threading.Thread(target=submit, args=(mine,)) for mine in accepted]
        for thread in threads:
            thread.start()
        ready.wait(20)
        worker.stop(10)
        futures = [future for mine in accepted for future in mine]
        unresolved = [future for future in futures if not future.done()]
        for thread in threads:
            thread.join(20)
        assert unresolved == []
        assert all(future.done() for mine in accepted for future in mine)
        assert [type(error) for error in refused] == [WorkerStoppedError] * 8
        for future in futures:
            assert future.cancelled() or future.exception(0) is None


def test_submitting_against_stop(beside: Any) -> None:  # F15
    submit_against_stop(Works, beside, 4)


@pytest.mark.slow
def test_submitting_against_stop_fifty_times(beside: Any) -> None:
    submit_against_stop(Works, beside, 50)


def test_stop_without_time_against_busy_actors_leaves_nothing_open(beside: Any) -> None:
    """An actor may be between taking a call and showing it when the time is over."""
    for _ in range(30):
        worker = Works.options(**beside.options).init()
        futures = [worker.echo(n) for n in range(300)]
        worker.stop(0)
        assert all(future.done() for future in futures)


def test_blocked_callers_are_woken_by_stop(start: Any, beside: Any, event: Any, in_thread: Any) -> None:
    worker, go = start(Works, beside, mailbox_size=2), event()
    hold_all(worker, beside, event, go)
    worker.echo(1)
    worker.echo(2)
    arrived = threading.Barrier(4)

    def submit() -> Any:
        arrived.wait(20)
        return worker.echo(3)

    blocked = [in_thread(submit) for _ in range(3)]
    arrived.wait(20)
    worker.stop(0)
    for join in blocked:
        with pytest.raises(WorkerStoppedError):
            join()
    go.set()


# -- stop from odd places ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["call", "call_later"])
def test_a_method_stops_its_own_handle(start: Any, way: Any, method: str, event: Any) -> None:
    worker = start(Works, way)
    entered = event()

    def stop() -> str:
        entered.set()
        worker.stop(timeout=2)
        return "stopped"

    began = time.monotonic()
    future = getattr(worker, method)(stop)
    assert future.result(20) == "stopped"
    assert time.monotonic() - began < 10, "it does not wait for itself"
    with pytest.raises(WorkerStoppedError):
        worker.echo()


def test_stop_from_two_threads_at_once(start: Any, beside: Any, event: Any, in_thread: Any) -> None:
    worker, go = start(Works, beside), event()
    running = hold_all(worker, beside, event, go)
    first, second = in_thread(worker.stop, 20), in_thread(worker.stop, 20)
    go.set()
    first()
    second()
    assert gather(running, timeout=0) == ["held"] * len(running)


def test_a_second_stop_may_be_less_patient(start: Any, beside: Any, event: Any, in_thread: Any) -> None:
    worker, go = start(Works, beside), event()
    running = hold_all(worker, beside, event, go)
    patient = in_thread(worker.stop, 20)
    worker.stop(0)
    assert all(future.done() for future in running)
    go.set()
    patient()


def test_stop_from_a_done_callback(start: Any, beside: Any, event: Any) -> None:
    worker, stopped = start(Works, beside), event()
    future = worker.echo(1)

    def stop(_: Any) -> None:
        worker.stop(5)
        stopped.set()

    future.add_done_callback(stop)
    assert stopped.wait(20)
    with pytest.raises(WorkerStoppedError):
        worker.echo()


def test_stop_from_a_hook_of_the_garbage_collector(start: Any, beside: Any, event: Any) -> None:
    stopped = event()

    class Bomb:
        def __init__(self, worker: Any) -> None:
            self.worker = worker
            self.me = self  # a cycle: the collector ends it, anywhere

        def __del__(self) -> None:
            self.worker.stop(5)
            stopped.set()

    worker = start(Works, beside)
    worker.echo().result(20)
    Bomb(worker)
    gc.collect()
    assert stopped.wait(20)


def test_stop_in_a_coroutine_on_another_loop(start: Any, beside: Any) -> None:
    worker = start(Works, beside)

    async def main() -> Any:
        result = await worker.echo_later(3)
        worker.stop()
        return result

    assert asyncio.run(main()) == 3


def test_an_actor_of_one_pool_stops_another(start: Any, beside: Any) -> None:
    one, other = start(Works, beside), start(Works, beside)
    assert one.call(other.stop, 5).result(20) is None
    assert one.echo(1).result(20) == 1
    with pytest.raises(WorkerStoppedError):
        other.echo()


def test_two_actors_stop_each_other(start: Any, beside: Any, event: Any) -> None:
    one, other, ready = start(Works, beside), start(Works, beside), threading.Barrier(2)

    def stop(which: Any) -> None:
        ready.wait(20)
        which.stop(1)

    futures = [one.call(stop, other), other.call(stop, one)]
    wait(futures, timeout=20)
    assert all(future.done() for future in futures)


def test_the_classes_own_stop_runs_once_and_may_fail(start: Any, way: Any, caplog: pytest.LogCaptureFixture) -> None:
    stopped: list[int] = []

    class Ends(Worker):
        def work(self) -> int:
            return 1

        def stop(self) -> None:
            stopped.append(1)
            raise SystemExit("no")

    if way.name == "demand":
        pytest.skip("an actor per call: it is stopped after each")
    worker = start(Ends, way)
    worker.work().result(20)
    worker.stop()
    worker.stop()
    assert len(stopped) == (4 if way.name == "pool" else 1)
    assert "its own stop() raised" in caplog.text


def test_the_classes_own_async_stop_that_hangs_is_cancelled(start: Any, beside: Any, event: Any) -> None:
    class Hangs(Worker):
        async def work(self) -> int:
            return 1

        async def stop(self) -> None:
            await asyncio.get_running_loop().create_future()

    if beside.name == "demand":
        pytest.skip("an actor per call: it has ended before it is stopped")
    worker = start(Hangs, beside)
    assert worker.work().result(20) == 1
    worker.stop(0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("concurry: Hangs")]


# -- stop and cancel ---------------------------------------------------------------------------------------------------


def test_cancel_one_running_and_ten_queued(start: Any, beside: Any, event: Any) -> None:  # F18
    ran: list[int] = []

    class Notes(Works):
        def note(self, n: int) -> None:
            ran.append(n)

    worker, go = start(Notes, beside), event()
    running = hold_all(worker, beside, event, go)
    queued = [worker.note(n) for n in range(10)]
    assert [future.cancel() for future in running] == [False] * len(running)
    assert [future.cancel() for future in queued] == [True] * 10
    assert all(future.cancelled() for future in queued)
    go.set()
    assert worker.echo("next").result(20) == "next"
    assert gather(running) == ["held"] * len(running)
    worker.stop()
    assert ran == []


def test_wait_for_on_a_queued_and_on_a_running_call(start: Any, beside: Any, event: Any) -> None:  # F19
    worker, go = start(Works, beside), event()

    async def main() -> None:
        running = hold_all(worker, beside, event, go)
        queued = worker.echo("never")
        for future in (queued, *running):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(future, 0.05)
        assert queued.cancelled()
        assert not any(future.done() for future in running), "a thread cannot be stopped: the call goes on"

    asyncio.run(main())
    go.set()
    assert worker.echo("next").result(20) == "next"
    began = event()

    async def cancels() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(worker.hold_later(began), 0.05)

    asyncio.run(cancels())
    assert worker.echo("next").result(20) == "next"
    assert worker.echo_later("next").result(20) == "next"


# -- nothing left ------------------------------------------------------------------------------------------------------


def cycles(way: Any, rounds: int) -> None:
    def held() -> tuple[int, int, set[str]]:
        return len(os.listdir("/proc/self/fd")), threading.active_count(), shared_memory()

    def once() -> None:
        worker = Works.options(**way.options).init()
        worker.echo(1).result(20)
        worker.echo_later(1).result(20)
        worker.stop()

    others = threading.enumerate()  # those of process mode, where it is kept ready for several tests
    once()
    gc.collect()
    before = held()
    for _ in range(rounds):
        once()
    for thread in threading.enumerate():
        if thread not in others and thread.name.startswith("concurry"):
            thread.join(20)
    gc.collect()
    assert held() == before


def test_create_and_stop(way: Any) -> None:  # F28
    cycles(way, 30)


@pytest.mark.slow
def test_create_and_stop_two_hundred_times(way: Any) -> None:
    cycles(way, 200)


@pytest.mark.parametrize("end", ["stop", "drop", "exception"])
def test_the_users_object_and_its_arguments_die_with_the_actor(way: Any, end: str) -> None:
    class Holds(Works):
        def __init__(self, thing: Any, seen: list[Any]) -> None:
            self.thing = thing
            seen.append(weakref.ref(self))

    class Thing:
        pass

    thing, seen = Thing(), []  # type: ignore[var-annotated]
    argument = Thing()
    worker = Holds.options(**way.options).init(thing, seen)
    worker.echo(argument).result(20)
    worker.echo_later(argument).result(20)
    if end == "exception":
        with pytest.raises(ZeroDivisionError):
            worker.call(lambda: 1 / 0).result(20)
    watched = [weakref.ref(argument), weakref.ref(thing), *seen]
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("concurry: Holds")]
    if end == "drop":
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del worker
            gc.collect()
            for thread in threads:
                thread.join(20)
            for thread in threading.enumerate():
                if thread.name == "concurry-notifier":
                    thread.join(20)
    else:
        worker.stop()
        del worker
    del thing, argument
    gc.collect()
    assert [ref() for ref in watched] == [None] * len(watched)


# -- init --------------------------------------------------------------------------------------------------------------


def test_an_init_that_hangs_ends_with_its_timeout(way: Any, event: Any) -> None:
    go, entered = event(), event()

    class Hangs(Works):
        def __init__(self) -> None:
            entered.set()
            assert go.wait(60)

    if way.name in ("sync", "demand"):
        pytest.skip("sync: it is the caller's own thread; on demand: nothing is built before a call")
    began = time.monotonic()
    with pytest.raises(WorkerInitError, match="init_timeout"):
        Hangs.options(**way.options, init_timeout=0.1).init()
    assert time.monotonic() - began < 5
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("concurry: Hangs")]
    assert threads
    go.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_one_of_a_pool_fails_in_init(event: Any) -> None:
    count = iter(range(100))
    lock = threading.Lock()
    others = threading.enumerate()

    class Fails(Works):
        def __init__(self) -> None:
            with lock:
                number = next(count)
            if number == 5:
                raise LookupError("the sixth")

    with pytest.raises(LookupError, match="the sixth"):
        Fails.options(mode="thread", max_workers=8).init()
    for thread in threading.enumerate():
        if thread not in others and thread.name.startswith("concurry"):
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize("bad", [SystemExit(2), KeyboardInterrupt(), GeneratorExit(), ValueError("v")])
def test_what_init_raises(way: Any, bad: BaseException) -> None:  # F08
    class Fails(Works):
        def __init__(self) -> None:
            raise bad

    if way.name == "demand":
        worker = Fails.options(**way.options).init()
        futures = [worker.echo(n) for n in range(8)]
        for future in futures:
            with pytest.raises(type(bad) if isinstance(bad, Exception) else WorkerInitError):
                future.result(20)
        worker.stop()
        return
    expected = type(bad) if isinstance(bad, Exception) else (WorkerInitError, type(bad))
    with pytest.raises(expected):
        Fails.options(**way.options).init()
