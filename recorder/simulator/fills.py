"""
Fills of one market, as transactions: a taker against several makers, the pool, liquidations, position transfers.

Every kind that was seen in the captured frames occurs, at about the captured shares. Fill ids count per market.
"""

import math
import random

import msgspec

from recorder.simulator.frames import Fill, Party
from recorder.simulator.market import MarketModel

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PAIRS = [first + second for first in _BASE58 for second in _BASE58]

_PERP_KINDS = {
    "orderFilledWithMatch": 0.45,
    "orderFilledWithMatchJit": 0.13,
    "orderFilledWithAmm": 0.14,
    "orderFilledWithAmmJit": 0.07,
    "taker absent, pool": 0.07,
    "taker absent, match": 0.02,
    "filler absent": 0.02,
    "liquidation": 0.04,
    "transferPerpPosition": 0.03,
    "orderFilledWithAmmJitLpSplit": 0.015,
    "orderFilledWithLpJit": 0.015,
}
_SPOT_KINDS = {
    "orderFilledWithMatch": 0.66,
    "orderFilledWithOpenbookV2": 0.26,
    "orderFillWithPhoenix": 0.08,
}
_POOL_KINDS = frozenset(
    {"orderFilledWithAmm", "orderFilledWithAmmJit", "orderFilledWithAmmJitLpSplit", "orderFilledWithLpJit"}
)
_EXTERNAL_KINDS = frozenset({"orderFilledWithOpenbookV2", "orderFillWithPhoenix"})
_BIT_FLAGS = ([0, 1, 2, 4, 8, 16, 32], [0.62, 0.3, 0.02, 0.01, 0.01, 0.03, 0.01])
_TAKER_FEE, _MAKER_REBATE = 3.5e-4, 2.5e-5

Transaction = list[Fill]
"""Fills with one signature, in order."""


def base58(number: int) -> str:
    """
    As Solana prints keys and signatures (without the rule for leading zero bytes, which random ones do not have).
    """
    pairs: list[str] = []
    while number:
        number, pair = divmod(number, 58 * 58)
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs)).lstrip("1")


class Accounts(msgspec.Struct, frozen=True):
    """
    Who trades; the same people in all markets.
    """

    takers: list[str]
    makers: list[str]
    fillers: list[str]
    indicative: list[str]
    """Keys of the makers known to quote indicatively."""


def make_accounts(seed: int) -> Accounts:
    """
    A few hundred of them.
    """
    rng = random.Random(f"accounts {seed}")
    keys = [base58(rng.getrandbits(256)) for _ in range(270)]
    return Accounts(keys[:200], keys[200:260], keys[260:264], keys[264:])


class Fills:
    """
    The fills of one market, with its counter.
    """

    def __init__(self, model: MarketModel, accounts: Accounts, *, seed: int) -> None:
        self._model = model
        self._market = model.market
        self._accounts = accounts
        self._random = random.Random(f"fills {seed} {self._market.market_type} {self._market.index}")
        self._last_id = self._random.randrange(1_000_000, 2_000_000)
        kinds = _PERP_KINDS if self._market.market_type == "perp" else _SPOT_KINDS
        self._kinds, self._weights = list(kinds), list(kinds.values())

    def in_slot(self, *, slot: int, ts_s: int, slot_s: float) -> list[Transaction]:
        """
        The transactions of one slot, oldest first.
        """
        rate = self._market.fills_per_s * slot_s / 1.25  # fills a transaction
        again = rate / (1 + rate)
        transactions: list[Transaction] = []
        while self._random.random() < again:
            transactions.append(self._transaction(slot=slot, ts_s=ts_s))
        return transactions

    def _transaction(self, *, slot: int, ts_s: int) -> Transaction:
        rng, market = self._random, self._market
        kind = rng.choices(self._kinds, self._weights)[0]
        long = rng.random() < 0.5
        scale = 10**market.size_exponent
        notional = math.exp(rng.gauss(6.0, 1.5))
        ordered = max(1, round(notional / (self._model.oracle / 1e6) * scale / market.step)) * market.step
        several = kind in {"orderFilledWithMatch", "orderFilledWithMatchJit"} and rng.random() < 0.25
        amounts = [ordered] if not several else [max(1, ordered // market.step // 2) * market.step] * 2
        tx_sig = base58(rng.getrandbits(512))
        taker_key = rng.choice(self._accounts.takers)
        taker_order, bit_flags = rng.randrange(1, 60_000), rng.choices(*_BIT_FLAGS)[0]
        fills: Transaction = []
        base_filled = quote_filled = 0
        for number, amount in enumerate(amounts):
            price, base = self._match(kind, long=long, amount=amount)
            quote = base * price // scale
            base_filled += base
            quote_filled += quote
            self._last_id += 1
            taker = Party(
                taker_key,
                taker_order,
                "long" if long else "short",
                max(ordered, base_filled),
                base_filled,
                quote_filled,
            )
            maker = Party(
                rng.choice(self._accounts.makers),
                rng.randrange(1, 60_000),
                "short" if long else "long",
                base + market.step * rng.randrange(3),
                base,
                quote,
            )
            fill = Fill(
                ts_s=ts_s,
                market_type=market.market_type,
                market_index=market.index,
                size_exponent=market.size_exponent,
                slot=slot,
                fill_id=self._last_id,
                explanation=kind,
                base=base,
                quote=quote,
                oracle=self._model.oracle,
                tx_sig=tx_sig,
                taker=taker,
                maker=maker,
                filler=rng.choice(self._accounts.fillers),
                taker_fee=int(quote * _TAKER_FEE),
                maker_fee=-int(quote * _MAKER_REBATE),
                bit_flags=bit_flags,
            )
            # One transaction's first maker may have been an auction's, the rest ordinary ones.
            fills.append(self._of_kind(kind if number == 0 else "orderFilledWithMatch", fill))
        return fills

    def _match(self, kind: str, *, long: bool, amount: int) -> tuple[int, int]:
        if kind == "transferPerpPosition":
            return self._model.oracle, amount
        if kind in _POOL_KINDS or kind in _EXTERNAL_KINDS or kind == "taker absent, pool":
            return self._model.pool_price(long=long), amount
        return self._model.take(long=long, size=amount)

    def _of_kind(self, kind: str, fill: Fill) -> Fill:
        rng, replace = self._random, msgspec.structs.replace
        reward = int(fill.quote * 5e-5) if rng.random() < 0.15 else 0
        match kind:
            case "liquidation":
                return replace(
                    fill,
                    explanation=kind,
                    filler=None,
                    taker_fee=int(fill.quote * 0.015),
                    maker_fee=-int(fill.quote * 0.01),
                )
            case "transferPerpPosition":
                return replace(
                    fill,
                    explanation=kind,
                    filler=None,
                    taker_fee=0,
                    maker_fee=0,
                    oracle=self._model.oracle,
                    bit_flags=0,
                )
            case "taker absent, pool":
                return replace(
                    fill,
                    explanation="orderFilledWithAmm",
                    taker=None,
                    taker_fee=0,
                    quote_surplus=int(fill.quote * 1e-4),
                    referrer_reward=reward,
                )
            case "taker absent, match":
                return replace(fill, explanation="orderFilledWithMatch", taker=None, taker_fee=0)
            case "filler absent":
                return replace(fill, explanation="orderFilledWithMatch", filler=None)
            case _ if kind in _POOL_KINDS or kind in _EXTERNAL_KINDS:
                surplus = int(fill.quote * 1e-4) * (1 if rng.random() < 0.85 else -1)
                return replace(
                    fill, explanation=kind, maker=None, maker_fee=0, quote_surplus=surplus, referrer_reward=reward
                )
            case _:
                key = rng.choice(self._accounts.indicative) if rng.random() < 0.12 else None
                return replace(fill, explanation=kind, maker_indicative_key=key, referrer_reward=reward)
