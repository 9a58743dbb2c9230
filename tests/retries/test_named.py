"""Methods that a policy names are tried again wherever they are called from, and from outside only once over."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from concurry.errors import RetryValidationError
from concurry.runtime.attempts import CallInfo, wrap_named
from concurry.runtime.retry_policy import Policy

Make = Callable[..., Policy]


class LLM:
    """A worker as a user writes it. `fetch` and `fetch_async` fail until the third try of each call."""

    def __init__(self) -> None:
        self.tries: list[tuple[Any, ...]] = []

    def fetch(self, page: int, *, upper: bool = False) -> str:
        """Get a page."""
        self.tries.append((page, upper))
        if len(self.tries) % 3:
            raise OSError(f"try {len(self.tries)}")
        return f"page {page}"

    def both(self) -> list[str]:
        return [self.fetch(1), self.fetch(2, upper=True)]

    async def fetch_async(self, page: int) -> str:
        """Get a page, later."""
        await asyncio.sleep(0)
        return self.fetch_plain(page)

    def fetch_plain(self, page: int) -> str:
        return LLM.fetch(self, page)

    async def both_async(self) -> list[str]:
        return list(await asyncio.gather(self.fetch_async(1), self.fetch_async(2)))

    @staticmethod
    def static(value: int) -> int:
        return value


def wrap(runner: Any, policy: Policy, method: Callable[..., Any], name: str, **options: Any) -> Callable[..., Any]:
    is_async = runner.form == "async"
    return wrap_named(
        policy, method, CallInfo(name, "LLM"), is_async=is_async, clock=runner.clock, wait=runner.wait, **options
    )


def test_a_call_on_self_is_tried_again(make_runner: Any, make_policy: Make) -> None:
    runner = make_runner("sync")
    llm = LLM()
    llm.fetch = wrap(runner, make_policy(2), llm.fetch, "fetch", scope=runner.scope)  # type: ignore[method-assign]
    assert llm.both() == ["page 1", "page 2"]
    assert llm.tries == [(1, False)] * 3 + [(2, True)] * 3
    assert runner.waits == [1, 2, 1, 2]
    assert runner.events.count("enter") == runner.events.count("leave") == 6


def test_an_async_call_on_self_is_tried_again(make_runner: Any, make_policy: Make) -> None:
    runner = make_runner("async")

    async def main() -> None:
        llm = LLM()
        llm.fetch_async = wrap(runner, make_policy(5), llm.fetch_async, "fetch_async")  # type: ignore[method-assign]
        assert await llm.fetch_async(1) == "page 1"
        assert await llm.both_async() == ["page 1", "page 2"]

    asyncio.run(main())


def test_a_call_from_outside_applies_the_policy_once(make_runner: Any, make_policy: Make) -> None:
    runner = make_runner("sync")
    llm = LLM()
    tries: list[int] = []

    def broken(page: int) -> None:
        tries.append(page)
        raise OSError("down")

    llm.fetch = wrap(runner, make_policy(3), broken, "fetch")  # type: ignore[method-assign]
    with pytest.raises(OSError, match="down"):
        llm.fetch(1)  # what the actor's loop calls for a handle
    assert tries == [1] * 4  # and not 16


def test_it_is_validated_too(make_runner: Any, make_policy: Make) -> None:
    runner = make_runner("sync")
    llm = LLM()
    llm.static = wrap(runner, make_policy(1, retry_until=lambda r: r > 5), llm.static, "static")  # type: ignore[method-assign]
    assert llm.static(7) == 7
    with pytest.raises(RetryValidationError) as caught:
        llm.static(3)
    assert (caught.value.method_name, caught.value.all_results) == ("static", [3, 3])


def test_it_looks_like_the_method(make_runner: Any, make_policy: Make) -> None:
    llm = LLM()
    for name in ("fetch", "fetch_async", "static"):
        method = getattr(llm, name)
        runner = make_runner("async" if inspect.iscoroutinefunction(method) else "sync")
        wrapped = wrap(runner, make_policy(), method, name)
        assert wrapped.__name__ == name
        assert wrapped.__doc__ == method.__doc__
        assert wrapped.__qualname__ == method.__qualname__
        assert inspect.signature(wrapped) == inspect.signature(method)
        assert inspect.iscoroutinefunction(wrapped) == inspect.iscoroutinefunction(method)
    nameless = functools.partial(llm.fetch, 1)
    assert wrap(make_runner("sync"), make_policy(), nameless, "fetch")() == "page 1"


def test_the_deadline_of_the_call_that_runs_now_holds(make_runner: Any, make_policy: Make) -> None:
    runner = make_runner("sync")
    llm = LLM()
    deadlines = iter([None, runner.clock.now() + 3 + 1.5])
    llm.fetch = wrap(runner, make_policy(2), llm.fetch, "fetch", deadline=lambda: next(deadlines))  # type: ignore[method-assign]
    assert llm.fetch(1) == "page 1"
    with pytest.raises(TimeoutError, match="a wait of 2 s"):
        llm.fetch(2)


def test_notes_of_a_policy_within_a_policy(make_runner: Any, make_policy: Make) -> None:
    runner = make_runner("sync")
    only = OSError("down")

    def fetch() -> None:
        raise only

    inner = wrap(make_runner("sync"), make_policy(1), fetch, "fetch")
    with pytest.raises(OSError, match="down"):
        runner.run(make_policy(1), lambda: inner())
    # each is told once, though the inner policy was run twice on the same exception
    assert [note.splitlines()[0] for note in only.__notes__] == [
        "concurry: LLM.fetch() failed in attempt 2 of 2; before that:",
        "concurry: LLM.call_llm() failed in attempt 2 of 2; before that:",
    ]
