"""
Holes that show only once it is known that the cadence has become faster.
"""

import pytest

from quality_runs import events_of, hear, seconds_of
from recorder.quality import cadence, hindsight
from recorder.quality.state import Track
from recorder.simulator.kinds import Cadence, SkipFrames


def missed(steps, *, old=(750, 46), new=400, whole=0):
    """
    What steps up to 100,000 ms show.
    """
    track = Track(whole=whole)
    cadence.adopt(track, new, 0, 1)
    return hindsight.missed(track, steps, old, until=100_000)


def test_a_hole_after_the_change_is_found_by_the_new_cadence():
    """
    2,000 ms are four books of 400 ms, which the books that follow seem to make up for under the old cadence.
    """
    steps = [750, 750, 750, 560, 400, 400, 2000, *[400] * 8]

    assert missed(steps) == [(94_800, 96_800, 4)]


def test_a_hole_before_the_change_is_counted_by_the_old_cadence():
    """
    The step in which it changes began under that one.
    """
    assert missed([400, 400, 400, 800, *[200] * 10], old=(400, 25), new=200) == [(97_200, 98_000, 1)]


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
