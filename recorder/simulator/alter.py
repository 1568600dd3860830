"""
Frames as they should not be: data frames bent into other shapes, and things that are no frames at all.

A lone surrogate in a text stands for bytes that are not UTF-8: it is what they become on the wire.
"""

import json
from typing import Any

from recorder.simulator.js import js_object
from recorder.simulator.kinds import Altered, Garbled

GARBAGE: dict[Garbled, str] = {
    "brace": "{",
    "empty": "",
    "array": '[{"channel":"heartbeat"}]',
    "null": "null",
    "html": "<html><body><h1>502 Bad Gateway</h1></body></html>",
    "deep": "[" * 5000,
    "bad_utf8": '{"channel":"heartbeat\ud800"}',
    "control": '{"channel":"heart\x00beat\x1b[2J"}',
    "long": '{"channel":"' + "x" * 200_000 + '"}',
    "unknown_channel": '{"channel":"candles_perp_0","data":"{\\"open\\":1}"}',
    "unknown_object": '{"hello":"world","version":3}',
    "bus_error": '{"error":"Error subscribing to channel: [object Object]"}',
    "unrequested": '{"channel":"orderbook_perp_59_grouped_1","data":"{\\"bids\\":[],\\"asks\\":[],\\"slot\\":1}"}',
    "stale_heartbeat": '{"channel":"heartbeat","data":"late"}',
    "binary": '{"channel":"heartbeat"}',
}
"""By kind; `binary` goes out as a binary frame, all others as text."""

BUS_ERROR = GARBAGE["bus_error"]


def alter(text: str, what: Altered) -> str:
    """
    A data frame in another shape. What does not apply to its family (levels to a trade) leaves it as it was.
    """
    match what:
        case "truncated":
            return text[: len(text) // 2]
        case "bad_utf8":
            return text[: len(text) // 2] + "\ud800" + text[len(text) // 2 :]
        case "html":
            return GARBAGE["html"]
    envelope: dict[str, Any] = json.loads(text)
    payload: dict[str, Any] = json.loads(envelope["data"])
    match what:
        case "object_data":
            envelope["data"] = payload
            return js_object(envelope)
        case "envelope_member":
            envelope["version"] = 2
        case "prefixed":
            envelope["channel"] = f"dlob:{envelope['channel']}"
        case "stored_name":
            envelope["channel"] = f"last_update_{envelope['channel']}"
        case "sorted_members":
            payload = _sorted(payload)
        case "payload_member":
            payload["sequence"] = {"epoch": 7, "number": "12"}
        case "no_slot" | "no_ts":
            payload.pop(what[3:], None)
        case "no_fill_id":
            payload.pop("fillRecordId", None)
        case "explanation":
            if "actionExplanation" in payload:
                payload["actionExplanation"] = "orderFilledByDecree"
        case "other_name":
            if "marketName" in payload:
                payload["marketName"] = "OTHER-PERP"
        case "prelaunch":
            if "oracleData" in payload:
                price = payload["oracleData"]["price"]
                payload["oracleData"] |= {"twap": price, "twapConfidence": "0", "maxPrice": f"{price}0"}
        case _ if "bids" in payload:
            _alter_levels(payload, what)
    envelope["data"] = js_object(payload)
    return js_object(envelope)


def _alter_levels(payload: dict[str, Any], what: Altered) -> None:
    levels: list[dict[str, Any]] = payload["bids"] + payload["asks"]
    match what:
        case "level_member":
            for level in levels:
                level["orders"] = 3
        case "source":
            for level in levels:
                level["sources"] = {"moonbook": level["size"]}
        case "null_level":
            for level in levels[:1]:
                level["price"] = None
        case "strings":
            for level in levels:
                level["price"], level["size"] = str(level["price"]), str(level["size"])
        case "huge":
            for level in levels[:1]:
                level["size"] = 1.5e21
        case "unsorted":
            payload["bids"].reverse()
            payload["asks"].reverse()


def _sorted(value: Any) -> Any:  # noqa: ANN401  # any JSON
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_sorted(member) for member in value]
    return value
