"""
The lake as a stream of typed records: all of them, in order, holes where they begin, memory that does not grow.
"""

from itertools import pairwise

import polars as pl
import pytest

from faulty_lake import END, HOUR, START
from recorder.analysis.records import Book, Hole, Trade
from recorder.analysis.replay import LATENESS_NS, windows
from recorder.errors import RecorderError
from recorder.records import HOUR_NS, SECOND_NS


def time_of(record):
    """
    Where a record stands in order of receipt.
    """
    return record.start if isinstance(record, Hole) else record.recv_ts


def test_every_row_of_every_market_comes_once_in_order_of_receipt(faulty):
    """
    A stream that drops, repeats or reorders a row at a window's edge would be worse than none.
    """
    records = list(faulty.replay())
    books = [(r.run, r.seq) for r in records if isinstance(r, Book)]
    trades = [(r.run, r.seq) for r in records if isinstance(r, Trade)]

    assert [time_of(r) for r in records] == sorted(time_of(r) for r in records)
    assert sorted(books) == sorted(faulty.books(units="raw").select("run", "seq").collect().rows())
    assert sorted(trades) == sorted(faulty.trades(units="raw").select("run", "seq").collect().rows())
    heard = [(r.recv_ts, r.run, r.seq) for r in records if not isinstance(r, Hole)]
    assert heard == sorted(heard)


def test_a_record_says_what_its_row_says(faulty):
    """
    Natural units and raw ones, levels included.
    """
    rows = faulty.books("BTC-PERP").collect().rows(named=True)
    raw = faulty.books("BTC-PERP", units="raw").collect().rows(named=True)
    natural = [r for r in faulty.replay("BTC-PERP", tables=["books"], holes=False) if isinstance(r, Book)]
    exact = [r for r in faulty.replay("btc-perp", tables=["books"], units="raw", holes=False) if isinstance(r, Book)]

    assert len(rows) == len(natural) == len(exact)
    for record, row in [*zip(natural, rows, strict=True), *zip(exact, raw, strict=True)]:
        assert record.bids == list(zip(row["bid_price"], row["bid_size"], strict=True))
        assert record.asks == list(zip(row["ask_price"], row["ask_size"], strict=True))
        assert (list(record.bid_sources), list(record.ask_sources)) == (row["bid_source"], row["ask_source"])
        assert (record.bid, record.ask_size, record.oracle) == (
            row["best_bid_price"],
            row["best_ask_size"],
            row["oracle_price"],
        )


def test_holes_come_where_they_begin_and_are_those_of_coverage(faulty):
    """
    A consumer learns of the silence before the first record in it, and of nothing that was complete.
    """
    holes = [r for r in faulty.replay("BTC-PERP") if isinstance(r, Hole)]
    silence = [h for h in holes if h.table == "books" and START + 100 * SECOND_NS < h.start < START + 300 * SECOND_NS]

    assert [h.state for h in silence] == ["missing"]
    assert "silent" in silence[0].why
    assert abs(silence[0].start - (START + 180 * SECOND_NS)) < 2 * SECOND_NS
    assert abs(silence[0].end - (START + 260 * SECOND_NS)) < 2 * SECOND_NS
    for table, channel in (("books", "orderbook"), ("trades", "trades")):
        spans = faulty.spans("BTC-PERP").filter(pl.col("channel") == channel)
        told = spans.filter(pl.col("state") != "complete").select((pl.col("end") - pl.col("start")).sum())
        assert sum(h.end - h.start for h in holes if h.table == table) == pytest.approx(
            told.collect().item().total_seconds() * SECOND_NS, abs=10_000
        )


def test_what_was_never_recorded_is_a_hole_too(faulty):
    """
    Asked for a day of which an hour is there, the rest is not silently nothing.
    """
    day = HOUR - HOUR % (24 * HOUR_NS)

    holes = faulty.holes("SOL-PERP", day, day + 24 * HOUR_NS, tables=["books"])

    first = faulty.books("SOL-PERP").select(pl.col("recv_ts").min().to_physical()).collect().item()
    assert (holes[0].start, holes[0].end, holes[0].state) == (day, first, "unrecorded")
    assert (holes[-1].end, holes[-1].state) == (day + 24 * HOUR_NS, "unrecorded")
    assert HOUR + HOUR_NS < holes[-1].start < END + SECOND_NS


@pytest.mark.parametrize("rows", [1, 7, 100, 10**6])
def test_windows_cover_a_range_once_whatever_their_size(rows):
    """
    No instant is read twice or left out.
    """
    first, last = HOUR + 17, HOUR + 2 * HOUR_NS - 5
    found = list(windows({HOUR: 90, HOUR + HOUR_NS: 11}, first, last, rows))

    assert found[0][0] == first
    assert found[-1][1] == last
    assert all(end == start for (_, end), (start, _) in pairwise(found))


def test_what_cannot_be_is_refused_in_words(faulty):
    """
    Two kinds of books at once, an order that is none, a market that is none.
    """
    with pytest.raises(RecorderError, match="one table of books"):
        faulty.replay(tables=["books", "books_grouped_10"])
    with pytest.raises(RecorderError, match='give "receipt" or "venue"'):
        faulty.replay(order="slot")
    with pytest.raises(RecorderError, match="no market"):
        list(faulty.replay("NOPE-PERP"))


def test_the_bounds_of_a_lake_are_those_of_its_hours(faulty):
    """
    Open ends are filled in from what is published.
    """
    assert faulty.bounds() == (HOUR, HOUR + 2 * HOUR_NS)
    assert faulty.bounds(START, END) == (START, END)
    assert LATENESS_NS == 60 * SECOND_NS
