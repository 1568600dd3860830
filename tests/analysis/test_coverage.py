"""
What the hours of a lake can prove, as it is read: proof by later fills, stretches of one state, conditions of days.
"""

from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analysis_cases import Writer, blank, event
from recorder.analysis import Lake
from recorder.analysis.events import is_gap, with_gaps
from recorder.analysis.holes import since
from recorder.analysis.proving import FAR
from recorder.errors import DamagedFile, RecorderError
from recorder.lake import layout
from recorder.records import HOUR_NS, SECOND_NS

DAY = layout.parse_hour("2026-11-22T00")
S = SECOND_NS
Spans = list[tuple[int, str, str]]
"""From which second of the hour, state, why."""


def coverage(hour: int, spans: Spans, **more: Any) -> dict[str, object]:
    """
    A row of an hour (counted from the day's first) with its seconds as the spans say.
    """
    start = DAY + hour * HOUR_NS
    ends = [*(s for s, _, _ in spans[1:]), 3600]
    seconds = {f"{state}_s": 0.0 for state in ("complete", "suspect", "missing", "unverifiable")}
    for (begin, state, _), end in zip(spans, ends, strict=True):
        seconds[f"{state}_s"] += end - begin
    row = blank("coverage") | {"start": start, "symbol": "SOL-PERP", "channel": "trades", "market_type": "perp"}
    columns = {
        "span_start": [start + s * S for s, _, _ in spans],
        "span_state": [state for _, state, _ in spans],
        "span_why": [why for _, _, why in spans],
        "evidence": "fills",
    }
    return row | seconds | columns | more


def fills(
    hour: int, first: int | None, last: int | None, *, until: int = 3000, spans: Spans | None = None, **more: Any
):
    """
    A row of trades: proven up to a second, then not.
    """
    proven = [(0, "complete", "fill ids"), (until, "unverifiable", "no later fill yet")]
    nothing = [(0, "unverifiable", "no later fill yet")]
    of = (nothing if first is None else proven) if spans is None else spans
    to = None if first is None else DAY + hour * HOUR_NS + until * S
    return coverage(hour, of, first_fill_id=first, last_fill_id=last, proven_until=to, **more)


def lake(root: Path, rows: list[dict[str, Any]], *, so_far: tuple[int, ...] = ()) -> Lake:
    """
    A lake of those rows of coverage.
    """
    writer = Writer(root)
    for hour in sorted({row["start"] for row in rows}):
        of_hour = [row for row in rows if row["start"] == hour]
        writer.hour(hour, {("coverage", None): of_hour}, complete=(hour - DAY) // HOUR_NS not in so_far)
    return Lake(root)


def spans(frame: pl.LazyFrame) -> list[tuple[float, float, str, str]]:
    """
    Stretches in seconds of the day.
    """
    rows = frame.with_columns(pl.col("start", "end").cast(pl.Int64)).collect().rows(named=True)
    return [((r["start"] - DAY) / S, (r["end"] - DAY) / S, r["state"], r["why"]) for r in rows]


def test_the_next_id_proves_the_end_of_an_hour(tmp_path):
    """
    It follows the last one, so nothing came in between.
    """
    found = lake(tmp_path, [fills(0, 1, 9), fills(1, 10, 20)]).coverage().collect().rows(named=True)

    assert [(r["complete_s"], r["unverifiable_s"]) for r in found] == [(3600, 0), (3000, 600)]
    assert found[0]["evidence"] == "fills; then follows id 10, in the hour of 2026-11-22 01:00"
    assert found[1]["evidence"] == "fills"


def test_it_proves_hours_without_a_fill_and_holes_too(tmp_path):
    """
    Over several hours, and though the recorder was down in one of them: there was no fill.
    """
    down: Spans = [(0, "missing", "recorder_down"), (1800, "suspect", "near recorder_down")]
    rows = [fills(0, 1, 9), fills(1, None, None, spans=down, longest_hole_s=1800.0), fills(3, 10, 20)]

    found = lake(tmp_path, rows)

    assert found.coverage().collect()["complete_s"].to_list() == [3600, 3600, 3000]
    assert found.coverage().collect()["longest_hole_s"].to_list()[1] == 0
    assert spans(found.spans())[1] == (3600, 7200, "complete", "fill ids")


def test_it_does_not_make_receive_times_true(tmp_path):
    """
    What came late came late.
    """
    late: Spans = [
        (0, "complete", "fill ids"),
        (3000, "unverifiable", "no later fill yet"),
        (3100, "suspect", "backlog"),
    ]

    found = lake(tmp_path, [fills(0, 1, 9, spans=late), fills(1, 10, 20)])

    assert spans(found.spans(end=DAY + HOUR_NS)) == [
        (0, 3100, "complete", "fill ids"),
        (3100, 3600, "suspect", "backlog"),
    ]


def test_ids_that_are_left_out_are_missing_from_fill_to_fill(tmp_path):
    """
    In which of the hours they would have come, nobody knows.
    """
    found = lake(tmp_path, [fills(0, 1, 9), fills(1, None, None), fills(2, 12, 20)]).coverage().collect()

    assert found["missing_s"].to_list() == found["longest_hole_s"].to_list() == [600, 3600, 0]
    assert found["evidence"][0] == "fills; ids are left out before id 12, in the hour of 2026-11-22 02:00"


@pytest.mark.parametrize("first", [9, 5, 10 + FAR + 1, None])
def test_an_id_that_proves_nothing_changes_nothing(tmp_path, first):
    """
    One that came out of order, a counter that began anew, or none yet.
    """
    found = lake(tmp_path, [fills(0, 1, 9), fills(1, first, 20 if first else None)]).coverage().collect()

    assert found["unverifiable_s"][0] == 600


def test_ids_follow_the_highest_before_them_not_the_latest(tmp_path):
    """
    One that came late or again ends an hour lower than it stood: what follows that one proves nothing.
    """
    rows = [fills(0, 10, 12), fills(1, 11, 11), fills(2, None, None), fills(3, 12, 15)]

    found = lake(tmp_path / "late", rows).coverage().collect()
    assert (found["complete_s"][2], found["unverifiable_s"][2]) == (0, 3600)

    rows = [fills(0, 5, 12), fills(1, 5, 5), fills(2, None, None), fills(3, 13, 13)]

    found = lake(tmp_path / "again", rows).coverage().collect()
    assert (found["complete_s"][2], found["missing_s"][2]) == (3600, 0)


def test_before_the_first_fill_ever_nothing_is_proven_later(tmp_path):
    """
    There is no id before it.
    """
    begin: Spans = [(0, "unverifiable", "no earlier fill"), (100, "complete", "fill ids"), (3000, "unverifiable", "x")]

    found = lake(tmp_path, [fills(0, None, None), fills(1, 5, 9, spans=begin), fills(2, 10, 11)])

    assert found.coverage().collect()["unverifiable_s"].to_list() == [3600, 100, 600]


def test_the_proof_may_lie_outside_of_the_range(tmp_path):
    """
    Up to two days on either side; and the hour that holds it is not in the answer.
    """
    rows = [fills(0, 1, 9), fills(1, None, None), fills(2, 10, 20)]

    found = lake(tmp_path, rows).coverage(start=DAY + HOUR_NS, end=DAY + 2 * HOUR_NS).collect()

    assert found["complete_s"].to_list() == [3600]


def test_books_and_other_markets_are_as_they_were_sealed(tmp_path):
    """
    To the nanosecond: reading changes what it must, and nothing else.
    """
    book = coverage(0, [(0, "unverifiable", "x")], channel="orderbook", first_recv_ts=DAY + 123_456_789)
    rows = [book, fills(0, 1, 9), fills(0, 7, 9, symbol="BTC-PERP"), fills(1, 10, 20)]

    found = lake(tmp_path, rows).coverage().collect()

    assert found["first_recv_ts"].cast(pl.Int64)[0] == DAY + 123_456_789
    assert found["complete_s"].to_list() == [0, 3600, 3000, 3000]


def test_rows_of_the_first_format_stay_as_they_are(tmp_path):
    """
    They have no stretches to judge.
    """
    found = lake(tmp_path, [fills(0, 1, 9), fills(1, 10, 20)])
    path = tmp_path / layout.partition("coverage", DAY)
    pl.read_parquet(path).drop("span_start", "span_state", "span_why", "evidence").write_parquet(path)

    assert found.coverage().collect()["unverifiable_s"].to_list() == [600, 600]
    assert len(spans(found.spans())) == 2


def test_the_spans_of_an_hour_that_is_not_over_end_with_it(tmp_path):
    """
    At what has been judged of it.
    """
    row = coverage(0, [(0, "complete", "ticks")], channel="orderbook") | {"complete_s": 90.5}

    assert spans(lake(tmp_path, [row]).spans("sol-perp")) == [(0, 90.5, "complete", "ticks")]


# ---- events of a market


def test_what_lies_before_the_first_run_can_be_left_out(tmp_path):
    """
    What lies before a later run cannot, whatever an old version called it, nor what a stream lacks that came later.
    """
    books = {"channel": "orderbook", "grouping": 1}
    late = [(0, "missing", "not running"), (600, "missing", "nobody asked"), (700, "complete", "ticks")]
    rows = [
        coverage(0, [(0, "missing", "not running"), (600, "complete", "ticks"), (3500, "missing", "silent")], **books),
        coverage(0, late, symbol="USDC", **books),
        coverage(1, [(0, "missing", "not running"), (1200, "complete", "ticks")], **books),
    ]
    found = lake(tmp_path, rows)
    told = found.coverage().collect()
    begun = found.begun()

    left = since(told, begun).with_columns(start=(pl.col("start").to_physical() - DAY) // S)

    assert begun == found.begun(DAY) == DAY + 600 * S
    assert found.begun(DAY + 900 * S) == DAY + 900 * S
    assert found.begun("2026-11-23") == DAY + 24 * HOUR_NS
    columns = ("symbol", "start", "complete_s", "missing_s", "longest_hole_s")
    assert sorted(left.select(columns).rows()) == [
        ("SOL-PERP", 600, 2900, 100, 100),
        ("SOL-PERP", 3600, 2400, 1200, 0),  # as it was written
        ("USDC", 600, 2900, 100, 100),
    ]
    assert since(told, DAY).equals(told)


def test_where_nothing_is_published_nothing_has_begun(tmp_path):
    """
    A range begins where it begins.
    """
    found = lake(tmp_path, [])

    assert (found.begun(), found.begun(DAY)) == (0, DAY)


def test_events_of_a_market_are_its_own_and_those_of_all(tmp_path):
    """
    What befell a connection or the recorder may concern any market.
    """
    events = [
        event("silent", DAY, DAY + S) | {"symbol": "SOL-PERP"},
        event("silent", DAY, DAY + S) | {"symbol": "BTC-PERP"},
        event("recorder_down", DAY, DAY + S) | {"symbol": None},
    ]
    Writer(tmp_path).hour(DAY, {("quality", None): events, ("coverage", None): [fills(0, 1, 9)]})

    found = Lake(tmp_path).quality(markets="sol-perp").collect()

    assert sorted(found["kind"]) == ["recorder_down", "silent"]
    assert Lake(tmp_path).quality(markets=["SOL-PERP", "BTC-PERP"]).collect().height == 3
    with pytest.raises(RecorderError, match=r"no market 'SOLPERP'; near: SOL-PERP"):
        Lake(tmp_path).quality(markets="SOLPERP")


def test_the_parts_of_an_event_are_one_event(tmp_path):
    """
    From its true start to its last end; what is missing is added up, and stays null where no hour can say.
    """
    part = {"event_id": "a", "symbol": "SOL-PERP", "channel": "orderbook"}
    first = event("silent", DAY + S, DAY + HOUR_NS) | part | {"continues": True, "missing": None, "evidence": "goes on"}
    second = event("silent", DAY + HOUR_NS, DAY + HOUR_NS + S) | part
    second |= {"true_start": DAY + S, "missing": 9, "evidence": "over"}
    other = event("connected", DAY, DAY) | {"event_id": "b", "missing": None}
    writer = Writer(tmp_path)
    writer.hour(DAY, {("quality", None): [other, first]})
    writer.hour(DAY + HOUR_NS, {("quality", None): [second]})

    found = Lake(tmp_path).events().with_columns(pl.col("start", "end").cast(pl.Int64) - DAY).collect()

    columns = ("kind", "start", "end", "missing", "continues", "evidence")
    assert found.select(columns).rows() == [
        ("connected", 0, 0, None, False, "x"),
        ("silent", S, HOUR_NS + S, 9, False, "over"),
    ]
    assert found.select(is_gap().alias("gap"))["gap"].to_list() == [False, True]
    so_far = Lake(tmp_path).events(end=DAY + HOUR_NS).collect()
    assert so_far["continues"].to_list() == [False, True]


def test_what_a_gap_is(tmp_path):
    """
    Something that lasts or counts, and costs something.
    """
    gaps = [event("silent", DAY, DAY + S), event("undecodable", DAY, DAY) | {"missing": 1}]
    none = [
        event("connected", DAY, DAY + S),
        event("sync_failed", DAY, DAY + S),
        event("clock_step", DAY, DAY) | {"missing": None},
    ]
    Writer(tmp_path).hour(DAY, {("quality", None): [*gaps, *none]})

    found = Lake(tmp_path).quality().filter(is_gap()).collect()

    assert sorted(found["kind"]) == ["silent", "undecodable"]


def test_what_another_connection_heard_is_no_gap(tmp_path):
    """
    Only if coverage has nothing missing or suspect meanwhile, of the market or of any; and only of what did not come.
    """
    one = {"connection": 0}
    sol, usdc = one | {"symbol": "SOL-PERP"}, one | {"symbol": "USDC"}
    whole = one | {"symbol": None}
    events = [
        (event("disconnected", DAY + 10 * S, DAY + 20 * S) | whole, False),
        (event("disconnected", DAY + 10 * S, DAY + 101 * S) | whole, True),
        (event("disconnected", DAY + 200 * S, DAY + 201 * S) | whole, False),
        (event("disconnected", DAY + 3599 * S, DAY + 3601 * S) | whole, True),
        (event("silent", DAY + 90 * S, DAY + 110 * S) | sol, False),
        (event("silent", DAY + 90 * S, DAY + 110 * S) | usdc, True),
        (event("silent", DAY + 90 * S, DAY + 110 * S) | sol | {"symbol": "NEW-PERP"}, True),
        (event("undecodable", DAY + 11 * S, DAY + 11 * S) | whole | {"missing": 1}, True),
        (event("heartbeat_gap", DAY + 11 * S, DAY + 22 * S) | whole, True),
        (event("recorder_down", DAY + 12 * S, DAY + 13 * S) | whole | {"connection": None}, True),
        (event("connected", DAY + 95 * S, DAY + 105 * S) | whole, False),
    ]
    rows = [told | {"event_id": str(number)} for number, (told, _) in enumerate(events)]
    books = {"channel": "orderbook", "grouping": 1}
    of_usdc = [(0, "complete", "ticks"), (100, "missing", "disconnected"), (105, "complete", "ticks")]
    of_trades = [(0, "unverifiable", "no fill yet")]
    hours = [coverage(0, [(0, "complete", "ticks")], **books), coverage(0, of_usdc, symbol="USDC", **books)]
    Writer(tmp_path).hour(DAY, {("quality", None): rows, ("coverage", None): [*hours, coverage(0, of_trades)]})
    found = Lake(tmp_path)

    told = with_gaps(found.events().collect(), partial(found.spans, None))

    assert dict(told.select("event_id", "gap").iter_rows()) == {str(n): gap for n, (_, gap) in enumerate(events)}
    nothing = found.events(end=DAY).collect()
    assert with_gaps(nothing, partial(found.spans, None)).columns == [*nothing.columns, "gap"]
    of_sol = with_gaps(found.events().collect(), partial(found.spans, "SOL-PERP"))
    assert of_sol.filter(event_id="1")["gap"].to_list() == [False], "of that market alone it was heard"


def test_what_began_before_the_range_is_judged_whole(tmp_path):
    """
    The outage of a copy over an hour's end is no gap of either hour.
    """
    part = {"event_id": "a", "connection": 0, "symbol": None}
    before = event("disconnected", DAY + 3590 * S, DAY + HOUR_NS) | part | {"continues": True}
    after = event("disconnected", DAY + HOUR_NS, DAY + HOUR_NS + 9 * S) | part | {"true_start": DAY + 3590 * S}
    books = {"channel": "orderbook", "grouping": 1}
    writer = Writer(tmp_path)
    for hour, row in enumerate((before, after)):
        rows = [coverage(hour, [(0, "complete", "ticks")], **books)]
        writer.hour(DAY + hour * HOUR_NS, {("quality", None): [row], ("coverage", None): rows})
    found = Lake(tmp_path)

    for range_ in ((DAY, DAY + HOUR_NS), (DAY + HOUR_NS, DAY + 2 * HOUR_NS)):
        told = with_gaps(found.events(*range_).collect(), partial(found.spans, None))
        assert told["gap"].to_list() == [False]


@pytest.mark.parametrize("read", [lambda lake: lake.books(), lambda lake: lake.quality(), lambda lake: lake.coverage()])
def test_a_file_that_is_gone_is_named(tmp_path, read):
    """
    A hole that somebody made by hand is no empty answer, and no traceback of a library.
    """
    tables = {name: [blank(name)] for name in ("quality", "coverage")}
    Writer(tmp_path).hour(DAY, {("books", "SOL-PERP"): [blank("books")], **{(n, None): r for n, r in tables.items()}})
    for path in (tmp_path / "lake").rglob("*.parquet"):
        path.unlink()

    with pytest.raises(DamagedFile, match=r"\.parquet: is not there, and the manifest of its hour names it; `drift"):
        read(Lake(tmp_path))


# ---- days


def day(hours: range, *, suspect: int = 0, **more: Any) -> list[dict[str, Any]]:
    """
    A book stream's hours, each with some seconds suspect.
    """
    of: Spans = [(0, "suspect", "x"), (suspect, "complete", "ticks")] if suspect else [(0, "complete", "ticks")]
    return [coverage(hour, of, **{"channel": "orderbook", "grouping": 1, "rows": 9000} | more) for hour in hours]


ALL = range(24)


@pytest.mark.parametrize(
    ("rows", "so_far", "condition"),
    [
        (day(ALL), (), "available"),
        (day(ALL, suspect=3), (), "available"),
        (day(ALL, suspect=4), (), "degraded"),
        (day(range(1, 24)), (), "degraded"),
        (day(range(23)), (), "pending"),
        (day(ALL), (23,), "pending"),
        (day([*range(5), *range(6, 24)]), (), "pending"),
        (day(ALL, rows=0), (), "missing"),
        ([*day(ALL), fills(3, 1, 9, fills_missing=1)], (), "degraded"),
        ([*day(ALL), *(fills(h, None, None) for h in ALL)], (), "available"),
        ([*day(ALL), *(fills(h, None, None, spans=[(0, "missing", "rejected")]) for h in ALL)], (), "degraded"),
        ([*day(ALL), *day(ALL, suspect=3600, channel="orderbook_indicative")], (), "available"),
        ([*day(ALL), *day(ALL, suspect=3600, grouping=100)], (), "available"),
        ([fills(h, None, None, rows=1) for h in ALL], (), "available"),
    ],
)
def test_the_condition_of_a_day(tmp_path, rows, so_far, condition):
    """
    By its books, to one part in a thousand; by its fills, to the last; and not before it is sealed.
    """
    found = lake(tmp_path, rows, so_far=so_far).condition().collect()

    assert found.select("day", "symbol", "condition").rows() == [(date(2026, 11, 22), "SOL-PERP", condition)]


def test_the_tolerance_is_the_readers_choice(tmp_path):
    """
    A tenth of a day, or nothing at all.
    """
    found = lake(tmp_path, day(ALL, suspect=4))

    assert found.condition(tolerance=0.1).collect()["condition"].to_list() == ["available"]
    assert found.condition(tolerance=0).collect()["condition"].to_list() == ["degraded"]


def test_a_day_is_judged_whole(tmp_path):
    """
    Whatever part of it the range touches.
    """
    found = lake(tmp_path, [*day(ALL), *day(range(24, 48), suspect=100)])

    part = found.condition("SOL-PERP", DAY + 30 * HOUR_NS, DAY + 31 * HOUR_NS).collect()

    assert part.select("day", "condition", "hours", "suspect_s").rows() == [(date(2026, 11, 23), "degraded", 24, 2400)]
    assert found.condition().collect()["condition"].to_list() == ["available", "degraded"]


def test_an_empty_lake_has_no_days(tmp_path):
    """
    And the columns of a full one.
    """
    Writer(tmp_path)

    assert Lake(tmp_path).condition().collect().height == 0
    assert "condition" in Lake(tmp_path).condition().collect_schema()


# ---- connections


def test_a_connection_has_what_it_was_first_to_bring(tmp_path):
    """
    Of two that carry the same, one brought three of four books; a third brought nothing.
    """

    def of(connection: int) -> dict[str, object]:
        return blank("connections") | {"start": DAY, "run": "a", "connection": connection, "up_s": 3600.0}

    def row(table: str, connection: int, second: int, late_ms: int) -> dict[str, object]:
        came = DAY + second * S
        where = {"run": "a", "connection": connection, "recv_ts": came, "ts": came // 10**6 - late_ms}
        return blank(table) | {"symbol": "SOL-PERP"} | where

    books = [row("books", 0, 1, 10), row("books", 0, 2, 20), row("books", 0, 3, 30), row("books", 1, 4, 5)]
    tables = {
        ("connections", None): [of(0), of(1), of(2)],
        ("books", "SOL-PERP"): books,
        ("trades", "SOL-PERP"): [row("trades", 0, 5, 9000)],
    }
    Writer(tmp_path).hour(DAY, tables)

    found = Lake(tmp_path).connections().collect()

    assert found.select("connection", "up_s", "first", "share", "latency_p50_ms").rows() == [
        (0, 3600.0, 4, 0.8, 20.0),
        (1, 3600.0, 1, 0.2, 5.0),
        (2, 3600.0, 0, 0.0, None),
    ]


def test_an_empty_lake_has_no_connections(tmp_path):
    """
    And a lake of the first format has none on record.
    """
    Writer(tmp_path).hour(DAY, {("books", "SOL-PERP"): [blank("books") | {"symbol": "SOL-PERP", "recv_ts": DAY}]})

    assert Lake(tmp_path).connections().collect().height == 0
    assert Lake(tmp_path).connections("2030-01-01").collect().height == 0
