"""
A halted venue: no market brings a book, on any connection, while heartbeats come. Pure.

That reads differently from a dead feed (no heartbeats either) and from single silent markets. After
`halted_after_s` the silences of a connection's books become one event of the connection; before that, and where some
market had been silent for longer, each stream's own `silent` tells.
"""

from recorder.quality.connections import Connections
from recorder.quality.events import build
from recorder.quality.findings import Findings
from recorder.quality.flows import Flows
from recorder.quality.state import ConnectionState, FlowState, RunState
from recorder.records import SECOND_NS, Event

FEWEST = 3
"""Of fewer markets none can be told from all."""


class Halts:
    """
    The halts of all connections.
    """

    def __init__(self, flows: Flows, connections: Connections, findings: Findings) -> None:
        self._flows = flows
        self._connections = connections
        self._findings = findings

    def clock(self, run: RunState, now: int) -> None:
        """
        Time has come to `now`, as an entry of the run says.
        """
        connections = [c for c in self._connections.of_run(run.run) if c.up]
        for connection in connections:
            if connection.resuming and now - connection.resuming > run.settings.silent_after_s * SECOND_NS:
                self._end(connection, connection.resumed, "until the next books")
        books = [f for f in self._flows.of_run(run.run) if f.track is not None and f.up]
        if len(books) < FEWEST or not all(f.silent for f in books):
            return
        latest = max(_start(f) for f in books)
        if now - latest <= run.settings.halted_after_s * SECOND_NS:
            return
        for connection in connections:
            mine = [f for f in books if f.connection == connection.connection]
            if connection.halted or not mine:
                continue
            members = [f for f in mine if latest - _start(f) <= run.settings.silent_after_s * SECOND_NS]
            if members and self._connections.beat_within(run.run, connection.connection, latest, now):
                connection.halted = min(_start(f) for f in members)
                for flow in members:
                    flow.halted = True
                self._findings.opening(f"connection {connection.connection}: halted: no market brings a book")

    def resumed(self, connection: ConnectionState, now: int) -> None:
        """
        A book came of a stream that had been halted.
        """
        connection.resuming = connection.resuming or now
        connection.resumed = now
        if not self._members(connection):
            self._end(connection, now, "until the next books")

    def end(self, run: str, connection: int, now: int) -> None:
        """
        The connection, or what it carried, has come to an end.
        """
        for known in self._connections.of_run(run):
            if known.connection == connection and known.halted:
                self._end(known, known.resumed or now, "until the end of the connection or its subscriptions")

    def going_on(self, at: int) -> list[Event]:
        """
        The halts that go on at `at`.
        """
        return [self._event(c, at, "so far") for f in self._runs() for c in self._connections.of_run(f) if c.halted]

    def _runs(self) -> list[str]:
        return sorted({flow.run for flow in self._flows.all()})

    def _members(self, connection: ConnectionState) -> list[FlowState]:
        return [f for f in self._flows.of_connection(connection.run, connection.connection) if f.halted]

    def _end(self, connection: ConnectionState, end: int, how: str) -> None:
        self._findings.events.append(self._event(connection, end, how))
        for flow in self._members(connection):
            # What is still silent is so by itself from here on.
            flow.halted = flow.silent = False
            flow.since = max(flow.since, end)
        connection.halted = connection.resuming = connection.resumed = 0

    def _event(self, connection: ConnectionState, end: int, how: str) -> Event:
        beats = sum(connection.halted < beat < end for beat in connection.recent)
        return build(
            "halted",
            cause="venue",
            start=connection.halted,
            end=max(end, connection.halted),
            run=connection.run,
            connection=connection.connection,
            evidence=f"no book of any market on any connection for {(end - connection.halted) / 1e9:.1f} s, {how}; "
            f"heartbeats went on ({beats} of the last {len(connection.recent)})",
        )


def _start(flow: FlowState) -> int:
    return max(flow.last, flow.since)
