"""What a type checker knows of methods of every kind, called through a handle. Checked in `test_types.py`; never run.

A line that must be an error says so by `# type: ignore`: both checkers report an ignore that nothing needs.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedExpression=false

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cached_property
from typing import Any, Generic, TypeVar, assert_type, overload

from concurry import BaseFuture, Handle, Worker

T = TypeVar("T")
K = TypeVar("K")


class Base(Worker):
    """What others inherit from."""

    def inherited(self, text: str, times: int = 1) -> list[str]:
        return [text] * times

    async def inherited_async(self, text: str) -> bytes:
        return text.encode()

    def overridden(self, number: int) -> object:
        return number

    @staticmethod
    def helper(number: int) -> str:
        return str(number)


class Every(Base):
    """Methods of every kind."""

    def overridden(self, number: int) -> int:
        return number

    def positional(self, one: int, /, two: str) -> tuple[int, str]:
        return one, two

    def keyword(self, *, name: str, size: float = 0.0) -> float:
        return size

    def anything(self, /, *args: int, **kwargs: str) -> dict[str, str]:
        return kwargs

    def nothing(self) -> None: ...

    def maybe(self, number: int | None = None) -> int | None:
        return number

    def generic(self, value: T) -> list[T]:
        return [value]

    def returns_awaitable(self) -> Awaitable[int]:
        return self.awaited()

    async def awaited(self) -> int:
        return 1

    async def keyword_async(self, number: int, *, factor: float) -> float:
        return number * factor

    def generator(self, count: int) -> Iterator[int]:
        yield from range(count)

    async def generator_async(self, count: int) -> AsyncIterator[int]:
        yield count

    @staticmethod
    def static(value: int, more: str = "") -> int:
        return value

    @classmethod
    def of_class(cls, value: int) -> bytes:
        return bytes(value)

    @property
    def size(self) -> int:
        return 1

    @cached_property
    def made_once(self) -> int:
        return 1

    @overload
    def either(self, value: int) -> int: ...
    @overload
    def either(self, value: str, *, strip: bool) -> str: ...
    def either(self, value: int | str, *, strip: bool = False) -> int | str:
        return value


class Store(Worker, Generic[K, T]):
    """A generic worker."""

    def __init__(self, default: T) -> None:
        self.default = default

    def put(self, key: K, value: T) -> None: ...

    def get(self, key: K) -> T:
        return self.default

    async def items(self) -> list[tuple[K, T]]:
        return []


class Names(Store[int, str]):
    """A generic worker with its types chosen."""

    def first(self) -> str:
        return self.default


def methods(every: Handle[Every]) -> None:
    """Arguments and results, as the method has them."""
    assert_type(every[Every.positional](1, "two"), BaseFuture[tuple[int, str]])
    assert_type(every[Every.positional](1, two="two"), BaseFuture[tuple[int, str]])
    assert_type(every[Every.keyword](name="n"), BaseFuture[float])
    assert_type(every[Every.anything](1, 2, three="3"), BaseFuture[dict[str, str]])
    assert_type(every[Every.nothing](), BaseFuture[None])
    assert_type(every[Every.nothing]().result(), None)
    assert_type(every[Every.maybe](None), BaseFuture[int | None])
    assert_type(every[Every.generator](3), BaseFuture[Iterator[int]])
    every[Every.positional](one=1, two="two")  # type: ignore[call-arg]
    every[Every.positional]("1", "two")  # type: ignore[arg-type]
    every[Every.keyword]("n")  # type: ignore[call-arg]
    every[Every.keyword](name="n", size="large")  # type: ignore[arg-type]
    every[Every.keyword]()  # type: ignore[call-arg]
    every[Every.anything]("1")  # type: ignore[arg-type]
    every[Every.anything](three=3)  # type: ignore[arg-type]
    every[Every.nothing](1)  # type: ignore[call-arg]


def async_methods(every: Handle[Every]) -> None:
    """What is awaited in the worker is the result."""
    assert_type(every[Every.awaited](), BaseFuture[int])
    assert_type(every[Every.awaited]().result(timeout=1), int)
    assert_type(every[Every.keyword_async](1, factor=0.5), BaseFuture[float])
    assert_type(every[Every.returns_awaitable](), BaseFuture[int])
    every[Every.keyword_async](1, 0.5)  # type: ignore[call-arg]
    every[Every.keyword_async]("1", factor=0.5)  # type: ignore[arg-type]
    every[Every.awaited](1)  # type: ignore[call-arg]


async def awaiting(every: Handle[Every]) -> None:
    """In a coroutine."""
    assert_type(await every[Every.positional](1, "two"), tuple[int, str])
    assert_type(await every[Every.awaited](), int)
    assert_type(await every[Every.inherited_async]("x"), bytes)
    assert_type(await every.positional(1, "two"), Any)


def inherited_methods(every: Handle[Every]) -> None:
    """By the class that has them, or by the one that inherits."""
    assert_type(every[Every.inherited]("x", 2), BaseFuture[list[str]])
    assert_type(every[Base.inherited]("x", times=2), BaseFuture[list[str]])
    assert_type(every[Every.inherited_async]("x"), BaseFuture[bytes])
    assert_type(every[Base.inherited_async]("x"), BaseFuture[bytes])
    assert_type(every[Every.overridden](1), BaseFuture[int])
    assert_type(every[Base.overridden](1), BaseFuture[object])
    every[Every.inherited](1)  # type: ignore[arg-type]
    every[Base.inherited]()  # type: ignore[call-arg]


def of_another_class(base: Handle[Base]) -> None:
    """A method that the worker's class does not have."""
    base[Every.nothing]()  # type: ignore[call-arg]
    base[Names.first]()  # type: ignore[call-arg]
    base[Every.overridden](1)  # type: ignore[call-arg, arg-type]
    base[Every.no_such_method]  # type: ignore[attr-defined]


def bound_to_no_object(every: Handle[Every]) -> None:
    """Static and class methods are called by attribute, or checked as what they are."""
    assert_type(every.static(1), BaseFuture[Any])
    assert_type(every.of_class(1), BaseFuture[Any])
    assert_type(every.helper(1), BaseFuture[Any])
    assert_type(every[Every.static](1), BaseFuture[int])
    assert_type(every[Every.static](1, more="x"), BaseFuture[int])
    assert_type(every[Every.of_class](1), BaseFuture[bytes])
    every[Every.static]("1")  # type: ignore[arg-type]
    every[Every.of_class]()  # type: ignore[call-arg]


def overloads(every: Handle[Every]) -> None:
    """An overloaded method."""
    assert_type(every[Every.either](1), BaseFuture[int])
    assert_type(every[Every.either]("1", strip=True), BaseFuture[str])


def generic_methods(every: Handle[Every]) -> None:
    """A method with a type of its own."""
    assert_type(every[Every.generic](1), BaseFuture[list[int]])


def generic_workers(store: Handle[Store[str, int]], names: Handle[Names]) -> None:
    """The types of the worker are those of its calls."""
    assert_type(Store[str, int].options(mode="thread").init(1), Handle[Store[str, int]])
    assert_type(Store[str, int].init(1), Handle[Store[str, int]])
    assert_type(store[Store[str, int].get]("key"), BaseFuture[int])
    assert_type(store[Store[str, int].put]("key", 1), BaseFuture[None])
    assert_type(store[Store[str, int].items](), BaseFuture[list[tuple[str, int]]])
    assert_type(names[Names.get](1), BaseFuture[str])
    assert_type(names[Names.items](), BaseFuture[list[tuple[int, str]]])
    assert_type(names[Names.first](), BaseFuture[str])
    store[Store[str, int].get](1)  # type: ignore[arg-type]
    names[Names.put]("1", "one")  # type: ignore[arg-type]


def functions_of_a_handle(every: Handle[Every]) -> None:
    """What a subscript or an attribute gives may be kept, and passed on."""
    double: Callable[[int], BaseFuture[int]] = every[Every.overridden]
    assert_type([double(number).result() for number in range(3)], list[int])
    assert_type(list(map(every[Every.overridden], [1, 2])), list[BaseFuture[int]])
    plain: Callable[..., BaseFuture[Any]] = every.overridden
    assert_type(plain(1), BaseFuture[Any])
