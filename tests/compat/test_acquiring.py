"""Limits: what is taken of them, and in a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from concurry import CallLimit, LimitPool, LimitSet, RateLimit, ResourceLimit, Worker, gather
from tests.with_ray import WITH_RAY

Logged = Callable[[int], list[str]]
MODES_OF_POOLS = ["thread", "process", *(["ray"] if WITH_RAY else [])]
MODES = ["sync", "thread", "asyncio", "process", *(["ray"] if WITH_RAY else [])]


@pytest.fixture
def limits() -> LimitSet:
    """A hundred tokens in a window that outlives the test, and two connections."""
    return LimitSet(
        limits=[
            RateLimit(key="tokens", window_seconds=1000, capacity=100),
            ResourceLimit(key="connections", capacity=2),
        ],
        config={"account": "a"},
    )


def test_a_rate_needs_an_amount(limits: LimitSet) -> None:
    for take in (limits.acquire, limits.try_acquire):
        with pytest.raises(ValueError, match="Must specify requested amount for RateLimit"):
            take()


def test_above_the_capacity(limits: LimitSet) -> None:
    for take in (limits.acquire, limits.try_acquire):
        with pytest.raises(ValueError, match=r"'tokens' exceeds capacity.*can never be fulfilled"):
            take(requested={"tokens": 101})


def test_an_acquisition(limits: LimitSet) -> None:
    with limits.acquire(requested={"tokens": 10}) as acq:
        assert acq.successful
        assert acq.acquisitions["tokens"].requested == 10
        acq.update(usage={"tokens": 4})
        assert acq.acquisitions["tokens"].used == 4
        assert acq.acquisitions["connections"].requested == 1
    stats = limits.get_stats()
    assert (stats["tokens"]["current_usage"], stats["connections"]["current_usage"]) == (4, 0)


def test_its_config_is_a_copy(limits: LimitSet) -> None:
    with limits.try_acquire({"connections": 1}) as acq:
        acq.config["account"] = "b"
        assert acq.config == limits.config == {"account": "a"}


def test_it_is_released_by_hand(limits: LimitSet) -> None:
    acq = limits.acquire({"connections": 2})
    assert not limits.try_acquire({"connections": 1}).successful
    acq.release()
    acq.release()
    assert limits["connections"].can_acquire(2)


def test_a_failed_try_may_be_used_in_with(limits: LimitSet) -> None:
    with limits.acquire({"connections": 2}), limits.try_acquire({"connections": 1}) as acq:
        assert not acq.successful


def test_async_with(limits: LimitSet) -> None:
    async def main() -> None:
        async with limits.acquire({"tokens": 5}) as acq:
            acq.update({"tokens": 5})
        with limits.acquire({"tokens": 5}) as acq:  # free at once
            acq.update({"tokens": 5})
        with await limits.async_acquire({"tokens": 5}) as acq:
            acq.update({"tokens": 5})

    asyncio.run(main())
    assert limits.get_stats()["tokens"]["current_usage"] == 15


def test_in_an_event_loop_a_plain_with_does_not_wait(limits: LimitSet) -> None:
    async def main() -> None:
        async with limits.acquire({"connections": 2}):
            with pytest.raises(RuntimeError, match="async with"), limits.acquire({"connections": 1}):
                pass

    asyncio.run(main())


def test_an_update_after_the_release(limits: LimitSet) -> None:
    with limits.acquire({"tokens": 5}) as acq:
        acq.update({"tokens": 5})
    with pytest.raises(RuntimeError, match="Cannot update an already released"):
        acq.update({"tokens": 5})


def test_a_report_that_is_missing(limits: LimitSet) -> None:
    with pytest.raises(RuntimeError, match=r"Not all limits in the LimitSet were updated.*tokens"):  # noqa: SIM117
        with limits.acquire({"tokens": 5}):
            pass


def test_a_report_that_is_missing_never_hides_an_exception(limits: LimitSet) -> None:
    with pytest.raises(KeyError, match="mine"), limits.acquire({"tokens": 5}):
        raise KeyError("mine")


def test_an_unknown_key_is_logged_once_a_set(limits: LimitSet, logged: Logged) -> None:
    for _ in range(2):
        with limits.acquire({"connections": 1, "k": 5}):
            pass
    (said,) = logged(logging.WARNING)
    assert said.startswith("Unknown limit key 'k'")
    assert "Available limit keys:" in said


def test_a_report_of_what_was_not_acquired_is_logged_once_a_set(limits: LimitSet, logged: Logged) -> None:
    for _ in range(2):
        with limits.acquire({"connections": 1}) as acq:
            acq.update({"tokens": 5})
    (said,) = logged(logging.WARNING)
    assert said.startswith("Cannot update limit 'tokens'")
    assert "not acquired" in said
    assert "Available keys:" in said


def test_a_report_above_the_request_is_logged_each_time(limits: LimitSet, logged: Logged) -> None:
    for _ in range(2):
        with limits.acquire({"tokens": 5}) as acq:
            acq.update({"tokens": 7})
    said = logged(logging.WARNING)
    assert len(said) == 2
    assert all("exceeds requested amount" in it and "'tokens'" in it for it in said)
    assert limits.get_stats()["tokens"]["current_usage"] == 14


def test_a_time_out(limits: LimitSet) -> None:
    with limits.acquire({"connections": 2}), pytest.raises(TimeoutError):
        limits.acquire({"connections": 1}, timeout=0)


# -- in a worker ------------------------------------------------------------------------------------------------------


class LLM(Worker):
    def ask(self, tokens: int = 10) -> Any:
        with self.limits.acquire(requested={"tokens": tokens}) as acq:
            acq.update(usage={"tokens": tokens})
            return acq.config

    def kind(self) -> tuple[str, int, int]:
        return type(self.limits).__name__, len(self.limits.limit_sets), self.limits.worker_index

    def free(self) -> bool:
        with self.limits.acquire() as acq:
            return acq.successful


def tokens(**config: Any) -> LimitSet:
    return LimitSet([RateLimit(key="tokens", window=1000, capacity=100)], shared=True, config=config)


FORMS: list[Callable[[], Any]] = [
    lambda: RateLimit(key="tokens", window=1000, capacity=100),
    lambda: [RateLimit(key="tokens", window=1000, capacity=100)],
    tokens,
    lambda: [tokens()],
    lambda: LimitPool([tokens()]),
]


@pytest.mark.parametrize("form", FORMS, ids=["Limit", "[Limit]", "LimitSet", "[LimitSet]", "LimitPool"])
@pytest.mark.parametrize("mode", MODES)
def test_limits_in_every_form(mode: str, form: Callable[[], Any]) -> None:
    with LLM.options(mode=mode, limits=form()).init() as llm:
        assert gather([llm.ask(), llm.ask()]) == [{}, {}]
        assert llm.kind().result() == ("LimitPool", 1, 0)
        with pytest.raises(ValueError, match="can never be fulfilled"):
            llm.ask(101).result()


@pytest.mark.parametrize("mode", MODES)
def test_no_limits_grant_everything(mode: str) -> None:
    with LLM.options(mode=mode, limits=None).init() as llm:
        assert gather(llm.free(), llm.ask()) == [True, {}]
        assert llm.kind().result() == ("LimitPool", 1, 0)


@pytest.mark.parametrize("mode", MODES_OF_POOLS)
def test_a_list_is_shared_by_a_pool(mode: str) -> None:
    limits = [RateLimit(key="tokens", window=1000, capacity=100)]
    with LLM.options(mode=mode, max_workers=2, limits=limits).init() as llm:
        gather([llm.ask(25) for _ in range(4)])
        assert limits[0].get_stats()["current_usage"] == 100


def test_a_list_is_private_to_a_single_worker() -> None:
    limits = [RateLimit(key="tokens", window=1000, capacity=100)]
    with (
        LLM.options(mode="thread", limits=limits).init() as one,
        LLM.options(mode="thread", limits=limits).init() as two,
    ):
        gather(one.ask(100), two.ask(100))


def test_a_set_that_is_not_shared_is_not_for_a_pool() -> None:
    with pytest.raises(ValueError, match="shared=False"):
        LLM.options(mode="thread", max_workers=2, limits=LimitSet([CallLimit(window=1, capacity=1)])).init()


def test_one_set_for_pools_of_different_modes() -> None:
    limits = tokens()
    with (
        LLM.options(mode="thread", max_workers=2, limits=limits).init() as threads,
        LLM.options(mode="process", limits=limits).init() as process,
        LLM.options(mode="asyncio", limits=limits).init() as loop,
    ):
        gather([threads.ask(10), threads.ask(10), process.ask(10), loop.ask(10)])
    assert limits.get_stats()["tokens"]["current_usage"] == 40


@pytest.mark.parametrize("mode", MODES_OF_POOLS)
def test_the_worker_index_is_the_actors_number(mode: str) -> None:
    with LLM.options(mode=mode, max_workers=2, limits=[tokens(), tokens()]).init() as llm:
        seen = gather([llm.kind() for _ in range(20)])
        assert {it[:2] for it in seen} == {("LimitPool", 2)}
        assert {it[2] for it in seen} <= {0, 1}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("load_balancing", ["round_robin", "random"])
def test_a_pool_of_sets_fails_over(mode: str, load_balancing: str) -> None:
    """Each account has a hundred tokens, and none waits while another has some."""
    accounts = LimitPool([tokens(account=name) for name in "abc"], load_balancing=load_balancing)
    with LLM.options(mode=mode, limits=accounts).init() as llm:
        seen = [llm.ask(50).result()["account"] for _ in range(6)]
    assert sorted(seen) == ["a", "a", "b", "b", "c", "c"]


@pytest.mark.parametrize("mode", MODES_OF_POOLS)
def test_a_pool_on_demand_shares_its_limits(mode: str) -> None:
    limits = tokens()
    with LLM.options(mode=mode, on_demand=True, max_workers=2, limits=limits).init() as llm:
        gather([llm.ask(20) for _ in range(5)])
        assert limits.get_stats()["tokens"]["current_usage"] == 100


@pytest.mark.parametrize("mode", MODES_OF_POOLS)
def test_a_pool_on_demand_fails_over(mode: str) -> None:
    accounts = LimitPool([tokens(account=name) for name in "abc"])
    with LLM.options(mode=mode, on_demand=True, max_workers=2, limits=accounts).init() as llm:
        seen = [it["account"] for it in gather([llm.ask(50) for _ in range(6)])]
    assert sorted(seen) == ["a", "a", "b", "b", "c", "c"]


@pytest.mark.parametrize("mode", MODES_OF_POOLS)
def test_a_list_given_to_a_pool_on_demand_is_one_limit(mode: str) -> None:
    limits = [RateLimit(key="tokens", window=1000, capacity=100)]
    with LLM.options(mode=mode, on_demand=True, max_workers=2, limits=limits).init() as llm:
        gather([llm.ask(20) for _ in range(5)])
        assert limits[0].get_stats()["current_usage"] == 100


class AsyncLLM(Worker):
    async def ask(self) -> int:
        async with self.limits.acquire(requested={"tokens": 10}) as acq:
            acq.update(usage={"tokens": 10})
        return 10

    async def ask_account(self) -> Any:
        async with self.limits.acquire(requested={"tokens": 50}) as acq:
            acq.update(usage={"tokens": 50})
            return acq.config["account"]


@pytest.mark.parametrize("mode", MODES)
def test_async_methods_take_limits(mode: str) -> None:
    limits = tokens()
    with AsyncLLM.options(mode=mode, limits=limits).init() as llm:
        assert sum(gather([llm.ask() for _ in range(10)])) == 100
    assert limits.get_stats()["tokens"]["current_usage"] == 100


@pytest.mark.parametrize("mode", MODES)
def test_async_methods_fail_over(mode: str) -> None:
    accounts = LimitPool([tokens(account=name) for name in "abc"])
    with AsyncLLM.options(mode=mode, limits=accounts).init() as llm:
        assert sorted(gather([llm.ask_account() for _ in range(6)])) == ["a", "a", "b", "b", "c", "c"]


@pytest.fixture(autouse=True)
def no_log_noise(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Limits that suit log nothing at all."""
    yield
    assert not [it for it in caplog.get_records("call") if it.levelno > logging.WARNING]
