"""What a type checker knows of classes under `@worker`. Checked by mypy and pyright in `test_types.py`; never run.

mypy ignores class decorators, pyright applies them: what both know is asked through `worker(...)`.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from pydantic import BaseModel

from concurry import BaseFuture, Handle, LimitPool, Worker, worker
from concurry.workers import Launcher


@worker
class Inherits(Worker):
    def call(self, prompt: str) -> str:
        return prompt


@worker(mode="thread", max_workers=4, auto_init=True)
class InheritsWithOptions(Worker):
    def call(self, prompt: str) -> str:
        return prompt


class Counter:
    limits: LimitPool

    def __init__(self, start: int) -> None:
        self.value = start

    def call(self, more: int) -> int:
        with self.limits.acquire(requested={"k": 1}):
            return self.value + more


class Model(Worker, BaseModel, mode="thread"):
    value: int

    def tell(self) -> int:
        return self.value


def by_inheritance() -> None:
    """The class is kept exactly."""
    assert_type(Inherits.options(mode="thread"), Launcher[Inherits])
    assert_type(Inherits.init(), Handle[Inherits])
    assert_type(Inherits(), Inherits)
    handle: Handle[InheritsWithOptions] = InheritsWithOptions.init()
    assert_type(handle[InheritsWithOptions.call]("p"), BaseFuture[str])
    handle[InheritsWithOptions.call](5)  # type: ignore[arg-type]
    assert_type(Model.init(value=1)[Model.tell](), BaseFuture[int])


@worker
@dataclass
class Decorated:
    value: int

    def merge(self, other: Decorated) -> Decorated:  # it is still a class, in annotations too
        return Decorated(self.value + other.value)


@dataclass
@worker(mode="thread", auto_init=False)
class Beneath:
    value: int


class Heir(Decorated):
    pass


def of_plain_classes(it: Decorated) -> bool:
    """They are not checked, and nothing that works is flagged. mypy ignores class decorators."""
    assert_type(worker(Counter), Any)
    worker(Counter).options(mode="thread").init(5).call(3)
    worker(Decorated).options(mode="thread").init(5)
    worker(mode="thread", max_workers=2)(Counter).init(5)
    worker()(Beneath).init(5)
    return isinstance(it, Decorated)


def misuse() -> None:
    """Options have names and types, and what is decorated is a class."""
    worker(max_worker=2)  # type: ignore[call-overload]
    worker(max_workers="two")  # type: ignore[call-overload]
    worker(5)  # type: ignore[call-overload]
    worker(auto_init="yes")  # type: ignore[call-overload]
