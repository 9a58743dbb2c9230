"""Limits across processes: acquisitions a second by two processes at once, beside bare requests and replies over zmq.

The other side is the least that a limiter in another process could cost without leases granted ahead: one message
there and one back, over an `ipc://` socket pair of REQ and REP, by two processes at once, and no limiter.
"""

from __future__ import annotations

import os
import tempfile
import time
from multiprocessing import get_context
from typing import Any

import zmq

from benchmarks._beside import Pair, pairs, row
from concurry import Worker
from concurry.limits import CallLimit, LimitSet, RateLimit, ResourceLimit

MANY = 10**9  # of capacity: nobody ever waits


class Takes(Worker):
    """Takes and releases for some seconds."""

    def take(self, until: float, requested: Any) -> int:
        count = 0
        while time.monotonic() < until:
            with self.limits.acquire(requested) as acq:
                acq.update(requested or {})
            count += 1
        return count


def per_second(worker: Any, seconds: float, requested: Any) -> float:
    """By both processes together."""
    until = time.monotonic() + seconds
    futures = [worker.take(until, requested) for _ in range(2)]
    return float(sum(future.result() for future in futures)) / seconds


def ask(address: str, seconds: float, answer: Any) -> None:
    with zmq.Context() as context, context.socket(zmq.REQ) as requests:
        requests.connect(address)
        until = time.monotonic() + seconds
        count = 0
        while time.monotonic() < until:
            requests.send(b"may I")
            requests.recv()
            count += 1
        requests.send(b"over")
        requests.recv()
    answer.put(count)


def bare_per_second(seconds: float) -> float:
    spawn = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context, context.socket(zmq.REP) as replies:
        address = f"ipc://{os.path.join(folder, 'bare')}"
        replies.bind(address)
        counts = spawn.SimpleQueue()
        askers = [spawn.Process(target=ask, args=(address, seconds, counts)) for _ in range(2)]
        for asker in askers:
            asker.start()
        over = 0
        while over < len(askers):
            over += replies.recv() == b"over"
            replies.send(b"yes")
        total = sum(counts.get() for _ in askers)
        for asker in askers:
            asker.join()
    return float(total) / seconds


def beside(limits: list[Any], requested: Any, seconds: float, repeat: int) -> Pair:
    shared = LimitSet(limits, shared=True)
    with Takes.options(mode="process", max_workers=2, limits=shared).init() as worker:
        return pairs(lambda: per_second(worker, seconds, requested), lambda: bare_per_second(seconds), repeat=repeat)


def rows(quick: bool) -> list[dict[str, Any]]:
    seconds, repeat = (0.1, 1) if quick else (1.0, 3)
    calls = beside([CallLimit(capacity=MANY, window=60)], None, seconds, repeat)
    two = [CallLimit(capacity=MANY, window=60), RateLimit("tokens", capacity=MANY * 1000, window=60)]
    tokens = beside(two, {"tokens": 1000}, seconds, repeat)
    free = beside([ResourceLimit("slots", 100)], None, seconds, repeat)
    tight = beside([ResourceLimit("slots", 1)], None, seconds, repeat)
    unit: Any = {"unit": "acquisitions/s", "better": "higher"}
    return [
        row("limits, 2 processes: a call", calls.ours, at_least=6_000, aim=30_000, **unit),
        row("limits, 2 processes: a call, beside bare REQ/REP", calls, **unit),
        row("limits, 2 processes: a call and tokens, beside bare REQ/REP", tokens, **unit),
        row("limits, 2 processes: of 100 slots, beside bare REQ/REP", free, **unit),
        row("limits, 2 processes: of 1 slot, in turns, beside bare REQ/REP", tight, **unit),
    ]


def main() -> None:
    """Print the rows."""
    for each in rows(quick=False):
        beside_it = f"{each['ratio']:8.2f} of {each['other']:8.0f}" if each["ratio"] else ""
        print(f"{each['name']:66} {each['ours']:10.0f} {each['unit']} {beside_it}")


if __name__ == "__main__":
    main()
