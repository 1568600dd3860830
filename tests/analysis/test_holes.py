"""
Holes as intervals, and what is derived beside them, over the edges of hours and to the nanosecond: on random lakes,
against a reference that looks at each stretch between two edges by itself.
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from analysis_cases import Writer, blank, book
from recorder.analysis import HOLES, UNPROVEN, Lake
from recorder.analysis import book as levels
from recorder.lake import layout
from recorder.records import HOUR_NS

FIRST = layout.parse_hour("2026-11-22T16")
HOURS = 3
END = FIRST + HOURS * HOUR_NS
MARKETS = ("SOL-PERP", "USDC")
WORST = ("unrecorded", "missing", "suspect", "unverifiable", "complete")
STATES = WORST[1:]
OVER = "over"

OFFSETS = st.one_of(
    st.sampled_from([0, 1, 2, 500, 999, 1000, 1001, HOUR_NS - 1, HOUR_NS - 500, HOUR_NS // 2]),
    st.integers(0, HOUR_NS - 1),
)
"""Within an hour, ns: at and around its edges, and closer together than a microsecond."""


class Stretch(NamedTuple):
    """
    Of one market, ns.
    """

    start: int
    end: int
    state: str
    why: str


class World:
    """
    Hours of markets, each as where stretches of one state begin, up to `OVER`, and instants at which books came.
    """

    def __init__(self, hours: dict[tuple[str, int], list[tuple[int, str]]], books: dict[str, list[int]]) -> None:
        self.hours, self.books = hours, books

    def __repr__(self) -> str:
        return f"World({self.hours}, {self.books})"

    def stretches(self, symbol: str) -> list[Stretch]:
        """
        What coverage says of a market, in order.
        """
        told = []
        for (name, hour), parts in sorted(self.hours.items()):
            if name == symbol:
                told += [
                    Stretch(hour + offset, hour + end, state, f"as {state}")
                    for (offset, state), (end, _) in pairwise(parts)
                ]
        return told

    def holes(self, symbol: str, first: int, last: int, states: Iterable[str]) -> list[tuple[int, int, str, str]]:
        """
        By looking at each piece between two edges.
        """
        told = self.stretches(symbol)
        edges = sorted({first, last, *(edge for each in told for edge in each[:2] if first < edge < last)})
        found: list[tuple[int, int, str, list[str]]] = []
        for start, end in pairwise(edges):
            over = [each for each in told if each.start <= start and end <= each.end]
            state, why = (over[0].state, over[0].why) if over else ("unrecorded", "no published hour has it")
            if state not in {*states, "unrecorded"}:
                continue
            if found and found[-1][1] == start:
                begun, _, worst, whys = found.pop()
                worse = min(worst, state, key=WORST.index)
                found.append((begun, end, worse, whys if why in whys else [*whys, why]))
            else:
                found.append((start, end, state, [why]))
        return [(start, end, state, ", ".join(whys)) for start, end, state, whys in found]

    def lake(self, root: Path) -> Lake:
        """
        Published.
        """
        writer = Writer(root)
        for hour in sorted({hour for _, hour in self.hours}):
            tables: dict[tuple[str, str | None], list[dict[str, object]]] = {
                ("coverage", None): [
                    row(symbol, hour, self.hours[symbol, hour], channel)
                    for symbol in MARKETS
                    if (symbol, hour) in self.hours
                    for channel in ("orderbook", "priorityfees")
                ]
            }
            for symbol, instants in self.books.items():
                books = [
                    book(symbol, at) | {"best_bid_price": number * 10**6, "best_ask_price": number * 10**6}
                    for number, at in enumerate(instants)
                    if hour <= at < hour + HOUR_NS
                ]
                if books:
                    tables["books", symbol] = books
            writer.hour(hour, tables)
        return Lake(writer.root)


def row(symbol: str, hour: int, parts: list[tuple[int, str]], channel: str) -> dict[str, object]:
    """
    Of coverage.
    """
    seconds = {f"{state}_s": 0.0 for state in STATES}
    for (offset, state), (end, _) in pairwise(parts):
        seconds[f"{state}_s"] += (end - offset) / 10**9
    return blank("coverage") | seconds | {
        "start": hour, "symbol": symbol, "market_type": "perp", "channel": channel,
        "grouping": 1 if channel == "orderbook" else None,
        "span_start": [hour + offset for offset, _ in parts[:-1]],
        "span_state": [state for _, state in parts[:-1]],
        "span_why": [f"as {state}" for _, state in parts[:-1]],
    }  # fmt: skip


@st.composite
def worlds(draw) -> World:
    """
    Three hours of two markets; some hours of either are not there, some not over.
    """
    hours = {}
    for symbol in MARKETS:
        for hour in range(FIRST, END, HOUR_NS):
            if draw(st.integers(0, 3)):
                length = draw(st.sampled_from([HOUR_NS, HOUR_NS, 2_000 * 10**9]))
                offsets = sorted({0, *draw(st.lists(OFFSETS.filter(lambda at, over=length: at < over), max_size=5))})
                parts = [(offset, draw(st.sampled_from(STATES))) for offset in offsets]
                hours[symbol, hour] = [*parts, (length, OVER)]
    instants = st.builds(lambda hour, offset: FIRST + hour * HOUR_NS + offset, st.integers(0, HOURS - 1), OFFSETS)
    # A book at and around each edge, too.
    edges = [hour + offset + step for (_, hour), parts in hours.items() for offset, _ in parts for step in (-1, 0, 1)]
    several = st.lists(st.one_of(instants, st.sampled_from(edges)) if edges else instants, max_size=12, unique=True)
    there = {hour for _, hour in hours}
    books = {
        symbol: sorted(at for at in draw(several) if FIRST <= at < END and layout.hour_of(at) in there)
        for symbol in MARKETS
    }
    return World(hours, books)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """
    A folder for each example.
    """
    root = tmp_path_factory.mktemp("worlds")
    counter = iter(range(10**6))
    return lambda: root / str(next(counter))


PROPERTY = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RANGES = st.lists(
    st.builds(lambda hour, offset: FIRST + hour * HOUR_NS + offset, st.integers(-1, HOURS), OFFSETS),
    min_size=2,
    max_size=2,
    unique=True,
).map(sorted)


def told(frame: pl.LazyFrame) -> list[tuple[Any, ...]]:
    """
    Rows with times as ns.
    """
    rows = frame.collect()
    return rows.with_columns(pl.col(name).to_physical() for name in ("start", "end")).rows()


@PROPERTY
@given(
    world=worlds(), bounds=RANGES, states=st.sampled_from([HOLES, UNPROVEN, ("unverifiable",), ("complete", "missing")])
)
def test_holes_are_what_each_stretch_says_by_itself(world, bounds, states, folder):
    """
    Over hours' edges, where hours are not there, cut to any range.
    """
    lake = world.lake(folder())
    first, last = bounds

    for symbol in MARKETS:
        expected = [(symbol, *hole) for hole in world.holes(symbol, first, last, states)]
        if any(name == symbol for name, _ in world.hours) or world.books[symbol]:
            assert told(lake.gaps(symbol, first, last, states=states)) == expected


@PROPERTY
@given(world=worlds(), bounds=RANGES, every=st.sampled_from(["7m", "1h", "100us"]))
def test_shares_are_to_the_nanosecond_and_a_bar_that_touches_a_hole_is_blank(world, bounds, every, folder):
    """
    A hole of one nanosecond is one, and a bar that ends a nanosecond after a hole has begun touches it.
    """
    lake = world.lake(folder())
    first, last = bounds
    if every == "100us":
        last = min(last, first + 10**6)
    symbol = MARKETS[0]
    assume(any(name == symbol for name, _ in world.hours))
    bars = lake.resample(symbol, first, last, pl.len().alias("n"), every=every).collect()
    # A bar by a length that does not divide the hour begins before the range.
    begun, over = bars["start"].to_physical().min(), bars["end"].to_physical().max()
    holes, unproven = (world.holes(symbol, begun, over, states) for states in (HOLES, UNPROVEN))
    for start, end, n, covered, proven in (
        bars.with_columns(pl.col("start", "end").to_physical())
        .select("start", "end", "n", "covered", "proven")
        .iter_rows()
    ):
        lost, doubted = (
            sum(max(0, min(end, hole[1]) - max(start, hole[0])) for hole in of) for of in (holes, unproven)
        )
        assert covered == pytest.approx(1 - lost / (end - start), abs=1e-12)
        assert proven == pytest.approx(1 - doubted / (end - start), abs=1e-12)
        rows = sum(start <= at < end for at in world.books[symbol])
        # Where there is no row there is nothing to count.
        assert n == (None if lost or not rows else rows)
    assert [*bars["start"][1:]] == [*bars["end"][:-1]]


@PROPERTY
@given(world=worlds(), data=st.data())
def test_what_is_known_at_an_instant_is_the_last_book_with_no_hole_since(world, data, folder):
    """
    Beside each edge and over those of hours; the same by `book`, `asof` and `sample`.
    """
    lake = world.lake(folder())
    symbol = MARKETS[0]
    holes = world.holes(symbol, FIRST - HOUR_NS, END, HOLES)
    edges = [edge + step for hole in holes for edge in hole[:2] for step in (-1, 0, 1, 2)]
    near = [at + step for at in world.books[symbol] for step in (0, 1)]
    at = data.draw(st.sampled_from([each for each in (*edges, *near) if FIRST < each <= END] or [FIRST + 5]))

    def known(at: int, *, strict: bool) -> int | None:
        inside = [start < at < end for start, end, *_ in holes]
        before = [
            b for b in world.books[symbol]
            if (b < at if strict else b <= at) and not any(start < b < end for start, end, *_ in holes)
        ]  # fmt: skip
        if not before or any(inside) or at - before[-1] > 60 * 10**9:
            return None
        broken = any(max(before[-1], start) < min(at, end) for start, end, *_ in holes)
        return None if broken else before[-1]

    assume(world.books[symbol])
    expected = known(at, strict=False)
    found = lake.book(symbol, at).collect()["recv_ts"].to_physical().to_list()
    assert found == [each for each in (expected,) if each is not None]

    left = pl.LazyFrame({"symbol": [symbol], "when": [at]})
    for strict in (True, False):
        joined = lake.asof(left, symbol, at, at + 1, levels.mid(), time="when", strict=strict).collect()
        assert joined["book_ts"].to_physical().to_list() == [known(at, strict=strict)]


@PROPERTY
@given(world=worlds(), bounds=RANGES)
def test_a_book_weighs_the_nanoseconds_that_it_stood(world, bounds, folder):
    """
    Until the next one, a hole or the range's end, over the edges of hours.
    """
    lake = world.lake(folder())
    first, last = bounds
    symbol = MARKETS[0]
    # What ends a book stands a nanosecond after the hole's start: one of a single nanosecond has no room for it.
    holes = [hole for hole in world.holes(symbol, first - 60 * 10**9, last, HOLES) if hole[1] - hole[0] > 1]
    kept = [
        (number, at) for number, at in enumerate(world.books[symbol])
        if first - 60 * 10**9 <= at < last and not any(start < at < end for start, end, *_ in holes)
    ]  # fmt: skip
    weighed = []
    for (number, at), (_, following) in pairwise([*kept, (-1, last)]):
        until = min([following, *(start for start, *_ in holes if at <= start)], default=following)
        stood = min(until, last) - max(at, first)
        if stood > 0:
            weighed.append((number, stood))
    assume(world.books[symbol])
    found = lake.time_weighted(symbol, first, last, levels.mid()).collect()

    total = sum(stood for _, stood in weighed)
    assert found["covered_s"].to_list() == ([pytest.approx(total / 10**9, abs=1e-9)] if total else [])
    if total:
        assert found["mid"][0] == pytest.approx(sum(number * stood for number, stood in weighed) / total, rel=1e-12)


def test_a_hole_shorter_than_a_microsecond_is_one(tmp_path):
    """
    A bar that it touches says nothing; one that ends where it begins is whole.
    """
    parts = [(0, "complete"), (1_000_700, "missing"), (1_001_200, "complete"), (HOUR_NS, OVER)]
    lake = World({("SOL-PERP", FIRST): parts}, {"SOL-PERP": [FIRST + 5]}).lake(tmp_path / "lake")

    bars = lake.resample("SOL-PERP", FIRST, FIRST + 1_003_000, pl.len().alias("n"), every="1us").collect()

    assert bars["covered"][999:1003].to_list() == [1.0, pytest.approx(0.7), pytest.approx(0.8), 1.0]
