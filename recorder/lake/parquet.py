"""
Parquet files: written under a temporary name, synced, read back and compared; published by others.

An exception in the middle never leaves a file that looks whole: a writer's footer makes it one, so it is only written
on the way to success, and nothing under a temporary name means anything.
"""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recorder import __version__, durable
from recorder.errors import DamagedFile, SealFailed
from recorder.lake.layout import hour_label
from recorder.lake.manifest import LakeFile
from recorder.lake.schema import (
    COMPRESSION,
    COMPRESSION_LEVEL,
    FORMAT_VERSION,
    Table,
    column_encodings,
    dictionary_columns,
)

# Damage reaches pyarrow in many places.
_UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, RuntimeError, MemoryError, OverflowError)


class Draft:
    """
    One file in the making.
    """

    def __init__(self, root: Path, path: Path, table: Table, *, hour: int, metadata: dict[str, str]) -> None:
        """
        Args:
            root: of the data.
            path: where the file will be published, relative to the root.
            table: whose columns it has.
            hour: ns at which its hour begins.
            metadata: what the file says of itself, beside table, hour and versions.
        """
        self.root, self.path = root, path
        self._table = table
        target = root / path
        durable.make_directories(target.parent, below=root)
        self.temporary = target.with_name(f".{target.name}.tmp")
        self._metadata = {
            "recorder.format": str(FORMAT_VERSION),
            "recorder.version": __version__,
            "recorder.table": path.stem,
            "recorder.hour": hour_label(hour),
            "recorder.price_exponent": "6",
            **{f"recorder.{key}": value for key, value in metadata.items()},
        }
        self._writer: pq.ParquetWriter | None = None
        self._sink: _SummingFile | None = None
        self._rows = 0
        self._bounds: list[int] = []

    def write(self, rows: pa.Table) -> None:
        """
        Append a row group.
        """
        if rows.num_rows == 0:
            return
        if self._writer is None:
            self._sink = _SummingFile(self.temporary)
            self._writer = pq.ParquetWriter(
                self._sink,
                self._table.schema.with_metadata(self._metadata),
                version="2.6",
                compression=COMPRESSION,
                compression_level=COMPRESSION_LEVEL,
                use_dictionary=dictionary_columns(self._table) or False,
                column_encoding=column_encodings(self._table),
                write_page_checksum=True,
            )
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self._rows += rows.num_rows
        if "recv_ts" in rows.column_names:
            column = rows.column("recv_ts").cast(pa.int64())
            self._bounds = [*self._bounds[:1], column[0].as_py(), column[-1].as_py()]

    def finish(self, symbol: str | None) -> LakeFile | None:
        """
        Close, sync, and read back. Returns what the manifest says of the file; None if it has no rows.

        Raises:
            SealFailed: what was read is not what was written.
        """
        if self._writer is None or self._sink is None:
            return None
        self._writer.close()
        self._sink.close()
        self._writer = None  # it would keep the footer of every file of the hour
        durable.sync_file(self.temporary)
        durable.drop_cache(self.temporary)
        try:
            digest, size, rows = read_back(self.temporary, sha256=self._sink.sha256.hexdigest())
        except DamagedFile as error:
            raise SealFailed(str(error)) from None
        if rows != self._rows:
            raise SealFailed(f"{self.temporary}: {rows} rows read back of {self._rows} written; check the disk")
        return LakeFile(
            path=self.path.as_posix(),
            table=self.path.stem,
            symbol=symbol,
            rows=rows,
            bytes=size,
            sha256=digest,
            first_recv_ts=self._bounds[0] if self._bounds else None,
            last_recv_ts=self._bounds[-1] if self._bounds else None,
        )

    def publish(self) -> None:
        """
        Put the finished file under its name.
        """
        durable.rename(self.temporary, self.root / self.path)

    def discard(self) -> None:
        """
        Remove what was written; nothing, once it is published.
        """
        if self._writer is not None:
            with suppress(pa.ArrowException, OSError):  # of a disk that is full, say
                self._writer.close()
        if self._sink is not None:
            with suppress(OSError):
                self._sink.close()
        durable.remove(self.temporary)


_PENDING_BYTES = 1 << 16
"""Gathered before they are written: pyarrow hands over a few bytes at a time."""


class _SummingFile:
    """
    A file to write whose bytes are summed on their way, so that what is read back can be compared with what was meant.
    """

    def __init__(self, path: Path) -> None:
        self.sha256 = hashlib.sha256()
        self._fd = durable.create_temporary(path)
        self._size = 0
        self._pending = bytearray()
        self.closed = False

    def write(self, data: bytes) -> int:
        # pyarrow hands over a buffer of its own, of which only the bytes count.
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        self._size += len(view)
        self._pending += view
        if len(self._pending) >= _PENDING_BYTES:
            self.flush()
        return len(view)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        durable.write_all(self._fd, pending)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            try:
                self.flush()
            finally:
                durable.close(self._fd)


def read_back(path: Path, *, sha256: str | None = None) -> tuple[str, int, int]:
    """
    SHA-256, bytes and rows of a Parquet file, every page read and its checksum compared.

    Args:
        path: of the file.
        sha256: what it should be. A file that has another is not given to the Parquet reader, which trusts lengths and
            offsets in it.

    Raises:
        DamagedFile: it has another digest, or cannot be read whole.
        OSError: it cannot be read at all.
    """
    refuse_link(path)
    data = durable.read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise DamagedFile(path, f"has SHA-256 {digest[:16]}…, not {sha256[:16]}…")
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        rows = sum(file.read_row_group(group, use_threads=False).num_rows for group in range(file.num_row_groups))
    except _UNREADABLE as error:
        raise DamagedFile(path, f"cannot be read as Parquet: {first_line(error)}") from None
    return digest, len(data), rows


def refuse_link(path: Path) -> None:
    """
    Raises:
        DamagedFile: somebody put a link in the file's place.
    """
    if path.is_symlink():
        raise DamagedFile(path, "is a symbolic link, which is not followed", "remove it")


def describe(path: Path) -> dict[str, Any]:
    """
    What a Parquet file says of itself: rows, row groups, columns, sizes, and the recorder's metadata.

    Raises:
        DamagedFile: it is not Parquet, or its footer is damaged.
        OSError: it is not there, or may not be read.
    """
    refuse_link(path)
    size = path.stat().st_size
    try:
        with pq.ParquetFile(path) as file:
            footer, schema = file.metadata, file.schema_arrow
    except _UNREADABLE as error:
        raise DamagedFile(path, f"is not readable as Parquet: {first_line(error)}") from None
    metadata = schema.metadata or {}
    return {
        "rows": footer.num_rows,
        "row_groups": footer.num_row_groups,
        "bytes": size,
        "columns": [(field.name, str(field.type)) for field in schema],
        "metadata": {
            key.decode("utf-8", "replace").removeprefix("recorder."): value.decode("utf-8", "replace")
            for key, value in sorted(metadata.items())
            if key.startswith(b"recorder.")
        },
    }


def bounds(path: Path) -> tuple[int | None, int | None]:
    """
    `recv_ts` of the first and last row of a whole file, in ns.

    Raises:
        DamagedFile: it has no such column, or cannot be read.
    """
    try:
        column = pq.read_table(path, columns=["recv_ts"], partitioning=None).column(0).cast(pa.int64())
    except _UNREADABLE as error:
        raise DamagedFile(path, f"cannot be read as Parquet: {first_line(error)}") from None
    return (column[0].as_py(), column[-1].as_py()) if len(column) else (None, None)


def first_line(error: BaseException) -> str:
    """
    The first line of a library's error, which may have many.
    """
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
