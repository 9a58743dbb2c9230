"""The outbox of a process channel by itself: which numbers calls get."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from concurry.transports import codec
from concurry.transports.board import CALLS
from concurry.transports.outbox import Outbox


def _packed(item: Any) -> bytes:
    packed: Any = msgpack.packb(item)
    return bytes(packed)


class Sending:
    """Calls at one end, as an outbox sends them; and what the child makes of the messages, by number."""

    def __init__(self) -> None:
        self.arrived: dict[int, Any] = {}
        self.outbox = Outbox(self, self, self)  # type: ignore[arg-type]  # it takes what has a socket's methods

    def send(self, frame: bytes, _: int) -> None:
        items = codec.read(frame)
        for number, name in enumerate(items[1:], items[0][1]):
            if name is not None:
                assert number not in self.arrived
                self.arrived[number] = name

    def sent(self, *names: str) -> None:
        self.outbox.send([Sent(name) for name in names])

    def answered(self, *names: str) -> None:
        for number, call in list(self.outbox.under_way.items()):
            if call.name in names:
                del self.outbox.under_way[number]

    def numbers(self, *names: str) -> list[int]:
        return [number for number, name in self.arrived.items() if name in names]


class Sent:
    """A small call, encoded."""

    kwargs = carried = extra = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.args = _packed(name)


@pytest.mark.parametrize("together", [1, 7], ids=["one by one", "in batches"])
def test_no_call_takes_the_place_on_the_board_of_one_that_hangs(together: int) -> None:
    sending = Sending()
    sending.sent("quick", "hangs", "hangs too")
    sending.answered("quick")
    for _ in range(3 * CALLS // together):
        sending.sent(*["quick"] * together)
        assert {
            number: call.name for number, call in sending.outbox.under_way.items()
        }.items() <= sending.arrived.items()
        sending.answered("quick")
    numbers = sending.numbers("quick")
    assert numbers == sorted(numbers), "they go on in their order"
    assert len(numbers) == 1 + 3 * CALLS // together * together, "and each of them is sent"
    assert sending.numbers("hangs", "hangs too") == [2, 3]
    assert not {number % CALLS for number in numbers[1:]} & {2, 3}


def test_a_place_on_the_board_is_used_again_when_its_call_has_ended() -> None:
    sending = Sending()
    sending.sent("hangs")
    for _ in range(CALLS):
        sending.sent("quick")
        sending.answered("quick")
    sending.answered("hangs")
    for _ in range(CALLS):
        sending.sent("quick")
        sending.answered("quick")
    assert {number % CALLS for number in sending.numbers("quick")[CALLS:]} == set(range(CALLS))
