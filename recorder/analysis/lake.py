"""
`Lake(root)`: a recorder's data, to ask things of. Its tables are in `tables.py`, what is derived from them in `seen.py`
and `traded.py`; here is the lake as a stream of records, and as pictures.

Everything else is a polars LazyFrame: nothing is read before it is collected. What is derived is gap-safe unless told
otherwise: see `gaps.py` for the four modes, and each method for what they mean there.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Self

import polars as pl

from recorder.analysis.holes import UNPROVEN
from recorder.analysis.plot import Plots
from recorder.analysis.records import Hole, Record
from recorder.analysis.replay import Order, replay, windows
from recorder.analysis.seen import Seen
from recorder.analysis.terms import Units, time_range
from recorder.analysis.traded import Traded
from recorder.analysis.units import Instant
from recorder.errors import RecorderError
from recorder.records import HOUR_NS, SECOND_NS


class Lake(Seen, Traded):
    """
    A data root, to read from. Cheap to make; it may be kept while the recorder publishes further hours.

    Ranges are half open, `[start, end)`, and either end may be left out. A bound is a datetime with a zone, a date (its
    midnight, UTC), an ISO string of either (UTC unless it says otherwise), or integer ns since the epoch. Market names
    match in any letter case.
    """

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
        live: bool = False,
    ) -> Iterator[Record]:
        """
        Books, trades and holes as typed records in one stream (`analysis.records`), several markets merged.

        Args:
            market: None for all.
            start: First `recv_ts`; None: where the lake begins.
            end: First `recv_ts` that is out; None: where it ends. What is not sealed is not in it, see `unsealed`.
            tables: `trades`, and one table of books.
            order: `receipt`, as the recorder heard it; or `venue`, by `ts`, as far as records are less than a minute
                late. Trades have their block's time in whole seconds, so that a trade comes before the book that shows
                it.
            units: As for `books`.
            holes: Tell where a table is not proven complete, as a `Hole` where that starts.
            live: Also what is not sealed yet, as far as it is committed at this call.

        Raises:
            RecorderError: no such market, table or order.
        """
        of_books = [name for name in tables if name != "trades"]
        if len(of_books) > 1:
            raise RecorderError(f"one table of books at a time, not {', '.join(of_books)}; replay them one by one")
        if live or self._reader.live:
            # Of this moment, window by window.
            self = self.pinned()  # noqa: PLW0642
        first, last = self.bounds(start, end, live=live)
        within = windows(self.rows_by_hour(tables, market, first, last, live=live), first, last)
        books = partial(self.books, market, table=of_books[0], units=units, live=live) if of_books else None
        trades = partial(self.trades, market, units=units, live=live) if "trades" in tables else None
        told = self.holes(market, first, last, tables=tables, live=live) if holes else []
        return replay(books, trades, within, told, order=order)

    def holes(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        tables: Sequence[str] = ("books", "trades"),
        live: bool = False,
    ) -> list[Hole]:
        """
        Where some tables are not proven complete, as records: `gaps` of each, the unverifiable included, by start.
        """
        first, last = self.bounds(start, end, live=live)
        found = [
            Hole(begin, over, symbol, name, state, why)
            for name in tables
            for symbol, begin, over, state, why in self.gaps(
                market, first, last, table=name, states=UNPROVEN, live=live
            )
            .with_columns(pl.col("start", "end").to_physical())
            .collect()
            .iter_rows()
        ]
        return sorted(found, key=lambda hole: (hole.start, hole.end, hole.symbol, hole.table))

    def bounds(
        self, start: Instant | None = None, end: Instant | None = None, *, live: bool = False
    ) -> tuple[int, int]:
        """
        A range in ns, open ends filled in: from the first published hour to the end of what is published, or committed.

        Raises:
            RecorderError: it has no end, and there is nothing yet.
        """
        first, last = self._reader.bounds(*time_range(start, end), self._reader.view(live=live))
        if (start, end, last) == (None, None, 0):
            hint = f"`drift-recorder seal {self.root} --open` also publishes the hour so far, and `live=True` reads it"
            raise RecorderError(f"{self.root}: no hour is sealed yet; {hint}")
        return first, last

    def heard(self, start: Instant | None = None, end: Instant | None = None, *, live: bool = False) -> tuple[int, int]:
        """
        As `bounds`, but an end that is not given is that of the rows there are of any market, not of its hour:
        `lake.bars(market, *lake.heard())` does not begin with the minutes before the recorder was started.
        """
        view = self._reader.view(live=live)
        first, last = self.bounds(start, end, live=live)
        files = [file for _, index in self._reader.published.hours(first, last) for file in index.files if file.symbol]
        begins = [file.first_recv_ts for file in files if file.first_recv_ts is not None]
        ends = [file.last_recv_ts + 1 for file in files if file.last_recv_ts is not None]
        if view is not None and (since := self._reader.unsealed(first, last)) is not None:
            begins.append(since)
            ends.append(view.until)
        begun, over = min(begins, default=first), max(ends, default=last)
        return max(first, begun) if start is None else first, min(last, over) if end is None else last

    def begun(self, start: Instant | None = None, *, live: bool = False) -> int:
        """
        `start`, or when the first run ever began, if that was later, ns: before it nobody had asked for anything. 0 if
        there is nothing.

        What lies before it is no hole in the recording: `drift-recorder coverage`, the report, the page and
        `plot.coverage` leave it out. In tables, where each hour is whole, it is missing.
        """
        return self._reader.begun(time_range(start, None)[0], self._reader.view(live=live))

    def unsealed(self, start: Instant | None = None, end: Instant | None = None) -> int | None:
        """
        When the first frame of the range came, ns, that only `live=True` reads, for its hour is not sealed (so far).

        None: there is none, or the journal is not here.
        """
        return self._reader.unsealed(*time_range(start, end))

    def reaching(self, start: Instant | None, end: Instant | None, *, live: bool) -> Self:
        """
        The lake for those who read all of a range: this one, or with `live` as it is `pinned` to this moment.

        Raises:
            RecorderError: not `live`, and some of the range is `unsealed`: it would be cut there.
        """
        if live or self._reader.live:
            return self.pinned()
        since = self.unsealed(start, end)
        if since is None:
            return self
        at = datetime.fromtimestamp(since // SECOND_NS, UTC)
        raise RecorderError(
            f"{self.root}: what came from {at:%Y-%m-%d %H:%M:%S} UTC on is not sealed yet; `--live` (live=True) reads "
            f"it too, as far as it is committed; or end the range there: `--to {at:%Y-%m-%dT%H:%M:%S}`"
        )

    def symbols(self, *, live: bool = False) -> list[str]:
        """
        Markets of which there are rows in any table or hour, or may be in hours that are not sealed; sorted.
        """
        return self._reader.all_recorded(self._reader.view(live=live))

    def rows_by_hour(
        self,
        tables: Sequence[str],
        market: str | Sequence[str] | None,
        first: int,
        last: int,
        *,
        live: bool = False,
    ) -> dict[int, int]:
        """
        How many rows each hour has of some tables and markets, by its begin in ns; those with none left out.

        With `live` those that are not sealed are read for it.
        """
        view = self._reader.view(live=live)
        wanted = None if market is None else self._reader.known(market, first, last, view)
        rows: dict[int, int] = {}
        for hour in () if view is None else view.within(first, last):
            for name in tables:
                of = self._reader.rows(name, market, hour, hour + HOUR_NS, units="raw", columns=["seq"], view=view)
                rows[hour] = rows.get(hour, 0) + int(of.select(pl.len()).collect().item())
        for hour, index in self._reader.published.hours(first, last):
            for file in index.files if view is None or hour not in view.hours else ():
                if file.table in tables and (wanted is None or (file.symbol or "").lower() in wanted):
                    rows[hour] = rows.get(hour, 0) + file.rows
        return {hour: count for hour, count in rows.items() if count}

    @property
    def plot(self) -> Plots:
        """
        Pictures: `price`, `depth`, `ladder`, `spread`, `coverage`. They need plotly (extra `plot`).
        """
        return Plots(self)
