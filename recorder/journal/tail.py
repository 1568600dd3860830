"""
Follows a run's journal while it is written: each call gives the entries that were committed since the one before.

Reading costs the writer nothing: it is never asked, waited for, or locked. Each byte is read and inflated once. What is
damaged, or was removed meanwhile, is passed over, since whoever follows wants to know what is now; the numbers of the
entries tell what is missing.
"""

from pathlib import Path

import zstandard

from recorder.journal.entry import MAX_PAYLOAD, WINDOW_LOG, ZSTD_MAGIC, decode_header, split_entries
from recorder.journal.reader import SegmentFile, in_window, run_segments
from recorder.records import Entry, EntryKind, SegmentHeader

_CHUNK = 64 << 10
_MOST_BYTES = 8 << 20
"""Of a file, in one call: so that catching up with a long past does not take memory without bound."""


class Tail:
    """
    One run, from some instant on.
    """

    def __init__(self, folder: Path, *, since: int) -> None:
        """
        Args:
            folder: of the run.
            since: ns; segments that ended before are not read. Entries a little earlier may come.
        """
        self._folder = folder
        self._since = since
        self._reading: _Segment | None = None
        self._last_seq = 0
        self.header: SegmentHeader | None = None
        """Of the segment that was read last; None before the first."""

    def take(self) -> list[Entry]:
        """
        What is new, in order; empty if nothing is. A long past comes in several calls, each with something.
        """
        found: list[Entry] = []
        while not found:
            # Asked before reading: once the next segment is there, all of this one is.
            following = self._following()
            if self._reading is None:
                if following is None:
                    break
                self._reading = _Segment(following)
                continue
            entries = self._reading.take()
            if self._reading.header is not None:
                self.header = self._reading.header
            for entry in entries:
                # After a failed sync entries stand in two segments.
                if entry.seq > self._last_seq:
                    self._last_seq = entry.seq
                    found.append(entry)
            if not entries:
                if self._reading.behind:
                    continue  # no whole entry among what was read at once
                if following is None:
                    break
                self._reading.close()
                self._reading = _Segment(following)
        return found

    def _following(self) -> SegmentFile | None:
        """
        The segment after the one that is read, or the first to read; None if it is not there yet.
        """
        listed = run_segments(self._folder)
        if self._reading is None:
            return next(iter(in_window(listed, self._since, 1 << 62) or listed[-1:]), None)
        before = self._reading.file
        return next((s for s in listed if (s.start, s.again) > (before.start, before.again)), None)

    def close(self) -> None:
        """
        Let go of the file.
        """
        if self._reading is not None:
            self._reading.close()
            self._reading = None


class _Segment:
    """
    One file, read as far as it has come.
    """

    def __init__(self, file: SegmentFile) -> None:
        self.file = file
        self.header: SegmentHeader | None = None
        self._stream = None
        for name in (file.name, file.name.removesuffix(".open")):
            try:
                # Kept open: a segment is renamed when it is finished.
                self._stream = file.path.with_name(name).open("rb", buffering=0)
                break
            except FileNotFoundError:
                continue
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << (WINDOW_LOG + 1))
        self._inflater = self._decompressor.decompressobj()
        self._left = b""
        """Compressed bytes after the end of a zstd frame."""
        self._content = b""
        """Inflated, and not a whole entry yet."""
        self._broken = False
        self._strange = False
        """Bytes of another run, which a disk put here, up to the next header."""
        self.behind = False
        """Whether there is more to read at once."""

    def take(self) -> list[Entry]:
        """
        The entries that are new.
        """
        fresh = b""
        while self._stream is not None and len(fresh) < _MOST_BYTES and (chunk := self._stream.read(_CHUNK)):
            fresh += chunk
        self.behind = len(fresh) >= _MOST_BYTES
        data, self._left = self._left + fresh, b""
        while data and not self._broken:
            if not self._inflater.eof:
                try:
                    self._content += self._inflater.decompress(data)
                except zstandard.ZstdError:
                    data = self._after_damage(data)
                    continue
            if not self._inflater.eof:
                break
            data = self._inflater.unused_data or b""
            self._inflater = self._decompressor.decompressobj()
            if 0 < len(data) < len(ZSTD_MAGIC):
                self._left, data = data, b""
        return self._entries()

    def _after_damage(self, data: bytes) -> bytes:
        """
        Go on at the next zstd frame, if there is one in what was read.
        """
        self._content = b""
        self._inflater = self._decompressor.decompressobj()
        following = data.find(ZSTD_MAGIC, 1)
        if following < 0:
            self._broken = True
            return b""
        return data[following:]

    def _entries(self) -> list[Entry]:
        split = split_entries(self._content, self.file.run)
        self._content = self._content[split.consumed :]
        if split.lost or len(self._content) > 2 * MAX_PAYLOAD:
            self._content = b""
        entries = []
        for entry in split.entries:
            if entry.kind == EntryKind.HEADER:
                header = decode_header(entry.payload)
                self._strange = header.run != self.file.run
                self.header = self.header if self._strange else header
            elif not self._strange:
                entries.append(entry)
        return entries

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
