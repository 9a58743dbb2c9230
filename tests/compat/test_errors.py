"""The errors: one hierarchy, each of which can be pickled, and the kinds that callers catch."""

from __future__ import annotations

import concurrent.futures
import pickle

import pytest

import concurry
from concurry import ConcurryError, WorkerDiedError, WorkerError

OF_WORKERS = """
    WorkerDiedError WorkerStoppedError WorkerInitError RestartIntensityError MailboxFullError DeadlockError
    ForkedHandleError
"""
OTHERS = "WorkerError RemoteError RemoteBaseError RetryValidationError EncodeError ProtocolError"


@pytest.mark.parametrize("name", OF_WORKERS.split())
def test_errors_of_workers(name: str) -> None:
    assert issubclass(getattr(concurry, name), WorkerError)


@pytest.mark.parametrize("name", OTHERS.split())
def test_all_have_one_root(name: str) -> None:
    assert issubclass(getattr(concurry, name), ConcurryError)
    assert issubclass(getattr(concurry, name), Exception)


@pytest.mark.parametrize("name", (OF_WORKERS + OTHERS).split())
def test_each_can_be_pickled(name: str) -> None:
    error = getattr(concurry, name)("who did what; what to do")
    error.note = 5
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args, again.note) == (type(error), error.args, 5)


def test_a_death_keeps_what_it_carries() -> None:
    error = WorkerDiedError("gone", worker="W[0]", method="run", pid=7, signal="SIGKILL")
    again = pickle.loads(pickle.dumps(error))
    assert (again.worker, again.method, again.pid, again.signal) == ("W[0]", "run", 7, "SIGKILL")


def test_the_kinds_that_callers_catch() -> None:
    assert issubclass(concurry.WorkerStoppedError, RuntimeError)
    assert issubclass(concurry.LimitStateError, RuntimeError)
    assert issubclass(concurry.LimitValueError, ValueError)
    assert issubclass(concurry.TimerError, Exception)


def test_timeouts_and_cancelling_are_the_standard_ones() -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    with pytest.raises(TimeoutError):
        concurry.gather([future], timeout=0)
    future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        concurry.gather([future])
