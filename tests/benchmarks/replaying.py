"""
How many records a second come out of `Lake.replay`, beside rows of the same files by polars' own iterator.

`python tests/benchmarks/replaying.py`; the hour is that of the study: three markets, 9,000 books each, 20 levels a
side. Budget: 300,000 records a second from sealed files. By the clock, and by CPU time, which is less moved by what
else the machine does.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import polars as pl
import study
from load import write_journal
from sealing import sealed

from recorder.analysis import Lake
from recorder.analysis.records import Book


def records(lake: Lake) -> Iterator[object]:
    """
    As they come.
    """
    return lake.replay()


def by_venue(lake: Lake) -> Iterator[object]:
    """
    In the venue's order.
    """
    return lake.replay(order="venue")


def with_levels(lake: Lake) -> Iterator[object]:
    """
    Each book's levels made into Python objects.
    """
    for record in lake.replay():
        if isinstance(record, Book):
            yield record.bids, record.asks


def plain_rows(lake: Lake) -> Iterable[object]:
    """
    Named rows of all columns, as one would without it; one market after the other.
    """
    frame = pl.scan_parquet(f"{lake.root}/lake/books/**/*.parquet", hive_partitioning=False).collect()
    return frame.iter_rows(named=True)


def rate(of: Callable[[Lake], Iterable[object]], lake: Lake) -> tuple[float, float]:
    """
    Records a second, of one reading of all: by the clock, and of CPU time of all threads.
    """
    begun, cpu = time.perf_counter(), time.process_time()
    count = sum(1 for _ in of(lake))
    return count / (time.perf_counter() - begun), count / (time.process_time() - cpu)


def main() -> None:
    """
    Print the table.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--books", type=int, default=9_000, help="of each market")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        write_journal(root, study.STREAMS, study.frames(options.books))
        sealed(root)
        lake = Lake(root)
        ways = (records, by_venue, with_levels, plain_rows)
        measured: dict[str, list[tuple[float, float]]] = {way.__name__: [] for way in ways}
        for _ in range(options.rounds):
            for way in ways:
                measured[way.__name__].append(rate(way, lake))
        for name, rates in measured.items():
            clock, cpu = (statistics.median(column) for column in zip(*rates, strict=True))
            print(f"{name:12} {clock:12,.0f} records/s {cpu:12,.0f} a CPU second")
        print(f"peak memory  {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:12,.0f} MB")


if __name__ == "__main__":
    main()
