"""
The published tables as polars LazyFrames, by market and time: what `Lake` reads.

Files are found by name: manifests say which hours are published and what belongs to them, so that an hour half written
is never read, and of the hours outside the wanted range not even the manifest is opened. With `live=True` the hours
that are not sealed yet are read from the journal, up to the last entry that is committed at the call; of a lake that
was made with `live=True` they always are.

Rows come market by market, and in each by time. Those of each hour that is not sealed come behind all of the hours
before it, again market by market: `.sort("symbol", maintain_order=True)` puts them where they will be once it is.
Nothing is read before a frame is collected.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import polars as pl

from recorder.analysis.condition import DAY_NS, TOLERANCE, conditions
from recorder.analysis.events import whole_events
from recorder.analysis.gaps import Gaps
from recorder.analysis.holes import HOLES, State, spans, without_rows
from recorder.analysis.reading import Reader
from recorder.analysis.terms import BOOK_TABLE, Units, between, streams_of, time_range
from recorder.analysis.units import NS_UTC, Instant
from recorder.errors import RecorderError
from recorder.records import HOUR_NS


class Tables:
    """
    A data root, to read from. Cheap to make; it may be kept while the recorder publishes further hours.

    Ranges are half open, `[start, end)`, and either end may be left out. A bound is a datetime with a zone, a date
    (its midnight, UTC), an ISO string of either, or integer ns since the epoch. Market names match in any letter case.
    """

    def __init__(
        self, root: Path | str, *, storage_options: Mapping[str, Any] | None = None, live: bool = False
    ) -> None:
        """
        Args:
            root: The recorder's data root: a folder, or a URL that polars scans, such as `s3://bucket/drift` (needs the
                extra `cloud`).
            storage_options: Of a URL, as polars takes them.
            live: Whatever is asked also reads what is not sealed yet, as if `live=True` were said each time. What tells
                of published hours (`hours`, `markets`, `describe`, `connections`) does so all the same.

        Raises:
            RootError: not a recorder's data root, or one of a newer version.
            RecorderError: `live`, and the root has no journal here.
        """
        self._reader = Reader(root, storage_options, live=live)
        self.root = self._reader.root

    def pinned(self) -> Self:
        """
        The same lake, for which `live=True` means this moment, however long ago it was: several questions, one answer.

        Raises:
            RecorderError: the root has no journal here.
        """
        made = copy(self)
        made._reader = self._reader.pinned()  # noqa: SLF001  # of its own kind
        return made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, venue={self.venue!r}, network={self.network!r})"

    @property
    def venue(self) -> str:
        """
        Label of the venue the root is bound to.
        """
        return self._reader.binding.venue

    @property
    def network(self) -> str:
        """
        The market list its indices belong to.
        """
        return self._reader.binding.network

    def books(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        table: str = "books",
        units: Units = "natural",
        columns: Sequence[str] | None = None,
        gaps: Gaps = "ignore",
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        Order books that arrived in the range: all markets, one, or several.

        Args:
            market: None for all.
            start: First `recv_ts`.
            end: First `recv_ts` that is out.
            table: `books` is the firm book at grouping 1; others are `books_grouped_100`, `books_indicative`, ….
            units: `natural` for floats in tokens and quote, sizes null where the token's decimals are unknown;
                `raw` for the exact integers of the files.
            columns: Only these, in this order.
            gaps: What to do where rows are missing or not to be trusted, see `analysis.gaps`: `ignore` gives the rows
                as they are; `mask` puts a row of nulls at each hole and adds `gap`; `split` adds `segment`; `error`.
            live: Also what is not sealed yet, from the journal, up to the last entry that is committed at this call.
        """
        self._refuse_others(table)
        return self._reader.rows(
            table,
            market,
            *time_range(start, end),
            units=units,
            columns=columns,
            gaps=gaps,
            view=self._reader.view(live=live),
        )

    def _refuse_others(self, table: str) -> None:
        """
        Raises:
            RecorderError: it is no table of books.
        """
        if not BOOK_TABLE.fullmatch(table):
            there = [name for name in self._reader.store.tables() if name.startswith("books")]
            raise RecorderError(
                f"{table!r} is no table of books; in {self.root} there are: {', '.join(there) or 'none'}"
            )

    def trades(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        units: Units = "natural",
        columns: Sequence[str] | None = None,
        gaps: Gaps = "ignore",
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        Fills that arrived in the range; arguments as for `books`. `ts` is the chain's time, `recv_ts` ours.
        """
        return self._reader.rows(
            "trades",
            market,
            *time_range(start, end),
            units=units,
            columns=columns,
            gaps=gaps,
            view=self._reader.view(live=live),
        )

    def priority_fees(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        units: Units = "natural",
        columns: Sequence[str] | None = None,
        gaps: Gaps = "ignore",
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        Priority fees that arrived in the range; arguments as for `books`.
        """
        return self._reader.rows(
            "priority_fees",
            market,
            *time_range(start, end),
            units=units,
            columns=columns,
            gaps=gaps,
            view=self._reader.view(live=live),
        )

    def quality(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        markets: str | Sequence[str] | None = None,
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        Events that overlap the range: every hole and its cause, and what happened to the recorder.

        An event that spans several hours has a row in each, under one `event_id`. Of some `markets` only: those that
        name one of them, and those that name none (of a connection or the recorder), which concern any.
        """
        return self._reader.quality(markets, *time_range(start, end), self._reader.view(live=live))

    def events(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        markets: str | Sequence[str] | None = None,
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        As `quality`, but the parts of an event that reaches over several hours are one row.

        A range that ends before the event does shows it as far as the hours in it tell.
        """
        return whole_events(self.quality(start, end, markets=markets, live=live))

    def coverage(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        What each hour that begins in the range can prove, a row per configured stream.

        Trades are judged with the fills of the two days around the range: see `proving`.
        """
        return self._reader.coverage(market, *time_range(start, end), self._reader.view(live=live))

    def spans(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        The hours of `coverage` as stretches of one state: `symbol`, `channel`, `grouping`, `start`, `end`, `state`,
        `why`. An hour whose rows were removed by rule is one stretch that is `unrecorded`, whatever was proven of it.
        """
        told = self.coverage(market, start, end, live=live).filter(pl.col("span_start").list.len() > 0)
        expired = [hour for hour, index in self._reader.published.hours(*time_range(start, end)) if index.expired]
        if expired:
            told = without_rows(told, expired)
        return spans(told).select("symbol", "channel", "grouping", "start", "end", "state", "why")

    def gaps(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        table: str = "books",
        states: Sequence[State] = HOLES,
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        Holes of a table in the range, as intervals `[start, end)` cut to it: `symbol`, `start`, `end`, `state`, `why`.

        A row at either bound is good, one strictly between them is not. Holes that touch are one, with the worst of
        their states (`unrecorded`, `missing`, `suspect`, `unverifiable`) and all their reasons.

        Args:
            market: None for all that `coverage` names. One that was not recorded at all is `unrecorded` throughout.
            start: Of the range; None: where the first published hour begins.
            end: Of the range; None: where the last published hour (so far) ends.
            table: `books`, another table of books, `trades` or `priority_fees`.
            states: What is a hole; `UNPROVEN` of `analysis.holes` is everything that is not proven complete. What no
                published hour covers always is one.
            live: Also what is not sealed yet, as far as it is committed; what comes after is `unrecorded`.
        """
        first, last = time_range(start, end)
        view = self._reader.view(live=live)
        names = None if market is None else self._reader.symbols(table, market, first, last, view)
        return self._reader.holes(table, names, first, last, states=states, view=view)

    def condition(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        tolerance: float = TOLERANCE,
        live: bool = False,
    ) -> pl.LazyFrame:
        """
        In what condition each day of each market is: a row a market and day that the range touches.

        `condition` is `pending` while an hour of the day is not sealed, `expired` if rows of one were removed by rule
        (`lake.keep_days`; what `coverage` says of them still stands), `missing` if nothing of the market is there,
        `degraded` if fills are missing, or more of the day than `tolerance` is missing or suspect (of its books; of a
        market without books, of its trades), hours before the recording began included, else `available`. With `live`
        the seconds of a pending hour are those that are committed.
        """
        view = self._reader.view(live=live)
        first, last = time_range(start, end)
        first = None if first is None else first // DAY_NS * DAY_NS
        last = None if last is None else -(-last // DAY_NS) * DAY_NS
        published = self._reader.published.hours(None, None)
        hours = dict.fromkeys(() if view is None else view.hours, False) | {h: index.complete for h, index in published}
        expired = [hour for hour, index in published if index.expired]
        coverage = self._reader.coverage(market, first, last, view)
        return conditions(coverage, sorted(hours.items()), tolerance=tolerance, expired=expired)

    def connections(self, start: Instant | None = None, end: Instant | None = None) -> pl.LazyFrame:
        """
        How each connection did, a row a published hour that begins in the range, run and connection.

        Beside what the hour noted (seconds up and down, connects, heartbeats): `first`, the rows that it was first to
        bring, `share` of all of that hour, and the median and 99th percentile of `recv_ts − ts` of its books. What it
        brought second is not stored: `coverage` counts that by stream, as `duplicates_removed`.
        """
        first, last = time_range(start, end)
        own = self._reader.scan("connections", first, last).filter(between("start", first, last))
        tables = {
            file.table for _, index in self._reader.published.hours(first, last) for file in index.files if file.symbol
        }
        brought = [
            self._reader.scan(name, first, last).select(
                "run",
                "connection",
                start=pl.col("recv_ts").dt.truncate("1h"),
                late_ms=(pl.col("recv_ts") - pl.col("ts")).dt.total_nanoseconds() / 1e6
                if name.startswith("books")
                else pl.lit(None, pl.Float64),
            )
            for name in sorted(tables)
        ]
        if not brought:
            brought = [own.select("run", "connection", "start", late_ms=pl.lit(None, pl.Float64)).clear()]
        keys = ["start", "run", "connection"]
        counts = (
            pl.concat(brought)
            .group_by(keys)
            .agg(
                first=pl.len().cast(pl.Int64),
                latency_p50_ms=pl.col("late_ms").median(),
                latency_p99_ms=pl.col("late_ms").quantile(0.99),
            )
            .with_columns(share=pl.col("first") / pl.col("first").sum().over("start"))
        )
        joined = own.join(counts, on=keys, how="left").with_columns(pl.col("first").fill_null(0))
        return joined.with_columns(pl.col("share").fill_null(0.0)).sort(keys)

    def telemetry(
        self, start: Instant | None = None, end: Instant | None = None, *, live: bool = False
    ) -> pl.LazyFrame:
        """
        The recorder about itself, a row a minute and run.
        """
        view = self._reader.view(live=live)
        return self._reader.rows("telemetry", None, *time_range(start, end), units="raw", view=view)

    def undecodable(
        self, start: Instant | None = None, end: Instant | None = None, *, live: bool = False
    ) -> pl.LazyFrame:
        """
        Raw frames that have no place in the other tables.
        """
        view = self._reader.view(live=live)
        return self._reader.rows("undecodable", None, *time_range(start, end), units="raw", view=view)

    def latest(self, *, live: bool = False) -> pl.LazyFrame:
        """
        The last row of each market and table: `symbol`, `table`, `recv_ts`.

        Of sealed hours told by the manifests alone; with `live` the journal's last entries are read when collected.
        """
        view = self._reader.view(live=live)
        last: dict[tuple[str, str], int] = {}
        for _, index in self._reader.published.hours(None, None):
            for file in index.files:
                if file.symbol is not None and file.last_recv_ts is not None:
                    key = (file.symbol, file.table)
                    last[key] = max(last.get(key, 0), file.last_recv_ts)
        schema = {"symbol": pl.String(), "table": pl.String(), "recv_ts": pl.Int64()}
        known = pl.LazyFrame([(*key, at) for key, at in last.items()], schema=schema, orient="row")
        frames = [known.with_columns(pl.col("recv_ts").cast(NS_UTC))]
        since = view.hours[0] if view is not None and view.hours else None
        names = sorted({table for _, table in last} | {"books", "trades"}) if view is not None else []
        for name in names:
            rows = self._reader.rows(name, None, since, None, units="raw", view=view)
            frames.append(
                rows.group_by("symbol")
                .agg(pl.col("recv_ts").max())
                .select("symbol", pl.lit(name).alias("table"), "recv_ts")
            )
        return pl.concat(frames).group_by("symbol", "table").agg(pl.col("recv_ts").max()).sort("symbol", "table")

    def describe(self) -> pl.LazyFrame:
        """
        What there is, by `symbol` and `table`: as `markets`, with `hours_possible` (from the first published hour of
        the lake to the last), and of the table's streams `complete`, `suspect`, `missing`, `unverifiable`: shares of
        the hours that `coverage` judged.
        """
        hours = self._reader.published.hours(None, None)
        possible = (hours[-1][0] - hours[0][0]) // HOUR_NS + 1 if hours else 0
        seconds = ("complete_s", "suspect_s", "missing_s", "unverifiable_s")
        total = pl.sum_horizontal(pl.col(name).sum() for name in seconds)
        names = sorted({file.table for _, index in hours for file in index.files if file.symbol is not None})
        coverage = self._reader.coverage(None, None, None)
        judged = [
            coverage.filter(streams_of(name))
            .group_by("symbol")
            .agg((pl.col(each).sum() / total).alias(each.removesuffix("_s")) for each in seconds)
            .with_columns(table=pl.lit(name))
            for name in names
        ]
        own = self.markets().with_columns(hours_possible=pl.lit(possible, pl.Int64))
        if not judged:
            return own.with_columns(pl.lit(None, pl.Float64).alias(each.removesuffix("_s")) for each in seconds)
        return own.join(pl.concat(judged), on=["symbol", "table"], how="left").sort("symbol", "table")

    def hours(self, start: Instant | None = None, end: Instant | None = None) -> pl.LazyFrame:
        """
        Published hours that overlap the range: `hour` (its begin), `complete`, and its `files`, `rows` and `bytes`, and
        whether rows of it were removed by rule (`expired`).
        """
        published = self._reader.published.hours(*time_range(start, end))
        return pl.LazyFrame(
            [
                (
                    *(hour, m.complete, len(m.files)),
                    *(sum(f.rows for f in m.files), sum(f.bytes for f in m.files), bool(m.expired)),
                )
                for hour, m in published
            ],
            schema=pl.Schema(
                {
                    "hour": NS_UTC,
                    "complete": pl.Boolean(),
                    **dict.fromkeys(("files", "rows", "bytes"), pl.Int64()),
                    "expired": pl.Boolean(),
                }
            ),
            orient="row",
        )

    def markets(self) -> pl.LazyFrame:
        """
        What was recorded, by `symbol` and `table`: number of `hours`, `first_hour`, `last_hour`, `rows`, `bytes`.
        """
        files = [
            (file.symbol, file.table, hour, file.rows, file.bytes)
            for hour, manifest in self._reader.published.hours(None, None)
            for file in manifest.files
            if file.symbol is not None
        ]
        schema = pl.Schema(
            {"symbol": pl.String(), "table": pl.String(), "hour": NS_UTC, "rows": pl.Int64(), "bytes": pl.Int64()}
        )
        return (
            pl.LazyFrame(files, schema=schema, orient="row")
            .group_by("symbol", "table")
            .agg(
                pl.len().cast(pl.Int64).alias("hours"),
                pl.col("hour").min().alias("first_hour"),
                pl.col("hour").max().alias("last_hour"),
                pl.col("rows", "bytes").sum(),
            )
            .sort("symbol", "table")
        )
