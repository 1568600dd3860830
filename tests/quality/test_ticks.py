"""
The pace of books and the ticks that are not there.
"""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quality_cases import HOUR, at, since
from recorder.quality.intervals import Spans, length
from recorder.quality.ticks import FEWEST, Ticks, learn


def ms(instants: list[int]) -> list[int]:
    """
    A publisher's clock that agrees with ours.
    """
    return [t // 1_000_000 for t in instants]


def steady(start: float, end: float, tick: float = 0.4) -> list[int]:
    """
    A book each tick, `end` left out.
    """
    return [at(start + n * tick) for n in range(round((end - start) / tick))]


def seconds(spans: Spans) -> list[tuple[float, float]]:
    """
    Spans as seconds into the hour.
    """
    return [(since(a), since(b)) for a, b in spans]


def paces(ticks: Ticks) -> list[tuple[float, float]]:
    """
    The paces learned: since when, and ms of a tick.
    """
    return [(since(t), pace / 1e6) for t, pace in ticks.cadences]


def test_no_books_have_no_pace():
    """
    And one is not enough to learn it.
    """
    assert learn([], None) == Ticks()
    assert learn([HOUR], [1]) == Ticks(count=1, first=HOUR, last=HOUR)


@pytest.mark.parametrize(("intervals", "known"), [(FEWEST - 1, False), (FEWEST, True)])
def test_a_pace_is_learned_from_enough_intervals(intervals, known):
    """
    Fewer could be anything.
    """
    assert bool(learn(steady(0, 0.4 * (intervals + 1)), None).cadences) == known


def test_steady_books_cover_everything_between_them():
    """
    From the first to the last.
    """
    books = steady(1, 101)

    ticks = learn(books, ms(books))

    assert (ticks.count, ticks.missing, ticks.longest) == (250, 0, 400_000_000)
    assert paces(ticks) == [(1, 400)]
    assert seconds(ticks.covered) == [(1, 100.6)]


@pytest.mark.parametrize("stamped", [True, False])
def test_a_tick_that_is_not_there_is_counted_and_uncovers_its_own_time(stamped):
    """
    The book before it stands for its own tick.
    """
    books = [t for t in steady(0, 100) if t not in {at(20), at(40), at(40.4)}]

    ticks = learn(books, ms(books) if stamped else None)

    assert ticks.missing == 3
    assert seconds(ticks.covered) == [(0, 20), (20.4, 40), (40.8, 99.6)]


@given(drop=st.sets(st.integers(1, 398), max_size=120), jitter=st.integers(0, 60))
def test_every_lost_tick_is_counted(drop, jitter):
    """
    At up to 30 % loss, with jitter of the way that the publisher's clock does not have.
    """
    chance = Random(7)
    sent = steady(0, 160)
    kept = [i for i in range(400) if i not in drop]
    books = [sent[i] + chance.randrange(jitter + 1) * 1_000_000 for i in kept]

    ticks = learn(books, [sent[i] // 1_000_000 for i in kept])

    assert (ticks.count, ticks.missing) == (len(kept), len(drop))


def test_a_late_book_is_not_a_missing_one():
    """
    The network stood still for three seconds and then brought everything: by the publisher's clock nothing is missing.
    """
    sent = steady(0, 100)
    books = [max(t, at(33)) if at(30) < t < at(33) else t for t in sent]

    ticks = learn(books, ms(sent))

    assert (ticks.missing, ticks.leaps) == (0, [])
    assert seconds(ticks.covered) == [(0, 99.6)]
    assert ticks.longest == 3 * 10**9


def test_frames_that_come_in_pairs_have_the_pace_of_the_publisher():
    """
    By our clock every second interval is none at all.
    """
    sent = steady(0, 100)
    books = [t + 400_000_000 * (i % 2 == 0) for i, t in enumerate(sent)]

    ticks = learn(books, ms(sent))

    assert paces(ticks) == [(0.4, 400)]
    assert ticks.missing == 0


def test_a_leap_of_the_publishers_clock_alone_is_told_apart():
    """
    It was set: what it leaps over is nothing but the tick itself.
    """
    books = steady(0, 100)
    stamps = [t // 1_000_000 + (8_000 if t > at(50) else 0) for t in books]

    ticks = learn(books, stamps)

    assert ticks.missing == 0
    assert seconds(ticks.leaps) == [(50, 50.4)]


def test_books_dropped_behind_a_backlog_are_doubted_where_they_would_have_come():
    """
    We stood still for ten seconds, the first four of them came in one go, the others were dropped.
    """
    sent = [t for t in steady(0, 100) if not at(34) < t < at(40)]
    books = [at(40) if at(30) < t < at(40) else t for t in sent]

    ticks = learn(books, ms(sent))

    assert seconds(ticks.leaps) == [(34.4, 40)]


def test_a_change_of_the_tick_is_no_hole():
    """
    The venue went from 1000 to 400 ms, and may go back.
    """
    books = [*steady(0, 400, 1.0), *steady(400, 800), *steady(800, 1200, 1.0)]

    ticks = learn(books, ms(books))

    assert ticks.missing == 0
    assert [pace for _, pace in paces(ticks)] == [1000, 400, 1000]
    assert length(ticks.covered) == at(1199) - HOUR


def test_a_short_stretch_of_half_the_books_is_no_slower_pace():
    """
    Every second one is lost for half a minute.
    """
    books = [t for i, t in enumerate(steady(0, 400)) if not (at(100) < t < at(130) and i % 2)]

    ticks = learn(books, ms(books))

    assert ticks.missing == 37
    assert paces(ticks) == [(0, 400)]


def test_uneven_books_have_no_pace():
    """
    Then nothing can be said to be missing.
    """
    chance = Random(3)
    books = sorted(at(chance.uniform(0, 3600)) for _ in range(500))

    ticks = learn(books, None)

    assert ticks.cadences == ticks.covered == []
    assert ticks.missing is None


def test_a_stamp_that_stands_still_is_no_clock():
    """
    Ours has to do.
    """
    books = [t for t in steady(0, 100) if not at(20) < t < at(21)]

    ticks = learn(books, [5] * len(books))

    assert ticks.missing == 2
    assert paces(ticks) == [(0, 400)]


@given(
    books=st.lists(st.integers(0, 10**12), max_size=300).map(sorted),
    stamps=st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=300, max_size=300),
    stamped=st.booleans(),
)
def test_whatever_came_the_cover_lies_between_the_first_and_the_last(books, stamps, stamped):
    """
    Absurd clocks, books at one instant: no exception, and no proof of what no book bounds.
    """
    ticks = learn(books, stamps[: len(books)] if stamped else None)

    assert ticks.count == len(books)
    for start, end in [*ticks.covered, *ticks.leaps]:
        assert books[0] <= start < end <= books[-1]
