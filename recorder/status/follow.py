"""
The status of a recorder from outside: its journal is followed, and folded as it folds it itself.

The recorder is not asked, and does not notice. Where none is at work, the end of the last run's journal is read, once:
what stands there is how things were.
"""

from pathlib import Path

import msgspec

from recorder import __version__
from recorder.clock import wall_ns
from recorder.journal.names import is_run_name, run_started
from recorder.journal.reader import run_segments
from recorder.journal.tail import Tail
from recorder.lake.layout import JOURNAL
from recorder.lake.root import Binding, read_binding
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
from recorder.status.presence import live_runs, process_of
from recorder.status.report import (
    FORMAT,
    JournalStatus,
    ProcessStatus,
    Reloading,
    Status,
    connection_statuses,
    problems,
    stream_statuses,
)
from recorder.status.storage import Storage, Stored
from recorder.venue.markets import market_list
from recorder.venue.protocol import peek

LOOK_BACK_S = 90.0
"""Of the journal that is read at first: enough to learn a cadence."""
DISK_LOOK_NS = 30 * SECOND_NS
PASS = 20_000
"""Entries folded between two looks at the clock, so that a caller can show how far it is."""


class Follower:
    """
    One root; the newest run that is alive, else the newest there is.
    """

    def __init__(self, root: Path, *, look_back_s: float = LOOK_BACK_S) -> None:
        """
        Raises:
            RootError: not a data root.
        """
        self._root = root
        self._binding: Binding = read_binding(root)
        self._look_back_ns = int(look_back_s * SECOND_NS)
        self._storage = Storage(root)
        self._stored: Stored | None = None
        self._stored_at = 0
        self._run: _Run | None = None
        self._alive: list[str] = []

    @property
    def behind(self) -> bool:
        """
        Whether there may be more to read at once: the last `advance` did not reach the end.
        """
        return self._run is not None and self._run.behind

    def advance(self) -> None:
        """
        Take in what is new.

        Raises:
            OSError: the disk.
        """
        self._alive = live_runs(self._root)
        name = self._alive[-1] if self._alive else _newest(self._root)
        if self._run is None or (name is not None and name != self._run.name):
            if self._run is not None:
                self._run.close()
            self._run = _Run(self._root, name, self._binding, self._look_back_ns) if name is not None else None
        if self._run is not None:
            self._run.advance()

    def close(self) -> None:
        """
        Let go of the files.
        """
        if self._run is not None:
            self._run.close()

    def status(self) -> Status:
        """
        How things stand, after `advance`.

        Raises:
            OSError: the disk.
        """
        now = wall_ns()
        alive = bool(self._alive)
        if self._stored is None or abs(now - self._stored_at) > DISK_LOOK_NS:
            self._stored = self._storage.look(now, alive=alive)
            self._stored_at = now
        run, stored = self._run, self._stored
        # A run that is alive has its own clock, which the wall's may differ from.
        at = run.now(now) if run is not None and alive else now
        flows, connections, counts = run.seen() if run is not None else ([], [], Counts())
        asked = run.streams if run is not None else []
        streams = stream_statuses(asked, flows, counts, now=at)
        committed = run.last_ts if run is not None else 0
        telemetry = run.telemetry if run is not None and alive else None
        journal = JournalStatus(
            committed_ts=committed or None,
            commit_age_s=round(max(at - committed, 0) / SECOND_NS, 3) if committed else None,
            queued_bytes=None,
            commit_p99_ms=telemetry.commit_p99_ms if telemetry is not None else None,
            durable_p99_ms=telemetry.durable_p99_ms if telemetry is not None else None,
            written_bytes=None,
            bytes=stored.journal_bytes,
            segments=stored.segments,
            dropped=counts.dropped,
            write_failures=counts.write_failures,
        )
        seal = stored.seal_status(now, failed=run.seal_failed if run is not None else "")
        paused_since = run.paused_since if run is not None and alive else None
        paused = at - paused_since if paused_since is not None else None
        stopping, coming = problems(streams, journal, stored.disk, seal, paused=paused)
        if not alive:
            # How much came in the last seconds before it ended is no rate.
            left = {"state": "down", "why": "no recorder is at work", "rate": 0.0}
            streams = [msgspec.structs.replace(stream, **left) for stream in streams]
            stopping = [_absence(run, now)]
        process = process_of(self._root, run.name) if run is not None and alive else None
        return Status(
            format=FORMAT,
            version=run.version if run is not None and run.version else __version__,
            at_ts=at,
            root=str(self._root),
            venue=self._binding.venue,
            network=self._binding.network,
            run=run.name if run is not None else None,
            host=run.host if run is not None else "",
            recording=alive,
            ready=alive and not stopping,
            problems=stopping + coming,
            streams=streams,
            connections=connection_statuses(connections, flows, counts, now=at) if alive else [],
            journal=journal,
            disk=stored.disk,
            seal=seal,
            process=ProcessStatus(
                pid=process.pid if process is not None else None,
                started_ts=run.started if run is not None else None,
                rss_bytes=telemetry.rss_bytes if telemetry is not None else None,
                cpu_s=None,
                loop_lag_p99_ms=telemetry.loop_lag_p99_ms if telemetry is not None else None,
                clock_offset_s=telemetry.clock_offset_ns / SECOND_NS if telemetry is not None else None,
            ),
            recent=list(counts.recent)[::-1],
            reload=run.reload if run is not None else None,
            beside=[name for name in self._alive if run is not None and name != run.name],
            paused_since=paused_since,
        )


def _newest(root: Path) -> str | None:
    journal = root / JOURNAL
    if not journal.is_dir():
        return None
    return max((folder.name for folder in journal.iterdir() if is_run_name(folder.name)), default=None)


def _absence(run: "_Run | None", now: int) -> str:
    """
    Why nobody records, in words.
    """
    if run is None or not run.last_ts:
        return "no recorder is at work, and none has recorded anything yet: start one with `drift-recorder run`"
    ago = _for_long((now - run.last_ts) / SECOND_NS)
    how = f"stopped ({run.stopped})" if run.stopped else "died, or was killed,"
    return f"no recorder is at work: the last one {how} {ago} ago; start one with `drift-recorder run`"


def _for_long(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


class _Run:
    """
    One run, as far as its journal was read.
    """

    def __init__(self, root: Path, name: str, binding: Binding, look_back_ns: int) -> None:
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
        newest = max((segment.start for segment in run_segments(folder)), default=0)
        self._tail = Tail(folder, since=newest - look_back_ns)
        self._listed = market_list(binding.network)
        self._monitor: Monitor | None = None
        self._counts = Counts()
        self._header: SegmentHeader | None = None

    def close(self) -> None:
        self._tail.close()

    def now(self, wall: int) -> int:
        """
        The run's own time: its last entry is of just now, or it stands still.
        """
        return max(wall, self.last_ts)

    def seen(self) -> tuple[list[FlowState], list[ConnectionState], Counts]:
        if self._monitor is None:
            return [], [], self._counts
        return self._monitor.flows_of(self.name), self._monitor.connections_of(self.name), self._counts

    def advance(self) -> None:
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
            for event in monitor.events:
                counts.event(event, self._carried(event))
            monitor.events.clear()
        monitor.openings.clear()

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
