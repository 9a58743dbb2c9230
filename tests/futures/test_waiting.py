"""`wait`, `gather` and `as_completed`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import signal
import threading
import weakref
from collections import deque, namedtuple
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from concurry.futures import BaseFuture, ConcurrentFuture, SyncFuture, wrap_future
from concurry.runtime import waits
from concurry.runtime.enums import ReturnWhen
from concurry.transports.errors import DeadlockError
from concurry.waiting import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, gather, wait

PATIENCE = 20  # seconds until a test gives up


def opened(count: int) -> list[BaseFuture[Any]]:
    return [BaseFuture() for _ in range(count)]


def finish(future: BaseFuture[Any], value: Any) -> None:
    future.begin()
    future.close(value)


def fail(future: BaseFuture[Any], error: BaseException) -> None:
    future.begin()
    future.fail(error)


def hooks_of(futures: Any) -> int:
    return sum(len(future._hooks or ()) for future in futures)


class Hooked(BaseFuture[Any]):
    """Tells when somebody waits for it."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.__dict__["then"] = then
        super().__init__()

    @property
    def _hooks(self) -> Any:
        return self.__dict__.get("hooks")

    @_hooks.setter
    def _hooks(self, hooks: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.__dict__["hooks"] = hooks
        if hooks is not None:
            threading.Thread(target=self.__dict__["then"]).start()


# -- shapes ------------------------------------------------------------------------------------------------------------


def test_gather_takes_every_shape() -> None:
    one, two, three = (SyncFuture(n) for n in (1, 2, 3))
    assert gather([one, two, three]) == [1, 2, 3]
    assert gather((one, two)) == [1, 2]
    assert gather(one, two, three) == [1, 2, 3]
    assert gather(one) == [1]
    assert gather([one]) == [1]
    assert gather(future for future in (one, two)) == [1, 2]
    assert gather(deque([one, two])) == [1, 2]
    assert gather({one}) == [1]
    assert gather({"b": one, "a": two}.values()) == [1, 2]
    assert gather([]) == []
    assert gather({}) == {}
    assert gather(()) == []
    assert gather([one, one, two, one]) == [1, 1, 2, 1]


def test_gather_of_a_dict_keeps_keys_and_order() -> None:
    keys: list[Any] = ["z", 1, (2, 3), None, frozenset([4])]
    result = gather({key: SyncFuture(index) for index, key in enumerate(keys)})
    assert list(result) == keys
    assert list(result.values()) == [0, 1, 2, 3, 4]


def test_plain_values_count_as_done() -> None:
    assert gather(5) == [5]
    assert gather("text") == ["text"]
    assert gather(None) == [None]
    assert gather([1, SyncFuture(2), None, [3]]) == [1, 2, None, [3]]
    done, not_done = wait([1, [2], SyncFuture(3)])
    assert not not_done
    assert sorted(map(str, (future.result() for future in done))) == ["1", "3", "[2]"]
    assert [future.result() for future in as_completed([1, 2])] == [1, 2]


def test_nested() -> None:
    Pair = namedtuple("Pair", "left right")
    one, two, three = (SyncFuture(n) for n in (1, 2, 3))
    nested = {"a": [one, {"b": two}], "c": Pair(three, (one, "x")), "d": {one, two}, "e": []}
    assert gather(nested, recurse=True) == {"a": [1, {"b": 2}], "c": Pair(3, (1, "x")), "d": {1, 2}, "e": []}
    assert isinstance(gather(nested, recurse=True)["c"], Pair)
    assert gather([[one]]) == [[one]]
    assert gather(one, [two], recurse=True) == [1, [2]]
    assert dict(gather(nested, recurse=True, iter=True)) == gather(nested, recurse=True)
    done, _ = wait(nested, recurse=True)
    assert {one, two, three} < done
    assert len(list(as_completed([one, [two, [three, one]]], recurse=True))) == 3


def test_a_nested_item_comes_when_its_last_future_has_ended() -> None:
    one, two, three = opened(3)
    finish(three, 3)
    came = gather([[one, two], three], iter=True, recurse=True)
    assert next(came) == (1, 3)
    finish(two, 2)
    threading.Thread(target=finish, args=(one, 1)).start()
    assert next(came) == (0, [1, 2])
    assert list(came) == []


def test_a_dict_by_future_is_the_futures() -> None:
    """The standard library's idiom looks at the keys. `gather` returns a dict, of results by key: it refuses."""
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    for key in (future, wrap_future(future)):
        inputs = {key: "its input"}
        done, not_done = wait(inputs, timeout=0)
        assert (done, not_done) == (set(), {key})
        with pytest.raises(TimeoutError):
            next(as_completed(inputs, timeout=0))
        with pytest.raises(ValueError, match=r"gather\(futures\.keys\(\)\)"):
            gather(inputs)
    future.set_result(1)
    for key in (future, wrap_future(future)):
        inputs = {key: "its input"}
        assert [inputs[each] for each in as_completed(inputs)] == ["its input"]
        assert wait(inputs) == ({key}, set())
    assert gather({future: wrap_future(future), "plain": 2}) == {future: 1, "plain": 2}
    assert gather({future: future}) == {future: 1}


def test_bad_input() -> None:
    one = SyncFuture(1)
    functions: tuple[Any, ...] = (wait, gather)
    for function in functions:
        with pytest.raises(TypeError, match="nothing to wait for"):
            function()
        wrongs: tuple[tuple[Any, ...], ...] = (([one], one), ([one], [one]), ({}, one), (one, [one]), ([one], 10))
        for arguments in wrongs:
            with pytest.raises(ValueError, match="Cannot provide both a structure"):
                function(*arguments)
        with pytest.raises(TypeError, match="timeout must be"):
            function([one], timeout="5")
        with pytest.raises(ValueError, match="timeout must be"):
            function([one], timeout=float("nan"))
        with pytest.raises(TypeError, match="progress must be"):
            function([one], progress=5)
    with pytest.raises(ValueError, match="Could not find enum"):
        wait([one], return_when="some")
    assert gather([one], timeout=float("inf"), polling="adaptive") == [1]


def test_an_iterable_that_raises_in_the_middle_loses_nothing() -> None:
    made: list[BaseFuture[Any]] = []

    def produce() -> Iterator[BaseFuture[Any]]:
        for _ in range(3):
            made.append(BaseFuture())
            yield made[-1]
        raise LookupError("here")

    functions: tuple[Any, ...] = (wait, gather, as_completed)
    for function in functions:
        with pytest.raises(LookupError, match="here"):
            function(produce())
    assert hooks_of(made) == 0
    for future in made:
        finish(future, 1)
    assert gather(made) == [1] * 9


def test_a_coroutine_is_refused_where_it_cannot_run() -> None:
    async def work() -> None: ...

    # What it says to use is there: `as_completed` has no twin of its own.
    for function, instead in ((wait, "async_wait"), (gather, "async_gather"), (as_completed, "async_wait")):
        with pytest.raises(RuntimeError, match=rf"Cannot schedule coroutine .*`await {instead}\("):
            function([work()])

    async def main() -> None:
        with pytest.raises(RuntimeError, match="async_gather"):
            gather([work()])

    asyncio.run(main())


def test_a_loop_that_would_stop_itself_is_told() -> None:
    async def main() -> None:
        inner: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with pytest.raises(RuntimeError, match="async_gather"):
            gather([inner])
        with pytest.raises(RuntimeError, match="async_wait"):
            wait([inner])
        with pytest.raises(RuntimeError, match="async_wait"):
            wait([inner], return_when="first_completed")
        with pytest.raises(RuntimeError, match="async_wait"):
            as_completed([inner])
        assert wait([inner], timeout=0.001) == (set(), {inner})
        done, not_done = wait([inner, SyncFuture(1)], return_when="first")
        assert (len(done), not_done) == (1, {inner})
        inner.set_result(1)
        assert gather([inner]) == [1]

    asyncio.run(main())


# -- every kind --------------------------------------------------------------------------------------------------------


def test_every_kind_is_waited_for(open_any: Any) -> None:
    assert wait([open_any.given], timeout=0) == (set(), {open_any.given})
    ending = threading.Thread(target=open_any.finish, args=(4,))
    ending.start()
    assert gather([open_any.given, 5], timeout=PATIENCE) == [4, 5]
    ending.join(PATIENCE)
    assert wait([open_any.given]) == ({open_any.given}, set())
    assert list(as_completed([open_any.given])) == [open_any.given]
    assert list(gather({"k": open_any.given}, iter=True)) == [("k", 4)]


def test_every_kind_mixed(make: Any) -> None:
    kinds = ("ours", "concurrent", "asyncio", "ray", "raw concurrent", "raw asyncio", "raw ray")
    opens = {kind: make(kind) for kind in kinds}

    def end() -> None:
        for kind in reversed(kinds):
            opens[kind].finish(kind)

    ending = threading.Thread(target=end)
    ending.start()
    given = {kind: opens[kind].given for kind in kinds}
    assert gather(given, timeout=PATIENCE) == {kind: kind for kind in kinds}
    ending.join(PATIENCE)


def test_every_kind_fails(open_any: Any) -> None:
    never: BaseFuture[Any] = BaseFuture()
    error = ValueError("no")
    ending = threading.Thread(target=open_any.fail, args=(error,))
    ending.start()
    with pytest.raises(ValueError, match="no"):
        gather([never, open_any.given])
    ending.join(PATIENCE)
    assert gather([open_any.given], return_exceptions=True) == [error]
    done, not_done = wait([open_any.given, never], return_when=FIRST_EXCEPTION)
    assert (done, not_done) == ({open_any.given}, {never})
    assert hooks_of([never]) == 0


def test_nothing_is_left_in_what_is_not_done(open_any: Any) -> None:
    """Waiting again and again, each time for a while, piles up nothing."""
    for _ in range(3):
        wait([open_any.given], timeout=0)
        with pytest.raises(TimeoutError):
            gather([open_any.given], timeout=0.0001)
        with pytest.raises(TimeoutError):
            list(as_completed([open_any.given], timeout=0))
    given = open_any.given
    if isinstance(given, BaseFuture):
        assert hooks_of([given]) == 0
    elif isinstance(given, concurrent.futures.Future):
        assert vars(given)["_done_callbacks"] == []
    elif isinstance(given, asyncio.Future):
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), given.get_loop()).result(PATIENCE)
        assert not given._callbacks
    else:
        assert given.end._done_callbacks == []
    open_any.finish(1)


# -- when --------------------------------------------------------------------------------------------------------------


def test_wait_for_the_first() -> None:
    slow, fast = opened(2)
    threading.Thread(target=finish, args=(fast, 1)).start()
    assert wait([slow, fast], return_when=FIRST_COMPLETED) == ({fast}, {slow})
    assert wait(slow, fast, return_when="FIRST_COMPLETED") == ({fast}, {slow})
    assert hooks_of([slow]) == 0


def test_wait_for_the_first_exception() -> None:
    slow, good, cancelled, bad = opened(4)

    def end() -> None:
        finish(good, 1)
        cancelled.abandon(CancelledError())  # is no exception here, as in the standard library
        fail(bad, ValueError())

    threading.Thread(target=end).start()
    done, not_done = wait([slow, good, cancelled, bad], return_when=ReturnWhen.FIRST_EXCEPTION)
    assert (done, not_done) == ({good, cancelled, bad}, {slow})
    finish(slow, 1)
    assert wait([good, slow], return_when="exception") == ({good, slow}, set())


def test_wait_for_all() -> None:
    futures = opened(5)
    order = [3, 0, 4, 1, 2]

    def end() -> None:
        for index in order:
            finish(futures[index], index)

    threading.Thread(target=end).start()
    assert wait(futures, return_when=ALL_COMPLETED) == (set(futures), set())
    assert wait({"a": futures[0], "b": futures[0]}) == ({futures[0]}, set())


def test_gather_raises_the_first_to_fail_though_others_are_pending() -> None:
    late, early = opened(2)

    def end() -> None:
        fail(early, ValueError("early"))
        fail(late, ValueError("late"))

    pending = Hooked(end)  # the last to get its hook
    with pytest.raises(ValueError, match="early"):
        gather([late, early, pending])
    assert hooks_of([pending]) == 0
    with pytest.raises(ValueError, match="late"):  # both before the call: the first in order
        gather([late, early, pending])
    finish(pending, 1)
    results = gather([pending, late, early], return_exceptions=True)
    assert results[0] == 1
    assert [str(error) for error in results[1:]] == ["late", "early"]


def test_gather_of_a_cancelled_one() -> None:
    pending, cancelled = opened(2)
    cancelled.abandon(CancelledError())
    with pytest.raises(CancelledError):
        gather([pending, cancelled])
    (error,) = gather([cancelled], return_exceptions=True)
    assert isinstance(error, CancelledError)


def test_times_that_are_over_say_how_many_were_done() -> None:
    done, pending = SyncFuture(1), BaseFuture[int]()
    for calling in (
        lambda: gather([done, pending, done], timeout=0.001),
        lambda: gather([done, pending], timeout=0, return_exceptions=True),
        lambda: list(gather([done, pending], timeout=0, iter=True)),
        lambda: list(as_completed([done, pending], timeout=0.001)),
        lambda: gather([done, pending], timeout=-1, progress=lambda *_: None),
    ):
        with pytest.raises(TimeoutError, match="1 of 2 futures were done"):
            calling()
    assert wait([done, pending], timeout=0) == ({done}, {pending})
    assert hooks_of([pending]) == 0


def test_as_completed_in_the_order_of_the_ends() -> None:
    first, second, third = opened(3)
    finish(third, 3)
    ended = as_completed([first, second, third, third])
    assert next(ended) is third
    threading.Thread(target=finish, args=(second, 2)).start()
    assert next(ended) is second
    threading.Thread(target=finish, args=(first, 1)).start()
    assert list(ended) == [first]


def test_leaving_an_iteration_leaves_nothing_behind() -> None:
    first, second = opened(2)
    threading.Thread(target=finish, args=(first, 1)).start()
    for future in as_completed([first, second]):
        assert future is first
        break
    for pair in gather([first, second], iter=True):
        assert pair == (0, 1)
        break
    assert hooks_of([second]) == 0


def test_iterating_over_results() -> None:
    first, second = opened(2)
    came = gather({"a": first, "b": second, "c": first}, iter=True)
    threading.Thread(target=finish, args=(second, 2)).start()
    assert next(came) == ("b", 2)
    threading.Thread(target=finish, args=(first, 1)).start()
    assert list(came) == [("a", 1), ("c", 1)]
    bad = BaseFuture[int]()
    fail(bad, ValueError("bad"))
    with pytest.raises(ValueError, match="bad"):
        list(gather([first, bad], iter=True))
    keyed = dict(gather([first, bad], iter=True, return_exceptions=True))
    assert keyed == {0: 1, 1: bad.exception()}
    assert list(gather([], iter=True)) == []


def test_iterating_holds_no_result() -> None:
    class Big: ...

    futures = opened(3)
    while not all(future.done() for future in futures):
        finish(next(future for future in futures if not future.done()), Big())
    iteration = gather(futures, iter=True)
    gone: list[Any] = []
    futures.clear()
    for _, big in iteration:
        gone.append(weakref.ref(big))
        del big
        assert all(ref() is None for ref in gone[:-1])
    assert all(ref() is None for ref in gone)


# -- progress ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [wait, gather, as_completed])
def test_progress_is_told(function: Any) -> None:
    told: list[tuple[int, int, float]] = []
    first, second, done = *opened(2), SyncFuture(0)

    def end() -> None:
        finish(first, 1)
        finish(second, 2)

    ending = threading.Thread(target=end)
    ending.start()
    result = function([first, second, done], progress=lambda *what: told.append(what))
    if function is as_completed:
        assert len(list(result)) == 3
    ending.join(PATIENCE)
    assert told[-1][:2] == (3, 3)
    assert [what[0] for what in told] == sorted(what[0] for what in told)
    assert all(what[1] == 3 and what[2] >= 0 for what in told)
    told.clear()
    gather([done], progress=lambda *what: told.append(what))
    assert told[-1][:2] == (1, 1)
    told.clear()
    gather([], progress=lambda *what: told.append(what))
    assert [what[:2] for what in told] == [(0, 0)]


def test_progress_that_raises_comes_out() -> None:
    def progress(completed: int, total: int, elapsed: float) -> None:
        raise ZeroDivisionError

    (future,) = opened(1)
    for function in (wait, gather):
        with pytest.raises(ZeroDivisionError):
            function([future], progress=progress)
    assert hooks_of([future]) == 0


def test_how_a_progress_bar_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[str] = []

    class Bar:
        def __init__(self, **options: Any) -> None: ...

        def update(self, n: int) -> None: ...

        def success(self) -> None:
            ends.append("success")

        def failure(self) -> None:
            ends.append("failure")

        def close(self) -> None:
            ends.append("close")

    monkeypatch.setattr("concurry.progress.ProgressBar", Bar)
    done, pending, bad = SyncFuture(1), BaseFuture[int](), SyncFuture[int](exception_value=ValueError())

    def ending(calling: Callable[[], Any]) -> list[str]:
        ends.clear()
        with contextlib.suppress(ValueError, TimeoutError):
            calling()
        return list(ends)

    success, failure, neither = ["success", "close"], ["failure", "close"], ["close"]
    assert ending(lambda: gather([done], progress=True)) == success
    assert ending(lambda: gather([done, bad], progress=True)) == failure
    assert ending(lambda: gather([done, bad], progress=True, return_exceptions=True)) == success
    assert ending(lambda: gather([pending], progress=True, timeout=0)) == failure
    assert ending(lambda: wait([done], progress=True)) == success
    assert ending(lambda: wait([done, pending], progress=True, timeout=0)) == failure
    assert ending(lambda: wait([done, pending], progress=True, return_when="first")) == neither
    assert ending(lambda: list(as_completed([done], progress=True))) == success
    assert ending(lambda: next(as_completed([done, pending], progress=True))) == neither
    assert ending(lambda: list(gather([done, bad], iter=True, progress=True))) == failure


@pytest.mark.parametrize("progress", [True, {"desc": "calls", "unit": "call"}])
def test_a_progress_bar(progress: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert gather([SyncFuture(1), SyncFuture(2)], progress=progress) == [1, 2]
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert ("calls" if progress is not True else "gather") in shown
    assert dict(gather([SyncFuture(1)], iter=True, progress=progress)) == {0: 1}
    wait([SyncFuture(1)], progress=progress)
    assert "1/1" in capsys.readouterr().err
    with pytest.raises(ValueError, match="x"):
        gather([SyncFuture(exception_value=ValueError("x"))], progress=progress)
    with pytest.raises(TypeError):
        gather([SyncFuture(1)], progress={"no_such_option": 1})


# -- actors, signals, leaks, races -------------------------------------------------------------------------------------


def test_a_wait_that_could_never_end_is_refused() -> None:
    class Owner:
        def sole_member(self) -> str:
            return "Worker[0]"

    future = BaseFuture[int]()
    future.owner = Owner()
    refused: list[Callable[[], object]] = [
        lambda: gather([future]),
        lambda: gather([future], return_exceptions=True),
        lambda: gather([future], progress=lambda *_: None),
        lambda: wait([future]),
    ]

    def inside() -> None:
        waits.here.member = "Worker[0]"
        for calling in refused:
            with pytest.raises(DeadlockError, match="would wait for ever"):
                calling()
        finished.set()

    finished = threading.Event()
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join(PATIENCE)
    assert finished.is_set()
    assert hooks_of([future]) == 0


@pytest.mark.parametrize(
    "calling",
    [
        lambda futures: gather(futures),
        lambda futures: gather(futures, return_exceptions=True),
        lambda futures: gather(futures, progress=lambda *_: None),
        lambda futures: wait(futures),
        lambda futures: wait(futures, return_when=FIRST_COMPLETED),
        lambda futures: list(as_completed(futures)),
        lambda futures: futures[0].result(),
    ],
)
def test_a_keyboard_interrupt_comes_out_at_once(calling: Any) -> None:
    main = threading.main_thread().ident
    assert main is not None
    future = Hooked(lambda: signal.pthread_kill(main, signal.SIGINT))  # once somebody waits for it
    with pytest.raises(KeyboardInterrupt):
        calling([future])
    assert hooks_of([future]) == 0


@pytest.mark.parametrize(
    ("function", "how"),
    [
        (gather, {}),
        (gather, {"progress": lambda *_: None}),
        (gather, {"iter": True}),
        (gather, {"iter": True, "recurse": True}),
        (gather, {"iter": True, "timeout": PATIENCE, "progress": lambda *_: None}),
        (gather, {"return_exceptions": True}),
        (gather, {"recurse": True}),
        (wait, {}),
        (wait, {"return_when": "first_exception"}),
        (as_completed, {}),
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_what_was_waited_for_is_held_no_longer(function: Any, how: Any, raw: bool) -> None:
    """Also where its exception was raised, and is at hand with its traceback; and no garbage collection is needed."""
    gc.disable()
    try:
        inner: concurrent.futures.Future[int] = concurrent.futures.Future()
        future = inner if raw else ConcurrentFuture(inner)
        gone = weakref.ref(future)
        ending = threading.Thread(target=inner.set_exception, args=(ValueError("kept"),))
        ending.start()
        kept: BaseException | None = None
        result: Any = None
        try:
            result = function([future], **how)
            if isinstance(result, Iterator):
                list(result)
        except ValueError as error:
            kept = error
        ending.join(PATIENCE)
        assert (kept is not None) == (function is gather and "return_exceptions" not in how)
        del future, inner, ending, result, kept
        assert gone() is None
    finally:
        gc.enable()


def test_many_threads_close_while_many_wait() -> None:
    for round_ in range(10):
        futures, start = opened(200), threading.Barrier(8)
        got: list[Any] = []

        def end(part: int, futures: Any = futures, start: threading.Barrier = start) -> None:
            start.wait(PATIENCE)
            for future in futures[part::4]:
                finish(future, part)

        def waiting(function: Any, futures: Any = futures, start: threading.Barrier = start) -> None:
            start.wait(PATIENCE)
            got.append(function(futures))  # noqa: B023

        functions: list[Callable[[Any], int]] = [
            lambda fs: len(gather(fs, timeout=PATIENCE)),
            lambda fs: len(gather(fs, timeout=PATIENCE, return_exceptions=True)),
            lambda fs: len(list(as_completed(fs, PATIENCE))),
            lambda fs: len(wait(fs, timeout=PATIENCE)[0]),
        ]
        threads = [threading.Thread(target=end, args=(part,)) for part in range(4)]
        threads += [threading.Thread(target=waiting, args=(function,)) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert got == [200] * 4, round_
        assert hooks_of(futures) == 0


def test_one_wake_up_for_many() -> None:
    """20,000 calls cost one hook each at most, and the waiting thread wakes once, not 20,000 times."""
    futures = opened(20_000)
    waiting = threading.Event()
    last = Hooked(waiting.set)  # the last to get its hook
    ended: list[int] = []

    def end() -> None:
        assert waiting.wait(PATIENCE)
        for future in futures:
            finish(future, 1)
        ended.append(1)
        finish(last, 1)

    thread = threading.Thread(target=end)
    thread.start()
    results = gather([*futures, last])
    thread.join(PATIENCE)
    assert ended == [1]
    assert len(results) == 20_001
