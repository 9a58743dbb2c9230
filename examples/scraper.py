"""A scraper that keeps to each site's quota: 500 pages, found by following links over three sites.

    python examples/scraper.py

The sites start by themselves, on this machine. Each answers 100 requests a second, and more with 429; now and then a
page fails with 503. Every site has a worker with limits of its own, so that a slow one holds up no other.
"""

import re
import time
from collections import Counter
from urllib.parse import urlsplit

import aiohttp
from support.site import running_sites

from concurry import BaseFuture, CallLimit, Handle, ProgressBar, ResourceLimit, ReturnWhen, Worker, wait


class Fetcher(Worker):
    """Fetches pages of one site. Async methods of an actor run together, on its loop."""

    def __init__(self) -> None:
        self.session: aiohttp.ClientSession | None = None
        self.attempts: Counter[str] = Counter()

    async def open(self) -> None:
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))  # the limits are the bound

    async def fetch(self, url: str) -> tuple[str, list[str]]:
        """The title of a page, and where it links to."""
        assert self.session is not None
        # One call, and one connection, which is given back at the end of the block.
        async with self.limits.acquire(), self.session.get(url) as reply:
            self.attempts[str(reply.status)] += 1
            reply.raise_for_status()  # the error has the reply's headers, and so its Retry-After
            text = await reply.text()
        title = re.search("<title>(.*?)</title>", text)
        return title[1] if title else "", re.findall('href="(.*?)"', text)

    def counted(self) -> Counter[str]:
        return self.attempts

    async def stop(self) -> None:  # runs in the worker, when it is stopped
        if self.session is not None:
            await self.session.close()


def may_pass(exception: Exception) -> bool:
    """Whether to ask again: the site is busy or in trouble, or the connection broke. A 404 stays one."""
    if isinstance(exception, aiohttp.ClientResponseError):
        return exception.status == 429 or exception.status >= 500
    return isinstance(exception, aiohttp.ClientConnectionError)


def fetcher() -> Handle[Fetcher]:
    """A worker for one site: 90 calls a second, evenly, and 20 at one time."""
    started = Fetcher.options(
        mode="asyncio",
        limits=[CallLimit(window_seconds=1 / 90, capacity=1), ResourceLimit(key="connections", capacity=20)],
        num_retries=5,
        retry_on=may_pass,
        retry_wait=0.1,  # doubled with each attempt; a site's Retry-After counts for more
    ).init()
    started.open().result()
    return started


def crawl(first: str, fetchers: dict[str, Handle[Fetcher]]) -> tuple[dict[str, str], dict[str, BaseException]]:
    """Follow all links from `first` that lead to one of the sites. Returns titles, and errors, by address."""
    seen = {first}
    titles: dict[str, str] = {}
    errors: dict[str, BaseException] = {}

    def fetch(url: str) -> BaseFuture[tuple[str, list[str]]]:
        return fetchers[urlsplit(url).netloc][Fetcher.fetch](url)

    open_ = {fetch(first): first}
    with ProgressBar(total=1, desc="crawling", unit="page") as bar:
        while open_:
            done, _ = wait(open_.keys(), return_when=ReturnWhen.FIRST_COMPLETED)
            for future in done:
                url = open_.pop(future)
                if (error := future.exception()) is not None:
                    errors[url] = error
                    continue
                titles[url], links = future.result()
                new = {it for it in links if urlsplit(it).netloc in fetchers} - seen
                seen |= new
                open_.update({fetch(it): it for it in new})
            bar.set_total(len(seen))
            bar.set_n(len(titles) + len(errors))
    return titles, errors


def main() -> None:
    with running_sites() as addresses:
        fetchers = {urlsplit(it).netloc: fetcher() for it in addresses}
        try:
            start = time.monotonic()
            titles, errors = crawl(f"{addresses[0]}/0", fetchers)
            seconds = time.monotonic() - start
            attempts = sum((it.counted().result() for it in fetchers.values()), Counter[str]())
        finally:
            for it in fetchers.values():
                it.stop()
    print(f"{len(titles)} pages of {len(fetchers)} sites in {seconds:.1f} s, {len(errors)} failed")
    print("replies: " + ", ".join(f"{count} of status {status}" for status, count in sorted(attempts.items())))
    for url, error in errors.items():
        print(f"  {url}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
