"""
Coverage of sealed hours, kept in memory: each question about holes asks for the same few rows again.

A sealed hour does not change; it is replaced. What is kept of it is good as long as its manifest is the same one, and
its file the same file: both are looked at whenever a frame is collected, so that a replaced hour is read again.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

import polars as pl
from polars.io.plugins import register_io_source

from recorder.analysis.published import manifest_name
from recorder.analysis.store import Identity, Store
from recorder.analysis.units import polars_schema
from recorder.lake.schema import table

TABLE = table("coverage")
HOURS = 400
"""Longer ranges are scanned: many small reads cost more than one large one."""
BYTES = 64 << 20
"""Of rows kept; the hours that were not asked for longest go first."""


class Kept:
    """
    What was read of the hours' coverage.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hours: OrderedDict[int, tuple[Identity, pl.DataFrame]] = OrderedDict()
        self._bytes = 0.0
        self._lock = Lock()

    def frame(self, files: Sequence[tuple[int, str]]) -> pl.LazyFrame:
        """
        The rows of some hours, all columns.

        Args:
            files: each hour, ns, with its file of coverage.

        Raises:
            DamagedFile: one is not there.
        """
        where = self._store.locations(name for _, name in files)

        def source(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            rows = self._read(files, where)
            if predicate is not None:
                rows = rows.filter(predicate)
            if with_columns is not None:
                rows = rows.select(with_columns)
            yield rows if n_rows is None else rows.head(n_rows)

        return register_io_source(source, schema=polars_schema(TABLE), is_pure=True, explain_name="coverage, kept")

    def _read(self, files: Sequence[tuple[int, str]], where: list[Path] | list[str]) -> pl.DataFrame:
        before = {hour: self._identity(hour, name) for hour, name in files}
        found: dict[int, pl.DataFrame] = {}
        with self._lock:
            for hour, identity in before.items():
                known = self._hours.get(hour)
                if known is not None and known[0] == identity:
                    self._hours.move_to_end(hour)
                    found[hour] = known[1]
        lacking = [at for at, (hour, _) in enumerate(files) if hour not in found]
        if lacking:
            read = pl.collect_all([scanned(TABLE.name, where[at : at + 1], self._store) for at in lacking])
            for (hour, name), rows in zip((files[at] for at in lacking), read, strict=True):
                found[hour] = rows
                identity = before[hour]
                # Replaced while it was read: good for now, as any file that is read while it is, but not kept.
                if identity is not None and identity == self._identity(hour, name):
                    self._keep(hour, identity, rows)
        return pl.concat([found[hour] for hour, _ in files], rechunk=True)

    def _identity(self, hour: int, name: str) -> Identity | None:
        """
        Of an hour as it is published now; None while it is not.
        """
        of_hour = self._store.identity(manifest_name(hour))
        return None if of_hour is None else (name, of_hour, self._store.identity(name))

    def _keep(self, hour: int, identity: Identity, rows: pl.DataFrame) -> None:
        with self._lock:
            self._forget(hour)
            self._hours[hour] = identity, rows
            self._bytes += rows.estimated_size()
            while self._bytes > BYTES:
                self._forget(next(iter(self._hours)))

    def _forget(self, hour: int) -> None:
        known = self._hours.pop(hour, None)
        if known is not None:
            self._bytes -= known[1].estimated_size()


def scanned(name: str, where: list[Path] | list[str], store: Store) -> pl.LazyFrame:
    """
    The rows of a table's files; `where` as the store locates them.
    """
    return pl.scan_parquet(
        where,
        schema=polars_schema(table(name)),  # so that no file is opened before it is needed
        glob=False,  # names are percent-encoded; a root may hold a bracket
        hive_partitioning=False,  # files identify themselves
        missing_columns="insert",  # of an older format
        extra_columns="ignore",  # of a newer one
        storage_options=store.options,
    )
