"""
A venue that is halted, told from a dead feed and from silent markets.
"""

from itertools import pairwise

import pytest

from quality_cases import carried
from quality_runs import START, events_of, folded, hear, seconds_of
from recorder.records import SECOND_NS
from recorder.simulator.kinds import Drop, HalfOpen, Silence


def test_no_book_of_any_market_while_heartbeats_come_is_a_halt():
    """
    One event of the connection in place of one silence a market.
    """
    (event,) = events_of(hear(Silence(from_s=30.1, to_s=60.1)))

    assert (event.kind, event.scope, event.cause, event.symbol) == ("halted", "connection", "venue", None)
    assert seconds_of(event) == (30.0, 60.4)
    assert "no book of any market on any connection for 30.4 s" in event.evidence


def test_each_connection_has_its_own():
    """
    Each carries the streams it carries.
    """
    events = events_of(hear(Silence(from_s=30.1, to_s=60.1), connections=2))

    halts = [(e.kind, e.connection) for e in events if e.kind != "trade_repeat"]
    assert halts == [("halted", 0), ("halted", 1)]


def test_a_shorter_standstill_is_silence_of_each_market():
    """
    A publisher that is restarted, say.
    """
    events = events_of(hear(Silence(from_s=30.1, to_s=45.1)))

    assert [e.kind for e in events] == ["silent"] * 3


def test_a_dead_feed_is_no_halt():
    """
    No heartbeat comes either: the way here is dead, and the venue cannot be blamed.
    """
    events = events_of(hear(HalfOpen(from_s=30.1, to_s=65)))

    assert "halted" not in {e.kind for e in events}
    assert {e.cause for e in events if e.kind == "silent"} <= {"network", "unknown"}


def test_one_market_that_lives_disproves_a_halt():
    """
    The others are silent by themselves.
    """
    events = events_of(hear(Silence(from_s=30.1, to_s=60.1, market="SOL-PERP,BTC-PERP")))

    assert [(e.kind, e.symbol) for e in events] == [("silent", "SOL-PERP"), ("silent", "BTC-PERP")]


def test_a_market_that_was_silent_before_keeps_its_own_event():
    """
    Its hole began earlier, and may not end with the halt.
    """
    events = events_of(hear(Silence(from_s=20.1, to_s=69, market="SOL-PERP"), Silence(from_s=30.1, to_s=60.1)))

    assert [(e.kind, e.symbol, seconds_of(e)) for e in events] == [
        ("silent", "SOL-PERP", (20.0, 69.2)),
        ("halted", None, (30.0, 60.4)),
    ]


def test_a_market_that_does_not_come_back_is_silent_from_the_end_of_the_halt():
    """
    No crack between the two, and no instant told twice.
    """
    events = events_of(hear(Silence(from_s=30.1, to_s=55.1), Silence(from_s=30.2, to_s=68, market="SOL-PERP")))

    assert [(e.kind, e.symbol) for e in events] == [("halted", None), ("silent", "SOL-PERP")]
    assert events[0].end == events[1].start
    assert seconds_of(events[1]) == (55.2, 68.0)


def test_a_halt_ends_with_its_connection():
    """
    From there on, the outage tells.
    """
    events = [e for e in events_of(hear(Silence(from_s=30.1, to_s=69), Drop(55.3))) if e.kind != "trade_gap"]

    assert [e.kind for e in events][:2] == ["halted", "disconnected"]
    assert seconds_of(events[0]) == (30.0, 55.3)


@pytest.mark.parametrize("cut", [40.0, 52.0, 60.3])
def test_a_halt_is_the_same_across_a_carry(cut):
    """
    Begun in one hour, told in the next.
    """
    entries = hear(Silence(from_s=30.1, to_s=60.1))
    at = START + int(cut * SECOND_NS)
    before, _ = folded([e for e in entries if e.recv_ts < at])
    after, _ = folded([e for e in entries if e.recv_ts >= at], carried(before.state()))
    whole, _ = folded(entries)

    assert [e for e in (*before.events, *after.events) if e.kind == "halted"] == [
        e for e in whole.events if e.kind == "halted"
    ]


def test_halts_one_after_another_do_not_overlap():
    """
    Each is closed before the next opens.
    """
    events = events_of(hear(Silence(from_s=20.1, to_s=50.1), Silence(from_s=60.1, to_s=90.1), seconds=100))

    assert [e.kind for e in events] == ["halted", "halted"]
    assert all(a.end <= b.start for a, b in pairwise(events))
