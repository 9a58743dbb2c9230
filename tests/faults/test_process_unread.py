"""Large results that have arrived and that nobody has read yet: they are had whatever becomes of their process."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from concurry import Worker, WorkerDiedError, as_completed, gather, wait
from tests.transports.test_segments import mapped

SECONDS = 20.0
LARGE = 300_000  # bytes; through shared memory


class Makes(Worker):
    """Makes what is large."""

    def make(self, fill: int, size: int = LARGE) -> bytes:
        return bytes([fill]) * size

    def ones(self, fill: int) -> Any:
        return np.full(LARGE // 8, float(fill))

    def length(self, value: bytes) -> int:
        return len(value)

    def pid(self) -> int:
        return os.getpid()

    def die(self) -> None:
        os._exit(1)

    def hang(self) -> None:
        signal.pause()


def _stopped(worker: Any) -> None:
    worker.stop()


def _killed(worker: Any) -> None:
    pid = worker.pid().result(SECONDS)
    os.kill(pid, signal.SIGKILL)
    while worker.pid().exception(SECONDS) is not None:  # the one that it is told by
        pass
    assert worker.pid().result(SECONDS) != pid


def _died(worker: Any) -> None:
    assert isinstance(worker.die().exception(SECONDS), WorkerDiedError)


@pytest.mark.parametrize("end", [_stopped, _killed, _died])
@pytest.mark.parametrize("options", [{}, {"writable_arrays": True}, {"max_workers": 2}])
def test_they_outlive_their_process(process: Callable[..., Any], end: Callable[[Any], None], options: Any) -> None:
    before = mapped()
    worker = process(cls=Makes, **options)
    unread = [worker.make(fill) for fill in range(20)] + [worker.ones(fill) for fill in range(20)]
    wait(unread, timeout=SECONDS)
    end(worker)
    assert [future.result(0) for future in unread[:15]] == [bytes([fill]) * LARGE for fill in range(15)]
    arrays = [future.result(0) for future in unread[20:35]]
    assert [(array[0], array[-1]) for array in arrays] == [(fill, fill) for fill in range(15)]
    assert arrays[0].flags.writeable is bool(options.get("writable_arrays"))
    worker.stop()
    del unread, arrays  # some of them unread to the end
    gc.collect()
    assert mapped() <= before, "nothing of it is left"


def test_a_death_takes_no_results_along(process: Callable[..., Any]) -> None:
    worker = process(cls=Makes, max_workers=2, num_retries=1, retry_wait=0)
    futures = [worker.make(n) for n in range(100)]
    bad = worker.die()
    futures += [worker.make(n) for n in range(100, 200)]
    assert gather(futures, timeout=SECONDS) == [bytes([n]) * LARGE for n in range(200)]
    assert isinstance(bad.exception(SECONDS), WorkerDiedError)


@pytest.mark.parametrize("options", [{"max_calls_per_worker": 3}, {"on_demand": True, "max_workers": 2}])
def test_processes_that_end_in_the_ordinary_course(process: Callable[..., Any], options: Any) -> None:
    worker = process(cls=Makes, **options)
    futures = [worker.make(n) for n in range(12)]
    wait(futures, timeout=SECONDS)
    assert [len(future.result(0)) for future in as_completed(futures)] == [LARGE] * 12


def test_a_time_out_of_another_call(process: Callable[..., Any]) -> None:
    worker = process(cls=Makes, call_timeout={"hang": 0.2, "*": None})
    made, hangs = worker.make(7), worker.hang()
    assert isinstance(hangs.exception(SECONDS), TimeoutError)
    assert made.result(0) == bytes([7]) * LARGE


def test_as_an_argument_of_another(process: Callable[..., Any]) -> None:
    worker, other = process(cls=Makes), process(cls=Makes)
    made = worker.make(1)
    wait([made], timeout=SECONDS)
    worker.stop()
    assert other.length(made).result(SECONDS) == LARGE


class _Interrupts:
    """Its unpickling in the driver is interrupted once."""

    times = 0

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return _Interrupts._made, (self.data,)

    @staticmethod
    def _made(data: Any) -> Any:
        _Interrupts.times += 1
        if _Interrupts.times == 1:
            raise KeyboardInterrupt
        return _Interrupts(data)


class MakesOdd(Worker):
    def make(self) -> Any:
        return _Interrupts(np.ones(LARGE // 8))


def test_reading_that_was_interrupted_can_be_done_again(process: Callable[..., Any]) -> None:  # F16
    worker = process(cls=MakesOdd)
    _Interrupts.times = 0
    future = worker.make()
    with pytest.raises(KeyboardInterrupt):
        future.result(SECONDS)
    assert future.result(SECONDS).data.sum() == LARGE // 8


class _Large:
    """Its unpickling is interrupted once, in the driver: after its memory has been had."""

    times = 0

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return _Large._made, (self.data,)

    @staticmethod
    def _made(data: Any) -> Any:
        _Large.times += 1
        if _Large.times == 1:
            raise KeyboardInterrupt
        return _Large(data)


class MakesMany(Worker):
    def make(self, fill: int) -> Any:
        return _Large(np.full(LARGE // 8, float(fill)))


@pytest.mark.parametrize("writable", [False, True])
def test_another_result_does_not_take_its_place(process: Callable[..., Any], writable: bool) -> None:
    worker = process(cls=MakesMany, writable_arrays=writable)
    _Large.times = 0
    future = worker.make(1)
    with pytest.raises(KeyboardInterrupt):
        future.result(SECONDS)
    others = [worker.make(fill) for fill in (2, 3, 4)]
    assert [other.result(SECONDS).data[0] for other in others] == [2, 3, 4]
    assert (future.result(SECONDS).data == 1).all()


def test_an_interrupt_while_it_is_copied(process: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from concurry.transports import borrower

    worker = process(cls=Makes, writable_arrays=True)
    copy: Any = vars(borrower)["copy_bytearray"]
    future, times = worker.ones(1), list[int]()

    def interrupted(view: memoryview, *, punch: bool) -> Any:
        times.append(1)
        if len(times) == 1:
            raise KeyboardInterrupt
        return copy(view, punch=punch)

    wait([future], timeout=SECONDS)
    monkeypatch.setattr(borrower, "copy_bytearray", interrupted)
    with pytest.raises(KeyboardInterrupt):
        future.result(SECONDS)
    assert worker.ones(2).result(SECONDS)[0] == 2
    assert (future.result(SECONDS) == 1).all()
