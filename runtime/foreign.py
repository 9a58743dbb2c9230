"""Futures of other libraries, as ours."""

from __future__ import annotations

from typing import TypeVar

from concurry.runtime.future import BaseFuture

T = TypeVar("T")


class ConcurrentFuture(BaseFuture[T]):
    __slots__ = ()
