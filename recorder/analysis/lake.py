"""
`Lake(root)`: a recorder's data, to ask things of. Its tables are in `tables.py`; here is what is derived from them.

Everything is a polars LazyFrame: nothing is read before it is collected. What is derived is gap-safe unless told
otherwise: see `gaps.py` for the four modes, and each method for what they mean there.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import polars as pl

from recorder.analysis import bars
from recorder.analysis.gaps import UNPROVEN, Gaps, mode
from recorder.analysis.records import Hole, Record
from recorder.analysis.replay import Order, replay, windows
from recorder.analysis.tables import Tables, Units, time_range
from recorder.analysis.units import Instant
from recorder.errors import RecorderError
from recorder.records import SECOND_NS

LOOK_BACK_S = 60.0
"""A book is looked for as far back as this."""


class Lake(Tables):
    """
    A data root, to read from. Cheap to make; it may be kept while the recorder publishes further hours.

    Ranges are half open, `[start, end)`, and either end may be left out. A bound is a datetime, a date (its midnight,
    UTC), an ISO string of either (UTC unless it says otherwise), or integer ns since the epoch. Market names match in
    any letter case.
    """

    def book(
        self,
        market: str,
        at: Instant,
        *,
        table: str = "books",
        units: Units = "natural",
        gaps: Gaps = "mask",
        look_back_s: float = LOOK_BACK_S,
    ) -> pl.LazyFrame:
        """
        The last book that had arrived at an instant: one row, with all columns of the table.

        Args:
            market: One.
            at: When; a book that arrived at this very instant is in.
            table: Of books.
            units: As for `books`.
            gaps: `mask`, `split`: no row where the instant lies in a hole, or none came since one. `error`: an instant
                in, or just after, a hole is refused. `ignore`: the last one there was, however old.
            look_back_s: No row if the last one is older than this.
        """
        end = time_range(None, at)[1]
        assert end is not None
        start = end - int(look_back_s * SECOND_NS)
        if mode(gaps) in {"ignore", "error"}:
            return self.books(market, start, end + 1, table=table, units=units, gaps=gaps).tail(1)
        found = self.books(market, start, end + 1, table=table, units=units, gaps="mask").tail(1)
        return found.filter(~pl.col("gap")).drop("gap")

    def bars(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        every: str | None = None,
        ticks: int | None = None,
        volume: float | None = None,
        quote_volume: float | None = None,
        trades: bars.Which = "market",
        gaps: Gaps = "mask",
        units: Units = "natural",
    ) -> pl.LazyFrame:
        """
        Bars of trades: of so much time (`every`, by default `1m`), so many `ticks`, so much `volume` (tokens) or
        `quote_volume` (dollar bars). By market and time.

        Args:
            market: None for all with trades in the range.
            start: A bar by time is whole: the range is widened to those that it touches.
            end: First instant that is out.
            every: Duration as polars writes them: `1s`, `5m`, `1h`, `1d` (UTC); bars begin at its multiples.
            ticks: Trades a bar.
            volume: Tokens a bar.
            quote_volume: Value a bar.
            trades: Which ones, see `bars.which`: `market` (by default), `liquidations`, `transfers`, `all`.
            gaps: `mask`: a bar that a hole touches, or that a hole cut short, says nothing but its time and how much
                of it was covered. `split`: it is divided at the hole. See `analysis.bars`.
            units: Of volumes; prices are natural.

        Returns:
            `symbol`, `start`, `end`, `open`, `high`, `low`, `close`, `vwap`, `trades`, `buys`, `sells`, `volume`,
            `buy_volume`, `sell_volume`, `quote_volume`, `covered` (share of the bar in no hole), `proven` (share
            that is proven complete); with `split` `segment`; other than by time `complete` (the bar reached its size).
        """
        sizes: list[tuple[bars.Kind, float | None]] = [
            ("ticks", ticks),
            ("volume", volume),
            ("quote_volume", quote_volume),
        ]
        asked = [(kind, size) for kind, size in sizes if size is not None]
        if len(asked) + (every is not None) > 1:
            raise RecorderError("give one of every=, ticks=, volume=, quote_volume=")
        length = (every or "1m") if not asked else None
        wanted = bars.which(trades)
        first, last = self._bounds(*time_range(start, end))
        if length is not None:
            first, last = bars.whole_bars(first, last, length)
        made = []
        for symbol in self._symbols("trades", market, first, last):
            rows = self.trades(symbol, first, last, units="raw", columns=bars.COLUMNS).filter(wanted)
            span = bars.Span(
                symbol,
                first,
                last,
                self._holes("trades", [symbol], first, last),
                self._holes("trades", [symbol], first, last, states=UNPROVEN),
            )
            if length is not None:
                made.append(bars.time_bars(rows, span, every=length, gaps=mode(gaps), units=units))
            else:
                kind, size = asked[0]
                made.append(bars.counted_bars(rows, span, kind=kind, size=size, gaps=mode(gaps), units=units))
        if not made:
            raise RecorderError(f"{self.root}: no trades of any market in this range; Lake.hours() lists what there is")
        return pl.concat(made)

    def replay(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        tables: Sequence[str] = ("books", "trades"),
        order: Order = "receipt",
        units: Units = "natural",
        holes: bool = True,
    ) -> Iterator[Record]:
        """
        Books, trades and holes as typed records in one stream (`analysis.records`), several markets merged.

        Args:
            market: None for all.
            start: First `recv_ts`; None: where the lake begins.
            end: First `recv_ts` that is out; None: where it ends.
            tables: `trades`, and one table of books.
            order: `receipt`, as the recorder heard it; or `venue`, by `ts`, as far as records are less than a minute
                late. Trades have their block's time in whole seconds, so that a trade comes before the book that shows
                it.
            units: As for `books`.
            holes: Tell where a table is not proven complete, as a `Hole` where that starts.

        Raises:
            RecorderError: no such market, table or order.
        """
        of_books = [name for name in tables if name != "trades"]
        if len(of_books) > 1:
            raise RecorderError(f"one table of books at a time, not {', '.join(of_books)}; replay them one by one")
        first, last = self.bounds(start, end)
        within = windows(self.rows_by_hour(tables, market, first, last), first, last)
        books = partial(self.books, market, table=of_books[0], units=units) if of_books else None
        trades = partial(self.trades, market, units=units) if "trades" in tables else None
        told = self.holes(market, first, last, tables=tables) if holes else []
        return replay(books, trades, within, told, order=order)

    def holes(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        tables: Sequence[str] = ("books", "trades"),
    ) -> list[Hole]:
        """
        Where some tables are not proven complete, as records: `gaps` of each, the unverifiable included, by start.
        """
        first, last = self.bounds(start, end)
        found = [
            Hole(begin, over, symbol, name, state, why)
            for name in tables
            for symbol, begin, over, state, why in self.gaps(market, first, last, table=name, states=UNPROVEN)
            .with_columns(pl.col("start", "end").to_physical())
            .collect()
            .iter_rows()
        ]
        return sorted(found, key=lambda hole: (hole.start, hole.end, hole.symbol, hole.table))

    def bounds(self, start: Instant | None = None, end: Instant | None = None) -> tuple[int, int]:
        """
        A range in ns, open ends filled in: from the first published hour to the end of what is published.
        """
        return self._bounds(*time_range(start, end))

    def rows_by_hour(
        self, tables: Sequence[str], market: str | Sequence[str] | None, first: int, last: int
    ) -> dict[int, int]:
        """
        How many rows each published hour has of some tables and markets, by its begin in ns; those with none left out.
        """
        wanted = None if market is None else self._known(market, first, last)
        rows: dict[int, int] = {}
        for hour, index in self._published.hours(first, last):
            for file in index.files:
                if file.table in tables and (wanted is None or (file.symbol or "").lower() in wanted):
                    rows[hour] = rows.get(hour, 0) + file.rows
        return {hour: count for hour, count in rows.items() if count}
