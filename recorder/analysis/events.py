"""
Events as they were, from the rows of `quality`: the hours an event reaches over each have a part of it.
"""

from collections.abc import Callable

import polars as pl

from recorder.analysis.holes import HOLES
from recorder.quality.effects import EFFECTS
from recorder.quality.gaps import GAP, LATE
from recorder.quality.intervals import cut, difference, union
from recorder.records import HOUR_NS

_EVER = 2**63 - 1
_FIRST = ("kind", "cause", "scope", "run", "connection", "symbol", "channel")
_BEGINS = {"added", "connected"}
_HARMLESS = sorted({kind for kind, effect in EFFECTS.items() if effect == "none"} | _BEGINS)
UNHEARD = frozenset(kind for kind, effect in EFFECTS.items() if effect == "absent") - _BEGINS
"""Kinds that tell of what did not come: on one connection or, where the event names none, on any."""


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


def with_gaps(events: pl.DataFrame, spans: Callable[[int, int], pl.LazyFrame]) -> pl.DataFrame:
    """
    Events with `gap`: whether something is missing or not to be trusted by it (`is_gap`).

    What one connection did not hear is no gap if nothing of its market (of a whole connection: of any) is missing or
    suspect in coverage meanwhile: another heard it, as in a handover from one run to the next.

    Args:
        events: whole ones, as `Lake.events` has them.
        spans: of the markets in question, as `Lake.spans` has them, of a range in ns. It is asked for all of the time
            that the events lasted, for they may begin before the range that is shown; what none covers is not known.
    """
    told = events.with_columns(gap=is_gap(), start_ns=pl.col("start").to_physical(), end_ns=pl.col("end").to_physical())
    if told.is_empty():
        return told.drop("start_ns", "end_ns")
    first, last = min(told["start_ns"]), max(told["end_ns"])
    hours = spans(first - first % HOUR_NS, last + 1)
    states = hours.select("symbol", "state", pl.col("start", "end").to_physical()).collect()
    all_time = [(-_EVER, _EVER)]
    bad: dict[str | None, list[tuple[int, int]]] = {}
    gaps = []
    for kind, symbol, connection, start, end, gap in told.select(
        "kind", "symbol", "connection", "start_ns", "end_ns", "gap"
    ).iter_rows():
        if not gap or connection is None or kind not in UNHEARD:
            gaps.append(gap)
            continue
        if symbol not in bad:
            of = states if symbol is None else states.filter(symbol=symbol)
            known = union(of.select("start", "end").iter_rows())
            holes = of.filter(pl.col("state").is_in(HOLES)).select("start", "end").iter_rows()
            bad[symbol] = union(difference(all_time, known), holes)
        gaps.append(bool(cut(bad[symbol], (start, max(end, start + 1)))))
    return told.drop("start_ns", "end_ns").with_columns(pl.Series("gap", gaps, pl.Boolean))


def is_gap() -> pl.Expr:
    """
    Whether an event, by itself, says that something is missing or not to be trusted.

    Not one that is the moment of something, nor the connecting at a run's start, nor the beginning of a stream that was
    added: before it, there was no recording.
    """
    lasts = (pl.col("end") > pl.col("start")) | (pl.col("missing").fill_null(0) > 0)
    return ~pl.col("kind").is_in(_HARMLESS) & lasts
