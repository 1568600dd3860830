"""
Frames of the other servers: September 2025 as captured, the relaunch as its code was read.
"""

import io
import itertools
import json
from pathlib import Path

import msgspec
import pytest
import zstandard

from printer import printed
from recorder.records import SECOND_NS
from recorder.simulator.core import Venue
from recorder.simulator.frames import Book
from recorder.simulator.kinds import Silence, TwoFeeds
from recorder.simulator.markets import DEFAULT_MARKETS, Moods
from recorder.simulator.messages import Close, Cut, Log, Opened, Send, Text
from recorder.simulator.shapes import rust_frame, ungrouped_frame
from recorder.venue.protocol import FrameKind, open_envelope, parse_channel

FIXTURES = Path(__file__).parents[1] / "fixtures"
START = 1_795_367_000 * SECOND_NS
MS = 1_000_000


def captured(name):
    """
    The texts of a captured file.
    """
    with zstandard.open(FIXTURES / name, "rb") as file:
        return [json.loads(line)["frame"] for line in io.TextIOWrapper(file, encoding="utf-8")]


LEGACY = captured("dlob-real-server-legacy-2025-09.jsonl.zst")
TWO_FEEDS = captured("dlob-real-server-two-feeds.jsonl.zst")


def ask(client, *, channel="orderbook", market="SOL-PERP", market_type="perp", **more):
    """
    A request as an input.
    """
    request = {"type": "subscribe", "marketType": market_type, "channel": channel, "market": market} | more
    return Text(client, json.dumps(request))


def texts(venue, *requests, until_s=20):
    """
    What one client hears, with times in seconds.
    """
    outputs = [(0.0, output) for output in venue.step(START, [Opened(1), *requests])]
    while (now := venue.next_due()) <= START + until_s * SECOND_NS:
        outputs += [((now - START) / SECOND_NS, output) for output in venue.step(now)]
    return [(at, output.frame.text) for at, output in outputs if isinstance(output, Send)]


def payload(text):
    """
    What a data frame holds.
    """
    return json.loads(json.loads(text)["data"])


def books(heard, channel):
    """
    The books of one channel.
    """
    return [payload(text) for _, text in heard if json.loads(text).get("channel") == channel]


def shape(value, name=""):
    """
    Members in order with their JSON types, down to one level and its sources.
    """
    if name == "sources":
        return {(type(size).__name__, str(size).isdecimal()) for size in value.values()}
    if isinstance(value, dict):
        return [(member, shape(child, member)) for member, child in value.items()]
    if isinstance(value, list):
        return sorted({repr(shape(level)) for level in value})
    return type(value).__name__, isinstance(value, str) and value.isdecimal()


def kinds_of(frames):
    """
    Shapes by family of channel.
    """
    kinds = {}
    for text in frames:
        envelope = json.loads(text)
        if "data" in envelope and "orderbook" in envelope["channel"]:
            book = payload(text)
            family = envelope["channel"].split("_")[1:2] + envelope["channel"].split("_")[3:]
            kinds.setdefault(tuple(family), set()).add(repr((list(envelope), shape(book))))
    return kinds


def test_every_book_shape_of_the_september_server_is_produced():
    """
    Ungrouped with strings, indicative alike, grouped on request with numbers; one side empty; perp and spot.
    """
    thin = msgspec.structs.replace(DEFAULT_MARKETS[5], moods=Moods(one_sided=0.2, empty=0.05))
    venue = Venue([*DEFAULT_MARKETS[:5], thin], start=START, server="2025-09", seed=4)

    heard = texts(
        venue,
        *(ask(1, market=market.symbol, market_type=market.market_type) for market in DEFAULT_MARKETS),
        ask(1, channel="orderbook_indicative"),
        ask(1, market="ETH-PERP", grouping=10),
        until_s=60,
    )

    produced = kinds_of(text for _, text in heard)
    for family, shapes in kinds_of(LEGACY).items():
        assert shapes <= produced[family]


def test_trades_of_the_september_server_have_no_indicative_keys():
    """
    They came in March 2026.
    """
    requests = [ask(1, channel="trades", market=market.symbol) for market in DEFAULT_MARKETS[:3]]
    new, old = (
        [
            payload(text)
            for _, text in texts(Venue(DEFAULT_MARKETS, start=START, server=server), *requests, until_s=120)
            if "trades" in json.loads(text).get("channel", "")
        ]
        for server in ("2026-05", "2025-09")
    )

    assert any("makerIndicativeKey" in trade for trade in new)
    assert [{k: v for k, v in trade.items() if k != "makerIndicativeKey"} for trade in new] == old


def test_the_september_servers_books_are_whole_and_its_initial_book_has_100_levels():
    """
    The stored copy comes after the ack under the same name; the live frame has all levels, the pool's 100 among them.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, server="2025-09")
    texts(venue, until_s=1)

    outputs = venue.step(START + 1100 * MS, [ask(1)])
    (initial,) = [o for o in venue.step(START + 1102 * MS) if isinstance(o, Send)]
    (live,) = [o for o in venue.step(START + 1200 * MS) if isinstance(o, Send)]

    assert [output.frame.what for output in outputs] == ["ack"]
    assert initial.frame.why == "initial"
    assert initial.frame.channel == live.frame.channel == "orderbook_perp_0"
    stored, book = payload(initial.frame.text), payload(live.frame.text)
    assert len(stored["bids"]) == len(stored["asks"]) == 100
    assert len(book["bids"]) > 130
    assert stored["slot"] < book["slot"]
    assert stored["ts"] == START // MS + 800
    prices = [int(level["price"]) for level in book["bids"]]
    assert prices == sorted(set(prices), reverse=True)


def test_the_september_server_groups_on_request_only_and_has_no_stored_copy_of_that():
    """
    Captured: after that ack, the first book is the next live one, with plain 20 levels.
    """
    crossed = msgspec.structs.replace(DEFAULT_MARKETS[0], moods=Moods(crossed=0.5))
    venue = Venue([crossed], start=START, server="2025-09")

    heard = texts(venue, ask(1, grouping=10), ask(1, grouping="ten"))

    initial_and_live = [json.loads(text)["channel"] for _, text in heard if "data" in json.loads(text)]
    assert initial_and_live[0] == "orderbook_perp_0"
    grouped = books(heard, "orderbook_perp_0_grouped_10")
    assert {len(book["bids"]) for book in grouped} == {20}
    assert any(book["spreadQuote"] == "0" for book in grouped)


def test_ungrouped_numbers_are_exact_at_any_size():
    """
    Strings of whole numbers, where the grouped ones lose their last digits.
    """
    book = Book("perp", "A", 0, 10, 0, 0, 0, 5, 0, 0, 0, [(-5, 2**53 + 1, 0, ""), (-5, 2**53 + 1, 1, "")], [])

    level = payload(ungrouped_frame(book, name="n"))["bids"][0]

    assert list(level) == ["price", "size", "sources"]
    assert level == {
        "price": "5",
        "size": "18014398509481986",
        "sources": {"dlob": "9007199254740993", "vamm": "9007199254740993"},
    }


def test_velocity_sends_the_initial_book_again_with_grouped_numbers():
    """
    A stored copy for every grouped channel, perps only; spot is acknowledged and silent.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, server="velocity")

    heard = texts(venue, ask(1), ask(1, grouping=100), ask(1, market="SOL", market_type="spot"), until_s=0.3)

    assert [json.loads(text).get("channel") for _, text in heard] == [
        None,
        None,
        None,
        "orderbook_perp_0_grouped_1",
        "orderbook_perp_0_grouped_100",
    ]
    assert [at for at, _ in heard[3:]] == [0.002, 0.002]
    later = texts(Venue(DEFAULT_MARKETS, start=START, server="velocity"), ask(1, market="SOL", market_type="spot"))
    assert [text for _, text in later if "data" in text] == []


def test_an_initial_book_may_come_after_live_ones_and_be_older():
    """
    It is sent asynchronously.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, server="velocity", initial_delay_ms=900)
    texts(venue, until_s=1)
    venue.step(START + 1100 * MS, [ask(1)])

    heard = []
    while (now := venue.next_due()) <= START + 2100 * MS:
        heard += [output.frame for output in venue.step(now) if isinstance(output, Send)]

    assert [frame.why for frame in heard] == [None, None, "initial", None]
    slots = [payload(frame.text)["slot"] for frame in heard]
    assert slots[2] < slots[0] < slots[1] < slots[3]


@pytest.mark.parametrize(("server", "dies"), [("2026-05", True), ("2025-09", True), ("velocity", False)])
@pytest.mark.parametrize("crash", [None, True, False])
def test_a_channel_that_is_no_string_ends_the_servers_of_drift(server, dies, crash):
    """
    The relaunched one survives; an option says otherwise for any.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, server=server, crash=crash)

    outputs = venue.step(START, [Opened(1), Opened(2), ask(2, channel=["orderbook"])])

    cut = [output.client for output in outputs if isinstance(output, Cut | Close)]
    assert cut == ([1, 2] if (dies if crash is None else crash) else [])


def rust_books(**moods):
    """
    Some books of a perp as the Rust publisher prints them.
    """
    market = msgspec.structs.replace(DEFAULT_MARKETS[0], moods=Moods(**({"crossed": 0.0, "locked": 0.0} | moods)))
    venue = Venue([market], start=START, server="velocity", publisher="rust", tick_ms=750)
    return [text for _, text in texts(venue, ask(1), until_s=30) if "data" in text]


def test_the_rust_publishers_members_are_sorted():
    """
    All the way down, so that `asks` come first; sources have new names.
    """
    for text in rust_books():
        book = payload(text)

        def check(value):
            if isinstance(value, dict):
                assert list(value) == sorted(value)
                for member in value.values():
                    check(member)
            elif isinstance(value, list):
                for member in value:
                    check(member)

        check(book)
        assert next(iter(book)) == "asks"
        assert {source for level in book["bids"] for source in level["sources"]} <= {"clob", "propamm"}
        assert open_envelope(text.encode()).kind == FrameKind.DATA
        mid, spread = int(book["markPrice"]), int(book["spreadQuote"])
        assert int(book["spreadPct"]) == spread * 1_000_000 // mid


def test_the_rust_publisher_has_null_where_the_other_leaves_out():
    """
    With a side empty.
    """
    one_sided = [payload(text) for text in rust_books(one_sided=1.0)]

    assert one_sided
    for book in one_sided:
        if bool(book["bids"]) == bool(book["asks"]):
            continue
        assert book["bestAskPrice" if book["bids"] else "bestBidPrice"] is None
        assert book["spreadPct"] is None
        assert book["spreadQuote"] is None
    assert any(not book["bids"] or not book["asks"] for book in one_sided)


def test_the_rust_publishers_spread_is_negative_when_crossed():
    """
    And its mark is the plain middle.
    """
    crossed = [payload(text) for text in rust_books(crossed=1.0)]
    negative = [book for book in crossed if int(book["spreadQuote"]) < 0]

    assert negative
    for book in negative:
        bid, ask_price = int(book["bestBidPrice"]), int(book["bestAskPrice"])
        assert int(book["spreadQuote"]) == ask_price - bid
        assert int(book["markPrice"]) == (bid + ask_price) // 2
        assert -1000 < int(book["spreadPct"]) <= 0


def test_the_rust_publishers_sizes_are_exact():
    """
    Even beyond what a signed 64-bit integer holds.
    """
    book = Book("perp", "A", 0, 10, 0, 0, 0, 5, 0, 0, 0, [(-10, 2**64 + 1, 0, "")], [])

    text = rust_frame(book, name="n", grouping=1)

    assert f'\\"size\\":{2**64 + 1},' in text
    assert payload(text)["bids"][0]["sources"] == {"clob": 2**64 + 1}


def test_the_rust_publisher_knows_perps_and_firm_books_only():
    """
    All else is acknowledged and silent.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, server="velocity", publisher="rust")

    heard = texts(venue, ask(1, channel="orderbook_indicative"), ask(1, market="SOL", market_type="spot"))

    assert not [text for _, text in heard if "data" in text]


def slots_of(frames):
    """
    (slot, ts, market slot) of the books.
    """
    found = []
    for text in frames:
        channel = parse_channel(json.loads(text).get("channel", ""))
        if channel is not None and channel.family == "orderbook":
            book = payload(text)
            found.append((book["slot"], book["ts"], book["marketSlot"]))
    return found


def test_two_feeds_are_forwarded_interleaved_as_captured():
    """
    Twice the rate; about half of the steps go back, by the lag; `ts` and the other slots are not behind.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, two_feeds=True)
    heard = [text for _, text in texts(venue, ask(1), until_s=12)]

    for frames in (TWO_FEEDS, heard):
        seen = slots_of(frames)
        back = sum(after[0] < before[0] for before, after in itertools.pairwise(seen))
        assert len(seen) in {59, 60}
        assert 27 <= back <= 31
        assert [ts for _, ts, _ in seen] == sorted(ts for _, ts, _ in seen)
        assert {market_slot - slot for slot, _, market_slot in seen} == {-1, 2}


def stepped(venue, *, until_s):
    """
    (Seconds, output) of a venue with one client that asks for one book.
    """
    outputs = [(0.0, output) for output in venue.step(START, [Opened(1), ask(1)])]
    while (now := venue.next_due()) <= START + until_s * SECOND_NS:
        outputs += [((now - START) / SECOND_NS, output) for output in venue.step(now)]
    return outputs


def test_velocity_listens_to_one_feed_and_goes_over_after_3_seconds():
    """
    Slots jump at the change; several seconds are missing.
    """
    faults = [Silence(from_s=5, to_s=20, feed=1)]
    venue = Venue(DEFAULT_MARKETS, start=START, server="velocity", two_feeds=True, faults=faults)
    outputs = stepped(venue, until_s=25)

    live = [(at, output.frame) for at, output in outputs if isinstance(output, Send) and output.frame.what == "sent"]
    times = [at for at, frame in live if frame.why is None]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert 3 < max(gaps) < 4.1
    assert sorted(gaps)[-2] < 0.41
    assert feed_changes(outputs) == [(2, "silent")]


def feed_changes(outputs):
    """
    (Feed, why) of each change.
    """
    return [
        (output.line.count, output.line.why)
        for _, output in outputs
        if isinstance(output, Log) and output.line.what == "feed_changed"
    ]


def test_velocity_goes_over_to_a_feed_that_has_led_for_10_seconds():
    """
    The slots of the books jump ahead then, no book is missing, and it stays there; a feed behind never wins.
    """
    leads = TwoFeeds(from_s=3, to_s=30, lag_ms=100, slots_behind=-4)
    outputs = stepped(Venue(DEFAULT_MARKETS, start=START, server="velocity", faults=[leads]), until_s=28)
    behind = stepped(Venue(DEFAULT_MARKETS, start=START, server="velocity", two_feeds=True), until_s=28)

    assert feed_changes(outputs) == [(2, "leads")]
    assert feed_changes(behind) == []
    live = [(at, output.frame) for at, output in outputs if isinstance(output, Send) and output.frame.what == "sent"]
    slots = [(at, payload(frame.text)["slot"]) for at, frame in live if frame.why is None]
    (jump,) = [
        (after[0], after[1] - before[1])
        for before, after in itertools.pairwise(slots)
        if not 0 <= after[1] - before[1] <= 1
    ]
    assert 13.3 < jump[0] < 13.8
    assert jump[1] == 4
    assert max(after[0] - before[0] for before, after in itertools.pairwise(slots)) < 0.51


def test_velocity_waits_3_seconds_for_a_feed_that_is_gone():
    """
    Books of the other feed come all the while and are kept back: each has its line in the ledger.
    """
    leads = TwoFeeds(from_s=1, to_s=16, lag_ms=100, slots_behind=-4)
    outputs = stepped(Venue(DEFAULT_MARKETS, start=START, server="velocity", faults=[leads]), until_s=25)

    assert feed_changes(outputs) == [(2, "leads"), (1, "silent")]
    kept = [at for at, output in outputs if isinstance(output, Log) and output.line.why == "feed_silent"]
    assert 7 <= len(kept) <= 8
    assert min(kept) >= 16
    assert max(kept) < 19.3


def test_spot_books_of_the_september_server_show_other_venues():
    """
    Orders of Phoenix and OpenBook stand in them; they left in May 2026.
    """
    wanted = ask(1, market="SOL", market_type="spot")
    found = {}
    for server in ("2025-09", "2026-05"):
        heard = texts(Venue(DEFAULT_MARKETS, start=START, server=server), wanted, until_s=3)
        spot = [payload(text) for _, text in heard if "orderbook_spot" in json.loads(text).get("channel", "")]
        found[server] = {name for book in spot for level in book["bids"] + book["asks"] for name in level["sources"]}

    assert found == {"2025-09": {"dlob", "phoenix", "openbook"}, "2026-05": {"dlob"}}


def test_frames_of_the_other_servers_are_what_our_printer_prints():
    """
    No stray blank, no wrong escape.
    """
    venue = Venue(DEFAULT_MARKETS, start=START, server="2025-09")
    old = [text for _, text in texts(venue, ask(1), ask(1, channel="orderbook_indicative"), until_s=3)]
    for text in old + rust_books()[:5]:
        envelope = json.loads(text)
        assert text == printed(envelope)
        if "data" in envelope:
            assert envelope["data"] == printed(json.loads(envelope["data"]))
