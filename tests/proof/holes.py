"""
What is missing as holes, the events that cover them, and events in which nothing is missing. Pure.
"""

import itertools
import re
from bisect import bisect_left

from terms import (
    BOOKS_MISSING,
    BURST_NS,
    FILLS_MISSING,
    INFERRED,
    TRUE_HOLE_SLACK_NS,
    Hole,
    Mark,
    Meant,
)
from virtual import Side

from recorder.quality.events import channel_of
from recorder.records import SECOND_NS, Stream

DOUBT = "a slower publisher and a lost book look the same"
"""Said in the evidence of an event: if the publisher was slower, it is true."""
STEADY = 8
"""Intervals alike that are a pace."""
FEWEST_BEFORE = 5
"""Intervals that tell what was usual before one."""
_PACE = re.compile(r"one comes each (\d+) ms")
_IDS = re.compile(r"fill ids? (\d+)(?: to (\d+))? of ")


def holes_of(stream: Stream, meant: list[Meant], finder: "Finder") -> list[Hole]:
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
    else:
        _bound_by_newer(live)
    for hole in holes:
        hole.mark = finder.least(hole)
        hole.marks = list({id(mark): mark for each in hole.missing for mark in finder.covering(each)}.values())
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


def _bound_by_newer(books: list[Meant]) -> None:
    """
    A book that is missing when a newer one comes is missing from then on: that one may have come on another connection,
    to which the stream has moved, while the server still held back what this one was to bring.
    """
    newer = None
    for book in reversed(books):
        if book.stored:
            newer = book.arrival if newer is None else min(newer, book.arrival)
        elif newer is not None:
            book.arrival = min(book.arrival, newer)


class Finder:
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
            and (
                mark.start - TRUE_HOLE_SLACK_NS <= meant.arrival <= mark.end + TRUE_HOLE_SLACK_NS
                or _names(mark, meant.fill_id)
            )
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


def _names(mark: Mark, fill_id: int | None) -> bool:
    """
    Whether an event names a fill by its id: of one that the venue would have sent late, it tells before that time.
    """
    ids = _IDS.match(mark.evidence) if mark.kind == "trade_gap" and fill_id is not None else None
    return ids is not None and fill_id is not None and int(ids[1]) <= fill_id <= int(ids[2] or ids[1])


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


def late_ticks_of(ticks: list[int], spread_ns: int, heard: list[bool] | None = None) -> list[tuple[int, int]]:
    """
    The times in which the publisher itself said nothing for about twice its interval; the inner part that links of any
    latency have in common.

    Args:
        ticks: when each came on the slowest link.
        spread_ns: by how much that is slower than the quickest.
        heard: whether anybody has a book of each. A pace that nobody was there to hear teaches none what is usual.
    """
    gaps = [after - before for before, after in itertools.pairwise(ticks)]
    known = list(range(len(gaps))) if heard is None else [n for n in range(len(gaps)) if heard[n] and heard[n + 1]]

    def usual(n: int) -> int:
        before = bisect_left(known, n)
        # The first ones have none before them: what comes after tells as well.
        near = sorted(gaps[k] for k in known[max(0, before - 10) : before]) if before >= FEWEST_BEFORE else []
        near = near or sorted(gaps[:10])
        return near[len(near) // 4]

    def is_late(n: int) -> bool:
        # Where it has just become faster, those that follow tell; the last one of the slower pace is not late.
        follow = max(gaps[n + 1 : n + 1 + FEWEST_BEFORE], default=gaps[n])
        return gaps[n] >= 1.8 * usual(n) or (gaps[n] >= 1.8 * follow and gaps[n] >= 1.2 * usual(n))

    return [(ticks[n], ticks[n + 1] - spread_ns) for n in range(len(gaps)) if is_late(n)]


def slow_ticks_of(mark: Mark, ticks: list[int], spread_ns: int) -> list[tuple[int, int]]:
    """
    For an event that says that the publisher may have been slower: likewise, by the pace that it names, whatever the
    last few intervals were. Empty where the publisher never had that pace before.
    """
    named = _PACE.search(mark.evidence)
    if DOUBT not in mark.evidence or named is None:
        return []
    pace = int(named[1]) * 1_000_000
    gaps = [after - before for before, after in itertools.pairwise(ticks)]
    before = [abs(gap - pace) * 5 <= pace for gap, end in zip(gaps, ticks[1:], strict=True) if end <= mark.start]
    if not any(all(before[n : n + STEADY]) for n in range(len(before) - STEADY + 1)):
        return []
    return [(ticks[n], ticks[n + 1] - spread_ns) for n, gap in enumerate(gaps) if gap >= 1.8 * pace]


def holds_any(mark: Mark, meant: list[Meant], late_ticks: list[tuple[int, int]], side: Side) -> bool:
    """
    Whether anything is missing inside an event that says so; on its connection, if it is about one.
    """
    edges = [edge for life in side.lives for edge in (life.started, life.ended)]
    if mark.kind not in INFERRED or mark.start == mark.end:
        return True  # what happened to ourselves needs no proof
    if any(mark.start <= edge <= mark.end for edge in edges):
        return True  # where a run begins or ends, nothing can be vouched for
    start, end = mark.start - TRUE_HOLE_SLACK_NS, mark.end + TRUE_HOLE_SLACK_NS
    since = _open_since(mark, side)
    if mark.kind == "cadence_hole" and any(
        # Of two feeds, the other may have said something in the first part of it. Of what passed before its connection
        # was there, it says nothing.
        2 * (min(end, after) - max(start, before)) >= after - max(before, since) > 0
        for before, after in late_ticks
    ):
        return True
    ids = _IDS.match(mark.evidence) if mark.kind == "trade_gap" else None
    if ids is not None:
        # It names them: nothing else can make it true.
        first, last = int(ids[1]), int(ids[2] or ids[1])
        return any(
            not each.named and each.stream.channel == "trades" and first <= (each.fill_id or 0) <= last
            for each in meant
            if each.stream.symbol == mark.symbol
        )
    for each in meant:
        if mark.symbol is not None and mark.symbol != each.stream.symbol:
            continue
        if mark.symbol is not None and mark.channel not in {None, channel_of(each.stream)}:
            continue
        carriers = side.carriers[each.stream]
        if mark.connection is not None and mark.connection not in carriers:
            continue
        # With copies, what another connection brought is missing on this one all the same; so it is without, where it
        # was due on both, because the stream had just been asked for on one as well. (One carrier is probation.)
        both = len(carriers) > 2 or mark.connection in each.would
        missing = not each.named or (both and mark.connection not in {None, *each.brought})
        late = each.arrival - each.at > SECOND_NS and start <= each.at <= end
        # On a connection that is slow, it would have come later than it did on another.
        would = each.would.get(mark.connection, each.arrival) if mark.connection is not None else each.arrival
        if (missing and (start <= each.arrival <= end or start <= would <= end)) or late:
            return True
    return False


def _open_since(mark: Mark, side: Side) -> int:
    """
    When the connection that an event is about first brought anything; 0 if that is not known.
    """
    begun = [
        frames[0].recv_ts
        for client, frames in side.heard.items()
        if frames and mark.connection == side.clients[client] and frames[0].recv_ts <= mark.start
    ]
    return max(begun, default=0)


def excess(hole: Hole, holes: list[Hole]) -> tuple[float, float] | None:
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
            for other in holes
            if other.mark is mark
            or (other.first <= mark.end and mark.start <= other.last and concerns(mark, other.missing[0]))
        ]
    before = min((other.before for other in alike if other.before is not None), default=None)
    after = max((other.after for other in alike if other.after is not None), default=None)
    return (
        max(0, before - mark.start) / 1e9 if before is not None else 0.0,
        max(0, mark.end - after) / 1e9 if after is not None else 0.0,
    )
