"""
The lake as a stream: typed records of several markets in order, holes among them.

Read in windows of time with a bounded number of rows, so that memory does not grow with the range. Order by receipt is
that of the journal: (`recv_ts`, run, seq). Order by the venue's clock is by `ts`, as far as records came within
`LATENESS_NS` of it; what came later than that comes when it came, for nothing later can be known of by then.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

import polars as pl

from recorder.analysis.records import BLOCK_ROWS, Book, Hole, Levels, Record, Trade, Window
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

Key = tuple[int, str, int]
Keyed = tuple[list[Key], list[Record]]


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
    waiting = iter(holes)
    hole = next(waiting, None)
    keys: list[Key] = []
    records: list[Record] = []
    for start, end in within:
        for reader, make in ((books, _books), (trades, _trades)):
            if reader is not None:
                more_keys, more = make(reader, start, end, by_venue)
                keys += more_keys
                records += more
        # In venue order the last minute waits for what is late.
        ready = end - LATENESS_NS if by_venue else end
        order = sorted(range(len(keys)), key=keys.__getitem__)
        kept: list[int] = []
        if by_venue:
            kept = [at for at in order if keys[at][0] >= ready]
            order = order[: len(order) - len(kept)]
        for at in order:
            if hole is not None and hole.start <= keys[at][0]:
                while hole is not None and hole.start <= keys[at][0]:
                    yield hole
                    hole = next(waiting, None)
            yield records[at]
        keys, records = [keys[at] for at in kept], [records[at] for at in kept]
    rest: Iterator[tuple[int, int, Record]] = iter(
        [(key[0], 1, record) for key, record in zip(keys, records, strict=True)]
    )
    left = [] if hole is None else [hole, *waiting]
    yield from (record for _, _, record in heapq.merge(((h.start, 0, h) for h in left), rest, key=lambda r: r[:2]))


def _columns(frame: pl.DataFrame, names: Sequence[str]) -> list[list[Any]]:
    return [frame[name].to_list() for name in names]


def _collected(reader: Reader, start: int, end: int, names: Sequence[str]) -> pl.DataFrame:
    frame = reader(start, end, columns=names)
    ns = pl.Datetime("ns", "UTC")
    return frame.with_columns(pl.col("recv_ts", "ts").cast(ns).to_physical()).collect()


def _keys(frame: pl.DataFrame, columns: list[list[Any]], *, by_venue: bool) -> list[Key]:
    at = frame.select(pl.coalesce("ts", "recv_ts"))["ts"].to_list() if by_venue else columns[0]
    return list(zip(at, columns[-2], columns[-1], strict=True))


def _books(reader: Reader, start: int, end: int, by_venue: bool) -> Keyed:
    frame = _collected(reader, start, end, (*_BOOK, *_BOOK_REST))
    columns = _columns(frame, (*_BOOK, *_BOOK_REST))
    # Most of the bytes are levels, and not every reader wants them.
    window = Window(lambda: reader(start, end, columns=("seq", *_LISTS)).collect(), columns[-1])
    blocks = [Levels(window, at) for at in range(0, frame.height, BLOCK_ROWS)]
    block = [each for each in blocks for _ in range(BLOCK_ROWS)][: frame.height]
    row = [at % BLOCK_ROWS for at in range(frame.height)]
    make: Callable[..., Record] = Book
    return _keys(frame, columns, by_venue=by_venue), list(map(make, *columns, block, row))


def _trades(reader: Reader, start: int, end: int, by_venue: bool) -> Keyed:
    frame = _collected(reader, start, end, _TRADE)
    columns = _columns(frame, _TRADE)
    make: Callable[..., Record] = Trade
    return _keys(frame, columns, by_venue=by_venue), list(map(make, *columns))
