"""
The pace that is remembered of a stream that has ended.
"""

from quality_cases import BTC, SOL
from recorder.quality import cadence
from recorder.quality.cadence import RETURNS_NS
from recorder.quality.paces import Paces
from recorder.quality.state import Pace
from recorder.quality.track import Track
from recorder.records import SECOND_NS


def kept(ms: int, *, spread: int = 3, paced: int = 1) -> Track:
    """
    A track that has had a cadence since `paced`, ns.
    """
    track = Track()
    cadence.adopt(track, ms, spread, paced)
    return track


def test_just_half_as_many_books_are_doubted_and_no_other_pace_is():
    """
    Not what is a little off, nor the pace of before that one.
    """
    paces = Paces({})
    track = kept(400)
    paces.note(SOL, track, 60 * SECOND_NS)

    assert [ms for ms in (200, 400, 750, 790, 800, 810, 1000, 1200) if paces.half(SOL, ms, 70 * SECOND_NS)] == [
        790,
        800,
        810,
    ]
    assert paces.half(BTC, 800, 70 * SECOND_NS) is None

    track.former, track.left = 805, 50 * SECOND_NS
    paces.note(SOL, track, 61 * SECOND_NS)
    assert paces.half(SOL, 800, 70 * SECOND_NS) is None
    assert paces.half(SOL, 800, 51 * SECOND_NS + RETURNS_NS) is not None


def test_the_pace_before_the_one_that_a_stream_begins_with_is_its_former_one():
    """
    Also where that has not changed since.
    """
    paces = Paces({})
    track, end = kept(400), 60 * SECOND_NS
    track.former, track.left = 1000, 20 * SECOND_NS
    paces.note(SOL, track, end)

    assert [paces.former(SOL, ms, 70 * SECOND_NS) for ms in (200, 400, 405, 1000)] == [
        (400, end),
        (1000, 20 * SECOND_NS),
        (1000, 20 * SECOND_NS),
        (400, end),
    ]
    assert paces.former(SOL, 200, 61 * SECOND_NS + RETURNS_NS) == paces.former(BTC, 200, 70 * SECOND_NS) == (0, 0)


def test_a_pace_nothing_has_kept_to_since_a_run_began_is_not_as_new_as_its_end():
    """
    Else one that is long gone would be remembered for ever by restarting often enough.
    """
    known: dict[str, Pace] = {}
    paces = Paces(known)
    paces.note(SOL, kept(400), 60 * SECOND_NS)
    adopted, doubted = kept(400), kept(400)
    adopted.anew = True
    doubted.doubt = 65 * SECOND_NS

    paces.note(SOL, adopted, 90 * SECOND_NS)
    assert known[SOL.label()].until == 60 * SECOND_NS
    paces.note(SOL, doubted, 90 * SECOND_NS)
    assert known[SOL.label()].until == 65 * SECOND_NS


def test_a_pace_that_may_be_every_second_book_lost_lets_the_one_before_it_be_remembered():
    """
    From when that was over.
    """
    track = kept(400)
    cadence.adopt(track, 800, 3, 60 * SECOND_NS)
    paces = Paces({})
    paces.note(SOL, track, 200 * SECOND_NS)

    pace = paces.half(SOL, 800, 210 * SECOND_NS)
    assert track.guessed
    assert (pace and pace.until, pace and pace.cadence) == (60 * SECOND_NS, 400)


def test_what_was_kept_for_a_moment_only_or_to_no_beat_is_not_remembered():
    """
    Nor where the publisher sends no time of use.
    """
    known: dict[str, Pace] = {}
    paces = Paces(known)
    deaf = kept(400)
    deaf.deaf = True

    for track in (Track(), kept(400, paced=55 * SECOND_NS), kept(400, spread=200), deaf):
        paces.note(SOL, track, 60 * SECOND_NS)

    assert known == {}


def test_the_latest_end_counts_and_is_forgotten_after_ten_minutes():
    """
    Whichever of several connections was told of first; and the carry stays small.
    """
    known: dict[str, Pace] = {}
    paces = Paces(known)
    paces.note(SOL, kept(400), 60 * SECOND_NS)
    paces.note(SOL, kept(500), 50 * SECOND_NS)
    paces.note(BTC, kept(300), 20 * SECOND_NS)

    assert known[SOL.label()].cadence == 400
    assert paces.half(SOL, 800, 60 * SECOND_NS + RETURNS_NS) is not None
    assert paces.half(SOL, 800, 61 * SECOND_NS + RETURNS_NS) is None
    paces.sort(30 * SECOND_NS + RETURNS_NS)
    assert list(known) == [SOL.label()]
