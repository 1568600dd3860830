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

from typing import Literal

import polars as pl

from recorder.analysis.gaps import Gaps, Span, outside, refused, with_uncovered
from recorder.analysis.intervals import blanked, resampled, shares
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
    made = resampled(rows, span, _summary(), every=every, gaps=gaps)
    made = made.with_columns(pl.col(*_COUNTS, *_AMOUNTS, "quote_volume").fill_null(0))
    told = _told(made, span, pl.col("length"), units=units)
    told = blanked(told, VALUES) if gaps == "mask" else told
    return told.select("symbol", "start", "end", *_segment(gaps), *VALUES, "covered", "proven")


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
    bars = with_uncovered(with_uncovered(bars, span.holes, "hole"), span.unproven, "unproven")
    told = _told(bars, span, pl.col("end") - pl.col("start"), units=units)
    if gaps == "mask":
        told = told.with_columns(pl.when("complete").then(pl.col(name)).alias(name) for name in VALUES)
    return told.select("symbol", "start", "end", *_segment(gaps), *VALUES, "covered", "proven", "complete")


def _segment(gaps: Gaps) -> list[str]:
    return ["segment"] if gaps == "split" else []


def _summary() -> list[pl.Expr]:
    # Of the priced trades the first of the lowest id, and the last of the highest; one without an id comes before all.
    price = pl.col("price")
    order = pl.when(price.is_not_null()).then(pl.col("fill_record_id").fill_null(-1))
    return [
        price.get(order.arg_min(), null_on_oob=True).alias("open"),
        pl.col("price").max().alias("high"),
        pl.col("price").min().alias("low"),
        price.reverse().get(order.reverse().arg_max(), null_on_oob=True).alias("close"),
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


def _told(bars: pl.LazyFrame, span: Span, length: pl.Expr, *, units: str) -> pl.LazyFrame:
    """
    Bars in the units wanted, with what was covered.
    """
    price_scale = pl.lit(float(QUOTE_SCALE))
    bars = bars.with_columns(
        *shares(length),
        vwap=((pl.col("quote_volume") / price_scale) / (pl.col("volume") / pl.col("_scale"))).fill_nan(None),
        symbol=pl.lit(span.symbol),
    )
    if units == "raw":
        return bars
    return bars.with_columns(
        *((pl.col(name) / pl.col("_scale").fill_null(1.0)).alias(name) for name in _AMOUNTS),
        quote_volume=pl.col("quote_volume") / price_scale,
    )
