"""
Events as they were, from the rows of `quality`: the hours an event reaches over each have a part of it.
"""

import polars as pl

from recorder.quality.effects import EFFECTS

_FIRST = ("kind", "cause", "scope", "run", "connection", "symbol", "channel")
_HARMLESS = sorted({kind for kind, effect in EFFECTS.items() if effect == "none"} | {"connected"})


def whole_events(parts: pl.LazyFrame) -> pl.LazyFrame:
    """
    Parts with one `event_id` as one row, from `true_start` to the last end there is, in order of time.

    What is missing is the sum of what the hours miss; null if none of them can say. `continues` is of the last part:
    true if the event went on when that hour was sealed.
    """
    missing = pl.col("missing")
    return (
        parts.sort("start", "end")
        .group_by("event_id", maintain_order=True)
        .agg(
            *(pl.col(name).first() for name in _FIRST),
            pl.col("true_start").min().alias("start"),
            pl.col("end").max(),
            pl.col("continues").last(),
            pl.when(missing.is_not_null().any()).then(missing.sum()).alias("missing"),
            pl.col("first_slot").drop_nulls().first(),
            pl.col("last_slot").drop_nulls().last(),
            pl.col("evidence").last(),
        )
        .sort("start", "end", "kind", "symbol", "event_id")
    )


def is_gap() -> pl.Expr:
    """
    Whether an event says that something is missing or not to be trusted.

    Not one that is the moment of something, nor the connecting at a run's start: before it, there was no recording.
    """
    lasts = (pl.col("end") > pl.col("start")) | (pl.col("missing").fill_null(0) > 0)
    return ~pl.col("kind").is_in(_HARMLESS) & lasts
