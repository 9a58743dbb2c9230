"""The rules of the house: files stay small, imports go down a floor and never up, a leak or a hang fails a test run,
and the benchmarks are judged as they say.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks._beside import pairs, row
from benchmarks.run import verdict

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"concurry": 2, "runtime": 1, "transports": 0}
LONGEST = 410  # lines; "under some 400"


def sources() -> list[Path]:
    # rglob does not follow concurry/runtime and concurry/transports, which are links
    return sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py") if "__pycache__" not in path.parts)


def floor_of(module: str) -> int | None:
    """The floor of an absolute import; None for what is not ours."""
    parts = module.split(".")
    if parts[0] != "concurry":
        return None
    return FLOORS.get(parts[1], 2) if len(parts) > 1 else 2


def imported(path: Path) -> list[tuple[int, str]]:
    """(line, module) of each import, also of those inside functions and under TYPE_CHECKING."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; write the full name"
            # `from concurry import runtime` names a floor as well
            prefix = node.module or ""
            found += [
                (node.lineno, f"{prefix}.{alias.name}" if prefix == "concurry" else prefix) for alias in node.names
            ]
    return found


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert len(lengths) > 10
    assert not {path: lines for path, lines in lengths.items() if lines > LONGEST}


def test_imports_never_go_up_a_floor() -> None:
    upward = []
    for path in sources():
        own = FLOORS[path.relative_to(ROOT).parts[0]]
        for line, module in imported(path):
            floor = floor_of(module)
            if floor is not None and floor > own:
                upward.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert not upward


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(path.relative_to(ROOT)) for path in sources() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


LEAKY = """
import asyncio, os, subprocess, sys, threading
import pytest

held = []
SHM = f"/dev/shm/concurry-left-{os.getpid()}"

def test_good():
    threading.Thread(target=print).start()  # ends by itself: joined, not reported
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)

def test_thread():
    stop = threading.Event()
    held.append(stop)
    threading.Thread(target=stop.wait, name="left-over", daemon=True).start()

def test_child():
    held.append(subprocess.Popen(["sleep", "30"]))

def test_zombie():
    held.append(subprocess.Popen(["true"]))

def test_descriptor():
    held.append(os.pipe())

def test_loop():
    held.append(asyncio.new_event_loop())

def test_shared_memory():
    with open(SHM, "w"):
        pass

def test_dropped_coroutine():
    async def nothing(): pass
    nothing()

@pytest.mark.leaks("to see that it may")
def test_may():
    held.append(os.pipe())

@pytest.mark.leaks
def test_no_reason():
    pass

def test_clean_up():
    held[0].set()
    held[1].kill(), held[1].wait(), held[2].wait()
    held[4].close()
    os.unlink(SHM)
    for pipe in (held[3], held[5]):
        os.close(pipe[0]), os.close(pipe[1])
"""
HANGING = """
import threading

def test_hangs():
    threading.Event().wait()
"""


def run_pytest(folder: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `source` as a test file under this house's configuration and conftest, in a process of its own."""
    conftest = (ROOT / "tests" / "conftest.py").read_text()
    assert "GRACE_S = 2.0" in conftest
    (folder / "conftest.py").write_text(conftest.replace("GRACE_S = 2.0", "GRACE_S = 0.3"))
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-q"]
    command += ["-p", "no:cacheprovider", *arguments, str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no /dev/shm to leave anything in")
def test_what_a_test_leaves_behind_fails_it(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, LEAKY, "-rA")
    said = done.stdout
    for name in ("thread", "child", "zombie", "descriptor", "loop", "shared_memory", "no_reason"):
        assert f"ERROR test_it.py::test_{name}" in said, said
    assert "FAILED test_it.py::test_dropped_coroutine" in said, said
    for name in ("good", "may", "clean_up"):
        assert f"PASSED test_it.py::test_{name}" in said, said
        assert f"ERROR test_it.py::test_{name}" not in said, said
    for what in (
        "thread 'left-over' (daemon): threading.py",
        "sleep 30",
        "zombie",
        "pipe:[",
        "/dev/shm/concurry-left",
        "needs its reason",
    ):
        assert what in said, said


@pytest.mark.slow
def test_a_hanging_test_ends_the_run_with_stacks(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, HANGING, "-o", "faulthandler_timeout=0.5")
    assert done.returncode == 1, done.stdout
    assert "Timeout (0:00:00.5" in done.stderr, done.stderr
    assert "in test_hangs" in done.stderr, done.stderr


# -- the benchmarks' runner -------------------------------------------------------------------------------------------

ROW = {"name": "n", "ours": 2.0, "other": 1.0, "ratio": 2.0, "unit": "s", "better": "higher", "at_least": 2, "aim": 4}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "ok"),
        ({"ratio": 1.99}, "MISSED"),
        ({"ratio": 4.0}, "aim"),
        ({"ratio": float("nan")}, "MISSED"),
        ({"at_least": None}, "-"),
        ({"at_least": None, "aim": None}, "-"),
        ({"better": "lower", "at_least": 2, "aim": 1}, "ok"),
        ({"better": "lower", "at_least": 2, "aim": 1, "ratio": 2.01}, "MISSED"),
        ({"better": "lower", "at_least": 2, "aim": 1, "ratio": 0.5}, "aim"),
        ({"better": "lower", "at_least": 2, "aim": 0, "ratio": 0.0}, "aim"),
        ({"ratio": None, "other": None, "ours": 3.0}, "ok"),
        ({"ratio": None, "other": None, "ours": 60.1, "better": "lower", "at_least": 60, "aim": None}, "MISSED"),
    ],
)
def test_a_row_is_judged_by_its_ratio_or_by_itself(change: dict[str, object], expected: str) -> None:
    assert verdict({**ROW, **change}) == expected


def test_a_pair_is_measured_by_turns() -> None:
    calls: list[str] = []

    def measured(who: str, value: float) -> float:
        calls.append(who)
        return value

    pair = pairs(lambda: measured("ours", 3.0), lambda: measured("other", 2.0), repeat=3)
    assert (pair.ours, pair.other, pair.ratio) == (3.0, 2.0, 1.5)
    assert calls == ["ours", "other", "ours", "other", "other", "ours", "ours", "other"]
    assert row("n", pair, unit="s", better="lower")["ratio"] == 1.5
    assert row("n", 7, unit="s", better="lower")["ratio"] is None


BENCHES = {
    "bench_misses": f"def rows(quick): return [{ROW | {'ratio': 1.0}!r}]",
    "bench_reaches": f"def rows(quick): return [{ROW!r}]",
    "bench_crashes": "def rows(quick): raise OSError('boom')",
    "bench_forgets": "def rows(quick): return [{'name': 'n'}]",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--only", "reaches"], 0, "ok"),
        (["--only", "misses"], 1, "missed: n"),
        (["--only", "misses", "--quick"], 0, "MISSED"),
        (["--only", "crashes", "--only", "reaches", "--quick"], 1, "crashed: bench_crashes"),
        (["--only", "forgets"], 1, "crashed: bench_forgets"),
        (["--only", "nobody"], 2, "no benchmark's name contains nobody"),
    ],
)
def test_what_the_runner_says(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name in ("run.py", "_beside.py"):
        (folder / name).write_text((ROOT / "benchmarks" / name).read_text())
    for name, source in BENCHES.items():
        (folder / f"{name}.py").write_text(source)
    command = [sys.executable, str(folder / "run.py"), "--json", str(tmp_path / "out.json"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    if code < 2:
        judged = json.loads((tmp_path / "out.json").read_text())
        assert [item["verdict"] for item in judged["rows"]] == ["ok"] * ("reaches" in arguments) + ["MISSED"] * (
            "misses" in arguments
        )
