"""HTTP calls with the `openai` client: thread mode beside `ThreadPoolExecutor`, asyncio mode beside asyncio.gather.

The server is the examples' own, a process of its own, with a latency of exactly 50 ms. Both sides use the same client
with the same settings, at most 100 calls at once, and are timed from making the pool (or the loop) to the last answer.
Most of the time is the client's own work, some 2 ms a call: with one interpreter, 1,000 calls take 2 s at the least.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import openai

from benchmarks._beside import Pair, pairs, row
from concurry import Worker, gather

LATENCY_S: Final = 0.05


class Caller(Worker):
    """The call as a worker's method, one client for all threads."""

    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client

    def call(self, number: int) -> str:
        return _text(self.client.chat.completions.create(**_asked(number)))


class AsyncCaller(Worker):
    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self.client = client

    async def call(self, number: int) -> str:
        return _text(await self.client.chat.completions.create(**_asked(number)))

    async def stop(self) -> None:
        await self.client.close()


def rows(quick: bool) -> list[dict[str, Any]]:
    """Measure both modes. `quick`: 100 calls, 20 at once and one pair, to see that it works."""
    calls, workers, repeat = (100, 20, 1) if quick else (1_000, 100, 5)
    with _server().running_server(latency=LATENCY_S, latency_spread=0) as url:
        # One client for all the runs on threads: connections that one side opens serve the other as well.
        with openai.OpenAI(**_client_args(url), http_client=openai.DefaultHttpxClient(trust_env=False)) as client:
            thread = pairs(
                lambda: _our_threads(client, calls, workers),
                lambda: _pool_threads(client, calls, workers),
                repeat=repeat,
            )
        aio = pairs(lambda: _our_loop(url, calls, workers), lambda: _plain_loop(url, calls, workers), repeat=repeat)
    return [
        _row(f"{calls:,} HTTP calls, thread, {workers} workers / ThreadPoolExecutor({workers})", thread),
        _row(f"{calls:,} HTTP calls, asyncio, {workers} at once / asyncio.gather", aio),
    ]


def _row(name: str, pair: Pair) -> dict[str, Any]:
    return row(name, pair, unit="s", better="lower", at_least=1.10, aim=1.0)


# -- the four ways; each returns seconds ------------------------------------------------------------------------------


def _our_threads(client: openai.OpenAI, calls: int, workers: int) -> float:
    start = time.perf_counter()
    with Caller.options(mode="thread", max_workers=workers).init(client) as caller:
        texts = gather([caller.call(number) for number in range(calls)])
        seconds = time.perf_counter() - start
    return _checked(texts, calls, seconds)


def _pool_threads(client: openai.OpenAI, calls: int, workers: int) -> float:
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        plain = Caller(client)
        futures = [pool.submit(plain.call, number) for number in range(calls)]
        texts = [future.result() for future in futures]
        seconds = time.perf_counter() - start
    return _checked(texts, calls, seconds)


def _our_loop(url: str, calls: int, workers: int) -> float:
    client = _async_client(url)
    start = time.perf_counter()
    with AsyncCaller.options(mode="asyncio", max_concurrency=workers).init(client) as caller:
        texts = gather([caller.call(number) for number in range(calls)])
        seconds = time.perf_counter() - start
    return _checked(texts, calls, seconds)


def _plain_loop(url: str, calls: int, workers: int) -> float:
    client = _async_client(url)
    start = time.perf_counter()

    async def main() -> float:
        room = asyncio.Semaphore(workers)
        plain = AsyncCaller(client)

        async def one(number: int) -> str:
            async with room:
                return await plain.call(number)

        texts = await asyncio.gather(*[one(number) for number in range(calls)])
        seconds = time.perf_counter() - start
        await client.close()
        return _checked(texts, calls, seconds)

    return asyncio.run(main())


# -- helpers ----------------------------------------------------------------------------------------------------------


def _asked(number: int) -> dict[str, Any]:
    return {"model": "demo-model", "messages": [{"role": "user", "content": f"What is {number} good for?"}]}


def _text(reply: Any) -> str:
    text: str = reply.choices[0].message.content
    return text


def _checked(texts: list[str], calls: int, seconds: float) -> float:
    if len(texts) != calls or not all(texts):
        raise RuntimeError(f"{calls} calls gave {len(texts)} answers, {sum(map(bool, texts))} of them with a text")
    return seconds


def _client_args(url: str) -> dict[str, Any]:
    return {"base_url": url, "api_key": "demo", "max_retries": 0, "timeout": 60.0}


def _async_client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(**_client_args(url), http_client=openai.DefaultAsyncHttpxClient(trust_env=False))


def _server() -> ModuleType:
    """`examples/support/server.py`, which is a script's neighbour and not in a package."""
    path = Path(__file__).resolve().parents[1] / "examples" / "support" / "server.py"
    spec = importlib.util.spec_from_file_location("bench_http_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
