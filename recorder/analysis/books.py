"""
`frame.book`: what books say, as methods of polars frames and lazy frames with the columns of a books table.

    lake.books("SOL-PERP", day).book.mid().book.spread()      adds `mid`, `spread`, `spread_bps`

Most methods add columns and give the frame back, lazy if it was lazy; the expressions behind them are in `book.py`.
They hold in both units, natural and raw, and say so where it matters. A row that marks a hole (`gaps="mask"`) has null
in whatever is added.
"""

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar, cast

import polars as pl

from recorder.analysis import book
from recorder.analysis.book import SIDES, Side
from recorder.analysis.units import NS_UTC
from recorder.analysis.weighting import time_weighted
from recorder.errors import RecorderError

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


@pl.api.register_dataframe_namespace("book")
@pl.api.register_lazyframe_namespace("book")
class Books(Generic[Frame]):
    """
    Methods of a frame of books.
    """

    def __init__(self, frame: Frame) -> None:
        self._lazy: pl.LazyFrame = frame.lazy()
        self._eager = isinstance(frame, pl.DataFrame)

    def _back(self, made: pl.LazyFrame) -> Frame:
        """
        As the frame it came from: lazy, or not.
        """
        return cast("Frame", made.collect() if self._eager else made)

    def _added(self, *columns: pl.Expr) -> Frame:
        return self._back(self._lazy.with_columns(columns))

    def mid(self) -> Frame:
        """
        Adds `mid`.
        """
        return self._added(book.mid())

    def spread(self) -> Frame:
        """
        Adds `spread` (in units of the prices) and `spread_bps` (of the middle).
        """
        return self._added(book.spread(), book.spread_bps())

    def microprice(self) -> Frame:
        """
        Adds `microprice`: the best prices, each weighted by the size on the other side.
        """
        return self._added(book.microprice())

    def imbalance(self, levels: int = 1, *, source: str | None = None) -> Frame:
        """
        Adds `imbalance_<levels>`: −1 (only asks) to 1 (only bids) of the best levels' sizes.
        """
        return self._added(book.imbalance(levels, source))

    def depth(
        self,
        bps: float = 10,
        *,
        source: str | None = None,
        reference: Literal["mid", "touch"] = "mid",
        at_least: bool = False,
    ) -> Frame:
        """
        Adds `bid_depth_<bps>bps` and `ask_depth_<bps>bps`: size within so many basis points of the middle, or of the
        side's own best price (`reference="touch"`).

        Null where the stored levels may end before the bound does; with `at_least` the sum of those that are stored.
        """
        return self._added(*(book.depth(side, bps, source, reference=reference, at_least=at_least) for side in SIDES))

    def reach(self) -> Frame:
        """
        Adds `bid_reach_bps` and `ask_reach_bps`: how far from the middle the last stored level is.
        """
        return self._added(*(book.reach_bps(side) for side in SIDES))

    def size_to(self, levels: int, *, source: str | None = None) -> Frame:
        """
        Adds `bid_size_to_<levels>` and `ask_size_to_<levels>`: sums of the best levels' sizes; null where a side has
        fewer.
        """
        return self._added(*(book.size_to(side, levels, source) for side in SIDES))

    def cost(self, amount: float, *, of: Literal["base", "quote"] = "base") -> Frame:
        """
        Adds what a market order of that size would get: `buy_price` and `sell_price`, averages over the levels it would
        take, and `buy_bps` and `sell_bps`, their distance from the middle (positive: it costs). Fees are not in it.

        Null where the stored levels do not hold that much.

        Args:
            amount: in units of the sizes; see `book.fill_price` for quote.
            of: count `amount` in base or in quote.
        """
        return self._added(
            *(book.fill_price(side, amount, of=of) for side in SIDES),
            *(book.fill_bps(side, amount, of=of) for side in SIDES),
        )

    def sources(self, *names: str) -> Frame:
        """
        Adds, for each source named (by default `dlob`, `vamm`, `indicative`) and side, `bid_<source>` and
        `ask_<source>`: the size of each level that comes from there, as a list like `bid_size`.
        """
        return self._added(
            *(
                book.sizes(side, name).alias(f"{side}_{name}")
                for name in names or ("dlob", "vamm", "indicative")
                for side in SIDES
            )
        )

    def top(self, levels: int = 5) -> Frame:
        """
        Adds the best levels as columns: `bid_price_1`, `bid_size_1`, …, `ask_size_<levels>`; null where there is none.
        """
        return self._added(
            *(
                pl.col(f"{side}_{what}").list.get(at, null_on_oob=True).alias(f"{side}_{what}_{at + 1}")
                for side in SIDES
                for at in range(levels)
                for what in ("price", "size")
            )
        )

    def levels(self, *, keep: Sequence[str] = ("recv_ts", "symbol")) -> Frame:
        """
        The books as levels, one a row: the columns to `keep`, then `side` (`bid`, `ask`), `level` (from 1, best first),
        `price`, `size`, `source` (bits), and of the size what is `dlob`, `vamm` and `indicative`.

        Of each book the bids and then the asks; books in the order they are in. A book without levels makes no row.
        """
        return self._back(_levels(self._lazy, keep))

    def at(self, instant: int | pl.Expr, *, time: str = "recv_ts") -> Frame:
        """
        The last book that had arrived at an instant (ns): one row, or none. Of a frame of one market.

        Of rows read with `gaps="mask"` it is the hole's row where the instant lies in one: null in all but its time.
        """
        bound = pl.lit(instant) if isinstance(instant, int) else instant
        return self._back(self._lazy.filter(pl.col(time) <= bound.cast(NS_UTC)).tail(1))

    def difference(self, other: Frame, *, side: Side | None = None) -> Frame:
        """
        What changed from this book to another, price by price: `side`, `price`, `before`, `after` (sizes, 0 where there
        is no such level), `change`. Prices whose size is the same are left out. Bids, then asks, best first.

        Both are frames of one row each. Outside of what both books reach, a level that is gone may merely lie beyond
        the levels that are sent.
        """
        ours, theirs = (
            _levels(each, ()).group_by("side", "price").agg(pl.col("size").sum()) for each in (self._lazy, other.lazy())
        )
        both = ours.join(theirs, on=["side", "price"], how="full", coalesce=True, suffix="_after")
        before, after = pl.col("size").fill_null(0), pl.col("size_after").fill_null(0)
        away = pl.when(pl.col("side") == "bid").then(-pl.col("price")).otherwise("price")
        wanted = both if side is None else both.filter(pl.col("side") == side)
        changed = wanted.select("side", "price", before=before, after=after, change=after - before)
        return self._back(changed.filter(pl.col("change") != 0).sort(pl.col("side") == "ask", away))

    def sanity(self) -> Frame:
        """
        Adds `crossed`, `locked` and `one_sided`, judged from the best levels.
        """
        return self._added(book.crossed(), book.locked(), book.one_sided())

    def time_weighted(
        self,
        *values: pl.Expr,
        every: str | None = None,
        end: int | None = None,
        gaps: Literal["marked", "ignore"] = "marked",
    ) -> Frame:
        """
        Averages in which each book counts as long as it stood: to the next one, or to the hole after it.

        Args:
            values: by default `spread_bps`, `spread` and `mid`.
            every: an average for each such interval (`1m`, `1h`); None: one of all. Intervals begin at multiples.
            end: ns up to which the last book stands; None: it does not count.
            gaps: `marked`: the frame says where its holes are, as read with `gaps="mask"` or `"split"`; refused if it
                does not. `ignore`: books stand over holes, too.

        Returns:
            `symbol`, with `every` the `start` of each interval, the averages under their names (null where a value was
            known at no instant), and `covered_s`: seconds for which some book stood.
        """
        wanted = values or (book.spread_bps(), book.spread(), book.mid())
        names = self._lazy.collect_schema().names()
        if gaps == "marked" and not {"gap", "segment"} & set(names):
            raise RecorderError(
                'the frame does not say where its holes are; read it with gaps="mask", or say gaps="ignore"'
            )
        return self._back(time_weighted(self._lazy, list(wanted), every=every, end=end))


def _levels(frame: pl.LazyFrame, keep: Sequence[str]) -> pl.LazyFrame:
    named = ("dlob", "vamm", "indicative")
    parts = [
        frame.with_row_index("_book")
        .filter(pl.col(f"{side}_price").list.len() > 0)
        .select(
            "_book",
            *keep,
            side=pl.lit(side),
            level=pl.int_ranges(1, pl.col(f"{side}_price").list.len() + 1),
            price=f"{side}_price",
            size=f"{side}_size",
            source=f"{side}_source",
            **{name: book.sizes(side, name) for name in named},
        )
        .explode("level", "price", "size", "source", *named)
        for side in SIDES
    ]
    return pl.concat(parts).sort("_book", pl.col("side") == "ask", "level").drop("_book")
