"""
What a book says, as polars expressions: middle, spread, depth, cost of trading, imbalance, by source of the size.

Every function gives an expression over the columns of a books table, for `select`, `with_columns` and `filter`. They
hold in both units: prices come out in the units of the prices that went in, sizes in those of the sizes, shares and
basis points are plain numbers. Nothing is multiplied as integers, so nothing overflows.

Null means that it cannot be known: a side is empty, a size is null (the token's decimals are unknown), or the stored
levels end before the question does. The servers send the best `LEVELS` levels a side and those that are crossed, so a
side with fewer is all there is, and one with as many may go on unseen.

The same as methods of a frame, `frame.book.…`, is in `books.py`.
"""

from typing import Literal

import polars as pl

from recorder.errors import RecorderError
from recorder.records import Source

Side = Literal["bid", "ask"]
SIDES: tuple[Side, Side] = ("bid", "ask")
LEVELS = 20
"""Levels a side that the servers send, beside crossed ones."""
BPS = 10_000

SOURCES: dict[str, Source] = {source.name.lower(): source for source in Source if source.name is not None}
"""By name: `dlob` for resting orders, `vamm` for the venue's pool, `indicative`, …"""


def source_bit(source: str) -> int:
    """
    Bit of a source by its name.

    Raises:
        RecorderError: there is none of that name.
    """
    if source.lower() not in SOURCES:
        raise RecorderError(f"no source {source!r}; there are: {', '.join(SOURCES)}")
    return int(SOURCES[source.lower()])


def mid() -> pl.Expr:
    """
    Middle of the best bid and the best ask; null when a side is empty. Crossed books have one, too.
    """
    return ((_best("bid") + _best("ask")) / 2).alias("mid")


def spread() -> pl.Expr:
    """
    Best ask less best bid, in units of the prices; negative where crossed, null when a side is empty.
    """
    return (pl.col("best_ask_price") - pl.col("best_bid_price")).alias("spread")


def spread_bps() -> pl.Expr:
    """
    Spread in basis points of the middle.
    """
    return ((_best("ask") - _best("bid")) / mid() * BPS).alias("spread_bps")


def microprice() -> pl.Expr:
    """
    Best prices, each weighted by the size on the other side: nearer to the side that has less.
    """
    bid, ask = _best("bid", "size"), _best("ask", "size")
    return ((_best("bid") * ask + _best("ask") * bid) / (bid + ask)).alias("microprice")


def imbalance(levels: int = 1, source: str | None = None) -> pl.Expr:
    """
    (bid size − ask size) / (bid size + ask size) of the best `levels` levels: −1 to 1; null when a side is empty.

    A side with fewer levels counts with those it has. With a source: of the size from there in the same levels.
    """
    bid, ask = (size_to(side, levels, source, whole=False).cast(pl.Float64) for side in SIDES)
    there = (pl.col("bid_price").list.len() > 0) & (pl.col("ask_price").list.len() > 0) & (bid + ask > 0)
    return pl.when(there).then((bid - ask) / (bid + ask)).alias(f"imbalance_{levels}")


def sizes(side: Side, source: str | None = None) -> pl.Expr:
    """
    Size of each level, as a list: all of it, or what comes from one source (0 where that has nothing).

    A list of nulls where the parts of a book cannot be told apart: a level of one source whose part differs from its
    size has a part of its own, and nothing says which level that is.
    """
    size = pl.col(f"{side}_size")
    if source is None:
        return size
    bit = source_bit(source)
    element = pl.element().cast(pl.UInt32)
    count = element.bitwise_count_ones().cast(pl.Int64)
    parts = pl.when(count > 1).then(count).otherwise(0)
    shared = ((element & bit) != 0) & (count > 1)
    rank = (element & (bit - 1)).bitwise_count_ones().cast(pl.Int64)
    # All but the first of these is of the sources alone, so one pass over them gives it.
    at = pl.col(f"{side}_source").list.agg(pl.when(shared).then(parts.cum_sum() - parts + rank))
    alone = pl.col(f"{side}_source").list.eval((pl.element() == bit).cast(pl.Int64))
    taken = pl.col(f"{side}_source").list.eval(shared.cast(pl.Int64))
    expected = pl.col(f"{side}_source").list.agg(parts.sum())
    part = pl.col(f"{side}_part").list.gather(at, null_on_oob=True)
    # What is not shared must not make a null of the level's own size; a part that is null must.
    shared_size = part.list.eval(pl.element().fill_null(0)) * taken
    told = pl.col(f"{side}_part").list.len() == expected
    unknown = pl.col(f"{side}_part").list.contains(None)
    nothing = size.list.eval(pl.lit(None, pl.Float64))
    return pl.when(told & ~unknown).then(size * alone + shared_size).otherwise(nothing)


def size_to(side: Side, levels: int, source: str | None = None, *, whole: bool = True) -> pl.Expr:
    """
    Sum of the sizes of the best `levels` levels.

    Args:
        side: `bid` or `ask`.
        levels: at least 1.
        source: only what comes from there.
        whole: null where the side has fewer levels than that; else the sum of those it has.
    """
    if levels < 1:
        raise RecorderError(f"levels={levels}; give 1 or more")
    top = sizes(side, source).list.head(levels)
    known = ~top.list.contains(None)
    if whole:
        known &= pl.col(f"{side}_price").list.len() >= levels
    return pl.when(known).then(top.list.sum()).alias(f"{side}_size_to_{levels}")


def depth(
    side: Side,
    bps: float,
    source: str | None = None,
    *,
    reference: Literal["mid", "touch"] = "mid",
    at_least: bool = False,
) -> pl.Expr:
    """
    Size within `bps` basis points of a reference price, that price at the edge included.

    Args:
        side: `bid` or `ask`.
        bps: at least 0.
        source: only what comes from there.
        reference: the middle of the book, or the best price of the side itself.
        at_least: where all of `LEVELS` or more levels lie within, there may be more that was not sent: null, or with
            True the sum of what was.
    """
    if bps < 0:
        raise RecorderError(f"bps={bps}; give 0 or more")
    sign = 1 if side == "ask" else -1
    middle = mid() if reference == "mid" else _best(side)
    edge = middle * (1 + sign * bps / BPS)
    beyond = (pl.col(f"{side}_price") - edge) * sign
    inside = beyond.list.eval(pl.element() <= 0).list.sum()
    within = sizes(side, source).list.head(inside)
    known = edge.is_not_null() & ~within.list.contains(None)
    if not at_least:
        held = pl.col(f"{side}_price").list.len()
        known &= (held < LEVELS) | (inside < held)
    return pl.when(known).then(within.list.sum()).alias(f"{side}_depth_{_number(bps)}bps")


def reach_bps(side: Side) -> pl.Expr:
    """
    How far from the middle the last stored level is, in basis points.
    """
    last = pl.col(f"{side}_price").list.last().cast(pl.Float64)
    return ((last / mid() - 1).abs() * BPS).alias(f"{side}_reach_bps")


def fill_price(side: Side, amount: float, *, of: Literal["base", "quote"] = "base") -> pl.Expr:
    """
    Average price at which a market order would fill against one side of the book: bids for a sale, asks for a purchase.

    Null when the stored levels of the side do not hold that much.

    Args:
        side: that is taken from.
        amount: more than 0, in units of the sizes; of quote, in units of the sizes times those of the prices (with raw
            units 10^(6 + size_exponent) to the dollar).
        of: what `amount` counts.
    """
    if not amount > 0:
        raise RecorderError(f"amount={amount}; give more than 0")
    price, size = pl.col(f"{side}_price").cast(pl.List(pl.Float64)), pl.col(f"{side}_size").cast(pl.List(pl.Float64))
    value = price * size
    counted = size if of == "base" else value
    upto = counted.list.agg(pl.element().cum_sum())
    before = upto - counted
    capped = [total.list.eval(pl.element().clip(upper_bound=float(amount))) for total in (upto, before)]
    taken = capped[0] - capped[1]
    filled = (price * taken).list.sum() if of == "base" else (taken / price).list.sum()
    average = filled / amount if of == "base" else amount / filled
    enough = (counted.list.sum() >= amount) & ~size.list.contains(None) & ~price.list.contains(None)
    return pl.when(enough).then(average).alias("sell_price" if side == "bid" else "buy_price")


def fill_bps(side: Side, amount: float, *, of: Literal["base", "quote"] = "base") -> pl.Expr:
    """
    What the fill of `fill_price` costs against the middle, in basis points; positive where it costs.
    """
    sign = 1 if side == "ask" else -1
    cost = (fill_price(side, amount, of=of) / mid() - 1) * (sign * BPS)
    return cost.alias("sell_bps" if side == "bid" else "buy_bps")


def crossed() -> pl.Expr:
    """
    Whether the best bid is above the best ask; false when a side is empty.
    """
    return (pl.col("best_bid_price") > pl.col("best_ask_price")).fill_null(value=False).alias("crossed")


def locked() -> pl.Expr:
    """
    Whether the best bid is the best ask; false when a side is empty.
    """
    return (pl.col("best_bid_price") == pl.col("best_ask_price")).fill_null(value=False).alias("locked")


def one_sided() -> pl.Expr:
    """
    Whether at least one side is empty.
    """
    empty = pl.col("best_bid_price").is_null() | pl.col("best_ask_price").is_null()
    return empty.alias("one_sided")


def _best(side: Side, what: Literal["price", "size"] = "price") -> pl.Expr:
    return pl.col(f"best_{side}_{what}").cast(pl.Float64)


def _number(value: float) -> str:
    return f"{value:g}"
