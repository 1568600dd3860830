"""
What is asked of a lake, in the terms of its tables: ranges, columns, and the rows of `coverage` that speak of a table.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Literal

import polars as pl

from recorder.analysis.units import Instant, instant, moment
from recorder.errors import RecorderError
from recorder.lake.schema import table

Units = Literal["natural", "raw"]
Markets = str | Sequence[str] | None
"""One, several, or all."""

BOOK_TABLE = re.compile(r"books(_ungrouped|_grouped_\d+)?(_indicative)?")


def streams_of(name: str) -> pl.Expr:
    """
    The rows of `coverage` that speak of a table.
    """
    books = BOOK_TABLE.fullmatch(name)
    if books is None:
        return pl.col("channel") == {"priority_fees": "priorityfees"}.get(name, name)
    channel = pl.col("channel") == ("orderbook_indicative" if books[2] else "orderbook")
    grouped = re.fullmatch(r"_grouped_(\d+)", books[1] or "")
    if grouped is not None:
        return channel & (pl.col("grouping") == int(grouped[1]))
    # An old server sends ungrouped books whatever was asked for.
    return channel & (pl.col("grouping").is_null() | (pl.col("grouping") == 1))


def time_range(start: Instant | None, end: Instant | None) -> tuple[int | None, int | None]:
    """
    Bounds in ns.
    """
    first = None if start is None else instant(start, "start")
    last = None if end is None else instant(end, "end")
    if first is not None and last is not None and last < first:
        raise RecorderError(f"end ({end}) lies before start ({start})")
    return first, last


def between(column: str, first: int | None, last: int | None) -> pl.Expr:
    """
    Whether an instant lies in a range.
    """
    inside = pl.lit(True)  # polars' own
    if first is not None:
        inside = pl.col(column) >= moment(first)
    if last is not None:
        inside = (pl.col(column) < moment(last)) if first is None else inside & (pl.col(column) < moment(last))
    return inside


def columns_of(name: str, values: Sequence[pl.Expr | str]) -> list[str] | None:
    """
    The columns of a table that some values are made from, with time and market; None: any.
    """
    there = [column.name for column in table(name).columns]
    needed = {"recv_ts", "symbol"}
    for value in values:
        roots = [value] if isinstance(value, str) else value.meta.root_names()
        if any(root not in there for root in roots):
            return None  # a pattern, or a mistake: polars tells
        if not isinstance(value, str) and value.meta.has_multiple_outputs():
            return None
        needed.update(roots)
    return [column for column in there if column in needed]


def near(name: str, known: Iterable[str]) -> str:
    """
    Names like one that is not known, in words to append.
    """
    by_lower = {symbol.lower(): symbol for symbol in known}
    alike = [by_lower[found] for found in get_close_matches(name.lower()[:200], by_lower, n=3)]
    return f"; near: {', '.join(alike)}" if alike else ""
