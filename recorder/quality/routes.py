"""
Where data frames go, looked up once per name and connection: their market, their stream, what is expected of it. Pure.
"""

import msgspec

from recorder.quality.connections import Connections
from recorder.quality.findings import Findings
from recorder.quality.flows import Flows, is_book
from recorder.quality.identity import Identity, Resolution
from recorder.quality.state import ConnectionState, FlowState, MonitorState, RunState
from recorder.quality.track import Track
from recorder.records import SECOND_NS, Entry
from recorder.venue.markets import MarketList
from recorder.venue.protocol import Peek

MAX_ROUTES = 4096
"""Remembered at one time; a venue could invent names."""
MAX_CONFLICTS = 256
_NEVER_NS = 1 << 62


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """
    What the monitor says of one data frame.
    """

    resolution: Resolution
    flags: int


class Route(msgspec.Struct):
    """
    Where frames of one name and connection go.
    """

    connection: ConnectionState
    resolution: Resolution
    plain: Verdict
    """Of a frame of which there is nothing to say."""
    flow: FlowState | None
    limit_ns: int
    """A frame later than this after the one before may be the first after a hole."""
    counts: bool
    """It is a trade: its id counts."""
    track: Track | None
    """Of a book."""


class Routes:
    """
    The routes there are now. Whoever changes what is asked for, or who carries it, clears them.
    """

    def __init__(
        self, listed: MarketList, state: MonitorState, connections: Connections, flows: Flows, findings: Findings
    ) -> None:
        self.identity = Identity(listed, state.identity)
        self._state = state
        self._connections = connections
        self._flows = flows
        self._findings = findings
        self.known: dict[tuple[str, int, str, str | None], Route] = {}
        """By run, connection, channel name and market name. One whose connection has ended is looked up again."""

    def clear(self) -> None:
        """
        Look everything up again.
        """
        self.known.clear()

    def hearing(self, entry: Entry) -> ConnectionState:
        """
        The connection a frame came on.
        """
        connection, opened = self._connections.hearing(entry)
        if opened:
            self._flows.met(entry.run, entry.connection, entry.recv_ts)
        return connection

    def look_up(self, entry: Entry, seen: Peek, run: RunState) -> Route:
        """
        The route of a data frame that has none yet.
        """
        assert seen.channel is not None
        connection = self.hearing(entry)
        resolution = self._resolve(entry, seen, run)
        stream, flow, limit_ns = resolution.stream, None, _NEVER_NS
        if stream is not None:
            flow = self._flows.find(run, entry.connection, stream, entry.recv_ts)
            if flow is not None and flow.track is None and is_book(stream):
                flow.track = Track(gap=2)  # it comes from a carry of an older version
            if is_book(stream):
                limit_ns = int(run.settings.silent_after_s * SECOND_NS)
        route = Route(
            connection=connection,
            resolution=resolution,
            plain=Verdict(resolution, 0),
            flow=flow,
            limit_ns=limit_ns,
            counts=seen.channel.family == "trades",
            track=flow.track if flow is not None else None,
        )
        if len(self.known) >= MAX_ROUTES:
            self.known.clear()
        self.known[entry.run, entry.connection, seen.name, seen.market_name] = route
        return route

    def _resolve(self, entry: Entry, seen: Peek, run: RunState) -> Resolution:
        assert seen.channel is not None
        index = f"{seen.channel.market_type}:{seen.channel.market_index}"
        named_before = self._state.identity.get(index)
        resolution = self.identity.resolve(seen.channel, seen.market_name, run.streams)
        if self._state.identity.get(index) != named_before:
            # Trades of this index have a name now.
            self.known.clear()
        if resolution.renamed is not None:
            self._conflict(entry, seen, index, resolution)
        return resolution

    def _conflict(self, entry: Entry, seen: Peek, index: str, resolution: Resolution) -> None:
        conflict, reported = f"{index}={resolution.symbol}", self._state.conflicts
        if conflict in reported or len(reported) >= MAX_CONFLICTS:
            return
        reported.append(conflict)
        words = (
            f"the book calls {index} {resolution.symbol}, the shipped list calls it {resolution.renamed}: "
            "is `network` right? The book's name is used"
        )
        self._findings.emit(
            "identity_conflict",
            cause="unknown",
            start=entry.recv_ts,
            end=entry.recv_ts,
            run=entry.run,
            connection=entry.connection,
            symbol=resolution.symbol,
            channel=seen.name,
            evidence=words,
        )
