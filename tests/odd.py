"""What does not travel, or not as it is: exceptions, arguments and results for the tests of faults, in any mode."""

from __future__ import annotations

import sys
import threading
from typing import Any


class TwoArguments(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class HoldsALock(Exception):
    def __init__(self) -> None:
        super().__init__("a lock")
        self.lock = threading.Lock()


class ReducesNot(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no reduce")


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class PicklesNot:
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("no pickling")


class ExitsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit(4)


def never() -> None:
    raise LookupError("no unpickling")


class UnpicklesNot:
    def __reduce__(self) -> Any:
        return never, ()


class ExitsWhenUnpickled:
    def __reduce__(self) -> Any:
        return sys.exit, (5,)


def endless() -> Any:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested, PicklesNot]
    return nested
