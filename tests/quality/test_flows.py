"""
Silent streams: bounds, moves, late frames, several connections.
"""

import pytest

from quality_cases import (
    BTC,
    ETH,
    SOL,
    SOL_TRADES,
    URL,
    Tape,
    at,
    carried,
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
    Connected,
    EntryKind,
    Flag,
    Moved,
    NotAcknowledged,
    Requested,
    Stream,
)


def test_a_silent_book_is_unknown_from_its_last_frame_to_its_next():
    """
    Heartbeats go on, the other market goes on: this one is the venue's.
    """
    tape = steady(60)
    tape.without(20.1, 31.0, channel="orderbook_perp_0_grouped_1")

    events = fold(tape)

    assert unusual(events) == [("silent", 19.9, 31.1, "venue")]
    event = one(events, "silent")
    assert (event.symbol, event.channel, event.connection, event.scope) == ("SOL-PERP", "orderbook", 0, "stream")
    assert (event.first_slot, event.last_slot) == (50, 78)
    assert "no book for 11.2 s, until the next frame; last heartbeat 1.0 s before that" in event.evidence


def test_the_first_book_after_a_silence_is_marked():
    """
    A reader must not interpolate across the hole.
    """
    tape = steady(40, [SOL])
    tape.without(20.1, 31.0, channel="orderbook_perp_0_grouped_1")

    verdicts = [v for v in feed(monitor(), tape.entries()) if v is not None]

    marked = [i for i, v in enumerate(verdicts) if v.flags & Flag.FIRST_AFTER_GAP]
    assert len(marked) == 2
    assert verdicts[0].flags == Flag.FIRST_AFTER_GAP | Flag.MAYBE_INITIAL
    assert verdicts[marked[1]].flags == Flag.FIRST_AFTER_GAP


@pytest.mark.parametrize(("gap_s", "silences"), [(4.9, 0), (5.1, 1)])
def test_silence_begins_at_the_limit(gap_s, silences):
    """
    Five seconds, whether the clock's entry or the next frame is the first to notice.
    """
    tape = Tape()
    tape.run(0, 2 + gap_s, [SOL])
    tape.fact(0.1, Connected("u", 1, 1.0, compressed=True), connection=0, attempt=1)
    tape.fact(0.1, Requested(SOL), connection=0, attempt=1)
    tape.book(1, SOL)
    tape.book(1 + gap_s, SOL)

    assert len(told(fold(tape), "silent")) == silences


def test_a_book_that_never_came_is_silent_from_its_request():
    """
    Acknowledged but never published: the ordinary case after the relaunch.
    """
    tape = steady(30, [SOL])
    tape.fact(2, Requested(ETH), connection=0, attempt=1)

    event = one(fold(tape), "silent")

    assert (since(event.start), event.symbol, event.continues) == (2, "ETH-PERP", True)


def test_silence_ends_with_its_connection_and_goes_on_after_it():
    """
    The stretches of one hole touch: nothing between them is called known.
    """
    tape = Tape()
    tape.run(0, 60, [SOL, BTC])
    tape.connection(0.1, 30, [SOL, BTC])
    tape.disconnected(30.5)
    tape.connection(32, 60, [SOL, BTC], attempt=2)
    tape.without(20.1, 50, channel="orderbook_perp_0_grouped_1")

    events = fold(tape)

    assert unusual(events) == [
        ("disconnected", 29.9, 32.2, "network"),
        ("silent", 19.9, 30.5, "venue"),
        ("silent", 32, 50.2, "venue"),
    ]


def test_silence_across_a_move_to_probation_and_home_again_leaves_no_crack():
    """
    One hole is one event, however often the stream moves, and it ends with the first book wherever that comes.
    """
    tape = steady(90)
    tape.without(20.1, 90, channel="orderbook_perp_0_grouped_1")
    where = {"connection": 0, "attempt": 1}
    tape.fact(25, Requested(SOL, why="no book for 5 s"), **where)
    tape.fact(30, Moved(SOL, 1, "silent after another subscribe"), **where)
    tape.fact(30.01, Requested(SOL, op="unsubscribe"), **where)
    tape.connection(31, 90, [SOL], connection=1)
    tape.without(31, 40, channel="orderbook_perp_0_grouped_1")
    tape.fact(75, Requested(SOL, why="it speaks again"), **where)
    tape.books(75.2, 90, SOL, connection=0, attempt=1)
    tape.fact(75.21, Moved(SOL, 0, "it speaks again"), **where)

    events = fold(tape)

    assert unusual(events) == [("silent", 19.9, 40, "venue")]
    assert next(e.connection for e in events if e.kind == "silent") == 0


def test_a_silence_that_ends_soon_after_the_move_is_on_record_to_its_end():
    """
    The seconds between the move and the first book on the new connection are part of the hole.
    """
    tape = steady(60)
    tape.without(20.1, 60, channel="orderbook_perp_0_grouped_1")
    where = {"connection": 0, "attempt": 1}
    tape.fact(30, Moved(SOL, 1, "silent after another subscribe"), **where)
    tape.fact(30.01, Requested(SOL, op="unsubscribe"), **where)
    tape.connection(31, 60, [SOL], connection=1)
    tape.without(31, 34, channel="orderbook_perp_0_grouped_1")

    judge = monitor()
    feed(judge, tape.entries())

    assert unusual(judge.events) == [("silent", 19.9, 34, "venue")]
    assert [(f.connection, since(f.since)) for f in judge.state().flows if f.stream == SOL] == [(1, 34)]


def test_a_silence_that_moves_to_a_connection_in_an_outage_leaves_no_crack():
    """
    That the stream is asked for there, once the connection is up again, does not make the silence begin anew.
    """
    tape = steady(60, [SOL, BTC, ETH])
    tape.without(20.1, 60, channel="orderbook_perp_0_grouped_1")
    tape.fact(28, Moved(ETH, 1, "silent after another subscribe"), connection=0, attempt=1)
    tape.connection(28.1, 29, [ETH], connection=1)
    tape.disconnected(29.2, connection=1)
    tape.fact(30, Moved(SOL, 1, "silent after another subscribe"), connection=0, attempt=1)
    tape.connection(31, 60, [ETH], connection=1, attempt=2)
    tape.fact(31.1, Requested(SOL), connection=1, attempt=2)
    tape.books(33, 60, SOL, connection=1, attempt=2)

    silences = [e for e in unusual(fold(tape)) if e[0] == "silent"]

    assert silences == [("silent", 19.9, 33, "venue")]


def test_a_book_still_under_way_at_the_move_ends_the_silence():
    """
    What the old connection brings after the move was heard all the same, and its row is the first after the hole.
    """
    tape = steady(60)
    tape.without(20.1, 60, channel="orderbook_perp_0_grouped_1")
    where = {"connection": 0, "attempt": 1}
    tape.fact(30, Moved(SOL, 1, "silent after another subscribe"), **where)
    tape.fact(30.01, Requested(SOL, op="unsubscribe"), **where)
    tape.books(30.2, 30.3, SOL, connection=0, attempt=1)
    tape.connection(30.5, 60, [SOL], connection=1)

    events = fold(tape)

    assert unusual(events) == [("silent", 19.9, 30.2, "venue")]


def test_the_empty_probation_connection_ends_without_a_hole():
    """
    It is cut when its last stream has gone home; its next use may be days away.
    """
    tape = steady(60)
    tape.connection(10, 30, [ETH], connection=1)
    tape.fact(20, Requested(ETH, why="it speaks again"), connection=0, attempt=1)
    tape.books(20.2, 60, ETH)
    tape.fact(20.3, Moved(ETH, 0, "it speaks again"), connection=0, attempt=1)
    tape.disconnected(30.1, connection=1, cause="recorder", why="no stream is on probation any more")

    events = fold(tape)

    assert unusual(events) == [("added", 10, 10.2, "recorder"), ("disconnected", 30, 30.1, "recorder")]


def test_a_stream_that_goes_home_while_probation_is_down_ends_that_hole():
    """
    Nobody waits for that connection any more.
    """
    tape = steady(60)
    tape.connection(10, 20, [ETH], connection=1)
    tape.disconnected(20.5, connection=1)
    tape.fact(25, Requested(ETH, why="it speaks again"), connection=0, attempt=1)
    tape.books(25.2, 60, ETH)
    tape.fact(25.3, Moved(ETH, 0, "it speaks again"), connection=0, attempt=1)

    assert unusual(fold(tape)) == [("added", 10, 10.2, "recorder"), ("disconnected", 19.8, 25.3, "network")]


def test_a_late_frame_after_an_unsubscribe_is_stored_and_expected_no_more():
    """
    It was on its way. Its stream must not be called silent for ever because of it: it was taken out, from its last book
    in time to the end.
    """
    tape = steady(60)
    tape.without(20.3, 60, channel="orderbook_perp_0_grouped_1")
    tape.fact(20.2, Requested(SOL, op="unsubscribe"), connection=0, attempt=1)
    entries = tape.entries()
    judge = monitor()

    verdicts = feed(judge, entries)
    judge.finish(entries[-1].recv_ts, closed=False)

    late = verdicts[[e.recv_ts for e in entries if e.kind == EntryKind.FRAME].index(at(20.3))]
    assert late.resolution.stream == SOL
    assert unusual(judge.events) == [("unsubscribed", 19.9, 59.9, "recorder")]
    assert judge.streams() == [BTC]


def test_two_connections_are_judged_apart_and_their_union_has_no_first_after_a_gap():
    """
    One of them is silent; the rows of the other went on.
    """
    tape = steady(60, [SOL])
    tape.connection(0.1, 20, [SOL], connection=1)
    tape.heartbeats(20.1, 60, connection=1)
    tape.books(40, 60, SOL, connection=1)

    entries = tape.entries()
    judge = monitor()
    frames = [e for e in entries if e.kind == EntryKind.FRAME]
    flags = {
        (since(e.recv_ts), e.connection): v.flags
        for e, v in zip(frames, feed(judge, entries), strict=True)
        if v is not None
    }

    assert unusual(judge.events) == [("silent", 19.9, 40, "venue")]
    assert one(judge.events, "silent").connection == 1
    assert flags[40, 1] == 0
    assert judge.carriers() == {SOL: {("a", 0), ("a", 1)}}


def test_a_recorder_that_stood_still_does_not_blame_the_venue():
    """
    Suspended for half a minute, it has heard nothing; the books were in the socket's buffer.
    """
    tape = Tape()
    tape.run(0, 20, [SOL])
    tape.connection(0.1, 20, [SOL])
    tape.alive(50, 60)
    tape.books(50.2, 60, SOL)
    tape.heartbeats(47, 60, connection=0)

    events = fold(tape)

    assert told(events, "silent") == []
    assert told(events, "heartbeat_gap") == [("heartbeat_gap", 15.1, 52, "recorder")]


def test_after_both_connections_were_down_the_first_row_of_the_two_comes_after_a_gap():
    """
    Neither went on hearing; the second to come back has missed nothing that the first did not bring.
    """
    tape = Tape()
    tape.run(0, 60, [SOL])
    for connection, back in ((0, 30), (1, 32)):
        tape.connection(0.1, 20, [SOL], connection=connection)
        tape.disconnected(20.5, connection=connection)
        tape.connection(back, 60, [SOL], connection=connection, attempt=2)

    entries = tape.entries()
    frames = [e for e in entries if e.kind == EntryKind.FRAME]
    marked = [
        (since(e.recv_ts), e.connection)
        for e, v in zip(frames, feed(monitor(), entries), strict=True)
        if v is not None and v.flags & Flag.FIRST_AFTER_GAP
    ]

    assert marked == [(0.3, 0), (30.2, 0)]


def test_trades_that_are_not_acknowledged_are_no_quiet_market():
    """
    Hour after hour, until the venue acknowledges them or one comes; retries make no event each.
    """
    tape = steady(60, [SOL, SOL_TRADES])
    for t in (10.1, 30.1):
        tape.fact(t, NotAcknowledged(SOL_TRADES, at(t - 10), 10.0), connection=0, attempt=1)
    judge = monitor()
    feed(judge, tape.entries())
    probe = monitor(carried(judge.state()))
    probe.finish(at(60), closed=False)

    event = one(probe.events, "not_acknowledged")
    assert (since(event.start), since(event.end), event.continues) == (0.1, 60, True)

    tape.trade(40, 7)
    assert unusual(fold(tape)) == [("not_acknowledged", 0.1, 40, "venue")]


def test_an_acknowledgement_that_comes_late_ends_the_wait():
    """
    From then on the market may be quiet.
    """
    tape = steady(60, [SOL, SOL_TRADES])
    tape.fact(10.1, NotAcknowledged(SOL_TRADES, at(0.1), 10.0), connection=0, attempt=1)
    tape.frame(20, b'{"message":"Subscribe received for channel: trades, market: SOL-PERP, marketType: perp"}')

    assert unusual(fold(tape)) == [("not_acknowledged", 0.1, 20, "venue")]


def test_a_silence_that_was_due_between_two_looks_at_the_clock_moves_along():
    """
    The request that is sent because of it, and the move after that, come before the next entry of a second.
    """
    tape = Tape()
    tape.run(0, 40, [SOL, BTC])
    tape.connection(0.1, 40, [SOL, BTC])
    tape.without(0.1, 40, channel="orderbook_perp_0_grouped_1")
    tape.fact(5.2, Requested(SOL, why="no book for 5 s"), connection=0, attempt=1)
    tape.fact(10.3, Moved(SOL, 1, "silent after another subscribe"), connection=0, attempt=1)
    tape.fact(10.35, Connected("wss://x/ws", 1, 1.0, compressed=True), connection=1, attempt=1)
    tape.fact(10.36, Requested(SOL, why="silent after another subscribe"), connection=1, attempt=1)
    tape.heartbeats(10.35, 40, connection=1)
    tape.books(14.1, 40, SOL, connection=1)

    assert told(fold(tape), "silent") == [("silent", 0.1, 14.1, "venue")]


def test_a_stream_that_comes_home_goes_on_teaching_there():
    """
    It is let go of where it was, not where its first book has just come; one lost right after that is missing.
    """
    tape = steady(60)
    tape.without(20.1, 40, channel="orderbook_perp_0_grouped_1")
    tape.fact(30, Moved(SOL, 1, "silent after another subscribe"), connection=0, attempt=1)
    tape.connection(30.1, 41, [SOL], connection=1)
    tape.fact(39.9, Requested(SOL, why="it speaks again"), connection=0, attempt=1)
    tape.fact(40.31, Moved(SOL, 0, "it speaks again"), connection=0, attempt=1)
    tape.without(40.4, 41, channel="orderbook_perp_0_grouped_1")

    holes = told(fold(tape), "cadence_hole")

    assert holes == [("cadence_hole", 40.3, 41.1, "venue")]


def test_a_stream_let_go_of_at_an_hours_end_tells_of_the_books_it_missed_before():
    """
    Those were due in the hour before; the hole ends with the unsubscribe.
    """
    tape = Tape()
    tape.run(3540, 3610, [SOL, BTC])
    tape.connection(3540.1, 3610, [SOL, BTC])
    tape.without(3598.8, 3610, channel="orderbook_perp_0_grouped_1")
    tape.fact(3600.2, Requested(SOL, "unsubscribe"), connection=0, attempt=1)

    (hole,) = [e for e in fold(tape) if e.kind == "cadence_hole"]

    assert (since(hole.start), since(hole.end), hole.missing) == (3598.7, 3600.2, 3)


def adding(*, first: float | None, until: float = 30.0, book: Stream = ETH) -> Tape:
    """
    A run that hears two markets and asks for a third after 20.5 s, whose books begin at `first`.
    """
    tape = steady(until)
    tape.fact(20.5, Requested(book), connection=0, attempt=1)
    if first is not None:
        tape.books(first, until, book)
    return tape


@pytest.mark.parametrize(
    ("first", "hole"),
    [
        (20.9, ("added", 20.5, 20.9, "recorder")),
        (25.4, ("added", 20.5, 25.4, "recorder")),
        (26.5, ("silent", 20.5, 26.5, "venue")),
        (None, ("silent", 20.5, 30.0, "venue")),
    ],
)
def test_a_stream_added_on_an_open_connection_is_missing_from_its_request_to_its_first_book(first, hole):
    """
    Books were due from the request on; beyond the time of a silence it is one, from the same instant.
    """
    assert unusual(fold(adding(first=first), until=30)) == [hole]


def test_a_stream_added_a_moment_ago_is_missing_so_far():
    """
    At the end of what is known, of its connection and of its subscription alike.
    """
    assert unusual(fold(adding(first=None, until=22), until=22)) == [("added", 20.5, 22.0, "recorder")]
    ended, left, dead = (adding(first=None, until=22) for _ in range(3))
    ended.disconnected(22)
    left.fact(22, Requested(ETH, op="unsubscribe"), connection=0, attempt=1)
    dead.stop(22)
    for tape in (ended, left, dead):
        assert told(fold(tape, until=23), "added") == [("added", 20.5, 22.0, "recorder")]


def test_a_stream_added_in_two_copies_is_missing_until_each_brings_it():
    """
    Each connection has its own bounds; where one has it already, a second one that is asked for it owes nothing.
    """
    for asked, holes in ((20.6, [(0, 20.5, 20.9), (1, 20.6, 21.1)]), (21.0, [(0, 20.5, 20.9)])):
        tape = adding(first=20.9)
        tape.connection(0.2, 30, [SOL, BTC], connection=1)
        tape.fact(asked, Requested(ETH), connection=1, attempt=1)
        tape.books(21.1, 30, ETH, connection=1)

        events = [event for event in fold(tape, until=30) if event.kind == "added"]

        assert [(e.connection, since(e.start), since(e.end)) for e in events] == holes


def test_what_was_asked_for_before_is_not_added():
    """
    A new request for what is silent, one on a connection that is down, trades, and what comes back after it was taken
    out: each has events of its own, or nothing is due.
    """
    again = steady(30)
    again.fact(20.5, Requested(SOL, why="silent"), connection=0, attempt=1)
    trades = adding(first=None, book=SOL_TRADES)
    back = steady(30, [SOL, BTC])
    back.without(9, 15.2, channel="orderbook_perp_1_grouped_1")
    back.fact(9, Requested(BTC, op="unsubscribe"), connection=0, attempt=1)
    back.fact(15, Requested(BTC), connection=0, attempt=1)
    anew = adding(first=20.9)
    anew.disconnected(20.4)
    anew.fact(20.45, Connected(URL, 2, 1.0, compressed=True), connection=0, attempt=2)

    for tape in (again, trades, back, anew):
        assert told(fold(tape, until=30), "added") == []


def test_an_added_stream_goes_on_waiting_with_the_carry():
    """
    The hour may turn between the request and the first book.
    """
    entries = adding(first=21.3).entries()
    first, then = monitor(), None
    for count, entry in enumerate(entries):
        if entry.recv_ts > at(21):
            then = monitor(carried(first.state()))
            feed(then, entries[count:])
            break
        feed(first, [entry])

    assert then is not None
    then.finish(at(30), closed=False)
    assert told(then.events, "added") == [("added", 20.5, 21.3, "recorder")]


def test_a_stream_that_moves_while_it_still_comes_is_missing_until_it_comes_there():
    """
    From its last book where it was, also of several copies that leave one after another.
    """
    tape = Tape()
    tape.run(0, 40, [SOL, ETH])
    for connection in (0, 1):
        tape.connection(0.1, 40, [SOL, ETH], connection=connection)
        tape.fact(20.2, Moved(ETH, 3, "silent after another subscribe"), connection=connection)
    tape.without(20.2, 41, channel="orderbook_perp_2_grouped_1")
    tape.fact(20.3, Connected(URL, 1, 1.0, compressed=True), connection=3, attempt=1)
    tape.fact(20.4, Requested(ETH), connection=3, attempt=1)
    tape.heartbeats(20.3, 40, connection=3)
    tape.books(20.7, 40, ETH, connection=3)

    assert unusual(fold(tape)) == [("cadence_hole", 19.9, 20.7, "recorder")]
    assert one(fold(tape), "cadence_hole").missing == 1
    tape.book(20.31, ETH, connection=3)
    assert unusual(fold(tape)) == []  # the next one came in time
