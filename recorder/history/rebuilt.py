"""
Frames made again from the rows of sealed files, where the journal is gone.

What is exact: every number and name that the lake holds, in the venue's member order and number formats: such a frame
decodes to the row it was made from. What is not: bytes. Members that were sent as null are absent; the sources of a
level stand in the order of their bits; levels that came out of order are sorted; an amount that had more digits than
its column has those of the column; a value that was clamped is its bound.

Source: the frames of `tests/fixtures/` for member order and formats.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import msgspec

from recorder.records import Source
from recorder.simulator.js import js_decimal, js_object
from recorder.venue.protocol import PERP_SIZE_EXPONENT

Row = Mapping[str, Any]

_NAMES = {source.value: source.name.lower() for source in Source if source.name}
_PRICE_EXPONENT = 6
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_ORACLE = (
    ("price", "price"),
    ("slot", "slot"),
    ("confidence", "confidence"),
    ("sufficient", "hasSufficientNumberOfDataPoints"),
    ("twap", "twap"),
    ("twap_confidence", "twapConfidence"),
    ("max_price", "maxPrice"),
)
_FEES = (
    *(("min", "min"), ("low", "low"), ("medium", "medium"), ("high", "high")),
    *(("very_high", "veryHigh"), ("unsafe_max", "unsafeMax")),
)


def channel_of(table: str, market_type: str, index: int) -> str:
    """
    The routing name of the frames of a table: `orderbook_perp_0_grouped_1` for `books`.
    """
    stream = f"{market_type}_{index}"
    if table == "trades":
        return f"trades_{stream}"
    if table == "priority_fees":
        return f"priorityFees_{stream}"
    suffix = table.removeprefix("books")
    if suffix.startswith("_ungrouped"):
        return f"orderbook_{stream}{suffix.removeprefix('_ungrouped')}"
    return f"orderbook_{stream}{suffix if suffix.startswith('_grouped') else f'_grouped_1{suffix}'}"


def book_frame(row: Row, name: str) -> str:
    """
    A book from a row of raw units.
    """
    grouped = "_grouped_" in name
    two_sided = bool(row["bid_price"]) and bool(row["ask_price"])
    payload: dict[str, Any] = {}
    for side in ("bid", "ask"):
        payload[f"{side}s"] = _levels(
            row[f"{side}_price"], row[f"{side}_size"], row[f"{side}_source"], row[f"{side}_part"], grouped=grouped
        )
    payload |= {
        "marketName": row["symbol"].upper(),
        "marketType": row["market_type"],
        "marketIndex": row["market_index"],
        "ts": row["ts"],
        "slot": row["slot"],
        # A number when a side is empty: then it is the oracle's.
        "markPrice": _text(row["mark_price"]) if two_sided else row["mark_price"],
        "bestBidPrice": _text(row["venue_best_bid_price"]),
        "bestAskPrice": _text(row["venue_best_ask_price"]),
        "spreadPct": _text(row["spread_pct"]),
        "spreadQuote": _text(row["spread_quote"]),
        "oracle": row["oracle_price"],
        "oracleData": _oracle(row, "oracle_data"),
        "mmOracleData": _oracle(row, "mm_oracle"),
        "marketSlot": row["market_slot"],
    }
    kept = {member: value for member, value in payload.items() if value is not None}
    if row["extra"] is None:
        # Integers and plain text: ten times as fast as by JavaScript's rules, and the same. (Lone surrogates are not.)
        with suppress(UnicodeEncodeError):
            data = msgspec.json.encode(kept).decode()
            return msgspec.json.encode({"channel": name, "data": data}).decode()
    return _frame(name, kept, row["extra"])


def trade_frame(row: Row, name: str) -> str:
    """
    A fill from a row of raw units. Amounts are divided as the venue does it: 3.7199999999999998.
    """
    exponent = PERP_SIZE_EXPONENT if row["size_exponent"] is None else row["size_exponent"]
    ts = row["ts"]
    payload: dict[str, Any] = {
        "ts": None if ts is None else ts // 1000 if ts % 1000 == 0 else ts / 1000,
        "marketIndex": row["market_index"],
        "marketType": row["market_type"],
        "filler": row["filler"],
        "takerFee": _amount(row["taker_fee"]),
        "makerFee": _amount(row["maker_fee"]),
        "quoteAssetAmountSurplus": _amount(row["quote_surplus"]),
        "baseAssetAmountFilled": _amount(row["base_amount"], exponent),
        "quoteAssetAmountFilled": _amount(row["quote_amount"]),
    }
    for role in ("taker", "maker"):
        payload |= {
            role: row[role],
            f"{role}OrderId": row[f"{role}_order_id"],
            f"{role}OrderDirection": row[f"{role}_direction"],
            f"{role}OrderBaseAssetAmount": _amount(row[f"{role}_order_base_amount"], exponent),
            f"{role}OrderCumulativeBaseAssetAmountFilled": _amount(row[f"{role}_order_base_filled"], exponent),
            f"{role}OrderCumulativeQuoteAssetAmountFilled": _amount(row[f"{role}_order_quote_filled"]),
        }
    payload |= {
        "oraclePrice": _amount(row["oracle_price"]),
        "txSig": row["tx_sig"],
        "slot": row["slot"],
        "fillRecordId": row["fill_record_id"],
        "action": row["action"],
        "actionExplanation": row["action_explanation"],
        "referrerReward": _amount(row["referrer_reward"]),
        "bitFlags": row["bit_flags"],
        "makerIndicativeKey": row["maker_indicative_key"],
    }
    # The server writes null for the order of a party that is not there, and leaves out everything else.
    kept = {
        key: value for key, value in payload.items() if value is not None or key in {"takerOrderId", "makerOrderId"}
    }
    return _frame(name, kept, row["extra"])


def fees_frame(row: Row, name: str) -> str:
    """
    Priority fees from a row of raw units.
    """
    payload = {member: _amount(row[column]) for column, member in _FEES if row[column] is not None}
    return _frame(name, payload, row["extra"])


def _levels(
    prices: Sequence[int], sizes: Sequence[int], sources: Sequence[int], parts: Sequence[int], *, grouped: bool
) -> list[dict[str, Any]]:
    number = _same if grouped else _text
    split = _parts(sizes, sources, parts)
    if grouped:
        return [
            {"size": size, "price": price, "sources": dict(own)}
            for price, size, own in zip(prices, sizes, split, strict=True)
        ]
    return [
        {"price": number(price), "size": number(size), "sources": {name: number(part) for name, part in own}}
        for price, size, own in zip(prices, sizes, split, strict=True)
    ]


def _parts(sizes: Sequence[int], sources: Sequence[int], parts: Sequence[int]) -> Iterable[list[tuple[str, int]]]:
    """
    The sources of each level by name, with what each has of its size.

    Levels of one source have a part of their own only where it differs from the size. Which ones those are is told by
    how many parts are left over; if only some of them do, it is taken to be the first.
    """
    counts = [bits.bit_count() for bits in sources]
    extra = len(parts) - sum(count for count in counts if count > 1)
    at = 0
    for size, bits, count in zip(sizes, sources, counts, strict=True):
        names = [name for bit, name in _NAMES.items() if bits & bit]
        if count > 1 or (count == 1 and extra > 0):
            extra -= count == 1
            yield list(zip(names, parts[at : at + count], strict=True))
            at += count
        else:
            yield [(name, size) for name in names]


def _same(value: int | None) -> int | None:
    return value


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)


def _oracle(row: Row, prefix: str) -> dict[str, Any] | None:
    members: dict[str, Any] = {}
    for column, member in _ORACLE:
        value = row[f"{prefix}_{column}"]
        if value is not None:
            members[member] = value if isinstance(value, bool) else str(value)
    return members or None


def _amount(value: int | None, exponent: int = _PRICE_EXPONENT) -> float | None:
    return None if value is None else js_decimal(value, exponent)


def _frame(name: str, payload: dict[str, Any], extra: str | None) -> str:
    envelope: dict[str, Any] = {}
    if extra is not None:
        for path, value in msgspec.json.decode(extra).items():
            if path.startswith("envelope."):
                envelope[path.removeprefix("envelope.")] = value
            else:
                _put(payload, path, value)
    return js_object({"channel": name, "data": js_object(payload), **envelope})


def _put(payload: dict[str, Any], path: str, value: object) -> None:
    """
    A member at `oracleData.newMember` or `bids[3].sources.newSource`; nothing where the path leads nowhere.
    """
    at: Any = payload
    steps = [int(index) if index else name for name, index in _STEP.findall(path)]
    for step, following in pairwise(steps):
        if isinstance(step, int):
            if not isinstance(at, list) or step >= len(at):
                return
            at = at[step]
        elif isinstance(at, dict):
            at = at.setdefault(step, [] if isinstance(following, int) else {})
        else:
            return
    if isinstance(at, dict):
        if steps[-2:-1] == ["sources"]:
            at.pop(_NAMES[Source.OTHER.value], None)
        at[str(steps[-1])] = value
