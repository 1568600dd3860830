"""
The native way through book frames: it takes a frame and says what the others say, or leaves it alone. Whatever comes.
"""

import json
import os
import random
import shutil
import subprocess
import sysconfig
from array import array
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import captures
from recorder.records import SECOND_NS
from recorder.simulator.core import Venue
from recorder.simulator.markets import DEFAULT_MARKETS
from recorder.simulator.messages import Opened, Send, Text
from recorder.venue import normalize
from recorder.venue.exact import decode_exactly
from recorder.venue.normalize import Book, decode, decode_in_python
from recorder.venue.payloads import BOOK_NUMBERS, NULL, SOURCE_BITS
from venue_cases import BOOK, TRADE, Token, agree, frame, level

try:
    from recorder.venue._scan import scan
except ImportError:
    scan = None

SOURCE = Path(normalize.__file__).with_name("_scan.c")
MUST_BE_BUILT = bool(os.environ.get("CI"))
"""The gate installs with a compiler at hand: there, its absence is a failure, and no reason to skip."""

pytestmark = pytest.mark.skipif(scan is None and not MUST_BE_BUILT, reason="the native way is not built")


def test_the_native_way_is_built_and_used():
    """
    Everything works without it, only slower: nothing else would tell that it got lost.
    """
    assert normalize.is_native(), "recorder/venue/_scan.c was not built: see the output of `pip install -v -e .`"
    assert scan(WHOLE) is not None


def test_it_compiles_without_a_warning():
    """
    Among them those of numbers that lose bits or signs in a conversion.
    """
    compiler = shutil.which("cc")
    if compiler is None and not MUST_BE_BUILT:
        pytest.skip("no compiler")
    strict = ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror"]
    include = ["-isystem", sysconfig.get_path("include")]

    done = subprocess.run(
        [str(compiler), *strict, "-O2", "-fsyntax-only", *include, str(SOURCE)], capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")


# --- Frames as the servers write them ---

ORACLE = {"price": "100", "slot": "7", "confidence": "3", "hasSufficientNumberOfDataPoints": True}
MEMBERS = {
    "bids": [level(99, 5), level(98, 7, dlob=3, vamm=4), level(98, 2, vamm=2)],
    "asks": [level(101, 7, vamm=7), level("102", "9", vamm="4", dlob="5")],
    "marketName": "SOL-PERP",
    "marketType": "perp",
    "marketIndex": 0,
    "ts": 1_795_367_105_855,
    "slot": 352_100_014,
    "markPrice": "100",
    "bestBidPrice": "99",
    "bestAskPrice": "101",
    "spreadPct": "2000000",
    "spreadQuote": "2",
    "oracle": 100,
    "oracleData": ORACLE | {"twap": "99", "twapConfidence": "2", "maxPrice": "1000"},
    "mmOracleData": ORACLE | {"hasSufficientNumberOfDataPoints": False},
    "marketSlot": 352_100_013,
}
WHOLE = frame(BOOK, MEMBERS)
"""Every member there is."""


def is_taken(payload: bytes) -> bool:
    """
    Whether the native way takes a frame; if it does, it must say what all others say.
    """
    found = normalize._decode_natively(payload)
    if found is None:
        return False
    assert found == decode_in_python(payload, size_exponent=9) == decode_exactly(payload, size_exponent=9)
    return True


def is_usual(payload: bytes) -> bool:
    """
    Whether a captured or simulated frame is a book that the native way should take: with nothing null.
    """
    others = (b":null", b"e+")
    return b'"channel":"orderbook_' in payload and b'"data"' in payload and not any(o in payload for o in others)


def simulated(**how) -> list[bytes]:
    """
    What one client hears in some seconds from a simulated server.
    """
    start = 1_795_367_000 * SECOND_NS
    venue = Venue(DEFAULT_MARKETS, start=start, **how)
    asked = [
        json.dumps({"type": "subscribe", "marketType": "perp", "channel": channel, "market": market.symbol} | grouping)
        for market in DEFAULT_MARKETS
        for channel in ("orderbook", "orderbook_indicative", "trades")
        for grouping in ({}, {"grouping": 10})
    ]
    outputs = venue.step(start, [Opened(1), *(Text(1, text) for text in asked)])
    while (now := venue.next_due()) <= start + 8 * SECOND_NS:
        outputs += venue.step(now)
    return [output.frame.text.encode() for output in outputs if isinstance(output, Send)]


@pytest.mark.parametrize("name", captures.CAPTURES)
def test_captured_books_are_taken(name):
    """
    Grouped and ungrouped, firm and indicative, numbers and strings.
    """
    frames = [captured.frame for captured in captures.capture(name)]
    taken = [is_taken(payload) for payload in frames]

    assert taken == [is_usual(payload) for payload in frames]
    assert sum(taken) > 50


@pytest.mark.parametrize(
    "how",
    [
        {"server": "2026-05"},
        {"server": "2025-09"},
        {"server": "velocity"},
        {"server": "velocity", "publisher": "rust"},
        {"server": "2026-05", "two_feeds": True},
    ],
)
def test_simulated_books_are_taken_or_left_alone(how):
    """
    All servers; what they send is held against the independent decoder, whichever way it goes.
    """
    frames = simulated(**how)
    taken = [is_taken(payload) for payload in frames]
    for payload in frames[:: len(frames) // 150]:
        agree(payload)

    assert taken == [is_usual(payload) for payload in frames]
    assert sum(taken) > 100


@pytest.mark.parametrize("shape", captures.sample_frames())
def test_a_sample_is_taken_only_if_it_is_a_usual_book(shape):
    """
    Acknowledgements, errors, trades, fees and envelopes of other servers are left alone.
    """
    payload = captures.sample_frames()[shape]

    assert is_taken(payload) <= (b'"channel":"orderbook_' in payload and b'"data":"' in payload)


def test_every_number_lands_in_its_place():
    """
    The order of the native way is written down in C once more.
    """
    name, market_name, market_type, market_index, numbers, bids, asks = scan(WHOLE)
    told = dict(zip(BOOK_NUMBERS, array("q", numbers), strict=True))

    assert (name, market_name, market_type, market_index) == (BOOK, "SOL-PERP", "perp", 0)
    assert list(told.values())[:9] == [1795367105855, 352100014, 352100013, 100, 99, 101, 2000000, 2, 100]
    assert list(told.values())[9:16] == [100, 7, 3, 1, 99, 2, 1000]
    assert list(told.values())[16:] == [100, 7, 3, 0, NULL, NULL, NULL]
    assert [list(array(code, column)) for code, column in zip("qqHq", bids, strict=True)] == [
        [99, 98, 98],
        [5, 7, 2],
        [1, 3, 2],
        [3, 4],
    ]
    assert [list(array(code, column)) for code, column in zip("qqHq", asks, strict=True)] == [
        [101, 102],
        [7, 9],
        [2, 3],
        [5, 4],
    ]


def test_decode_goes_the_native_way(monkeypatch):
    """
    For a usual book no other way is tried.
    """
    monkeypatch.setattr(normalize, "decode_in_python", None)

    assert isinstance(decode(WHOLE, size_exponent=9), Book)


def test_only_bytes_are_scanned():
    """
    Text would have to be encoded first.
    """
    with pytest.raises(TypeError):
        scan(WHOLE.decode())


# --- What is taken, and what is not ---


def changed(old: str, new: str) -> bytes:
    """
    The whole book with one place written otherwise; both as they stand in the inner JSON.
    """
    old, new = (text.replace('"', '\\"').encode() for text in (old, new))
    assert old in WHOLE
    return WHOLE.replace(old, new, 1)


TAKEN = {
    "no member but the sides": frame(BOOK, {"asks": [], "bids": []}),
    "one side empty": frame(BOOK, {"bids": [level(99, 5)], "asks": []}),
    "sorted by name": frame(BOOK, dict(sorted(MEMBERS.items()))),
    "ungrouped": frame("orderbook_perp_0", MEMBERS),
    "grouped by 100": frame("orderbook_perp_0_grouped_100", MEMBERS),
    "a stored copy": frame("last_update_orderbook_perp_0", MEMBERS),
    "an old bus": frame("dlob:orderbook_perp_0", MEMBERS),
    "spot": frame("orderbook_spot_0", MEMBERS | {"marketType": "spot"}),
    "a name without letters": changed('"SOL-PERP"', '""'),
    "a name that is null in quotes": changed('"SOL-PERP"', '"null"'),
    "a zero": changed('"slot":352100014', '"slot":0'),
    "a negative number": changed('"spreadQuote":"2"', '"spreadQuote":"-2"'),
    "a negative price": frame(BOOK, {"bids": [level(-5, 5), level(-6, 1)], "asks": [level(-4, 1)]}),
    "the largest number": changed('"slot":352100014', f'"slot":{2**53 - 1}'),
    "the smallest number": changed('"slot":352100014', f'"slot":"-{2**53 - 1}"'),
    "crossed": frame(BOOK, {"bids": [level(102, 5)], "asks": [level(101, 5)]}),
    "locked": frame(BOOK, {"bids": [level(101, 5)], "asks": [level(101, 5)]}),
    "a spread 100 times too small": changed('"spreadPct":"2000000"', '"spreadPct":"20000"'),
    "parts that are not the size": frame(BOOK, {"bids": [level(99, 5, dlob=3, vamm=9)], "asks": []}),
    "ten thousand levels": frame(BOOK, {"bids": [], "asks": [level(n, n + 1) for n in range(10_000)]}),
    "an oracle of one member": frame(BOOK, {"bids": [], "asks": [], "oracleData": {"slot": 5}}),
}

LEFT = {
    "nothing": b"",
    "a trade": frame(TRADE, {"ts": 1, "marketIndex": 0, "baseAssetAmountFilled": 5}),
    "a book in a channel of trades": frame(TRADE, MEMBERS),
    "a channel of no known pattern": frame("orderbook_perp", MEMBERS),
    "a channel too long": frame("orderbook_perp_0" + "_" * 80, MEMBERS),
    "data first": json.dumps({"data": "{}", "channel": BOOK}, separators=(",", ":")).encode(),
    "data is an object": WHOLE.replace(b'"{\\"', b'{\\"'),
    "a member beside": WHOLE[:-1] + b',"node":1}',
    "bytes behind": WHOLE + b" ",
    "a byte before": b" " + WHOLE,
    "a blank between": WHOLE.replace(b'","data"', b'", "data"'),
    "a blank inside": changed(',"slot"', ', "slot"'),
    "nothing inside": frame(BOOK, {}),
    "no asks": frame(BOOK, {"bids": [level(99, 5)]}),
    "bids are null": frame(BOOK, {"bids": None, "asks": []}),
    "bids twice": changed('"marketName":"SOL-PERP"', '"bids":[]'),
    "a number twice": changed('"slot":352100014', '"slot":5,"slot":5'),
    "a price twice": changed('"price":99', '"price":99,"price":99'),
    "a source twice": changed('{"dlob":5}', '{"dlob":5,"dlob":5}'),
    "an oracle's number twice": changed('"confidence":"3"', '"confidence":"3","confidence":"3"'),
    "an unknown member": changed('"ts"', '"t"'),
    "an unknown member in a level": changed('"price":99', '"price":99,"n":1'),
    "an unknown member in an oracle": changed('"confidence"', '"delay"'),
    "another source": changed('{"dlob":5}', '{"dlob2":5}'),
    "an empty source": changed('{"dlob":5}', '{"":5}'),
    "no source": changed('{"dlob":5}', "{}"),
    "sources are null": changed('{"dlob":5}', "null"),
    "no sources": changed(',"sources":{"dlob":5}', ""),
    "a part that is not the size": changed('{"dlob":5}', '{"dlob":4}'),
    "a part of 0": changed('"vamm":4', '"vamm":0'),
    "a part below 0": changed('"vamm":4', '"vamm":-4'),
    "a size of 0": changed('"size":5,"price":99,"sources":{"dlob":5}', '"size":0,"price":99,"sources":{"dlob":0}'),
    "a size of 0 with parts": changed('"size":7,"price":98', '"size":0,"price":98'),
    "a size below 0": changed('"size":7', '"size":-7'),
    "a price of null": changed('"price":99', '"price":null'),
    "no price": changed('"price":99,', ""),
    "bids out of order": changed('"price":99', '"price":97'),
    "asks out of order": changed('"price":101', '"price":103'),
    "a level is a number": changed('"asks":[', '"asks":[5,'),
    "a comma too many": changed('"asks":[', '"asks":[,'),
    "a number of null": changed('"slot":352100014', '"slot":null'),
    "a number of true": changed('"slot":352100014', '"slot":true'),
    "a number of no digits": changed('"slot":352100014', '"slot":'),
    "a number of an empty text": changed('"slot":352100014', '"slot":""'),
    "a fraction": changed('"slot":352100014', '"slot":5.0'),
    "an exponent": changed('"slot":352100014', '"slot":5e1'),
    "a plus": changed('"slot":352100014', '"slot":"+5"'),
    "a minus": changed('"slot":352100014', '"slot":-'),
    "a minus zero": changed('"slot":352100014', '"slot":-0'),
    "a zero in front": changed('"slot":352100014', '"slot":"05"'),
    "a blank in front": changed('"slot":352100014', '"slot":" 5"'),
    "a number of 2^53": changed('"slot":352100014', f'"slot":{2**53}'),
    "a number of -2^53": changed('"slot":352100014', f'"slot":-{2**53}'),
    "a number of 17 digits": changed('"slot":352100014', '"slot":10000000000000000'),
    "a number of 2^64 and 5": changed('"slot":352100014', f'"slot":{2**64 + 5}'),
    "a quote missing": changed('"markPrice":"100"', '"markPrice":"100'),
    "a quote unescaped": WHOLE.replace(b'\\"slot\\"', b'"slot"', 1),
    "an escape in a name": changed("SOL-PERP", "SOL\\\\u002dPERP"),
    "an escape of the envelope in a name": changed("SOL-PERP", "SOL\\u002dPERP"),
    "a name that is not ASCII": changed("SOL-PERP", "SÖL-PERP"),
    "a name with a control character": changed("SOL-PERP", "SOL\tPERP"),
    "a name that is a number": changed('"SOL-PERP"', "5"),
    "an oracle that is a number": frame(BOOK, {"bids": [], "asks": [], "oracleData": 5}),
    "an oracle without members": frame(BOOK, {"bids": [], "asks": [], "oracleData": {}}),
    "an oracle of null": frame(BOOK, {"bids": [], "asks": [], "oracleData": None}),
    "a truth in quotes": changed(":true", ':"true"'),
    "a truth of nothing": changed(":true", ":"),
    "a truth of 1": changed(":true", ":1"),
    "another market type": changed('"marketType":"perp"', '"marketType":"spot"'),
    "another market index": changed('"marketIndex":0', '"marketIndex":7'),
    "a negative market index": changed('"marketIndex":0', '"marketIndex":-1'),
    "deep": frame(BOOK, {"bids": Token("[" * 5000 + "]" * 5000), "asks": []}),
    "deep in a source": changed('{"dlob":5}', '{"dlob":' * 5000),
}


@pytest.mark.parametrize("payload", TAKEN.values(), ids=TAKEN)
def test_a_usual_book_is_taken(payload):
    """
    However its members are ordered, and whether numbers stand in quotes.
    """
    assert is_taken(payload)
    agree(payload)


@pytest.mark.parametrize("payload", LEFT.values(), ids=LEFT)
def test_anything_else_is_left_alone(payload):
    """
    Then the other ways decide, as if this one was not there.
    """
    assert not is_taken(payload)
    assert decode(payload, size_exponent=9) == decode_in_python(payload, size_exponent=9)


@pytest.mark.parametrize(
    "payload", [WHOLE, next(c.frame for c in captures.capture(captures.MAY_2026) if is_usual(c.frame))]
)
def test_a_frame_cut_short_is_never_taken(payload):
    """
    At every length, and from every byte on.
    """
    assert is_taken(payload)
    assert not any(scan(payload[:length]) for length in range(len(payload)))
    assert not any(scan(payload[start:]) for start in range(1, len(payload)))


# --- Whatever comes ---

SMALL = (
    WHOLE,
    TAKEN["no member but the sides"],
    TAKEN["one side empty"],
    frame(BOOK, {"asks": [level("101", "7", vamm="3", dlob="4")], "slot": 5, "bids": [level(99, 5)]}),
)
PIECES = [
    *(b"0", b"9", b"-", b".", b"e", b'"', b'\\"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b" ", b"\x00", b"\xff"),
    *(b"null", b"true", b"00", b'\\"5\\"', b"-1", b"9007199254740991", b"9007199254740992", b"99999999999999999999"),
    *(b'\\"slot\\":5,', b'\\"bids\\":[],', b'\\"oracleData\\":{\\"slot\\":5},', b'\\"dlob\\":5', b'\\"vamm\\":1,'),
    *(b"\\u0030", b"\\\\", b"\\n", b"\xc3\xbc", b'{\\"size\\":1,\\"price\\":50,\\"sources\\":{\\"dlob\\":1}},'),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """
    A good frame with some bytes changed, cut out, put in, or moved.
    """
    payload = draw(st.sampled_from(SMALL))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(payload)))
        end = min(len(payload), at + draw(st.integers(0, 3) | st.integers(0, 60)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=3) | st.just(payload[at:end] * 2))
        payload = payload[:at] + piece + payload[end:]
    return payload


@settings(max_examples=1500)
@given(payload=mutated())
def test_a_mutated_frame_is_taken_for_what_it_says_or_left_alone(payload):
    """
    The native way never reads more into bytes than the others do.
    """
    is_taken(payload)


NUMBER = st.integers(0, 10**12) | st.integers(-(2**53) + 1, 2**53 - 1)
SPELLED = st.builds(lambda number, quoted: str(number) if quoted else number, NUMBER, st.booleans())
SIZE = st.integers(1, 2**53 - 1)


@st.composite
def shuffled(draw: st.DrawFn, members: dict) -> dict:
    """
    The same members in any order.
    """
    return dict(draw(st.permutations(list(members.items()))))


@st.composite
def side(draw: st.DrawFn, *, descending: bool) -> list[dict]:
    """
    Levels in order, written in any of the usual ways.
    """
    levels = []
    for price in sorted(draw(st.lists(NUMBER, max_size=6)), reverse=descending):
        quoted = str if draw(st.booleans()) else int
        size = draw(SIZE)
        parts = draw(
            st.sampled_from([{name: size} for name in SOURCE_BITS])
            | st.dictionaries(st.sampled_from([*SOURCE_BITS]), SIZE, min_size=2)
        )
        sources = {name: quoted(part) for name, part in parts.items()}
        levels.append(draw(shuffled({"price": quoted(price), "size": quoted(size), "sources": sources})))
    return levels


ORACLES = st.fixed_dictionaries(
    {"slot": SPELLED},
    optional={
        **dict.fromkeys(("price", "confidence", "twap", "twapConfidence", "maxPrice"), SPELLED),
        "hasSufficientNumberOfDataPoints": st.booleans(),
    },
)
USUAL = st.fixed_dictionaries(
    {"bids": side(descending=True), "asks": side(descending=False)},
    optional={
        **dict.fromkeys(("ts", "slot", "markPrice", "bestBidPrice", "bestAskPrice", "spreadPct"), SPELLED),
        **dict.fromkeys(("spreadQuote", "oracle", "marketSlot"), SPELLED),
        **dict.fromkeys(("oracleData", "mmOracleData"), ORACLES),
        "marketName": st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), max_size=9),
        "marketType": st.just("perp"),
        "marketIndex": st.just(0) | st.just("0"),
    },
).flatmap(shuffled)


@settings(max_examples=300)
@given(members=USUAL)
def test_any_usual_book_is_taken_and_read_as_by_the_reference(members):
    """
    Any order of members, any numbers in range, any depth.
    """
    payload = frame(BOOK, members)

    assert is_taken(payload)
    agree(payload)


def noise(rng: random.Random, frames: list[bytes]) -> bytes:
    """
    One mutated frame, as fast as Python makes them.
    """
    payload = bytearray(rng.choice(frames))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(payload) + 1)
        match rng.randrange(4):
            case 0 if at < len(payload):
                payload[at] = rng.choice(b'0123456789-.eE"\\,:{}[] \x00\xff')
            case 1:
                del payload[at : at + rng.choice((1, 1, 2, 5, 40))]
            case 2:
                payload[at:at] = rng.choice(PIECES)
            case _:
                start = rng.randrange(len(payload) + 1)
                payload[at:at] = payload[start : start + rng.choice((1, 4, 12, 60))]
    return bytes(payload)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_million_mutations_are_taken_for_what_they_say_or_left_alone():
    """
    The long form: the seed is printed when it fails.
    """
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    frames = [*SMALL, *islice((c.frame for c in captures.capture(captures.MAY_2026) if is_usual(c.frame)), 40)]
    taken = 0
    for _ in range(10_000_000):
        payload = noise(rng, frames)
        if scan(payload) is not None:
            found = normalize._decode_natively(payload)
            assert found is None or found == decode_in_python(payload, size_exponent=9), payload
            taken += found is not None

    assert taken > 100_000
