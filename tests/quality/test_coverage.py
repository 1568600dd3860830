"""
The row of a stream and hour.
"""

from random import Random

import pytest

from quality_cases import HOUR, SOL, SOL_TRADES, at
from recorder.lake.schema import TABLES
from recorder.quality.coverage import CoverageRow, StreamCount
from recorder.quality.events import build
from recorder.quality.state import FillState, HourBeats
from recorder.records import HOUR_NS, SECOND_NS, Event, Flag, Stream


def row(
    count: StreamCount,
    stream: Stream = SOL,
    *,
    events: list[Event] | None = None,
    fills: FillState | None = None,
    until: int = HOUR + HOUR_NS,
    beats: dict[tuple[str, int], HourBeats] | None = None,
) -> CoverageRow:
    """
    A row of the hour.
    """
    return count.row(
        stream, hour=HOUR, until=until, market_index=0, beats=beats or {}, fills=fills, events=events or []
    )


def test_the_row_has_the_columns_of_the_table():
    """
    In the table's order, so that neither drifts from the other.
    """
    assert list(CoverageRow.__struct_fields__) == [column.name for column in TABLES["coverage"].columns]


def test_a_stream_that_never_spoke_has_a_row_of_nothing_and_nulls():
    """
    Null is never zero; unverifiable is never complete.
    """
    got = row(StreamCount())

    assert (got.rows, got.bytes, got.repeats, got.duplicates_removed) == (0, 0, 0, 0)
    assert got.first_recv_ts is got.last_recv_ts is got.cadence_ms is got.cadence_spread_ms is None
    assert got.latency_p50_ms is got.latency_p99_ms is got.latency_max_ms is got.longest_heartbeat_s is None
    assert got.first_fill_id is got.last_fill_id is got.fills_missing is got.fills_repeated is None
    assert (got.complete_s, got.missing_s, got.suspect_s, got.unverifiable_s) == (0, 0, 0, 3600)


def test_an_open_hour_is_judged_as_far_as_it_has_come():
    """
    What has not happened yet is not unverifiable.
    """
    assert row(StreamCount(), until=at(90)).unverifiable_s == 90


def test_rows_are_counted_with_their_flags_latency_and_cadence():
    """
    Median, spread and quantiles are values that occurred.
    """
    count = StreamCount()
    intervals_ms = [400, 400, 410, 390, 1200]
    now = HOUR + SECOND_NS
    count.add(recv_ts=now, ts_ms=now // 10**6 - 5, size=100, flags=0)
    for i, interval in enumerate(intervals_ms):
        now += interval * 10**6
        flags = [Flag.CROSSED, Flag.ONE_SIDED, Flag.REPEAT | Flag.CROSSED, Flag.LOCKED, 0][i]
        count.add(recv_ts=now, ts_ms=now // 10**6 - 10 * i if i else None, size=50, flags=int(flags))

    got = row(count)

    assert (got.rows, got.bytes, got.repeats, got.crossed, got.one_sided) == (6, 350, 1, 2, 1)
    assert (got.first_recv_ts, got.last_recv_ts) == (HOUR + SECOND_NS, now)
    assert (got.cadence_ms, got.cadence_spread_ms) == (400, 10)
    assert (got.latency_p50_ms, got.latency_p99_ms, got.latency_max_ms) == (20, 40, 40)


def test_quantiles_are_nearest_ranks():
    """
    The 99th of a hundred, not the largest.
    """
    count = StreamCount()
    latencies = list(range(1, 101))
    Random(5).shuffle(latencies)
    for i, latency in enumerate(latencies):
        count.add(recv_ts=HOUR + i * 10**9, ts_ms=(HOUR + i * 10**9) // 10**6 - latency, size=1, flags=0)

    got = row(count)

    assert (got.latency_p50_ms, got.latency_p99_ms, got.latency_max_ms) == (50, 99, 100)


def test_rows_may_be_added_table_by_table():
    """
    A server that was upgraded in mid-hour has its books in two tables, decoded one after the other.
    """
    inorder, apart = StreamCount(), StreamCount()
    instants = [HOUR + i * 400_000_000 for i in range(100)]
    for instant in instants:
        inorder.add(recv_ts=instant, ts_ms=None, size=1, flags=0)
    for instant in instants[1::2] + instants[::2]:
        apart.add(recv_ts=instant, ts_ms=None, size=1, flags=0)

    assert row(apart) == row(inorder)


def test_an_absurd_publisher_clock_does_not_fail_the_row():
    """
    Latency is clamped, not overflowed.
    """
    count = StreamCount()
    count.add(recv_ts=HOUR, ts_ms=-(10**15), size=1, flags=0)
    count.add(recv_ts=HOUR, ts_ms=10**15, size=1, flags=0)

    assert row(count).latency_max_ms == (1 << 62) / 1e6


def test_books_say_nothing_of_fills_and_trades_nothing_of_books():
    """
    Null where the question does not arise.
    """
    fills = FillState("SOL-PERP", 1, 9, HOUR, None, hour_first=5, hour_last=9, hour_repeated=2)

    book, trades = row(StreamCount(), fills=fills), row(StreamCount(), SOL_TRADES, fills=fills)

    assert (book.first_fill_id, book.fills_missing, book.crossed, book.one_sided) == (None, None, 0, 0)
    assert (trades.first_fill_id, trades.last_fill_id, trades.fills_repeated) == (5, 9, 2)
    assert (trades.crossed, trades.one_sided, trades.cadence_ms) == (None, None, None)


def test_missing_fills_are_those_of_the_gaps_that_end_in_the_hour():
    """
    The same count as in `quality`, never another: a gap that goes on counts where it ends.
    """
    fills = FillState("SOL-PERP", 1, 9, HOUR, None)

    def gap(symbol: str, missing: int | None) -> Event:
        return build(
            "trade_gap",
            cause="venue",
            start=HOUR,
            end=HOUR,
            evidence="e",
            symbol=symbol,
            channel="trades",
            missing=missing,
        )

    events = [gap("SOL-PERP", 3), gap("SOL-PERP", 4), gap("SOL-PERP", None), gap("BTC-PERP", 100)]

    assert row(StreamCount(), SOL_TRADES, fills=fills, events=events).fills_missing == 7
    assert row(StreamCount(), SOL_TRADES, fills=fills).fills_missing == 0


def test_heartbeats_are_those_of_the_connections_that_carried_the_stream():
    """
    Others prove nothing about it.
    """
    count = StreamCount()
    count.carriers = {("a", 0), ("a", 2)}
    beats = {
        ("a", 0): HourBeats("a", 0, heartbeats=700, up_ns=3550 * SECOND_NS, longest_ns=5 * SECOND_NS),
        ("a", 1): HourBeats("a", 1, heartbeats=9, up_ns=50 * SECOND_NS, longest_ns=30 * SECOND_NS),
        ("a", 2): HourBeats("a", 2, heartbeats=1, up_ns=9 * SECOND_NS, longest_ns=None),
    }

    got = row(count, beats=beats)

    assert (got.heartbeats, got.heartbeats_expected, got.longest_heartbeat_s) == (701, 711, 5)


@pytest.mark.parametrize(
    ("spans", "longest_s"),
    [
        ([], 0),
        ([("silent", 10, 20)], 10),
        ([("silent", 10, 20), ("disconnected", 20, 25), ("silent", 25, 31)], 21),
        ([("silent", 10, 20), ("recorder_down", 15, 18), ("journal_damaged", 100, 104)], 10),
        ([("loop_stall", 10, 20), ("clock_step", 20, 50)], 40),
        ([("heartbeat_gap", 10, 20), ("connected", 5, 5)], 0),
    ],
)
def test_the_longest_hole_joins_what_touches(spans, longest_s):
    """
    A silence, the reconnect it caused and the silence after it are one stretch without a book.
    """
    count = StreamCount()
    count.carriers = {("a", 0)}
    events = [
        build(
            kind,
            cause="venue",
            start=at(a),
            end=at(b),
            evidence="e",
            run="a",
            connection=0,
            symbol="SOL-PERP" if kind == "silent" else None,
            channel="orderbook" if kind == "silent" else None,
        )
        for kind, a, b in spans
    ]

    assert row(count, events=events).longest_hole_s == longest_s


def test_holes_of_others_are_not_the_streams():
    """
    Another market, another grouping, a connection that did not carry it.
    """
    count = StreamCount()
    count.carriers = {("a", 0)}

    def hole(kind: str, connection: int, symbol: str | None, channel: str | None) -> Event:
        return build(
            kind,
            cause="venue",
            start=at(1),
            end=at(9),
            evidence="e",
            run="a",
            connection=connection,
            symbol=symbol,
            channel=channel,
        )

    events = [
        hole("silent", 0, "BTC-PERP", "orderbook"),
        hole("silent", 0, "SOL-PERP", "orderbook/100"),
        hole("silent", 0, "SOL-PERP", "orderbook_indicative"),
        hole("disconnected", 1, None, None),
    ]

    assert row(count, events=events).longest_hole_s == 0


def test_a_stream_no_connection_came_to_ask_for_has_the_holes_of_all():
    """
    The venue could not be reached in the whole hour: that is no hour without a hole.
    """
    down = build("disconnected", cause="network", start=at(1), end=at(900), evidence="e", run="a", connection=0)

    assert row(StreamCount(), events=[down]).longest_hole_s == 899


def test_a_stream_only_a_dead_run_recorded_has_its_hole_alone():
    """
    The streams of the run beside it went on.
    """
    down = build(
        "recorder_down",
        cause="recorder",
        start=at(1),
        end=at(9),
        evidence="e",
        run="a",
        symbol="BTC-PERP",
        channel="orderbook",
    )

    assert row(StreamCount(), events=[down]).longest_hole_s == 0
    assert row(StreamCount(), Stream("perp", "BTC-PERP", "orderbook", 1), events=[down]).longest_hole_s == 8
