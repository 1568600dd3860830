"""
Column buffers: what goes in as decoded records comes out as a table in the exact schema.
"""

from array import array

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import captures
import reference
from recorder.lake import schema
from recorder.lake.columns import BookColumns, FeeColumns, TradeColumns, rows_table
from recorder.records import Entry, EntryKind, Event, Flag
from recorder.venue.normalize import Book, Fees, Side, Trade, decode
from recorder.venue.payloads import BOOK_NUMBERS, NULL, flat
from recorder.venue.protocol import ChannelName

RUN = "20261122T170000.000000Z-abcdef"
TS = 1_795_367_105_768_163_904
CHANNEL = ChannelName("orderbook", "perp", 0, 1, indicative=False, stored=False)


def entry(seq=1, *, recv_ts=TS, run=RUN, payload=b"", connection=0, attempt=1):
    """
    A journal entry of a frame.
    """
    return Entry(EntryKind.FRAME, connection, attempt, seq, recv_ts, payload, run)


def side(price=(), size=None, source=None, part=()):
    """
    Levels; sizes and sources are 1 unless given.
    """
    numbers = (flat(list(column)) for column in (price, size or [1] * len(price)))
    return Side(*numbers, array("H", source or [1] * len(price)), flat(list(part)))


def book(bid=None, ask=None, **values):
    """
    A book with nothing in it but what is given.
    """
    numbers = flat([values.pop(name, None) for name in BOOK_NUMBERS])
    return Book(CHANNEL, None, numbers, bid or side(), ask or side(), **values)


def taken(*books, **origin):
    """
    The rows that these books make.
    """
    columns = BookColumns()
    for seq, one in enumerate(books):
        columns.append(one, entry(seq), **({"symbol": "SOL-PERP", "size_exponent": 9} | origin))
    return reference.rows(columns.take())


@pytest.mark.parametrize("name", captures.CAPTURES)
def test_every_captured_frame_becomes_the_row_the_reference_expects(name):
    """
    From the frame to Arrow, every column of every data frame, in order, nothing left out.
    """
    buffers = {Book: BookColumns(), Trade: TradeColumns(), Fees: FeeColumns()}
    expected = {kind: [] for kind in buffers}
    for seq, captured in enumerate(captures.capture(name)):
        decoded = decode(captured.frame, size_exponent=9)
        kind = type(decoded)
        told = reference.decode(captured.frame, size_exponent=9)
        assert (told is not None) == (kind in buffers)
        if told is None:
            continue
        of_market = {"symbol": f"m{told.market_index}"} | ({} if kind is Fees else {"size_exponent": 9})
        buffers[kind].append(decoded, entry(seq, recv_ts=captured.recv_ts), **of_market)
        origin = {"recv_ts": captured.recv_ts, "run": RUN, "seq": seq, "connection": 0, "attempt": 1}
        expected[kind].append(told.columns | origin | of_market)

    assert sum(map(len, expected.values())) > 80
    for kind, columns in buffers.items():
        assert columns.rows == len(expected[kind])
        table = columns.take()
        table.validate(full=True)
        assert reference.rows(table) == expected[kind]


@pytest.mark.parametrize(
    ("columns", "table"),
    [(BookColumns, schema.BOOKS), (TradeColumns, schema.TRADES), (FeeColumns, schema.PRIORITY_FEES)],
)
def test_an_empty_buffer_is_an_empty_table_of_the_schema(columns, table):
    """
    No rows is a table, too.
    """
    empty = columns().take()

    assert empty.schema == table.schema
    assert empty.num_rows == 0
    empty.validate(full=True)


def test_a_taken_table_has_exactly_the_schema_of_books():
    """
    Types, nullability and order of columns.
    """
    columns = BookColumns()
    columns.append(book(side([5]), side([6])), entry(), symbol="SOL-PERP", size_exponent=None)
    table = columns.take()

    assert table.schema.equals(schema.BOOKS.schema, check_metadata=True)
    assert table.column("size_exponent").null_count == 1


def test_take_empties_the_buffers_and_leaves_the_table_alone():
    """
    Arrow holds the old buffers: what is appended later must not show in a table taken before.
    """
    columns = BookColumns()
    columns.append(book(side([5, 4]), side([6])), entry(1, run="a"), symbol="X", size_exponent=9)
    first = columns.take()
    assert (columns.rows, columns.bytes) == (0, 0)
    before = reference.rows(first)
    for seq in range(100):
        columns.append(book(side([50]), side([60])), entry(seq, run="b"), symbol="Y", size_exponent=9)
    second = reference.rows(columns.take())

    assert reference.rows(first) == before
    assert (before[0]["bid_price"], before[0]["run"], before[0]["symbol"]) == ([5, 4], "a", "X")
    assert {(row["run"], row["symbol"], *row["bid_price"]) for row in second} == {("b", "Y", 50)}


def test_scalars_tell_null_zero_and_false_apart():
    """
    Null is not zero, in every nullable column of books.
    """
    zeros = dict.fromkeys(BOOK_NUMBERS, 0)
    full, absent = taken(book(side([0], [0]), side([0], [0]), extra="{}", **zeros), book())

    nullable = [c.name for c in schema.BOOKS.columns if c.nullable and c.name not in {"size_exponent", "extra"}]
    assert [full[name] for name in nullable] == [0] * len(nullable)
    assert [absent[name] for name in nullable] == [None] * len(nullable)
    assert (full["extra"], absent["extra"]) == ({}, None)


def test_extreme_values_are_not_mistaken_for_null():
    """
    The clamped values of saturated numbers are the neighbours of the number that stands for null.
    """
    (row,) = taken(book(side([NULL + 1, 2**63 - 1], [NULL + 1, 0]), spread_quote=NULL + 1))

    assert (row["bid_price"], row["bid_size"]) == ([NULL + 1, 2**63 - 1], [NULL + 1, 0])
    assert row["spread_quote"] == NULL + 1


def test_nulls_inside_levels_stay_where_they_were():
    """
    A level without a price, a size or a part, between rows that have all.
    """
    rows = taken(
        book(side([9, 8])),
        book(side([7, None], [None, 3], part=[None, 2]), side([None])),
        book(side([6]), side([10])),
    )

    assert [row["bid_price"] for row in rows] == [[9, 8], [7, None], [6]]
    assert [row["bid_size"] for row in rows] == [[1, 1], [None, 3], [1]]
    assert [row["bid_part"] for row in rows] == [[], [None, 2], []]
    assert [row["best_bid_size"] for row in rows] == [1, None, 1]
    assert [row["best_ask_price"] for row in rows] == [None, None, 10]


def test_flags_of_the_stream_are_added_to_those_of_the_book():
    """
    The fold knows what one frame cannot tell.
    """
    (row,) = taken(book(flags=Flag.CROSSED.value), flags=Flag.REPEAT | Flag.BACKLOG)

    assert row["flags"] == Flag.CROSSED | Flag.REPEAT | Flag.BACKLOG


def test_rows_of_several_runs_keep_their_run():
    """
    Repeating text is stored as a number and comes back as the text.
    """
    columns = BookColumns()
    for seq, run in enumerate(["b", "a", "b", "c"]):
        columns.append(book(), entry(seq, run=run, connection=seq, attempt=seq + 1), symbol=run * 2, size_exponent=9)
    rows = reference.rows(columns.take())

    assert [row["run"] for row in rows] == ["b", "a", "b", "c"]
    assert [row["symbol"] for row in rows] == ["bb", "aa", "bb", "cc"]
    assert [(row["connection"], row["attempt"]) for row in rows] == [(0, 1), (1, 2), (2, 3), (3, 4)]


@given(
    books=st.lists(
        st.lists(st.tuples(st.integers(NULL + 1, 2**63 - 1) | st.none(), st.integers(0, 511)), max_size=4), max_size=6
    )
)
def test_any_levels_come_back_as_they_went_in(books):
    """
    Whatever the lengths of rows and lists, empty ones included.
    """
    sides = [side([p for p, _ in one], [p for p, _ in one], [s for _, s in one], [p for p, _ in one]) for one in books]
    rows = taken(*(book(one, other) for one, other in zip(sides, reversed(sides), strict=True)))

    for name, put in (("bid", sides), ("ask", sides[::-1])):
        prices = [[None if price == NULL else price for price in one.price] for one in put]
        assert [row[f"{name}_price"] for row in rows] == prices
        assert [row[f"{name}_source"] for row in rows] == [list(one.source) for one in put]
        assert [row[f"{name}_part"] for row in rows] == prices
        for what in ("price", "size"):
            assert [row[f"best_{name}_{what}"] for row in rows] == [one[0] if one else None for one in prices]


def test_the_same_rows_give_the_same_table():
    """
    Sealing an hour twice must give the same bytes.
    """
    frames = [c.frame for c in captures.capture(captures.TWO_FEEDS) if b'"orderbook_' in c.frame]
    tables = []
    for _ in range(2):
        columns = BookColumns()
        for seq, payload in enumerate(frames):
            columns.append(decode(payload, size_exponent=9), entry(seq), symbol="SOL-PERP", size_exponent=9)
        tables.append(columns.take())

    assert tables[0].equals(tables[1])


def test_bytes_are_about_what_arrow_takes():
    """
    Row groups end by it: it must follow the depth of the books.
    """
    for name in (captures.MAY_2026, captures.LEGACY):
        columns, trades = BookColumns(), TradeColumns()
        for seq, captured in enumerate(captures.capture(name)):
            decoded = decode(captured.frame, size_exponent=9)
            if isinstance(decoded, Book):
                columns.append(decoded, entry(seq), symbol="SOL-PERP", size_exponent=9)
            elif isinstance(decoded, Trade):
                trades.append(decoded, entry(seq), symbol="SOL-PERP", size_exponent=9)
        for buffers in (columns, trades):
            told = buffers.bytes
            assert 0.7 < told / buffers.take().nbytes < 1.4


def test_a_buffer_is_full_by_rows_or_by_bytes():
    """
    Row groups end at 1500 rows or 2 MiB, whichever comes first.
    """
    small, large, trades = BookColumns(), BookColumns(), TradeColumns()
    fill = decode(captures.sample_frames()["trade perp, maker and taker"], size_exponent=9)
    deep = book(side(range(10_000)), side(range(10_000)))
    for seq in range(schema.ROW_GROUP_ROWS):
        assert not small.full
        assert not trades.full
        small.append(book(), entry(seq), symbol="X", size_exponent=9)
        trades.append(fill, entry(seq), symbol="X", size_exponent=9)
    while not large.full:
        large.append(deep, entry(large.rows), symbol="X", size_exponent=9)

    assert small.full
    assert trades.full
    assert large.rows == 6


def test_trades_carry_their_origin_and_flags():
    """
    Columns before and after those of the trade itself.
    """
    columns = TradeColumns()
    fill = decode(captures.sample_frames()["trade spot, matched"], size_exponent=None)
    columns.append(fill, entry(7, connection=2, attempt=3), symbol="SOL", size_exponent=None, flags=Flag.REPEAT.value)
    (row,) = reference.rows(columns.take())

    assert (row["run"], row["seq"], row["connection"], row["attempt"]) == (RUN, 7, 2, 3)
    assert (row["symbol"], row["market_type"], row["market_index"], row["size_exponent"]) == ("SOL", "spot", 1, None)
    assert row["flags"] == fill.flags | Flag.REPEAT
    assert fill.flags & Flag.ASSUMED_SCALE
    assert (columns.rows, columns.bytes) == (0, 0)


# --- Small tables ---


def event(**values):
    """
    A row of `quality`.
    """
    fields = {
        "event_id": "e1",
        "kind": "silent",
        "cause": "venue",
        "scope": "stream",
        "run": None,
        "connection": None,
        "symbol": "SOL-PERP",
        "channel": "orderbook",
        "start": TS,
        "end": TS + 5,
        "true_start": TS,
        "continues": False,
        "missing": None,
        "first_slot": 1,
        "last_slot": None,
        "evidence": "no book for 5 s",
    }
    return Event(**fields | values)


def test_events_make_rows_of_quality():
    """
    Structs whose fields are the columns.
    """
    table = rows_table(schema.QUALITY, [event(), event(event_id="e2", missing=0, connection=3)])

    assert table.schema == schema.QUALITY.schema
    first, second = reference.rows(table)
    assert (first["event_id"], first["start"], first["missing"], first["connection"]) == ("e1", TS, None, None)
    assert (second["event_id"], second["missing"], second["connection"]) == ("e2", 0, 3)


def test_mappings_may_leave_nullable_columns_out():
    """
    What is not said is null, never zero; bytes stay bytes.
    """
    origin = {"recv_ts": TS, "run": RUN, "seq": 1, "connection": 0, "attempt": 1}
    fees = {"symbol": "SOL-PERP", "market_type": "perp", "market_index": 0, "flags": 0}
    raw = {"kind": "unknown", "reason": "no data member", "payload": b"{\xff}"}

    assert rows_table(schema.PRIORITY_FEES, [origin | fees | {"low": 0}]).column("min").null_count == 1
    assert rows_table(schema.UNDECODABLE, [origin | raw]).column("payload").to_pylist() == [b"{\xff}"]


def test_small_tables_may_be_empty():
    """
    An hour without events.
    """
    table = rows_table(schema.COVERAGE, [])

    assert table.schema == schema.COVERAGE.schema
    assert table.num_rows == 0


def test_a_name_that_is_no_column_is_refused():
    """
    A misspelt value would be lost in silence.
    """
    with pytest.raises(ValueError, match="quality has no column 'sympol'"):
        rows_table(schema.QUALITY, [{"sympol": "SOL-PERP"}])


def test_nothing_for_a_column_that_is_not_nullable_is_refused():
    """
    Arrow would write a null against its own schema.
    """
    with pytest.raises(ValueError, match=r"quality\.kind is not nullable"):
        rows_table(schema.QUALITY, [event(kind=None)])


def test_a_number_outside_its_column_is_refused():
    """
    Nothing is cut to fit.
    """
    with pytest.raises((pa.ArrowInvalid, OverflowError)):
        rows_table(schema.QUALITY, [event(connection=2**15)])
    columns = BookColumns()
    columns.append(book(), entry(connection=2**15), symbol="X", size_exponent=9)
    with pytest.raises(pa.ArrowInvalid):
        columns.take()
