"""
The venue's frames, printed as its servers print them: member order, number formats, what is absent.

`book_frame` is the grouped book of the May 2026 server; `shapes` has the others.

A book's level is a tuple `(key, size, source, text)`: `key` is the price for asks and minus the price for bids, so that
both sides sort best first in the same way and are rounded away from the middle by the same formula; `source` indexes
`SOURCES`; `text` is the level as printed at its own price, or empty. Most resting orders outlive many ticks, and
printing their levels again for each frame was half of a frame's cost.

Source: `tests/fixtures/samples.json`, frames captured from that server.
"""

from functools import lru_cache

import msgspec

from recorder.records import MarketType
from recorder.simulator.js import SAFE_INTEGER, js_decimal, js_number, js_object, js_string

Level = tuple[int, int, int, str]

DLOB, VAMM, INDICATIVE, PHOENIX, OPENBOOK = range(5)
SOURCES = ("dlob", "vamm", "indicative", "phoenix", "openbook")

DEPTH = 20
"""Levels a side; as many more as are crossed."""

HEARTBEAT = '{"channel":"heartbeat"}'


class Book(msgspec.Struct, gc=False):
    """
    A market at one instant, before grouping.
    """

    market_type: MarketType
    symbol: str
    index: int
    tick: int
    ts_ms: int
    slot: int
    market_slot: int
    oracle: int
    oracle_slot: int
    confidence: int
    twap: int
    bids: list[Level]
    """Best first."""
    asks: list[Level]
    known_to: tuple[int, int] | None = None
    """Keys (bid, ask) beyond which levels may be missing here; None if the book is whole."""


def level_text(price: int, size: int, source: int) -> str:
    """
    A grouped level with one source, escaped for the string it stands in.
    """
    if size > SAFE_INTEGER:
        return _merged_text(price, {source: size})
    return f'{{\\"size\\":{size},\\"price\\":{price},\\"sources\\":{{\\"{SOURCES[source]}\\":{size}}}}}'


def _merged_text(price: int, parts: dict[int, int]) -> str:
    total: float = sum(parts.values())
    if total > SAFE_INTEGER:
        # The server adds JavaScript numbers: floats, whose sums above 2^53 are not exact.
        total = 0.0
        for size in parts.values():
            total += size
    sources = ",".join([f'\\"{SOURCES[source]}\\":{js_number(size)}' for source, size in parts.items()])
    return f'{{\\"size\\":{js_number(total)},\\"price\\":{price},\\"sources\\":{{{sources}}}}}'


def _group(levels: list[Level], step: int, depth: int) -> tuple[list[int], list[str]]:
    """
    The first `depth` levels after rounding to `step`: their keys, and each as printed.
    """
    top = levels[: depth + 1]
    # Bids down, asks up: both away from the middle.
    keys = [raw + -raw % step for raw, _, _, _ in top] if step > 1 else [raw for raw, _, _, _ in top]
    if len(set(keys)) != len(keys):
        return _merge(levels, step, depth)
    # Nothing merges, as in 998 of 1,000 captured levels; this way takes half the time of the other.
    texts = [
        text
        if text and raw == key
        else f'{{\\"size\\":{size},\\"price\\":{abs(key)},\\"sources\\":{{\\"{SOURCES[source]}\\":{size}}}}}'
        if size <= SAFE_INTEGER
        else level_text(abs(key), size, source)
        for (raw, size, source, text), key in zip(top[:depth], keys, strict=False)
    ]
    return keys[:depth], texts


def _merge(levels: list[Level], step: int, depth: int) -> tuple[list[int], list[str]]:
    keys: list[int] = []
    texts: list[str] = []
    merged: dict[int, int] = {}
    last: int | None = None
    first: Level = (0, 0, 0, "")
    for level in levels:
        raw, size, source, text = level
        key = raw + -raw % step
        if key == last:
            merged = merged or {first[2]: first[1]}
            merged[source] = merged.get(source, 0) + size
            continue
        if merged:
            texts[-1] = _merged_text(abs(keys[-1]), merged)
            merged = {}
        if len(keys) == depth:
            return keys, texts
        keys.append(key)
        texts.append(text if text and raw == key else level_text(abs(key), size, source))
        last, first = key, level
    if merged:
        texts[-1] = _merged_text(abs(keys[-1]), merged)
    return keys, texts


def book_sides(book: Book, *, grouping: int, deep: bool = True) -> tuple[str, str] | None:
    """
    The levels of both sides as printed, bids first.

    Args:
        book: what to show.
        grouping: ticks a level covers.
        deep: show as many levels beyond 20 as are crossed.

    Returns:
        None if `book` does not reach deep enough for this grouping: build it whole.
    """
    step = book.tick * grouping
    bids, asks = book.bids, book.asks
    depth = DEPTH
    bid_keys, bid_texts = _group(bids, step, depth)
    ask_keys, ask_texts = _group(asks, step, depth)
    if deep and bid_keys and ask_keys and -bid_keys[0] >= ask_keys[0]:
        bid_keys, bid_texts = _group(bids, step, 3 * DEPTH)
        ask_keys, ask_texts = _group(asks, step, 3 * DEPTH)
        crossed_bids = sum(-key >= ask_keys[0] for key in bid_keys)
        crossed_asks = sum(key <= -bid_keys[0] for key in ask_keys)
        depth += max(crossed_bids, crossed_asks)
    if book.known_to is not None:
        for keys, known_to in zip((bid_keys, ask_keys), book.known_to, strict=True):
            if len(keys) < depth or keys[depth - 1] >= known_to:
                return None
    return ",".join(bid_texts[:depth]), ",".join(ask_texts[:depth])


def book_frame(
    book: Book, *, name: str, grouping: int = 1, deep: bool = True, sides: tuple[str, str] | None = None
) -> str | None:
    """
    A data frame of a book channel.

    Args:
        book: what to show.
        name: of the channel.
        grouping: ticks a level covers.
        deep: show as many levels beyond 20 as are crossed.
        sides: the levels, if they are printed already.

    Returns:
        None if `book` does not reach deep enough for this grouping: build it whole.
    """
    sides = sides or book_sides(book, grouping=grouping, deep=deep)
    if sides is None:
        return None
    bids, asks = book.bids, book.asks
    oracle = book.oracle
    price, slot, confidence = f'\\"{oracle}\\"', f'\\"{book.oracle_slot}\\"', f'\\"{book.confidence}\\"'
    oracle_members = f'\\"slot\\":{slot},\\"confidence\\":{confidence},\\"hasSufficientNumberOfDataPoints\\":true'
    if book.market_type == "perp":
        mm_oracle = oracle + 1
        mm_price = f'\\"{mm_oracle}\\"'
    else:
        mm_oracle, mm_price = oracle, price
        oracle_members += f',\\"twap\\":\\"{book.twap}\\",\\"twapConfidence\\":\\"{oracle // 2000}\\"'
    if bids and asks:
        bid, ask = -bids[0][0], asks[0][0]
        # A crossed book's mark is the oracle, held between the two sides.
        mark = (bid + ask) // 2 if bid < ask else min(max(mm_oracle, ask), bid)
        spread = max(ask - bid, 0)
        headline = (
            f'\\"markPrice\\":\\"{mark}\\",\\"bestBidPrice\\":\\"{bid}\\",\\"bestAskPrice\\":\\"{ask}\\",'
            f'\\"spreadPct\\":\\"{spread * 100_000_000 // mark}\\",\\"spreadQuote\\":\\"{spread}\\"'
        )
    else:
        headline = f'\\"markPrice\\":{oracle}'
    return (
        f'{{"channel":"{name}","data":"{{\\"bids\\":[{sides[0]}],\\"asks\\":[{sides[1]}],'
        f'\\"marketName\\":{inner_string(book.symbol.upper())},\\"marketType\\":\\"{book.market_type}\\",'
        f'\\"marketIndex\\":{book.index},\\"ts\\":{book.ts_ms},\\"slot\\":{book.slot},{headline},'
        f'\\"oracle\\":{oracle},\\"oracleData\\":{{\\"price\\":{price},{oracle_members}}},'
        f'\\"mmOracleData\\":{{\\"price\\":{mm_price},{oracle_members}}},\\"marketSlot\\":{book.market_slot}}}"}}'
    )


@lru_cache(maxsize=2048)
def inner_string(text: str) -> str:
    """
    A string of the payload, escaped for the string it stands in.
    """
    return js_string(js_string(text))[1:-1]


class Party(msgspec.Struct, frozen=True):
    """
    One side of a fill: an account with its order. Amounts in units of the record.
    """

    key: str
    order_id: int
    direction: str
    """`long` or `short`."""
    base_amount: int
    base_filled: int
    quote_filled: int


class Fill(msgspec.Struct, frozen=True):
    """
    One on-chain fill record. Base amounts ×10^`size_exponent`, quote amounts and prices ×10^6; None is absent.
    """

    ts_s: int
    market_type: MarketType
    market_index: int
    size_exponent: int
    slot: int
    fill_id: int
    explanation: str
    base: int
    quote: int
    oracle: int
    tx_sig: str
    taker: Party | None
    maker: Party | None
    filler: str | None = None
    taker_fee: int = 0
    maker_fee: int = 0
    quote_surplus: int = 0
    referrer_reward: int = 0
    bit_flags: int = 0
    maker_indicative_key: str | None = None


def trade_frame(fill: Fill, *, name: str) -> str:
    """
    A data frame of a trades channel: decimal numbers, undefined members left out.
    """
    members: dict[str, object] = {
        "ts": fill.ts_s,
        "marketIndex": fill.market_index,
        "marketType": fill.market_type,
    }
    if fill.filler is not None:
        members["filler"] = fill.filler
    members["takerFee"] = js_decimal(fill.taker_fee, 6)
    members["makerFee"] = js_decimal(fill.maker_fee, 6)
    members["quoteAssetAmountSurplus"] = js_decimal(fill.quote_surplus, 6)
    members["baseAssetAmountFilled"] = js_decimal(fill.base, fill.size_exponent)
    members["quoteAssetAmountFilled"] = js_decimal(fill.quote, 6)
    members |= _party_members("taker", fill.taker, fill.size_exponent)
    members |= _party_members("maker", fill.maker, fill.size_exponent)
    members["oraclePrice"] = js_decimal(fill.oracle, 6)
    members["txSig"] = fill.tx_sig
    members["slot"] = fill.slot
    members["fillRecordId"] = fill.fill_id
    members["action"] = "fill"
    members["actionExplanation"] = fill.explanation
    members["referrerReward"] = js_decimal(fill.referrer_reward, 6)
    members["bitFlags"] = fill.bit_flags
    if fill.maker_indicative_key is not None:
        members["makerIndicativeKey"] = fill.maker_indicative_key
    return data_frame(name, members)


def _party_members(role: str, party: Party | None, size_exponent: int) -> dict[str, object]:
    members: dict[str, object] = {}
    if party is not None:
        members[role] = party.key
    members[f"{role}OrderId"] = party.order_id if party is not None else None
    if party is not None:
        members[f"{role}OrderDirection"] = party.direction
    base_amount, base_filled, quote_filled = (
        (party.base_amount, party.base_filled, party.quote_filled) if party is not None else (0, 0, 0)
    )
    members[f"{role}OrderBaseAssetAmount"] = js_decimal(base_amount, size_exponent)
    members[f"{role}OrderCumulativeBaseAssetAmountFilled"] = js_decimal(base_filled, size_exponent)
    members[f"{role}OrderCumulativeQuoteAssetAmountFilled"] = js_decimal(quote_filled, 6)
    return members


def data_frame(name: str, members: dict[str, object]) -> str:
    """
    The data envelope around a payload, which is a string of JSON.
    """
    return js_object({"channel": name, "data": js_object(members)})


def ack_frame(*, channel: str, market: str, market_type: str) -> str:
    """
    The acknowledgement of a subscribe, in the client's own spelling.
    """
    message = f"Subscribe received for channel: {channel}, market: {market}, marketType: {market_type}"
    return js_object({"message": message})


def error_frame(*, channel: str, op: str) -> str:
    """
    The refusal of a request: names the channel asked for, never the market.
    """
    return js_object({"channel": channel, "error": error_text(op)})


def error_text(op: str) -> str:
    """
    What a refusal says, in the frame or in the reason of the close.
    """
    return "Error unsubscribing from channel" if op == "unsubscribe" else "Error subscribing to channel"
