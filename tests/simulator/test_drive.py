"""
The venue driven in virtual time, with a network between.
"""

from collections import Counter

import pytest

from recorder.records import SECOND_NS, Stream
from recorder.simulator.core import Venue
from recorder.simulator.drive import Drive, Heard, Joined, Link, Lost, Refused, listen
from recorder.simulator.kinds import Drop, Restart, StopHeartbeats
from recorder.simulator.ledger import digest
from recorder.simulator.markets import DEFAULT_MARKETS, synthetic_markets
from recorder.venue.protocol import BACKLOG_LIMIT_BYTES, FrameKind, peek, request

START = 1_795_367_000 * SECOND_NS
MS = 1_000_000
BOOKS = [request(Stream(market.market_type, market.symbol, "orderbook", 1)) for market in DEFAULT_MARKETS]
TRADES = [request(Stream(market.market_type, market.symbol, "trades")) for market in DEFAULT_MARKETS]


def ran(*, until_s=30, links=None, connections=1, requests=None, seed=1, dead_after_s=11, **options):
    """
    All events and ledger lines of clients that subscribe to everything.
    """
    lines = []
    venue = Venue(options.pop("markets", DEFAULT_MARKETS), start=START, **options)
    drive = Drive(venue, start=START, links=links, seed=seed, ledger=lines.append)
    asked = dict.fromkeys(range(connections), requests or BOOKS + TRADES)
    return list(listen(drive, asked, until=START + until_s * SECOND_NS, dead_after_s=dead_after_s)), lines


def seconds(ts):
    """
    From the start.
    """
    return (ts - START) / SECOND_NS


def test_what_is_heard_is_what_the_ledger_says_was_sent(accounted):
    """
    Over a perfect network, on each of several connections.
    """
    events, lines = ran(connections=3)

    accounted(events, lines)
    assert Counter(type(event) for event in events if not isinstance(event, Heard)) == {Joined: 3, Lost: 3}
    counts = Counter(event.connection for event in events if isinstance(event, Heard))
    assert len(set(counts.values())) == 1
    assert all(event.code == 1001 for event in events if isinstance(event, Lost))


def test_receive_times_rise_on_each_connection_and_lag_by_latency_and_jitter():
    """
    Jitter delays and never reorders.
    """
    events, lines = ran(links={0: Link(latency_ms=40, jitter_ms=300)}, requests=BOOKS[:1])

    times = [event.recv_ts for event in events]
    assert times == sorted(set(times))
    sent = {line.sha: line.t_ns for line in lines if line.what == "sent"}
    lags = [
        (event.recv_ts - sent[sha]) / MS
        for event in events
        if isinstance(event, Heard) and (sha := digest(event.payload.decode())) in sent
    ]
    assert 40 <= min(lags) < 80
    assert 250 < max(lags) <= 341


def test_the_consumer_answers_in_between():
    """
    A request goes out at the time of the event it answers, and takes the latency there and back.
    """
    drive = Drive(Venue(DEFAULT_MARKETS, start=START), start=START, links={7: Link(latency_ms=100)})
    drive.connect(7)
    seen = []
    for event in drive.until(START + SECOND_NS):
        seen.append(event)
        if isinstance(event, Joined):
            drive.send(7, BOOKS[0])

    joined, ack = seen[0], seen[1]
    assert seconds(joined.recv_ts) == pytest.approx(0.2)
    assert peek(ack.payload).kind == FrameKind.ACK
    assert seconds(ack.recv_ts) == pytest.approx(0.4)
    assert drive.now == START + SECOND_NS


def test_until_may_be_called_again_and_again():
    """
    In steps of any length the same is heard.
    """

    def heard(step_ns):
        drive = Drive(Venue(DEFAULT_MARKETS, start=START), start=START)
        drive.connect(0)
        events = list(drive.until(START + 100 * MS))
        drive.send(0, BOOKS[0])
        while drive.now < START + 20 * SECOND_NS:
            events += drive.until(min(drive.now + step_ns, START + 20 * SECOND_NS))
        return events

    assert heard(SECOND_NS) == heard(7 * SECOND_NS) == heard(37 * MS)


def test_a_cut_is_noticed_by_both_and_loses_what_was_under_way(accounted):
    """
    The ledger has it as sent and as lost.
    """
    events, lines = ran(links={0: Link(latency_ms=300, cuts_s=(10.0,))}, connections=2)

    (cut, _) = [event for event in events if isinstance(event, Lost) and event.connection == 0]
    assert (seconds(cut.recv_ts), cut.code) == (10.0, None)
    assert any(line.what == "lost" for line in lines)
    assert [event.attempt for event in events if isinstance(event, Joined) and event.connection == 0] == [1, 2]
    accounted(events, lines)


def test_a_dead_connection_is_silent_until_the_client_gives_it_up(accounted):
    """
    Nobody is told: the client leaves after 11 s without a frame, the server notices later.
    """
    events, lines = ran(links={0: Link(dead_s=((5.0, 25.0),))}, until_s=40)

    times = [seconds(event.recv_ts) for event in events if isinstance(event, Heard)]
    assert not [at for at in times if 5.01 < at < 16]
    assert [event.attempt for event in events if isinstance(event, Joined)] == [1, 2]
    (ended, _) = [line for line in lines if line.what == "disconnected"]
    assert seconds(ended.t_ns) == pytest.approx(25.0, abs=0.1)
    accounted(events, lines)


def test_a_short_stall_delivers_everything_late_in_one_burst(accounted):
    """
    Receive times lie, nothing is lost.
    """
    events, lines = ran(links={0: Link(stalls_s=((10.0, 14.0),))})

    times = [seconds(event.recv_ts) for event in events if isinstance(event, Heard)]
    assert not [at for at in times if 10 <= at < 14]
    assert len([at for at in times if 14 <= at < 14.01]) > 50
    assert not [line for line in lines if line.what in {"dropped", "lost"}]
    accounted(events, lines)


def test_a_long_stall_fills_the_buffers_then_data_is_dropped_and_the_client_closed(accounted):
    """
    Heartbeats still queue; at the 10 s check the server closes with 1008, behind all that waits.
    """
    links = {0: Link(stalls_s=((10.0, 39.0),), buffer_bytes=200_000)}

    events, lines = ran(links=links, until_s=41, dead_after_s=100)

    dropped = [line for line in lines if line.what == "dropped"]
    waiting = sum(line.length for line in lines if line.what == "sent" and 10 <= seconds(line.t_ns) < 39)
    assert dropped
    assert 200_000 + BACKLOG_LIMIT_BYTES <= waiting < 200_000 + BACKLOG_LIMIT_BYTES + 100_000
    (lost, *_) = [event for event in events if isinstance(event, Lost)]
    assert (round(seconds(lost.recv_ts)), lost.code) == (39, 1008)
    beats = [line for line in lines if line.what == "heartbeat" and 12 < seconds(line.t_ns) < 39]
    assert beats
    accounted(events, lines)


def test_a_client_that_stalls_for_too_long_sees_1006(accounted):
    """
    The close frame waits behind the backlog; after 30 s the socket is destroyed.
    """
    links = {0: Link(stalls_s=((10.0, 65.0),), buffer_bytes=100_000)}

    events, lines = ran(links=links, until_s=70, dead_after_s=100)

    (lost, *_) = [event for event in events if isinstance(event, Lost)]
    assert (round(seconds(lost.recv_ts)), lost.code) == (65, None)
    accounted(events, lines)


def test_a_server_that_is_down_refuses(accounted):
    """
    Until it is back; then everything must be asked for again.
    """
    events, lines = ran(faults=[Restart(from_s=5, to_s=9)])

    refused = [seconds(event.recv_ts) for event in events if isinstance(event, Refused)]
    assert refused
    assert all(5 < at < 9.1 for at in refused)
    (_, again) = [event for event in events if isinstance(event, Joined)]
    assert 9 < seconds(again.recv_ts) < 10.5
    accounted(events, lines)


def test_listen_reconnects_after_a_drop(accounted):
    """
    A second later, with everything subscribed again.
    """
    events, lines = ran(faults=[Drop(8)], connections=2)

    joined = [seconds(event.recv_ts) for event in events if isinstance(event, Joined)]
    assert joined == pytest.approx([0.01, 0.01, 9.0, 9.0], abs=0.1)
    assert Counter(line.what for line in lines)["ack"] == 4 * len(BOOKS + TRADES)
    accounted(events, lines)


def test_data_alone_keeps_a_listener_on():
    """
    `listen` counts any frame as life; a recorder that goes by heartbeats does more.
    """
    events, _ = ran(faults=[StopHeartbeats(from_s=0, to_s=29)])

    assert len([event for event in events if isinstance(event, Joined)]) == 1


def test_the_same_seeds_give_the_same_events():
    """
    A failure is run again.
    """
    link = Link(jitter_ms=50, cuts_s=(5,))
    options = {"links": {0: link}, "faults": [Drop(12)], "until_s": 20}

    assert ran(**options) == ran(**options)
    assert ran(seed=2, **options)[0] != ran(**options)[0]


def test_calm_markets_give_as_many_frames_as_lively_ones():
    """
    They are for proofs over hours: cheaper, not fewer.
    """
    counts = []
    for calm in (False, True):
        markets = synthetic_markets(12, calm=calm)
        requests = [request(Stream(market.market_type, market.symbol, "orderbook", 1)) for market in markets]
        events, _ = ran(markets=markets, requests=requests, until_s=20)
        counts.append(sum(isinstance(event, Heard) for event in events))

    assert counts[0] == counts[1]
