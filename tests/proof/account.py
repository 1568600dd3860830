"""
The ground truth against the recorder: what the venue meant to send, and where each of it is. Pure.

The venue's ledger says what was sent, dropped, withheld and lost, and what nobody was there to hear; the `Side` says
what the recorder's clients did; the `Lake` what a seal made of it. Each book and each fill that was meant, from the
first start to the last end, is one of

* stored: a row of the lake, on any connection, or its raw bytes in `undecodable`;
* covered: inside an event of its stream, of a connection that should have brought it (where nobody was there on any,
  of one that may carry the stream), or of the recorder, of a kind that says something is missing; or a fill that a
  `trade_gap` names by its id, also where the venue would have sent it late, after the gap's end;
* suspect: a book that no event tells of, at a time that `coverage` does not vouch for, where that is all anyone can
  say: beside a tick that really was late (what was received looks just as if the publisher's timer had been so), or
  inside a `two_feeds`. A recorder that leaves other holes to doubt does not pass;
* unverifiable: a fill before the first or after the last that was stored, which no id can prove;
* unexplained: none of these. There must be none.

Consecutive missing books or fills of one stream are a `Hole`. Its event is the one that contains it whole and exceeds
it least; what it exceeds beyond the frames received just before and after is its error, which should be nothing.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise

import msgspec
from holes import Finder, concerns, holds_any, holes_of, late_ticks_of, slow_ticks_of
from terms import MOMENTS, TRUE_HOLE_SLACK_NS, Hole, Lake, Mark, Meant, State
from virtual import Side

from recorder.records import Stream
from recorder.simulator.ledger import Line

HEARD_LINES = frozenset({"sent", "ack", "error", "heartbeat", "garbage"})
BACKLOG_NS = 500_000_000
"""A frame that comes this long after it was due waited somewhere."""
NO_DATA = frozenset({"stale_heartbeat", "binary", "bus_error"})
"""Garbage that is a heartbeat or an error to whoever hears it."""


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
    fills_nameless: dict[Stream, int]
    """Fills that came without their id, or could not be read: nobody can tell whether their ids are missing."""

    @property
    def fills_wrong(self) -> int:
        """
        By how many the trade gaps miscount.
        """
        return sum(
            max(
                0,
                missing - self.fills_nameless[stream] - self.fills_claimed[stream],
                self.fills_claimed[stream] - missing,
            )
            for stream, missing in self.fills_missing.items()
        )

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
    finder = Finder(lake.marks)
    holes: list[Hole] = []
    fills_missing: dict[Stream, int] = {}
    fills_nameless: dict[Stream, int] = {}
    for stream, those in by_stream.items():
        those.sort(key=lambda each: (each.fill_id or 0, each.at) if stream.channel == "trades" else (each.at, 0))
        holes += holes_of(stream, those, finder)
        if stream.channel == "trades":
            ids = [each.fill_id or 0 for each in those if each.named]
            nameless = [e for e in those if not e.named and ids and ids[0] < (e.fill_id or 0) < ids[-1]]
            fills_missing[stream] = len(nameless)
            fills_nameless[stream] = sum(each.stored for each in nameless)
    claimed: dict[Stream, int] = dict.fromkeys(fills_missing, 0)
    for stream in claimed:
        claimed[stream] = sum(m.missing or 0 for m in finder.of(stream) if m.kind == "trade_gap")
    lost = [each for each in meant if not each.stored]
    beside = _beside_late_ticks([line.t_ns for line in lines if line.what == "tick"])
    feeds = [mark for mark in lake.marks if mark.kind == "two_feeds"]
    for each in lost:
        if each.state == "unexplained" and each.stream.channel != "trades" and _is_doubted(each, lake):
            late = any(a <= each.at <= b for a, b in beside)
            two = any(m.start <= each.arrival <= m.end + TRUE_HOLE_SLACK_NS and concerns(m, each) for m in feeds)
            each.state = "suspect" if late or two else "unexplained"
    ways = sorted(side.latency_ns.values())
    due = [line.t_ns + ways[-1] for line in lines if line.what == "tick"]
    times = sorted(each.at for each in meant if each.stored and each.stream.channel != "trades" and not each.copy)
    each_tick = pairwise([*(line.t_ns for line in lines if line.what == "tick"), lines[-1].t_ns + 1])
    heard = [bisect_left(times, tick) < bisect_left(times, following) for tick, following in each_tick]
    late = late_ticks_of(due, ways[-1] - ways[0], heard)
    needless = [
        mark
        for mark in lake.marks
        if mark.kind not in MOMENTS
        and not holds_any(mark, meant, [*late, *slow_ticks_of(mark, due, ways[-1] - ways[0])], side)
    ]
    states: dict[State, int] = {"stored": 0, "covered": 0, "suspect": 0, "unverifiable": 0, "unexplained": 0}
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
        fills_nameless=fills_nameless,
        needless=needless,
    )


def _beside_late_ticks(ticks: list[int]) -> list[tuple[int, int]]:
    """
    From two ticks before to two after each that was late by a tenth of the usual, or more: what is lost there may be
    made up for, as far as anyone can see.
    """
    gaps = [after - before for before, after in pairwise(ticks)]
    return [
        (ticks[max(n - 2, 0)], ticks[min(n + 3, len(ticks) - 1)])
        for n, gap in enumerate(gaps)
        if 10 * gap >= 11 * sorted(gaps[max(0, n - 10) : n + 10])[len(gaps[max(0, n - 10) : n + 10]) // 2]
    ]


def _is_doubted(meant: Meant, lake: Lake) -> bool:
    """
    Whether `coverage` does not call the instant complete at which a book would have come.
    """
    spans = lake.doubts.get((meant.stream.symbol, meant.stream.channel), [])
    return any(a - TRUE_HOLE_SLACK_NS <= meant.arrival <= b + TRUE_HOLE_SLACK_NS for a, b in spans)


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
    nobody: list[tuple[Meant, int, int]] = []
    """With when it would have come, and where."""
    awaited: set[int] = set()
    """What was due to somebody who was there."""
    for client, its in of.items():
        heard = iter(side.heard[client])
        before = 0
        way = side.latency_ns[side.clients[client]]
        undecided: list[tuple[Meant, int]] = []
        """What did not come, with when it would have at the earliest."""
        for line in its:
            frame = None
            if line.what in HEARD_LINES and (client, line.seq) not in lost:
                frame = next(heard, None)
            meant = _meant(line, side, known)
            if meant is not None:
                meant.connections.add(side.clients[client])
                if frame is not None or (line.due_ns or line.t_ns) <= side.gone.get(client, line.t_ns):
                    awaited.add(id(meant))
            if frame is None:
                if (line.due_ns or line.t_ns) > side.gone.get(client, line.t_ns):
                    # The venue talks to somebody who is not there any more, and does not know.
                    if meant is not None:
                        meant.why.add("nobody")
                        nobody.append((meant, (line.due_ns or line.t_ns) + way, side.clients[client]))
                    continue
                if meant is not None:
                    meant.why.add("lost" if line.what == "sent" else line.why or line.what)
                    undecided.append((meant, max(line.t_ns + way, before)))
                continue
            for each, at in undecided:
                # What is missing from a backlog would have come with it.
                due = line.due_ns or line.t_ns
                late = frame.recv_ts - due > BACKLOG_NS and each.at > due - BACKLOG_NS
                would = frame.recv_ts if late or "backlog" in each.why else min(at, frame.recv_ts)
                _would_have_come(each, would, side.clients[client])
            undecided.clear()
            before = frame.recv_ts
            place = (frame.run, frame.seq or 0)
            if frame.seq is None:
                if meant is not None:
                    meant.why.add("uncommitted")
                    _would_have_come(meant, frame.recv_ts, side.clients[client])
            elif place in lake.rows or place in lake.raw:
                if meant is not None:
                    meant.arrival = min(meant.arrival, frame.recv_ts) if meant.stored else frame.recv_ts
                    meant.stored = True
                    meant.brought.add(side.clients[client])
                    meant.named |= place in lake.rows and place not in lake.nameless
                stored[line.sha] = place in lake.rows and place not in lake.nameless
            elif line.what in {"sent", "garbage"} and line.why not in NO_DATA:
                waiting.append((*place, side.clients[client], line.sha, meant))
                if meant is not None:
                    _would_have_come(meant, frame.recv_ts, side.clients[client])
        assert next(heard, None) is None, f"client {client} heard more than the ledger says"
        for each, at in undecided:
            # The venue may go on for long after the recorder has given up a dead connection.
            _would_have_come(each, min(at, side.gone.get(client, at)), side.clients[client])
    for meant, at, connection in nobody:
        if id(meant) not in awaited:
            # Nobody was there on any connection: it was due wherever the stream may be carried. Else those tell when it
            # would have come who were there, not a connection that was given up.
            meant.connections |= side.carriers[meant.stream]
            _would_have_come(meant, at, connection)
    unstored = []
    for run, seq, connection, sha, meant in waiting:
        if sha in stored:
            if meant is not None:
                meant.stored, meant.named = True, meant.named or stored[sha]
                meant.brought.add(connection)
        else:
            unstored.append((run, seq))
    return unstored


def _would_have_come(meant: Meant, at: int, connection: int) -> None:
    """
    On one of its connections; the earliest counts.
    """
    meant.would[connection] = min(meant.would.get(connection, at), at)
    if not meant.stored:
        meant.arrival = min(meant.arrival or at, at)


def _meant(line: Line, side: Side, known: dict[tuple[str, int, int | str], Meant]) -> Meant | None:
    if line.what not in {"sent", "dropped", "withheld"} or line.channel not in side.streams:
        return None
    stream = side.streams[line.channel]
    at = line.due_ns or line.t_ns
    if stream.channel == "trades":
        key: tuple[str, int, int | str] = (line.channel, line.fill_id or 0, "fill")
    else:
        key = (line.channel, at, "initial" if line.why == "initial" else "")
    if key not in known:
        known[key] = Meant(stream, at, 0, line.fill_id, line.why == "initial")
    return known[key]
