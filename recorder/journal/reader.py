"""
Journal segments back into entries: of one segment, of a run, of all runs merged.

A segment that is still being written can be read at any moment: what is committed comes out, the torn tail does not.
Damage never stops reading; it is reported, and reading goes on at the next zstd frame. Whether damage *lost* anything
is told by the entries' numbers, which have no holes of their own.
"""

import heapq
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import zstandard

from recorder.errors import ForeignFile
from recorder.journal.entry import (
    FORMAT_VERSION,
    FRAME_CONTENT_BYTES,
    MAX_PAYLOAD,
    WINDOW_LOG,
    ZSTD_MAGIC,
    decode_header,
    first_entry,
    split_entries,
)
from recorder.journal.names import is_run_name, parse_segment_name
from recorder.records import HOUR_NS, Entry, EntryKind, SegmentHeader

_CHUNK = 128 << 10
_FINE_CHUNK = 256


class Damage(msgspec.Struct, frozen=True):
    """
    Bytes of a segment that are not what was written, other than a torn tail.
    """

    path: Path
    offset: int
    """Of the zstd frame in the file."""
    reason: str


class SegmentFile(msgspec.Struct, frozen=True, order=True):
    """
    A segment as the directory lists it. Orders by run, then time.
    """

    run: str
    start: int
    """`recv_ts` of its first entry, ns."""
    again: int
    """Counts segments that begin with the same entry (rewritten after a failed sync)."""
    name: str
    path: Path

    @property
    def open(self) -> bool:
        """
        Still named as open: being written, or left by a crash.
        """
        return self.name.endswith(".open")


def read_segment(
    path: Path,
    *,
    check: bool = True,
    on_damage: Callable[[Damage], None] | None = None,
    on_header: Callable[[SegmentHeader], None] | None = None,
) -> Iterator[Entry]:
    """
    The entries of one segment after its header, in order.

    Args:
        path: the segment file.
        check: compare checksums; False only for a file checked before.
        on_damage: told of each damaged place.
        on_header: told of the segment's header, before its first entry.

    Raises:
        ForeignFile: not a journal segment, or of a format this version does not know.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    _refuse_foreign(path, data)
    tell = on_damage or _ignore
    run: str | None = None
    for offset, content in _zstd_frames(path, data, tell):
        body = memoryview(content)
        if run is None:
            header, end = _header(path, content)
            if header is None:
                # The folder says whose segment it is.
                tell(Damage(path, offset, "the header entry is missing"))
            elif on_header is not None:
                on_header(header)
            run = header.run if header is not None else path.parent.name
            body = body[end:]
        split = split_entries(body, run, check=check)
        if split.damaged or split.lost:
            tell(Damage(path, offset, f"{split.damaged} entries with a bad checksum"))
        yield from split.entries


def _ignore(_: Damage) -> None:
    pass


def _refuse_foreign(path: Path, data: bytes) -> None:
    """
    Damage to the first bytes of a segment must not make it foreign: one of ours has zstd frames further on.
    """
    if data and not ZSTD_MAGIC.startswith(data[:4]) and not data.startswith(ZSTD_MAGIC) and ZSTD_MAGIC not in data:
        raise ForeignFile(path, "is not a journal segment (no zstd frame in it)", "give a file below <root>/journal")


def _header(path: Path, content: bytes) -> tuple[SegmentHeader | None, int]:
    first, end = first_entry(content)
    if first is None or first.kind != EntryKind.HEADER:
        return None, 0
    try:
        header = decode_header(first.payload)
    except msgspec.DecodeError as error:
        raise ForeignFile(path, f"has a segment header this version cannot read ({error})", "upgrade") from None
    if header.format > FORMAT_VERSION:
        raise ForeignFile(
            path, f"is of journal format {header.format}; this version reads up to {FORMAT_VERSION}", "upgrade"
        )
    return header, end


def _zstd_frames(path: Path, data: bytes, tell: Callable[[Damage], None]) -> Iterator[tuple[int, bytes]]:
    """
    Decompressed content of each zstd frame with its offset in the file; what can be had of torn and damaged ones.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << (WINDOW_LOG + 1))
    offset = 0
    while offset < len(data):
        content, end, error = _inflate(decompressor, data, offset, _CHUNK)
        if error is not None:
            # Once more in small steps: blocks before the damage are good, and their entries have checksums.
            content, _, _ = _inflate(decompressor, data, offset, _FINE_CHUNK)
            tell(Damage(path, offset, f"zstd: {error}"))
            end = data.find(ZSTD_MAGIC, offset + 4)
            if end < 0:
                end = len(data)
        if content:
            yield offset, content
        offset = end


def _inflate(
    decompressor: zstandard.ZstdDecompressor, data: bytes, offset: int, step: int
) -> tuple[bytes, int, str | None]:
    """
    Content of the zstd frame at `offset`, where the next begins, and what stopped it, if not its end or the file's.
    """
    inflater = decompressor.decompressobj()
    parts: list[bytes] = []
    position = offset
    size = 0
    while position < len(data):
        chunk = data[position : position + step]
        try:
            parts.append(inflater.decompress(chunk))
        except zstandard.ZstdError as error:
            return b"".join(parts), position, str(error)
        position += len(chunk)
        size += len(parts[-1])
        if size > FRAME_CONTENT_BYTES + 2 * MAX_PAYLOAD:
            return b"".join(parts), position, "more content than a zstd frame of ours holds"
        if inflater.eof:
            position -= len(inflater.unused_data)
            break
    return b"".join(parts), position, None


def segments(journal: Path) -> list[SegmentFile]:
    """
    All segments below a root's `journal/`, by run and time; files of other names are not segments.
    """
    found: list[SegmentFile] = []
    if not journal.is_dir():
        return found
    for folder in journal.iterdir():
        if not is_run_name(folder.name) or not folder.is_dir():
            continue
        for file in folder.iterdir():
            parsed = parse_segment_name(file.name)
            if parsed is not None:
                found.append(SegmentFile(folder.name, parsed[0], parsed[1], file.name, file))
    return sorted(found)


def in_window(found: list[SegmentFile], start: int, end: int) -> list[SegmentFile]:
    """
    The segments that can hold entries with `start <= recv_ts < end`, decided from names alone.
    """
    chosen: list[SegmentFile] = []
    for this, following in zip(found, [*found[1:], None], strict=True):
        if this.start >= end or this.start - this.start % HOUR_NS + HOUR_NS <= start:
            continue  # a segment never crosses an hour
        if following is None or following.run != this.run or following.start >= start:
            chosen.append(this)
    return chosen


def read_run(
    found: list[SegmentFile],
    *,
    check: bool = True,
    on_damage: Callable[[Damage], None] | None = None,
    on_header: Callable[[SegmentHeader], None] | None = None,
) -> Iterator[Entry]:
    """
    The entries of one run's segments in the order of their numbers, each once.
    """
    last = 0
    for segment in found:
        try:
            for entry in read_segment(segment.path, check=check, on_damage=on_damage, on_header=on_header):
                # Rewritten after a failed sync: the same entry again.
                if entry.seq > last:
                    last = entry.seq
                    yield entry
        except FileNotFoundError:
            # Finished (renamed) since the listing.
            finished = segment.path.with_name(segment.name.removesuffix(".open"))
            for entry in read_segment(finished, check=check, on_damage=on_damage, on_header=on_header):
                if entry.seq > last:
                    last = entry.seq
                    yield entry


def read_merged(
    found: list[SegmentFile],
    *,
    start: int,
    end: int,
    check: bool = True,
    on_damage: Callable[[Damage], None] | None = None,
    on_header: Callable[[SegmentHeader], None] | None = None,
) -> Iterator[Entry]:
    """
    Entries of all runs with `start <= recv_ts < end`, ordered by (`recv_ts`, run, seq), each (run, seq) once.

    Args:
        found: as `segments` lists them; those outside the window are not opened.
        start: ns, included.
        end: ns, excluded.
        check: compare checksums.
        on_damage: told of each damaged place.
        on_header: told of each segment's header when its first entry is read.
    """
    by_run: dict[str, list[SegmentFile]] = {}
    for segment in in_window(found, start, end):
        by_run.setdefault(segment.run, []).append(segment)

    def run_entries(of: list[SegmentFile]) -> Iterator[Entry]:
        for entry in read_run(of, check=check, on_damage=on_damage, on_header=on_header):
            if entry.recv_ts >= end:
                return
            if entry.recv_ts >= start:
                yield entry

    runs = [run_entries(of) for of in by_run.values()]
    if len(runs) == 1:
        return runs[0]
    return heapq.merge(*runs, key=lambda entry: (entry.recv_ts, entry.run, entry.seq))
