"""Asyncio mode with an async client: 300 requests at once on one thread, awaited by an async program.

    python examples/async_client.py

The client here is aiohttp, without a library for LLMs between it and the server; `batch_llm.py` has the same mode with
`openai.AsyncOpenAI`.
"""

import asyncio
import time

import aiohttp
from support.server import running_server

from concurry import Worker, async_gather

PROMPTS = [f"Name a use of the number {number}." for number in range(300)]


class Asker(Worker):
    """Async methods of one actor run together; sync ones run on a thread beside the loop, one at a time."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        # In a method, for a session belongs to the loop that is running when it is made: here, the actor's.
        self.session = aiohttp.ClientSession(
            headers={"Authorization": "Bearer demo"},
            connector=aiohttp.TCPConnector(limit=0),  # `max_concurrency` is the bound
            raise_for_status=True,
        )

    async def ask(self, prompt: str) -> str:
        assert self.session is not None, "call open() first"
        asked = {"model": "demo-model", "messages": [{"role": "user", "content": prompt}]}
        async with self.session.post(f"{self.base_url}/chat/completions", json=asked) as reply:
            content: str = (await reply.json())["choices"][0]["message"]["content"]
        return content

    def longest(self, answers: list[str]) -> str:
        return max(answers, key=len)  # work of the processor: the loop goes on meanwhile

    async def stop(self) -> None:  # runs in the worker, on its loop, when the handle is stopped
        if self.session is not None:
            await self.session.close()


async def ask_all(base_url: str) -> None:
    async with Asker.options(mode="asyncio", max_concurrency=300).init(base_url) as asker:
        await asker.open()  # a future of ours can be awaited in any loop
        start = time.monotonic()
        futures = [asker.ask(prompt) for prompt in PROMPTS]
        # A future as an argument: the call starts when all the answers are there, and nobody waits in between.
        longest = asker.longest(futures)
        answers = await async_gather(futures, progress={"desc": "asking", "unit": "prompt"})
        seconds = time.monotonic() - start
        print(f"{len(answers)} answers in {seconds:.1f} s; one after the other: {len(answers) * 0.5:.0f} s")
        print(f"the longest: {await longest}")


if __name__ == "__main__":
    with running_server(latency=0.5, latency_spread=0.2) as url:
        asyncio.run(ask_all(url))
