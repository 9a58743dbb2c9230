"""What the standard library sees of our futures, under races: `wait`, `as_completed`, `wrap_future`."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

from concurry.runtime.future import BaseFuture

PATIENCE = 20  # seconds until a test gives up


def test_reopening_a_call_that_was_withdrawn_while_it_ran_closes_it() -> None:
    future: BaseFuture[int] = BaseFuture()
    assert future.begin()
    assert not future.withdraw(CancelledError())  # it runs: promises nothing
    assert not future.reopen()  # its worker died: it may not run again, and nobody else would close it
    assert future.cancelled()


def test_a_call_that_is_cancelled_while_it_closes_is_cancelled() -> None:
    class Closing(BaseFuture[int]):
        """Its runner closes it between the cancelling one's last look and its writing."""

        @property
        def args(self) -> None:
            return None

        @args.setter
        def args(self, value: None) -> None:
            self._stage = 2

    future = Closing()
    future.begin()
    assert future.abandon(CancelledError())
    assert future.cancelled()
    assert not future.close(1)
    assert future.cancelled()


def test_the_state_does_not_change_while_the_standard_library_looks() -> None:
    future: BaseFuture[int] = BaseFuture()
    closed = threading.Event()
    future.add_hook(lambda _: closed.set())  # runs before the standard library is told
    with future._condition:
        assert future._state == "PENDING"
        closer = threading.Thread(target=lambda: (future.begin(), future.close(1)))
        closer.start()
        assert closed.wait(PATIENCE)
        assert future.done()
        assert future._state == "PENDING"  # or `wait` would count it as done, and be told once more
    closer.join(PATIENCE)
    assert future._state == "FINISHED"
