"""The feed and the mailbox together: order, and who is among the ready, where threads meet at the worst moment."""

from __future__ import annotations

from _thread import allocate_lock
from typing import Any

from concurry.runtime.mailbox import Mailbox


class Taker:
    """A feed as the mailbox sees it."""

    def __init__(self) -> None:
        self.listed = False
        self.over = False
        self.active = self.total = 0
        self.given: list[Any] = []
        self.pumping = allocate_lock()

    def has_room(self) -> bool:
        return True

    def give(self, call: Any) -> bool:
        self.given.append(call)
        self.listed = False
        return False


def test_it_is_not_ready_while_what_was_taken_for_it_is_not_sent() -> None:
    mailbox, taker = Mailbox(), Taker()
    with taker.pumping:  # a thread has taken calls, and has not sent them yet
        assert not mailbox.rest(taker)
        mailbox.put("later")
    assert taker.given == []
    mailbox.waiting.clear()
    assert mailbox.rest(taker)
    mailbox.put("now")
    assert taker.given == ["now"]


def test_it_is_not_ready_while_something_waits() -> None:
    mailbox, taker = Mailbox(), Taker()
    mailbox.put("first")
    assert not mailbox.rest(taker)
    assert mailbox.take_some(taker, 10, 1, 2) == ["first"]


def test_one_that_has_died_does_not_come_back() -> None:
    mailbox, taker = Mailbox(), Taker()
    mailbox.enter([taker])
    mailbox.leave(taker)
    assert not mailbox.rest(taker)
    assert mailbox.take_some(taker, 10, 1, 2) == []
    assert not taker.listed
    mailbox.put("for its successor")
    assert taker.given == []
    successor = Taker()
    assert mailbox.take_some(successor, 10, 1, 2) == ["for its successor"]


def test_a_share_leaves_something_for_the_others() -> None:
    mailbox, taker = Mailbox(), Taker()
    for n in range(100):
        mailbox.put(n)
    assert mailbox.take_some(taker, 80, 1, 4) == list(range(25))
    assert mailbox.take_some(taker, 10, 1, 4) == list(range(25, 35))
