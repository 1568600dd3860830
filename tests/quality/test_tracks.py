"""
Late books, clocks of the publisher that step, slots and contents that stand still or step back.
"""

import pytest

from quality_cases import BTC, SOL, TICK_S, URL, Tape, fold, one, since, steady, told, unusual
from quality_runs import DURING, START, events_of, folded, hear, seconds_of
from recorder.quality import slots
from recorder.quality.track import Track
from recorder.records import (
    SECOND_NS,
    ClockStepped,
    Connected,
    Entry,
    EntryKind,
    Flag,
    LoopStalled,
    Requested,
    encode_fact,
)
from recorder.simulator.drive import Link
from recorder.simulator.kinds import Backlog, ClockSkew, Drop, Freeze, Halt, ShiftSlots, Silence, StaleStore, TwoFeeds

STALL = Link(stalls_s=((21.1, 24.5),))


# ---- late books


def test_books_that_were_held_back_are_a_backlog_and_no_hole():
    """
    From the last book in time to the first that is in time again; nothing is missing.
    """
    (event,) = events_of(hear(links={0: STALL}))

    assert (event.kind, event.scope, event.cause, event.missing) == ("backlog", "connection", "unknown", None)
    assert seconds_of(event) == (20.8, 24.5)
    assert "books late by up to 3.3 s, until they were in time again; no heartbeat was due" in event.evidence


def test_rows_that_came_late_bear_the_flag():
    """
    Their receive times are not when the venue spoke.
    """
    _, verdicts = folded(hear(links={0: STALL}))

    late = [round(t, 1) for t, v in verdicts if v.flags & Flag.BACKLOG]
    assert set(late) == {24.5}
    assert len(late) == 3 * 8


def test_a_backlog_longer_than_the_limit_of_silence_is_no_silence():
    """
    The next book by the publisher's clock came: it was held back, with the heartbeat, so on its way.
    """
    (event,) = events_of(hear(Backlog(from_s=31.1, to_s=39.1)))

    assert (event.kind, event.cause, seconds_of(event)) == ("backlog", "network", (30.8, 39.2))
    assert "the heartbeat was late as well" in event.evidence


def test_books_a_server_drops_for_a_slow_client_are_a_hole_in_the_venues_time():
    """
    They were due while nothing came, and received between two books of one burst.
    """
    events = events_of(hear(Backlog(from_s=31.1, to_s=39.1, buffer_bytes=0), markets=6))

    by_kind = {e.kind: e for e in events}
    assert set(by_kind) <= {"backlog", "cadence_hole", "trade_gap"}
    hole = by_kind["cadence_hole"]
    assert (hole.scope, hole.cause) == ("connection", "unknown")
    assert by_kind["backlog"].start <= hole.start < hole.end <= by_kind["backlog"].end
    assert all(e.cause == "unknown" for e in events if e.kind == "trade_gap")


def test_what_we_held_back_ourselves_is_ours():
    """
    The loop says that it stood still.
    """
    entries = hear(links={0: STALL})
    stall = LoopStalled(int(3.4 * SECOND_NS))
    at = next(i for i, e in enumerate(entries) if e.recv_ts > START + 24.6 * SECOND_NS)
    like = entries[at]
    tape = [(e.kind, e.connection, e.attempt, e.recv_ts, e.payload) for e in entries]

    tape.insert(at, (EntryKind.FACT, -1, 0, START + int(24.5 * SECOND_NS), encode_fact(stall)))
    numbered = [
        Entry(k, c, a, i, t, p, like.run) for i, (k, c, a, t, p) in enumerate(sorted(tape, key=lambda e: e[3]), 1)
    ]

    assert [(e.kind, e.cause) for e in events_of(numbered)] == [("backlog", "recorder"), ("loop_stall", "recorder")]


def test_a_delay_that_stays_is_the_new_usual():
    """
    Another route, say: it is told once, for a minute.
    """
    tape = Tape()
    tape.run(0, 200, [SOL])
    where = {"connection": 0, "attempt": 1}
    tape.fact(0.1, Connected("u", 1, 1.0, compressed=True), **where)
    tape.fact(0.1, Requested(SOL), **where)
    tape.heartbeats(0.1, 200, **where)
    for tick in range(120):
        tape.book(0.4 + tick * 0.4, SOL)
    for tick in range(120, 494):
        tape.book(0.4 + tick * 0.4 + 2, SOL, ts=0.4 + tick * 0.4)

    events = fold(tape)

    assert told(events, "backlog", "cadence_hole") == [("backlog", 48.0, 110.8, "venue")]
    evidence = one(events, "backlog").evidence
    assert "and stay so: they are judged by that from here on" in evidence
    assert evidence.endswith("heartbeats came meanwhile")


def test_a_step_of_our_own_clock_makes_no_book_late():
    """
    All books seem later by it, and are not.
    """
    tape = Tape()
    tape.run(0, 100, [SOL])
    where = {"connection": 0, "attempt": 1}
    tape.fact(0.1, Connected("u", 1, 1.0, compressed=True), **where)
    tape.fact(0.1, Requested(SOL), **where)
    tape.heartbeats(0.1, 100, **where)
    tape.fact(40.01, ClockStepped(3 * SECOND_NS, 0, 0))
    for tick in range(240):
        t = 0.4 + tick * 0.4
        tape.book(t, SOL, ts=t - (3 if t > 40.01 else 0))

    assert told(fold(tape), "backlog", "cadence_hole", "clock_skew") == []


# ---- the publisher's clock


@pytest.mark.parametrize("by_ms", [-60_000, -3000, 5000])
def test_a_publishers_clock_that_steps_is_a_skew_and_nothing_else(by_ms):
    """
    Neither a hole nor a backlog: as much time has passed here as ever.
    """
    (event,) = events_of(hear(ClockSkew(**DURING, by_ms=by_ms)))

    assert (event.kind, event.scope, event.cause) == ("clock_skew", "connection", "venue")
    assert seconds_of(event) == (30.0, 45.2)
    assert f"{by_ms / 1000:+.1f} s off" in event.evidence


def test_books_missed_while_the_publishers_clock_steps_are_told_by_ours():
    """
    Its own does not tell how many there should have been.
    """
    faults = (ClockSkew(**DURING, by_ms=-60_000), Silence(from_s=29.5, to_s=32, market="SOL-PERP"))

    holes = [e for e in events_of(hear(*faults)) if e.kind == "cadence_hole"]

    assert [(e.symbol, seconds_of(e), e.missing) for e in holes] == [("SOL-PERP", (29.2, 32.0), 6)]


def test_a_silence_in_which_the_publishers_clock_steps_is_no_hole_as_well():
    """
    One hole, one event.
    """
    faults = (ClockSkew(**DURING, by_ms=-60_000), Silence(from_s=29.5, to_s=36, market="SOL-PERP"))

    assert [e.kind for e in events_of(hear(*faults)) if e.symbol == "SOL-PERP" and e.kind != "clock_skew"] == ["silent"]


def test_a_clock_that_steps_while_the_cadence_is_learned_makes_no_hole():
    """
    What was learned before it is not used.
    """
    events = events_of(hear(ClockSkew(from_s=1.5, to_s=5, by_ms=-60_000)))

    assert "cadence_hole" not in {e.kind for e in events}


@pytest.mark.parametrize("by_ms", [-900, 700])
def test_less_than_a_second_is_not_told(by_ms):
    """
    Clocks differ.
    """
    assert events_of(hear(ClockSkew(**DURING, by_ms=by_ms, market="SOL-PERP"))) == []


def test_a_clock_that_is_off_from_the_start_is_told_of_for_ten_minutes():
    """
    Then it is taken as it is.
    """
    events = events_of(hear(ClockSkew(from_s=0, to_s=900, by_ms=-30_000), seconds=700, markets=1))

    assert [e.kind for e in events] == ["clock_skew"]
    assert 600 < seconds_of(events[0])[1] < 625


# ---- slots


def test_two_feeds_are_one_event_from_the_first_step_back_to_the_last():
    """
    Not one for each step. Then only one of them came: for half a minute the other may be lost.
    """
    event, alone = events_of(hear(TwoFeeds(**DURING), seconds=80))

    assert (event.kind, event.scope, seconds_of(event)) == ("two_feeds", "connection", (30.4, 45.0))
    assert "37 steps back in slot, by up to 3" in event.evidence
    assert (alone.kind, alone.scope, seconds_of(alone)) == ("two_feeds", "connection", (45.0, 75.2))
    assert "only one of two feeds came: whether the other was switched off" in alone.evidence


def test_two_feeds_that_go_on_have_one_id_in_both_hours():
    """
    They may be there for months.
    """
    entries = hear(seconds=100, two_feeds=True, start=START + 3540 * SECOND_NS)
    ids = set()
    for until in (3550.0, 3620.0, 3640.0):
        judge, _ = folded([e for e in entries if e.recv_ts < START + until * SECOND_NS])
        judge.finish(START + int(until * SECOND_NS), closed=False)
        event = one(judge.events, "two_feeds")
        assert event.continues
        ids.add(event.event_id)
    assert len(ids) == 1


def test_a_step_back_is_a_regression():
    """
    One, with its slots; and one event for several in a row.
    """
    track = Track(slot=100, moved=0)
    found = []
    path = [101, 95, *range(96, 120)]
    for number, slot in enumerate(path):
        found += slots.follow(track, slot, number * SECOND_NS, (number - 1) * SECOND_NS)

    assert [f[:3] for f in found] == [("slot_regression", 0, SECOND_NS)]
    assert found[0][3] == "a step back in slot, by up to 6, from 101"


def test_a_leap_ahead_is_told_and_catching_up_is_not():
    """
    A publisher whose node stood still for a minute goes on where the chain is.
    """
    track = Track(slot=100, moved=0)
    assert slots.follow(track, 100 + 150, 60 * SECOND_NS, 59 * SECOND_NS) == []

    (event,) = [e for e in events_of(hear(ShiftSlots(**DURING, slots=60, market="SOL-PERP"))) if e.kind == "slot_jump"]
    assert (event.symbol, seconds_of(event)) == ("SOL-PERP", (30.0, 30.4))


def test_a_step_back_across_a_reconnect_is_not_told():
    """
    It may be another server.
    """
    events = events_of(hear(Drop(30.2), ShiftSlots(from_s=30.2, to_s=70, slots=-50), two_feeds=True))

    assert {e.kind for e in events} <= {"disconnected", "trade_gap", "two_feeds"}


# ---- standing still


@pytest.mark.parametrize("what", ["all", "slot", "content"])
def test_what_stands_still_while_books_come_is_frozen(what):
    """
    One event, whatever of it stands still.
    """
    (event,) = events_of(hear(Freeze(from_s=40.1, to_s=65.1, market="SOL-PERP", what=what), seconds=80))

    assert (event.kind, event.symbol, event.cause) == ("frozen", "SOL-PERP", "venue")
    begins, ends = seconds_of(event)
    assert 38.8 <= begins <= 41.3
    assert ends == 65.2
    assert ("the slot stood" if what != "content" else "the best levels stood still") in event.evidence


def test_a_halted_market_whose_books_come_is_frozen_all_at_once():
    """
    Slots go on, nothing moves: one event of the connection.
    """
    (event,) = events_of(hear(Halt(from_s=40.1, to_s=65.1), seconds=80))

    assert (event.kind, event.scope) == ("frozen", "connection")


def test_a_quiet_market_is_not_frozen():
    """
    What it usually does means nothing.
    """
    entries = hear(seconds=400, markets=1)
    sol = b'"orderbook_perp_0_grouped_1"'
    still, quiet = b"", []
    for number, entry in enumerate(entries):
        payload = entry.payload
        if sol in payload:
            if number % 300 < 3 or not still:
                still = payload
            # The same levels for half a minute, time and again.
            head, tail = still[: still.rfind(b"marketName")], payload[payload.rfind(b"marketName") :]
            payload = head + tail
        quiet.append(type(entry)(entry.kind, entry.connection, entry.attempt, entry.seq, entry.recv_ts, payload, "r"))

    assert events_of(quiet) == []


def test_a_frozen_slot_that_goes_on_is_told_as_going_on():
    """
    The hour ends before it does.
    """
    (event,) = events_of(hear(Freeze(from_s=40.1, to_s=90, market="SOL-PERP", what="slot")))

    assert (event.continues, seconds_of(event)) == (True, (40.0, 69.6))


@pytest.mark.parametrize("thaws_s", [70.2, 90.1])
def test_after_an_outage_a_slot_stands_still_as_long_as_books_have_told_since(thaws_s):
    """
    What came before was told as it ended; of the time between nobody knows.
    """
    faults = (Freeze(from_s=40.1, to_s=thaws_s, market="SOL-PERP", what="slot"), Drop(59.83))
    entries = hear(*faults, seconds=100)
    events = [e for e in events_of(entries) if e.kind == "frozen"]

    assert seconds_of(events[0]) == (40.0, 59.6)
    assert [seconds_of(e) for e in events[1:]] == ([(61.2, 90.4)] if thaws_s > 80 else [])


# ---- stored copies


@pytest.mark.parametrize("server", ["velocity", "2025-09"])
@pytest.mark.parametrize("delay_ms", [2, 300, 900])
def test_a_stored_copy_is_no_step_back_and_no_hole(server, delay_ms):
    """
    It may come before the first live book or after it, and be much older.
    """
    faults = (StaleStore(from_s=10, to_s=60), Drop(30.2))
    entries = hear(*faults, server=server, initial_delay_ms=delay_ms)

    assert {e.kind for e in events_of(entries)} <= {"disconnected", "trade_gap"}


def test_the_stored_copy_after_a_reconnect_does_not_end_the_outage():
    """
    The stream stays away for another few seconds, fewer than a silence has: until its first live book it is down.
    """
    tape = steady(30)
    tape.disconnected(30.2)
    tape.fact(31, Connected(URL, 2, 1.0, compressed=True), connection=0, attempt=2)
    for stream in (SOL, BTC):
        tape.fact(31, Requested(stream), connection=0, attempt=2)
    tape.book(31.1, SOL, ts=29.9, connection=0, attempt=2)
    tape.book(31.1, BTC, ts=29.9, connection=0, attempt=2)
    tape.books(31.5, 50, BTC, connection=0, attempt=2)
    tape.books(35.1, 50, SOL, connection=0, attempt=2)
    tape.heartbeats(31, 50, connection=0, attempt=2)
    tape.alive(30, 50)

    assert unusual(fold(tape)) == [("disconnected", 29.9, 35.1, "network")]


@pytest.mark.parametrize("copied", [30.8, 30.4])
def test_a_book_that_is_lost_after_the_stored_copy_is_missing(copied):
    """
    By our clock there was hardly time for it, for the copy came late; what was due before that came, the outage tells.
    """
    tape = steady(29.9)
    tape.disconnected(29.95)
    tape.alive(30, 50)
    tape.heartbeats(31, 50, connection=0, attempt=2)
    tape.fact(31, Connected(URL, 2, 1.0, compressed=True), connection=0, attempt=2)
    for stream in (SOL, BTC):
        tape.fact(31, Requested(stream), connection=0, attempt=2)
        tape.book(31.1, stream, ts=copied, connection=0, attempt=2)
    tape.books(31.2, 50, BTC, connection=0, attempt=2)
    tape.books(31.6, 50, SOL, connection=0, attempt=2)

    events = [e for e in fold(tape) if e.kind not in {"recorder_started", "connected"}]

    assert [e.kind for e in events] == ["disconnected", "cadence_hole"]
    assert [(e.symbol, since(e.start), since(e.end), e.missing) for e in events[1:]] == [("SOL-PERP", 31.1, 31.6, 1)]


def test_a_stream_that_stays_silent_after_its_stored_copy_is_silent_since_the_request():
    """
    The outage ends there.
    """
    tape = steady(30)
    tape.disconnected(30.2)
    tape.fact(31, Connected(URL, 2, 1.0, compressed=True), connection=0, attempt=2)
    for stream in (SOL, BTC):
        tape.fact(31, Requested(stream), connection=0, attempt=2)
    tape.book(31.1, SOL, ts=29.9, connection=0, attempt=2)
    tape.books(31.2, 50, BTC, connection=0, attempt=2)
    tape.books(42.1, 50, SOL, connection=0, attempt=2)
    tape.heartbeats(31, 50, connection=0, attempt=2)
    tape.alive(30, 50)

    assert unusual(fold(tape)) == [("disconnected", 29.9, 31.2, "network"), ("silent", 31.0, 42.1, "venue")]


def test_a_stored_copy_newer_than_what_was_heard_does_not_end_a_silence():
    """
    It is not the very next book, and it is too old to be a live one.
    """
    tape = steady(60)
    tape.without(20.1, 40, channel="orderbook_perp_0_grouped_1")
    tape.fact(26, Requested(SOL, why="no book for 5 s"), connection=0, attempt=1)
    tape.book(26.1, SOL, ts=23.1, connection=0, attempt=1)

    assert [e for e in unusual(fold(tape)) if e[0] != "clock_skew"] == [("silent", 19.9, 40.3, "venue")]


def test_what_may_be_the_next_book_or_a_stored_copy_ends_no_silence_unless_more_follow():
    """
    A server may have stored one book more than it sent: it is one tick newer, and came right after the request.
    """
    tape = steady(60)
    tape.without(20.1, 29, channel="orderbook_perp_0_grouped_1")
    tape.fact(26, Requested(SOL, why="no book for 5 s"), connection=0, attempt=1)
    tape.book(26.1, SOL, ts=20.3, connection=0, attempt=1)

    assert unusual(fold(tape)) == [("silent", 19.9, 29.1, "venue")]


def test_what_a_server_stored_of_its_other_feed_ends_no_silence():
    """
    It is newer than what was heard by less than a tick, and its slot is lower.
    """
    tape = steady(60)
    tape.without(20.1, 29, channel="orderbook_perp_0_grouped_1")
    tape.fact(26, Requested(SOL, why="no book for 5 s"), connection=0, attempt=1)
    tape.book(26.1, SOL, ts=20.06, slot=47, connection=0, attempt=1)

    assert unusual(fold(tape)) == [("silent", 19.9, 29.1, "venue")]


def test_books_held_back_while_they_were_asked_for_again_are_no_silence():
    """
    The first of them may be a stored copy, as far as it goes; the second is the one after it.
    """
    tape = steady(60)
    tape.without(20.1, 26.2, channel="orderbook_perp_0_grouped_1")
    tape.fact(26, Requested(SOL, why="no book for 5 s"), connection=0, attempt=1)
    for tick in range(15):
        tape.book(26.1, SOL, ts=20.3 + tick * TICK_S, connection=0, attempt=1)

    assert [e[:3] for e in unusual(fold(tape))] == [("backlog", 19.9, 26.1)]


def test_a_late_book_after_a_silence_is_not_the_next_one_of_a_stored_copy():
    """
    Both came late, and between them and what was heard before is a hole.
    """
    tape = steady(60)
    tape.without(20.1, 27.2, channel="orderbook_perp_0_grouped_1")
    tape.fact(26, Requested(SOL, why="no book for 5 s"), connection=0, attempt=1)
    for ts in (25.5, 25.9, 26.3, 26.7, 27.1):
        tape.book(27.15, SOL, ts=ts, connection=0, attempt=1)

    assert ("silent", 19.9, 27.15, "venue") in unusual(fold(tape))


def test_what_lies_between_a_stored_copy_that_comes_first_of_all_and_the_first_live_book_is_a_hole():
    """
    That it was one is known once the next few have come.
    """
    tape = steady(60, [SOL])
    tape.fact(20, Requested(BTC), connection=0, attempt=1)
    tape.book(20.1, BTC, ts=12.0, connection=0, attempt=1)
    tape.books(24.1, 60, BTC, connection=0, attempt=1)

    events = fold(tape)

    told = [(e.kind, since(e.start), since(e.end), e.missing) for e in events if e.symbol == "BTC-PERP"]
    assert sorted(told) == [("added", 20, 20.1, None), ("cadence_hole", 20.1, 24.1, 9)]


def test_a_clock_that_steps_just_after_a_request_makes_no_hole():
    """
    The first book by the new clock looks like a stored copy.
    """
    tape = steady(60)
    tape.without(20.1, 60, channel="orderbook_perp_0_grouped_1")
    tape.fact(20.2, Requested(SOL, why="again"), connection=0, attempt=1)
    for tick in range(100):
        tape.book(20.3 + tick * TICK_S, SOL, ts=10.3 + tick * TICK_S, slot=52 + tick, connection=0, attempt=1)

    assert {e[0] for e in unusual(fold(tape))} == {"clock_skew"}


def test_books_that_are_held_back_while_the_first_ones_teach_are_a_backlog():
    """
    Two books are enough to tell the very next one.
    """
    tape = steady(60)
    for index in (0, 1):
        tape.without(0.9, 7.5, channel=f"orderbook_perp_{index}_grouped_1")
    for stream in (SOL, BTC):
        for tick in range(2, 18):
            tape.book(7.4, stream, ts=0.3 + tick * TICK_S, connection=0, attempt=1)

    assert "silent" not in {e[0] for e in unusual(fold(tape))}
