"""What goes between Ray and here: limits (F29), handles, large arrays, references, actors that leave by themselves."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import threading
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from concurry import CallLimit, LimitSet, ResourceLimit, Worker, WorkerDiedError, gather, wrap_future

PATIENCE_S = 60.0
MB = 1 << 20


def _takes() -> type[Worker]:
    """A class that travels by value."""

    class Takes(Worker):
        """Takes limits as its tests say. Pipes come as paths."""

        def tries(self, count: int) -> int:
            """How many of so many tries are granted. None is given back while it tries."""
            taken = [acq for _ in range(count) if (acq := self.limits.try_acquire()).successful]
            for acq in taken:
                acq.release()
            return len(taken)

        def hold(self, began: str, go: str) -> None:
            with self.limits.acquire():
                with open(began, "wb", buffering=0) as said:
                    said.write(b"%d\n" % os.getpid())
                with open(go, "rb", buffering=0) as told:
                    told.read(1)

        def take(self) -> str:
            with self.limits.acquire(timeout=60):
                return "taken"

    return Takes


Takes: Any = _takes()


def slots(count: int) -> LimitSet:
    return LimitSet([ResourceLimit("slots", count)], shared=True)


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_pool_over_ray_and_one_of_threads_share_a_limit(start: Any) -> None:
    limits = LimitSet([CallLimit(capacity=90, window=1e6)], shared=True)
    workers = [
        start(cls=Takes, limits=limits, max_workers=2),
        start(cls=Takes, limits=limits, mode="thread", num_cpus=None),
    ]
    assert sum(gather([worker.tries(60) for worker in [*workers, workers[0]]], timeout=PATIENCE_S)) == 90
    assert not limits.try_acquire().successful


def test_an_actor_waits_for_a_thread_and_a_thread_for_an_actor(start: Any, pipe: Any) -> None:
    limits = slots(1)
    actor = start(cls=Takes, limits=limits)
    thread = start(cls=Takes, limits=limits, mode="thread", num_cpus=None)
    for holder, waiter in ((actor, thread), (thread, actor)):
        began, go = pipe(), pipe()
        holds = holder.hold(began.path, go.path)
        began.wait(PATIENCE_S)
        waits = waiter.take()
        assert not waits.done()
        go.tell()
        assert waits.result(PATIENCE_S) == "taken"
        holds.result(PATIENCE_S)
    assert limits.get_stats()["slots"]["current_usage"] == 0


def test_a_killed_holder_gives_back_what_it_held(start: Any, pipe: Any) -> None:  # F29
    limits = slots(1)
    worker = start(cls=Takes, limits=limits, max_restarts=None)
    for _ in range(3):
        began, go = pipe(), pipe()
        holds = worker.hold(began.path, go.path)
        os.kill(int(began.wait(PATIENCE_S)), signal.SIGKILL)
        with limits.acquire(timeout=PATIENCE_S):
            assert limits.get_stats()["slots"]["current_usage"] == 1
        assert type(holds.exception(PATIENCE_S)) is WorkerDiedError
    assert worker.take().result(PATIENCE_S) == "taken"


def test_a_killed_waiter_is_forgotten(start: Any, pids: Any) -> None:  # F29
    limits = slots(1)
    worker = start(cls=Takes, limits=limits)
    pid = pids(worker)[0]
    with limits.acquire():
        waits = worker.take()
        os.kill(pid, signal.SIGKILL)
        assert type(waits.exception(PATIENCE_S)) is WorkerDiedError
        assert limits.get_stats()["slots"]["waiting"] == 0
    assert worker.take().result(PATIENCE_S) == "taken"


# -- handles -----------------------------------------------------------------------------------------------------------


def test_a_handle_of_one_actor_is_called_in_another(start: Any, acts: Any) -> None:
    class Asks(acts):  # type: ignore[misc]
        def ask(self, other: Any) -> Any:
            return other.pid().result(60)

        def keep(self, other: Any) -> None:
            self.other = other

        def ask_kept(self) -> Any:
            return self.other.pid().result(60)

        def give_back(self, other: Any) -> Any:
            return other

    one, other = start(cls=Asks), start()
    pid = other.pid().result(PATIENCE_S)
    assert one.ask(other).result(PATIENCE_S) == pid
    assert one.pid().result(PATIENCE_S) != pid
    one.keep(other).result(PATIENCE_S)
    assert one.ask_kept().result(PATIENCE_S) == pid
    assert one.give_back(other).result(PATIENCE_S) is other
    thread = start(mode="thread", num_cpus=None)
    assert one.ask(thread).result(PATIENCE_S) == os.getpid()


# -- large arguments and results ---------------------------------------------------------------------------------------


def sums(array: Any) -> tuple[float, bool]:
    return float(array.sum()), bool(array.flags.writeable)


def ones(count: int) -> Any:
    return np.ones(count)


@pytest.mark.parametrize("writable", [False, True])
def test_large_arrays_both_ways(start: Any, writable: bool) -> None:
    worker = start(writable_arrays=writable)
    array = np.ones(MB)  # 8 MiB
    for _ in range(2):
        assert worker.call(sums, array).result(PATIENCE_S) == (MB, writable)
        found = worker.call(ones, MB).result(PATIENCE_S)
        assert found.sum() == MB
        assert found.flags.writeable is writable
    echoed = worker.echo([array, {"more": array[: MB // 2]}, bytes(8 * MB)]).result(PATIENCE_S)
    assert (echoed[0] == array).all()
    assert (echoed[1]["more"] == array[: MB // 2]).all()
    assert echoed[2] == bytes(8 * MB)
    futures = [worker.echo(np.full(MB // 8, n)) for n in range(20)]  # behind each other
    assert [int(future.result(PATIENCE_S)[-1]) for future in futures] == list(range(20))


def test_a_large_result_is_there_when_the_actor_is_not(start: Any, pids: Any, gone: Any) -> None:
    worker = start()
    living = pids(worker)
    future = worker.call(ones, MB)
    assert future.exception(PATIENCE_S) is None
    worker.stop()
    assert gone(living, PATIENCE_S)
    assert future.result(0).sum() == MB


@pytest.mark.parametrize("writable", [False, True])
def test_a_large_result_goes_on_to_another_actor(start: Any, writable: bool) -> None:
    one, other = start(), start(writable_arrays=writable)
    made = one.call(ones, MB)
    assert other.call(sums, made).result(PATIENCE_S) == (MB, writable)
    assert made.is_unread(), "its data did not come here"
    assert made.result(0).sum() == MB


# -- objects of Ray's own ----------------------------------------------------------------------------------------------


def kind(value: Any) -> str:
    return type(value).__name__


def kind_inside(values: dict[str, Any]) -> str:
    return type(values["it"]).__name__


def puts(value: Any) -> Any:
    import ray

    return ray.put(value)


def gets(values: dict[str, Any]) -> Any:
    import ray

    return ray.get(values["it"])


def test_a_reference_is_its_value_where_it_is_an_argument_and_itself_inside(start: Any) -> None:
    import ray

    worker, ref = start(), ray.put({"a": 1})
    assert worker.call(kind, ref).result(PATIENCE_S) == "dict"
    assert worker.call(kind_inside, {"it": ref}).result(PATIENCE_S) == "ObjectRef"
    assert worker.call(gets, {"it": ref}).result(PATIENCE_S) == {"a": 1}
    found = worker.call(puts, [2, 3]).result(PATIENCE_S)
    assert kind(found) == "ObjectRef"
    assert ray.get(found, timeout=PATIENCE_S) == [2, 3]


def test_what_was_complete_before_it_was_asked_for_is_taken_in_elsewhere(start: Any) -> None:
    """Whoever sends may hold locks that taking in a reply needs."""
    worker = start()
    channel = worker.__dict__["_pool"].members[0].channel
    done: concurrent.futures.Future[str] = concurrent.futures.Future()
    done.set_result("it")
    threads: SimpleQueue[tuple[str, int]] = SimpleQueue()
    channel.expect(SimpleNamespace(future=lambda: done), lambda value: threads.put((value, threading.get_ident())))
    value, thread = threads.get(timeout=PATIENCE_S)
    assert value == "it"
    assert thread != threading.get_ident()


# -- actors that leave by themselves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_workers": 2}])
def test_an_actor_is_replaced_after_so_many_calls(start: Any, gone: Any, options: Any) -> None:
    worker = start(max_calls_per_worker=5, max_restarts=0, **options)
    found = gather([worker.pid() for _ in range(20)], timeout=PATIENCE_S)
    assert max(found.count(pid) for pid in set(found)) <= 5
    assert len(set(found)) >= 4
    worker.stop()
    assert gone(list(set(found)), PATIENCE_S)


# -- what comes beside a reply -----------------------------------------------------------------------------------------


def test_small_and_large_results_in_turns(start: Any) -> None:
    """After a large one the next call has a slot for another; what comes is what was asked for, whichever way."""
    worker = start()
    for size in (10, MB, 10, MB, MB, 20, 30, MB // 2):
        assert worker.call(ones, size).result(PATIENCE_S).sum() == size
    crowd = [worker.call(ones, size) for size in (MB, 10, MB // 2, 20, MB, MB, 30)]  # several are under way
    assert [int(future.result(PATIENCE_S).sum()) for future in crowd] == [MB, 10, MB // 2, 20, MB, MB, 30]
    assert worker.call(ones, MB).result(PATIENCE_S).sum() == MB
    with pytest.raises(ZeroDivisionError):
        worker.call(divmod, 1, 0).result(PATIENCE_S)
    assert worker.echo("small").result(PATIENCE_S) == "small"


def test_an_actor_ends_after_a_large_result(start: Any, gone: Any, pids: Any) -> None:
    worker = start(max_calls_per_worker=3, max_restarts=0)
    first = pids(worker)
    found = [worker.call(ones, MB) for _ in range(7)]
    assert [future.result(PATIENCE_S).sum() for future in found] == [MB] * 7
    assert gone(first, PATIENCE_S)


# -- other kinds of references and handles ----------------------------------------------------------------------------


def test_references_are_futures_for_who_waits() -> None:
    import ray

    refs = [ray.put(n) for n in range(5)]
    assert gather(refs, timeout=PATIENCE_S) == [0, 1, 2, 3, 4]
    assert gather((ref for ref in refs), timeout=PATIENCE_S) == [0, 1, 2, 3, 4]
    assert gather({"a": refs[1], "b": 7}, timeout=PATIENCE_S) == {"a": 1, "b": 7}
    futures: Any = [wrap_future(refs[0])]
    assert [future.result() for future in concurrent.futures.as_completed(futures)] == [0]


def test_handles_go_between_processes_and_ray(start: Any, acts: Any) -> None:
    class Asks(acts):  # type: ignore[misc]
        def ask(self, other: Any) -> Any:
            return other.pid().result(60)

    on_ray, in_process = start(cls=Asks), start(cls=Asks, mode="process", num_cpus=None)
    pids = [worker.pid().result(PATIENCE_S) for worker in (on_ray, in_process)]
    assert on_ray.ask(in_process).result(PATIENCE_S) == pids[1]
    assert in_process.ask(on_ray).result(PATIENCE_S) == pids[0]


def counts(style: str) -> tuple[int, str]:
    from concurry import ProgressBar

    return sum(ProgressBar(range(5), style=style, desc="on Ray")), "counted"


@pytest.mark.parametrize("style", ["ray", "auto"])
def test_a_bar_inside_a_worker(start: Any, style: str) -> None:
    assert start().call(counts, style).result(PATIENCE_S) == (10, "counted")
