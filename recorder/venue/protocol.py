r"""
The DLOB websocket's own words: every constant, request and frame shape, defined once.

Source: the public server code (May 2026 and September 2025 versions, run and captured; `tests/fixtures/samples.json`
holds a frame of every shape) and the source of the relaunched server. What the venue sends, told apart by members in
this order:

    {"error": …}                       an error; names the channel asked for, never the market
    {"message": …}                     the acknowledgement of a subscribe, repeating its three values as spelled
    {"channel": "heartbeat"}           each 5 s from the moment of connecting
    {"channel": …, "data": …}          data; `data` is a string of JSON (an object from two short-lived versions)

The channel *name* of a data frame is not the channel asked for: `orderbook` with grouping 1 arrives as
`orderbook_perp_0_grouped_1`, from old servers as `orderbook_perp_0`.
"""

import re
from enum import IntEnum
from functools import lru_cache
from typing import Any, Literal, get_args

import msgspec

from recorder.records import MarketType, Stream

PATH = "/ws"
"""Any other path is answered with HTTP 400."""

HEARTBEAT_INTERVAL_S = 5
"""Sent from connect on, subscribed or not."""

HEARTBEAT_LIMIT_S = 11
"""The vendor's own client takes a connection for dead after this long without a heartbeat."""

BACKLOG_LIMIT_BYTES = 300_000
"""The server drops data frames for a client with this much waiting, and says nothing."""

GROUPINGS = (1, 10, 100, 500, 1000)
"""Ticks a level may cover. Send plain integers: `1.5` or `"10abc"` are acknowledged and then silent for ever."""

ACK_PREFIX = "Subscribe received for channel:"
"""How every acknowledgement begins."""

CLOSE_UNSUPPORTED = 1003
"""The request had no usable `channel`: our fault, do not loop."""

CLOSE_POLICY = 1008
"""`Buffer overflow`: we read too slowly. A stalled client mostly sees 1006 instead."""

Channel = Literal["orderbook", "orderbook_indicative", "trades", "priorityfees"]
CHANNELS: tuple[Channel, ...] = get_args(Channel)
BOOK_CHANNELS = frozenset({"orderbook", "orderbook_indicative"})

PRICE_EXPONENT = 6
"""Prices, oracle prices and quote amounts are ×10^6 in all markets."""

PERP_SIZE_EXPONENT = 9
"""Sizes of all perps are ×10^9; of spot markets ×10^decimals of the token (the market list knows)."""


class FrameKind(IntEnum):
    """
    What a frame is, told by its members.
    """

    DATA = 1
    HEARTBEAT = 2
    ACK = 3
    ERROR = 4
    UNKNOWN = 5
    """A JSON object of no known shape, or data under a channel name of no known pattern."""
    UNDECODABLE = 6
    """Not a JSON object in UTF-8."""


class ChannelName(msgspec.Struct, frozen=True):
    """
    The routing name of a data frame, taken apart.
    """

    family: Literal["orderbook", "trades", "priorityFees"]
    market_type: MarketType
    market_index: int
    grouping: int | None
    """None where the name has none: the old ungrouped books, trades, fees."""
    indicative: bool
    stored: bool
    """Carried the prefix `last_update_`: a stored copy, sent once after the subscribe."""

    @property
    def channel(self) -> Channel:
        """
        The channel one asks for to get this.
        """
        if self.family == "orderbook":
            return "orderbook_indicative" if self.indicative else "orderbook"
        return "trades" if self.family == "trades" else "priorityfees"


_CHANNEL_NAME = re.compile(
    r"(?:dlob(?:-helius)?:)?(last_update_)?(orderbook|trades|priorityFees)_(perp|spot)_(\d{1,5})"
    r"(?:_grouped_(\d{1,6}))?(_indicative)?"
)


_LONGEST_CHANNEL_NAME = 80
LONGEST_NAME = 64
"""Characters. A longer text is no market's name, and must not be kept as one; the frame is then told by its index."""


def parse_channel(name: str) -> ChannelName | None:
    """
    Take a data frame's channel name apart; None for a name of no known pattern.
    """
    # Checked before the cache, which would otherwise keep thousands of names of any length.
    return _parse_channel(name) if len(name) <= _LONGEST_CHANNEL_NAME else None


@lru_cache(maxsize=4096)
def _parse_channel(name: str) -> ChannelName | None:
    match = _CHANNEL_NAME.fullmatch(name)
    if match is None or not name.isascii():
        return None
    stored, family, market_type, index, grouping, indicative = match.groups()
    if family != "orderbook" and (grouping or indicative):
        return None
    return ChannelName(
        family=family,  # type: ignore[arg-type]  # the pattern admits these only
        market_type=market_type,  # type: ignore[arg-type]
        market_index=int(index),
        grouping=int(grouping) if grouping else None,
        indicative=indicative is not None,
        stored=stored is not None,
    )


def format_channel(name: ChannelName) -> str:
    """
    Inverse of `parse_channel`, without the prefixes of old message buses.
    """
    grouped = f"_grouped_{name.grouping}" if name.grouping is not None else ""
    return (
        f"{'last_update_' if name.stored else ''}{name.family}_{name.market_type}_{name.market_index}"
        f"{grouped}{'_indicative' if name.indicative else ''}"
    )


def request(stream: Stream, op: Literal["subscribe", "unsubscribe"] = "subscribe") -> str:
    """
    The text that asks for a stream, in canonical spelling and with an integer grouping.
    """
    members: dict[str, Any] = {
        "type": op,
        "marketType": stream.market_type,
        "channel": stream.channel,
        "market": stream.symbol,
    }
    if stream.grouping is not None:
        members["grouping"] = stream.grouping
    return msgspec.json.encode(members).decode()


def ack_text(stream: Stream) -> str:
    """
    What the server's `message` will say: it repeats the request's spelling and does not show the grouping.
    """
    return f"{ACK_PREFIX} {stream.channel}, market: {stream.symbol}, marketType: {stream.market_type}"


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """
    A frame opened as far as its kind.
    """

    kind: FrameKind
    name: str = ""
    """The `channel` member as sent, empty if there is none."""
    channel: ChannelName | None = None
    """`name` taken apart; set for DATA."""
    data: bytes = b""
    """JSON text of the payload; set for DATA."""
    text: str = ""
    """The acknowledgement's or error's text; for UNKNOWN and UNDECODABLE, why."""
    extra: tuple[str, ...] = ()
    """Members of the envelope that are not in the protocol."""


class Peek(msgspec.Struct, frozen=True, gc=False):
    """
    What the live monitor needs of a frame. Integers as sent; None for what is absent, not a number, or outside int64.
    """

    kind: FrameKind
    name: str = ""
    channel: ChannelName | None = None
    text: str = ""
    market_name: str | None = None
    """What a book calls itself; None also where that is too long for a name, or its type or index contradicts its
    channel: then it names nothing."""
    ts: int | None = None
    """ms of the publisher's clock for books, s of block time for trades."""
    slot: int | None = None
    fill_id: int | None = None


_INT64_MAX = 2**63 - 1
_DATA = FrameKind.DATA
_HEARTBEAT = Peek(FrameKind.HEARTBEAT, name="heartbeat")
_HEARTBEAT_FRAME = b'{"channel":"heartbeat"}'
_DATA_PREFIX = b'{"channel":"'
_DATA_MIDDLE = b'","data":"'
_MARKET_NAME = rb"\"marketName\":\""
# The scalars of a book in the order both TypeScript servers write them; another order takes the slow way.
_MARKET = rb'\\"marketName\\":\\"([^"\\]{1,64})\\",\\"marketType\\":\\"(perp|spot)\\",\\"marketIndex\\":(\d{1,5}),'
_BOOK_MARKET = re.compile(_MARKET)
_BOOK_SCALARS = re.compile(rb"(" + _MARKET + rb')\\"ts\\":(\d{1,15}),\\"slot\\":(\d{1,15})[,}]')


class _TradePeek(msgspec.Struct):
    ts: int | None = None
    slot: int | None = None
    fillRecordId: int | None = None  # noqa: N815  # the venue's spelling


class _BookPeek(msgspec.Struct):
    marketName: str | None = None  # noqa: N815
    marketType: str | None = None  # noqa: N815
    marketIndex: int | None = None  # noqa: N815
    ts: int | None = None
    slot: int | None = None


_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string_decoder = msgspec.json.Decoder(str)
_trade_peek_decoder = msgspec.json.Decoder(_TradePeek, strict=False)
_book_peek_decoder = msgspec.json.Decoder(_BookPeek, strict=False)


def open_envelope(payload: bytes) -> Envelope:
    """
    Tell a frame's kind by its members, and hand out the payload of data as JSON text.

    Data is data even with an `error` or `message` beside it, so that no addition of the venue's can hide a book.

    Never raises: what is not an object in UTF-8 JSON is UNDECODABLE, an object of no known shape UNKNOWN.
    """
    try:
        payload.decode()  # the decoder looks at UTF-8 only where it makes text
        members = _object_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Envelope(FrameKind.UNDECODABLE, text=f"not a JSON object: {error}")
    name = _text(members.get("channel")) or ""
    channel = parse_channel(name) if "data" in members else None
    if channel is None and "error" in members:
        return Envelope(FrameKind.ERROR, name=name, text=_wording(members["error"]))
    if channel is None and "message" in members:
        said = _wording(members["message"])
        if said.startswith(ACK_PREFIX):
            return Envelope(FrameKind.ACK, name=name, text=said)
        return Envelope(FrameKind.UNKNOWN, name=name, text=f"a message that acknowledges nothing: {said}")
    if "data" not in members:
        if name == "heartbeat":
            return Envelope(FrameKind.HEARTBEAT, name=name)
        return Envelope(FrameKind.UNKNOWN, name=name, text="no error, message or data member")
    if name == "heartbeat":
        return Envelope(FrameKind.HEARTBEAT, name=name, extra=("data",))
    if channel is None:
        return Envelope(FrameKind.UNKNOWN, name=name, text="data under a channel name of no known pattern")
    raw = members["data"]
    data = bytes(raw)
    if data.startswith(b'"'):
        text = _text(raw)
        if text is None:
            return Envelope(FrameKind.UNDECODABLE, name=name, text="data is not text in UTF-8")
        data = text.encode()
    extra = tuple(sorted(members.keys() - {"channel", "data"}))
    return Envelope(FrameKind.DATA, name=name, channel=channel, data=data, extra=extra)


def _text(raw: msgspec.Raw | None) -> str | None:
    if raw is None:
        return None
    try:
        return _string_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):  # no text, or half a surrogate pair
        return None


def _agree(channel: ChannelName, market_type: str | None, market_index: int | None) -> bool:
    """
    Whether a book says of itself what its channel says of it, as far as it does.
    """
    return market_type in {None, channel.market_type} and market_index in {None, channel.market_index}


def _name(book: _BookPeek, channel: ChannelName) -> str | None:
    """
    What a book may be called by.
    """
    name = book.marketName
    if name is None or len(name) > LONGEST_NAME or not _agree(channel, book.marketType, book.marketIndex):
        return None
    return name


def _int64(number: int | None) -> int | None:
    return number if number is not None and -_INT64_MAX <= number <= _INT64_MAX else None


def _wording(raw: msgspec.Raw) -> str:
    text = _text(raw)
    return bytes(raw).decode() if text is None else text


def peek(payload: bytes) -> Peek:
    """
    The envelope and the few members the live monitor folds over, without decoding a book.

    Never raises. A book of a TypeScript server is told by its scalars alone; one with another member order is decoded.
    """
    if payload == _HEARTBEAT_FRAME:
        return _HEARTBEAT
    if payload.startswith(_DATA_PREFIX):
        end = payload.find(_DATA_MIDDLE, len(_DATA_PREFIX), 90)
        # Scalars follow the levels: search from the end, so that 40 levels cost nothing.
        at = payload.rfind(_MARKET_NAME) if end > 0 else 0
        if at > 0 and payload.endswith(b'}"}'):
            match = _BOOK_SCALARS.match(payload, at)
            if match is not None:
                market, ts, slot = match.group(1, 5, 6)
                named = _book_named(payload[len(_DATA_PREFIX) : end], market)
                if named is not None:
                    name, channel, market_name = named
                    return Peek(_DATA, name, channel, "", market_name, int(ts), int(slot))
    return _peek_slowly(payload)


@lru_cache(maxsize=1024)
def _book_named(name_bytes: bytes, market: bytes) -> tuple[str, ChannelName, str | None] | None:
    """
    What a book's channel and its `_MARKET` say: channel name, that taken apart, and what it may be called by; None if
    that is no channel of books. A venue says the same few hundred of them all the time.
    """
    name = name_bytes.decode("ascii", "replace")
    channel, match = parse_channel(name), _BOOK_MARKET.fullmatch(market)
    if channel is None or channel.family != "orderbook" or match is None:
        return None
    market_name, market_type, index = match.groups()
    agrees = _agree(channel, market_type.decode(), int(index))
    return name, channel, market_name.decode("utf-8", "replace") if agrees else None


def _peek_slowly(payload: bytes) -> Peek:
    envelope = open_envelope(payload)
    if envelope.channel is None:
        return Peek(envelope.kind, name=envelope.name, text=envelope.text)
    try:
        if envelope.channel.family == "orderbook":
            book = _book_peek_decoder.decode(envelope.data)
            return Peek(
                FrameKind.DATA,
                name=envelope.name,
                channel=envelope.channel,
                market_name=_name(book, envelope.channel),
                ts=_int64(book.ts),
                slot=_int64(book.slot),
            )
        trade = _trade_peek_decoder.decode(envelope.data)
        return Peek(
            FrameKind.DATA,
            name=envelope.name,
            channel=envelope.channel,
            ts=_int64(trade.ts),
            slot=_int64(trade.slot),
            fill_id=_int64(trade.fillRecordId),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Whether the payload can be decoded at all is for the full decode to say; the frame is in the journal.
        return Peek(FrameKind.DATA, name=envelope.name, channel=envelope.channel)
