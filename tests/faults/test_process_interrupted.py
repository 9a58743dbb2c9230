"""Ctrl-C, cancelled calls and limits of memory in process mode: the worker is as good as before."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from concurry import Worker

SECONDS = 20.0

_INTERRUPTED = """
import os, signal, threading
from concurry import Worker

class W(Worker):
    def poke_later(self, pid, work):
        # In the middle of whatever the caller does then: the amount of work decides where.
        threading.Thread(target=lambda: os.kill(pid, signal.SIGINT) if sum(range(work)) >= 0 else None).start()

    def echo(self, value):
        return value

worker = W.options(mode="process").init()
values = [7, b"x" * 6_000, b"y" * 400_000]
for n in range(150):
    value = values[0 if n % 5 else n // 5 % 3]
    try:
        worker.poke_later(os.getpid(), n * 997 % 40_000).result()
        while True:
            worker.echo(value).result()
    except KeyboardInterrupt:
        assert worker.echo(value).result(20) == value
worker.stop(timeout=5)
print("alive")
"""


def test_a_worker_lives_on_after_ctrl_c_in_result(script: Callable[[str], Any]) -> None:
    run = script(_INTERRUPTED)
    out, err = run.process.communicate(timeout=60)
    assert run.process.returncode == 0, (out, err)
    assert out.strip() == "alive"


class Refuses(Worker):
    """Makes what nobody wants any more."""

    def __init__(self) -> None:
        self.begun, self.asked = asyncio.Event(), asyncio.Event()

    async def array(self) -> Any:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.asked.set()
        return np.ones(1_000_000)

    async def has_begun(self) -> bool:
        return await self.begun.wait()

    async def was_asked(self) -> bool:
        return await self.asked.wait()


def test_memory_of_results_that_nobody_wants_comes_back(process: Callable[..., Any]) -> None:
    worker = process(cls=Refuses, max_concurrency=4)
    pool = worker.__dict__["_pool"]
    channel = pool.members[0].channel
    over: list[int] = []
    freed = channel.memory.freed

    def told(serials: list[int]) -> None:
        over.extend(serials)
        freed(serials)

    channel.memory.freed = told
    future = worker.array()
    assert worker.has_begun().result(SECONDS)
    assert future.cancel()
    for _ in range(3):  # round trips: what came before the last of them has been handled
        assert worker.was_asked().result(SECONDS)
        gc.collect()
    assert over, "the loan of the array that was dropped unread is over"


class Large(Worker):
    """Needs more than it may have before it has done anything."""

    def __init__(self) -> None:
        self.model = bytearray(60_000_000)

    def pid(self) -> int:
        return os.getpid()


def test_an_object_above_the_limit_of_memory_still_does_a_call_each(process: Callable[..., Any]) -> None:
    worker = process(cls=Large, max_memory_per_worker=20_000_000)
    pids = [worker.pid().result(SECONDS) for _ in range(3)]
    assert len(set(pids)) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_script_that_ends_with_its_process_group_leaves_no_folder(script: Callable[[str], Any], number: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))  # short: a socket's path has 107 bytes
    run = script(f"""
import os, signal
os.environ["TMPDIR"] = {str(folder)!r}
from concurry import Worker

class W(Worker):
    def wait(self):
        print("waits", flush=True)
        signal.pause()

worker = W.options(mode="process").init()
worker.wait().result()
""")
    assert run.process.stdout.readline().strip() == "waits"
    (made,) = folder.iterdir()
    left = {os.pidfd_open(each.pid) for each in psutil.Process(run.process.pid).children(recursive=True)}
    os.killpg(run.process.pid, number)
    run.process.communicate(timeout=SECONDS)
    for pidfd in left:
        assert select.select([pidfd], [], [], SECONDS)[0], "they notice that the script is gone"
        os.close(pidfd)
    assert not made.exists()
    folder.rmdir()
