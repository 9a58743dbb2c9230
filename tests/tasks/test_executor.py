"""Executor: what `concurrent.futures.Executor` promises, in every mode."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import itertools
import operator
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from concurry import Executor


def square(x: int) -> int:
    return x * x


async def later_square(x: int) -> int:
    await asyncio.sleep(0)
    return x * x


@pytest.fixture
def make(new_signal: Any) -> Iterator[Callable[..., Any]]:
    """`make(way, **options)`: an executor, shut down at the test's end."""
    made: list[Executor] = []

    def make_executor(way: Any, **options: Any) -> Executor:
        made.append(Executor(**{**way.options, **options}))
        return made[-1]

    yield make_executor
    for executor in made:
        executor.shutdown(wait=False, cancel_futures=True)


def test_it_is_one(way: Any, make: Any) -> None:
    executor = make(way)
    assert issubclass(Executor, concurrent.futures.Executor)
    future = executor.submit(square, 3)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == 9
    assert executor.submit(later_square, 3).result() == 9
    assert executor.submit(lambda fn, self=0: fn + self, fn=1, self=2).result() == 3
    assert list(executor.map(square, range(5))) == [0, 1, 4, 9, 16]
    assert list(executor.map(operator.add, [1, 2], itertools.count(), chunksize=2)) == [1, 3]
    with pytest.raises(TypeError, match=r"submit\(\) requires a callable function, got int"):
        executor.submit(5)
    with pytest.raises(TypeError, match=r"map\(\) requires a callable function, got int"):
        executor.map(5, [1])


def test_the_standard_librarys_functions_take_its_futures(way: Any, make: Any) -> None:
    executor = make(way)
    futures = [executor.submit(square, n) for n in range(5)]
    assert concurrent.futures.wait(futures, timeout=30).not_done == set()
    assert sorted(it.result() for it in concurrent.futures.as_completed(futures, timeout=30)) == [0, 1, 4, 9, 16]


def test_futures_among_the_arguments_are_handed_over(way: Any, make: Any) -> None:
    if way.same_objects:
        executor = make(way)
        future = executor.submit(square, 3)
        assert executor.submit(lambda x: x, future).result() is future
        assert executor.submit(lambda x: x, [future]).result()[0] is future
        assert list(executor.map(lambda x: x is future, [future])) == [True]
    else:
        future = make(way).submit(square, 3)
    said = make(way, unwrap_futures=True)
    assert said.submit(lambda x: x + 1, future).result() == 10
    assert list(said.map(lambda x: x + 1, [future])) == [10]


def test_in_an_event_loop(way: Any, make: Any) -> None:
    executor = make(way)

    async def ask() -> list[int]:
        loop = asyncio.get_running_loop()
        first = loop.run_in_executor(executor, square, 3)
        second = loop.run_in_executor(executor, functools.partial(square, x=4))
        wrapped = asyncio.wrap_future(executor.submit(square, 5))
        return [*(await asyncio.gather(first, second)), await wrapped]

    assert asyncio.run(ask()) == [9, 16, 25]


def test_after_shutdown(way: Any, make: Any) -> None:
    executor = make(way)
    executor.submit(square, 2).result()
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 2)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(square, [2])
    assert repr(executor) == "<Executor: shut down>"


def test_leaving_the_block_waits_for_everything(way: Any) -> None:
    with Executor(**way.options) as executor:
        futures = [executor.submit(square, n) for n in range(200)]
        executor.map(square, range(10))
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == [n * n for n in range(200)]


def test_what_is_mapped_and_never_taken_is_run(way: Any, new_log: Any) -> None:
    log = new_log(way)
    with Executor(**way.options) as executor:
        executor.map(log.append, range(300))
    assert sorted(log) == list(range(300))


def wait_for(begun: Any, go_on: Any) -> str:
    begun.set()
    go_on.wait()
    return "ended"


@pytest.mark.parametrize("wait", [True, False])
def test_cancel_futures(apart: Any, make: Any, new_signal: Any, wait: bool) -> None:
    begun, go_on = new_signal(apart), new_signal(apart)
    executor = make(apart, max_workers=1, max_concurrency=1)
    running = executor.submit(wait_for, begun, go_on)
    begun.wait()
    waiting = [executor.submit(square, n) for n in range(20)]
    if wait:
        ending = threading.Thread(target=executor.shutdown, kwargs={"cancel_futures": True})
        ending.start()
        concurrent.futures.wait(waiting, timeout=30)
        assert all(future.cancelled() for future in waiting)
        assert not running.done()
        go_on.set()
        ending.join()
    else:
        executor.shutdown(wait=False, cancel_futures=True)
        assert not running.done()
        go_on.set()
        assert all(future.cancelled() for future in waiting)
    assert running.result() == "ended"


def test_cancel_futures_has_calls_back_that_were_sent_ahead(apart: Any, make: Any, new_signal: Any) -> None:
    """Behind many short calls an actor elsewhere holds many at a time."""
    begun, go_on = new_signal(apart), new_signal(apart)
    executor = make(apart, max_workers=1, max_concurrency=1)
    short = [executor.submit(square, n) for n in range(400)]
    running = executor.submit(wait_for, begun, go_on)
    behind = [executor.submit(square, n) for n in range(20)]
    begun.wait()
    executor.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    concurrent.futures.wait(behind, timeout=30)
    assert all(future.cancelled() for future in behind)
    assert running.result() == "ended"
    assert [future.result() for future in short] == [square(n) for n in range(400)]


def test_shutdown_without_waiting_lets_calls_finish(apart: Any, make: Any, new_signal: Any) -> None:
    begun, go_on = new_signal(apart), new_signal(apart)
    executor = make(apart, max_workers=1, max_concurrency=1)
    running = executor.submit(wait_for, begun, go_on)
    begun.wait()
    waiting = [executor.submit(square, n) for n in range(20)]
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError):
        executor.submit(square, 2)
    go_on.set()
    assert running.result() == "ended"
    assert [future.result() for future in waiting] == [n * n for n in range(20)]
    executor.shutdown()


def test_calls_that_wait_for_others_are_waited_for(apart: Any, new_signal: Any) -> None:
    begun, go_on = new_signal(apart), new_signal(apart)
    with Executor(**apart.options) as slow:
        first = slow.submit(wait_for, begun, go_on)
        executor = Executor(**apart.options, unwrap_futures=True)
        second = executor.submit("{} well".format, first)
        ending = threading.Thread(target=executor.shutdown)
        ending.start()
        begun.wait()
        go_on.set()
        ending.join()
        assert second.result() == "ended well"


def test_calls_that_are_tried_again_are_waited_for(way: Any, new_log: Any) -> None:
    log = new_log(way)

    def third_time(log: Any) -> int:
        log.append(1)
        if len(log) < 3:
            raise OSError
        return len(log)

    with Executor(**way.options, num_retries={"*": 0, "submit": 5}, retry_wait=0.01) as executor:
        future = executor.submit(third_time, log)
    assert future.done()
    assert future.result() == 3


@pytest.mark.faults
def test_calls_that_are_lost_and_tried_again_are_waited_for(new_log: Any) -> None:
    from types import SimpleNamespace

    log = new_log(SimpleNamespace(same_objects=False))

    def die_once(log: Any) -> int:
        import os

        log.append(1)
        if len(log) == 1:
            os._exit(5)
        return len(log)

    with Executor(mode="process", num_retries=2, retry_wait=0) as executor:
        future = executor.submit(die_once, log)
        others = [executor.submit(square, n) for n in range(5)]
    assert future.result() == 2
    assert [it.result() for it in others] == [0, 1, 4, 9, 16]


def test_one_that_is_dropped_lets_its_calls_finish(apart: Any) -> None:
    futures = [Executor(**apart.options).submit(square, 3)]
    executor = Executor(**apart.options)
    futures += [executor.submit(square, 3) for _ in range(20)]
    del executor
    gc.collect()
    assert [future.result() for future in futures] == [9] * 21


def test_on_demand(make: Any) -> None:
    with Executor(mode="thread", on_demand=True, max_workers=3) as executor:
        futures = [executor.submit(square, n) for n in range(30)]
    assert [future.result() for future in futures] == [n * n for n in range(30)]


def test_shutdown_by_its_own_call_and_callback() -> None:
    executor, told = Executor(mode="thread"), threading.Event()

    def end() -> str:
        executor.shutdown()
        return "ended"

    assert executor.submit(end).result() == "ended"
    executor.shutdown()
    second = Executor(mode="thread", on_demand=True, max_workers=2)

    def over(_: Any) -> None:
        second.shutdown()
        told.set()

    second.submit(square, 2).add_done_callback(over)
    assert told.wait(20)
    second.shutdown()


def test_a_ctrl_c_in_the_block_stops() -> None:
    begun, go_on = threading.Event(), threading.Event()
    futures: list[Any] = []

    def interrupted() -> None:
        with Executor(mode="thread", exit_timeout=0.0) as executor:
            executor.submit(wait_for, begun, go_on)
            begun.wait()
            futures.extend(executor.submit(square, n) for n in range(5))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(future.cancelled() for future in futures)
    go_on.set()


def test_many_threads_submit_while_it_is_shut_down() -> None:
    executor, accepted = Executor(mode="thread", max_workers=2), []
    gate = threading.Barrier(5)

    def submit() -> None:
        gate.wait()
        try:
            for number in itertools.count():
                accepted.append((number, executor.submit(square, number)))
        except RuntimeError:
            return

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.wait()
    while len(accepted) < 100:
        accepted[-1][1].result() if accepted else None
    executor.shutdown()
    for thread in threads:
        thread.join()
    executor.shutdown()
    assert len(accepted) >= 100
    concurrent.futures.wait([future for _, future in accepted], timeout=30)
    assert all(future.done() for _, future in accepted)


class Hooked(type):
    """A class of arguments that shut an executor down while they are looked at, or pickled, at submission."""

    executor: Any = None

    def __getattr__(cls, name: str) -> Any:
        if name == "_asyncio_future_blocking" and Hooked.executor is not None:
            Hooked.executor.shutdown(wait=False)
        raise AttributeError(name)


class Argument(metaclass=Hooked):
    def __reduce__(self) -> Any:
        if Hooked.executor is not None:
            Hooked.executor.shutdown(wait=False)
        return int, ()


@pytest.mark.parametrize("submit", ["submit", "map", "lazy"])
def test_a_call_that_comes_while_it_is_shut_down(apart: Any, make: Any, submit: str) -> None:
    executor = make(apart, unwrap_futures=True)  # which looks at each argument
    executor.submit(square, 1).result()
    calls: dict[str, Callable[[], Any]] = {
        "submit": lambda: executor.submit(id, Argument()),
        "map": lambda: executor.map(id, [Argument()]),
        "lazy": lambda: executor.map(id, [Argument()], buffersize=1),
    }
    Hooked.executor = executor
    try:
        with pytest.raises(RuntimeError, match="after shutdown"):
            calls[submit]()
    finally:
        Hooked.executor = None
    executor.shutdown()


@pytest.mark.parametrize(
    ("by_place", "shown"),
    [
        ((2,), "Executor(2): options go by keyword; say Executor(mode='thread', max_workers=2)"),
        (("process",), "Executor('process'): options go by keyword; say Executor(mode='process')"),
        (("process", 3), "Executor('process', 3): options go by keyword; say Executor(mode='process', max_workers=3)"),
        ((None,), "Executor(None): options go by keyword; say Executor(mode='thread')"),
    ],
)
def test_options_by_place_are_shown_by_keyword(by_place: Any, shown: str) -> None:
    with pytest.raises(TypeError) as caught:
        Executor(*by_place)
    assert str(caught.value) == shown


def test_a_lazy_map_ends_with_its_executor(way: Any, make: Any) -> None:
    executor = make(way)
    results = executor.map(square, itertools.count(), buffersize=2)
    assert next(results) == 0
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(results)


def test_options() -> None:
    with pytest.raises(ValueError, match="returns futures"):
        Executor(mode="thread", blocking=True)
    with pytest.raises(TypeError, match="unknown option 'max_worker'"):
        Executor(mode="thread", max_worker=2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"mode parameter is required: say Executor\(mode='thread'\) \(or 'asyncio'"):
        Executor()
    with Executor(mode="thread", max_workers=3) as executor:
        assert executor._max_workers == 3  # others that take executors read it


def test_the_configuration_may_say_blocking() -> None:
    from concurry import temp_config

    with temp_config(global_blocking=True), Executor(mode="thread") as executor:
        assert executor.submit(square, 2).result() == 4


def test_one_may_be_subclassed() -> None:
    class Counting(Executor):
        count = 0

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return super().submit(fn, *args, **kwargs)

    with Counting(mode="sync") as executor:
        assert executor.submit(square, 2).result() == 4
        assert executor.count == 1


def test_in_sync_mode_a_shutdown_waits_for_the_calls_of_other_threads() -> None:
    begun, go_on = threading.Event(), threading.Event()
    executor = Executor(mode="sync")
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        running = threads.submit(executor.submit, wait_for, begun, go_on)
        begun.wait()
        executor.shutdown(wait=False)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(square, 2)
        ending = threads.submit(executor.shutdown)
        assert not ending.done()
        go_on.set()
        assert running.result().result() == "ended"
        ending.result()
