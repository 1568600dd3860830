"""
The exact way through a data frame: every number is read from its digits, whatever form they have.

`normalize.decode` comes here with what its faster ways refuse, and with all fees. What even this refuses is an
`Undecodable` value: nothing here raises, whatever the bytes.
"""

from array import array
from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from recorder.records import Flag, Source
from recorder.venue.payloads import (
    NO_ORACLE,
    SOURCE_BITS,
    Book,
    Decoded,
    Fees,
    Side,
    Trade,
    Undecodable,
    book_flags,
    flat,
)
from recorder.venue.protocol import PRICE_EXPONENT, ChannelName, FrameKind, open_envelope
from recorder.venue.reading import Reading, is_absent
from recorder.venue.trades import TRADE_NUMBERS, TRADE_TEXTS, made_trade, scales

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError)
"""What reading JSON may raise; the last for exponents that even Decimal cannot hold."""

_OTHER = Source.OTHER.value
_BOOK_NUMBERS = (
    *("ts", "slot", "marketSlot", "markPrice", "bestBidPrice", "bestAskPrice"),
    *("spreadPct", "spreadQuote", "oracle"),
)
"""As they are sent: what BOOK_NUMBERS begins with."""

_decoder = msgspec.json.Decoder(float_hook=Decimal)


class _Refused(Exception):  # never leaves this module
    """
    The frame is not what its channel should carry.
    """


def decode_exactly(payload: bytes, *, size_exponent: int | None) -> Decoded:
    """
    `normalize.decode` without its faster ways.
    """
    envelope = open_envelope(payload)
    if envelope.channel is None:
        known = envelope.kind not in {FrameKind.UNDECODABLE, FrameKind.UNKNOWN}
        return Undecodable("not a data frame" if known else envelope.text)
    around: dict[str, Any] = {}
    if envelope.extra:
        try:
            members = _decoder.decode(payload)
        except _UNREADABLE as error:
            return Undecodable(f"envelope cannot be read: {_why(error)}", envelope.channel)
        around = {name: members[name] for name in envelope.extra}
    return read_payload(envelope.data, envelope.channel, size_exponent=size_exponent, around=around)


def read_payload(
    data: str | bytes,
    channel: ChannelName,
    *,
    size_exponent: int | None,
    around: Mapping[str, object] = MappingProxyType({}),
) -> Decoded:
    """
    Read the payload of a data frame.

    Args:
        data: JSON text.
        channel: Where it came from; tells what it should be.
        size_exponent: As in `normalize.decode`.
        around: Members of the envelope that are not in the protocol, to be kept in `extra`.
    """
    try:
        members = _decoder.decode(data)
        if not isinstance(members, dict):
            return Undecodable("data is not an object", channel)
        reading = Reading(members)
        for name, value in around.items():
            reading.note(f"envelope.{name}", value)
        if channel.family == "orderbook":
            return _read_book(reading, channel)
        if channel.family == "trades":
            return _read_trade(reading, channel, size_exponent)
        return _read_fees(reading, channel)
    except _Refused as refused:
        return Undecodable(str(refused), channel)
    except _UNREADABLE as error:
        return Undecodable(f"data cannot be read: {_why(error)}", channel)


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__


def _read_book(reading: Reading, channel: ChannelName) -> Book:
    bid = _read_side(reading, "bids", descending=True)
    ask = _read_side(reading, "asks", descending=False)
    reading.identity(channel)
    market_name = reading.text("marketName")
    numbers = flat(
        [
            *map(reading.number, _BOOK_NUMBERS),
            *_read_oracle(reading, "oracleData"),
            *_read_oracle(reading, "mmOracleData"),
        ]
    )
    extra, drift = reading.rest()
    flags = book_flags(channel, numbers, bid, ask) | reading.flags
    return Book(channel, market_name, numbers, bid, ask, flags, extra, drift)


def _read_oracle(reading: Reading, member: str) -> Iterable[int | None]:
    """
    The numbers of one oracle, in their order in BOOK_NUMBERS.
    """
    sent = reading.members.pop(member, None)
    if is_absent(sent):
        return NO_ORACLE
    if not isinstance(sent, dict):
        reading.note(member, sent)
        return NO_ORACLE
    members: dict[str, Any] = sent

    def number(name: str) -> int | None:
        return reading.number_of(members, name, f"{member}.{name}")

    oracle = (
        number("price"),
        number("slot"),
        number("confidence"),
        reading.truth_of(members, "hasSufficientNumberOfDataPoints", member),
        number("twap"),
        number("twapConfidence"),
        number("maxPrice"),
    )
    for name, value in members.items():
        reading.note(f"{member}.{name}", value)
    return oracle


def _read_side(reading: Reading, name: str, *, descending: bool) -> Side:
    levels = reading.members.pop(name, None)
    if not isinstance(levels, list):
        raise _Refused(f"a book without {name}")
    prices = []
    for at, level in enumerate(levels):
        if not isinstance(level, dict):
            raise _Refused(f"{name}[{at}] is not an object")
        prices.append(_read_value(reading, level.pop("price", None), name, at, "price"))
    order = sorted(range(len(levels)), key=lambda at: _rank(prices[at], descending=descending))
    if order != list(range(len(levels))):
        reading.flags |= Flag.UNSORTED.value
    sizes: list[int | None] = []
    bits: list[int] = []
    part: list[int | None] = []
    for at, sent_at in enumerate(order):
        level = levels[sent_at]
        size = _read_value(reading, level.pop("size", None), name, sent_at, "size")
        sources = level.pop("sources", None)
        parts: dict[int, int | None] = {}
        if isinstance(sources, dict):
            parts = _read_parts(reading, sources, name, at)
        elif sources is not None:
            reading.note(f"{name}[{at}].sources", sources, "level.sources")
        for member, value in level.items():
            reading.note(f"{name}[{at}].{member}", value, f"level.{member}")
        sizes.append(size)
        bits.append(sum(parts))
        if len(parts) > 1 or (parts and next(iter(parts.values())) != size):
            part += (parts[bit] for bit in sorted(parts))
    return Side(flat([prices[at] for at in order]), flat(sizes), array("H", bits), flat(part))


def _rank(price: int | None, *, descending: bool) -> tuple[bool, int]:
    return (price is None, 0 if price is None else -price if descending else price)


def _read_value(reading: Reading, value: object, side: str, at: int, member: str) -> int | None:
    if value is None:
        reading.flags |= Flag.SATURATED.value
        return None
    number = reading.integer(value)
    if number is None:
        raise _Refused(f"{side}[{at}].{member} is not a number")
    return number


def _read_parts(reading: Reading, sources: dict[str, Any], side: str, at: int) -> dict[int, int | None]:
    """
    Parts by bit; those of unknown sources are summed under `Source.OTHER`.
    """
    parts: dict[int, int | None] = {}
    for name, value in sources.items():
        bit = SOURCE_BITS.get(name)
        if bit is not None:
            parts[bit] = _read_value(reading, value, side, at, f"sources.{name}")
            continue
        reading.flags |= Flag.OTHER_SOURCE.value
        reading.note(f"{side}[{at}].sources.{name}", value, f"sources.{name}")
        number = reading.integer(value)
        if number is not None:
            number = reading.clamped(number + (parts.get(_OTHER) or 0))
        parts[_OTHER] = parts.get(_OTHER) if number is None else number
    return parts


def _read_trade(reading: Reading, channel: ChannelName, size_exponent: int | None) -> Trade:
    reading.identity(channel)
    unread = len(reading.members)
    numbers = [reading.number(name, scale) for name, scale in zip(TRADE_NUMBERS, scales(size_exponent), strict=True)]
    texts = [reading.text(name) for name in TRADE_TEXTS]
    if len(reading.members) == unread:
        raise _Refused("data has none of the members of a trade")
    extra, drift = reading.rest()
    return made_trade(
        channel, numbers, texts, size_exponent=size_exponent, flags=reading.flags, extra=extra, drift=drift
    )


def _read_fees(reading: Reading, channel: ChannelName) -> Fees:
    reading.identity(channel)
    unread = len(reading.members)
    fees = Fees(
        channel=channel,
        min=reading.number("min", PRICE_EXPONENT),
        low=reading.number("low", PRICE_EXPONENT),
        medium=reading.number("medium", PRICE_EXPONENT),
        high=reading.number("high", PRICE_EXPONENT),
        very_high=reading.number("veryHigh", PRICE_EXPONENT),
        unsafe_max=reading.number("unsafeMax", PRICE_EXPONENT),
    )
    if len(reading.members) == unread:
        raise _Refused("data has none of the members of priority fees")
    extra, drift = reading.rest()
    return msgspec.structs.replace(fees, flags=reading.flags, extra=extra, drift=drift)
