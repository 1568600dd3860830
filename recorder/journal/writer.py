"""
Appends entries to segments, on a thread of its own, so that a slow disk never delays the reader of a socket.

Invariants:

* An entry is *committed* when the write and the fdatasync that hold it have returned; until then it stays in memory.
* A write or sync that fails ends its segment. What was not committed is written again, to a new segment, until that
  succeeds; a sync is never retried on the same file, since the kernel may have dropped the pages it failed on. What
  a finished segment holds is not written again, so segments begin in the order of their entries.
* The queue is bounded in bytes. A frame that it cannot take is dropped *by name*: its number is used up, and an
  `Overflowed` fact tells the range, so that the hole is on record.
"""

import errno
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import zstandard

from recorder import durable
from recorder.clock import monotonic_ns, pause
from recorder.journal.entry import FRAME_CONTENT_BYTES, MAX_PAYLOAD, WINDOW_LOG, encode_entry, encode_header
from recorder.journal.names import OPEN_SUFFIX, SEGMENT_SUFFIX, segment_name
from recorder.records import (
    HOUR_NS,
    NO_CONNECTION,
    SECOND_NS,
    EntryKind,
    Overflowed,
    SegmentHeader,
    WriteFailed,
    encode_fact,
)

_FACT_RESERVE_BYTES = 8 << 20
"""Facts are taken beyond the queue's limit by this much: they name what frames could not be taken."""

_ROW_BYTES = 200
"""Of memory that a queued entry takes besides its payload: small ones must not outgrow the limit."""

_Row = tuple[int, int, int, int, int, bytes]  # kind, connection, attempt, seq, recv_ts, payload


class JournalSettings(msgspec.Struct, frozen=True):
    """
    How the journal commits and rotates.
    """

    commit_interval_s: float = 0.1
    """So long, or as long as the commit before took, an entry waits in memory for its write: what a kill can cost."""
    commit_bytes: int = 256 << 10
    segment_s: float = 60.0
    segment_bytes: int = 64 << 20
    frame_s: float = 2.0
    level: int = 1
    queue_bytes: int = 64 << 20


class JournalStats(msgspec.Struct):
    """
    Since the last `take_stats`.
    """

    commit_s: list[float]
    """Duration of each write and sync."""
    durable_s: list[float]
    """Of each commit: how long its oldest entry took to be durable, from `append` on."""
    written_bytes: int
    queue_max_bytes: int


class Journal:
    """
    One run's journal: `append` from one thread, everything else on the writer's own.
    """

    def __init__(self, folder: Path, *, header: Callable[[], SegmentHeader], settings: JournalSettings) -> None:
        """
        Args:
            folder: the run's folder; it must exist.
            header: called on the writer thread for each new segment; the subscriptions change over time.
            settings: see `JournalSettings`.
        """
        self._folder = folder
        self._header = header
        self._settings = settings
        self._queue: deque[_Row] = deque()
        self._next_seq = 1
        # Counted up by one thread each, so that neither needs a lock.
        self._taken_bytes = 0
        self._released_bytes = 0
        self._unsignalled_bytes = 0
        self._overflow: Overflowed | None = None
        self.named: Overflowed | None = None
        """The fact that the last `append` placed before its entry, if it did."""
        self._queue_max = 0
        self._wake = threading.Event()
        self._closing = False
        self._failures: deque[WriteFailed] = deque(maxlen=256)
        self._failing: tuple[str, int | None] | None = None
        """Operation and errno of what fails now: told once, however often it is tried."""
        self._commit_s: deque[tuple[float, float]] = deque(maxlen=100_000)
        self._oldest_ns = 0
        """When the oldest entry in the queue was appended; 0 while there is none."""
        self._written_told = 0
        self._committed = (0, 0)
        self._segment = _Segment(settings)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        """
        Start the writer thread.
        """
        self._thread.start()

    @property
    def queued_bytes(self) -> int:
        """
        Bytes of memory that hold what is not committed.
        """
        return self._taken_bytes - self._released_bytes

    @property
    def appended(self) -> int:
        """
        Number of the last entry that was appended, or dropped; 0 before the first.
        """
        return self._next_seq - 1

    @property
    def committed(self) -> tuple[int, int]:
        """
        (seq, recv_ts) up to which all is committed; (0, 0) before the first commit.
        """
        return self._committed

    @property
    def stuck(self) -> int | None:
        """
        The errno for which nothing can be committed now; None if it can be, or the error had none.
        """
        failing = self._failing
        return failing[1] if failing is not None else None

    def append(self, kind: int, *, connection: int, attempt: int, recv_ts: int, payload: bytes) -> int:
        """
        Queue one entry; its number, or 0 if it had to be dropped.

        A dropped entry uses up its number; the first entry that fits again is an `Overflowed` fact naming what was
        dropped, placed before the one given (`named` tells the caller of it).
        """
        limit = self._settings.queue_bytes + (_FACT_RESERVE_BYTES if kind != EntryKind.FRAME else 0)
        size = len(payload)
        if self._taken_bytes - self._released_bytes + size + _ROW_BYTES > limit or size > MAX_PAYLOAD:
            self._drop(size, recv_ts)
            return 0
        self.named = self._name_overflow(recv_ts) if self._overflow is not None else None
        self._put(kind, connection, attempt, recv_ts, payload)
        return self._next_seq - 1

    def take_failures(self) -> list[WriteFailed]:
        """
        Failures since the last call, for the caller to append as facts.
        """
        failures: list[WriteFailed] = []
        while self._failures:
            failures.append(self._failures.popleft())
        return failures

    def take_stats(self) -> JournalStats:
        """
        What the writer did since the last call.
        """
        commits = [self._commit_s.popleft() for _ in range(len(self._commit_s))]
        written = self._segment.written
        stats = JournalStats(
            [wrote for wrote, _ in commits],
            [waited for _, waited in commits],
            written - self._written_told,
            self._queue_max,
        )
        self._written_told = written
        self._queue_max = self.queued_bytes
        return stats

    def close(self, timeout_s: float) -> bool:
        """
        Commit everything and finish the segment; False if the disk did not let us within `timeout_s`.

        Nothing may be appended after it.
        """
        if self._overflow is not None:
            self._name_overflow(self._overflow.last_ts)
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self.queued_bytes

    def _put(self, kind: int, connection: int, attempt: int, recv_ts: int, payload: bytes) -> None:
        if not self._oldest_ns:
            self._oldest_ns = monotonic_ns()
        self._queue.append((kind, connection, attempt, self._next_seq, recv_ts, payload))
        self._next_seq += 1
        size = len(payload) + _ROW_BYTES
        self._taken_bytes += size
        queued = self._taken_bytes - self._released_bytes
        if queued > self._queue_max:  # noqa: PLR1730  # a call of max() is the dearest part of an append
            self._queue_max = queued
        self._unsignalled_bytes += size
        if self._unsignalled_bytes >= self._settings.commit_bytes:
            self._unsignalled_bytes = 0
            self._wake.set()

    def _drop(self, size: int, recv_ts: int) -> None:
        before = self._overflow
        self._overflow = Overflowed(
            count=1 + (before.count if before else 0),
            bytes=size + (before.bytes if before else 0),
            first_seq=before.first_seq if before else self._next_seq,
            last_seq=self._next_seq,
            first_ts=before.first_ts if before else recv_ts,
            last_ts=recv_ts,
        )
        self._next_seq += 1

    def _name_overflow(self, recv_ts: int) -> Overflowed | None:
        overflow, self._overflow = self._overflow, None
        if overflow is not None:
            self._put(EntryKind.FACT, NO_CONNECTION, 0, recv_ts, encode_fact(overflow))
        return overflow

    # ---- writer thread

    def _run(self) -> None:
        interval_ns = self._settings.commit_interval_s * SECOND_NS
        emptied = monotonic_ns()
        while True:
            # From one emptying of the queue to the next: the time a sync takes is no time to wait on top of it.
            self._wake.wait(max(0.0, (emptied + interval_ns - monotonic_ns()) / SECOND_NS))
            self._wake.clear()
            closing = self._closing
            emptied = monotonic_ns()
            # Before the queue is emptied: what comes in between makes the next figure an interval too long at most.
            oldest_ns, self._oldest_ns = self._oldest_ns, 0
            rows = [self._queue.popleft() for _ in range(len(self._queue))]
            if rows:
                self._commit_until_done(rows, oldest_ns)
            if closing and not self._queue:
                with suppress(OSError):
                    self._segment.finish()
                return

    def _commit_until_done(self, rows: list[_Row], oldest_ns: int = 0) -> None:
        pause_s = 0.05
        done = 0
        while done < len(rows):
            started = monotonic_ns()
            try:
                reached = self._commit(rows, done)
            except Exception as error:  # noqa: BLE001  # the thread's edge: what it holds must be written, come what may
                self._fail(error)
                pause(pause_s)
                pause_s = min(pause_s * 2, 1.0)
                continue
            self._failing = None
            ended = monotonic_ns()
            self._commit_s.append(((ended - started) / SECOND_NS, (ended - (oldest_ns or started)) / SECOND_NS))
            *_, seq, recv_ts, _ = rows[reached - 1]
            self._committed = (seq, recv_ts)
            self._released_bytes += sum(len(row[5]) + _ROW_BYTES for row in rows[done:reached])
            done = reached

    def _commit(self, rows: list[_Row], begin: int) -> int:
        """
        Write and sync the rows from `begin` on that belong in one segment; returns the number of the first that do not.
        """
        segment = self._segment
        if segment.due(rows[begin][4]):
            segment.finish()
        encoded: list[bytes] = []
        at = begin
        for kind, connection, attempt, seq, recv_ts, payload in rows[begin:]:
            if not segment.opened:
                segment.open(self._folder, self._header(), seq=seq, recv_ts=recv_ts)
            elif at > begin and segment.due(recv_ts):
                break
            if segment.frame_due(recv_ts):
                segment.write(encoded)
                segment.end_frame(recv_ts)
                # Again: so that a piece of this file, wherever a disk puts it, says whose it is.
                encoded = [encode_header(self._header(), seq=seq, recv_ts=recv_ts)]
                segment.count(len(encoded[0]))
            entry = encode_entry(kind, connection, attempt, seq, recv_ts, payload)
            segment.count(len(entry))
            encoded.append(entry)
            at += 1
        segment.write(encoded)
        segment.sync()
        return at

    def _fail(self, error: Exception) -> None:
        number = error.errno if isinstance(error, OSError) else None
        failing, self._failing = self._failing, (self._segment.operation, number)
        if failing == self._failing:
            self._segment.abandon()
            return
        words = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        self._failures.append(
            WriteFailed(
                segment=self._segment.name,
                operation=self._segment.operation,
                errno=number,
                error=f"{errno.errorcode.get(number or 0, type(error).__name__)}: {words}",
            )
        )
        self._segment.abandon()


class _Segment:
    """
    The open segment file and its zstd stream; no judgement about failures.
    """

    def __init__(self, settings: JournalSettings) -> None:
        self._settings = settings
        self._compressor = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters.from_level(settings.level, window_log=WINDOW_LOG)
        )
        self._fd = -1
        self._path = Path()
        self._first_ts = -1
        self._again = 0
        self.written = 0
        """Bytes, of all segments."""
        self.operation = ""
        """What was being done, for the report of a failure."""

    @property
    def opened(self) -> bool:
        return self._fd >= 0

    @property
    def name(self) -> str:
        return self._path.name

    def due(self, recv_ts: int) -> bool:
        """
        Whether an entry of that time belongs in a new segment.
        """
        return self.opened and (
            recv_ts - self._first_ts >= self._settings.segment_s * SECOND_NS
            or recv_ts // HOUR_NS != self._first_ts // HOUR_NS
            or self._size >= self._settings.segment_bytes
        )

    def frame_due(self, recv_ts: int) -> bool:
        """
        Whether an entry of that time belongs in a new zstd frame of this segment.
        """
        return (
            recv_ts - self._frame_ts >= self._settings.frame_s * SECOND_NS or self._frame_content >= FRAME_CONTENT_BYTES
        )

    def open(self, folder: Path, header: SegmentHeader, *, seq: int, recv_ts: int) -> None:
        self.operation = "open"
        # A name is used once, even if its file was removed: a manifest may have listed it.
        self._again = self._again + 1 if recv_ts == self._first_ts else 0
        self._first_ts = recv_ts
        while (folder / segment_name(recv_ts, self._again)).exists():
            self._again += 1
        self._path = folder / (segment_name(recv_ts, self._again).removesuffix(SEGMENT_SUFFIX) + OPEN_SUFFIX)
        self._fd = durable.create_append(self._path)
        self._size = 0
        self._synced = False
        self._begin_frame(recv_ts)
        self.write([encode_header(header, seq=seq, recv_ts=recv_ts)])

    def _begin_frame(self, recv_ts: int) -> None:
        self._stream = self._compressor.compressobj()
        self._frame_ts = recv_ts
        self._frame_content = 0

    def count(self, size: int) -> None:
        self._frame_content += size

    def write(self, encoded: list[bytes]) -> None:
        """
        Append whole entries and flush a block, so that they can be read now.
        """
        if encoded:
            block = self._stream.compress(b"".join(encoded)) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
            self._append(block)

    def end_frame(self, recv_ts: int) -> None:
        self._append(self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
        self._begin_frame(recv_ts)

    def _append(self, data: bytes) -> None:
        self.operation = "write"
        durable.write_all(self._fd, data)
        self._size += len(data)
        self.written += len(data)

    def sync(self) -> None:
        self.operation = "sync"
        durable.sync(self._fd)
        self._synced = True

    def finish(self) -> None:
        """
        End the zstd frame, sync, close, and give the segment its final name.
        """
        if not self.opened:
            return
        self._append(self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
        self.sync()
        self.operation = "close"
        fd, self._fd = self._fd, -1
        durable.close(fd)
        self.operation = "rename"
        durable.rename(self._path, self._path.with_name(self._path.name.removesuffix(".open")))

    def abandon(self) -> None:
        """
        Let go of a segment that failed. If something in it is committed it stays, readable up to its last whole block.

        Else it goes: all it holds is in memory and comes again in the next, and a full disk needs its space for that.
        """
        if self.opened:
            fd, self._fd = self._fd, -1
            with suppress(OSError):
                durable.close(fd)
            if not self._synced:
                with suppress(OSError):
                    durable.remove(self._path)
