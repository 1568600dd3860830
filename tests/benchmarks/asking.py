"""
The questions of a day: of the lake, and of what people use instead, each in a process of its own.

Run as a child of the suite: `asking.py KIND ROOT HOURS ROUNDS`; prints a list of milliseconds for each question, and
the peak of memory.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from bench import Bench
from day import MARKET, make
from load import HOUR
from processes import outcome, peak_mb
from table import Measured

from recorder.analysis import Lake, book
from recorder.records import HOUR_NS

KINDS = ("lake", "struct", "csv", "jsonl")
QUESTIONS = {
    "mid": "a day of 12 markets, mid of a market-hour",
    "bars": "a day of 12 markets, 1-minute bars of a market-day",
    "spread": "a day of 12 markets, time-weighted spread of all",
    "spread_one": "a day of 12 markets, time-weighted spread of one",
    "book": "a day of 12 markets, one book at a time",
}


def measure(bench: Bench) -> list[Measured]:
    """
    Warm: all files are in the system's cache; the lake and Parquet were asked each question before. CSV and JSON are
    asked once, and none but the lake for the spread of all markets, which takes them minutes. On all cores, as polars
    works; a row of CPU says what of the time was work, for a machine that others use.
    """
    sizes = bench.sizes
    root, others = bench.folder / "day-lake", bench.folder / "day-others"
    bench.say(f"a lake of {sizes.day_hours} hours and {sizes.day_markets} markets")
    make(root, others, markets=sizes.day_markets, hours=sizes.day_hours, books=sizes.day_books)
    told = {}
    for kind in KINDS:
        bench.say(f"questions to {kind}")
        where = root if kind == "lake" else others / kind
        rounds = sizes.day_rounds if kind == "lake" else 1
        numbers = (sizes.day_hours, rounds)
        told[kind] = outcome("asking.py", kind, where, *map(str, numbers), core=None)
    found = []
    for question, name in QUESTIONS.items():
        plain = told["struct"]
        found.append(Measured(name, told["lake"][question], plain.get(question, []), note=_NOTES.get(question, "")))
        if question != "spread":
            found += [Measured(f"{name}, {kind}.gz instead", told[kind][question]) for kind in ("csv", "jsonl")]
        of_cpu = f"{question}_cpu"
        found.append(Measured(f"{name}, CPU", told["lake"][of_cpu], plain.get(of_cpu, [])))
    found.append(
        Measured("a day of 12 markets, peak memory of these", [told["lake"]["peak_mb"]], [told["struct"]["peak_mb"]])
    )
    return found


_NOTES = {
    "mid": "plain: Parquet of lists of structs with pyarrow's defaults, a file a market and hour; .gz asked once",
}


def of_lake(root: Path, hours: int) -> dict[str, Callable[[], pl.DataFrame]]:
    """
    Gap-safe, as `Lake` answers by itself; the middle is of rows.
    """
    lake = Lake(root)
    last = HOUR + hours * HOUR_NS
    columns = ("recv_ts", "best_bid_price", "best_ask_price")
    times = lake.books(MARKET, HOUR, HOUR + HOUR_NS, columns=columns).collect()["recv_ts"].cast(pl.Int64)
    middle = int(times[len(times) // 2])
    return {
        "mid": lambda: (
            lake.books(MARKET, HOUR, HOUR + HOUR_NS, columns=columns).select("recv_ts", book.mid()).collect()
        ),
        "bars": lambda: lake.bars(MARKET, HOUR, last, every="1m").collect(),
        "spread": lambda: lake.time_weighted(None, HOUR, last, book.spread_bps()).collect(),
        "spread_one": lambda: lake.time_weighted(MARKET, HOUR, last, book.spread_bps()).collect(),
        "book": lambda: lake.book(MARKET, middle).collect(),
    }


def of_files(kind: str, root: Path, hours: int) -> dict[str, Callable[[], pl.DataFrame]]:
    """
    The same with polars' own readers: they know of no holes.
    """

    def scan(name: str, market: int, numbers: range) -> pl.LazyFrame:
        suffix = {"struct": "parquet", "csv": "csv.gz", "jsonl": "jsonl.gz"}[kind]
        files = [root / str(market) / f"{name}-{number:02}.{suffix}" for number in numbers]
        if kind == "struct":
            return pl.scan_parquet(files)
        if kind == "csv":
            return pl.scan_csv(files)
        return pl.scan_ndjson(files, infer_schema_length=1000)

    def quotes(market: int, numbers: range) -> pl.LazyFrame:
        frame = scan("books", market, numbers)
        if kind == "csv":
            return frame.select(at="local_timestamp", bid=pl.col("bids[0].price"), ask=pl.col("asks[0].price"))
        best = {side: pl.col(f"{side}s").list.first().struct.field("price") / 1e6 for side in ("bid", "ask")}
        return frame.select(at="recv_ns", **best)

    def bars() -> pl.DataFrame:
        fills = scan("trades", 0, range(hours))
        if kind == "csv":
            fills = fills.select(at="local_timestamp", price="price", base="amount")
        else:
            base = pl.col("baseAssetAmountFilled")
            fills = fills.select(at="recv_ns", price=pl.col("quoteAssetAmountFilled") / base, base=base)
        minute = pl.col("at").cast(pl.Datetime("ns")).dt.truncate("1m")
        price = pl.col("price")
        return (
            fills.group_by(start=minute)
            .agg(open=price.first(), high=price.max(), low=price.min(), close=price.last(), volume=pl.col("base").sum())
            .sort("start")
            .collect()
        )

    def spread() -> pl.DataFrame:
        held = (pl.col("at").shift(-1) - pl.col("at")).clip(0)
        bps = (pl.col("ask") - pl.col("bid")) / (pl.col("ask") + pl.col("bid")) * 2e4
        return quotes(0, range(hours)).select(value=(bps * held).sum() / held.sum()).collect()

    middle = (pl.col("bid") + pl.col("ask")) / 2
    time_of = "local_timestamp" if kind == "csv" else "recv_ns"
    times = scan("books", 0, range(1)).select(time_of).collect().to_series()
    at = int(times[len(times) // 2])
    return {
        "mid": lambda: quotes(0, range(1)).select("at", mid=middle).collect(),
        "bars": bars,
        "spread_one": spread,
        "book": lambda: scan("books", 0, range(1)).filter(pl.col(time_of) <= at).tail(1).collect(),
    }


def main() -> None:
    """
    Ask, as a child of the suite.
    """
    kind, root, hours, rounds = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5])
    asked = of_lake(root, hours) if kind == "lake" else of_files(kind, root, hours)
    told: dict[str, object] = {}
    slow = kind in {"csv", "jsonl"}
    for name, ask in asked.items():
        if not slow and not len(ask()):
            raise SystemExit(f"{kind} has no answer to {name}")
        times, of_cpu = [], []
        for _ in range(rounds):
            begun, cpu = time.perf_counter(), time.process_time()
            answer = ask()
            times.append((time.perf_counter() - begun) * 1000)
            of_cpu.append((time.process_time() - cpu) * 1000)
            if not len(answer):
                raise SystemExit(f"{kind} has no answer to {name}")
        told[name], told[f"{name}_cpu"] = times, of_cpu
    print(json.dumps({**told, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
