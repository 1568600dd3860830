"""
What data frames carry, as values: books, trades and fees in exact integers.

* Nothing passed through a float. Prices and quote amounts are ×10^6, sizes ×10^`size_exponent`.
* Absent and null are both None, or NULL where numbers stand flat; neither is ever 0, nor 0 one of them.
* Members and sources this version does not know are kept as JSON in `extra` and named in `drift`.

`extra` is one JSON object. Its keys are the members' own names, with their path where they are nested, levels counted
as stored: `newMember`, `oracleData.newMember`, `bids[3].newMember`, `bids[3].sources.newSource`, `envelope.newMember`.
A known member whose value cannot be what it should be (a `slot` that is text) is None and stands there as well.

Source: the public server code and captures of it (`tests/fixtures/README.md`).
"""

from array import array
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from recorder.records import Flag, Source
from recorder.venue.protocol import ChannelName

INT64_MAX = 2**63 - 1
"""Values beyond ± this are clamped to it. -2^63 counts as beyond: it stands for null."""

NULL = -(2**63)
"""Stands for null among numbers kept flat, which no value can be: see INT64_MAX."""

JS_EXACT = 2**53
"""From here on a JSON number of a JavaScript publisher has lost its last digits."""

Exact = Annotated[int, msgspec.Meta(gt=-JS_EXACT, lt=JS_EXACT)]
"""An integer that a double holds: whatever way it was sent, no digit is missing."""

SOURCE_BITS: dict[str, int] = {s.name.lower(): s.value for s in Source if s is not Source.OTHER and s.name}
"""Bit of each known key of a level's `sources`. Plain integers: members of an IntFlag are slow to combine."""


class Side(msgspec.Struct, frozen=True, gc=False):
    """
    The levels of one side as parallel arrays, best first; levels without a price last.

    Flat, because that is what the lake's buffers take without a look at each number. Null is NULL.
    """

    price: "array[int]"
    """Of type `q`, as are size and part."""
    size: "array[int]"
    source: "array[int]"
    """Bits of `Source`, of type `H`; 0 if the level names none."""
    part: "array[int]"
    """For each level with several sources, or whose one part differs from its size: its parts in bit order."""


_ORACLE = ("price", "slot", "confidence", "sufficient", "twap", "twap_confidence", "max_price")

BOOK_NUMBERS = (
    *("ts", "slot", "market_slot", "mark_price", "venue_best_bid_price", "venue_best_ask_price"),
    *("spread_pct", "spread_quote", "oracle_price"),
    *(f"oracle_data_{name}" for name in _ORACLE),
    *(f"mm_oracle_{name}" for name in _ORACLE),
)
"""What `Book.numbers` holds: the names of the lake's columns. `sufficient` is 0 or 1."""

NO_ORACLE = (NULL,) * len(_ORACLE)

_TS, _VENUE_BID, _VENUE_ASK, _SPREAD_PCT = (
    BOOK_NUMBERS.index(name) for name in ("ts", "venue_best_bid_price", "venue_best_ask_price", "spread_pct")
)


class Book(msgspec.Struct, frozen=True, gc=False):
    """
    One full book.

    Source: channels `orderbook` and `orderbook_indicative`.
    """

    channel: ChannelName
    market_name: str | None
    """As the publisher spells it: upper case."""
    numbers: "array[int]"
    """Of type `q`, in the order of BOOK_NUMBERS, NULL for what is absent or null."""
    bid: Side
    ask: Side
    flags: int = 0
    extra: str | None = None
    drift: tuple[str, ...] = ()
    """Names of what this version does not know, without level numbers, sorted."""

    @property
    def ts(self) -> int | None:
        """
        Ms since the Unix epoch, publisher's clock.
        """
        ts = self.numbers[_TS]
        return None if ts == NULL else ts


class Trade(msgspec.Struct, frozen=True, gc=False):
    """
    One fill. The fields from `ts` to `extra` are named and ordered as the columns of the lake.

    Source: channel `trades`.
    """

    channel: ChannelName
    ts: int | None
    """ms since the Unix epoch, block time of the chain."""
    slot: int | None
    fill_record_id: int | None
    base_amount: int | None
    quote_amount: int | None
    price: float | None
    """Natural units, nearest to quote / base; None when base is 0 or absent, or one of them was clamped."""
    aggressor: Literal["buy", "sell"] | None
    is_market_trade: bool
    action: str | None
    action_explanation: str | None
    oracle_price: int | None
    taker: str | None
    maker: str | None
    filler: str | None
    taker_order_id: int | None
    maker_order_id: int | None
    taker_direction: str | None
    maker_direction: str | None
    taker_fee: int | None
    maker_fee: int | None
    quote_surplus: int | None
    referrer_reward: int | None
    taker_order_base_amount: int | None
    taker_order_base_filled: int | None
    taker_order_quote_filled: int | None
    maker_order_base_amount: int | None
    maker_order_base_filled: int | None
    maker_order_quote_filled: int | None
    tx_sig: str | None
    bit_flags: int | None
    maker_indicative_key: str | None
    flags: int = 0
    extra: str | None = None
    drift: tuple[str, ...] = ()


class Fees(msgspec.Struct, frozen=True, gc=False):
    """
    Priority fees of a market, ×10^6. The fields from `min` to `extra` are named and ordered as the columns of the lake.

    Source: channel `priorityfees`.
    """

    channel: ChannelName
    min: int | None
    low: int | None
    medium: int | None
    high: int | None
    very_high: int | None
    unsafe_max: int | None
    flags: int = 0
    extra: str | None = None
    drift: tuple[str, ...] = ()


class Undecodable(msgspec.Struct, frozen=True):
    """
    A frame that is not what its channel should carry. The raw frame stays in the journal.
    """

    reason: str
    channel: ChannelName | None = None
    """Set if the envelope could be read."""


Decoded = Book | Trade | Fees | Undecodable

_MAYBE_INITIAL, _ONE_SIDED = Flag.MAYBE_INITIAL.value, Flag.ONE_SIDED.value
_CROSSED, _LOCKED, _SPREAD_UNIT = Flag.CROSSED.value, Flag.LOCKED.value, Flag.SPREAD_UNIT.value


def flat(numbers: Sequence[int | None]) -> "array[int]":
    """
    An array of type `q`, NULL for None.
    """
    try:
        return array("q", numbers)  # type: ignore[arg-type]  # None raises
    except TypeError:
        return array("q", [NULL if number is None else number for number in numbers])


def book_flags(channel: ChannelName, numbers: "array[int]", bid: Side, ask: Side) -> int:
    """
    What a book's own content says: the bits of `Flag` that need no other frame and no look at how it was written.

    Arguments are the members of the `Book`.
    """
    flags = _MAYBE_INITIAL if channel.stored else 0
    if not bid.price or not ask.price:
        return flags | _ONE_SIDED
    best_bid, best_ask = bid.price[0], ask.price[0]
    if NULL in {best_bid, best_ask}:
        return flags
    if best_bid >= best_ask:
        flags |= _LOCKED if best_bid == best_ask else _CROSSED
    spread_pct = numbers[_SPREAD_PCT]
    if spread_pct and spread_pct != NULL:
        # Of the venue's own best prices, which its spread was taken of: levels are rounded to the grouping.
        venue_bid, venue_ask = numbers[_VENUE_BID], numbers[_VENUE_ASK]
        low = best_bid if venue_bid == NULL else venue_bid
        high = best_ask if venue_ask == NULL else venue_ask
        percent = 2 * (high - low) * 10**8 // (high + low) if high + low > 0 else 0
        # Below 0.001 % the smaller unit has one digit, and its rounding could look like a factor.
        if percent >= 1000 and spread_pct * 30 <= percent <= spread_pct * 300:
            flags |= _SPREAD_UNIT
    return flags
