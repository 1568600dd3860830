"""
What a trade's members are, and the fast way through those that are written as the servers write them.

A trade is decimals: `9.86` is read from its digits, never through a double. The fast way takes numbers that are written
without quotes and exponents and stay inside int64 once scaled; any other trade is read by `exact.py`, into the same
record.

Source: the public server code and captures of it (`tests/fixtures/README.md`).
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal

import msgspec

from recorder.records import Flag
from recorder.venue.payloads import INT64_MAX, JS_EXACT, Trade
from recorder.venue.protocol import PERP_SIZE_EXPONENT, PRICE_EXPONENT, ChannelName

POSITION_TRANSFER = "transferPerpPosition"
"""A user moving a position between own accounts, at the oracle's price: not a market trade."""

_SIZE: Literal["size"] = "size"

_SCALES: dict[str, int | Literal["size"]] = {
    "ts": 3,
    "slot": 0,
    "fillRecordId": 0,
    "baseAssetAmountFilled": _SIZE,
    "quoteAssetAmountFilled": PRICE_EXPONENT,
    "oraclePrice": PRICE_EXPONENT,
    "takerOrderId": 0,
    "makerOrderId": 0,
    "takerFee": PRICE_EXPONENT,
    "makerFee": PRICE_EXPONENT,
    "quoteAssetAmountSurplus": PRICE_EXPONENT,
    "referrerReward": PRICE_EXPONENT,
    "takerOrderBaseAssetAmount": _SIZE,
    "takerOrderCumulativeBaseAssetAmountFilled": _SIZE,
    "takerOrderCumulativeQuoteAssetAmountFilled": PRICE_EXPONENT,
    "makerOrderBaseAssetAmount": _SIZE,
    "makerOrderCumulativeBaseAssetAmountFilled": _SIZE,
    "makerOrderCumulativeQuoteAssetAmountFilled": PRICE_EXPONENT,
    "bitFlags": 0,
}

TRADE_NUMBERS = tuple(_SCALES)
"""The numeric members of a trade. `made_trade` takes their values in this order, and those of TRADE_TEXTS in theirs."""

TRADE_TEXTS = (
    *("action", "actionExplanation", "taker", "maker", "filler", "takerOrderDirection", "makerOrderDirection"),
    *("txSig", "makerIndicativeKey"),
)

_AGGRESSORS: dict[str | None, Literal["buy", "sell"]] = {"long": "buy", "short": "sell"}
_OPPOSITES: dict[str | None, Literal["buy", "sell"]] = {"long": "sell", "short": "buy"}

_ROUNDED, _ASSUMED_SCALE = Flag.ROUNDED.value, Flag.ASSUMED_SCALE.value

_WireTrade = msgspec.defstruct(
    "_WireTrade",
    [
        *((name, Any, None) for name in TRADE_NUMBERS),
        ("marketIndex", Any, None),
        ("marketType", str | None, None),
        *((name, str | None, None) for name in TRADE_TEXTS),
    ],
    gc=False,
    forbid_unknown_fields=True,
)

# Numbers with a fraction or an exponent come as their digits, in bytes: text would be what was sent in quotes.
_decoder = msgspec.json.Decoder(_WireTrade, float_hook=str.encode)


@cache
def scales(size_exponent: int | None) -> tuple[int, ...]:
    """
    What each of TRADE_NUMBERS is scaled by: the exponent of ten. An unknown token is taken for one of 9 decimals.
    """
    size = PERP_SIZE_EXPONENT if size_exponent is None else size_exponent
    return tuple(size if scale == _SIZE else scale for scale in _SCALES.values())


def read_usual_trade(data: str, channel: ChannelName, *, size_exponent: int | None) -> Trade | None:
    """
    None for a trade that has to go the exact way.
    """
    try:
        values = msgspec.structs.astuple(_decoder.decode(data))
        numbers, rounded = _scaled(values[: len(TRADE_NUMBERS)], scales(size_exponent))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    index, market_type, *texts = values[len(TRADE_NUMBERS) :]
    if market_type not in {None, channel.market_type} or (index is not None and type(index) is not int):
        return None
    if index not in {None, channel.market_index} or numbers[3] is None or numbers[4] is None:
        return None
    return made_trade(channel, numbers, texts, size_exponent=size_exponent, flags=_ROUNDED if rounded else 0)


def _scaled(sent: Iterable[object], exponents: tuple[int, ...]) -> tuple[list[int | None], bool]:
    """
    Numbers in units of 10^-exponent, half to even, and whether one was rounded.

    Raises:
        ValueError: one is no number as usually sent.
    """
    numbers: list[int | None] = []
    rounded = False
    for value, exponent in zip(sent, exponents, strict=True):
        if type(value) is int:
            if not -JS_EXACT < value < JS_EXACT:
                raise ValueError(value)
            number = value * 10**exponent
        elif type(value) is bytes:
            whole, _, fraction = value.partition(b".")
            if len(whole) > 15 or len(fraction) > 20:
                raise ValueError(value)
            number = int(whole + fraction)  # an exponent raises
            if len(fraction) <= exponent:
                number *= 10 ** (exponent - len(fraction))
            else:
                unit = 10 ** (len(fraction) - exponent)
                number, rest = divmod(number, unit)
                number += 2 * rest > unit or (2 * rest == unit and number & 1)
                rounded = rounded or rest != 0
        elif value is None:
            numbers.append(None)
            continue
        else:
            raise ValueError(value)
        if not -INT64_MAX <= number <= INT64_MAX:
            raise ValueError(value)
        numbers.append(number)
    return numbers, rounded


def made_trade(
    channel: ChannelName,
    numbers: Iterable[int | None],
    texts: Iterable[str | None],
    *,
    size_exponent: int | None,
    flags: int,
    extra: str | None = None,
    drift: tuple[str, ...] = (),
) -> Trade:
    """
    A trade of its members, and what follows from them: price, aggressor, whether it is a market trade.

    Args:
        channel: Where it came from.
        numbers: Values of TRADE_NUMBERS, scaled.
        texts: Values of TRADE_TEXTS.
        size_exponent: As in `normalize.decode`.
        flags: What reading the numbers told.
        extra: As in `Trade`.
        drift: As in `Trade`.
    """
    ts, slot, fill_record_id, base, quote, oracle_price, taker_order_id, maker_order_id, *rest = numbers
    taker_fee, maker_fee, quote_surplus, referrer_reward, *rest = rest
    taker_base, taker_base_filled, taker_quote_filled, *rest = rest
    maker_base, maker_base_filled, maker_quote_filled, bit_flags = rest
    action, explanation, taker, maker, filler, taker_direction, maker_direction, tx_sig, indicative_key = texts
    price = None
    if base and quote is not None and abs(base) < INT64_MAX and abs(quote) < INT64_MAX:
        # One division of two integers: the double nearest to the quotient.
        size = PERP_SIZE_EXPONENT if size_exponent is None else size_exponent
        price = (quote * 10**size) / (base * 10**PRICE_EXPONENT)
    return Trade(
        channel,
        ts,
        slot,
        fill_record_id,
        base,
        quote,
        price,
        _OPPOSITES.get(maker_direction) if taker_direction is None else _AGGRESSORS.get(taker_direction),
        explanation != POSITION_TRANSFER,
        action,
        explanation,
        oracle_price,
        taker,
        maker,
        filler,
        taker_order_id,
        maker_order_id,
        taker_direction,
        maker_direction,
        taker_fee,
        maker_fee,
        quote_surplus,
        referrer_reward,
        taker_base,
        taker_base_filled,
        taker_quote_filled,
        maker_base,
        maker_base_filled,
        maker_quote_filled,
        tx_sig,
        bit_flags,
        indicative_key,
        flags | (_ASSUMED_SCALE if size_exponent is None else 0),
        extra,
        drift,
    )
