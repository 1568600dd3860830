"""
Rows seen at other instants than their own: on a grid, as of a time, over windows and intervals. One market at a time.

No value of mode `mask` or `split` uses rows on both sides of a hole, and none stands for an instant inside one:

                 mask                                       split                              ignore
sample, asof     null where the last row is not known       such instants are left out         the last row there was
rolling          null where the window touches a hole       the window begins after the hole   the window as it is
resample         null where the interval touches a hole     a row for each part of it          the interval as it is

`error` raises `GapError` on collecting if there is a hole in the range. Where it makes sense `covered` says how much of
a window or interval lies in no hole, in each mode.
"""

from collections.abc import Sequence

import polars as pl

from recorder.analysis.gaps import Gaps, Span, marked, outside, refused, with_uncovered
from recorder.analysis.units import moment
from recorder.errors import RecorderError
from recorder.records import SECOND_NS


def as_of(
    left: pl.LazyFrame,
    rows: pl.LazyFrame,
    span: Span,
    *,
    gaps: Gaps,
    time: str,
    strict: bool,
    max_age_s: float | None,
    row_time: str = "book_ts",
) -> pl.LazyFrame:
    """
    Each row of `left` with the last of `rows` before it.

    Args:
        left: of the same market, in any order; comes back in order of `time`.
        rows: sorted by `recv_ts`, which becomes `row_time`; other names must not be in `left`.
        span: their holes.
        gaps: the mode.
        time: instants of `left`, ns.
        strict: before, not at, that instant.
        max_age_s: a row older than this is not taken.
        row_time: name for the time of the row that was taken.

    Returns:
        `left`, `row_time` and the other columns of `rows`, null where none is known; in mode `split` also `segment`,
        and no such rows.
    """
    names = [name for name in rows.collect_schema().names() if name not in {"recv_ts", "symbol"}]
    seen = marked(rows, span.holes, "mask" if gaps in {"mask", "split"} else gaps, symbol=span.symbol)
    gap = pl.col("gap") if gaps in {"mask", "split"} else pl.lit(False)  # polars' own
    seen = seen.select(*names, _row=pl.col("recv_ts"), _gap=gap, _stretch=gap.cast(pl.UInt32).cum_sum())
    found = left.sort(time, maintain_order=True).join_asof(
        seen.set_sorted("_row"), left_on=time, right_on="_row", allow_exact_matches=not strict, coalesce=False
    )
    known = pl.col("_row").is_not_null() & ~pl.col("_gap")
    if gaps in {"mask", "split"}:
        # A hole's row is 1 ns inside of it: an instant there is not before that row.
        hole = span.holes.select(_start="start", _end="end").set_sorted("_start")
        found = found.join_asof(hole, left_on=time, right_on="_start", allow_exact_matches=False, coalesce=False)
        known &= ~(pl.col(time) < pl.col("_end")).fill_null(value=False)
    if max_age_s is not None:
        known &= pl.col(time) - pl.col("_row") <= pl.duration(nanoseconds=int(max_age_s * SECOND_NS))
    known = known.fill_null(value=False)
    columns = left.collect_schema().names()
    if gaps == "split":
        return found.filter(known).select(*columns, *names, pl.col("_row").alias(row_time), segment="_stretch")
    values = [pl.when(known).then(pl.col(name)).alias(name) for name in names]
    return found.select(*columns, pl.when(known).then(pl.col("_row")).alias(row_time), *values)


def grid(span: Span, every: str) -> pl.LazyFrame:
    """
    Instants of a range at the multiples of a duration, as `recv_ts`.
    """
    first = pl.lit(span.first, pl.Int64).cast(pl.Datetime("ns", "UTC"))
    begin = first.dt.truncate(every)
    begin = pl.when(begin < first).then(begin.dt.offset_by(every)).otherwise(begin)
    instants = pl.datetime_range(begin, moment(span.last), every, closed="left", time_unit="ns")
    return pl.LazyFrame().select(recv_ts=instants, symbol=pl.lit(span.symbol))


def rolling(rows: pl.LazyFrame, span: Span, values: Sequence[pl.Expr], *, period: str, gaps: Gaps) -> pl.LazyFrame:
    """
    Values of the window `(t − period, t]` at each row.

    Args:
        rows: sorted by `recv_ts`, from one period before the range on.
        span: the holes of all of that; its range is what comes back.
        values: aggregations of rows, each with a name.
        period: of fixed length.
        gaps: the mode.

    Returns:
        `symbol`, `recv_ts`, the values, `covered`; in mode `split` also `segment`. Rows inside holes have no window.
    """
    segmented = gaps in {"mask", "split"}
    kept = outside(rows, span.holes) if segmented else rows.with_columns(segment=pl.lit(0, pl.UInt32))
    if gaps == "error":
        kept = pl.concat([refused(span.holes, kept.collect_schema()), kept])
    labels = [value.meta.output_name() for value in values]
    # Several rows of one instant: one window, with all of them.
    windows = kept.rolling("recv_ts", period=period, group_by="segment").agg(*values)
    windows = windows.unique(["segment", "recv_ts"], keep="last", maintain_order=True).sort("recv_ts", "segment")
    windows = windows.with_columns(start=pl.col("recv_ts").dt.offset_by(f"-{period}"), end="recv_ts")
    windows = with_uncovered(windows, span.holes, "_hole")
    windows = windows.filter(pl.col("recv_ts").is_between(moment(span.first), moment(span.last), closed="left"))
    windows = windows.with_columns(
        symbol=pl.lit(span.symbol),
        covered=1 - pl.col("_hole").cast(pl.Int64) / (pl.col("end") - pl.col("start")).cast(pl.Int64),
    )
    if gaps == "mask":
        clear = pl.col("_hole").cast(pl.Int64) == 0
        windows = windows.with_columns(pl.when(clear).then(pl.col(name)).alias(name) for name in labels)
    return windows.select("symbol", "recv_ts", *(["segment"] if gaps == "split" else []), *labels, "covered")


def refuse_unnamed(values: Sequence[pl.Expr]) -> None:
    """
    Raises:
        RecorderError: there are none, or two have one name.
    """
    names = [value.meta.output_name() for value in values]
    double = next((name for name in names if names.count(name) > 1), None)
    if not names:
        raise RecorderError("give at least one value, such as pl.col('best_bid_price').mean().alias('bid')")
    if double is not None:
        raise RecorderError(f"two values are called {double!r}; name them with .alias()")
