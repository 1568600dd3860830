"""
The lake as a stream: typed records of several markets in order, holes among them.

Read in windows of time with a bounded number of rows, so that memory does not grow with the range. Order by receipt is
that of the journal: (`recv_ts`, run, seq). Order by the venue's clock is by `ts`, as far as records came within
`LATENESS_NS` of it; what came later than that comes when it came, for nothing later can be known of by then.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, Literal, Protocol

import polars as pl

from recorder.analysis.records import Book, Hole, Levels, Record, Trade
from recorder.analysis.units import Instant
from recorder.errors import RecorderError
from recorder.records import HOUR_NS, SECOND_NS

ROWS = 30_000
"""Rows in a window, about: at 20 levels a side some 25 MB, and four times as much once all are Python objects."""
LATENESS_NS = 60 * SECOND_NS

Order = Literal["receipt", "venue"]

_BOOK = ("recv_ts", "ts", "symbol", "slot", "best_bid_price", "best_bid_size", "best_ask_price", "best_ask_size")
_BOOK_REST = ("mark_price", "oracle_price", "flags", "run", "seq")
_LISTS = ("bid_price", "bid_size", "bid_source", "ask_price", "ask_size", "ask_source")
_TRADE = (
    *("recv_ts", "ts", "symbol", "slot", "fill_record_id", "price", "base_amount", "quote_amount", "aggressor"),
    *("is_market_trade", "action_explanation", "oracle_price", "taker", "maker", "taker_order_id", "maker_order_id"),
    *("taker_fee", "maker_fee", "tx_sig", "flags", "run", "seq"),
)

_NO_KEYS = pl.DataFrame(schema={"at": pl.Int64(), "run": pl.String(), "seq": pl.Int64()})


class Reader(Protocol):
    """
    `Lake.books` or `Lake.trades`, with the market, table and units chosen.
    """

    def __call__(self, start: Instant, end: Instant, /, *, columns: Sequence[str]) -> pl.LazyFrame:
        """
        Rows that arrived in `[start, end)`.
        """


def windows(rows_by_hour: dict[int, int], first: int, last: int, rows: int = ROWS) -> Iterator[tuple[int, int]]:
    """
    The range as windows of about so many rows; hours without any are left out.

    Args:
        rows_by_hour: begin of each hour (ns) and how many rows it has.
        first: ns.
        last: ns.
        rows: in a window.
    """
    for hour in sorted(rows_by_hour):
        start, end = max(hour, first), min(hour + HOUR_NS, last)
        parts = max(-(-rows_by_hour[hour] // rows), 1)
        step = -(-HOUR_NS // parts)
        for at in range(hour, hour + HOUR_NS, step):
            begin, over = max(at, start), min(at + step, end)
            if begin < over:
                yield begin, over


def replay(
    books: Reader | None,
    trades: Reader | None,
    within: Iterator[tuple[int, int]],
    holes: list[Hole],
    *,
    order: Order = "receipt",
) -> Iterator[Record]:
    """
    Records of all windows in order, each hole before the records of its start.

    Raises:
        RecorderError: no such order.
    """
    if order not in {"receipt", "venue"}:
        raise RecorderError(f'order={order!r} is unknown; give "receipt" or "venue"')
    return _merged(books, trades, within, holes, by_venue=order == "venue")


def _merged(
    books: Reader | None,
    trades: Reader | None,
    within: Iterator[tuple[int, int]],
    holes: list[Hole],
    *,
    by_venue: bool,
) -> Iterator[Record]:
    waiting = deque(holes)
    keys, records = _NO_KEYS, list[Record]()
    for start, end in within:
        for reader, make in ((books, _books), (trades, _trades)):
            if reader is not None:
                more_keys, more = make(reader, start, end, by_venue)
                keys = pl.concat([keys, more_keys])
                records += more
        keys, records = _in_order(keys, records)
        # In venue order the last minute waits for what is late.
        ready = int(keys["at"].search_sorted(end - LATENESS_NS, side="left")) if by_venue else len(records)
        yield from _with_holes(keys["at"][:ready], records[:ready], waiting)
        keys, records = keys[ready:], records[ready:]
    yield from _with_holes(keys["at"], records, waiting)
    yield from waiting


def _in_order(keys: pl.DataFrame, records: list[Record]) -> tuple[pl.DataFrame, list[Record]]:
    order = keys.with_row_index("was").sort("at", "run", "seq", maintain_order=True)
    return order.drop("was"), list(map(records.__getitem__, order["was"].to_list()))


def _with_holes(at: pl.Series, records: list[Record], waiting: deque[Hole]) -> Iterator[Record]:
    """
    Records in order, each hole that starts by the last of them before those of its start.
    """
    told = 0
    while waiting and (before := int(at.search_sorted(waiting[0].start, side="left"))) < len(records):
        yield from records[told:before]
        told = before
        yield waiting.popleft()
    yield from records[told:]


def _columns(frame: pl.DataFrame, names: Sequence[str]) -> list[list[Any]]:
    return [frame[name].to_list() for name in names]


def _collected(
    reader: Reader, start: int, end: int, names: Sequence[str], *, by_venue: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """
    Rows in order, with times as integers, and their keys.
    """
    ns = pl.Datetime("ns", "UTC")
    rows = reader(start, end, columns=names).with_columns(pl.col("recv_ts", "ts").cast(ns).to_physical())
    at = pl.coalesce("ts", "recv_ts") if by_venue else pl.col("recv_ts")
    frame = rows.with_columns(at=at).sort("at", "run", "seq", maintain_order=True).collect()
    return frame.drop("at"), frame.select("at", "run", "seq")


def _books(reader: Reader, start: int, end: int, by_venue: bool) -> tuple[pl.DataFrame, list[Record]]:
    frame, keys = _collected(reader, start, end, (*_BOOK, *_BOOK_REST), by_venue=by_venue)
    columns = _columns(frame, (*_BOOK, *_BOOK_REST))

    def read() -> pl.DataFrame:
        # Most of the bytes are levels, and not every reader wants them.
        names = ("recv_ts", "ts", "run", "seq", *_LISTS)
        return _collected(reader, start, end, names, by_venue=by_venue)[0]

    levels = Levels(read, columns[-1])
    make: Callable[..., Record] = Book
    return keys, list(map(make, *columns, repeat(levels), range(frame.height)))


def _trades(reader: Reader, start: int, end: int, by_venue: bool) -> tuple[pl.DataFrame, list[Record]]:
    frame, keys = _collected(reader, start, end, _TRADE, by_venue=by_venue)
    make: Callable[..., Record] = Trade
    return keys, list(map(make, *_columns(frame, _TRADE)))
