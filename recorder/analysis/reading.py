"""
How tables are read: which files and hours, whose rows, which holes. `Lake` asks here; nothing is collected here but, to
tell a wrong name from a right one, the last hour's coverage.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any
from urllib.parse import unquote

import polars as pl

from recorder.analysis.gaps import Gaps, Span, marked, mode
from recorder.analysis.holes import HOLES, State, holes, holes_and_unproven, spans, without_rows
from recorder.analysis.kept import HOURS, Kept, scanned
from recorder.analysis.open_hours import OpenHours, View
from recorder.analysis.proving import GAPS, LOOK_AROUND_NS, with_later_proof
from recorder.analysis.published import Published, read_root
from recorder.analysis.store import Folder, open_store
from recorder.analysis.terms import Markets, Units, between, near, streams_of
from recorder.analysis.units import moment, natural, polars_schema
from recorder.errors import RecorderError
from recorder.lake import layout
from recorder.lake.schema import table
from recorder.quality.effects import NOT_RUNNING
from recorder.records import HOUR_NS
from recorder.venue.markets import NETWORKS, market_list


class Reader:
    """
    A root, to read tables from.
    """

    def __init__(
        self,
        root: Any,  # noqa: ANN401  # Path | str
        options: Mapping[str, Any] | None = None,
        *,
        live: bool = False,
    ) -> None:
        """
        `live`: every view is wanted, whoever asks.

        Raises:
            RootError: not a recorder's data root, or one of a newer version.
            RecorderError: `live`, and the root has no journal here.
        """
        self.store = open_store(root, options)
        self.root = self.store.root
        self.binding = read_root(self.store)
        self.published = Published(self.store)
        self.live = live
        self._kept = Kept(self.store)
        self._open = OpenHours(self.store.root, self.published) if isinstance(self.store, Folder) else None
        self._pinned: View | None = None
        if live:
            self._opened()

    def pinned(self) -> "Reader":
        """
        One whose view is that of now, for good. What was read is kept in common.

        Raises:
            RecorderError: the root has no journal here.
        """
        made = copy(self)
        made._pinned = self.view(live=True)  # noqa: SLF001  # of its own kind
        return made

    def view(self, *, live: bool) -> View | None:
        """
        What is committed and not sealed, now; None if that is not wanted.

        Raises:
            RecorderError: the root has no journal here.
        """
        if not (live or self.live):
            return None
        return self._opened().view() if self._pinned is None else self._pinned

    def _opened(self) -> OpenHours:
        if self._open is None:
            raise RecorderError(f"{self.root}: live=True reads the journal on the recorder's own disk; give its path")
        return self._open

    def unsealed(self, first: int | None, last: int | None) -> int | None:
        """
        When the first frame of data in a range came, ns, that is in the journal alone; None: all is published, or there
        is no journal here.
        """
        return None if self._open is None else self._open.unsealed(self._open.view(), first, last)

    def rows(
        self,
        name: str,
        market: Markets,
        first: int | None,
        last: int | None,
        *,
        units: Units,
        columns: Sequence[str] | None = None,
        gaps: Gaps = "ignore",
        view: View | None = None,
    ) -> pl.LazyFrame:
        """
        Rows of a table that arrived in the range, market by market and each unsealed hour for itself, as `Tables.books`
        says; where holes are marked, market by market.
        """
        if units not in {"natural", "raw"}:
            raise RecorderError(f'units={units!r} is unknown; give "natural" or "raw"')
        there = [column.name for column in table(name).columns]
        for column in columns or ():
            if column not in there:
                raise RecorderError(f"{name} has no column {column!r}{near(column, there)}")
        if mode(gaps) == "ignore":
            wanted = None if market is None else self.known(market, first, last, view)
            return self._stored(name, wanted, first, last, units=units, view=view, columns=columns)
        needed = None if columns is None else list(dict.fromkeys(("recv_ts", "symbol", *columns)))
        symbols = self.symbols(name, market, first, last, view)
        found = self.holes(name, symbols, first, last, view=view)
        frames = []
        for symbol in symbols or [""]:
            rows = self._stored(name, {symbol.lower()}, first, last, units=units, view=view, columns=needed)
            own = found if len(symbols) == 1 else found.filter(pl.col("symbol") == symbol)
            frames.append(marked(rows, own, gaps, symbol=symbol))
        frame = pl.concat(frames)
        said = {"mask": ["gap"], "split": ["segment"]}.get(gaps, [])
        return frame if columns is None else frame.select(*columns, *said)

    def _stored(
        self,
        name: str,
        wanted: set[str] | None,
        first: int | None,
        last: int | None,
        *,
        units: Units,
        view: View | None,
        columns: Sequence[str] | None = None,
    ) -> pl.LazyFrame:
        """
        Rows as they are; `wanted` markets in lower case.
        """
        frame = self._frames(name, wanted, first, last, view)
        of_files = wanted if table(name).by_market else None
        if view is not None or not self.published.within(name, first, last, of_files):
            frame = frame.filter(between("recv_ts", first, last))
        if units == "natural":
            frame = frame.with_columns(natural(table(name), columns))
        return frame if columns is None else frame.select(columns)

    def _frames(
        self, name: str, wanted: set[str] | None, first: int | None, last: int | None, view: View | None
    ) -> pl.LazyFrame:
        """
        All rows of the hours that overlap a range: of their files, and of the journal.
        """
        of_files = wanted if table(name).by_market else None
        without = () if view is None else view.hours
        if name == "coverage":
            sealed = self._hours_coverage(first, last, without)
        else:
            sealed = self.scan(name, first, last, of_files, without=without)
        if view is None:
            return sealed
        assert self._open is not None
        hours = [self._open.frame(view, name, hour, wanted) for hour in view.within(first, last)]
        return pl.concat([sealed, *hours]) if hours else sealed

    def scan(
        self,
        name: str,
        first: int | None,
        last: int | None,
        wanted: set[str] | None = None,
        *,
        without: Sequence[int] = (),
    ) -> pl.LazyFrame:
        """
        The published files of a table whose hours overlap the range, all their rows.

        Raises:
            DamagedFile: one is not there.
        """
        files = self.published.files(name, first, last, wanted, without=without)
        if not files:
            return pl.LazyFrame(schema=polars_schema(table(name)))
        return scanned(name, self.store.locations(files), self.store)

    def _hours_coverage(self, first: int | None, last: int | None, without: Sequence[int]) -> pl.LazyFrame:
        """
        As `scan("coverage")`, of what is kept as far as it is.
        """
        hours = self.published.hours(first, last)
        files = [
            (hour, file.path)
            for hour, index in hours
            if hour not in without
            for file in index.files
            if file.table == "coverage"
        ]
        return (
            self._kept.frame(files) if 0 < len(files) <= HOURS else self.scan("coverage", first, last, without=without)
        )

    def coverage(
        self,
        market: Markets,
        first: int | None,
        last: int | None,
        view: View | None = None,
        *,
        streams: pl.Expr | None = None,
    ) -> pl.LazyFrame:
        """
        Hours that begin in the range, those of trades as far as the fills of the days around prove them; of all
        streams, or some.
        """
        # Of an hour that begins outside of the range not even the file is read, but for the proof of trades.
        from_ns = None if first is None else first - LOOK_AROUND_NS
        to_ns = None if last is None else last + LOOK_AROUND_NS
        names = None if market is None else self.known(market, first, last, view)
        frame = self._frames("coverage", names, from_ns, to_ns, view)
        if names is not None:
            frame = frame.filter(pl.col("symbol").str.to_lowercase().is_in(sorted(names)))
        if streams is not None:
            frame = frame.filter(streams)

        def gaps() -> pl.DataFrame:
            parts = self._frames("quality", names, from_ns, to_ns, view)
            return parts.filter(pl.col("kind").is_in(GAPS)).collect()

        proven = frame.map_batches(
            lambda rows: with_later_proof(rows, gaps),
            predicate_pushdown=False,
            projection_pushdown=False,
            slice_pushdown=False,
            schema=polars_schema(table("coverage")),
        )
        return proven if first is None and last is None else proven.filter(between("start", first, last))

    def quality(self, markets: Markets, first: int | None, last: int | None, view: View | None = None) -> pl.LazyFrame:
        """
        Events that overlap the range.
        """
        wanted = None if markets is None else self.known(markets, first, last, view)
        frame = self._frames("quality", wanted if view is not None else None, first, last, view)
        if last is not None:
            frame = frame.filter(pl.col("start") < moment(last))
        if first is not None:
            # A moment (start == end) at the first instant is in; a hole that ends there is not.
            frame = frame.filter((pl.col("end") > moment(first)) | (pl.col("start") >= moment(first)))
        if wanted is not None:
            frame = frame.filter(pl.col("symbol").is_null() | pl.col("symbol").str.to_lowercase().is_in(sorted(wanted)))
        return frame

    def holes(
        self,
        name: str,
        symbols: Sequence[str] | None,
        first: int | None,
        last: int | None,
        *,
        states: Sequence[State] = HOLES,
        view: View | None = None,
    ) -> pl.LazyFrame:
        """
        Holes of a table, as `gaps.holes` gives them; `symbols` as they are spelt.
        """
        coverage = self._judged(name, symbols, first, last, view)
        return self._holes(coverage, symbols, first, last, states, view)

    def _judged(
        self, name: str, symbols: Sequence[str] | None, first: int | None, last: int | None, view: View | None
    ) -> pl.LazyFrame:
        """
        Coverage of a table's streams in the whole hours that a range touches; trades as the fills around prove them.
        """
        from_ns = None if first is None else first // HOUR_NS * HOUR_NS
        to_ns = None if last is None else -(-last // HOUR_NS) * HOUR_NS
        wanted = None if symbols is None else {symbol.lower() for symbol in symbols}
        if name == "trades":
            coverage = self.coverage(symbols, from_ns, to_ns, view, streams=streams_of(name))
        else:
            coverage = self._frames("coverage", wanted, from_ns, to_ns, view)
        expired = [hour for hour, index in self.published.hours(from_ns, to_ns) if index.expired]
        if expired:
            # Its rows are gone, whatever was proven of them.
            coverage = without_rows(coverage, expired)
        return coverage.filter(streams_of(name))

    def _holes(
        self,
        coverage: pl.LazyFrame,
        symbols: Sequence[str] | None,
        first: int | None,
        last: int | None,
        states: Sequence[State],
        view: View | None,
    ) -> pl.LazyFrame:
        if first is None and symbols is not None:
            first = self.bounds(None, last, view)[0]
        return holes(coverage, symbols, first=first, last=last, states=states, until=_until(view))

    def spans(
        self, name: str, market: Markets, first: int, last: int, *, read_from: int | None = None, view: View | None
    ) -> list[Span]:
        """
        The wanted markets with their holes.

        Raises:
            RecorderError: there are none.
        """
        symbols = self.symbols(name, market, first, last, view)
        if not symbols:
            raise RecorderError(
                f"{self.root}: no {name} of any market in this range; "
                "`drift-recorder coverage` (Lake.hours()) tells of which there is"
            )
        return self._spans(name, symbols, first if read_from is None else read_from, last, view)

    def span(self, name: str, symbol: str, first: int, last: int, *, view: View | None) -> Span:
        """
        One market with its holes.
        """
        return self._spans(name, [symbol], first, last, view)[0]

    def _spans(self, name: str, symbols: list[str], first: int, last: int, view: View | None) -> list[Span]:
        # Coverage is read and judged once for all of them.
        coverage = self._judged(name, symbols, first, last, view)
        until = _until(view)
        found, unproven = holes_and_unproven(coverage, symbols, first=first, last=last, until=until)
        if len(symbols) == 1:
            return [Span(symbols[0], first, last, found, unproven)]
        own = [pl.col("symbol") == symbol for symbol in symbols]
        return [
            Span(symbol, first, last, found.filter(mine), unproven.filter(mine))
            for symbol, mine in zip(symbols, own, strict=True)
        ]

    def bounds(self, first: int | None, last: int | None, view: View | None = None) -> tuple[int, int]:
        """
        A range with both its ends: those of what there is, where it has none.
        """
        hours = self.published.hours(first, last) if first is None or last is None else []
        begins = [hour for hour, _ in hours[:1]] + [*(view.within(first, last)[:1] if view is not None else [])]
        if first is None:
            first = min(begins, default=last or 0)
        if last is None:
            ends = [first]
            if hours:
                hour, index = hours[-1]
                seen = [file.last_recv_ts + 1 for file in index.files if file.last_recv_ts is not None]
                ends.append(hour + HOUR_NS if index.complete or not seen else max(seen))
            if view is not None and view.hours:
                ends.append(view.until)
            last = max(ends)
        return first, max(first, last)

    def begun(self, first: int | None, view: View | None = None) -> int:
        """
        Where a range begins, or where the first run ever did, if that was later.
        """
        hour = min([*self.store.hours()[:1], *(view.within(None, None)[:1] if view is not None else [])], default=0)
        if first is not None and first >= hour + HOUR_NS:
            return first
        # An hour that began before any run says so. Where a later one does, sealed by an old version, that is a hole.
        told = spans(self._frames("coverage", None, hour, hour + HOUR_NS, view)).filter(why=NOT_RUNNING)
        ran = told.select(pl.col("end").min().to_physical()).collect().item()
        return max(hour if ran is None else ran, first or 0)

    def all_recorded(self, view: View | None) -> list[str]:
        """
        Markets of which any hour has rows, or may have; sorted.
        """
        return sorted(self._recorded(None, None, None, view))

    def symbols(
        self, name: str, market: Markets, first: int | None, last: int | None, view: View | None = None
    ) -> list[str]:
        """
        Wanted markets as they are spelt, sorted; None: those of which the table has rows, or may have.
        """
        there = self._recorded(None if market is not None else name, first, last, view)
        if market is None:
            return sorted(there)
        wanted = self.known(market, first, last, view)
        spelt = {symbol.lower(): symbol for symbol in there}
        if not wanted <= spelt.keys():
            spelt = {symbol.lower(): symbol for symbol in self._all_symbols()} | spelt
        return sorted(spelt.get(symbol, symbol) for symbol in wanted)

    def known(
        self, market: str | Sequence[str], first: int | None, last: int | None, view: View | None = None
    ) -> set[str]:
        """
        The wanted names in lower case.

        Raises:
            RecorderError: one was never recorded here, and the venue's list does not have it either.
        """
        names = [market] if isinstance(market, str) else list(market)
        there = self._recorded(None, first, last, view)
        unknown = [name for name in names if name.lower() not in {symbol.lower() for symbol in there}]
        if unknown:
            folders = self.store.markets()
            there |= self._all_symbols()
            lower = {symbol.lower() for symbol in there}
            for name in unknown:
                # A name that is too long for a folder cannot be told from it: ask for the folder itself.
                if name.lower() not in lower and layout.encode_name(name) not in folders:
                    told = "`drift-recorder coverage` (Lake.markets()) tells which were recorded"
                    raise RecorderError(f"{self.root}: no market {name[:80]!r}{near(name, there)}; {told}")
        return {name.lower() for name in names}

    def _recorded(self, name: str | None, first: int | None, last: int | None, view: View | None) -> set[str]:
        """
        Markets with rows in the range, of one table or any; of a live hour, those that were asked for.
        """
        files = (file for _, index in self.published.hours(first, last) for file in index.files)
        found = {file.symbol for file in files if file.symbol and name in {None, file.table}}
        if view is not None and self._open is not None:
            found |= self._open.symbols(view, first, last)
        return found

    def _all_symbols(self) -> set[str]:
        """
        Every name that makes sense to ask for: recorded in any hour, configured lately, or in the venue's list.
        """
        symbols = {unquote(folder) for folder in self.store.markets()}
        if self.binding.network in NETWORKS:
            shipped = market_list(self.binding.network)
            symbols |= {market.symbol for market in (*shipped.perps, *shipped.spots)}
        last = [
            hour for hour, index in self.published.hours(None, None) if any(f.table == "coverage" for f in index.files)
        ]
        coverage = self.scan("coverage", last[-1], last[-1] + HOUR_NS) if last else pl.LazyFrame({"symbol": []})
        return symbols | set(coverage.select("symbol").collect()["symbol"])


def _until(view: View | None) -> int | None:
    """
    From when on nothing counts as covered, ns; None: what is sealed tells.
    """
    return view.until if view is not None and view.hours else None
