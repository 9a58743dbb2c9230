"""Ray mode beside Ray called natively: many calls at once, one there and back, eight actors that sleep, an array that
goes through three workers, limits, and a node killed among 2,000 calls.

    .venv/bin/python benchmarks/run.py --only ray [--quick]

Both sides run on the same cluster, by turns: actors of num_cpus=0, so that the cores decide and not what was reserved.
Starting an actor is measured by itself only. The array is made on the cluster, goes through three workers and stays
there; what is measured ends when the last of them is done, as `ray.wait` says it of a reference. The cluster of three
nodes is three Ray nodes on this machine; the one that is killed is not told so before.
Called by: `run.py`, which leaves it out where Ray is not installed.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from ray.cluster_utils import Cluster

from benchmarks._beside import Pair, pairs, row, rss_bytes
from concurry import CallLimit, LimitSet, RateLimit, ResourceLimit, Worker, WorkerDiedError, wait

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
MANY = 10**9  # of capacity: nobody ever waits
STORE = 1024 * MIB  # for a node's objects
NAP_S = 0.001


class Calls(Worker):
    def echo(self, value: Any) -> Any:
        return value

    def nap(self, seconds: float) -> None:
        time.sleep(seconds)

    def make(self, size: int) -> Any:
        return np.ones(size // 8)

    def add(self, array: Any) -> Any:
        return array + 1

    def take(self, seconds: float, requested: Any) -> int:
        """How often limits were had within some seconds."""
        count = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with self.limits.acquire(requested) as acq:
                acq.update(requested or {})
            count += 1
        return count


class Native:
    """The same as a Ray actor."""

    def echo(self, value: Any) -> Any:
        return value

    def nap(self, seconds: float) -> None:
        time.sleep(seconds)

    def naps(self, count: int, seconds: float) -> None:
        for _ in range(count):
            time.sleep(seconds)

    def make(self, size: int) -> Any:
        return np.ones(size // 8)

    def add(self, array: Any) -> Any:
        return array + 1

    def ask(self, arbiter: Any, seconds: float) -> int:
        """How often a limit was had within some seconds: one call to take, one that nobody waits for to give back."""
        count = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            ray.get(arbiter.take.remote())
            arbiter.release.remote()
            count += 1
        return count


class Arbiter:
    """The least that a limiter in a Ray actor could do."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self) -> None:
        self.taken += 1

    def release(self) -> None:
        self.taken -= 1


@contextmanager
def native(count: int) -> Iterator[list[Any]]:
    made: Any = ray.remote(Native)
    actors = [made.options(num_cpus=0).remote() for _ in range(count)]
    try:
        ray.get([actor.echo.remote(0) for actor in actors])
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)


@contextmanager
def ours(count: int, **options: Any) -> Iterator[Any]:
    with Calls.options(mode="ray", max_workers=count, num_cpus=0, **options).init() as pool:
        for future in [pool.echo(0) for _ in range(4 * count)]:
            future.result()
        yield pool


# -- many calls, and one ----------------------------------------------------------------------------------------------


def many_ours(pool: Any, calls: int) -> float:
    """Calls per second: all submitted, then all collected."""
    begun = time.perf_counter()
    futures = [pool.echo(number) for number in range(calls)]
    results = [future.result() for future in futures]
    taken = time.perf_counter() - begun
    assert results == list(range(calls))
    return calls / taken


def many_native(actor: Any, calls: int) -> float:
    begun = time.perf_counter()
    refs = [actor.echo.remote(number) for number in range(calls)]
    results = ray.get(refs)
    taken = time.perf_counter() - begun
    assert results == list(range(calls))
    return calls / taken


def round_trip(trip: Callable[[int], Any], trips: int) -> float:
    """Microseconds, the next call after the last one's result: the median."""
    for value in range(50):
        trip(value)
    took: list[float] = []
    for value in range(trips):
        begun = time.perf_counter()
        trip(value)
        took.append(time.perf_counter() - begun)
    return statistics.median(took) * 1e6


def own_us(many: Callable[[], float], calls: int) -> float:
    """Microseconds of this process's processor time for each of the calls, Ray's threads in it included."""
    before = time.process_time()
    many()
    return (time.process_time() - before) / calls * 1e6


def start_ours(count: int) -> float:
    """Milliseconds for each actor, until it has answered."""
    begun = time.perf_counter()
    with ours(count):
        return (time.perf_counter() - begun) / count * 1e3


def start_native(count: int) -> float:
    begun = time.perf_counter()
    with native(count):
        return (time.perf_counter() - begun) / count * 1e3


# -- eight actors that sleep ------------------------------------------------------------------------------------------


def naps_ours(pool: Any, calls: int) -> float:
    begun = time.perf_counter()
    for future in [pool.nap(NAP_S) for _ in range(calls)]:
        future.result()
    return time.perf_counter() - begun


def naps_native(actors: list[Any], calls: int) -> float:
    begun = time.perf_counter()
    ray.get([actors[number % len(actors)].nap.remote(NAP_S) for number in range(calls)])
    return time.perf_counter() - begun


def naps_alone(actors: list[Any], calls: int) -> float:
    """What the sleeping alone takes there, one call of Ray's each: a sleep of 1 ms takes longer than that."""
    begun = time.perf_counter()
    ray.get([actor.naps.remote(calls // len(actors), NAP_S) for actor in actors])
    return time.perf_counter() - begun


# -- an array through three workers -----------------------------------------------------------------------------------


def chain_ours(workers: list[Any], size: int, times: int) -> float:
    first, second, third = workers
    begun = time.perf_counter()
    for _ in range(times):
        done = third.add(second.add(first.make(size)))
        wait([done])
        assert done.done()
        del done
    return (time.perf_counter() - begun) / times


def chain_native(actors: list[Any], size: int, times: int) -> float:
    first, second, third = actors
    begun = time.perf_counter()
    for _ in range(times):
        done = third.add.remote(second.add.remote(first.make.remote(size)))
        ray.wait([done], fetch_local=False)
        del done
    return (time.perf_counter() - begun) / times


def growth_mib(chain: Callable[[], object]) -> float:
    """How much more memory this process has while a chain runs, at the most."""
    chain()
    gc.collect()
    before = most = rss_bytes()
    over = threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.005):
            most = max(most, rss_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        chain()
    finally:
        over.set()
        watcher.join()
    return (max(most, rss_bytes()) - before) / MIB


# -- limits -----------------------------------------------------------------------------------------------------------


def takes_ours(pool: Any, actors: int, seconds: float, requested: Any) -> float:
    futures = [pool.take(seconds, requested) for _ in range(actors)]
    return float(sum(future.result() for future in futures)) / seconds


def takes_native(actors: list[Any], arbiter: Any, seconds: float) -> float:
    return float(sum(ray.get([actor.ask.remote(arbiter, seconds) for actor in actors])) / seconds)


def limits(seconds: float, repeat: int, most: int) -> dict[str, Pair]:
    """Acquisitions a second over four actors, beside four that ask a Ray actor."""
    tokens = RateLimit(key="tokens", capacity=MANY * 1000, window_seconds=60)
    kinds: dict[str, tuple[list[Any], Any]] = {
        "a call": ([CallLimit(capacity=MANY, window_seconds=60)], None),
        "a call and tokens": ([CallLimit(capacity=MANY, window_seconds=60), tokens], {"tokens": 1000}),
        "of 100 slots": ([ResourceLimit(key="slots", capacity=100)], None),
    }
    found: dict[str, Pair] = {}
    made: Any = ray.remote(Arbiter)
    arbiter = made.options(num_cpus=0).remote()
    with native(4) as actors:
        for name, (said, requested) in list(kinds.items())[:most]:
            with ours(4, limits=LimitSet(said, shared=True)) as pool:
                found[name] = pairs(
                    functools.partial(takes_ours, pool, 4, seconds, requested),
                    lambda: takes_native(actors, arbiter, seconds),
                    repeat=repeat,
                )
    ray.kill(arbiter)
    return found


# -- a node killed ----------------------------------------------------------------------------------------------------


def kill(cluster: Cluster, node: Any) -> None:
    """SIGKILL to all that is one node, as when a machine is lost."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for process in [raylet, *raylet.children(recursive=True)]:
        process.kill()
    cluster.remove_node(node, allow_graceful=False)


def node_killed(calls: int) -> tuple[int, float]:
    """How many of the calls were answered, and the seconds that all of them took."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 * MIB})
    try:
        others = [cluster.add_node(num_cpus=2, object_store_memory=100 * MIB) for _ in range(2)]
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        # Half a CPU each: what is left after the loss has room for all six.
        options = Calls.options(
            mode="ray",
            max_workers=6,
            num_cpus=0.5,
            scheduling_strategy="SPREAD",
            num_retries=3,
            retry_on=WorkerDiedError,
            retry_wait=0.01,
        )
        with options.init() as pool:
            for future in [pool.echo(0) for _ in range(60)]:
                future.result()
            begun = time.perf_counter()
            futures = [pool.nap(0.005) for _ in range(calls)]
            futures[calls // 4].result()
            kill(cluster, others[0])
            wait(futures, timeout=240)
            answered = sum(future.done() and future.exception() is None for future in futures)
            return answered, time.perf_counter() - begun
    finally:
        ray.shutdown()
        cluster.shutdown()


# -- all of it --------------------------------------------------------------------------------------------------------


@contextmanager
def one_node() -> Iterator[None]:
    ray.init(
        num_cpus=4,
        object_store_memory=STORE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        yield
    finally:
        ray.shutdown()


def rows(quick: bool) -> list[dict[str, Any]]:
    # Ray's workers import this module by its name.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    calls, trips, naps, repeat = (1_000, 100, 2_000, 2) if quick else (5_000, 1_000, 20_000, 7)
    size, times, takes_s, lost = (8 * MIB, 2, 0.2, 400) if quick else (64 * MIB, 5, 2.0, 2_000)
    found: list[dict[str, Any]] = []
    with one_node(), ExitStack() as open_:
        [actor] = open_.enter_context(native(1))
        with ours(1) as pool:
            found += [
                row(
                    f"ray, 1 actor: {calls:,} calls submitted then collected / native",
                    pairs(lambda: many_ours(pool, calls), lambda: many_native(actor, calls), repeat=repeat),
                    at_least=4.0,
                    aim=15.0,
                    unit="calls/s",
                    better="higher",
                ),
                row(
                    "the same: the driver's own time a call / native",
                    pairs(
                        lambda: own_us(lambda: many_ours(pool, calls), calls),
                        lambda: own_us(lambda: many_native(actor, calls), calls),
                        repeat=repeat,
                    ),
                    unit="us",
                    better="lower",
                ),
                row(
                    "ray, round trip of one call / native",
                    pairs(
                        lambda: round_trip(lambda value: pool.echo(value).result(), trips),
                        lambda: round_trip(lambda value: ray.get(actor.echo.remote(value)), trips),
                        repeat=repeat,
                    ),
                    at_least=1.25,
                    aim=1.1,
                    unit="us",
                    better="lower",
                ),
            ]
        [actor] = open_.enter_context(native(1))
        kept = Calls.options(mode="ray", num_cpus=0, lifetime="detached", name="bench_ray").init()
        found += [
            row(
                f"ray, detached, 1 actor: {calls:,} calls submitted then collected / native",
                pairs(lambda: many_ours(kept, calls), lambda: many_native(actor, calls), repeat=min(repeat, 3)),
                unit="calls/s",
                better="higher",
            ),
            row(
                "ray, detached, round trip of one call / native",
                pairs(
                    lambda: round_trip(lambda value: kept.echo(value).result(), trips),
                    lambda: round_trip(lambda value: ray.get(actor.echo.remote(value)), trips),
                    repeat=min(repeat, 3),
                ),
                unit="us",
                better="lower",
            ),
        ]
        kept.stop()
        sleepers = 3 if quick else 8  # starting an actor is what takes time here
        ideal_s = naps * NAP_S / sleepers
        several = 1 if quick else 5
        with native(sleepers) as actors, ours(sleepers) as pool:
            beside_native = pairs(lambda: naps_ours(pool, naps), lambda: naps_native(actors, naps), repeat=several)
            beside_ideal = pairs(lambda: naps_ours(pool, naps), lambda: naps_alone(actors, naps), repeat=several)
        found += [
            row(
                # A sleep of 1 ms takes longer than that, whoever calls it: what is ideal is measured.
                f"ray, {sleepers} actors: {naps:,} calls of 1 ms sleep / the sleeping alone, one call each",
                beside_ideal,
                at_least=1.1,
                unit="s",
                better="lower",
            ),
            row(
                f"the same / {naps:,} x 1 ms / {sleepers}",
                Pair(beside_ideal.ours, ideal_s, beside_ideal.ours / ideal_s),
                unit="s",
                better="lower",
            ),
            row("the same / native", beside_native, unit="s", better="lower"),
        ]
        with native(3) as actors, ExitStack() as three:
            workers = [three.enter_context(ours(1)) for _ in range(3)]
            found += [
                row(
                    f"ray, {size // MIB} MiB array through 3 workers / native with refs",
                    pairs(
                        lambda: chain_ours(workers, size, times) * 1e3,
                        lambda: chain_native(actors, size, times) * 1e3,
                        repeat=repeat,
                    ),
                    at_least=1.1,
                    unit="ms",
                    better="lower",
                ),
                row(
                    f"the same: the driver's memory grows, while {times} go through",
                    growth_mib(lambda: chain_ours(workers, size, times)),
                    at_least=8.0,
                    unit="MiB",
                    better="lower",
                ),
            ]
        starts = 1 if quick else 4
        started = pairs(
            lambda: start_ours(starts), lambda: start_native(starts), repeat=1 if quick else 3, warm_up=not quick
        )
        found.append(row("ray, start of an actor / native", started, unit="ms", better="lower"))
        for name, measured in limits(takes_s, repeat=1 if quick else 3, most=1 if quick else 3).items():
            found += [
                row(
                    f"ray, limits over 4 actors: {name}",
                    measured.ours,
                    at_least=2_000,
                    aim=10_000,
                    unit="acquisitions/s",
                    better="higher",
                ),
                row("the same / asking a Ray actor", measured, unit="acquisitions/s", better="higher"),
            ]
    answered, seconds = node_killed(lost)
    found += [
        row(
            f"ray, a node of 3 killed among {lost:,} calls: answered",
            float(answered),
            at_least=float(lost),
            unit="calls",
            better="higher",
        ),
        row("the same: all of it took", seconds, unit="s", better="lower"),
    ]
    return found
