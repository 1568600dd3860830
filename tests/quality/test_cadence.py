"""
Missed ticks: learned cadences, holes and what is none, one market alone and all at once.
"""

import random
from collections.abc import Callable, Iterable
from itertools import accumulate
from unittest.mock import Mock

import pytest

from quality_cases import BTC, ETH, SOL, TICK_S, URL, Tape, at, fold, one, since, steady, told
from quality_runs import DURING, START, events_of, folded, hear, numbered, seconds_of
from recorder.quality import cadence
from recorder.quality.state import MonitorState
from recorder.quality.steps import Steps
from recorder.quality.track import Hole, Track
from recorder.records import SECOND_NS, Connected, EntryKind, Event, Flag, Requested
from recorder.simulator.drive import Link
from recorder.simulator.kinds import Alter, Cadence, Drop, RepeatFrames, Silence, SkipFrames, SlowTicks, TwoFeeds
from recorder.simulator.rhythm import AS_CAPTURED, Rhythm


def track_of(state: MonitorState, symbol: str = "SOL-PERP") -> Track:
    """
    What was learned of a market's books.
    """
    (track,) = [f.track for f in state.flows if f.track is not None and f.stream.symbol == symbol]
    return track


@pytest.mark.parametrize("tick_ms", [200, 400, 750, 1000])
def test_the_cadence_is_learned_from_the_first_books(tick_ms):
    """
    Nobody tells what a tick is; nine books do.
    """
    entries = hear(seconds=10 * tick_ms / 1000 + 1, tick_ms=tick_ms)

    judge, _ = folded(entries)

    assert track_of(judge.state()).cadence == tick_ms
    assert track_of(judge.state()).spread == 0


def test_the_spread_tells_how_regular_a_publisher_is():
    """
    A real one is late by some milliseconds, now and then by many.
    """
    judge, _ = folded(hear(seconds=60, rhythm=AS_CAPTURED))

    track = track_of(judge.state())
    assert abs(track.cadence - 400) <= 3
    assert 2 <= track.spread <= 20


def test_a_book_one_market_missed_is_that_markets_hole():
    """
    From the book before to the book after, counted; its neighbours had theirs.
    """
    (event,) = events_of(hear(SkipFrames(from_s=30.1, to_s=32.3, market="SOL-PERP", every=5)))

    assert (event.kind, event.scope, event.cause, event.symbol) == ("cadence_hole", "stream", "venue", "SOL-PERP")
    assert seconds_of(event) == (31.6, 32.4)
    assert event.missing == 1
    assert event.last_slot == (event.first_slot or 0) + 2
    assert "800 ms between two books, where one comes each 400 ms; 2 of 3 book streams" in event.evidence


def test_a_tick_all_markets_missed_is_one_event_of_the_connection():
    """
    All at once is the publisher, and the books of all are counted.
    """
    (event,) = events_of(hear(Silence(from_s=30.1, to_s=32.1)))

    assert (event.kind, event.scope, event.symbol, event.channel) == ("cadence_hole", "connection", None, None)
    assert seconds_of(event) == (30.0, 32.4)
    assert event.missing == 3 * 5
    assert event.evidence.startswith("all 3 book streams of the connection at once")


def test_the_row_after_a_hole_is_marked():
    """
    As after a silence: a reader must not interpolate across it.
    """
    _, verdicts = folded(hear(SkipFrames(from_s=30.1, to_s=32.3, market="SOL-PERP", every=5)))

    marked = [(round(t, 1), v.resolution.symbol) for t, v in verdicts if v.flags & Flag.FIRST_AFTER_GAP and t > 5]
    assert marked == [(32.4, "SOL-PERP")]


def test_a_row_that_another_connection_has_the_books_before_of_is_not_marked():
    """
    Nothing is missing in the table.
    """
    entries = hear(connections=2, links={1: Link(latency_ms=40)})
    sol = b'"orderbook_perp_0_grouped_1"'
    lost = [e for e in entries if e.connection == 0 and sol in e.payload and 30 < (e.recv_ts - START) / SECOND_NS < 31]
    entries = numbered([e for e in entries if e not in lost])

    judge, verdicts = folded(entries)
    judge.finish(entries[-1].recv_ts, closed=False)

    assert one(judge.events, "cadence_hole").connection == 0
    assert not [v for t, v in verdicts if v.flags & Flag.FIRST_AFTER_GAP and t > 5]


@pytest.mark.parametrize("every", [2, 3, 7])
@pytest.mark.parametrize("market", ["SOL-PERP", "*"])
def test_every_book_that_is_left_out_is_counted(every, market):
    """
    However regular the loss is: it does not pass for a slower cadence.
    """
    entries = hear(SkipFrames(**DURING, market=market, every=every), rhythm=Rhythm(jitter_ms=8, drift_ms=0.4))
    whole = hear(rhythm=Rhythm(jitter_ms=8, drift_ms=0.4))

    events = events_of(entries)

    assert {e.kind for e in events} == {"cadence_hole"}
    frames = sum(e.kind == EntryKind.FRAME for e in entries)
    assert sum(e.missing or 0 for e in events) == sum(e.kind == EntryKind.FRAME for e in whole) - frames


def test_more_than_eight_holes_a_minute_are_told_as_one():
    """
    A lossy hour is not a thousand rows.
    """
    events = events_of(hear(SkipFrames(from_s=20, to_s=60, market="SOL-PERP", every=3)))

    assert len(events) == 9
    assert sum(e.missing or 0 for e in events) == 33
    assert events[-1].evidence.startswith("25 of them within this time")


def test_holes_far_apart_are_not_told_as_one_with_what_lies_between_them():
    """
    However many there were before.
    """
    losses = (
        SkipFrames(from_s=20, to_s=40, market="SOL-PERP", every=3),
        Silence(from_s=48.1, to_s=48.6, market="SOL-PERP"),
    )

    events = events_of(hear(*losses, seconds=60))

    assert len(events) == 10
    assert max(seconds_of(e)[1] for e in events[:-1]) < 42
    assert seconds_of(events[-1]) == (48.0, 48.8)


@pytest.mark.parametrize(
    "faults",
    [
        [Cadence(**DURING, tick_ms=1000)],
        [Cadence(**DURING, tick_ms=750)],
        [Cadence(from_s=10, to_s=25, tick_ms=200)],
        [Cadence(from_s=10, to_s=60, tick_ms=2000)],
        [SlowTicks(**DURING, late_ms=300, every=3)],
        [SlowTicks(**DURING, late_ms=700, every=5)],
        [RepeatFrames(**DURING, every=2)],
        [Alter(**DURING, what="no_ts", every=3)],
        [Alter(**DURING, what="no_ts")],
        [Alter(**DURING, what="no_slot")],
    ],
    ids=lambda faults: str(faults[0]),
)
def test_what_is_no_hole_raises_nothing(faults):
    """
    A change of the cadence, late ticks, repeats, times that are absent.
    """
    assert events_of(hear(*faults, seconds=75)) == []


@pytest.mark.parametrize("lag_ms", [20, 95, 305])
def test_two_feeds_with_the_same_slots_are_told_by_time_and_are_no_hole(lag_ms):
    """
    Twice as many books, of which every other one keeps to the old pace.
    """
    events = events_of(hear(TwoFeeds(**DURING, lag_ms=lag_ms, slots_behind=0), seconds=80))

    assert {(e.kind, e.scope) for e in events} == {("two_feeds", "connection")}
    assert "twice as many books, at two even paces" in events[0].evidence


def test_a_change_from_1000_to_400_ms_is_learned():
    """
    The venue made it in July 2025.
    """
    judge, _ = folded(hear(Cadence(from_s=0.1, to_s=40), seconds=60))

    assert judge.events[2:] == []
    assert track_of(judge.state()).cadence == 400


def test_a_publisher_of_its_own_that_slows_down_alone_is_believed_after_a_minute():
    """
    One market with half its books is a hole while nothing else explains it, and its new cadence if it stays so.
    """
    events = events_of(hear(SkipFrames(from_s=20, to_s=140, market="SOL-PERP", every=2), seconds=160))

    assert {e.kind for e in events} == {"cadence_hole"}
    assert 75 < max(seconds_of(e)[1] for e in events) < 95


def test_a_hole_longer_than_the_limit_of_silence_is_silent_and_nothing_else():
    """
    One hole, one event.
    """
    (event,) = events_of(hear(Silence(from_s=30.1, to_s=36.1, market="SOL-PERP")))

    assert (event.kind, seconds_of(event)) == ("silent", (30.0, 36.4))


def test_a_hole_among_the_books_that_teach_the_cadence_is_found_afterwards():
    """
    They are gone through once more.
    """
    events = events_of(hear(SkipFrames(from_s=1, to_s=2.3, market="SOL-PERP", every=3)))

    assert [(e.kind, seconds_of(e), e.missing) for e in events] == [("cadence_hole", (1.6, 2.4), 1)]


def test_a_hole_just_before_a_connection_ends_is_judged_by_what_there_is():
    """
    Nothing follows that could make up for it.
    """
    events = events_of(hear(SkipFrames(from_s=30.1, to_s=30.5, market="SOL-PERP", every=1), Drop(30.9)))

    holes = [(e.kind, seconds_of(e)) for e in events if e.kind != "trade_gap"]
    assert holes == [("cadence_hole", (30.0, 30.8)), ("disconnected", (30.8, 32.0))]


def test_without_a_publishers_clock_our_own_must_do():
    """
    Then a burst after a standstill makes up for the hole before it.
    """
    tape = Tape()
    tape.run(0, 40, [SOL])
    where = {"connection": 0, "attempt": 1}
    tape.fact(0.1, Connected("u", 1, 1.0, compressed=True), **where)
    tape.fact(0.1, Requested(SOL), **where)
    tape.heartbeats(0.1, 40, **where)
    due = [0.4 + 0.4 * tick for tick in range(90)]
    for number, t in enumerate(due):
        lost, held = number == 40, 60 <= number < 66
        if not lost:
            tape.undated_book(due[66] - 0.001 * (66 - number) if held else t, SOL)

    events = fold(tape)

    assert told(events, "cadence_hole", "silent", "backlog") == [("cadence_hole", 16.0, 16.8, "venue")]


def test_a_clock_that_says_the_same_for_ever_is_not_listened_to():
    """
    The cadence is then learned by our own.
    """
    tape = steady(60)
    tape.without(0, 60, channel="orderbook_perp_0_grouped_1")
    for tick in range(140):
        if tick != 100:
            tape.book(0.5 + tick * 0.4, SOL, ts=1, slot=tick + 1)

    events = fold(tape)

    assert told(events, "cadence_hole") == [("cadence_hole", 40.1, 40.9, "venue")]


def test_entries_that_are_lost_are_no_hole_of_the_venue():
    """
    They have an event of their own.
    """
    judge, _ = folded([e for e in hear() if not 30 * SECOND_NS < e.recv_ts - START < 31 * SECOND_NS])
    judge.finish(at(70), closed=False)

    assert {e.kind for e in judge.events} <= {"recorder_started", "connected", "journal_damaged", "trade_gap"}
    assert one(judge.events, "journal_damaged").missing


def test_half_the_books_of_all_markets_are_waited_for_before_they_are_called_missing():
    """
    A publisher at half the pace and the loss of every second book look the same, whether the pace comes back or not:
    after half a minute, which is told with that doubt, it is believed.
    """
    missing = events_of(hear(SkipFrames(from_s=30, to_s=55, every=2), seconds=75))
    slower = events_of(hear(Cadence(from_s=30, to_s=100, tick_ms=800), seconds=90))

    assert sum(e.missing or 0 for e in missing) == 3 * 31
    assert {(e.kind, e.cause) for e in (*missing, *slower)} == {("cadence_hole", "unknown")}
    assert (seconds_of(slower[0])[0], round(seconds_of(slower[-1])[1])) == (29.6, 64)


@pytest.mark.parametrize("restart", [25, 30, 34])
def test_a_pace_from_before_a_silence_is_remembered_if_nothing_kept_to_it_since(restart):
    """
    Half of all books are lost from the silence on, and the run ends before they all come again.
    """
    times = [t for t in ticks(80, lambda t: 15 < t < restart + 20) if not 15 < t < 23]

    holes = [e for e in heard([("a", 0, restart), ("b", restart + 1, 80)], times) if e.run == "b"]

    assert sum(e.missing or 0 for e in holes) >= 40
    assert {e.cause for e in holes} == {"unknown"}


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ([(60, 110), (160, 180)], [42, 25]),
        ([(60, 110), (260, 280)], [42, 25]),
        ([(60, 150), (195, 250)], [42, 42]),
        ([(60, 120), (180, 210)], [42, 35]),
    ],
)
@pytest.mark.parametrize("restart", [None, 100, 200])
def test_a_pace_that_may_have_been_every_second_book_lost_is_none_that_may_come_back(losses, told, restart):
    """
    Half of all books were lost for so long that it was believed; the next time it is in doubt again, in another run
    also.
    """
    spans = [("a", 0, 300)] if restart is None else [("a", 0, restart), ("b", restart + 2, 300)]

    holes = heard(spans, ticks(300, lambda t: any(t0 < t < t1 for t0, t1 in losses)))

    for (t0, t1), least in zip(losses, told, strict=True):
        there = [e for e in holes if t0 - 1 < seconds_of(e)[0] < t1]
        assert sum(e.missing or 0 for e in there) >= 2 * least - 2
        assert {e.cause for e in there} == {"unknown"}


def heard(
    spans: Iterable[tuple[str, float, float]], times: Iterable[float], others: Iterable[float] | None = None
) -> list[Event]:
    """
    What is told of runs that each live from t0 to t1, with books of SOL at those of `times` that are theirs, and of BTC
    at those of `others`, or just after.
    """
    tape, times = Tape(), list(times)
    others = [t + 0.001 for t in times] if others is None else list(others)
    for run, t0, t1 in spans:
        tape.run(t0, t1, [SOL, BTC], run=run)
        tape.connection(t0, t1, [], run=run)
        for stream, ticks in ((SOL, times), (BTC, others)):
            tape.fact(t0 + 0.1, Requested(stream), run=run, connection=0, attempt=1)
            for t in ticks:
                if t0 + 0.3 < t < t1:
                    tape.book(t, stream, run=run)
    return [e for e in fold(tape) if e.kind == "cadence_hole"]


def ticks(seconds: float, lost: Callable[[float], bool], *, jitter: Callable[[], float] = lambda: 0) -> list[float]:
    """
    Of a book each 400 ms, without every second one of those that are `lost`.
    """
    due = [(tick, round(tick * TICK_S, 3)) for tick in range(1, int(seconds / TICK_S))]
    return [round(t + jitter(), 3) for tick, t in due if not (tick & 1 and lost(t))]


AFTER_A_RESTART = {"start": START + 50 * SECOND_NS, "run": "s"}
"""Of a second run, ten seconds after the first was killed."""


@pytest.mark.parametrize("market", ["*", "SOL-PERP"])
def test_half_the_books_lost_as_a_run_starts_are_missing_by_the_pace_that_was_before(market):
    """
    They teach a pace that is twice as slow; that the books came at another one ten seconds before is not forgotten.
    """
    before = hear(seconds=40)

    events = events_of([*before, *hear(SkipFrames(from_s=0, to_s=20, market=market, every=2), **AFTER_A_RESTART)])

    holes = [e for e in events if e.kind == "cadence_hole"]
    assert sum(e.missing or 0 for e in holes) == (24 if market == "SOL-PERP" else 3 * 24)
    assert all(50 <= seconds_of(e)[0] < seconds_of(e)[1] <= 70.5 for e in holes)
    if market == "*":
        assert {e.cause for e in holes} == {"unknown"}
        assert all("or books came half as often until then" in e.evidence for e in holes)


@pytest.mark.parametrize(("after", "jitter"), [(2, 0), (6, 0), (10, 0), (6, 0.03), (10, 0.03), (14, 0.03)])
def test_half_the_books_lost_soon_after_a_restart_are_missing(after, jitter):
    """
    The pace was known before it, so it is believed from the start; also where it is none of a clockwork.
    """
    rng = random.Random(after)
    times = ticks(180, lambda t: 102 + after < t < 122 + after, jitter=lambda: rng.uniform(-jitter, jitter))

    holes = heard([("a", 0, 100), ("b", 102, 180)], times)

    assert sum(e.missing or 0 for e in holes) == 50
    assert {e.cause for e in holes} == {"unknown"}


def test_a_slower_pace_is_told_as_doubted_for_no_longer_than_the_old_one_is_remembered():
    """
    However often the recorder starts anew: ten minutes after the old one was last heard.
    """
    spans = [(chr(ord("a") + number), t0, t0 + 49) for number, t0 in enumerate(range(0, 1400, 50))]

    holes = heard(spans, ticks(1400, lambda t: t > 120))

    assert {e.cause for e in holes} == {"unknown"}
    assert 600 < max(since(e.end) for e in holes) < 120 + 600 + 40


def test_a_publisher_that_is_slower_after_a_restart_is_believed():
    """
    After half a minute, as within a run. Until then it cannot be told from losses, and that is said.
    """
    before, slow = hear(seconds=40), Cadence(from_s=0, to_s=200, tick_ms=800)

    lasting = events_of([*before, *hear(slow, seconds=60, **AFTER_A_RESTART)])
    judge, _ = folded([*before, *hear(slow, seconds=20, **AFTER_A_RESTART)])
    judge.finish(START + 100 * SECOND_NS, closed=True)
    long_ago = hear(slow, seconds=20, start=START + 700 * SECOND_NS, run="s")

    holes = [e for e in lasting if e.kind == "cadence_hole"]
    assert {e.cause for e in holes} == {"unknown"}
    assert max(seconds_of(e)[1] for e in holes) < 50 + 37
    assert {e.cause for e in judge.events if e.kind == "cadence_hole"} == {"unknown"}
    assert "cadence_hole" not in {e.kind for e in events_of([*before, *long_ago])}


def test_the_pace_that_was_before_a_restart_may_come_back():
    """
    A run that began while books came twice as often, and hears them become what they were.
    """
    fast = Cadence(from_s=0, to_s=15, tick_ms=200)

    events = events_of([*hear(seconds=40), *hear(fast, seconds=40, **AFTER_A_RESTART)])

    assert "cadence_hole" not in {e.kind for e in events}


def test_half_the_books_lost_from_an_outage_on_may_have_been_a_slower_pace():
    """
    Nothing tells: so it is said. Another slower pace, of no whole ticks, is one.
    """
    lost = events_of(hear(Drop(30), SkipFrames(from_s=29, to_s=45, every=2), seconds=75))
    slower = events_of(hear(Drop(30), Cadence(from_s=29.9, to_s=45, tick_ms=1000), seconds=75))

    holes = [e for e in lost if e.kind == "cadence_hole" and e.start > START + 31 * SECOND_NS]
    assert sum(e.missing or 0 for e in holes) >= 3 * 15
    assert {e.cause for e in holes} == {"unknown"}
    assert "cadence_hole" not in {e.kind for e in slower}


def test_books_that_were_due_when_a_run_ended_are_told_of():
    """
    Nobody will hear whether they were only late.
    """
    tape = steady(30)
    tape.without(27.5, 30, channel="orderbook_perp_0_grouped_1")
    tape.stop(29.5)

    event = one(fold(tape), "cadence_hole")

    assert (since(event.start), since(event.end), event.missing, event.cause) == (27.1, 29.5, 5, "unknown")
    assert "none for 2.4 s before the run ended" in event.evidence


def test_a_timer_that_stood_still_is_no_hole_and_one_market_that_was_late_alone_is():
    """
    What all markets had, the publisher had: it left no book out. The books of one alone are missing.
    """
    slow = SlowTicks(**DURING, late_ms=700, every=5)
    entries = hear(slow)
    sol = b'"orderbook_perp_0_grouped_1"'
    at = START + int(32.6 * SECOND_NS)
    (first,) = [e.seq for e in entries if sol in e.payload and at < e.recv_ts < at + SECOND_NS][:1]

    assert events_of(entries) == []
    (event,) = events_of(numbered([e for e in entries if e.seq != first]))
    assert (event.kind, event.symbol, event.missing) == ("cadence_hole", "SOL-PERP", 1)


def test_two_steps_together_tell_the_cadence_of_feeds_that_alternate():
    """
    By the median of single steps it would be 20 ms or 380.
    """
    assert cadence.rhythm([20, 380] * 8) == (200, 180)


def test_steps_of_one_tick_and_of_two_are_a_cadence_with_holes():
    """
    Not one of a tick and a half.
    """
    assert cadence.rhythm([400, 800] * 8) == (400, 0)


def test_a_tick_is_told_by_single_steps_and_by_those_that_missed_one():
    """
    Where the book after a late one is missing, single steps are shorter than a tick and the others longer.
    """
    steps = [201, 212, 206, 182, 200, 200, 200, 200, 407, 191, 432, 179, 395, 200, 426]

    assert cadence.rhythm(steps)[0] == round(sum(steps) / 19)


def test_books_that_are_left_out_while_a_new_cadence_is_known_roughly_are_missing():
    """
    Some milliseconds too few for each tick add up: that is not the publisher's timer that stood still.
    """
    track = Track(ts=4_408, cadence=200)
    cadence.adopt(track, 200, 5, 0)
    cadence.adopt(track, 393, 5, 20 * SECOND_NS)
    track.ring = [407, 396, 405, 406, 794, 401, 401, 408, 790]
    hole = Hole(24 * SECOND_NS, 25 * SECOND_NS, 0, 790, 1, 790, off_ms=43)

    assert not cadence.was_late(track, hole)
    hole.step_ms = 393 + 150
    assert cadence.was_late(track, hole)
    hole.step_ms, track.paced = 790, 0
    assert cadence.was_late(track, hole)


def test_a_fast_cadence_is_no_more_even_than_a_slow_one():
    """
    What comes a few milliseconds too soon for two ticks has missed one all the same.
    """
    track = Track(ts=1_000, recv=0, base=0)
    cadence.adopt(track, 199, 3, 0)

    assert cadence.missed(track, 375, 375 * cadence.MS) == 1


def test_a_late_book_before_a_hole_does_not_hide_it():
    """
    The step is shorter by how late it began.
    """
    track = Track(ring=[400, 400, 440], cadence=400)
    cadence.adopt(track, 400, 6, 0)

    assert cadence.tardy(track) == 40
    track.ring = [400, 400, 400, 400 + 2 * track.allow + 1]
    assert cadence.tardy(track) == 0


@pytest.mark.parametrize("lag_ms", [95, 150, 305])
def test_a_book_of_one_of_two_feeds_that_is_lost_is_told(lag_ms):
    """
    Whichever of the two it was of: the next of the other feed does not make up for it.
    """
    faults = (
        TwoFeeds(from_s=2, to_s=70, lag_ms=lag_ms, slots_behind=0),
        SkipFrames(from_s=40.1, to_s=60.1, market="*", every=7),
    )

    events = [e for e in events_of(hear(*faults, seconds=70)) if e.kind == "cadence_hole"]

    assert sum(e.missing or 0 for e in events) == 3 * (100 // 7)


@pytest.mark.parametrize("steps", [[305, 95] * 6, [97, 303] * 6])
def test_two_feeds_are_not_taken_for_the_ticks_of_one(steps):
    """
    Their steps may be one and three times the shorter; the cadence is that of two together.
    """
    assert cadence.rhythm(steps)[0] == 200


def test_a_book_lost_as_a_slower_cadence_is_found_out_is_missing():
    """
    All steps before it were too long by a third, and not yet believed; the one of two ticks misses one of either.
    """
    faults = (Cadence(from_s=30, to_s=100, tick_ms=590), SkipFrames(from_s=30, to_s=39.5, market="SOL-PERP", every=8))

    events = events_of(hear(*faults, seconds=80))

    assert [(e.kind, e.symbol, e.missing) for e in events] == [("cadence_hole", "SOL-PERP", 1)] * len(events)
    assert len(events) == 2


def test_a_late_tick_among_books_of_which_every_second_is_lost_is_no_slower_cadence():
    """
    The short step after it misses no tick, and so ends the streak; but its neighbours keep to the old pace.
    """
    late = dict.fromkeys(range(78, 79), 0.065)
    tape = Tape()
    tape.run(0, 60, [SOL, BTC])
    tape.fact(0.1, Connected(URL, 1, 1.0, compressed=True), connection=0, attempt=1)
    for stream in (SOL, BTC):
        tape.fact(0.1, Requested(stream), connection=0, attempt=1)
    for tick in range(1, 140):
        t = tick * 0.4 + late.get(tick, 0)
        if not 70 < tick <= 110 or not tick & 1:
            tape.book(t, SOL)
        tape.book(t + 0.001, BTC)

    events = fold(tape)

    holes = [e for e in events if e.kind == "cadence_hole"]
    assert {e.symbol for e in holes} == {"SOL-PERP"}
    assert sum(e.missing or 0 for e in holes) >= 19


def test_a_cadence_from_before_two_feeds_comes_back_at_once():
    """
    A second feed just between the ticks of the first is taken for half the cadence; once it is gone nothing is missing.
    """
    events = events_of(hear(TwoFeeds(from_s=20, to_s=34, lag_ms=200, slots_behind=0), seconds=50))

    assert [e for e in events if e.kind != "two_feeds"] == []


def test_a_cadence_that_is_a_little_too_long_hides_no_hole():
    """
    Ticks add up while the next few books are waited for.
    """
    track = Track(ts=10_000, ring=[400] * 20)
    cadence.adopt(track, 403, 7, 0)
    track.holes = [Hole(0, 1, 10_000, 10_800, 1, 800, None, None)]

    for number in range(1, 9):
        cadence.catch_up(track, 10_800 + number * 400)

    assert [hole.missing for hole in track.holes] == [1]


def test_two_holes_alike_long_after_an_outage_are_not_its_doing():
    """
    Books had come as usual since.
    """
    events = events_of(hear(Drop(10), SkipFrames(from_s=40.1, to_s=42, every=2), seconds=70))

    assert sum(e.missing or 0 for e in events if e.kind == "cadence_hole") == 3 * 2


def test_books_before_two_feeds_are_told_apart_may_have_had_another_cadence():
    """
    A run that begins while the cadence is slow, and learns it when it is fast.
    """
    events = events_of(hear(TwoFeeds(from_s=0, to_s=200, lag_ms=150), Cadence(from_s=0, to_s=3.4, tick_ms=1000)))

    assert {e.kind for e in events} == {"two_feeds"}


def test_a_cadence_that_became_uneven_is_the_former_one_of_what_comes_then():
    """
    Two feeds have begun, which turn out to look like one of half the cadence.
    """
    track = Track()
    cadence.adopt(track, 400, 5, 0)
    cadence.adopt(track, 403, 200, 20 * SECOND_NS)
    cadence.adopt(track, 200, 2, 21 * SECOND_NS)

    assert track.former == 400


def test_a_book_lost_just_before_a_slower_cadence_is_missing():
    """
    Two old ticks are no tick of the new one: they are too short for it.
    """
    lost = SkipFrames(from_s=31.1, to_s=31.3, every=1)
    events = events_of(hear(lost, Cadence(from_s=31.7, to_s=90, tick_ms=1000)))

    assert [(e.kind, e.scope, e.missing, seconds_of(e)) for e in events] == [
        ("cadence_hole", "connection", 3, (30.8, 31.6))
    ]


def test_a_step_from_a_stored_copy_that_came_late_keeps_to_no_cadence():
    """
    There was no time for a hole after it: whether the pace is still what it was before the outage, it does not tell.
    """
    steps = Steps(Mock(), Mock(), Mock(), Mock())
    track = Track(ts=1000, recv=SECOND_NS, anew=True)
    cadence.adopt(track, 200, 0, 1)

    steps.take(Mock(), track, 1411, None, SECOND_NS + 16_000_000, gap=0)
    assert (track.holes, track.anew, track.kept) == ([], True, 0)
    steps.take(Mock(), track, 1611, None, SECOND_NS + 216_000_000, gap=0)
    assert not track.anew


@pytest.mark.parametrize(("last_s", "missing"), [(0.91, None), (1.49, 1)])
def test_a_pace_not_quite_twice_as_slow_is_learned_as_any_other(last_s, missing):
    """
    No step of it is as long as two of the former one: by that, the next late one would seem to miss a book, and one in
    which a book is lost two.
    """
    tape = steady(20)
    slow = 19.9 + 12 * 0.745
    times = [*(19.9 + tick * 0.745 for tick in range(1, 13)), *(slow + last_s + tick * 0.4 for tick in range(40))]
    for t in times:
        tape.book(t, SOL)
        tape.book(t, BTC)

    holes = [e.missing for e in fold(tape) if e.kind == "cadence_hole"]

    assert holes == ([missing, missing] if missing else [])


@pytest.mark.parametrize("others", ["slower", "as before"])
def test_a_clock_that_steps_does_not_judge_by_a_pace_that_all_others_have_left(others):
    """
    The few books since an outage came as theirs did. Where theirs came as before, what lies between its own is missing.
    """
    slow = [21.2 + tick * 1.35 for tick in range(5)]
    times = [*slow, *(slow[-1] + tick * 0.4 for tick in range(1, 10))]
    tape = steady(20, [SOL, BTC, ETH])
    tape.disconnected(20)
    where = {"connection": 0, "attempt": 2}
    tape.fact(21, Connected(URL, 2, 1.0, compressed=True), **where)
    for stream in (SOL, BTC, ETH):
        tape.fact(21, Requested(stream), **where)
    for t in times:
        tape.book(t, BTC, ts=t + (5 if t > 25.3 else 0), **where)
    for t in times if others == "slower" else (21.2 + tick * 0.4 for tick in range(22)):
        tape.book(t, SOL, **where)
        tape.book(t, ETH, **where)

    holes = [(since(e.start), since(e.end), e.missing) for e in fold(tape) if e.kind == "cadence_hole"]

    lost = [(21.2, 22.55, 2), (22.55, 23.9, 2), (23.9, 25.25, 2), (25.25, 26.6, 2)]
    assert holes == ([] if others == "slower" else lost)


def test_a_tick_that_all_markets_lost_is_no_timer_that_stood_still_where_the_cadence_is_some_ms_too_short():
    """
    Those ms add up in the books before it, which seem to be late; the hole itself is of whole ticks.
    """
    times = list(accumulate([397] * 66 + [402] * 6 + [804] + [402] * 20, initial=500))
    tape = Tape()
    tape.run(0, 60, [SOL, BTC])
    tape.connection(0, 60, [])
    for stream in (SOL, BTC):
        tape.fact(0.1, Requested(stream), connection=0, attempt=1)
        for ms in times:
            tape.book(ms / 1000, stream)

    holes = [e for e in fold(tape) if e.kind == "cadence_hole"]

    assert [(e.missing, since(e.start), since(e.end)) for e in holes] == [(1, times[72] / 1000, times[73] / 1000)] * 2


@pytest.mark.parametrize("lost", [2, 4, 6])
@pytest.mark.parametrize("pace", [750, 1000])
def test_books_lost_just_as_the_publisher_becomes_slower_are_missing(lost, pace):
    """
    The step is of no whole ticks of either pace, and longer than both.
    """
    times = list(accumulate([400] * 60 + [400 * lost + 400 + pace - 150] + [pace] * 30, initial=500))
    tape = Tape()
    tape.run(0, 80, [SOL])
    tape.connection(0, times[-1] / 1000, [])
    tape.fact(0.1, Requested(SOL), connection=0, attempt=1)
    for ms in times:
        tape.book(ms / 1000, SOL)

    holes = [e for e in fold(tape) if e.kind == "cadence_hole"]

    assert [(since(e.start), since(e.end)) for e in holes] == [(times[60] / 1000, times[61] / 1000)]


@pytest.mark.parametrize("ahead", [-0.05, 0, 0.05])
def test_a_market_of_twice_the_pace_is_no_proof_that_a_run_began_with_half_of_anothers_books(ahead):
    """
    Each is known by what it kept to before, whichever is heard first.
    """
    times, others = ticks(180, lambda t: 102 < t < 122), [t + ahead for t in ticks(180, lambda _: True)]

    holes = heard([("a", 0, 100), ("b", 102, 180)], times, others)

    assert {e.symbol for e in holes} == {"SOL-PERP"}
    assert sum(e.missing or 0 for e in holes) == 24
