"""
From the exact integers of the lake to natural units, as polars expressions; and from instants to nanoseconds.

What is scaled how is read from the `unit` of each column in `lake/schema.py`. A quotient of an integer up to 2^53 and a
power of ten is the nearest float there is; `units="raw"` gives the integers for those who need more.
"""

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

import polars as pl

from recorder.errors import RecorderError
from recorder.lake.schema import Table
from recorder.records import Flag
from recorder.venue.protocol import PERP_SIZE_EXPONENT, PRICE_EXPONENT

Instant = datetime | date | str | int
"""What a bound of a time range may be: see `instant`."""

NS_UTC = pl.Datetime("ns", "UTC")

_PRICE_UNIT = f"×10^{PRICE_EXPONENT}"
_SIZE_UNIT = "×10^size_exponent"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = 1 << 63
_YEAR_1973_NS = 10**17


_SCHEMAS: dict[str, pl.Schema] = {}


def polars_schema(table: Table) -> pl.Schema:
    """
    Columns and types of a table as polars reads them from its files.
    """
    if table.name not in _SCHEMAS:
        empty = pl.from_arrow(table.schema.empty_table())
        assert isinstance(empty, pl.DataFrame)
        _SCHEMAS[table.name] = empty.schema
    return _SCHEMAS[table.name]


def natural(table: Table, wanted: Collection[str] | None = None) -> list[pl.Expr]:
    """
    Expressions that replace each scaled column of a table, or those that are wanted, by floats in natural units.

    Prices and quote amounts in quote tokens, sizes in base tokens, `spread_pct` in percent whichever publisher sent it.
    Where the token's decimals are unknown a book's sizes are null; a trade's amounts came as decimals and are known.
    """
    exponent = pl.col("size_exponent").cast(pl.Float64)
    if table.name == "trades":
        exponent = exponent.fill_null(float(PERP_SIZE_EXPONENT))
    size_scale = pl.lit(10.0).pow(exponent)
    # As a column: by a plain number polars multiplies with its inverse, and 0.664452 becomes 0.6644519999999999.
    price_scale = pl.col("flags") * 0.0 + 10.0**PRICE_EXPONENT
    smaller = (pl.col("flags") & pl.lit(int(Flag.SPREAD_UNIT), pl.UInt32)) != 0
    expressions = []
    for column in table.columns:
        if wanted is not None and column.name not in wanted:
            continue
        if column.name == "spread_pct":
            scale = pl.when(smaller).then(price_scale / 100).otherwise(price_scale)
        elif column.unit.startswith(_SIZE_UNIT):
            scale = size_scale
        elif column.unit == _PRICE_UNIT:
            scale = price_scale
        else:
            continue
        expressions.append(pl.col(column.name) / scale)
    return expressions


def instant(value: Instant, name: str) -> int:
    """
    A bound of a time range in ns since the epoch.

    Takes a datetime with a zone, a date (its midnight, UTC), an ISO string such as `2026-11-22`, `2026-11-22T16` or
    `2026-11-22T16:30:00+01:00` (UTC where it names no zone, as everywhere in the lake), or integer nanoseconds.

    Raises:
        RecorderError: none of these, a datetime without a zone, or outside of what 64-bit nanoseconds hold.
        TypeError: of another type.
    """
    if isinstance(value, bool) or not isinstance(value, datetime | date | str | int):
        raise TypeError(f"{name} is a {type(value).__name__}; give a datetime, a date, an ISO string or integer ns")
    given = _parsed(value, name) if isinstance(value, str) else value
    if isinstance(given, int):
        if abs(given) < _YEAR_1973_NS:
            raise RecorderError(f"{name}: {given} is too small for nanoseconds; give ns, a datetime or an ISO string")
        ns = given
    else:
        if isinstance(value, datetime) and value.tzinfo is None:
            raise RecorderError(
                f"{name}: {value!r} has no time zone; give it one, such as tzinfo=UTC, or an ISO string"
            )
        midnight_or_later = given if isinstance(given, datetime) else datetime(given.year, given.month, given.day)
        aware = midnight_or_later if midnight_or_later.tzinfo is not None else midnight_or_later.replace(tzinfo=UTC)
        # In whole microseconds: a float of seconds is off by hundreds of ns.
        ns = (aware - _EPOCH) // timedelta(microseconds=1) * 1000
    if not -_INT64 <= ns < _INT64:
        raise RecorderError(f"{name}: {value} is outside of 1677 to 2262; leave it out for an open end")
    return ns


def instants(frame: pl.LazyFrame | pl.DataFrame, name: str) -> pl.Expr:
    """
    A column of instants as the lake's timestamps: from timestamps with a zone, or integer nanoseconds.

    Raises:
        RecorderError: it has no zone, is of another type, or is not there.
    """
    kind = frame.lazy().collect_schema().get(name)
    if kind is None:
        raise RecorderError(f"there is no column {name!r} to take instants from; name one with time=")
    if isinstance(kind, pl.Datetime) and kind.time_zone is None:
        raise RecorderError(
            f"{name}: its timestamps have no time zone; give them one, such as "
            f'pl.col("{name}").dt.replace_time_zone("UTC")'
        )
    if not isinstance(kind, pl.Datetime) and kind != pl.Int64:
        raise RecorderError(f"{name} is {kind}; give timestamps with a time zone, or integer ns (Int64)")
    return pl.col(name).dt.convert_time_zone("UTC").cast(NS_UTC) if kind != pl.Int64 else pl.col(name).cast(NS_UTC)


def _parsed(text: str, name: str) -> datetime:
    if re.search(r"[.,]\d{7}", text):  # would be cut off silently
        raise RecorderError(f"{name}: {text[:80]!r} is finer than microseconds; give integer ns")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        forms = "2026-11-22, 2026-11-22T16 or 2026-11-22T16:30:00Z"
        raise RecorderError(f"{name}: {text[:80]!r} is no instant; write it as {forms}") from None


def moment(ns: int) -> pl.Expr:
    """
    An instant as a literal that compares with the lake's timestamps.
    """
    return pl.lit(ns, pl.Int64).cast(NS_UTC)
