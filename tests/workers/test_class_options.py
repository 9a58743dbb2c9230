"""Where the options of a class come from, which go first, and what auto_init makes of them."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from dataclasses import dataclass
from typing import Any

import pytest

from concurry import CallLimit, ExecutionMode, Handle, Worker, global_config, temp_config, worker


def length(cls: Any, **options: Any) -> int:
    with (cls.options(**options) if options else cls).init() as handle:
        return len(handle)


def itself(cls: Any) -> Any:
    """`cls()`, which starts itself; a type checker takes it for the plain object."""
    return cls()


class Base:
    def method(self) -> int:
        return 1


def both(*args: Any, **kwargs: Any) -> Any:
    """`worker(...)` where class arguments say something too."""

    def decorate(cls: type) -> Any:
        with pytest.warns(UserWarning, match="decorator.*inheritance.*anti-pattern") as warned:
            made = worker(*args, **kwargs)(cls)
        assert len(warned) == 1
        assert warned[0].filename == __file__
        assert made is cls
        return made

    return decorate


def test_the_strongest_of_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    @both(max_workers=6)
    class Decorated(Worker, Base, mode="thread", max_workers=5):
        pass

    class Arguments(Worker, Base, mode="thread", max_workers=5):
        pass

    class Nothing(Worker, Base, mode="thread"):
        pass

    try:
        global_config.defaults.max_workers = 2
        assert length(Nothing) == 2
        global_config.thread.max_workers = 3
        assert length(Nothing) == 3
        monkeypatch.setenv("CONCURRY_THREAD_MAX_WORKERS", "4")
        assert length(Nothing) == 4
        assert length(Arguments) == 5
        assert length(Decorated) == 6
        assert length(Decorated, max_workers=7) == 7
        monkeypatch.delenv("CONCURRY_THREAD_MAX_WORKERS")
        monkeypatch.setenv("CONCURRY_MAX_WORKERS", "8")
        assert length(Nothing) == 8
    finally:
        global_config.reset_to_defaults()
    monkeypatch.delenv("CONCURRY_MAX_WORKERS")
    assert length(Nothing) == 1


def test_each_option_by_itself() -> None:
    @both(max_workers=2, blocking=None)
    class W(Worker, Base, mode="thread", blocking=True, max_workers=1):
        pass

    with W.options(max_workers=3).init() as handle:
        assert (len(handle), handle.mode, handle.blocking) == (3, ExecutionMode.Threads, True)


def test_subclasses_inherit_from_all_their_bases() -> None:
    @worker(mode="thread", max_workers=2)
    class Plain(Base):
        pass

    class Heir(Plain):  # type: ignore[misc, valid-type, unused-ignore]
        pass

    @worker(blocking=True)
    class Again(Heir):
        pass

    class Mixin(Worker, max_workers=4):
        pass

    class Two(Mixin, Plain, blocking=True):  # type: ignore[misc, valid-type, unused-ignore]
        pass

    again: Any = Again
    assert length(Heir) == 2
    with again.init() as handle:
        assert (handle.mode, len(handle), handle.blocking) == (ExecutionMode.Threads, 2, True)
        assert handle.method() == 1
    with Two.init() as handle:
        assert (handle.mode, len(handle), handle.blocking) == (ExecutionMode.Threads, 4, True)


def test_the_nearest_class_goes_first() -> None:
    """What a subclass says of itself goes before what its base's decorator says: that is what subclassing is for."""

    @worker(mode="thread", max_workers=2)
    class Parent(Worker, Base):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Child(Parent, max_workers=3):
            pass

    assert length(Parent) == 2
    assert length(Child) == 3
    assert length(both(max_workers=4)(Child)) == 4


def test_a_parents_class_arguments_are_warned_of_too() -> None:
    class Parent(Worker, Base, mode="thread", max_workers=3):
        pass

    @both(max_workers=2)
    class Child(Parent):
        pass

    with itself(Child) as handle:
        assert (handle.mode, len(handle)) == (ExecutionMode.Threads, 2)


def test_no_warning_where_only_one_place_says_something() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @worker
        class A(Worker, Base, mode="thread"):
            pass

        @worker(mode="thread")
        class B(Worker, Base):
            pass

        worker(max_workers=2)(B)
        worker()(A)
    assert length(B) == 2


def test_auto_init_of_the_nearest_that_says_it() -> None:
    class Off(Worker, Base, auto_init=False, mode="thread"):
        pass

    class Below(Off, max_workers=2):
        pass

    @both(auto_init=True)
    class On(Below):
        pass

    assert type(Below()) is Below
    with itself(On) as handle:
        assert isinstance(handle, Handle)
        assert len(handle) == 2
    with pytest.raises(ValueError, match="auto_init='perhaps' is refused: it must be True or False"):
        type("W", (Worker,), {}, auto_init="perhaps")


@pytest.mark.parametrize("how", ["options", "init"])
def test_auto_init_belongs_to_the_class(how: str) -> None:
    class W(Worker, Base):
        pass

    with pytest.raises(TypeError, match=r"unknown option 'auto_init'; it belongs on the class"):
        W.options(mode="thread", auto_init=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with temp_config(global_mode="thread"):  # the configuration is no place where a class says something
        assert type(W()) is W
        with pytest.raises(TypeError, match="takes no arguments"):
            W.init(auto_init=True)


def test_a_class_that_starts_itself_says_what_is_missing() -> None:
    class Needs(Worker, mode="thread"):
        def __init__(self, value: int) -> None:
            self.value = value

    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'value'"):
        Needs()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_both_places_and_made_anew() -> None:
    @dataclass(slots=True)
    @both(max_workers=2)
    class Slots(Worker, mode="thread"):
        name: str

        def tell(self) -> str:
            return self.name

    slots: Any = Slots
    with slots("n") as handle:
        assert (handle.tell().result(), len(handle)) == ("n", 2)


def test_limits_on_the_class_are_of_each_worker_that_is_made() -> None:
    """A list is a rule for each worker; an object that grants is one for all of them."""

    @worker(mode="thread", max_workers=2, limits=[CallLimit(window_seconds=1000, capacity=2)])
    class Limited:
        def take(self) -> bool:
            return bool(self.limits.try_acquire().successful)  # type: ignore[attr-defined]

    for _ in range(2):
        with itself(Limited) as handle:
            assert [handle.take().result() for _ in range(4)] == [True, True, False, False]


def test_options_that_refer_to_their_class_go_with_it() -> None:
    def make(decorated: bool) -> Any:
        class W(*(() if decorated else (Worker,))):  # type: ignore[misc]
            @staticmethod
            def ok(result: Any) -> bool:
                return True

        if decorated:
            return weakref.ref(worker(mode="thread", num_retries=1, retry_until=lambda result: W.ok(result))(W))

        class Heir(W, mode="thread", num_retries=1, retry_until=lambda result: Heir.ok(result)):  # type: ignore[call-arg]
            pass

        return weakref.ref(Heir)

    made = [make(decorated=True), make(decorated=False)]
    gc.collect()
    assert [it() for it in made] == [None, None]


@pytest.mark.parametrize("decorated", [False, True])
def test_a_class_travels_without_what_cannot(decorated: bool) -> None:
    """It goes by value, without an option that cannot be sent, and has its own again when it comes back."""
    lock = threading.Lock()
    said: dict[str, Any] = {"mode": "thread", "num_retries": 1, "retry_until": lambda result: lock is not None}

    class W(*(() if decorated else (Worker,)), **({} if decorated else said)):  # type: ignore[misc]
        def itself(self) -> Any:
            return self

        def starts(self) -> int:
            made: Any = type(self)()
            return len(made) if isinstance(made, Handle) else 0

    cls: Any = worker(**said)(W) if decorated else W
    for _ in range(2):
        with cls.options(mode="process", num_retries=0, retry_until=None).init() as handle:
            with pytest.raises(ValueError, match=r"its option retry_until=... stands on a class of a script"):
                handle.starts().result()
            assert type(handle.itself().result()) is cls
        cloudpickle: Any = pytest.importorskip("cloudpickle")
        assert cloudpickle.loads(cloudpickle.dumps(cls)) is cls
        with cls() as handle:
            assert handle.mode is ExecutionMode.Threads


@pytest.mark.parametrize("decorated", [False, True])
def test_a_class_is_given_one_private_name(decorated: bool) -> None:
    class Written:
        pass

    class W(Worker):
        pass

    members = set(vars(Written if decorated else W))

    class Heir(*(() if decorated else (Worker,)), **({} if decorated else {"mode": "thread"})):  # type: ignore[misc]
        pass

    made: Any = worker(mode="thread")(Heir) if decorated else Heir
    given = {"options", "init", "get_actor", "limits", "__new__", "__reduce_ex__"} if decorated else set()
    found = {
        name for name in set(vars(made)) - members if not name.startswith("__annot")
    }  # Python 3.14's own, made late
    assert found == {"__concurry_said__", *given}
