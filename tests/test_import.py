"""`import concurry` is light: what not everybody needs is imported where it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = [
    "aiohttp",
    "asyncio",
    "cloudpickle",
    "IPython",
    "ipywidgets",
    "logging.config",
    "msgpack",
    "multiprocessing",
    "numpy",
    "pandas",
    "pydantic",
    "ray",
    "socket",
    "ssl",
    "subprocess",
    "tqdm",
    "zmq",
]


def fresh(program: str) -> str:
    """What `program` prints in a new interpreter without .pth files, which preload modules of their own."""
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    prelude = f"import os, site, sys; sys.path[:0] = {paths!r}\n"
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", prelude + program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "program", ["import concurry", "from concurry import Worker, gather", "from concurry import *"]
)
def test_what_is_heavy_stays_out(program: str) -> None:
    # The names are loaded when first asked for, so the bare import alone says little about what a user pays.
    loaded = set(fresh(f"{program}\nprint(*sys.modules)").split())
    assert "concurry" in loaded
    assert not loaded.intersection(HEAVY)


def test_it_starts_no_thread_and_opens_nothing() -> None:
    program = """
fds = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
import concurry, threading
now = set(os.listdir("/proc/self/fd")) if fds else set()
print(threading.active_count(), len(now) - len(fds))
"""
    assert fresh(program).split() == ["1", "0"]


def test_it_changes_nothing_of_the_users_process() -> None:
    program = """
import logging, signal, threading, warnings
def state():
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    return (handlers, logging.root.handlers[:], logging.root.level, list(warnings.filters), threading.excepthook,
            sys.excepthook, sys.unraisablehook, sys.path[:], dict(os.environ), sys.getswitchinterval())
before = state()
import concurry
after = state()
assert before == after, (before, after)
assert logging.getLogger("concurry").handlers in ([], [*filter(lambda h: isinstance(h, logging.NullHandler),
    logging.getLogger("concurry").handlers)])
print("same")
"""
    assert fresh(program).strip() == "same"
