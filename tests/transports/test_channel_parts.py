"""Parts of a process channel by themselves: who receives replies, what is asked back, what the board tells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
import zmq

from concurry.transports import codec, parcel
from concurry.transports.asking import Asking
from concurry.transports.board import Board
from concurry.transports.closing import close_calls
from concurry.transports.replies import Replies


class Call:
    """A future as a channel sees it."""

    name = "call"
    _veto = None

    def __init__(self, broken: bool = False) -> None:
        self.outcome: Any = None
        self._broken = broken

    def close(self, result: Any) -> bool:
        if self._broken:
            raise RuntimeError("a hook of it is broken")
        self.outcome = result
        return True

    def abandon(self, reason: BaseException) -> bool:
        self.outcome = reason
        return True

    def reopen(self) -> bool:
        self.outcome = "waits again"
        return True


class Receiving:
    """Replies at one end of a pair of sockets, and the other end. `news` receives as the hub does."""

    def __init__(self, told: Callable[..., None] = lambda *_: None) -> None:
        self.context = zmq.Context()
        self.push, pull = self.context.socket(zmq.PUSH), self.context.socket(zmq.PULL)
        pull.bind("inproc://replies")
        self.push.connect("inproc://replies")
        self.under_way: dict[int, Any] = {}
        self.replies = Replies(
            "kit", pull, self.under_way, told, lambda *_: None, lambda: None, lambda: b"", lambda: None
        )

    def send(self, *items: Any) -> None:
        self.push.send(parcel.header(parcel.REPLIES, 0) + b"".join(map(_packed, items)))

    def news(self) -> None:
        self.replies.on_news(0)

    def close(self) -> None:
        self.context.destroy(linger=0)


def _packed(item: Any) -> bytes:
    packed: Any = msgpack.packb(item)
    return bytes(packed)


@pytest.fixture
def receiving() -> Iterator[Receiving]:
    made = Receiving()
    yield made
    made.close()


def test_calls_before_rubbish_in_a_message_are_closed(receiving: Receiving) -> None:
    first, second = receiving.under_way[1], receiving.under_way[2] = Call(), Call()
    receiving.send([1, codec.OK, codec.PLAIN, "one"], "rubbish", [2, codec.OK, codec.PLAIN, "two"])
    receiving.send([2, codec.OK, codec.PLAIN, "two, by the next message"])
    receiving.news()
    assert first.outcome == "one"
    assert second.outcome == "two, by the next message"
    assert receiving.under_way == {}
    assert receiving.replies.dropped == 1


def test_a_call_that_cannot_be_closed_is_its_own_failure(receiving: Receiving) -> None:
    broken, good = receiving.under_way[1], receiving.under_way[2] = Call(broken=True), Call()
    receiving.send([1, codec.OK, codec.PLAIN, "one"], [2, codec.OK, codec.PLAIN, "two"])
    receiving.news()
    assert isinstance(broken.outcome, RuntimeError)
    assert good.outcome == "two"


def test_who_cannot_be_told_keeps_no_call_open() -> None:
    def told(*_: Any) -> None:
        raise RuntimeError("no room")

    receiving = Receiving(told)
    call = receiving.under_way[1] = Call()
    receiving.send([1, codec.OK, codec.PLAIN, "one"])
    receiving.news()
    receiving.close()
    assert call.outcome == "one"


def test_replies_of_unknown_calls_change_nothing(receiving: Receiving) -> None:
    receiving.send([7, codec.OK, codec.PLAIN, "who?"], [-1, codec.OK, codec.PLAIN, "who?"])
    receiving.news()
    assert receiving.replies.dropped == 2


def test_the_hub_never_waits_for_one_who_leads(receiving: Receiving) -> None:
    call = receiving.under_way[1] = Call()
    receiving.send([1, codec.OK, codec.PLAIN, "one"])
    with receiving.replies._turn:  # somebody leads
        hub = threading.Thread(target=receiving.news)
        hub.start()
        hub.join(20)
        assert not hub.is_alive()
        assert call.outcome is None
    receiving.news()
    assert call.outcome == "one"


def test_a_recall_that_is_wished_meanwhile_is_made_after() -> None:
    under_way = {1: Call(), 2: Call()}
    asked: list[Any] = []
    asking = Asking(under_way, lambda number: number == 1, asked.append, lambda calls: None)
    asking.recall()
    asking.recall()
    assert len(asked) == 1
    under_way[3] = Call()
    asking.answer(asked[0][1], [2])
    assert [message[2] for message in asked] == [[2], [3]]
    assert under_way.keys() == {1, 3}


def test_a_cancel_that_is_open_suppresses_no_recall() -> None:
    under_way = {1: Call(), 2: Call()}
    asked: list[Any] = []
    asking = Asking(under_way, lambda number: False, asked.append, lambda calls: None)
    asking.ask_back(1, wait=False)
    asking.recall()
    assert [message[2] for message in asked] == [[1], [1, 2]]


def test_an_answer_that_comes_while_it_is_being_asked_ends_the_recall() -> None:
    asked: list[Any] = []

    def tell(message: list[Any]) -> None:
        asked.append(message)
        if len(asked) == 1:  # another thread's doing: the child's answer, which the hub takes in
            asking.answer(message[1], [])

    asking = Asking({1: Call()}, lambda number: False, tell, lambda calls: None)
    asking.recall()
    asking.recall()
    assert len(asked) == 2, "the first one is over"


def test_a_recall_that_is_wished_while_another_looks_is_made_after() -> None:
    under_way = {1: Call(), 2: Call()}
    asked: list[Any] = []

    def begun(number: int) -> bool:
        if len(under_way) == 2:  # another thread's doing, as this one looks
            under_way[3] = Call()
            asking.recall()
        return number == 1

    asking = Asking(under_way, begun, asked.append, lambda calls: None)
    asking.recall()
    assert [message[2] for message in asked] == [[2]]
    asking.answer(asked[0][1], [])
    assert [message[2] for message in asked] == [[2], [2, 3]]


def test_a_recall_that_finds_nothing_looks_again_where_that_was_wished_meanwhile() -> None:
    under_way = {1: Call()}
    asked: list[Any] = []

    def begun(number: int) -> bool:
        if len(under_way) == 1:  # another thread's doing, as this one looks
            under_way[2] = Call()
            asking.recall()
        return number == 1

    asking = Asking(under_way, begun, asked.append, lambda calls: None)
    asking.recall()
    assert [message[2] for message in asked] == [[2]]


def test_a_recall_that_is_interrupted_keeps_nobody_from_the_next() -> None:
    asked: list[Any] = []

    def tell(message: list[Any]) -> None:
        asked.append(message)
        if len(asked) == 1:
            raise KeyboardInterrupt

    asking = Asking({1: Call()}, lambda number: False, tell, lambda calls: None)
    with pytest.raises(KeyboardInterrupt):
        asking.recall()
    asking.recall()
    assert len(asked) == 2


def test_a_closed_board_does_not_tell_when_a_call_began() -> None:
    board = Board()
    board.numbers[0], board.numbers[4] = 1, 5_000_000_000
    assert board.began_at(1) == 5.0
    board.close()
    assert board.begun(1)
    assert board.began_at(1) is None, "it did not begin when the machine did"


class Closed:
    """As much of a call as closing one asks for."""

    name = "work"
    _veto = None
    _stage = 1

    def __init__(self, *, breaks: bool = False) -> None:
        self.results: list[Any] = []
        self._breaks = breaks

    def closes(self) -> bool:
        return True

    def close(self, result: Any) -> None:
        if self._breaks:
            self._breaks = False
            raise KeyboardInterrupt
        self.results.append(result)


def test_a_ctrl_c_among_closing_calls_counts_none_twice() -> None:
    """It is broken off, and done again with what has come meanwhile."""
    calls = [Closed(), Closed(breaks=True), Closed()]
    ended: list[Any] = [(call, codec.OK, codec.PLAIN, number, None, 1) for number, call in enumerate(calls)]
    counted: list[int] = []

    def told(each: list[Any], seconds_each: float) -> None:
        counted.append(len(each))

    with pytest.raises(KeyboardInterrupt):
        close_calls("W", ended, 0.1, told, lambda: None)
    later = Closed()
    ended.append((later, codec.OK, codec.PLAIN, 3, None, 1))
    close_calls("W", ended, 0.1, told, lambda: None)
    assert counted == [3, 1]
    assert [call.results[-1] for call in (*calls, later)] == [0, 1, 2, 3]
    assert ended == []
