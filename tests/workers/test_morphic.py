"""Worker classes of `morphic.Typed`, in either base order and under `@worker`. Left out where it is not installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pydantic
import pytest

from concurry import LimitPool, ResourceLimit, Worker, worker

morphic: Any = pytest.importorskip("morphic")
Typed: Any = morphic.Typed
Start = Callable[..., Any]


class Methods:
    """What all of them do."""

    name: str
    after: ClassVar[str]
    limits: ClassVar[LimitPool]

    @classmethod
    def pre_initialize(cls, data: dict[str, Any]) -> None:
        data.setdefault("name", "given before")

    def post_initialize(self) -> None:
        object.__setattr__(self, "after", self.name.upper())

    def tell(self) -> str:
        return self.after

    @morphic.validate  # type: ignore[untyped-decorator, unused-ignore]
    def twice(self, value: int) -> int:
        return 2 * value

    def limited(self) -> str:
        with self.limits.acquire(requested={"slots": 1}):
            return self.name


class First(Worker, Methods, Typed):  # type: ignore[misc, unused-ignore]
    name: str
    times: int = pydantic.Field(default=1, ge=1)


class Last(Methods, Typed, Worker):  # type: ignore[misc, unused-ignore]
    name: str
    times: int = pydantic.Field(default=1, ge=1)


class Mutable(Methods, morphic.MutableTyped, Worker):  # type: ignore[misc, name-defined, unused-ignore]
    name: str
    times: int = pydantic.Field(default=1, ge=1)


@worker
class Decorated(Methods, Typed):  # type: ignore[misc, unused-ignore]
    name: str
    times: int = pydantic.Field(default=1, ge=1)


CLASSES: list[Any] = [First, Last, Mutable, Decorated]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_it_works_as_it_does_without_us(start: Start, cls: Any) -> None:
    limits = [ResourceLimit(key="slots", capacity=2)]
    handle = start(cls, name="n", times="2", options={"limits": limits, "num_retries": {"*": 0, "tell": 2}})
    assert handle.tell().result() == "N"
    assert handle.twice("4").result() == 8
    assert handle.limited().result() == "n"
    assert start(cls).tell().result() == "GIVEN BEFORE"
    for name in ("pre_initialize", "post_initialize", "of", "param_names", "settings_customise_sources", "dict"):
        with pytest.raises(AttributeError, match=name):
            getattr(handle, name)()
    plain = cls(name="p")
    assert (type(plain), plain.tell()) == (cls, "P")
    with plain.limits.acquire() as acquired:
        assert acquired.successful


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_it_checks(start: Start, cls: Any) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        start(cls, name="n", times=0).tell().result()  # on demand its first actor is made for the call


@pytest.mark.parametrize("bases", [(Worker, Typed), (Typed, Worker)], ids=["first", "last"])
def test_it_starts_itself(bases: tuple[type, ...]) -> None:
    class Itself(*bases, mode="thread"):  # type: ignore[misc, call-arg]
        name: str

        def tell(self) -> str:
            return self.name

    itself: Any = Itself
    with itself(name="n") as handle:
        assert handle.tell().result() == "n"
    with pytest.raises(ValueError, match="name"):
        itself()
