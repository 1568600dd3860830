"""
What a data frame means: raw frame in, exact integers out.

Two ways lead to the same record. The fast one, here, is typed and takes books as the servers have written them so far.
Whatever it refuses, or could read inexactly (numbers of 2^53 or more, fractions, exponents, escapes), goes the exact
way (`exact.py`), and so does a book of which there is more to say than its numbers: unsorted levels, unknown sources or
members.
"""

from functools import lru_cache
from typing import Annotated, Generic, TypeVar

import msgspec

from recorder.records import Source
from recorder.venue.exact import decode_exactly, read_payload
from recorder.venue.payloads import (
    JS_EXACT,
    SOURCE_BITS,
    Book,
    Decoded,
    Exact,
    Fees,
    Oracle,
    Side,
    Trade,
    Undecodable,
    book_flags,
)
from recorder.venue.protocol import ChannelName, parse_channel

__all__ = ["Book", "Fees", "Oracle", "Side", "Trade", "Undecodable", "decode"]

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


class _WireBook(msgspec.Struct, Generic[_Sources], gc=False, forbid_unknown_fields=True, rename="camel"):
    bids: list[_WireLevel[_Sources]]
    asks: list[_WireLevel[_Sources]]
    market_name: str | None = None
    market_type: str | None = None
    market_index: Exact | None = None
    ts: Exact | None = None
    slot: Exact | None = None
    mark_price: Exact | None = None
    best_bid_price: Exact | None = None
    best_ask_price: Exact | None = None
    spread_pct: Exact | None = None
    spread_quote: Exact | None = None
    oracle: Exact | None = None
    oracle_data: Oracle | None = None
    mm_oracle_data: Oracle | None = None
    market_slot: Exact | None = None


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


def _decode_fast(text: str, channel: ChannelName) -> Book | None:
    """
    None for a book that has to go the exact way.
    """
    try:
        usual = _usual_decoder.decode(text)
        bid, ask = _usual_side(usual.bids), _usual_side(usual.asks)
        if bid is not None and ask is not None:
            return _book(usual, channel, bid, ask)
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, RecursionError):
        return None
    try:
        wire = _book_decoder.decode(text)
        return _book(wire, channel, _side(wire.bids), _side(wire.asks))
    except (msgspec.DecodeError, RecursionError, KeyError):
        return None


def _book(wire: _WireBook[_Sources], channel: ChannelName, bid: Side, ask: Side) -> Book | None:
    """
    None if there is more to say than the numbers: unsorted levels, or an identity that is not the channel's.
    """
    if wire.market_index not in {None, channel.market_index} or wire.market_type not in {None, channel.market_type}:
        return None
    if bid.price != sorted(bid.price, reverse=True) or ask.price != sorted(ask.price):  # type: ignore[type-var]  # no None
        return None
    return Book(
        channel,
        wire.market_name,
        wire.ts,
        wire.slot,
        wire.market_slot,
        wire.mark_price,
        wire.best_bid_price,
        wire.best_ask_price,
        wire.spread_pct,
        wire.spread_quote,
        wire.oracle,
        wire.oracle_data,
        wire.mm_oracle_data,
        bid,
        ask,
        book_flags(
            channel,
            bid,
            ask,
            venue_bid=wire.best_bid_price,
            venue_ask=wire.best_ask_price,
            spread_pct=wire.spread_pct,
        ),
    )


def _usual_side(levels: list[_WireLevel[_UsualSources]]) -> Side | None:
    """
    A side whose single parts equal their sizes; None for any other. Column by column: half the time of level by level.
    """
    size: list[int | None] = [level.size for level in levels]
    split = [level.sources for level in levels]
    dlob = [sources.dlob for sources in split]
    vamm = [sources.vamm for sources in split]
    source = [
        _DLOB if d == whole and not v else _VAMM if v == whole and not d else _BOTH
        for d, v, whole in zip(dlob, vamm, size, strict=True)
    ]
    part: list[int | None] = []
    if _BOTH in source:
        for bits, d, v in zip(source, dlob, vamm, strict=True):
            if bits == _BOTH:
                if not (d and v):
                    return None
                part += (d, v)
    if 0 in size:  # it would equal a part that is absent
        return None
    return Side([level.price for level in levels], size, source, part)


def _side(levels: list[_WireLevel[dict[str, Exact]]]) -> Side:
    """
    A side of any known sources.

    Raises:
        KeyError: a source of no known name.
    """
    source: list[int] = []
    part: list[int | None] = []
    for level in levels:
        parts = level.sources
        bits, order = _bit_order(tuple(parts))
        source.append(bits)
        if len(order) > 1 or (order and parts[order[0]] != level.size):
            part += [parts[name] for name in order]
    return Side([level.price for level in levels], [level.size for level in levels], source, part)


@lru_cache(maxsize=1024)
def _bit_order(names: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    order = tuple(sorted(names, key=SOURCE_BITS.__getitem__))
    return sum(SOURCE_BITS[name] for name in names), order


def decode(payload: bytes, *, size_exponent: int | None) -> Decoded:
    """
    Read one data frame in full. Never raises.

    Args:
        payload: The frame as received.
        size_exponent: Of the market's sizes; scales the amounts of trades, which are sent as decimals. None if the
            token is unknown: then 9 is assumed and flagged. Books do not need it.
    """
    try:
        outer = _outer_decoder.decode(payload)
        channel = parse_channel(outer.channel)
    except (msgspec.DecodeError, UnicodeDecodeError):
        channel = None
    if channel is None:
        return decode_exactly(payload, size_exponent=size_exponent)
    if channel.family == "orderbook" and _is_plain(outer.data):
        book = _decode_fast(outer.data, channel)
        if book is not None:
            return book
    return read_payload(outer.data, channel, size_exponent=size_exponent)
