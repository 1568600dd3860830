"""
Books and trades as the CSV of data vendors: Tardis' `book_snapshot_N` and `trades`.

Times are whole µs since the epoch: `timestamp` the venue's clock (ours where it sent none), `local_timestamp` the
recorder's. Sorted by `local_timestamp`. What is missing is empty.

Source: https://docs.tardis.dev/downloadable-csv-files/data-types (read November 2026).
"""

from collections.abc import Iterator
from typing import BinaryIO

import polars as pl

from recorder.analysis import Lake
from recorder.analysis.records import Hole
from recorder.analysis.replay import windows

_US = 1000


def book_snapshots(
    lake: Lake, markets: list[str], first: int, last: int, *, levels: int, table: str, live: bool = False
) -> pl.DataFrame:
    """
    Rows of `book_snapshot_N` that arrived in `[first, last)`.

    Columns: exchange, symbol, timestamp, local_timestamp, then for each level asks[i].price, asks[i].amount,
    bids[i].price, bids[i].amount. Crossed and one-sided books are in it, as the venue sent them.
    """
    columns = ["recv_ts", "ts", "run", "seq", "symbol", "ask_price", "ask_size", "bid_price", "bid_size"]
    books = lake.books(markets, first, last, table=table, columns=columns, live=live).sort("recv_ts", "run", "seq")
    of_levels = [
        pl.col(f"{side}_{column}").list.get(level, null_on_oob=True).alias(f"{side}s[{level}].{name}")
        for level in range(levels)
        for side in ("ask", "bid")
        for column, name in (("price", "price"), ("size", "amount"))
    ]
    return books.select(*_head(lake), *of_levels).collect()


def trades(
    lake: Lake, markets: list[str], first: int, last: int, *, transfers: bool, live: bool = False
) -> pl.DataFrame:
    """
    Rows of `trades` that arrived in `[first, last)`: exchange, symbol, timestamp, local_timestamp, id, side, price,
    amount.

    `id` is the venue's count of fills, `side` the aggressor's: buy, sell or unknown. A `timestamp` is the block's, in
    whole seconds.
    """
    fills = lake.trades(markets, first, last, live=live).sort("recv_ts", "run", "seq")
    if not transfers:
        fills = fills.filter("is_market_trade")
    return fills.select(
        *_head(lake),
        id=pl.col("fill_record_id"),
        side=pl.col("aggressor").fill_null("unknown"),
        price=pl.col("price"),
        amount=pl.col("base_amount"),
    ).collect()


def _head(lake: Lake) -> list[pl.Expr]:
    local = pl.col("recv_ts").to_physical() // _US
    return [
        pl.lit(lake.venue).alias("exchange"),
        pl.col("symbol"),
        pl.coalesce(pl.col("ts").cast(pl.Datetime("us", "UTC")).to_physical(), local).alias("timestamp"),
        local.alias("local_timestamp"),
    ]


def write(frames: Iterator[pl.DataFrame], to: BinaryIO) -> int:
    """
    Frames below one another, with one header; how many rows.
    """
    rows = 0
    for number, frame in enumerate(frames):
        frame.write_csv(to, include_header=not number, float_scientific=False)
        rows += frame.height
    return rows


def parts(
    lake: Lake, table: str, markets: list[str], first: int, last: int, *, live: bool = False
) -> Iterator[tuple[int, int]]:
    """
    Windows of a range, each with few enough rows to be held; one at least, so that there is a header.
    """
    rows = lake.rows_by_hour([table], markets, first, last, live=live)
    yield from list(windows(rows, first, last, 20_000)) or [(first, first)]


def write_holes(holes: list[Hole], to: BinaryIO) -> None:
    """
    symbol, table, start, end (ns), state, why.
    """
    names = ["symbol", "table", "start", "end", "state", "why"]
    rows = [(hole.symbol, hole.table, hole.start, hole.end, hole.state, hole.why) for hole in holes]
    schema = {name: pl.Int64() if name in {"start", "end"} else pl.String() for name in names}
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(to)
