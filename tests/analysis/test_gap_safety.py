"""
What is derived crosses no hole: every operation in every mode, on random lakes, against loops over rows and instants.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from analysis_cases import Writer, blank, book, trade
from recorder.analysis import Lake
from recorder.analysis import book as levels
from recorder.errors import RecorderError
from recorder.lake import layout
from recorder.records import HOUR_NS, SECOND_NS

HOUR = layout.parse_hour("2026-11-22T16")
S = SECOND_NS
LENGTH = 60
"""Seconds of the hour in which things happen; the rest of it is complete and empty."""
SYMBOL = "SOL-PERP"
Hole = tuple[int, int]


class Case:
    """
    One market's books and trades at whole seconds, and the holes of either, in seconds of the hour.
    """

    def __init__(self, books: list[int], trades: list[int], holes: list[Hole]) -> None:
        self.books, self.trades, self.holes = books, trades, holes

    def __repr__(self) -> str:
        return f"Case({self.books}, {self.trades}, {self.holes})"

    def inside(self, at: float) -> bool:
        """
        Strictly within a hole.
        """
        return any(start < at < end for start, end in self.holes)

    def touched(self, start: float, end: float) -> bool:
        """
        Whether a stretch has a part in a hole.
        """
        return any(max(start, a) < min(end, b) for a, b in self.holes)

    def between(self, earlier: float, later: float) -> bool:
        """
        Whether a hole lies between two instants, wholly or in part.
        """
        return self.touched(earlier, later)

    def lake(self, path: Path) -> Lake:
        """
        Sealed.
        """
        writer = Writer(path)
        tables: dict[tuple[str, str | None], list[dict[str, object]]] = {
            ("coverage", None): [coverage(channel, self.holes) for channel in ("orderbook", "trades")]
        }
        if self.books:
            tables["books", SYMBOL] = [self.book(at) for at in self.books]
        if self.trades:
            tables["trades", SYMBOL] = [
                trade(SYMBOL, HOUR + at * S) | {"fill_record_id": n, "aggressor": "buy", "price": 100.0 + at}
                for n, at in enumerate(self.trades)
            ]
        writer.hour(HOUR, tables)
        return Lake(writer.root)

    @staticmethod
    def book(at: int) -> dict[str, object]:
        """
        Its prices tell when it came: the middle is 150 and so many hundredths.
        """
        bid, ask = 149_990_000 + at * 10_000, 150_010_000 + at * 10_000
        return book(SYMBOL, HOUR + at * S) | {"best_bid_price": bid, "best_ask_price": ask}


def mid_of(at: int) -> float:
    """
    Of the book that came then.
    """
    return 150 + at / 100


def coverage(channel: str, holes: list[Hole]) -> dict[str, object]:
    """
    The hour's row: complete but for the holes.
    """
    edges = sorted({0, 3600, *(edge for hole in holes for edge in hole)})
    stretches = [
        (a, "missing" if any(s <= a and b <= e for s, e in holes) else "complete", b - a) for a, b in pairwise(edges)
    ]
    missing = float(sum(length for _, state, length in stretches if state == "missing"))
    return blank("coverage") | {
        "start": HOUR,
        "symbol": SYMBOL,
        "market_type": "perp",
        "channel": channel,
        "grouping": 1 if channel == "orderbook" else None,
        "complete_s": 3600 - missing,
        "missing_s": missing,
        "span_start": [HOUR + a * S for a, _, _ in stretches],
        "span_state": [state for _, state, _ in stretches],
        "span_why": [state for _, state, _ in stretches],
    }


@st.composite
def cases(draw) -> Case:
    """
    Few rows and few holes, so that they meet.
    """
    instants = st.lists(st.integers(0, LENGTH - 1), max_size=12, unique=True).map(sorted)
    edges = draw(st.lists(st.integers(0, LENGTH), max_size=8, unique=True).map(sorted))
    holes = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    return Case(draw(instants), draw(instants), holes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """
    A folder for each example.
    """
    root = tmp_path_factory.mktemp("lakes")
    counter = iter(range(10**6))
    return lambda: root / str(next(counter))


PROPERTY = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
END = HOUR + LENGTH * S


def at_seconds(frame: pl.DataFrame, column: str) -> list[float]:
    """
    Instants as seconds of the hour.
    """
    return [(value - HOUR) / S for value in frame[column].cast(pl.Int64)]


def same(ours: Any, theirs: Any) -> bool:
    """
    But for the last digits.
    """
    return (ours is None) == (theirs is None) and (ours is None or math.isclose(ours, theirs, abs_tol=1e-9))


def last_book(case: Case, at: float, *, strict: bool) -> int | None:
    """
    The book that is known at an instant: the last one, if there is no hole since, and the instant is in none.
    """
    before = [b for b in case.books if (b < at if strict else b <= at) and not case.inside(b)]
    if not before or case.inside(at) or case.between(before[-1], at):
        return None
    return before[-1]


@PROPERTY
@given(case=cases())
def test_rows_of_each_mode(case, folder):
    """
    Split rows are those outside holes, numbered by the holes before them; masked ones have a row for each hole.
    """
    lake = case.lake(folder())
    kept = [b for b in case.books if not case.inside(b)]

    split = lake.books(SYMBOL, HOUR, END, gaps="split").collect()
    masked = lake.books(SYMBOL, HOUR, END, gaps="mask").collect()

    assert at_seconds(split, "recv_ts") == kept
    assert split["segment"].to_list() == [sum(end <= b for _, end in case.holes) for b in kept]
    assert at_seconds(masked.filter(~pl.col("gap")), "recv_ts") == kept
    assert at_seconds(masked.filter("gap"), "recv_ts") == [start + 1 / S for start, _ in case.holes]
    assert masked["recv_ts"].is_sorted()


@PROPERTY
@given(case=cases())
def test_samples_know_only_books_with_no_hole_since(case, folder):
    """
    On a grid of seconds.
    """
    lake = case.lake(folder())
    expected = [last_book(case, at, strict=False) for at in range(LENGTH)]

    for gaps in ("mask", "split"):
        found = lake.sample(SYMBOL, HOUR, END, levels.mid(), every="1s", gaps=gaps).collect()
        known = dict(zip(at_seconds(found, "recv_ts"), found["mid"], strict=True))
        for at, book_at in enumerate(expected):
            assert same(known.get(at), None if book_at is None else mid_of(book_at)), (gaps, at)
        assert gaps == "mask" or len(found) == sum(each is not None for each in expected)


@PROPERTY
@given(case=cases())
def test_trades_meet_the_book_strictly_before_them(case, folder):
    """
    And the later middle, only if no hole lies between.
    """
    lake = case.lake(folder())
    if not case.trades or not case.books:
        return
    found = lake.executions(SYMBOL, HOUR, END, horizons=("5s",)).collect()

    assert at_seconds(found, "recv_ts") == case.trades
    for at, mid, effective, realised in zip(
        case.trades, found["mid"], found["effective_spread_bps"], found["realised_spread_bps_5s"], strict=True
    ):
        seen = last_book(case, at, strict=True)
        assert same(mid, None if seen is None else mid_of(seen)), at
        price = 100.0 + at
        assert same(effective, None if seen is None else 2 * (price - mid_of(seen)) / mid_of(seen) * 10_000)
        later = last_book(case, at + 5, strict=False)
        whole = seen is not None and later is not None and not case.between(seen, later)
        later_spread = 2 * (price - mid_of(later or 0)) / mid_of(seen or 0) * 10_000
        assert same(realised, later_spread if whole else None), at


@PROPERTY
@given(case=cases(), period=st.integers(1, 20))
def test_windows_touch_no_hole(case, folder, period):
    """
    A masked window is whole; a split one begins after the hole.
    """
    lake = case.lake(folder())
    if not case.books:
        return
    count, low = pl.len().alias("n"), levels.mid().min().alias("low")
    kept = [b for b in case.books if not case.inside(b)]
    masked = lake.rolling(SYMBOL, HOUR, END, count, low, period=f"{period}s").collect()
    split = lake.rolling(SYMBOL, HOUR, END, count, low, period=f"{period}s", gaps="split").collect()

    assert at_seconds(masked, "recv_ts") == at_seconds(split, "recv_ts") == kept
    for frame, gaps in ((masked, "mask"), (split, "split")):
        for at, n, smallest in zip(kept, frame["n"], frame["low"], strict=True):
            # What lies before the hour is unrecorded: a hole as well.
            hole = case.touched(at - period, at) or at - period < 0
            window = [b for b in kept if at - period < b <= at and not case.between(b, at)]
            expected = None if hole and gaps == "mask" else window
            assert same(n, None if expected is None else len(expected)), (gaps, at)
            assert same(smallest, None if expected is None else mid_of(min(expected)))


@PROPERTY
@given(case=cases(), every=st.sampled_from([1, 5, 7, 20]))
def test_bars_by_time_are_whole_or_say_nothing(case, folder, every):
    """
    Every interval is there, with how much of it was covered; split, every piece between holes.
    """
    lake = case.lake(folder())
    if not case.trades:
        return
    masked = lake.bars(SYMBOL, HOUR, END, every=f"{every}s").collect()
    split = lake.bars(SYMBOL, HOUR, END, every=f"{every}s", gaps="split").collect()
    ignored = lake.bars(SYMBOL, HOUR, END, every=f"{every}s", gaps="ignore").collect()

    begins = at_seconds(masked, "start")
    assert all(b - a == every for a, b in pairwise(begins))
    for start, of_mask, of_ignore in zip(
        begins, masked.iter_rows(named=True), ignored.iter_rows(named=True), strict=True
    ):
        end = start + every
        fills = [t for t in case.trades if start <= t < end]
        before = max(-start, 0)  # the grid may begin before the hour
        lost = sum(max(0, min(end, b) - max(start, a)) for a, b in case.holes) + before
        assert same(of_mask["covered"], 1 - lost / every)
        assert of_ignore["trades"] == len(fills)
        if lost:
            assert of_mask["trades"] is of_mask["open"] is of_mask["volume"] is None
        else:
            assert of_mask["trades"] == len(fills)
            assert same(of_mask["open"], 100.0 + fills[0] if fills else None)
            assert same(of_mask["close"], 100.0 + fills[-1] if fills else None)
            assert same(of_mask["volume"], 0.25 * len(fills))
    counted = 0
    for row in split.iter_rows(named=True):
        start, end = ((row[name] - HOUR_START).total_seconds() for name in ("start", "end"))
        assert not case.touched(start, end)
        counted += row["trades"]
        if row["open"] is not None:
            assert not case.between(row["open"] - 100, row["close"] - 100)
    assert counted == sum(not case.inside(t) for t in case.trades)


HOUR_START = pl.Series([HOUR]).cast(pl.Datetime("ns", "UTC"))[0]


@PROPERTY
@given(case=cases(), size=st.integers(1, 4))
def test_counted_bars_reach_over_no_hole(case, folder, size):
    """
    Counted anew after each; masked, only full ones say anything.
    """
    lake = case.lake(folder())
    if not case.trades:
        return
    segments: list[list[int]] = []
    for at in case.trades:
        if case.inside(at):
            continue
        if not segments or case.between(segments[-1][-1], at):
            segments.append([])
        segments[-1].append(at)
    expected = [part[n : n + size] for part in segments for n in range(0, len(part), size)]

    by_ticks = lake.bars(SYMBOL, HOUR, END, ticks=size, gaps="split").collect()
    by_volume = lake.bars(SYMBOL, HOUR, END, volume=0.25 * size, gaps="split").collect()
    masked = lake.bars(SYMBOL, HOUR, END, ticks=size).collect()

    for found in (by_ticks, by_volume):
        assert [(row["open"] - 100, row["close"] - 100, row["trades"]) for row in found.iter_rows(named=True)] == [
            (bar[0], bar[-1], len(bar)) for bar in expected
        ]
        assert found["complete"].to_list() == [len(bar) == size for bar in expected]
    assert masked["trades"].to_list() == [len(bar) if len(bar) == size else None for bar in expected]


@PROPERTY
@given(case=cases(), every=st.sampled_from([None, 7, 30]))
def test_books_weigh_as_long_as_they_stood_and_never_over_a_hole(case, folder, every):
    """
    Second by second.
    """
    lake = case.lake(folder())
    if not case.books:
        return
    known = [last_book(case, at + 0.5, strict=False) for at in range(LENGTH)]

    for gaps in ("mask", "split"):
        span = None if every is None else f"{every}s"
        found = lake.time_weighted(SYMBOL, HOUR, END, levels.mid(), every=span, gaps=gaps).collect()
        begins = [0.0] if every is None else at_seconds(found, "start")
        length = LENGTH if every is None else every
        for start, row in zip(begins, found.iter_rows(named=True), strict=False):
            stood = [mid_of(k) for at, k in enumerate(known) if start <= at < start + length and k is not None]
            assert same(row["covered_s"], len(stood))
            assert stood
            assert same(row["mid"], sum(stood) / len(stood))
        assert same(found["covered_s"].sum(), sum(k is not None for k in known))


@PROPERTY
@given(case=cases(), every=st.sampled_from([5, 7]))
@example(case=Case([0], [], [(0, 1)]), every=7)
def test_resampled_intervals_are_whole_or_say_nothing(case, folder, every):
    """
    Rows count alike.
    """
    lake = case.lake(folder())
    if not case.books:
        return
    values = (pl.len().alias("n"), levels.mid().max().alias("high"))
    masked = lake.resample(SYMBOL, HOUR, END, *values, every=f"{every}s").collect()
    split = lake.resample(SYMBOL, HOUR, END, *values, every=f"{every}s", gaps="split").collect()

    for start, row in zip(at_seconds(masked, "start"), masked.iter_rows(named=True), strict=True):
        rows = [b for b in case.books if start <= b < start + every]
        hole = case.touched(start, start + every) or start < 0
        assert same(row["high"], None if hole or not rows else mid_of(rows[-1]))
        assert hole == (row["covered"] < 1)
    for row in split.iter_rows(named=True):
        start, end = ((row[name] - HOUR_START).total_seconds() for name in ("start", "end"))
        assert not case.touched(start, end)
    # Nothing is published before the hour: where an interval begins there, that and a hole at the hour's start are one.
    first = at_seconds(masked, "start")[0]
    seen = Case(case.books, [], [(min(first, 0) if start == 0 else start, end) for start, end in case.holes])
    assert split["n"].sum() == sum(not seen.inside(b) for b in case.books)


def test_everything_refuses_a_hole_with_error(tmp_path):
    """
    On collecting, naming it.
    """
    from recorder.analysis import GapError  # noqa: PLC0415

    lake = Case([1, 20], [2, 21], [(5, 9)]).lake(tmp_path / "lake")
    value = levels.mid().mean().alias("mid")
    for frame in (
        lake.sample(SYMBOL, HOUR, END, gaps="error"),
        lake.rolling(SYMBOL, HOUR, END, value, period="1s", gaps="error"),
        lake.resample(SYMBOL, HOUR, END, value, gaps="error"),
        lake.bars(SYMBOL, HOUR, END, gaps="error"),
        lake.bars(SYMBOL, HOUR, END, ticks=1, gaps="error"),
        lake.time_weighted(SYMBOL, HOUR, END, gaps="error"),
        lake.executions(SYMBOL, HOUR, END, gaps="error"),
        lake.flows(SYMBOL, HOUR, END, gaps="error"),
        lake.book(SYMBOL, HOUR + 10 * S, gaps="error"),
        lake.asof(lake.trades(SYMBOL).select("symbol", "recv_ts"), SYMBOL, HOUR, END, gaps="error"),
    ):
        with pytest.raises(GapError, match=f"{SYMBOL}: from "):
            frame.collect()


def test_a_book_at_a_time_in_a_hole_or_after_one_is_none(tmp_path):
    """
    Unless told to ignore it.
    """
    lake = Case([1, 20], [], [(5, 9)]).lake(tmp_path / "lake")

    def found(second: float, **options: Any) -> list[float]:
        return at_seconds(lake.book(SYMBOL, HOUR + int(second * S), **options).collect(), "recv_ts")

    assert found(4) == found(5) == [1]
    assert found(7) == found(9) == found(19) == []
    assert found(7, gaps="ignore") == [1]
    assert found(20) == [20]
    assert found(0.5) == []
    assert found(40, look_back_s=10) == []


def test_a_book_at_a_time_is_the_last_row_that_a_mask_leaves(tmp_path):
    """
    At every edge of rows and holes, and 1 ns around them.
    """
    lake = Case([1, 3, 5, 9, 12], [], [(5, 9), (10, 11), (12, 14)]).lake(tmp_path / "lake")
    for second in (0, 1, 3, 5, 7, 9, 10, 11, 12, 13, 14, 20):
        for step in (-2, -1, 0, 1, 2):
            at = HOUR + second * S + step
            marked = lake.books(SYMBOL, at - 60 * S, at + 1, gaps="mask").tail(1).collect()
            known = marked.filter(~pl.col("gap")).drop("gap")
            assert lake.book(SYMBOL, at).collect().equals(known), (second, step)


def test_instants_without_a_zone_are_refused(tmp_path):
    """
    Nobody can tell which zone they are of; with one, or as integers, they mean the same everywhere.
    """
    lake = Case([1, 20], [2, 21], []).lake(tmp_path / "lake")
    fills = lake.trades(SYMBOL).select("symbol", "recv_ts")
    with_zone = lake.asof(fills, SYMBOL, HOUR, END).collect()

    with pytest.raises(RecorderError, match=r'recv_ts: its timestamps have no time zone; .*replace_time_zone\("UTC"\)'):
        lake.asof(fills.with_columns(pl.col("recv_ts").dt.replace_time_zone(None)), SYMBOL, HOUR, END)
    with pytest.raises(RecorderError, match="recv_ts is String; give timestamps with a time zone, or integer ns"):
        lake.asof(fills.with_columns(recv_ts=pl.lit("now")), SYMBOL, HOUR, END)
    with pytest.raises(RecorderError, match="no column 'when'"):
        lake.asof(fills, SYMBOL, HOUR, END, time="when")
    elsewhere = pl.col("recv_ts").dt.convert_time_zone("Asia/Tokyo")
    for same in (pl.col("recv_ts").to_physical(), elsewhere):
        assert lake.asof(fills.with_columns(same), SYMBOL, HOUR, END).collect().equals(with_zone)


def test_nothing_beyond_the_hour_is_covered(tmp_path):
    """
    A range that reaches over what is published has a hole there.
    """
    lake = Case([1, 20], [2, 21], []).lake(tmp_path / "lake")

    bars = lake.bars(SYMBOL, HOUR, HOUR + 2 * HOUR_NS, every="30m").collect()

    assert bars["covered"].to_list() == [1.0, 1.0, 0.0, 0.0]
    assert bars["trades"].to_list() == [2, 0, None, None]
