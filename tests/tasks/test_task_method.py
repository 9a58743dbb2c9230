"""`@task` in a class: the object goes along, whichever way the method is called."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

from concurry import TaskWorker, task
from concurry.task_method import MethodTask
from concurry.tasks import Task


class Scale:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self) -> None:
        """An object that can be called is no function of a call."""

    @task(mode="process", on_demand=False)
    def times(self, x: int = 10, plus: int = 0) -> int:
        """Multiplies."""
        return self.by * x + plus


def _class(options: dict[str, Any]) -> Any:
    class Job:
        def __init__(self, by: int) -> None:
            self.by = by

        @task(**options)
        def times(self, x: int = 10, plus: int = 0) -> int:
            return self.by * x + plus

        @task(**options)
        async def later(self, x: int) -> int:
            return self.by * x

        @task(**options)
        @staticmethod
        def twice(x: int) -> int:
            return 2 * x

        @staticmethod
        @task(**options)
        def thrice(x: int) -> int:
            return 3 * x

    return Job


def test_the_object_is_the_first_argument(way: Any) -> None:
    kind = _class(way.options)
    job = kind(3)
    with kind.times, kind.later, kind.twice, kind.thrice:
        assert job.times(5).result() == 15
        assert job.times.submit(5, plus=1).result() == 16
        assert list(job.times.map([1, 2], [10, 20])) == [13, 26]
        assert list(job.times.map(iter(range(5)), chunksize=2)) == [0, 3, 6, 9, 12]
        assert list(job.times.map()) == []
        assert kind.times(job, 5).result() == 15
        assert list(kind(2).later.map([1, 2], return_exceptions=True)) == [2, 4]
        for each in (job.twice, kind.twice):
            assert each(5).result() == 10
            assert each.submit(5).result() == 10
            assert list(each.map([1, 2])) == [2, 4]
        assert job.thrice.submit(5).result() == 15
        assert kind(2).times.is_alive()
    assert not job.times.is_alive()


def test_what_it_is() -> None:
    scale = Scale(3)
    assert isinstance(Scale.times, Task)
    assert isinstance(scale.times, MethodTask)
    assert scale.times == scale.times
    assert hash(scale.times) == hash(scale.times)
    assert scale.times != Scale(3).times
    assert scale.times != 5
    assert (scale.times.__name__, scale.times.__doc__) == ("times", "Multiplies.")
    assert repr(scale.times).startswith("<method of ")
    assert scale.times.__wrapped__(5) == 15
    assert list(inspect.signature(scale.times).parameters) == ["x", "plus"]
    assert not hasattr(scale.times, "tmies")
    again = pickle.loads(pickle.dumps(scale.times))
    assert again.__func__ is Scale.times
    assert again.__self__.by == 3


def test_an_object_that_can_be_called_is_an_argument() -> None:
    with Scale.times:
        assert Scale(3).times.submit(5).result() == 15
        assert list(Scale(3).times.map([1, 2])) == [3, 6]


def test_it_can_be_the_function_of_a_pool(way: Any) -> None:
    job = _class(way.options)(3)
    pool: Any
    with TaskWorker.options(**way.options).init() as pool:
        assert pool.submit(job.times, 5).result() == 15
        assert list(pool.map(job.times, [1, 2])) == [3, 6]
        assert pool.submit(job.later, 5).result() == 15
        assert pool.submit(Scale(4).times, 5).result() == 20
