"""`map` loses nothing that it has: what ends it, and what is slow, is told and waited for at its place."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from concurry import EncodeError, Executor, MailboxFullError, RemoteBaseError, TaskWorker, WorkerStoppedError, task_map
from concurry.runtime.clock import FakeClock


def same(x: Any) -> Any:
    return x


def _way(**options: Any) -> Any:
    return SimpleNamespace(options=options, same_objects=options["mode"] != "process")


def _taken(results: Iterator[Any], kind: type[BaseException]) -> tuple[list[Any], str]:
    """What comes before it raises, and the text of that."""
    got: list[Any] = []
    try:
        for one in results:
            got.append(one)  # those before the exception are to be kept
    except kind as error:
        return got, str(error)
    pytest.fail(f"it raised no {kind.__name__}, and gave {got}")


def test_what_was_accepted_comes_after_the_end_of_the_block(way: Any) -> None:
    with Executor(**way.options) as executor:
        results = executor.map(same, (n for n in range(5000)), buffersize=10)
    got, text = _taken(results, RuntimeError)
    assert got == list(range(1 if way.name == "sync" else 10))
    assert text.startswith("cannot schedule new futures after shutdown")
    assert list(results) == []


def test_what_was_accepted_comes_after_a_stop_in_between(way: Any) -> None:
    with TaskWorker.options(**way.options).init() as pool:
        results = pool.map(same, iter(range(100)), buffersize=2)
        assert next(results) == 0
        for _ in pool.map(same, range(1)):  # behind the calls that were accepted, where one runs at a time
            pass
        if way.serial:
            pool.stop()
            got, _ = _taken(results, WorkerStoppedError)
            assert got == ([] if way.name == "sync" else [1, 2])


def test_what_was_accepted_comes_although_the_mailbox_is_full(start: Any, new_signal: Any) -> None:
    way = _way(mode="thread")
    begun, go_on = new_signal(way), new_signal(way)
    pool = start(way, mailbox_size=2, on_full="raise")

    def wait() -> None:
        begun.set()
        go_on.wait()

    results = pool.map(same, range(10))
    pool.submit(wait)
    begun.wait()
    for _ in range(2):
        pool.submit(same, 0)
    got, _ = _taken(results, MailboxFullError)
    assert got == [0, 1]
    go_on.set()


@pytest.mark.parametrize("buffersize", [None, 1, 4])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_sync_mode_runs_one_item_at_a_time(start: Any, buffersize: int | None, kind: type[BaseException]) -> None:
    told: list[Any] = []

    def run(x: int) -> int:
        told.append(("run", x))
        if x == 2:
            raise kind("out")
        return x

    results = start(_way(mode="sync")).map(run, iter(range(4)), buffersize=buffersize)
    with pytest.raises(kind, match="out"):
        told.extend(("got", one) for one in results)
    assert told == [("run", 0), ("got", 0), ("run", 1), ("got", 1), ("run", 2)]
    assert list(results) == []


def test_an_exit_in_sync_mode_comes_at_its_place_in_a_list(start: Any) -> None:
    def leave(x: int) -> int:
        if x == 2:
            raise SystemExit("out")
        return x

    assert _taken(start(_way(mode="sync")).map(leave, range(4)), SystemExit) == ([0, 1], "out")


class Own(BaseException):
    """No Exception."""


def _raise(kind: type[BaseException]) -> Any:
    def run(x: int) -> int:
        if x == 2:
            raise kind("two")
        return x

    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return run(x)

    return run, later


@pytest.mark.parametrize("kind", [SystemExit, Own, asyncio.CancelledError])
@pytest.mark.parametrize("is_async", [False, True])
def test_whatever_an_item_raises_comes_at_its_place_in_a_chunk(
    way: Any, start: Any, kind: type[BaseException], is_async: bool
) -> None:
    pool, run = start(way), _raise(kind)[is_async]
    got, text = _taken(pool.map(run, range(8), chunksize=4), BaseException)
    assert got == [0, 1]
    assert "two" in text
    results = list(pool.map(run, range(4), chunksize=4, return_exceptions=True))
    assert [results[0], results[1], results[3]] == [0, 1, 3]
    error = results[2]
    if way.name == "sync":
        assert type(error) is kind
    elif kind is asyncio.CancelledError:
        assert type(error).__name__ == "CancelledError"
    else:
        assert type(error) is RemoteBaseError
        assert kind.__name__ in str(error)


def test_a_ctrl_c_in_a_chunk_passes_in_sync_mode(start: Any) -> None:
    got, _ = _taken(
        start(_way(mode="sync")).map(_raise(KeyboardInterrupt)[0], iter(range(4)), chunksize=2), BaseException
    )
    assert got == [0, 1]


def test_a_chunk_whose_results_cannot_be_sent_is_told_as_one(start: Any) -> None:
    def make(x: int) -> Any:
        return os.scandir(".") if x == 3 else x

    got, text = _taken(start(_way(mode="process")).map(make, range(6), chunksize=2), EncodeError)
    assert got == [0, 1]
    assert text.startswith("map(chunksize=2): the result of one of the 2 items of a chunk cannot be sent")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(task_map, "system", fake)
    return fake


def test_a_slow_iterable_holds_up_no_result_that_is_there(apart: Any, start: Any, clock: FakeClock) -> None:
    pool = start(apart)
    given: list[int] = []

    def items() -> Iterator[int]:
        for number in range(6):
            if number:
                assert pool.submit(same, "after it").result() == "after it"
                futures[-1].exception()  # the call before this item is done
            assert len(given) >= number - 1, "what is there was not given"
            clock.advance(1)
            yield number

    futures: list[Any] = []
    submit = pool.submit

    def kept(args: Any) -> Any:
        futures.append(submit(same, *args))
        return futures[-1]

    source = task_map.Source((items(),), 1)
    results = task_map.results(
        kept, source, most=64, direct=False, timeout=None, progress=None, return_exceptions=False
    )
    for one in results:
        given.append(one)
    assert given == list(range(6))


def test_the_time_holds_while_the_iterable_is_read(way: Any, start: Any, clock: FakeClock) -> None:
    def items() -> Iterator[int]:
        for number in range(100):
            clock.advance(1)
            yield number

    read = items()
    got, text = _taken(start(way).map(same, read, timeout=3.5), TimeoutError)
    assert got == list(range(len(got)))  # what was there when the time was over
    assert len(got) == 4 or way.background
    assert text.startswith(f"map() was not done within 3.5 s: {len(got)} result")
    assert text.endswith("given; calls that had not begun were cancelled")
    assert next(read) == 4


def test_a_time_that_is_over_says_so_of_map(apart: Any, start: Any, new_signal: Any) -> None:
    go_on = new_signal(apart)
    results = start(apart).map(lambda x: go_on.wait() if x else x, range(2), timeout=0.05)
    with pytest.raises(TimeoutError, match=r"^map\(\) was not done within 0.05 s: [01] results? w"):
        list(results)
    go_on.set()


def test_a_time_that_the_function_raises_is_its_own(way: Any, start: Any) -> None:
    def late(x: int) -> int:
        raise TimeoutError("of the function")

    with pytest.raises(TimeoutError, match="of the function"):
        list(start(way).map(late, [1], timeout=60))


def test_not_a_number_is_no_time(start: Any) -> None:
    with pytest.raises(ValueError, match=r"map\(timeout=nan\)"):
        start(_way(mode="sync")).map(same, [1], timeout=float("nan"))


def test_an_exception_that_is_held_does_not_hold_the_worker() -> None:
    pool = TaskWorker.options(mode="sync").init()
    results = pool.map(_raise(ValueError)[0], iter(range(3)))
    with pytest.raises(ValueError, match="two") as caught:
        list(results)
    trace = caught.value.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_name != "_in_order":
        trace = trace.tb_next
    assert trace is not None
    assert [trace.tb_frame.f_locals[name] for name in ("submit", "source", "future", "got")] == [None] * 4
    pool.stop()
