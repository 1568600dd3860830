"""
The published tables as polars LazyFrames, by market and time: what `Lake` reads.

Files are found by name: manifests say which hours are published and what belongs to them, so that an hour half written
is never read, and of the hours outside the wanted range not even the manifest is opened. The open hour is not here; it
is read from the journal.

Rows come market by market, and in each by time. Nothing is read before a frame is collected.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import polars as pl

from recorder.analysis.condition import DAY_NS, TOLERANCE, conditions
from recorder.analysis.events import whole_events
from recorder.analysis.gaps import HOLES, Gaps, State, holes, marked, mode, spans
from recorder.analysis.proving import GAPS, LOOK_AROUND_NS, with_later_proof
from recorder.analysis.published import Published, read_root
from recorder.analysis.units import NS_UTC, Instant, instant, moment, natural, polars_schema
from recorder.errors import DamagedFile, RecorderError
from recorder.lake import layout
from recorder.lake.schema import table
from recorder.records import HOUR_NS
from recorder.venue.markets import NETWORKS, market_list

Units = Literal["natural", "raw"]

_BOOK_TABLE = re.compile(r"books(_ungrouped|_grouped_\d+)?(_indicative)?")


class Tables:
    """
    A data root, to read from. Cheap to make; it may be kept while the recorder publishes further hours.

    Ranges are half open, `[start, end)`, and either end may be left out. A bound is a datetime (without a zone: UTC), a
    date (its midnight), an ISO string of either, or integer ns since the epoch. Market names match in any letter case.
    """

    def __init__(self, root: Path | str) -> None:
        """
        Raises:
            RootError: not a recorder's data root, or one of a newer version.
        """
        self.root = Path(root)
        self._binding = read_root(self.root)
        self._published = Published(self.root)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, venue={self.venue!r}, network={self.network!r})"

    @property
    def venue(self) -> str:
        """
        Label of the venue the root is bound to.
        """
        return self._binding.venue

    @property
    def network(self) -> str:
        """
        The market list its indices belong to.
        """
        return self._binding.network

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
        """
        if not _BOOK_TABLE.fullmatch(table):
            there = sorted(path.name for path in (self.root / layout.LAKE).glob("books*"))
            raise RecorderError(
                f"{table!r} is no table of books; in {self.root} there are: {', '.join(there) or 'none'}"
            )
        return self._rows(table, market, start, end, units=units, columns=columns, gaps=gaps)

    def trades(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        units: Units = "natural",
        columns: Sequence[str] | None = None,
        gaps: Gaps = "ignore",
    ) -> pl.LazyFrame:
        """
        Fills that arrived in the range; arguments as for `books`. `ts` is the chain's time, `recv_ts` ours.
        """
        return self._rows("trades", market, start, end, units=units, columns=columns, gaps=gaps)

    def priority_fees(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        units: Units = "natural",
        columns: Sequence[str] | None = None,
        gaps: Gaps = "ignore",
    ) -> pl.LazyFrame:
        """
        Priority fees that arrived in the range; arguments as for `books`.
        """
        return self._rows("priority_fees", market, start, end, units=units, columns=columns, gaps=gaps)

    def quality(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        markets: str | Sequence[str] | None = None,
    ) -> pl.LazyFrame:
        """
        Events that overlap the range: every hole and its cause, and what happened to the recorder.

        An event that spans several hours has a row in each, under one `event_id`. Of some `markets` only: those that
        name one of them, and those that name none (of a connection or the recorder), which concern any.
        """
        first, last = time_range(start, end)
        wanted = None if markets is None else self._known(markets, first, last)
        frame = self._scan("quality", self._published.files("quality", first, last))
        if last is not None:
            frame = frame.filter(pl.col("start") < moment(last))
        if first is not None:
            # A moment (start == end) at the first instant is in; a hole that ends there is not.
            frame = frame.filter((pl.col("end") > moment(first)) | (pl.col("start") >= moment(first)))
        if wanted is not None:
            frame = frame.filter(pl.col("symbol").is_null() | pl.col("symbol").str.to_lowercase().is_in(sorted(wanted)))
        return frame

    def events(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        markets: str | Sequence[str] | None = None,
    ) -> pl.LazyFrame:
        """
        As `quality`, but the parts of an event that reaches over several hours are one row.

        A range that ends before the event does shows it as far as the hours in it tell.
        """
        return whole_events(self.quality(start, end, markets=markets))

    def coverage(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
    ) -> pl.LazyFrame:
        """
        What each hour that begins in the range can prove, a row per configured stream.

        Trades are judged with the fills of the two days around the range: see `proving`.
        """
        first, last = time_range(start, end)
        # Of an hour that begins outside of the range not even the file is read, but for the proof of trades.
        from_ns = None if first is None else first - LOOK_AROUND_NS
        to_ns = None if last is None else last + LOOK_AROUND_NS
        frame = self._scan("coverage", self._published.files("coverage", from_ns, to_ns))
        if market is not None:
            names = self._known(market, first, last)
            frame = frame.filter(pl.col("symbol").str.to_lowercase().is_in(sorted(names)))

        def gaps() -> pl.DataFrame:
            parts = self._scan("quality", self._published.files("quality", from_ns, to_ns))
            return parts.filter(pl.col("kind").is_in(GAPS)).collect()

        proven = frame.map_batches(
            lambda rows: with_later_proof(rows, gaps),
            predicate_pushdown=False,
            projection_pushdown=False,
            slice_pushdown=False,
            schema=frame.collect_schema(),
        )
        return _between(proven, "start", first, last)

    def spans(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
    ) -> pl.LazyFrame:
        """
        The hours of `coverage` as stretches of one state: `symbol`, `channel`, `grouping`, `start`, `end`, `state`,
        `why`.
        """
        told = self.coverage(market, start, end).filter(pl.col("span_start").list.len() > 0)
        return spans(told).select("symbol", "channel", "grouping", "start", "end", "state", "why")

    def gaps(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        table: str = "books",
        states: Sequence[State] = HOLES,
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
            states: What is a hole; `UNPROVEN` of `analysis.gaps` is everything that is not proven complete. What no
                published hour covers always is one.
        """
        first, last = time_range(start, end)
        names = None if market is None else self._symbols(table, market, first, last)
        return self._holes(table, names, first, last, states=states)

    def condition(
        self,
        market: str | Sequence[str] | None = None,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        tolerance: float = TOLERANCE,
    ) -> pl.LazyFrame:
        """
        In what condition each day of each market is: a row a market and day that the range touches.

        `condition` is `pending` while an hour of the day is not sealed, `missing` if nothing of the market is there,
        `degraded` if fills are missing, or more of the day than `tolerance` is missing or suspect (of its books; of a
        market without books, of its trades), hours before the recording began included, else `available`.
        """
        first, last = time_range(start, end)
        first = None if first is None else first // DAY_NS * DAY_NS
        last = None if last is None else -(-last // DAY_NS) * DAY_NS
        hours = [(hour, index.complete) for hour, index in self._published.hours(None, None)]
        return conditions(self.coverage(market, first, last), hours, tolerance=tolerance)

    def connections(self, start: Instant | None = None, end: Instant | None = None) -> pl.LazyFrame:
        """
        How each connection did, a row an hour that begins in the range, run and connection.

        Beside what the hour noted (seconds up and down, connects, heartbeats): `first`, the rows that it was first to
        bring, `share` of all of that hour, and the median and 99th percentile of `recv_ts − ts` of its books. What it
        brought second is not stored: `coverage` counts that by stream, as `duplicates_removed`.
        """
        first, last = time_range(start, end)
        own = _between(
            self._scan("connections", self._published.files("connections", first, last)), "start", first, last
        )
        tables = {file.table for _, index in self._published.hours(first, last) for file in index.files if file.symbol}
        brought = [
            self._scan(name, self._published.files(name, first, last)).select(
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

    def telemetry(self, start: Instant | None = None, end: Instant | None = None) -> pl.LazyFrame:
        """
        The recorder about itself, a row a minute and run.
        """
        return self._rows("telemetry", None, start, end, units="raw", columns=None)

    def undecodable(self, start: Instant | None = None, end: Instant | None = None) -> pl.LazyFrame:
        """
        Raw frames that have no place in the other tables.
        """
        return self._rows("undecodable", None, start, end, units="raw", columns=None)

    def hours(self, start: Instant | None = None, end: Instant | None = None) -> pl.LazyFrame:
        """
        Published hours that overlap the range: `hour` (its begin), `complete`, and its `files`, `rows` and `bytes`.
        """
        published = self._published.hours(*time_range(start, end))
        return pl.LazyFrame(
            [
                (hour, m.complete, len(m.files), sum(f.rows for f in m.files), sum(f.bytes for f in m.files))
                for hour, m in published
            ],
            schema={"hour": NS_UTC, "complete": pl.Boolean, "files": pl.Int64, "rows": pl.Int64, "bytes": pl.Int64},
            orient="row",
        )

    def markets(self) -> pl.LazyFrame:
        """
        What was recorded, by `symbol` and `table`: number of `hours`, `first_hour`, `last_hour`, `rows`, `bytes`.
        """
        files = [
            (file.symbol, file.table, hour, file.rows, file.bytes)
            for hour, manifest in self._published.hours(None, None)
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

    def _rows(
        self,
        name: str,
        market: str | Sequence[str] | None,
        start: Instant | None,
        end: Instant | None,
        *,
        units: Units,
        columns: Sequence[str] | None,
        gaps: Gaps = "ignore",
    ) -> pl.LazyFrame:
        if units not in {"natural", "raw"}:
            raise RecorderError(f'units={units!r} is unknown; give "natural" or "raw"')
        first, last = time_range(start, end)
        there = [column.name for column in table(name).columns]
        for column in columns or ():
            if column not in there:
                raise RecorderError(f"{name} has no column {column!r}{_near(column, there)}")
        if mode(gaps) == "ignore":
            wanted = None if market is None else self._known(market, first, last)
            frame = self._stored(name, wanted, first, last, units=units)
            return frame if columns is None else frame.select(columns)
        needed = None if columns is None else list(dict.fromkeys(("recv_ts", "symbol", *columns)))
        frames = []
        for symbol in self._symbols(name, market, first, last):
            rows = self._stored(name, {symbol.lower()}, first, last, units=units)
            of = self._holes(name, [symbol], first, last)
            frames.append(marked(rows if needed is None else rows.select(needed), of, gaps, symbol=symbol))
        if not frames:
            empty = self._stored(name, set(), first, last, units=units)
            frames = [marked(empty, self._holes(name, [], first, last), gaps, symbol="")]
        frame = pl.concat(frames)
        said = {"mask": ["gap"], "split": ["segment"]}.get(gaps, [])
        return frame if columns is None else frame.select(*columns, *said)

    def _stored(
        self, name: str, wanted: set[str] | None, first: int | None, last: int | None, *, units: Units
    ) -> pl.LazyFrame:
        """
        Rows of published files; `wanted` markets in lower case.
        """
        frame = _between(self._scan(name, self._published.files(name, first, last, wanted)), "recv_ts", first, last)
        return frame.with_columns(natural(table(name))) if units == "natural" else frame

    def _holes(
        self,
        name: str,
        symbols: Sequence[str] | None,
        first: int | None,
        last: int | None,
        *,
        states: Sequence[State] = HOLES,
    ) -> pl.LazyFrame:
        # The whole hours that the range touches; trades are proven by the fills around it.
        from_ns = None if first is None else first // HOUR_NS * HOUR_NS
        to_ns = None if last is None else -(-last // HOUR_NS) * HOUR_NS
        if name == "trades":
            coverage = self.coverage(None, from_ns, to_ns)
        else:
            coverage = self._scan("coverage", self._published.files("coverage", from_ns, to_ns))
        of_table = coverage.filter(_streams(name))
        if first is None and symbols is not None:
            hours = self._published.hours(None, last)
            first = hours[0][0] if hours else None
        return holes(of_table, symbols, first=first, last=last, states=states)

    def _bounds(self, first: int | None, last: int | None) -> tuple[int, int]:
        """
        A range with both its ends: those of what is published, where it has none.
        """
        hours = self._published.hours(first, last) if first is None or last is None else []
        if first is None:
            first = hours[0][0] if hours else last or 0
        if last is None:
            last = first
            if hours:
                hour, index = hours[-1]
                ends = [file.last_recv_ts + 1 for file in index.files if file.last_recv_ts is not None]
                last = hour + HOUR_NS if index.complete or not ends else max(ends)
        return first, max(first, last)

    def _symbols(self, name: str, market: str | Sequence[str] | None, first: int | None, last: int | None) -> list[str]:
        """
        Wanted markets as they are spelt, sorted; None: those of which the table has rows.
        """
        if market is None:
            files = (file for _, index in self._published.hours(first, last) for file in index.files)
            return sorted({file.symbol for file in files if file.table == name and file.symbol})
        wanted = self._known(market, first, last)
        recorded = {file.symbol for _, index in self._published.hours(first, last) for file in index.files}
        spelt = {symbol.lower(): symbol for symbol in recorded if symbol}
        if not wanted <= spelt.keys():
            spelt = {symbol.lower(): symbol for symbol in self._all_symbols()} | spelt
        return sorted(spelt.get(symbol, symbol) for symbol in wanted)

    def _scan(self, name: str, files: list[Path]) -> pl.LazyFrame:
        schema = polars_schema(table(name))
        if not files:
            return pl.LazyFrame(schema=schema)
        gone = next((path for path in files if not path.exists()), None)
        if gone is not None:
            raise DamagedFile(
                gone,
                "is not there, and the manifest of its hour names it",
                "`drift-recorder verify` tells what else is missing; `drift-recorder seal` makes the hour again once "
                "its manifest is moved to quarantine/, as long as its journal is kept",
            )
        return pl.scan_parquet(
            files,
            schema=schema,  # so that no file is opened before it is needed
            glob=False,  # names are percent-encoded; a root may hold a bracket
            hive_partitioning=False,  # files identify themselves
            missing_columns="insert",  # of an older format
            extra_columns="ignore",  # of a newer one
        )

    def _known(self, market: str | Sequence[str], first: int | None, last: int | None) -> set[str]:
        """
        The wanted names in lower case.

        Raises:
            RecorderError: one was never recorded here, and the venue's list does not have it either.
        """
        names = [market] if isinstance(market, str) else list(market)
        there = {
            file.symbol for _, manifest in self._published.hours(first, last) for file in manifest.files if file.symbol
        }
        unknown = [name for name in names if name.lower() not in {symbol.lower() for symbol in there}]
        if unknown:
            there |= self._all_symbols()
            lower = {symbol.lower() for symbol in there}
            for name in unknown:
                folder = f"market={layout.encode_name(name)}"
                # A name that is too long for a folder cannot be told from it: ask for the folder itself.
                if name.lower() not in lower and not any((self.root / layout.LAKE).glob(f"*/{folder}")):
                    problem = f"no market {name[:80]!r}{_near(name, there)}"
                    raise RecorderError(f"{self.root}: {problem}; Lake.markets() lists what was recorded")
        return {name.lower() for name in names}

    def _all_symbols(self) -> set[str]:
        """
        Every name that makes sense to ask for: recorded in any hour, configured lately, or in the venue's list.
        """
        symbols = {unquote(path.name[7:]) for path in (self.root / layout.LAKE).glob("*/market=*")}
        if self.network in NETWORKS:
            shipped = market_list(self.network)
            symbols |= {market.symbol for market in (*shipped.perps, *shipped.spots)}
        coverage = self._published.files("coverage", None, None)[-1:]
        symbols |= set(self._scan("coverage", coverage).select("symbol").collect()["symbol"])
        return symbols


def _streams(name: str) -> pl.Expr:
    """
    The rows of `coverage` that speak of a table.
    """
    books = _BOOK_TABLE.fullmatch(name)
    if books is None:
        return pl.col("channel") == {"priority_fees": "priorityfees"}.get(name, name)
    channel = pl.col("channel") == ("orderbook_indicative" if books[2] else "orderbook")
    grouped = re.fullmatch(r"_grouped_(\d+)", books[1] or "")
    if grouped is not None:
        return channel & (pl.col("grouping") == int(grouped[1]))
    # An old server sends ungrouped books whatever was asked for.
    return channel & (pl.col("grouping").is_null() | (pl.col("grouping") == 1))


def time_range(start: Instant | None, end: Instant | None) -> tuple[int | None, int | None]:
    """
    Bounds in ns.
    """
    first = None if start is None else instant(start, "start")
    last = None if end is None else instant(end, "end")
    if first is not None and last is not None and last < first:
        raise RecorderError(f"end ({end}) lies before start ({start})")
    return first, last


def _between(frame: pl.LazyFrame, column: str, first: int | None, last: int | None) -> pl.LazyFrame:
    if first is not None:
        frame = frame.filter(pl.col(column) >= moment(first))
    if last is not None:
        frame = frame.filter(pl.col(column) < moment(last))
    return frame


def _near(name: str, known: Iterable[str]) -> str:
    by_lower = {symbol.lower(): symbol for symbol in known}
    near = [by_lower[found] for found in get_close_matches(name.lower()[:200], by_lower, n=3)]
    return f"; near: {', '.join(near)}" if near else ""
