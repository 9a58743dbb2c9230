"""Work for the processor, on as many processes as there are cores: which names does the standard library use most?

    python examples/cpu_pool.py                # every module: one process, ProcessPoolExecutor, concurry
    python examples/cpu_pool.py --quick        # the first 40 of them
    python examples/cpu_pool.py --processes 8

Every source file is tokenized, which is pure Python. The three must come to the same counts, or the exit code is 1.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import sysconfig
import time
import tokenize
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from concurry import Worker, WorkerDiedError, gather

Counts = list[Counter[str]]  # one a file


class Tokenizer(Worker):
    def count(self, path: Path) -> Counter[str]:
        return count(path)


def count(path: Path) -> Counter[str]:
    """How often each name stands in a source file, keywords included."""
    with tokenize.open(path) as file:
        return Counter(it.string for it in tokenize.generate_tokens(file.readline) if it.type == tokenize.NAME)


def in_one_process(paths: list[Path], _: int) -> Counts:
    return [count(path) for path in paths]


def with_concurry(paths: list[Path], processes: int) -> Counts:
    # A file whose process is killed is done again by another one, and the others do not notice. Try it: kill -9.
    options = Tokenizer.options(mode="process", max_workers=processes, num_retries=1, retry_on=WorkerDiedError)
    with options.init() as tokenizer:
        counts: Counts = gather([tokenizer.count(path) for path in paths], progress={"unit": "file"})
    return counts


def with_process_pool_executor(paths: list[Path], processes: int) -> Counts:
    context = multiprocessing.get_context("forkserver")  # as ours
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=ignore_ctrl_c)
    try:
        return list(pool.map(count, paths))
    finally:
        pool.shutdown(cancel_futures=True)


def ignore_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # or each of its processes prints a traceback


def sources() -> list[Path]:
    """The modules of the standard library, without tests: their files are wrong Python on purpose at times."""
    library = Path(sysconfig.get_path("stdlib"))
    found = sorted(library.rglob("*.py"))
    return [it for it in found if not {"site-packages", "test", "tests"} & set(it.relative_to(library).parts)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many (as many as there are cores)")
    parser.add_argument("--quick", action="store_true", help="the first 40 files only")
    asked = parser.parse_args()
    paths = sources()[: 40 if asked.quick else None]
    print(f"{len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB, {asked.processes} processes")

    ways: dict[str, Callable[[list[Path], int], Counts]] = {
        "one process": in_one_process,
        "ProcessPoolExecutor": with_process_pool_executor,
        "concurry": with_concurry,
    }
    results: dict[str, Counts] = {}
    print(f"{'':20} seconds  times faster   (starting and stopping the processes included)")
    alone = 0.0
    for name, way in ways.items():
        start = time.monotonic()
        results[name] = way(paths, asked.processes)
        seconds = time.monotonic() - start
        alone = alone or seconds
        print(f"{name:20} {seconds:7.2f}  {alone / seconds:12.2f}")

    equal = all(counts == results["one process"] for counts in results.values())
    print("the same counts" if equal else "DIFFERENT COUNTS", end=": ")
    print(*(f"{name} {times:,}" for name, times in sum(results["concurry"], Counter()).most_common(8)), sep=", ")
    return 0 if equal else 1


# The guard is here because of ProcessPoolExecutor alone, whose processes run this script again, up to this line.
# Those of concurry do not.
if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        sys.exit(130)
