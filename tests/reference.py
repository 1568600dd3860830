"""
A second decoder, written apart from the recorder: plain `json`, `Decimal` and `Fraction`, slow and obvious.

It shares no code with `recorder/`, on purpose: what both say alike was not said by one mistake. Tests of the decoder
compare with it frame by frame, whole-system tests row by row:

    expected = reference.decode(frame, size_exponent=9)   # None: the frame makes no row
    expected.table, expected.market_type, expected.market_index, expected.market_name
    expected.columns                                      # column name -> value

`columns` has every column of the table but those that only the recorder knows (`ORIGIN`). Integers are as stored; `ts`
is integer ms; lists are lists; `extra` is the decoded object, numbers as Decimal or int, or None. `flags` has only what
one frame alone tells: compare under `CONTENT_FLAGS`, since the seal adds bits of its own.

`rows(table)` gives the rows of an Arrow table in the same terms, with `recv_ts` in integer ns.
"""

import json
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

ORIGIN = frozenset({"recv_ts", "run", "seq", "connection", "attempt", "symbol", "size_exponent"})
"""Columns that come from the recorder and the market list, not from the frame."""

CROSSED, LOCKED, ONE_SIDED, UNSORTED, INEXACT, SATURATED, OTHER_SOURCE, MAYBE_INITIAL = (1 << n for n in range(8))
ROUNDED, SPREAD_UNIT, ASSUMED_SCALE = 1 << 11, 1 << 12, 1 << 13
CONTENT_FLAGS = (
    CROSSED | LOCKED | ONE_SIDED | UNSORTED | INEXACT | SATURATED | OTHER_SOURCE | ROUNDED | SPREAD_UNIT | ASSUMED_SCALE
)
"""Bits that a frame alone decides. MAYBE_INITIAL is not one: a first book has it without any mark of its own."""

SOURCE_BITS = {
    "dlob": 1,
    "vamm": 2,
    "indicative": 4,
    "phoenix": 8,
    "openbook": 16,
    "serum": 32,
    "clob": 64,
    "propamm": 128,
}
OTHER = 256
LIMIT = 2**63 - 1

_NAME = re.compile(
    r"^(?:dlob(?:-helius)?:)?(last_update_)?(orderbook|trades|priorityFees)_(perp|spot)_(\d+)"
    r"(?:_grouped_(\d+))?(_indicative)?$"
)


class Expected(NamedTuple):
    """
    The row that a frame should make.
    """

    table: str
    market_type: str
    market_index: int
    market_name: str | None
    columns: dict[str, Any]


def decode(frame: bytes | str, *, size_exponent: int | None) -> Expected | None:
    """
    What the lake should hold of a frame; None for frames without data and for what nobody can read.
    """
    try:
        envelope = _load(frame if isinstance(frame, str) else frame.decode("utf-8"))
        if not isinstance(envelope, dict) or {"error", "message"} & envelope.keys() or "data" not in envelope:
            return None
        name = _NAME.match(envelope["channel"])
        data = _load(envelope["data"]) if isinstance(envelope["data"], str) else envelope["data"]
        if name is None or not isinstance(data, dict):
            return None
        stored, family, market_type, index, grouping, indicative = name.groups()
        notes = _Notes(market_type=market_type, market_index=int(index))
        notes.extra = {f"envelope.{k}": v for k, v in envelope.items() if k not in {"channel", "data"}}
        if family == "orderbook":
            table = "books" if grouping == "1" else f"books_grouped_{grouping}" if grouping else "books_ungrouped"
            table += indicative or ""
            columns = _book(data, notes)
            notes.flags |= MAYBE_INITIAL if stored else 0
        elif family == "trades":
            table, columns = "trades", _trade(data, notes, size_exponent)
        else:
            table, columns = "priority_fees", _fees(data, notes)
    except _CannotBeRead:
        return None
    columns |= {"market_type": market_type, "market_index": int(index)}
    columns |= {"flags": notes.flags, "extra": notes.extra or None}
    market_name = data.get("marketName")
    return Expected(table, market_type, int(index), market_name if isinstance(market_name, str) else None, columns)


def load_extra(text: str | None) -> Any:
    """
    The column `extra` in the terms of `Expected.columns`.
    """
    return None if text is None else _load(text)


def rows(table: Any) -> list[dict[str, Any]]:
    """
    Rows of an Arrow table: instants as the integers stored, `extra` decoded.
    """
    import pyarrow as pa  # noqa: PLC0415  # the decoder above needs nothing but Python

    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(pa.int64()))
    plain = table.to_pylist()
    for row in plain:
        if "extra" in row:
            row["extra"] = load_extra(row["extra"])
    return plain


class _CannotBeRead(Exception):
    pass


class _Notes:
    """
    What is found on the way: flags, and what has no column.
    """

    def __init__(self, *, market_type: str, market_index: int) -> None:
        self.market_type, self.market_index = market_type, market_index
        self.flags = 0
        self.extra: dict[str, Any] = {}

    def fixed(self, value: Any, scale: int = 0) -> int | None:
        """
        A number in units of 10^-scale; None if it is none.
        """
        if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
            return None
        if isinstance(value, str):
            if not re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", value):
                return None
            exact = Fraction(value)
        else:
            exact = Fraction(value)
            if abs(exact) >= 2**53:
                self.flags |= INEXACT
        exact *= Fraction(10) ** scale
        whole = round(exact)  # half to even
        if whole != exact:
            self.flags |= ROUNDED
        if abs(whole) > LIMIT:
            self.flags |= SATURATED
            return LIMIT if whole > 0 else -LIMIT
        return whole

    def column(self, members: dict[str, Any], member: str, scale: int = 0, prefix: str = "") -> int | None:
        """
        A numeric member as a column; what is no number is noted.
        """
        value = members.get(member)
        if value is None or (isinstance(value, str) and value.lower() == "null"):
            return None
        number = self.fixed(value, scale)
        if number is None:
            self.extra[prefix + member] = value
        return number

    def text(self, members: dict[str, Any], member: str) -> str | None:
        value = members.get(member)
        if value is not None and not isinstance(value, str):
            self.extra[member] = value
            return None
        return value

    def unknown(self, members: dict[str, Any], known: set[str], prefix: str = "") -> None:
        for member, value in members.items():
            if member not in known:
                self.extra[prefix + member] = value

    def identity(self, data: dict[str, Any]) -> None:
        if data.get("marketType") not in {None, self.market_type}:
            self.extra["marketType"] = data["marketType"]
        if self.column(data, "marketIndex") not in {None, self.market_index}:
            self.extra["marketIndex"] = data["marketIndex"]


def _load(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise _CannotBeRead(constant)

    try:
        return json.loads(text, parse_float=Decimal, parse_constant=refuse)
    except ValueError as error:
        raise _CannotBeRead(str(error)) from error


def _book(data: dict[str, Any], notes: _Notes) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for side, member, sign in (("bid", "bids", -1), ("ask", "asks", 1)):
        columns |= _side(data.get(member), notes, side=side, member=member, sign=sign)
    for side in ("bid", "ask"):
        for what in ("price", "size"):
            levels = columns[f"{side}_{what}"]
            columns[f"best_{side}_{what}"] = levels[0] if levels else None
    for name, member in (
        ("ts", "ts"),
        ("slot", "slot"),
        ("market_slot", "marketSlot"),
        ("mark_price", "markPrice"),
        ("venue_best_bid_price", "bestBidPrice"),
        ("venue_best_ask_price", "bestAskPrice"),
        ("spread_pct", "spreadPct"),
        ("spread_quote", "spreadQuote"),
        ("oracle_price", "oracle"),
    ):
        columns[name] = notes.column(data, member)
    columns |= _oracle(data, notes, prefix="oracle_data", member="oracleData")
    columns |= _oracle(data, notes, prefix="mm_oracle", member="mmOracleData")
    notes.text(data, "marketName")
    notes.identity(data)
    notes.unknown(
        data,
        {
            *("bids", "asks", "marketName", "marketType", "marketIndex", "ts", "slot", "markPrice", "bestBidPrice"),
            *("bestAskPrice", "spreadPct", "spreadQuote", "oracle", "oracleData", "mmOracleData", "marketSlot"),
        },
    )
    _judge(columns, notes)
    return columns


def _judge(columns: dict[str, Any], notes: _Notes) -> None:
    bids, asks = columns["bid_price"], columns["ask_price"]
    if not bids or not asks:
        notes.flags |= ONE_SIDED
        return
    if bids[0] is None or asks[0] is None:
        return
    if bids[0] > asks[0]:
        notes.flags |= CROSSED
    if bids[0] == asks[0]:
        notes.flags |= LOCKED
    venue_bid, venue_ask = columns["venue_best_bid_price"], columns["venue_best_ask_price"]
    bid = bids[0] if venue_bid is None else venue_bid
    ask = asks[0] if venue_ask is None else venue_ask
    if columns["spread_pct"] and bid + ask > 0:
        percent = Fraction(ask - bid, 1) / Fraction(bid + ask, 2) * 100 * 10**6
        if percent >= 1000 and 30 <= int(percent) / Fraction(columns["spread_pct"]) <= 300:
            notes.flags |= SPREAD_UNIT


def _side(levels: Any, notes: _Notes, *, side: str, member: str, sign: int) -> dict[str, Any]:
    if not isinstance(levels, list) or not all(isinstance(level, dict) for level in levels):
        raise _CannotBeRead(member)
    priced = [(_level_value(level.get("price"), notes), level) for level in levels]
    best_first = sorted((p for p in priced if p[0] is not None), key=lambda p: sign * p[0])
    best_first += [p for p in priced if p[0] is None]
    if [id(p[1]) for p in best_first] != [id(p[1]) for p in priced]:
        notes.flags |= UNSORTED
    found: dict[str, Any] = {f"{side}_price": [], f"{side}_size": [], f"{side}_source": [], f"{side}_part": []}
    for at, (price, level) in enumerate(best_first):
        path = f"{member}[{at}]."
        size = _level_value(level.get("size"), notes)
        notes.unknown(level, {"price", "size", "sources"}, path)
        sources = level.get("sources")
        if sources is not None and not isinstance(sources, dict):
            notes.extra[f"{path}sources"] = sources
        parts: dict[int, int | None] = {}
        for name, value in (sources if isinstance(sources, dict) else {}).items():
            if name in SOURCE_BITS:
                parts[SOURCE_BITS[name]] = _level_value(value, notes)
                continue
            notes.flags |= OTHER_SOURCE
            notes.extra[f"{path}sources.{name}"] = value
            amount = notes.fixed(value)
            if amount is None:
                parts.setdefault(OTHER, None)
            else:
                parts[OTHER] = (parts.get(OTHER) or 0) + amount
        if parts.get(OTHER) is not None and abs(parts[OTHER] or 0) > LIMIT:
            notes.flags |= SATURATED
            parts[OTHER] = LIMIT if (parts[OTHER] or 0) > 0 else -LIMIT
        found[f"{side}_price"].append(price)
        found[f"{side}_size"].append(size)
        found[f"{side}_source"].append(sum(parts))
        if len(parts) > 1 or (len(parts) == 1 and [*parts.values()] != [size]):
            found[f"{side}_part"] += [parts[bit] for bit in sorted(parts)]
    return found


def _level_value(value: Any, notes: _Notes) -> int | None:
    if value is None:
        notes.flags |= SATURATED
        return None
    number = notes.fixed(value)
    if number is None:
        raise _CannotBeRead(repr(value))
    return number


def _oracle(data: dict[str, Any], notes: _Notes, *, prefix: str, member: str) -> dict[str, Any]:
    members = data.get(member)
    if not isinstance(members, dict):
        if members is not None and not (isinstance(members, str) and members.lower() == "null"):
            notes.extra[member] = members
        members = {}
    numbers = {
        "price": "price",
        "slot": "slot",
        "confidence": "confidence",
        "twap": "twap",
        "twap_confidence": "twapConfidence",
        "max_price": "maxPrice",
    }
    columns: dict[str, Any] = {
        f"{prefix}_{name}": notes.column(members, sent, prefix=f"{member}.") for name, sent in numbers.items()
    }
    sufficient = members.get("hasSufficientNumberOfDataPoints")
    columns[f"{prefix}_sufficient"] = sufficient
    if sufficient not in {None, True, False} or isinstance(sufficient, Decimal):
        raise AssertionError("the reference knows JSON booleans only")
    notes.unknown(members, {*numbers.values(), "hasSufficientNumberOfDataPoints"}, f"{member}.")
    return columns


def _trade(data: dict[str, Any], notes: _Notes, size_exponent: int | None) -> dict[str, Any]:
    size = 9 if size_exponent is None else size_exponent
    if size_exponent is None:
        notes.flags |= ASSUMED_SCALE
    numbers = {
        "ts": ("ts", 3),
        "slot": ("slot", 0),
        "fill_record_id": ("fillRecordId", 0),
        "base_amount": ("baseAssetAmountFilled", size),
        "quote_amount": ("quoteAssetAmountFilled", 6),
        "oracle_price": ("oraclePrice", 6),
        "taker_order_id": ("takerOrderId", 0),
        "maker_order_id": ("makerOrderId", 0),
        "taker_fee": ("takerFee", 6),
        "maker_fee": ("makerFee", 6),
        "quote_surplus": ("quoteAssetAmountSurplus", 6),
        "referrer_reward": ("referrerReward", 6),
        "taker_order_base_amount": ("takerOrderBaseAssetAmount", size),
        "taker_order_base_filled": ("takerOrderCumulativeBaseAssetAmountFilled", size),
        "taker_order_quote_filled": ("takerOrderCumulativeQuoteAssetAmountFilled", 6),
        "maker_order_base_amount": ("makerOrderBaseAssetAmount", size),
        "maker_order_base_filled": ("makerOrderCumulativeBaseAssetAmountFilled", size),
        "maker_order_quote_filled": ("makerOrderCumulativeQuoteAssetAmountFilled", 6),
        "bit_flags": ("bitFlags", 0),
    }
    texts = {
        "action": "action",
        "action_explanation": "actionExplanation",
        "taker": "taker",
        "maker": "maker",
        "filler": "filler",
        "taker_direction": "takerOrderDirection",
        "maker_direction": "makerOrderDirection",
        "tx_sig": "txSig",
        "maker_indicative_key": "makerIndicativeKey",
    }
    known = {member for member, _ in numbers.values()} | set(texts.values())
    if not known & data.keys():
        raise _CannotBeRead("not a trade")
    columns: dict[str, Any] = {name: notes.column(data, member, scale) for name, (member, scale) in numbers.items()}
    columns |= {name: notes.text(data, member) for name, member in texts.items()}
    notes.identity(data)
    notes.unknown(data, known | {"marketType", "marketIndex"})
    base, quote = columns["base_amount"], columns["quote_amount"]
    usable = base and quote is not None and LIMIT not in {abs(base), abs(quote)}
    columns["price"] = float(Fraction(quote, 10**6) / Fraction(base, 10**size)) if usable else None
    columns["aggressor"] = None
    if columns["taker_direction"] is not None:
        columns["aggressor"] = {"long": "buy", "short": "sell"}.get(columns["taker_direction"])
    elif columns["maker_direction"] is not None:
        columns["aggressor"] = {"long": "sell", "short": "buy"}.get(columns["maker_direction"])
    columns["is_market_trade"] = columns["action_explanation"] != "transferPerpPosition"
    return columns


def _fees(data: dict[str, Any], notes: _Notes) -> dict[str, Any]:
    names = {
        "min": "min",
        "low": "low",
        "medium": "medium",
        "high": "high",
        "very_high": "veryHigh",
        "unsafe_max": "unsafeMax",
    }
    if not set(names.values()) & data.keys():
        raise _CannotBeRead("not priority fees")
    notes.identity(data)
    notes.unknown(data, {*names.values(), "marketType", "marketIndex"})
    return {name: notes.column(data, member, 6) for name, member in names.items()}
