"""
Data frames in, exact integers out: all ways of decoding against each other and against an independent decoder.
"""

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import captures
import reference
from recorder.lake import schema
from recorder.records import Flag, Source
from recorder.venue import normalize
from recorder.venue.exact import decode_exactly
from recorder.venue.normalize import Book, Fees, Trade, Undecodable, decode, decode_in_python
from recorder.venue.trades import TRADE_NUMBERS, TRADE_TEXTS
from venue_cases import BOOK, FEES, TRADE, Token, agree, frame, level, levels_of, numbers_of

BEYOND = 2**63 - 1


def book(bids: Any = None, asks: Any = None, *, channel: str = BOOK, **members: Any) -> Any:
    """
    Decode a book of the given levels and members.
    """
    levels = {"bids": [level(99, 5)] if bids is None else bids, "asks": [level(101, 7)] if asks is None else asks}
    return decode(frame(channel, levels | members), size_exponent=9)


def trade(size_exponent: int | None = 9, **members: Any) -> Any:
    """
    Decode a trade of the given members.
    """
    return decode(frame(TRADE, members), size_exponent=size_exponent)


@pytest.mark.parametrize("name", captures.CAPTURES)
def test_every_captured_frame_decodes_as_the_independent_decoder_says(name):
    """
    Real frames, value by value; all ways alike.
    """
    decoded = [agree(captured.frame) for captured in captures.capture(name)]

    assert sum(not isinstance(d, Undecodable) for d in decoded) > 80


@pytest.mark.parametrize("size_exponent", [5, 6, 8, None])
def test_captured_trades_are_scaled_by_the_tokens_decimals(size_exponent):
    """
    Whatever the decimals: spot tokens have 5 to 9, an unknown one is taken for 9.
    """
    trades = [c.frame for c in captures.capture(captures.MAY_2026) if b'"trades_' in c.frame]

    assert len(trades) > 500
    assert all(isinstance(agree(payload, size_exponent), Trade) for payload in trades)


@pytest.mark.parametrize("shape", captures.sample_frames())
def test_every_sample_decodes_as_the_independent_decoder_says(shape):
    """
    One frame of every shape the venue is known to send.
    """
    agree(captures.sample_frames()[shape])


@pytest.mark.parametrize("name", captures.CAPTURES)
def test_captured_books_all_take_the_typed_way(name, monkeypatch):
    """
    Where the native way is not there: the exact way costs four times as much, and is for the exceptions.
    """
    books = [c.frame for c in captures.capture(name) if b'"orderbook_' in c.frame]
    monkeypatch.setattr(normalize, "read_payload", None)
    monkeypatch.setattr(normalize, "decode_exactly", None)

    assert len(books) > 50
    assert all(isinstance(decode_in_python(payload, size_exponent=9), Book) for payload in books)


def test_captured_trades_all_take_the_typed_way(monkeypatch):
    """
    All but those with an exponent, which JavaScript writes below a millionth.
    """
    trades = [c.frame for name in captures.CAPTURES for c in captures.capture(name) if b'"trades_' in c.frame]
    usual = [payload for payload in trades if not re.search(rb"\d[eE]-\d", payload)]
    monkeypatch.setattr(normalize, "read_payload", None)
    monkeypatch.setattr(normalize, "decode_exactly", None)

    assert len(usual) > 500
    assert len(usual) > 0.9 * len(trades)
    assert all(isinstance(decode(payload, size_exponent=9), Trade) for payload in usual)


def test_struct_fields_stand_in_the_order_of_the_columns():
    """
    The column buffers rely on it.
    """
    origin = reference.ORIGIN | {"market_type", "market_index"}
    for struct, table in ((Trade, schema.TRADES), (Fees, schema.PRIORITY_FEES)):
        columns = [c.name for c in table.columns if c.name not in origin]
        assert ["channel", *columns, "drift"] == list(struct.__struct_fields__)


# --- Whatever comes ---

INTEGERS = st.integers(-(2**70), 2**70) | st.integers(-5, 2**54) | st.integers(2**53 - 3, 2**53 + 3)
NUMBERS = (
    INTEGERS.map(str)
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**22), max_value=10**22, places=3).map(str)
    | st.builds("{}e{}".format, st.integers(-(10**20), 10**20), st.integers(-40, 40))
    | st.sampled_from(["12.0", "1.5e+21", "9007199254740993.0", "1e400", "-0", "0.5", "1.5", "2.5", "1E-400", "0e5"])
)
VALUES = (
    NUMBERS.map(Token)
    | NUMBERS.map(lambda text: Token(f'"{text}"'))
    | st.none()
    | st.sampled_from(["", " 1", "007", "+1", "1_0", "NaN", "null", "abc", "\u0661", "\N{SUPERSCRIPT TWO}"])
    | st.booleans()
)
PLAIN = st.integers(1, 10**12)
NAMES = ("dlob", "vamm", "indicative", "phoenix", "clob", "propamm", "hidden", "böse")


def levels(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """
    A few levels with such values.
    """
    sources = st.dictionaries(st.sampled_from(NAMES), values, max_size=3)
    one = st.fixed_dictionaries({"price": values, "size": values, "sources": sources}, optional={"extra": values})
    usual = st.builds(level, PLAIN, PLAIN)
    return st.lists(usual | one, max_size=5)


BOOK_SCALARS = dict.fromkeys(
    (
        *("marketIndex", "ts", "slot", "markPrice", "bestBidPrice", "bestAskPrice", "spreadPct", "spreadQuote"),
        *("oracle", "marketSlot", "newMember"),
    ),
    VALUES | PLAIN,
)
ORACLES = st.none() | st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("price", "slot", "confidence", "twap", "twapConfidence", "maxPrice", "new"), VALUES | PLAIN)
    | {"hasSufficientNumberOfDataPoints": st.booleans() | st.none()},
)


def books(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """
    Books with such values in their levels, and anything in their other members.
    """
    return st.fixed_dictionaries(
        {"asks": levels(values), "bids": levels(values)},
        optional=BOOK_SCALARS
        | {
            "oracleData": ORACLES,
            "mmOracleData": ORACLES,
            "marketType": st.sampled_from(["perp", "spot", None, 5]),
            "marketName": st.sampled_from(["SOL-PERP", "DOGE-1E-5", "Ünïcode", None, 5, "null"]),
        },
    )


@settings(max_examples=300)
@given(data=books(VALUES) | books(PLAIN) | books(NUMBERS.map(Token)))
def test_odd_books_decode_alike_on_all_ways_and_by_the_reference(data):
    """
    Strings, exponents, fractions, big integers, nulls, other sources, new members: one meaning, and no digit lost.
    """
    agree(frame(BOOK, data))


TRADE_MEMBERS = (
    *("ts", "marketIndex", "takerFee", "makerFee", "quoteAssetAmountSurplus", "baseAssetAmountFilled"),
    *("quoteAssetAmountFilled", "takerOrderId", "takerOrderBaseAssetAmount", "makerOrderId", "oraclePrice", "slot"),
    *("fillRecordId", "referrerReward", "bitFlags", "newMember", "taker", "txSig"),
)


@settings(max_examples=150)
@given(
    data=st.fixed_dictionaries({}, optional=dict.fromkeys(TRADE_MEMBERS, VALUES | PLAIN)),
    size_exponent=st.sampled_from([None, 0, 5, 6, 8, 9]),
)
def test_odd_trades_decode_as_the_reference_says(data, size_exponent):
    """
    Decimals of any form are scaled from their digits.
    """
    agree(frame(TRADE, data), size_exponent)


AMOUNTS = ("baseAssetAmountFilled", "quoteAssetAmountFilled")
DECIMALS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "-"]),
    st.integers(0, 9) | st.integers(0, 10**16),
    st.just("") | st.integers(0, 10**22).map(".{}".format) | st.sampled_from([".5", ".05", ".0000005", ".000000005"]),
)


@settings(max_examples=300)
@given(
    amounts=st.fixed_dictionaries(
        dict.fromkeys(AMOUNTS, DECIMALS.map(Token)),
        optional={name: DECIMALS.map(Token) | PLAIN | st.none() for name in TRADE_NUMBERS if name not in AMOUNTS}
        | dict.fromkeys(TRADE_TEXTS, st.none() | st.text(max_size=4)),
    ),
    size_exponent=st.sampled_from([None, 0, 5, 6, 8, 9]),
)
def test_decimals_of_usual_trades_decode_alike_on_both_ways(amounts, size_exponent):
    """
    Any digits before and after the point: scaled, rounded half to even, or too many for the typed way.
    """
    agree(frame(TRADE, amounts), size_exponent)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(
    channel=st.sampled_from([BOOK, TRADE, FEES, "orderbook_spot_1_indicative", "candles"]),
    data=ANYTHING | st.fixed_dictionaries({"bids": ANYTHING, "asks": ANYTHING, "min": ANYTHING, "ts": ANYTHING}),
    as_text=st.booleans(),
)
def test_no_json_raises(channel, data, as_text):
    """
    Whatever the payload, the answer is a value, and whatever `extra` keeps is JSON in ASCII or UTF-8.
    """
    payload = json.dumps({"channel": channel, "data": json.dumps(data) if as_text else data}).encode()

    for decoded in (decode(payload, size_exponent=9), decode_exactly(payload, size_exponent=9)):
        if not isinstance(decoded, Undecodable):
            json.loads((decoded.extra or "{}").encode())


@settings(max_examples=150)
@given(data=st.data())
def test_no_bytes_raise(data):
    """
    A frame may be noise, or a good one with bytes cut, changed or put in.
    """
    good = data.draw(st.sampled_from([c.frame for c in captures.capture(captures.TWO_FEEDS)][:12]))
    at, length = data.draw(st.integers(0, len(good))), data.draw(st.integers(0, 5))
    payload = good[:at] + data.draw(st.binary(max_size=5)) + good[at + length :]

    for noise in (payload, good[:at], payload[at:]):
        decode(noise, size_exponent=9)
        decode_exactly(noise, size_exponent=9)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe{}", id="no UTF-8"),
        pytest.param(b"[1]", id="no object"),
        pytest.param(b'{"channel":"heartbeat"}', id="heartbeat"),
        pytest.param(b'{"channel":5,"data":"{}"}', id="channel is a number"),
        pytest.param(b'{"channel":"orderbook_perp_0","data":"{\xff}"}', id="data is no UTF-8"),
        pytest.param(b'{"channel":"orderbook_perp_0","data":"\\ud800"}', id="half a surrogate pair"),
        pytest.param(frame(BOOK, [1]), id="data is an array"),
        pytest.param(frame(BOOK, {"bids": []}), id="a book without asks"),
        pytest.param(frame(BOOK, {"bids": [], "asks": None}), id="asks are null"),
        pytest.param(frame(BOOK, {"bids": [], "asks": [5]}), id="a level is a number"),
        pytest.param(frame(BOOK, {"bids": [], "asks": [level("x", 5)]}), id="a price in letters"),
        pytest.param(frame(BOOK, {"bids": [], "asks": [level(True, 5)]}), id="a price is true"),
        pytest.param(frame(BOOK, {"bids": [], "asks": [], "ts": Token("NaN")}), id="NaN"),
        pytest.param(frame(BOOK, {"bids": [], "asks": [], "ts": Token("-Infinity")}), id="infinity"),
        pytest.param(frame(BOOK, {"bids": [], "asks": [], "x": Token("1e99999999999999999999")}), id="no exponent"),
        pytest.param(frame(BOOK, {"bids": [], "asks": [], "x": Token("[" * 5000 + "]" * 5000)}), id="too deep"),
        pytest.param(frame(BOOK, {"bids": [], "asks": [], "x": Token("9" * 5000)}), id="an endless integer"),
        pytest.param(frame(TRADE, {}), id="an empty trade"),
        pytest.param(frame(TRADE, {"price": 1}), id="a trade of no known member"),
        pytest.param(frame(FEES, {"marketIndex": 0}), id="fees of no known member"),
        pytest.param(frame("candles_perp_0", {}), id="unknown channel"),
    ],
)
def test_what_cannot_be_read_is_a_value_with_a_reason(payload):
    """
    Nothing raises, and the reason says in words what was wrong.
    """
    decoded = decode(payload, size_exponent=9)

    assert isinstance(decoded, Undecodable)
    assert len(decoded.reason.split()) > 1


# --- Books: forms of numbers ---


def test_levels_may_be_numbers_or_strings():
    """
    Grouped books send numbers, ungrouped ones strings of the same integers.
    """
    assert book([level(99, 5)], []) == book([level("99", "5")], [])


def test_member_order_does_not_matter():
    """
    The newer publisher sorts members by name: `asks` come first.
    """
    one = decode(frame(BOOK, {"asks": [], "bids": [level(9, 1)], "slot": 5}), size_exponent=9)
    other = decode(frame(BOOK, {"slot": 5, "bids": [level(9, 1)], "asks": []}), size_exponent=9)

    assert one == other


@pytest.mark.parametrize("mark", [142, "142", Token("142.0"), Token("1.42e2")])
def test_mark_price_may_have_any_form(mark):
    """
    A string, but a number when a side is empty.
    """
    assert numbers_of(book(markPrice=mark))["mark_price"] == 142


def test_absent_and_null_members_are_none():
    """
    The newer publisher sends null where the older one leaves members out; neither is zero.
    """
    names = (
        "markPrice",
        "bestBidPrice",
        "spreadPct",
        "oracle",
        "oracleData",
        "mmOracleData",
        "ts",
        "slot",
        "marketName",
    )
    nulls = book(**dict.fromkeys(names))

    assert nulls == book()
    assert set(numbers_of(nulls).values()) == {None}
    assert (nulls.market_name, nulls.ts, nulls.drift) == (None, None, ())
    assert numbers_of(book(spreadPct=0))["spread_pct"] == 0


def test_null_inside_an_oracle_is_none():
    """
    An oracle may lack a price and have a slot.
    """
    decoded = book(oracleData={"price": None, "slot": "5", "hasSufficientNumberOfDataPoints": False})

    told = {name: value for name, value in numbers_of(decoded).items() if value is not None}
    assert told == {"oracle_data_slot": 5, "oracle_data_sufficient": 0}


@pytest.mark.parametrize(
    "token", ["9007199254740993", "9007199254740993.0", "9.007199254740993e15", "900719925474099300e-2"]
)
def test_big_numbers_keep_every_digit_sent(token):
    """
    2^53 + 1 is the first integer a double cannot hold. The venue's own digits are doubtful there, so it is flagged.
    """
    decoded = book([level(99, Token(token))], [])

    assert list(decoded.bid.size) == [2**53 + 1]
    assert decoded.flags == Flag.INEXACT | Flag.ONE_SIDED


def test_big_strings_are_exact():
    """
    What was sent as text has not been through a double.
    """
    decoded = book([level("99", "9007199254740993")], [])

    assert list(decoded.bid.size) == [2**53 + 1]
    assert decoded.flags == Flag.ONE_SIDED


@pytest.mark.parametrize("token", ["1.0000000000000000001", "10000000000000000000001e-22"])
def test_fractions_that_a_double_hides_are_seen(token):
    """
    A double would read both as 1 and say nothing.
    """
    decoded = book([level(Token(token), 5)], [])

    assert list(decoded.bid.price) == [1]
    assert decoded.flags & Flag.ROUNDED


def test_exponents_from_javascript_are_read():
    """
    From 1e21 on JavaScript prints an exponent; int64 ends before that.
    """
    decoded = book([level(99, Token("1.5e+21"))], [level(101, Token("1e3"))])

    assert (list(decoded.bid.size), list(decoded.ask.size)) == ([BEYOND], [1000])
    assert decoded.flags == Flag.INEXACT | Flag.SATURATED


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (2**63 - 1, BEYOND),
        (2**63, BEYOND),
        (-(2**63) + 1, -BEYOND),
        (-(2**63), -BEYOND),
        (Token('"1e999999"'), BEYOND),
        (Token('"-1e999999"'), -BEYOND),
    ],
)
def test_values_outside_int64_are_clamped_and_flagged(sent, stored):
    """
    Sizes of the newer publisher may exceed int64; the smallest int64 stands for null in the buffers.
    """
    decoded = book([level(1, sent)], [])

    assert list(decoded.bid.size) == [stored]
    assert bool(decoded.flags & Flag.SATURATED) == (sent not in {2**63 - 1, -(2**63) + 1})


def test_null_in_a_level_is_kept_as_null():
    """
    A tick of zero in the market account gives null prices: the level is there, its price is not.
    """
    decoded = book([level(None, 5), level(99, 6)], [level(101, None, vamm=7)])

    bid, ask = levels_of(decoded.bid), levels_of(decoded.ask)
    assert (bid["price"], bid["size"]) == ([99, None], [6, 5])
    assert (ask["size"], ask["part"]) == ([None], [7])
    assert decoded.flags == Flag.SATURATED | Flag.UNSORTED


def test_half_is_rounded_to_even():
    """
    Book values are integers; should a fraction come, it is rounded, and flagged.
    """
    decoded = book([level(Token("2.5"), Token("3.5"))], [])

    assert (list(decoded.bid.price), list(decoded.bid.size)) == ([2], [4])
    assert decoded.flags & Flag.ROUNDED


# --- Books: sources ---


@pytest.mark.parametrize("name", ["dlob", "vamm", "indicative", "phoenix", "openbook", "serum", "clob", "propamm"])
def test_each_known_source_has_its_bit(name):
    """
    All names the venue has ever used, in any book.
    """
    decoded = book([level(99, 5, **{name: 5})], [])

    assert list(decoded.bid.source) == [Source[name.upper()]]
    assert (list(decoded.bid.part), decoded.drift) == ([], ())


def test_parts_are_kept_where_they_say_more_than_the_size():
    """
    Several sources, in bit order whatever order they came in; or one whose part is not the size.
    """
    decoded = book(
        [level(99, 5), level(98, 7, vamm=4, dlob=3), level(97, 6, vamm=5), level(96, 3, indicative=1, dlob=2)]
    )

    assert list(decoded.bid.source) == [1, 3, 2, 5]
    assert list(decoded.bid.part) == [3, 4, 5, 2, 1]


@pytest.mark.parametrize("sources", [{}, None])
def test_a_level_may_name_no_source(sources):
    """
    Its size still counts.
    """
    decoded = book([{"price": 99, "size": 5, "sources": sources}], [{"price": 101, "size": 5}])

    assert [list(c) for c in (decoded.bid.size, decoded.bid.source, decoded.bid.part)] == [[5], [0], []]
    assert list(decoded.ask.source) == [0]


@pytest.mark.parametrize(
    ("one", "source", "part"),
    [
        (level(99, 5, dlob=5, vamm=0), 3, [5, 0]),
        (level(99, 5, dlob=0, vamm=5), 3, [0, 5]),
        (level(99, 0, dlob=0), 1, []),
        (level(99, 0, vamm=0), 2, []),
    ],
)
def test_a_source_sent_as_zero_is_a_source(one, source, part):
    """
    Zero is not absent: the bit is set, the part is kept.
    """
    decoded = book([one])

    assert (list(decoded.bid.source), list(decoded.bid.part)) == ([source], part)


def test_unknown_sources_are_summed_and_named():
    """
    A new source must not lose size, nor its name.
    """
    decoded = book([level(99, 9, new=4, newer=3, dlob=2)], [])

    assert list(decoded.bid.source) == [Source.OTHER | Source.DLOB]
    assert list(decoded.bid.part) == [2, 7]
    assert decoded.flags == Flag.OTHER_SOURCE | Flag.ONE_SIDED
    assert json.loads(decoded.extra) == {"bids[0].sources.new": 4, "bids[0].sources.newer": 3}
    assert decoded.drift == ("sources.new", "sources.newer")


# --- Books: what is not known ---


def test_unknown_members_are_kept_verbatim_and_named():
    """
    At every depth, numbers with all their digits.
    """
    decoded = book(
        [level(99, 5) | {"orders": 3}],
        [],
        mystery={"a": [Token("1.50"), 2**80, None, "ü"]},
        oracleData={"price": "1", "delay": 5},
    )

    assert reference.load_extra(decoded.extra) == {
        "bids[0].orders": 3,
        "oracleData.delay": 5,
        "mystery": {"a": [Decimal("1.50"), 2**80, None, "ü"]},
    }
    assert "1.50" in decoded.extra
    assert decoded.drift == ("level.orders", "mystery", "oracleData.delay")
    assert numbers_of(decoded)["oracle_data_price"] == 1


def test_known_members_of_another_kind_are_kept_beside_a_null():
    """
    A slot that is text is no slot, and is not thrown away either.
    """
    decoded = book(slot="soon", ts=True, marketName=5, oracleData=[], spreadPct={})

    assert set(numbers_of(decoded).values()) == {None}
    assert decoded.market_name is None
    assert json.loads(decoded.extra) == {"slot": "soon", "ts": True, "marketName": 5, "oracleData": [], "spreadPct": {}}


def test_an_identity_that_is_not_the_channels_is_kept():
    """
    The channel says where the frame belongs; a payload that says otherwise is reported.
    """
    decoded = book(marketType="spot", marketIndex=7)

    assert (decoded.channel.market_type, decoded.channel.market_index) == ("perp", 0)
    assert json.loads(decoded.extra) == {"marketType": "spot", "marketIndex": 7}
    assert decoded.drift == ("marketIndex", "marketType")


def test_members_around_the_data_are_kept():
    """
    The envelope may grow, too.
    """
    decoded = decode(frame(BOOK, {"bids": [], "asks": []}, node=Token("1.10")), size_exponent=9)

    assert decoded.extra == '{"envelope.node":1.10}'
    assert decoded.drift == ("envelope.node",)


def test_data_may_be_an_object():
    """
    Two short-lived server versions sent the initial book so.
    """
    data = {"bids": [level(99, 5)], "asks": [level(101, 7)], "slot": 1}
    payload = json.dumps({"channel": BOOK, "data": data}).encode()

    assert decode(payload, size_exponent=9) == decode(frame(BOOK, data), size_exponent=9)


# --- Books: flags ---


@pytest.mark.parametrize(
    ("bids", "asks", "flags"),
    [
        ([level(99, 1)], [level(101, 1)], Flag(0)),
        ([level(101, 1)], [level(99, 1)], Flag.CROSSED),
        ([level(100, 1)], [level(100, 1)], Flag.LOCKED),
        ([], [level(101, 1)], Flag.ONE_SIDED),
        ([level(99, 1)], [], Flag.ONE_SIDED),
        ([], [], Flag.ONE_SIDED),
    ],
)
def test_best_prices_decide_crossed_locked_and_one_sided(bids, asks, flags):
    """
    Such books happen and are kept.
    """
    assert book(bids, asks).flags == flags


def test_levels_out_of_order_are_sorted_and_flagged():
    """
    Nothing at the venue enforces the order. Parts and unknown members move with their level.
    """
    decoded = book([level(98, 1), level(99, 5, dlob=2, vamm=3) | {"new": 1}], [level(102, 3), level(101, 4)])

    assert levels_of(decoded.bid) == {"price": [99, 98], "size": [5, 1], "source": [3, 1], "part": [2, 3]}
    assert (list(decoded.ask.price), list(decoded.ask.size)) == ([101, 102], [4, 3])
    assert decoded.flags == Flag.UNSORTED
    assert json.loads(decoded.extra) == {"bids[0].new": 1}


def test_equal_prices_keep_their_order_and_are_not_unsorted():
    """
    Two levels at one price are in order.
    """
    decoded = book([level(99, 1), level(99, 2)], [])

    assert list(decoded.bid.size) == [1, 2]
    assert decoded.flags == Flag.ONE_SIDED


def test_a_stored_copy_is_a_maybe_initial_book():
    """
    Old servers marked the book sent after the subscribe by the prefix of its name.
    """
    assert book(channel="last_update_orderbook_perp_0").flags == Flag.MAYBE_INITIAL
    assert book(channel="orderbook_perp_0").flags == Flag(0)


@pytest.mark.parametrize(
    ("spread_pct", "flagged"),
    [("20000000", False), ("200000", True), ("19800000", False), ("199000", True), ("0", False), ("2000", False)],
)
def test_a_spread_100_times_too_small_is_a_fraction(spread_pct, flagged):
    """
    The older publisher sends percent ×10^6, the newer one a fraction ×10^6. Only a factor of about 100 tells that.
    """
    decoded = book([level(90_000_000, 1)], [level(110_000_000, 1)], spreadPct=spread_pct)

    assert bool(decoded.flags & Flag.SPREAD_UNIT) == flagged
    assert numbers_of(decoded)["spread_pct"] == int(spread_pct)


def test_a_spread_too_small_to_tell_is_not_judged():
    """
    1 in 10^7 is a percentage of 10 units, or a fraction of 0.1.
    """
    assert book([level(10**10, 1)], [level(10**10 + 500, 1)], spreadPct=1).flags == Flag(0)


def test_the_spread_is_judged_by_the_venues_own_best_prices():
    """
    Levels are rounded to the grouping: at 1000 ticks they may be 100 times wider apart than the market.
    """
    decoded = book(
        [level(90_000_000, 1)],
        [level(110_000_000, 1)],
        spreadPct=200_000,
        bestBidPrice=99_900_000,
        bestAskPrice=100_100_000,
    )

    assert decoded.flags == Flag(0)


def test_ten_thousand_levels_are_kept():
    """
    There is no limit on depth in the protocol.
    """
    decoded = book([level(20_000 - n, n + 1) for n in range(10_000)], [])

    assert len(decoded.bid.price) == len(decoded.bid.source) == 10_000


# --- Trades ---


@pytest.mark.parametrize(
    ("sent", "stored", "rounded"),
    [
        (Token("9.86"), 9_860_000_000, False),
        (Token("1e-9"), 1, False),
        (Token("5e-7"), 500, False),
        (Token("3.7199999999999998"), 3_720_000_000, True),
        (Token("0.0000000005"), 0, True),
        (Token("0.0000000015"), 2, True),
        (Token("1e-400"), 0, True),
        (Token('"7.5"'), 7_500_000_000, False),
        (5758, 5_758_000_000_000, False),
        (0, 0, False),
        (Token("-0.0"), 0, False),
        (None, None, False),
    ],
)
def test_trade_amounts_are_rescaled_from_their_digits(sent, stored, rounded):
    """
    No float on the way: 9.86 has no exact double. More digits than the scale holds are rounded, half to even.
    """
    decoded = trade(baseAssetAmountFilled=sent, slot=1)

    assert decoded.base_amount == stored
    assert bool(decoded.flags & Flag.ROUNDED) == rounded


def test_the_size_exponent_scales_base_amounts_only():
    """
    Quote amounts, fees and prices are ×10^6 in every market.
    """
    decoded = trade(
        5,
        baseAssetAmountFilled=Token("1.5"),
        quoteAssetAmountFilled=Token("3.25"),
        oraclePrice=2,
        takerFee=Token("0.000001"),
        makerFee=Token("-0.5"),
        makerOrderBaseAssetAmount=2,
    )

    assert (decoded.base_amount, decoded.quote_amount, decoded.oracle_price) == (150_000, 3_250_000, 2_000_000)
    assert (decoded.taker_fee, decoded.maker_fee, decoded.maker_order_base_amount) == (1, -500_000, 200_000)
    assert decoded.price == 3.25 / 1.5
    assert decoded.flags == Flag(0)


def test_an_unknown_token_is_scaled_by_nine_and_flagged():
    """
    Amounts are decimals already, so any scale that is large enough is right, if it is said.
    """
    decoded = trade(None, baseAssetAmountFilled=2)

    assert decoded.base_amount == 2_000_000_000
    assert decoded.flags == Flag.ASSUMED_SCALE


@pytest.mark.parametrize("base", [0, None, Token("1e-12"), Token("1e30")])
def test_no_price_without_a_base_amount(base):
    """
    Nothing is divided by zero, by nothing, or by a clamped number.
    """
    assert trade(baseAssetAmountFilled=base, quoteAssetAmountFilled=5).price is None


@pytest.mark.parametrize(
    ("members", "aggressor"),
    [
        ({"takerOrderDirection": "long", "makerOrderDirection": "short"}, "buy"),
        ({"takerOrderDirection": "short"}, "sell"),
        ({"makerOrderDirection": "long"}, "sell"),
        ({"takerOrderDirection": None, "makerOrderDirection": "short"}, "buy"),
        ({"takerOrderDirection": "sideways", "makerOrderDirection": "short"}, None),
        ({}, None),
    ],
)
def test_the_taker_is_the_aggressor_else_whoever_faced_the_maker(members, aggressor):
    """
    A pool that takes a resting order is not named: the maker's direction tells.
    """
    assert trade(slot=1, **members).aggressor == aggressor


def test_a_position_transfer_is_no_market_trade():
    """
    A user's move between own accounts, at the oracle's price: readers leave it out of the volume.
    """
    assert not trade(actionExplanation="transferPerpPosition").is_market_trade
    assert trade(actionExplanation="liquidation").is_market_trade
    assert trade(slot=1).is_market_trade


def test_order_ids_tell_null_from_zero():
    """
    Null: no such order. Zero could be one.
    """
    decoded = trade(takerOrderId=None, makerOrderId=0)

    assert (decoded.taker_order_id, decoded.maker_order_id) == (None, 0)


def test_trade_time_is_stored_in_ms():
    """
    Sent in whole seconds of block time, unlike the ms of books.
    """
    assert trade(ts=1_795_367_105).ts == 1_795_367_105_000


def test_trade_numbers_of_2_53_and_more_are_flagged_if_sent_as_numbers():
    """
    The same rule as for books, on the number as sent.
    """
    assert trade(slot=2**53).flags == Flag.INEXACT
    assert trade(slot=str(2**53)).flags == Flag(0)
    assert trade(slot=2**53 - 1).flags == Flag(0)


def test_unknown_members_of_a_trade_are_kept():
    """
    New ones have come four times since 2024.
    """
    decoded = trade(slot=1, isolated=True, taker=5)

    assert json.loads(decoded.extra) == {"isolated": True, "taker": 5}
    assert decoded.drift == ("isolated", "taker")


# --- Priority fees ---


def test_priority_fees_are_scaled_by_a_million():
    """
    Micro-lamports may have fractions.
    """
    decoded = decode(
        frame(FEES, {"min": 0, "medium": Token("1.25"), "unsafeMax": 250_000_000, "new": 1}), size_exponent=9
    )

    assert (decoded.min, decoded.low, decoded.medium, decoded.unsafe_max) == (0, None, 1_250_000, 250_000_000_000_000)
    assert decoded.drift == ("new",)


@pytest.mark.parametrize(
    "token", ["92233720368547758075e-1", "100000000000000000000.001", "100000000000000000000.000", "1e999999"]
)
def test_a_fraction_beyond_int64_is_rounded_and_clamped_alike(token):
    """
    Found by random searches: both flags, by both decoders.
    """
    agree(frame(BOOK, {"bids": [level(5, Token(token))], "asks": [], "marketIndex": Token(token)}))
