"""
Frames of the simulator beside frames captured from the real server of May 2026: same members, same order, same types.
"""

import json
from pathlib import Path

import pytest

from printer import printed
from recorder.records import SECOND_NS
from recorder.simulator.core import Venue
from recorder.simulator.markets import DEFAULT_MARKETS, Moods, SimMarket
from recorder.simulator.messages import Close, Opened, Send, Text
from recorder.venue.protocol import CHANNELS, GROUPINGS

SAMPLES = [
    sample
    for sample in json.loads((Path(__file__).parents[1] / "fixtures" / "samples.json").read_text())
    if sample.get("verified_by") == "captured from the May 2026 server"
]
START = 1_795_367_000 * SECOND_NS
NEVER_QUOTED = SimMarket("spot", "USDT", 5, 6, 1.0002, 1, 1_000_000, 1e-5, 0.15, 12, Moods(empty=1.0))

REQUESTS = {
    "ack of subscribe": ("subscribe", "perp", "orderbook", "SOL-PERP"),
    "ack of subscribe, client used other letter case": ("subscribe", "PERP", "Orderbook", "sol-perp"),
    "error: unknown market": ("subscribe", "perp", "orderbook", "NOPE-PERP"),
    "error: unknown channel": ("subscribe", "perp", "candles", "SOL-PERP"),
    "error: unknown market type": ("subscribe", "future", "trades", "SOL-PERP"),
    "error: unsubscribe from unknown market": ("unsubscribe", "perp", "orderbook", "NOPE-PERP"),
}


def shape(value):
    """
    Members in order with their JSON types; which sources a level has and how many levels there are does not matter.
    """
    if isinstance(value, dict):
        if set(value) <= {"dlob", "vamm", "indicative"}:
            return {shape(size) for size in value.values()}
        return [(name, shape(member)) for name, member in value.items()]
    if isinstance(value, list):
        return [shape(level) for level in value[:1]]
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, str):
        return "digits" if value.isdecimal() else "text"
    return "number"


def described(frame):
    """
    All that a reader of the wire could tell a frame's kind by.
    """
    envelope = json.loads(frame)
    payload = json.loads(envelope["data"]) if "data" in envelope else {}
    family = envelope.get("channel", "").split("_")
    crossed = False
    if "bestBidPrice" in payload:
        crossed = int(payload["bestBidPrice"]) >= int(payload["bestAskPrice"])
    return repr(
        (
            shape(envelope),
            shape(payload),
            family[:2],
            family[3:],
            crossed,
            payload.get("actionExplanation"),
            bool(payload.get("bids")),
            bool(payload.get("asks")),
        )
    )


@pytest.fixture(scope="module")
def produced():
    """
    All that some minutes of the default markets sent to a client subscribed to everything.
    """
    markets = [*DEFAULT_MARKETS, NEVER_QUOTED]
    venue = Venue(markets, start=START, seed=4, priority_fees=True)
    requests = [
        {
            "type": "subscribe",
            "marketType": market.market_type,
            "channel": channel,
            "market": market.symbol,
            "grouping": grouping,
        }
        for market in markets
        for channel in CHANNELS
        for grouping in (GROUPINGS if channel == "orderbook" else [1])
    ]
    outputs = venue.step(START, [Opened(1), *(Text(1, json.dumps(request)) for request in requests)])
    while (now := venue.next_due()) < START + 200 * SECOND_NS:
        outputs += venue.step(now)
    return [output.frame.text for output in outputs if isinstance(output, Send)]


@pytest.fixture(scope="module")
def kinds(produced):
    """
    What the produced frames look like.
    """
    return {described(text) for text in produced}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["shape"])
def test_every_captured_shape_is_produced(sample, kinds):
    """
    A recorder that works with the simulator must not meet anything new at the real server.
    """
    if sample["shape"] in REQUESTS:
        op, market_type, channel, market = REQUESTS[sample["shape"]]
        request = {"type": op, "marketType": market_type, "channel": channel, "market": market}
        venue = Venue(DEFAULT_MARKETS, start=START)
        _, *outputs = venue.step(START, [Opened(1), Text(1, json.dumps(request))])
        assert [sample["frame"]] == [output.frame.text for output in outputs]
    else:
        assert described(sample["frame"]) in kinds


def test_nothing_is_produced_that_was_not_captured_or_documented(produced):
    """
    The other way round, as far as members go: none that the captured frames of the same family do not have.
    """
    known = {}
    for frame in [sample["frame"] for sample in SAMPLES]:
        envelope = json.loads(frame)
        if "data" in envelope:
            family = envelope["channel"].partition("_")[0]
            known.setdefault(family, set()).update(json.loads(envelope["data"]))
    for text in produced:
        envelope = json.loads(text)
        if "data" in envelope:
            family = envelope["channel"].partition("_")[0]
            assert set(json.loads(envelope["data"])) <= known[family]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["shape"])
def test_captured_frames_are_what_our_printer_prints(sample):
    """
    Numbers and strings of the real server, parsed and printed again, give the same text.
    """
    envelope = json.loads(sample["frame"])

    assert sample["frame"] == printed(envelope)
    if "data" in envelope:
        assert envelope["data"] == printed(json.loads(envelope["data"]))


def test_produced_frames_are_what_our_printer_prints(produced):
    """
    Books are printed by a faster way; it must not differ in a single character.
    """
    for text in produced[::7]:
        envelope = json.loads(text)
        assert text == printed(envelope)
        if "data" in envelope:
            assert envelope["data"] == printed(json.loads(envelope["data"]))


def test_headline_members_follow_from_the_book(produced):
    """
    Mark, spread and percentage are those the captured books have: integers, rounded down.
    """
    checked = 0
    for text in produced:
        envelope = json.loads(text)
        payload = json.loads(envelope["data"]) if "grouped_1" in envelope.get("channel", "") else {}
        if "bestBidPrice" not in payload or int(payload["bestBidPrice"]) >= int(payload["bestAskPrice"]):
            continue
        bid, ask, mark = (int(payload[name]) for name in ("bestBidPrice", "bestAskPrice", "markPrice"))
        assert mark == (bid + ask) // 2
        assert int(payload["spreadQuote"]) == ask - bid
        assert int(payload["spreadPct"]) == (ask - bid) * 100_000_000 // mark
        checked += 1

    assert checked > 1000


def test_a_request_without_a_channel_is_closed_on():
    """
    Not a frame but the reason of a close: the one shape that is no message.
    """
    venue = Venue(DEFAULT_MARKETS, start=START)

    _, close, _ = venue.step(START, [Opened(1), Text(1, '{"type":"subscribe"}')])

    assert close == Close(1, 1003, '{"error":"Error subscribing to channel"}')
