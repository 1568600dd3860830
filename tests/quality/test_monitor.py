"""
The fold as a whole: clean runs, frames of every kind, hours.
"""

import msgspec

from quality_cases import (
    BTC,
    ETH,
    HOUR,
    SOL,
    SOL_TRADES,
    Tape,
    at,
    book_frame,
    carried,
    feed,
    fold,
    monitor,
    one,
    since,
    steady,
    told,
    trade_frame,
    unusual,
)
from recorder.quality.events import cut
from recorder.quality.monitor import Monitor
from recorder.quality.state import MonitorState
from recorder.records import (
    HOUR_NS,
    Entry,
    EntryKind,
    Requested,
    Stream,
)
from recorder.venue.markets import market_list
from recorder.venue.protocol import peek


def test_a_clean_run_raises_its_start_its_connect_and_its_stop_and_nothing_else():
    """
    False events are noise that hides true ones.
    """
    tape = steady(120)
    tape.stop(120.2)

    events = fold(tape)

    assert [(e.kind, since(e.start), e.run, e.connection) for e in events] == [
        ("recorder_started", 0, "a", None),
        ("connected", 0, "a", 0),
        ("recorder_stopped", 120.2, "a", None),
    ]
    assert "SIGTERM" in events[2].evidence


def test_quiet_trades_are_no_hole():
    """
    Minutes without a trade are ordinary; only books come each tick.
    """
    tape = steady(60, [SOL, SOL_TRADES])

    assert unusual(fold(tape)) == []


def test_what_cannot_be_decoded_or_is_not_known_is_one_event_for_a_run_of_them():
    """
    A venue that sends rubbish each tick does not make a row each tick.
    """
    tape = steady(60, [SOL])
    for t in (10, 20, 30):
        tape.frame(t, b"\xff\xfe")
        tape.frame(t + 1, b'{"channel":"liquidations_perp_0","data":"{}"}')

    events = fold(tape)

    assert unusual(events) == [("schema_drift", 11, 31, "venue"), ("undecodable", 10, 30, "venue")]
    assert one(events, "undecodable").missing == 3
    assert one(events, "schema_drift").missing == 3
    assert "'liquidations_perp_0' (3 times)" in one(events, "schema_drift").evidence


def test_a_run_of_findings_ends_after_a_minute_without_one():
    """
    Two bursts an hour apart are two events.
    """
    tape = steady(200, [SOL])
    for t in (10, 20, 100):
        tape.frame(t, b"?")

    assert told(fold(tape), "undecodable") == [("undecodable", 10, 20, "venue"), ("undecodable", 100, 100, "venue")]


def test_data_nobody_asked_for_is_named():
    """
    It is kept raw; the event says which channel it was.
    """
    tape = steady(30, [SOL])
    tape.book(10, ETH)
    tape.frame(11, book_frame("SOL-PERP", 0, channel="orderbook_perp_0_grouped_100"))

    events = fold(tape)

    assert [(e.symbol, e.channel, e.missing) for e in events if e.kind == "unrequested"] == [
        ("ETH-PERP", "orderbook_perp_2_grouped_1", 1),
        ("SOL-PERP", "orderbook_perp_0_grouped_100", 1),
    ]


def test_a_hostile_venue_makes_few_events_and_a_small_state():
    """
    Ten thousand made-up channels, names and texts: the carry and the table stay small, and nothing fails.
    """
    judge = monitor()
    entries = steady(2, [SOL, SOL_TRADES]).entries()
    feed(judge, entries)
    seq = entries[-1].seq
    for i in range(10_000):
        payloads = [
            book_frame(f"X{i}\x1b" + "y" * (i % 3000), i),
            book_frame(f"N{i}", 0),
            b"{" + str(i).encode(),
            f'{{"channel":"c{i}","data":"{{}}"}}'.encode(),
        ]
        for payload in payloads:
            seq += 1
            judge.step(Entry(EntryKind.FRAME, 0, 1, seq, at(3) + i, payload, "a"), peek(payload))
    judge.finish(at(4), closed=False)

    assert len(judge.events) < 800
    assert len(msgspec.json.encode(judge.state())) < 400_000
    assert all(e.evidence.isprintable() and len(e.evidence) < 700 for e in judge.events)
    assert all((e.symbol or "").isprintable() and len(e.symbol or "") < 400 for e in judge.events)
    assert all(opening.isprintable() for opening in judge.openings)


def test_a_stream_is_told_without_folding():
    """
    A frame we could not keep still shows that its stream speaks.
    """
    judge = monitor()
    feed(judge, steady(2, [SOL]).entries())
    before = msgspec.json.encode(judge.state())

    assert judge.stream_of("a", peek(book_frame("SOL-PERP", 0))) == SOL
    assert judge.stream_of("a", peek(book_frame("ETH-PERP", 2))) is None
    assert judge.stream_of("nobody", peek(book_frame("SOL-PERP", 0))) is None
    assert judge.stream_of("a", peek(b"?")) is None
    assert msgspec.json.encode(judge.state()) == before


def test_trades_have_the_name_that_a_book_of_their_index_gave_from_then_on():
    """
    The first of them came before the book, under the list's name.
    """
    hype, trades = Stream("perp", "HYPE-PERP", "orderbook", 1), Stream("perp", "HYPE-PERP", "trades")
    apt = Stream("perp", "APT-PERP", "trades")
    tape = Tape()
    tape.run(0, 5, [hype, trades, apt])
    tape.connection(0.1, 5, [trades, apt])
    tape.fact(0.1, Requested(hype), connection=0, attempt=1)
    tape.frame(1, trade_frame(1, index=3))
    tape.frame(2, book_frame("HYPE-PERP", 3))
    tape.frame(3, trade_frame(2, index=3))

    verdicts = [v for v in feed(monitor(), tape.entries()) if v is not None]

    assert [v.resolution.stream for v in verdicts] == [apt, hype, trades]


def test_a_book_that_contradicts_the_list_is_loud_once_a_run():
    """
    The wrong `network`: the book's name is used, and the operator is told.
    """
    hype = Stream("perp", "HYPE-PERP", "orderbook", 1)
    tape = Tape()
    for run, t0 in (("a", 0), ("b", 50)):
        tape.run(t0, t0 + 20, [hype], run=run)
        tape.connection(t0 + 0.1, t0 + 20, [], run=run)
        tape.fact(t0 + 0.1, Requested(hype), run=run, connection=0, attempt=1)
        for tick in range(40):
            tape.frame(t0 + 0.3 + tick * 0.4, book_frame("HYPE-PERP", 3), run=run)

    events = [e for e in fold(tape) if e.kind == "identity_conflict"]

    assert [(since(e.start), e.symbol, e.run) for e in events] == [
        (0.3, "HYPE-PERP", "a"),
        (50.3, "HYPE-PERP", "b"),
    ]
    assert "the shipped list calls it APT-PERP" in events[0].evidence


def test_an_event_across_the_hour_is_in_both_under_one_id():
    """
    Cut at the hour, the parts meet there; the count stands where it ends.
    """
    tape = Tape()
    tape.run(3500, 3700, [SOL])
    tape.connection(3500.1, 3590, [SOL])
    tape.disconnected(3590.5)
    tape.connection(3620, 3700, [SOL], attempt=2)
    event = one(fold(tape), "disconnected")

    first, second = cut(event, HOUR), cut(event, HOUR + HOUR_NS)

    assert first is not None
    assert second is not None
    assert (since(first.start), since(first.end), first.continues) == (3589.9, 3600, True)
    assert (since(second.start), since(second.end), second.continues) == (3600, 3620.2, False)
    assert first.event_id == second.event_id
    assert since(second.true_start) == 3589.9


def test_what_is_open_at_the_end_of_the_look_ahead_has_the_id_it_ends_with():
    """
    The hour before and the hour after are sealed by different folds; their parts must find each other.
    """
    tape = Tape()
    tape.run(3500, 3700, [SOL, BTC])
    tape.connection(3500.1, 3700, [SOL, BTC])
    tape.without(3520, 3690, channel="heartbeat")
    tape.without(3530, 3690, channel="orderbook_perp_0_grouped_1")
    entries = tape.entries()
    judge = monitor()
    feed(judge, [e for e in entries if e.recv_ts < at(3600)])
    judge.turn_hour(at(3600))
    carry = msgspec.json.encode(judge.state())

    probe = Monitor(market_list("mainnet-beta"), msgspec.json.decode(carry, type=MonitorState))
    feed(probe, [e for e in entries if at(3600) <= e.recv_ts < at(3660)])
    probe.finish(at(3660), closed=True)
    following = Monitor(market_list("mainnet-beta"), msgspec.json.decode(carry, type=MonitorState))
    feed(following, [e for e in entries if e.recv_ts >= at(3600)])

    open_ids = {e.kind: e.event_id for e in probe.events if e.continues}
    assert open_ids == {e.kind: e.event_id for e in following.events}
    assert set(open_ids) == {"silent", "heartbeat_gap"}


def test_a_recorder_that_stays_down_is_down_in_every_hour_until_it_starts():
    """
    Hours nobody recorded are on record, all under one id.
    """
    tape = steady(100, [SOL])
    judge = monitor()
    feed(judge, tape.entries())
    ids = set()
    for hour in range(1, 4):
        probe = Monitor(market_list("mainnet-beta"), carried(judge.state()))
        probe.finish(HOUR + hour * HOUR_NS + 60 * 10**9, closed=True)
        event = one(probe.events, "recorder_down")
        part = cut(event, HOUR + (hour - 1) * HOUR_NS)
        assert part is not None
        assert part.continues
        assert part.end == HOUR + hour * HOUR_NS
        ids.add(event.event_id)
        judge = Monitor(market_list("mainnet-beta"), carried(judge.state()))
        judge.turn_hour(HOUR + hour * HOUR_NS)
        assert judge.hour_beats(HOUR + (hour + 1) * HOUR_NS).get(("a", 0), None) is None
    back = Tape()
    back.run(3 * 3600 + 5, 3 * 3600 + 10, [SOL], run="b")
    feed(judge, back.entries())

    assert ids == {one(judge.events, "recorder_down").event_id}
    assert since(one(judge.events, "recorder_down").start) == since(tape.entries()[-1].recv_ts)


def test_runs_of_findings_end_with_the_hour():
    """
    Their counts belong to one hour each.
    """
    tape = steady(10, [SOL])
    tape.frame(5, b"?")
    judge = monitor()
    feed(judge, tape.entries())

    judge.turn_hour(HOUR + HOUR_NS)

    assert one(judge.events, "undecodable").missing == 1
    assert judge.state().tallies == []


def test_the_hour_turns_by_itself_for_a_live_monitor():
    """
    Nobody seals it; its counts must not grow for a year.
    """
    tape = Tape()
    tape.run(3590, 3620, [SOL])
    tape.connection(3590, 3620, [SOL])
    judge = monitor()
    feed(judge, tape.entries())

    assert judge.hour_beats(at(3620))["a", 0].up_ns == at(3620) - at(3600)


def test_runs_that_ended_are_forgotten_after_a_while():
    """
    A year of restarts leaves no trace in the carry.
    """
    judge = monitor()
    for day in range(30):
        tape = Tape()
        tape.run(day * 7200, day * 7200 + 3, [SOL], run=f"r{day:02}")
        tape.stop(day * 7200 + 4, run=f"r{day:02}")
        feed(judge, tape.entries())

    assert len(judge.state().runs) <= 2
