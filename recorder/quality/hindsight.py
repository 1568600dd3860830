"""
Holes that do not show until later steps, or other streams, are known. Pure.

Until it is learned that the cadence has become faster, a few books that are missing seem to be made up for by those
that come sooner than expected. So the steps of the last while are gone through once more: up to the change by the old
cadence, from there on by the new.

And where a server goes over to its other feed, the books go on between the ticks: one that is lost just there looks
like a late tick. Only a stream of the same publisher that has it tells.
"""

from collections.abc import Callable, Iterable
from itertools import accumulate, pairwise
from statistics import median_low

from recorder.quality.cadence import FEWEST, WAIT_TICKS, is_even, is_uneven, off_grid
from recorder.quality.track import Track

Pace = tuple[int, int]
"""Cadence, and how much shorter two ticks may be, ms."""
Missed = tuple[int, int, int]
"""Publisher's time of the book before and of the book after, ms; and books missed between them."""


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
    change = _change(steps, track.cadence)
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
    # The step in which it changes began under the old one.
    return [
        *_of(times[: change + 2], old, begin=max(change - FEWEST, 0)),
        *_of(times, (track.cadence, track.allow), begin=change + 1),
    ]


def passed_over(track: Track, others: Callable[[], Iterable[Track]]) -> list[Missed]:
    """
    Books that another stream has between two of this one, which are off its grid and a tick apart or nearly two.

    Args:
        track: as it is.
        others: asked only if they are needed: those of the same connection.
    """
    steps, cadence, allow = track.past + track.ring, track.cadence, max(2 * track.allow, track.cadence // 16)
    if not cadence or is_uneven(track) or track.feeds is not None:
        return []
    at = [
        n
        for n in range(1, len(steps) - 1)
        if cadence < steps[n] <= track.high
        and off_grid(steps[n], cadence) > allow
        and max(abs(steps[n - 1] - cadence), abs(steps[n + 1] - cadence)) <= allow
    ]
    if not at:
        return []
    times, found = _times(steps, track.ts), []
    theirs = [_times(other.past + other.ring, other.ts) for other in others() if other.feeds is None]
    for n in at:
        left, right = times[n], times[n + 1]
        counts = []
        for those in theirs:
            near = [ts for ts in those if left - allow <= ts <= right + allow]
            between = [ts for ts in near if left + allow < ts < right - allow]
            if between and near[0] <= left + allow and near[-1] >= right - allow and left >= track.whole:
                counts.append(len(between))
        if counts:
            found.append((left, right, min(counts)))
    return found


def _times(steps: list[int], until: int) -> list[int]:
    """
    Of the books between steps of which the last ends at `until`.
    """
    return [until - gone for gone in accumulate(reversed(steps), initial=0)][::-1]


def _change(steps: list[int], cadence: int) -> int:
    """
    The first step after the last two in a row that are alike and longer than a cadence.
    """
    pairs = list(pairwise(steps))
    for n in range(len(pairs) - 1, -1, -1):
        a, b = pairs[n]
        if 4 * min(a, b) > 5 * cadence and abs(a - b) * 8 <= a:
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
            found.append((left, times[n + 1], count))
    return found
