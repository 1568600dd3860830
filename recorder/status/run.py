"""
One run from outside, as far as its journal was read: folded as the recorder folds it itself.
"""

from pathlib import Path

import msgspec

from recorder.journal.names import run_started
from recorder.journal.tail import Tail
from recorder.lake.layout import JOURNAL
from recorder.lake.root import Binding
from recorder.quality.counts import Counts
from recorder.quality.monitor import Monitor
from recorder.quality.state import ConnectionState, FlowState, MonitorState
from recorder.records import (
    SECOND_NS,
    AnyFact,
    DiskFreed,
    DiskFull,
    Entry,
    EntryKind,
    Event,
    JobFailed,
    Reloaded,
    Requested,
    RunStarted,
    RunStopped,
    SegmentHeader,
    Stream,
    Telemetry,
    decode_fact,
)
from recorder.status.report import LEFT, Reloading, RunStatus, stopping, stream_statuses
from recorder.venue.markets import market_list
from recorder.venue.protocol import peek

PASS = 20_000
"""Entries folded between two looks at the clock, so that a caller can show how far it is."""


class Followed:
    """
    The run.
    """

    def __init__(self, root: Path, name: str, binding: Binding, *, since: int) -> None:
        """
        Args:
            root: of the data.
            name: of the run.
            binding: of the root.
            since: ns; what was written long before is not read.
        """
        self.name = name
        self.streams: list[Stream] = []
        self.version = self.host = ""
        self.started = run_started(name)
        self.last_ts = 0
        self.telemetry: Telemetry | None = None
        self.stopped = self.seal_failed = ""
        self.paused_since: int | None = None
        self.reload: Reloading | None = None
        self.behind = False
        folder = root / JOURNAL / name
        self._tail = Tail(folder, since=since)
        self._listed = market_list(binding.network)
        self._monitor: Monitor | None = None
        self._counts = Counts()
        self._header: SegmentHeader | None = None
        self._over = False

    def close(self) -> None:
        """
        Let go of the file.
        """
        self._tail.close()

    def now(self, wall: int) -> int:
        """
        The run's own time: its last entry is of just now, or it stands still.
        """
        return max(wall, self.last_ts)

    def seen(self) -> tuple[list[FlowState], list[ConnectionState], Counts]:
        """
        What the monitor knows, and what was counted.
        """
        if self._monitor is None:
            return [], [], self._counts
        return self._monitor.flows_of(self.name), self._monitor.connections_of(self.name), self._counts

    def end(self) -> None:
        """
        It is over, and has been read to its end: what went on then is told as well, once.
        """
        if self._monitor is not None and not self._over:
            self._over = True
            self._monitor.finish(self.last_ts, closed=False)
            self._tell()

    def told(self, now: int, *, alive: bool, down_s: float | None) -> RunStatus:
        """
        What it had, for a status that is another run's.

        Args:
            now: ns.
            alive: it is at work.
            down_s: for how long nobody recorded after it.
        """
        flows, _, counts = self.seen()
        at = self.now(now) if alive else now
        streams = stream_statuses(self.streams, flows, counts, now=at, with_prices=False)
        wrong: list[str] = []
        if alive:
            paused = at - self.paused_since if self.paused_since is not None else None
            wrong = stopping(streams, paused=paused, commit_age_s=max(at - self.last_ts, 0) / SECOND_NS)
        else:
            streams = [msgspec.structs.replace(stream, **LEFT) for stream in streams]
        return RunStatus(
            run=self.name,
            alive=alive,
            started_ts=self.started,
            last_ts=self.last_ts or None,
            stopped=self.stopped,
            down_s=down_s,
            problems=wrong,
            streams=streams,
        )

    def advance(self) -> None:
        """
        Take in what is new, up to PASS entries or a few more.

        Raises:
            OSError: the disk.
        """
        taken, self.behind = 0, False
        while entries := self._tail.take():
            header = self._tail.header
            if header is not None and header is not self._header:
                self._header = header
                self._asks_for(header.streams)
                self.version, self.host = header.recorder_version, header.host
            for entry in entries:
                self._fold(entry)
            taken += len(entries)
            if taken >= PASS:
                self.behind = True
                return

    def _asks_for(self, streams: list[Stream]) -> None:
        self.streams = list(streams)
        self._counts.asked_for(self.streams)

    def _fold(self, entry: Entry) -> None:
        self.last_ts = entry.recv_ts
        if self._monitor is None:
            self._monitor = Monitor(self._listed, MonitorState(now=entry.recv_ts))
            if self._tail.header is not None:
                self._monitor.adopt(self._tail.header)
        monitor, counts = self._monitor, self._counts
        if entry.kind == EntryKind.FRAME:
            seen = peek(entry.payload)
            verdict = monitor.step(entry, seen)
            stream = verdict.resolution.stream if verdict is not None else None
            counts.frame(entry.connection, entry.recv_ts, entry.payload, seen, stream)
        else:
            monitor.step(entry)
            if entry.kind == EntryKind.ALIVE:
                counts.second()
            elif entry.kind == EntryKind.FACT:
                self._hear(entry)
        if monitor.events:
            self._tell()
        monitor.openings.clear()

    def _tell(self) -> None:
        if self._monitor is not None:
            for event in self._monitor.events:
                self._counts.event(event, self._carried(event))
            self._monitor.events.clear()

    def _carried(self, event: Event) -> list[Stream]:
        if event.symbol is not None or self._monitor is None:
            return []
        if event.connection is None:
            return self.streams
        return [f.stream for f in self._monitor.flows_of(self.name) if f.connection == event.connection]

    def _hear(self, entry: Entry) -> None:
        try:
            fact: AnyFact = decode_fact(entry.payload)
        except msgspec.DecodeError:
            return  # of a later version
        self._counts.fact(fact, entry.connection, entry.recv_ts)
        match fact:
            case RunStarted():
                self._asks_for(fact.streams)
            case Requested() if fact.op == "subscribe" and fact.stream not in self.streams:
                self._asks_for([*self.streams, fact.stream])
            case Reloaded():
                self.reload = Reloading(entry.recv_ts, taken=True, words=fact.words)
                self._asks_for([s for s in [*self.streams, *fact.added] if s not in fact.removed])
            case Telemetry():
                self.telemetry = fact
                if fact.paused is not None:
                    # What began it may lie further back than was read.
                    self.paused_since = (self.paused_since or entry.recv_ts) if fact.paused else None
            case DiskFull():
                self.paused_since = entry.recv_ts
            case DiskFreed():
                self.paused_since = None
            case RunStopped():
                self.stopped = fact.reason
            case JobFailed() if fact.job == "reload":
                self.reload = Reloading(entry.recv_ts, taken=False, words=fact.error)
            case JobFailed() if fact.job == "seal":
                self.seal_failed = fact.error
            case _:
                pass
