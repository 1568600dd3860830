"""
Bars of trades: by time, and by number of trades, base volume or quote volume. One market at a time.

Trades of a bar are put in the order of the venue's own counter (`fill_record_id`), where they have one, because fills
arrive late and newest first within a slot; which bar a trade is in, its arrival (`recv_ts`) decides. Repeats are left
out. So a fill that came late is in the bar in which it became known, never in one that was already over.

What a hole does to bars:

mask     by time: a bar that touches a hole has null in everything but `start`, `end` and what tells how much of it was
         covered. Else: no bar reaches over a hole, and one that a hole (or the end) cut short has null likewise.
split    by time: each stretch of a bar between holes is a row, with `start` and `end` its own. Else: a bar that was cut
         short stands with what it has, `complete` false.
error    collecting raises `GapError` if there is a hole in the range.
ignore   what was heard, as if nothing were missing; `covered` still tells.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import polars as pl

from recorder.analysis.gaps import Gaps, outside, refused, with_uncovered
from recorder.analysis.units import NS_UTC, moment
from recorder.errors import RecorderError
from recorder.records import Flag
from recorder.venue.protocol import PERP_SIZE_EXPONENT, PRICE_EXPONENT

Kind = Literal["ticks", "volume", "quote_volume"]
COLUMNS = (
    *("recv_ts", "symbol", "fill_record_id", "base_amount", "quote_amount", "price", "aggressor"),
    *("is_market_trade", "action_explanation", "size_exponent", "flags"),
)
"""Of `trades`, that bars are made from."""
QUOTE_SCALE = 10**PRICE_EXPONENT

LIQUIDATION = "liquidation"
Which = Literal["market", "liquidations", "transfers", "all"]


def which(trades: Which) -> pl.Expr:
    """
    Trades of a sort, repeats never among them.

    market         everything but position transfers: what moved size at a price. Liquidations are among them.
    liquidations   fills that closed a liquidated position.
    transfers      positions handed over between accounts: no trade, no volume.
    all            all three.

    Raises:
        RecorderError: no such sort.
    """
    once = (pl.col("flags") & int(Flag.REPEAT)) == 0
    if trades == "market":
        return once & pl.col("is_market_trade")
    if trades == "liquidations":
        return once & (pl.col("action_explanation") == LIQUIDATION).fill_null(value=False)
    if trades == "transfers":
        return once & ~pl.col("is_market_trade")
    if trades == "all":
        return once
    raise RecorderError(f'trades={trades!r} is unknown; give "market", "liquidations", "transfers" or "all"')


_BUY, _SELL = pl.col("aggressor") == "buy", pl.col("aggressor") == "sell"
_AMOUNTS = ("volume", "buy_volume", "sell_volume")
_COUNTS = ("trades", "buys", "sells")
_PRICES = ("open", "high", "low", "close", "vwap")
VALUES = (*_PRICES, *_COUNTS, *_AMOUNTS, "quote_volume")
"""What a bar says of its trades: prices in quote a token, numbers of trades, sizes in tokens, value in quote. `buy` and
`sell` are the taker's; a trade of which that is not known is in neither."""


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


def whole_bars(first: int, last: int, every: str) -> tuple[int, int]:
    """
    A range, widened to the bars it touches.

    Raises:
        RecorderError: `every` is no duration.
    """
    try:
        begin = pl.Series([first]).cast(NS_UTC).dt.truncate(every)
        end = pl.Series([max(last - 1, first)]).cast(NS_UTC).dt.truncate(every).dt.offset_by(every)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise RecorderError(f"every={every!r} is no duration ({error}); write it as 1s, 5m, 1h or 1d") from None
    return int(begin.cast(pl.Int64)[0]), int(end.cast(pl.Int64)[0])


def time_bars(rows: pl.LazyFrame, span: Span, *, every: str, gaps: Gaps, units: str) -> pl.LazyFrame:
    """
    Bars by time, also those without a trade (counts and volumes 0, prices null).

    Args:
        rows: trades of one market, raw units, by time, already of the sort wanted.
        span: its holes, in a range of whole bars.
        every: length of a bar.
        gaps: the mode.
        units: of volumes; `raw` for exact integers.

    Returns:
        `symbol`, `start`, `end`, `VALUES`, `covered` and `proven`: the shares of the bar that lie in no hole, and that
        are proven complete; in mode `split` also `segment`.
    """
    bar = pl.col("recv_ts").dt.truncate(every)
    if gaps == "split":
        found = outside(rows, span.holes).group_by("segment", bar=bar).agg(_summary())
        bars = (
            _stretches(span, every)
            .join(found, on=["segment", "bar"], how="full", coalesce=True)
            # A trade at the very start of a hole, where a bar begins: the stretch before the hole has no length there.
            .with_columns(start=pl.col("start").fill_null(pl.col("bar")), end=pl.col("end").fill_null(pl.col("bar")))
            .sort("start", "segment")
        )
    else:
        found = rows.group_by(start=bar).agg(_summary())
        begins = pl.datetime_range(moment(span.first), moment(span.last), every, closed="left", time_unit="ns")
        bars = pl.LazyFrame().select(start=begins).with_columns(end=pl.col("start").dt.offset_by(every), bar="start")
        bars = bars.join(found, on="start", how="left", maintain_order="left")
        if gaps == "error":
            bars = pl.concat([refused(span.holes, bars.collect_schema()), bars])
    bars = bars.with_columns(pl.col(*_COUNTS, *_AMOUNTS, "quote_volume").fill_null(0))
    length = pl.col("bar").dt.offset_by(every) - pl.col("bar")
    return _told(bars, span, length, blank=pl.col("_hole") > 0 if gaps == "mask" else None, units=units, gaps=gaps)


def _stretches(span: Span, every: str) -> pl.LazyFrame:
    """
    Between the holes, cut at the edges of bars: `segment`, `bar`, `start`, `end`.
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


def counted_bars(rows: pl.LazyFrame, span: Span, *, kind: Kind, size: float, gaps: Gaps, units: str) -> pl.LazyFrame:
    """
    Bars of so many trades, so much volume (tokens), or so much value (quote).

    A trade is never divided. Bars are counted anew after each hole (`ignore`: never): the n-th bar of volume ends with
    the trade that brings the sum to n × `size`, so that what a large trade has too much counts into the next.

    Args:
        rows: trades of one market, raw units, by time, already of the sort wanted.
        span: its holes.
        kind: what is counted.
        size: of a bar; more than 0.
        gaps: the mode.
        units: of volumes.

    Returns:
        As `time_bars`; `start` and `end` are those of the first and last trade, and `complete` tells whether the bar
        reached its size.
    """
    if not size > 0 or (kind == "ticks" and size != int(size)):
        raise RecorderError(f"{kind}={size}; give {'a whole number of trades' if kind == 'ticks' else 'more than 0'}")
    one = rows.with_columns(segment=pl.lit(0, pl.UInt32))
    rows = outside(rows, span.holes) if gaps in {"mask", "split"} else one
    if gaps == "error":
        rows = pl.concat([refused(span.holes, rows.collect_schema()), rows])
    scale = pl.lit(1) if kind == "ticks" else _size_scale() if kind == "volume" else pl.lit(QUOTE_SCALE)
    full = (scale * size).round().cast(pl.Int64).clip(1)
    amount = {"ticks": pl.lit(1, pl.Int64), "volume": pl.col("base_amount"), "quote_volume": pl.col("quote_amount")}
    # Not divided: a position of the venue's books is below 2^53, so a sum of many is below 2^63.
    rows = rows.with_columns(_full=full, _amount=amount[kind].fill_null(0))
    rows = rows.with_columns(_sum=pl.col("_amount").cum_sum().over("segment"))
    number = (pl.col("_sum") - pl.col("_amount")) // pl.col("_full")
    last = pl.col("_sum").last() // pl.col("_full").last()
    bars = (
        rows.with_columns(_number=number)
        .group_by("segment", "_number", maintain_order=True)
        .agg(*_summary(), _last=last, start=pl.col("recv_ts").min(), end=pl.col("recv_ts").max())
        .with_columns(complete=pl.col("_last") > pl.col("_number"))
        .drop("_number", "_last")
    )
    length = pl.col("end") - pl.col("start")
    blank = ~pl.col("complete") if gaps == "mask" else None
    return _told(bars, span, length, blank=blank, units=units, gaps=gaps, more=("complete",))


def _summary() -> list[pl.Expr]:
    ordered = pl.col("price").sort_by("fill_record_id", nulls_last=False, maintain_order=True).drop_nulls()
    return [
        ordered.first().alias("open"),
        pl.col("price").max().alias("high"),
        pl.col("price").min().alias("low"),
        ordered.last().alias("close"),
        pl.len().cast(pl.Int64).alias("trades"),
        _BUY.sum().cast(pl.Int64).alias("buys"),
        _SELL.sum().cast(pl.Int64).alias("sells"),
        pl.col("base_amount").sum().alias("volume"),
        pl.col("base_amount").filter(_BUY).sum().alias("buy_volume"),
        pl.col("base_amount").filter(_SELL).sum().alias("sell_volume"),
        pl.col("quote_amount").sum().alias("quote_volume"),
        _size_scale().first().alias("_scale"),
    ]


def _size_scale() -> pl.Expr:
    return pl.lit(10.0).pow(pl.col("size_exponent").cast(pl.Float64).fill_null(float(PERP_SIZE_EXPONENT)))


def _told(
    bars: pl.LazyFrame,
    span: Span,
    length: pl.Expr,
    *,
    blank: pl.Expr | None,
    units: str,
    gaps: Gaps,
    more: Sequence[str] = (),
) -> pl.LazyFrame:
    """
    Bars in the units wanted, with what was covered, and null where nothing may be said.
    """
    bars = with_uncovered(with_uncovered(bars, span.holes, "_hole"), span.unproven, "_unproven")
    inside = (pl.col("end") - pl.col("start")).cast(pl.Int64)
    whole = length.cast(pl.Int64)
    # A bar of one instant is covered: its trades are there.
    share = [
        pl.when(whole > 0).then((inside - pl.col(lost).cast(pl.Int64)) / whole).otherwise(1.0).alias(name)
        for name, lost in (("covered", "_hole"), ("proven", "_unproven"))
    ]
    price_scale = pl.lit(float(QUOTE_SCALE))
    bars = bars.with_columns(
        *share,
        vwap=((pl.col("quote_volume") / price_scale) / (pl.col("volume") / pl.col("_scale"))).fill_nan(None),
        symbol=pl.lit(span.symbol),
    )
    if units == "natural":
        bars = bars.with_columns(
            *((pl.col(name) / pl.col("_scale").fill_null(1.0)).alias(name) for name in _AMOUNTS),
            quote_volume=pl.col("quote_volume") / price_scale,
        )
    if blank is not None:
        bars = bars.with_columns(pl.when(~blank).then(pl.col(name)).alias(name) for name in VALUES)
    segment = ("segment",) if gaps == "split" else ()
    return bars.select("symbol", "start", "end", *segment, *VALUES, "covered", "proven", *more)
