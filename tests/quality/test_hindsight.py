"""
Holes that do not show until later steps, or other streams, are known.
"""

from itertools import accumulate, pairwise

import pytest

from quality_cases import BTC, ETH, SOL, Tape, fold, since
from quality_runs import START, events_of, hear, numbered, seconds_of
from recorder.quality import cadence, hindsight
from recorder.quality.track import Hole, Track
from recorder.records import SECOND_NS, Requested
from recorder.simulator.kinds import Cadence, SkipFrames, TwoFeeds
from recorder.simulator.rhythm import AS_CAPTURED


def missed(steps, *, old=(750, 46), new=400, whole=0):
    """
    What steps up to 100,000 ms show, each hole with the cadence it was judged by.
    """
    track = Track(whole=whole)
    cadence.adopt(track, new, 0, 1)
    return hindsight.missed(track, steps, old, until=100_000)


def test_a_hole_after_the_change_is_found_by_the_new_cadence():
    """
    2,000 ms are four books of 400 ms, which the books that follow seem to make up for under the old cadence.
    """
    steps = [750, 750, 750, 560, 400, 400, 2000, *[400] * 8]

    assert missed(steps) == [(94_800, 96_800, 4, 400)]


def test_a_hole_before_the_change_is_counted_by_the_old_cadence():
    """
    The step in which it changes began under that one.
    """
    assert missed([400, 400, 400, 800, *[200] * 10], old=(400, 25), new=200) == [(97_200, 98_000, 1, 400)]


def test_the_first_book_at_a_faster_cadence_makes_up_for_none_that_was_missed_before():
    """
    Three old steps went before it, of which the last was short, for in it the cadence changed.
    """
    assert missed([1010, 1985, 1007, 931, 414, *[400] * 8], old=(672, 196)) == [(92_463, 94_448, 1, 931)]


@pytest.mark.parametrize(
    ("steps", "hole"),
    [
        ([750, 750, 750, 780, 802, *[400] * 8], (95_998, 96_800, 1, 400)),
        ([750, 750, 750, 780, 400, 800, *[400] * 8], (96_000, 96_800, 1, 400)),
    ],
)
def test_two_new_ticks_right_after_the_change_are_not_one_old_one(steps, hole):
    """
    Though twice the new cadence is nearly the old one: at the first of them, or after a short step.
    """
    assert missed(steps) == [hole]


def test_two_old_steps_tell_the_change_though_they_are_hardly_longer():
    """
    One alone may be late; both are nearer to the old cadence than to the new.
    """
    assert missed([500, 497, 491, 514, 868, *[400] * 8], old=(500, 31)) == []


def test_a_late_book_that_those_after_it_make_up_for_is_no_hole():
    """
    The count comes right again.
    """
    assert missed([750, 750, 750, 400, 400, 700, 100, *[400] * 8]) == []


@pytest.mark.parametrize("steps", [[750] * 8 + [400] * 4, [400, 300, 900, 100, 600, 250] * 4])
def test_nothing_is_found_while_the_new_cadence_is_not_sure(steps):
    """
    Too few steps keep to it, or too uneven ones.
    """
    assert missed(steps) == []


def test_steps_before_a_book_that_is_left_out_are_not_looked_at():
    """
    What lies before an outage was told by it.
    """
    steps = [750, 750, 750, 560, 400, 400, 2000, *[400] * 8]

    assert missed(steps, whole=96_800) == []


def test_books_lost_while_a_faster_cadence_is_learned_are_told():
    """
    Of each market, once each, within their bounds.
    """
    faults = Cadence(from_s=5, to_s=40, tick_ms=1000), SkipFrames(from_s=41.1, to_s=43.2, market="*", every=4)

    events = events_of(hear(*faults, seconds=75))

    assert {e.kind for e in events} == {"cadence_hole"}
    assert all(40.5 <= seconds_of(e)[0] < seconds_of(e)[1] <= 43.7 for e in events)
    assert sum(e.missing or 0 for e in events) == 3


# ---- books that only another stream has


def passed_over(steps, *, other, offset=0):
    """
    What another stream of the connection, which is `offset` ms later, shows of one that ends at 100,000 ms.
    """
    track, beside = Track(ts=100_000, ring=steps), Track(ts=100_000 + offset, ring=other)
    for each in (track, beside):
        cadence.adopt(each, 400, 5, 1)
    return hindsight.passed_over(track, steps, lambda: [beside], until=track.ts, waits=False)


def test_a_book_between_two_that_only_another_stream_has_is_missing():
    """
    The server went over to its other feed, 126 ms later, and that one's first book of one market was lost.
    """
    before, after = [400] * 5, [400] * 6

    assert passed_over([*before, 526, *after], other=[*before, 126, 400, *after]) == [(97_074, 97_600, 1, 400)]
    assert passed_over([*before, 526, *after], other=[*before, 126, 400, *after], offset=2) == [
        (97_074, 97_600, 1, 400)
    ]


def test_a_late_tick_of_all_and_streams_out_of_step_show_nothing():
    """
    What is compared must have books where this stream has them.
    """
    before, after = [400] * 5, [400] * 6

    assert passed_over([*before, 526, *after], other=[*before, 526, *after]) == []
    assert passed_over([*before, 526, *after], other=[400] * 12, offset=200) == []
    assert passed_over([400] * 12, other=[*before, 126, 400, *after]) == []


def test_a_book_lost_as_the_server_goes_over_to_its_other_feed_is_told():
    """
    From the book before to the book after.
    """
    faults = (TwoFeeds(from_s=20, to_s=60, lag_ms=126, slots_behind=-2),)
    entries = hear(*faults, server="velocity", seconds=58)
    sol = [e for e in entries if b'"orderbook_perp_0_grouped_1"' in e.payload[:60]]
    (short,) = [
        b for a, b in pairwise(sol) if a.recv_ts > START + 20 * SECOND_NS and b.recv_ts - a.recv_ts < SECOND_NS // 5
    ]

    assert "cadence_hole" not in {e.kind for e in events_of(entries)}
    events = events_of(numbered([e for e in entries if e.seq != short.seq]))
    assert [(e.symbol, e.missing) for e in events if e.kind == "cadence_hole"] == [("SOL-PERP", 1)]


@pytest.mark.parametrize("ended", [6, 10, 26, 40])
@pytest.mark.parametrize("lost", [[], [39], [40], [41], [42], [40, 41]])
@pytest.mark.parametrize(("old", "new"), [(1000, 750), (1000, 400), (800, 400), (1000, 200), (400, 300)])
def test_a_book_of_one_market_lost_as_the_publisher_becomes_faster_is_missing(old, new, lost, ended):
    """
    In the step of the change, just before or just after it; also where the stream ends before the new pace is learned.
    """
    times = list(accumulate([old] * 40 + [new] * ended, initial=500))
    tape = Tape()
    tape.run(0, times[-1] / 1000, [SOL, BTC, ETH])
    tape.connection(0, times[-1] / 1000, [])
    for stream in (SOL, BTC, ETH):
        tape.fact(0.1, Requested(stream), connection=0, attempt=1)
        for number, ms in enumerate(times):
            if stream is not SOL or number not in lost:
                tape.book(ms / 1000, stream)
    tape.stop(times[-1] / 1000 + 0.1)

    holes = [e for e in fold(tape) if e.kind == "cadence_hole"]

    assert [(e.symbol, e.missing) for e in holes] == ([("SOL-PERP", len(lost))] if lost else [])
    for e in holes:
        assert since(e.start) == times[lost[0] - 1] / 1000
        assert 0 <= since(e.end) * 1000 - times[lost[-1] + 1] <= old / 16 + 1


# ---- books lost just before the publisher becomes slower


@pytest.mark.parametrize("tick_ms", [500, 1000])
@pytest.mark.parametrize(("lost", "left"), [(1, 0), (2, 0), (1, 1)])
def test_books_lost_just_before_all_become_slower_are_told(tick_ms, lost, left):
    """
    The longer step that they leave begins before the slower pace does: others had them. `left` books come between.
    """
    entries = hear(Cadence(from_s=40.1, to_s=90, tick_ms=tick_ms), seconds=60, rhythm=AS_CAPTURED)
    sol = [e for e in entries if b'"orderbook_perp_0_grouped_1"' in e.payload[:60]]
    last = next(n for n, e in enumerate(sol) if e.recv_ts > START + 40.2 * SECOND_NS) - left
    gone = sol[last - lost : last]

    events = events_of(numbered([e for e in entries if e not in gone]))

    assert [(e.kind, e.symbol, e.missing) for e in events] == [("cadence_hole", "SOL-PERP", lost)]
    assert (events[0].start, events[0].end) == (sol[last - lost - 1].recv_ts, sol[last].recv_ts)


def test_what_streams_out_of_step_have_between_is_not_passed_on():
    """
    Only one that has the books before and after as well has the ticks of this one.
    """
    lost = Track(ts=100_000, ring=[400, 1_500, 1_000, 1_000], holes=[Hole(0, 1, 96_500, 98_000, 2, 1_500)])
    beside = Track(ts=100_000, ring=[400, 400, 1_100, 1_000, 1_000])
    others = Track(ts=99_800, ring=[400] * 12)
    for each in (lost, beside, others):
        cadence.adopt(each, 400, 5, 1)

    hindsight.pass_on(lost, [others])
    assert lost.holes[0].passed == 0
    lost.holes[0].asked = False
    hindsight.pass_on(lost, [others, beside])
    assert lost.holes[0].passed == 1


@pytest.mark.parametrize(("pace", "phase"), [(400, 0), (400, 40), (800, 0), (1000, 0)])
@pytest.mark.parametrize("late", [120, 250, 340])
def test_a_late_book_of_one_market_is_not_missing_beside_others_of_any_pace(pace, phase, late):
    """
    Nor where theirs come twice as often, so that they have books between any two of it.
    """
    tape = Tape()
    tape.run(0, 120, [SOL, BTC, ETH])
    tape.connection(0, 120, [BTC, ETH])
    tape.fact(0.1, Requested(SOL), connection=0, attempt=1)
    for number in range(1, 119_000 // pace):
        tape.book((300 + phase + number * pace + (late if number % 17 == 5 else 0)) / 1000, SOL)

    assert "cadence_hole" not in {e.kind for e in fold(tape)}
