"""
Journal segments back into entries: of one segment, of a run, of all runs merged.

A segment that is still being written can be read at any moment: what is committed comes out, the torn tail does not.
Damage never stops reading; it is reported, and reading goes on at the next zstd frame. Whether damage *lost* anything
is told by the entries' numbers, which have no holes of their own. Of a finished segment every loss is reported as
damage too; in the last zstd frame of an open one, damage may look like the torn tail that a crash leaves.
"""

import heapq
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import msgspec
import zstandard

from recorder import durable
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
from recorder.journal.names import OPEN_SUFFIX, is_run_name, parse_segment_name
from recorder.records import HOUR_NS, Entry, EntryKind, SegmentHeader

_CHUNK = 4 << 10
"""Bytes inflated in one go. A block of 128 KiB may take 4, so this bounds what a hostile file makes of memory."""
_UNFINISHED = "the file ends before it does"
_CUT = "; nothing after them can be read"
_UNREADABLE = SegmentHeader(0, "?", "", "", "", "", [])
"""Stands for a header of another version."""


class Damage(msgspec.Struct, frozen=True):
    """
    Bytes of a segment that are not what was written, other than a torn tail; or a segment that is not of its place.
    """

    path: Path
    offset: int
    """Of the zstd frame in the file."""
    reason: str
    foreign: bool = False
    """The bytes are good, and do not belong here: none of its entries come out."""


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
        return self.name.endswith(OPEN_SUFFIX)


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
        ForeignFile: not a journal segment, or of a format this version does not know. A file with the name of a
            segment is damaged rather than foreign, whatever it holds.
        OSError: the file cannot be read.
    """
    data = durable.read_bytes(path)
    parsed = parse_segment_name(path.name)
    named = parsed is not None
    # A segment begins with its name's instant, and never crosses an hour.
    begin, end_of_hour = (parsed[0], parsed[0] - parsed[0] % HOUR_NS + HOUR_NS) if parsed is not None else (0, 1 << 63)
    tell = on_damage or _ignore
    if not named and ZSTD_MAGIC not in data:
        raise ForeignFile(path, "is not a journal segment (no zstd frame in it)", "give a file below <root>/journal")
    run: str | None = None
    header: SegmentHeader | None = None
    strange: list[tuple[int, str]] = []
    """What another run wrote from the beginning on, as long as nothing shows that the rest is ours."""
    for number, (offset, content, whole) in enumerate(_zstd_frames(path, data, tell)):
        # Each begins with a header, unless an earlier version wrote it.
        found, end = _header(path, content, first=not number)
        if found is None and strange:
            strange.append((offset, strange[-1][1]))
            continue
        if run is None:
            run = path.parent.name
            if not is_run_name(run):
                run = _run_of(path, found or _first_header(path, data))
        if found is not None and found.run != run:
            if header is None and (strange or not offset):
                strange.append((offset, found.run))
            else:  # a piece of its segment, of the same hour
                tell(Damage(path, offset, _of_another(found.run)))
            continue
        if found is not None and header is None:
            for at, other in strange:
                tell(Damage(path, at, _of_another(other)))
            strange.clear()
            header = found
            if on_header is not None:
                on_header(header)
        body = memoryview(content)[end:]
        split = split_entries(body, run, check=check)
        if found is None and not number and (split.consumed or split.lost or whole):
            if not named:
                raise ForeignFile(path, "does not begin with a segment header", "give a file below <root>/journal")
            tell(Damage(path, offset, "the header entry is missing"))
        if split.damaged or split.lost or (whole and split.consumed < len(body)):
            tell(Damage(path, offset, f"{split.damaged} entries with a bad checksum{_CUT if split.lost else ''}"))
        if split.entries and not begin <= split.entries[0].recv_ts <= split.entries[-1].recv_ts < end_of_hour:
            # What a block of the disk held before: good bytes, with good checksums, of another segment.
            tell(Damage(path, offset, "entries of another time: these bytes were not written here"))
            continue
        yield from split.entries
    if strange:
        # A copy under another run's name would bring every entry twice.
        tell(Damage(path, 0, f"is of run {strange[0][1]}, in the folder of another", foreign=True))


def read_header(path: Path) -> SegmentHeader | None:
    """
    A segment's header, without reading on; None if it cannot be had: too early, or all damaged.

    Raises:
        ForeignFile: of a format this version does not know.
        OSError: the file cannot be read.
    """
    inflater = zstandard.ZstdDecompressor(max_window_size=1 << (WINDOW_LOG + 1)).decompressobj()
    content = b""
    with path.open("rb") as file, suppress(zstandard.ZstdError):
        while len(content) <= FRAME_CONTENT_BYTES and not inflater.eof and (chunk := file.read(_CHUNK)):
            content += inflater.decompress(chunk)
            header, _ = _header(path, content)
            if header is not None and header.run == _run_of(path, header):
                return header
            if header is not None:
                break
    return _first_header(path, durable.read_bytes(path))


def _run_of(path: Path, header: SegmentHeader | None) -> str:
    """
    Whose segment a file is: the folder says it; of a copy that lies elsewhere, its first header that can be read.
    """
    folder = path.parent.name
    return folder if header is None or is_run_name(folder) else header.run


def _first_header(path: Path, data: bytes) -> SegmentHeader | None:
    """
    The first header of a segment that can be read and is its own.
    """
    for _, content, _ in _zstd_frames(path, data, _ignore):
        header, _ = _header(path, content, first=False)
        if header is not None and header is not _UNREADABLE and header.run == _run_of(path, header):
            return header
    return None


def _ignore(_: Damage) -> None:
    pass


def _header(path: Path, content: bytes, *, first: bool = True) -> tuple[SegmentHeader | None, int]:
    """
    The header that a zstd frame's content begins with, if it does, and where the entry after it begins.

    Args:
        path: the segment file.
        content: of the zstd frame.
        first: it is the file's first one; of a later one, a header that cannot be read is another run's.

    Raises:
        ForeignFile: of a format this version does not know, in the first zstd frame.
    """
    entry, end = first_entry(content)
    if entry is None or entry.kind != EntryKind.HEADER:
        return None, 0
    try:
        header = decode_header(entry.payload)
    except msgspec.DecodeError as error:
        problem = f"has a segment header this version cannot read ({error})"
    else:
        if header.format <= FORMAT_VERSION:
            return header, end
        problem = f"is of journal format {header.format}; this version reads up to {FORMAT_VERSION}"
    if first:
        raise ForeignFile(path, problem, "upgrade")
    return _UNREADABLE, end


def _of_another(run: str) -> str:
    return f"entries of run {run}: these bytes were not written here"


def _zstd_frames(path: Path, data: bytes, tell: Callable[[Damage], None]) -> Iterator[tuple[int, bytes, bool]]:
    """
    Of each zstd frame its offset in the file, its content (what can be had of it), and whether that is all there was:
    then nothing of it may be left over.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << (WINDOW_LOG + 1))
    offset = 0
    while offset < len(data):
        content, end, error = _inflate(decompressor, data, offset)
        whole = error is None
        if error is not None or not ZSTD_MAGIC.startswith(data[end : end + 4]):
            following = data.find(ZSTD_MAGIC, offset + 1)
            if following < 0:
                following = len(data)
            if error is None:
                # It ended too early, or took some of the next for its own.
                tell(Damage(path, offset, "zstd: no zstd frame follows its end"))
            elif error == _UNFINISHED:
                # A block whose length was damaged swallows the zstd frames after it.
                if following < len(data) or not path.name.endswith(OPEN_SUFFIX):
                    tell(Damage(path, offset, f"zstd: {error}"))
            else:
                # Once more, byte by byte where it failed: blocks before the damage are good, entries have checksums.
                content, _, _ = _inflate(decompressor, data, offset, careful=end)
                tell(Damage(path, offset, f"zstd: {error}"))
            end = following
        if content:
            yield offset, content, whole
        offset = end


def _inflate(
    decompressor: zstandard.ZstdDecompressor, data: bytes, offset: int, *, careful: int | None = None
) -> tuple[bytes, int, str | None]:
    """
    Content of the zstd frame at `offset`, where the next begins or it failed, and why it did not come to its end.

    Args:
        decompressor: of windows as ours.
        data: the file.
        offset: of the zstd frame.
        careful: from here on byte by byte, so that no content before the damage is lost.
    """
    inflater = decompressor.decompressobj()
    parts: list[bytes] = []
    position = offset
    size = 0
    while position < len(data):
        chunk = data[position : position + (_CHUNK if careful is None or position < careful else 1)]
        try:
            parts.append(inflater.decompress(chunk))
        except zstandard.ZstdError as error:
            return b"".join(parts), position, str(error)
        position += len(chunk)
        size += len(parts[-1])
        if inflater.eof:
            return b"".join(parts), position - len(inflater.unused_data), None
        if size > FRAME_CONTENT_BYTES + 2 * MAX_PAYLOAD:
            # Not ours, whatever it is. Said from the start on, so that it is not read byte by byte.
            return b"", len(data), "more content than a zstd frame of ours holds"
    return b"".join(parts), position, _UNFINISHED


def segments(journal: Path) -> list[SegmentFile]:
    """
    All segments below a root's `journal/`, by run and time; files of other names are not segments, nor are links.
    """
    found: list[SegmentFile] = []
    if not journal.is_dir():
        return found
    for folder in journal.iterdir():
        if is_run_name(folder.name) and folder.is_dir() and not folder.is_symlink():
            found += run_segments(folder)
    return sorted(found)


def run_segments(folder: Path) -> list[SegmentFile]:
    """
    The segments of one run, by time; none if its folder is not there.
    """
    found: list[SegmentFile] = []
    # An empty folder may be removed meanwhile. `scandir` knows of each name whether it is a link.
    with suppress(FileNotFoundError), os.scandir(folder) as names:
        for file in names:
            parsed = parse_segment_name(file.name)
            if parsed is not None and not file.is_symlink():
                found.append(SegmentFile(folder.name, parsed[0], parsed[1], file.name, folder / file.name))
    found.sort()
    # A listing made while a segment is renamed may show both of its names.
    return [s for s, before in zip(found, [None, *found], strict=False) if before is None or _key(s) != _key(before)]


def last_written(segment: SegmentFile) -> int:
    """
    When a segment was last written to, ns, by its file; far ahead while it is being renamed.
    """
    with suppress(FileNotFoundError):
        return segment.path.stat().st_mtime_ns
    return 1 << 62


def _key(segment: SegmentFile) -> tuple[str, int, int]:
    return segment.run, segment.start, segment.again


def in_window(found: list[SegmentFile], start: int, end: int) -> list[SegmentFile]:
    """
    The segments that can hold entries with `start <= recv_ts < end`, decided from names alone.
    """
    chosen: list[SegmentFile] = []
    for this, following in zip(found, [*found, None][1:], strict=True):
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

    A segment that was finished (renamed) since the listing is found. One that was removed is skipped: the recorder
    removes only what is sealed, or what it has not committed; were it anything else, the numbers tell.
    """
    # Segments overlap only after a failed sync: the same entries again. Then either may be damaged where the other is
    # whole, so they are merged, not read one after the other.
    waiting: list[tuple[int, int, Entry, Iterator[Entry]]] = []
    last = 0
    for number, segment in enumerate(found):
        rest = _entries(segment, check=check, on_damage=on_damage, on_header=on_header)
        first = next(rest, None)
        if first is not None:
            heapq.heappush(waiting, (first.seq, number, first, rest))
        until = found[number + 1].start if number + 1 < len(found) else None
        while waiting and (until is None or waiting[0][2].recv_ts < until):
            if len(waiting) == 1:  # nearly always; without a heap it takes half the time
                _, of, entry, rest = waiting.pop()
                for each in chain((entry,), rest):
                    if until is not None and each.recv_ts >= until:
                        waiting.append((each.seq, of, each, rest))
                        break
                    if each.seq > last:
                        last = each.seq
                        yield each
                continue
            seq, of, entry, rest = waiting[0]
            following = next(rest, None)
            if following is None:
                heapq.heappop(waiting)
            else:
                heapq.heapreplace(waiting, (following.seq, of, following, rest))
            if seq > last:
                last = seq
                yield entry


def _entries(
    segment: SegmentFile,
    *,
    check: bool,
    on_damage: Callable[[Damage], None] | None,
    on_header: Callable[[SegmentHeader], None] | None,
) -> Iterator[Entry]:
    """
    Of a segment as it was listed, wherever it is now.
    """
    for name in (segment.name, segment.name.removesuffix(".open")):
        with suppress(FileNotFoundError):
            yield from read_segment(segment.path.with_name(name), check=check, on_damage=on_damage, on_header=on_header)
            return


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
