"""
Averages over time of values that hold until the next row.
"""

from collections.abc import Sequence

import polars as pl

from recorder.analysis.gaps import MARKER_NS
from recorder.analysis.units import moment
from recorder.records import SECOND_NS


def time_weighted(
    rows: pl.LazyFrame,
    values: Sequence[pl.Expr],
    *,
    every: str | None,
    start: int | None = None,
    end: int | None = None,
    time: str = "recv_ts",
    symbol: str | None = None,
) -> pl.LazyFrame:
    """
    Averages of values, each weighted with the time from its row to the next row of its market.

    Where rows have a `segment` (read with `gaps="split"`), the last of a segment does not count. A row that marks a
    hole (`gaps="mask"`) ends the one before it, and counts for nothing itself.

    Args:
        rows: sorted by time within each `symbol`.
        values: expressions with a name each.
        every: a polars duration of fixed length, whose multiples are the intervals; None: one interval.
        start: ns from which on instants count; None: from the first row on.
        end: ns up to which the last row of each market holds; None: it does not count.
        time: the column of instants.
        symbol: the market, if all rows are of one: then none need be told apart.

    Returns:
        `symbol`, `start` (with `every`), the averages, `covered_s`; by symbol and start.
    """
    names = rows.collect_schema().names()
    over = [name for name in ("symbol", "segment") if name in names and (name != "symbol" or symbol is None)]
    dead = pl.col("gap") if "gap" in names else pl.lit(False)  # polars' own
    # A hole's row stands just after the hole's start, where what held before it ends.
    marker = pl.when(dead).then(pl.duration(nanoseconds=MARKER_NS)).otherwise(pl.duration(nanoseconds=0))
    until = (pl.col(time) - marker).shift(-1)
    until = until.over(over) if over else until
    if end is not None:
        until = until.fill_null(moment(end))
    wanted = [value.cast(pl.Float64) for value in values]
    labels = [value.meta.output_name() for value in values]
    own = ["symbol"] if symbol is None else []
    held = rows.select(*own, *wanted, _from=pl.col(time), _until=until, _dead=dead).filter(
        ~pl.col("_dead") & (pl.col("_until") > pl.col("_from"))
    )
    if start is not None:
        held = held.filter(pl.col("_until") > moment(start)).with_columns(
            _from=pl.max_horizontal("_from", moment(start))
        )
    keys = list(own)
    if every is not None:
        # A row that holds over the edges of intervals counts in each of them, so it becomes a piece in each.
        first, last = (
            pl.col("_from").dt.truncate(every),
            (pl.col("_until") - pl.duration(nanoseconds=1)).dt.truncate(every),
        )
        starts = pl.when(first == last).then(pl.concat_list(first)).otherwise(pl.datetime_ranges(first, last, every))
        held = (
            held.with_columns(start=starts)
            .explode("start")
            .with_columns(_next=pl.col("start").dt.offset_by(every))
            .with_columns(_from=pl.max_horizontal("_from", "start"), _until=pl.min_horizontal("_until", "_next"))
        )
        keys.append("start")
    weight = (pl.col("_until") - pl.col("_from")).cast(pl.Int64)
    pieces = held.with_columns(_weight=weight)
    averages = [
        ((pl.col(name) * pl.col("_weight")).sum() / pl.col("_weight").filter(pl.col(name).is_not_null()).sum())
        .fill_nan(None)
        .alias(name)
        for name in labels
    ]
    sums = [*averages, (pl.col("_weight").sum() / SECOND_NS).alias("covered_s")]
    made = pieces.group_by(keys).agg(sums).sort(keys) if keys else pieces.select(sums)
    if symbol is not None:
        made = made.filter(pl.col("covered_s") > 0).select(pl.lit(symbol).alias("symbol"), pl.all())
    return made
