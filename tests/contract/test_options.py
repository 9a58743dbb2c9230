"""Where options come from: `.options()`, the class and its bases, the environment, the configuration."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from concurry import ExecutionMode, Handle, ResourceLimit, Worker, global_config, temp_config


class OnClass(Worker, mode="thread", max_workers=2):
    def method(self) -> int:
        return 1


class Heir(OnClass, max_workers=3):
    pass


class Grandchild(Heir):
    pass


class NoOptions(Worker):
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def method(self) -> int:
        return self.value


class NotItself(Worker, auto_init=False, mode="thread"):
    def method(self) -> int:
        return 1


class Itself(Worker, auto_init=True):
    def method(self) -> int:
        return 1


def itself(cls: Any) -> Any:
    """`cls()`, which starts itself; a type checker takes it for the plain object."""
    return cls()


def test_options_of_the_class() -> None:
    with OnClass.init() as worker:
        assert worker.mode is ExecutionMode.Threads
        assert len(worker) == 2
        assert worker.method().result() == 1


def test_subclasses_inherit_them() -> None:
    with Heir.init() as worker:
        assert (worker.mode, len(worker)) == (ExecutionMode.Threads, 3)
    with Grandchild.init() as worker:
        assert (worker.mode, len(worker)) == (ExecutionMode.Threads, 3)


def test_the_line_goes_before_the_class() -> None:
    with OnClass.options(max_workers=1).init() as worker:
        assert (worker.mode, len(worker)) == (ExecutionMode.Threads, 1)
    with OnClass.options(mode="asyncio", max_workers=1).init() as worker:
        assert worker.mode is ExecutionMode.Asyncio


def test_the_class_goes_before_the_environment_and_that_before_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with temp_config(thread_max_workers=5, global_max_workers=6):
        with NoOptions.options(mode="thread").init() as worker:
            assert len(worker) == 5
        with Heir.init() as worker:
            assert len(worker) == 3
        monkeypatch.setenv("CONCURRY_THREAD_MAX_WORKERS", "4")
        with NoOptions.options(mode="thread").init() as worker:
            assert len(worker) == 4
        with Heir.init() as worker:
            assert len(worker) == 3
        with Heir.options(max_workers=1).init() as worker:
            assert len(worker) == 1


def test_a_mode_from_the_configuration() -> None:
    with temp_config(global_mode="sync"), NoOptions.init(4) as worker:
        assert worker.mode is ExecutionMode.Sync
        assert worker.method().result() == 4
    assert global_config.defaults.mode is None


def test_without_a_mode_anywhere() -> None:
    with pytest.raises(ValueError, match="mode parameter is required"):
        NoOptions.init()
    with pytest.raises(ValueError, match="mode parameter is required"):
        NoOptions.options(max_workers=2).init()


def test_options_are_added_to_options() -> None:
    launcher = NoOptions.options(mode="thread").options(max_workers=2).options(max_workers=3)
    assert "NoOptions.options(" in repr(launcher)
    with launcher.init(1) as first, launcher.init(2) as second:
        assert len(first) == len(second) == 3
        assert (first.method().result(), second.method().result()) == (1, 2)


@pytest.mark.parametrize("name", ["thread", "THREADS", "Thread", "threads", ExecutionMode.Threads])
def test_names_of_a_mode(name: Any) -> None:
    with NoOptions.options(mode=name).init() as worker:
        assert worker.mode is ExecutionMode.Threads


def test_auto_mode() -> None:
    class AllAsync(Worker):
        async def method(self) -> int:
            return 1

    with AllAsync.options(mode="auto").init() as asyncio_worker:
        assert asyncio_worker.mode is ExecutionMode.Asyncio
    with NoOptions.options(mode="auto").init() as worker:
        assert worker.mode is ExecutionMode.Threads


def test_a_class_with_options_starts_itself() -> None:
    with itself(OnClass) as worker:
        assert isinstance(worker, Handle)
        assert worker.method().result() == 1
    with itself(Grandchild) as worker:
        assert isinstance(worker, Handle)


def test_auto_init_said() -> None:
    assert type(NotItself()) is NotItself
    with NotItself.init() as worker:
        assert worker.method().result() == 1
    with temp_config(global_mode="thread"), itself(Itself) as worker:
        assert isinstance(worker, Handle)
    with pytest.raises(ValueError, match="mode parameter is required"):
        Itself()


def test_auto_init_is_inherited() -> None:
    class Below(NotItself, max_workers=2):
        pass

    class Again(Below, auto_init=True):
        pass

    assert type(Below()) is Below
    with itself(Again) as worker:
        assert isinstance(worker, Handle)


def test_a_worker_made_inside_a_worker() -> None:
    class Outer(Worker, mode="thread"):
        def __init__(self) -> None:
            self.inner = itself(OnClass)

        def ask(self) -> Any:
            return self.inner.method().result()

        def stop(self) -> None:
            self.inner.stop()

    with itself(Outer) as worker:
        assert worker.ask().result() == 1


def test_class_arguments_of_other_bases() -> None:
    class Other:
        said: Any = None

        def __init_subclass__(cls, *, colour: str | None = None, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            if colour is not None:
                cls.said = colour

    class Both(Worker, Other, mode="thread", colour="blue"):  # type: ignore[call-arg]  # to checkers they are options
        def method(self) -> int:
            return 1

    assert Both.said == "blue"
    with Both.init() as worker:
        assert worker.method().result() == 1


def test_nothing_is_said_where_all_is_well() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Heir.init() as worker:
            worker.method().result()


def test_a_generator_of_limits_serves_every_worker() -> None:
    class Uses(Worker):
        def keys(self) -> list[str]:
            return list(self.limits.get_stats()["limit_sets"][0])

    given = (ResourceLimit(key=key, capacity=1) for key in ("a", "b"))
    launcher = Uses.options(mode="thread", limits=given)
    with launcher.init() as first, launcher.init() as second:
        assert first.keys().result() == second.keys().result() == ["a", "b"]


def test_options_in_force_are_fixed() -> None:
    with OnClass.init() as worker:
        with pytest.raises(AttributeError, match="options are fixed"):
            worker.options.max_workers = 3  # pyright: ignore[reportAttributeAccessIssue]
        assert worker.options.max_workers == 2
