"""
The venue in virtual time.
"""

import itertools
import json
from collections import Counter

import pytest

from recorder.records import SECOND_NS
from recorder.simulator.core import FIRST_SLOT, Venue
from recorder.simulator.faults import Drop, Garbage, Silence, StopHeartbeats, WithholdFills
from recorder.simulator.ledger import digest
from recorder.simulator.markets import DEFAULT_MARKETS
from recorder.simulator.messages import Close, Cut, Gone, Log, Opened, Send, Text, sent_line

START = 1_795_367_000 * SECOND_NS
MS = 1_000_000


def ask(client, *, channel="orderbook", market="SOL-PERP", op="subscribe", market_type="perp", **more):
    """
    A request as an input.
    """
    request = {"type": op, "marketType": market_type, "channel": channel, "market": market} | more
    return Text(client, json.dumps(request))


def ask_everything(client):
    """
    Books and trades of all default markets.
    """
    return [
        ask(client, channel=channel, market=market.symbol, market_type=market.market_type)
        for market in DEFAULT_MARKETS
        for channel in ("orderbook", "trades")
    ]


def run(venue, *, until_s, inputs=()):
    """
    Jump from due time to due time; outputs with their times in seconds from the start.
    """
    timed = [(0.0, output) for output in venue.step(START, inputs)]
    while (now := venue.next_due()) <= START + until_s * SECOND_NS:
        timed += [((now - START) / SECOND_NS, output) for output in venue.step(now)]
    return timed


def sends(timed, client=None):
    """
    The frames written, with their times.
    """
    return [(at, output.frame) for at, output in timed if isinstance(output, Send) and client in {None, output.client}]


def lines(timed):
    """
    What went to the ledger by itself, without what nobody heard.
    """
    logged = [output.line for _, output in timed if isinstance(output, Log)]
    return [line for line in logged if line.what not in {"tick", "unheard"}]


def payload(frame):
    """
    What a data frame holds.
    """
    return json.loads(json.loads(frame.text)["data"])


def test_a_heartbeat_comes_each_five_seconds_from_connect_subscribed_or_not():
    """
    Each client has its own beat.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)
    venue.step(START + 1300 * MS, [Opened(2)])

    timed = run(venue, until_s=17, inputs=[Opened(1)])

    beats = [(at, output.client) for at, output in timed if isinstance(output, Send)]
    assert beats == [(5.0, 1), (6.3, 2), (10.0, 1), (11.3, 2), (15.0, 1), (16.3, 2)]
    assert {frame.text for _, frame in sends(timed)} == {'{"channel":"heartbeat"}'}


def test_each_tick_is_a_burst_of_all_markets_in_one_order():
    """
    Whether or not a book changed, and whatever the order of the requests.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)

    timed = run(venue, until_s=4, inputs=[Opened(1), *reversed(ask_everything(1))])

    bursts = {}
    for at, frame in sends(timed):
        if frame.channel and frame.what == "sent" and frame.fill_id is None:
            bursts.setdefault(at, []).append(frame.channel)
    assert list(bursts) == pytest.approx([0.4 * number for number in range(1, 11)])
    expected = [f"orderbook_{market.market_type}_{market.index}_grouped_1" for market in DEFAULT_MARKETS]
    assert all(burst == expected for burst in bursts.values())


def test_the_acknowledgement_comes_before_the_first_book_and_there_is_no_initial_book():
    """
    After the ack the first book is simply the next live one.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)
    run(venue, until_s=1, inputs=[Opened(1)])

    acked = venue.step(START + 1100 * MS, [ask(1)])
    later = venue.step(venue.next_due())

    assert [output.frame.what for output in acked] == ["ack"]
    assert [output.frame.what for output in later if isinstance(output, Send)] == ["sent"]
    assert venue.next_due() > START + 1200 * MS


def test_replies_come_in_the_order_of_the_requests():
    """
    The only way to tell which request an error belongs to.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)

    outputs = venue.step(START, [Opened(1), ask(1), ask(1, market="X"), ask(1, channel="trades"), ask(1, channel="y")])

    assert [output.frame.what for output in outputs[1:]] == ["ack", "error", "ack", "error"]


def test_subscribing_again_gives_an_ack_and_no_doubled_data():
    """
    Default grouping and grouping 1 are one channel; another grouping is another.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)

    timed = run(venue, until_s=0.4, inputs=[Opened(1), ask(1), ask(1, grouping=1), ask(1, grouping=10)])

    assert Counter(frame.channel for _, frame in sends(timed) if frame.what == "sent") == {
        "orderbook_perp_0_grouped_1": 1,
        "orderbook_perp_0_grouped_10": 1,
    }
    assert Counter(frame.what for _, frame in sends(timed)) == {"ack": 3, "sent": 2}


def test_a_frame_is_the_same_however_much_else_is_published():
    """
    The usual case, one channel of a market, is printed by a shorter way; it must not differ in a single character.
    """
    alone, among, faulty = (
        [
            (at, frame.text)
            for at, frame in sends(
                run(Venue(DEFAULT_MARKETS, start=START, faults=faults), until_s=60, inputs=[Opened(1), ask(1), *more])
            )
            if frame.channel == "orderbook_perp_0_grouped_1" and frame.what == "sent"
        ]
        for more, faults in (
            ([], []),
            ([ask(1, grouping=10), ask(1, channel="orderbook_indicative")], []),
            ([], [Silence(from_s=0, to_s=60, channels="trades")]),
        )
    )

    assert len(alone) == 150
    assert alone == among == faulty


def test_unsubscribing_has_no_reply_and_stops_the_data():
    """
    It must name the same grouping; what was not subscribed is let pass.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)
    venue.step(START, [Opened(1), ask(1), ask(1, grouping=10)])

    outputs = venue.step(START, [ask(1, op="unsubscribe"), ask(1, op="unsubscribe", grouping=100)])

    assert [output.line.what for output in outputs] == ["unsubscribed"]
    sent = [frame for _, frame in sends(enumerate(venue.step(START + 400 * MS)))]
    assert [frame.channel for frame in sent] == ["orderbook_perp_0_grouped_10"]


def test_a_bad_grouping_is_acknowledged_and_silent_for_ever():
    """
    The trap: nothing tells the client.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)

    timed = run(venue, until_s=30, inputs=[Opened(1), ask(1, grouping="10abc")])

    assert Counter(frame.what for _, frame in sends(timed)) == {"ack": 1, "heartbeat": 6}


def test_two_clients_get_the_same_frames_each_with_its_own_count():
    """
    A frame is built once.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)

    timed = run(venue, until_s=2, inputs=[Opened(1), Opened(2), ask(1), ask(2), ask(2, channel="trades")])

    first, second = (
        [output for _, output in timed if isinstance(output, Send) and output.client == client and output.seq]
        for client in (1, 2)
    )
    assert [send.seq for send in first] == list(range(1, len(first) + 1))
    assert [send.seq for send in second] == list(range(1, len(second) + 1))
    books = [send.frame for send in second if send.frame.fill_id is None]
    assert all(a is b for a, b in zip((send.frame for send in first), books, strict=True))


def test_a_client_that_left_gets_nothing_more():
    """
    And its end is in the ledger with the number of frames that were due to it.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)
    run(venue, until_s=1, inputs=[Opened(1), Opened(2), ask(1), ask(2)])

    gone = venue.step(START + 1001 * MS, [Gone(1, 1000), Gone(1, 1000)])
    timed = run(venue, until_s=3)

    assert [(log.line.what, log.line.client, log.line.code, log.line.count) for log in gone] == [
        ("disconnected", 1, 1000, 2)
    ]
    assert {output.client for _, output in timed if isinstance(output, Send)} == {2}


def test_slots_advance_with_time_and_never_go_back():
    """
    One each 400 ms, whatever the tick; the oracle's is at most two behind.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, tick_ms=1000)

    timed = run(venue, until_s=20, inputs=[Opened(1), ask(1)])

    books = [(at, payload(frame)) for at, frame in sends(timed) if frame.what == "sent"]
    assert len(books) == 20
    for at, book in books:
        assert book["slot"] == FIRST_SLOT + int(at / 0.4 + 1e-6)
        assert book["ts"] == (START // MS) + round(at * 1000)
        assert 0 <= book["slot"] - int(book["oracleData"]["slot"]) <= 2


def test_trades_come_each_second_newest_first_within_a_slot():
    """
    Ids run backwards by a few inside a slot, never across slots, and each is sent exactly once.
    """
    busy = tuple(market for market in DEFAULT_MARKETS if market.market_type == "perp")
    venue = Venue(busy, start=START)
    inputs = [Opened(1), *(ask(1, channel="trades", market=market.symbol) for market in busy)]

    timed = run(venue, until_s=400, inputs=inputs)

    trades = [(at, payload(frame)) for at, frame in sends(timed) if frame.fill_id is not None]
    assert {at % 1 for at, _ in trades} == {0.0}
    assert [trade["slot"] for _, trade in trades] == sorted(trade["slot"] for _, trade in trades)
    backwards = 0
    for market in busy:
        own = [trade for _, trade in trades if trade["marketIndex"] == market.index]
        ids = [trade["fillRecordId"] for trade in own]
        assert sorted(ids) == list(range(min(ids), min(ids) + len(ids)))
        for before, after in itertools.pairwise(own):
            if after["fillRecordId"] < before["fillRecordId"]:
                backwards += 1
                assert after["slot"] == before["slot"]
                assert after["txSig"] != before["txSig"]
            elif after["slot"] == before["slot"]:
                assert after["txSig"] == before["txSig"]
    assert backwards > 20
    for at, trade in trades:
        assert 0.4 < START / SECOND_NS + at - (START / SECOND_NS + (trade["slot"] - FIRST_SLOT) * 0.4) < 3


def test_a_slow_tick_is_late_and_not_queued():
    """
    After a stall one burst is published, and the ledger says how many were missed.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)
    run(venue, until_s=1, inputs=[Opened(1), ask(1)])

    outputs = venue.step(START + 3300 * MS)

    assert [line.count for line in lines(enumerate(outputs))] == [5]
    assert len([output for output in outputs if isinstance(output, Send)]) == 1
    assert venue.next_due() == START + 3600 * MS


def test_a_channel_that_is_no_string_cuts_every_client():
    """
    The real server's process dies on it.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)

    outputs = venue.step(START, [Opened(1), Opened(2), ask(2, channel=["orderbook"])])

    assert [output.client for output in outputs if isinstance(output, Cut)] == [1, 2]
    assert Counter(output.line.what for output in outputs if isinstance(output, Log)) == {
        "connected": 2,
        "fault": 1,
        "disconnected": 2,
    }


def test_a_quiet_venue_answers_and_beats_and_publishes_nothing():
    """
    A replay feeds its clients.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, quiet=True)

    timed = run(venue, until_s=10, inputs=[Opened(1), ask(1), ask(1, channel="trades")])

    assert Counter(frame.what for _, frame in sends(timed)) == {"ack": 2, "heartbeat": 2}


def test_a_drop_cuts_all_connections_again_and_again():
    """
    With a close frame if it has a code, else without.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, faults=[Drop(2, every_s=3), Drop(4, code=1001)])

    timed = run(venue, until_s=3, inputs=[Opened(1), Opened(2)])
    timed += [(3.5, output) for output in venue.step(START + 3500 * MS, [Opened(3)])]
    timed += run(venue, until_s=4.5)
    timed += [(4.6, output) for output in venue.step(START + 4600 * MS, [Opened(4)])]
    timed += run(venue, until_s=12)

    ends = [(at, output) for at, output in timed if isinstance(output, Cut | Close)]
    assert ends == [(2.0, Cut(1)), (2.0, Cut(2)), (4.0, Close(3, 1001, "")), (5.0, Cut(4))]
    assert [(line.start_ns - START) // SECOND_NS for line in lines(timed) if line.what == "fault"] == [2, 4, 5, 8, 11]
    assert all(line.start_ns == line.end_ns for line in lines(timed) if line.what == "fault")


def test_silence_withholds_one_markets_books_and_names_each():
    """
    Everything else goes on: its trades, other markets, heartbeats.
    """
    faults = [Silence(from_s=4, to_s=8, market="SOL-PERP")]
    venue = Venue(DEFAULT_MARKETS, start=START, faults=faults)

    timed = run(venue, until_s=12, inputs=[Opened(1), *ask_everything(1)])

    sol = [at for at, frame in sends(timed) if frame.channel == "orderbook_perp_0_grouped_1" and frame.what == "sent"]
    btc = [at for at, frame in sends(timed) if frame.channel == "orderbook_perp_1_grouped_1" and frame.what == "sent"]
    withheld = [line for line in lines(timed) if line.what == "withheld"]
    assert not [at for at in sol if 4 <= at < 8]
    assert len(sol) == 20
    assert len(btc) == 30
    assert {line.channel for line in withheld} == {"orderbook_perp_0_grouped_1"}
    assert len(withheld) == 10
    assert any(frame.channel == "trades_perp_0" and 4 <= at < 8 for at, frame in sends(timed))
    assert [(line.what, line.start_ns, line.end_ns) for line in lines(timed) if line.fault == "silence"] == [
        ("fault", START + 4 * SECOND_NS, None),
        ("fault_end", START + 4 * SECOND_NS, START + 8 * SECOND_NS),
    ]


def test_silence_of_trades_leaves_the_books_alone():
    """
    And silence of all channels takes both.
    """
    faults = [
        Silence(from_s=0, to_s=30, market="SOL-PERP", channels="trades"),
        Silence(from_s=0, to_s=30, market="BTC-PERP", channels="all"),
    ]
    venue = Venue(DEFAULT_MARKETS, start=START, faults=faults)

    timed = run(venue, until_s=29, inputs=[Opened(1), *ask_everything(1)])

    heard = {frame.channel for _, frame in sends(timed) if frame.what == "sent"}
    assert "orderbook_perp_0_grouped_1" in heard
    assert not heard & {"trades_perp_0", "orderbook_perp_1_grouped_1", "trades_perp_1"}
    assert {line.channel for line in lines(timed) if line.what == "withheld"} == {
        "trades_perp_0",
        "orderbook_perp_1_grouped_1",
        "trades_perp_1",
    }


@pytest.mark.parametrize("every", [1, 3])
def test_withheld_fills_leave_a_hole_in_the_ids_and_a_line_each(every):
    """
    Ids sent and ids withheld together have no hole: the loss can be proved to the fill.
    """
    faults = [WithholdFills(from_s=20, to_s=40, market="SOL-PERP", every=every)]
    venue = Venue(DEFAULT_MARKETS, start=START, faults=faults)

    timed = run(venue, until_s=60, inputs=[Opened(1), ask(1, channel="trades")])

    told = [frame.fill_id for _, frame in sends(timed) if frame.fill_id is not None]
    withheld = [line.fill_id for line in lines(timed) if line.what == "withheld"]
    every_id = sorted(told + withheld)
    assert len(withheld) > 5
    assert every_id == list(range(every_id[0], every_id[0] + len(every_id)))
    if every > 1:
        assert {fill_id % every for fill_id in withheld} == {0}


def test_heartbeats_stop_and_come_back_while_data_goes_on():
    """
    A recorder must take such a connection for dead after 11 s.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, faults=[StopHeartbeats(from_s=8, to_s=22)])

    timed = run(venue, until_s=31, inputs=[Opened(1), ask(1)])

    assert [at for at, frame in sends(timed) if frame.what == "heartbeat"] == [5.0, 25.0, 30.0]
    assert [line.what for line in lines(timed)].count("heartbeat_withheld") == 3
    assert len([at for at, frame in sends(timed) if frame.what == "sent" and 8 <= at < 22]) == 35


def test_garbage_is_sent_to_everybody_as_it_is():
    """
    Whatever it is.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, faults=[Garbage(3, text='{"channel":')])

    timed = run(venue, until_s=4, inputs=[Opened(1), Opened(2)])

    garbage = [(at, output.client, output.frame.text) for at, output in timed if isinstance(output, Send)]
    assert garbage == [(3.0, 1, '{"channel":'), (3.0, 2, '{"channel":')]


FAULTS = [
    Silence(from_s=3, to_s=9, channels="all"),
    WithholdFills(from_s=12, to_s=20, every=2),
    StopHeartbeats(from_s=2, to_s=18),
    Garbage(5.0, text="x"),
]


def test_faults_change_what_is_sent_and_never_what_the_market_does():
    """
    Every frame of the run with faults is, character by character, one of the run without, at the same time.
    """
    clean, faulty = (
        sends(
            run(Venue(DEFAULT_MARKETS, start=START, faults=faults), until_s=30, inputs=[Opened(1), *ask_everything(1)])
        )
        for faults in ((), FAULTS)
    )

    clean_data = [(at, frame.channel, frame.sha) for at, frame in clean if frame.what == "sent"]
    faulty_data = [(at, frame.channel, frame.sha) for at, frame in faulty if frame.what == "sent"]
    assert len(faulty_data) < len(clean_data)
    assert set(faulty_data) <= set(clean_data)


def test_handed_out_and_withheld_are_all_that_was_due():
    """
    The ledger's promise: for each client the numbers 1..n, each exactly once, n as its end says; hashes are the texts'.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, faults=FAULTS)

    timed = run(venue, until_s=30, inputs=[Opened(1), Opened(2), *ask_everything(1), ask(2), ask(2, channel="trades")])
    timed += [(30.0, output) for output in venue.finish(START + 30 * SECOND_NS)]

    ledger = [
        sent_line(output, round(at * SECOND_NS), dropped=number % 5 == 0) if isinstance(output, Send) else output.line
        for number, (at, output) in enumerate(timed)
        if isinstance(output, Send | Log)
    ]
    ends = {line.client: line.count for line in ledger if line.what == "disconnected"}
    assert set(ends) == {1, 2}
    for client, count in ends.items():
        due = [line.seq for line in ledger if line.client == client and line.seq is not None]
        assert sorted(due) == list(range(1, count + 1))
    texts = {digest(frame.text) for _, frame in sends(timed)}
    assert {line.sha for line in ledger if line.sha} <= texts
    assert Counter(line.what for line in ledger)["withheld"] > 50


def test_a_fault_that_is_on_at_the_end_is_closed_there():
    """
    Bounds in the ledger are true ones, not planned ones.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, faults=[Silence(from_s=1, to_s=100)])
    run(venue, until_s=5, inputs=[Opened(1)])

    outputs = venue.finish(START + 5 * SECOND_NS)

    (end,) = [output.line for output in outputs if isinstance(output, Log) and output.line.what == "fault_end"]
    assert (end.start_ns, end.end_ns) == (START + SECOND_NS, START + 5 * SECOND_NS)
    assert Close(1, 1001, "") in outputs


def test_the_same_steps_give_the_same_outputs():
    """
    A failure is run again from its seed.
    """
    first, again = (
        run(
            Venue(DEFAULT_MARKETS, start=START, faults=FAULTS, seed=9),
            until_s=12,
            inputs=[Opened(1), *ask_everything(1)],
        )
        for _ in range(2)
    )

    assert first == again


def test_what_nobody_hears_is_in_the_ledger_too():
    """
    Each tick and each fill, whoever is there: the truth of a time in which a client was away.
    """
    alone, watched = (
        run(Venue(DEFAULT_MARKETS, start=START), until_s=60, inputs=inputs)
        for inputs in ([], [Opened(1), *ask_everything(1)])
    )
    told = [output.line for _, output in alone if isinstance(output, Log)]

    assert [line.t_ns for line in told if line.what == "tick"] == [START + n * 400 * MS for n in range(1, 151)]
    heard = [(frame.channel, frame.fill_id) for _, frame in sends(watched) if frame.fill_id is not None]
    assert [(line.channel, line.fill_id) for line in told if line.what == "unheard"] == heard
    assert not [output for _, output in watched if isinstance(output, Log) and output.line.what == "unheard"]
