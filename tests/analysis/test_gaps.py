"""
Holes as intervals, and what the four modes make of rows.
"""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analysis_cases import Writer, blank, book
from recorder.analysis import UNPROVEN, GapError, Lake
from recorder.errors import RecorderError
from recorder.lake import layout
from recorder.records import HOUR_NS, SECOND_NS

HOUR = layout.parse_hour("2026-11-22T16")
S = SECOND_NS
Stretches = list[tuple[int, str, str]]
"""From which second of the hour, state, why."""


def judged(
    start: int, stretches: Stretches, *, symbol: str = "SOL-PERP", channel: str = "orderbook", length: int = 3600
):
    """
    A row of coverage.
    """
    ends = [*(second for second, _, _ in stretches[1:]), length]
    seconds = {f"{state}_s": 0.0 for state in ("complete", "suspect", "missing", "unverifiable")}
    for (begin, state, _), end in zip(stretches, ends, strict=True):
        seconds[f"{state}_s"] += end - begin
    lists: dict[str, Any] = {
        "span_start": [start + second * S for second, _, _ in stretches],
        "span_state": [state for _, state, _ in stretches],
        "span_why": [why for _, _, why in stretches],
    }
    grouping = 1 if channel == "orderbook" else None
    of = {"start": start, "symbol": symbol, "channel": channel, "grouping": grouping, "market_type": "perp"}
    return blank("coverage") | of | seconds | lists


def seconds(frame: pl.LazyFrame, *columns: str) -> list[tuple[Any, ...]]:
    """
    Rows with instants as seconds since the hour.
    """
    times = [pl.col(c).cast(pl.Int64).sub(HOUR) / S for c in columns if c in {"start", "end", "recv_ts"}]
    return frame.with_columns(times).select(columns).collect().rows()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """
    Two hours, a book each ten minutes; a hole over the edge between the hours, a doubtful stretch in the second.
    """
    writer = Writer(tmp_path / "lake")
    first: Stretches = [(0, "complete", "ticks"), (3000, "missing", "silent")]
    second: Stretches = [
        (0, "missing", "silent"), (600, "complete", "ticks"), (1200, "suspect", "backlog"),
        (2400, "complete", "ticks"), (3000, "unverifiable", "no even pace"),
    ]  # fmt: skip
    for hour, stretches in ((HOUR, first), (HOUR + HOUR_NS, second)):
        rows = [book("SOL-PERP", hour + at * S) for at in range(0, 3600, 600)]
        writer.hour(hour, {("books", "SOL-PERP"): rows, ("coverage", None): [judged(hour, stretches)]})
    return Lake(writer.root)


def test_holes_that_touch_are_one_and_what_nobody_recorded_is_a_hole(lake):
    """
    An hour's edge divides no hole; a range that reaches over the lake's end says so.
    """
    holes = lake.gaps("SOL-PERP", end=HOUR + 3 * HOUR_NS)

    assert seconds(holes, "symbol", "start", "end", "state", "why") == [
        ("SOL-PERP", 3000, 4200, "missing", "silent"),
        ("SOL-PERP", 4800, 6000, "suspect", "backlog"),
        ("SOL-PERP", 7200, 10800, "unrecorded", "no published hour has it"),
    ]


def test_holes_are_cut_to_the_range_and_of_the_states_asked_for(lake):
    """
    What is unverifiable is a hole to those who ask.
    """
    holes = lake.gaps("SOL-PERP", HOUR + 3600 * S, HOUR + 7000 * S, states=UNPROVEN)

    assert seconds(holes, "start", "end", "state") == [
        (3600, 4200, "missing"),
        (4800, 6000, "suspect"),
        (6600, 7000, "unverifiable"),
    ]


def test_a_market_without_a_row_is_unrecorded_throughout(lake):
    """
    Not asked for is not quiet.
    """
    holes = lake.gaps("BTC-PERP", HOUR, HOUR + HOUR_NS)

    assert seconds(holes, "symbol", "start", "end", "state") == [("BTC-PERP", 0, 3600, "unrecorded")]


def test_ignore_gives_the_rows_as_they_are(lake):
    """
    The default of tables: rows are what was heard.
    """
    assert lake.books("SOL-PERP").collect().equals(lake.books("SOL-PERP", gaps="ignore").collect())
    assert len(lake.books("SOL-PERP").collect()) == 12


def test_split_leaves_out_what_lies_in_holes_and_numbers_the_rest(lake):
    """
    Rows at a hole's bounds are good.
    """
    rows = lake.books("SOL-PERP", gaps="split", columns=["recv_ts"])

    assert seconds(rows, "recv_ts", "segment") == [
        *((at, 0) for at in range(0, 3600, 600)),
        *((at, 1) for at in (4200, 4800)),
        *((at, 2) for at in (6000, 6600)),
    ]


def test_mask_puts_a_row_of_nulls_just_after_each_holes_start(lake):
    """
    So that nothing is carried over it.
    """
    rows = lake.books("SOL-PERP", gaps="mask", columns=["recv_ts", "best_bid_price"]).filter("gap")

    assert rows.select(pl.col("recv_ts").cast(pl.Int64) - HOUR).collect()["recv_ts"].to_list() == [
        3000 * S + 1,
        4800 * S + 1,
    ]
    assert rows.collect()["best_bid_price"].to_list() == [None, None]


def test_error_is_raised_when_collected_and_names_the_first_hole(lake):
    """
    Nothing is read before.
    """
    frame = lake.books("SOL-PERP", gaps="error")

    with pytest.raises(GapError, match=r"SOL-PERP: from 2026-11-22 16:50:00.* is missing \(silent\), and 1 more"):
        frame.collect()
    assert len(lake.books("SOL-PERP", end=HOUR + 2000 * S, gaps="error").collect()) == 4


def test_a_mode_that_does_not_exist_is_told(lake):
    """
    With those that do.
    """
    with pytest.raises(RecorderError, match="gaps='fill' is unknown"):
        lake.books("SOL-PERP", gaps="fill")
