"""What may pass one another on its way is taken in the order in which it left: each has a number, from 0.

Called by: whoever receives what Ray brings, which gives no order across its calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class InOrder(Generic[T]):
    """Not for several threads at once."""

    def __init__(self) -> None:
        self._early: dict[int, T] = {}  # what came before its turn
        self._next = 0

    def due(self, place: int, item: T) -> Iterator[T]:
        """Take in one; gives those whose turn has come, each when it is asked for."""
        self._early[place] = item
        while self._next in self._early:
            self._next += 1
            yield self._early.pop(self._next - 1)
