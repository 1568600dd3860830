"""
Events as they were, from the rows of `quality`: the hours an event reaches over each have a part of it.
"""

import polars as pl

from recorder.quality.effects import EFFECTS
from recorder.quality.gaps import GAP, LATE

_FIRST = ("kind", "cause", "scope", "run", "connection", "symbol", "channel")
_HARMLESS = sorted({kind for kind, effect in EFFECTS.items() if effect == "none"} | {"added", "connected"})


def whole_events(parts: pl.LazyFrame) -> pl.LazyFrame:
    """
    Parts with one `event_id` as one row, from `true_start` to the last end there is, in order of time.

    What is missing is the sum of what the hours miss; null if none of them can say. `continues` is of the last part:
    true if the event went on when that hour was sealed. A gap of fills all of which came later is a `trade_late`.
    """
    missing = pl.col("missing")
    # When they came is no bound of the gap they were missing from.
    of_gap = pl.col("kind") == GAP
    bound = pl.when(of_gap.any() & (pl.col("kind") == LATE)).then(None).otherwise("end")
    came = of_gap & pl.col("late") & (pl.col("missing") <= 0)
    return (
        parts.sort("start", "end")
        .group_by("event_id", maintain_order=True)
        .agg(
            *(pl.col(name).first() for name in _FIRST),
            pl.col("true_start").min().alias("start"),
            bound.max().alias("end"),
            pl.col("continues").last(),
            pl.when(missing.is_not_null().any()).then(missing.sum()).alias("missing"),
            pl.col("first_slot").drop_nulls().first(),
            pl.col("last_slot").drop_nulls().last(),
            pl.col("evidence").last(),
            late=(pl.col("kind") == LATE).any(),
        )
        .with_columns(kind=pl.when(came).then(pl.lit(LATE)).otherwise("kind"))
        .drop("late")
        .sort("start", "end", "kind", "symbol", "event_id")
    )


def is_gap() -> pl.Expr:
    """
    Whether an event says that something is missing or not to be trusted.

    Not one that is the moment of something, nor the connecting at a run's start, nor the beginning of a stream that was
    added: before it, there was no recording.
    """
    lasts = (pl.col("end") > pl.col("start")) | (pl.col("missing").fill_null(0) > 0)
    return ~pl.col("kind").is_in(_HARMLESS) & lasts
