"""Two jobs on a Ray cluster of three nodes, of which one is killed in the middle of each; and the same without Ray.

    python examples/ray_cluster.py            # 600 prompts, all 336,776 flights
    python examples/ray_cluster.py --quick    # 120 prompts, the first six blocks of the flights

The jobs are those of batch_llm.py and flights_pipeline.py, with their own classes. Only `mode` changes from one run to
the other; what else is said is said in both, and Ray's own options mean something to Ray only. The cluster is three
Ray nodes on this machine, and is gone at the end. It needs `pip install '.[demo-ray]'`, and exits with 1 where a
result is missing, or differs from the one without Ray.
"""

import argparse
import copyreg
import logging
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import openai
import pandas as pd
import psutil
import ray
from batch_llm import RETRIES, Rater, is_rating
from flights_pipeline import AGAIN, BLOCK, MOST_OPEN, Aggregator, Cleaner, Reader, flights_csv
from ray.cluster_utils import Cluster
from support.job import Job
from support.report import read_rating

from concurry import BaseFuture, RetryConfig, WorkerDiedError, gather

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 200 << 20}
HEAD: dict[str, Any] = {**NODE, "resources": {"head": 1}, "include_dashboard": False}
SMALL: dict[str, Any] = {
    "num_cpus": 0.2,
    "scheduling_strategy": "SPREAD",
}  # of an actor: a fifth of a node, on all nodes
STAYS: dict[str, Any] = {"num_cpus": 0.2, "resources": {"head": 0.1}}  # on the node that is not killed
Mode = Literal["thread", "process", "ray"]

# As in batch_llm.py, and calls that were lost with their node are made again. They may have been paid for.
RETRIES_TOO = RetryConfig(
    num_retries=RETRIES.num_retries,
    retry_on=[openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError, WorkerDiedError],
    retry_until=is_rating,
    retry_wait=RETRIES.retry_wait,
)


@dataclass
class Ran:
    """One job in one mode."""

    job: str
    mode: str
    asked: int
    there: int
    seconds: float
    result: Any


# -- the jobs ---------------------------------------------------------------------------------------------------------


def rate_all(job: Job, mode: Mode, halfway: Callable[[], object]) -> Ran:
    """The batch: three actors with 16 calls each at one time, under one limit for all of them."""
    options = Rater.options(
        mode=mode, max_workers=3, max_concurrency=16, limits=job.limits(), retry_config=RETRIES_TOO, **SMALL
    )
    rated: dict[str, Any] = {}
    done = 0
    with job.client() as client, options.init(client, job.model) as rater:
        start = time.monotonic()
        futures = {name: rater.rate(docstring) for name, docstring in job.docstrings.items()}
        for name, reply in gather(futures, iter=True, return_exceptions=True):
            if isinstance(reply, BaseException):
                print(f"  {name}: {type(reply).__name__}: {reply}", file=sys.stderr)
            else:
                rated[name] = read_rating(reply)
            done += 1
            if done == len(futures) // 2:
                halfway()
        seconds = time.monotonic() - start
    return Ran("ratings", mode, len(futures), len(rated), seconds, rated)


def count_flights(path: Path, blocks: int, mode: Mode, halfway: Callable[[], object]) -> Ran:
    """The pipeline of flights_pipeline.py. The reader is where the file is, the sums are where nothing is killed."""
    columns = list(pd.read_csv(path, nrows=0).columns)
    with (
        Aggregator.options(mode=mode, max_restarts=0, **STAYS).init() as aggregator,
        Cleaner.options(mode=mode, max_workers=3, retry_config=AGAIN, **SMALL).init(columns) as cleaner,
        Reader.options(mode=mode, retry_config=AGAIN, **STAYS).init(path) as reader,
    ):
        start = time.monotonic()
        added: list[BaseFuture[int]] = []
        for number in range(blocks):
            added.append(aggregator.add(cleaner.count(reader.read(number))))
            if number >= MOST_OPEN:
                added[number - MOST_OPEN].result()
            if number == blocks // 2:
                halfway()
        rows = sum(gather(added))  # raises what any of the three has raised
        result = aggregator.table().result()
        seconds = time.monotonic() - start
    return Ran("flights", mode, rows, int(result.flights.sum()), seconds, result)


def travel(client: openai.OpenAI) -> tuple[Any, ...]:
    """How an OpenAI client gets to another node: its connections cannot, so it is made anew there."""
    return anew, (str(client.base_url), client.api_key, client.timeout)


def anew(base_url: str, api_key: str, timeout: float) -> openai.OpenAI:
    http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=0, http_client=http_client)


copyreg.pickle(openai.OpenAI, travel)


# -- the cluster ------------------------------------------------------------------------------------------------------


class Nodes:
    """Three Ray nodes on this machine. The first one has the driver, and a resource `head`."""

    def __init__(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args=HEAD)
        self.others: list[Any] = []
        self.complete()
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level=logging.ERROR)

    def complete(self) -> None:
        """Bring it to three nodes (again)."""
        while len(self.others) < 2:
            self.others.append(self.cluster.add_node(wait=False, **NODE))
        self.cluster.wait_for_nodes()

    def kill_one(self) -> None:
        """SIGKILL to all that is one node, as when a machine is lost."""
        node = self.others.pop(0)
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:
            process.kill()
        self.cluster.remove_node(node, allow_graceful=False)
        print("  a node was killed", flush=True)


@contextmanager
def three_nodes() -> Iterator[Nodes]:
    start = time.monotonic()
    nodes = Nodes()
    print(f"a cluster of {len(ray.nodes())} nodes, in {time.monotonic() - start:.1f} s", flush=True)
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.cluster.shutdown()


# -- all of it --------------------------------------------------------------------------------------------------------


def nothing() -> None:
    """No node to kill."""


def show(runs: list[Ran]) -> int:
    """Print the table. 0 where every result is there, and each job has the same ones in both modes."""
    print(f"\n{'job':10}{'mode':10}{'results':>9}{'of':>10}{'seconds':>10}  the same")
    fine = True
    for without, on_ray in zip(runs[::2], runs[1::2], strict=True):
        flights = isinstance(without.result, pd.DataFrame)
        same = without.result.equals(on_ray.result) if flights else without.result == on_ray.result
        for ran, said in ((without, ""), (on_ray, "yes" if same else "NO")):
            print(f"{ran.job:10}{ran.mode:10}{ran.there:9,}{ran.asked:10,}{ran.seconds:10.2f}  {said}".rstrip())
            fine = fine and ran.there == ran.asked
        fine = fine and same
    return 0 if fine else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="120 prompts, six blocks of the flights")
    quick = parser.parse_args().quick
    path = flights_csv()
    with zipfile.ZipFile(path) as archive:
        blocks = 6 if quick else -(-archive.getinfo("flights.csv").file_size // BLOCK)
    asked = argparse.Namespace(
        prompts=120 if quick else 600,
        mode="both",
        workers=48,
        model="demo-model",
        out="out",
        base_url="",
        requests_per_minute=7_000,
        tokens_per_minute=1_900_000,
        quota_window=1,
        server=[("latency", "0.2")] if quick else [],
    )
    with Job(asked) as job:
        ratings = rate_all(job, "thread", nothing)
        flights = count_flights(path, blocks, "process", nothing)
        with three_nodes() as nodes:
            ratings_on_ray = rate_all(job, "ray", nodes.kill_one)
            nodes.complete()
            flights_on_ray = count_flights(path, blocks, "ray", nodes.kill_one)
    return show([ratings, ratings_on_ray, flights, flights_on_ray])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        sys.exit(130)
