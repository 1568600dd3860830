"""
A wrong clock lets nothing go before its time; a right one lets it go in time.
"""

import pytest

from lake_cases import HOUR, S, make_root, recorded
from recorder.journal.reader import segments
from recorder.lake import manifest as manifests
from recorder.lake.age import LEAPS, old_before
from recorder.lake.expiry import expire_lake
from recorder.lake.retention import expire
from recorder.lake.sealing import seal
from recorder.records import HOUR_NS

DAY_NS = 24 * HOUR_NS
WEEK_H = 7 * 24


def hours(count, *, start=HOUR):
    """
    So many, one after the other.
    """
    return [start + number * HOUR_NS for number in range(count)]


def test_what_is_recorded_without_a_break_goes_within_hours_of_its_time():
    """
    Never early, and at most two hours late: a disk that was planned for it is enough.
    """
    lived = hours(500)
    for now in range(lived[-1], lived[-1] + HOUR_NS, HOUR_NS // 4):
        limit = old_before(lived, now=now, keep_days=7)

        assert now - 7 * DAY_NS - LEAPS * HOUR_NS <= limit <= now - 7 * DAY_NS


@pytest.mark.parametrize("ahead", [HOUR_NS, 25 * HOUR_NS, 200 * DAY_NS, 3650 * DAY_NS])
def test_a_clock_that_leaps_ahead_makes_nothing_old(ahead):
    """
    An hour, a day, a boot in 2027: what was recorded before, or since, is as old as it is.
    """
    for since_h in (0, 1, 5, WEEK_H + 5):
        # From the end of the last true hour on all of it is recorded under the wrong time.
        lived = [*hours(200), *hours(since_h + 1, start=HOUR + 199 * HOUR_NS + ahead)]
        true_now = HOUR + (201 + since_h) * HOUR_NS - 1

        limit = old_before(lived, now=true_now + ahead - HOUR_NS, keep_days=7)

        for number, hour in enumerate(lived):
            if hour < limit:
                last_gone = HOUR + number * HOUR_NS + min(limit - hour, HOUR_NS) - 1
                assert last_gone <= true_now - 7 * DAY_NS


def test_a_time_without_a_recorder_makes_nothing_old():
    """
    Back after a month, it has its week of journal still; who asks by hand vouches for the clock.
    """
    lived = [*hours(WEEK_H), HOUR + 60 * DAY_NS]
    now = HOUR + 60 * DAY_NS + 60 * S

    assert old_before(lived, now=now, keep_days=7) <= HOUR
    assert old_before(lived, now=now, keep_days=7, by_hand=True) == now - 7 * DAY_NS
    assert old_before([], now=now, keep_days=7) == 0
    assert old_before([], now=now, keep_days=0) == now


def test_a_boot_at_a_wrong_time_costs_neither_journal_nor_lake(tmp_path):
    """
    Four hours at true time, then one that is ahead: sealed, read back, old by that clock, and all of it stays.
    """
    root = make_root(tmp_path / "root")
    for number, at in enumerate(hours(4)):
        recorded(root, at, at + 3 * S, nonce=f"{number:06x}")
    wrong = HOUR + 6 * HOUR_NS
    recorded(root, wrong, wrong + 3 * S, nonce="ffffff")
    seal(root)
    there = segments(root / "journal")
    assert len(manifests.hours(root)) > 5, "hours without a recorder were sealed as well"

    assert expire(root, now=wrong + 3 * S, keep_days=3 / 24, keep_bytes=0) == []
    assert expire_lake(root, now=wrong + 3 * S, keep_days=3 / 24) is None

    assert segments(root / "journal") == there
    assert expire(root, now=wrong + 3 * S, keep_days=3 / 24, keep_bytes=0, by_hand=True, dry_run=True)
    # Asked for two hours, the first has four recorded after it: two, and two for a leap.
    gone = expire(root, now=wrong + 3 * S, keep_days=2 / 24, keep_bytes=0)
    assert [segment.start for segment in gone] == [HOUR]
    assert expire_lake(root, now=wrong + 3 * S, keep_days=2 / 24).last == HOUR
