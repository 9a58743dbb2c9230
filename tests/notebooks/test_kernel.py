"""concurry in a real notebook: classes of cells, awaiting, interrupting, bars, and the end of the kernel.

Most tests share one kernel, as the cells of one notebook do; what ends a kernel has one of its own.
"""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.with_ray import WITH_RAY

MODES = ["sync", "thread", "asyncio", "process", *(["ray"] if WITH_RAY else [])]
BEHIND = [mode for mode in MODES if mode != "sync"]  # their calls run while the cell goes on

BLUE, GREEN, RED, GREY = "#0288d1", "#43a047", "#e53935", "#757575"

RAY = """
import ray, warnings
warnings.simplefilter("ignore")  # its own
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir={!r})
"""

SETUP = """
import asyncio, dataclasses, os
from concurry import LimitSet, ProgressBar, RateLimit, ResourceLimit, Worker, async_gather, gather

@dataclasses.dataclass
class Point:
    x: int

shift = 10

class Works(Worker):
    def add(self, x):
        return x + shift

    async def add_async(self, x):
        await asyncio.sleep(0)
        return x + shift

    def point(self, x):
        return Point(x)

    def limited(self, x):
        with self.limits.acquire(requested={"tokens": 2}) as acq:
            acq.update(usage={"tokens": 1})
        return x

os.mkfifo("gate")

class Hangs(Worker):
    def quick(self, x):
        return x

    def hang(self, x):
        os.close(os.open("gate", os.O_RDONLY))  # until the other end is open
        return x

    async def hang_async(self, x):
        await asyncio.Event().wait()

def open_gate():
    return os.open("gate", os.O_RDWR)  # what waits there goes on, and what comes later does not wait

def options_of(mode, pooled=False):
    more = {"num_cpus": 0} if mode == "ray" else {}
    return {"mode": mode, **more, **({"max_workers": 2} if pooled and mode not in ("sync", "asyncio") else {})}
"""


@pytest.fixture(scope="module")
def notebook(kernel: Any) -> Iterator[Any]:
    """The shared kernel with the first cells run."""
    kernel.run(SETUP).good()
    if not WITH_RAY:
        yield kernel
        return
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        kernel.run(RAY.format(folder)).good()
        yield kernel
        kernel.run("ray.shutdown()")


def value(cell: Any) -> Any:
    """What a cell's last line came to."""
    assert cell.good().value is not None
    return ast.literal_eval(cell.value)


# -- classes of cells -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_class_of_a_cell(notebook: Any, mode: str) -> None:
    cell = notebook.run(f"""
with Works.options(**options_of({mode!r})).init() as works:
    points = gather([works.point(n) for n in range(3)])
    sums = gather([works.add(n) for n in range(3)])
    found = [sums, works.add_async(5).result(), points == [Point(0), Point(1), Point(2)]]
found""")
    assert value(cell) == [[10, 11, 12], 15, True]


@pytest.mark.parametrize("mode", MODES)
def test_a_class_that_a_later_cell_defines_anew(notebook: Any, mode: str) -> None:
    first = "class Changes(Worker):\n    def version(self):\n        return 1\n"
    notebook.run(f"{first}old = Changes.options(**options_of({mode!r})).init()").good()
    second = first.replace("return 1", "return 2")
    notebook.run(f"{second}new = Changes.options(**options_of({mode!r})).init()").good()
    # A worker stays what it was made of, as any object does.
    assert value(notebook.run("gather(old.version(), new.version(), old.version())")) == [1, 2, 1]
    notebook.run("old.stop(); new.stop()").good()


@pytest.mark.parametrize("mode", MODES)
def test_awaiting_at_the_top_of_a_cell(notebook: Any, mode: str) -> None:
    notebook.run(f"works = Works.options(**options_of({mode!r})).init()").good()
    assert value(notebook.run("await works.add(1)")) == 11
    assert value(notebook.run("await works.add_async(2)")) == 12
    assert value(notebook.run("await async_gather([works.add_async(n) for n in range(3)])")) == [10, 11, 12]
    assert value(notebook.run("await async_gather({'a': works.add(1), 'b': asyncio.sleep(0, 'slept')})")) == {
        "a": 11,
        "b": "slept",
    }
    # And without: the cell's own loop waits meanwhile, and nothing needs it.
    assert value(notebook.run("gather([works.add_async(n) for n in range(3)])")) == [10, 11, 12]
    notebook.run("async with works:\n    pass").good()


@pytest.mark.parametrize("mode", MODES)
def test_limits_made_in_a_cell(notebook: Any, mode: str) -> None:
    assert value(
        notebook.run(f"""
tokens = RateLimit(key="tokens", window_seconds=60, capacity=100)
limits = LimitSet(limits=[tokens, ResourceLimit(key="slots", capacity=1)])
with Works.options(**options_of({mode!r}), limits=limits).init() as works:
    found = gather([works.limited(n) for n in range(5)])
async with limits.acquire(requested={{"tokens": 3}}) as acq:
    acq.update(usage={{"tokens": 3}})
[found, limits["tokens"].get_stats()["available"], limits["slots"].get_stats()["available"]]""")
    ) == [[0, 1, 2, 3, 4], 92, 1]


def test_what_a_class_needs_and_cannot_be_sent_is_named(notebook: Any) -> None:
    cell = notebook.run("""
import threading
lock = threading.Lock()
class Locks(Worker):
    def locked(self):
        return lock.locked()
Locks.options(mode="process").init()""")
    assert cell.error is not None
    assert cell.error[0] == "EncodeError"
    assert "cannot pickle '_thread.lock' object" in cell.error[1]
    assert "Make what cannot be pickled" in cell.error[1]


# -- bars -------------------------------------------------------------------------------------------------------------


def test_bars_are_widgets(notebook: Any) -> None:
    cell = notebook.run("""
works = Works.options(mode="thread").init()
gather([works.add(n) for n in range(4)], progress={"desc": "all"})
for n in ProgressBar(range(5), desc="left"):
    if n == 2:
        break
try:
    gather([works.add(1), works.add("x")], progress={"desc": "bad"})
except TypeError:
    pass
await async_gather([works.add(n) for n in range(4)], progress={"desc": "awaited"})
works.stop()""")
    bars = notebook.bars(cell.good())
    assert [(bar.text.split(":")[0], bar.color) for bar in bars] == [
        ("all", GREEN),
        ("left", GREY),
        ("bad", RED),
        ("awaited", GREEN),
    ]
    assert [bars[0].counts, bars[1].counts, bars[3].counts] == ["4/4", "2/5", "4/4"]
    assert (cell.printed, cell.said) == ("", "")


def test_a_bar_as_text(notebook: Any) -> None:
    cell = notebook.run("""
with Works.options(mode="thread").init() as works:
    gather([works.add(n) for n in range(4)], progress={"desc": "all", "style": "std"})""").good()
    assert cell.shown == []
    assert cell.said.startswith("\rall:")
    last = cell.said.rpartition("\r")[2]
    assert "4/4" in last
    assert last.endswith("\n")
    assert "\x1b" not in last  # a notebook is no terminal


# -- interrupting -----------------------------------------------------------------------------------------------------

# The bar draws each count, so that the front end sees when the first call has ended: from then on the cell waits.
EACH = '{"mininterval": 0, "miniters": 1}'


@pytest.mark.parametrize("mode", BEHIND)
def test_interrupting_a_gather(notebook: Any, mode: str) -> None:
    notebook.run(f"hangs = Hangs.options(**options_of({mode!r}, pooled=True)).init()").good()
    notebook.run("futures = [hangs.quick(0), hangs.hang(1), hangs.hang(2), hangs.quick(3)]").good()
    cell = notebook.run(f"gather(futures[:3], progress={EACH})", interrupt_at="1/3")
    assert cell.error is not None
    assert cell.error[0] == "KeyboardInterrupt"
    [bar] = notebook.bars(cell)
    assert (bar.color, bar.counts) == (RED, "1/3")
    # Nothing has happened to the calls: they go on, and may be waited for again.
    assert value(notebook.run("[futures[0].done(), futures[1].done(), futures[2].cancelled()]")) == [True, False, False]
    cell = notebook.run("gate = open_gate(); found = gather(futures, progress=True); os.close(gate); found")
    assert value(cell) == [0, 1, 2, 3]
    [bar] = notebook.bars(cell)
    assert (bar.color, bar.counts) == (GREEN, "4/4")
    assert value(notebook.run("gather([hangs.quick(n) for n in range(10)])")) == list(range(10))
    notebook.run("hangs.stop()").good()


@pytest.mark.parametrize("mode", BEHIND)
def test_interrupting_an_awaited_gather(notebook: Any, mode: str) -> None:
    notebook.run(f"hangs = Hangs.options(**options_of({mode!r}, pooled=True), max_concurrency=4).init()").good()
    notebook.run("futures = [hangs.quick(0), hangs.hang_async(1), hangs.hang_async(2)]").good()
    cell = notebook.run(f"await async_gather(futures, progress={EACH})", interrupt_at="1/3")
    assert cell.error is not None
    assert cell.error[0] in ("CancelledError", "KeyboardInterrupt")  # as the version of ipykernel has it
    [bar] = notebook.bars(cell)
    assert (bar.color, bar.counts) == (RED, "1/3")
    # As with asyncio.gather, what it waited for is cancelled.
    assert value(notebook.run("[future.cancelled() for future in futures]")) == [False, True, True]
    # A single one as well. Until it awaits, ipykernel keeps the interrupt for then.
    cell = notebook.run("print('asked', flush=True)\nawait hangs.hang_async(3)", interrupt_at="asked")
    assert cell.error is not None
    assert cell.error[0] in ("CancelledError", "KeyboardInterrupt")
    assert value(notebook.run("await async_gather([hangs.quick(n) for n in range(10)])")) == list(range(10))
    notebook.run("hangs.stop()").good()


def test_interrupting_a_call_in_the_cells_own_thread(notebook: Any) -> None:
    notebook.run("hangs = Hangs.options(mode='sync').init()").good()
    cell = notebook.run(f"for n in ProgressBar(range(3), **{EACH}):\n    n and hangs.hang(n)", interrupt_at="1/3")
    assert cell.error is not None
    assert cell.error[0] == "KeyboardInterrupt"
    [bar] = notebook.bars(cell)
    assert (bar.color, bar.counts) == (RED, "1/3")
    assert value(notebook.run("hangs.quick(1).result()")) == 1
    notebook.run("hangs.stop()").good()


def test_a_bar_of_text_that_was_interrupted_ends_its_line(notebook: Any) -> None:
    notebook.run("hangs = Hangs.options(mode='thread').init(); futures = [hangs.quick(0), hangs.hang(1)]").good()
    cell = notebook.run(f"gather(futures, progress={EACH[:-1]}, 'style': 'std'}})", interrupt_at="1/2")
    assert cell.error is not None
    assert cell.error[0] == "KeyboardInterrupt"
    assert cell.said.endswith("\n")
    assert "1/2" in cell.said.rpartition("\r")[2]
    notebook.run("os.close((open_gate(), hangs.stop())[0])").good()


def test_interrupting_a_with_block_stops_its_worker(notebook: Any) -> None:
    cell = notebook.run(
        f"""
with Hangs.options(mode="process", exit_timeout=0).init() as hangs:
    gather([hangs.quick(0), hangs.hang(1)], progress={EACH})""",
        interrupt_at="1/2",
    )
    assert cell.error is not None
    assert cell.error[0] == "KeyboardInterrupt"
    assert value(notebook.run("hangs.is_alive()")) is False


# -- the end of a kernel ----------------------------------------------------------------------------------------------

BUSY = """
import atexit
atexit.register(lambda: open("ended", "x").close())  # the first to register is the last to be called
workers = [Hangs.options(**options_of(mode, pooled=True)).init() for mode in ("sync", "thread", "asyncio", "process")]
gather([worker.quick(1) for worker in workers])
futures = [worker.hang(2) for worker in workers[1:]]
"""


@pytest.mark.slow
def test_a_kernel_that_is_shut_down_leaves_nothing(new_kernel: Callable[[], Any], gone: Callable[..., Any]) -> None:
    kernel = new_kernel()
    kernel.run(SETUP + BUSY).good()
    processes = kernel.processes()
    assert len(processes) >= 3  # itself, and two that work
    kernel.shutdown()
    assert gone(processes) == []
    assert kernel.processes() == []
    assert (kernel.folder / "ended").exists()  # by itself, and not because it was killed


@pytest.mark.slow
@pytest.mark.parametrize("now", [False, True], ids=["asked", "killed"])
def test_a_kernel_that_is_restarted(now: bool, new_kernel: Callable[[], Any], gone: Callable[..., Any]) -> None:
    kernel = new_kernel()
    kernel.run(SETUP + BUSY).good()
    before = kernel.processes()
    kernel.restart(now=now)
    assert gone(before) == []
    assert kernel.run("Works").error is not None  # nothing of before is there
    kernel.run("import os; os.remove('gate')").good()
    kernel.run(SETUP).good()
    cell = kernel.run("with Works.options(mode='process').init() as works:\n    found = works.add(1).result()\nfound")
    assert value(cell) == 11
