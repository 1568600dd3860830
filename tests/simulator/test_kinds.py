"""
What each kind of fault does to what clients see, and what it leaves alone.
"""

import itertools
import json
from collections import Counter

import pytest

from recorder.records import SECOND_NS
from recorder.simulator.core import FIRST_SLOT, Venue
from recorder.simulator.kinds import (
    KINDS,
    Alter,
    Backlog,
    BusFails,
    Cadence,
    ClockSkew,
    Drop,
    Freeze,
    Garbage,
    HalfOpen,
    Halt,
    LateFills,
    NewMarket,
    PublisherDown,
    ReorderFills,
    RepeatFills,
    RepeatFrames,
    Restart,
    ShiftSlots,
    Silence,
    SkipFrames,
    SlowTicks,
    StaleOracle,
    StaleStore,
    described,
    selects,
)
from recorder.simulator.markets import DEFAULT_MARKETS
from recorder.simulator.messages import Check, Close, Cut, Log, Opened, Pause, Send, Text
from recorder.venue.protocol import BACKLOG_LIMIT_BYTES

START = 1_795_367_000 * SECOND_NS
MS = 1_000_000
SOL = "orderbook_perp_0_grouped_1"
BTC = "orderbook_perp_1_grouped_1"


def ask(client, *, channel="orderbook", market="SOL-PERP", op="subscribe", market_type="perp", **more):
    """
    A request as an input.
    """
    request = {"type": op, "marketType": market_type, "channel": channel, "market": market} | more
    return Text(client, json.dumps(request))


def ran(*faults, until_s=30, inputs=None, script=(), markets=DEFAULT_MARKETS, **options):
    """
    (Seconds, output) of a venue with these faults; `script` are later inputs as (seconds, input).
    """
    venue = Venue(markets, start=START, faults=faults, **options)
    both = [ask(1), ask(1, market="BTC-PERP"), ask(1, channel="trades"), ask(1, channel="trades", market="BTC-PERP")]
    timed = [(0.0, output) for output in venue.step(START, inputs or [Opened(1), *both])]
    later = [(START + round(at * SECOND_NS), given) for at, given in script]
    while True:
        now = venue.next_due()
        given = []
        if later and later[0][0] <= now:
            now, one = later.pop(0)
            given = [one]
        if now > START + until_s * SECOND_NS:
            return timed
        timed += [((now - START) / SECOND_NS, output) for output in venue.step(now, given)]


def frames(timed, channel=None, client=None):
    """
    Data frames written, with their times.
    """
    return [
        (at, output.frame)
        for at, output in timed
        if isinstance(output, Send)
        and output.frame.what == "sent"
        and channel in {None, output.frame.channel}
        and client in {None, output.client}
    ]


def lines(timed, what=None, why=None):
    """
    Ledger lines, with their times.
    """
    return [
        (at, output.line)
        for at, output in timed
        if isinstance(output, Log) and what in {None, output.line.what} and why in {None, output.line.why}
    ]


def books(timed, channel=SOL):
    """
    (Seconds, payload) of the books of a channel.
    """
    return [(at, json.loads(json.loads(frame.text)["data"])) for at, frame in frames(timed, channel)]


def fills(timed, channel="trades_perp_0"):
    """
    (Seconds, id, why) of the fills of a channel.
    """
    return [(at, frame.fill_id, frame.why) for at, frame in frames(timed, channel)]


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("*", {"SOL-PERP", "BTC-PERP", "SOL"}),
        ("perp:*", {"SOL-PERP", "BTC-PERP"}),
        ("spot:*", {"SOL"}),
        ("sol", {"SOL"}),
        ("SOL-PERP, spot:SOL", {"SOL-PERP", "SOL"}),
        ("perp:SOL", set()),
        ("-", set()),
    ],
)
def test_a_selector_names_one_market_a_group_or_all(selector, chosen):
    """
    One publisher's markets go silent together.
    """
    markets = [("perp", "SOL-PERP"), ("perp", "BTC-PERP"), ("spot", "SOL")]

    assert {symbol for kind, symbol in markets if selects(selector, market_type=kind, symbol=symbol)} == chosen


def test_skipped_frames_are_single_ones_and_named():
    """
    Each n-th of a channel; their neighbours come.
    """
    timed = ran(SkipFrames(from_s=5, to_s=15, market="SOL-PERP", every=4))

    withheld = [at for at, line in lines(timed, "withheld", "skip_frames") if line.channel == SOL]
    times = [at for at, _ in frames(timed, SOL)]
    assert len(withheld) == 6
    assert len(times) + len(withheld) == 75
    assert {round(after - before, 1) for before, after in itertools.pairwise(times)} == {0.4, 0.8}
    assert len(frames(timed, BTC)) == 75


def test_repeated_frames_come_twice_and_are_marked():
    """
    The same text, at once.
    """
    timed = ran(RepeatFrames(from_s=5, to_s=15, market="SOL-PERP", every=5))

    repeated = [(at, frame.text) for at, frame in frames(timed, SOL) if frame.why == "repeat_frames"]
    assert len(repeated) == 5
    counted = Counter((at, frame.text) for at, frame in frames(timed, SOL))
    assert {key for key, count in counted.items() if count == 2} == set(repeated)


def test_slow_ticks_are_late_and_the_next_ones_in_time():
    """
    The timer goes on from when it really fired: no tick is left out, and all later ones are as late.
    """
    timed = ran(SlowTicks(from_s=4, to_s=20, late_ms=700, every=5))

    times = [at for at, _ in frames(timed, SOL)]
    gaps = Counter(round(after - before, 1) for before, after in itertools.pairwise(times))
    assert set(gaps) == {0.4, 1.1}
    assert gaps[1.1] >= 5
    assert not lines(timed, "ticks_missed")


def test_the_cadence_changes_and_comes_back():
    """
    For all markets at once.
    """
    timed = ran(Cadence(from_s=10, to_s=20, tick_ms=1000))

    times = [at for at, _ in frames(timed, SOL)]
    assert [at for at in times if 10 < at <= 20] == [float(at) for at in range(11, 20)]
    assert 20.4 in times


def test_a_frozen_market_repeats_slot_and_content_while_ts_goes_on():
    """
    All of it, the slot alone, or the content alone.
    """
    for what, slots, contents in (("all", 1, 1), ("slot", 1, 20), ("content", 20, 1)):
        timed = ran(Freeze(from_s=10, to_s=20, market="SOL-PERP", what=what))
        frozen = [book for at, book in books(timed) if 10 <= at < 20]
        assert len(frozen) == 25
        assert len({book["ts"] for book in frozen}) == 25
        assert (len({book["slot"] for book in frozen}) == 1) == (slots == 1)
        levels = {json.dumps([book["bids"], book["asks"], book["oracle"]]) for book in frozen}
        assert (len(levels) == 1) == (contents == 1)
        assert len({book["slot"] for at, book in books(timed, BTC) if 10 <= at < 20}) > 20


def test_a_halted_market_stands_still_and_has_no_fills():
    """
    Its slots go on; nothing is withheld, for nothing happens. Afterwards ids go on without a hole.
    """
    timed = ran(Halt(from_s=10, to_s=25, market="SOL-PERP"), until_s=60)

    halted = [book for at, book in books(timed) if 10 <= at < 25]
    assert len({json.dumps([book["bids"], book["asks"], book["oracle"]]) for book in halted}) == 1
    assert len({book["slot"] for book in halted}) > 30
    assert not [at for at, _, _ in fills(timed) if 10 < at < 25]
    assert not lines(timed, "withheld")
    ids = sorted(fill_id for _, fill_id, _ in fills(timed))
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_with_a_stale_oracle_the_pool_leaves_the_book():
    """
    After 160 slots, without any event; the depth of orders stays.
    """
    timed = ran(StaleOracle(from_s=5, to_s=20, market="SOL-PERP", behind_slots=150))

    def has_pool(book):
        return any("vamm" in level["sources"] for level in book["bids"] + book["asks"])

    stale = {at: book for at, book in books(timed) if 5.5 <= at < 20}
    assert all(int(book["oracleData"]["slot"]) == FIRST_SLOT + 12 - 150 for book in stale.values())
    assert all(has_pool(book) == (book["slot"] <= FIRST_SLOT + 12 - 150 + 160) for book in stale.values())
    assert {has_pool(book) for book in stale.values()} == {True, False}
    assert all(has_pool(book) for at, book in books(timed) if at > 20.5)


def test_the_publishers_clock_may_be_off():
    """
    `ts` only.
    """
    timed = ran(ClockSkew(from_s=5, to_s=10, by_ms=-2500))

    for at, book in books(timed):
        expected = START // MS + round(at * 1000)
        assert book["ts"] == (expected - 2500 if 5 <= at < 10 else expected)


def test_lower_slots_are_dropped_for_as_long_as_the_server_remembers():
    """
    One frame far ahead silences a channel until slots catch up: also for whoever subscribes afterwards.
    """
    fault = ShiftSlots(from_s=5, to_s=5.5, market="SOL-PERP", slots=40)
    script = [(8.0, Opened(2)), (8.0, ask(2))]

    timed = ran(fault, script=script)

    silent = [at for at, _ in lines(timed, "withheld", "slot_memory")]
    heard = [at for at, _ in frames(timed, SOL, client=1)]
    assert heard[heard.index(5.2) + 1] == pytest.approx(5.2 + 40 * 0.4, abs=0.5)
    assert len(frames(timed, BTC)) == 75
    assert frames(timed, SOL, client=2)[0][0] == pytest.approx(21.2, abs=0.5)
    assert len([line for _, line in lines(timed, "withheld", "slot_memory") if line.client == 2]) > 30
    assert min(silent) > 5.2


def test_slot_memory_outlives_all_subscribers():
    """
    The server stays subscribed to the feed for ever, so it remembers what came while nobody listened.
    """
    fault = ShiftSlots(from_s=5, to_s=5.5, market="SOL-PERP", slots=30)
    script = [(3.0, ask(1, op="unsubscribe")), (7.0, ask(1))]

    timed = ran(fault, script=script)

    assert next(at for at, _ in frames(timed, SOL) if at > 3) == pytest.approx(17.2, abs=0.5)


def test_a_channel_never_asked_for_has_no_memory():
    """
    What came before the first subscriber was not heard.
    """
    fault = ShiftSlots(from_s=5, to_s=5.5, slots=30)

    timed = ran(fault, inputs=[Opened(1)], script=[(7.0, ask(1))])

    assert frames(timed, SOL)[0][0] == pytest.approx(7.2)


def test_a_restarted_server_remembers_nothing():
    """
    Neither slots nor subscriptions; those connected are cut, handshakes fail meanwhile.
    """
    faults = [ShiftSlots(from_s=5, to_s=5.5, slots=4000), Restart(from_s=8, to_s=12)]

    timed = ran(*faults, script=[(9.0, Opened(2)), (13.0, Opened(3)), (13.0, ask(3))])

    assert [(at, output) for at, output in timed if isinstance(output, Cut)] == [(8.0, Cut(1)), (9.0, Cut(2))]
    assert frames(timed, SOL, client=3)[0][0] == pytest.approx(13.2)


def test_backlog_delivers_late_in_one_burst_and_says_when_it_was_due():
    """
    Heartbeats too; what was due first comes first.
    """
    timed = ran(Backlog(from_s=8, to_s=17))

    assert not [at for at, output in timed if isinstance(output, Send) and 8 <= at < 17]
    burst = [output for at, output in timed if isinstance(output, Send) and at == 17.0 and output.due_ns]
    assert [output.due_ns for output in burst] == sorted(output.due_ns for output in burst)
    assert Counter(output.frame.what for output in burst)["heartbeat"] == 2
    assert len([output for output in burst if output.frame.channel == SOL]) == 23


def test_a_backlog_beyond_the_buffers_drops_data_and_no_heartbeat():
    """
    300,000 bytes in the server; at the next check it closes, and nothing more is due to that client.
    """
    timed = ran(Backlog(from_s=8, to_s=75, buffer_bytes=0), until_s=78)

    dropped = lines(timed, "dropped", "backlog")
    assert dropped
    # The close frame waits behind the backlog; after 30 s the socket is destroyed, and all that waited is lost.
    (cut,) = [(at, output) for at, output in timed if isinstance(output, Cut | Close)]
    closing = next(at for at in range(10, 60, 10) if at > dropped[0][0])
    assert cut == (closing + 30.0, Cut(1))
    counts = [line.count for _, line in lines(timed, "disconnected")]
    assert counts == [len(frames(timed)) + len(dropped)]
    held = sum(line.length for at, line in dropped if at == cut[0])
    assert held > BACKLOG_LIMIT_BYTES - 5000


def test_a_backlog_that_ends_soon_after_the_check_shows_1008():
    """
    The burst, then the close frame.
    """
    timed = ran(Backlog(from_s=8, to_s=45, buffer_bytes=0), until_s=50)

    (close,) = [(at, output) for at, output in timed if isinstance(output, Cut | Close)]
    assert close == (45.0, Close(1, 1008, "Buffer overflow"))
    assert not [output for at, output in timed if isinstance(output, Send) and at > 45]


def test_half_open_connections_hear_nothing_and_are_not_heard():
    """
    Others go on; at the end they are cut.
    """
    timed = ran(HalfOpen(from_s=8, to_s=20), script=[(10.0, ask(1, market="NOPE")), (10.0, Opened(2)), (10.0, ask(2))])

    deaf = [at for at, output in timed if isinstance(output, Send) and output.client == 1 and at >= 8]
    assert not deaf
    assert [(at, output) for at, output in timed if isinstance(output, Pause | Cut)] == [
        (8.0, Pause(1)),
        (20.0, Cut(1)),
    ]
    assert len(frames(timed, SOL, client=2)) == 50
    assert len([line for _, line in lines(timed, "withheld", "half_open") if line.channel == SOL]) == 30


def test_a_failing_bus_answers_with_an_error_and_an_ack_and_no_data():
    """
    The third form of error; what flows already goes on.
    """
    timed = ran(BusFails(from_s=5, to_s=10), script=[(6.0, ask(1, market="ETH-PERP"))])

    replies = [output.frame.text for at, output in timed if isinstance(output, Send) and at == 6.0 and not output.seq]
    assert replies[0] == '{"error":"Error subscribing to channel: [object Object]"}'
    assert "Subscribe received" in replies[1]
    assert not frames(timed, "orderbook_perp_2_grouped_1")
    assert len(frames(timed, SOL)) == 75


def test_initial_books_are_as_old_as_the_store():
    """
    Live ones are not.
    """
    timed = ran(
        StaleStore(from_s=2, to_s=20), inputs=[Opened(1)], script=[(12.1, ask(1))], server="velocity", until_s=13
    )

    (initial, *live) = books(timed)
    assert initial[1]["ts"] == START // MS + 1600  # the last tick before the fault
    assert live[0][1]["ts"] == START // MS + 12_400


@pytest.mark.parametrize("fault", [Silence(from_s=2, to_s=20), PublisherDown(from_s=2, to_s=20)])
def test_a_silent_publisher_stores_nothing_either(fault):
    """
    Who subscribes meanwhile is sent what was published last, and nothing after it.
    """
    timed = ran(fault, inputs=[Opened(1)], script=[(12.1, ask(1))], server="velocity", until_s=13)

    assert [
        (frame.why, book["ts"]) for (_, frame), (_, book) in zip(frames(timed, SOL), books(timed), strict=True)
    ] == [("initial", START // MS + 1600)]


def test_a_book_without_slot_is_not_stored():
    """
    The server chooses the copy by its slot.
    """
    fault = Alter(from_s=2, to_s=20, what="no_slot")
    before, after = (
        ran(fault, inputs=[Opened(1)], script=[(at, ask(1))], server="velocity", until_s=6) for at in (1.1, 5.1)
    )

    assert {frame.why for _, frame in frames(before)} == {"initial", None, "alter"}
    assert {frame.why for _, frame in frames(after)} == {"alter"}


def test_a_publisher_that_comes_back_has_lost_its_downtime_and_repeats_one_transaction():
    """
    It takes the chain's latest transaction only, which it may have sent before, or which is the last of its downtime.
    """
    timed = ran(PublisherDown(from_s=10, to_s=20), until_s=40)

    assert not [at for at, _ in frames(timed) if 10 < at < 20]
    withheld = {(line.channel, line.fill_id) for _, line in lines(timed, "withheld") if line.fill_id is not None}
    again = [(at, frame) for at, frame in frames(timed) if frame.why == "publisher_down"]
    assert {at for at, _ in again} == {20.0}
    assert len({json.loads(json.loads(frame.text)["data"])["txSig"] for _, frame in again}) == 1
    for channel in ("trades_perp_0", "trades_perp_1"):
        told = {fill_id for _, fill_id, _ in fills(timed, channel)}
        missing = set(range(min(told), max(told))) - told
        assert missing
        assert missing == {fill_id for name, fill_id in withheld if name == channel} - told


def test_every_kind_is_described_for_the_help():
    """
    With its members, what is needed first, defaults or choices after `=`.
    """
    kinds = {name: (members, words) for name, members, words in described()}

    assert kinds["freeze"][0] == ["from_s", "to_s", "market=*", "what=all|slot|content"]
    assert kinds["drop"][0] == ["at_s", "every_s=", "code="]
    assert kinds["drop"][1] == "Cut every client's connection."
    assert len(kinds) == len(KINDS)


def test_a_market_that_is_listed_later_is_refused_before():
    """
    Then it is published like any other.
    """
    fault = NewMarket(5, market="LATER-PERP", index=77)

    timed = ran(fault, script=[(4.1, ask(1, market="LATER-PERP")), (6.1, ask(1, market="LATER-PERP"))])

    whats = [
        output.frame.what for at, output in timed if isinstance(output, Send) and at in {4.1, 6.1} and not output.seq
    ]
    assert whats == ["error", "ack"]
    assert frames(timed, "orderbook_perp_77_grouped_1")[0][0] == pytest.approx(6.4)


def test_late_fills_come_later_and_all_of_them():
    """
    With the time they were due.
    """
    timed, clean = (ran(*faults, until_s=60) for faults in ([LateFills(from_s=10, to_s=20, by_s=6)], []))

    late = [(at, fill_id) for at, fill_id, why in fills(timed) if why == "late_fills"]
    usual = {fill_id: at for at, fill_id, _ in fills(clean)}
    assert len(late) > 5
    assert all(at == usual[fill_id] + 6 for at, fill_id in late)
    assert sorted(fill_id for _, fill_id, _ in fills(timed)) == sorted(usual)


def test_reordered_fills_run_backwards_across_seconds():
    """
    None is missing, none doubled.
    """
    timed = ran(ReorderFills(from_s=10, to_s=40), until_s=60)

    ids = [fill_id for _, fill_id, _ in fills(timed)]
    assert sorted(ids) == list(range(min(ids), min(ids) + len(ids)))
    for told, most in ((fills(timed), 1000), (fills(ran(until_s=60)), 0)):
        behind = sum(
            fill_id < max((other for when, other, _ in told if when < at), default=0) for at, fill_id, _ in told
        )
        assert 5 < behind < most if most else behind == 0


def test_repeated_fills_come_again_with_the_same_id():
    """
    As after a restart of the publisher.
    """
    timed = ran(RepeatFills(from_s=10, to_s=40, every=2, after_s=3), until_s=60)

    counts = Counter(fill_id for _, fill_id, _ in fills(timed))
    again = {fill_id for _, fill_id, why in fills(timed) if why == "repeat_fills"}
    assert again == {fill_id for fill_id, count in counts.items() if count == 2}
    assert all(fill_id % 2 == 0 for fill_id in again)
    assert len(again) > 5


def test_one_of_two_feeds_may_fall_silent():
    """
    The server of Drift then forwards the other alone.
    """
    timed = ran(Silence(from_s=10, to_s=20, feed=1), two_feeds=True)

    during = [at for at, _ in frames(timed, SOL) if 10.2 < at < 20]
    assert {round(at % 0.4, 2) for at in during} == {0.15}
    assert len(lines(timed, "withheld", "silence")) == 2 * 25


def test_garbage_of_a_kind_goes_to_everybody():
    """
    Not as data: it is due to nobody.
    """
    timed = ran(Garbage(5, what="html"), Garbage(6, what="binary"))

    sent = [(at, output.frame) for at, output in timed if isinstance(output, Send) and output.frame.what == "garbage"]
    assert [(at, frame.why, frame.binary) for at, frame in sent] == [(5.0, "html", False), (6.0, "binary", True)]


def test_altered_frames_are_marked_and_counted_apart_by_channel():
    """
    Each n-th of each channel.
    """
    timed = ran(Alter(from_s=5, to_s=15, what="payload_member", every=5))

    for channel in (SOL, BTC):
        altered = [frame for _, frame in frames(timed, channel) if frame.why == "alter"]
        assert len(altered) == 5
        assert all('\\"sequence\\":' in frame.text for frame in altered)
        assert not [frame for _, frame in frames(timed, channel) if frame.why is None and "sequence" in frame.text]


def test_the_check_for_waiting_bytes_comes_every_10_seconds():
    """
    Whoever performs the outputs knows how much waits.
    """
    timed = ran(until_s=35)

    assert [(at, output.client) for at, output in timed if isinstance(output, Check)] == [
        (10.0, 1),
        (20.0, 1),
        (30.0, 1),
    ]


def test_overflowed_clients_are_closed_with_1008():
    """
    And forgotten at once.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)
    venue.step(START, [Opened(1), ask(1)])

    outputs = venue.overflowed(START, 1)

    assert outputs[0] == Close(1, 1008, "Buffer overflow")
    assert not [output for output in venue.step(START + 400 * MS) if isinstance(output, Send)]


def test_a_drop_with_a_code_reaches_only_those_who_can_hear_it():
    """
    A close frame to a half-open connection goes nowhere; what got hold of it ends in a cut.
    """
    timed = ran(HalfOpen(from_s=5, to_s=20), Drop(10, code=1001), script=[(7.0, Opened(2))])

    ends = [(at, output) for at, output in timed if isinstance(output, Close | Cut)]
    assert ends == [(10.0, Close(2, 1001, "")), (20.0, Cut(1))]
