"""
Two feeds that alternate in one stream, told apart by slot and by time. Pure.

A server that listens to two publishers forwards every book of both. Each of the two keeps its own even cadence, and its
slots never step back: the stream as a whole does neither. So a stream in which slots step back is taken for two, each
judged like any other stream, as soon as a few books of each are there. Which of the two a book is of is told by the
time since the last one of each, in whole ticks, by how far the slot is ahead of its last one, and by whose turn it is.
"""

from itertools import accumulate, pairwise
from operator import sub

import msgspec

from recorder.quality import cadence
from recorder.quality.track import Feeds, Hole, Track
from recorder.records import SECOND_NS

Book = tuple[int, int, int]
"""(ts, recv_ts, slot)."""
Words = tuple[str, int, int, str, int | None, int | None]

FEWEST = 8
"""Books from which two feeds can be told apart."""
TRIED = (8, 9, 12, 16, 20, 24)
"""Numbers of books after which that is tried."""
FEWEST_EACH = 3
LONE_TICKS = 3
"""A feed that misses more ticks than this, while the other comes, has gone for now."""
LONE_NS = 30 * SECOND_NS
"""A feed that is gone for so long was switched off."""
KEPT_NS = 600 * SECOND_NS
"""Two feeds that were heard before an outage are expected after it for so long."""
_SLOT_MS = 400
_OFF_BEAT, _OTHER_SLOT, _STEPS_BACK = 3.0, 6.0, 3.0
"""What speaks most against a book's being of a feed. Time alone says little: the timer may just have become another."""
_GONE = 2.0
_TURN = 0.5
"""A feed that did not bring the last book is more likely to bring the next."""


def step_back(books: list[Book]) -> Book | None:
    """
    The book before the first step back in slot.
    """
    return next((a for a, b in pairwise(books) if b[2] < a[2]), None)


def after_step_back(books: list[Book]) -> list[Book]:
    """
    The books from the last step back in slot on: if many, they are of one feed.
    """
    return books[max((n for n in range(1, len(books)) if books[n][2] < books[n - 1][2]), default=0) :]


def split(books: list[Book], pace: tuple[int, int], *, rough: bool = False) -> tuple[list[bool], int, int] | None:
    """
    Tell the books of two feeds apart.

    Args:
        books: in the order they came.
        pace: cadence and spread that were known before, ms.
        rough: they are of a few of these books only.

    Returns:
        For each book whether it is of the second feed (the first book is of the first), and cadence and spread of both;
        None if they are not two, or cannot be told apart.
    """
    found: list[tuple[float, list[bool], int, int]] = []
    for second in _ways(books, pace[0]):
        chains = [[book for book, other in zip(books, second, strict=True) if other == of] for of in (False, True)]
        turns = sum(a != b for a, b in pairwise(second))
        if min(len(chain) for chain in chains) < FEWEST_EACH or 2 * turns < len(books):
            continue
        if any(b[2] < a[2] for chain in chains for a, b in pairwise(chain)):
            continue
        steps = [[b[0] - a[0] for a, b in pairwise(chain)] for chain in chains]
        if min(map(min, steps)) <= 0:
            continue
        paces = (pace, cadence.rhythm(max(steps, key=len)))
        for tick, spread in reversed(paces) if rough else paces:
            if tick and spread * 8 <= tick and all(_is_even(each, tick) for each in steps):
                uneven = sum(_uneven(a, b, tick) for chain in chains for a, b in pairwise(chain))
                found.append((uneven, second, tick, spread))
                break
    if not found:
        return None
    _, second, tick, spread = min(found, key=lambda each: each[0])
    return second, tick, spread


def _ways(books: list[Book], tick: int) -> list[list[bool]]:
    """
    By turns; by slot, against what the time explains; by the time within a tick.
    """
    turns = [bool(n & 1) for n in range(len(books))]
    ahead = [slot * _SLOT_MS - ts for ts, _, slot in books]
    ordered = sorted(ahead)
    _, limit = max((b - a, (a + b) // 2) for a, b in pairwise(ordered))
    first = ahead[0] > limit
    by_slot = [(each > limit) != first for each in ahead]
    ways = [turns, by_slot]
    if tick:
        by_time, last = [False], books[0][0]
        for ts, _, _ in books[1:]:
            by_time.append(2 * (ts - last) <= tick or 8 * cadence.off_grid(ts - last, tick) > tick)
            last = last if by_time[-1] else ts
        ways.append(by_time)
    return ways


def _uneven(before: Book, after: Book, tick: int) -> float:
    """
    What speaks against two books' being neighbours in one feed: off the beat, ticks between them, slots out of step.
    """
    step, slots = after[0] - before[0], after[2] - before[2]
    out = 2 * abs(slots - step / _SLOT_MS) if slots or before[2] else 0.0
    return 8 * cadence.off_grid(step, tick) / tick + (2 * step + tick) // (2 * tick) + out


def _is_even(steps: list[int], tick: int) -> bool:
    """
    Whether nearly all of them are whole ticks, and most of them one.
    """
    whole = [step for step in steps if step > 0 and 8 * cadence.off_grid(step, tick) <= tick]
    single = sum(step < 2 * tick - tick // 4 for step in whole)
    return len(whole) * 4 >= len(steps) * 3 and single * 2 > len(whole) and min(steps) * 2 > tick


def is_second(feeds: Feeds, first: Track, ts: int, slot: int | None) -> bool:
    """
    Whether a book is of the second feed.
    """
    second = feeds.second
    assert second is not None
    if feeds.lone:
        # The one that has gone must fit much better; of the one that comes, a slot may be one more or less by chance.
        gone = second.recv < first.recv
        here, away = (first, second) if gone else (second, first)
        back = _against(away, ts, slot) + _GONE < _against(here, ts, slot, chance=1)
        return back == gone
    turn = _TURN if first.recv >= second.recv else -_TURN
    return _against(second, ts, slot) < _against(first, ts, slot) + turn


def _against(track: Track, ts: int, slot: int | None, *, chance: int = 0) -> float:
    """
    What speaks against a book's being the next of a feed. `chance`: so many slots off are none.
    """
    step = ts - track.ts
    off = cadence.off_grid(step, track.cadence) if 2 * step > track.cadence else track.cadence - step
    found = min(8 * off / track.cadence, _OFF_BEAT)
    if slot is not None and track.slot:
        ahead = slot - track.slot
        found += min(2 * max(abs(ahead - max(step, 0) / _SLOT_MS) - chance, 0), _OTHER_SLOT)
        if ahead < 0:
            found += _STEPS_BACK
    return found


def took_over(track: Track, sister: Track, hole: Hole) -> bool:
    """
    Whether a feed that seems to be back after a long hole is the other one, whose timer has slipped: that one came all
    the while, and has not since.
    """
    gone = LONE_TICKS * track.cadence * cadence.MS
    came_on = hole.start < sister.recv <= hole.end
    return hole.missing > LONE_TICKS and came_on and track.recv - sister.recv > gone


def stands_in(feeds: Feeds, track: Track, sister: Track, hole: Hole) -> bool:
    """
    Whether the other feed has the books that seem to be missing, where both tick at the same time and have the same
    slots: nothing tells whose they are. A server that repeats each book some ms later looks like that.
    """
    if feeds.total or cadence.off_grid(abs(track.ts - sister.ts), track.cadence) > track.allow:
        return False
    times = accumulate(reversed(sister.past + sister.ring), sub, initial=sister.ts)
    first, last = max(hole.left_ts + track.allow, sister.unbroken - 1), hole.right_ts - track.allow
    return sum(first < at < last for at in times) >= hole.missing


def exchange(feeds: Feeds, track: Track, sister: Track, hole: Hole) -> None:
    """
    What is known of the two is exchanged: the one goes on where the other stopped, and that is the one which has gone
    since before the hole.
    """
    ts, recv, slot = hole.left_ts, hole.start, hole.left_slot or 0
    hole.left_ts, hole.start, hole.left_slot = sister.ts, sister.recv, sister.slot
    hole.step_ms = hole.right_ts - sister.ts
    hole.missing = (hole.step_ms + track.allow) // track.cadence - 1
    sister.ts, sister.recv, sister.slot = ts, recv, slot
    sister.ring, sister.past, sister.whole, sister.holes = [], [], ts, []
    sister.odd = sister.alone = sister.doubt = sister.strays = sister.alt_count = 0
    feeds.lone = recv


def anchored(track: Track, book: Book, tick: int, spread: int) -> Track:
    """
    A copy of a track that begins with this book.
    """
    copy = copied(track)
    copy.slot = copy.slot or book[2]
    if (copy.ts, copy.recv) != book[:2]:
        copy.ts, copy.recv, copy.slot = book
        copy.whole, copy.told, copy.moved = copy.ts, 0, copy.recv
        copy.ring, copy.past, copy.holes = [], [], []
        copy.odd = copy.alone = copy.doubt = copy.strays = copy.alt_count = 0
    if (copy.cadence, copy.spread) != (tick, spread):
        cadence.adopt(copy, tick, spread, copy.recv)
    copy.early = []
    copy.watch = copy.feeds = None
    return copy


def copied(track: Track) -> Track:
    """
    Deeply.
    """
    return msgspec.convert(msgspec.to_builtins(track), Track)


def as_one(track: Track) -> Track:
    """
    A copy of what is known of a stream as one.
    """
    copy = copied(track)
    copy.feeds = None
    return copy


def become(track: Track, other: Track) -> None:
    """
    Take over what is known of another track, but for the contents of the books, which are of the stream.
    """
    for name in Track.__struct_fields__:
        if not name.startswith(("content", "skew")):
            setattr(track, name, getattr(other, name))


def alternate(feeds: Feeds, until: int) -> Words:
    """
    Both of them, up to `until`.
    """
    steps = f"{feeds.total} steps back in slot, by up to {feeds.deepest}"
    words = f"{steps if feeds.total else 'twice as many books, at two even paces'}: the server forwards two feeds"
    return "two_feeds", feeds.start, until, words, feeds.first_slot, feeds.last_slot


def alone(feeds: Feeds, until: int) -> Words:
    """
    Only one of them, up to `until`.
    """
    words = (
        f"for {(until - feeds.lone) / 1e9:.1f} s only one of two feeds came: whether the other was switched off or its "
        "books are lost, nothing tells"
    )
    return "two_feeds", feeds.lone, until, words, feeds.last_slot, None
