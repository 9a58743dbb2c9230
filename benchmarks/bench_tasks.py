"""Functions on executors: `Executor` beside those of the standard library, and beside loky and joblib where they are
installed. A function that returns its argument, the defaults of a user.

    .venv/bin/python benchmarks/run.py --only tasks [--quick]
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import Executor as StandardExecutor
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from benchmarks._beside import pairs, row
from concurry import Executor, TaskWorker, Worker


def echo(value: Any) -> Any:
    return value


class Echo(Worker):
    def echo(self, value: Any) -> Any:
        return value


def submitted(make: Callable[[], StandardExecutor], calls: int) -> float:
    """Calls per second: all submitted, then all collected."""
    with make() as executor:
        list(executor.map(echo, range(100)))  # its workers are there
        return _collected(lambda number: executor.submit(echo, number), calls)


def _collected(submit: Callable[[int], Any], calls: int) -> float:
    begun = time.perf_counter()
    futures = [submit(number) for number in range(calls)]
    results = [future.result() for future in futures]
    taken = time.perf_counter() - begun
    assert results == list(range(calls))
    return calls / taken


def mapped(make: Callable[[], StandardExecutor], calls: int, **how: Any) -> float:
    """Items per second of one `map`."""
    with make() as executor:
        list(executor.map(echo, range(100)))
        begun = time.perf_counter()
        results = list(executor.map(echo, range(calls), **how))
        taken = time.perf_counter() - begun
    assert results == list(range(calls))
    return calls / taken


def lazily(calls: int, mode: Any, workers: int) -> float:
    """The same over a generator, which is read as far as calls are open."""
    with Executor(mode=mode, max_workers=workers) as executor:
        list(executor.map(echo, range(100)))
        begun = time.perf_counter()
        results = list(executor.map(echo, (number for number in range(calls))))
        taken = time.perf_counter() - begun
    assert results == list(range(calls))
    return calls / taken


def bound(calls: int, mode: Any) -> float:
    """Calls per second of a bound function."""
    with TaskWorker.options(mode=mode).init(echo) as worker:
        worker(0).result()
        return _collected(worker, calls)


def method(calls: int, mode: Any) -> float:
    """Calls per second of a method."""
    with Echo.options(mode=mode).init() as worker:
        worker.echo(0).result()
        return _collected(worker.echo, calls)


def lambdas(calls: int, workers: int) -> float:
    """Items per second of a `map` of a lambda, which goes by value."""
    with Executor(mode="process", max_workers=workers) as executor:
        list(executor.map(echo, range(100)))
        begun = time.perf_counter()
        results = list(executor.map(lambda value: value, range(calls)))
        taken = time.perf_counter() - begun
    assert results == list(range(calls))
    return calls / taken


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def rows(quick: bool) -> list[dict[str, Any]]:
    calls, process_calls, repeat = (2_000, 1_000, 3) if quick else (20_000, 5_000, 7)
    few, many = 4, 100
    unit: dict[str, Any] = {"unit": "calls/s", "better": "higher"}
    found: list[dict[str, Any]] = []

    def beside(name: str, ours: Callable[[], float], other: Callable[[], float], **judged: Any) -> None:
        found.append(row(name, pairs(ours, other, repeat=repeat), **unit, **judged))

    for workers in (1, few, many):

        def threads(workers: int = workers) -> Executor:
            return Executor(mode="thread", max_workers=workers)

        def standard(workers: int = workers) -> StandardExecutor:
            return ThreadPoolExecutor(workers)

        name = f"thread, {workers} workers"
        beside(
            f"{name}, submit / ThreadPoolExecutor",
            lambda make=threads: submitted(make, calls),  # type: ignore[misc]
            lambda make=standard: submitted(make, calls),  # type: ignore[misc]
            at_least=2.0,
            aim=4.0,
        )
        beside(
            f"{name}, map / ThreadPoolExecutor",
            lambda make=threads: mapped(make, calls),  # type: ignore[misc]
            lambda make=standard: mapped(make, calls),  # type: ignore[misc]
            at_least=2.0,
            aim=4.0,
        )

    def processes() -> Executor:
        return Executor(mode="process", max_workers=2)

    def standard_processes() -> StandardExecutor:
        return ProcessPoolExecutor(2)

    beside(
        "process, 2 workers, submit / ProcessPoolExecutor",
        lambda: submitted(processes, process_calls),
        lambda: submitted(standard_processes, process_calls),
        at_least=2.0,
        aim=4.0,
    )
    beside(
        "process, 2 workers, map / ProcessPoolExecutor",
        lambda: mapped(processes, process_calls),
        lambda: mapped(standard_processes, process_calls),
        at_least=2.0,
        aim=4.0,
    )
    beside(
        "process, 2 workers, map with chunksize=100 / ProcessPoolExecutor",
        lambda: mapped(processes, 10 * process_calls, chunksize=100),
        lambda: mapped(standard_processes, 10 * process_calls, chunksize=100),
        at_least=1.0,
        aim=2.0,
    )
    beside(
        "process, 2 workers, map over a generator / ProcessPoolExecutor over a list",
        lambda: lazily(process_calls, "process", 2),
        lambda: mapped(standard_processes, process_calls),
        at_least=1.5,
    )
    beside(
        "process, 2 workers, map of a lambda / ProcessPoolExecutor of a function",
        lambda: lambdas(process_calls, 2),
        lambda: mapped(standard_processes, process_calls),
        at_least=1.0,
    )
    if _has("loky"):
        from loky import ProcessPoolExecutor as Loky  # type: ignore[import-not-found]

        beside(
            "process, 2 workers, submit / loky",
            lambda: submitted(processes, process_calls),
            lambda: submitted(lambda: Loky(2), process_calls),
            at_least=2.0,
        )
    if _has("joblib"):
        from joblib import Parallel, delayed  # type: ignore[import-not-found]

        def by_joblib() -> float:
            with Parallel(n_jobs=2) as parallel:
                parallel(delayed(echo)(number) for number in range(100))
                begun = time.perf_counter()
                results = parallel(delayed(echo)(number) for number in range(process_calls))
                taken = time.perf_counter() - begun
            assert results == list(range(process_calls))
            return process_calls / taken

        beside(
            "process, 2 workers, map with chunksize=100 / joblib, which puts calls together by itself",
            lambda: mapped(processes, process_calls, chunksize=100),
            by_joblib,
            at_least=1.0,
        )
    for mode, number in (("thread", calls), ("process", process_calls)):
        beside(
            f"{mode}, 1 actor, a bound function / a method",
            lambda mode=mode, number=number: bound(number, mode),  # type: ignore[misc]
            lambda mode=mode, number=number: method(number, mode),  # type: ignore[misc]
            at_least=0.7,
            aim=0.9,
        )
    return found
