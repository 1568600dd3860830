"""
`Lake(root)`: a recorder's data, to ask things of. Its tables are in `tables.py`; here is what is derived from them.

Everything is a polars LazyFrame: nothing is read before it is collected. What is derived is gap-safe unless told
otherwise: see `gaps.py` for the four modes, and each method for what they mean there.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import msgspec
import polars as pl

from recorder.analysis import bars, book, executions, intervals, sampling
from recorder.analysis.bars import Kind, Which
from recorder.analysis.executions import By
from recorder.analysis.gaps import Gaps, Span, last_known, marked, mode
from recorder.analysis.holes import UNPROVEN
from recorder.analysis.open_hours import View
from recorder.analysis.plot import Plots
from recorder.analysis.reading import Units, between, columns_of, time_range
from recorder.analysis.records import Hole, Record
from recorder.analysis.replay import Order, replay, windows
from recorder.analysis.tables import Tables
from recorder.analysis.units import Instant, instants
from recorder.analysis.weighting import time_weighted
from recorder.errors import RecorderError
from recorder.records import SECOND_NS

LOOK_BACK_S = 60.0
"""A book is looked for as far back as this."""
_BEST = ("best_bid_price", "best_bid_size", "best_ask_price", "best_ask_size")


class Lake(Tables):
    """
    A data root, to read from. Cheap to make; it may be kept while the recorder publishes further hours.

    Ranges are half open, `[start, end)`, and either end may be left out. A bound is a datetime with a zone, a date (its
    midnight, UTC), an ISO string of either (UTC unless it says otherwise), or integer ns since the epoch. Market names
    match in any letter case.
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
        live: bool = False,
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
            live: Also what is not sealed yet, as far as it is committed at this call.
        """
        end = time_range(None, at)[1]
        assert end is not None
        start = end - int(look_back_s * SECOND_NS)
        if mode(gaps) in {"ignore", "error"}:
            return self.books(market, start, end + 1, table=table, units=units, gaps=gaps, live=live).tail(1)
        self._refuse_others(table)
        view = self._reader.view(live=live)
        rows = self._reader.rows(table, market, start, end + 1, units=units, view=view)
        symbols = self._reader.symbols(table, market, start, end + 1, view)
        return last_known(rows, self._reader.holes(table, symbols, start, end + 1, view=view), end)

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
        trades: Which = "market",
        gaps: Gaps = "mask",
        units: Units = "natural",
        live: bool = False,
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
            live: Also what is not sealed yet, as far as it is committed at this call.

        Returns:
            `symbol`, `start`, `end`, `open`, `high`, `low`, `close`, `vwap`, `trades`, `buys`, `sells`, `volume`,
            `buy_volume`, `sell_volume`, `quote_volume`, `covered` (share of the bar in no hole), `proven` (share
            that is proven complete); with `split` `segment`; other than by time `complete` (the bar reached its size).
        """
        sizes: list[tuple[Kind, float | None]] = [
            ("ticks", ticks),
            ("volume", volume),
            ("quote_volume", quote_volume),
        ]
        asked = [(kind, size) for kind, size in sizes if size is not None]
        if len(asked) + (every is not None) > 1:
            raise RecorderError("give one of every=, ticks=, volume=, quote_volume=")
        length = (every or "1m") if not asked else None
        wanted = bars.which(trades)
        view = self._reader.view(live=live)
        first, last = self._reader.bounds(*time_range(start, end), view)
        if length is not None:
            first, last = intervals.whole(first, last, length)
        made = []
        for span in self._reader.spans("trades", market, first, last, view=view):
            rows = self._reader.rows(
                "trades", span.symbol, first, last, units="raw", columns=bars.COLUMNS, view=view
            ).filter(wanted)
            if length is not None:
                made.append(bars.time_bars(rows, span, every=length, gaps=mode(gaps), units=units))
            else:
                kind, size = asked[0]
                made.append(bars.counted_bars(rows, span, kind=kind, size=size, gaps=mode(gaps), units=units))
        return pl.concat(made)

    def sample(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *values: pl.Expr | str,
        every: str = "1s",
        table: str = "books",
        gaps: Gaps = "mask",
        units: Units = "natural",
        max_age_s: float = LOOK_BACK_S,
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        The books that stood at the instants of a grid (multiples of `every`).

        Args:
            market: None for all with rows in the range.
            start: Of the range.
            end: First instant that is out.
            values: Columns or expressions over a book, see `analysis.book`; by default the best prices and sizes.
            every: Duration as polars writes it.
            table: Of books (or `trades`: then the last fill).
            gaps: `mask`: null where the book is not known, in a hole or since one. `split`: no such instants.
            units: As for `books`.
            max_age_s: A book older than this is not taken.
            live: Also what is not sealed yet, as far as it is committed at this call.

        Returns:
            `recv_ts` (of the grid), `symbol`, `book_ts` (when the book had arrived), the values; by market and time.
        """
        view = self._reader.view(live=live)
        first, last = self._reader.bounds(*time_range(start, end), view)
        read_from = first - int(max_age_s * SECOND_NS)
        made = []
        for span in self._reader.spans(table, market, first, last, read_from=read_from, view=view):
            rows = self._valued(table, span, values, read_from, last, units=units, view=view)
            within = msgspec.structs.replace(span, first=first)
            made.append(
                sampling.as_of(
                    sampling.grid(within, every),
                    rows,
                    span,
                    gaps=mode(gaps),
                    time="recv_ts",
                    strict=False,
                    max_age_s=max_age_s,
                )
            )
        return pl.concat(made)

    def asof(
        self,
        left: pl.LazyFrame | pl.DataFrame,
        market: str | Sequence[str],
        start: Instant | None = None,
        end: Instant | None = None,
        *values: pl.Expr | str,
        time: str = "recv_ts",
        strict: bool = True,
        table: str = "books",
        gaps: Gaps = "mask",
        units: Units = "natural",
        max_age_s: float = LOOK_BACK_S,
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        Rows of any frame with the last book before each.

        Args:
            left: Has `symbol` and instants. Rows of other markets, or outside the range, are left out.
            market: One or several.
            start: Of the range of `left`, so that only the hours that are needed are read.
            end: First instant that is out.
            values: As for `sample`; a name that `left` has is refused by polars.
            time: Column of instants: timestamps with a time zone, or integer ns. Those without a zone are refused.
            strict: Books before the instant; False: also one at it.
            table: Of books (or `trades`: then the last fill).
            gaps: As for `sample`.
            units: As for `books`.
            max_age_s: A book older than this is not taken.
            live: Also what is not sealed yet, as far as it is committed at this call.

        Returns:
            `left` with `book_ts` and the values; by market and time.
        """
        view = self._reader.view(live=live)
        first, last = self._reader.bounds(*time_range(start, end), view)
        read_from = first - int(max_age_s * SECOND_NS)
        mine = left.lazy().with_columns(instants(left, time)).filter(between(time, first, last))
        made = []
        for span in self._reader.spans(table, market, first, last, read_from=read_from, view=view):
            rows = self._valued(table, span, values, read_from, last, units=units, view=view)
            of_market = mine.filter(pl.col("symbol") == span.symbol)
            made.append(
                sampling.as_of(of_market, rows, span, gaps=mode(gaps), time=time, strict=strict, max_age_s=max_age_s)
            )
        return pl.concat(made)

    def rolling(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *values: pl.Expr,
        period: str = "1m",
        table: str = "books",
        gaps: Gaps = "mask",
        units: Units = "natural",
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        Aggregations over the window `(t − period, t]` at each row.

        Args:
            market: None for all with rows in the range.
            start: Of the range; rows of the period before it are read, too.
            end: First instant that is out.
            values: Aggregations of rows with a name each, such as `book.mid().std().alias("volatility")`.
            period: Duration of fixed length, as polars writes it.
            table: Of books, or `trades`.
            gaps: `mask`: null where the window touches a hole. `split`: the window begins after it.
            units: As for `books`.
            live: Also what is not sealed yet, as far as it is committed at this call.

        Returns:
            `symbol`, `recv_ts`, the values, `covered` (share of the window in no hole); by market and time.
        """
        sampling.refuse_unnamed(values)
        view = self._reader.view(live=live)
        first, last = self._reader.bounds(*time_range(start, end), view)
        read_from = intervals.before(first, period)
        made = []
        for span in self._reader.spans(table, market, first, last, read_from=read_from, view=view):
            needed = columns_of(table, values)
            rows = self._reader.rows(table, span.symbol, read_from, last, units=units, columns=needed, view=view)
            within = msgspec.structs.replace(span, first=first)
            made.append(sampling.rolling(rows, within, values, period=period, gaps=mode(gaps)))
        return pl.concat(made)

    def resample(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *values: pl.Expr,
        every: str = "1m",
        table: str = "books",
        gaps: Gaps = "mask",
        units: Units = "natural",
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        Aggregations of the rows of each interval, also of those without rows.

        Args:
            market: None for all with rows in the range.
            start: The range is widened to whole intervals.
            end: First instant that is out.
            values: Aggregations of rows with a name each, such as `book.spread_bps().median().alias("spread")`. Rows
                count alike, however long they stood: see `time_weighted`.
            every: Duration as polars writes it; intervals begin at its multiples.
            table: Of books, or `trades`.
            gaps: `mask`: null where the interval touches a hole. `split`: a row for each part of it between holes.
            units: As for `books`.
            live: Also what is not sealed yet, as far as it is committed at this call.

        Returns:
            `symbol`, `start`, `end`, the values, `covered`, `proven`; with `split` `segment`; by market and time.
        """
        sampling.refuse_unnamed(values)
        view = self._reader.view(live=live)
        first, last = intervals.whole(*self._reader.bounds(*time_range(start, end), view), every)
        names = [value.meta.output_name() for value in values]
        made = []
        for span in self._reader.spans(table, market, first, last, view=view):
            needed = columns_of(table, values)
            rows = self._reader.rows(table, span.symbol, first, last, units=units, columns=needed, view=view)
            told = intervals.resampled(rows, span, values, every=every, gaps=mode(gaps))
            told = told.with_columns(intervals.shares(pl.col("length")))
            told = intervals.blanked(told, names) if gaps == "mask" else told
            segment = ["segment"] if gaps == "split" else []
            made.append(told.select("symbol", "start", "end", *segment, *names, "covered", "proven"))
        return pl.concat(made)

    def time_weighted(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *values: pl.Expr,
        every: str | None = None,
        table: str = "books",
        gaps: Gaps = "mask",
        units: Units = "natural",
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        Averages of books in which each counts as long as it stood, within the range.

        A book stands until the next one, until the hole after it, or the range's end; no instant inside a hole counts
        (`ignore`: the book before it stands over it). So an average says what was, where that is known, and `covered_s`
        for how many seconds.

        Args:
            market: None for all with rows in the range.
            start: Of the range; the book that stood at it counts.
            end: First instant that is out.
            values: Expressions over a book with a name each; by default `spread_bps`, `spread` and `mid`.
            every: An average for each such interval; None: one of the range.
            table: Of books.
            gaps: `mask` and `split` do the same here.
            units: As for `books`.
            live: Also what is not sealed yet, as far as it is committed at this call.

        Returns:
            `symbol`, with `every` `start`, the averages, `covered_s`; by market and time.
        """
        view = self._reader.view(live=live)
        first, last = self._reader.bounds(*time_range(start, end), view)
        wanted = list(values) or [book.spread_bps(), book.spread(), book.mid()]
        sampling.refuse_unnamed(wanted)
        read_from = first - int(LOOK_BACK_S * SECOND_NS)
        seen: Gaps = "mask" if mode(gaps) in {"mask", "split"} else gaps
        made = []
        for span in self._reader.spans(table, market, first, last, read_from=read_from, view=view):
            rows = self._valued(table, span, wanted, read_from, last, units=units, view=view)
            rows = marked(rows, span.holes, seen, symbol=span.symbol)
            named = [pl.col(value.meta.output_name()) for value in wanted]
            made.append(time_weighted(rows, named, every=every, start=first, end=last, symbol=span.symbol))
        return pl.concat(made)

    def executions(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        horizons: Sequence[str] = ("1s", "10s"),
        trades: Which = "market",
        table: str = "books",
        gaps: Gaps = "mask",
        max_age_s: float = LOOK_BACK_S,
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        Each trade with the book strictly before it: effective and realised spread, impact, slippage.

        What each figure is, `analysis.executions` says. Repeats are left out. Natural units.

        Args:
            market: None for all with trades in the range.
            start: First `recv_ts`.
            end: First that is out.
            horizons: How long after the trade the middle is looked at for the realised spread; durations as polars
                writes them, of fixed length.
            trades: Which ones, see `bars.which`.
            table: Of books.
            gaps: `mask`: null where the book is not known. `split`: no such trades.
            max_age_s: A book older than this is not taken.
            live: Also what is not sealed yet, as far as it is committed at this call.
        """
        view = self._reader.view(live=live)
        first, last = self._reader.bounds(*time_range(start, end), view)
        after = {name: first - intervals.before(first, name) for name in horizons}
        read_from, read_to = first - int(max_age_s * SECOND_NS), last + max(after.values(), default=0)
        wanted = bars.which(trades)
        made = []
        for of_trades in self._reader.spans("trades", market, first, last, view=view):
            symbol = of_trades.symbol
            span = self._reader.span(table, symbol, read_from, read_to, view=view)
            fills = self._reader.rows(
                "trades", symbol, first, last, units="natural", columns=executions.TRADE_COLUMNS, view=view
            ).filter(wanted)
            quotes = self._reader.rows(
                table, symbol, read_from, read_to, units="natural", columns=executions.BOOK_COLUMNS, view=view
            )
            made.append(
                executions.executions(fills, quotes, span, horizons=after, gaps=mode(gaps), max_age_s=max_age_s)
            )
        return pl.concat(made)

    def flows(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        by: By = "taker",
        every: str = "1h",
        trades: Which = "market",
        gaps: Gaps = "mask",
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        What each account bought and sold in each interval, as taker or as maker (null: the venue's pool).

        Args:
            market: None for all with trades in the range.
            start: The range is widened to whole intervals.
            end: First instant that is out.
            by: `taker` or `maker`.
            every: Length of an interval.
            trades: Which ones, see `bars.which`.
            gaps: `mask`: amounts are null where the interval touches a hole, for there they are too low. `split`: a row
                for each part of it between holes.
            live: Also what is not sealed yet, as far as it is committed at this call.

        Returns:
            `symbol`, `start`, `end`, `account`, `trades`, `bought`, `sold`, `net` (tokens), `quote_volume`, `fees`
            (quote; negative: a rebate), `covered`, `proven`.
        """
        if by not in {"taker", "maker"}:
            raise RecorderError(f'by={by!r} is unknown; give "taker" or "maker"')
        view = self._reader.view(live=live)
        first, last = intervals.whole(*self._reader.bounds(*time_range(start, end), view), every)
        wanted = bars.which(trades)
        made = []
        for span in self._reader.spans("trades", market, first, last, view=view):
            rows = self._reader.rows(
                "trades", span.symbol, first, last, units="natural", columns=executions.TRADE_COLUMNS, view=view
            ).filter(wanted)
            made.append(executions.flows(rows, span, by=by, every=every, gaps=mode(gaps)))
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
        return self._reader.bounds(*time_range(start, end))

    def rows_by_hour(
        self, tables: Sequence[str], market: str | Sequence[str] | None, first: int, last: int
    ) -> dict[int, int]:
        """
        How many rows each published hour has of some tables and markets, by its begin in ns; those with none left out.
        """
        wanted = None if market is None else self._reader.known(market, first, last)
        rows: dict[int, int] = {}
        for hour, index in self._reader.published.hours(first, last):
            for file in index.files:
                if file.table in tables and (wanted is None or (file.symbol or "").lower() in wanted):
                    rows[hour] = rows.get(hour, 0) + file.rows
        return {hour: count for hour, count in rows.items() if count}

    def _valued(
        self,
        name: str,
        span: Span,
        values: Sequence[pl.Expr | str],
        first: int,
        last: int,
        *,
        units: Units,
        view: View | None,
    ) -> pl.LazyFrame:
        """
        One market's rows as their time and some values.
        """
        chosen = values or (_BEST if name != "trades" else ("price", "base_amount"))
        needed = columns_of(name, chosen)
        rows = self._reader.rows(name, span.symbol, first, last, units=units, columns=needed, view=view)
        return rows.select("recv_ts", "symbol", *chosen)

    @property
    def plot(self) -> Plots:
        """
        Pictures: `price`, `depth`, `ladder`, `spread`, `coverage`. They need plotly (extra `plot`).
        """
        return Plots(self)
