"""
Requests, channel names, envelopes and the peek, against captured frames.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import captures
from recorder.records import Stream
from recorder.venue import protocol
from recorder.venue.protocol import ChannelName, FrameKind, ack_text, format_channel, open_envelope, parse_channel, peek

GROUPED = ChannelName("orderbook", "perp", 0, 1, indicative=False, stored=False)


def envelope(**members):
    """
    A frame of these members.
    """
    return json.dumps(members, separators=(",", ":")).encode()


# --- Requests and their acknowledgements ---


def test_a_request_is_canonical_and_its_grouping_a_plain_integer():
    """
    Other spellings of the grouping are acknowledged and then silent for ever.
    """
    assert json.loads(protocol.request(Stream("perp", "SOL-PERP", "orderbook", 10))) == {
        "type": "subscribe",
        "marketType": "perp",
        "channel": "orderbook",
        "market": "SOL-PERP",
        "grouping": 10,
    }


def test_an_unsubscribe_repeats_the_request():
    """
    The venue matches market, channel and grouping.
    """
    stream = Stream("spot", "USDC", "trades")

    asked = json.loads(protocol.request(stream))
    assert json.loads(protocol.request(stream, "unsubscribe")) == asked | {"type": "unsubscribe"}
    assert "grouping" not in asked


def test_acks_are_matched_by_their_whole_text():
    """
    The text repeats the request as spelled; the captured one was for exactly this stream.
    """
    ack = open_envelope(captures.sample_frames()["ack of subscribe"])

    assert ack.kind == FrameKind.ACK
    assert ack.text == ack_text(Stream("perp", "SOL-PERP", "orderbook", 1))


def test_every_captured_ack_is_one_we_could_expect():
    """
    One request of a capture was spelled otherwise on purpose: its ack repeats that, and matches none of ours.
    """
    ours = {
        ack_text(Stream(market_type, symbol, channel))
        for market_type, symbols in (
            ("perp", ("SOL-PERP", "BTC-PERP", "ETH-PERP", "1MBONK-PERP")),
            ("spot", ("SOL", "USDC", "USDT", "BONK")),
        )
        for symbol in symbols
        for channel in protocol.CHANNELS
    }
    opened = [open_envelope(c.frame) for name in captures.CAPTURES for c in captures.capture(name)]
    acks = [frame.text for frame in opened if frame.kind == FrameKind.ACK]

    assert len(acks) == 30
    assert [text for text in acks if text not in ours] == [
        "Subscribe received for channel: Orderbook, market: sol-perp, marketType: PERP"
    ]


# --- Channel names ---

NAMES = st.builds(
    ChannelName,
    family=st.just("orderbook"),
    market_type=st.sampled_from(["perp", "spot"]),
    market_index=st.integers(0, 99_999),
    grouping=st.none() | st.integers(0, 999_999),
    indicative=st.booleans(),
    stored=st.booleans(),
) | st.builds(
    ChannelName,
    family=st.sampled_from(["trades", "priorityFees"]),
    market_type=st.sampled_from(["perp", "spot"]),
    market_index=st.integers(0, 99_999),
    grouping=st.none(),
    indicative=st.just(value=False),
    stored=st.booleans(),
)


@given(name=NAMES)
def test_parsing_undoes_formatting(name):
    """
    A channel name written by us is read back as it was.
    """
    assert parse_channel(format_channel(name)) == name


@pytest.mark.parametrize(
    ("text", "channel", "grouping", "stored"),
    [
        ("orderbook_perp_0", "orderbook", None, False),
        ("orderbook_perp_0_indicative", "orderbook_indicative", None, False),
        ("last_update_orderbook_perp_0", "orderbook", None, True),
        ("orderbook_perp_0_grouped_10", "orderbook", 10, False),
        ("orderbook_perp_0_grouped_1", "orderbook", 1, False),
        ("orderbook_perp_0_grouped_10_indicative", "orderbook_indicative", 10, False),
        ("trades_perp_0", "trades", None, False),
        ("priorityFees_perp_0", "priorityfees", None, False),
        ("dlob:orderbook_perp_0", "orderbook", None, False),
        ("dlob-helius:trades_perp_0", "trades", None, False),
        ("dlob:last_update_orderbook_perp_0", "orderbook", None, True),
    ],
)
def test_every_name_the_venue_has_used_is_understood(text, channel, grouping, stored):
    """
    From 2023 on, with the prefixes of old message buses.
    """
    name = parse_channel(text)

    assert (name.channel, name.market_type, name.market_index) == (channel, "perp", 0)
    assert (name.grouping, name.stored) == (grouping, stored)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "orderbook",
        "orderbook_perp_",
        "orderbook_perp_x",
        "orderbook_perp_0_grouped_",
        "orderbook_perp_0_grouped_1.5",
        "orderbook_future_0",
        "ORDERBOOK_perp_0",
        "trades_perp_0_grouped_1",
        "trades_perp_0_indicative",
        "orderbook_perp_0\n",
        "xorderbook_perp_0",
        "orderbook_perp_\u0661",
        "orderbook_perp_1234567",
        "orderbook_perp_" + "0" * 1_000_000,
    ],
)
def test_other_names_are_unknown(text):
    """
    Such frames are kept raw; nothing is guessed.
    """
    assert parse_channel(text) is None


def test_long_names_are_not_remembered():
    """
    Names are cached; a hostile server must not fill memory with them.
    """
    before = protocol._parse_channel.cache_info().currsize

    for n in range(20):
        assert parse_channel("orderbook_perp_0" + "_" * (100 + n)) is None

    assert protocol._parse_channel.cache_info().currsize == before


# --- Envelopes ---


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (envelope(error="e", message="m", channel="heartbeat", data="{}"), FrameKind.ERROR),
        (envelope(message="Subscribe received for channel: c", channel="heartbeat", data="{}"), FrameKind.ACK),
        (envelope(message="m", channel="heartbeat", data="{}"), FrameKind.UNKNOWN),
        (envelope(channel="heartbeat"), FrameKind.HEARTBEAT),
        (envelope(channel="heartbeat", data="{}"), FrameKind.HEARTBEAT),
        (envelope(channel="trades_perp_0", data="{}"), FrameKind.DATA),
        (envelope(channel="candles_perp_0", data="{}"), FrameKind.UNKNOWN),
        (envelope(channel="trades_perp_0"), FrameKind.UNKNOWN),
        (envelope(channel=5, data="{}"), FrameKind.UNKNOWN),
        (envelope(data="{}"), FrameKind.UNKNOWN),
        (envelope(), FrameKind.UNKNOWN),
        (b"[]", FrameKind.UNDECODABLE),
        (b"null", FrameKind.UNDECODABLE),
        (b"", FrameKind.UNDECODABLE),
        (b'{"channel":"heartbeat"', FrameKind.UNDECODABLE),
        (b'{"channel":"heart\xffbeat"}', FrameKind.UNDECODABLE),
        (b'{"channel":"trades_perp_0","data":"\xff"}', FrameKind.UNDECODABLE),
        (b'{"channel":"trades_perp_0","data":"\\ud800"}', FrameKind.UNDECODABLE),
        (b"[" * 100_000, FrameKind.UNDECODABLE),
        (b'{"a":' * 100_000, FrameKind.UNDECODABLE),
    ],
)
def test_frames_are_told_apart_by_members_in_the_venues_order(payload, kind):
    """
    Error before message before heartbeat before data; all else is unknown or no JSON object.
    """
    opened = open_envelope(payload)

    assert opened.kind == kind
    assert peek(payload).kind == kind
    assert (opened.channel is not None) == (kind == FrameKind.DATA)


def test_every_sample_is_of_the_kind_its_shape_says():
    """
    Acks, errors, heartbeats and data as captured.
    """
    kinds = {"ack": FrameKind.ACK, "error": FrameKind.ERROR, "heartbeat": FrameKind.HEARTBEAT}
    for shape, payload in captures.sample_frames().items():
        assert open_envelope(payload).kind == kinds.get(shape.replace(":", " ").split()[0], FrameKind.DATA), shape


def test_an_error_keeps_its_text_and_channel_in_any_form():
    """
    One form has no channel, one an object for text; what was said is kept.
    """
    plain = open_envelope(captures.sample_frames()["error: unknown channel"])
    without_channel = open_envelope(captures.sample_frames()["error without channel"])

    assert (plain.name, plain.text) == ("candles", "Error subscribing to channel")
    assert (without_channel.name, without_channel.text) == ("", "Error subscribing to channel: [object Object]")
    assert open_envelope(b'{"error":{"code":5}}').text == '{"code":5}'
    assert open_envelope(b'{"message":null}').text == "a message that acknowledges nothing: null"


def test_data_is_data_whatever_stands_beside_it():
    """
    A member that the venue adds to its data frames must not hide them as errors or acknowledgements.
    """
    for beside in ('"error":null', '"error":"late"', '"message":"hello"'):
        payload = f'{{"channel":"trades_perp_0","data":"{{}}",{beside}}}'.encode()

        opened = open_envelope(payload)

        assert opened.kind == FrameKind.DATA
        assert opened.extra == (beside[1 : beside.index('"', 1)],)


def test_a_book_that_contradicts_its_channel_names_no_market():
    """
    Else one odd frame would relabel the trades of its index.
    """
    for form in (
        (
            '{"channel":"orderbook_perp_0","data":"{\\"bids\\":[],\\"asks\\":[],\\"marketName\\":\\"X\\",\\"marketType\\":\\"%s\\",'
            '\\"marketIndex\\":%d,\\"ts\\":1,\\"slot\\":2}"}'
        ),
        (
            '{"channel":"orderbook_perp_0","data":{"asks":[],"bids":[],"slot":2,"marketIndex":1,"marketType":"perp",'
            '"marketName":"X","marketType":"%s","marketIndex":%d}}'
        ),
    ):
        assert peek((form % ("perp", 0)).encode()).market_name == "X"
        assert peek((form % ("perp", 5)).encode()).market_name is None
        assert peek((form % ("spot", 0)).encode()).market_name is None


def test_numbers_outside_int64_are_no_slots_and_no_ids():
    """
    They go to tables of int64; the frame itself is kept with its digits.
    """
    huge = 2**63
    trade = peek(f'{{"channel":"trades_perp_0","data":{{"ts":{huge},"slot":-{huge},"fillRecordId":{huge}}}}}'.encode())
    book = peek(f'{{"channel":"orderbook_perp_0","data":{{"ts":{huge},"slot":{huge}}}}}'.encode())

    assert (trade.ts, trade.slot, trade.fill_id) == (None, None, None)
    assert (book.ts, book.slot) == (None, None)


def test_data_is_handed_out_as_json_text_whether_string_or_object():
    """
    Two server versions sent an object.
    """
    data = {"bids": [], "asks": [], "name": "ü\n"}

    for sent in (json.dumps(data), data):
        opened = open_envelope(envelope(channel="orderbook_perp_0", data=sent))
        assert json.loads(opened.data) == data


def test_members_around_the_data_are_named():
    """
    An envelope that grows is reported, not refused.
    """
    assert open_envelope(envelope(channel="trades_perp_0", z=1, data="{}", a=2)).extra == ("a", "z")


# --- Peek ---


@pytest.mark.parametrize("name", captures.CAPTURES)
def test_the_fast_peek_says_what_the_slow_one_says(name):
    """
    Shortcuts over the bytes must not change the answer for any captured frame.
    """
    for captured in captures.capture(name):
        assert peek(captured.frame) == protocol._peek_slowly(captured.frame)


@pytest.mark.parametrize("name", captures.CAPTURES)
def test_a_peek_reads_what_plain_json_reads(name):
    """
    Market name, time, slot and fill id of each captured data frame.
    """
    for captured in captures.capture(name):
        seen = peek(captured.frame)
        if seen.kind != FrameKind.DATA:
            continue
        sent = json.loads(json.loads(captured.frame)["data"])
        assert (seen.market_name, seen.ts, seen.slot, seen.fill_id) == (
            sent.get("marketName"),
            sent.get("ts"),
            sent.get("slot"),
            sent.get("fillRecordId"),
        )


def test_captured_books_take_the_fast_peek(monkeypatch):
    """
    The live monitor's budget is a few microseconds a frame.
    """
    monkeypatch.setattr(protocol, "_peek_slowly", None)
    books = [c.frame for name in captures.CAPTURES for c in captures.capture(name) if b'"orderbook_' in c.frame]

    assert all(peek(frame).slot for frame in books)


def test_a_peek_finds_members_in_any_order():
    """
    The newer publisher sorts members by name.
    """
    data = {"asks": [], "bids": [], "marketIndex": 0, "marketName": "SOL-PERP", "slot": 7, "ts": 5}
    seen = peek(envelope(channel="orderbook_perp_0_grouped_1", data=json.dumps(data, separators=(",", ":"))))

    assert (seen.channel, seen.market_name, seen.ts, seen.slot) == (GROUPED, "SOL-PERP", 5, 7)


@pytest.mark.parametrize("data", ["{", "[]", '{"slot":"x"}', '{"ts":1.5}', "null", ""])
def test_a_peek_at_a_payload_it_cannot_read_is_still_data(data):
    """
    Whether it can be decoded is for the full decode to say.
    """
    for channel in ("orderbook_perp_0_grouped_1", "trades_perp_0", "priorityFees_perp_0"):
        seen = peek(envelope(channel=channel, data=data))
        assert (seen.kind, seen.slot, seen.ts) == (FrameKind.DATA, None, None)


@settings(max_examples=200)
@given(data=st.data())
def test_hostile_bytes_never_raise(data):
    """
    Noise, or a good frame with bytes cut, changed or put in.
    """
    good = data.draw(st.sampled_from([c.frame for c in captures.capture(captures.TWO_FEEDS)][:12]))
    at, length = data.draw(st.integers(0, len(good))), data.draw(st.integers(0, 5))
    noise = data.draw(st.binary(max_size=8))

    for payload in (noise, good[:at] + noise + good[at + length :], good[:at], good[at:]):
        assert peek(payload).kind in FrameKind
        assert open_envelope(payload).kind in FrameKind
