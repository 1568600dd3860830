"""
What `Lake` sees of rows at other instants than their own: a book at a time, on a grid, before each row of another
frame, over windows, intervals and time. How, the modules that it asks say; here hours are read, and markets are gone
through.
"""

from collections.abc import Sequence

import msgspec
import polars as pl

from recorder.analysis import book, intervals, sampling
from recorder.analysis.gaps import Gaps, Span, last_known, marked, mode
from recorder.analysis.open_hours import View
from recorder.analysis.tables import Tables
from recorder.analysis.terms import Units, between, columns_of, time_range
from recorder.analysis.units import Instant, instants
from recorder.analysis.weighting import time_weighted
from recorder.records import SECOND_NS

LOOK_BACK_S = 60.0
"""A book is looked for as far back as this."""
_BEST = ("best_bid_price", "best_bid_size", "best_ask_price", "best_ask_size")


class Seen(Tables):
    """
    Rows seen at other instants.
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
        for how many seconds. Books of which a value is null (the spread, where a side is empty) are left out of its
        average, and count in `covered_s`.

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
