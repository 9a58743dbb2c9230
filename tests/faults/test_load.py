"""F24, F25, F33, F34 and F05, F30: many calls, slow calls, poisonous calls, in every mode of one process."""

from __future__ import annotations

import ctypes
import gc
import pickle
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from concurry import CallLimit, RateLimit, RemoteBaseError, ResourceLimit, Worker, gather

pytestmark = pytest.mark.faults


class Works(Worker):
    def echo(self, value: Any = None) -> Any:
        return value

    def hold(self, began: Any, go: Any) -> str:
        began.set()
        assert go.wait(60)
        return "held"

    async def hold_later(self, began: Any) -> None:
        import asyncio

        began.set()
        await asyncio.get_running_loop().create_future()

    def pause(self, seconds: float) -> float:
        threading.Event().wait(seconds)
        return seconds

    def raises(self, error: BaseException) -> None:
        raise error


def hold_all(worker: Any, way: Any, event: Any, go: Any) -> list[Any]:
    held = []
    for _ in range(way.sync_at_once):
        began = event()
        held.append(worker.hold(began, go))
        assert began.wait(20)
    return held


# -- F24 ---------------------------------------------------------------------------------------------------------------


@contextmanager
def traced() -> Iterator[Any]:
    gc.collect()
    tracemalloc.start()
    try:
        yield tracemalloc.get_traced_memory
    finally:
        tracemalloc.stop()


def test_memory_of_waiting_calls(start: Any, beside: Any, event: Any) -> None:  # F24
    count = 2_000 if beside.name == "demand" else 20_000  # there, each takes a thread of its own in the end
    worker, go = start(Works, beside), event()
    hold_all(worker, beside, event, go)
    with traced() as memory:
        before = memory()[0]
        futures = [worker.echo(n) for n in range(count)]
        each = (memory()[0] - before) / count
    assert each <= 1000, f"{each:.0f} B a call"
    go.set()
    assert gather(futures[-100:], timeout=60) == list(range(count - 100, count))


@pytest.mark.slow
def test_memory_of_a_hundred_thousand_waiting_calls(start: Any, beside: Any, event: Any) -> None:
    worker, go = start(Works, beside), event()
    hold_all(worker, beside, event, go)
    with traced() as memory:
        before = memory()[0]
        futures = [worker.echo(n) for n in range(100_000)]
        each = (memory()[0] - before) / 100_000
    assert each <= 1000, f"{each:.0f} B a call"
    kept = 1_000 if beside.name == "demand" else 100_000  # there, each takes a thread of its own in the end
    assert all(future.cancel() for future in futures[kept:])
    go.set()
    assert gather(futures[:kept], timeout=120) == list(range(kept))


def test_a_bounded_mailbox_keeps_memory_flat(start: Any, beside: Any) -> None:  # F24
    worker = start(Works, beside, mailbox_size=100)

    def submit(count: int) -> None:
        for n in range(count):
            worker.echo(bytes(1000) + str(n).encode())
        worker.echo().result(20)

    few, many = (200, 1000) if beside.name == "demand" else (500, 5000)  # a thread for each call
    submit(few)
    with traced() as memory:
        submit(few)
        gc.collect()
        first = memory()[0]
        submit(many)
        assert memory()[1] < first + many * 900, "no second queue behind it"  # a call has 1,000 bytes
        gc.collect()
        assert memory()[0] < first + 100_000


# -- F25 ---------------------------------------------------------------------------------------------------------------


def keeps_order(worker: Any, calls: int) -> None:
    def submit(thread: int) -> None:
        for n in range(calls):
            worker.note(thread, n)

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    seen = worker.seen().result(60)
    for number in range(8):
        assert [n for thread, n in seen if thread == number] == list(range(calls))


class Notes(Worker):
    def __init__(self) -> None:
        self.noted: list[tuple[int, int]] = []

    def note(self, thread: int, n: int) -> None:
        self.noted.append((thread, n))

    def seen(self) -> list[tuple[int, int]]:
        return self.noted


@pytest.mark.parametrize("way_name", ["sync", "thread", "asyncio"])
def test_eight_threads_keep_their_order(start: Any, way_name: str) -> None:  # F25
    keeps_order(start(Notes, way_name), 500)


@pytest.mark.slow
@pytest.mark.parametrize("way_name", ["sync", "thread", "asyncio"])
def test_eight_threads_keep_their_order_over_three_thousand_calls(start: Any, way_name: str) -> None:
    keeps_order(start(Notes, way_name), 3000)


def test_an_idle_actor_whose_thread_dies_keeps_the_order(start: Any) -> None:  # F25: a kill, as far as a thread has one
    """An exception thrown into a thread that waits for a call comes up when the call arrives, outside any method."""
    seen: list[int] = []

    class Shares(Worker):
        def note(self, n: int) -> threading.Thread:
            seen.append(n)
            return threading.current_thread()

    class Killed(BaseException):
        pass

    worker = start(Shares, "thread")
    thread = worker.note(0).result(20)
    thrown = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Killed))
    assert thrown == 1
    futures = [worker.note(n) for n in range(1, 50)]
    for future in futures:
        assert future.exception(20) is None or isinstance(future.exception(), RemoteBaseError)
    failed = [n for n, future in enumerate(futures, 1) if future.exception()]
    assert len(failed) <= 1, "at most the call that it hit"
    assert seen == sorted(seen)
    assert set(range(50)) - set(seen) <= set(failed), "every other one has run, once"


# -- F33, F34 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way_name", ["pool", "concurrent", "asyncio", "demand"])
def test_a_call_that_sleeps_for_ever_and_good_ones_behind_it(start: Any, way_name: str, event: Any) -> None:  # F33
    worker, began, go = start(Works, way_name, call_timeout=0.5), event(), event()
    bad = worker.hold_later(began) if way_name == "asyncio" else worker.hold(began, go)
    assert began.wait(20)
    since = time.monotonic()
    good = [worker.echo(n) for n in range(100)]
    with pytest.raises(TimeoutError, match=r"call_timeout of 0\.5 s"):
        bad.result(20)
    assert time.monotonic() - since < 0.5 + 5
    assert gather(good, timeout=20) == list(range(100))
    go.set()
    assert worker.echo("next").result(20) == "next"


def test_an_async_call_that_sleeps_for_ever_on_a_thread(start: Any, event: Any) -> None:  # F33
    worker, began = start(Works, "thread", call_timeout=0.3), event()
    bad = worker.hold_later(began)
    assert began.wait(20)
    with pytest.raises(TimeoutError):
        bad.result(20)
    assert worker.echo("next").result(20) == "next", "its task was cancelled: the actor is free"


def test_the_only_thread_is_held_for_ever(start: Any, event: Any) -> None:  # F33: see runtime/deadlines.py
    worker, began, go = start(Works, "thread", call_timeout=0.3), event(), event()
    bad = worker.hold(began, go)
    assert began.wait(20)
    good = [worker.echo(n) for n in range(20)]
    for future in (bad, *good):
        with pytest.raises(TimeoutError):
            future.result(20)
    go.set()
    for _ in range(200):  # the thread comes back when its call ends: a call may be given up once more until then
        try:
            assert worker.echo("next").result(20) == "next"
            break
        except TimeoutError:
            continue
    else:
        pytest.fail("the actor does not come back")


@pytest.mark.parametrize("way_name", ["pool", "concurrent", "demand"])
def test_nothing_waits_behind_a_slow_call(start: Any, way_name: str, event: Any) -> None:  # F34
    worker, began, go = start(Works, way_name), event(), event()
    slow = worker.hold(began, go)
    assert began.wait(20)
    quick = [worker.pause(0.001) for _ in range(399)]
    assert gather(quick, timeout=30) == [0.001] * 399
    assert not slow.done()
    go.set()
    assert slow.result(20) == "held"


def test_nothing_waits_behind_a_slow_call_on_a_loop(start: Any, event: Any) -> None:  # F34
    class Loops(Works):
        async def pause_later(self) -> int:
            import asyncio

            await asyncio.sleep(0.001)
            return 1

    worker, began, go = start(Loops, "asyncio"), event(), event()
    slow, slow_async = worker.hold(began, go), worker.hold_later(event())
    assert began.wait(20)
    assert gather([worker.pause_later() for _ in range(399)], timeout=30) == [1] * 399
    assert not slow.done()
    assert slow_async.cancel()
    go.set()


# -- F05 ---------------------------------------------------------------------------------------------------------------


class TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class UnprintableBase(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("no")


@dataclass(frozen=True)
class Frozen(Exception):
    text: str = "frozen"


class NoNotes(Exception):
    def add_note(self, note: str) -> None:
        raise RuntimeError("no notes")

    def __setattr__(self, name: str, value: Any) -> None:
        raise RuntimeError("nothing can be set")


POISON = [
    TwoArguments(1, 2),
    Unprintable(),
    UnprintableBase(),
    Unpicklable(),
    Frozen(),
    NoNotes(),
    StopIteration(3),
    StopAsyncIteration(),
    MemoryError(),
    RecursionError(),
    ExceptionGroup("g", [ValueError(), TypeError()]),
    BaseExceptionGroup("g", [SystemExit(1)]),
    SystemExit(0),
    SystemExit(None),
    KeyboardInterrupt(),
    GeneratorExit(),
    TimeoutError("its own"),
]


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("error", POISON, ids=lambda error: type(error).__name__)
def test_whatever_a_method_raises(start: Any, beside: Any, error: BaseException, retries: int) -> None:  # F05
    worker = start(Works, beside, num_retries=retries, retry_wait=0.001)
    future, behind = worker.raises(error), [worker.echo(n) for n in range(5)]
    raised = future.exception(20)
    if isinstance(error, Exception):
        assert raised is error
    else:
        assert isinstance(raised, RemoteBaseError)
        assert raised.__cause__ is error
    assert gather(behind, timeout=20) == list(range(5))
    assert worker.echo("next").result(20) == "next"
    assert worker.stats()["restarts"] == 0


def test_a_method_that_recurses_without_end(start: Any, way: Any) -> None:
    class Recurses(Works):
        def down(self, n: int) -> Any:
            return self.down(n + 1) + 1

    worker = start(Recurses, way)
    with pytest.raises(RecursionError):
        worker.down(0).result(20)
    assert worker.echo("next").result(20) == "next"


class Hostile:
    """An object on which nearly everything raises."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no ==")

    def __bool__(self) -> bool:
        raise RuntimeError("no bool")

    def __len__(self) -> int:
        raise RuntimeError("no len")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no attributes")

    __hash__ = None  # type: ignore[assignment]


def test_hostile_arguments_and_results(start: Any, way: Any) -> None:
    worker, hostile = start(Works, way), Hostile()
    assert worker.echo(hostile).result(20) is hostile
    listed: list[Any] = [hostile]
    listed.append(listed)
    assert worker.echo(value=listed).result(20) is listed
    assert worker.echo("next").result(20) == "next"


# -- F30 ---------------------------------------------------------------------------------------------------------------


class Limited(Worker):
    def fail(self, kind: type[BaseException]) -> None:
        with self.limits.acquire(requested={"tokens": 10}):
            raise kind("the user's own")

    def forget(self) -> None:
        with self.limits.acquire(requested={"tokens": 10}):
            return

    def work(self) -> str:
        with self.limits.acquire(requested={"tokens": 10}, timeout=20) as taken:
            taken.update(usage={"tokens": 1})
        return "worked"


@pytest.mark.parametrize("kind", [ValueError, KeyError, SystemExit])
def test_user_errors_before_update(start: Any, beside: Any, kind: type[BaseException]) -> None:  # F30
    limits = [
        RateLimit(key="tokens", window_seconds=0.01, capacity=30),
        CallLimit(window_seconds=0.01, capacity=10),
        ResourceLimit(key="connection", capacity=1),
    ]
    worker = start(Limited, beside, limits=limits)
    for future in [worker.fail(kind) for _ in range(3)]:
        with pytest.raises(kind if issubclass(kind, Exception) else RemoteBaseError, match="the user's own"):
            future.result(20)
    with pytest.raises(RuntimeError, match="Not all limits"):
        worker.forget().result(20)
    assert gather([worker.work() for _ in range(5)], timeout=20) == ["worked"] * 5
