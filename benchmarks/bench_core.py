"""The actor core beside the executors of the standard library: many calls at once, one call there and back, start and
stop, memory of what waits, and what an idle pool costs. Methods that return their argument, the defaults of a user.

    .venv/bin/python benchmarks/run.py --only core [--quick]
"""

from __future__ import annotations

import asyncio
import gc
import pathlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks._beside import median_seconds, pairs, row, rss_bytes, seconds
from concurry import Worker


class Echo(Worker):
    def echo(self, value: Any) -> Any:
        return value

    async def async_echo(self, value: Any) -> Any:
        return value

    async def nap(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def wait_for(self, event: threading.Event) -> None:
        event.wait()


def echo(value: Any) -> Any:
    return value


async def async_echo(value: Any) -> Any:
    return value


def _collect(submit: Any, calls: int) -> float:
    """Calls per second: all submitted, then all collected."""
    begun = time.perf_counter()
    futures = [submit(number) for number in range(calls)]
    results = [future.result() for future in futures]
    taken = time.perf_counter() - begun
    assert results == list(range(calls))
    return calls / taken


def ours_calls(calls: int, method: str = "echo", **options: Any) -> float:
    with Echo.options(**options).init() as worker:
        submit = getattr(worker, method)
        submit(0).result()
        return _collect(submit, calls)


def executor_calls(calls: int, threads: int) -> float:
    with ThreadPoolExecutor(threads) as executor:
        executor.submit(echo, 0).result()
        return _collect(lambda number: executor.submit(echo, number), calls)


def loop_calls(calls: int) -> float:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(async_echo(0), loop).result()
        return _collect(lambda number: asyncio.run_coroutine_threadsafe(async_echo(number), loop), calls)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def ours_round_trip(trips: int) -> float:
    with Echo.options(mode="thread").init() as worker:
        return _round_trip(worker.echo, trips)


def executor_round_trip(trips: int) -> float:
    with ThreadPoolExecutor(1) as executor:
        return _round_trip(lambda value: executor.submit(echo, value), trips)


def _round_trip(submit: Any, trips: int) -> float:
    """Microseconds from one call to its result, the next one after it."""
    for value in range(100):
        submit(value).result()
    begun = time.perf_counter()
    for value in range(trips):
        submit(value).result()
    return (time.perf_counter() - begun) / trips * 1e6


def naps(calls: int) -> float:
    with Echo.options(mode="asyncio").init() as worker:

        def all_of_them() -> None:
            for future in [worker.nap(0.1) for _ in range(calls)]:
                future.result()

        return seconds(all_of_them)


def bytes_a_waiting_call(calls: int) -> float:
    release = threading.Event()
    with Echo.options(mode="thread").init() as worker:
        blocked = worker.wait_for(release)
        worker.echo(0)
        numbers = list(range(calls))  # the arguments are the user's
        gc.collect()
        before = rss_bytes()
        futures = [worker.echo(number) for number in numbers]
        used = rss_bytes() - before
        release.set()
        blocked.result()
        assert [future.result() for future in futures] == numbers
    return used / calls


def ours_start_and_stop(actors: int) -> float:
    return seconds(lambda: Echo.options(mode="thread", max_workers=actors).init().stop())


def bare_start_and_stop(actors: int) -> float:
    def start_and_stop() -> None:
        release = threading.Event()
        threads = [threading.Thread(target=release.wait) for _ in range(actors)]
        for thread in threads:
            thread.start()
        release.set()
        for thread in threads:
            thread.join()

    return seconds(start_and_stop)


def idle_wake_ups(actors: int, watch_s: float) -> tuple[float, float]:
    """How often the threads of an idle pool were switched to, and the CPU seconds of the process, while we wait."""
    with Echo.options(mode="thread", max_workers=actors).init() as pool:
        for future in [pool.echo(number) for number in range(1000)]:
            future.result()
        before, cpu = _switches(), time.process_time()
        threading.Event().wait(watch_s)
        return float(_switches() - before), time.process_time() - cpu


def _switches() -> int:
    """Context switches of all threads but this one."""
    me, count = threading.get_native_id(), 0
    for task in pathlib.Path("/proc/self/task").iterdir():
        if task.name != str(me):
            lines = (task / "status").read_text().splitlines()
            count += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return count


def rows(quick: bool) -> list[dict[str, Any]]:
    calls, repeat, trips, actors = (2_000, 3, 500, 100) if quick else (20_000, 7, 5_000, 1_000)

    def one_thread() -> float:
        return ours_calls(calls, mode="thread")

    def many_threads() -> float:
        return ours_calls(calls, mode="thread", max_workers=100)

    def one_loop() -> float:
        return ours_calls(calls, "async_echo", mode="asyncio")

    waiting_bytes = bytes_a_waiting_call(10_000 if quick else 100_000)  # first: later, freed memory would be used again
    wake_ups, cpu_s = idle_wake_ups(100, 0.5 if quick else 3.0)
    unit: dict[str, Any] = {"unit": "calls/s", "better": "higher"}
    return [
        row(
            "thread, 1 actor: calls submitted then collected / ThreadPoolExecutor(1)",
            pairs(one_thread, lambda: executor_calls(calls, 1), repeat=repeat),
            at_least=3.0,
            aim=5.0,
            **unit,
        ),
        row(
            "thread, 100 actors / ThreadPoolExecutor(100)",
            pairs(many_threads, lambda: executor_calls(calls, 100), repeat=repeat),
            at_least=2.0,
            aim=4.0,
            **unit,
        ),
        row(
            "thread, round trip of one call / ThreadPoolExecutor(1)",
            pairs(lambda: ours_round_trip(trips), lambda: executor_round_trip(trips), repeat=repeat),
            unit="us",
            better="lower",
            at_least=1.0,
            aim=0.7,
        ),
        row(
            "asyncio, calls of an async def / run_coroutine_threadsafe",
            pairs(one_loop, lambda: loop_calls(calls), repeat=repeat),
            at_least=2.5,
            aim=4.0,
            **unit,
        ),
        row(
            "asyncio, 10,000 calls that each sleep 0.1 s",
            naps(1_000) if quick else median_seconds(lambda: naps(10_000), repeat=3),
            unit="s",
            better="lower",
            at_least=1.5,
        ),
        row(
            "memory of a waiting call",
            waiting_bytes,
            unit="bytes",
            better="lower",
            at_least=1000,
            aim=600,
        ),
        row(
            f"{actors} thread actors, start and stop / bare threads",
            pairs(lambda: ours_start_and_stop(actors), lambda: bare_start_and_stop(actors), repeat=repeat),
            unit="s",
            better="lower",
            at_least=2.0,
            aim=1.3,
        ),
        row("idle pool of 100 actors: wake-ups", wake_ups, unit="", better="lower", at_least=0),
        row("idle pool of 100 actors: CPU", cpu_s, unit="s", better="lower", at_least=0.01),
    ]
