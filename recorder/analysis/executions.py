"""
What trades cost against the book before them, and who traded. One market at a time.

The book of a trade is the last one that had arrived strictly before it (`recv_ts` of both): what a taker could have
seen. The venue's own order was set by the chain some slots earlier, so this is the recorder's view, not the matcher's.

In basis points, positive where it cost the taker; `side` is 1 for a buy and −1 for a sale:

effective_spread_bps      2 · side · (price − mid) / mid
slippage_mid_bps          half of that
slippage_oracle_bps       side · (price − oracle) / oracle, the oracle as the venue names it with the fill
realised_spread_bps_<h>   2 · side · (price − mid after h) / mid: what the maker keeps
impact_bps_<h>            effective less realised: how far the middle moved the taker's way

Null where the side, the price or a middle is not known; with `gaps="mask"` or `"split"` also where a hole lies between
the trade's book and the later one.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from recorder.analysis import book
from recorder.analysis.book import BPS
from recorder.analysis.gaps import Gaps, Span
from recorder.analysis.intervals import blanked, resampled, shares
from recorder.analysis.sampling import as_of

By = Literal["taker", "maker"]
TRADE_COLUMNS = (
    *("recv_ts", "symbol", "ts", "slot", "fill_record_id", "price", "base_amount", "quote_amount", "aggressor"),
    *("oracle_price", "taker", "maker", "taker_fee", "maker_fee", "is_market_trade", "action_explanation", "flags"),
)
BOOK_COLUMNS = ("recv_ts", "symbol", "best_bid_price", "best_bid_size", "best_ask_price", "best_ask_size")


def executions(
    trades: pl.LazyFrame,
    books: pl.LazyFrame,
    span: Span,
    *,
    horizons: Mapping[str, int],
    gaps: Gaps,
    max_age_s: float | None,
) -> pl.LazyFrame:
    """
    Each trade with the book before it, and what it cost.

    Args:
        trades: of `TRADE_COLUMNS`, natural units, by time.
        books: of `BOOK_COLUMNS`, natural units, by time, from before the trades to after them.
        span: the books' holes.
        horizons: how long after the trade, by name: ns.
        gaps: the mode.
        max_age_s: a book older than this is not taken.
    """
    quotes = books.with_columns(mid=book.mid(), spread_bps=book.spread_bps())
    if gaps in {"mask", "split"}:
        # Which stretch between holes a middle is of: two of one stretch have none between them.
        index = span.holes.select(_hole_start="start").with_row_index("_hole").set_sorted("_hole_start")
        quotes = quotes.join_asof(
            index, left_on="recv_ts", right_on="_hole_start", allow_exact_matches=False, coalesce=False
        ).with_columns(_part=(pl.col("_hole") + 1).fill_null(0))
    else:
        quotes = quotes.with_columns(_part=pl.lit(0, pl.UInt32))
    seen = quotes.select(*BOOK_COLUMNS, "mid", "spread_bps", "_part")
    found = as_of(trades, seen, span, gaps=gaps, time="recv_ts", strict=True, max_age_s=max_age_s)
    side = pl.col("aggressor").replace_strict({"buy": 1.0, "sell": -1.0}, default=None, return_dtype=pl.Float64)
    away = side * (pl.col("price") - pl.col("mid")) / pl.col("mid") * BPS
    oracle = side * (pl.col("price") - pl.col("oracle_price")) / pl.col("oracle_price") * BPS
    found = found.with_columns(
        side=side, effective_spread_bps=2 * away, slippage_mid_bps=away, slippage_oracle_bps=oracle
    )
    later_gaps: Gaps = "mask" if gaps in {"mask", "split"} else gaps
    for name, after in horizons.items():
        later = quotes.select("recv_ts", "symbol", _later_mid="mid", _later_part="_part")
        found = found.with_columns(_then=pl.col("recv_ts") + pl.duration(nanoseconds=after))
        found = as_of(
            found, later, span, gaps=later_gaps, time="_then", strict=False, max_age_s=max_age_s, row_time="_later_ts"
        )
        same = pl.col("_part") == pl.col("_later_part")
        # Beyond the range nothing was read, so nothing is known there.
        inside = pl.col("_then").cast(pl.Int64) < span.last
        kept = side * (pl.col("price") - pl.col("_later_mid")) / pl.col("mid") * BPS
        realised = pl.when(same & inside).then(2 * kept)
        found = found.with_columns(
            realised.alias(f"realised_spread_bps_{name}"),
            (pl.col("effective_spread_bps") - realised).alias(f"impact_bps_{name}"),
        ).drop("_later_mid", "_later_part", "_later_ts", "_then")
    return found.drop("_part", "side").sort("recv_ts", maintain_order=True)


def flows(trades: pl.LazyFrame, span: Span, *, by: By, every: str, gaps: Gaps) -> pl.LazyFrame:
    """
    What each account traded in each interval.

    Args:
        trades: of `TRADE_COLUMNS`, natural units, by time.
        span: the trades' holes, in a range of whole intervals.
        by: as which side of the trade. The pool is an account that is null.
        every: length of an interval.
        gaps: the mode.

    Returns:
        `symbol`, `start`, `end`, `account`, `trades`, `bought`, `sold` (tokens), `net` (bought − sold), `quote_volume`,
        `fees` (paid; negative: got), `covered`, `proven`.
    """
    takes = pl.col("aggressor") == "buy"
    buys = takes if by == "taker" else pl.col("aggressor") == "sell"
    sells = pl.col("aggressor") == "sell" if by == "taker" else takes
    base = pl.col("base_amount")
    values: Sequence[pl.Expr] = [
        pl.len().cast(pl.Int64).alias("trades"),
        base.filter(buys).sum().alias("bought"),
        base.filter(sells).sum().alias("sold"),
        pl.col("quote_amount").sum().alias("quote_volume"),
        pl.col(f"{by}_fee").sum().alias("fees"),
    ]
    named = trades.with_columns(account=pl.col(by))
    made = resampled(named, span, values, every=every, gaps=gaps, by=("account",))
    made = blanked(made, [value.meta.output_name() for value in values]) if gaps == "mask" else made
    segment = ["segment"] if gaps == "split" else []
    return made.with_columns(*shares(pl.col("length")), net=pl.col("bought") - pl.col("sold")).select(
        *("symbol", "start", "end", *segment, "account", "trades", "bought", "sold", "net", "quote_volume", "fees"),
        *("covered", "proven"),
    )
