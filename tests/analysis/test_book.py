"""
What books say, each figure held against a plain loop over the levels: random books and captured ones, in both units.
"""

import math
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis_cases import blank
from captures import CAPTURES, capture
from recorder.analysis import book
from recorder.analysis.units import natural, polars_schema
from recorder.errors import RecorderError
from recorder.lake.columns import BookColumns, rows_table
from recorder.lake.schema import table
from recorder.records import Entry, EntryKind, Source
from recorder.venue.normalize import Book, decode

Row = dict[str, Any]
SCHEMA = polars_schema(table("books"))
BITS = (1, 2, 4, 8, 256)


@st.composite
def sides(draw, sign: int) -> Row:
    """
    Levels of a side, best first, with sources and their parts; sometimes none, sometimes more than are sent.
    """
    name = "bid" if sign < 0 else "ask"
    start = draw(st.integers(99_000_000, 101_000_000))
    steps = draw(st.lists(st.integers(1, 90_000), max_size=draw(st.sampled_from([0, 1, 3, 25]))))
    price, size, source, part = [], [], [], []
    at = start
    for step in steps:
        at += sign * step
        sources = sorted(draw(st.sets(st.sampled_from(BITS), min_size=1, max_size=3)))
        parts = [draw(st.integers(1, 5_000_000_000)) for _ in sources]
        price.append(at)
        size.append(sum(parts))
        source.append(sum(sources))
        part += parts if len(parts) > 1 else []
    return {f"{name}_price": price, f"{name}_size": size, f"{name}_source": source, f"{name}_part": part}


@st.composite
def random_books(draw) -> list[Row]:
    """
    A few, as rows of the lake.
    """
    return [
        with_best(
            blank("books") | {"symbol": "SOL-PERP", "size_exponent": 9, "recv_ts": n} | draw(sides(-1)) | draw(sides(1))
        )
        for n in range(draw(st.integers(1, 6)))
    ]


def captured_books(name: str) -> list[Row]:
    """
    Every tenth book of a capture, as rows of the lake.
    """
    columns = BookColumns()
    for number, (recv_ts, payload) in enumerate(capture(name)):
        decoded = decode(payload, size_exponent=9)
        if isinstance(decoded, Book) and number % 10 == 0:
            entry = Entry(EntryKind.FRAME, 0, 1, number, recv_ts // 1000 * 1000, payload, run="r")
            columns.append(decoded, entry, symbol="SOL-PERP", size_exponent=9)
    return [row | {"recv_ts": at} for at, row in enumerate(columns.take().to_pylist())]


def with_best(row: Row) -> Row:
    """
    Its best levels in the columns for them.
    """
    best = {
        f"best_{side}_{what}": row[f"{side}_{what}"][0] if row[f"{side}_{what}"] else None
        for side in ("bid", "ask")
        for what in ("price", "size")
    }
    return row | best


def frame(rows: list[Row], units: str) -> pl.DataFrame:
    """
    As `Lake.books` gives them.
    """
    raw = pl.from_arrow(rows_table(table("books"), rows))
    assert isinstance(raw, pl.DataFrame)
    return raw if units == "raw" else raw.with_columns(natural(table("books")))


# ---- the reference: one book as (price, size, sizes by source) a level, in the units of the frame


class Plain:
    """
    One book, by loops.
    """

    def __init__(self, row: Row, units: str) -> None:
        price_scale = 1 if units == "raw" else 10**6
        size_scale = 1 if units == "raw" else 10 ** row["size_exponent"]
        self.side: dict[str, list[tuple[float, float, dict[int, float]]]] = {}
        for side in ("bid", "ask"):
            parts = iter(row[f"{side}_part"])
            self.side[side] = []
            for price, size, bits in zip(row[f"{side}_price"], row[f"{side}_size"], row[f"{side}_source"], strict=True):
                named = [bit for bit in (1 << n for n in range(16)) if bits & bit]
                of = {named[0]: size} if len(named) == 1 else {bit: next(parts) for bit in named}
                of = {bit: value / size_scale for bit, value in of.items()}
                self.side[side].append((price / price_scale, size / size_scale, of))

    def best(self, side: str) -> tuple[float, float] | None:
        """
        Price and size.
        """
        levels = self.side[side]
        return levels[0][:2] if levels else None

    def mid(self) -> float | None:
        """
        Of the best prices.
        """
        bid, ask = self.best("bid"), self.best("ask")
        return None if bid is None or ask is None else (bid[0] + ask[0]) / 2

    def spread(self) -> float | None:
        """
        Of the best prices.
        """
        bid, ask = self.best("bid"), self.best("ask")
        return None if bid is None or ask is None else ask[0] - bid[0]

    def spread_bps(self) -> float | None:
        """
        Of the middle.
        """
        spread, mid = self.spread(), self.mid()
        return None if spread is None or mid is None else spread / mid * 10_000

    def microprice(self) -> float | None:
        """
        By the other side.
        """
        bid, ask = self.best("bid"), self.best("ask")
        if bid is None or ask is None:
            return None
        return (bid[0] * ask[1] + ask[0] * bid[1]) / (bid[1] + ask[1])

    def size_to(self, side: str, levels: int, bit: int | None, *, whole: bool = True) -> float | None:
        """
        Of the best levels.
        """
        found = self.side[side]
        if whole and len(found) < levels:
            return None
        return sum(size if bit is None else of.get(bit, 0) for _, size, of in found[:levels])

    def imbalance(self, levels: int) -> float | None:
        """
        Of the best levels.
        """
        if not self.side["bid"] or not self.side["ask"]:
            return None
        bid, ask = (self.size_to(side, levels, None, whole=False) or 0 for side in ("bid", "ask"))
        return (bid - ask) / (bid + ask)

    def depth(self, side: str, bps: float, bit: int | None, *, touch: bool, at_least: bool) -> float | None:
        """
        Level by level.
        """
        middle = (self.best(side) or (None,))[0] if touch else self.mid()
        if middle is None:
            return None
        sign = 1 if side == "ask" else -1
        edge = middle * (1 + sign * bps / 10_000)
        inside = [(size, of) for price, size, of in self.side[side] if (price - edge) * sign <= 0]
        if not at_least and len(self.side[side]) >= 20 and len(inside) == len(self.side[side]):
            return None
        return sum(size if bit is None else of.get(bit, 0) for size, of in inside)

    def fill_price(self, side: str, amount: float, *, quote: bool) -> float | None:
        """
        Level by level.
        """
        left, base, value = amount, 0.0, 0.0
        for price, size, _ in self.side[side]:
            there = size * price if quote else size
            taken = min(left, there)
            base += taken / price if quote else taken
            value += taken if quote else taken * price
            left -= taken
            if left <= 0:
                return value / base
        return None


QUESTIONS: dict[str, tuple[pl.Expr, Callable[[Plain, str], float | None]]] = {
    "mid": (book.mid(), lambda b, _: b.mid()),
    "spread": (book.spread(), lambda b, _: b.spread()),
    "spread_bps": (book.spread_bps(), lambda b, _: b.spread_bps()),
    "microprice": (book.microprice(), lambda b, _: b.microprice()),
    "imbalance 1": (book.imbalance(), lambda b, _: b.imbalance(1)),
    "imbalance 5": (book.imbalance(5), lambda b, _: b.imbalance(5)),
    "size to 3": (book.size_to("bid", 3), lambda b, _: b.size_to("bid", 3, None)),
    "vamm to 3": (book.size_to("ask", 3, "vamm"), lambda b, _: b.size_to("ask", 3, 2)),
    "depth 10": (book.depth("bid", 10), lambda b, _: b.depth("bid", 10, None, touch=False, at_least=False)),
    "depth 100": (book.depth("ask", 100), lambda b, _: b.depth("ask", 100, None, touch=False, at_least=False)),
    "dlob depth": (
        book.depth("ask", 50, "dlob", at_least=True),
        lambda b, _: b.depth("ask", 50, 1, touch=False, at_least=True),
    ),
    "indicative depth of the touch": (
        book.depth("bid", 20, "indicative", reference="touch", at_least=True),
        lambda b, _: b.depth("bid", 20, 4, touch=True, at_least=True),
    ),
}
AMOUNTS = {"raw": (3e9, 5e17), "natural": (3.0, 500.0)}


def alike(ours: list[float | None], theirs: list[float | None]) -> bool:
    """
    But for the last digits of a float.
    """
    return len(ours) == len(theirs) and all(
        (a is None) == (b is None) and (a is None or b is None or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6))
        for a, b in zip(ours, theirs, strict=True)
    )


def check(rows: list[Row], units: str) -> None:
    """
    All questions, of the frame and of each row.
    """
    found = frame(rows, units)
    plain = [Plain(row, units) for row in rows]
    base, quote = AMOUNTS[units]
    asked = dict(QUESTIONS)
    for side in ("bid", "ask"):
        asked |= {
            f"{side} {base} base": (
                book.fill_price(side, base),
                lambda b, _, side=side: b.fill_price(side, base, quote=False),
            ),
            f"{side} {quote} quote": (
                book.fill_price(side, quote, of="quote"),
                lambda b, _, side=side: b.fill_price(side, quote, quote=True),
            ),
        }
    answers = found.select(expression.alias(name) for name, (expression, _) in asked.items())
    for name, (_, reference) in asked.items():
        assert alike(answers[name].to_list(), [reference(b, units) for b in plain]), name
    levels = found.book.levels()
    expected = [
        (row["recv_ts"], side, at, level[0], level[1], *(level[2].get(bit, 0) for bit in (1, 2, 4)))
        for row, b in zip(rows, plain, strict=True)
        for side in ("bid", "ask")
        for at, level in enumerate(b.side[side], 1)
    ]
    got = levels.select(
        pl.col("recv_ts").cast(pl.Int64), "side", "level", "price", "size", "dlob", "vamm", "indicative"
    )
    assert len(got) == len(expected)
    for ours, theirs in zip(got.iter_rows(), expected, strict=True):
        assert ours[:3] == theirs[:3]
        assert alike(list(ours[3:]), list(theirs[3:]))


@settings(max_examples=40, deadline=None)
@given(rows=random_books(), units=st.sampled_from(["raw", "natural"]))
def test_every_figure_is_that_of_a_loop_over_the_levels(rows, units):
    """
    Empty sides, crossed books, several sources a level, more levels than are sent.
    """
    check(rows, units)


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("units", ["raw", "natural"])
def test_figures_of_captured_books_are_those_of_a_loop(units, name):
    """
    Books as servers sent them.
    """
    rows = captured_books(name)
    assert len(rows) > 5

    check(rows, units)


def one(**columns: Any) -> pl.DataFrame:
    """
    A book of two bids and one ask.
    """
    row = blank("books") | {
        "size_exponent": 9,
        "symbol": "SOL-PERP",
        "bid_price": [100_000_000, 99_000_000],
        "bid_size": [2_000_000_000, 3_000_000_000],
        "bid_source": [1, 3],
        "bid_part": [1_000_000_000, 2_000_000_000],
        "ask_price": [101_000_000],
        "ask_size": [4_000_000_000],
        "ask_source": [2],
        "ask_part": [],
    }
    return frame([with_best(row | columns)], "natural")


def test_parts_that_cannot_be_told_apart_make_sizes_by_source_null():
    """
    A level of one source whose part differs from its size looks like any other.
    """
    found = one(ask_part=[5]).book.sources("vamm").row(0, named=True)

    assert found["bid_vamm"] == [0.0, 2.0]
    assert found["ask_vamm"] == [None]
    assert one(ask_part=[5]).select(book.size_to("ask", 1, "vamm")).item() is None
    assert one(ask_part=[5]).select(book.size_to("ask", 1)).item() == 4.0


def test_sizes_that_are_not_known_make_null_not_zero():
    """
    The token's decimals are unknown.
    """
    found = one(size_exponent=None).book.depth(500).book.cost(1).book.imbalance().book.microprice().book.mid()

    row = found.row(0, named=True)
    assert (row["bid_depth_500bps"], row["buy_price"], row["imbalance_1"], row["microprice"]) == (None,) * 4
    assert row["mid"] == 100.5


def test_cost_is_positive_where_it_costs_and_null_where_the_book_ends():
    """
    Both sides, against the middle.
    """
    found = one().book.cost(4).row(0, named=True)

    assert found["sell_price"] == 99.5
    assert math.isclose(found["sell_bps"], 100 / 100.5 * 100)
    assert found["buy_price"] == 101
    assert one().book.cost(4.1).row(0, named=True)["buy_bps"] is None


def test_top_levels_become_columns():
    """
    Null where there is none.
    """
    row = one().book.top(2).row(0, named=True)

    assert (row["bid_price_2"], row["bid_size_2"]) == (99.0, 3.0)
    assert (row["ask_price_1"], row["ask_price_2"], row["ask_size_2"]) == (101.0, None, None)


def test_the_difference_of_two_books_is_what_changed_at_each_price():
    """
    Added, gone, and of another size; what stayed is left out.
    """
    later = one(
        bid_price=[100_500_000, 100_000_000], bid_size=[1_000_000_000, 2_000_000_000], bid_part=[], bid_source=[1, 1]
    )

    changed = one().book.difference(later)

    assert changed.rows() == [("bid", 100.5, 0.0, 1.0, 1.0), ("bid", 99.0, 3.0, 0.0, -3.0)]
    assert one().lazy().book.difference(one().lazy()).collect().height == 0


def test_sanity_is_told_from_the_levels():
    """
    Crossed, locked, one-sided.
    """

    def flags(**columns: Any) -> tuple[Any, ...]:
        return one(**columns).book.sanity().select("crossed", "locked", "one_sided").row(0)

    assert flags() == (False, False, False)
    assert flags(ask_price=[99_500_000]) == (True, False, False)
    assert flags(ask_price=[100_000_000]) == (False, True, False)
    assert flags(ask_price=[], ask_size=[], ask_source=[]) == (False, False, True)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: book.depth("bid", -1), "bps=-1; give 0 or more"),
        (lambda: book.size_to("bid", 0), "levels=0; give 1 or more"),
        (lambda: book.fill_price("bid", 0), "amount=0; give more than 0"),
        (lambda: book.sizes("bid", "amm"), "no source 'amm'; there are: dlob, vamm"),
        (lambda: one().book.time_weighted(every="1m"), "does not say where its holes are"),
    ],
)
def test_a_question_without_sense_is_refused(ask, message):
    """
    Naming what was given.
    """
    with pytest.raises(RecorderError, match=message):
        ask()


def test_every_source_has_a_name():
    """
    Those of the lake's bits.
    """
    assert {book.source_bit(source.name or "") for source in Source} == {int(source) for source in Source}
