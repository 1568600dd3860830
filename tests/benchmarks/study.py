"""
The books on which the size of a sealed book is budgeted: three markets, 20 levels a side, a tick of 400 ms.

A seeded model apart from the simulator, so that what the lake needs for a book is not judged by one generator only. An
oracle walks at random; 80 orders a side rest and churn, with heavy-tailed sizes of which half are round; 15 quotes a
side follow the oracle; a pool quotes levels whose sizes change in their last digits whenever the oracle moves. All of
it meets on the price grid, and the best twenty levels are sent.
"""

import math
import random
from collections.abc import Iterator

import msgspec
from load import HOUR, TICK_MS, WIRE_NS, Frame

from recorder.records import Stream

LEVELS = 20
RESTING = 80
MEAN_DISTANCE = 0.005
"""Of a resting order from the middle, as a share of the price."""
POOL_REACH = 40
"""Of the pool's levels, those that can be among the best twenty."""
POOL_OFFSETS = [4e-4, 4.3e-4, 4.9e-4, *(6.2e-4 + 6e-4 * level for level in range(POOL_REACH - 3))]
POOL_QUOTE = [500.0, 1000.0, 2000.0, 5000.0, *[15_000.0] * (POOL_REACH - 4)]
QUOTE_BANDS = ((3e-4, 2e-4), (8e-4, 4e-4), (2e-3, 2e-3))
"""Five quotes a side in each: nearest offset from the oracle, and how far they spread."""
FIRST_SLOT = 381_000_000


class Spec(msgspec.Struct, frozen=True):
    """
    What is fixed about a market. Price and tick ×10^6, step ×10^9.
    """

    symbol: str
    index: int
    price: int
    tick: int
    step: int
    volatility: float
    churn: float


MARKETS = (
    Spec("SOL-PERP", 0, 185_000_000, 100, 10_000_000, 2.0e-4, 0.030),
    Spec("APT-PERP", 3, 4_800_000, 100, 100_000_000, 2.5e-4, 0.012),
    Spec("1MBONK-PERP", 4, 12_400_000, 10, 1_000_000_000, 3.0e-4, 0.010),
)
STREAMS = [Stream("perp", spec.symbol, "orderbook", 1) for spec in MARKETS]


class Book:
    """
    One market, tick by tick.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._random = random.Random(f"study {spec.symbol}")
        self._price = float(spec.price)
        self._oracle = spec.price
        self._oracle_slot = self._slot = FIRST_SLOT
        self._twap = float(spec.price)
        self._confidence = int(spec.price * 4e-4)
        self._inventory = 0.0
        self._resting = [[self._order(side) for _ in range(RESTING)] for side in (-1, 1)]
        self._quotes = [
            [(near + spread * self._random.random(), self._size(3.0)) for near, spread in QUOTE_BANDS for _ in range(5)]
            for _ in (-1, 1)
        ]
        self._pool = self._pool_sizes()

    def _size(self, times: float = 1.0) -> int:
        steps = math.exp(self._random.gauss(6.3, 1.5)) * times / (self._spec.price / 1e6) * 1e9 / self._spec.step
        size = max(1, round(steps))
        if self._random.random() < 0.5:
            # People like round lots: half of the orders have two significant digits.
            unit = 10 ** max(0, len(str(size)) - 2)
            size = max(unit, size // unit * unit)
        return size * self._spec.step

    def _order(self, side: int) -> tuple[int, int]:
        distance = self._random.expovariate(1 / (MEAN_DISTANCE * self._price))
        ticks = max(1, round(distance / self._spec.tick))
        return round(self._price / self._spec.tick) + side * ticks, self._size()

    def _pool_sizes(self) -> list[list[int]]:
        scale = 1e15 / self._price * (1 + self._inventory)
        gauss = self._random.gauss
        return [
            [int(quote * scale * (1 + noise + 1e-7 * gauss(0, 1))) for quote in POOL_QUOTE]
            for noise in (2e-4 * gauss(0, 1), 2e-4 * gauss(0, 1))
        ]

    def advance(self) -> None:
        """
        One tick.
        """
        chance, gauss = self._random.random, self._random.gauss
        self._slot += 1 + (chance() < 0.05)
        if chance() < 0.8:
            burst = 4 if chance() < 0.02 else 1
            drift = 0.0005 * (self._price / self._spec.price - 1)
            self._price *= 1 + gauss(0, 1) * self._spec.volatility * burst - drift
            self._oracle = round(self._price)
            self._oracle_slot = self._slot - (chance() < 0.5)
            self._confidence = int(self._oracle * 4e-4 * (0.8 + 0.4 * chance()))
            self._twap += (self._oracle - self._twap) / 150
            self._pool = self._pool_sizes()
        middle = round(self._price / self._spec.tick)
        for side, orders, quotes in zip((-1, 1), self._resting, self._quotes, strict=True):
            for at, (price, _) in enumerate(orders):
                # Cancelled, or traded through.
                if chance() < self._spec.churn / 3 or (price - middle) * side <= 0:
                    orders[at] = self._order(side)
            for at, (offset, _) in enumerate(quotes):
                if chance() < 0.02:
                    quotes[at] = offset, self._size(3.0)
        if chance() < 0.05:
            orders = self._resting[chance() < 0.5]
            at = self._random.randrange(RESTING)
            price, size = orders[at]
            orders[at] = price, max(self._spec.step, size // 2 // self._spec.step * self._spec.step)
            self._inventory += 1e-4 * gauss(0, 1)

    def _side(self, number: int) -> list[tuple[int, int, int]]:
        """
        (price, resting, pool) of the best levels.
        """
        side = 2 * number - 1
        tick, oracle = self._spec.tick, self._oracle
        grid = math.ceil if number else math.floor
        levels: dict[int, list[int]] = {}
        for price, size in self._resting[number]:
            levels.setdefault(price, [0, 0])[0] += size
        for offset, size in self._quotes[number]:
            levels.setdefault(grid(oracle * (1 + side * offset) / tick), [0, 0])[0] += size
        for offset, size in zip(POOL_OFFSETS, self._pool[number], strict=True):
            levels.setdefault(grid(oracle * (1 + side * offset) / tick), [0, 0])[1] += size
        best = sorted(levels, reverse=not number)[:LEVELS]
        return [(price * tick, *levels[price]) for price in best]

    def text(self, ts_ms: int) -> bytes:
        """
        The book as the server writes it.
        """
        bids, asks = self._side(0), self._side(1)
        bid, ask = bids[0][0], asks[0][0]
        mark = (bid + ask) // 2
        pushed = round(self._oracle * (1 + 5e-5 * self._random.gauss(0, 1)))
        oracle = {
            "price": str(self._oracle),
            "slot": str(self._oracle_slot),
            "confidence": str(self._confidence),
            "hasSufficientNumberOfDataPoints": True,
            "twap": str(int(self._twap)),
            "twapConfidence": str(self._confidence),
        }
        book = {
            "bids": [_level(*level) for level in bids],
            "asks": [_level(*level) for level in asks],
            "marketName": self._spec.symbol,
            "marketType": "perp",
            "marketIndex": self._spec.index,
            "ts": ts_ms,
            "slot": self._slot,
            "markPrice": str(mark),
            "bestBidPrice": str(bid),
            "bestAskPrice": str(ask),
            "spreadPct": str((ask - bid) * 1_000_000 // mark),
            "spreadQuote": str(ask - bid),
            "oracle": self._oracle,
            "oracleData": oracle,
            "mmOracleData": {
                "price": str(pushed),
                "slot": str(self._slot),
                "confidence": str(self._confidence // 2 + 1),
                "hasSufficientNumberOfDataPoints": True,
            },
            "marketSlot": self._slot - self._slot % 7,
        }
        data = msgspec.json.encode(book).decode()
        return msgspec.json.encode({"channel": f"orderbook_perp_{self._spec.index}_grouped_1", "data": data})


def _level(price: int, resting: int, pool: int) -> dict[str, int | dict[str, int]]:
    sources = {name: size for name, size in (("vamm", pool), ("dlob", resting)) if size}
    return {"size": resting + pool, "price": price, "sources": sources}


def frames(books: int) -> Iterator[Frame]:
    """
    That many books of each market, from the beginning of the hour on.
    """
    markets = [Book(spec) for spec in MARKETS]
    for tick in range(books):
        at = HOUR + tick * TICK_MS * 1_000_000
        for number, market in enumerate(markets, 1):
            market.advance()
            yield at + number * WIRE_NS, market.text(at // 1_000_000 - 35)
