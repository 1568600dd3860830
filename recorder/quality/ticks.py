"""
The ticks of a book stream: what pace its books came at, and which ticks of that pace are not there. Pure.

A publisher sends each market's book every tick, changed or not, so an interval of two ticks is a book that is not
there. What a tick is must be learned, for nobody tells it, and it may change within the hour. It is learned from
`BLOCK` intervals at a time: the median of those, if they are even (by the publisher's clock, else by ours). A slower
pace is believed once it lasted for `BELIEVED` blocks, so that a stretch in which every second book is lost does not
pass for a slow one.

Intervals are measured by our clock and by the publisher's. A book that is late here, but one tick after the one before
it by the publisher's clock, is late and not missing. Where only the publisher's clock leaps, nothing is certain: it was
set, or books were dropped behind a backlog.
"""

from collections.abc import Sequence
from itertools import pairwise
from operator import sub

import msgspec

from recorder.quality.intervals import Spans, difference, union

FEWEST = 8
"""Intervals from which a pace can be learned."""
BLOCK = 64
BELIEVED = 3
UNEVEN = 4
"""A block is uneven where half the distance between its quartiles is more than this part of its median."""
_LOOK_BACK = 2048
"""Books before a leap of the publisher's clock that tell whether they came late."""
LIMIT = 1.5
"""An interval longer than so many ticks, by our clock, is one in which a tick may not be there."""
STEP_LIMIT = 1.8
"""And by the publisher's, if it stamps: with a tick lost it is two, and a slow one is seldom so slow."""


class Ticks(msgspec.Struct, frozen=True):
    """
    What is known of a stream's ticks.
    """

    count: int = 0
    """Books that came at their own tick."""
    missing: int | None = None
    """Ticks of the learned pace that are not there, between the first book and the last; None if none was learned."""
    cadences: list[tuple[int, int]] = []
    """(since when, ns of a tick): the paces learned, in order. Empty if the books came too few or too unevenly."""
    covered: Spans = []
    """Between books that are neighbours by the pace."""
    leaps: Spans = []
    """Where the publisher's clock says that ticks are missing and ours does not."""
    longest: int | None = None
    """Longest interval between two books, ns."""
    first: int | None = None
    last: int | None = None


def learn(recv_ts: Sequence[int], ts_ms: Sequence[int] | None) -> Ticks:
    """
    The ticks of books that came at `recv_ts` (ns, in order).

    Args:
        recv_ts: of each book that is one of its tick's own: repeats and stored copies are left out.
        ts_ms: the publisher's clock of each, ms; None if it did not send one with each.
    """
    if not recv_ts:
        return Ticks()
    gaps = list(map(sub, recv_ts[1:], recv_ts[:-1]))
    known = Ticks(count=len(recv_ts), longest=max(gaps, default=None), first=recv_ts[0], last=recv_ts[-1])
    blocks = _blocks(len(gaps))
    steps = list(map(sub, ts_ms[1:], ts_ms[:-1])) if ts_ms is not None else None
    paces = _paces([_pace(gaps[at:to], steps[at:to] if steps is not None else None) for at, to in blocks])
    if not paces:
        return known
    holes: Spans = []
    leaps: Spans = []
    missing = 0
    for number, (at, to) in enumerate(blocks):
        # The pace may change within a block, and its neighbours tell to what.
        slowest = max(paces[max(number - 1, 0) : number + 2])
        limit, step_limit = int(LIMIT * slowest), int(STEP_LIMIT * slowest)
        pace = paces[number]
        if max(gaps[at:to]) <= limit and (steps is None or max(steps[at:to]) * 1_000_000 <= step_limit):
            continue
        for i in range(at, to):
            gap = gaps[i]
            stamped = steps is not None and steps[i] > 0
            step = steps[i] * 1_000_000 if steps is not None and stamped else gap
            end = recv_ts[i + 1]
            if gap > limit and step > (step_limit if stamped else limit):
                missing += max(round(step / pace) - 1, 1)
                holes.append((recv_ts[i] + pace, end))
            elif step > step_limit:
                assert ts_ms is not None
                since = recv_ts[i]
                if _was_late(recv_ts, ts_ms, i, step):
                    since = max(min(end - step + pace, since), recv_ts[0])
                leaps.append((since, end))
    return msgspec.structs.replace(
        known,
        missing=missing,
        cadences=_changes([(recv_ts[at], pace) for (at, _), pace in zip(blocks, paces, strict=True)]),
        covered=difference(union([(recv_ts[0], recv_ts[-1])]), union(holes)),
        leaps=union(leaps),
    )


def _was_late(recv_ts: Sequence[int], ts_ms: Sequence[int], at: int, step: int) -> bool:
    """
    Whether a book before a leap of the publisher's clock came late by as much: then what lies between was dropped
    behind a backlog, and would have come while that stood. Else the clock itself was set.
    """
    before = range(max(at - _LOOK_BACK, 0), at + 1, max(min(at, _LOOK_BACK) // 128, 1))
    usual = min(recv_ts[i] - ts_ms[i] * 1_000_000 for i in before)
    return 2 * (recv_ts[at] - ts_ms[at] * 1_000_000 - usual) >= step


def _blocks(intervals: int) -> list[tuple[int, int]]:
    """
    (from, to) of each block; the last is not shorter than half of one, unless it is the only one.
    """
    if intervals < FEWEST:
        return []
    whole = max(round(intervals / BLOCK), 1)
    bounds = [*range(0, whole * BLOCK, BLOCK), intervals]
    return list(pairwise(bounds))


def _pace(gaps: list[int], steps: list[int] | None) -> int | None:
    """
    The pace of a block; None if it is uneven. By the publisher's clock if that is even: it knows nothing of the way.
    """
    if steps is not None and (pace := _even(steps)) is not None:
        return pace * 1_000_000
    return _even(gaps)


def _even(intervals: list[int]) -> int | None:
    """
    Their median, if they are even.
    """
    ordered = sorted(intervals)
    count = len(ordered)
    median = ordered[count // 2]
    spread = (ordered[count * 3 // 4] - ordered[count // 4]) // 2
    return median if median > 0 and spread * UNEVEN <= median else None


def _paces(learned: list[int | None]) -> list[int]:
    """
    The pace of each block; empty if none was even.
    """
    # An uneven block has the pace that was, or the first that comes.
    pace = next((p for p in learned if p is not None), None)
    if pace is None:
        return []
    paces = []
    for own in learned:
        pace = own if own is not None else pace
        paces.append(pace)
    return _believed(paces)


def _believed(paces: list[int]) -> list[int]:
    """
    Without the slower stretches that were too short.
    """
    if len(paces) < BELIEVED:
        return [min(paces)] * len(paces)
    # Each window's fastest, and of the windows a block lies in, the one that is slowest: what stays is every pace that
    # lasted, and each change where it was.
    fastest = [min(paces[i : i + BELIEVED]) for i in range(len(paces) - BELIEVED + 1)]
    return [max(fastest[max(i - BELIEVED + 1, 0) : i + 1]) for i in range(len(paces))]


def _changes(paces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """
    The paces without those that are the same as the one before, give or take a tenth.
    """
    changes: list[tuple[int, int]] = []
    for since, pace in paces:
        if not changes or abs(pace - changes[-1][1]) * 10 > changes[-1][1]:
            changes.append((since, pace))
    return changes
