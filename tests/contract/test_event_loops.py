"""Async methods in every mode, and futures awaited from loops that are not the worker's."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from concurry import DeadlockError, Worker, async_gather, gather

Start = Callable[..., Any]
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Loops(Worker):
    def __init__(self) -> None:
        self.event: Any = None
        self.running = 0
        self.most = 0

    async def loop(self) -> int:
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    async def echo(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    async def meet(self, number: int) -> int:
        """Returns when `number` calls are here."""
        if self.event is None:
            self.event = asyncio.Event()
        self.running += 1
        if self.running == number:
            self.event.set()
        await self.event.wait()
        return self.running

    async def in_tasks(self) -> list[int]:
        return list(await asyncio.gather(*(self.echo(i) for i in range(5))))

    async def calls_own(self) -> int:
        return int(await self.echo(3))

    def plain(self) -> bool:
        """Whether a loop runs in this thread."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    def context(self) -> str:
        return variable.get()

    async def context_later(self) -> str:
        await asyncio.sleep(0)
        return variable.get()

    async def leaves_a_task(self, ended: Any) -> None:
        async def background() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.set()

        self.task = asyncio.get_running_loop().create_task(background())
        await asyncio.sleep(0)

    async def in_executor(self) -> int:
        return await asyncio.get_running_loop().run_in_executor(None, lambda: 5)

    async def stops_the_loop(self) -> int:
        asyncio.get_running_loop().call_soon(lambda: None)
        return 1

    def hold(self, began: Any, go: Any) -> None:
        began.set()
        go.wait()


def test_async_methods_in_every_mode(start: Start) -> None:
    worker = start(Loops)
    assert gather([worker.echo(i) for i in range(50)]) == list(range(50))
    assert worker.in_tasks().result() == list(range(5))
    assert worker.calls_own().result() == 3
    assert worker.in_executor().result() == 5


def test_an_actor_keeps_one_loop(start: Start) -> None:
    worker = start(Loops)
    assert len({worker.loop().result() for _ in range(5)}) == 1


def test_plain_methods_run_where_no_loop_runs(start: Start) -> None:
    assert start(Loops).plain().result() is False


def test_many_async_methods_run_together(start: Start, way: Any) -> None:
    number = min(way.async_at_once, 300)
    worker = start(Loops, options={"max_concurrency": 1000} if way.name == "asyncio" else None)
    gather([worker.meet(number) for _ in range(number)], timeout=20)


def test_plain_methods_do_not_block_async_ones(start: Start, new_signal: Any) -> None:
    worker, began, go = start(Loops), new_signal(), new_signal()
    held = worker.hold(began, go)
    began.wait()
    assert worker.echo(1).result(timeout=10) == 1
    go.set()
    held.result()


def test_awaited_from_another_loop(start: Start, way: Any) -> None:
    worker = start(Loops)

    async def main() -> None:
        assert await worker.echo(1) == 1
        assert await worker.plain() is not way.background
        assert await asyncio.gather(*(worker.echo(i) for i in range(50))) == list(range(50))
        assert await async_gather([worker.echo(i) for i in range(50)]) == list(range(50))
        assert await asyncio.wait_for(worker.echo(2), 10) == 2
        assert await asyncio.wrap_future(worker.echo(3)) == 3
        future = worker.echo(4)
        assert [await future, await future] == [4, 4]
        with pytest.raises(TypeError):
            await worker.echo()

    asyncio.run(main())
    asyncio.run(main())


def test_awaited_from_several_loops_at_once(start: Start, way: Any, new_signal: Any) -> None:
    worker = start(Loops)
    shared = worker.echo("shared")
    seen: list[Any] = []

    async def main() -> None:
        seen.append(await shared)
        seen.extend(await asyncio.gather(*(worker.echo(i) for i in range(20))))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(seen) == 63


def test_awaited_in_another_worker(start: Start) -> None:
    class Asks(Worker):
        async def ask(self, other: Any, value: Any) -> Any:
            return await other.echo(value)

        def ask_and_wait(self, other: Any, value: Any) -> Any:
            return other.echo(value).result(timeout=10)

    asks, other = start(Asks), start(Loops)
    assert gather([asks.ask(other, i) for i in range(10)]) == list(range(10))
    assert asks.ask_and_wait(other, 5).result() == 5


def test_context_variables_are_the_callers_in_sync_mode() -> None:
    """Elsewhere nothing is promised: a call runs in the context of its actor's thread or loop."""
    variable.set("set")
    with Loops.options(mode="sync").init() as worker:
        assert worker.context().result() == "set"
        assert worker.context_later().result() == "set"

        async def main() -> str:
            variable.set("inner")
            return str(await worker.context_later())

        assert asyncio.run(main()) == "inner"


def test_sync_mode_in_a_running_loop() -> None:
    async def main() -> None:
        with Loops.options(mode="sync").init() as worker:
            assert await worker.echo(1) == 1
            assert worker.echo(2).result() == 2
            assert worker.plain().result() is True

    asyncio.run(main())


def test_a_task_left_behind_is_cancelled_at_the_end(start: Start, new_signal: Any) -> None:
    worker, ended = start(Loops), new_signal()
    worker.leaves_a_task(ended).result()
    worker.stop()
    assert ended.happened()


def test_waiting_for_itself_is_refused(start: Start) -> None:
    class Selfish(Worker):
        def wait_for_own(self, worker: Any) -> str:
            future = worker.one()
            try:
                future.result(timeout=10)
            except DeadlockError as error:
                return str(error)
            return "fine"

        def one(self) -> int:
            return 1

    worker = start(Selfish)
    text = worker.wait_for_own(worker).result(timeout=20)
    if worker.mode.value == "sync" or len(worker) != 1 or worker.options.max_concurrency == 4:
        assert text == "fine"
    else:
        assert "Selfish would wait for ever" in text


def test_two_that_wait_for_each_other(start: Start, way: Any) -> None:
    class Pair(Worker):
        def ask(self, other: Any, back: Any) -> Any:
            return other.answer(back).result(timeout=10)

        def answer(self, back: Any) -> Any:
            return back.one().result(timeout=10) if back is not None else 1

        def one(self) -> int:
            return 1

    first, second = start(Pair), start(Pair)
    assert first.ask(second, None).result() == 1
    future = first.ask(second, first)
    if way.background and way.sync_at_once == 1:
        with pytest.raises(DeadlockError, match=r"Pair.*->.*Pair"):
            future.result(timeout=20)
    else:
        assert future.result(timeout=20) == 1


def test_a_coroutine_never_awaited_by_the_method_is_run(start: Start) -> None:
    class Returns(Worker):
        async def inner(self) -> int:
            return 5

        def outer(self) -> Any:
            return self.inner()

    assert start(Returns).outer().result() == 5
