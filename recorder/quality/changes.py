"""
What facts change: runs begin and end, connections come and go, streams are asked for, moved and let go. Pure.
"""

import msgspec

from recorder.quality.connections import Connections
from recorder.quality.facts import event_of
from recorder.quality.findings import Findings
from recorder.quality.flows import Flows, in_order, is_book
from recorder.quality.halts import Halts
from recorder.quality.routes import Routes
from recorder.quality.runs import Runs, asked_for
from recorder.quality.spells import Spells
from recorder.quality.state import UNKNOWN_CONNECTION, FlowState, Outage, RunState
from recorder.quality.tracks import Tracks
from recorder.records import (
    SECOND_NS,
    AnyFact,
    ClockStepped,
    Connected,
    ConnectFailed,
    Disconnected,
    DiskFreed,
    DiskFull,
    Entry,
    EntryKind,
    Event,
    LoopStalled,
    Moved,
    NotAcknowledged,
    Overflowed,
    Rejected,
    Requested,
    RunStarted,
    RunStopped,
    decode_fact,
)

STARTED_NS = 2 * SECOND_NS
"""A run that starts has heard all its books when it misses none, and none came for the first time, for this long."""


class Changes:
    """
    Leads each fact to the parts of a monitor that it concerns.
    """

    def __init__(
        self,
        runs: Runs,
        connections: Connections,
        flows: Flows,
        tracks: Tracks,
        spells: Spells,
        halts: Halts,
        routes: Routes,
        findings: Findings,
    ) -> None:
        """
        Args are the parts of one monitor.
        """
        self._runs = runs
        self._connections = connections
        self._flows = flows
        self._tracks = tracks
        self._spells = spells
        self._halts = halts
        self._routes = routes
        self._findings = findings

    def irregular(self, run: RunState | None, entry: Entry) -> RunState:
        """
        An entry that does not simply follow the one before it in its run.
        """
        fact = decoded(entry) if entry.kind == EntryKind.FACT else None
        if run is not None and not run.gone:
            self._runs.goes_on(run, entry.recv_ts)
            if self._runs.interrupted(run, entry, fact):
                self._interrupted(run.run, entry.recv_ts)
            self._routes.clear()
            return run
        if isinstance(fact, RunStarted):
            for other in self._runs.replaced_by(fact):
                self.bury(other)
        again = run is not None
        run = self._runs.meet(entry)
        if again and self._runs.interrupted(run, entry, fact):
            self._interrupted(run.run, entry.recv_ts)
        if not run.known:
            # Met in the middle: of what it asked for before, its header tells.
            for stream in run.streams:
                self._flows.expect(run.run, UNKNOWN_CONNECTION, stream, entry.recv_ts)
        self._routes.clear()
        return run

    def _interrupted(self, run: str, now: int) -> None:
        self._flows.interrupted(run)
        self._tracks.lost(run, now)

    def take(self, fact: AnyFact, entry: Entry, run: RunState) -> None:
        """
        Fold a fact; what it tells by itself becomes an event.
        """
        now, connection = entry.recv_ts, entry.connection
        event = event_of(fact, entry)
        goes_on = (
            event is not None
            and isinstance(fact, NotAcknowledged | Rejected)
            and fact.stream is not None
            and self._flows.refuse(run.run, connection, fact.stream, event)
        )
        if event is not None and not goes_on:
            self._findings.events.append(event)
        match fact:
            case RunStarted():
                self._runs.started(run, fact)
            case DiskFull():
                self._runs.disk_filled(run, now, fact.why)
            case DiskFreed():
                self._findings.events += self.unmade(run, now)
                self._runs.disk_freed(run, now)
            case RunStopped():
                self.bury(run, stopped_by=fact.reason)
            case Connected():
                waits = run.known and any(is_book(s) and not self._flows.carried(run.run, s) for s in run.streams)
                self._connections.connected(fact, entry, starting=waits)
            case ConnectFailed():
                waiting = self._flows.of_connection(run.run, connection)
                self._stop(waiting, now)
                self._connections.failed(fact, entry, min((flow.since for flow in waiting), default=None))
                self._flows.went_down(run.run, connection, now, "a connect that failed")
            case Disconnected():
                carried = self._flows.of_connection(run.run, connection)
                carries = bool(carried)
                self._stop(carried, now)
                self._spells.close(run.run, connection)
                ended_as = self._connections.ended_as(fact, entry)
                last_book = self._flows.went_down(run.run, connection, now, "the end of the connection", ended_as)
                self._connections.disconnected(fact, entry, last_book=last_book, carries=carries)
            case Requested():
                self._requested(fact, entry, run)
            case Moved():
                left = self._flows.left_by_move(run.run, connection, fact.to_connection, fact.stream)
                flows = [f for f in self._flows.of_run(run.run) if f.stream == fact.stream and f.connection in left]
                self._stop(flows, now)
                left = self._flows.move(run.run, connection, fact.to_connection, fact.stream, now)
                self._let_go(run, left, now)
            case Overflowed():
                why = "our journal queue was full"
                self._findings.outage(Outage(fact.first_ts, fact.last_ts, "recorder", why, run.run))
            case LoopStalled():
                why = "our event loop stood still"
                self._findings.outage(Outage(now - fact.stall_ns, now, "recorder", why, run.run))
            case ClockStepped() if fact.step_ns > 0:
                self._tracks.own_clock_stepped(run.run, fact.step_ns)
            case _:
                pass

    def _requested(self, fact: Requested, entry: Entry, run: RunState) -> None:
        now, connection = entry.recv_ts, entry.connection
        if fact.op == "unsubscribe":
            last = self._flows.last_of(run.run, fact.stream)
            leaving = [f for f in self._flows.of_connection(run.run, connection) if f.stream == fact.stream]
            for flow in leaving:
                self._tracks.cut_off(flow, now, "it was asked for no more")
            self._stop(leaving, now)
            self._flows.release(run.run, connection, fact.stream, now, "an unsubscribe")
            self._let_go(run, [connection], now)
            if not self._flows.carried(run.run, fact.stream):
                self._runs.leaves(run, fact.stream, now, last)
            return
        self._routes.clear()
        if run.known:
            self._connections.await_first(run.run, connection, now)
        # Of a run whose beginning was not read, nobody knows what it was configured with.
        added = self._runs.asks_for(run, fact.stream, now) and run.known
        again = bool(fact.why) and not self._connections.is_opening(run.run, connection)
        self._flows.request(run.run, connection, fact.stream, now, again=again, added=added)

    def _let_go(self, run: RunState, connections: list[int], now: int) -> None:
        """
        Connections have let go of a stream.
        """
        self._routes.clear()
        for connection in connections:
            if not self._flows.of_connection(run.run, connection):
                self._connections.nothing_left(run.run, connection, now)
            else:
                self._connections.settle(run.run, connection, now)

    def bury(self, run: RunState, *, stopped_by: str | None = None) -> None:
        """
        A run has ended at its last entry: so have its connections and flows.
        """
        self.settle(run.last_ts, run=run.run, at_once=True)
        self._findings.events += self.unmade(run, run.last_ts)
        flows = in_order(self._flows.of_run(run.run))
        for flow in flows:
            self._tracks.cut_off(flow, run.last_ts, "the run ended")
        self._stop(flows, run.last_ts)
        self._spells.close(run.run)
        self._flows.bury(run.run, run.last_ts)
        self._connections.bury(run.run, run.last_ts)
        self._runs.ended(run, stopped_by)
        self._routes.clear()

    def unmade(self, run: RunState, at: int) -> list[Event]:
        """
        That streams of a run have waited for a connection since it listens, and none was made or refused by `at`.
        """
        at = min(at, run.full_since or at)  # from there on, another event tells
        if not run.known or at <= run.listens_since or self._connections.starts(run.run):
            return []
        streams = asked_for(run)
        waiting = sum(not self._flows.carried(run.run, stream) for stream in streams)
        return [self._connections.unmade(run, at, f"{waiting} of its {len(streams)} streams")] if waiting else []

    def _stop(self, flows: list[FlowState], now: int) -> None:
        """
        Streams bring nothing more where they are carried now.
        """
        for flow in in_order(flows):
            self._tracks.end(flow, flow.last, now)
            if flow.halted:
                self._halts.end(flow.run, flow.connection, now)

    def settle(self, now: int, *, run: str | None = None, at_once: bool = False) -> None:
        """
        End the outages of connections that owe nothing any more.
        """
        for connection in self._connections.settled():
            if (
                run in {None, connection.run}
                and (at_once or not connection.opening or now - connection.settled > STARTED_NS)
                and not self._flows.awaits(connection.run, connection.connection)
            ):
                self._connections.end_outage(connection, connection.settled)


def decoded(entry: Entry) -> AnyFact | None:
    """
    The fact of an entry; None for one of a newer version.
    """
    try:
        return decode_fact(entry.payload)
    except msgspec.DecodeError:
        return None
