"""Process mode beside `ProcessPoolExecutor`, `ThreadPoolExecutor` and bare sockets: many calls at once, one call there
and back, and what a second process adds.

    .venv/bin/python benchmarks/run.py --only process [--quick]

The floor is what two processes do that only push and pull pickled tuples over zmq: no futures, no threads beside zmq's
own, nobody notices a death. All children are started by a forkserver, ours by our own.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import zmq

from benchmarks._beside import pairs, row
from concurry import Worker

FORKSERVER = multiprocessing.get_context("forkserver")


class Calls(Worker):
    def echo(self, value: Any) -> Any:
        return value

    def count(self, turns: int) -> int:
        return count(turns)


def echo(value: Any) -> Any:
    return value


def count(turns: int) -> int:
    """CPU-bound, and the same work however many others want the cores."""
    total = 0
    for number in range(turns):
        total += number
    return total


def pool_of_one() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=FORKSERVER)


# -- the floor --------------------------------------------------------------------------------------------------------


def bare_child(folder: str) -> None:
    """Unpickle, run, pickle, push back. None ends it."""
    context = zmq.Context()
    pull, push = _bare_socket(context, zmq.PULL), _bare_socket(context, zmq.PUSH)
    pull.connect(f"ipc://{folder}/calls")
    push.connect(f"ipc://{folder}/replies")
    methods: dict[str, Callable[..., Any]] = {"echo": echo}
    while (call := pickle.loads(pull.recv())) is not None:
        number, method, args = call
        push.send(pickle.dumps((number, methods[method](*args)), 5))
    context.destroy()


def _bare_socket(context: zmq.Context[Any], kind: int) -> Any:
    made = context.socket(kind)
    made.set_hwm(0)
    return made


def bare(measure: Callable[[Any, Any], float]) -> float:
    """What `measure(push, pull)` finds, with a child at the other ends."""
    context = zmq.Context()
    push, pull = _bare_socket(context, zmq.PUSH), _bare_socket(context, zmq.PULL)
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        push.bind(f"ipc://{folder}/calls")
        pull.bind(f"ipc://{folder}/replies")
        child = FORKSERVER.Process(target=bare_child, args=(folder,))
        child.start()
        try:
            _bare_trip(push, pull, 0)
            return measure(push, pull)
        finally:
            push.send(pickle.dumps(None))
            child.join()
            context.destroy()


def _bare_trip(push: Any, pull: Any, value: int) -> Any:
    push.send(pickle.dumps((value, "echo", (value,)), 5))
    return pickle.loads(pull.recv())


def bare_calls(calls: int) -> float:
    def all_of_them(push: Any, pull: Any) -> float:
        begun = time.perf_counter()
        for number in range(calls):
            push.send(pickle.dumps((number, "echo", (number,)), 5))
        replies = [pickle.loads(pull.recv()) for _ in range(calls)]
        taken = time.perf_counter() - begun
        assert replies[-1] == (calls - 1, calls - 1)
        return calls / taken

    return bare(all_of_them)


def bare_round_trip(trips: int) -> float:
    return bare(lambda push, pull: _round_trip(functools.partial(_bare_trip, push, pull), trips))


# -- many calls, and one ----------------------------------------------------------------------------------------------


def _collect(submit: Callable[[int], Any], calls: int) -> float:
    """Calls per second: all submitted, then all collected."""
    begun = time.perf_counter()
    futures = [submit(number) for number in range(calls)]
    results = [future.result() for future in futures]
    taken = time.perf_counter() - begun
    assert results == list(range(calls))
    return calls / taken


def _round_trip(trip: Callable[[int], Any], trips: int) -> float:
    """Microseconds from one call to its result, the next one after it."""
    for value in range(100):
        trip(value)
    begun = time.perf_counter()
    for value in range(trips):
        trip(value)
    return (time.perf_counter() - begun) / trips * 1e6


def ours_calls(calls: int) -> float:
    with Calls.options(mode="process").init() as worker:
        worker.echo(0).result()
        return _collect(worker.echo, calls)


def ours_round_trip(trips: int) -> float:
    with Calls.options(mode="process").init() as worker:
        return _round_trip(lambda value: worker.echo(value).result(), trips)


def executor_calls(make: Callable[[], Executor], calls: int) -> float:
    with make() as executor:
        executor.submit(echo, 0).result()
        return _collect(lambda number: executor.submit(echo, number), calls)


def executor_round_trip(trips: int) -> float:
    with pool_of_one() as executor:
        return _round_trip(lambda value: executor.submit(echo, value).result(), trips)


# -- more than one ----------------------------------------------------------------------------------------------------


def turns_in(seconds: float) -> int:
    """How often `count` goes round in that time, on this machine, when nothing else runs: the best of several."""
    turns = 10_000
    return int(turns * seconds / min(_cpu_seconds(turns) for _ in range(30)))


def _cpu_seconds(turns: int) -> float:
    begun = time.thread_time()
    count(turns)
    return time.thread_time() - begun


def busy_calls(processes: int, calls: int, turns: int) -> float:
    """CPU-bound calls per second."""
    with Calls.options(mode="process", max_workers=processes).init() as pool:
        for future in [pool.count(turns) for _ in range(8 * processes)]:
            future.result()
        begun = time.perf_counter()
        for future in [pool.count(turns) for _ in range(calls)]:
            future.result()
        return calls / (time.perf_counter() - begun)


def rows(quick: bool) -> list[dict[str, Any]]:
    calls, repeat, trips, busy = (2_000, 3, 300, 200) if quick else (20_000, 7, 3_000, 2_000)
    turns = turns_in(0.001)

    def many() -> float:
        return ours_calls(calls)

    def one() -> float:
        return ours_round_trip(trips)

    per_second: dict[str, Any] = {"unit": "calls/s", "better": "higher"}
    in_us: dict[str, Any] = {"unit": "us", "better": "lower"}
    found = [
        row(
            "process, 1 actor: calls submitted then collected / ProcessPoolExecutor(1)",
            pairs(many, lambda: executor_calls(pool_of_one, calls), repeat=repeat),
            at_least=8.0,
            aim=15.0,
            **per_second,
        ),
        row(
            "the same / ThreadPoolExecutor(1)",
            pairs(many, lambda: executor_calls(lambda: ThreadPoolExecutor(1), calls), repeat=repeat),
            aim=1.0,
            **per_second,
        ),
        row(
            "the same / bare PUSH and PULL of pickled tuples",
            pairs(many, lambda: bare_calls(calls), repeat=repeat),
            at_least=0.45,
            aim=0.65,
            **per_second,
        ),
        row(
            "process, round trip of one call / bare PUSH and PULL",
            pairs(one, lambda: bare_round_trip(trips), repeat=repeat),
            at_least=1.6,
            aim=1.3,
            **in_us,
        ),
        row(
            "process, round trip of one call / ProcessPoolExecutor(1)",
            pairs(one, lambda: executor_round_trip(trips), repeat=repeat),
            at_least=1.0,
            **in_us,
        ),
    ]
    if len(os.sched_getaffinity(0)) > 1:
        two_and_one = pairs(lambda: busy_calls(2, busy, turns), lambda: busy_calls(1, busy, turns), repeat=repeat)
        found.append(
            row("2 processes, CPU-bound calls of 1 ms / 1 process", two_and_one, at_least=1.8, aim=1.95, **per_second)
        )
    return found
