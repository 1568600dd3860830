"""
What `Lake` makes of trades: bars, what each cost against the book before it, and who traded. How, the modules that it
asks say; here hours are read, and markets are gone through.
"""

from collections.abc import Sequence

import polars as pl

from recorder.analysis import bars, executions, intervals
from recorder.analysis.bars import Kind, Which
from recorder.analysis.executions import By
from recorder.analysis.gaps import Gaps, mode
from recorder.analysis.seen import LOOK_BACK_S
from recorder.analysis.tables import Tables
from recorder.analysis.terms import Units, time_range
from recorder.analysis.units import Instant
from recorder.errors import RecorderError
from recorder.records import SECOND_NS


class Traded(Tables):
    """
    What is derived from trades.
    """

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
