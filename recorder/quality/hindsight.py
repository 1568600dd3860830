"""
Holes that do not show until later steps, or other streams, are known. Pure.

Until it is learned that the cadence has become faster, a few books that are missing seem to be made up for by those
that come sooner than expected. So the steps of the last while are gone through once more: up to the change by the old
cadence, from there on by the new.

And where a server goes over to its other feed, the books go on between the ticks: one that is lost just there looks
like a late tick. Only a stream of the same publisher that has it tells. Likewise where the publisher becomes slower or
faster, and a book is lost just then.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from heapq import nsmallest
from itertools import accumulate, islice, pairwise
from statistics import median_low

from recorder.quality.cadence import FEWEST, WAIT_TICKS, is_even, is_uneven, off_grid
from recorder.quality.track import Hole, Track

WITNESSES = 8
"""So many streams tell what the others may have missed."""
Pace = tuple[int, int]
"""Cadence, and how much shorter two ticks may be, ms."""
Missed = tuple[int, int, int, int]
"""Publisher's time of the book before and of the book after, ms; books missed between, where one came each so many."""


def faster(track: Track, old: Pace) -> bool:
    """
    Whether the cadence is a faster one now, and even.
    """
    return bool(old[0]) and 6 * track.cadence < 5 * old[0] and not is_uneven(track)


def missed(track: Track, steps: list[int], old: Pace, *, until: int) -> list[Missed]:
    """
    What steps that were judged by an old cadence show by the one that is known now.

    Args:
        track: with the new one.
        steps: the last ones, oldest first, ms.
        old: what they were judged by.
        until: where they end, by the publisher's clock.
    """
    times = _times(steps, until)
    first = next((n for n, at in enumerate(times) if at >= track.whole), len(times))
    steps, times = steps[first:], times[first:]
    change = _change(steps, track.cadence, old[0])
    since = steps[change:]
    if len(since) < FEWEST or not is_even(since, track.cadence, share=0.5):
        return []
    if change:
        # What was learned in between is a mixture of the two.
        old = steps[change - 1], steps[change - 1] // 16
        while (
            change + 1 < len(steps)
            and 4 * old[0] > 5 * track.cadence
            and steps[change] > old[0]
            and abs(steps[change + 1] - old[0]) <= old[1]
        ):
            change += 1  # the old one went on after a hole
    # The step in which it changes began under the old one, unless it is as short as the new ones: those make up for
    # nothing that was missed before.
    ends = change + 1 if 8 * abs(steps[change] - track.cadence) <= track.cadence else change + 2
    return [
        *_of(times[:ends], old, begin=max(change - FEWEST, 0)),
        *_of(times, (track.cadence, track.allow), begin=change + 1),
    ]


def passed_over(
    track: Track, steps: list[int], others: Callable[[], Iterable[Track]], *, until: int, waits: bool
) -> list[Missed]:
    """
    Books that another stream has between two of this one, where a step is longer than one next to it: the server may
    have gone over to its other feed, or the cadence have become another one.

    Args:
        track: as it is.
        steps: the last ones, oldest first, ms.
        others: asked only if they are needed: those of the same connection.
        until: where the steps end, by the publisher's clock.
        waits: not to judge those that the next few books may still make up for.
    """
    cadence, allow = track.cadence, max(2 * track.allow, track.cadence // 16)
    if not cadence or is_uneven(track) or track.feeds is not None:
        return []
    if max(steps, default=0) - min(steps, default=0) <= allow:
        return []  # so it is mostly, and none needs a look by itself
    times, last = _times(steps, until), len(steps) - (WAIT_TICKS if waits else 1)
    open_ = [
        n for n in range(1, last) if steps[n] > min(steps[n - 1], steps[n + 1]) + allow and times[n] >= track.whole
    ]
    found: dict[int, int] = {}
    for other in islice((other for other in others() if other.feeds is None), WITNESSES) if open_ else ():
        those = _times(other.past + other.ring, other.ts, since=other.unbroken)
        around = {n: range(n - 1, min(n + 2 + WAIT_TICKS, len(times))) for n in open_}
        near = {number: _at(those, times[number], allow) for number in set().union(*around.values())}
        for n, numbers in around.items():
            more = _more([near[number] for number in numbers])
            if more is not None and more > 0:
                found[n] = min(more, found.get(n, more))
            if more is not None and abs(steps[n] + steps[n + 1] - 2 * cadence) <= allow:
                open_.remove(n)  # like a late book, as there are many: one that has the same is enough
        if not open_:
            break
    return [(times[n], times[n + 1], more, cadence) for n, more in sorted(found.items())]


def _more(near: list[int | None]) -> int | None:
    """
    Books that another stream has after one of this and before the next, and that those after it do not make up for.
    None if it has not just those two and the ones next to them, so that it keeps to another pace, or is out of step.

    Args:
        near: which of its books are at the times of ours: of the one before, of the first of the two, and so on.
    """
    before, left, *after = near
    if left is None or after[0] is None:
        return None
    if before != left - 1 or len(after) < 2 or after[1] != after[0] + 1:
        return None
    return min(at - left - 1 - books for books, at in enumerate(after) if at is not None)


def _at(those: list[int], time: int, allow: int) -> int | None:
    """
    Which of another stream's books is the nearest to a time, if that is near enough.
    """
    n = bisect_left(those, time)
    before = time - those[n - 1] if n else allow + 1
    after = those[n] - time if n < len(those) else allow + 1
    if min(before, after) > allow:
        return None
    return n - 1 if before <= after else n


def pass_on(track: Track, others: list[Track]) -> None:
    """
    Note in the holes of each of a connection's streams how many books the others had meanwhile: when the cadence
    becomes slower, what was lost just before looks like the first of the longer steps. All of them are to change
    together: each is asked of once, for whoever has changed forgets what it had.
    """
    even = [each for each in (track, *others) if each.feeds is None and not is_uneven(each)]
    unasked = [
        (each, hole) for each in even for hole in each.holes if not hole.asked and (each is track or _old(each, hole))
    ]
    if not unasked:
        return
    # The fewest books are missing where there are any that the others have not.
    fewest = nsmallest(WITNESSES, even, key=lambda each: sum(hole.missing for hole in each.holes))
    theirs = [_times(other.past + other.ring, other.ts, since=other.whole) for other in fewest]
    for each, hole in unasked:
        allow = max(2 * each.allow, each.cadence // 16)
        hole.passed = hole.passed or _between(theirs, hole.left_ts, hole.right_ts, allow)
        hole.asked = _old(each, hole)


def _old(track: Track, hole: Hole) -> bool:
    """
    Whether the others have long had a book since a hole.
    """
    return track.ts - hole.right_ts >= 2 * track.cadence


def _between(theirs: list[list[int]], left: int, right: int, allow: int) -> int:
    """
    Books that others have between two of a stream; 0 if none that has those two has any.
    """
    counts = []
    for those in theirs:
        first, last = bisect_right(those, left + allow), bisect_left(those, right - allow)
        has_left = first > 0 and those[first - 1] >= left - allow
        has_right = last < len(those) and those[last] <= right + allow
        if first < last and has_left and has_right:
            counts.append(last - first)
    return min(counts, default=0)


def _times(steps: list[int], until: int, *, since: int = 0) -> list[int]:
    """
    Of the books between steps of which the last ends at `until`; those from `since` on.
    """
    return [until - gone for gone in accumulate(reversed(steps), initial=0) if until - gone >= since][::-1]


def _change(steps: list[int], cadence: int, old: int) -> int:
    """
    The first step after the last two in a row that are alike and longer than a cadence; nearer to the old one.
    """
    longer = min(5 * cadence, 2 * (old + cadence))
    pairs = list(pairwise(steps))
    for n in range(len(pairs) - 1, -1, -1):
        a, b = pairs[n]
        if 4 * min(a, b) > longer and abs(a - b) * 8 <= a:
            usual = median_low(steps[max(n - 2, 0) : n + 1])
            if n > 1 and abs(b - usual) * 16 > usual and 16 * off_grid(b, cadence) <= cadence:
                return n  # the last of them is two new ticks, and not one old one
            return n + 2
    return 0


def _of(times: list[int], pace: Pace, *, begin: int) -> list[Missed]:
    """
    Steps from `begin` on that jump over ticks which the next few books do not make up for.
    """
    cadence, allow = pace
    found = []
    for n in range(begin, len(times) - 1):
        left = times[n]
        after = times[n + 1 : n + 2 + WAIT_TICKS]
        count = min((at - left + allow) // cadence - books for books, at in enumerate(after, 1))
        if count > 0:
            found.append((left, times[n + 1], count, cadence))
    return found
