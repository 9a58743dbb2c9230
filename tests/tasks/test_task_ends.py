"""A task that is stopped before it began, in a forked child, or reloaded; and what is refused at its line."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest

from concurry import TaskWorker, WorkerStoppedError, task, task_calls
from concurry.runtime import shutdown
from concurry.runtime.enums import ExecutionMode
from concurry.tasks import Task


def same(x: Any) -> Any:
    return x


def test_a_stop_before_the_first_call_is_one(way: Any) -> None:
    one = task(**way.options)(same)
    one.stop()
    assert not one.is_alive()
    assert repr(one).endswith("same: stopped>")
    for call in (one, one.submit):
        with pytest.raises(WorkerStoppedError, match=r"the task same was stopped, and takes no more calls"):
            call(1)
    with task(**way.options)(same) as other:
        pass
    with pytest.raises(WorkerStoppedError):
        other(1)


def test_a_stop_while_another_thread_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one = task(mode="thread", on_demand=False)(same)
    begun, go_on = threading.Event(), threading.Event()
    start = Task._start

    def slow(self: Task[Any, Any]) -> Any:
        begun.set()
        go_on.wait()
        return start(self)

    monkeypatch.setattr(Task, "_start", slow)
    first = threading.Thread(target=lambda: one.handle)
    first.start()
    begun.wait()
    last = threading.Thread(target=one.stop)
    last.start()
    go_on.set()
    first.join()
    last.join()
    assert not one.is_alive()
    with pytest.raises(WorkerStoppedError):
        one(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is none here")
@pytest.mark.parametrize("held", [False, True])
def test_in_a_forked_child_it_starts_anew(held: bool) -> None:
    one, stopped = task(mode="thread", on_demand=False)(same), task(mode="thread")(same)
    assert one(1).result() == 1
    stopped.stop()
    if held:
        one._lock.acquire()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            assert one(2).result(30) == 2
            assert one.is_alive()
            one.stop()
            try:
                stopped(1)
            except WorkerStoppedError:
                code = 0
        finally:
            os._exit(code)
    if held:
        one._lock.release()
    assert os.waitpid(child, 0)[1] == 0
    assert one(3).result() == 3
    one.stop()


def test_a_module_that_is_reloaded_does_not_keep_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reloaded_tasks.py").write_text(
        "from concurry import task\n\n\n@task(mode='process', on_demand=False)\ndef twice(x):\n    return 2 * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import reloaded_tasks  # type: ignore[import-not-found]

    twice = reloaded_tasks.twice
    assert twice(2).result() == 4
    ended, pool = weakref.ref(twice), twice.handle.__dict__["_pool"]
    importlib.reload(reloaded_tasks)
    del twice
    gc.collect()
    assert ended() is None
    shutdown.drain_and_wait(pool)
    monkeypatch.delitem(sys.modules, "reloaded_tasks")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_retries": {"submit": 1}}, r"@task same: num_retries by method must include '\*'"),
        ({"num_retries": {"*": 1, "sbmit": 1}}, "@task same: num_retries names 'sbmit'.*did you mean 'submit'"),
        ({"retry_config": {"*": 5}}, "@task same: retry_config.* must be a RetryConfig"),
        ({"limits": [5]}, r"@task same: limits=\[5\] is refused"),
    ],
)
def test_what_cannot_be_is_refused_at_the_line(options: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        task(mode=ExecutionMode.Threads, **options)(same)


# -- of all tasks and their workers ----------------------------------------------------------------------------------


def test_limits_where_no_option_says_any(way: Any, start: Any) -> None:
    def wants(x: int, limits: Any) -> tuple[int, str]:
        return x, type(limits).__name__

    def by_keyword(x: int, *, limits: Any = None) -> tuple[int, str]:
        return x, type(limits).__name__

    for fn in (wants, by_keyword):
        for pool in (start(way), start(way, fn)):
            assert pool.submit(fn, 1).result() == (1, "LimitPool")
            assert list(pool.map(fn, [1, 2], chunksize=2)) == [(1, "LimitPool"), (2, "LimitPool")]
            assert pool.submit(fn, 1, limits=5).result() == (1, "int")
        assert pool.submit(1).result() == (1, "LimitPool")
        assert pool.submit(1, limits=5).result() == (1, "int")
    for pool in (start(way), start(way, wants)):
        assert pool.submit(wants, 1, 5).result() == (1, "int")  # by its place
    assert pool(1, 5).result() == (1, "int")


@pytest.mark.parametrize("name", ["submit", "map", "submit_fn", "submit_async", "map_chunk", "map_chunk_async"])
def test_a_subclass_has_no_calls_of_its_own(name: str) -> None:
    kind = type("Own", (TaskWorker,), {name: lambda self: None, "__module__": __name__})
    with pytest.raises(TypeError, match=rf"Own: a TaskWorker cannot have a method {name}\(\) of its own"):
        kind.options(mode="thread").init()  # type: ignore[attr-defined]


def test_an_init_that_does_not_call_its_base_is_told(way: Any) -> None:
    class Own(TaskWorker):
        def __init__(self) -> None:
            self.x = 1

    with pytest.raises(AttributeError, match=r"Own\.__init__ did not call super\(\)\.__init__\(fn\)"):
        Own.options(**way.options).init()
    with pytest.raises(AttributeError, match=r"Own\.__init__ did not call super"):
        Own().submit(same, 1)
    assert not hasattr(Own(), "anything")


def test_the_plain_object_knows_the_keywords() -> None:
    assert list(TaskWorker(same).map([1, 2], chunksize=2, timeout=3)) == [1, 2]
    with pytest.raises(TypeError, match="chunksise"):
        TaskWorker(same).map([1, 2], chunksise=4)  # type: ignore[call-arg]


# -- functions that come by value -------------------------------------------------------------------------------------


@pytest.fixture
def came(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(task_calls, "_came", type(task_calls._came)())
    return task_calls._came


def _stream(size: int) -> bytes:
    from concurry.transports import codec_pickle

    return codec_pickle.dump_alone(b"x" * size)


def test_no_more_functions_are_kept_than_some(came: Any) -> None:
    stream = _stream(10)
    for number in range(10):
        task_calls._unpickled(bytes([number]), stream)
        task_calls._unpickled(b"\0", stream)  # one that is used goes on
    assert len(came) == 1 + task_calls._MOST_KEPT
    assert b"\0" in came
    assert b"\1" not in came


def test_no_more_bytes_are_kept_than_some(came: Any) -> None:
    stream = _stream(task_calls._MOST_KEPT_BYTES // 2)
    for number in range(4):
        task_calls._unpickled(bytes([number]), stream)
    assert len(came) == 2  # the one in use, and another: of two the streams would be too long
    first = task_calls._unpickled(b"new", _stream(3 * task_calls._MOST_KEPT_BYTES))
    assert task_calls._unpickled(b"new", b"") is first  # the one in use stays, whatever its size
    task_calls._unpickled(b"next", _stream(10))
    assert list(came) == [b"next"]
