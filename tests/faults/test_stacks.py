"""`concurry.stacks`: what each actor does now, also where its process hears nothing."""

from __future__ import annotations

from typing import Any

import pytest

import concurry
from concurry import Worker


class Waits(Worker):
    """Stays in a call until its pipe has something."""

    def read_from_the_pipe(self, path: str) -> str:
        with open(path) as pipe:
            return pipe.read()

    def in_c(self, begun: str) -> None:
        """Holds the interpreter for seconds, in one call in C, which nothing but its process's end ends."""
        with open(begun, "w") as file:
            file.write("begun")
        sum(range(10**11))


@pytest.fixture(params=["thread", "process"])
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_where_a_call_is(mode: str, tmp_path: Any) -> None:
    import os

    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    with Waits.options(mode=mode).init() as worker:
        future = worker.read_from_the_pipe(path)
        with open(path, "w") as pipe:  # opens when the worker has it open: its call is on that line
            shown = concurry.stacks(worker)
            pipe.write("text")
        assert future.result(10) == "text"
    assert "read_from_the_pipe" in shown
    assert "Waits" in shown


def test_a_call_in_c_that_holds_the_interpreter(tmp_path: Any) -> None:
    import os

    path = str(tmp_path / "begun")
    os.mkfifo(path)
    with Waits.options(mode="process", stop_timeout=0).init() as worker:
        worker.in_c(path)
        with open(path) as pipe:
            assert pipe.read() == "begun"
        assert "in_c" in concurry.stacks(worker)


class Looks(Worker):
    def look(self, other: Any) -> str:
        return concurry.stacks(other)


def test_a_handle_that_came_from_elsewhere_is_refused() -> None:
    with (
        Waits.options(mode="thread").init() as worker,
        Looks.options(mode="process").init() as looks,
        pytest.raises(TypeError, match="only the process that has started it can look"),
    ):
        looks.look(worker).result(20)
