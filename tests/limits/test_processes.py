"""Limits of workers in processes: one arbiter, in the parent, for all who share them (F29, F30)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from concurry import DeadlockError, Worker, WorkerDiedError, WorkerStoppedError, gather
from concurry.limits import CallLimit, LimitPool, LimitSet, RateLimit, ResourceLimit
from concurry.runtime.enums import RateLimitAlgorithm
from concurry.workers import init

Start = Callable[..., Any]
Used = Callable[[LimitSet], dict[str, float]]
ALGORITHMS = [each.value for each in RateLimitAlgorithm]


def _worker() -> type[Worker]:
    """A class that travels by value: a child need not import pytest for it."""

    class Takes(Worker):
        """Takes limits as its tests say. Pipes come as paths."""

        def pid(self) -> int:
            return os.getpid()

        def do(self, what: Callable[[Any], Any]) -> Any:
            return what(self.limits)

        async def do_later(self, what: Callable[[Any], Any]) -> Any:
            return await what(self.limits)

        def hold(self, began: str, go: str, requested: Any = None) -> int:
            with self.limits.acquire(requested) as acq:
                _tell(began)
                _wait(go)
                acq.update(dict.fromkeys(acq.acquisitions, 1))
            return os.getpid()

        def wait(self, asks: str, **how: Any) -> str:
            _tell(asks)
            with self.limits.acquire(**how):
                return "taken"

        async def wait_later(self, asks: str, **how: Any) -> str:
            _tell(asks)
            async with self.limits.acquire(**how):
                return "taken"

        def tries(self, count: int) -> int:
            """How many of so many tries are granted. None is given back while it tries."""
            taken = [acq for _ in range(count) if (acq := self.limits.try_acquire()).successful]
            for acq in taken:
                acq.release()
            return len(taken)

        def many(self, count: int, folder: str = "") -> int:
            """Takes and releases, without a pause. Returns how many were in their blocks at once, at most."""
            most = 0
            for n in range(count):
                with self.limits.acquire():
                    if folder:
                        path = f"{folder}/{os.getpid()}-{n}"
                        os.close(os.open(path, os.O_CREAT))
                        most = max(most, len(os.listdir(folder)))
                        os.unlink(path)
            return most

    def _tell(path: str) -> None:
        with open(path, "wb", buffering=0) as file:
            file.write(b"!")

    def _wait(path: str) -> None:
        with open(path, "rb", buffering=0) as file:
            file.read(1)

    return Takes


Takes: Any = _worker()


def slots(count: int, **more: Any) -> LimitSet:
    return LimitSet([ResourceLimit("slots", count)], shared=True, **more)


# -- what it looks like there ------------------------------------------------------------------------------------------


def test_it_is_a_pool_of_sets(start: Start) -> None:
    limits = LimitSet(
        [CallLimit(capacity=9, window=60), RateLimit("tokens", capacity=10, window=60), ResourceLimit("slots", 2)],
        shared=True,
        mode="thread",
        config={"account": "a"},
    )
    worker = start(Takes, LimitPool([limits], "soonest"), max_workers=2)

    def describe(own: Any) -> Any:
        first = own.limit_sets[0]
        return (
            type(own).__module__ + "." + type(own).__name__,
            type(first).__module__ + "." + type(first).__name__,
            own.load_balancing.value,
            own.worker_index,
            (first.shared, first.mode.value, first.config, first.limits == tuple(first[key] for key in first)),
            repr(first),
        )

    described = gather([worker.do(describe) for _ in range(2)])
    assert {it[3] for it in described} == {0, 1}
    for pool, of, balancing, _, rest, text in described:
        assert (pool, of) == ("concurry.limit_pool.LimitPool", "concurry.limit_set.LimitSet")
        assert balancing == "soonest"
        assert rest == (True, "thread", {"account": "a"}, True)
        assert text == repr(limits)


@pytest.mark.parametrize("limits", [None, []])
def test_without_limits_everything_is_granted(start: Start, limits: Any) -> None:
    class Plain:
        def take(self) -> bool:
            with self.limits.acquire({"anything": 7}) as acq:  # type: ignore[attr-defined]
                return bool(acq.successful)

    with init(Plain, {"mode": "process", "limits": limits}, (), {}) as plain:
        assert plain.take().result(20)
    assert start(Takes, limits).do(lambda own: own.try_acquire().successful).result(20)


def test_stats_inside_and_outside(start: Start, pipe: Any) -> None:
    limits = LimitSet([ResourceLimit("slots", 3), RateLimit("tokens", capacity=100, window=3600)], shared=True)
    worker = start(Takes, limits, max_workers=2)
    began, go = pipe(), pipe()
    holds = worker.hold(began.path, go.path, {"slots": 2, "tokens": 40})
    began.wait()
    inside = worker.do(lambda own: own.get_stats()["limit_sets"][0]).result(20)
    assert inside == limits.get_stats()
    assert inside["slots"]["current_usage"] == 2
    assert inside["tokens"]["available"] == 60
    assert worker.do(lambda own: own[0]["slots"].can_acquire(1)).result(20)
    assert not worker.do(lambda own: own[0]["slots"].can_acquire(2)).result(20)
    go.tell()
    holds.result(20)
    assert limits.get_stats()["slots"]["current_usage"] == 0
    assert limits.get_stats()["tokens"]["current_usage"] == 1


# -- shared ------------------------------------------------------------------------------------------------------------


def test_four_processes_share_two(start: Start, tmp_path: Path, used: Used) -> None:
    limits, folder = slots(2), tmp_path / "held"
    folder.mkdir()
    worker = start(Takes, limits, max_workers=4)
    assert max(gather([worker.many(60, str(folder)) for _ in range(4)], timeout=60)) <= 2
    assert used(limits) == {"slots": 0}


def test_two_hold_and_two_wait(start: Start, pipe: Any, used: Used) -> None:
    limits = slots(2)
    worker = start(Takes, limits, max_workers=4)
    began, go = pipe(), pipe()
    futures = [worker.hold(began.path, go.path) for _ in range(4)]
    began.wait(2)
    assert used(limits) == {"slots": 2}
    assert not began.told()
    go.tell(2)
    began.wait(2)
    go.tell(2)
    assert len(set(gather(futures, timeout=20))) == 4
    assert used(limits) == {"slots": 0}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_rate_is_exact(start: Start, algorithm: str) -> None:
    limits = LimitSet([CallLimit(capacity=100, window=1e6, algorithm=algorithm)], shared=True)
    worker = start(Takes, limits, max_workers=2)
    taken = sum(gather([worker.tries(100) for _ in range(2)], timeout=60))
    worker.stop()  # what was lent ahead to one, while the other was refused, has come back
    while limits.try_acquire().successful:
        taken += 1
    lost = 0 if algorithm.endswith("window") else 10  # see the next one
    assert 100 - lost <= taken <= 100


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_rate_taken_at_speed_is_exact(start: Start, algorithm: str) -> None:
    limits = LimitSet([CallLimit(capacity=10_000, window=1e9, algorithm=algorithm)], shared=True)
    worker = start(Takes, limits, max_workers=2)
    gather([worker.many(1500) for _ in range(2)], timeout=60)
    # Of a lease ahead that comes back after hundreds of later ones, a bucket may not know any more what it is worth,
    # and counts some of it as used. Never less than what was taken.
    lost = 0 if algorithm.endswith("window") else 200
    assert 3000 <= round(limits.get_stats()["call_count"]["current_usage"], 2) <= 3000 + lost
    left = sum(gather([worker.tries(7100) for _ in range(2)], timeout=60))
    assert 7000 - lost <= left <= 7000
    assert not limits.try_acquire().successful


def test_threads_and_two_pools_of_processes_share_one_set(start: Start) -> None:
    limits = LimitSet([CallLimit(capacity=90, window=1e6)], shared=True)
    workers = [start(Takes, limits), start(Takes, limits, mode="thread"), start(Takes, limits, max_workers=2)]
    assert sum(gather([worker.tries(60) for worker in [*workers, workers[2]]], timeout=60)) == 90


def test_a_process_waits_for_a_thread_and_a_thread_for_a_process(start: Start, pipe: Any) -> None:
    limits = slots(1)
    process, thread = start(Takes, limits), start(Takes, limits, mode="thread")
    for holder, waiter in ((process, thread), (thread, process)):
        began, go, asks = pipe(), pipe(), pipe()
        holds = holder.hold(began.path, go.path)
        began.wait()
        waits = waiter.wait(asks.path)
        asks.wait()
        assert not waits.done()
        go.tell()
        assert waits.result(20) == "taken"
        holds.result(20)


def test_what_a_call_has_released_is_free_when_it_has_ended(start: Start) -> None:
    limits = slots(2)
    worker = start(Takes, limits, max_workers=2)
    for _ in range(30):
        worker.many(5).result(20)
        both = limits.try_acquire({"slots": 2})
        assert both.successful
        both.release()


def test_who_waits_passes_who_takes_at_speed(start: Start, pipe: Any) -> None:
    limits = slots(8)
    worker = start(Takes, limits, max_workers=2)
    began, go = pipe(), pipe()

    def at_speed(own: Any, began: str = began.path, go: str = go.path) -> int:
        import select

        told = os.open(go, os.O_RDONLY | os.O_NONBLOCK)
        count = 0
        while not select.select([told], [], [], 0)[0]:
            with own.acquire():
                count += 1
            if count == 100:
                with open(began, "wb", buffering=0) as file:
                    file.write(b"!")
        os.close(told)
        return count

    takes = worker.do(at_speed)
    began.wait()
    for _ in range(20):
        with limits.acquire({"slots": 8}, timeout=20):
            assert limits.get_stats()["slots"]["current_usage"] == 8
    go.tell()
    assert takes.result(20) >= 100
    assert limits.get_stats()["slots"]["current_usage"] == 0


def test_an_inner_pool_of_a_process_shares_them(start: Start) -> None:
    limits = LimitSet([CallLimit(capacity=20, window=1e6)], shared=True)
    inner: Any = _worker()

    def share(own: Any, mode: str) -> int:
        with inner.options(mode=mode, limits=own).init() as made:
            return int(made.tries(15).result(20))

    worker = start(Takes, limits)
    assert worker.do(lambda own: share(own, "thread")).result(60) == 15
    assert worker.do(lambda own: share(own, "process")).result(60) == 5
    assert not limits.try_acquire().successful


# -- several sets ------------------------------------------------------------------------------------------------------


def test_a_pool_moves_on_to_a_free_set(start: Start, pipe: Any) -> None:
    a, b = (slots(1, config={"account": name}) for name in "ab")
    worker = start(Takes, LimitPool([a, b]))

    def account(own: Any) -> Any:
        with own.acquire() as acq:
            return acq.config["account"]

    assert sorted(gather([worker.do(account) for _ in range(2)])) == ["a", "b"]
    with a.acquire():
        assert gather([worker.do(account) for _ in range(3)]) == ["b"] * 3
        held = b.acquire()
        assert not worker.do(lambda own: own.try_acquire().successful).result(20)
        asks = pipe()

        def account_later(own: Any, asks: str = asks.path) -> Any:
            with open(asks, "wb", buffering=0) as file:
                file.write(b"!")
            with own.acquire() as acq:
                return acq.config["account"]

        waits = worker.do(account_later)
        asks.wait()
        held.release()
        assert waits.result(20) == "b"
    for each in (a, b):
        assert each.get_stats()["slots"]["current_usage"] == 0
        assert each.get_stats()["slots"]["waiting"] == 0


# -- reports -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tokens() -> LimitSet:
    return LimitSet([RateLimit("tokens", capacity=1000, window=1e6), ResourceLimit("slots", 1)], shared=True)


@pytest.mark.parametrize(("requested", "reported", "counted"), [(100, 40, 40), (100, 100, 100), (100, 150.5, 150.5)])
def test_reports_are_settled(
    start: Start, tokens: LimitSet, used: Used, requested: int, reported: float, counted: float
) -> None:
    def report(own: Any) -> None:
        with own.acquire({"tokens": requested}) as acq:
            acq.update({"tokens": reported})

    start(Takes, tokens).do(report).result(20)
    assert used(tokens) == {"tokens": counted, "slots": 0}


def test_a_forgotten_report(start: Start, tokens: LimitSet, used: Used) -> None:
    def forget(own: Any) -> None:
        with own.acquire({"tokens": 100}):
            pass

    with pytest.raises(RuntimeError, match="Not all limits in the LimitSet were updated"):
        start(Takes, tokens, num_retries=3).do(forget).result(20)
    assert used(tokens) == {"tokens": 100, "slots": 0}


@pytest.mark.parametrize("error", [ValueError("one"), KeyError("two"), RuntimeError("three")])
def test_the_users_own_error_arrives(start: Start, tokens: LimitSet, used: Used, error: Exception) -> None:  # F30
    def fail(own: Any) -> None:
        with own.acquire({"tokens": 100}):
            raise error

    with pytest.raises(type(error), match=str(error)):
        start(Takes, tokens).do(fail).result(20)
    assert used(tokens) == {"tokens": 100, "slots": 0}


def test_misuse_is_said_there(start: Start, tokens: LimitSet) -> None:
    worker = start(Takes, tokens)

    def nest(own: Any) -> None:
        with own[0].acquire({"tokens": 1}) as acq:
            acq.update({"tokens": 1})
            own.acquire({"tokens": 1})

    with pytest.raises(DeadlockError, match="could never end"):
        worker.do(nest).result(20)
    with pytest.raises(ValueError, match="Must specify requested amount"):
        worker.do(lambda own: own.acquire()).result(20)
    with pytest.raises(ValueError, match="can never be fulfilled"):
        worker.do(lambda own: own.acquire({"tokens": 10**30})).result(20)


def test_amounts_beyond_what_a_message_carries(start: Start, used: Used) -> None:
    limits = LimitSet([RateLimit("tokens", capacity=1e40, window=1e6)], shared=True)

    def take(own: Any) -> float:
        with own.acquire({"tokens": 10**30}) as acq:
            acq.update({"tokens": 10**29})
        return float(own[0]["tokens"].get_stats()["current_usage"])

    assert start(Takes, limits).do(take).result(20) == pytest.approx(1e29)
    assert used(limits) == {"tokens": pytest.approx(1e29)}


# -- waits end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["wait", "wait_later"])
def test_a_timeout(start: Start, pipe: Any, used: Used, method: str) -> None:
    limits = slots(1)
    worker = start(Takes, limits)
    with limits.acquire():
        with pytest.raises(TimeoutError, match="not free within"):
            getattr(worker, method)(pipe().path, timeout=0.01).result(20)
        assert limits.get_stats()["slots"]["waiting"] == 0
    assert getattr(worker, method)(pipe().path, timeout=20).result(20) == "taken"
    assert used(limits) == {"slots": 0}


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 8}])
@pytest.mark.parametrize("method", ["wait", "wait_later"])
def test_stop_ends_them(start: Start, pipe: Any, used: Used, method: str, options: dict[str, Any]) -> None:
    limits, asks = slots(1), pipe()
    worker = start(Takes, limits, **options)
    with limits.acquire():
        future = getattr(worker, method)(asks.path)
        asks.wait()
        worker.stop(timeout=None)  # it would wait for ever
        with pytest.raises(WorkerStoppedError, match="waited for its limits"):
            future.result(20)
    assert used(limits) == {"slots": 0}


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 8}])
@pytest.mark.parametrize("method", ["wait", "wait_later"])
def test_a_call_past_its_time_takes_none(
    start: Start, pipe: Any, used: Used, method: str, options: dict[str, Any]
) -> None:
    limits = slots(1)
    worker = start(Takes, limits, call_timeout={method: 0.05, "*": None}, **options)
    with limits.acquire():
        with pytest.raises(TimeoutError):
            getattr(worker, method)(pipe().path).result(20)
        assert worker.pid().result(20)
    assert worker.do(lambda own: own.acquire().release()).result(20) is None
    assert used(limits) == {"slots": 0}


def test_cancelling_ends_them(start: Start, pipe: Any, used: Used) -> None:
    limits, asks = slots(1), pipe()
    worker = start(Takes, limits, max_concurrency=8)
    with limits.acquire():
        futures = [worker.wait_later(asks.path) for _ in range(8)]
        asks.wait(8)
        for future in futures:
            assert future.cancel()
        for future in futures:
            with pytest.raises(CancelledError):
                future.result(20)
        assert worker.do_later(_nothing()).result(20) == "pong"
        worker.stop()  # what was cancelled has heard of it by then
        assert limits.get_stats()["slots"]["waiting"] == 0
    assert used(limits) == {"slots": 0}


def _nothing() -> Callable[[Any], Any]:
    async def nothing(_: Any) -> str:
        return "pong"

    return nothing


def test_many_at_once_in_one_process(start: Start, used: Used) -> None:
    limits = LimitSet([ResourceLimit("slots", 3), CallLimit(capacity=1000, window=1e6)], shared=True)
    worker = start(Takes, limits, max_concurrency=8, max_workers=2)
    most = _most_inside()
    found = gather([worker.do_later(most) for _ in range(40)], timeout=60)
    assert max(found) <= 3
    assert used(limits) == {"slots": 0, "call_count": 40}


def _most_inside() -> Callable[[Any], Any]:
    async def inside(own: Any) -> int:
        import asyncio

        async with await own.async_acquire():
            own_count = getattr(asyncio, "inside", 0) + 1
            asyncio.inside = own_count  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            asyncio.inside -= 1  # type: ignore[attr-defined]
        return own_count

    return inside


# -- deaths ------------------------------------------------------------------------------------------------------------


@pytest.mark.faults
def test_killed_holders_and_waiters_leave_nothing(start: Start, pipe: Any, used: Used) -> None:  # F29
    limits = LimitSet([ResourceLimit("slots", 2)], shared=True)
    worker = start(Takes, limits, max_workers=2, max_restarts=None)
    for _ in range(100 if os.environ.get("CONCURRY_LONG") == "1" else 20):
        began, go, asks = pipe(), pipe(), pipe()
        holds = worker.hold(began.path, go.path, {"slots": 2})
        began.wait()
        waits = worker.wait(asks.path, requested={"slots": 2})
        asks.wait()
        pids = [member.channel.pid for member in worker.__dict__["_pool"].members]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        with limits.acquire({"slots": 2}, timeout=20):
            pass
        for future in (holds, waits):
            with pytest.raises(WorkerDiedError):
                future.result(20)
        assert limits.get_stats()["slots"]["waiting"] == 0
    assert used(limits) == {"slots": 0}


@pytest.mark.faults
def test_killed_while_it_has_leases_ahead(start: Start, used: Used) -> None:
    limits = LimitSet([ResourceLimit("slots", 100)], shared=True)
    worker = start(Takes, limits, max_restarts=None)

    def die(own: Any) -> None:
        for _ in range(200):
            own.acquire().release()
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(5):
        with pytest.raises(WorkerDiedError):
            worker.do(die).result(20)
        with limits.acquire({"slots": 100}, timeout=20):
            pass
    assert used(limits) == {"slots": 0}


@pytest.mark.faults
def test_a_stopped_process_holds_up_no_look(start: Start) -> None:
    limits = LimitSet([ResourceLimit("slots", 100)], shared=True)
    worker = start(Takes, limits)

    def halt(own: Any) -> None:
        for _ in range(200):
            own.acquire().release()
        os.kill(os.getpid(), signal.SIGSTOP)

    pid = worker.pid().result(20)
    halts = worker.do(halt)
    while not _is_stopped(pid):
        limits.get_stats()
    limits.get_stats()
    os.kill(pid, signal.SIGCONT)
    halts.result(20)
    with limits.acquire({"slots": 100}, timeout=20):
        pass


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_on_demand(start: Start, used: Used) -> None:
    limits = LimitSet([ResourceLimit("slots", 1), CallLimit(capacity=10, window=1e6)], shared=True)
    worker = start(Takes, limits, on_demand=True, max_workers=2)
    assert sum(gather([worker.tries(1) for _ in range(6)], timeout=60)) <= 6

    def keep(own: Any) -> int:
        own.acquire()  # and never releases it
        return os.getpid()

    pids = gather([worker.do(keep) for _ in range(2)], timeout=60)
    assert len(set(pids)) == 2
    with limits.acquire(timeout=20):
        pass
    assert used(limits)["slots"] == 0


def test_taken_in_init_and_kept(start: Start, used: Used) -> None:
    limits = slots(2)

    def _class() -> Any:
        class Keeps(Worker):
            def __init__(self) -> None:
                self.kept = self.limits.acquire()

            def give(self) -> None:
                self.kept.release()

        return Keeps

    worker = start(_class(), limits)
    assert used(limits) == {"slots": 1}
    worker.give().result(20)
    assert used(limits) == {"slots": 0}
