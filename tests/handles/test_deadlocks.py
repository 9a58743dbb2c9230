"""Waits that could never end, across processes: each ends with DeadlockError, and everybody goes on afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from concurry import DeadlockError, Worker, async_gather, gather, wait

Start = Callable[..., Any]
SECONDS = 20


class Node(Worker):
    """One of those who wait for each other."""

    def __init__(self) -> None:
        self.other: Any = None
        self.kept: Any = None

    def know(self, other: Any) -> None:
        self.other = other

    def ping(self) -> str:
        return "pong"

    def ask(self, depth: int) -> Any:
        """Ask the other one, who asks on."""
        if not depth:
            return "end"
        return self.other.ask(depth - 1).result(timeout=SECONDS)

    def ask_by_gather(self) -> Any:
        return gather([self.other.ping(), self.other.ask(1), self.other.ping()], timeout=SECONDS)

    def ask_by_wait(self) -> Any:
        done, _ = wait([self.other.ask(1)], timeout=SECONDS)
        return done.pop().result()

    async def ask_by_await(self) -> Any:
        return await self.other.ask(1)

    async def ask_by_async_gather(self) -> Any:
        return await async_gather([self.other.ask(1), self.other.ping()], timeout=SECONDS)

    def exceptions(self) -> Any:
        return gather([self.other.ask(1)], return_exceptions=True, timeout=SECONDS)

    def survive(self) -> str:
        """Sees the error, and goes on: what it called runs afterwards."""
        with pytest.raises(DeadlockError) as caught:
            self.other.ask(1).result(timeout=SECONDS)
        return str(caught.value)

    def only_call(self, done: Any = None) -> None:
        self.kept = self.other.ask(1) if done is None else self.other.ask_and_tell(done)

    def ask_and_tell(self, done: Any) -> Any:
        found = self.other.ask(0).result(timeout=SECONDS)
        done.set()
        return found

    def kept_result(self) -> Any:
        return self.kept.result(timeout=SECONDS)

    def make(self, mode: str, me: Any) -> Any:
        self.other = Node.options(mode=mode).init()
        self.other.know(me).result(timeout=SECONDS)
        return self.other


def pair(start: Start, mode: str) -> tuple[Any, Any]:
    one, two = start(Node, "process"), start(Node, mode)
    gather([one.know(two), two.know(one)])
    return one, two


def all_answer(*nodes: Any) -> None:
    assert gather([node.ping() for node in nodes], timeout=SECONDS) == ["pong"] * len(nodes)


def test_a_call_to_oneself(start: Start) -> None:
    node = start(Node, "process")
    node.know(node).result(SECONDS)
    with pytest.raises(DeadlockError, match=r"Node would wait for ever: Node -> Node\. The call itself is accepted"):
        node.ask(1).result(SECONDS)
    all_answer(node)
    node.only_call().result(SECONDS)


def test_each_other(start: Start, mode: str) -> None:
    one, two = pair(start, mode)
    with pytest.raises(DeadlockError, match="would wait for ever: Node -> Node -> Node"):
        one.ask(2).result(SECONDS)
    all_answer(one, two)
    if mode != "sync":  # there the call runs in this very thread, which is no actor's
        with pytest.raises(DeadlockError, match="would wait for ever"):
            two.ask(2).result(SECONDS)
        all_answer(one, two)


@pytest.mark.parametrize("method", ["ask_by_gather", "ask_by_wait", "ask_by_await", "ask_by_async_gather"])
def test_every_kind_of_wait(start: Start, method: str) -> None:
    one, two = pair(start, "process")
    with pytest.raises(DeadlockError):
        getattr(one, method)().result(SECONDS)
    all_answer(one, two)


def test_the_one_who_sees_it_goes_on(start: Start, mode: str) -> None:
    node = start(Node, "process")
    node.know(node).result(SECONDS)
    assert "Node -> Node" in node.survive().result(SECONDS)
    all_answer(node)


def test_exceptions_may_be_asked_for(start: Start) -> None:
    one, two = pair(start, "process")
    try:
        found = one.exceptions().result(SECONDS)
    except DeadlockError:
        found = [DeadlockError()]
    assert isinstance(found[0], DeadlockError)
    all_answer(one, two)


def test_three_in_a_circle(start: Start) -> None:
    one, two, three = start(Node, "process"), start(Node, "thread"), start(Node, "process")
    gather([one.know(two), two.know(three), three.know(one)])
    with pytest.raises(DeadlockError, match="Node -> Node -> Node -> Node"):
        one.ask(3).result(SECONDS)
    all_answer(one, two, three)
    assert one.ask(2).result(SECONDS) == "end"


def test_with_an_actor_of_its_own(start: Start, mode: str) -> None:
    one = start(Node, "process")
    inner = one.make(mode, one).result(SECONDS)
    with pytest.raises(DeadlockError):
        one.ask(2).result(SECONDS)
    all_answer(one, inner)
    if mode != "sync":
        with pytest.raises(DeadlockError):
            inner.ask(2).result(SECONDS)
    all_answer(one, inner)
    assert one.ask(1).result(SECONDS) == "end"


def test_between_a_thread_here_and_an_actor_of_a_child(start: Start) -> None:
    here, child = start(Node, "thread"), start(Node, "process")
    inner = child.make("process", here).result(SECONDS)
    here.know(inner).result(SECONDS)
    for _ in range(3):
        with pytest.raises(DeadlockError):
            here.ask(2).result(SECONDS)
        with pytest.raises(DeadlockError):
            inner.ask(2).result(SECONDS)
        all_answer(here, inner)
    inner.stop()


def test_what_is_only_called_is_no_deadlock(start: Start, mode: str, new_signal: Any) -> None:
    one, _ = pair(start, mode)
    done = new_signal()
    one.only_call(done).result(SECONDS)
    done.wait()
    assert one.kept_result().result(SECONDS) == "end"
    assert one.ask(1).result(SECONDS) == "end"


def test_pools_and_concurrent_actors_are_left_out(start: Start) -> None:
    one, two = start(Node, "process", max_concurrency=3), start(Node, "process")
    gather([one.know(two), two.know(one)])
    assert one.ask(2).result(SECONDS) == "end"
    pool = start(Node, "process", max_workers=3)
    two.know(pool).result(SECONDS)
    gather([pool.know(two) for _ in range(30)])
    assert two.ask(1).result(SECONDS) == "end"


def test_nobody_is_refused_wrongly(start: Start) -> None:
    one, two, three = start(Node, "process"), start(Node, "process"), start(Node, "thread")
    gather([one.know(two), two.know(three), three.know(None)])
    answers = gather([*[one.ask(2) for _ in range(100)], *[two.ask(1) for _ in range(100)]], timeout=SECONDS)
    assert answers == ["end"] * 200
