"""Records of the logger `concurry` have the fields `worker`, `call` and `attempt`, known or not."""

from __future__ import annotations

import io
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from concurry import RateLimit, Worker

FORMAT = "%(worker)s|%(call)s|%(attempt)s|%(message)s"


class Odd(Worker):
    def __init__(self) -> None:
        self.asked = 0

    def flaky(self) -> int:
        self.asked += 1
        if self.asked < 3:
            raise ConnectionError("refused")
        return self.asked

    def leave(self) -> None:
        os._exit(3)

    def pid(self) -> int:
        return os.getpid()

    def thread_name(self) -> str:
        return threading.current_thread().name

    async def thread_name_later(self) -> str:
        return threading.current_thread().name

    def stop(self) -> None:
        raise OSError("cannot close")


@pytest.mark.parametrize("mode", ["sync", "thread", "asyncio"])
def test_each_retry(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "concurry")
    options: dict[str, Any] = {"num_retries": 3, "retry_wait": 0.01, "retry_jitter": 0, "retry_algorithm": "fixed"}
    with Odd.options(mode=mode, **options).init() as odd:
        assert odd.flaky().result(20) == 3
    found: list[Any] = [record for record in caplog.records if "again in" in record.getMessage()]
    assert [(it.worker, it.call, it.attempt, it.levelname) for it in found] == [
        ("Odd", "flaky", 1, "INFO"),
        ("Odd", "flaky", 2, "INFO"),
    ]
    assert "ConnectionError: refused; again in 0.01 s" in found[0].getMessage()
    last: Any = caplog.records[-1]
    assert (last.worker, last.call, last.attempt) == ("Odd", "stop", None)


class Heard(logging.Handler):
    """The records of `concurry`, for who waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self._records: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def emit(self, record: Any) -> None:
        self._records.put(record)

    def next_with(self, words: str) -> Any:
        while words not in (record := self._records.get(timeout=60)).getMessage():
            pass
        return record


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler = Heard()
    logging.getLogger("concurry").addHandler(handler)
    yield handler
    logging.getLogger("concurry").removeHandler(handler)


def test_a_death_names_its_worker_and_its_call(heard: Heard) -> None:
    with Odd.options(mode="process", max_workers=2).init() as odd:
        odd.leave().exception(20)
        found = heard.next_with("started again")  # after its calls have ended
    assert found.worker in ("Odd[0]", "Odd[1]")
    assert found.call == "leave"
    assert found.getMessage() == f"{found.worker} died (exit code 3) while running leave(); it is started again now"


def test_a_death_of_an_idle_worker_names_no_call(heard: Heard) -> None:
    with Odd.options(mode="process").init() as odd:
        os.kill(odd.pid().result(20), signal.SIGKILL)
        found = heard.next_with("started again")
    assert found.call is None
    assert found.getMessage().startswith("Odd died (SIGKILL); it is started again")


def test_the_name_of_the_thread_tells_the_worker(options: dict[str, Any]) -> None:
    if options["mode"] == "sync":
        pytest.skip("it is the caller's own thread")
    with Odd.options(**options).init() as odd:
        names = [odd.thread_name().result(20), odd.thread_name_later().result(20)]
    assert all(name.startswith("concurry: Odd") for name in names), names


def test_a_format_with_the_fields_for_the_records_of_everybody() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT, defaults={"worker": None, "call": None, "attempt": None}))
    log = logging.getLogger("somebody else")
    log.addHandler(handler)
    try:
        log.warning("said")
    finally:
        log.removeHandler(handler)
    assert stream.getvalue() == "None|None|None|said\n"


def test_a_late_call_names_itself(heard: Heard) -> None:
    class Slow(Worker):
        def hang(self) -> None:
            threading.Event().wait(0.5)

    with Slow.options(mode="thread", call_timeout=0.05).init() as slow:
        assert isinstance(slow.hang().exception(20), TimeoutError)
        found = heard.next_with("")
    assert (found.worker, found.call) == ("Slow", "hang")


def test_a_format_may_name_the_fields_in_every_record() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(FORMAT))
    log = logging.getLogger("concurry")
    log.addHandler(handler)
    try:
        RateLimit(key="k", window_seconds=1, capacity=1)
        log.warning("of nothing")
    finally:
        log.removeHandler(handler)
    assert stream.getvalue() == "None|None|None|of nothing\n"


@pytest.mark.parametrize("what", ["from concurry import RateLimit", "import concurry.config", "import concurry.retry"])
def test_the_fields_are_there_with_whatever_is_loaded_first(what: str) -> None:
    code = (
        f"import logging; logging.basicConfig(format={FORMAT!r}); logging.raiseExceptions = True\n{what}\n"
        "logging.getLogger('concurry').warning('here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "None|None|None|here\n"
