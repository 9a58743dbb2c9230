"""TaskWorker: which function a call runs, where it is bound and where not, in every mode."""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator
import os
import pickle
from typing import Any

import pytest

from concurry import (
    EncodeError,
    ResourceLimit,
    RetryValidationError,
    TaskWorker,
    Worker,
    WorkerDiedError,
    gather,
)


def square(x: int) -> int:
    return x * x


async def later_square(x: int) -> int:
    await asyncio.sleep(0)
    return x * x


def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


def test_any_function_is_run(way: Any, start: Any) -> None:
    pool = start(way)
    outside = 10
    assert pool.submit(square, 3).result() == 9
    assert pool.submit(later_square, 3).result() == 9
    assert pool.submit(lambda x, y=1: x + y + outside, 3, y=4).result() == 17
    assert pool.submit(functools.partial(both, 1, a=2), 3, b=4).result() == ((1, 3), {"a": 2, "b": 4})
    assert pool.submit(functools.partial(later_square, 4)).result() == 16
    assert pool.submit(len, [1, 2]).result() == 2
    assert pool.submit("a b".split).result() == ["a", "b"]
    assert pool.submit(operator.attrgetter("real"), 5).result() == 5
    assert pool.submit(int, "7").result() == 7


def test_a_lambda_that_returns_a_coroutine(way: Any, start: Any) -> None:
    assert start(way).submit(lambda x: later_square(x), 5).result() == 25


def test_arguments_named_as_ours_are_the_functions(way: Any, start: Any) -> None:
    pool = start(way)
    assert pool.submit(both, fn=1, self=2, args=3, timeout=4).result() == (
        (),
        {"fn": 1, "self": 2, "args": 3, "timeout": 4},
    )


def test_a_bound_function(way: Any, start: Any) -> None:
    bound = start(way, both)
    assert bound(1, a=2).result() == ((1,), {"a": 2})
    assert bound.submit(1, a=2).result() == ((1,), {"a": 2})
    assert bound.submit().result() == ((), {})
    assert bound(None).result() == ((None,), {})
    assert bound.submit(None, None).result() == ((None, None), {})
    assert list(bound.map([1, None])) == [((1,), {}), ((None,), {})]


def test_a_bound_async_function(way: Any, start: Any) -> None:
    bound = start(way, later_square)
    assert bound(3).result() == 9
    assert bound.submit(3).result() == 9
    assert list(bound.map(range(4))) == [0, 1, 4, 9]
    assert list(bound.map(range(4), chunksize=3)) == [0, 1, 4, 9]


def test_a_callable_first_argument_of_submit_goes_before_the_bound_one(way: Any, start: Any) -> None:
    bound = start(way, both)
    assert bound.submit(square, 4).result() == 16
    assert bound.submit(later_square, 4).result() == 16
    assert list(bound.map(square, [1, 2])) == [1, 4]
    assert list(bound.map(later_square, [1, 2])) == [1, 4]


def test_called_by_itself_a_function_is_an_argument(start: Any) -> None:
    thread = _way(mode="thread")
    assert start(thread, both)(square).result() == ((square,), {})


def test_what_is_called_and_iterated_over_is_an_iterable(start: Any) -> None:
    class Both(type):
        def __iter__(cls) -> Any:
            return iter([1, 2])

    class It(metaclass=Both):
        pass

    assert list(start(_way(mode="thread"), square).map(It)) == [1, 4]


def _way(**options: Any) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(options=options)


def test_without_a_function(way: Any, start: Any) -> None:
    pool = start(way)
    with pytest.raises(TypeError, match=r"^submit\(\) requires a callable function, got NoneType"):
        pool.submit(None)
    with pytest.raises(TypeError, match=r"^submit\(\) requires a callable function, got int"):
        pool.submit(5, 6)
    with pytest.raises(TypeError, match=r"^submit\(\) requires a callable function\."):
        pool.submit()
    with pytest.raises(TypeError, match=r"^map\(\) requires a callable function, got list"):
        pool.map([1])
    with pytest.raises(TypeError, match=r"^map\(\) requires a callable function, got NoneType"):
        pool.map(None, [1])
    with pytest.raises(TypeError, match=r"requires a bound function"):
        pool(5)
    assert pool.submit(square, 2).result() == 4


def test_what_cannot_be_called_is_refused_at_init() -> None:
    with pytest.raises(TypeError, match="takes the function that it is to run, or nothing; got int"):
        TaskWorker.options(mode="thread").init(5)  # type: ignore[call-overload]


def test_exceptions_arrive_whole(way: Any, start: Any) -> None:
    def fail(text: str) -> None:
        error = KeyError(text)
        error.add_note("a note")
        raise error

    pool = start(way)
    with pytest.raises(KeyError) as caught:
        pool.submit(fail, "x").result()
    assert caught.value.args == ("x",)
    assert caught.value.__notes__ == ["a note"]
    with pytest.raises(TypeError, match="generator"):
        pool.submit(lambda: (n for n in range(3))).result()


def test_futures_among_the_arguments(way: Any, start: Any) -> None:
    pool = start(way)
    assert pool.submit(operator.add, pool.submit(square, 2), pool.submit(square, 3)).result() == 13


def test_what_cannot_be_sent_fails_its_call(start: Any) -> None:
    import threading

    pool = start(_way(mode="process"))
    lock = threading.Lock()
    with pytest.raises(EncodeError, match="lock"):
        pool.submit(lambda: lock).result()
    assert pool.submit(square, 2).result() == 4


def test_a_bound_function_is_sent_once(start: Any) -> None:
    class Counted:
        pickled = 0

        def __call__(self, x: int) -> int:
            return x + 1

        def __reduce__(self) -> Any:
            Counted.pickled += 1
            return _counted, ()

    bound = start(_way(mode="process"), Counted())
    assert gather([bound(n) for n in range(20)]) == list(range(1, 21))
    assert list(bound.map(range(20))) == list(range(1, 21))
    assert Counted.pickled == 1


def _counted() -> Any:
    return lambda x: x + 1


def test_a_function_by_value_is_pickled_once_a_map(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurry.transports import codec_pickle

    pool = start(_way(mode="process"))
    asked: list[Any] = []
    real = codec_pickle._by_value_pickler

    def counting() -> Any:
        asked.append(1)
        return real()

    monkeypatch.setattr(codec_pickle, "_by_value_pickler", counting)
    assert list(pool.map(lambda x: x + 1, range(50))) == list(range(1, 51))
    assert len(asked) == 1


def test_async_functions_run_together(start: Any) -> None:
    async def meet(barrier: Any) -> bool:
        barrier.came += 1
        if barrier.came == 20:
            barrier.event.set()
        await barrier.event.wait()
        return True

    class Barrier:
        def __init__(self) -> None:
            self.came, self.event = 0, asyncio.Event()

    barrier = Barrier()
    pool = start(_way(mode="asyncio"))
    assert gather([pool.submit(meet, barrier) for _ in range(20)], timeout=20) == [True] * 20
    bound, barrier = start(_way(mode="asyncio"), meet), Barrier()
    assert list(bound.map([barrier] * 20, timeout=20)) == [True] * 20


def test_a_waiting_call_is_cancelled(apart: Any, start: Any, new_signal: Any) -> None:
    pool = start(apart, max_concurrency=1, max_workers=1)
    begun, go_on = new_signal(apart), new_signal(apart)

    def wait(begun: Any, go_on: Any) -> int:
        begun.set()
        go_on.wait()
        return 1

    first = pool.submit(wait, begun, go_on)
    begun.wait()
    second = pool.submit(square, 2)
    assert second.cancel()
    go_on.set()
    assert first.result() == 1
    assert second.cancelled()


def test_a_running_async_function_is_cancelled(start: Any, new_signal: Any) -> None:
    way = _way(mode="asyncio")
    way.same_objects = True
    begun = new_signal(way)

    async def wait_for_ever() -> None:
        begun.set()
        await asyncio.Event().wait()

    future = start(way).submit(wait_for_ever)
    begun.wait()
    assert future.cancel()


@pytest.mark.parametrize("bind", [False, True])
def test_retries_by_the_name_submit(way: Any, start: Any, new_log: Any, bind: bool) -> None:
    log = new_log(way)

    def twice(log: Any) -> int:
        log.append(1)
        if len(log) < 3:
            raise ValueError("again")
        return len(log)

    options: dict[str, Any] = {"num_retries": {"*": 0, "submit": 3}, "retry_wait": 0}
    pool = start(way, twice if bind else None, **options)
    assert (pool(log) if bind else pool.submit(twice, log)).result() == 3
    log.clear()
    assert list(pool.map([log], chunksize=5) if bind else pool.map(twice, [log], chunksize=5)) == [3]


def test_validators(way: Any, start: Any) -> None:
    pool = start(way, num_retries=1, retry_wait=0, retry_until=lambda result: result > 5)
    assert pool.submit(square, 3).result() == 9
    with pytest.raises(RetryValidationError):
        pool.submit(square, 1).result()
    with pytest.raises(RetryValidationError):
        pool.submit(later_square, 1).result()
    with pytest.raises(ValueError, match="submit"):
        start(way, num_retries={"*": 0, "submitt": 3})


def test_limits(way: Any, start: Any) -> None:
    def hold(x: int, limits: Any = None) -> tuple[int, float]:
        with limits.acquire() as acquired:
            return x, acquired.acquisitions["seats"].requested

    bound = start(way, hold, limits=[ResourceLimit(key="seats", capacity=2)])
    assert bound(1).result() == (1, 1)
    assert list(bound.map([1, 2], chunksize=2)) == [(1, 1), (2, 1)]
    assert bound.submit(hold, 2).result() == (2, 1)
    assert start(way, limits=[ResourceLimit(key="seats", capacity=2)]).submit(hold, 3).result() == (3, 1)


def test_limits_are_there_without_the_option(way: Any, start: Any) -> None:
    def hold(limits: Any) -> str:
        with limits.acquire():
            return type(limits).__name__

    assert start(way, hold)().result() == "LimitPool"


def test_limits_that_the_call_gives(way: Any, start: Any) -> None:
    bound = start(way, lambda limits=None: limits, limits=[ResourceLimit(key="seats", capacity=2)])
    assert bound(limits=5).result() == 5
    assert bound.submit(lambda limits=None: limits, limits=5).result() == 5
    assert bound.submit(functools.partial(lambda limits=None: limits, limits=5)).result() == 5
    assert bound.submit(both, 1).result() == ((1,), {})


@pytest.mark.faults
def test_a_death_says_whose(start: Any) -> None:
    def die() -> None:
        os._exit(3)

    bound = start(_way(mode="process"), die)
    with pytest.raises(WorkerDiedError, match=r"die(\[0\])? .*submit\(\)"):
        bound().result()
    assert bound.submit(square, 3).result() == 9


def test_blocking(way: Any, start: Any) -> None:
    pool = start(way, blocking=True)
    assert pool.submit(square, 3) == 9
    assert pool.submit(later_square, 3) == 9
    assert list(pool.map(square, [1, 2])) == [1, 4]
    assert start(way, square, blocking=True)(4) == 16


def test_on_demand(start: Any) -> None:
    pool = start(_way(mode="thread", on_demand=True, max_workers=3))
    assert list(pool.map(square, range(20))) == [n * n for n in range(20)]
    assert len(pool) == 0


def test_auto_goes_by_the_function(start: Any) -> None:
    assert start(_way(mode="auto"), later_square).mode == "asyncio"
    assert start(_way(mode="auto"), square).mode == "thread"
    assert start(_way(mode="auto")).mode == "thread"


def test_the_checked_path(start: Any) -> None:
    pool = start(_way(mode="thread"))
    assert pool[TaskWorker.submit](square, 3).result() == 9
    assert list(pool[TaskWorker.map](square, [3])) == [9]


def test_names_and_figures(start: Any) -> None:
    bound = start(_way(mode="thread"), square)
    assert repr(bound).startswith("<Handle of square: thread, ")
    assert bound.worker_cls is TaskWorker
    bound(2).result()
    assert bound.stats()["done"] == 1
    with pytest.raises(AttributeError, match="did you mean 'submit'"):
        bound.submitt  # noqa: B018
    assert {"submit", "map"} <= set(dir(bound))
    assert not [name for name in vars(bound) if name.startswith(("submit_", "map_"))]


def test_a_mode_is_missing() -> None:
    with pytest.raises(ValueError, match=r"mode parameter is required: say TaskWorker\.options\(mode='thread'\)"):
        TaskWorker.init(square)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("map", r"say gather\(\[handle.method\(x\) for x in xs\]\). TaskWorker and @task .* have `map`"),
        ("submit", r"say handle.method\(x\), which returns the future. TaskWorker and @task .* have `submit`"),
    ],
)
def test_what_a_workers_handle_has_not(way: Any, name: str, instead: str) -> None:
    class Store(Worker):
        def read(self) -> int:
            return 1

    with (
        Store.options(**way.options).init() as store,
        pytest.raises(AttributeError, match=f"Store has no method '{name}'; {instead}"),
    ):
        getattr(store, name)


def test_the_plain_object() -> None:
    assert TaskWorker(square).submit(3) == 9
    assert TaskWorker(square)(3) == 9
    assert TaskWorker(square).submit(both, 3) == ((3,), {})
    assert list(TaskWorker().map(square, [1, 2])) == [1, 4]
    with pytest.raises(TypeError, match=r"submit\(\) requires"):
        TaskWorker().submit(None)
    with pytest.raises(TypeError, match="bound function"):
        TaskWorker()(1)


def test_a_subclass_with_options() -> None:
    class Quick(TaskWorker, mode="thread", max_workers=2, auto_init=False):
        def extra(self) -> str:
            return "mine"

    with Quick.init(square) as pool:
        assert len(pool) == 2
        assert pool(3).result() == 9
        assert pool.extra().result() == "mine"

    class Itself(TaskWorker, mode="thread"):
        pass

    with Itself(square) as started:  # type: ignore[attr-defined]
        assert started(3).result() == 9
        assert started.map([2])


@pytest.mark.parametrize("mode", ["thread", "asyncio", "process"])
def test_in_another_process(mode: str, start: Any) -> None:
    class User(Worker):
        def use(self, pool: Any, bound: Any) -> Any:
            return (
                pool.submit(square, 3).result(),
                pool.submit(later_square, 4).result(),
                bound(5).result(),
                list(bound.map(range(5), chunksize=2)),
                list(pool.map(lambda x: x + 1, iter(range(3)))),
            )

    pool, bound = start(_way(mode=mode)), start(_way(mode=mode), square)
    with User.options(mode="process").init() as user:
        assert user.use(pool, bound).result() == (9, 16, 25, [0, 1, 4, 9, 16], [1, 2, 3])


def test_a_handle_is_no_pickle(start: Any) -> None:
    with pytest.raises(TypeError, match="cannot be pickled by itself"):
        pickle.dumps(start(_way(mode="thread")))


def test_detached_is_for_classes() -> None:
    with pytest.raises((ValueError, ModuleNotFoundError), match=r"worker classes|ray"):
        TaskWorker.options(mode="ray", lifetime="detached", name="x").init()


def test_it_has_no_hidden_methods_of_its_own() -> None:
    public = {name for name in vars(TaskWorker) if not name.startswith("_")}
    assert public == {"submit", "map", "init", "options"}
    assert inspect.getdoc(TaskWorker.submit)
