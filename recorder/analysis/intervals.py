"""
Intervals of equal length over a range, what falls into each, and how much of each lies in no hole.
"""

from collections.abc import Sequence

import polars as pl

from recorder.analysis.gaps import Gaps, Span, outside, refused, with_uncovered
from recorder.analysis.units import NS_UTC, moment
from recorder.errors import RecorderError


def whole(first: int, last: int, every: str) -> tuple[int, int]:
    """
    A range, widened to the intervals it touches; an empty one stays empty.

    Raises:
        RecorderError: `every` is no duration.
    """
    try:
        begin = pl.Series([first]).cast(NS_UTC).dt.truncate(every)
        end = begin
        if first < last:
            end = pl.Series([last - 1]).cast(NS_UTC).dt.truncate(every).dt.offset_by(every)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise RecorderError(
            f"every={every!r} is no duration ({_first_line(error)}); write it as 1s, 5m, 1h or 1d"
        ) from None
    return int(begin.cast(pl.Int64)[0]), int(end.cast(pl.Int64)[0])


def before(instant: int, period: str) -> int:
    """
    The instant one period earlier, ns.

    Raises:
        RecorderError: `period` is no duration.
    """
    try:
        return int(pl.Series([instant]).cast(NS_UTC).dt.offset_by(f"-{period}").cast(pl.Int64)[0])
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise RecorderError(f"{period!r} is no duration ({_first_line(error)}); write it as 1s, 5m, 1h or 1d") from None


def _first_line(error: Exception) -> str:
    """
    What polars says; the expression it found it in is ours, and tells nobody anything.
    """
    return str(error).partition("\n")[0]


def resampled(
    rows: pl.LazyFrame, span: Span, values: Sequence[pl.Expr], *, every: str, gaps: Gaps, by: Sequence[str] = ()
) -> pl.LazyFrame:
    """
    Rows aggregated by interval of `recv_ts`, also of the intervals without rows.

    Args:
        rows: of one market, sorted by `recv_ts`.
        span: the market's holes, in a range of whole intervals.
        values: aggregations, each with a name.
        every: polars duration.
        gaps: the mode.
        by: further columns to group by; then only what has rows comes back.

    Returns:
        `symbol`, `start`, `end`, `segment` (mode `split`), `by`, the values, `hole` and `unproven` (how much of it lies
        in holes, and is not proven complete, as durations), `length` (of the whole interval); by time.
    """
    bar = pl.col("recv_ts").dt.truncate(every)
    if gaps == "split":
        found = outside(rows, span.holes).group_by("segment", *by, bar=bar).agg(values)
        stretches, keys = _stretches(span, every), ["segment", "bar"]
        joined = (
            found.join(stretches, on=keys, how="left")
            if by
            else stretches.join(found, on=keys, how="full", coalesce=True)
        )
        # A row at the very start of a hole, where an interval begins: the stretch before has no length there.
        made = joined.with_columns(pl.col("start", "end").fill_null(pl.col("bar"))).sort("start", "segment")
    else:
        found = rows.group_by(*by, start=bar).agg(values)
        begins = pl.datetime_range(moment(span.first), moment(span.last), every, closed="left", time_unit="ns")
        intervals = pl.LazyFrame().select(start=begins)
        intervals = intervals.with_columns(end=pl.col("start").dt.offset_by(every), bar="start")
        made = intervals.join(found, on="start", how="inner" if by else "left", maintain_order="left_right")
        if gaps == "error":
            made = pl.concat([refused(span.holes, made.collect_schema()), made])
    made = with_uncovered(with_uncovered(made, span.holes, "hole"), span.unproven, "unproven")
    labels = [value.meta.output_name() for value in values]
    made = made.with_columns(symbol=pl.lit(span.symbol), length=pl.col("bar").dt.offset_by(every) - pl.col("bar"))
    segment = ("segment",) if gaps == "split" else ()
    return made.select("symbol", "start", "end", *segment, *by, *labels, "hole", "unproven", "length")


def shares(length: pl.Expr) -> list[pl.Expr]:
    """
    `covered` and `proven`: the shares of `length` that lie in no hole, and that are proven complete. Of no length: 1.
    """
    inside = (pl.col("end") - pl.col("start")).cast(pl.Int64)
    of = length.cast(pl.Int64)
    return [
        pl.when(of > 0).then((inside - pl.col(lost).cast(pl.Int64)) / of).otherwise(1.0).alias(name)
        for name, lost in (("covered", "hole"), ("proven", "unproven"))
    ]


def blanked(frame: pl.LazyFrame, names: Sequence[str]) -> pl.LazyFrame:
    """
    Null in those columns where a hole is touched.
    """
    clear = pl.col("hole").cast(pl.Int64) == 0
    return frame.with_columns(pl.when(clear).then(pl.col(name)).alias(name) for name in names)


def _stretches(span: Span, every: str) -> pl.LazyFrame:
    """
    Between the holes, cut at the edges of intervals: `segment`, `bar`, `start`, `end`.
    """
    edge = pl.LazyFrame({"first": [span.first], "last": [span.last]}).select(pl.all().cast(NS_UTC))
    begins = pl.concat([edge.select(begin="first"), span.holes.select(begin="end")])
    ends = pl.concat([span.holes.select(stop="start"), edge.select(stop="last")])
    bars = pl.datetime_ranges(pl.col("begin").dt.truncate(every), "stop", every, closed="left")
    return (
        pl.concat([begins, ends], how="horizontal")
        .with_row_index("segment")
        .filter(pl.col("begin") < pl.col("stop"))
        .with_columns(bar=bars)
        .explode("bar")
        .select(
            "segment",
            "bar",
            start=pl.max_horizontal("bar", "begin"),
            end=pl.min_horizontal(pl.col("bar").dt.offset_by(every), "stop"),
        )
    )
