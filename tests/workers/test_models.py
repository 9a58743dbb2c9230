"""Worker classes that check themselves: dataclasses, pydantic models and those of morphic, in either base order."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import pydantic
import pytest

from concurry import LimitPool, ResourceLimit, Worker, worker

Start = Callable[..., Any]
T = TypeVar("T")
SLOTS = [ResourceLimit(key="slots", capacity=4)]


class Works:
    """What all of them do."""

    name: Any
    limits: ClassVar[LimitPool]

    def tell(self) -> Any:
        return self.name

    async def tell_later(self) -> Any:
        return self.name

    def limited(self) -> Any:
        with self.limits.acquire(requested={"slots": 1}):
            return self.name

    async def limited_later(self) -> Any:
        async with self.limits.acquire(requested={"slots": 1}):
            return self.name

    def copied(self) -> Any:
        return copy.copy(self) == self


class WorkerFirst(Worker, pydantic.BaseModel):
    name: str
    times: int = pydantic.Field(default=1, ge=1)

    def tell(self) -> str:
        return self.name

    limited = Works.limited
    limited_later = Works.limited_later


class ModelFirst(pydantic.BaseModel, Worker):
    name: str
    times: int = pydantic.Field(default=1, ge=1)

    def tell(self) -> str:
        return self.name

    limited = Works.limited
    limited_later = Works.limited_later


class Frozen(Worker, pydantic.BaseModel, frozen=True, extra="forbid"):
    name: str
    times: int = pydantic.Field(default=1, ge=1)

    def tell(self) -> str:
        return self.name

    limited = Works.limited
    limited_later = Works.limited_later


class ModelMethods(pydantic.BaseModel):
    name: str
    times: int = pydantic.Field(default=1, ge=1)

    def tell(self) -> str:
        return self.name

    limited = Works.limited
    limited_later = Works.limited_later


class FromAModel(ModelMethods, Worker):
    """The model was there first, and is made a worker."""


class GenericModel(Worker, pydantic.BaseModel, Generic[T]):
    name: T
    times: int = pydantic.Field(default=1, ge=1)

    def tell(self) -> T:
        return self.name

    limited = Works.limited
    limited_later = Works.limited_later


@worker
class Decorated(ModelMethods):
    pass


class Validated(Works, Worker):
    @pydantic.validate_call
    def __init__(self, name: str, times: int = pydantic.Field(default=1, ge=1)) -> None:
        self.name = name


@worker
class DecoratedValidated(Works):
    @pydantic.validate_call
    def __init__(self, name: str, times: int = pydantic.Field(default=1, ge=1)) -> None:
        self.name = name


PYDANTIC: list[Any] = [
    WorkerFirst,
    ModelFirst,
    Frozen,
    FromAModel,
    GenericModel,
    GenericModel[str],
    Decorated,
    Validated,
    DecoratedValidated,
]


@dataclass
class Data(Works, Worker):
    name: str
    times: int = 1

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError("times: 1 or more")


@dataclass(frozen=True, kw_only=True)
class FrozenData(Works, Worker):
    name: str
    times: int = 1

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError("times: 1 or more")


@dataclass(slots=True)
class SlotData(Works, Worker):
    """`Works` has room for a `limits`, as it has no slots."""

    name: str
    times: int = 1
    more: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError("times: 1 or more")


@worker
@pydantic.dataclasses.dataclass
class PydanticData(Works):
    name: str
    times: int = pydantic.Field(default=1, ge=1)


class PydanticDataBase(Works, Worker):
    pass


@pydantic.dataclasses.dataclass(frozen=True)
class PydanticDataWorker(PydanticDataBase):
    name: str
    times: int = pydantic.Field(default=1, ge=1)


ALL: list[Any] = [*PYDANTIC, Data, FrozenData, SlotData, PydanticData, PydanticDataWorker]


def name_of(cls: Any) -> str:
    return str(cls.__name__)


@pytest.mark.parametrize("cls", ALL, ids=name_of)
def test_it_works_and_has_its_limits(start: Start, cls: Any) -> None:
    named = {"num_retries": {"*": 1, "tell": 2}, "retry_until": {"*": None, "tell": lambda r: r == "n"}}
    handle = start(cls, name="n", options={"limits": SLOTS, **named, "retry_wait": 0})
    assert handle.worker_cls is cls
    assert [handle.tell().result(), handle.limited().result(), handle.limited_later().result()] == ["n"] * 3
    plain = cls(name="p")
    assert type(plain) is cls
    assert plain.tell() == "p"
    with plain.limits.acquire(requested={}) as acquired:
        assert acquired.successful


@pytest.mark.parametrize("cls", ALL, ids=name_of)
def test_it_checks_as_it_does_without_us(start: Start, cls: Any) -> None:
    before = threading.enumerate()
    with pytest.raises(ValueError, match=r"times|greater than or equal to 1"):  # pydantic's is one
        start(cls, name="n", times=0).tell().result()  # on demand, the first actor is made for the call
    assert not [it for it in threading.enumerate() if it not in before and cls.__name__ in it.name]


class Counted(Worker, pydantic.BaseModel):
    """Checks without doing anything: it may be checked where `.init()` stands."""

    checked: ClassVar[list[int]] = []
    value: int
    more: list[int] = pydantic.Field(default_factory=list)

    @pydantic.field_validator("value")
    @classmethod
    def small(cls, value: int) -> int:
        cls.checked.append(threading.get_ident())
        if value > 10:
            raise ValueError("too large")
        return value

    def tell(self) -> int:
        return self.value


@pytest.mark.parametrize("mode", ["sync", "thread", "asyncio", "process"])
def test_a_model_is_checked_before_anything_is_started(mode: Any) -> None:
    Counted.checked.clear()
    with pytest.raises(pydantic.ValidationError, match="too large"):
        Counted.options(mode=mode).init(value=11)
    assert Counted.checked == [threading.get_ident()]


class FillsIn(Worker, pydantic.BaseModel):
    """Its `__init__` takes something else than its fields."""

    name: str

    def __init__(self, first: str = "f", **more: Any) -> None:
        super().__init__(name=f"{first} and last", **more)

    def tell(self) -> str:
        return self.name


def test_a_model_with_an_init_of_its_own(start: Start) -> None:
    assert start(FillsIn).tell().result() == "f and last"
    assert start(FillsIn, "g").tell().result() == "g and last"
    with pytest.raises(TypeError, match="multiple values"):
        start(FillsIn, "g", first="h").tell().result()


class HasPostInit(Worker, pydantic.BaseModel):
    name: str
    made: ClassVar[list[str]] = []
    _secret: str = pydantic.PrivateAttr(default="unset")

    def model_post_init(self, context: Any, /) -> None:
        self._secret = f"secret of {self.name}"
        self.made.append(self.name)

    def secret(self) -> str:
        with self.limits.acquire():
            return self._secret

    @pydantic.validate_call
    def twice(self, value: int) -> int:
        return 2 * value

    @pydantic.validate_call(validate_return=True)
    async def later(self, value: int) -> str:
        return value  # type: ignore[return-value]


def test_post_init_runs_once_for_each_actor() -> None:
    HasPostInit.made.clear()
    with HasPostInit.options(mode="thread", max_workers=3).init(name="n") as handle:
        assert handle.secret().result() == "secret of n"
    assert HasPostInit.made == ["n"] * 3


def test_what_runs_before_and_around(start: Start) -> None:
    handle = start(HasPostInit, name="n", options={"limits": SLOTS})
    assert handle.secret().result() == "secret of n"
    assert handle.twice("4").result() == 8
    for call in (handle.twice("x"), handle.later("x"), handle.later(3)):
        with pytest.raises(pydantic.ValidationError):
            call.result()


def test_helpers_are_no_methods_and_no_policy_names_them(start: Start) -> None:
    handle = start(HasPostInit, name="n", options={"num_retries": 2, "retry_wait": 0, "retry_until": lambda r: r})
    assert handle.secret().result() == "secret of n"
    for name in ("model_dump", "copy", "model_post_init", "model_fields", "json", "limits"):
        with pytest.raises(AttributeError, match=name):
            getattr(handle, name)()
    for name in ("model_dump", "copy", "model_post_init"):
        with pytest.raises(ValueError, match=name):
            start(HasPostInit, name="n", options={"num_retries": {"*": 0, name: 2}})


@pytest.mark.parametrize("bases", [(Worker, pydantic.BaseModel), (pydantic.BaseModel, Worker)], ids=["first", "last"])
def test_a_model_that_starts_itself(bases: tuple[type, ...]) -> None:
    class Itself(*bases, mode="thread", max_workers=2, frozen=True):  # type: ignore[misc, call-arg]
        name: str

        def copied(self) -> Any:
            return copy.copy(self) == self == type(self).model_validate({"name": self.name})

    itself: Any = Itself
    assert itself.model_config == {"frozen": True}
    with itself(name="n") as handle:
        assert len(handle) == 2
        assert handle.copied().result() is True
    with pytest.raises(pydantic.ValidationError):
        itself(name=5)
    with pytest.raises(pydantic.ValidationError):
        itself()
