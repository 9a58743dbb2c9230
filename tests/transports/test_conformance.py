"""The conformance kit: what `transports/base.py` promises, over every transport of the registry.

A new transport passes it by a line in `WIRES` (conftest.py).
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from concurry.transports.base import Gone

background = pytest.mark.usefixtures("beside")


class Broken(BaseException):
    """Nothing between the actor and the transport's edge stops it."""


@background
def test_open_returns_at_once(kit: Any) -> None:
    job = kit.job()
    job.begin.clear()
    channel, _ = kit.open(job)
    assert not channel.join(0)
    job.begin.set()


def test_calls_arrive_in_their_order(kit: Any) -> None:
    channel, job = kit.open()
    calls = [object() for _ in range(500)]
    job.give_all(channel, calls)
    channel.give(None)
    job.wait_gone()
    assert job.taken == calls


@background
def test_calls_from_many_threads_arrive_each_once_and_in_their_threads_order(kit: Any) -> None:
    channel, job = kit.open()
    turn = threading.Lock()  # credit is one call at a time; who has it may be any thread

    def give(thread: int) -> None:
        for n in range(100):
            with turn:
                job.give_all(channel, [(thread, n)])

    threads = [threading.Thread(target=give, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(job.taken) == 800
    for number in range(8):
        assert [n for thread, n in job.taken if thread == number] == list(range(100))


@background
def test_give_does_not_wait_for_a_busy_actor(kit: Any) -> None:
    go = threading.Event()
    channel, job = kit.open(kit.job(lambda _: go.wait(20)))
    channel.give("first")
    assert job.room.acquire(timeout=20)
    channel.give("second")
    assert job.taken == ["first"]
    go.set()
    assert job.room.acquire(timeout=20)


@background
def test_give_before_the_actor_serves_is_kept(kit: Any) -> None:
    job = kit.job()
    job.begin.clear()
    channel, _ = kit.open(job)
    channel.give("early")
    assert channel.undelivered() == ["early"]
    job.begin.set()
    assert job.room.acquire(timeout=20)
    assert job.taken == ["early"]
    assert channel.undelivered() == []


def test_none_ends_it_cleanly_and_once(kit: Any) -> None:
    channel, job = kit.open()
    channel.give(None)
    reason = job.wait_gone()
    assert channel.join(20)
    assert reason.clean
    assert channel.undelivered() == []
    assert len(job.reasons) == 1
    assert job.reasons[0][0] is channel


@background
@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), Broken(), GeneratorExit()])
def test_whatever_comes_out_of_the_actor_is_heard_of_once(kit: Any, error: BaseException) -> None:
    def raise_it(_: Any) -> None:
        raise error

    channel, job = kit.open(kit.job(raise_it))
    channel.give("call")
    reason = job.wait_gone()
    assert channel.join(20)
    assert reason.cause is error
    assert not reason.clean
    assert len(job.reasons) == 1


@background
def test_gone_comes_from_the_actors_context_or_after_it(kit: Any) -> None:
    channel, job = kit.open()
    channel.give(None)
    assert channel.join(20)
    assert job.is_gone.is_set(), "who has joined has heard of it"


@background
def test_what_was_given_and_not_taken_is_left(kit: Any) -> None:
    go = threading.Event()

    def die(_: Any) -> None:
        go.wait(20)
        raise Broken

    channel, job = kit.open(kit.job(die))
    channel.give("taken")
    assert job.room.acquire(timeout=20)
    channel.give("left")
    go.set()
    job.wait_gone()
    assert channel.join(20)
    assert [*job.taken, *channel.undelivered()] == ["taken", "left"]


@background
def test_give_after_the_end_is_kept_and_raises_nothing(kit: Any) -> None:
    channel, job = kit.open()
    channel.give(None)
    assert channel.join(20)
    channel.give("late")
    assert channel.undelivered() == ["late"]
    assert len(job.reasons) == 1


@background
def test_join_in_time_and_late(kit: Any) -> None:
    channel, _ = kit.open()
    for timeout in (0, 0.0, -1.0, 0.01):
        assert channel.join(timeout) is False
    channel.give(None)
    for late in (1e300, None, 0, -5):
        assert channel.join(late) is True


@background
def test_join_from_within_says_no_instead_of_waiting_for_itself(kit: Any) -> None:
    answers: list[bool] = []
    job: Any = kit.job(lambda _: answers.append(job.channel.join(None)))
    channel, _ = kit.open(job)
    channel.give("call")
    assert job.room.acquire(timeout=20)
    channel.give(None)
    assert channel.join(20)
    assert answers == [False]


@background
def test_several_may_join(kit: Any) -> None:
    channel, _ = kit.open()
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(channel.join(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    channel.give(None)
    for thread in threads:
        thread.join(20)
    assert answers == [True] * 4


def test_kill_may_come_at_any_time(kit: Any) -> None:
    channel, job = kit.open()
    channel.kill()
    channel.kill()
    if not job.is_gone.is_set():
        channel.give(None)
    assert channel.join(20)
    channel.kill()
    assert len(job.reasons) == 1


def test_channels_are_apart(kit: Any) -> None:
    one, first = kit.open()
    two, second = kit.open()
    first.give_all(one, ["a"])
    second.give_all(two, ["b"])
    one.give(None)
    assert one.join(20)
    second.give_all(two, ["c"])
    two.give(None)
    assert two.join(20)
    assert (first.taken, second.taken) == (["a"], ["b", "c"])


@background
def test_a_context_that_cannot_be_started_is_an_error_of_open(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job = kit.job()

    def no_more(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            kit.transport.open(job)
    assert job.reasons == []


def test_what_init_raises_in_the_callers_own_thread_is_raised_by_open(wire: Any, kit: Any) -> None:
    if not kit.transport.direct:
        pytest.skip("only for direct transports")

    class Refuses(type(kit.job())):  # type: ignore[misc]
        def serve_direct(self, channel: Any) -> None:
            raise Broken

    with pytest.raises(Broken):
        kit.transport.open(Refuses())


# -- the loop wires ----------------------------------------------------------------------------------------------------


def test_loop_stop_does_not_end_the_actor(wire: Any, kit: Any) -> None:
    if not wire.loop:
        pytest.skip("no event loop there")
    import asyncio

    channel, job = kit.open(kit.job(lambda _: asyncio.get_running_loop().stop()))
    job.give_all(channel, [1, 2, 3])
    channel.give(None)
    assert job.wait_gone().clean
    assert job.taken == [1, 2, 3]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_what_a_task_beside_the_calls_raises_does_not_end_the_actor(
    wire: Any, kit: Any, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    if not wire.loop:
        pytest.skip("no event loop there")
    import asyncio

    kept: list[Any] = []
    raised = threading.Event()

    async def beside() -> None:
        raised.set()
        raise error

    def take(call: Any) -> None:
        if call == 1:
            kept.append(asyncio.ensure_future(beside()))

    channel, job = kit.open(kit.job(take))
    job.give_all(channel, [1])
    assert raised.wait(20)
    job.give_all(channel, [2])
    channel.give(None)
    assert job.wait_gone().clean
    assert job.taken == [1, 2]
    assert "a task raised it beside the calls" in caplog.text
    assert kept[0].exception() is error


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), ValueError("x")])
def test_a_task_that_answers_its_cancellation_with_an_exception_hides_no_end(
    wire: Any, kit: Any, error: BaseException
) -> None:
    if not wire.loop:
        pytest.skip("no event loop there")
    import asyncio

    began = threading.Event()
    kept: list[Any] = []

    async def stubborn() -> None:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise error from None

    channel, job = kit.open(kit.job(lambda _: kept.append(asyncio.ensure_future(stubborn()))))
    job.give_all(channel, [1])
    assert began.wait(20)
    channel.give(None)
    job.wait_gone()
    assert channel.join(20)
    assert kept.pop().done()


# -- the fake, so that tests which build on it build on something that keeps the promises ------------------------------


class FakeJob:
    name = "fake"

    def __init__(self) -> None:
        self.said: list[Any] = []

    def ready(self, channel: Any) -> None:
        self.said.append("ready")

    def failed_to_build(self, error: BaseException) -> None:
        self.said.append(error)

    def gone(self, channel: Any, reason: Gone) -> None:
        self.said.append(reason)


def test_the_fake_says_gone_once(fake_transport: Any) -> None:
    job = FakeJob()
    channel = fake_transport().open(job)
    channel.give("call")
    channel.die(signal="SIGKILL")
    channel.end()
    channel.kill()
    channel.give(None)
    assert channel.join(0)
    assert job.said == ["ready", Gone(signal="SIGKILL")]
    assert channel.undelivered() == ["call"]


def test_the_fake_ends_when_it_is_told(fake_transport: Any) -> None:
    job, transport = FakeJob(), fake_transport()
    channel = transport.open(job)
    channel.give(None)
    assert job.said == ["ready"], "never from within give"
    assert channel.join(0)
    assert job.said == ["ready", Gone()]


def test_gone_in_words() -> None:
    assert str(Gone()) == "its own end"
    assert str(Gone(exit_code=0)) == "exit code 0"
    assert str(Gone(exit_code=3)) == "exit code 3"
    assert str(Gone(signal="SIGKILL", exit_code=-9)) == "SIGKILL"
    assert str(Gone(ValueError("x"))) == "ValueError: x"
    assert Gone().clean
    assert not Gone(ValueError()).clean
    assert not Gone(exit_code=1).clean
    assert not Gone(signal="SIGKILL").clean
