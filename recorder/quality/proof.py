"""
What the seconds of a stream can prove: `complete`, `suspect`, `missing` or `unverifiable`. Pure.

Books. A tick that is there proves itself: between two books that are neighbours by the learned pace (`ticks.py`)
nothing is missing, whatever an event says of the connection. Such seconds are *complete*, or *suspect* where an event
says that receive times lie or that something is wrong with what came. Where ticks are not there, seconds are *missing*
if an event says why, or if it lasts longer than any silence goes unnamed or ends where the stream is added (then
nobody asked for it); a shorter stretch without an event is *suspect*: the publisher may have been slow. Books that
came too few or too unevenly to learn a pace from prove nothing: *unverifiable*. And complete says that each tick of
the pace is there. What the venue did not publish, no book can prove.

Trades. The venue counts the fills of a market, so between two fills whose ids follow each other nothing is missing,
even if the recorder was down. Such seconds are *complete*. Where ids are missing, the whole stretch from the fill
before them to the fill after them is *missing*. Where fills came without an id, ids prove nothing (*unverifiable*);
where one came that could not be decoded, it is not in the table (*suspect*). After the last fill of an hour (before
the first ever) nothing is proven yet: such seconds are *missing* inside a hole, *suspect* close to one, else
*unverifiable*, until the next id proves them. Streams without ids (priority fees) are never complete.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from recorder.quality.counter import FillState
from recorder.quality.effects import Effects
from recorder.quality.intervals import (
    Span,
    Spans,
    cut,
    difference,
    intersection,
    joined,
    layered,
    length,
    union,
    widened,
)
from recorder.quality.ticks import LIMIT, Ticks
from recorder.records import HOUR_NS, SECOND_NS, Event

State = Literal["complete", "suspect", "missing", "unverifiable"]
STATES: tuple[State, ...] = ("complete", "suspect", "missing", "unverifiable")

NEAR_NS = 10 * SECOND_NS
"""Fills come late and out of order by some seconds: so close to a hole they may have been lost in it."""

TICKS, IDS = "ticks", "fill ids"
SLOW_TICK, CLOCK_LEAP, UNASKED = "slow tick", "publisher's clock leaps", "nobody asked"
NO_PACE, NO_IDS, NO_FILL, NO_LATER_FILL, NO_EARLIER_FILL = (
    "no even pace",
    "no ids",
    "no fill yet",
    "no later fill yet",
    "no earlier fill",
)
IDS_BEGAN_ANEW = "ids began anew"
ADDED = "added"
UNNUMBERED, UNDECODABLE, CLOCK_STEP = "trade_unnumbered", "undecodable", "clock_step"
NEAR = "near "
"""Before the kind of a hole: close to it."""


class Judged(msgspec.Struct, frozen=True):
    """
    A stretch of one state and one reason.
    """

    start: int
    end: int
    state: State
    why: str
    """What proves it, or the kind of event that speaks against it."""


_Label = tuple[State, str]
_Layer = tuple[Spans, _Label]


def judge_books(ticks: Ticks, said: Effects, *, start: int, until: int, silence_ns: int) -> list[Judged]:
    """
    The seconds of a book stream, in order and without a hole.

    Args:
        ticks: of its books.
        said: what events say of it.
        start: ns at which the hour begins.
        until: ns up to which it is over.
        silence_ns: a silence longer than this of a stream that was asked for is an event.
    """
    if ticks.count and not ticks.cadences:
        return _judge_unproven(said, start=start, until=until, why=NO_PACE)
    covered = _covered(ticks, said, start=start, until=until) if ticks.count else []
    layers: list[_Layer] = [
        *_all(said.late, "suspect", within=covered),
        *_all(said.doubtful, "suspect", within=covered),
        *_all({"cadence_hole": said.absent.get("cadence_hole", [])}, "suspect", within=covered),
        (intersection(ticks.leaps, covered), ("suspect", CLOCK_LEAP)),
        (covered, ("complete", TICKS)),
    ]
    parts = layered(layers, start, until)
    pace = max((pace for _, pace in ticks.cadences), default=SECOND_NS)
    lent_ns = int(pace * LIMIT)
    for hole in difference(union([(start, until)]), covered):
        broken = any(hole[0] <= first and last <= hole[1] for first, last in said.undecodable)
        parts += _explained(hole, said, silence_ns, lent_ns, broken=broken)
    return [Judged(a, b, *label) for a, b, label in joined(parts)]


def _covered(ticks: Ticks, said: Effects, *, start: int, until: int) -> Spans:
    """
    Where no tick is missing.

    Before the first book and after the last one the neighbour lies in another hour. It is taken to be there if it can
    be, and no event says otherwise: a hole over the hour's end has one in both hours.
    """
    assert ticks.first is not None
    assert ticks.last is not None
    pace_then, pace_now = ticks.cadences[0][1], ticks.cadences[-1][1]
    absent = union(*said.absent.values())
    edges: Spans = []
    broken = said.undecodable
    if (
        ticks.first - start <= pace_then * LIMIT
        and not cut(absent, (start, ticks.first))
        and not any(first < ticks.first for first, _ in broken)
    ):
        edges.append((start, ticks.first))
    if until - ticks.last <= pace_now * LIMIT and not any(last > ticks.last for _, last in broken):
        edges += difference(union([(ticks.last, until)]), absent)
    else:
        edges.append((ticks.last, min(ticks.last + pace_now, until)))
    return union(ticks.covered, edges)


def _explained(
    hole: Span, said: Effects, silence_ns: int, lent_ns: int, *, broken: bool
) -> list[tuple[int, int, _Label]]:
    """
    A stretch without ticks. Where something says why, it is missing; what nothing speaks of is judged by its length.

    Args:
        hole: the stretch.
        said: what says why, and when.
        silence_ns: no silence that is longer goes without an event.
        lent_ns: what is left of a hole, and is no longer than this, no tick need have been in: it has its neighbour's.
        broken: a book came, and could not be decoded.
    """
    why = {kind: inside for kind, spans in said.any_absent.items() if (inside := cut(spans, hole))}
    # Where several say so, the one that fills most of it.
    strongest = sorted(why, key=lambda kind: (-length(why[kind]), kind))
    layers: list[_Layer] = [(why[kind], ("missing", kind)) for kind in strongest]
    # Of time that our clock leapt over no book can be.
    leapt = cut(said.late.get(CLOCK_STEP, []), hole)
    layers.append((leapt, ("suspect", CLOCK_STEP)))
    for rest in difference([hole], union(leapt, *why.values())):
        if any(rest[1] == a for a, _ in why.get(ADDED, ())):
            layers.append(([rest], ("missing", UNASKED)))
        elif why and rest[1] - rest[0] <= lent_ns:
            next_to = (kind for kind in strongest if any(rest[0] == b or rest[1] == a for a, b in why[kind]))
            layers.append(([rest], ("missing", next(next_to, strongest[0]))))
        elif rest[1] - rest[0] > silence_ns:
            layers.append(([rest], ("missing", UNDECODABLE if broken else UNASKED)))
        else:
            layers.append(([rest], ("suspect", UNDECODABLE if broken else SLOW_TICK)))
    return layered(layers, *hole)


def judge_trades(
    fills: FillState | None,
    arrivals: Sequence[int],
    said: Effects,
    *,
    start: int,
    until: int,
) -> list[Judged]:
    """
    The seconds of a trade stream, in order and without a hole.

    Args:
        fills: the market's counter at the hour's end; None if it never had a fill with an id.
        arrivals: receipt of the hour's fills that are stored, in order.
        said: what events say of the stream.
        start: ns at which the hour begins.
        until: ns up to which it is over.
    """
    first = arrivals[0] if arrivals else None
    proven_to = proven_until(fills, start=start, until=until)
    if fills is None or fills.hour_anew:
        # After ids that cannot follow the counter, what lies between is not known.
        why = IDS_BEGAN_ANEW if fills is not None else NO_FILL if first is None else NO_IDS
        return _judge_unproven(said, start=start, until=until, why=why)
    # The counter knew a fill from before: from that one on every id was waited for.
    known_before = fills.hour_first is not None and fills.lowest < fills.hour_first
    proven: Spans = []
    # The first that is stored may have come without an id.
    since = start if known_before else max(first or start, fills.begun)
    if proven_to is not None and first is not None:
        proven = union([(since, proven_to)])
    gaps = cut(union(_gaps(said.counted, fills)), (start, until))
    open_before = union([(start, since)]) if proven else []
    unnumbered = [*said.unnumbered, *([(fills.highest_ts, until)] if fills.nameless else [])]
    layers: list[_Layer] = [
        (gaps, ("missing", "trade_gap")),
        (cut(union(_around(arrivals, said.undecodable, start, until)), (start, until)), ("suspect", UNDECODABLE)),
        (cut(union(unnumbered), (start, until)), ("unverifiable", UNNUMBERED)),
        *_all(said.late, "suspect", within=proven),
        (proven, ("complete", IDS)),
        *_unproven(said),
        (open_before, ("unverifiable", NO_EARLIER_FILL)),
        ([(start, until)], ("unverifiable", NO_LATER_FILL)),
    ]
    return _judged(layers, start, until)


def _gaps(counted: Iterable[Event], fills: FillState) -> Iterator[Span]:
    """
    Where ids are missing. Of gaps that share one event, because there are so many, the counter knows where they lie.
    """
    spans = {many.event_id: many.spans for many in fills.many}
    for event in counted:
        yield from spans.get(event.event_id) or [(event.start, event.end)]


def _around(arrivals: Sequence[int], undecodable: Sequence[Span], start: int, until: int) -> Iterator[Span]:
    """
    From the fill before to the fill after each run of fills that came, and could not be decoded.
    """
    for first, last in undecodable:
        before, after = bisect_left(arrivals, first) - 1, bisect_right(arrivals, last)
        yield (
            arrivals[before] if before >= 0 else start,
            arrivals[after] if after < len(arrivals) else until,
        )


def proven_until(fills: FillState | None, *, start: int, until: int) -> int | None:
    """
    Up to when the fill counter proves anything in this hour; None if it had no fill in it.
    """
    if fills is None or fills.hour_last is None or fills.highest_ts < start:
        return None
    # One that came late vouches for nothing after it was due.
    proven = min(max(fills.highest_ts - fills.highest_late, start), until)
    if until >= start + HOUR_NS:
        return proven
    # Of an hour that is not over, ids that were jumped over a moment ago may still be missing.
    return min([proven, *(max(pending.left_ts, fills.begun) for pending in fills.pending)])


def judge_others(said: Effects, *, start: int, until: int) -> list[Judged]:
    """
    The seconds of a stream that has neither ticks nor ids.
    """
    return _judge_unproven(said, start=start, until=until, why=NO_IDS)


def _judge_unproven(said: Effects, *, start: int, until: int, why: str) -> list[Judged]:
    return _judged([*_unproven(said), ([(start, until)], ("unverifiable", why))], start, until)


def _unproven(said: Effects) -> list[_Layer]:
    """
    What events say where nothing else proves anything.
    """
    near = {f"{NEAR}{kind}": widened(spans, NEAR_NS) for kind, spans in said.absent.items()}
    return [
        *_all(said.absent, "missing"),
        *_all(said.late, "suspect"),
        *_all(said.doubtful, "suspect"),
        *_all(near, "suspect"),
    ]


def _all(by_kind: dict[str, Spans], state: State, *, within: Spans | None = None) -> list[_Layer]:
    """
    A layer for each kind.
    """
    return [
        (spans if within is None else intersection(spans, within), (state, kind))
        for kind, spans in sorted(by_kind.items())
    ]


def _judged(layers: list[_Layer], start: int, until: int) -> list[Judged]:
    return [Judged(a, b, *label) for a, b, label in layered(layers, start, until)]
