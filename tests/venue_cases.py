"""
Frames to decode, and what all ways of decoding must say of one.
"""

import json
from typing import Any

import msgspec

import reference
from recorder.venue.exact import decode_exactly
from recorder.venue.normalize import Book, Fees, Side, Trade, Undecodable, decode, decode_in_python
from recorder.venue.payloads import BOOK_NUMBERS, NULL

BOOK = "orderbook_perp_0_grouped_1"
TRADE = "trades_perp_0"
FEES = "priorityFees_perp_0"


class Token(str):
    """
    A piece of JSON to be written as it stands: numbers in forms that Python would not write.
    """

    __slots__ = ()


def dump(value: Any) -> str:
    """
    JSON with tokens in place.
    """
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{dump(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value)


def frame(channel: str, data: Any, **around: Any) -> bytes:
    """
    A data frame as the server writes it: `data` is text that holds JSON.
    """
    return dump({"channel": channel, "data": dump(data)} | around).encode()


def level(price: Any, size: Any, **sources: Any) -> dict[str, Any]:
    """
    A level in the member order of grouped books.
    """
    return {"size": size, "price": price, "sources": sources or {"dlob": size}}


def columns_of(decoded: Book | Trade | Fees) -> dict[str, Any]:
    """
    A decoded record by the column names of the lake.
    """
    values = msgspec.structs.asdict(decoded)
    channel = values.pop("channel")
    values.pop("drift")
    columns = {"market_type": channel.market_type, "market_index": channel.market_index}
    values["extra"] = reference.load_extra(values["extra"])
    if isinstance(decoded, Book):
        values.pop("market_name")
        columns |= numbers_of(decoded)
        values.pop("numbers")
        for name in ("bid", "ask"):
            side = levels_of(values.pop(name))
            columns |= {f"{name}_{what}": column for what, column in side.items()}
            columns[f"best_{name}_price"] = side["price"][0] if side["price"] else None
            columns[f"best_{name}_size"] = side["size"][0] if side["size"] else None
    return columns | values


def numbers_of(decoded: Book) -> dict[str, Any]:
    """
    A book's scalars by the names of the lake's columns, null as None.
    """
    assert decoded.numbers.typecode == "q"
    values = zip(BOOK_NUMBERS, decoded.numbers, strict=True)
    return {name: None if value == NULL else value for name, value in values}


def levels_of(side: Side) -> dict[str, list[int | None]]:
    """
    A side's arrays as lists, null as None.
    """
    arrays = msgspec.structs.asdict(side)
    assert [column.typecode for column in arrays.values()] == ["q", "q", "H", "q"]
    return {name: [None if value == NULL else value for value in column] for name, column in arrays.items()}


def agree(payload: bytes, size_exponent: int | None = 9) -> Any:
    """
    Decode all ways, check that they agree with each other and with the independent decoder; the decoded record.
    """
    decoded = decode(payload, size_exponent=size_exponent)
    in_python = decode_in_python(payload, size_exponent=size_exponent)
    exactly = decode_exactly(payload, size_exponent=size_exponent)
    expected = reference.decode(payload, size_exponent=size_exponent)
    if expected is None:
        assert isinstance(decoded, Undecodable)
        assert isinstance(in_python, Undecodable)
        assert isinstance(exactly, Undecodable)
    else:
        assert not isinstance(decoded, Undecodable), decoded.reason
        assert decoded == in_python == exactly
        assert columns_of(decoded) == expected.columns
        assert getattr(decoded, "market_name", None) == (expected.market_name if isinstance(decoded, Book) else None)
    return decoded
