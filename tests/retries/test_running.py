"""What a policy does with a call, in both forms of running it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from concurry.errors import RetryValidationError, WorkerDiedError
from concurry.runtime.attempts import Attempts, CallInfo, Done, Raise, Wait, run_async
from concurry.runtime.clock import FakeClock
from concurry.runtime.retry_policy import Policy

Make = Callable[..., Policy]


class Busy(Exception):
    """What a server says that wants to be left alone for a while."""

    def __init__(self, retry_after: object) -> None:
        super().__init__("busy")
        self.response = SimpleNamespace(headers={"retry-after": retry_after})


# -- which are tried again -----------------------------------------------------------------------------------------


def test_a_good_result_at_once(runner: Any, make_policy: Make, script: Any) -> None:
    fn = script("answer")
    assert runner.run(make_policy(), fn, 1, known={"n": 2}) == "answer"
    assert fn.calls == [((1,), {"n": 2})]
    assert runner.waits == []


def test_num_retries_after_the_first_attempt(runner: Any, make_policy: Make, script: Any) -> None:
    fn = script(ValueError, KeyError, OSError, "answer")
    assert runner.run(make_policy(3), fn, 1) == "answer"
    assert runner.waits == [1, 2, 4]
    assert len(fn.calls) == 4
    fn = script(ValueError, KeyError, OSError, "too late")
    with pytest.raises(OSError, match="try 3"):
        runner.run(make_policy(2), fn)
    assert len(fn.calls) == 3


def test_every_attempt_gets_what_the_caller_gave(runner: Any, make_policy: Make, script: Any) -> None:
    fn = script(ValueError, ValueError, "answer")
    known = {"n": 1}

    def spoil(exception: Exception, kwargs: dict[str, Any]) -> bool:
        kwargs.clear()
        return True

    runner.run(make_policy(retry_on=spoil), fn, "a", known=known)
    assert fn.calls == [(("a",), {"n": 1})] * 3
    assert known == {"n": 1}


@pytest.mark.parametrize(
    ("retry_on", "raised", "retried"),
    [
        (ValueError, ValueError, True),
        (LookupError, KeyError, True),
        ([OSError, LookupError], KeyError, True),
        (ValueError, KeyError, False),
        ([], ValueError, False),
        (lambda e: "try" in str(e), ValueError, True),
        (lambda e: "no" in str(e), ValueError, False),
        ([ValueError, lambda e: isinstance(e, KeyError)], KeyError, True),
        ([ValueError, lambda e: isinstance(e, KeyError)], OSError, False),
        (lambda exception, attempt, elapsed_time, **ctx: attempt == 1 and ctx["args"] == ("q",), OSError, True),
        (lambda exception, attempt, elapsed_time, **ctx: elapsed_time > 0, OSError, False),
        (Exception, concurrent.futures.CancelledError, True),
        # what is no Exception is tried again only where a type names it
        (Exception, KeyboardInterrupt, False),
        ([Exception, lambda e: True], SystemExit, False),
        ([Exception, KeyboardInterrupt], KeyboardInterrupt, True),
        (SystemExit, SystemExit, True),
        (SystemExit, KeyboardInterrupt, False),
        (BaseException, KeyboardInterrupt, True),
        # and cancellation never
        ([BaseException, lambda e: True], asyncio.CancelledError, False),
        (asyncio.CancelledError, asyncio.CancelledError, False),
        ([GeneratorExit, BaseException], GeneratorExit, False),
    ],
)
def test_which_exceptions_are_tried_again(
    runner: Any, make_policy: Make, script: Any, retry_on: Any, raised: type[BaseException], retried: bool
) -> None:
    fn = script(raised, "answer")
    policy = make_policy(retry_on=retry_on)
    if retried:
        assert runner.run(policy, fn, "q") == "answer"
    else:
        with pytest.raises(raised):
            runner.run(policy, fn, "q")
    assert len(fn.calls) == 1 + retried


def test_the_types_are_asked_before_the_predicates(runner: Any, make_policy: Make, script: Any) -> None:
    asked: list[BaseException] = []

    def ask(exception: BaseException) -> bool:
        asked.append(exception)
        return True

    policy = make_policy(retry_on=[ask, ValueError])
    runner.run(policy, script(ValueError, "answer"))
    assert asked == []
    runner.run(policy, script(KeyError, "answer"))
    assert len(asked) == 1


def test_what_predicates_and_validators_are_told(runner: Any, make_policy: Make, script: Any) -> None:
    told: list[dict[str, Any]] = []

    def note(answer: bool) -> Callable[..., bool]:
        def check(**ctx: Any) -> bool:
            told.append(ctx)
            return answer

        return check

    policy = make_policy(2, retry_on=note(True), retry_until=note(True), retry_wait=5)
    error = ValueError("x")
    assert runner.run(policy, script(error, "answer"), "q", known={"n": 1}) == "answer"
    common = {"method_name": "call_llm", "worker_class_name": "LLM", "args": ("q",), "kwargs": {"n": 1}}
    assert told == [
        {"exception": error, "attempt": 1, "elapsed_time": 0, **common},
        {"result": "answer", "attempt": 2, "elapsed_time": 5, **common},
    ]


def test_a_predicate_that_raises_is_no_yes_and_hides_nothing(runner: Any, make_policy: Make, script: Any) -> None:
    policy = make_policy(retry_on=lambda e: e.status_code == 429)
    fn = script(ValueError("the call's own"))
    with pytest.raises(ValueError, match="the call's own") as caught:
        runner.run(policy, fn)
    assert len(fn.calls) == 1
    (note,) = caught.value.__notes__
    assert "LLM.call_llm(): the predicate" in note
    assert "test_running.py" in note
    assert "AttributeError: 'ValueError' object has no attribute 'status_code'; it counts as no" in note
    # the others are asked all the same
    both = make_policy(retry_on=[lambda e: e.status_code == 429, lambda e: True])
    assert runner.run(both, script(ValueError, "answer")) == "answer"


# -- validation ----------------------------------------------------------------------------------------------------


def test_retry_until_all_validators_hold(runner: Any, make_policy: Make, script: Any) -> None:
    policy = make_policy(retry_until=[lambda r: len(r) > 2, lambda result, **ctx: result.isupper()])
    fn = script("A", "abc", "AB", "ABC")
    assert runner.run(policy, fn) == "ABC"
    assert runner.waits == [1, 2, 4]


def test_out_of_retries_without_a_good_result(runner: Any, make_policy: Make, script: Any) -> None:
    def long_enough(result: str) -> bool:
        return len(result) > 5

    fn = script("a", "bb", "ccc", "never asked for")
    with pytest.raises(
        RetryValidationError, match=r"LLM\.call_llm\(\): attempt 3 of 3 .*long_enough\(\) did"
    ) as caught:
        runner.run(make_policy(2, retry_until=long_enough), fn)
    error = caught.value
    assert error.attempts == 3
    assert error.all_results == ["a", "bb", "ccc"]
    assert len(error.validation_errors) == 3
    assert all("long_enough() did not accept the result" in it for it in error.validation_errors)
    assert error.method_name == "call_llm"
    assert len(fn.calls) == 3


def test_validators_run_without_retries_too(runner: Any, make_policy: Make, script: Any) -> None:
    policy = make_policy(0, retry_until=lambda r: r > 1)
    assert runner.run(policy, script(2)) == 2
    fn = script(1)
    with pytest.raises(RetryValidationError) as caught:
        runner.run(policy, fn)
    assert (caught.value.attempts, caught.value.all_results) == (1, [1])
    assert len(fn.calls) == 1
    assert runner.waits == []


def test_a_validator_that_raises_refuses_with_its_reason(runner: Any, make_policy: Make, script: Any) -> None:
    def has_answer(result: str) -> bool:
        return bool(json.loads(result)["answer"])

    good = '{"answer": 42}'
    assert runner.run(make_policy(retry_until=has_answer), script("Sure! Here is the JSON:", "{}", good)) == good
    with pytest.raises(RetryValidationError, match=r"has_answer\(\) raised KeyError: 'answer'") as caught:
        runner.run(make_policy(1, retry_until=has_answer), script("rubbish", "{}"))
    error = caught.value
    assert error.all_results == ["rubbish", "{}"]  # a paid answer is not lost
    assert "has_answer() raised JSONDecodeError: Expecting value" in error.validation_errors[0]
    assert "has_answer() raised KeyError: 'answer'" in error.validation_errors[1]
    # with the line that raised
    assert isinstance(error.__cause__, KeyError)
    entry = error.__cause__.__traceback__
    while entry is not None and entry.tb_next is not None:
        entry = entry.tb_next
    assert entry is not None
    assert entry.tb_frame.f_code is has_answer.__code__


def test_the_first_validator_that_refuses_is_the_reason(runner: Any, make_policy: Make, script: Any) -> None:
    asked: list[str] = []

    def long_enough(result: str) -> bool:
        asked.append(result)
        return len(result) > 2

    policy = make_policy(0, retry_until=[lambda r: r is not None, long_enough])
    with pytest.raises(RetryValidationError) as caught:
        runner.run(policy, script(None))
    assert len(caught.value.validation_errors) == 1  # one for each of all_results
    assert asked == []


def test_a_validator_may_end_everything(make_policy: Make, runner: Any, script: Any) -> None:
    def interrupted(result: object) -> bool:
        raise KeyboardInterrupt

    if runner.form == "sync":
        with pytest.raises(KeyboardInterrupt):
            runner.run(make_policy(retry_until=interrupted), script("answer"))


def test_exceptions_and_refused_results_in_turn(runner: Any, make_policy: Make, script: Any) -> None:
    def is_good(result: str) -> bool:
        return result == "good"

    policy = make_policy(2, retry_until=is_good)
    assert runner.run(policy, script(ValueError, "bad", "good")) == "good"
    assert runner.run(policy, script("bad", ValueError, "good")) == "good"

    with pytest.raises(RetryValidationError) as refused:
        runner.run(policy, script("bad", ValueError, "worse"))
    assert refused.value.attempts == 3
    assert refused.value.all_results == ["bad", "worse"]
    assert len(refused.value.validation_errors) == 2
    (note,) = refused.value.__notes__
    assert "attempt 2: ValueError: try 2" in note

    with pytest.raises(ValueError, match="try 3") as raised:
        runner.run(policy, script(KeyError, "an answer that was paid for", ValueError))
    (note,) = raised.value.__notes__
    assert "attempt 1: KeyError: 'try 1'" in note
    assert "attempt 2: the validator" in note
    assert "'an answer that was paid for'" in note


# -- waiting -------------------------------------------------------------------------------------------------------


def test_the_wait_of_an_exception_is_the_least(runner: Any, make_policy: Make, script: Any) -> None:
    fn = script(Busy("10"), Busy("rubbish"), Busy("0.5"), "answer")
    assert runner.run(make_policy(), fn) == "answer"
    assert runner.waits == [10, 2, 4]


def test_a_long_wait_that_is_carried_is_said(
    runner: Any, make_policy: Make, script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fn = script(Busy("59.9"), Busy("60"), Busy("3600"), "answer")
    assert runner.run(make_policy(), fn) == "answer"
    assert runner.waits == [59.9, 60, 3600]
    first, second = (it.getMessage() for it in caplog.records if it.levelname == "WARNING")
    assert "LLM.call_llm()" in first
    assert "60 s" in first
    assert "Busy" in second
    assert "3600 s" in second
    assert "attempt 4" in second
    assert "call_timeout" in second


def test_a_long_wait_of_the_policys_own_is_as_the_user_wrote_it(
    runner: Any, make_policy: Make, script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert runner.run(make_policy(retry_wait=100), script(ValueError, Busy("70"), "answer")) == "answer"
    assert runner.waits == [100, 200]
    with pytest.raises(TimeoutError):  # it is ended at once, and not waited for
        runner.run(make_policy(), script(Busy("70")), deadline=runner.clock.now() + 60)
    assert [it for it in caplog.records if it.levelname == "WARNING"] == []


def test_limits_are_released_before_the_wait(runner: Any, make_policy: Make, script: Any) -> None:
    fn = script(ValueError, "bad", "good")

    def method() -> Any:
        runner.events.append("call")
        return fn()

    runner.run(make_policy(retry_until=lambda r: r == "good"), method, scope=runner.scope)
    once = ["enter", "call", "leave"]
    assert runner.events == [*once, "wait", *once, "wait", *once]


def test_an_actor_that_is_told_to_end_tries_no_more(runner: Any, make_policy: Make, script: Any) -> None:
    runner.stop_at = 2
    fn = script(KeyError, ValueError, "never")
    with pytest.raises(ValueError, match="try 2") as caught:
        runner.run(make_policy(5), fn)
    assert len(fn.calls) == 2
    (note,) = caught.value.__notes__
    assert "failed in attempt 2 of 6; not tried again, because the worker is stopping; before that:" in note
    assert "attempt 1: KeyError" in note


def test_results_are_handed_out_when_the_actor_ends(runner: Any, make_policy: Make, script: Any) -> None:
    runner.stop_at = 1
    with pytest.raises(RetryValidationError, match="because the worker is stopping") as caught:
        runner.run(make_policy(5, retry_until=lambda r: False), script("paid for"))
    assert (caught.value.attempts, caught.value.all_results) == (1, ["paid for"])


def test_the_deadline_ends_a_wait_that_would_pass_it(runner: Any, make_policy: Make, script: Any) -> None:
    fn = script(KeyError, ValueError, "never")
    with pytest.raises(
        TimeoutError, match=r"LLM\.call_llm\(\): call_timeout .* a wait of 2 s, 1\.5 s are left"
    ) as caught:
        runner.run(make_policy(), fn, deadline=runner.clock.now() + 2.5)
    assert runner.waits == [1]  # the second wait, which would have been too long, did not begin
    assert len(fn.calls) == 2
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert str(cause) == "try 2"
    assert "attempt 1: KeyError" in cause.__notes__[0]


def test_the_deadline_and_a_refused_result(runner: Any, make_policy: Make, script: Any) -> None:
    with pytest.raises(TimeoutError) as caught:
        runner.run(make_policy(retry_until=lambda r: False), script("paid for"), deadline=runner.clock.now() + 1)
    cause = caught.value.__cause__
    assert isinstance(cause, RetryValidationError)
    assert cause.all_results == ["paid for"]
    assert runner.waits == []


def test_no_attempt_begins_at_the_deadline(runner: Any, make_policy: Make, script: Any) -> None:
    fn = script("answer")
    with pytest.raises(TimeoutError, match="before attempt 1 began"):
        runner.run(make_policy(), fn, deadline=runner.clock.now())
    assert fn.calls == []

    fn = script(ValueError, "never")

    def slow_wait(seconds: float) -> Any:
        runner.clock.advance(3)  # a wait may take longer than it was asked to
        return runner.wait(0)

    with pytest.raises(TimeoutError, match="before attempt 2 began") as caught:
        runner.run(make_policy(), fn, deadline=runner.clock.now() + 2, wait=slow_wait)
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(fn.calls) == 1


def test_an_exception_after_the_deadline_is_still_the_calls_own(runner: Any, make_policy: Make, script: Any) -> None:
    def late() -> None:
        runner.clock.advance(5)
        raise ValueError("not found")

    # nothing more was to be tried, so that no time was missing
    with pytest.raises(ValueError, match="not found"):
        runner.run(make_policy(retry_on=KeyError), late, deadline=runner.clock.now() + 1)


def test_the_count_goes_on_after_a_death(runner: Any, make_policy: Make, script: Any) -> None:
    told: list[tuple[int, float]] = []

    def again(exception: Exception, attempt: int, elapsed_time: float) -> bool:
        told.append((attempt, elapsed_time))
        return True

    fn = script(ValueError)
    with pytest.raises(ValueError, match="try 2") as caught:
        runner.run(make_policy(3, retry_on=again), fn, first_attempt=3, started=runner.clock.now() - 60)
    assert len(fn.calls) == 2  # attempts 3 and 4
    assert runner.waits == [4]  # as after a third attempt
    assert told == [(3, 60)]  # the last is not asked about: there is nothing to decide
    assert "failed in attempt 4 of 4" in caught.value.__notes__[0]


def test_the_driver_decides_for_a_lost_call() -> None:
    call = CallInfo("parse", "Parser")
    policy = Policy(num_retries=1, types=(WorkerDiedError,), jitter=0.0)
    lost = WorkerDiedError("worker Parser[0] died")
    assert policy.retries_type(lost)
    attempts = Attempts(policy, call, (), {}, 0.0)
    assert attempts.raised(lost, 1.0) == Wait(1.0)
    assert attempts.again(2.0) is None
    assert attempts.number == 2
    assert attempts.raised(lost, 3.0) == Raise(lost)
    assert isinstance(Attempts(Policy(num_retries=1, types=()), call, (), {}, 0.0).raised(lost, 1.0), Raise)
    assert Attempts(policy, call, (), {}, 0.0).returned(7, 1.0) == Done(7)


# -- what only the async form has ------------------------------------------------------------------------------------


def test_a_method_may_return_an_awaitable_or_not(make_policy: Make) -> None:
    class Later:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    async def main() -> None:
        async def wait(seconds: float) -> bool:
            return True

        for fn, result in (
            (lambda: "plain", "plain"),
            (Later, "awaited"),
            (lambda: asyncio.sleep(0, "slept"), "slept"),
        ):
            got = await run_async(make_policy(), fn, (), {}, CallInfo("m"), clock=FakeClock(), wait=wait)
            assert got == result

    asyncio.run(main())


@pytest.mark.parametrize("where", ["attempt", "wait"])
@pytest.mark.parametrize("retry_on", [Exception, BaseException])
def test_cancelling_ends_an_async_call_at_once(make_policy: Make, where: str, retry_on: type[BaseException]) -> None:
    calls: list[str] = []
    left: list[str] = []

    async def main() -> None:
        there = asyncio.Event()
        forever = asyncio.Event()

        async def stay() -> None:
            there.set()
            await forever.wait()

        async def method() -> None:
            calls.append("call")
            if where == "attempt":
                await stay()
            raise ValueError("again")

        async def wait(seconds: float) -> bool:
            await stay()
            return True

        class Scope:
            def __enter__(self) -> None: ...

            def __exit__(self, *why: object) -> None:
                left.append("left")

        policy = make_policy(retry_on=retry_on)
        task = asyncio.create_task(
            run_async(policy, method, (), {}, CallInfo("m"), clock=FakeClock(), wait=wait, scope=Scope)
        )
        await there.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert calls == ["call"]
    assert left == ["left"]


def test_other_calls_run_while_one_waits(make_policy: Make, script: Any) -> None:
    async def main() -> list[str]:
        order: list[str] = []
        go = asyncio.Event()

        async def wait(seconds: float) -> bool:
            order.append("waits")
            await go.wait()
            return True

        async def other() -> None:
            order.append("other")
            go.set()

        fn = script(ValueError, "answer")
        await asyncio.gather(
            run_async(make_policy(), fn, (), {}, CallInfo("m"), clock=FakeClock(), wait=wait),
            other(),
        )
        return order

    assert asyncio.run(main()) == ["waits", "other"]
