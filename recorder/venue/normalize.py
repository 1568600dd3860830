"""
What a data frame means: raw frame in, exact integers out.

Three ways lead to the same record, each for what the one before leaves over:

* **native** (`_scan.c`, if it was built): books exactly as the servers have written them so far, from the raw frame.
* **typed**: books, here, and trades (`trades.py`), as far as msgspec reads them without a doubt.
* **exact** (`exact.py`): whatever comes. Numbers of 2^53 or more, fractions and exponents in books, escapes, unsorted
  levels, unknown sources and members, fees; anything of which there is more to say than its numbers.

What a faster way takes it reads as the slower ones would; the tests hold them against each other, and against a decoder
that shares no code with them. Without the native way everything works, and books cost more than three times as much.
"""

from array import array
from functools import lru_cache
from typing import Annotated, Generic, TypeVar

import msgspec

from recorder.records import Source
from recorder.venue.exact import decode_exactly, read_payload
from recorder.venue.payloads import (
    JS_EXACT,
    NO_ORACLE,
    NULL,
    SOURCE_BITS,
    Book,
    Decoded,
    Exact,
    Fees,
    Side,
    Trade,
    Undecodable,
    book_flags,
    flat,
)
from recorder.venue.protocol import ChannelName, parse_channel
from recorder.venue.trades import read_usual_trade

try:
    from recorder.venue._scan import scan as _scan
except ImportError:  # not built: there was no compiler
    _scan = None  # type: ignore[assignment]

__all__ = ["Book", "Fees", "Side", "Trade", "Undecodable", "decode", "decode_in_python", "is_native"]

_DLOB, _VAMM, _BOTH = Source.DLOB.value, Source.VAMM.value, (Source.DLOB | Source.VAMM).value


class _Outer(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    channel: str
    data: str


_Part = Annotated[int, msgspec.Meta(gt=0, lt=JS_EXACT)]


class _UsualSources(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """
    What nearly all levels have. A part sent as 0 is refused, so 0 means absent.
    """

    dlob: _Part = 0
    vamm: _Part = 0


_Sources = TypeVar("_Sources", _UsualSources, dict[str, Exact])


class _WireLevel(msgspec.Struct, Generic[_Sources], gc=False, forbid_unknown_fields=True):
    price: Exact
    size: Exact
    sources: _Sources


class _WireOracle(
    msgspec.Struct,
    gc=False,
    forbid_unknown_fields=True,
    rename={
        "sufficient": "hasSufficientNumberOfDataPoints",
        "twap_confidence": "twapConfidence",
        "max_price": "maxPrice",
    },
):
    """
    `oracleData` or `mmOracleData` of a book, in their order in BOOK_NUMBERS; what is absent is NULL.
    """

    price: Exact | None = NULL
    slot: Exact | None = NULL
    confidence: Exact | None = NULL
    sufficient: bool | None = NULL  # type: ignore[assignment]  # absent
    twap: Exact | None = NULL
    twap_confidence: Exact | None = NULL
    max_price: Exact | None = NULL


class _WireBook(msgspec.Struct, Generic[_Sources], gc=False, forbid_unknown_fields=True, rename="camel"):
    bids: list[_WireLevel[_Sources]]
    asks: list[_WireLevel[_Sources]]
    market_name: str | None = None
    market_type: str | None = None
    market_index: Exact | None = None
    ts: Exact | None = NULL
    slot: Exact | None = NULL
    mark_price: Exact | None = NULL
    best_bid_price: Exact | None = NULL
    best_ask_price: Exact | None = NULL
    spread_pct: Exact | None = NULL
    spread_quote: Exact | None = NULL
    oracle: Exact | None = NULL
    oracle_data: _WireOracle | None = None
    mm_oracle_data: _WireOracle | None = None
    market_slot: Exact | None = NULL


_outer_decoder = msgspec.json.Decoder(_Outer)
# Not strict: numbers and strings of numbers alike, at the speed of numbers.
_usual_decoder = msgspec.json.Decoder(_WireBook[_UsualSources], strict=False)
_book_decoder = msgspec.json.Decoder(_WireBook[dict[str, Exact]], strict=False)


def _is_plain(text: str) -> bool:
    """
    Whether no number in this JSON can lose digits in msgspec, which reads fractions and exponents through a double.

    `1.0000000000000000001` and `10000000000000000001e-19` would both pass as 1; an escape may hide either.
    """
    if "." in text or "\\" in text:
        return False
    at = text.find("-")
    while at > 0:
        if text[at - 1] in "eE" and text[at + 1 : at + 2].isdigit():
            return False
        at = text.find("-", at + 1)
    return True


def _decode_typed(text: str, channel: ChannelName) -> Book | None:
    """
    None for a book that has to go the exact way.
    """
    try:
        usual = _usual_decoder.decode(text)
        bid, ask = _usual_side(usual.bids, descending=True), _usual_side(usual.asks, descending=False)
        if bid is not None and ask is not None:
            return _book(usual, channel, bid, ask)
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, RecursionError):
        return None
    try:
        wire = _book_decoder.decode(text)
        bid, ask = _side(wire.bids, descending=True), _side(wire.asks, descending=False)
        return None if bid is None or ask is None else _book(wire, channel, bid, ask)
    except (msgspec.DecodeError, RecursionError, KeyError):
        return None


def _book(wire: _WireBook[_Sources], channel: ChannelName, bid: Side, ask: Side) -> Book | None:
    """
    None if the book says of itself what its channel does not.
    """
    if wire.market_index not in {None, channel.market_index} or wire.market_type not in {None, channel.market_type}:
        return None
    # In the order of BOOK_NUMBERS.
    numbers = flat(
        (
            wire.ts,
            wire.slot,
            wire.market_slot,
            wire.mark_price,
            wire.best_bid_price,
            wire.best_ask_price,
            wire.spread_pct,
            wire.spread_quote,
            wire.oracle,
            *_oracle_numbers(wire.oracle_data),
            *_oracle_numbers(wire.mm_oracle_data),
        )
    )
    return Book(channel, wire.market_name, numbers, bid, ask, book_flags(channel, numbers, bid, ask))


def _oracle_numbers(oracle: _WireOracle | None) -> tuple[int | None, ...]:
    return NO_ORACLE if oracle is None else msgspec.structs.astuple(oracle)


def _usual_side(levels: list[_WireLevel[_UsualSources]], *, descending: bool) -> Side | None:
    """
    A side in order whose single parts equal their sizes; None for any other.

    Column by column: half the time of level by level.
    """
    price = [level.price for level in levels]
    if price != sorted(price, reverse=descending):
        return None
    size = [level.size for level in levels]
    split = [level.sources for level in levels]
    dlob = [sources.dlob for sources in split]
    vamm = [sources.vamm for sources in split]
    source = [
        _DLOB if d == whole and not v else _VAMM if v == whole and not d else _BOTH
        for d, v, whole in zip(dlob, vamm, size, strict=True)
    ]
    part: list[int] = []
    if _BOTH in source:
        for bits, d, v in zip(source, dlob, vamm, strict=True):
            if bits == _BOTH:
                if not (d and v):
                    return None
                part += (d, v)
    if 0 in size:  # it would equal a part that is absent
        return None
    return Side(array("q", price), array("q", size), array("H", source), array("q", part))


def _side(levels: list[_WireLevel[dict[str, Exact]]], *, descending: bool) -> Side | None:
    """
    A side in order, of any known sources; None for one out of order.

    Raises:
        KeyError: a source of no known name.
    """
    price = [level.price for level in levels]
    if price != sorted(price, reverse=descending):
        return None
    source: list[int] = []
    part: list[int] = []
    for level in levels:
        parts = level.sources
        bits, order = _bit_order(tuple(parts))
        source.append(bits)
        if len(order) > 1 or (order and parts[order[0]] != level.size):
            part += [parts[name] for name in order]
    return Side(array("q", price), array("q", [level.size for level in levels]), array("H", source), array("q", part))


@lru_cache(maxsize=1024)
def _bit_order(names: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    order = tuple(sorted(names, key=SOURCE_BITS.__getitem__))
    return sum(SOURCE_BITS[name] for name in names), order


def is_native() -> bool:
    """
    Whether the native way is there. The records are the same without it.
    """
    return _scan is not None


def _decode_natively(payload: bytes) -> Book | None:
    """
    None for a frame that has to go another way.
    """
    scanned = _scan(payload)
    if scanned is None:
        return None
    name, market_name, market_type, market_index, packed, bids, asks = scanned
    channel = parse_channel(name)
    if channel is None or channel.family != "orderbook":
        return None
    if market_index not in {NULL, channel.market_index} or market_type not in {None, channel.market_type}:
        return None
    numbers = array("q", packed)
    bid, ask = _unpacked(*bids), _unpacked(*asks)
    return Book(channel, market_name, numbers, bid, ask, book_flags(channel, numbers, bid, ask))


def _unpacked(price: bytes, size: bytes, source: bytes, part: bytes) -> Side:
    return Side(array("q", price), array("q", size), array("H", source), array("q", part))


def decode(payload: bytes, *, size_exponent: int | None) -> Decoded:
    """
    Read one data frame in full. Never raises.

    Args:
        payload: The frame as received.
        size_exponent: Of the market's sizes; scales the amounts of trades, which are sent as decimals. None if the
            token is unknown: then 9 is assumed and flagged. Books do not need it.
    """
    if _scan is not None:
        book = _decode_natively(payload)
        if book is not None:
            return book
    return decode_in_python(payload, size_exponent=size_exponent)


def decode_in_python(payload: bytes, *, size_exponent: int | None) -> Decoded:
    """
    `decode` without the native way.
    """
    try:
        outer = _outer_decoder.decode(payload)
        channel = parse_channel(outer.channel)
    except (msgspec.DecodeError, UnicodeDecodeError):
        channel = None
    if channel is None:
        return decode_exactly(payload, size_exponent=size_exponent)
    if channel.family == "orderbook" and _is_plain(outer.data):
        book = _decode_typed(outer.data, channel)
        if book is not None:
            return book
    if channel.family == "trades":
        trade = read_usual_trade(outer.data, channel, size_exponent=size_exponent)
        if trade is not None:
            return trade
    return read_payload(outer.data, channel, size_exponent=size_exponent)
