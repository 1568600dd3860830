"""
Outages and heartbeats.
"""

import pytest

from quality_cases import (
    BTC,
    ETH,
    HOUR,
    SOL,
    SOL_TRADES,
    TICK_S,
    Tape,
    at,
    feed,
    fold,
    monitor,
    one,
    since,
    steady,
    told,
    unusual,
)
from recorder.records import (
    HOUR_NS,
    Connected,
    DiskFreed,
    DiskFull,
    EntryKind,
    Flag,
    Moved,
    Requested,
)


def test_an_outage_reaches_from_the_last_book_to_the_first_data_frame():
    """
    The heartbeat after the last book proves nothing about books; the connect after it brings none.
    """
    tape = Tape()
    tape.run(0, 60, [SOL])
    tape.connection(0.1, 18, [SOL])
    tape.heartbeat(20.1)
    tape.disconnected(21, why="no heartbeat for 11.0 s")
    tape.connection(25, 60, [SOL], attempt=2)

    events = fold(tape)

    assert unusual(events) == [("disconnected", 17.9, 25.2, "network")]
    assert one(events, "disconnected").evidence == "no heartbeat for 11.0 s, after 0.0 s"


def test_where_no_book_is_asked_for_any_frame_ends_an_outage():
    """
    A trade may be hours away.
    """
    tape = Tape()
    tape.run(0, 60, [SOL_TRADES])
    tape.connection(0.1, 20.1, [SOL_TRADES])
    tape.disconnected(21)
    tape.connection(25, 60, [SOL_TRADES], attempt=2)

    assert unusual(fold(tape)) == [("disconnected", 20.1, 30, "network")]


@pytest.mark.parametrize("made_before", [False, True])
def test_who_refuses_is_not_blamed_for_the_time_in_which_the_disk_was_full(made_before):
    """
    The outage of a connection that was never made begins when its run listens again; whether another one was made
    before, and its stream has been waiting for this one since then, or none was.
    """
    tape, refused = Tape(), 2 if made_before else 0
    tape.run(0, 80, [SOL, BTC])
    if made_before:
        tape.connection(0.1, 9.9, [SOL, BTC])
        tape.fact(9.9, Moved(BTC, refused, "silent"), connection=0, attempt=1)
        tape.fact(9.91, Requested(BTC, op="unsubscribe"), connection=0, attempt=1)
    tape.fact(10, DiskFull(4096, 12, "no space"))
    if made_before:
        tape.disconnected(10.01, cause="recorder", why="the disk is full")
    tape.fact(60, DiskFreed(1 << 30, 1 << 20))
    tape.connect_failed(61, attempt=1, connection=refused)
    tape.connection(64, 80, [SOL, BTC], connection=refused, attempt=2)

    outages = [event for event in fold(tape) if event.kind == "disconnected" and event.cause == "network"]

    assert [(since(event.start), since(event.end), event.connection) for event in outages] == [(60, 64.2, refused)]


def test_failed_connects_are_one_event_and_the_outage_runs_through_them():
    """
    From the last book to the first that came again, whatever was tried between.
    """
    tape = Tape()
    tape.run(0, 80, [SOL])
    tape.connection(0.1, 20, [SOL])
    tape.disconnected(20.5)
    tape.connect_failed(21, attempt=2)
    tape.connect_failed(25, attempt=3)
    tape.connect_failed(29, attempt=4)
    tape.connection(40, 80, [SOL], attempt=5)

    events = fold(tape)

    assert unusual(events) == [
        ("connect_failed", 21, 29, "network"),
        ("disconnected", 19.9, 40.2, "network"),
    ]
    assert one(events, "connect_failed").evidence.endswith("refused (3 times)")


def test_a_venue_that_is_not_there_at_the_start_is_an_outage_from_the_start():
    """
    The streams were wanted from then on.
    """
    tape = Tape()
    tape.run(0, 60, [SOL])
    tape.connect_failed(0.1, attempt=1)
    tape.connection(30, 60, [SOL], attempt=2)

    events = fold(tape)

    assert told(events, "disconnected") == [("disconnected", 0, 30.2, "network")]
    assert "could not be made: refused" in one(events, "disconnected").evidence


def test_books_that_stay_silent_after_a_reconnect_are_silent_not_disconnected():
    """
    A halted venue is another hole than a dead socket; the two touch at the subscribe.
    """
    tape = Tape()
    tape.run(0, 60, [SOL])
    tape.connection(0.1, 20, [SOL])
    tape.disconnected(20.5)
    tape.connection(22, 60, [SOL], attempt=2)
    tape.without(22, 50, channel="orderbook_perp_0_grouped_1")

    assert unusual(fold(tape)) == [("disconnected", 19.9, 22, "network"), ("silent", 22, 50.2, "venue")]


def test_the_first_row_after_an_outage_is_marked_for_every_stream():
    """
    Trades too: what came while we were away is not there.
    """
    tape = Tape()
    tape.run(0, 40, [SOL, SOL_TRADES])
    tape.connection(0.1, 20, [SOL, SOL_TRADES])
    tape.trade(10, 5)
    tape.disconnected(20.5)
    tape.connection(22, 40, [SOL, SOL_TRADES], attempt=2)
    tape.trade(30, 6, attempt=2)
    tape.trade(31, 7, attempt=2)

    entries = tape.entries()
    flags = {
        (v.resolution.stream.channel, since(e.recv_ts)): v.flags
        for e, v in zip([e for e in entries if e.kind == EntryKind.FRAME], feed(monitor(), entries), strict=True)
        if v is not None
    }

    assert {k: f for k, f in flags.items() if f} == {
        ("orderbook", 0.3): Flag.FIRST_AFTER_GAP | Flag.MAYBE_INITIAL,
        ("trades", 10): Flag.FIRST_AFTER_GAP,
        ("orderbook", 22.2): Flag.FIRST_AFTER_GAP | Flag.MAYBE_INITIAL,
        ("trades", 30): Flag.FIRST_AFTER_GAP,
    }


def test_an_open_outage_goes_on_at_the_end_of_what_is_known():
    """
    Its end is not known; it must not look closed.
    """
    tape = Tape()
    tape.run(0, 60, [SOL])
    tape.connection(0.1, 20, [SOL])
    tape.disconnected(20.5)

    event = one(fold(tape, until=60.05), "disconnected")

    assert (since(event.start), since(event.end), event.continues) == (19.9, 60.05, True)


def test_frames_of_an_attempt_nobody_saw_open_count_for_a_connection():
    """
    The entries of the reconnect were lost; heartbeats are judged from there on, not from long ago.
    """
    tape = steady(20, [SOL])
    tape.alive(20, 60)
    tape.heartbeats(30, 60, attempt=2)
    tape.books(30.2, 60, SOL, attempt=2)

    assert told(fold(tape), "heartbeat_gap") == []


def test_an_interval_over_the_limit_reaches_from_heartbeat_to_heartbeat():
    """
    The connection brought books meanwhile, so it lived: the venue sent none.
    """
    tape = steady(60, [SOL])
    tape.without(15.2, 40, channel="heartbeat")

    event = one(fold(tape), "heartbeat_gap")

    assert (since(event.start), since(event.end), event.cause) == (15.1, 40.1, "venue")
    assert "until the next heartbeat" in event.evidence
    assert "last frame of any kind 0.2 s before that" in event.evidence


def test_a_gap_is_closed_by_the_end_of_the_connection():
    """
    No heartbeat will come any more.
    """
    tape = Tape()
    tape.run(0, 40, [SOL])
    tape.connection(0.1, 10.2, [SOL])
    tape.disconnected(22)

    event = one(fold(tape), "heartbeat_gap")

    assert (since(event.start), since(event.end)) == (10.1, 22)
    assert "the end of the connection" in event.evidence


def test_an_open_gap_goes_on():
    """
    At the end of what is known it is still a gap.
    """
    tape = steady(40, [SOL])
    tape.without(10.2, 40, channel="heartbeat")

    event = one(fold(tape), "heartbeat_gap")

    assert (since(event.start), since(event.end), event.continues) == (10.1, 39.9, True)


def test_the_hours_beats_are_counted_per_connection():
    """
    Count, time up and longest interval; a connection that was down is not up.
    """
    tape = Tape()
    tape.run(0, 100, [SOL])
    tape.connection(0, 40, [SOL])
    tape.without(14, 19, channel="heartbeat")
    tape.disconnected(40)
    tape.connection(60, 100, [SOL], attempt=2)
    judge = monitor()
    feed(judge, tape.entries())

    beats = judge.hour_beats(at(100))["a", 0]

    assert (beats.heartbeats, beats.up_ns / 1e9, (beats.longest_ns or 0) / 1e9) == (15, 80, 10)


def test_a_run_that_died_is_not_up_until_the_end_of_the_hour():
    """
    Else far too many heartbeats would be expected of its connections.
    """
    tape = steady(100, [SOL])
    judge = monitor()
    feed(judge, tape.entries())

    assert judge.hour_beats(HOUR + HOUR_NS)["a", 0].up_ns == at(99.9) - at(0.1)


def test_an_outage_begins_with_the_earliest_last_book_and_ends_with_the_latest_first_one():
    """
    It is the hole of every market of the connection, and one of another's frames proves nothing about theirs.
    """
    tape = Tape()
    tape.run(0, 60, [SOL, BTC])
    tape.connection(0.1, 20, [SOL, BTC])
    tape.without(18.1, 20, channel="orderbook_perp_1_grouped_1")
    tape.disconnected(20.5)
    tape.connection(22, 60, [SOL, BTC], attempt=2)
    tape.without(22, 24.5, channel="orderbook_perp_1_grouped_1")
    tape.book(22.1, ETH, attempt=2)
    tape.trade(22.15, 1, attempt=2)

    assert told(fold(tape), "disconnected", "silent") == [("disconnected", 17.9, 24.6, "network")]


def test_a_book_that_stays_silent_after_an_outage_hands_over_without_a_crack():
    """
    The others came long before it is called silent: the outage ends with the last of them, or where the silence begins.
    """
    tape = Tape()
    tape.run(0, 60, [SOL, BTC])
    tape.connection(0.1, 20, [SOL, BTC])
    tape.disconnected(20.5)
    tape.connection(22, 60, [SOL, BTC], attempt=2)
    tape.without(22, 40, channel="orderbook_perp_1_grouped_1")

    assert unusual(fold(tape)) == [("disconnected", 19.9, 22.2, "network"), ("silent", 22, 40.2, "venue")]


def test_from_the_start_of_a_run_to_the_first_book_of_each_stream_nothing_is_unnamed():
    """
    Requests are paced: the connect of a run that starts reaches to the first book of the last stream.
    """
    tape = Tape()
    tape.run(0, 30, [SOL, BTC])
    tape.connection(0.5, 30, [SOL])
    tape.fact(1.5, Requested(BTC), connection=0, attempt=1)
    tape.books(2.5, 30, BTC)

    events = fold(tape)

    assert told(events, "connected") == [("connected", 0, 2.5, "recorder")]
    assert unusual(events) == []


def test_a_start_that_takes_longer_than_a_silence_is_an_outage():
    """
    The connect is then the moment it was.
    """
    tape = Tape()
    tape.run(0, 30, [SOL])
    tape.connection(8, 30, [SOL])

    events = fold(tape)

    assert told(events, "connected", "disconnected") == [
        ("connected", 8, 8, "recorder"),
        ("disconnected", 0, 8.2, "recorder"),
    ]


def test_a_start_whose_connection_ends_before_a_book_came_goes_on_as_an_outage():
    """
    A server that closes at once has brought nothing.
    """
    tape = Tape()
    tape.run(0, 30, [SOL])
    tape.fact(0.1, Connected("u", 1, 1.0, compressed=True), connection=0, attempt=1)
    tape.fact(0.1, Requested(SOL), connection=0, attempt=1)
    tape.disconnected(0.3)

    events = fold(tape)

    assert told(events, "connected", "disconnected") == [
        ("connected", 0.1, 0.1, "recorder"),
        ("disconnected", 0, 29.05, "network"),
    ]
    assert one(events, "disconnected").continues


def test_a_connection_we_gave_up_for_silence_was_dead_if_no_heartbeat_came_either():
    """
    Every book was silent, so the capture blames the venue; but nothing at all came.
    """
    tape = steady(20)
    tape.alive(20.05, 60)
    tape.disconnected(30.3, cause="venue", why="every book is silent while heartbeats go on")
    tape.connection(31.4, 60, [SOL, BTC], attempt=2)

    events = fold(tape)

    assert one(events, "disconnected").cause == "network"
    assert "nothing at all had come for 10.4 s" in one(events, "disconnected").evidence
    assert {e.cause for e in events if e.kind == "silent"} == {"network"}


def test_a_connection_we_gave_up_for_silence_while_heartbeats_came_is_the_venues():
    """
    The other side of it.
    """
    tape = steady(30)
    tape.without(20.1, 30, channel="orderbook_perp_0_grouped_1")
    tape.without(20.1, 30, channel="orderbook_perp_1_grouped_1")
    tape.alive(30.05, 60)
    tape.disconnected(29.9, cause="venue", why="every book is silent while heartbeats go on")
    tape.connection(31.4, 60, [SOL, BTC], attempt=2)

    assert {e.cause for e in fold(tape) if e.kind in {"disconnected", "silent"}} == {"venue"}


def test_an_outage_behind_a_backlog_begins_when_its_last_book_was_due():
    """
    What had been sent came all at once, just before the end: what should have followed was never sent.
    """
    tape = steady(30)
    for index in (0, 1):
        tape.without(20.1, 30, channel=f"orderbook_perp_{index}_grouped_1")
    for stream in (SOL, BTC):
        for tick in range(5):
            tape.book(25.0, stream, ts=20.3 + tick * TICK_S, connection=0, attempt=1)
    tape.disconnected(25.1)
    tape.connection(26, 30, [SOL, BTC], attempt=2)

    assert ("disconnected", 21.9, 26.2, "network") in unusual(fold(tape))
