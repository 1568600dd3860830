"""
Three questions to one hour of one market, asked with polars: of the lake, and of the plain recorder's file.

The same answers come out of both. The plain file holds the three markets of the study's hour, as its recorder writes
one file for all; ours holds each market's books in a file of its own.

Run as a child of the suite: `queries.py ROOT PLAIN ROUNDS`.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from bench import Bench
from load import HOUR
from parquet import study_hour
from processes import outcome
from study import MARKETS
from table import Measured

from recorder.analysis import Lake
from recorder.records import HOUR_NS, SECOND_NS

MARKET = MARKETS[0].symbol
LOOK_BACK = 10 * SECOND_NS
"""A book at a time is looked for as far back as this."""
REACH = 0.001
"""Ten basis points."""

_MID = (pl.col("best_bid_price") + pl.col("best_ask_price")) / 2
_PLAIN_MID = (pl.col("bestBidPrice").cast(pl.Int64) + pl.col("bestAskPrice").cast(pl.Int64)) / 2e6


def measure(bench: Bench) -> list[Measured]:
    """
    Warm: all files are in the system's cache, and each question was asked before. On all cores, as polars works.
    """
    hour = study_hour(bench)
    bench.say("queries")
    told = outcome("queries.py", hour.root, hour.plain, str(bench.sizes.query_rounds), core=None)
    note = f"{told['rows']:,} books of {MARKET}, natural units, warm; plain: the file of {len(MARKETS)} markets"
    return [
        Measured("polars, mid series of a market-hour", told["mid"], told["plain_mid"], note=note),
        Measured("polars, one book at a time", told["book"], told["plain_book"]),
        Measured("polars, depth within 10 bps of a market-hour", told["depth"], told["plain_depth"]),
    ]


def mid(lake: Lake) -> pl.DataFrame:
    """
    The middle of each book.
    """
    books = lake.books(MARKET, HOUR, HOUR + HOUR_NS, columns=["recv_ts", "best_bid_price", "best_ask_price"])
    return books.select("recv_ts", mid=_MID).collect()


def book(lake: Lake, at: int) -> pl.DataFrame:
    """
    The last whole book that had arrived.
    """
    return lake.books(MARKET, at - LOOK_BACK, at + 1).tail(1).collect()


def depth(lake: Lake) -> pl.DataFrame:
    """
    What stands within ten basis points of the middle, on either side of each book.
    """

    def standing(side: str, sign: int) -> pl.Expr:
        beyond = (pl.col(f"{side}_price") - _MID * (1 + sign * REACH)) * sign
        inside = beyond.list.eval(pl.element() <= 0).list.sum()
        return pl.col(f"{side}_size").list.head(inside).list.sum().alias(side)

    columns = ["best_bid_price", "best_ask_price", "bid_price", "bid_size", "ask_price", "ask_size"]
    books = lake.books(MARKET, HOUR, HOUR + HOUR_NS, columns=["recv_ts", *columns])
    return books.select("recv_ts", standing("bid", -1), standing("ask", 1)).collect()


def plain_mid(books: pl.LazyFrame) -> pl.DataFrame:
    """
    As `mid`.
    """
    return books.select("recv_ns", mid=_PLAIN_MID).collect()


def plain_book(books: pl.LazyFrame, at: int) -> pl.DataFrame:
    """
    As `book`.
    """
    return books.filter(pl.col("recv_ns").is_between(at - LOOK_BACK, at)).tail(1).collect()


def plain_depth(books: pl.LazyFrame) -> pl.DataFrame:
    """
    As `depth`: lists of structs have no arithmetic, so each level becomes a row.
    """

    def standing(side: str, sign: int) -> pl.LazyFrame:
        price, size = (pl.col(side).struct.field(name) for name in ("price", "size"))
        return (
            books.select("recv_ns", side, edge=_PLAIN_MID * (1 + sign * REACH))
            .explode(side)
            .filter((price / 1e6 - pl.col("edge")) * sign <= 0)
            .group_by("recv_ns", maintain_order=True)
            .agg((size.sum() / 1e9).alias(side))
        )

    bids, asks = pl.collect_all([standing("bids", -1), standing("asks", 1)])
    return bids.join(asks, on="recv_ns", how="full", coalesce=True)


def milliseconds(root: Path, plain: Path, rounds: int) -> dict[str, list[float]]:
    """
    All questions in turns.
    """
    lake = Lake(root)
    books = pl.scan_parquet(plain / "books.parquet").filter(pl.col("marketName") == MARKET)
    first, last = mid(lake)["recv_ts"].dt.epoch("ns").sort().gather([0, -1])
    at = (first + last) // 2
    questions: dict[str, Callable[[], pl.DataFrame]] = {
        "mid": lambda: mid(lake),
        "book": lambda: book(lake, at),
        "depth": lambda: depth(lake),
        "plain_mid": lambda: plain_mid(books),
        "plain_book": lambda: plain_book(books, at),
        "plain_depth": lambda: plain_depth(books),
    }
    _compare({name: ask() for name, ask in questions.items()})
    times: dict[str, list[float]] = {name: [] for name in questions}
    for _ in range(rounds):
        for name, ask in questions.items():
            begun = time.perf_counter()
            ask()
            times[name].append((time.perf_counter() - begun) * 1000)
    return times


def _compare(answers: dict[str, pl.DataFrame]) -> None:
    """
    A wrong answer is worth no time.
    """
    sums = [
        (answers["mid"]["mid"].sum(), answers["plain_mid"]["mid"].sum()),
        (answers["book"]["best_bid_price"].sum(), answers["plain_book"]["bestBidPrice"].cast(pl.Int64).sum() / 1e6),
        (answers["depth"]["bid"].sum(), answers["plain_depth"]["bids"].sum()),
        (answers["depth"]["ask"].sum(), answers["plain_depth"]["asks"].sum()),
    ]
    for ours, theirs in sums:
        if not math.isclose(ours, theirs, rel_tol=1e-9) or not ours:
            raise SystemExit(f"the lake and the plain file disagree: {ours} and {theirs}")


def main() -> None:
    """
    Ask, as a child of the suite.
    """
    root, plain, rounds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    print(json.dumps({"rows": len(mid(Lake(root))), **milliseconds(root, plain, rounds)}))


if __name__ == "__main__":
    main()
