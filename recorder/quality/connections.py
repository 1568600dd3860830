"""
Connections: when they were up, how their heartbeats came, and from when to when they brought nothing. Pure.
"""

from itertools import pairwise

from recorder.quality.events import build
from recorder.quality.findings import Findings
from recorder.quality.state import UNKNOWN_CONNECTION, ConnectionState, HourBeats, Outage, RunState
from recorder.records import SECOND_NS, Cause, Connected, ConnectFailed, Disconnected, Entry, Event
from recorder.venue.protocol import HEARTBEAT_INTERVAL_S

BEAT_NS = HEARTBEAT_INTERVAL_S * SECOND_NS
MAX_RECENT = 16
"""Heartbeats remembered: more than a minute."""
EDGE_NS = 100_000_000
"""A heartbeat this near to an end of a stretch proves nothing about what lies inside."""
NOT_YET = "it had not been made since its first stream was asked for"
DEAD_AFTER_NS = 5 * SECOND_NS
"""A run without an entry for this long is dead or stands still: it writes one each second."""


class Connections:
    """
    The configured connections of all runs.
    """

    def __init__(
        self,
        connections: list[ConnectionState],
        beats: list[HourBeats],
        runs: dict[str, RunState],
        findings: Findings,
    ) -> None:
        self._connections = {(c.run, c.connection): c for c in connections}
        self._beats = {(b.run, b.connection): b for b in beats}
        self._runs = runs
        self._findings = findings

    def of_run(self, run: str) -> list[ConnectionState]:
        """
        The connections of a run, in order.
        """
        return [self._connections[key] for key in sorted(self._connections) if key[0] == run]

    def snapshot(self) -> tuple[list[ConnectionState], list[HourBeats]]:
        """
        For the carry.
        """
        return (
            [self._connections[key] for key in sorted(self._connections)],
            [self._beats[key] for key in sorted(self._beats)],
        )

    def may_be_up(self, run: str, connection: int) -> bool:
        """
        Whether nothing says that a connection is down.
        """
        known = self._connections.get((run, connection))
        return known is None or known.up

    def in_outage(self, run: str, connection: int) -> bool:
        """
        Whether a connection has not brought anything since it was down.
        """
        known = self._connections.get((run, connection))
        return known is not None and known.outage_start is not None

    def last_heartbeat(self, run: str, connection: int) -> int | None:
        """
        When a connection last brought a heartbeat, or opened; None if it was not seen.
        """
        known = self._connections.get((run, connection))
        return known.last_heartbeat if known is not None else None

    # ---- up and down

    def hearing(self, entry: Entry) -> tuple[ConnectionState, bool]:
        """
        The connection a frame came on, and whether it had not been seen to open.
        """
        connection = self._connections.get((entry.run, entry.connection))
        if connection is not None and connection.up and connection.attempt == entry.attempt:
            return connection, False
        return self._up(entry), True

    def connected(self, fact: Connected, entry: Entry, *, starting: bool) -> None:
        """
        A websocket opened.

        Args:
            fact: as journaled.
            entry: its entry.
            starting: the run is known from its start, and has books to ask for that no connection has asked for.
        """
        known = self._connections.get((entry.run, entry.connection))
        first = known is not None and known.outage_start is not None and known.outage_why == NOT_YET
        starting = starting and known is None
        connection = self._up(entry)
        words = f"attempt {fact.attempt} to {fact.url} in {fact.took_ms:.0f} ms"
        connection.opened = entry.recv_ts
        connection.opening = words + ("" if fact.compressed else ", without compression")
        if starting:
            connection.outage_start = self._runs[entry.run].listens_since
            connection.outage_cause, connection.outage_why = "recorder", "its books had not come since the run started"
            connection.settled = 0
        elif not first:
            self._tell_connect(connection, connection.opened, connection.opened)
        elif fact.took_ms > self._runs[entry.run].settings.silent_after_s * 1000:
            took = f"its first connect took {fact.took_ms / 1000:.1f} s"
            connection.outage_cause, connection.outage_why = "network", took

    def await_first(self, run: str, connection: int, now: int) -> None:
        """
        A stream is asked for on a connection that is still to be made: until it brings that, it is in an outage.
        """
        known = self._connections.get((run, connection))
        if known is None:
            known = self._connections[run, connection] = ConnectionState(run, connection)
        if not known.up and known.outage_start is None:
            known.outage_start, known.outage_cause, known.outage_why, known.settled = now, "recorder", NOT_YET, 0

    def is_opening(self, run: str, connection: int) -> bool:
        """
        Whether a connection has opened for the first time, and has not brought what it was opened for.
        """
        known = self._connections.get((run, connection))
        return known is not None and bool(known.opening)

    def _tell_connect(self, connection: ConnectionState, start: int, end: int) -> None:
        self._findings.events.append(_connect_event(connection, start, end))
        connection.opening = ""

    def _up(self, entry: Entry) -> ConnectionState:
        key = (entry.run, entry.connection)
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = ConnectionState(*key)
        elif connection.up:
            # Its end was not journaled: those entries are lost, and so is what it heard last.
            self._count_up(connection, connection.last_frame)
        connection.attempt = entry.attempt
        connection.up = True
        connection.last_frame = connection.last_heartbeat = connection.counted_to = entry.recv_ts
        connection.recent = [entry.recv_ts]
        connection.halted = connection.resuming = connection.resumed = 0
        connection.gap_open = False
        return connection

    def failed(self, fact: ConnectFailed, entry: Entry, asked_since: int | None) -> None:
        """
        A connect failed.

        Args:
            fact: as journaled.
            entry: its entry.
            asked_since: since when the streams that wait for this connection are asked for; None if none does.
        """
        key = (entry.run, entry.connection)
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = ConnectionState(*key)
        connection.attempt = fact.attempt
        words = f"could not be made: {fact.error}"
        # While the disk was full nobody tried: that is not on who refuses now.
        listens = self._runs[entry.run].listens_since
        if connection.outage_start is not None and connection.outage_why == NOT_YET:
            if connection.outage_start < listens:
                self.end_outage(connection, listens)
            else:
                connection.outage_cause, connection.outage_why = fact.cause, words
        if connection.outage_start is None:
            since = max(connection.last_frame, asked_since or 0, listens)
            self._begin_outage(connection, since, fact.cause, words)
        self._findings.tallies.add(
            "connect_failed",
            entry.recv_ts,
            cause=fact.cause,
            run=entry.run,
            connection=entry.connection,
            evidence=f"{fact.url}: {fact.error}",
        )

    def disconnected(self, fact: Disconnected, entry: Entry, *, last_book: int | None, carries: bool) -> None:
        """
        A connection ended.

        Args:
            fact: as journaled.
            entry: its entry.
            last_book: when it last brought a book that was still due; None if none was.
            carries: it carried any stream. Else nothing is lost while it is down, and its end is all there is to tell.
        """
        connection = self._connections.get((entry.run, entry.connection))
        if connection is None:
            return
        now = entry.recv_ts
        if connection.up:
            self._count_up(connection, now)
            self._end_heartbeat_gap(connection, now, "the end of the connection", connection.last_frame, fact.cause)
        connection.up = False
        connection.settled = 0
        if connection.outage_start is not None:
            if connection.opening:
                self._tell_connect(connection, connection.opened, connection.opened)
                connection.outage_cause, connection.outage_why = fact.cause, fact.why
            return
        code = f", close code {fact.code} {fact.reason or ''}".rstrip() if fact.code is not None else ""
        # Books come each tick: what was heard after the last of them does not show that nothing was lost.
        start = connection.last_frame if last_book is None else min(last_book, connection.last_frame)
        cause, nothing = self.ended_as(fact, entry), ""
        if cause != fact.cause:
            nothing = f"; nothing at all had come for {(now - connection.last_frame) / 1e9:.1f} s"
        words = f"{fact.why}{code}, after {fact.lived_s:.1f} s{nothing}"
        self._begin_outage(connection, start, cause, words, told=carries)
        if not carries:
            self.end_outage(connection, now)

    def ended_as(self, fact: Disconnected, entry: Entry) -> Cause:
        """
        Who ended a connection: where we did because every book was silent, but no heartbeat came either, the network.
        """
        known = self._connections.get((entry.run, entry.connection))
        dead = known is not None and entry.recv_ts - known.last_frame > BEAT_NS + EDGE_NS
        return "network" if fact.cause == "venue" and fact.code is None and dead else fact.cause

    def _begin_outage(
        self, connection: ConnectionState, start: int, cause: Cause, why: str, *, told: bool = True
    ) -> None:
        start = max(start, connection.outage_end, self._runs[connection.run].started)
        connection.outage_start, connection.outage_cause, connection.outage_why = start, cause, why
        connection.settled = 0
        if told:
            self._findings.opening(f"connection {connection.connection}: down: {why}")

    def end_outage(self, connection: ConnectionState, now: int) -> None:
        """
        A connection has brought what it owed, up to `now`, which is after its outage began.
        """
        start = connection.outage_start
        assert start is not None
        connection.outage_start, connection.outage_end, connection.settled = None, now, 0
        if connection.opening:
            if self._is_short(connection, start, now):
                self._tell_connect(connection, start, now)
                return
            self._tell_connect(connection, connection.opened, connection.opened)
        self._findings.outage(
            Outage(
                start,
                now,
                connection.outage_cause,
                connection.outage_why,
                connection.run,
                connection.connection,
            )
        )
        self._findings.events.append(_outage_event(connection, start, now))

    def _is_short(self, connection: ConnectionState, start: int, now: int) -> bool:
        return now - start <= self._runs[connection.run].settings.silent_after_s * SECOND_NS

    def settle(self, run: str, connection: int, at: int) -> None:
        """
        One of the books that a connection in an outage owes needs to be awaited no more since `at`.
        """
        known = self._connections.get((run, connection))
        if known is not None and known.outage_start is not None:
            known.settled = max(known.settled, known.outage_start, at)

    def settled(self) -> list[ConnectionState]:
        """
        Those in an outage that have brought some of what they owe.
        """
        return [c for c in self._connections.values() if c.outage_start is not None and c.up and c.settled]

    def nothing_left(self, run: str, connection: int, now: int) -> None:
        """
        A connection carries nothing any more: while it is down, nothing is lost.
        """
        known = self._connections.get((run, connection))
        if known is not None and known.outage_start is not None:
            self.end_outage(known, now)

    def bury(self, run: str, at: int) -> None:
        """
        A run has ended.
        """
        for key in sorted(key for key in self._connections if key[0] == run):
            connection = self._connections.pop(key)
            if connection.up:
                self._count_up(connection, at)
                self._end_heartbeat_gap(connection, at, "the end of the run", connection.last_frame)
            if connection.outage_start is not None:
                self.end_outage(connection, at)

    def starts(self, run: str) -> bool:
        """
        Whether a connection of a run tells of an outage since the run started, or since it listens again.
        """
        started, again = self._runs[run].started, self._runs[run].listens_since
        begun = [c.outage_start for c in self.of_run(run) if c.outage_start is not None]
        # One in between is that of a connection which was closed because the disk was full.
        return any(start <= started or start == again for start in begun)

    @staticmethod
    def unmade(run: RunState, at: int, waiting: str) -> Event:
        """
        A connection that had been neither made nor refused, at `at`, since its run listens; `waiting` is for what.
        """
        since = run.listens_since
        # Who takes so long to answer, nobody can tell.
        is_ours = at - since <= run.settings.silent_after_s * SECOND_NS
        began = "the run started" if since == run.started else "there was space on the disk again"
        waited = f"for {(at - since) / SECOND_NS:.1f} s, since {began}"
        return build(
            "disconnected",
            cause="recorder" if is_ours else "unknown",
            start=since,
            end=at,
            run=run.run,
            connection=UNKNOWN_CONNECTION,
            evidence=f"{waiting} waited for a connection, not made {waited}",
        )

    def outages(self, at: int) -> list[Event]:
        """
        The outages that go on at `at`.
        """
        going_on = []
        for c in self._connections.values():
            if c.outage_start is None:
                continue
            if c.opening and self._is_short(c, c.outage_start, at):
                going_on.append(_connect_event(c, c.outage_start, at))
                continue
            if c.opening:
                self._tell_connect(c, c.opened, c.opened)
            going_on.append(_outage_event(c, c.outage_start, at))
        return going_on

    # ---- heartbeats

    def heartbeat(self, connection: ConnectionState, now: int, heard_before: int) -> None:
        """
        A heartbeat came; `heard_before` is when the connection brought anything before it.
        """
        beats = self._beats_of(connection)
        beats.longest_ns = max(beats.longest_ns or 0, now - connection.last_heartbeat)
        beats.heartbeats += 1
        self._end_heartbeat_gap(connection, now, "the next heartbeat", heard_before)
        connection.last_heartbeat = now
        connection.recent.append(now)
        del connection.recent[:-MAX_RECENT]

    def beat_within(self, run: str, connection: int, start: int, end: int) -> bool | None:
        """
        Whether a heartbeat came between two instants, so that the connection lived; None if none was due there.
        """
        known = self._connections.get((run, connection))
        if known is None or not known.recent:
            return None
        if any(start + EDGE_NS < beat < end - EDGE_NS for beat in known.recent[1:]):
            return True
        # The next after the last before the end was due inside, and did not come.
        last = max((beat for beat in known.recent if beat <= start + EDGE_NS), default=None)
        return False if last is not None and last + BEAT_NS < end - EDGE_NS else None

    def why_silent(self, run: str, connection: int, start: int, end: int, ended_as: Cause) -> tuple[Cause, str]:
        """
        Who kept a book from coming between two instants.
        """
        known = self._connections.get((run, connection))
        if known is None:
            return ended_as, "on a connection not seen"
        last_beat = f"last heartbeat {(end - known.last_heartbeat) / 1e9:.1f} s before that"
        beat = self.beat_within(run, connection, start, end)
        if beat or start + EDGE_NS < known.last_frame < end - EDGE_NS:
            return "venue", last_beat if beat else f"{last_beat}, but other frames came"
        if self._runs[run].resumed > start:
            return "recorder", "the recorder stood still"
        nothing = "nothing else came on the connection either"
        return ended_as, f"{last_beat}; {nothing}" if beat is False else f"{nothing}, and no heartbeat was due"

    def held_by(self, run: str, connection: int, start: int, burst: int, end: int) -> tuple[Cause, str]:
        """
        Who held back what came late: nothing came from `start`, in time, to the `burst` of what was late.
        """
        known = self._connections.get((run, connection))
        if known is not None and any(start + EDGE_NS < beat < burst - EDGE_NS for beat in known.recent[1:]):
            return "venue", "heartbeats came meanwhile"
        pairs = pairwise(known.recent) if known is not None else []
        if any(a <= burst and b >= burst - EDGE_NS and b - a > BEAT_NS + 2 * EDGE_NS and b <= end for a, b in pairs):
            return "network", "the heartbeat was late as well, and our own clock ran all the while"
        return "unknown", "no heartbeat was due meanwhile, which would tell the venue from the way here"

    def clock(self, now: int) -> None:
        """
        Find what is overdue by `now`.
        """
        for connection in self._connections.values():
            if connection.up and not connection.gap_open:
                run = self._runs[connection.run]
                limit_s = run.settings.heartbeat_gap_s
                if now - max(connection.last_heartbeat, run.resumed) > limit_s * SECOND_NS:
                    connection.gap_open = True
                    self._findings.opening(f"connection {connection.connection}: no heartbeat for {limit_s:g} s")

    def heartbeat_gaps(self, at: int) -> list[Event]:
        """
        The heartbeat gaps that go on at `at`.
        """
        return [
            event
            for c in self._connections.values()
            if c.up and (event := self._heartbeat_gap(c, at, "now", c.last_frame)) is not None
        ]

    def _end_heartbeat_gap(
        self, connection: ConnectionState, now: int, ended_by: str, heard_before: int, ended_as: Cause = "unknown"
    ) -> None:
        connection.gap_open = False
        event = self._heartbeat_gap(connection, now, ended_by, heard_before, ended_as)
        if event is not None:
            self._findings.events.append(event)

    def _heartbeat_gap(
        self, connection: ConnectionState, now: int, ended_by: str, heard_before: int, ended_as: Cause = "unknown"
    ) -> Event | None:
        run = self._runs[connection.run]
        interval = now - connection.last_heartbeat
        if interval <= run.settings.heartbeat_gap_s * SECOND_NS:
            return None
        return build(
            "heartbeat_gap",
            # A recorder that stood still cannot say that the venue did.
            cause="recorder"
            if run.resumed > connection.last_heartbeat
            else "venue"
            if heard_before > connection.last_heartbeat + BEAT_NS + EDGE_NS
            else ended_as,
            start=connection.last_heartbeat,
            end=now,
            run=connection.run,
            connection=connection.connection,
            evidence=f"{interval / 1e9:.1f} s without a heartbeat, until {ended_by}; "
            f"last frame of any kind {(now - heard_before) / 1e9:.1f} s before that",
        )

    # ---- the hour

    def beats(self, at: int) -> dict[tuple[str, int], HourBeats]:
        """
        Heartbeats and time up of this hour's connections, up to `at`; by (run, connection).
        """
        for connection in self._connections.values():
            self._count_up(connection, self._lived_to(connection, at))
        return dict(self._beats)

    def turn_hour(self, hour: int) -> None:
        """
        The counts of the hour start again.
        """
        self._beats.clear()
        for connection in self._connections.values():
            connection.counted_to = hour

    def _lived_to(self, connection: ConnectionState, at: int) -> int:
        last_ts = self._runs[connection.run].last_ts
        return at if at - last_ts <= DEAD_AFTER_NS else last_ts

    def _beats_of(self, connection: ConnectionState) -> HourBeats:
        key = (connection.run, connection.connection)
        beats = self._beats.get(key)
        if beats is None:
            beats = self._beats[key] = HourBeats(*key)
        return beats

    def _count_up(self, connection: ConnectionState, now: int) -> None:
        if connection.up and now > connection.counted_to:
            self._beats_of(connection).up_ns += now - connection.counted_to
            connection.counted_to = now


def _outage_event(connection: ConnectionState, start: int, end: int) -> Event:
    return build(
        "disconnected",
        cause=connection.outage_cause,
        start=start,
        end=end,
        run=connection.run,
        connection=connection.connection,
        evidence=connection.outage_why,
    )


def _connect_event(connection: ConnectionState, start: int, end: int) -> Event:
    return build(
        "connected",
        cause="recorder",
        start=start,
        end=end,
        run=connection.run,
        connection=connection.connection,
        evidence=connection.opening,
    )
