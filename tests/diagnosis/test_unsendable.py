"""What cannot be sent to another process is named, by the class, the variable and the method that uses it."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from concurry import EncodeError, Worker
from concurry.runtime import unsendable

WORD = {"sent": 1}


def made(lock: Any) -> dict[str, tuple[type[Any], str]]:
    """Classes that cannot be sent, each for a reason of its own, which is told."""

    def helper() -> int:
        with lock:
            return len(WORD)

    def locked(fn: Callable[..., Any]) -> Callable[..., Any]:
        own = threading.Lock()

        @functools.wraps(fn)
        def wrapper(*args: Any) -> Any:
            with own:
                return fn(*args)

        return wrapper

    class Uses(Worker):
        def one(self) -> int:
            with lock:
                return 1

    class UsesByAnother(Worker):
        async def one(self) -> int:
            return helper()

    class InItsBase(Uses):
        def two(self) -> int:
            return 2

    class Has(Worker):
        its = threading.Lock()

    class ByDefault(Worker):
        def one(self, own: Any = lock) -> int:
            return 1

    class Decorated(Worker):
        @locked
        def one(self) -> int:
            return 1

    class AsAProperty(Worker):
        @property
        def one(self) -> int:
            with lock:
                return 1

        @staticmethod
        def two() -> int:
            return 2

    class InAFunctionInside(Worker):
        def one(self) -> Any:
            def inner() -> Any:
                return lock

            return inner()

    uses = "the variable lock, which {}() uses"
    return {
        "uses": (Uses, uses.format("one")),
        "by another": (UsesByAnother, uses.format("helper")),
        "base": (InItsBase, uses.format("one")),
        "class variable": (Has, "Has.its"),
        "default": (ByDefault, "a default value among the parameters of one()"),
        "decorated": (Decorated, "the variable own, which one() uses"),
        "property": (AsAProperty, uses.format("one")),
        "inside": (InAFunctionInside, uses.format("one")),
    }


@pytest.mark.parametrize("case", made(None))
def test_it_is_named(case: str) -> None:
    cls, said = made(threading.Lock())[case]
    expected = f"cannot pickle '_thread.lock' object. It is {said}. Make what cannot be pickled"
    with pytest.raises(EncodeError, match=re.escape(expected)):
        cls.options(mode="process").init()


def test_global_variables_but_not_attributes_of_their_names() -> None:
    space: dict[str, Any] = {"__name__": "__main__", "Worker": Worker, "lock": threading.Lock(), "held": 1}
    exec(  # as a cell of a notebook
        "class Cell(Worker):\n"
        "    def one(self): return self.lock\n"
        "    def two(self): return held\n"
        "class Other(Worker):\n"
        "    def three(self): return lock\n",
        space,
    )
    assert unsendable.named(space["Cell"], (), {}, {}) == ""
    assert unsendable.named(space["Other"], (), {}, {}) == "It is the variable lock, which three() uses. "


def test_init_arguments_and_policies() -> None:
    class Takes(Worker):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            return

    lock = threading.Lock()
    assert unsendable.named(Takes, (1, lock), {}, {}) == "It is argument 2 of .init(). "
    assert unsendable.named(Takes, (), {"with_it": lock}, {}) == "It is argument with_it= of .init(). "
    assert unsendable.named(Takes, (), {}, {"one": [lock]}) == "It is the retry policy of one(). "
    assert unsendable.named(Takes, (1,), {"two": 2}, {}) == ""


def test_what_misbehaves_is_told_of_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses:
        def __reduce__(self) -> Any:
            raise RuntimeError("not me")

    class Takes(Worker):
        def __init__(self, what: Any) -> None:
            return

    with pytest.raises(EncodeError, match=r"RuntimeError: not me\. It is argument 1 of \.init\(\)"):
        Takes.options(mode="process").init(Refuses())
    monkeypatch.setenv("CONCURRY_CHECK_WIRE", "1")
    with pytest.raises(EncodeError, match=r"RuntimeError: not me\. It is argument 1 of \.init\(\)\."):
        Takes.options(mode="thread").init(Refuses())
