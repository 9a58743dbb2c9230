"""`map`: order, laziness, chunks, time-outs, failures and cancelling, in every mode."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from concurry import MailboxFullError, RemoteBaseError
from concurry.task_map import LEAST_OPEN


def square(x: int) -> int:
    return x * x


def not_five(x: int) -> int:
    if x == 5:
        raise KeyError("five")
    return x


async def later_not_five(x: int) -> int:
    return not_five(x)


class Counted:
    """An endless iterator that tells how far it was read."""

    def __init__(self) -> None:
        self.given = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.given += 1
        return self.given - 1


def _way(**options: Any) -> Any:
    return SimpleNamespace(options=options, same_objects=options["mode"] != "process")


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 2])
def test_in_order_and_to_the_shortest(way: Any, start: Any, chunksize: int, buffersize: int | None) -> None:
    pool = start(way)
    how: Any = {"chunksize": chunksize, "buffersize": buffersize}
    for _ in range(2):  # it can be used again
        assert list(pool.map(operator.add, range(10), range(0, 70, 10), **how)) == [11 * n for n in range(7)]
        assert list(pool.map(operator.add, itertools.count(), [1, 2], **how)) == [1, 3]
    assert list(pool.map(square, [], **how)) == []
    assert list(pool.map(square, **how)) == []


@pytest.mark.parametrize("chunksize", [1, 2, 3, 100])
@pytest.mark.parametrize("fn", [not_five, later_not_five])
@pytest.mark.parametrize("source", [range(10), "iterator"])
def test_it_raises_at_the_item_that_failed(way: Any, start: Any, fn: Any, chunksize: int, source: Any) -> None:
    pool = start(way)
    results = pool.map(fn, iter(range(10)) if source == "iterator" else source, chunksize=chunksize)
    got = [next(results) for _ in range(5)]
    assert got == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError) as caught:
        next(results)
    assert caught.value.args == ("five",)
    assert list(results) == []
    assert list(pool.map(fn, [1, 2])) == [1, 2]


def test_a_chunk_of_plain_functions_that_return_coroutines(way: Any, start: Any) -> None:
    pool = start(way)
    results = pool.map(lambda x: later_not_five(x) if x % 2 else x, range(10), chunksize=4)
    assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError):
        next(results)
    assert list(pool.map(lambda x: later_not_five(x) if x % 2 else x, range(5), chunksize=4)) == [0, 1, 2, 3, 4]
    with pytest.raises(TypeError, match="generator"):
        list(pool.map(lambda x: (x for _ in ()), range(5), chunksize=4))


def test_a_base_exception_ends_its_chunk_only(start: Any) -> None:
    pool = start(_way(mode="thread"))

    def leave(x: int) -> int:
        if x == 1:
            raise SystemExit
        return x

    with pytest.raises(RemoteBaseError):
        list(pool.map(leave, range(4), chunksize=2))
    assert list(pool.map(leave, [0, 2], chunksize=2)) == [0, 2]


def test_an_iterable_that_raises_raises_at_its_place(way: Any, start: Any) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("broken")

    for chunksize in (1, 2, 100):
        results = start(way).map(square, items(), chunksize=chunksize)
        assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
        with pytest.raises(OSError, match="broken"):
            next(results)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_it_reads_no_further_than_its_buffer(way: Any, start: Any, chunksize: int) -> None:
    pool, source = start(way), Counted()
    results = pool.map(square, source, buffersize=4, chunksize=chunksize)
    ahead = 4 if way.background else 0  # in sync mode nothing runs before what was run is given
    assert source.given == (ahead or 1) * chunksize
    for taken in range(50):
        assert next(results) == taken * taken
        assert source.given == (ahead + taken // chunksize + 1) * chunksize
    results.close()
    assert list(results) == []


def test_endless_without_a_buffersize(way: Any, start: Any) -> None:
    pool, source = start(way), Counted()
    results = pool.map(square, source)
    ahead = source.given
    assert ahead == (
        LEAST_OPEN if way.options["mode"] not in ("sync", "asyncio") else 1 if way.name == "sync" else 2000
    )
    assert list(itertools.islice(results, 200)) == [n * n for n in range(200)]
    assert source.given == 200 + (ahead if way.background else 0)
    results.close()


def test_what_has_a_length_is_submitted_at_once(apart: Any, start: Any, new_log: Any) -> None:
    log = new_log(apart)
    pool = start(apart)
    results = pool.map(log.append, range(300))
    pool.submit(log.append, "last").result()
    if apart.serial:
        assert len(log) == 301  # and nothing was taken yet
    del results  # not begun: nothing is cancelled
    assert sorted(pool.map(str, range(3))) == ["0", "1", "2"]


@pytest.mark.parametrize("how", ["drop", "close"])
def test_ending_what_was_begun_cancels_the_rest(
    apart: Any, start: Any, new_signal: Any, new_log: Any, how: str
) -> None:
    begun, go_on, log = new_signal(apart), new_signal(apart), new_log(apart)
    pool = start(apart, max_concurrency=1, max_workers=1)

    def run(number: int, begun: Any, go_on: Any, log: Any) -> int:
        if number == 1:
            begun.set()
            go_on.wait()
        log.append(number)
        return number

    results = pool.map(run, range(100), *([it] * 100 for it in (begun, go_on, log)))
    assert next(results) == 0
    begun.wait()
    if how == "drop":
        del results
    else:
        results.close()
    go_on.set()
    pool.submit(square, 1).result()
    assert len(log) == 2  # the first, and the one that ran


def test_a_time_out(apart: Any, start: Any, new_signal: Any) -> None:
    go_on = new_signal(apart)
    pool = start(apart)

    def run(number: int, go_on: Any) -> int:
        if number == 2:
            go_on.wait()
        return number

    results = pool.map(run, range(4), [go_on] * 4, timeout=0.5)
    with pytest.raises(TimeoutError, match=r"map\(\) was not done within 0.5 s"):
        list(results)
    assert list(results) == []
    go_on.set()
    assert list(pool.map(square, [1, 2], timeout=20)) == [1, 4]


def test_numbers_that_cannot_be(start: Any) -> None:
    pool = start(_way(mode="sync"))
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"chunksize": 0}, ValueError),
        ({"chunksize": 1.5}, TypeError),
        ({"chunksize": None}, TypeError),
        ({"buffersize": 0}, ValueError),
        ({"buffersize": "2"}, TypeError),
        ({"buffersize": True}, TypeError),
        ({"timeout": "soon"}, TypeError),
    ]
    for how, kind in wrong:
        with pytest.raises(kind, match=next(iter(how))):
            pool.map(square, [1], **how)
    with pytest.raises(TypeError):
        pool.map(square, 5)
    with pytest.raises(TypeError, match="progress"):
        list(pool.map(square, [1], progress=5))


def test_progress(way: Any, start: Any) -> None:
    told: list[Any] = []
    pool = start(way)

    def tell(completed: int, total: int | None, elapsed: float) -> None:
        told.append((completed, total))

    assert list(pool.map(square, range(3), progress=tell, chunksize=2)) == [0, 1, 4]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    told.clear()
    assert list(pool.map(square, iter(range(2)), progress=tell)) == [0, 1]
    assert told == [(0, None), (1, None), (2, None)]


def test_a_bar(start: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pool = start(_way(mode="thread"))
    assert list(pool.map(square, range(5), progress={"desc": "squares", "style": "std"})) == [n * n for n in range(5)]
    assert "squares" in (said := capsys.readouterr().err)
    assert "5/5" in said
    with pytest.raises(KeyError):
        list(pool.map(not_five, range(9), progress={"desc": "fives", "style": "std"}))
    assert "5/9" in capsys.readouterr().err
    assert list(pool.map(square, iter([1]), progress=True)) == [1]


def test_a_bounded_mailbox_is_never_overrun(apart: Any, start: Any) -> None:
    pool = start(apart, mailbox_size=3, on_full="raise")
    assert list(pool.map(square, range(50))) == [n * n for n in range(50)]
    assert list(pool.map(square, range(50), chunksize=4)) == [n * n for n in range(50)]


def test_a_mailbox_that_is_full_is_told_at_the_line(start: Any, new_signal: Any) -> None:
    way = _way(mode="thread")
    begun, go_on = new_signal(way), new_signal(way)
    pool = start(way, mailbox_size=3, on_full="raise")

    def run(number: int) -> int:
        begun.set()
        go_on.wait()
        return number

    blocked = pool.submit(run, 0)
    begun.wait()
    with pytest.raises(MailboxFullError):
        pool.map(run, range(10), buffersize=8)
    go_on.set()
    assert blocked.result() == 0
    assert list(pool.map(square, [3])) == [9]


def test_the_iterator_keeps_its_worker() -> None:
    from concurry import TaskWorker

    results = TaskWorker.options(mode="sync").init().map(square, range(5))
    assert list(results) == [0, 1, 4, 9, 16]


def test_a_function_that_refers_to_a_handle(start: Any) -> None:
    other = start(_way(mode="thread"), square)
    for chunksize in (1, 2):
        results = start(_way(mode="process")).map(lambda x: other(x).result(), range(4), chunksize=chunksize)
        assert list(results) == [0, 1, 4, 9]


def test_a_length_that_cannot_be_told_is_none(start: Any) -> None:
    class Odd:
        def __iter__(self) -> Iterator[int]:
            return itertools.count()

        def __len__(self) -> int:
            raise NotImplementedError

    results = start(_way(mode="thread")).map(square, Odd())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    results.close()


def test_inside_an_actor(start: Any) -> None:
    inner = start(_way(mode="thread"))
    assert start(_way(mode="thread")).submit(lambda: list(inner.map(square, range(5)))).result() == [0, 1, 4, 9, 16]
