"""
Every judgement about holes: one fold over journal entries. Pure.

Entries come in the order of (`recv_ts`, run, seq), of one run (live) or of all (at seal). The clock is the entries' own
time, advanced each second by `alive` entries. `events` collects what has ended; what is still open is asked for with
`open_events`. `state` is the carry: a monitor made from it goes on as if it had never stopped.
"""

from typing import Any

import msgspec

from recorder.quality.events import Tallies, build
from recorder.quality.identity import Identity, Resolution
from recorder.quality.state import (
    ConnectionState,
    FillState,
    FlowState,
    HourBeats,
    MissingFills,
    MonitorState,
    Outage,
    RunState,
)
from recorder.records import (
    HOUR_NS,
    SECOND_NS,
    AnyFact,
    Cause,
    ClockStepped,
    Connected,
    ConnectFailed,
    Disconnected,
    Entry,
    EntryKind,
    Event,
    Flag,
    JobFailed,
    LoopStalled,
    Moved,
    NotAcknowledged,
    Overflowed,
    QualitySettings,
    Rejected,
    Requested,
    RunStarted,
    RunStopped,
    SegmentHeader,
    Stream,
    WriteFailed,
    decode_fact,
)
from recorder.venue.markets import MarketList
from recorder.venue.protocol import BOOK_CHANNELS, FrameKind, Peek

DEAD_AFTER_NS = 5 * SECOND_NS
"""A run without an entry for this long, while another goes on, is dead or stands still."""
MAX_PENDING = 4096
MAX_JUDGED = 256
MAX_OUTAGES = 64


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """
    What the monitor says of one data frame.
    """

    resolution: Resolution
    flags: int


class Monitor:
    """
    The fold.
    """

    def __init__(self, listed: MarketList, state: MonitorState) -> None:
        self._state = state
        self._listed = listed
        self._runs = {r.run: r for r in state.runs}
        self._connections = {(c.run, c.connection): c for c in state.connections}
        self._flows = {(f.run, f.stream): f for f in state.flows}
        self._identity = Identity(listed, state.identity)
        self._tallies = Tallies(state.tallies)
        self._beats = {(b.run, b.connection): b for b in state.beats}
        self._headers: dict[str, SegmentHeader] = {}
        self._resolved: dict[tuple[str, str, str | None], Resolution] = {}
        self.events: list[Event] = []
        """What has ended since it was last cleared."""
        self.openings: list[str] = []
        """What has just opened, in words, for a live log."""

    # ---- entries in

    def adopt(self, header: SegmentHeader) -> None:
        """
        Learn a run from a segment, for entries that come without its start.
        """
        self._headers[header.run] = header

    def adopt_all(self, other: "Monitor") -> None:
        """
        Learn the runs another monitor knows.
        """
        self._headers.update(other._headers)

    def step(self, entry: Entry, seen: Peek | None = None, *, duplicate: bool = False) -> Verdict | None:
        """
        Fold one entry.

        Args:
            entry: not older than the one before.
            seen: `protocol.peek` of the payload; for frames only.
            duplicate: the same frame was heard before on another connection or run.

        Returns:
            For a data frame: its market, its stream, and the flags its row bears. Else None.
        """
        self._arrive(entry)
        if entry.kind == EntryKind.FRAME and seen is not None:
            return self._frame(entry, seen, duplicate=duplicate)
        if entry.kind == EntryKind.FACT:
            self._fact(entry)
        self.clock(entry.recv_ts)
        return None

    def _arrive(self, entry: Entry) -> None:
        now = entry.recv_ts
        if now // HOUR_NS != self._state.now // HOUR_NS:
            self.turn_hour(now - now % HOUR_NS)
        self._state.now = now
        run = self._runs.get(entry.run)
        if run is None:
            run = self._meet_run(entry)
        if run.last_seq and entry.seq > run.last_seq + 1:
            self._seq_jump(run, entry)
        run.last_seq = entry.seq
        run.last_ts = now

    def _meet_run(self, entry: Entry) -> RunState:
        header = self._headers.get(entry.run)
        run = RunState(
            run=entry.run,
            streams=list(header.streams) if header is not None else [],
            settings=header.quality if header is not None else QualitySettings(),
            started=entry.recv_ts,
            last_ts=entry.recv_ts,
            last_seq=entry.seq - 1,
        )
        self._runs[entry.run] = run
        self._resolved.clear()
        if entry.seq > 1:
            # Met in the middle: what it asked for before is known from the header only.
            for stream in run.streams:
                self._expect(run, stream, connection=-1, now=entry.recv_ts, fresh=0)
        return run

    def _seq_jump(self, run: RunState, entry: Entry) -> None:
        """
        Numbers are missing. If we dropped them by name, the next entry is the fact that says so.
        """
        if entry.kind == EntryKind.FACT:
            fact = _decode(entry)
            if isinstance(fact, Overflowed) and fact.first_seq <= run.last_seq + 1 and fact.last_seq >= entry.seq - 1:
                return
        lost = entry.seq - run.last_seq - 1
        self._emit(
            "journal_damaged",
            cause="recorder",
            start=run.last_ts,
            end=entry.recv_ts,
            run=run.run,
            missing=lost,
            evidence=f"{lost} journal entries, {run.last_seq + 1} to {entry.seq - 1}, are missing or unreadable",
        )

    # ---- frames

    def _frame(self, entry: Entry, seen: Peek, *, duplicate: bool) -> Verdict | None:
        now = entry.recv_ts
        connection = self._connections.get((entry.run, entry.connection))
        if connection is None or not connection.up:
            connection = self._meet_connection(entry)
        connection.last_frame = now
        kind = seen.kind
        if kind == FrameKind.DATA:
            if connection.outage_start is not None:
                self._end_outage(connection, now)
            return self._data(entry, seen, duplicate=duplicate)
        if kind == FrameKind.HEARTBEAT:
            self._heartbeat(connection, now)
        elif kind == FrameKind.UNDECODABLE:
            self.find("undecodable", entry, cause="venue", evidence=seen.text)
        elif kind == FrameKind.UNKNOWN:
            self.find("schema_drift", entry, cause="venue", evidence=f"{seen.text}: {seen.name!r}")
        if connection.outage_start is not None and not self._has_books(connection):
            self._end_outage(connection, now)
        return None

    def _meet_connection(self, entry: Entry) -> ConnectionState:
        """
        Frames come on a connection we did not see open.
        """
        key = (entry.run, entry.connection)
        connection = self._connections.get(key) or ConnectionState(entry.run, entry.connection)
        connection.attempt = entry.attempt
        self._up(connection, entry.recv_ts)
        self._connections[key] = connection
        return connection

    def _heartbeat(self, connection: ConnectionState, now: int) -> None:
        beats = self._beats_of(connection)
        beats.longest_ns = max(beats.longest_ns or 0, now - connection.last_heartbeat)
        beats.heartbeats += 1
        self._end_heartbeat_gap(connection, now, "the next heartbeat")
        connection.last_heartbeat = now

    def _beats_of(self, connection: ConnectionState) -> HourBeats:
        key = (connection.run, connection.connection)
        beats = self._beats.get(key)
        if beats is None:
            beats = self._beats[key] = HourBeats(connection.run, connection.connection)
        return beats

    def _end_heartbeat_gap(self, connection: ConnectionState, now: int, ended_by: str) -> None:
        run = self._runs[connection.run]
        interval = now - connection.last_heartbeat
        connection.gap_open = False
        if interval > run.settings.heartbeat_gap_s * SECOND_NS:
            self._emit(
                "heartbeat_gap",
                cause="unknown",
                start=connection.last_heartbeat,
                end=now,
                run=connection.run,
                connection=connection.connection,
                evidence=f"{interval / 1e9:.1f} s without a heartbeat, ended by {ended_by}; "
                f"last frame of any kind {(now - connection.last_frame) / 1e9:.1f} s before that",
            )

    def _data(self, entry: Entry, seen: Peek, *, duplicate: bool) -> Verdict:
        run = self._runs[entry.run]
        key = (entry.run, seen.name, seen.market_name)
        resolution = self._resolved.get(key)
        if resolution is None:
            resolution = self._resolve(entry, seen, run)
            if len(self._resolved) < MAX_PENDING:
                self._resolved[key] = resolution
        stream = resolution.stream
        if stream is None:
            self.find(
                "unrequested",
                entry,
                cause="venue",
                symbol=resolution.symbol,
                channel=seen.name,
                evidence="data of a stream this run did not ask for",
            )
            return Verdict(resolution, 0)
        flow = self._flows.get((entry.run, stream))
        if flow is None:
            flow = self._expect(run, stream, connection=entry.connection, now=entry.recv_ts, fresh=0)
        flags = flow.fresh
        if flow.silent:
            self._end_silence(flow, entry.recv_ts, "the next frame", first_slot=flow.last_slot, last_slot=seen.slot)
            flags |= Flag.FIRST_AFTER_GAP
        elif stream.channel in BOOK_CHANNELS and self._overdue(flow, entry.recv_ts):
            flow.silent = True
            self._end_silence(flow, entry.recv_ts, "the next frame", first_slot=flow.last_slot, last_slot=seen.slot)
            flags |= Flag.FIRST_AFTER_GAP
        flow.fresh = 0
        flow.last = entry.recv_ts
        flow.last_slot = seen.slot
        flow.connection = entry.connection
        if seen.fill_id is not None and not duplicate and seen.channel is not None and seen.channel.family == "trades":
            flags |= self._fill(entry, seen, seen.fill_id, resolution.symbol)
        return Verdict(resolution, flags)

    def _resolve(self, entry: Entry, seen: Peek, run: RunState) -> Resolution:
        assert seen.channel is not None
        index = f"{seen.channel.market_type}:{seen.channel.market_index}"
        before = self._state.identity.get(index)
        resolution = self._identity.resolve(seen.channel, seen.market_name, run.streams)
        if self._state.identity.get(index) != before:
            # Trades of this index have a name now.
            self._resolved.clear()
        if resolution.renamed is not None and f"{index}={resolution.symbol}" not in self._state.conflicts:
            self._state.conflicts.append(f"{index}={resolution.symbol}")
            self._emit(
                "identity_conflict",
                cause="unknown",
                start=entry.recv_ts,
                end=entry.recv_ts,
                run=entry.run,
                connection=entry.connection,
                symbol=resolution.symbol,
                channel=seen.name,
                evidence=f"the book calls {index} {resolution.symbol}, the shipped list calls it {resolution.renamed}: "
                "is `network` right? The book's name is used",
            )
        return resolution

    # ---- fills

    def _fill(self, entry: Entry, seen: Peek, fill_id: int, symbol: str) -> int:
        assert seen.channel is not None
        now = entry.recv_ts
        key = f"{seen.channel.market_type}:{seen.channel.market_index}"
        fills = self._state.fills.get(key)
        if fills is None:
            fills = FillState(symbol, fill_id, fill_id, now, seen.slot, hour_first=fill_id, hour_last=fill_id)
            self._state.fills[key] = fills
            return 0
        fills.symbol = symbol
        fills.hour_first = fill_id if fills.hour_first is None else min(fills.hour_first, fill_id)
        fills.hour_last = fill_id if fills.hour_last is None else max(fills.hour_last, fill_id)
        if fill_id > fills.highest:
            if fill_id > fills.highest + 1:
                fills.pending.append(
                    MissingFills(
                        fills.highest + 1,
                        fill_id - 1,
                        fills.highest_ts,
                        now,
                        fills.highest_slot,
                        seen.slot,
                        entry.run,
                        entry.connection,
                    )
                )
                if len(fills.pending) > MAX_PENDING:
                    self._judge(key, fills, fills.pending.pop(0))
            fills.highest, fills.highest_ts, fills.highest_slot = fill_id, now, seen.slot
            return 0
        if fill_id < fills.lowest:
            # Before our first: the venue sends the newest transaction of a slot first.
            fills.lowest = fill_id
            return 0
        if _fill_in(fills.pending, fill_id) or any(low <= fill_id <= high for low, high in fills.judged):
            return 0
        fills.hour_repeated += 1
        self._tallies.add(
            "trade_repeat",
            now,
            cause="venue",
            run=entry.run,
            connection=entry.connection,
            symbol=symbol,
            channel="trades",
            evidence="fill ids that had come before",
        )
        return Flag.REPEAT

    def _judge(self, key: str, fills: FillState, missing: MissingFills) -> None:
        count = missing.last - missing.first + 1
        fills.hour_missing += count
        fills.judged.append((missing.first, missing.last))
        del fills.judged[:-MAX_JUDGED]
        cause, why = self._cause_between(missing.left_ts, missing.right_ts)
        self._emit(
            "trade_gap",
            cause=cause,
            start=missing.left_ts,
            end=missing.right_ts,
            run=missing.run,
            connection=missing.connection,
            symbol=fills.symbol,
            channel="trades",
            missing=count,
            first_slot=missing.left_slot,
            last_slot=missing.right_slot,
            evidence=f"fill ids {missing.first} to {missing.last} of {key} never came; {why}",
        )

    def _cause_between(self, start: int, end: int) -> tuple[Cause, str]:
        for outage in reversed(self._state.outages):
            if outage.start <= end and outage.end >= start:
                return outage.cause, outage.why
        return "venue", "the connection was up all the while"

    # ---- the clock

    def clock(self, now: int) -> None:
        """
        Time has come to `now`: open what is overdue, judge what has waited long enough.
        """
        for run in list(self._runs.values()):
            if not run.stopped and now - run.last_ts > DEAD_AFTER_NS:
                self._bury(run)
        for connection in self._connections.values():
            if connection.up and not connection.gap_open:
                limit_s = self._runs[connection.run].settings.heartbeat_gap_s
                if now - connection.last_heartbeat > limit_s * SECOND_NS:
                    connection.gap_open = True
                    self.openings.append(f"connection {connection.connection}: no heartbeat for {limit_s:g} s")
        for flow in self._flows.values():
            if not flow.silent and flow.stream.channel in BOOK_CHANNELS and self._overdue(flow, now):
                flow.silent = True
                limit_s = self._runs[flow.run].settings.silent_after_s
                self.openings.append(f"{flow.stream.label()}: silent for {limit_s:g} s")
        for key, fills in self._state.fills.items():
            if fills.pending:
                wait_ns = max((r.settings.trade_wait_s for r in self._runs.values()), default=10.0) * SECOND_NS
                while fills.pending and now - fills.pending[0].right_ts > wait_ns:
                    self._judge(key, fills, fills.pending.pop(0))
        self.events += self._tallies.take_idle(now)

    def _overdue(self, flow: FlowState, now: int) -> bool:
        run = self._runs.get(flow.run)
        if run is None or run.stopped:
            return False
        connection = self._connections.get((flow.run, flow.connection))
        if connection is not None and not connection.up:
            return False
        return now - max(flow.last or 0, flow.since) > run.settings.silent_after_s * SECOND_NS

    def turn_hour(self, hour: int) -> None:
        """
        A new hour begins at `hour` ns: runs of like findings end, counts of the hour start again.
        """
        self._state.now = hour
        self.events += self._tallies.take_all()
        self._beats.clear()
        for connection in self._connections.values():
            connection.counted_to = hour
        for fills in self._state.fills.values():
            fills.hour_first = fills.hour_last = None
            fills.hour_missing = fills.hour_repeated = 0

    # ---- facts

    def _fact(self, entry: Entry) -> None:
        fact = _decode(entry)
        now = entry.recv_ts
        match fact:
            case RunStarted():
                self._run_started(fact, entry)
            case RunStopped():
                self._run_stopped(fact, entry)
            case Connected():
                self._connected(fact, entry)
            case ConnectFailed():
                self._connect_failed(fact, entry)
            case Disconnected():
                self._disconnected(fact, entry)
            case Requested():
                self._requested(fact, entry)
            case Moved():
                flow = self._flows.pop((entry.run, fact.stream), None)
                if flow is not None:
                    if flow.silent:
                        self._end_silence(flow, now, f"its move to connection {fact.to_connection}")
                    flow.connection = fact.to_connection
                    flow.since = now
                    flow.fresh |= Flag.MAYBE_INITIAL | Flag.FIRST_AFTER_GAP
                    self._flows[entry.run, fact.stream] = flow
            case NotAcknowledged():
                self._about_stream(
                    "not_acknowledged",
                    entry,
                    fact.stream.symbol,
                    fact.stream.channel,
                    start=fact.requested_ts,
                    evidence=f"no acknowledgement of {fact.stream.label()} in {fact.waited_s:.1f} s",
                )
            case Rejected():
                of = fact.stream.label() if fact.stream is not None else "a request that cannot be told from others"
                self._about_stream(
                    "rejected",
                    entry,
                    fact.stream.symbol if fact.stream is not None else None,
                    fact.stream.channel if fact.stream is not None else None,
                    start=now,
                    evidence=f"{of} was answered with: {fact.text}",
                )
            case Overflowed():
                self._outage(fact.first_ts, fact.last_ts, "recorder", "our journal queue was full")
                self._emit(
                    "overflow",
                    cause="recorder",
                    start=fact.first_ts,
                    end=fact.last_ts,
                    run=entry.run,
                    missing=fact.count,
                    evidence=f"the journal's queue was full: entries {fact.first_seq} to {fact.last_seq} "
                    f"({fact.bytes} bytes) were dropped",
                )
            case ClockStepped():
                self._about_recorder(
                    "clock_step",
                    entry,
                    start=min(fact.before_ts, fact.after_ts),
                    end=max(fact.before_ts, fact.after_ts),
                    cause="recorder",
                    evidence=f"the wall clock stepped by {fact.step_ns / 1e9:+.3f} s",
                )
            case WriteFailed():
                self._about_recorder(
                    "sync_failed",
                    entry,
                    evidence=f"{fact.operation} of {fact.segment} failed: {fact.error}; written again elsewhere",
                )
            case LoopStalled():
                self._about_recorder(
                    "loop_stall",
                    entry,
                    start=now - fact.stall_ns,
                    evidence=f"the event loop stood still for {fact.stall_ns / 1e9:.1f} s",
                )
            case JobFailed():
                self._about_recorder("job_failed", entry, evidence=f"{fact.job}: {fact.error}")
            case _:
                pass

    def _run_started(self, fact: RunStarted, entry: Entry) -> None:
        now = entry.recv_ts
        for run in list(self._runs.values()):
            if run.run != entry.run and run.run not in fact.beside:
                self._bury(run)
        self._emit(
            "recorder_started",
            cause="recorder",
            start=now,
            end=now,
            run=entry.run,
            evidence=f"drift-recorder {fact.recorder_version} on {fact.host}, pid {fact.pid}, "
            f"{len(fact.streams)} streams of {fact.venue} at {', '.join(fact.urls)}"
            + (f", beside {', '.join(fact.beside)}" if fact.beside else ""),
        )
        if self._state.down_since is not None:
            why = f"after: {self._state.stopped_by}" if self._state.stopped_by else "after a crash or kill"
            self._outage(self._state.down_since, now, "recorder", "the recorder was down")
            self._emit(
                "recorder_down",
                cause="recorder",
                start=self._state.down_since,
                end=now,
                evidence=f"no run was recording for {(now - self._state.down_since) / 1e9:.1f} s, {why}",
            )
            self._state.down_since = None
            self._state.stopped_by = None
        run = self._runs[entry.run]
        run.streams = list(fact.streams)
        run.settings = fact.quality
        run.started = now
        self._resolved.clear()

    def _run_stopped(self, fact: RunStopped, entry: Entry) -> None:
        now = entry.recv_ts
        run = self._runs[entry.run]
        self._emit(
            "recorder_stopped", cause="recorder", start=now, end=now, run=entry.run, evidence=f"stopped: {fact.reason}"
        )
        run.stopped = True
        self._state.stopped_by = fact.reason
        self._bury(run)

    def _bury(self, run: RunState) -> None:
        """
        A run has ended at its last entry: so have its connections and flows.
        """
        at = run.last_ts
        for flow in [f for f in self._flows.values() if f.run == run.run]:
            if flow.silent:
                self._end_silence(flow, at, "the end of the run")
            del self._flows[flow.run, flow.stream]
        for connection in [c for c in self._connections.values() if c.run == run.run]:
            if connection.up:
                self._count_up(connection, at)
                self._end_heartbeat_gap(connection, at, "the end of the run")
            if connection.outage_start is not None:
                self._end_outage(connection, at)
            del self._connections[connection.run, connection.connection]
        del self._runs[run.run]
        self._resolved.clear()
        if not self._runs:
            self._state.down_since = max(at, self._state.down_since or 0)
            self._state.configured = sorted(run.streams)

    def _connected(self, fact: Connected, entry: Entry) -> None:
        now = entry.recv_ts
        key = (entry.run, entry.connection)
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = ConnectionState(entry.run, entry.connection)
        connection.attempt = fact.attempt
        self._up(connection, now)
        self._emit(
            "connected",
            cause="recorder",
            start=now,
            end=now,
            run=entry.run,
            connection=entry.connection,
            evidence=f"attempt {fact.attempt} to {fact.url} in {fact.took_ms:.0f} ms"
            + ("" if fact.compressed else ", without compression"),
        )

    def _up(self, connection: ConnectionState, now: int) -> None:
        connection.up = True
        connection.last_frame = connection.last_heartbeat = connection.counted_to = now
        connection.gap_open = False
        connection.attempts_failed = 0

    def _count_up(self, connection: ConnectionState, now: int) -> None:
        if connection.up:
            self._beats_of(connection).up_ns += max(now - connection.counted_to, 0)
        connection.counted_to = now

    def _connect_failed(self, fact: ConnectFailed, entry: Entry) -> None:
        now = entry.recv_ts
        key = (entry.run, entry.connection)
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = ConnectionState(entry.run, entry.connection, last_frame=now)
        connection.attempts_failed += 1
        connection.attempt = fact.attempt
        if connection.outage_start is None:
            asked = [f.since for f in self._flows.values() if (f.run, f.connection) == key]
            connection.outage_start = min(asked, default=self._runs[entry.run].started)
            connection.outage_cause = fact.cause
            connection.outage_why = f"could not be made: {fact.error}"
        self._tallies.add(
            "connect_failed",
            now,
            cause=fact.cause,
            run=entry.run,
            connection=entry.connection,
            evidence=f"{fact.url}: {fact.error}",
        )

    def _disconnected(self, fact: Disconnected, entry: Entry) -> None:
        now = entry.recv_ts
        connection = self._connections.get((entry.run, entry.connection))
        if connection is None:
            return
        self._count_up(connection, now)
        for flow in self._flows.values():
            if flow.run == entry.run and flow.connection == entry.connection:
                if flow.silent:
                    self._end_silence(flow, now, "the end of the connection")
                flow.fresh |= Flag.FIRST_AFTER_GAP
        if connection.up:
            self._end_heartbeat_gap(connection, now, "the end of the connection")
        connection.up = False
        if connection.outage_start is None:
            connection.outage_start = connection.last_frame
            connection.outage_cause = fact.cause
            code = f", close code {fact.code} {fact.reason or ''}".rstrip() if fact.code is not None else ""
            connection.outage_why = f"{fact.why}{code}, after {fact.lived_s:.1f} s"
            self.openings.append(f"connection {connection.connection}: down: {connection.outage_why}")

    def _end_outage(self, connection: ConnectionState, now: int) -> None:
        assert connection.outage_start is not None
        self._outage(connection.outage_start, now, connection.outage_cause, connection.outage_why)
        self._emit(
            "disconnected",
            cause=connection.outage_cause,
            start=connection.outage_start,
            end=now,
            run=connection.run,
            connection=connection.connection,
            evidence=connection.outage_why,
        )
        connection.outage_start = None

    def _requested(self, fact: Requested, entry: Entry) -> None:
        run = self._runs[entry.run]
        if fact.op == "unsubscribe":
            flow = self._flows.get((entry.run, fact.stream))
            if flow is not None and flow.connection == entry.connection:
                if flow.silent:
                    self._end_silence(flow, entry.recv_ts, "an unsubscribe")
                del self._flows[entry.run, fact.stream]
            return
        if fact.stream not in run.streams:
            run.streams.append(fact.stream)
            self._resolved.clear()
        flow = self._flows.get((entry.run, fact.stream))
        if flow is None:
            fresh = Flag.FIRST_AFTER_GAP
            if fact.stream.channel in BOOK_CHANNELS:
                fresh |= Flag.MAYBE_INITIAL
            self._expect(run, fact.stream, connection=entry.connection, now=entry.recv_ts, fresh=fresh)
        else:
            connection = self._connections.get((flow.run, flow.connection))
            if not fact.why:
                flow.since = entry.recv_ts
            if connection is None or not connection.up or flow.connection == entry.connection:
                flow.connection = entry.connection
            if fact.stream.channel in BOOK_CHANNELS:
                flow.fresh |= Flag.MAYBE_INITIAL

    def _expect(self, run: RunState, stream: Stream, *, connection: int, now: int, fresh: int) -> FlowState:
        flow = FlowState(run.run, stream, connection, now, fresh=fresh)
        self._flows[run.run, stream] = flow
        return flow

    def _end_silence(
        self,
        flow: FlowState,
        now: int,
        ended_by: str,
        *,
        first_slot: int | None = None,
        last_slot: int | None = None,
    ) -> None:
        self.events.append(self._silence(flow, now, ended_by, first_slot=first_slot, last_slot=last_slot))
        flow.silent = False

    def _silence(
        self,
        flow: FlowState,
        now: int,
        ended_by: str,
        *,
        first_slot: int | None = None,
        last_slot: int | None = None,
    ) -> Event:
        connection = self._connections.get((flow.run, flow.connection))
        start = max(flow.last or 0, flow.since)
        alive = (
            f"heartbeats went on until {(now - connection.last_heartbeat) / 1e9:.1f} s before its end"
            if connection is not None
            else "on a connection not seen"
        )
        return build(
            "silent",
            cause="venue",
            start=start,
            end=max(now, start),
            run=flow.run,
            connection=flow.connection,
            symbol=flow.stream.symbol,
            channel=flow.stream.channel,
            first_slot=first_slot,
            last_slot=last_slot,
            evidence=f"no book for {(now - start) / 1e9:.1f} s, ended by {ended_by}; {alive}",
        )

    def _has_books(self, connection: ConnectionState) -> bool:
        return any(
            f.stream.channel in BOOK_CHANNELS
            for f in self._flows.values()
            if f.run == connection.run and f.connection == connection.connection
        )

    # ---- events out

    def find(
        self,
        kind: str,
        entry: Entry,
        *,
        cause: Cause,
        evidence: str,
        symbol: str | None = None,
        channel: str | None = None,
    ) -> None:
        """
        Count a finding about one frame; like ones become one event.
        """
        first = self._tallies.add(
            kind,
            entry.recv_ts,
            cause=cause,
            evidence=evidence,
            run=entry.run,
            connection=entry.connection,
            symbol=symbol,
            channel=channel,
        )
        if first:
            self.openings.append(f"connection {entry.connection}: {kind}: {symbol or ''} {evidence}")

    def _emit(self, kind: str, **fields: Any) -> None:
        self.events.append(build(kind, **fields))

    def _about_recorder(
        self,
        kind: str,
        entry: Entry,
        *,
        evidence: str,
        start: int | None = None,
        end: int | None = None,
        cause: Cause = "recorder",
    ) -> None:
        self._emit(
            kind,
            cause=cause,
            start=entry.recv_ts if start is None else start,
            end=entry.recv_ts if end is None else end,
            run=entry.run,
            evidence=evidence,
        )

    def _about_stream(
        self, kind: str, entry: Entry, symbol: str | None, channel: str | None, *, start: int, evidence: str
    ) -> None:
        self._emit(
            kind,
            cause="venue",
            start=start,
            end=entry.recv_ts,
            run=entry.run,
            connection=entry.connection,
            symbol=symbol,
            channel=channel,
            evidence=evidence,
        )

    def _outage(self, start: int, end: int, cause: Cause, why: str) -> None:
        self._state.outages.append(Outage(start, end, cause, why))
        del self._state.outages[:-MAX_OUTAGES]

    # ---- the end of an hour

    def hour_beats(self, at: int) -> dict[tuple[str, int], HourBeats]:
        """
        Heartbeats and time up of this hour's connections, up to `at`; by (run, connection).
        """
        for connection in self._connections.values():
            self._count_up(connection, at)
        return dict(self._beats)

    def streams(self) -> list[Stream]:
        """
        What the runs known now ask for, or the last one did; sorted.
        """
        if not self._runs:
            return self._state.configured
        return sorted({stream for run in self._runs.values() for stream in run.streams})

    def carriers(self) -> dict[Stream, set[tuple[str, int]]]:
        """
        The connections that carry each stream now, as (run, connection).
        """
        carriers: dict[Stream, set[tuple[str, int]]] = {}
        for flow in self._flows.values():
            carriers.setdefault(flow.stream, set()).add((flow.run, flow.connection))
        return carriers

    def fills(self) -> dict[str, FillState]:
        """
        Fill counters by `perp:0`.
        """
        return self._state.fills

    def state(self) -> MonitorState:
        """
        The carry. Equal folds give equal states, to the byte once encoded.
        """
        self._state.runs = [self._runs[key] for key in sorted(self._runs)]
        self._state.connections = [self._connections[key] for key in sorted(self._connections)]
        self._state.flows = [self._flows[key] for key in sorted(self._flows)]
        self._state.tallies = self._tallies.snapshot()
        self._state.beats = [self._beats[key] for key in sorted(self._beats)]
        return self._state

    def finish(self, at: int, *, closed: bool) -> None:
        """
        Put what is still open at `at` into `events`, as going on. The monitor is of no further use.

        Args:
            at: ns, not before the last entry.
            closed: no entry up to `at` can come any more, so a run without one is dead.
        """
        if closed:
            self.clock(at)
        self.events += self._tallies.take_all()
        open_events: list[Event] = []
        if self._state.down_since is not None and self._state.down_since < at:
            open_events.append(
                build(
                    "recorder_down",
                    cause="recorder",
                    start=self._state.down_since,
                    end=at,
                    evidence="no run was recording, "
                    + (f"after: {self._state.stopped_by}" if self._state.stopped_by else "after a crash or kill"),
                )
            )
        open_events += [
            self._silence(flow, at, "nothing yet")
            for flow in self._flows.values()
            if flow.silent or (flow.stream.channel in BOOK_CHANNELS and self._overdue(flow, at))
        ]
        open_events += [
            build(
                "disconnected",
                cause=connection.outage_cause,
                start=connection.outage_start,
                end=at,
                run=connection.run,
                connection=connection.connection,
                evidence=connection.outage_why,
            )
            for connection in self._connections.values()
            if connection.outage_start is not None
        ]
        self.events += [msgspec.structs.replace(event, continues=True) for event in open_events]
        for connection in self._connections.values():
            before = len(self.events)
            if connection.up:
                self._end_heartbeat_gap(connection, at, "nothing yet")
            self.events[before:] = [msgspec.structs.replace(e, continues=True) for e in self.events[before:]]


def _decode(entry: Entry) -> AnyFact | None:
    """
    The fact of an entry; None for one of a newer version.
    """
    try:
        return decode_fact(entry.payload)
    except msgspec.DecodeError:
        return None


def _fill_in(pending: list[MissingFills], fill_id: int) -> bool:
    """
    Take an id that arrived after all out of the missing ones; False if it was not among them.
    """
    for index, missing in enumerate(pending):
        if missing.first <= fill_id <= missing.last:
            left = msgspec.structs.replace(missing, last=fill_id - 1)
            right = msgspec.structs.replace(missing, first=fill_id + 1)
            pending[index : index + 1] = [part for part in (left, right) if part.first <= part.last]
            return True
    return False
