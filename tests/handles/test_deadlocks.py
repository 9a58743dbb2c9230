"""Waits that could never end, across processes: each ends with DeadlockError, and everybody goes on afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from concurry import DeadlockError, Worker, as_completed, async_gather, async_wait, gather, wait

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

    def ask_by_wait_for_both(self) -> Any:
        done, _ = wait([self.other.ask(1), self.other.ask(1)], timeout=SECONDS)
        return [each.result() for each in done]

    def ask_for_exceptions(self) -> Any:
        return gather([self.other.ask(1), self.other.ask(1)], return_exceptions=True, timeout=SECONDS)

    def ask_by_wait(self) -> Any:
        done, _ = wait([self.other.ask(1)], timeout=SECONDS)
        return done.pop().result()

    def ask_by_as_completed(self) -> Any:
        return [each.result() for each in as_completed([self.other.ask(1), self.other.ask(1)], timeout=SECONDS)]

    def ask_by_gather_iter(self) -> Any:
        return list(gather([self.other.ask(1)], iter=True, timeout=SECONDS))

    def ask_by_wait_for_one(self) -> Any:
        done, _ = wait([self.other.ask(1), self.other.ping()], return_when="FIRST_COMPLETED", timeout=SECONDS)
        return [each.result() for each in done]  # the other may have ended as well by now

    def ask_by_wait_for_a_failure(self) -> Any:
        done, _ = wait([self.other.ping(), self.other.ask(1)], return_when="FIRST_EXCEPTION", timeout=SECONDS)
        return [each.result() for each in done]

    def ask_with_progress(self) -> Any:
        return gather([self.other.ask(1), self.other.ping()], progress=lambda *_: None, timeout=SECONDS)

    def ask_by_argument(self) -> Any:
        return self.other.same(self.other.ask(1)).result(timeout=SECONDS)

    def same(self, value: Any) -> Any:
        return value

    async def ask_by_async_wait(self) -> Any:
        done, _ = await async_wait([self.other.ask(1), self.other.ask(1)], timeout=SECONDS)
        return [each.result() for each in done]

    async def ask_by_async_wait_for_one(self) -> Any:
        futures = [self.other.ask(1), self.other.ask(1)]
        done, _ = await async_wait(futures, return_when="FIRST_COMPLETED", timeout=SECONDS)
        return done.pop().result()

    async def ask_by_async_gather_iter(self) -> Any:
        return [each async for each in await async_gather([self.other.ask(1)], iter=True, timeout=SECONDS)]

    def first_of(self, *others: Any) -> Any:
        """What comes of asking these, one by one as they answer."""
        found: list[Any] = []
        try:
            for each in as_completed([other.ask(1) for other in others], timeout=SECONDS):
                found.append(type(each.exception()))
        except DeadlockError as error:
            found.append(type(error))
        return found

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


KINDS = [name for name in vars(Node) if name.startswith(("ask_by", "ask_with"))]


@pytest.mark.parametrize("mode", ["thread", "process"])
@pytest.mark.parametrize("method", KINDS)
def test_every_kind_of_wait(start: Start, method: str, mode: str) -> None:
    one, two = start(Node, mode), start(Node, mode)
    gather([one.know(two), two.know(one)])
    with pytest.raises(DeadlockError):
        getattr(one, method)().result(SECONDS)
    all_answer(one, two)


@pytest.mark.parametrize("mode", ["thread", "process"])
@pytest.mark.parametrize("method", KINDS)
def test_every_kind_of_wait_for_oneself(start: Start, method: str, mode: str) -> None:
    node = start(Node, mode)
    node.know(node).result(SECONDS)
    with pytest.raises(DeadlockError):
        getattr(node, method)().result(SECONDS)
    all_answer(node)


@pytest.mark.parametrize("modes", ["thread thread thread", "process process process", "process thread process"])
def test_the_first_of_several_is_waited_for_while_one_may_answer(start: Start, modes: str) -> None:
    one, two, three = [start(Node, mode) for mode in modes.split()]
    gather([two.know(one), three.know(None)])
    assert one.first_of(two, three).result(SECONDS) == [AttributeError, DeadlockError]
    assert one.first_of(three, two).result(SECONDS) == [AttributeError, DeadlockError]
    all_answer(one, two, three)


@pytest.mark.parametrize("modes", ["thread thread thread", "process process process", "process thread process"])
def test_the_first_of_several_who_all_ask_back(start: Start, modes: str) -> None:
    one, two, three = [start(Node, mode) for mode in modes.split()]
    gather([two.know(one), three.know(one)])
    for _ in range(3):
        found = one.first_of(two, three).result(SECONDS)
        assert DeadlockError in found
        all_answer(one, two, three)


@pytest.mark.parametrize("modes", ["thread thread", "process process", "process thread"])
def test_two_who_wait_for_the_first_answer_of_each_other(start: Start, modes: str) -> None:
    one, two = [start(Node, mode) for mode in modes.split()]
    gather([one.know(two), two.know(one)])
    for _ in range(3):
        both = [one.ask_by_as_completed(), two.ask_by_as_completed()]
        wait(both, timeout=SECONDS)
        assert DeadlockError in [type(each.exception(0)) for each in both]
        all_answer(one, two)


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_the_first_of_several_is_no_deadlock_where_all_answer(start: Start, mode: str) -> None:
    one, two, three = [start(Node, mode) for _ in range(3)]
    gather([two.know(three), three.know(None)])
    for _ in range(20):
        assert one.first_of(two, two).result(SECONDS) == [type(None)] * 2


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
