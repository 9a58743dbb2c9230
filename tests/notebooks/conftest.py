"""A real Jupyter kernel, as a notebook's front end sees it: cells go in, messages come out.

Guarantees: a kernel is this interpreter's ipykernel in a folder of its own, with no configuration of the user's. What
it has started, children of children included, is known by a mark in the environment, so that the tests can tell what
is left of it. At the end of its tests it is gone, and so are they.
Assumes: one cell is asked for at a time. Its messages are waited for, never slept for: a kernel that says nothing any
more is ended by the two minutes that any test has.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).resolve().parents[2]
MARK = "CONCURRY_TEST_KERNEL"


@dataclass
class Cell:
    """What one cell came to: the text of both streams, the value of its last line, its error, and its widgets."""

    printed: str = ""
    said: str = ""  # on the standard error
    value: str | None = None
    error: tuple[str, str] | None = None  # its type's name, and its text
    traceback: str = ""
    shown: list[dict[str, Any]] = field(default_factory=list)  # what was displayed, by MIME type
    beside_bars: str = ""  # every text that its widgets have had

    def good(self) -> Cell:
        """This, where nothing was raised."""
        assert self.error is None, self.traceback
        return self


class Kernel:
    """One kernel and its only front end."""

    def __init__(self, folder: Path) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = folder
        # Of pytest's, too: by one of them ipykernel sees that it is tested, and does less.
        left_out = ("JUPYTER_", "IPYTHON", "PYTEST_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        env |= {"IPYTHONDIR": str(folder), "JUPYTER_CONFIG_DIR": str(folder), "JUPYTER_PLATFORM_DIRS": "1"}
        env |= {"PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1", MARK: self.mark}
        self._started = {"cwd": str(folder), "env": env}
        # Sockets in its folder: a port that is free now may be somebody else's when the kernel binds it.
        self.manager: Any = KernelManager(transport="ipc", connection_file=str(folder / "kernel.json"))
        self.manager.shutdown_wait_time = 60  # seconds, as on a busy machine; then it would be killed
        # ipykernel's own, whatever else is installed. Warnings of concurry's are errors here as well.
        command = [sys.executable, "-W", "error:::concurry", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self.manager._kernel_spec = KernelSpec(argv=command, display_name="Python", language="python")
        self.widgets: dict[str, dict[str, Any]] = {}  # the state of every one, as its front end knows it

    def start(self) -> None:
        self.manager.start_kernel(**self._started)
        self._connect()

    def _connect(self) -> None:
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels(hb=False)  # without the heartbeat, which is a thread that looks again and again
        self.client.wait_for_ready()

    def restart(self, *, now: bool) -> None:
        """As the front end's button does; `now`: it is killed, as where it does not answer."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=now)
        self._connect()

    def shutdown(self, *, now: bool = False) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=now)

    def close(self) -> None:
        self.manager.cleanup_resources()
        self.manager.context.destroy(linger=0)

    def run(self, code: str, interrupt_at: str | None = None) -> Cell:
        """Run a cell to its end.

        Args:
            interrupt_at: the kernel is interrupted, once, when this has been printed, or stands beside a bar.
        """
        asked = self.client.execute(code)
        cell = Cell()
        while True:
            message = self.client.get_iopub_msg(timeout=100)
            kind, content = message["msg_type"], message["content"]
            self._follow_widgets(kind, content, cell)
            if message["parent_header"].get("msg_id") != asked:
                continue
            if kind == "stream" and content["name"] == "stdout":
                cell.printed += content["text"]
            elif kind == "stream":
                cell.said += content["text"]
            elif kind == "display_data":
                cell.shown.append(content["data"])
            elif kind == "execute_result":
                cell.value = content["data"]["text/plain"]
            elif kind == "error":
                cell.error = content["ename"], content["evalue"]
                cell.traceback = "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                break
            if interrupt_at is not None and interrupt_at in cell.printed + cell.said + cell.beside_bars:
                interrupt_at = None
                self.manager.interrupt_kernel()
        while self.client.get_shell_msg(timeout=100)["parent_header"]["msg_id"] != asked:
            pass  # another answer to the question whether it is ready, which was asked more than once
        assert interrupt_at is None, f"{interrupt_at!r} was never printed: {cell}"
        return cell

    def _follow_widgets(self, kind: str, content: dict[str, Any], cell: Cell) -> None:
        if kind == "comm_open":
            self.widgets[content["comm_id"]] = dict(content["data"].get("state", {}))
        elif kind == "comm_msg" and content["data"].get("method") == "update":
            self.widgets.setdefault(content["comm_id"], {}).update(content["data"]["state"])
            cell.beside_bars += f"{content['data']['state'].get('value', '')}\n"

    def bars(self, cell: Cell) -> list[Bar]:
        """The bars that a cell shows, in order."""
        views = [data["application/vnd.jupyter.widget-view+json"] for data in cell.shown if VIEW in data]
        return [Bar(self.widgets, view["model_id"]) for view in views]

    # -- its processes --------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Itself and all that it has started, directly or not."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
            except psutil.Error:  # ended meanwhile, or another user's
                continue
        return found


VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Bar:
    """A bar as the front end shows it."""

    widgets: dict[str, dict[str, Any]]
    box: str

    def _part(self, number: int) -> dict[str, Any]:
        return self.widgets[self.widgets[self.box]["children"][number].removeprefix("IPY_MODEL_")]

    @property
    def text(self) -> str:
        return str(self._part(0)["value"]).replace("\u2007", " ")

    @property
    def counts(self) -> str:
        return str(self._part(2)["value"]).replace("\u2007", " ").split("[")[0].strip()

    @property
    def color(self) -> str:
        style = self.widgets[self._part(1)["style"].removeprefix("IPY_MODEL_")]
        return str(style["bar_color"])


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are there yet, when all have had a minute to end."""
    return list(psutil.wait_procs(processes, timeout=60)[1])


@pytest.fixture
def gone() -> Callable[[list[psutil.Process]], list[psutil.Process]]:
    """Waits until processes are gone, and returns those that are not."""
    return still_there


@contextmanager
def kernels(folder: Callable[[], Path]) -> Iterator[Callable[[], Kernel]]:
    """Makes kernels, and ends them."""
    made: list[Kernel] = []

    def make() -> Kernel:
        made.append(Kernel(folder()))
        made[-1].start()
        return made[-1]

    try:
        yield make
    finally:
        left = []
        for kernel in made:
            if kernel.manager.has_kernel:
                kernel.shutdown(now=True)
            left += still_there(kernel.processes())
            kernel.close()
    assert not left


@pytest.fixture
def new_kernel(tmp_path: Path) -> Iterator[Callable[[], Kernel]]:
    """Makes one for a test that ends it."""
    with kernels(lambda: tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One for all tests of a module that leave it as it was."""
    with kernels(lambda: tmp_path_factory.mktemp("kernel")) as make:
        yield make()
