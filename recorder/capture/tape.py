"""
Where everything that is heard goes: stamped, numbered, journaled, and folded by the live monitor, in that order.

Used from the event loop's thread only. The journal's writer has a thread of its own; nothing here waits for it.

The live monitor is a convenience: what it says is said again, of the whole record, by the seal. A fault in it must cost
a message in the log, never a frame.
"""

import logging
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from recorder import __version__, durable
from recorder.clock import SystemClock
from recorder.journal.entry import FORMAT_VERSION
from recorder.journal.names import RUN_LOCK, run_name
from recorder.journal.writer import Journal, JournalSettings
from recorder.quality.counts import Counts
from recorder.quality.events import printable
from recorder.quality.identity import Identity
from recorder.quality.monitor import Monitor, Verdict
from recorder.quality.pairing import Pairing
from recorder.quality.state import ConnectionState, FlowState, MonitorState
from recorder.records import (
    NO_CONNECTION,
    Entry,
    EntryKind,
    Event,
    Fact,
    JobFailed,
    QualitySettings,
    RunStarted,
    RunStopped,
    SegmentHeader,
    Stream,
    encode_fact,
)
from recorder.venue.markets import MarketList
from recorder.venue.protocol import FrameKind, Peek, peek

log = logging.getLogger("recorder.tape")

REMEMBERED = 1 << 17
"""Frames remembered for what another copy brings of them: 120 s at 1,000 a second, four times all of Drift. They take
40 MB then, which is what a venue can make of it that sends more."""
MAX_TS_MS = 1 << 53
"""A publisher's time beyond this is no time, and too large for arithmetic."""


class TapeSettings(msgspec.Struct, frozen=True):
    """
    What a run says of itself, and how its journal is written.
    """

    journal_folder: Path
    venue: str
    network: str
    urls: list[str]
    streams: list[Stream]
    quality: QualitySettings
    journal: JournalSettings
    copies: int = 1
    """How many times everything is recorded."""


class Counters(msgspec.Struct):
    """
    Of the frames heard, since they were last taken.
    """

    frames: int = 0
    bytes: int = 0
    latency_ms: dict[int, list[float]] = {}
    """Per connection: `recv_ts − ts` of books."""


class Tape:
    """
    One run's journal and live monitor.
    """

    def __init__(
        self,
        settings: TapeSettings,
        *,
        listed: MarketList,
        pid: int,
        beside: list[str],
        on_event: Callable[[Event], None],
        on_opening: Callable[[str], None],
        continues: str | None = None,
        counts: Counts | None = None,
    ) -> None:
        """
        Makes the run's folder, takes its lock, starts the journal, and writes the run's first entry.

        Args:
            settings: see `TapeSettings`.
            listed: market list of the network.
            pid: of this process.
            beside: runs that are recording into the same root now.
            on_event: told of each event of the live monitor as it ends.
            on_opening: told in words of what has just gone wrong.
            continues: the run of this process that this one follows.
            counts: of the process, to go on with; None: new ones.

        Raises:
            OSError: the folder cannot be written.
        """
        self.clock = SystemClock()
        self._settings = settings
        self._on_event = on_event
        self._on_opening = on_opening
        self.counts = counts if counts is not None else Counts()
        self.streams = list(settings.streams)
        now = self.clock.now()
        self.run = run_name(now, secrets.token_hex(3))
        self.host = socket.gethostname()
        folder = settings.journal_folder / self.run
        durable.make_directories(folder, below=settings.journal_folder)
        self._lock = durable.Lock(folder / RUN_LOCK, holder="another recorder writes this run")
        self.journal = Journal(folder, header=self._header, settings=settings.journal)
        self.journal.start()
        self._monitor = Monitor(listed, MonitorState(now=now))
        self._monitor_faults = 0
        self._pairing = Pairing(REMEMBERED) if settings.copies > 1 else None
        self._identity = Identity(listed, {})
        """Of frames the journal did not take, which the monitor must not see."""
        self._closed = False
        self.counters = Counters()
        self.fact(
            RunStarted(
                run=self.run,
                host=self.host,
                pid=pid,
                recorder_version=__version__,
                venue=settings.venue,
                network=settings.network,
                urls=settings.urls,
                streams=self.streams,
                beside=beside,
                continues=continues,
                quality=settings.quality,
            )
        )

    @property
    def streams(self) -> list[Stream]:
        """
        What is asked for now; the header of each new segment lists it. Replaced as a whole, never changed.
        """
        return self._streams

    @streams.setter
    def streams(self, streams: list[Stream]) -> None:
        self._streams = streams
        self.counts.asked_for(streams)

    @property
    def monitor_faults(self) -> int:
        """
        How often the live monitor has failed: what it says may be wrong from then on.
        """
        return self._monitor_faults

    def flows(self) -> list[FlowState]:
        """
        The live monitor's view of each stream; to look at, not to change.
        """
        return self._monitor.flows_of(self.run)

    def connections(self) -> list[ConnectionState]:
        """
        Likewise, of each connection.
        """
        return self._monitor.connections_of(self.run)

    def _header(self) -> SegmentHeader:
        return SegmentHeader(
            format=FORMAT_VERSION,
            run=self.run,
            host=self.host,
            recorder_version=__version__,
            venue=self._settings.venue,
            network=self._settings.network,
            streams=self.streams,
            quality=self._settings.quality,
        )

    def frame(self, connection: int, attempt: int, payload: bytes) -> tuple[int, Peek, Stream | None]:
        """
        Take one websocket message. Returns its receive time, what it is, and the stream it belongs to.
        """
        now = self.clock.now()
        seq = self.journal.append(EntryKind.FRAME, connection=connection, attempt=attempt, recv_ts=now, payload=payload)
        counters = self.counters
        counters.frames += 1
        counters.bytes += len(payload)
        seen = peek(payload)
        if seen.ts is not None and seen.market_name is not None and 0 < seen.ts < MAX_TS_MS:
            latencies = counters.latency_ms.get(connection)
            if latencies is None:
                latencies = counters.latency_ms[connection] = []
            latencies.append(now / 1e6 - seen.ts)
        if not seq:
            # Not kept, so not received: the monitor must not take it for a fill or a book that is there. The session
            # must, or it would take our slow disk for a silent venue.
            return now, seen, self._stream(seen)
        if self.journal.named is not None:
            self._fold_overflow(seq, now)
        entry = Entry(EntryKind.FRAME, connection, attempt, seq, now, payload, self.run)
        duplicate = False
        if self._pairing is not None and seen.kind is FrameKind.DATA:
            duplicate, _ = self._pairing.frame(entry, seen)
        verdict = self._fold(entry, seen, duplicate=duplicate)
        stream = verdict.resolution.stream if verdict is not None else None
        if self._pairing is not None and stream is None and seen.kind is FrameKind.DATA and not duplicate:
            # As the seal does: it makes no row. And nothing that nobody asked for must fill our memory.
            self._pairing.unplaced(self.run, connection, payload)
        self.counts.frame(connection, now, payload, seen, stream)
        return now, seen, stream

    def _stream(self, seen: Peek) -> Stream | None:
        if seen.channel is None:
            return None
        return self._identity.resolve(seen.channel, seen.market_name, self.streams).stream

    def fact(self, fact: Fact, *, connection: int = NO_CONNECTION, attempt: int = 0) -> int:
        """
        Record something about ourselves. Returns its time.
        """
        now, _ = self._append(EntryKind.FACT, connection, attempt, encode_fact(fact))
        self.counts.fact(fact, connection, now)
        return now

    def numbered(self, fact: Fact) -> int:
        """
        As `fact`. Returns the number of its entry; 0 if the queue was too full for it.
        """
        now, seq = self._append(EntryKind.FACT, NO_CONNECTION, 0, encode_fact(fact))
        self.counts.fact(fact, NO_CONNECTION, now)
        return seq

    def alive(self) -> int:
        """
        The entry of each second: bounds what a crash can hide, and clocks the monitor. Returns its time.
        """
        now, _ = self._append(EntryKind.ALIVE, NO_CONNECTION, 0, b"")
        return now

    def _append(self, kind: EntryKind, connection: int, attempt: int, payload: bytes) -> tuple[int, int]:
        now = self.clock.now()
        seq = self.journal.append(kind, connection=connection, attempt=attempt, recv_ts=now, payload=payload)
        if seq:
            if self.journal.named is not None:
                self._fold_overflow(seq, now)
            entry = Entry(kind, connection, attempt, seq, now, payload, self.run)
            if self._pairing is not None and kind is EntryKind.FACT:
                self._pairing.fact(entry)
            self._fold(entry)
        return now, seq

    def _fold_overflow(self, seq: int, now: int) -> None:
        overflow, self.journal.named = self.journal.named, None
        if overflow is not None:
            self.counts.fact(overflow, NO_CONNECTION, now)
            self._fold(Entry(EntryKind.FACT, NO_CONNECTION, 0, seq - 1, now, encode_fact(overflow), self.run))

    def _fold(self, entry: Entry, seen: Peek | None = None, *, duplicate: bool = False) -> Verdict | None:
        """
        The live monitor's step; the entry is in the journal, whatever comes of this.
        """
        try:
            verdict = self._monitor.step(entry, seen, duplicate=duplicate)
            if self._monitor.events or self._monitor.openings:
                self._tell()
        except Exception as error:
            self._monitor_faults += 1
            if self._monitor_faults == 1:
                # Once: a fault that comes with each frame would fill the log and the journal.
                log.exception("the live monitor failed at entry %d; recording goes on", entry.seq)
                words = printable(f"{type(error).__name__}: {error}, at entry {entry.seq}")
                self.fact(JobFailed("live monitor", words))
            if seen is not None and seen.channel is not None:
                return Verdict(self._identity.resolve(seen.channel, seen.market_name, self.streams), 0)
            return None
        return verdict

    def _tell(self) -> None:
        openings, events = list(self._monitor.openings), list(self._monitor.events)
        # Emptied first: whoever is told may fail.
        self._monitor.openings.clear()
        self._monitor.events.clear()
        for opening in openings:
            self._on_opening(opening)
        for event in events:
            self.counts.event(event, self._carried(event))
            self._on_event(event)

    def _carried(self, event: Event) -> list[Stream]:
        """
        What an event of a whole connection, or of all of us, concerns.
        """
        if event.symbol is not None:
            return []
        if event.connection is None:
            return self.streams
        return [flow.stream for flow in self.flows() if flow.connection == event.connection]

    def take_counters(self) -> Counters:
        """
        Counts since the last call.
        """
        counters, self.counters = self.counters, Counters()
        return counters

    def stop(self, reason: str) -> None:
        """
        Write the run's last entry, and let the journal commit what is left: `closed` tells when it has.
        """
        self.fact(RunStopped(reason))
        self.journal.close(0)

    def closed(self) -> bool:
        """
        Whether everything is committed, after `stop`; the run's lock is then free, and its hours may be sealed.
        """
        if not self._closed and self.journal.close(0):
            self._closed = True
            self._lock.release()
        return self._closed
