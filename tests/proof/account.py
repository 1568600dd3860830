"""
The ground truth against the recorder: what the venue meant to send, and where each of it is. Pure.

The venue's ledger says what was sent, dropped, withheld and lost, and what nobody was there to hear; the `Side` says
what the recorder's clients did; the `Lake` what a seal made of it. Each book and each fill that was meant, from the
first start to the last end, is one of

* stored: a row of the lake, on any connection, or its raw bytes in `undecodable`;
* covered: inside an event of its stream, of a connection that should have brought it, or of the recorder, of a kind
  that says something is missing;
* unverifiable: a fill before the first or after the last that was stored, which no id can prove;
* unexplained: none of these. There must be none.

Consecutive missing books or fills of one stream are a `Hole`. Its event is the one that contains it whole and exceeds
it least; what it exceeds beyond the frames received just before and after is its error, which should be nothing.
"""

import itertools
from bisect import bisect_left
from collections.abc import Iterable
from typing import Literal

import msgspec
from virtual import Side

from recorder.quality.events import channel_of
from recorder.records import SECOND_NS, Stream
from recorder.simulator.ledger import Line

HEARD_LINES = frozenset({"sent", "ack", "error", "heartbeat", "garbage"})
NO_DATA = frozenset({"stale_heartbeat", "binary", "bus_error"})
"""Garbage that is a heartbeat or an error to whoever hears it."""
MOMENTS = frozenset({"recorder_started", "recorder_stopped", "connected"})
"""What every run has."""
BOOKS_MISSING = frozenset(
    {
        "recorder_down", "connected", "disconnected", "not_acknowledged", "rejected", "silent", "cadence_hole",
        "halted", "overflow", "journal_damaged", "seal_failed",
    }
)  # fmt: skip
"""Kinds that say books are missing. `connected` reaches from a run's start to the first book."""
FILLS_MISSING = (BOOKS_MISSING - {"silent", "cadence_hole", "halted"}) | {"trade_gap"}
INFERRED = frozenset({"silent", "cadence_hole", "halted", "trade_gap"})
BURST_NS = 300_000_000
"""What comes within this is of one poll of the chain."""
TRUE_HOLE_SLACK_NS = 60_000_000
"""Of latency and jitter on the way."""

State = Literal["stored", "covered", "unverifiable", "unexplained"]


class Mark(msgspec.Struct, frozen=True, gc=False):
    """
    An event of `quality`, put together from its hours.
    """

    kind: str
    cause: str
    scope: str
    connection: int | None
    symbol: str | None
    channel: str | None
    start: int
    end: int
    missing: int | None
    evidence: str


class Lake(msgspec.Struct, frozen=True):
    """
    What was sealed.
    """

    rows: frozenset[tuple[str, int]]
    """(run, seq) of all tables of data."""
    raw: frozenset[tuple[str, int]]
    """Of `undecodable`."""
    nameless: frozenset[tuple[str, int]]
    """Fills whose id the venue left out."""
    marks: list[Mark]


class Meant(msgspec.Struct):
    """
    A book or a fill that the venue meant to send.
    """

    stream: Stream
    at: int
    """When it was due at the venue."""
    arrival: int
    """When it came, or would have."""
    fill_id: int | None = None
    copy: bool = False
    """A stored book, sent after a subscribe: it says nothing of the time it comes at."""
    stored: bool = False
    named: bool = False
    """Stored as a row, with its fill id if it is a fill; what is kept raw only is not."""
    why: set[str] = set()
    """What became of it on connections that did not bring it."""
    connections: set[int] = set()
    """Those it was sent or due on."""
    brought: set[int] = set()
    """Those it came on."""
    state: State = "unexplained"


class Hole(msgspec.Struct):
    """
    Consecutive missing books or fills of a stream.
    """

    stream: Stream
    missing: list[Meant]
    before: int | None
    """Receipt of the frame before it; None: it is the first."""
    after: int | None
    mark: Mark | None = None
    """The event that contains it whole, if one does."""

    @property
    def why(self) -> set[str]:
        """
        What became of its frames.
        """
        return set().union(*(meant.why for meant in self.missing))

    @property
    def first(self) -> int:
        """
        When the first would have come.
        """
        return min(meant.arrival for meant in self.missing)

    @property
    def last(self) -> int:
        """
        When the last would have come.
        """
        return max(meant.arrival for meant in self.missing)


class Account(msgspec.Struct):
    """
    Where everything is.
    """

    meant: int
    states: dict[State, int]
    unexplained: list[Meant]
    unstored: list[tuple[str, int]]
    """Frames that are in the journal and neither in the lake nor said there by another connection."""
    holes: list[Hole]
    marks: list[Mark]
    fills_missing: dict[Stream, int]
    """Ids between the first and the last stored that are not."""
    fills_claimed: dict[Stream, int]
    """What the trade gaps of a stream count."""
    needless: list[Mark]
    """Events of kinds that say that something is missing, in which nothing is: no book or fill that did not come, came
    late or could not be read, and no time in which the publisher was late by a tick or more."""


def account(ledger: Iterable[Line], side: Side, lake: Lake) -> Account:
    """
    Find each frame that was meant.

    Args:
        ledger: of the venue, whole and in order.
        side: what the recorder did.
        lake: what was sealed.
    """
    lines = list(ledger)
    begin, end = side.lives[0].started, max(life.ended for life in side.lives)
    known: dict[tuple[str, int, int | str], Meant] = {}
    unstored = _take_clients(lines, side, lake, known)
    books = {name: stream for name, stream in side.streams.items() if stream.channel != "trades"}
    ticks: list[Line] = []
    for line in lines:
        if not begin <= line.t_ns <= end:
            continue
        if line.what == "tick":
            ticks.append(line)
        elif line.what == "unheard" and line.channel in side.streams:
            stream = side.streams[line.channel]
            _nobody(known, (line.channel, line.fill_id or 0, "fill"), stream, line, side)
    spoken: dict[str, list[int]] = {name: [] for name in books}
    for name, at, _ in known:
        if name in spoken:
            spoken[name].append(at)
    for name, stream in books.items():
        times = sorted(spoken[name])
        for number, line in enumerate(ticks):
            # A server that listens to one feed of two sends the book of this tick when that feed brings it.
            until = ticks[number + 1].t_ns if number + 1 < len(ticks) else end + 1
            if bisect_left(times, line.t_ns) == bisect_left(times, until):
                _nobody(known, (name, line.t_ns, ""), stream, line, side)
    meant = [each for each in known.values() if begin <= each.at <= end]
    by_stream: dict[Stream, list[Meant]] = {}
    for each in meant:
        by_stream.setdefault(each.stream, []).append(each)
    finder = _Finder(lake.marks)
    holes: list[Hole] = []
    fills_missing: dict[Stream, int] = {}
    for stream, those in by_stream.items():
        those.sort(key=lambda each: (each.fill_id or 0, each.at) if stream.channel == "trades" else (each.at, 0))
        holes += _holes(stream, those, finder)
        if stream.channel == "trades":
            ids = [each.fill_id or 0 for each in those if each.named]
            nameless = [e for e in those if not e.named and ids and ids[0] < (e.fill_id or 0) < ids[-1]]
            fills_missing[stream] = len(nameless)
    claimed: dict[Stream, int] = dict.fromkeys(fills_missing, 0)
    for stream in claimed:
        claimed[stream] = sum(m.missing or 0 for m in finder.of(stream) if m.kind == "trade_gap")
    lost = [each for each in meant if not each.stored]
    ways = sorted(side.latency_ns.values())
    late = _late_ticks([line.t_ns + ways[-1] for line in lines if line.what == "tick"], ways[-1] - ways[0])
    states: dict[State, int] = {"stored": 0, "covered": 0, "unverifiable": 0, "unexplained": 0}
    for each in meant:
        states[each.state] += 1
    return Account(
        meant=len(meant),
        states=states,
        unexplained=[each for each in lost if each.state == "unexplained"],
        unstored=unstored,
        holes=holes,
        marks=lake.marks,
        fills_missing=fills_missing,
        fills_claimed=claimed,
        needless=[mark for mark in lake.marks if mark.kind not in MOMENTS and not _holds_any(mark, meant, late, side)],
    )


def _nobody(
    known: dict[tuple[str, int, int | str], Meant],
    key: tuple[str, int, int | str],
    stream: Stream,
    line: Line,
    side: Side,
) -> None:
    if key not in known:
        way = side.latency_ns[min(side.carriers[stream])]
        known[key] = Meant(stream, line.t_ns, line.t_ns + way, line.fill_id, why={"nobody"})
        known[key].connections |= side.carriers[stream]


def _take_clients(
    lines: list[Line],
    side: Side,
    lake: Lake,
    known: dict[tuple[str, int, int | str], Meant],
) -> list[tuple[str, int]]:
    """
    Follow each client through the ledger and through what it heard; both are in one order, and only an end is lost.
    """
    of: dict[int, list[Line]] = {client: [] for client in side.heard}
    lost: set[tuple[int, int]] = set()
    for line in lines:
        if line.client in of:
            if line.what == "lost":
                lost.add((line.client, line.seq or 0))
            elif line.what in HEARD_LINES or line.what in {"dropped", "withheld"}:
                of[line.client].append(line)
    stored: dict[str | None, bool] = {}
    """Whether it is a row with all it needs, by content."""
    waiting: list[tuple[str, int, int, str | None, Meant | None]] = []
    for client, its in of.items():
        heard = iter(side.heard[client])
        before = 0
        undecided: list[Meant] = []
        for line in its:
            frame = None
            if line.what in HEARD_LINES and (client, line.seq) not in lost:
                frame = next(heard, None)
            meant = _meant(line, side, known, side.latency_ns[side.clients[client]])
            if meant is not None:
                meant.connections.add(side.clients[client])
            if frame is None:
                if meant is not None and not meant.stored:
                    meant.why.add("lost" if line.what == "sent" else line.why or line.what)
                    meant.arrival = max(meant.arrival, before)
                    undecided.append(meant)
                continue
            for each in undecided:
                # What was dropped behind a backlog would have come with it.
                late = "backlog" in each.why
                each.arrival = frame.recv_ts if late else min(each.arrival, frame.recv_ts)
            undecided.clear()
            before = frame.recv_ts
            place = (frame.run, frame.seq or 0)
            if frame.seq is None:
                if meant is not None:
                    meant.why.add("uncommitted")
                    meant.arrival = frame.recv_ts
            elif place in lake.rows or place in lake.raw:
                if meant is not None:
                    meant.stored, meant.arrival = True, frame.recv_ts
                    meant.brought.add(side.clients[client])
                    meant.named |= place in lake.rows and place not in lake.nameless
                stored[line.sha] = place in lake.rows and place not in lake.nameless
            elif line.what in {"sent", "garbage"} and line.why not in NO_DATA:
                waiting.append((*place, side.clients[client], line.sha, meant))
        assert next(heard, None) is None, f"client {client} heard more than the ledger says"
        for each in undecided:
            # The venue may go on for long after the recorder has given up a dead connection.
            each.arrival = min(each.arrival, side.gone.get(client, each.arrival))
    unstored = []
    for run, seq, connection, sha, meant in waiting:
        if sha in stored:
            if meant is not None:
                meant.stored, meant.named = True, meant.named or stored[sha]
                meant.brought.add(connection)
        else:
            unstored.append((run, seq))
    return unstored


def _meant(line: Line, side: Side, known: dict[tuple[str, int, int | str], Meant], latency_ns: int) -> Meant | None:
    if line.what not in {"sent", "dropped", "withheld"} or line.channel not in side.streams:
        return None
    stream = side.streams[line.channel]
    at = line.due_ns or line.t_ns
    if stream.channel == "trades":
        key: tuple[str, int, int | str] = (line.channel, line.fill_id or 0, "fill")
    else:
        key = (line.channel, at, "initial" if line.why == "initial" else "")
    if key not in known:
        known[key] = Meant(stream, at, line.t_ns + latency_ns, line.fill_id, line.why == "initial")
    return known[key]


def _holes(stream: Stream, meant: list[Meant], finder: "_Finder") -> list[Hole]:
    """
    Runs of what is missing, each with its event; settles the state of all.
    """
    holes: list[Hole] = []
    before: int | None = None
    copies = [each for each in meant if each.copy]
    for each in copies:
        each.state = "stored" if each.stored else "covered" if finder.covering(each) else "unexplained"
    live = [each for each in meant if not each.copy]
    for is_stored, group in itertools.groupby(live, key=lambda each: each.stored):
        those = list(group)
        if is_stored:
            for each in those:
                each.state = "stored"
            before = those[-1].arrival
            if holes and holes[-1].after is None:
                holes[-1].after = those[0].arrival
            continue
        hole = Hole(stream, those, before, None)
        holes.append(hole)
    if stream.channel == "trades":
        _bound_by_receipt(holes, meant)
    for hole in holes:
        hole.mark = finder.least(hole)
        for each in hole.missing:
            if finder.covering(each):
                each.state = "covered"
            elif each.stream.channel == "trades" and (hole.before is None or hole.after is None):
                each.state = "unverifiable"
    return holes


def _bound_by_receipt(holes: list[Hole], fills: list[Meant]) -> None:
    """
    Fills come in bursts, each second, and inside a burst in another order than that of their ids: what bounds a hole is
    what came in the bursts before and after.
    """
    ids = [each.fill_id or 0 for each in fills]
    for hole in holes:
        first, last = hole.missing[0].fill_id or 0, hole.missing[-1].fill_id or 0
        lower = [e.arrival for e in fills[: bisect_left(ids, first)] if e.stored and e.arrival < hole.first - BURST_NS]
        higher = [
            e.arrival for e in fills[bisect_left(ids, last + 1) :] if e.stored and e.arrival > hole.last + BURST_NS
        ]
        hole.before, hole.after = max(lower, default=hole.before), min(higher, default=hole.after)


class _Finder:
    """
    Events by what they can cover.
    """

    def __init__(self, marks: list[Mark]) -> None:
        self._by_stream: dict[tuple[str | None, str | None], list[Mark]] = {}
        self._others: list[Mark] = []
        for mark in sorted(marks, key=lambda mark: mark.start):
            if mark.scope == "stream":
                self._by_stream.setdefault((mark.symbol, mark.channel), []).append(mark)
            else:
                self._others.append(mark)

    def of(self, stream: Stream) -> list[Mark]:
        """
        Of a stream alone.
        """
        return self._by_stream.get((stream.symbol, channel_of(stream)), [])

    def covering(self, meant: Meant) -> list[Mark]:
        """
        The events that a missing frame lies in.
        """
        kinds = FILLS_MISSING if meant.stream.channel == "trades" else BOOKS_MISSING
        return [
            mark
            for mark in (*self.of(meant.stream), *self._others)
            if mark.kind in kinds
            and mark.start - TRUE_HOLE_SLACK_NS <= meant.arrival <= mark.end + TRUE_HOLE_SLACK_NS
            and concerns(mark, meant)
        ]

    def least(self, hole: Hole) -> Mark | None:
        """
        The event that contains a hole whole and exceeds it least.
        """
        first, *rest = (self.covering(each) for each in hole.missing)
        whole = [mark for mark in first if all(mark in those for those in rest)]
        before, after = hole.before or hole.first, hole.after or hole.last
        return min(
            whole,
            key=lambda mark: (max(0, before - mark.start) + max(0, mark.end - after), mark.end - mark.start),
            default=None,
        )


def concerns(mark: Mark, meant: Meant) -> bool:
    """
    Whether an event is about this stream, a connection that should have brought it, or the recorder.
    """
    if mark.symbol is not None:
        return (mark.symbol, mark.channel or channel_of(meant.stream)) == (
            meant.stream.symbol,
            channel_of(meant.stream),
        )
    return mark.scope == "recorder" or mark.connection in meant.connections


def _late_ticks(ticks: list[int], spread_ns: int) -> list[tuple[int, int]]:
    """
    The times in which the publisher itself said nothing for about twice its interval; the inner part that links of any
    latency have in common.
    """
    gaps = [after - before for before, after in itertools.pairwise(ticks)]
    return [
        (ticks[n], ticks[n + 1] - spread_ns)
        for n in range(5, len(gaps))
        if gaps[n] >= 1.8 * sorted(gaps[max(0, n - 10) : n])[min(n, 10) // 4]
    ]


def _holds_any(mark: Mark, meant: list[Meant], late_ticks: list[tuple[int, int]], side: Side) -> bool:
    """
    Whether anything is missing inside an event that says so; on its connection, if it is about one.
    """
    edges = [edge for life in side.lives for edge in (life.started, life.ended)]
    if mark.kind not in INFERRED or mark.start == mark.end:
        return True  # what happened to ourselves needs no proof
    if any(mark.start <= edge <= mark.end for edge in edges):
        return True  # where a run begins or ends, nothing can be vouched for
    start, end = mark.start - TRUE_HOLE_SLACK_NS, mark.end + TRUE_HOLE_SLACK_NS
    if mark.kind == "cadence_hole" and any(start <= before and after <= end for before, after in late_ticks):
        return True
    for each in meant:
        if mark.symbol is not None and mark.symbol != each.stream.symbol:
            continue
        if mark.symbol is not None and mark.channel not in {None, channel_of(each.stream)}:
            continue
        carriers = side.carriers[each.stream]
        if mark.connection is not None and mark.connection not in carriers:
            continue
        # With copies, what another connection brought is missing on this one all the same. (One carrier is probation.)
        missing = not each.named or (len(carriers) > 2 and mark.connection not in {None, *each.brought})
        late = each.arrival - each.at > SECOND_NS and start <= each.at <= end
        if (missing and start <= each.arrival <= end) or late:
            return True
    return False


def excess(hole: Hole, account_: Account) -> tuple[float, float] | None:
    """
    How far the hole's event reaches beyond what was received before and after it: seconds; None without an event.

    An event of a connection or of the recorder bounds the holes of all its streams: the widest counts.
    """
    mark = hole.mark
    if mark is None:
        return None
    alike = [hole]
    if mark.scope != "stream":
        alike += [
            other
            for other in account_.holes
            if other.mark is mark
            or (other.first <= mark.end and mark.start <= other.last and concerns(mark, other.missing[0]))
        ]
    before = min((other.before for other in alike if other.before is not None), default=None)
    after = max((other.after for other in alike if other.after is not None), default=None)
    return (
        max(0, before - mark.start) / 1e9 if before is not None else 0.0,
        max(0, mark.end - after) / 1e9 if after is not None else 0.0,
    )
