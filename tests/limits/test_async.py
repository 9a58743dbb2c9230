"""Acquisition in coroutines: waiting holds up no loop, and a task that is cancelled leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import linecache
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

from concurry.limits import LimitPool, LimitSet
from concurry.runtime.limiter.owner import LeaseOwner, current_owner

Make = Callable[..., LimitSet]
Used = Callable[[LimitSet], dict[str, float]]


@pytest.fixture(params=["set", "pool", "pool of two"])
def wrap(request: pytest.FixtureRequest, make_set: Make) -> Callable[[LimitSet], Any]:
    """The set itself, a pool of it, or a pool of it and one that is taken."""

    def wrapped(limits: LimitSet) -> Any:
        if request.param == "set":
            return limits
        if request.param == "pool":
            return LimitPool([limits])
        full = make_set(slots=1)
        assert full.try_acquire().successful
        return LimitPool([full, limits])

    return wrapped


async def until_waiting(limits: LimitSet, key: str = "slots", count: int = 1) -> None:
    while limits.get_stats()[key]["waiting"] < count:  # noqa: ASYNC110
        await asyncio.sleep(0)  # the loop's other tasks go on; nothing else could tell us


def test_in_a_loop_an_acquisition_is_taken_by_async_with(make_set: Make, used: Used, wrap: Any) -> None:
    limits = make_set(tokens=10, slots=1, config={"account": 7})
    both = wrap(limits)

    async def main() -> None:
        pending = both.acquire({"tokens": 5})
        assert not pending.successful
        assert used(limits)["slots"] == 0
        async with pending as acq:
            assert acq.successful
            assert acq.config == {"account": 7}
            assert acq.acquisitions["tokens"].requested == 5
            assert used(limits)["slots"] == 1
            acq.update({"tokens": 2})
        assert used(limits) == {"tokens": 2, "slots": 0}

        acq = await both.acquire({"tokens": 5})
        acq.update({"tokens": 3})
        acq.release()
        assert used(limits) == {"tokens": 5, "slots": 0}

        async with await both.async_acquire({"tokens": 5}) as acq:
            acq.update({"tokens": 1})
        with await both.async_acquire({"tokens": 1}) as acq:
            acq.update({"tokens": 0})
        assert used(limits) == {"tokens": 6, "slots": 0}

    asyncio.run(main())


def test_plain_with_in_a_loop_where_it_is_free_at_once(make_set: Make, used: Used, wrap: Any) -> None:
    limits = make_set(slots=1)
    both = wrap(limits)

    async def main() -> None:
        with both.acquire() as acq:
            assert acq.successful
            with pytest.raises(RuntimeError, match="async with"), both.acquire():
                pass
            assert used(limits) == {"slots": 1}
        assert used(limits) == {"slots": 0}

    asyncio.run(main())


def test_errors_are_at_the_line_that_asks(make_set: Make, wrap: Any) -> None:
    both = wrap(make_set(slots=1))

    async def main() -> None:
        with pytest.raises(ValueError, match="exceeds capacity"):
            both.acquire({"slots": 2})
        with pytest.raises(ValueError, match="timeout"):
            both.acquire(timeout="x")
        with pytest.raises(ValueError, match="exceeds capacity"):
            await both.async_acquire({"slots": 2})

    asyncio.run(main())


def test_the_loop_goes_on_while_a_coroutine_waits(make_set: Make, wrap: Any) -> None:
    limits = make_set(slots=1)
    both = wrap(limits)
    order: list[int] = []

    async def user(number: int) -> None:
        async with both.acquire():
            order.append(number)
            await asyncio.sleep(0)

    async def main() -> None:
        first = await both.acquire()
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(user(number)))
            await until_waiting(limits, count=number + 1)
        first.release()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert order == [0, 1, 2, 3, 4]


def test_a_cancelled_task_takes_its_request_back(make_set: Make, used: Used, wrap: Any) -> None:
    limits = make_set(slots=1)
    both = wrap(limits)

    async def main() -> None:
        first = await both.acquire()
        waiting = asyncio.create_task(both.async_acquire())
        await until_waiting(limits)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert limits.get_stats()["slots"]["waiting"] == 0

        waiting = asyncio.create_task(both.async_acquire())
        await until_waiting(limits)
        first.release()  # it is granted, and cancelled before it hears of it
        assert used(limits) == {"slots": 1}
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert used(limits) == {"slots": 0}

    asyncio.run(main())


def test_a_time_out(make_set: Make, used: Used, wrap: Any) -> None:
    limits = make_set(slots=1)
    both = wrap(limits)

    async def main() -> None:
        async with both.acquire():
            for timeout in (0, -1, 0.01):
                with pytest.raises(TimeoutError, match="not free within"):
                    await both.async_acquire(timeout=timeout)
                with pytest.raises(TimeoutError):
                    async with both.acquire(timeout=timeout):
                        pass
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(both.async_acquire(), 0.01)
        assert used(limits) == {"slots": 0}
        assert limits.get_stats()["slots"]["waiting"] == 0
        async with both.acquire(timeout=5) as acq:
            assert acq.successful

    asyncio.run(main())


def test_granted_within_the_time(make_set: Make, wrap: Any) -> None:
    limits = make_set(slots=1)
    both = wrap(limits)

    async def main() -> None:
        first = await both.acquire()
        waiting = asyncio.create_task(both.async_acquire(timeout=60))
        await until_waiting(limits)
        first.release()
        assert (await waiting).successful

    asyncio.run(main())


def test_what_the_block_raised_arrives(make_set: Make, used: Used, wrap: Any) -> None:
    limits = make_set(tokens=10, slots=1)
    both = wrap(limits)

    async def main() -> None:
        error = ValueError("bad answer")
        with pytest.raises(ValueError, match="bad answer") as caught:
            async with both.acquire({"tokens": 1}):
                raise error
        assert caught.value is error
        with pytest.raises(RuntimeError, match="Not all limits in the LimitSet were updated"):
            async with both.acquire({"tokens": 1}):
                pass
        assert used(limits) == {"tokens": 2, "slots": 0}

    asyncio.run(main())


def _forget(limits: LimitSet | LimitPool) -> None:
    _ = limits.acquire()
    del _
    gc.collect()


def test_an_acquisition_that_nobody_takes_says_so(make_set: Make, used: Used) -> None:
    limits = make_set(slots=1)

    async def main() -> None:
        for each in (limits, LimitPool([limits])):
            with pytest.warns(RuntimeWarning, match="neither awaited nor entered") as warned:
                _forget(each)
            [it] = warned
            assert it.filename == __file__
            assert linecache.getline(it.filename, it.lineno).strip() == "_ = limits.acquire()"

    asyncio.run(main())
    assert used(limits) == {"slots": 0}


def test_a_thread_and_a_loop_share_a_set(make_set: Make, run: Any) -> None:
    limits = make_set(slots=1)
    held = limits.acquire()

    async def main() -> bool:
        waiting = asyncio.create_task(limits.async_acquire())
        await until_waiting(limits)
        run(held.release)
        return (await waiting).successful

    assert asyncio.run(main())


def test_a_grant_for_a_loop_that_is_closed_goes_to_the_next(make_set: Make, used: Used, run: Any) -> None:
    limits = make_set(slots=1)
    held = limits.acquire()
    loop = asyncio.new_event_loop()
    task = loop.create_task(limits.async_acquire())
    loop.run_until_complete(until_waiting(limits))
    loop.close()  # with the task still in it
    held.release()
    assert limits.try_acquire().successful
    assert used(limits) == {"slots": 1}
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # that it was left is what is tested
    task.get_coro().close()


def test_an_owner_that_ends(make_set: Make, used: Used, wrap: Any) -> None:
    limits = make_set(slots=1)
    both = wrap(limits)

    async def user(owner: LeaseOwner) -> None:
        current_owner.set(owner)
        await both.async_acquire()

    async def main() -> None:
        owner = LeaseOwner("call 1")
        await asyncio.create_task(user(owner))
        other = LeaseOwner("call 2")
        waiting = asyncio.create_task(user(other))
        await until_waiting(limits)
        other.close()
        with pytest.raises(CancelledError):
            await waiting
        assert used(limits) == {"slots": 1}
        owner.close()
        assert used(limits) == {"slots": 0}

    asyncio.run(main())


def test_without_limits() -> None:
    async def main() -> None:
        for limits in (LimitSet(), LimitPool([LimitSet()])):
            async with limits.acquire() as acq:
                assert acq.successful
            with limits.acquire() as acq:
                assert acq.successful
            assert (await limits.acquire()).successful
            assert (await limits.async_acquire({"x": 1})).successful
            async with limits.acquire({"x": 1}) as acq:
                acq.update({"x": 1})

    asyncio.run(main())
