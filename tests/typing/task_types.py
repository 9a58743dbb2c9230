"""What a type checker knows of tasks. Checked by mypy and pyright in `test_types.py`; never run.

A line that must be an error says so by `# type: ignore`: both checkers report an ignore that nothing needs.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedExpression=false

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from typing import Any, assert_type

from concurry import BaseFuture, Executor, LimitPool, TaskWorker, gather, task, wait
from concurry.task_handle import TaskHandle
from concurry.task_worker import TaskLauncher
from concurry.tasks import Task


def length(text: str, *, times: int = 1) -> int:
    return len(text) * times


async def later(text: str) -> list[str]:
    return [text]


@task(mode="thread", max_workers=4)
def fetch(url: str, *, timeout: float = 5) -> bytes:
    return url.encode()


@task(mode="asyncio")
async def fetch_later(url: str) -> bytes:
    return url.encode()


@task
def bare(x: int) -> str:
    return str(x)


@task(mode="thread")
def limited(x: int, limits: LimitPool | None = None) -> int:
    return x


class Client:
    """Its methods are tasks."""

    @task(mode="thread")
    def ask(self, text: str, *, times: int = 1) -> bytes:
        return text.encode() * times

    @task(mode="asyncio")
    async def ask_later(self, text: str) -> bytes:
        return text.encode()

    @staticmethod
    @task(mode="thread")
    def cut(text: str) -> list[str]:
        return text.split()


def methods() -> None:
    """A task in a class is called without its object."""
    client = Client()
    assert_type(client.ask("a", times=2), BaseFuture[bytes])
    assert_type(client.ask.submit("a"), BaseFuture[bytes])
    assert_type(client.ask.map(["a"]), Iterator[bytes])
    assert_type(client.ask.map(["a"], return_exceptions=True), Iterator[bytes | BaseException])
    assert_type(client.ask_later("a"), BaseFuture[bytes])
    assert_type(Client.ask(client, "a"), BaseFuture[bytes])
    assert_type(Client.cut("a b"), BaseFuture[list[str]])
    assert_type(Client.cut.map(["a b"]), Iterator[list[str]])
    client.ask(5)  # type: ignore[arg-type]
    client.ask.submit()  # type: ignore[call-arg]
    Client.cut(5)  # type: ignore[arg-type]


def decorated() -> None:
    """A function under `@task` keeps its parameters, and gives the future of its result."""
    assert_type(fetch("u"), BaseFuture[bytes])
    assert_type(fetch("u", timeout=3).result(), bytes)
    assert_type(fetch.submit("u"), BaseFuture[bytes])
    assert_type(fetch.map(["u"]), Iterator[bytes])
    assert_type(fetch.map(["u"], return_exceptions=True), Iterator[bytes | BaseException])
    assert_type(fetch_later("u"), BaseFuture[bytes])
    assert_type(fetch_later.map(["u"], buffersize=3, progress=True), Iterator[bytes])
    assert_type(bare(5), BaseFuture[str])
    same_kind: Task[[int], str] = bare
    assert_type(same_kind(5), BaseFuture[str])
    assert_type(limited(5), BaseFuture[int])
    assert_type(gather([fetch("u")]), list[bytes])
    assert_type(wait([fetch("u")]), tuple[set[BaseFuture[bytes]], set[BaseFuture[bytes]]])
    with fetch as same:
        assert_type(same("u"), BaseFuture[bytes])
    assert_type(fetch.stop(), None)
    assert_type(fetch.is_alive(), bool)
    assert_type(task(mode="thread")(length)("a", times=2), BaseFuture[int])
    assert_type(task(mode="asyncio")(later)("a"), BaseFuture[list[str]])
    assert_type(task(mode="thread")(lambda: 5)(), BaseFuture[int])
    fetch(5)  # type: ignore[arg-type]
    fetch()  # type: ignore[call-arg]
    fetch("u", time=3)  # type: ignore[call-arg]
    fetch.map(["u"], buffer=3)  # type: ignore[call-overload]
    task(mode="thread", max_worker=3)  # type: ignore[call-overload]


async def awaited() -> None:
    """Futures are awaited for the same."""
    assert_type(await fetch("u"), bytes)
    assert_type(await fetch_later("u"), bytes)


def given() -> None:
    """A TaskWorker without a function: each call brings its own, and its types."""
    pool = TaskWorker.options(mode="thread", max_workers=4).init()
    assert_type(pool.submit(length, "a"), BaseFuture[int])
    assert_type(pool.submit(length, "a", times=3), BaseFuture[int])
    assert_type(pool.submit(later, "a"), BaseFuture[list[str]])
    assert_type(pool.submit(lambda: 5), BaseFuture[int])
    assert_type(pool.submit(fetch, "u", timeout=3), BaseFuture[bytes])
    assert_type(pool.map(length, ["a"]), Iterator[int])
    assert_type(pool.map(fetch, ["a"]), Iterator[bytes])
    assert_type(pool.map(later, ["a"], chunksize=3), Iterator[list[str]])
    assert_type(pool.map(length, ["a"], return_exceptions=False), Iterator[int])
    assert_type(pool.map(length, ["a"], return_exceptions=True), Iterator[int | BaseException])
    assert_type(pool.map(fetch, ["a"], return_exceptions=True), Iterator[bytes | BaseException])
    assert_type(pool.map(later, ["a"], return_exceptions=True, chunksize=3), Iterator[list[str] | BaseException])
    assert_type(pool.stop(), None)
    assert_type(pool.stats(), dict[str, Any])


def bound() -> None:
    """A bound TaskWorker is called as its function."""
    launcher = TaskWorker.options(mode="thread")
    assert_type(launcher, TaskLauncher)
    assert_type(launcher.options(max_workers=3), TaskLauncher)
    with launcher.init(length) as handle:
        assert_type(handle("a"), BaseFuture[int])
        assert_type(handle("a", times=2).result(), int)
        assert_type(handle.submit("a"), BaseFuture[int])
        assert_type(handle.map(["a"]), Iterator[int])
        assert_type(handle.map(["a"], return_exceptions=True), Iterator[int | BaseException])
        handle(5)  # type: ignore[arg-type]
        handle()  # type: ignore[call-arg]
    assert_type(launcher.init(fetch)("u"), BaseFuture[bytes])
    assert_type(TaskWorker.init(later)("a"), BaseFuture[list[str]])
    assert_type(launcher.init(later)("a"), BaseFuture[list[str]])
    TaskWorker.options(max_worker=3)  # type: ignore[call-arg]
    TaskWorker.options(mode="thread").init(5)  # type: ignore[call-overload]


def anything(pool: TaskHandle[..., Any]) -> None:
    """A handle of which nothing is known."""
    assert_type(pool("a", 5), BaseFuture[Any])


def executing(loop: asyncio.AbstractEventLoop) -> None:
    """An executor is one of the standard library's, and knows more."""
    with Executor(mode="process", max_workers=4) as executor:
        standard: concurrent.futures.Executor = executor
        assert_type(standard.submit(length, "a").result(), int)
        assert_type(executor.submit(length, "a"), BaseFuture[int])
        assert_type(executor.submit(later, "a"), BaseFuture[list[str]])
        assert_type(executor.map(length, ["a"], buffersize=3), Iterator[int])
        assert_type(executor.map(length, ["a"], return_exceptions=True), Iterator[int | BaseException])
        assert_type(executor.shutdown(wait=False, cancel_futures=True), None)
        assert_type(executor.submit(fetch, "u", timeout=3), BaseFuture[bytes])
        assert_type(executor.map(fetch, ["u"]), Iterator[bytes])
        executor.submit(length, 5)  # type: ignore[call-overload]
        loop.run_in_executor(executor, length, "a")
    Executor(4)  # type: ignore[arg-type]
    Executor(mode="thread", max_worker=3)  # type: ignore[call-arg]
