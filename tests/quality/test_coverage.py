"""
The row of a stream and hour.
"""

import math
from array import array
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality_cases import HOUR, SOL, SOL_TRADES, at
from recorder.lake.columns import NULL
from recorder.lake.schema import TABLES
from recorder.quality.counter import FillState, MissingFills
from recorder.quality.coverage import NO_TS, CoverageRow, HourFacts, StreamCount, by_symbol
from recorder.quality.events import build
from recorder.quality.kinds import KINDS
from recorder.quality.proof import STATES
from recorder.quality.state import HourBeats
from recorder.records import HOUR_NS, SECOND_NS, Event, Flag, Stream

Row = tuple[int, int | None, int, int]
"""recv_ts, ts in ms, bytes, flags."""


def count_of(rows: list[Row]) -> StreamCount:
    """
    A count of rows that went one way.
    """
    count = StreamCount()
    take(count, rows)
    return count


def take(count: StreamCount, rows: list[Row]) -> None:
    """
    Count rows that went one way, as the seal notes them.
    """
    count.take(
        recv_ts=array("q", [r[0] for r in rows]),
        ts_ms=array("q", [NO_TS if r[1] is None else r[1] for r in rows]),
        sizes=array("I", [r[2] for r in rows]),
        flags=array("I", [r[3] for r in rows]),
    )


def books(instants: Iterable[float], *, flags: int = 0) -> list[Row]:
    """
    Books received at those seconds of the hour, stamped as they came.
    """
    return [(at(t), at(t) // 10**6, 1, flags) for t in instants]


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
    of = HourFacts(hour=HOUR, until=until, beats=beats or {}, events=by_symbol(events or []))
    return count.row(stream, of, market_index=0, fills=fills)


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
    assert got.ticks_missing is got.longest_interval_s is got.proven_until is None
    assert (got.complete_s, got.missing_s, got.suspect_s, got.unverifiable_s) == (0, 3600, 0, 0)
    assert (got.span_state, got.span_why) == (["missing"], ["nobody asked"])
    assert got.evidence == "nothing came; no connection known that carried it; missing 3600.0 s: nobody asked"


def test_trades_that_never_came_prove_nothing():
    """
    Unverifiable is never complete: a market may be quiet.
    """
    got = row(StreamCount(), SOL_TRADES)

    assert (got.complete_s, got.missing_s, got.suspect_s, got.unverifiable_s) == (0, 0, 0, 3600)
    assert got.evidence.startswith("no fill; ")


def test_an_open_hour_is_judged_as_far_as_it_has_come():
    """
    What has not happened yet is not unverifiable.
    """
    assert row(StreamCount(), SOL_TRADES, until=at(90)).unverifiable_s == 90


def test_an_hour_of_ticks_is_complete_and_says_why():
    """
    From its beginning to its end, though the neighbours of the first and last book lie in other hours.
    """
    count = count_of(books(0.1 + n * 0.4 for n in range(9000)))
    count.carriers = {("a", 0)}
    beats = {("a", 0): HourBeats("a", 0, heartbeats=719, up_ns=3600 * SECOND_NS, longest_ns=5 * SECOND_NS)}

    got = row(count, beats=beats)

    assert (got.complete_s, got.ticks_missing, got.longest_interval_s) == (3600, 0, 0.4)
    assert got.evidence == "cadence 400 ms, 9,000 of 9,000 ticks; heartbeats 719 of 720"


@given(
    instants=st.lists(st.integers(0, 3_599_999), max_size=60),
    spans=st.lists(
        st.tuples(
            st.sampled_from(sorted(KINDS)),
            st.integers(0, 3_600_000),
            st.integers(0, 3_600_000),
            st.sampled_from([(None, None), ("a", None), ("a", 0), ("a", 1), ("b", None), ("b", 0)]),
            st.booleans(),
        ),
        max_size=6,
    ),
    stream=st.sampled_from([SOL, SOL_TRADES, Stream("perp", "SOL-PERP", "priorityfees")]),
    until=st.integers(1, 3_600_000),
    carriers=st.sets(st.sampled_from([("a", 0), ("a", 1), ("b", 0)])),
    since=st.dictionaries(st.sampled_from([("a", 0), ("a", 1), ("b", 0)]), st.integers(0, 3_600_000), max_size=3),
    nameless=st.integers(0, 1),
    anew=st.booleans(),
)
def test_the_four_states_are_the_hour(instants, spans, stream, until, carriers, since, nameless, anew):
    """
    Whatever came on however many connections of two runs, and whatever events say: the spans begin with the hour,
    follow each other, and add up. And nothing is complete of which an event says that fills are missing or uncounted.
    """
    came = [at(t / 1000) for t in sorted(instants) if t < until]
    count = count_of([(t, t // 10**6, 1, 0) for t in came])
    count.carriers = carriers
    events = [
        build(
            kind,
            cause="venue",
            start=at(min(a, b) / 1000),
            end=at(max(a, b) / 1000),
            evidence="e",
            run=run,
            connection=connection,
            symbol=stream.symbol if named else None,
            channel=stream.channel if named else None,
        )
        for kind, a, b, (run, connection), named in spans
    ]
    fills = None
    if came:
        numbers = {"hour_first": 5, "hour_last": 9, "nameless": nameless, "hour_anew": anew}
        fills = FillState("SOL-PERP", 1, 9, came[-1], None, **numbers)
    of = HourFacts(
        hour=HOUR,
        until=at(until / 1000),
        events=by_symbol(events),
        since={stream: {carrier: at(t / 1000) for carrier, t in since.items()}},
    )

    got = count.row(stream, of, market_index=0, fills=fills)

    states = (got.complete_s, got.suspect_s, got.missing_s, got.unverifiable_s)
    assert math.isclose(sum(states), until / 1000)
    assert got.span_start[0] == HOUR
    assert got.span_start == sorted(set(got.span_start))
    assert len(got.span_start) == len(got.span_state) == len(got.span_why)
    ends = [*got.span_start[1:], at(until / 1000)]
    for state, seconds in zip(STATES, states, strict=True):
        lasted = sum(b - a for a, b, s in zip(got.span_start, ends, got.span_state, strict=True) if s == state)
        assert math.isclose(lasted / 1e9, seconds)
    if stream == SOL_TRADES:
        uncounted = [(e.start, e.end) for e in events if e.kind in {"trade_gap", "trade_unnumbered"}]
        for start, end, state in zip(got.span_start, ends, got.span_state, strict=True):
            assert state != "complete" or not any(max(a, start) < min(b, end) for a, b in uncounted)
            assert state != "complete" or not anew


def test_rows_are_counted_with_their_flags_latency_and_cadence():
    """
    Median, spread and quantiles are values that occurred.
    """
    intervals_ms = [400, 400, 410, 390, 1200]
    now = HOUR + SECOND_NS
    rows: list[Row] = [(now, now // 10**6 - 5, 100, 0)]
    for i, interval in enumerate(intervals_ms):
        now += interval * 10**6
        flags = [Flag.CROSSED, Flag.ONE_SIDED, Flag.REPEAT | Flag.CROSSED, Flag.LOCKED, 0][i]
        rows.append((now, now // 10**6 - 10 * i if i else None, 50, int(flags)))

    got = row(count_of(rows))

    assert (got.rows, got.bytes, got.repeats, got.crossed, got.one_sided) == (6, 350, 1, 2, 1)
    assert (got.first_recv_ts, got.last_recv_ts) == (HOUR + SECOND_NS, now)
    assert (got.cadence_ms, got.cadence_spread_ms) == (400, 10)
    assert (got.latency_p50_ms, got.latency_p99_ms, got.latency_max_ms) == (20, 40, 40)


def test_quantiles_are_nearest_ranks():
    """
    The 99th of a hundred, not the largest.
    """
    latencies = list(range(1, 101))
    Random(5).shuffle(latencies)
    instants = [HOUR + i * 10**9 for i in range(100)]

    got = row(count_of([(t, t // 10**6 - late, 1, 0) for t, late in zip(instants, latencies, strict=True)]))

    assert (got.latency_p50_ms, got.latency_p99_ms, got.latency_max_ms) == (50, 99, 100)


def test_rows_may_be_added_table_by_table():
    """
    A server that was upgraded in mid-hour has its books in two tables, decoded one after the other.
    """
    all_rows = books(n * 0.4 for n in range(100))
    apart = count_of(all_rows[1::2])
    take(apart, all_rows[::2])

    assert row(apart) == row(count_of(all_rows))


def test_repeats_and_stored_copies_are_no_ticks():
    """
    A repeat beside its tick does not make the pace faster; an old book after a reconnect does not fill a hole.
    """
    ticks = books(n * 0.4 for n in range(600))
    repeats = [(r[0] + 10**6, r[1], 1, int(Flag.REPEAT)) for r in ticks[::2]]
    stored = (at(300), at(100) // 10**6, 1, int(Flag.MAYBE_INITIAL))
    later = books(300.4 + n * 0.4 for n in range(600))

    got = row(count_of(sorted([*ticks, *repeats, stored, *later])), until=at(540.2))

    assert (got.rows, got.repeats) == (1501, 300)
    assert got.ticks_missing == 151
    assert got.missing_s == pytest.approx(300.4 - 240)


def test_an_absurd_publisher_clock_does_not_fail_the_row():
    """
    Latency is clamped, not overflowed.
    """
    count = count_of([(HOUR, -(10**15), 1, 0), (HOUR, 10**15, 1, 0)])

    assert row(count).latency_max_ms == (1 << 62) / 1e6
    assert row(count).latency_p50_ms == -(1 << 62) / 1e6


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


def test_fills_that_are_still_awaited_are_not_called_none_missing():
    """
    Of an hour that is not over, what was jumped over a moment ago may never come.
    """
    pending = [MissingFills(5, 7, at(50), at(55), None, None, "a", 0, nameless=1)]
    fills = FillState("SOL-PERP", 1, 9, at(55), None, hour_first=1, hour_last=9, pending=pending)
    count = count_of([(at(55), None, 1, 0)])

    assert "ids 1 to 9, 2 awaited" in row(count, SOL_TRADES, fills=fills, until=at(60)).evidence
    # In a closed hour it has been judged: what is missing is an event.
    assert "ids 1 to 9, none missing" in row(count, SOL_TRADES, fills=fills).evidence


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


def test_the_longest_hole_joins_what_touches():
    """
    A silence, the reconnect it caused and the silence after it are one stretch without a book.
    """
    count = count_of([*books(n * 0.4 for n in range(1000)), *books(500 + n * 0.4 for n in range(1000))])
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
        for kind, a, b in [("silent", 399.6, 450), ("disconnected", 450, 480), ("silent", 480, 500)]
    ]

    got = row(count, events=events, until=at(900))

    assert got.longest_hole_s == got.missing_s == 100
    assert got.span_state == ["complete", "missing", "missing", "missing", "complete"]
    assert got.span_why == ["ticks", "silent", "disconnected", "silent", "ticks"]


def test_the_state_of_a_null_stamp_is_the_lakes():
    """
    The same number stands for null in the buffers of the seal.
    """
    assert NO_TS == NULL
