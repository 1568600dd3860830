"""
In what condition a market's day is, in the words data vendors use.

expired    rows of some hour of the day were removed by rule (`lake.keep_days`).
pending    some hour of the day is not sealed: published so far only, or not at all yet.
missing    nothing of the market is there.
degraded   fills are known to be missing, or more of the day than the tolerance is missing or suspect.
available  neither.

What counts is the market's order book: its firm one at the finest grouping, else whatever books there are; for a market
recorded without books, its trades. Trades beside books count where they are missing. Time before the recording began is
missing like any other: the word says whether a day can be used, not how the recorder did. Seconds that are
unverifiable, as those of trades often are, do not degrade a day; those of a book do.
"""

from collections.abc import Iterable

import polars as pl

from recorder.analysis.units import NS_UTC
from recorder.records import HOUR_NS
from recorder.venue.protocol import BOOK_CHANNELS

TOLERANCE = 0.001
"""Share of a day, 86 s, that may be missing or suspect."""

DAY_NS = 24 * HOUR_NS
_HOURS, _HOUR_S = 24, 3600
_SUMS = ("complete_s", "suspect_s", "missing_s", "unverifiable_s")
_MARKET = ("symbol", "market_type")
_RANKS = {"orderbook": 0, "orderbook_indicative": 1, "trades": 2}
_MORE_THAN_ANY_GROUPING = 1_000_000


def conditions(
    coverage: pl.LazyFrame,
    hours: list[tuple[int, bool]],
    *,
    tolerance: float,
    expired: Iterable[int] = (),
) -> pl.LazyFrame:
    """
    A row a market and day.

    Args:
        coverage: of whole days.
        hours: published in all of the root: (begin, ns; whether all of it).
        tolerance: share of a day.
        expired: hours of which rows were removed by rule, as ns.

    Returns:
        `day`, `symbol`, `market_type`, `condition`, `hours` (recorded), `hours_pending`, `rows`, the four seconds (of
        what counts, hours that nobody recorded as missing), `fills_missing`; by market and day.
    """
    day = pl.col("start").dt.truncate("1d")
    rows = coverage.with_columns(day=day, book=pl.col("channel").is_in(sorted(BOOK_CHANNELS)))
    of_market = rows.group_by("day", *_MARKET).agg(
        pl.col("rows").sum(),
        pl.col("fills_missing").sum(),
        hours=pl.col("start").n_unique().cast(pl.Int64),
        trades_missing_s=pl.col("missing_s").filter(pl.col("channel") == "trades").sum(),
    )
    # One stream of each market: the firm book at the finest grouping, else any book, else the trades.
    channel = pl.col("channel").replace_strict(_RANKS, default=len(_RANKS), return_dtype=pl.Int64)
    rank = channel * _MORE_THAN_ANY_GROUPING + pl.col("grouping").fill_null(0)
    counts = (
        rows.filter(rank == rank.min().over("day", *_MARKET))
        .group_by("day", *_MARKET)
        .agg(pl.col(*_SUMS).sum(), judged_hours=pl.len().cast(pl.Int64), book=pl.col("book").any())
    )
    unrecorded = _HOURS - pl.col("judged_hours") - pl.col("hours_pending_unheard")
    judged = (
        of_market.join(counts, on=["day", *_MARKET])
        .join(_pending(hours), on="day", how="left")
        .with_columns(pl.col("hours_pending", "hours_pending_unheard").fill_null(0))
        .with_columns(missing_s=pl.col("missing_s") + unrecorded.clip(0) * _HOUR_S)
    )
    doubted = pl.col("missing_s") + pl.col("suspect_s") + pl.when("book").then("unverifiable_s").otherwise(0.0)
    condition = (
        pl.when(pl.col("day").dt.epoch("ns").is_in(_days(expired)))
        .then(pl.lit("expired"))
        .when(pl.col("hours_pending") > 0)
        .then(pl.lit("pending"))
        .when(pl.col("rows") == 0)
        .then(pl.lit("missing"))
        .when(pl.col("fills_missing") > 0)
        .then(pl.lit("degraded"))
        .when(pl.max_horizontal(doubted, "trades_missing_s") > tolerance * _HOURS * _HOUR_S)
        .then(pl.lit("degraded"))
        .otherwise(pl.lit("available"))
    )
    columns = ("hours", "hours_pending", "rows", *_SUMS, "fills_missing")
    return judged.select(pl.col("day").dt.date(), *_MARKET, condition.alias("condition"), *columns).sort(
        "symbol", "day"
    )


def _days(hours: Iterable[int]) -> list[int]:
    """
    The days that hours are of.
    """
    return sorted({hour - hour % DAY_NS for hour in hours})


def _pending(hours: list[tuple[int, bool]]) -> pl.LazyFrame:
    """
    Of each day with a published hour: how many are not sealed, and of how many of those nothing is there yet.

    Hours before the first one published never will be; later ones that are not there are still to be sealed.
    """
    published = dict(hours)
    begun = min(published, default=0)
    rows = []
    for day in sorted({hour - hour % DAY_NS for hour in published}):
        of_day = [hour for hour in range(day, day + DAY_NS, HOUR_NS) if hour >= begun]
        unheard = sum(hour not in published for hour in of_day)
        rows.append((day, unheard + sum(not published.get(hour, True) for hour in of_day), unheard))
    schema = {"day": pl.Int64, "hours_pending": pl.Int64, "hours_pending_unheard": pl.Int64}
    return pl.LazyFrame(rows, schema=schema, orient="row").with_columns(pl.col("day").cast(NS_UTC))
