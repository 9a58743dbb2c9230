"""What to undo where something is made in several steps, and a later one fails.

    with Undo() as undo:
        file = open(...)
        undo.add(file.close)
        ...
        undo.forget()      all of it is made

Called by: the channel.
"""

from __future__ import annotations

from collections.abc import Callable


class Undo:
    """See the module's docstring. Undoes in the reverse order."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def add(self, *steps: Callable[[], object]) -> None:
        self._steps += steps

    def forget(self) -> None:
        self._steps.clear()

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, *_: object) -> None:
        while self._steps:
            self._steps.pop()()
