"""Handles as values: given to an actor in another process, kept there, sent on and sent back; and what that costs."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import pytest

import concurry
from concurry import (
    EncodeError,
    ForkedHandleError,
    Handle,
    MailboxFullError,
    Worker,
    WorkerDiedError,
    WorkerStoppedError,
    async_gather,
    gather,
    wait,
)

Start = Callable[..., Any]
SECONDS = 20


class Refused(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why


class Counter(Worker):
    """The one that is called."""

    def __init__(self, start: int = 0) -> None:
        self.count = start
        self.seen: list[int] = []

    def add(self, amount: int) -> int:
        self.count += amount
        return self.count

    async def add_async(self, amount: int) -> int:
        await asyncio.sleep(0)
        return self.add(amount)

    def append(self, value: int) -> None:
        self.seen.append(value)

    def all_seen(self) -> list[int]:
        return self.seen

    def echo(self, value: Any, other: Any = None) -> Any:
        return value

    def refuse(self, why: str) -> None:
        raise Refused(403, why) from KeyError("inner")

    def unsendable(self) -> Any:
        return threading.Lock()

    def hold(self, begun: Any, go: Any) -> str:
        begun.set()
        go.wait()
        self.count += 1000
        return "held"

    async def hang(self, begun: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    def pid(self) -> int:
        return os.getpid()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Caller(Worker):
    """The one that is given handles."""

    def __init__(self, kept: Any = None) -> None:
        self.kept: Any = kept
        self.future: Any = None

    def add(self, handle: Any, amount: int) -> Any:
        return handle.add(amount).result(timeout=SECONDS)

    def add_kept(self, amount: int) -> Any:
        return self.kept.add(amount).result(timeout=SECONDS)

    async def add_awaited(self, handle: Any, amount: int) -> Any:
        one, two = await async_gather([handle.add(amount), handle.add_async(amount)])
        return one, two, await handle.add(amount)

    def keep(self, handle: Any) -> None:
        self.kept = handle

    def forget(self) -> None:
        self.kept = None
        gc.collect()

    def tell_when_gone(self, gone: Any) -> None:
        weakref.finalize(self.kept, gone.set)

    def give(self) -> Any:
        return self.kept

    def give_nested(self) -> Any:
        return {"handles": [self.kept, (self.kept,)], "array": np.arange(100_000)}

    def is_kept(self, handle: Any) -> bool:
        return handle is self.kept

    def pass_on(self, to: Any, handle: Any) -> Any:
        return to.add(handle, 1).result(timeout=SECONDS)

    def gather_many(self, count: int) -> Any:
        return gather([self.kept.add(1) for _ in range(count)])

    def append_many(self, base: int, count: int) -> Any:
        for number in range(count):
            self.kept.append(base + number)
        return self.kept.all_seen().result(timeout=SECONDS)

    def chain(self) -> Any:
        one = self.kept.add(1)
        return self.kept.echo([self.kept.echo(one), {"k": one}]).result(timeout=SECONDS)

    def failed_argument(self) -> str:
        return str(self.kept.echo(self.kept.refuse("first")).exception(timeout=SECONDS))

    def caught(self) -> Any:
        error = self.kept.refuse("not you").exception(timeout=SECONDS)
        return type(error), error.code, error.why, repr(error.__cause__.args[0])

    def refuse(self) -> None:
        self.kept.refuse("through").result(timeout=SECONDS)

    def errors(self) -> Any:
        return (
            type(self.kept.unsendable().exception(timeout=SECONDS)),
            type(self.kept.echo(threading.Lock()).exception(timeout=SECONDS)),
            self.kept.add("text").exception(timeout=SECONDS),
        )

    def unknown(self) -> str:
        try:
            self.kept.ad(1)
        except AttributeError as error:
            return str(error)
        return ""

    def by_function(self) -> Any:
        with pytest.raises(TypeError, match="none of its methods"):
            self.kept[Caller.forget]
        return self.kept[Counter.add](1).result(timeout=SECONDS)

    def described(self) -> Any:
        kept = self.kept
        return (
            kept.worker_cls is Counter,
            isinstance(kept, Handle),
            kept.mode.value,
            kept.blocking,
            kept.options.stop_timeout,
            len(kept),
            bool(kept),
            concurry.is_alive(kept),
            concurry.stats(kept)["done"],
            kept.get_pool_stats()["total_workers"],
            kept.get_worker_stats(0)["worker_index"],
            "another process" in repr(kept),
        )

    def assign(self) -> None:
        self.kept.mode = "thread"

    def pickled(self) -> None:
        pickle.dumps(self.kept)

    def array(self, size: int) -> Any:
        made = np.arange(size, dtype=np.float64)
        back = self.kept.echo(made).result(timeout=SECONDS)
        return bool((back == made).all()), back

    def stop_kept(self) -> Any:
        self.kept.stop()
        self.kept.stop()
        error = self.kept.add(1).exception(timeout=SECONDS)
        return type(error), concurry.is_alive(self.kept)

    def with_kept(self) -> Any:
        with self.kept as inside:
            found = inside.add(1).result(timeout=SECONDS)
        return found, type(self.kept.add(1).exception(timeout=SECONDS))

    def hold(self, begun: Any, go: Any) -> Any:
        return self.kept.hold(begun, go).result(timeout=SECONDS)

    def death(self) -> Any:
        error: Any = self.kept.die().exception(timeout=SECONDS)
        return type(error), error.signal, error.method

    def cancel_waiting(self, begun: Any, go: Any) -> Any:
        first = self.kept.hold(begun, go)
        begun.wait()
        second = self.kept.add(1)
        done = second.cancel(), second.cancelled(), first.cancel(), first.done()
        go.set()
        return *done, first.result(timeout=SECONDS), self.kept.add(0).result(timeout=SECONDS)

    def cancel_running(self, begun: Any) -> Any:
        future = self.kept.hang(begun)
        begun.wait()
        cancelled = future.cancel()
        with pytest.raises(CancelledError):
            future.result(timeout=SECONDS)
        return cancelled

    def fill(self, begun: Any, go: Any) -> Any:
        held = self.kept.hold(begun, go)
        begun.wait()
        self.kept.add(1)
        try:
            self.kept.add(1)
        except MailboxFullError as error:
            return str(error)
        finally:
            go.set()
            held.result(timeout=SECONDS)

    def make(self, mode: str, value: int) -> Any:
        self.kept = Counter.options(mode=mode).init(value)
        return self.kept

    def make_and_forget(self, mode: str, gone: Any) -> Any:
        made = Counter.options(mode=mode).init(1)
        weakref.finalize(made, gone.set)
        made.stop()
        return made

    def make_caller(self) -> Any:
        self.kept = Caller.options(mode="process").init()
        return self.kept

    def fork(self) -> str:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                self.kept.add(1)
                said = "nothing"
            except BaseException as error:
                said = type(error).__name__
            try:
                concurry.stats(self.kept)
            except BaseException as error:
                said += f" {type(error).__name__}"
            os.write(write, f"{said} {concurry.is_alive(self.kept)}".encode())
            os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        with open(read, "rb") as file:
            return file.read().decode()


class Blocking(Worker):
    def add(self, handle: Any) -> Any:
        return handle.add(1)


# -- as arguments, attributes, results ---------------------------------------------------------------------------------


@pytest.mark.parametrize("caller_mode", ["thread", "asyncio", "sync", "process"])
def test_every_mode_calls_every_mode(start: Start, mode: str, caller_mode: str) -> None:
    counter = start(Counter, mode)
    caller = start(Caller, caller_mode, counter)
    assert caller.add(counter, 1).result(SECONDS) == 1
    assert caller.add_kept(1).result(SECONDS) == 2
    one, two, three = caller.add_awaited(counter, 1).result(SECONDS)
    assert sorted([one, two]) == [3, 4]
    assert three == 5
    assert counter.add(0).result() == 5


def test_a_handle_comes_home_as_itself(start: Start, mode: str) -> None:
    counter = start(Counter, mode)
    caller = start(Caller, "process")
    caller.keep(counter).result(SECONDS)
    assert caller.give().result(SECONDS) is counter
    nested = caller.give_nested().result(SECONDS)
    assert nested["handles"] == [counter, (counter,)]
    assert nested["array"][-1] == 99_999
    assert caller.is_kept(counter).result(SECONDS), "sent twice it is one object there"
    assert caller.is_kept(start(Counter, "sync")).result(SECONDS) is False


def test_to_a_pool_of_several(start: Start) -> None:
    counter = start(Counter, "thread")
    callers = start(Caller, "process", counter, max_workers=2)
    gather([callers.add_kept(1) for _ in range(10)] + [callers.add(counter, 1) for _ in range(10)])
    assert counter.add(0).result() == 20


def test_to_a_concurrent_actor_in_a_process(start: Start) -> None:
    counter = start(Counter, "thread")
    caller = start(Caller, "process", counter, max_concurrency=4)
    gather([caller.add_kept(1) for _ in range(10)] + [caller.add_awaited(counter, 1) for _ in range(10)])
    assert counter.add(0).result() == 40


def test_on_demand(start: Start) -> None:
    counter = start(Counter, "thread")
    callers = start(Caller, "process", counter, on_demand=True, max_workers=2)
    gather([callers.add_kept(1), callers.add(counter, 1)])
    assert counter.add(0).result() == 2


def test_a_pool_is_called(start: Start) -> None:
    pool = start(Counter, "process", max_workers=2)
    caller = start(Caller, "process", pool)
    assert len(caller.gather_many(20).result(SECONDS)) == 20
    assert caller.described().result(SECONDS)[5] == 2


def test_to_a_sibling(start: Start, mode: str) -> None:
    counter = start(Counter, mode)
    one, two = start(Caller, "process"), start(Caller, "process")
    assert one.pass_on(two, counter).result(SECONDS) == 1
    assert counter.add(0).result() == 1


def test_a_pool_made_in_an_actor(start: Start, mode: str) -> None:
    caller = start(Caller, "process")
    made = caller.make(mode, 5).result(SECONDS)
    assert made.add(1).result(SECONDS) == 6
    assert made.add_async(1).result(SECONDS) == 7
    assert made.pid().result(SECONDS) != os.getpid()
    sibling = start(Caller, "process")
    assert sibling.add(made, 1).result(SECONDS) == 8
    assert caller.is_kept(made).result(SECONDS), "it comes home as itself"
    made.stop()
    with pytest.raises(WorkerStoppedError):
        made.add(1).result(SECONDS)
    del made


def test_three_levels(start: Start) -> None:
    counter = start(Counter, "thread")
    outer = start(Caller, "process")
    middle = outer.make_caller().result(SECONDS)
    inner = middle.make_caller().result(SECONDS)
    lowest = inner.make("process", 10).result(SECONDS)
    assert inner.add(counter, 1).result(SECONDS) == 1, "three levels up"
    assert lowest.add(1).result(SECONDS) == 11, "three levels down"
    assert outer.add(lowest, 1).result(SECONDS) == 12
    assert start(Caller, "process").add(lowest, 1).result(SECONDS) == 13, "up, and down again"
    assert inner.is_kept(lowest).result(SECONDS)


def test_large_array(start: Start, mode: str) -> None:
    counter = start(Counter, mode)
    caller = start(Caller, "process", counter)
    same, back = caller.array(1_000_000).result(SECONDS)
    assert same
    assert back[-1] == 999_999


# -- calls -------------------------------------------------------------------------------------------------------------


def test_order_and_many(start: Start, mode: str) -> None:
    counter = start(Counter, mode)
    caller = start(Caller, "process", counter)
    assert caller.append_many(0, 500).result(SECONDS) == list(range(500))
    assert caller.gather_many(100).result(SECONDS) == list(range(1, 101))


def test_futures_as_arguments(start: Start, mode: str) -> None:
    caller = start(Caller, "process", start(Counter, mode))
    assert caller.chain().result(SECONDS) == [1, {"k": 1}]
    assert caller.failed_argument().result(SECONDS) == "403: first"


def test_exceptions_are_whole(start: Start, mode: str) -> None:
    caller = start(Caller, "process", start(Counter, mode))
    assert caller.caught().result(SECONDS) == (Refused, 403, "not you", "'inner'")
    with pytest.raises(Refused, match="403: through") as caught:
        caller.refuse().result(SECONDS)
    assert caught.value.why == "through"
    unsendable, unsent, error = caller.errors().result(SECONDS)
    assert (unsendable, unsent) == (EncodeError, EncodeError)
    assert isinstance(error, TypeError)


def test_what_a_proxy_says_of_its_worker(start: Start, mode: str) -> None:
    counter = start(Counter, mode, stop_timeout=7)
    caller = start(Caller, "process", counter)
    caller.add_kept(1).result(SECONDS)
    assert caller.described().result(SECONDS) == (
        *(True, True, mode, False, 7, 1, True, True),
        *(1, 1, 0, True),
    )
    assert "did you mean 'add'" in caller.unknown().result(SECONDS)
    assert caller.by_function().result(SECONDS) == 2
    with pytest.raises(AttributeError, match="cannot be assigned"):
        caller.assign().result(SECONDS)


def test_plain_pickling_is_refused(start: Start) -> None:
    counter = start(Counter, "thread")
    caller = start(Caller, "process", counter)
    with pytest.raises(TypeError, match="cannot be pickled by itself"):
        pickle.dumps(counter)
    with pytest.raises(TypeError, match="cannot be pickled by itself"):
        caller.pickled().result(SECONDS)


def test_blocking_handles(start: Start, mode: str) -> None:
    counter = start(Counter, mode, blocking=True)
    assert start(Blocking, "process").add(counter).result(SECONDS) == 1


def test_options_that_stay_at_home(start: Start) -> None:
    counter = start(Counter, "thread", num_retries=1, retry_on=[lambda e: False], retry_until=lambda r: True)
    assert start(Caller, "process", counter).add_kept(1).result(SECONDS) == 1


@pytest.mark.parametrize("mode", ["thread", "process"], indirect=True)
def test_cancel(start: Start, mode: str, new_signal: Any) -> None:
    caller = start(Caller, "process", start(Counter, mode))
    begun, go = new_signal(), new_signal()
    assert caller.cancel_waiting(begun, go).result(SECONDS) == (True, True, False, False, "held", 1000)


@pytest.mark.parametrize("mode", ["asyncio", "process"], indirect=True)
def test_cancel_of_an_async_method(start: Start, mode: str, new_signal: Any) -> None:
    caller = start(Caller, "process", start(Counter, mode))
    assert caller.cancel_running(new_signal()).result(SECONDS) is True


@pytest.mark.parametrize("mode", ["thread", "process"], indirect=True)
def test_a_full_mailbox_is_said_at_the_line_of_the_call(start: Start, mode: str, new_signal: Any) -> None:
    bound = {"mailbox_size": 1, "on_full": "raise", "max_queued_tasks": 1}
    caller = start(Caller, "process", start(Counter, mode, **bound))
    assert "mailbox_size=1" in caller.fill(new_signal(), new_signal()).result(SECONDS)


@pytest.mark.parametrize("mode", ["thread", "process"], indirect=True)
def test_a_full_mailbox_holds_its_callers_up(start: Start, mode: str) -> None:
    caller = start(Caller, "process", start(Counter, mode, mailbox_size=2))
    assert caller.gather_many(50).result(SECONDS) == list(range(1, 51))


# -- ends --------------------------------------------------------------------------------------------------------------


def test_stop_through_a_proxy(start: Start, mode: str) -> None:
    counter = start(Counter, mode)
    caller = start(Caller, "process", counter)
    assert caller.stop_kept().result(SECONDS) == (WorkerStoppedError, False)
    assert not counter.is_alive()


def test_with_on_a_proxy(start: Start, mode: str) -> None:
    counter = start(Counter, mode)
    caller = start(Caller, "process", counter)
    assert caller.with_kept().result(SECONDS) == (1, WorkerStoppedError)
    assert not counter.is_alive()


class StopsItself(Worker):
    def keep(self, handle: Any) -> None:
        self.handle = handle

    def stop_it(self) -> str:
        self.handle.stop()
        return "stopped, and still here"


def test_an_actor_stops_itself(start: Start) -> None:
    worker = start(StopsItself, "process")
    worker.keep(worker).result(SECONDS)
    assert worker.stop_it().result(SECONDS) == "stopped, and still here"
    assert not worker.is_alive()


@pytest.mark.faults
def test_the_callee_is_killed(start: Start) -> None:
    counter = start(Counter, "process")
    caller = start(Caller, "process", counter)
    assert caller.death().result(SECONDS) == (WorkerDiedError, "SIGKILL", "die")
    assert caller.add_kept(1).result(SECONDS) == 1, "the next incarnation answers"


@pytest.mark.faults
def test_the_caller_is_killed(start: Start, mode: str, new_signal: Any) -> None:
    counter = start(Counter, mode)
    caller = start(Caller, "process", counter)
    begun, go = new_signal(), new_signal()
    pid = _pid_of(caller)
    held = caller.hold(begun, go)
    begun.wait()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        held.result(SECONDS)
    go.set()
    if mode == "sync":  # runs here and now, beside the call that goes on
        assert caller.add_kept(0).result(SECONDS) == 1000
    assert counter.add(0).result(SECONDS) == 1000, "what had begun went on"
    assert caller.add_kept(1).result(SECONDS) == 1001, "the next incarnation has the handle as well"


@pytest.mark.faults
def test_the_process_that_has_the_worker_is_killed(start: Start, mode: str, new_signal: Any) -> None:
    caller = start(Caller, "process")
    made = caller.make(mode, 1).result(SECONDS)
    sibling = start(Caller, "process", made)
    begun = new_signal()
    held, through = made.hold(begun, new_signal()), sibling.add_kept(1)
    begun.wait()
    os.kill(_pid_of(caller), signal.SIGKILL)
    with pytest.raises(WorkerDiedError, match="died of SIGKILL"):
        held.result(SECONDS)
    wait([through], timeout=SECONDS)
    with pytest.raises(WorkerDiedError):
        made.add(1).result(SECONDS)
    with pytest.raises(WorkerDiedError):
        sibling.add_kept(1).result(SECONDS)
    with pytest.raises(WorkerDiedError):
        made.get_pool_stats()
    assert not made.is_alive()
    made.stop()


def _pid_of(handle: Any) -> int:
    return handle.__dict__["_pool"].members[0].channel.pid  # type: ignore[no-any-return]


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("of", ["thread", "process"])
def test_a_handle_that_has_travelled_before_reaches_a_child_of_any_start(start: Start, of: str, context: str) -> None:
    """A forked child has the parent's handles in its memory; what comes to it is one of its own."""
    counter = start(Counter, of)
    assert start(Caller, "thread", counter).add_kept(1).result(SECONDS) == 1
    forkserver = start(Caller, "process", counter)
    assert forkserver.add_kept(1).result(SECONDS) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a process with threads is forked
        other = start(Caller, "process", counter, mp_context=context)
    assert other.add_kept(1).result(SECONDS) == 3


def test_a_forked_child_is_refused(start: Start) -> None:
    caller = start(Caller, "process", start(Counter, "thread"))
    said = caller.fork().result(SECONDS)
    assert said == f"{ForkedHandleError.__name__} {ForkedHandleError.__name__} False"
    assert caller.add_kept(1).result(SECONDS) == 1


# -- who keeps whom ----------------------------------------------------------------------------------------------------


def _gone(handle: Any) -> threading.Event:
    event = threading.Event()
    weakref.finalize(handle, event.set)
    return event


def test_a_handle_is_kept_while_another_process_has_it(start: Start) -> None:
    caller = start(Caller, "process")
    counter = Counter.options(mode="thread").init()
    gone = _gone(counter)
    for _ in range(3):
        caller.keep(counter).result(SECONDS)
    assert caller.add_kept(1).result(SECONDS) == 1
    counter.stop()
    del counter
    gc.collect()
    assert caller.stop_kept().result(SECONDS)[0] is WorkerStoppedError
    assert not gone.is_set()
    caller.forget().result(SECONDS)
    assert gone.wait(SECONDS), "the last proxy is gone"


def test_it_is_let_go_with_the_process_that_has_it() -> None:
    counter = Counter.options(mode="thread").init()
    gone = _gone(counter)
    with Caller.options(mode="process").init() as caller:
        caller.keep(counter).result(SECONDS)
        counter.stop()
        del counter
        gc.collect()
        assert not gone.is_set()
    assert gone.wait(SECONDS)


def test_a_call_that_is_never_sent_keeps_nothing(start: Start, new_signal: Any) -> None:
    begun, go = new_signal(), new_signal()
    caller = start(Caller, "process", start(Counter, "thread"), max_queued_tasks=1)
    held = caller.hold(begun, go)
    begun.wait()
    counter = Counter.options(mode="thread").init()
    counter.stop()
    gone = _gone(counter)
    waiting = [caller.keep(counter) for _ in range(3)]
    del counter
    assert [future.cancel() for future in waiting] == [True] * 3
    del waiting
    gc.collect()
    assert gone.wait(SECONDS)
    go.set()
    assert held.result(SECONDS) == "held"


def test_a_call_that_was_sent_ahead_and_given_back(start: Start, new_signal: Any) -> None:
    begun, go = new_signal(), new_signal()
    caller = start(Caller, "process", start(Counter, "thread"))
    for _ in range(20):
        caller.keep(None).result(SECONDS)  # quick calls: from now on some are sent ahead
    counter = Counter.options(mode="thread").init()
    counter.stop()
    gone = _gone(counter)
    kept = start(Counter, "thread")
    caller.keep(kept).result(SECONDS)
    held = caller.hold(begun, go)
    waiting = [caller.keep(counter) for _ in range(3)]
    begun.wait()
    del counter
    assert [future.cancel() for future in waiting] == [True] * 3
    del waiting
    go.set()
    assert held.result(SECONDS) == "held"
    assert caller.is_kept(kept).result(SECONDS)
    gc.collect()
    assert gone.wait(SECONDS)


def test_a_result_that_nobody_reads_is_given_back(start: Start, mode: str, new_signal: Any) -> None:
    caller = start(Caller, "process")
    gone = new_signal()
    future = caller.make_and_forget(mode, gone)
    wait([future])
    caller.give().result(SECONDS)
    assert not gone.happened()
    del future
    gc.collect()
    gone.wait()


def test_a_result_is_kept_as_long_as_its_handle(start: Start, new_signal: Any) -> None:
    caller = start(Caller, "process")
    gone = new_signal()
    made = caller.make_and_forget("thread", gone).result(SECONDS)
    assert not made.is_alive()
    assert not gone.happened()
    function = made.add
    del made
    gc.collect()
    assert isinstance(function(1).exception(SECONDS), WorkerStoppedError), "one of its functions keeps it"
    assert not gone.happened()
    del function
    gc.collect()
    gone.wait()


def test_a_proxy_that_comes_home_is_let_go_there(start: Start, new_signal: Any) -> None:
    caller, gone = start(Caller, "process"), new_signal()
    caller.keep(start(Counter, "thread")).result(SECONDS)
    caller.tell_when_gone(gone).result(SECONDS)
    given = caller.give().result(SECONDS)
    assert given.add(1).result(SECONDS) == 1
    caller.forget().result(SECONDS)
    gone.wait()
