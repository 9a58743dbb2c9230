"""Web sites for `scraper.py`: three on this machine, whose pages link to each other, and that mind how often one asks.

    python examples/support/site.py --until-eof       # prints the addresses, as JSON

Guarantees: 500 pages, all of which can be reached from the first page of the first site. Each site answers `PER_SECOND`
requests in any one second; beyond that 429 with `Retry-After`. One page in fifty fails with 503 the first time.
Assumes: it is a process of its own; `running_sites` starts it, and ends it by closing its standard input.
Called by: the example.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

PAGES = 500
SITES = 3
PER_SECOND = 100
LATENCY_S = 0.05


@contextmanager
def running_sites() -> Iterator[list[str]]:
    """Start the sites, yield their addresses (``http://127.0.0.1:<port>``), stop them."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--until-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C in the terminal is for the example; this one ends with the pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the sites did not start: exit code {process.wait()}; the reason is on stderr")
        yield json.loads(line)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


class Site:
    """One of them."""

    def __init__(self, index: int, addresses: list[str]) -> None:
        self.index = index
        self.addresses = addresses
        self.granted: deque[float] = deque()  # when, in the last second
        self.asked: Counter[int] = Counter()
        self.chance = random.Random(index)

    async def page(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        while self.granted and self.granted[0] <= now - 1:
            self.granted.popleft()
        if len(self.granted) >= PER_SECOND:
            return web.Response(status=429, headers={"Retry-After": "1"})
        self.granted.append(now)
        await asyncio.sleep(self.chance.uniform(0.5, 1.5) * LATENCY_S)
        number = int(request.match_info["number"])
        self.asked[number] += 1
        if number >= PAGES or number % SITES != self.index:
            return web.Response(status=404)
        if number % 50 == 7 and self.asked[number] == 1:
            return web.Response(status=503)
        links = "".join(f'<a href="{self.url(it)}">page {it}</a>\n' for it in linked(number))
        text = f"<html><title>Page {number}</title><body>\n{links}</body></html>"
        return web.Response(text=text, content_type="text/html")

    def url(self, number: int) -> str:
        return f"{self.addresses[number % SITES]}/{number}"


def linked(number: int) -> list[int]:
    """The pages that a page links to: some new ones, and some that are known."""
    return [it for it in (4 * number + 1, 4 * number + 2, 4 * number + 3, 4 * number + 4, number // 2, 0) if it < PAGES]


async def serve() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, lambda: None if os.read(0, 4096) else ended.set())
    addresses: list[str] = []
    runners = []
    try:
        for index in range(SITES):
            app = web.Application()
            app.router.add_get(r"/{number:\d+}", Site(index, addresses).page)
            runners.append(web.AppRunner(app, access_log=None, shutdown_timeout=0.05))
            await runners[-1].setup()
            await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
            addresses.append(f"http://127.0.0.1:{runners[-1].addresses[0][1]}")
        print(json.dumps(addresses), flush=True)
        await ended.wait()
    finally:
        for runner in runners:
            await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())
