"""
The cadence of a book stream: learned from its own steps, so that a missed tick can be seen. Pure.

A publisher sends each market's book every tick, changed or not. Steps are measured by the publisher's clock (`ts`): a
book that is late on its way is not missing. The cadence is the mean of the steps about their median; where two feeds
alternate, so that steps are of two kinds, half of that of two together. Single holes, late ticks and bursts do not
deceive it.

A tick is missed only where it is missed by both clocks: `ts` says how many there should have been, and at least so much
time has passed here since the book before was due. A late tick is not one: if the next ones come all the sooner, the
count comes right again, and the hole is dropped. If instead all later ones are late by as much, the publisher's timer
stood still and goes on from there: up to a second of that is no hole either, for no book was left out.
"""

from itertools import pairwise
from statistics import median_low

from recorder.quality.track import Hole, Track
from recorder.records import SECOND_NS

MS = 1_000_000
NEVER = 1 << 62
FEWEST = 8
"""Steps that tell a cadence."""
BLOCK = 32
"""Steps after which it is learned again."""
WAIT_TICKS = 4
"""After a hole, before it is judged."""
STREAK = 4
"""Steps in a row that missed a tick, or were too short, may be another cadence."""
CRISP_NS = 10 * SECOND_NS
"""A cadence that was so long in force was one."""
FORMER_NS = 5 * SECOND_NS
"""One that was so long in force may come back."""
RETURNS_NS = 600 * SECOND_NS
"""After so long, what came before says little of what comes now."""
JITTER_MS = 25
"""What books of a fast cadence are off by, though their timer is not."""
MAX_STEP_MS = 60_000
"""A longer one teaches nothing."""


def adopt(track: Track, cadence: int, spread: int, now: int) -> None:
    """
    From now on this is the cadence.
    """
    changed = abs(cadence - track.cadence) * 7 > track.cadence
    lasted = bool(track.cadence) and now - track.paced > FORMER_NS and not is_uneven(track) and not track.guessed
    guessed = lasted and is_twice(track, cadence) and not may_return(track, cadence, now)
    if lasted and (changed or spread * 8 > cadence):
        # Also where two feeds have begun, which may yet turn out to look like one of half the cadence.
        track.former, track.left = track.cadence, track.held or now
    if not track.cadence or changed:
        track.paced, track.guessed, track.held = now, guessed, 0
    track.cadence = cadence = max(cadence, 10)
    track.spread = spread
    even = max(cadence // 16, 3 * spread, min(JITTER_MS, cadence // 8))
    if not is_uneven(track):
        track.allow, track.calm_low = even, cadence // 2
        # The book before may have been late by twice as much.
        track.high = 2 * cadence - 3 * even - 1
    else:
        # Two feeds that alternate, or a publisher with no rhythm: what is usual reaches up to cadence and spread, and
        # where a book is missing it is two cadences. The limit lies midway.
        track.allow, track.calm_low = max(cadence - spread, 0) // 2, 0
        track.high = 2 * cadence - track.allow - 1


def is_near(cadence: int, other: int, spread: int = 0) -> bool:
    """
    Whether two cadences, ms, are the same but for what a few books may be off, whose steps have a median `spread`.
    """
    return abs(cadence - other) <= max(cadence // 33, 2 * spread)


def is_twice(track: Track, cadence: int) -> bool:
    """
    Whether a cadence is twice that of a stream: just every second of its books may be lost.
    """
    return is_near(cadence, 2 * track.cadence, track.spread)


def may_return(track: Track, cadence: int, now: int) -> bool:
    """
    Whether a cadence is the one from before, which was in force not long ago.
    """
    return is_near(cadence, track.former) and now - track.left <= RETURNS_NS


def rhythm(steps: list[int]) -> tuple[int, int]:
    """
    Cadence and spread of steps, ms.
    """
    cadence = median_low(steps)
    if is_even(steps, cadence, share=0.6):
        # Lost books leave single steps too short, and slow ticks those of several.
        single = _mean_about(steps, cadence)
        cadence = max(single, _of_ticks(steps, single))
    elif _is_grid(steps, least := sorted(steps)[len(steps) // 4]):
        # Some of the ticks were missed, up to every third.
        cadence = _of_ticks(steps, _mean_about(steps, least))
        steps = [step for step in steps if abs(step - cadence) * 5 <= cadence]
    else:
        pairs = [a + b for a, b in pairwise(steps)]
        cadence = _mean_about(pairs, median_low(pairs)) // 2
    return cadence, median_low([abs(step - cadence) for step in steps])


def _is_grid(steps: list[int], tick: int) -> bool:
    """
    Whether steps are whole ticks, and not so many of them missed that two feeds may alternate.
    """
    whole = sum(0 < step < 4 * tick and off_grid(step, tick) * 8 <= tick for step in steps)
    return whole >= 0.9 * len(steps) and 5 * sum(steps) <= 8 * tick * len(steps)


def _mean_about(steps: list[int], median: int) -> int:
    """
    Mean of the steps about their median: of a late book and the short step after it, only together are they true.
    """
    near = steps if _all_about(steps, median) else [step for step in steps if abs(step - median) * 5 <= median]
    return (sum(near) + len(near) // 2) // len(near)


def _of_ticks(steps: list[int], tick: int) -> int:
    """
    The mean tick of steps that are one or a few of them: where the book after a late one is missing, single steps alone
    would seem shorter than they are.
    """
    if _all_about(steps, tick):
        return (sum(steps) + len(steps) // 2) // len(steps)
    whole = [step for step in steps if tick < 2 * step < 8 * tick and off_grid(step, tick) * 5 <= tick]
    ticks = sum((2 * step + tick) // (2 * tick) for step in whole)
    return (sum(whole) + ticks // 2) // ticks if ticks else tick


def is_even(steps: list[int], cadence: int, *, share: float = 0.8) -> bool:
    """
    Whether so many of the steps are about the cadence.
    """
    return _all_about(steps, cadence) or (
        sum(abs(step - cadence) * 5 <= cadence for step in steps) >= share * len(steps)
    )


def _all_about(steps: list[int], cadence: int) -> bool:
    """
    Whether no step is off a cadence by more than a fifth of it: so it mostly is, and no step needs a look by itself.
    """
    return bool(steps) and 5 * max(steps) <= 6 * cadence and 5 * min(steps) >= 4 * cadence


def relearn(track: Track, now: int) -> None:
    """
    Take in a block of steps, and how late its books were at least.
    """
    steps, track.ring = track.ring, track.ring[-2 * STREAK :]
    track.past = steps[: -2 * STREAK]
    learn(track, steps, now)
    if track.lag_min < NEVER and not track.late_since and track.base is not None and not track.deaf:
        # Down at once, up by and by: clocks drift, routes change, and a backlog must not become the usual.
        ahead = track.lag_min - track.base
        track.base += ahead if ahead < 0 else ahead // 8
    track.lag_min = NEVER


def learn(track: Track, steps: list[int], now: int) -> None:
    """
    Learn from steps. A much slower cadence is not believed while every other step may be one that lost a book, nor if
    it is over.
    """
    cadence, spread = rhythm(steps)
    if spread * 8 > cadence and track.cadence and not is_uneven(track) and _keeps_to(steps, track.cadence):
        return  # some of its ticks are missed
    slower = cadence * 20 > track.cadence * 23
    busy = track.odd or track.alone or track.doubt
    over = min(steps[-STREAK:]) * 4 < cadence * 3
    if not slower or (not busy and not over and is_even(steps, cadence)):
        adopt(track, cadence, spread, now)


def _keeps_to(steps: list[int], tick: int) -> bool:
    """
    Whether steps are whole ticks of a known cadence, though many of them are missed.
    """
    whole = [step for step in steps if 2 * step > tick and off_grid(step, tick) * 5 <= tick]
    single = sum(2 * step < 3 * tick for step in whole)
    return len(whole) * 5 >= len(steps) * 4 and single * 5 >= len(whole) * 2


def tardy(track: Track) -> int:
    """
    How much later than those before it the last book was built, ms; 0 if so much that the timer must have stood still.
    """
    late = gone = 0
    if is_uneven(track):
        return 0
    for step in track.ring[:-5:-1]:
        gone += step
        late = max(late, (gone + track.cadence // 2) % track.cadence - track.cadence // 2)
    return late if late <= 2 * track.allow else 0


def missed(track: Track, step: int, now: int) -> int:
    """
    Ticks that a step by the publisher's clock jumps over, and for which there was time here.
    """
    # While it is in doubt whether the cadence has doubled, a step may be as uneven as of the double.
    allow = track.cadence // 3 if track.doubt else track.allow
    ticks = (step + allow) // track.cadence - 1 - track.strays
    if ticks <= 0:
        return 0
    # The first book may be a stored copy: what was due before it came is told by the outage.
    first = track.anew and track.whole == track.ts
    late = lateness(track)
    before = (late // MS + track.allow) // track.cadence if first else 0
    # Only where books are known to be late: else a step of the publisher's clock would pass for time.
    passed = (now - track.recv + (late if track.late_since or first else 0)) // MS
    return max(min(ticks, (passed + track.cadence // 2) // track.cadence - 1 - track.strays) - before, 0)


def lateness(track: Track) -> int:
    """
    How late the last book was, ns.
    """
    return max(track.recv - track.ts * MS - (track.base or 0), 0)


def catch_up(track: Track, ts: int) -> None:
    """
    Another book has come: a hole that it makes up for is none.
    """
    # Of two feeds, every other book stands off the grid of both: only where they meet the count is sure.
    allow = (track.cadence + track.spread) // 2 if is_uneven(track) else track.allow
    tick = track.cadence
    if not is_uneven(track) and len(track.ring) >= FEWEST:
        # By some ms too long, and they add up from tick to tick.
        tick = min(_of_ticks(track.ring[-BLOCK:], tick), tick)
    for hole in track.holes:
        hole.count += 1 + track.strays
        hole.missing = min(hole.missing, (ts - hole.left_ts + allow) // tick - hole.count)
        hole.off_ms = min(hole.off_ms, off_grid(ts - hole.left_ts, track.cadence))
    track.holes = [hole for hole in track.holes if hole.missing > 0]


def misses_still(track: Track, hole: Hole, ts: int, *, first: bool) -> bool:
    """
    Whether a hole is one by a cadence that was adopted after it; it is judged by that from here on. In the `first` of
    them the cadence changed, so that it is of no whole ticks.
    """
    ticks = min(
        (hole.step_ms + track.allow) // track.cadence - 1,
        (ts - hole.left_ts + track.allow) // track.cadence - hole.count,
    )
    hole.missing, hole.off_ms = min(hole.missing, ticks), off_grid(hole.step_ms, track.cadence)
    return ticks > 0 and (first or 8 * hole.off_ms <= track.cadence)


def ripe(track: Track, ts: int) -> list[Hole]:
    """
    Take out the holes that can be judged.
    """
    if track.doubt or (track.odd and not track.alone):
        return []
    wait = WAIT_TICKS * track.cadence * (2 if is_uneven(track) else 1)
    judged = [hole for hole in track.holes if ts - hole.right_ts >= wait]
    if judged:
        track.holes = [hole for hole in track.holes if ts - hole.right_ts < wait]
    return judged


def slower(track: Track) -> int | None:
    """
    The cadence that the last steps would be, if they were all slower; None if they are too uneven to be one.
    """
    steps = track.ring[-STREAK:]
    if len(steps) < STREAK or 4 * min(steps[1:]) <= 5 * track.cadence:
        return None
    cadence = median_low(steps[1:])
    # The first of them began under the old cadence.
    even = max(cadence // 10, 4 * track.spread)
    return cadence if all(abs(step - cadence) <= even for step in steps[1:]) else None


def comes_each(track: Track, pace: int) -> bool:
    """
    Whether the cadence of a stream is about so much, or its last two steps were.
    """
    last = track.ring[-2:]
    return abs(track.cadence - pace) * 5 <= pace or (
        len(last) == 2 and all(abs(step - pace) * 5 <= pace for step in last)
    )


def is_uneven(track: Track) -> bool:
    """
    Whether steps differ so much that only two together tell the cadence.
    """
    return track.spread * 8 > track.cadence


def slower_pairs(track: Track) -> tuple[int, int] | None:
    """
    Cadence and spread that the last steps would be, if two feeds alternate and both are slower; else None.
    """
    steps = track.ring[-2 * STREAK :]
    if not is_uneven(track) or len(steps) < 2 * STREAK:
        return None
    pairs = [a + b for a, b in pairwise(steps[1:])]
    cadence, spread = rhythm(steps[1:])
    even = all(abs(pair - 2 * cadence) * 25 <= 2 * cadence for pair in pairs)
    return (cadence, spread) if even and 4 * cadence > 5 * track.cadence else None


def off_grid(step: int, cadence: int) -> int:
    """
    How far a step is from a whole number of ticks, ms.
    """
    off = step % cadence
    return min(off, cadence - off)


def was_late(track: Track, hole: Hole) -> bool:
    """
    Whether no book after a hole came when one was due: the publisher's timer stood still, and goes on from there.

    A cadence that is known from a few steps only is off by some ms, which add up from tick to tick: there the hole by
    itself has to be off as well, by what the last steps together say of a tick.
    """
    off = hole.off_ms
    if hole.start - track.paced < BLOCK * track.cadence * MS and track.ring:
        off = min(off, off_grid(hole.step_ms, _of_ticks(track.ring, track.cadence)))
    return off > max(track.allow, track.cadence // 16, JITTER_MS)
