"""
Holes as intervals, and rows that do not silently reach over them.

A *hole* of a market's table is a stretch in which what is stored is not all there was, or cannot be trusted: by default
what `coverage` calls missing or suspect, and always what no published hour covers (`unrecorded`). It is bounded by the
last instant that is known before it and the first that is known after: a row at either bound is good, one strictly
between them is not. What is `unverifiable` is no hole unless asked for (trades are, until a later fill proves them).

What the four modes mean for rows in order of time:

ignore   all rows, and nothing said.
split    without the rows inside holes; `segment` counts the holes before a row, so what is computed within a segment
         crosses none.
mask     without the rows inside holes, and with a row at each hole's start (1 ns after it) in which all but the time
         and the symbol is null and `gap` is true. What is carried forward, joined as of a time, or drawn stops there.
error    all rows; collecting raises `GapError` if there is a hole in the range.

What they mean for values derived from rows, each function says. In all of them no value of mode `mask` or `split` is
computed from rows on both sides of a hole, or speaks for an instant inside one.
"""

from typing import Literal, get_args

import msgspec
import polars as pl

from recorder.analysis.units import moment
from recorder.errors import RecorderError

Gaps = Literal["mask", "split", "error", "ignore"]
_NS = pl.Duration("ns")
MARKER_NS = 1
"""How long after a hole's start its row stands: what is known at the start itself stays so."""


class Span(msgspec.Struct, frozen=True):
    """
    One market's holes in a range, and the range, ns.
    """

    symbol: str
    first: int
    last: int
    holes: pl.LazyFrame
    unproven: pl.LazyFrame
    """What is not proven complete, holes among it."""


class GapError(RecorderError):
    """
    There is a hole in what was asked for, and `gaps="error"` was said.
    """


def mode(gaps: str) -> Gaps:
    """
    A mode by its name.

    Raises:
        RecorderError: there is none of that name.
    """
    for known in get_args(Gaps):
        if gaps == known:
            return known  # type: ignore[no-any-return]
    raise RecorderError(f'gaps={gaps!r} is unknown; give "mask", "split", "error" or "ignore"')


def marked(rows: pl.LazyFrame, of: pl.LazyFrame, gaps: Gaps, *, symbol: str, time: str = "recv_ts") -> pl.LazyFrame:
    """
    One market's rows in a mode, as the module says.

    Args:
        rows: of one market, sorted by `time`.
        of: its holes, sorted.
        gaps: the mode.
        symbol: the market, for the rows of mode `mask`.
        time: column of instants by which rows lie in holes.
    """
    if gaps == "ignore":
        return rows
    if gaps == "error":
        return pl.concat([refused(of, rows.collect_schema()), rows])
    kept = outside(rows, of, time=time)
    if gaps == "split":
        return kept
    schema = rows.collect_schema()
    marks = of.filter(pl.col("end") - pl.col("start") > pl.duration(nanoseconds=MARKER_NS)).select(
        *(
            (pl.col("start") + pl.duration(nanoseconds=MARKER_NS)).cast(kind).alias(name)
            if name == time
            else pl.lit(symbol).alias(name)
            if name == "symbol"
            else pl.lit(None, kind).alias(name)
            for name, kind in schema.items()
        ),
        gap=pl.lit(True),  # polars' own
    )
    kept = kept.select(*schema.names(), gap=pl.lit(False))  # polars' own
    return kept.merge_sorted(marks, key=time)


def last_known(rows: pl.LazyFrame, of: pl.LazyFrame, at: int) -> pl.LazyFrame:
    """
    The last of one market's rows, as long as it is known to have held until `at` (ns): no hole lies in between.

    The same row as the last of those that `marked` gives with mode `mask`, if that is none of its own; but only one row
    is read whole.

    Args:
        rows: sorted by `recv_ts`, none after `at`.
        of: its holes, of all that `rows` spans and up to `at`.
        at: when.
    """
    longer = pl.col("end") - pl.col("start") > pl.duration(nanoseconds=MARKER_NS)
    begun = of.filter(longer & (pl.col("start") < moment(at))).select(_hole=pl.col("end").max())
    held = pl.col("_hole").is_null() | (pl.col("_hole") <= pl.col("recv_ts"))
    return rows.tail(1).join(begun, how="cross").filter(held).drop("_hole")


def outside(rows: pl.LazyFrame, of: pl.LazyFrame, *, time: str = "recv_ts") -> pl.LazyFrame:
    """
    One market's rows that lie in none of its holes, and `segment`: how many of them end before, or at, each row.
    """
    index = of.select(_start="start", _end="end").with_row_index("_hole").set_sorted("_start")
    joined = rows.join_asof(
        index, left_on=time, right_on="_start", strategy="backward", allow_exact_matches=False, coalesce=False
    )
    return (
        joined.filter(pl.col("_end").is_null() | (pl.col(time) >= pl.col("_end")))
        .with_columns(segment=(pl.col("_hole") + 1).fill_null(0))
        .drop("_hole", "_start", "_end")
    )


def with_uncovered(intervals: pl.LazyFrame, of: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """
    One market's intervals `[start, end)`, sorted, with the duration of each that lies in its holes, as `name`.
    """
    length = pl.col("_end") - pl.col("_start")
    index = of.select(_start="start", _end="end").with_columns(_before=length.cum_sum() - length).set_sorted("_start")
    for edge in ("start", "end"):
        so_far = pl.col("_before") + pl.min_horizontal(edge, "_end") - pl.col("_start")
        intervals = (
            intervals.join_asof(index, left_on=edge, right_on="_start", strategy="backward", coalesce=False)
            .with_columns(so_far.fill_null(pl.duration(time_unit="ns")).alias(f"_{edge}_lost"))
            .drop("_start", "_end", "_before")
        )
    lost = (pl.col("_end_lost") - pl.col("_start_lost")).cast(_NS)
    return intervals.with_columns(lost.alias(name)).drop("_start_lost", "_end_lost")


def refused(of: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """
    No rows; raises `GapError` when collected if there is a hole.
    """

    def refuse(found: pl.DataFrame) -> pl.DataFrame:
        if len(found):
            row = found.row(0, named=True)
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            raise GapError(
                f"{row['symbol']}: from {row['start']} to {row['end']} is {row['state']} ({row['why']}){more}; "
                '`drift-recorder coverage` (Lake.gaps()) lists them; gaps="mask" or "split" leaves them out'
            )
        return pl.DataFrame(schema=schema)

    return of.map_batches(
        refuse, predicate_pushdown=False, projection_pushdown=False, slice_pushdown=False, schema=schema
    )
