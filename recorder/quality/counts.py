"""
Counts of what was heard, for whoever looks: by connection and stream, in numbers that only grow. Pure.

They judge nothing (`monitor.py` does), and cost a frame a quarter of what a peek into it does; whatever takes longer is
done when somebody looks. One `Counts` accompanies one process, through all its runs, since a counter that begins anew
looks like a restart.
"""

from bisect import bisect_left
from collections import Counter, deque

import msgspec

from recorder.quality.effects import effect_of
from recorder.quality.events import channel_of
from recorder.quality.intervals import Span
from recorder.records import (
    SECOND_NS,
    Connected,
    ConnectFailed,
    Disconnected,
    Event,
    Fact,
    Overflowed,
    Stream,
    WriteFailed,
)
from recorder.venue.protocol import FrameKind, Peek

MS = 1_000_000
LATENCY_BOUNDS_NS = tuple(ms * MS for ms in (25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000))
"""Upper bounds of the buckets of `recv_ts − ts`; one more bucket holds the rest."""
INTERVAL_BOUNDS_NS = tuple(ms * MS for ms in (100, 200, 300, 400, 500, 600, 800, 1_000, 2_000, 5_000))
"""Likewise, of the time between two books."""
RATE_S = 10
"""Seconds that a rate looks back."""
RECENT = 100
"""Events that are remembered."""
FIRST_NS = 5 * SECOND_NS
"""A stream that brings its first frame within this has begun without a hole."""
MAX_TALLIES = 20_000
"""(connection, stream) pairs counted apart; a venue or an operator could bring ever new ones."""
MAX_NAMES = 4
"""Names remembered at one time, for each stream of a connection: one is usual, a stored copy of it has another. A venue
could spell one market in a hundred thousand ways, each of which is worth nothing the next moment."""
_MAX_TS_MS = 1 << 53
_DATA, _HEARTBEAT = FrameKind.DATA, FrameKind.HEARTBEAT
_NOT_A_HOLE = frozenset({"added", "connected", "not_acknowledged", "rejected", "disk_full"})
"""Kinds with an effect that are told as what a stream, or the recorder, is doing, not as a hole."""


class Histogram(msgspec.Struct):
    """
    How often something took how long.
    """

    bounds: tuple[float, ...]
    """Upper ones, included; one more bucket holds the rest."""
    buckets: list[int] = []
    total: float = 0.0
    """Of all that was observed."""

    def __post_init__(self) -> None:
        """
        Begin with nothing.
        """
        if not self.buckets:
            self.buckets = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """
        One more.
        """
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.total += value


class Tally(msgspec.Struct):
    """
    One stream on one connection.
    """

    connection: int
    stream: Stream
    payload: bytes = b""
    """Its last frame."""
    frames: int = 0
    bytes: int = 0
    last: int = 0
    """`recv_ts` of its last frame, ns; 0: none yet."""
    before: int = 0
    """Of the last one before its connection opened, and …"""
    resumed: int = 0
    """… of the first one after that."""
    slot: int | None = None
    latency: list[int] = []
    """Frames by `LATENCY_BOUNDS_NS`; of books only."""
    latency_ns: int = 0
    """Their sum."""
    interval: list[int] = []
    """Likewise, by `INTERVAL_BOUNDS_NS`."""
    interval_ns: int = 0
    marks: deque[int] = msgspec.field(default_factory=lambda: deque(maxlen=RATE_S + 1))
    """`frames` at the last seconds."""

    @property
    def rate(self) -> float:
        """
        Frames a second, over the last seconds.
        """
        marks = self.marks
        return (marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else 0.0


class LineTally(msgspec.Struct):
    """
    One connection, through all its attempts.
    """

    connection: int
    url: str = ""
    up: bool = False
    connects: int = 0
    failures: int = 0
    """Connects that did not get as far as a websocket."""
    ends: Counter[str] = msgspec.field(default_factory=Counter)
    """Of connections that were open, by cause."""
    frames: int = 0
    """Whatever it brought: data, heartbeats, answers."""
    bytes: int = 0
    heartbeats: int = 0
    last_heartbeat: int = 0
    unasked: int = 0
    """Data frames of streams nobody asked for."""
    opened: int = 0
    down_since: int = 0
    """0 while it is up, and before it was first tried."""
    why: str = ""
    """Why it is down."""
    cause: str = ""


class Holes(msgspec.Struct):
    """
    What one stream lost, as far as is known live.
    """

    count: int = 0
    lasted_ns: int = 0
    """What several say of one stretch counts once."""
    missing: int = 0
    newest: Span = (0, 0)
    """The last stretch of them that is of one piece."""


class Counts:
    """
    All of it.
    """

    def __init__(self) -> None:
        self.streams: dict[tuple[int, Stream], Tally] = {}
        self.lines: dict[int, LineTally] = {}
        self.events: Counter[tuple[str, str, str]] = Counter()
        """By (kind, cause, scope)."""
        self.holes: dict[tuple[str, str], Holes] = {}
        """By (symbol, channel); those of a whole connection are counted with each stream it carries."""
        self.recent: deque[Event] = deque(maxlen=RECENT)
        self.dropped = 0
        """Entries the journal's queue could not take."""
        self.write_failures = 0
        self._wanted: frozenset[Stream] = frozenset()
        self._known: dict[tuple[int, str, str | None], tuple[Tally, LineTally]] = {}

    def frame(self, connection: int, now: int, payload: bytes, seen: Peek, stream: Stream | None) -> None:
        """
        One frame was heard.

        Args:
            connection: it came on.
            now: its `recv_ts`.
            payload: of it.
            seen: `peek` of that.
            stream: it belongs to; None if to none that was asked for.
        """
        known = self._known.get((connection, seen.name, seen.market_name))
        if known is None or known[0].stream is not stream:
            known = self._meet(connection, now, payload, seen, stream)
            if known is None:
                return
        tally, line = known
        size = len(payload)
        line.frames += 1
        line.bytes += size
        tally.frames += 1
        tally.bytes += size
        last = tally.last
        if last <= line.opened:
            tally.before, tally.resumed = last, now
        tally.last = now
        tally.payload = payload
        tally.slot = seen.slot
        ts = seen.ts
        if tally.latency and ts is not None and 0 < ts < _MAX_TS_MS:
            lag = now - ts * MS
            tally.latency[bisect_left(LATENCY_BOUNDS_NS, lag)] += 1
            tally.latency_ns += lag
            if last:
                gap = now - last
                tally.interval[bisect_left(INTERVAL_BOUNDS_NS, gap)] += 1
                tally.interval_ns += gap

    def _meet(
        self, connection: int, now: int, payload: bytes, seen: Peek, stream: Stream | None
    ) -> tuple[Tally, LineTally] | None:
        """
        A frame whose name is not known yet, or that belongs to no stream.
        """
        line = self.line(connection)
        if stream is not None and stream in self._wanted:
            tally = self.streams.get((connection, stream))
            if tally is None and len(self.streams) < MAX_TALLIES:
                is_book = stream.grouping is not None
                tally = self.streams[connection, stream] = Tally(
                    connection,
                    stream,
                    latency=[0] * (len(LATENCY_BOUNDS_NS) + 1) if is_book else [],
                    interval=[0] * (len(INTERVAL_BOUNDS_NS) + 1) if is_book else [],
                )
            if tally is not None:
                # The same object each time, so that a look tells whether a name still stands for it.
                tally.stream = stream
                if len(self._known) >= MAX_NAMES * len(self.streams):
                    self._known.clear()
                self._known[connection, seen.name, seen.market_name] = (tally, line)
                return tally, line
        line.frames += 1
        line.bytes += len(payload)
        if seen.kind is _HEARTBEAT:
            line.heartbeats += 1
            line.last_heartbeat = now
        elif seen.kind is _DATA:
            line.unasked += 1
        return None

    def line(self, connection: int) -> LineTally:
        """
        Of a connection, from now on.
        """
        line = self.lines.get(connection)
        if line is None:
            line = self.lines[connection] = LineTally(connection)
        return line

    def fact(self, fact: Fact, connection: int, now: int) -> None:
        """
        Something about ourselves was put on record.
        """
        match fact:
            case Connected():
                line = self.line(connection)
                line.url, line.up, line.opened = _without_query(fact.url), True, now
                line.last_heartbeat = now
                line.connects += 1
                line.why = line.cause = ""
                line.down_since = 0
            case Disconnected():
                line = self.line(connection)
                line.up, line.why, line.cause = False, fact.why, fact.cause
                line.down_since = now
                line.ends[fact.cause] += 1
            case ConnectFailed():
                line = self.line(connection)
                line.url, line.up, line.why, line.cause = _without_query(fact.url), False, fact.error, fact.cause
                line.failures += 1
                line.down_since = line.down_since or now
            case Overflowed():
                self.dropped += fact.count
            case WriteFailed():
                self.write_failures += 1
            case _:
                pass

    def event(self, event: Event, carried: list[Stream]) -> None:
        """
        The live monitor has told of something.

        Args:
            event: that has ended.
            carried: the streams of its connection, or of all, where it names none.
        """
        self.events[event.kind, event.cause, event.scope] += 1
        self.recent.append(event)
        if event.kind in _NOT_A_HOLE or effect_of(event.kind) not in {"absent", "counted"}:
            return
        if event.symbol is not None and event.channel is not None:
            self._hole((event.symbol, event.channel), (event.start, event.end), event.missing or 0)
            return
        own = [tally for (connection, _), tally in self.streams.items() if connection == event.connection]
        # Trades come when somebody trades: theirs are back when anything is.
        any_back = min((tally.resumed for tally in own if tally.resumed > event.start), default=0)
        for stream in carried:
            # What a whole connection missed is a number of all its streams.
            span = self._missed_by(stream, event, any_back)
            if span[0] < span[1]:
                self._hole((stream.symbol, channel_of(stream)), span, 0)

    def _hole(self, place: tuple[str, str], span: Span, missing: int) -> None:
        holes = self.holes.get(place)
        if holes is None:
            if len(self.holes) >= MAX_TALLIES:
                return
            holes = self.holes[place] = Holes()
        holes.count += 1
        holes.missing += missing
        start, end = span
        first, last = holes.newest
        if start > last or end < first:
            holes.lasted_ns += end - start
            holes.newest = max(holes.newest, span)
        else:
            # The same stretch under another kind, or on another connection.
            holes.lasted_ns += max(first - start, 0) + max(end - last, 0)
            holes.newest = min(first, start), max(last, end)

    def _missed_by(self, stream: Stream, event: Event, any_back: int) -> Span:
        """
        When an event of its connection, or of the recorder, was a hole of this stream; empty if it was none.

        An outage reaches to the book of the last stream to bring one: a market that never speaks makes it longer, and
        that is nobody else's hole.
        """
        if event.connection is None:
            return event.start, event.end
        tally = self.streams.get((event.connection, stream))
        before, back = (tally.before, tally.resumed) if tally is not None else (0, 0)
        begins = not before
        if stream.grouping is None:
            back, begins = any_back, self.line(event.connection).connects <= 1
        if back <= event.start:
            return event.start, event.end
        start, end = max(event.start, before), min(event.end, back)
        # Where nothing had come before: as long as this, it is only the way a run begins.
        return (start, start) if begins and end - start <= FIRST_NS else (start, end)

    def second(self) -> None:
        """
        A second has passed.
        """
        for tally in self.streams.values():
            tally.marks.append(tally.frames)

    def asked_for(self, streams: list[Stream]) -> None:
        """
        This is asked for from now on: names are looked up again, and what is no longer asked for is forgotten.
        """
        self._known.clear()
        self._wanted = frozenset(streams)
        self.streams = {key: tally for key, tally in self.streams.items() if key[1] in self._wanted}


def _without_query(url: str) -> str:
    """
    A query may hold a key, and what is told here is for many eyes.
    """
    return url.partition("?")[0]


def quantile(buckets: list[int], bounds: tuple[int, ...], q: float) -> int | None:
    """
    The upper bound of the bucket that holds the quantile, between bounds by proportion; None of nothing.
    """
    total = sum(buckets)
    if not total:
        return None
    rank, below = q * total, 0
    for number, count in enumerate(buckets):
        if count and below + count >= rank:
            low = bounds[number - 1] if number else 0
            if number == len(bounds):
                return low
            return low + int((bounds[number] - low) * (rank - below) / count)
        below += count
    return bounds[-1]
