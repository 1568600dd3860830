"""
Hours that are not sealed yet, as lazy frames: `live=True`.

A `View` fixes what is read, when a frame is made: collecting it twice gives the same rows. The journal is read when it
is collected. An hour that was sealed by then is read from its files.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from pathlib import Path
from threading import RLock

import msgspec
import polars as pl
from polars.io.plugins import register_io_source

from recorder.analysis.published import Published
from recorder.analysis.units import moment, polars_schema
from recorder.lake.heard import frames
from recorder.lake.live import JournalGone, OpenHour, Snapshot, carry_before, snapshot, symbols
from recorder.lake.root import read_binding
from recorder.lake.schema import table
from recorder.records import HOUR_NS

KEPT = 3
"""Hours of which what was read is kept, for the next question."""
KEPT_BYTES = 192 << 20
"""Of decoded rows; beyond it, what is asked for again is read again."""


class View(msgspec.Struct, frozen=True):
    """
    What a live frame reads beside what is sealed.
    """

    at: Snapshot
    hours: tuple[int, ...]
    """On record and not sealed, oldest first, ns."""

    @property
    def until(self) -> int:
        """
        Entries before this (ns) are all there.
        """
        return self.at.until

    def within(self, first: int | None, last: int | None) -> list[int]:
        """
        Hours that overlap a range.
        """
        return [
            hour
            for hour in self.hours
            if hour < self.until and (last is None or hour < last) and (first is None or hour + HOUR_NS > first)
        ]


class OpenHours:
    """
    The unsealed hours of a root.
    """

    def __init__(self, root: Path, published: Published) -> None:
        self._root, self._published = root, published
        self._kept: OrderedDict[tuple[object, ...], OpenHour] = OrderedDict()
        self._lock = RLock()

    def view(self) -> View:
        """
        What there is now. Lists the journal and reads the end of it.
        """
        # In this order: an hour that is sealed in between is read from the journal, not left out.
        sealed = {hour for hour, index in self._published.hours(None, None) if index.complete}
        at = snapshot(self._root)
        return View(at, tuple(hour for hour in at.hours if hour not in sealed))

    def unsealed(self, view: View, first: int | None, last: int | None) -> int | None:
        """
        When the first frame of data in a range came, ns, that is in the journal alone; None if all is published.
        """
        for hour in view.within(first, last):
            index = self._published.hour(hour)
            ends = [] if index is None else [file.last_recv_ts for file in index.files if file.last_recv_ts is not None]
            begin = max(hour, first or 0, *(end + 1 for end in ends))
            over = hour + HOUR_NS if last is None else min(hour + HOUR_NS, last)
            for entry, seen in frames(self._root, begin, over):
                if seen.channel is not None:
                    return entry.recv_ts
        return None

    def symbols(self, view: View, first: int | None, last: int | None) -> set[str]:
        """
        Markets that were asked for in its hours.
        """
        return {name for hour in view.within(first, last) for name in symbols(view.at, hour)}

    def frame(self, view: View, name: str, hour: int, wanted: Collection[str] | None) -> pl.LazyFrame:
        """
        A table's rows of one hour, in the schema of its files.

        Args:
            view: fixes what is read.
            name: of the table.
            hour: one of the view's.
            wanted: markets in lower case; None: all. The hour's own tables speak of them at least.
        """
        schema = polars_schema(table(name))

        def source(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            rows = self._read(view, name, hour, wanted).lazy()
            if predicate is not None:
                rows = rows.filter(predicate)
            if with_columns is not None:
                rows = rows.select(with_columns)
            yield (rows if n_rows is None else rows.head(n_rows)).collect(engine="in-memory")

        return register_io_source(source, schema=schema, is_pure=True, explain_name=f"{name} from the journal")

    def _read(self, view: View, name: str, hour: int, wanted: Collection[str] | None) -> pl.DataFrame:
        by_market = table(name).by_market
        with self._lock:
            if (sealed := self._sealed(view, name, hour, wanted)) is not None:
                return sealed
            try:
                opened = self._open(view, hour)
                rows = opened.rows(name, wanted) if by_market else opened.own(name, wanted)
            except JournalGone:
                # Sealed meanwhile, and its journal has expired: then it is in the lake.
                if (sealed := self._sealed(view, name, hour, wanted)) is None:
                    raise
                return sealed
            if sum(hour_read.held_bytes for hour_read in self._kept.values()) > KEPT_BYTES:
                for hour_read in self._kept.values():
                    hour_read.forget()
            frame = pl.from_arrow(rows)
            assert isinstance(frame, pl.DataFrame)
            return frame

    def _sealed(self, view: View, name: str, hour: int, wanted: Collection[str] | None) -> pl.DataFrame | None:
        """
        The rows of an hour that is sealed by now, up to where the view reaches; None if it is not.
        """
        index = self._published.hour(hour)
        if index is None or not index.complete:
            return None
        schema = polars_schema(table(name))
        files = self._published.files(name, hour, hour + HOUR_NS, set(wanted) if wanted is not None else None)
        if not table(name).by_market:
            files = self._published.files(name, hour, hour + HOUR_NS)
        if not files:
            return pl.DataFrame(schema=schema)
        rows = pl.scan_parquet(
            [self._root / file for file in files], schema=schema, glob=False, hive_partitioning=False
        )
        if "recv_ts" in schema:
            rows = rows.filter(pl.col("recv_ts") < moment(view.until))
            for run, last in view.at.upto.items():
                rows = rows.filter((pl.col("run") != run) | (pl.col("seq") <= last))
        return rows.collect(engine="in-memory")

    def _open(self, view: View, hour: int) -> OpenHour:
        key = (hour, view.until, *view.at.upto.items())
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        before = hour - HOUR_NS
        index = self._published.hour(before)
        unsealed = before in view.hours and (index is None or not index.complete)
        carry = self._open(view, before).carry if unsealed else carry_before(self._root, view.at, hour)
        made = self._kept[key] = OpenHour(self._root, read_binding(self._root), view.at, hour, carry)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return made
