"""
What a client's text makes the server do: pure, by the rules of the May 2026 server.

Letter case does not count in `type`, `marketType`, `channel` and `market`. Whatever is no request is silently ignored.
A grouping is checked by its leading integer but used as sent, so `"10abc"` is acknowledged and never published.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

import msgspec

from recorder.simulator.frames import ack_frame, error_frame, error_text
from recorder.simulator.js import js_number, js_object
from recorder.venue.protocol import BOOK_CHANNELS, CLOSE_UNSUPPORTED, GROUPINGS

_BUS_PREFIX = re.compile("dlob-helius:|dlob:")
_LEADING_INTEGER = re.compile(r"\s*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(\d+))")


class Subscribe(msgspec.Struct, frozen=True):
    """
    Send `ack`, then what is published under `name` (which may be nothing).
    """

    name: str
    ack: str


class Unsubscribe(msgspec.Struct, frozen=True):
    """
    Stop `name`; nothing is answered.
    """

    name: str


class Refuse(msgspec.Struct, frozen=True):
    """
    Answer with an error frame; the connection stays open.
    """

    frame: str


class Hang(msgspec.Struct, frozen=True):
    """
    Close the connection.
    """

    code: int
    reason: str


class Crash(msgspec.Struct, frozen=True):
    """
    The process ends on this request, and every client is cut.
    """


Answer = Subscribe | Unsubscribe | Refuse | Hang | Crash


def answer(text: str, markets: Mapping[tuple[str, str], int], *, default_grouping: int | None = 1) -> Answer | None:
    """
    What the server does about one text frame.

    Args:
        text: as received.
        markets: index by (`perp` or `spot`, symbol in capitals).
        default_grouping: of books asked for without a usable grouping; None: ungrouped, as old servers had it.

    Returns:
        None for what is silently ignored.
    """
    try:
        request = json.loads(text, parse_constant=_refuse_constant, parse_int=float)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict) or not isinstance(request.get("type"), str):
        return None
    op: Literal["subscribe", "unsubscribe"]
    match request["type"].lower():
        case "subscribe":
            op = "subscribe"
        case "unsubscribe":
            op = "unsubscribe"
        case _:
            return None
    name = _channel_name(request, markets, default_grouping)
    if name is not None:
        if op == "unsubscribe":
            return Unsubscribe(name)
        spelled = {key: request[key] for key in ("channel", "market")}
        return Subscribe(name, ack_frame(**spelled, market_type=request["marketType"]))
    channel = request.get("channel")
    if channel is not None and not isinstance(channel, str):
        return Crash()
    shown = _BUS_PREFIX.sub("", channel or "")
    if not shown:
        return Hang(CLOSE_UNSUPPORTED, js_object({"error": error_text(op)}))
    return Refuse(error_frame(channel=shown, op=op))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _channel_name(
    request: dict[str, Any], markets: Mapping[tuple[str, str], int], default_grouping: int | None
) -> str | None:
    channel, market, market_type = (request.get(key) for key in ("channel", "market", "marketType"))
    if not (isinstance(channel, str) and isinstance(market, str) and isinstance(market_type, str)):
        return None
    market_type = market_type.lower()
    index = markets.get((market_type, market.upper()))
    if index is None:
        return None
    stream = f"{market_type}_{index}"
    channel = channel.lower()
    if channel == "trades":
        return f"trades_{stream}"
    if channel == "priorityfees":
        return f"priorityFees_{stream}"
    if channel not in BOOK_CHANNELS:
        return None
    suffix = "_indicative" if channel == "orderbook_indicative" else ""
    grouping = _grouping(request.get("grouping")) or default_grouping
    return f"orderbook_{stream}{f'_grouped_{grouping}' if grouping is not None else ''}{suffix}"


def _grouping(value: object) -> str | None:
    if not value and not isinstance(value, list | dict):
        return None
    shown = _js_text(value)
    match = _LEADING_INTEGER.match(shown)
    if match is None:
        return None
    sign, hexadecimal, digits = match.groups()
    leading = int(hexadecimal, 16) if hexadecimal else int(digits[:20])
    return shown if sign != "-" and leading in GROUPINGS else None


def _js_text(value: object) -> str:
    """
    `String(value)` of a parsed JSON value.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return js_number(value)
    if isinstance(value, list):
        return ",".join("" if element is None else _js_text(element) for element in value)
    return "[object Object]"
