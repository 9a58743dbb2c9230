"""The supervisor: starting, deaths, restarts, giving up, ends; on a fake transport and a fake clock."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from concurry.runtime import shutdown
from concurry.runtime.notifier import judge
from concurry.transports.errors import (
    RestartIntensityError,
    WorkerDiedError,
    WorkerInitError,
    WorkerStoppedError,
)

KILLED = {"signal": "SIGKILL", "pid": 4711}


def always(exception: BaseException, **_: Any) -> bool:
    """A policy's own predicate."""
    return True


class Wrong(ValueError):
    pass


# -- starting ----------------------------------------------------------------------------------------------------------


def test_calls_are_served_in_order(house: Any) -> None:
    pool = house.start()
    futures = [house.call(pool, "work", n) for n in range(5)]
    for n in range(5):
        assert house.last.begin().args == (n,)
        house.last.answer(n)
    assert [future.result() for future in futures] == list(range(5))


def test_what_init_raises_is_raised_and_the_others_are_ended(house: Any, fake_transport: Any) -> None:
    transport = fake_transport(True, True, Wrong("no"), True)
    with pytest.raises(Wrong, match="no"):
        house.start(transport, actors=4)
    assert all(channel.last_given for channel in transport.channels if channel.open), "they wait for a first call"
    transport.run_later()
    assert transport.living() == []
    assert house.clock.pending() == 0


def test_a_base_exception_in_init_is_told_as_a_worker_init_error(house: Any, fake_transport: Any) -> None:
    with pytest.raises(WorkerInitError, match="SystemExit"):
        house.start(fake_transport(SystemExit(3)))


def test_a_start_that_cannot_be_opened_ends_those_before_it(house: Any, fake_transport: Any) -> None:
    transport = fake_transport()
    transport.refusals = [None, None, RuntimeError("can't start new thread")]
    with pytest.raises(RuntimeError, match="can't start new thread"):
        house.start(transport, actors=4)
    assert len(transport.channels) == 2
    transport.run_later()
    assert transport.living() == []


def test_an_actor_that_dies_before_it_is_built_fails_the_start(house: Any, fake_transport: Any) -> None:
    with pytest.raises(WorkerDiedError, match=r"Thing\[1\].*SIGSEGV.*__init__") as caught:
        house.start(fake_transport(True, {"signal": "SIGSEGV", "pid": 7}), actors=3)
    assert (caught.value.pid, caught.value.signal) == (7, "SIGSEGV")
    house.transport.run_later()
    assert house.transport.living() == []


def test_an_actor_that_ends_in_its_init_fails_the_start(house: Any, fake_transport: Any) -> None:
    with pytest.raises(WorkerDiedError, match="exit code 0"):  # os._exit(0) in __init__
        house.start(fake_transport({"exit_code": 0}))


def test_an_actor_that_dies_while_the_others_are_built_fails_the_start(house: Any, fake_transport: Any) -> None:
    class Dies(fake_transport):  # type: ignore[misc]
        def open(self, job: Any) -> Any:
            if len(self.channels) == 1:
                self.channels[0].die(**KILLED)
            return super().open(job)

    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        house.start(Dies(), actors=2)


def test_init_timeout_names_those_that_are_late(house: Any, fake_transport: Any) -> None:
    transport = fake_transport(True, None, True, killable=False)
    with pytest.raises(WorkerInitError, match=r"Thing\[1\].*init_timeout=0"):
        house.start(transport, actors=3, init_timeout_s=0.0)
    late = transport.channels[1]
    assert late.killed
    late.build()  # it is done after all
    assert late.last_given, "it is sent home, and takes no calls"
    transport.run_later()
    assert transport.living() == []


# -- deaths ------------------------------------------------------------------------------------------------------------


def test_a_call_that_had_begun_fails_and_those_behind_it_run(house: Any) -> None:
    pool = house.start()
    lost, *others = [house.call(pool, "work", n) for n in range(4)]
    first = house.last
    first.begin()
    first.die(**KILLED)
    with pytest.raises(WorkerDiedError, match=r"Thing \(pid 4711\) died of SIGKILL while running work\(\)") as caught:
        lost.result(0)
    error = caught.value
    assert (error.worker, error.method, error.pid, error.signal) == ("Thing", "work", 4711, "SIGKILL")
    assert error.maybe_executed
    assert error.incarnation == 0
    assert house.clock.pending() == 0, "a death in a call is charged to the call: the actor starts at once"
    assert house.last is not first
    for n, future in enumerate(others, 1):
        assert house.last.begin().args == (n,)
        house.last.answer(n)
        assert future.result(0) == n


def test_calls_that_had_not_begun_run_in_order_on_the_next_incarnation(house: Any) -> None:
    pool = house.start()
    futures = [house.call(pool, "work", n) for n in range(3)]
    assert len(house.last.given) == 1
    house.last.die(exit_code=1)
    assert not any(future.done() for future in futures)
    house.clock.advance(0.1)
    assert len(house.transport.channels) == 2
    for n in range(3):
        assert house.last.begin().args == (n,)
        house.last.answer(n)
    assert all(future.done() for future in futures)


def test_a_call_that_was_answered_before_the_death_keeps_its_result(house: Any) -> None:
    pool = house.start()
    answered, waiting = house.call(pool), house.call(pool)
    house.last.begin()
    house.last.answer("good")  # takes the next, which has not begun
    house.last.die(**KILLED)
    assert answered.result(0) == "good"
    house.clock.advance(0.1)
    house.last.serve("too")
    assert waiting.result(0) == "too"


def test_another_actor_of_the_pool_takes_what_a_dead_one_held(house: Any) -> None:
    pool = house.start(actors=2)
    first, second = house.transport.channels
    future = house.call(pool)
    holder, other = (first, second) if first.given else (second, first)
    holder.die(**KILLED)
    assert other.given == [future]
    other.serve("other")
    assert future.result(0) == "other"


def test_a_cancelled_call_of_a_dead_actor_stays_cancelled(house: Any) -> None:
    pool = house.start()
    future = house.call(pool)
    assert future.cancel()
    house.last.die(**KILLED)
    assert future.cancelled()
    house.clock.advance(0.1)
    assert house.last.given == []


def test_a_dead_actor_is_given_nothing(house: Any) -> None:
    pool = house.start()
    house.last.die(**KILLED)
    future = house.call(pool)
    assert house.last.given == [], "it waits in the mailbox"
    house.clock.advance(0.1)
    assert house.last.given == [future]
    house.last.serve()


def test_what_an_old_incarnation_held_is_not_held_by_the_next(house: Any) -> None:
    pool = house.start(methods={"work": house.retrying()})
    member = pool.members[0]
    future = house.call(pool)
    member.call = house.last.begin()  # as the loop in the actor's thread leaves it when it dies
    house.last.die(**KILLED)
    assert not future.done(), "it waits for its next attempt"
    house.last.die(**KILLED)  # idle
    house.clock.advance(0.1)
    house.clock.advance(1.0)
    assert [channel.log for channel in house.transport.channels] == [["work"], [], ["work"]]
    house.last.serve(1)
    assert future.result(0) == 1


# -- restart intensity (rule 4) ----------------------------------------------------------------------------------------


def test_counted_restarts_wait_longer_each_time(house: Any) -> None:
    pool = house.start(intensity=type(house.plan().intensity)(None, 60.0))
    waits = []
    for _ in range(9):
        opened = len(house.transport.channels)
        house.last.die(exit_code=1)
        began = house.clock.now()
        while len(house.transport.channels) == opened:
            house.clock.advance(0.05)
        waits.append(house.clock.now() - began)
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0], abs=0.051)
    assert pool.stats()["restarts"] == 9
    assert pool.alive()


def test_one_death_too_many_fails_every_call(house: Any) -> None:
    pool = house.start(actors=1)
    waiting = [house.call(pool, "work", n) for n in range(3)]
    for _ in range(3):
        house.last.die(exit_code=1)
        house.clock.advance(5.0)
    assert len(house.transport.channels) == 4
    house.last.die(exit_code=1)
    for future in waiting:
        with pytest.raises(RestartIntensityError, match=r"max_restarts=3.*exit code 1") as caught:
            future.result(0)
        assert not caught.value.maybe_executed
    with pytest.raises(RestartIntensityError):
        house.call(pool)
    assert not pool.alive()
    house.clock.advance(100)
    assert len(house.transport.channels) == 4
    assert house.clock.pending() == 0


def test_the_first_start_is_good_and_every_later_one_dies(house: Any, fake_transport: Any) -> None:  # F09
    house.start(fake_transport(True, *[{"exit_code": 1}] * 10))
    house.last.die(exit_code=1)
    house.clock.advance(60)
    assert len(house.transport.channels) == 1 + 3
    pool = house.pools[-1]
    with pytest.raises(RestartIntensityError):
        house.call(pool)


def test_a_restart_whose_init_raises_is_a_counted_death(house: Any, fake_transport: Any) -> None:
    pool = house.start(fake_transport(True, Wrong("no database"), Wrong("no database"), Wrong("no database")))
    future = house.call(pool)
    house.last.die(exit_code=1)
    house.clock.advance(60)
    with pytest.raises(RestartIntensityError, match="no database"):
        future.result(0)


def test_a_restart_that_cannot_be_opened_is_a_counted_death(house: Any) -> None:
    pool = house.start()
    future = house.call(pool)
    house.transport.refusals = [RuntimeError("can't start new thread"), None]
    house.last.die(exit_code=1)
    house.clock.advance(0.1)
    assert len(house.transport.channels) == 1
    house.clock.advance(0.2)
    house.last.serve("at last")
    assert future.result(0) == "at last"


def test_deaths_out_of_the_window_are_forgotten(house: Any) -> None:
    pool = house.start()
    for _ in range(12):
        house.last.die(exit_code=1)
        house.clock.advance(25.0)
    assert pool.alive()
    assert len(house.transport.channels) == 13


def test_deaths_in_calls_do_not_count(house: Any) -> None:
    pool = house.start()
    futures = [house.call(pool, "work", n) for n in range(20)]
    for n in range(20):
        house.last.begin()
        if n % 2:
            house.last.die(**KILLED)
        else:
            house.last.answer("fine")
    assert [future.exception(0) is None for future in futures] == [True, False] * 10
    assert pool.alive()


def test_no_restarts_at_all(house: Any) -> None:  # F03
    pool = house.start(intensity=type(house.plan().intensity)(0, 60.0))
    running, *waiting = [house.call(pool) for _ in range(4)]
    house.last.begin()
    house.last.die(**KILLED)
    with pytest.raises(WorkerDiedError) as caught:
        running.result(0)
    assert type(caught.value) is WorkerDiedError
    for future in waiting:
        with pytest.raises(RestartIntensityError):
            future.result(0)


def test_the_others_go_on_when_one_has_failed(house: Any) -> None:
    pool = house.start(actors=3, intensity=type(house.plan().intensity)(0, 60.0))
    first, *others = house.transport.channels
    first.die(exit_code=1)
    futures = [house.call(pool) for _ in range(6)]
    while any(channel.given for channel in others):
        for channel in others:
            if channel.given:
                channel.serve(1)
    assert [future.result(0) for future in futures] == [1] * 6
    assert pool.alive()
    for channel in others:
        channel.die(exit_code=1)
    with pytest.raises(RestartIntensityError):
        house.call(pool)


# -- calls that are tried again ----------------------------------------------------------------------------------------


def test_a_lost_call_is_tried_again_where_its_policy_says_so(house: Any) -> None:
    pool = house.start(methods={"work": house.retrying(num_retries=1)})
    future = house.call(pool)
    house.last.begin()
    house.last.die(**KILLED)
    assert not future.done()
    assert not future.running()
    house.clock.advance(1.0)
    house.last.serve("second")
    assert future.result(0) == "second"


def test_a_lost_call_is_not_tried_again_where_its_policy_does_not_say_so(house: Any) -> None:
    pool = house.start(methods={"work": house.retrying(retry_on=[ValueError])})
    future = house.call(pool)
    house.last.begin()
    house.last.die(**KILLED)
    with pytest.raises(WorkerDiedError):
        future.result(20)
    assert house.clock.pending() == 0


def test_a_call_that_two_actors_died_of_is_poison(house: Any) -> None:  # F10
    pool = house.start(methods={"work": house.retrying(num_retries=5)})
    future = house.call(pool)
    for _ in range(2):
        house.last.begin()
        house.last.die(**KILLED)
        house.clock.advance(10.0)
    with pytest.raises(WorkerDiedError):
        future.result(0)
    house.clock.advance(100.0)
    assert [channel.log for channel in house.transport.channels] == [["work"], ["work"], []]


def test_a_call_that_is_not_blamed_for_deaths_is_no_poison(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = house.start(methods={"work": house.retrying(num_retries=5)})
    monkeypatch.setattr(type(house.last), "blames", lambda *_: False)
    future = house.call(pool)
    for _ in range(4):
        house.last.begin()
        house.last.die(**KILLED)
        house.clock.advance(10.0)
    house.last.serve("at last")
    assert future.result(0) == "at last"


def test_a_call_that_waits_for_its_next_attempt_can_be_cancelled(house: Any) -> None:
    pool = house.start(methods={"work": house.retrying()})
    future = house.call(pool)
    house.last.begin()
    house.last.die(**KILLED)
    assert future.cancel()
    assert future.cancelled()
    house.clock.advance(10.0)
    assert house.last.log == []


def test_a_lost_call_can_be_cancelled_before_it_was_decided_about(house: Any) -> None:
    pool = house.start(methods={"work": house.retrying(retry_on=[always])})
    go = threading.Event()
    judge.post(go.wait, 20)  # the policy's own predicates wait behind it
    future = house.call(pool)
    house.last.begin()
    house.last.die(**KILLED)
    cancelled = future.cancel()
    go.set()
    house.after(judge)
    house.clock.advance(10.0)
    assert cancelled
    assert future.cancelled()
    assert house.last.log == []


@pytest.mark.parametrize("decided", [False, True])
def test_stop_ends_a_call_that_waits_for_its_next_attempt(house: Any, decided: bool) -> None:
    pool = house.start(methods={"work": house.retrying(retry_wait=100, retry_on=[always])})
    go = threading.Event()
    judge.post(go.wait, 20)  # the policy's own predicates wait behind it
    future = house.call(pool)
    house.last.begin()
    house.last.die(**KILLED)
    if decided:
        go.set()
        house.after(judge)
    shutdown.stop(pool, 0.0)
    assert future.done()
    with pytest.raises(WorkerDiedError):  # it has begun: it is not cancelled, and not said to have been
        future.result(0)
    go.set()
    house.after(judge)
    assert house.clock.pending() == 0


def test_a_dropped_handle_lets_a_lost_call_have_its_next_attempt(house: Any) -> None:
    pool = house.start(methods={"work": house.retrying()})
    future = house.call(pool)
    house.last.begin()
    shutdown.drain(pool)
    house.last.die(**KILLED)
    assert not future.done()
    house.clock.advance(1.0)
    house.last.serve("second")
    assert future.result(0) == "second"
    house.transport.run_later()
    assert house.transport.living() == []


def test_a_lost_call_of_a_full_mailbox_gives_its_place_back(house: Any) -> None:
    pool = house.start(methods={"work": house.retrying()}, mailbox_size=2, block=False)
    for _ in range(5):
        future = house.call(pool)
        house.last.begin()
        house.last.die(**KILLED)
        house.clock.advance(1.0)
        house.last.serve()
        assert future.done()
    futures = [house.call(pool) for _ in range(3)]  # one is held, two wait
    for _ in range(3):
        house.last.serve()
    assert all(future.done() for future in futures)


# -- ends --------------------------------------------------------------------------------------------------------------


def test_stop_while_a_restart_is_pending_leaves_nothing(house: Any) -> None:
    pool = house.start()
    waiting = house.call(pool)
    house.last.die(exit_code=1)
    assert house.clock.pending() == 1
    shutdown.stop(pool, 0.0)
    assert waiting.cancelled()
    assert house.clock.pending() == 0
    house.clock.advance(10)
    assert len(house.transport.channels) == 1


def test_a_restart_that_was_too_late_opens_nothing(house: Any, fake_transport: Any) -> None:
    pool = house.start(actors=2)
    first, second = house.transport.channels
    first.die(exit_code=1)
    shutdown.stop(pool, 0.0)
    assert not second.open
    house.clock.advance(10)
    assert len(house.transport.channels) == 2


def test_stop_kills_what_does_not_end_and_fails_its_call(house: Any, fake_transport: Any) -> None:
    pool = house.start(fake_transport(polite=False))
    running, waiting = house.call(pool), house.call(pool)
    house.last.begin()
    shutdown.stop(pool, 0.0)
    assert waiting.cancelled()
    with pytest.raises(WorkerStoppedError, match=r"work\(\) still ran"):
        running.result(0)
    assert house.last.killed
    assert not house.last.open
    assert len(house.transport.channels) == 1, "it is not started again"


def test_stop_reports_what_cannot_be_ended(house: Any, fake_transport: Any, caplog: pytest.LogCaptureFixture) -> None:
    pool = house.start(fake_transport(polite=False, killable=False))
    running = house.call(pool)
    house.last.begin()
    shutdown.stop(pool, 0.0)
    assert running.done()
    assert "Thing is stopped, but one thread is in a call that cannot be ended" in caplog.text
    shutdown.stop(pool, 0.0)


def test_a_call_given_and_not_begun_is_ended_by_stop(house: Any, fake_transport: Any) -> None:
    pool = house.start(fake_transport(polite=False, killable=False))
    given = house.call(pool)
    shutdown.stop(pool, 0.0)
    assert given.done()
    with pytest.raises(AssertionError):
        house.last.begin()


def test_a_call_that_the_actor_shows_late_is_ended_by_stop(house: Any, fake_transport: Any) -> None:
    """Between taking a call and showing it there is a moment in which nobody sees it held."""

    class Late(fake_transport):  # type: ignore[misc]
        def open(self, job: Any) -> Any:
            channel = super().open(job)
            joins: list[float | None] = []

            def join(timeout: float | None) -> bool:
                joins.append(timeout)
                return False

            channel.undelivered = lambda: list(channel.given) if len(joins) > 1 else []
            channel.join = join
            return channel

    pool = house.start(Late(polite=False, killable=False))
    future = house.call(pool)
    house.last.begin()
    shutdown.stop(pool, 0.0)
    assert future.done()


def test_a_dropped_handle_lets_accepted_calls_run(house: Any) -> None:
    pool = house.start(actors=2)
    futures = [house.call(pool, "work", n) for n in range(5)]
    shutdown.drain(pool)
    while not all(future.done() for future in futures):
        for channel in house.transport.living():
            if channel.given:
                channel.serve()
    house.transport.run_later()
    assert house.transport.living() == []
    assert all(future.exception(0) is None for future in futures)


def test_a_death_while_a_dropped_handle_drains_starts_again_for_what_waits(house: Any) -> None:
    pool = house.start()
    futures = [house.call(pool, "work", n) for n in range(3)]
    house.last.begin()
    shutdown.drain(pool)
    house.last.die(**KILLED)
    house.last.serve()
    house.last.serve()
    assert [future.done() for future in futures] == [True] * 3
    house.transport.run_later()
    assert house.transport.living() == []


def test_finishing_is_heard_once(house: Any) -> None:
    from concurry.runtime.notifier import notifier

    before = notifier._retained
    pool = house.start(actors=3)
    assert notifier._retained == before + 1
    for _ in range(3):
        shutdown.stop(pool, 0.0)
    assert notifier._retained == before


def test_all_on_demand(house: Any) -> None:
    pool = house.start(actors=0, most_actors=2, on_demand=True)
    assert house.transport.channels == []
    futures = [house.call(pool, "work", n) for n in range(3)]
    first, second = house.transport.channels
    for channel, future in ((first, futures[0]), (second, futures[1])):
        assert channel.job.held() == [future]
        assert future.begin()
        future.close("done")
        channel.end()
    assert house.last.job.held() == [futures[2]]
    assert futures[2].begin()
    house.last.die(**KILLED)
    with pytest.raises(WorkerDiedError):
        futures[2].result(0)
    assert pool.spawner is not None
    assert pool.spawner.active == 0


def test_an_on_demand_actor_that_cannot_be_opened_fails_its_call_only(house: Any) -> None:
    pool = house.start(actors=0, most_actors=1, on_demand=True)
    house.transport.refusals = [RuntimeError("can't start new thread")]
    failed, good = house.call(pool), house.call(pool)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        failed.result(20)
    assert good.begin()
    good.close("fine")
    house.last.end()
    assert good.result(0) == "fine"


def test_an_on_demand_actor_whose_init_raises_fails_its_call_only(house: Any, fake_transport: Any) -> None:
    pool = house.start(fake_transport(Wrong("no")), actors=0, most_actors=1, on_demand=True)
    failed = house.call(pool)
    with pytest.raises(Wrong):
        failed.result(0)
    good = house.call(pool)
    assert good.begin()
    good.close("fine")
    house.last.end()
    assert good.result(0) == "fine"


def test_an_on_demand_actor_that_dies_in_its_init_fails_its_call_only(house: Any, fake_transport: Any) -> None:
    pool = house.start(fake_transport({"signal": "SIGSEGV"}), actors=0, most_actors=1, on_demand=True)
    failed = house.call(pool)
    with pytest.raises(WorkerDiedError, match="SIGSEGV"):
        failed.result(0)
