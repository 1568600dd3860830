"""
The buckets of what is of no use: no feed fills them, a flood does.
"""

from recorder.capture.flood import JUNK_BYTES, JUNK_FRAMES, LARGE_FRAME, Flood
from recorder.records import SECOND_NS


def test_a_feed_that_has_become_unreadable_is_kept_for_ever():
    """
    A venue that renames its channels costs us no frame: three times all of Drift, for half an hour.
    """
    flood = Flood(0)

    told = {flood.weigh(n * SECOND_NS // 900, 3_800, useful=False) for n in range(900 * 1800)}

    assert told == {""}


def test_a_flood_of_small_frames_is_told_by_their_number():
    """
    However little each of them is.
    """
    flood = Flood(0)

    told = [flood.weigh(SECOND_NS, 10, useful=False) for _ in range(JUNK_FRAMES + 1)]

    assert set(told[:-1]) == {""}
    assert told[-1] == f"a flood of frames that nobody asked for: {JUNK_FRAMES + 1} at once"


def test_a_flood_of_large_frames_is_told_by_their_size():
    """
    Also where they look like books that were asked for: what a frame has beyond any real one is of no use.
    """
    flood = Flood(0)
    size = LARGE_FRAME + JUNK_BYTES // 8

    told = [flood.weigh(SECOND_NS, size, useful=True) for _ in range(9)]

    assert set(told[:-1]) == {""}
    assert "MB that is of no use at once" in told[-1]


def test_a_backlog_of_what_was_asked_for_is_no_flood():
    """
    What waited during a pause comes at once, and is what we are here for.
    """
    flood = Flood(0)

    assert {flood.weigh(1, 24_000, useful=True) for _ in range(100_000)} == {""}


def test_a_flood_that_ebbs_is_forgotten():
    """
    Two bursts half a minute apart are two bursts.
    """
    flood = Flood(0)

    told = {flood.weigh(at * SECOND_NS, 100, useful=False) for at in (1, 31) for _ in range(JUNK_FRAMES - 1)}

    assert told == {""}
