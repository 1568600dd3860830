"""
What JavaScript prints: the venue is written in it, and its numbers and strings are part of the wire format.
"""

import re
from decimal import Decimal
from json.encoder import encode_basestring

SAFE_INTEGER = 2**53
"""Integers above it have lost their last digits before they are printed."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def js_number(value: float) -> str:
    """
    `String(value)` of a JavaScript number; `null`, as JSON has it, for what is not finite.

    The digits are those of Python's `repr` (both print the shortest text that reads back equal); where the exponent
    begins differs: JavaScript writes 1e-7 and 1e+21, Python 1e-05 and 1e+16.
    """
    if isinstance(value, int) and -SAFE_INTEGER <= value <= SAFE_INTEGER:
        return str(int(value))
    value = float(value)
    text = repr(value)
    if "e" not in text:
        if text.endswith(".0"):
            return "0" if value == 0 else text[:-2]
        return text if "n" not in text else "null"  # nan, inf
    sign, digits, exponent = Decimal(text).normalize().as_tuple()
    figures = "".join(map(str, digits))
    point = len(figures) + int(exponent)  # figures left of the decimal point
    minus = "-" if sign else ""
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{figures}"
    if 0 < point <= 21:
        return minus + (
            figures + "0" * (point - len(figures)) if point >= len(figures) else f"{figures[:point]}.{figures[point:]}"
        )
    mantissa = figures if len(figures) == 1 else f"{figures[0]}.{figures[1:]}"
    return f"{minus}{mantissa}e{point - 1:+d}"


def js_decimal(amount: int, exponent: int) -> float:
    """
    `amount` divided by 10^`exponent` as the venue does it: whole part plus remainder, hence 3.7199999999999998.
    """
    scale: int = 10**exponent
    whole, rest = divmod(abs(amount), scale)
    value = whole + rest / scale
    return -value if amount < 0 else value


def js_string(text: str) -> str:
    """
    `JSON.stringify` of a string.
    """
    quoted: str = encode_basestring(text)
    if quoted.isascii():
        return quoted
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


class Exact(int):
    """
    An integer that is no JavaScript number.
    """


def js_object(members: dict[str, object]) -> str:
    """
    `JSON.stringify` of an object: members in the order given, None is null. Leave out what is undefined.

    An `Exact` is printed with all its digits, as languages do that have such integers.
    """
    return "{" + ",".join(f"{js_string(name)}:{_js_value(value)}" for name, value in members.items()) + "}"


def _js_value(value: object) -> str:
    if isinstance(value, str):  # most are
        return js_string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Exact):
        return str(int(value))
    if isinstance(value, int | float):
        return js_number(value)
    if isinstance(value, dict):
        return js_object(value)
    if isinstance(value, list):
        return "[" + ",".join(map(_js_value, value)) + "]"
    return js_string(str(value))
