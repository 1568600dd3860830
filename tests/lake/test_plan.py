"""
Which hours are due: decided from names, locks and manifests, without a clock or a disk.
"""

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from journal_cases import HOUR, RUN
from recorder.journal.names import run_name, segment_name
from recorder.journal.reader import SegmentFile
from recorder.lake.layout import hour_label
from recorder.lake.manifest import Input, Manifest, Versions, carry_digest
from recorder.lake.plan import (
    LOOK_AHEAD_NS,
    LOOK_BACK_NS,
    RunEnd,
    Windows,
    closed_until,
    due,
    hours_on_record,
    is_sealed,
    window,
)
from recorder.quality.state import MonitorState
from recorder.records import HOUR_NS, SECOND_NS

MINUTE = 60 * SECOND_NS
OTHER = run_name(HOUR + 1000, "ffffff")
LATER = 10**19


def segment(start: int, *, run: str = RUN, opened: bool = False, again: int = 0) -> SegmentFile:
    """
    As a listing has it.
    """
    name = segment_name(start, again) + (".open" if opened else "")
    return SegmentFile(run, start, again, name, Path(run) / name)


def minutes(start: int, count: int, *, run: str = RUN) -> list[SegmentFile]:
    """
    A segment a minute.
    """
    return [segment(start + n * MINUTE, run=run) for n in range(count)]


def manifest(
    hour: int,
    found: list[SegmentFile],
    *,
    before: Manifest | None = None,
    complete: bool = True,
    carry_now: int | None = None,
) -> Manifest:
    """
    Of an hour that was sealed from these segments.
    """
    carry = MonitorState(now=hour + HOUR_NS if carry_now is None else carry_now)
    return Manifest(
        format=1,
        hour=hour_label(hour),
        complete=complete,
        venue="v",
        network="n",
        entries=0,
        frames=0,
        files=[],
        inputs=[Input(s.run, s.name.removesuffix(".open"), 1, "") for s in window(found, hour)],
        carry_in=before.carry_out if before is not None else None,
        carry=carry,
        versions=Versions("0", 1, "0"),
        carry_out=carry_digest(carry),
    )


def sealed(found: list[SegmentFile], hours: list[int]) -> dict[int, Manifest]:
    """
    All these hours, one after the other.
    """
    made: dict[int, Manifest] = {}
    for hour in hours:
        made[hour] = manifest(hour, found, before=made.get(hour - HOUR_NS))
    return made


HOURS = [HOUR, HOUR + HOUR_NS, HOUR + 2 * HOUR_NS]
FOUND = minutes(HOUR, 180)


# ---- closed


def test_where_no_run_is_alive_the_wall_clock_decides():
    """
    So that a recorder that comes back within the hour continues it.
    """
    assert closed_until([], wall=HOUR) == HOUR
    assert closed_until([RunEnd(RUN, HOUR - HOUR_NS, alive=False)], wall=HOUR) == HOUR


def test_every_living_run_must_have_passed():
    """
    The one that is furthest behind counts; what a dead one has does not.
    """
    ends = [
        RunEnd(RUN, HOUR + 50, alive=True),
        RunEnd(OTHER, HOUR + 40, alive=True),
        RunEnd("dead", HOUR + 10, alive=False),
    ]

    assert closed_until(ends, wall=HOUR + 60) == HOUR + 40


def test_a_run_ahead_of_the_wall_clock_does_not_close_an_hour():
    """
    The clock was set back: a run that begins now may still write into it.
    """
    assert closed_until([RunEnd(RUN, HOUR + 50, alive=True)], wall=HOUR + 5) == HOUR + 5


def test_an_hour_is_closed_a_minute_past_its_end():
    """
    Not an instant sooner: what comes then judges what the hour left open.
    """
    assert due([HOUR], FOUND, {}, until=HOUR + HOUR_NS + LOOK_AHEAD_NS - 1) == []
    assert due([HOUR], FOUND, {}, until=HOUR + HOUR_NS + LOOK_AHEAD_NS) == [HOUR]


def test_the_last_open_segment_of_a_dead_run_does_not_keep_an_hour_open():
    """
    Nobody will finish it; it is read as it is, and once sealed the hour is not due again.
    """
    found = [*minutes(HOUR, 9), segment(HOUR + 9 * MINUTE, opened=True)]
    ends = [RunEnd(RUN, HOUR + 9 * MINUTE + 30 * SECOND_NS, alive=False)]
    until = closed_until(ends, wall=HOUR + 2 * HOUR_NS)
    hours = hours_on_record(found, ends)

    assert due(hours, found, {}, until=until) == [HOUR]
    assert due(hours, found, sealed(found, hours), until=until) == []


def test_a_segment_that_was_finished_after_the_seal_is_the_same():
    """
    A manifest names it without `.open`.
    """
    before = [segment(HOUR, opened=True)]
    after = [segment(HOUR)]

    assert due([HOUR], after, sealed(before, [HOUR]), until=LATER) == []
    assert due([HOUR], before, sealed(after, [HOUR]), until=LATER) == []


# ---- on record


def test_every_hour_from_the_first_segment_to_the_last_entry_is_on_record():
    """
    Also those in which no recorder ran: they have a row that says so.
    """
    found = [*minutes(HOUR + 30 * MINUTE, 5), *minutes(HOUR + 3 * HOUR_NS, 1, run=OTHER)]
    ends = [RunEnd(RUN, HOUR + 35 * MINUTE, alive=False), RunEnd(OTHER, HOUR + 4 * HOUR_NS + 1, alive=True)]

    assert hours_on_record(found, ends) == [HOUR + n * HOUR_NS for n in range(5)]


def test_an_empty_journal_has_no_hours():
    """
    Nothing was recorded, nothing is due.
    """
    assert hours_on_record([], []) == []
    assert due([], [], {}, until=LATER) == []


# ---- sealed


def test_a_new_journal_is_due_oldest_first():
    """
    Each hour takes the carry of the one before.
    """
    assert due(HOURS, FOUND, {}, until=LATER) == HOURS


def test_a_sealed_hour_is_not_due():
    """
    Asking again costs a listing and no more.
    """
    assert due(HOURS, FOUND, sealed(FOUND, HOURS), until=LATER) == []


def test_an_incomplete_hour_is_due():
    """
    Published so far, or with a partition that failed; so is what follows it.
    """
    made = sealed(FOUND, HOURS)
    made[HOURS[1]] = manifest(HOURS[1], FOUND, before=made[HOUR], complete=False)

    assert due(HOURS, FOUND, made, until=LATER) == HOURS[1:]


def test_an_hour_without_a_manifest_is_due_with_all_that_follow():
    """
    Their carry may change.
    """
    made = sealed(FOUND, HOURS)
    del made[HOUR]

    assert due(HOURS, FOUND, made, until=LATER) == HOURS


def test_an_hour_is_due_again_when_a_segment_of_it_turns_up():
    """
    A run that was on another disk, or a segment that was rewritten; then what follows is due as well.
    """
    late = segment(HOURS[1] + 40 * MINUTE, run=OTHER)
    found = sorted([*FOUND, late])

    assert due(HOURS, found, sealed(FOUND, HOURS), until=LATER) == HOURS[1:]


@given(
    st.lists(
        st.tuples(st.integers(0, 5 * 60), st.sampled_from([0, 1]), st.sampled_from([RUN, OTHER]), st.booleans()),
        max_size=40,
        unique_by=lambda each: each[:3],
    )
)
def test_windows_of_many_hours_are_those_of_each(placed):
    """
    Whatever lies where, in hours with segments and in those without.
    """
    found = sorted(
        segment(HOUR + at * MINUTE, run=run, again=again, opened=opened) for at, again, run, opened in placed
    )
    windows = Windows(found)

    for hour in range(HOUR - 2 * HOUR_NS, HOUR + 8 * HOUR_NS, HOUR_NS):
        assert windows(hour) == window(found, hour)


def test_segments_around_the_hour_are_its_inputs_too():
    """
    Two minutes before, for what pairs with its frames, and one after, for what judges it.
    """
    assert [s.start for s in window(FOUND, HOURS[1])] == [
        s.start for s in FOUND if HOURS[1] - LOOK_BACK_NS - MINUTE <= s.start < HOURS[2] + LOOK_AHEAD_NS
    ]
    made = sealed(FOUND, HOURS)
    after = sorted([*FOUND, segment(HOURS[1] + 30 * SECOND_NS, run=OTHER)])
    before = sorted([*FOUND, segment(HOURS[1] - 60 * SECOND_NS, run=OTHER)])
    apart = sorted([*FOUND, segment(HOURS[1] + LOOK_AHEAD_NS, run=OTHER)])

    assert due(HOURS, after, made, until=LATER)[0] == HOUR
    assert not is_sealed(made[HOURS[1]], window(before, HOURS[1]), made[HOUR])
    assert due(HOURS, apart, made, until=LATER)[0] == HOURS[1]


def test_a_changed_carry_makes_the_next_hour_due():
    """
    It was made from another.
    """
    made = sealed(FOUND, HOURS)
    made[HOUR] = manifest(HOUR, FOUND, carry_now=HOUR + 1)

    assert due(HOURS, FOUND, made, until=LATER) == HOURS[1:]


def test_an_unchanged_carry_does_not():
    """
    The same input gives the same state.
    """
    made = sealed(FOUND, HOURS)
    made[HOUR] = msgspec.structs.replace(manifest(HOUR, FOUND), entries=7)

    assert due(HOURS, FOUND, made, until=LATER) == []


def test_an_hour_that_began_with_nothing_is_due_when_there_is_a_carry():
    """
    The hour before it was sealed later.
    """
    made = {HOURS[1]: manifest(HOURS[1], FOUND), HOUR: manifest(HOUR, FOUND)}

    assert due(HOURS[:2], FOUND, made, until=LATER) == [HOURS[1]]


def test_the_first_hour_left_needs_no_carry():
    """
    What came before has expired, with its manifest or without.
    """
    made = sealed(FOUND, HOURS)

    assert is_sealed(made[HOURS[1]], window(FOUND, HOURS[1]), None)


# ---- expired


def test_an_hour_whose_journal_has_expired_is_never_due():
    """
    What was made from it cannot be made again, also where the carry before it or its other inputs change.
    """
    made = sealed(FOUND, HOURS)
    left = FOUND[90:]
    assert due(HOURS, left, made, until=LATER) == []

    made[HOUR] = manifest(HOUR, FOUND, carry_now=1)
    more = sorted([*left, segment(HOUR + 40 * MINUTE, run=OTHER)])
    assert due(HOURS, more, made, until=LATER) == []


def test_an_incomplete_hour_whose_journal_has_expired_is_due():
    """
    It was never published whole: what is left is better than what is there.
    """
    made = {HOUR: manifest(HOUR, FOUND, complete=False)}

    assert due([HOUR], FOUND[30:], made, until=LATER) == [HOUR]


def test_an_hour_after_an_expired_one_is_judged_by_itself():
    """
    The chain of carries goes on from the manifest that is there.
    """
    made = sealed(FOUND, HOURS)
    left = [s for s in FOUND if s.start >= HOURS[1] + 10 * MINUTE]

    assert due(HOURS, left, made, until=LATER) == []
    del made[HOURS[2]]
    assert due(HOURS, left, made, until=LATER) == [HOURS[2]]


@given(
    st.sets(st.integers(0, 5)),
    st.sets(st.integers(0, 5)),
    st.integers(0, 6),
)
def test_after_sealing_what_is_due_nothing_is(missing, incomplete, closed):
    """
    Whatever was there before: one pass, oldest first, and each hour once.
    """
    hours = [HOUR + n * HOUR_NS for n in range(6)]
    found = minutes(HOUR, 360)
    made = sealed(found, hours)
    for n in missing:
        del made[hours[n]]
    for n in incomplete - missing:
        made[hours[n]] = manifest(hours[n], found, complete=False)
    until = HOUR + closed * HOUR_NS + LOOK_AHEAD_NS

    todo = due(hours, found, made, until=until)
    assert todo == sorted(set(todo))
    assert all(hour + HOUR_NS + LOOK_AHEAD_NS <= until for hour in todo)
    for hour in todo:
        made[hour] = manifest(hour, found, before=made.get(hour - HOUR_NS))

    assert due(hours, found, made, until=until) == []
