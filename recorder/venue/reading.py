"""
Numbers from their digits, and an account of everything that was not as expected.

One `Reading` accompanies one payload: known members are taken out of it one by one, and what is left at the end is what
this version does not know.
"""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import msgspec

from recorder.records import Flag
from recorder.venue.payloads import INT64_MAX, JS_EXACT
from recorder.venue.protocol import ChannelName

# JSON's own grammar. The group takes part unless the text is an integer of ordinary length.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,39})|-?(?:0|[1-9][0-9]*)((?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
# More digits than an int64 at any scale has; what is larger is dealt with before it gets here.
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_INEXACT, _SATURATED, _ROUNDED = Flag.INEXACT.value, Flag.SATURATED.value, Flag.ROUNDED.value


def is_absent(value: object) -> bool:
    """
    Whether a member stands for nothing: null, or the text `null`, which msgspec reads as null when it is not strict.
    """
    return value is None or (isinstance(value, str) and value.lower() == "null")


class Reading:
    """
    The members of one payload while they are taken out, and what there is to say about them.

    `flags` collects INEXACT, SATURATED and ROUNDED.
    """

    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members
        self.flags = 0
        self._extra: dict[str, Any] = {}
        self._drift: set[str] = set()

    def note(self, path: str, value: object, name: str | None = None) -> None:
        """
        Keep `value` in `extra` at `path`, and its name (by default the path) in `drift`.
        """
        self._extra[path] = value
        self._drift.add(name or path)

    def integer(self, value: object, scale: int = 0) -> int | None:
        """
        A number or the text of one, ×10^`scale`, in range; None for anything else.
        """
        if scale == 0 and type(value) is int and -JS_EXACT < value < JS_EXACT:
            return value  # nearly all
        number: int | Decimal
        if isinstance(value, str):
            match = _NUMBER.fullmatch(value)
            if match is None:
                return None
            number = int(value) if match[1] is None else Decimal(value)
        elif isinstance(value, int | Decimal) and not isinstance(value, bool):
            number = value
            if not -JS_EXACT < number < JS_EXACT:
                self.flags |= _INEXACT
        else:
            return None
        scaled, exact = _scaled(number, scale)
        if not exact:
            self.flags |= _ROUNDED
        return self.clamped(scaled)

    def clamped(self, number: int) -> int:
        """
        The nearest number in range.
        """
        if abs(number) <= INT64_MAX:
            return number
        self.flags |= _SATURATED
        return INT64_MAX if number > 0 else -INT64_MAX

    def number(self, member: str, scale: int = 0) -> int | None:
        """
        Take out a numeric member.
        """
        return self.number_of(self.members, member, member, scale)

    def number_of(self, members: dict[str, Any], member: str, path: str, scale: int = 0) -> int | None:
        """
        Take a numeric member out of a nested object.
        """
        value = members.pop(member, None)
        if is_absent(value):
            return None
        number = self.integer(value, scale)
        if number is None:
            self.note(path, value)
        return number

    def truth_of(self, members: dict[str, Any], member: str, parent: str) -> bool | None:
        """
        Take a boolean out of a nested object, in the spellings that msgspec takes when it is not strict.
        """
        value = members.pop(member, None)
        text = str(value).lower() if isinstance(value, str | int) else ""
        if text in {"true", "1"}:
            return True
        if text in {"false", "0"}:
            return False
        if not is_absent(value):
            self.note(f"{parent}.{member}", value)
        return None

    def text(self, member: str) -> str | None:
        """
        Take out a member that is text.
        """
        value = self.members.pop(member, None)
        if value is None or isinstance(value, str):
            return value
        self.note(member, value)
        return None

    def identity(self, channel: ChannelName) -> None:
        """
        Take out the members that repeat what the channel's name says; note them if they say otherwise.
        """
        market_type = self.text("marketType")
        if market_type not in {None, channel.market_type}:
            self.note("marketType", market_type)
        sent = self.members.get("marketIndex")
        if self.number("marketIndex") not in {None, channel.market_index}:
            self.note("marketIndex", sent)

    def rest(self) -> tuple[str | None, tuple[str, ...]]:
        """
        `extra` and `drift`, once all known members are taken out.
        """
        for name, value in self.members.items():
            self.note(name, value)
        return (_json(self._extra) if self._extra else None), tuple(sorted(self._drift))


def _scaled(number: int | Decimal, scale: int) -> tuple[int, bool]:
    """
    The integer nearest to `number` ×10^`scale`, half to even, and whether it is equal.

    Far outside int64 any integer outside int64 stands for it: nobody expands `1e999999`.
    """
    if isinstance(number, int):
        return number * 10**scale, True
    if not number:
        return 0, True
    digits = number.adjusted() + scale
    if digits > 19:
        _, sent, exponent = number.as_tuple()
        finer = min(int(exponent) + scale, 0)
        return (-1 if number < 0 else 1) << 64, finer == 0 or not any(sent[finer:])
    if digits < -1:
        return 0, False
    rounded = number.quantize(Decimal((0, (1,), -scale)), context=_CONTEXT)
    return int(rounded.scaleb(scale, _CONTEXT)), rounded == number


def _json(value: object) -> str:
    """
    JSON with numbers as sent: no encoder at hand writes both Decimal and integers beyond 64 bits.
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json(k)}:{_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    return msgspec.json.encode(value).decode()
