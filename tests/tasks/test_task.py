"""`@task`: what becomes of a function, when it is started, and how it travels, in every mode."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from concurry import (
    DeadlockError,
    Executor,
    TaskWorker,
    WorkerStoppedError,
    gather,
    global_config,
    task,
    temp_config,
    wait,
)
from concurry.tasks import Task


def negative(n: int) -> int:
    return -n


@task(mode="process", on_demand=False)
def factorial(n: int) -> int:
    """The product of the numbers up to n."""
    return 1 if n < 2 else n * factorial.__wrapped__(n - 1)


@task(mode="process", on_demand=False)
def told_by_name(x: Any) -> tuple[str, bool]:
    return type(told_by_name).__name__, isinstance(x, Task)


MARK = threading.Lock()  # a function that refers to it cannot go by value


@task(mode="process", on_demand=False)
def with_a_lock() -> bool:
    with MARK:
        return True


@pytest.fixture
def make(way: Any) -> Any:
    """`make(fn, **options)`: a task in the way of this test, stopped at its end."""
    made: list[Any] = []

    def make_task(fn: Any, **options: Any) -> Any:
        made.append(task(**{**way.options, **options})(fn))
        return made[-1]

    yield make_task
    for each in made:
        each.stop(timeout=3)


def test_a_function_becomes_a_task(make: Any) -> None:
    def add(x: int, y: int = 1) -> int:
        """Adds."""
        return x + y

    adds = make(add)
    assert (adds.__name__, adds.__doc__, adds.__module__) == ("add", "Adds.", __name__)
    assert adds.__qualname__ == add.__qualname__
    assert inspect.signature(adds) == inspect.signature(add)
    assert adds(2).result() == 3
    assert adds(2, y=5).result() == 7
    assert adds.submit(2, 3).result() == 5
    assert list(adds.map([1, 2], [3, 4])) == [4, 6]
    assert list(adds.map(range(5), chunksize=2)) == [1, 2, 3, 4, 5]
    assert gather([adds(n) for n in range(5)]) == [1, 2, 3, 4, 5]
    assert adds.__wrapped__(1) == 2


def test_lambdas_and_async_functions(make: Any) -> None:
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert make(lambda x: 2 * x)(4).result() == 8
    waits = make(later)
    assert waits(4).result() == 5
    assert list(waits.map(range(3))) == [1, 2, 3]

    async def ask() -> int:
        return await waits(6)  # type: ignore[no-any-return]

    assert asyncio.run(ask()) == 7


def test_limits_are_given(make: Any) -> None:
    def hold(x: int, limits: Any) -> tuple[int, str]:
        with limits.acquire():
            return x, type(limits).__name__

    assert make(hold)(1).result() == (1, "LimitPool")


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_on_demand_unless_somebody_says_otherwise(mode: str) -> None:
    with task(mode=mode)(negative) as first:
        assert first(-1).result() == 1
        assert first.get_pool_stats()["on_demand"]
        assert first.get_pool_stats()["total_workers"] == 0
    with task(mode=mode, on_demand=False, max_workers=2)(negative) as second:
        assert second(-1).result() == 1
        assert second.get_pool_stats()["total_workers"] == 2
    with temp_config(global_task_decorator_on_demand=False), task(mode=mode)(negative) as third:
        assert third(-1).result() == 1
        assert not third.get_pool_stats()["on_demand"]
    with temp_config(**{f"{mode}_on_demand": False}), task(mode=mode)(negative) as fourth:
        assert fourth(-1).result() == 1
        assert not fourth.get_pool_stats()["on_demand"]


@pytest.mark.parametrize("mode", ["sync", "asyncio"])
def test_not_on_demand_where_that_cannot_be(mode: str) -> None:
    with task(mode=mode)(negative) as one:
        assert one(-1).result() == 1
        assert not one.get_pool_stats()["on_demand"]


def test_with_max_workers_it_has_map(make: Any, way: Any) -> None:
    if way.options["mode"] in ("sync", "asyncio"):
        with pytest.raises(ValueError, match="max_workers must be 1"):
            make(negative, max_workers=4)
        return
    four = make(negative, max_workers=4)
    assert list(four.map(range(-20, 0))) == list(range(20, 0, -1))
    assert four.submit(-3).result() == 3
    assert four.get_pool_stats()["max_workers"] == 4


def test_nothing_is_started_before_the_first_call() -> None:
    one = task(mode="thread", on_demand=False)(negative)
    assert repr(one) == "<task negative: not started>"
    assert one.is_alive()
    assert one(-2).result() == 2
    assert "thread" in repr(one)
    assert one.stats()["done"] == 1
    one.stop()
    one.stop(timeout=1)
    assert not one.is_alive()
    with pytest.raises(WorkerStoppedError, match="stopped"):
        one(-2)


def test_options_are_read_at_the_first_call() -> None:
    one = task()(negative)
    with pytest.raises(ValueError, match=r"negative: mode parameter is required: say @task\(mode='thread'\)"):
        one(-1)
    with temp_config(global_mode="sync"):
        assert one(-1).result() == 1
    assert one.handle.mode == "sync"
    one.stop()


def test_bare_with_a_mode_of_the_configuration() -> None:
    with temp_config(global_mode="sync"):

        @task
        def double(x: int) -> int:
            return 2 * x

        assert double(4).result() == 8
    double.stop()
    assert global_config.defaults.mode is None


def test_wrong_options_are_refused_at_the_decorators_line() -> None:
    with pytest.raises(TypeError, match="did you mean 'max_workers'"):
        task(mode="thread", max_worker=3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="max_workers must be 1 for Sync mode"):
        task(mode="sync", max_workers=3)
    with pytest.raises(TypeError, match="takes a function"):
        task(mode="thread")(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="takes a function"):
        task("thread")  # type: ignore[call-overload]


def test_threads_that_call_first_start_one() -> None:
    gate, handles = threading.Barrier(8), []
    one = task(mode="thread", on_demand=False)(negative)

    def first() -> None:
        gate.wait()
        one(-1).result()
        handles.append(one.handle)

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, handles))) == 1
    one.stop()


def test_one_that_is_dropped_needs_no_stop() -> None:
    one = task(mode="thread", on_demand=False)(negative)
    future = one(-1)
    one(-2)
    del one
    gc.collect()
    assert future.result() == 1


def test_blocking(make: Any) -> None:
    one = make(negative, blocking=True)
    assert one(-1) == 1
    assert list(one.map([-1])) == [1]


def test_in_a_class() -> None:
    class Shop:
        def __init__(self, rate: float) -> None:
            self.rate = rate

        @task(mode="thread")
        def price(self, net: float) -> float:
            return net * self.rate

    assert Shop(1.5).price(10).result() == 15.0
    assert isinstance(Shop.price, Task)
    Shop.price.stop()


def test_a_task_in_a_module_goes_by_its_name() -> None:
    with factorial, told_by_name, with_a_lock:
        assert factorial(5).result() == 120
        assert factorial.handle.__dict__["_pool"].plan.name == "factorial"
        assert with_a_lock().result() is True
        assert told_by_name(factorial).result() == ("Task", True)
        assert told_by_name(pickle.loads(pickle.dumps(factorial))).result() == ("Task", True)
    assert pickle.loads(pickle.dumps(factorial)) is factorial


def test_a_task_given_to_an_executor_is_its_function() -> None:
    local = task(mode="thread")(negative)
    for mode in ("thread", "process"):
        with Executor(mode=mode) as executor:
            assert executor.submit(factorial, 5).result() == 120
            assert list(executor.map(factorial, range(4))) == [1, 1, 2, 6]
            assert executor.submit(local, -3).result() == 3
            assert executor.submit(with_a_lock).result() is True
    with TaskWorker.options(mode="process").init(factorial) as bound:
        assert bound(4).result() == 24
    assert local.is_alive()
    assert "not started" in repr(local)


def test_a_task_calls_itself(make: Any, way: Any) -> None:
    if way.options["mode"] != "thread" or way.name != "thread":
        pytest.skip("a thread for each call is what it needs, in one process")

    def fib(n: int) -> int:
        return n if n < 2 else sum(gather([fibs(n - 1), fibs(n - 2)]))

    fibs = make(fib, max_workers=100)
    assert fibs(6).result() == 8


def test_futures_of_several_tasks(make: Any) -> None:
    first, second = make(negative), make(str)
    done, _ = wait([first(-1), second(2)])
    assert {future.result() for future in done} == {1, "2"}
    assert second(first(-3)).result() == "3"


SCRIPT = """
    import functools
    from concurry import Executor, TaskWorker, gather, task

    SCALE = 3

    class Point:
        def __init__(self, x): self.x = x
        def __eq__(self, other): return type(other) is Point and self.x == other.x

    def scaled(point): return Point(SCALE * point.x)

    @task(mode="{mode}", max_workers={workers})
    def twice(point): return scaled(scaled(point))

    @task(mode="{mode}")
    async def later(x): return x + SCALE

    def outer(k):
        return lambda point: Point(point.x + k)

    if __name__ == "__main__":
        assert twice(Point(2)).result() == Point(18)
        assert list(twice.map([Point(n) for n in range(4)])) == [Point(9 * n) for n in range(4)]
        assert later(4).result() == 7
        with TaskWorker.options(mode="{mode}").init(outer(5)) as bound:
            assert bound(Point(1)).result() == Point(6)
            assert bound.submit(scaled, Point(1)).result() == Point(3)
            assert list(bound.map([Point(1)], chunksize=3)) == [Point(6)]
        with Executor(mode="{mode}") as executor:
            assert executor.submit(outer(1), Point(1)).result() == Point(2)
            assert list(executor.map(functools.partial(scaled), [Point(1)])) == [Point(3)]
            assert executor.submit(twice, Point(1)).result() == Point(9)
        print("good")
"""


@pytest.mark.parametrize("start_by", ["script", "stdin"])
@pytest.mark.parametrize("mode", ["sync", "thread", "asyncio", "process"])
def test_functions_of_main(mode: str, start_by: str, tmp_path: Path) -> None:
    workers = 1 if mode in ("sync", "asyncio") else 2
    source = textwrap.dedent(SCRIPT).replace("{mode}", mode).replace("{workers}", str(workers))
    script = tmp_path / "script.py"
    script.write_text(source)
    command = [sys.executable, "-W", "error", *([str(script)] if start_by == "script" else ["-"])]
    done = subprocess.run(
        command,
        input=None if start_by == "script" else source,
        cwd=Path(__file__).parents[2],
        env={**__import__("os").environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "good\n", "")


@task(mode="thread")
def countdown(n: int) -> int:
    return 1 if n == 0 else n * countdown(n - 1).result()


def test_a_task_that_waits_for_itself_is_told() -> None:
    """One actor at a time, on demand: the inner call could begin only when the outer one has ended."""
    with countdown, pytest.raises(DeadlockError):
        countdown(2).result()


@task(mode="thread")
def ask_pong(depth: int) -> int:
    return 0 if depth == 0 else ask_ping(depth - 1).result()


@task(mode="thread")
def ask_ping(depth: int) -> int:
    return 0 if depth == 0 else ask_pong(depth - 1).result()


def test_two_tasks_that_wait_for_each_other_are_told_again_and_again() -> None:
    """Each call has an actor of its own, and some begin just as those before them end."""
    with ask_ping, ask_pong:
        for _ in range(50):
            both: list[Any] = [ask_ping(1), ask_pong(1)]
            told = [type(future.exception(60)) for future in both]
            assert DeadlockError in told or told == [type(None)] * 2
