"""`async_wait` and `async_gather`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from concurry.futures import BaseFuture, SyncFuture
from concurry.waiting_async import async_gather, async_wait

PATIENCE = 20  # seconds until a test gives up


def opened(count: int) -> list[BaseFuture[Any]]:
    return [BaseFuture() for _ in range(count)]


def finish(future: BaseFuture[Any], value: Any) -> None:
    future.begin()
    future.close(value)


def fail(future: BaseFuture[Any], error: BaseException) -> None:
    future.begin()
    future.fail(error)


def hooks_of(futures: Any) -> int:
    return sum(len(future._hooks or ()) for future in futures)


def later(fn: Any, *args: Any) -> None:
    """Run it in another thread, once the running coroutine awaits."""
    asyncio.get_running_loop().call_soon(lambda: threading.Thread(target=fn, args=args).start())


async def value(of: Any) -> Any:
    await asyncio.sleep(0)
    return of


async def error(of: BaseException) -> Any:
    await asyncio.sleep(0)
    raise of


def run(main: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await main

    return asyncio.run(bounded())


def test_every_shape() -> None:
    async def main() -> None:
        one, two = SyncFuture(1), SyncFuture(2)
        task = asyncio.get_running_loop().create_task(value(3))
        assert await async_gather([one, two, task, value(4), 5]) == [1, 2, 3, 4, 5]
        assert await async_gather(one, value(2)) == [1, 2]
        assert await async_gather(value(2)) == [2]
        assert await async_gather({"b": value(1), "a": two}) == {"b": 1, "a": 2}
        assert await async_gather(value(n) for n in range(3)) == [0, 1, 2]
        assert await async_gather([]) == []
        assert await async_gather({}) == {}
        assert await async_gather([[value(1)], {"x": one}], recurse=True) == [[1], {"x": 1}]
        assert await async_wait([]) == (set(), set())
        done, not_done = await async_wait([one, value(2), 3])
        assert sorted(future.result() for future in done) == [1, 2, 3]
        assert not not_done

    run(main())


def test_what_is_given_twice_is_waited_for_once() -> None:
    async def main() -> None:
        coroutine, raw, told = value(1), asyncio.get_running_loop().create_future(), []
        raw.set_result(2)
        progress = lambda completed, total, elapsed: told.append(total)  # noqa: E731
        assert await async_gather([coroutine, raw, coroutine, raw], progress=progress) == [1, 2, 1, 2]
        assert set(told) == {2}

    run(main())


def test_another_awaitable() -> None:
    class Awaitable:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return 7

    async def main() -> None:
        assert await async_gather([Awaitable(), value(1)]) == [7, 1]

    run(main())


def test_bad_input() -> None:
    async def main() -> None:
        one = SyncFuture(1)
        functions: tuple[Any, ...] = (async_wait, async_gather)
        for function in functions:
            with pytest.raises(TypeError, match="nothing to wait for"):
                await function()
            with pytest.raises(ValueError, match="Cannot provide both a structure"):
                await function([one], one)
            with pytest.raises(TypeError, match="timeout must be"):
                await function([one], timeout="5")
            with pytest.raises(TypeError, match="progress must be"):
                await function([one], progress=5)

    run(main())


def test_an_iterable_that_raises_in_the_middle_leaves_its_coroutines_to_the_caller() -> None:
    coroutines = [value(1), value(2)]

    def produce() -> Any:
        yield from coroutines
        raise LookupError("here")

    async def main() -> None:
        with pytest.raises(LookupError, match="here"):
            await async_gather(produce())
        assert await async_gather(coroutines) == [1, 2]

    run(main())


def test_every_kind(open_any: Any) -> None:
    async def main() -> None:
        later(open_any.finish, 4)
        assert await async_gather([open_any.given, value(5)]) == [4, 5]
        assert await async_wait([open_any.given]) == ({open_any.given}, set())

    run(main())


def test_the_loop_goes_on_meanwhile(open_any: Any) -> None:
    async def main() -> None:
        turned = asyncio.Event()

        async def turn() -> None:
            turned.set()

        other = asyncio.get_running_loop().create_task(turn())
        gathering = asyncio.get_running_loop().create_task(async_gather([open_any.given], timeout=PATIENCE))
        await turned.wait()
        assert not gathering.done()
        later(open_any.finish, 1)
        assert await gathering == [1]
        await other

    run(main())


def test_return_when() -> None:
    async def main() -> None:
        slow, fast, bad = opened(3)
        later(finish, fast, 1)
        assert await async_wait([slow, fast], return_when="first_completed") == ({fast}, {slow})
        later(fail, bad, ValueError())
        assert await async_wait([slow, fast, bad], return_when="FIRST_EXCEPTION") == ({fast, bad}, {slow})
        later(finish, slow, 1)
        assert await async_wait([slow, fast, bad]) == ({slow, fast, bad}, set())
        assert hooks_of([slow, fast, bad]) == 0

    run(main())


def test_the_first_to_fail_is_raised_and_the_rest_goes_on() -> None:
    async def main() -> None:
        (pending,) = opened(1)
        went_on = asyncio.Event()

        async def goes_on() -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            went_on.set()

        with pytest.raises(ValueError, match="now"):
            await async_gather([pending, goes_on(), error(ValueError("now"))])
        await went_on.wait()
        assert not pending.done()
        assert hooks_of([pending]) == 0
        first, second = await async_gather([error(ValueError("now")), value(1)], return_exceptions=True)
        assert (str(first), second) == ("now", 1)

    run(main())


def test_a_time_that_is_over() -> None:
    async def main() -> None:
        cancelled = asyncio.Event()

        async def long() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        (pending,) = opened(1)
        raw: concurrent.futures.Future[int] = concurrent.futures.Future()
        task = asyncio.get_running_loop().create_task(long())
        hows: tuple[Any, ...] = ({}, {"progress": lambda *_: None}, {"return_exceptions": True})
        for how in hows:
            cancelled.clear()
            with pytest.raises(TimeoutError, match=r"async_gather\(\): 1 of 5 futures were done within"):
                await async_gather([SyncFuture(1), pending, raw, task, long()], timeout=0.001, **how)
            await cancelled.wait()  # what nobody else knows
            assert not task.done()
            assert not pending.done()
            assert not raw.done()
        assert vars(raw)["_done_callbacks"] == []
        assert hooks_of([pending]) == 0

        done, not_done = await async_wait([SyncFuture(1), pending, long()], timeout=0.001)
        assert len(done) == 1
        (made,) = not_done - {pending}
        assert not made.done()
        made.cancel()
        task.cancel()
        await asyncio.wait([made, task])

    run(main())


def test_waiting_with_no_time_leaves_the_loop_its_turn() -> None:
    async def main() -> None:
        task = asyncio.get_running_loop().create_task(value(1))
        not_done = {task}
        while not_done:
            _, not_done = await async_wait([task], timeout=0)

    run(main())


def test_cancelling_gather_cancels_what_is_not_done() -> None:
    async def main() -> None:
        raw: concurrent.futures.Future[int] = concurrent.futures.Future()
        ended: list[str] = []

        async def long(name: str) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(name)

        task = asyncio.get_running_loop().create_task(long("task"))
        gathering = asyncio.get_running_loop().create_task(async_gather([raw, task, long("coroutine")]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gathering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathering
        assert raw.cancelled()
        assert task.cancelled()
        assert sorted(ended) == ["coroutine", "task"]  # and it waited for them

    run(main())


def test_cancelling_wait_cancels_only_what_it_made() -> None:
    async def main() -> None:
        raw: concurrent.futures.Future[int] = concurrent.futures.Future()
        ended = asyncio.Event()

        async def long() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        waiting = asyncio.get_running_loop().create_task(async_wait([raw, long()]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await ended.wait()
        assert not raw.cancelled()
        assert vars(raw)["_done_callbacks"] == []

    run(main())


def test_iterating() -> None:
    async def main() -> None:
        first, second, third = opened(3)
        finish(third, 3)
        pairs = await async_gather({"a": first, "b": second, "c": third, "d": [third]}, iter=True, recurse=True)
        assert await anext(pairs) == ("c", 3)
        assert await anext(pairs) == ("d", [3])
        later(finish, second, 2)
        assert await anext(pairs) == ("b", 2)
        later(fail, first, ValueError("last"))
        with pytest.raises(ValueError, match="last"):
            await anext(pairs)
        pairs = await async_gather([first, second], iter=True, return_exceptions=True)
        assert {index: str(result) async for index, result in pairs} == {0: "last", 1: "2"}

    run(main())


def test_leaving_an_iteration_leaves_nothing_behind() -> None:
    async def main() -> None:
        (pending,) = opened(1)
        cancelled = asyncio.Event()

        async def long() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        pairs = await async_gather([pending, value(1), long()], iter=True)
        assert await anext(pairs) == (1, 1)
        await pairs.aclose()
        await cancelled.wait()
        assert hooks_of([pending]) == 0
        pairs = await async_gather([pending, long()], iter=True, timeout=0.001)
        cancelled.clear()
        with pytest.raises(TimeoutError, match="0 of 2"):
            await anext(pairs)
        await cancelled.wait()

    run(main())


@pytest.mark.parametrize("function", [async_wait, async_gather])
def test_progress_is_told(function: Any) -> None:
    async def main() -> None:
        told: list[tuple[int, int, float]] = []
        first, second = opened(2)

        def end() -> None:
            finish(first, 1)
            finish(second, 2)

        later(end)
        await function([first, second, SyncFuture(0), value(1)], progress=lambda *what: told.append(what))
        assert told[-1][:2] == (4, 4)
        assert all(what[1] == 4 for what in told)
        await function([SyncFuture(0)], progress=lambda *what: told.append(what))
        assert told[-1][:2] == (1, 1)

    run(main())


def test_a_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    run(async_gather([value(1), SyncFuture(2)], progress={"desc": "calls"}))
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "calls" in shown


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("how", [{}, {"progress": lambda *_: None}, {"iter": True}])
def test_what_was_waited_for_is_held_no_longer(bad: bool, how: Any) -> None:
    """Also where its exception was raised, and is at hand with its traceback; and no garbage collection is needed."""

    async def main() -> None:
        (future,) = opened(1)
        gone = weakref.ref(future)
        ending = threading.Thread(target=fail if bad else finish, args=(future, ValueError("kept")))
        asyncio.get_running_loop().call_soon(ending.start)
        kept: BaseException | None = None
        result: Any = None
        try:
            result = await async_gather([future], **how)
            if how.get("iter"):
                result = [pair async for pair in result]
        except ValueError as error:
            kept = error
        ending.join(PATIENCE)
        assert (kept is not None) == bad
        del future, ending, result, kept
        await asyncio.sleep(0)
        assert gone() is None

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()


def test_two_loops_wait_for_the_same_while_threads_close() -> None:
    for _ in range(5):
        futures, start = opened(100), threading.Barrier(4)
        got: list[int] = []

        def end(part: int, futures: Any = futures, start: threading.Barrier = start) -> None:
            start.wait(PATIENCE)
            for future in futures[part::2]:
                finish(future, part)

        async def main(futures: Any = futures, start: threading.Barrier = start) -> None:
            start.wait(PATIENCE)
            got.append(len(await async_gather(futures)))  # noqa: B023
            pairs = await async_gather(futures, iter=True)
            got.append(len([pair async for pair in pairs]))  # noqa: B023
            got.append(len((await async_wait(futures))[0]))  # noqa: B023

        threads = [threading.Thread(target=end, args=(part,)) for part in range(2)]
        threads += [threading.Thread(target=run, args=(main(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert got == [100] * 6
        assert hooks_of(futures) == 0
