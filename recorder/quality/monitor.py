"""
Every judgement about holes: one fold over journal entries. Pure.

Entries come in the order of (`recv_ts`, run, seq), of one run (live) or of all (at seal). The clock is the entries' own
time, advanced each second by `alive` entries. `events` collects what has ended; what still goes on, `finish` adds.
`state` is the carry: a monitor made from it goes on as if it had never stopped.

The parts: `runs` (beginnings, ends, lost entries), `connections` (outages, heartbeats), `flows` (silent streams),
`halts` (all of them silent), `tracks` with `cadence`, `lateness`, `slots` and `contents` (each book against what is
usual), `spells` (what several streams had at once), `fills` (missing trades), `routes` and `identity` (whose frame it
is), `facts` (what is copied), `changes` (what facts change). This module leads each frame to those it concerns.
"""

import msgspec

from recorder.quality.cadence import MS, NEVER
from recorder.quality.changes import Changes, decoded
from recorder.quality.connections import DEAD_AFTER_NS, Connections
from recorder.quality.counter import FillState
from recorder.quality.fills import Fills
from recorder.quality.findings import Findings
from recorder.quality.flows import FIRST_AFTER_GAP, MAYBE_INITIAL, Flows, is_book
from recorder.quality.halts import Halts
from recorder.quality.paces import Paces
from recorder.quality.routes import Routes, Verdict
from recorder.quality.runs import STALL_NS, Runs
from recorder.quality.slots import MAX_STEP
from recorder.quality.spells import Spells
from recorder.quality.state import (
    ConnectionState,
    FlowState,
    HourBeats,
    MonitorState,
)
from recorder.quality.tracks import Tracks
from recorder.records import (
    HOUR_NS,
    SECOND_NS,
    Cause,
    Entry,
    EntryKind,
    Event,
    Moved,
    QualitySettings,
    Requested,
    SegmentHeader,
    Stream,
)
from recorder.venue.markets import MarketList
from recorder.venue.protocol import FrameKind, Peek

# Enum members are slow to look up.
_FRAME, _DATA = EntryKind.FRAME.value, FrameKind.DATA

__all__ = ["Monitor", "Verdict"]


class Monitor:
    """
    The fold.
    """

    def __init__(self, listed: MarketList, state: MonitorState) -> None:
        """
        Args:
            listed: the network's markets.
            state: to go on from; taken over, not copied.
        """
        self._state = state
        self._findings = Findings(state)
        self.events: list[Event] = self._findings.events
        """What has ended since it was last cleared."""
        self.openings: list[str] = self._findings.openings
        """What has just gone wrong, in words, for a live log."""
        self._runs = Runs(state, self._findings)
        by_name = self._runs.by_name
        self._connections = Connections(state.connections, state.beats, by_name, self._findings)
        self._flows = Flows(state.flows, by_name, self._connections, self._findings)
        self._fills = Fills(state.fills, by_name, self._findings)
        self._spells = Spells(state.stretches, state.often, self._flows, self._connections, self._findings)
        self._tracks = Tracks(self._flows, self._spells, self._findings, state.fed, Paces(state.paces))
        self._halts = Halts(self._flows, self._connections, self._findings)
        self._routes = Routes(listed, state, self._connections, self._flows, self._findings)
        self._changes = Changes(
            self._runs,
            self._connections,
            self._flows,
            self._tracks,
            self._spells,
            self._halts,
            self._routes,
            self._findings,
        )
        # Each frame needs them.
        self._by_name, self._known_routes = by_name, self._routes.known
        self._clocked = ("", 0)
        """The run and the instant of the last look at the clock: many facts may be of one instant."""
        self._hour_end = state.now - state.now % HOUR_NS + HOUR_NS

    # ---- entries in

    def adopt(self, header: SegmentHeader) -> None:
        """
        Learn a run from a segment, for entries that come without its start.
        """
        self._runs.headers[header.run] = header

    def adopt_all(self, other: "Monitor") -> None:
        """
        Learn the runs another monitor was told of.
        """
        for header in other.headers():
            self.adopt(header)

    def headers(self) -> list[SegmentHeader]:
        """
        What was adopted.
        """
        return list(self._runs.headers.values())

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
        now = entry.recv_ts
        if now >= self._hour_end:
            self.turn_hour(now - now % HOUR_NS)
        self._state.now = now
        run = self._by_name.get(entry.run)
        if run is None or run.gone or entry.seq != run.last_seq + 1 or now - run.last_ts > STALL_NS:
            run = self._changes.irregular(run, entry)
        run.last_seq = entry.seq
        run.last_ts = now
        if seen is not None and entry.kind == _FRAME:
            return self._frame(entry, seen, duplicate=duplicate)
        if entry.kind == EntryKind.FACT:
            fact = decoded(entry)
            if fact is not None:
                if isinstance(fact, Requested | Moved) and self._clocked != (entry.run, now):
                    self.clock(now)  # a silence that is overdue began before it
                self._changes.take(fact, entry, run)
        if self._clocked != (entry.run, now):
            self._clocked = entry.run, now
            self.clock(now)
            self._clock_of(entry.run, now)
        return None

    # ---- frames

    def _frame(self, entry: Entry, seen: Peek, *, duplicate: bool) -> Verdict | None:
        if seen.kind is not _DATA:
            self._other_frame(entry, seen)
            return None
        now = entry.recv_ts
        route = self._known_routes.get((entry.run, entry.connection, seen.name, seen.market_name))
        if route is None or route.connection.attempt != entry.attempt or not route.connection.up:
            route = self._routes.look_up(entry, seen, self._by_name[entry.run])
        connection, flow, flags = route.connection, route.flow, 0
        if flow is not None:
            track = route.track
            first = flow.fresh or flow.silent or now - flow.last > route.limit_ns
            if first and flow.asked and track is not None and self._tracks.is_stored_copy(flow, track, seen, now):
                # It proves nothing of the time it comes at: outage and silence go on.
                connection.last_frame = now
                return Verdict(route.resolution, MAYBE_INITIAL)
            if connection.outage_start is not None:
                self._owed(connection, flow, now)
            if first:
                late = False
                if track is not None:
                    track.gap, track.low = 2 if flow.fresh & FIRST_AFTER_GAP else 1, NEVER
                    late = track.gap == 1 and self._tracks.is_late(flow, track, seen, now)
                    track.stored = 0
                    if late and not track.cadence:
                        track.gap = 0  # it goes on teaching
                halted = flow.halted
                if track is not None and track.gap == 1 and self._flows.was_still(flow, now):
                    track.gap = 0  # no silence tells of it, but the books do
                flags = self._flows.wake(flow, now, seen.slot, late=late)
                if halted:
                    self._halts.resumed(connection, now)
                if self._state.removed:
                    self._runs.came_back(flow.stream, now)
            if track is not None:
                # What is usual costs a few comparisons; all else gets a second look.
                ts, slot = seen.ts, seen.slot
                if (
                    ts is not None
                    and slot is not None
                    and track.low < (step := ts - track.ts) <= track.high
                    and 0 <= (slots := slot - track.slot) <= MAX_STEP
                    and track.lag_low <= (lag := now - ts * MS) <= track.lag_high
                ):
                    track.ts = ts
                    track.recv = now
                    if slots:
                        track.slot = slot
                        track.moved = now
                    if lag < track.lag_min:  # noqa: PLR1730  # `min` takes four times as long
                        track.lag_min = lag
                    ring = track.ring
                    ring.append(step)
                    if not len(ring) & 3:
                        self._tracks.sample(flow, track, now, entry.payload)
                else:
                    flags |= self._tracks.take(flow, track, seen, now, entry.payload)
            connection.last_frame = now
            flow.last = now
            flow.last_slot = seen.slot
        elif route.resolution.stream is None:
            connection.last_frame = now
            self.find(
                "unrequested",
                entry,
                cause="venue",
                symbol=route.resolution.symbol,
                channel=seen.name,
                evidence="data of a stream this run did not ask for",
            )
            return route.plain
        else:
            connection.last_frame = now
        if route.counts and not duplicate:
            if seen.fill_id is None:
                self._fills.nameless(entry, seen, route.resolution.symbol)
                return Verdict(route.resolution, flags) if flags else route.plain
            flags |= self._fills.take(entry, seen, seen.fill_id, route.resolution.symbol)
        return Verdict(route.resolution, flags) if flags else route.plain

    def _owed(self, connection: ConnectionState, flow: FlowState, now: int) -> None:
        """
        A frame came on a connection that has been down: with the last of the books it owes, the outage is over.
        """
        if flow.awaited:
            flow.awaited = False
            connection.settled = now
            # A run that starts asks for one stream after another: only the clock can tell that this was the last.
            if not connection.opening and not self._flows.awaits(connection.run, connection.connection):
                self._connections.end_outage(connection, now)
        else:
            self._bookless(connection, now)

    def _bookless(self, connection: ConnectionState, now: int) -> None:
        """
        Where no book is asked for, any frame ends an outage.
        """
        if not any(is_book(flow.stream) for flow in self._flows.of_connection(connection.run, connection.connection)):
            self._connections.end_outage(connection, now if not connection.opening else connection.opened)

    def _other_frame(self, entry: Entry, seen: Peek) -> None:
        now = entry.recv_ts
        connection = self._routes.hearing(entry)
        heard_before, connection.last_frame = connection.last_frame, now
        if seen.kind == FrameKind.HEARTBEAT:
            self._connections.heartbeat(connection, now, heard_before)
        elif seen.kind == FrameKind.ACK:
            self._flows.acknowledged(entry.run, entry.connection, seen.text, now)
        elif seen.kind == FrameKind.UNDECODABLE:
            self.find("undecodable", entry, cause="venue", evidence=seen.text)
        elif seen.kind == FrameKind.UNKNOWN:
            self.find("schema_drift", entry, cause="venue", evidence=f"{seen.text}: {seen.name!r}", whole=True)
        if connection.outage_start is not None:
            self._bookless(connection, now)

    def stream_of(self, run: str, seen: Peek) -> Stream | None:
        """
        The stream a data frame belongs to, without folding it: for one that could not be journaled.
        """
        known = self._runs.by_name.get(run)
        if known is None or seen.channel is None:
            return None
        return self._routes.identity.look_up(seen.channel, seen.market_name, known.streams).stream

    def is_unasked(self, seen: Peek, streams: list[Stream]) -> bool:
        """
        Whether a data frame is of none of the streams that its run asked for.
        """
        assert seen.channel is not None
        return self._routes.identity.look_up(seen.channel, seen.market_name, streams).stream is None

    def asked(self) -> dict[str, list[Stream]]:
        """
        What each run that is known asks for now, or did last.
        """
        return {run.run: list(run.streams) for run in self._runs.by_name.values()}

    # ---- the clock

    def clock(self, now: int) -> None:
        """
        Time has come to `now`: open what is overdue, judge what has waited long enough.
        """
        wait_s = 0.0
        for run in self._runs.live():
            if now - run.last_ts > DEAD_AFTER_NS:
                self._changes.bury(run)
                continue
            wait_s = max(wait_s, run.settings.trade_wait_s)
            if run.leaving and self._runs.drop_left(run, now):
                self._routes.clear()
        self._connections.clock(now)
        for flow in self._flows.clock(now):
            self._connections.settle(flow.run, flow.connection, flow.since)
            self._runs.came_back(flow.stream, flow.since)
        self._changes.settle(now)
        self._fills.clock(now, int((wait_s or QualitySettings().trade_wait_s) * SECOND_NS))
        self.events += self._findings.tallies.take_idle(now)

    def _clock_of(self, run: str, now: int) -> None:
        """
        Likewise, for what is told by the clock of one run alone: so that it is the same live and among other runs.
        """
        self._tracks.clock(run, now)
        known = self._runs.by_name.get(run)
        if known is not None and not known.gone:
            self._halts.clock(known, now)
        self._spells.clock(run, now, self._tracks.going_on(now))

    def turn_hour(self, hour: int) -> None:
        """
        A new hour begins at `hour` ns: runs of like findings end, counts of the hour start again.
        """
        self._state.now = hour
        self._hour_end = hour + HOUR_NS
        self._findings.end_tallies()
        self._spells.turn_hour()
        self._connections.turn_hour(hour)
        self._fills.turn_hour(hour)
        self._runs.forget(hour)

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
        whole: bool = False,
    ) -> None:
        """
        Count a finding about one frame; like ones become one event. `whole`: the frame is in no table of its own.
        """
        first = self._findings.tallies.add(
            kind,
            entry.recv_ts,
            cause=cause,
            evidence=evidence,
            run=entry.run,
            connection=entry.connection,
            symbol=symbol,
            channel=channel,
            whole=whole,
        )
        if first:
            self._findings.opening(f"connection {entry.connection}: {kind}: {symbol or ''} {evidence}")

    # ---- the end of an hour

    def hour_beats(self, at: int) -> dict[tuple[str, int], HourBeats]:
        """
        Heartbeats and time up of this hour's connections, up to `at`; by (run, connection).
        """
        return self._connections.beats(at)

    def flows_of(self, run: str) -> list[FlowState]:
        """
        The streams as a run's connections hear them; to look at, not to change.
        """
        return self._flows.of_run(run)

    def connections_of(self, run: str) -> list[ConnectionState]:
        """
        A run's connections, in order; to look at, not to change.
        """
        return self._connections.of_run(run)

    def streams(self) -> list[Stream]:
        """
        What the runs known now ask for, or the last one did; sorted.
        """
        return self._runs.streams()

    def carriers(self) -> dict[Stream, set[tuple[str, int]]]:
        """
        The connections that carry each stream now, as (run, connection).
        """
        return self._flows.carriers()

    def fills(self) -> dict[str, FillState]:
        """
        Fill counters by `perp:0`.
        """
        return self._state.fills

    def state(self) -> MonitorState:
        """
        The carry. Equal folds give equal states, to the byte once encoded.
        """
        self._state.runs = self._runs.snapshot()
        self._state.connections, self._state.beats = self._connections.snapshot()
        self._state.flows = self._flows.snapshot()
        self._state.tallies = self._findings.tallies.snapshot()
        self._state.stretches, self._state.often = self._spells.snapshot()
        self._tracks.sort(self._state.now)
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
            # What waits longer than anyone looks beyond the hour would be judged in the next one, too late for both.
            self._fills.judge_all()
            self._tracks.unjudged(at)
        self._changes.settle(at, at_once=True)
        self._fills.tell_rest()
        self._findings.end_tallies()
        going_on = [
            *self._spells.finish(self._tracks.going_on(at)),
            *self._runs.down(at),
            *self._runs.orphaned(at),
            *self._runs.removed(at, closed=closed),
            *(event for run in self._runs.live() for event in self._runs.disk_full(run, at)),
            *self._flows.beginnings(at),
            *self._flows.silences(at),
            *self._halts.going_on(at),
            *self._flows.refusals(at),
            *(event for run in self._runs.live() for event in self._changes.unmade(run, at)),
            *self._connections.outages(at),
            *self._connections.heartbeat_gaps(at),
        ]
        self.events += [msgspec.structs.replace(event, continues=True) for event in going_on]
