"""
One market as a seeded model: an oracle that walks at random, orders that rest and churn, quotes that follow the oracle.

Pure: the same seed and the same calls give the same books. Statistics are chosen so that books look like those captured
from the real server (level spacing, share of pool levels, life of an order, length of a crossing).
"""

import math
import random
from bisect import insort

import msgspec

from recorder.simulator.frames import DLOB, INDICATIVE, OPENBOOK, PHOENIX, VAMM, Book, Level, level_text
from recorder.simulator.generations import STALE_ORACLE_SLOTS
from recorder.simulator.markets import SimMarket

_REACH = 26
"""Resting orders a shallow book takes from a side."""
_POOL_REACH = 8
_POOL_LEVELS = 100
_POOL_OFFSETS = [4e-4 + 6e-4 * level for level in range(_POOL_LEVELS)]
_POOL_QUOTE = [500.0, 1000.0, 2000.0, *[5000.0 * (1 + level / 20) for level in range(_POOL_LEVELS - 3)]]
"""What the pool offers at each level, in quote units."""
_PEGGED_OFFSETS = (2e-4, 7e-4, 1.3e-3, 2.5e-3)
"""Of quotes that follow the oracle; none of them where the pool quotes, so that levels seldom merge, as captured."""
_PEGGED_SOURCES = ((DLOB,) * 4, (DLOB, PHOENIX, DLOB, OPENBOOK))
"""Where these rest: all here, or some in the books of other venues."""
_MEAN_DISTANCE = 0.005
"""Of a resting order from the middle, as a share of the price."""


def _ladder(pool_levels: int) -> list[tuple[float, float, int]]:
    """
    Where pegged orders and the pool quote, best first: offset from the oracle, what the pool offers there in quote
    units, and which pegged order it is (-1 for the pool).
    """
    pegged = [(offset, 0.0, number) for number, offset in enumerate(_PEGGED_OFFSETS)]
    pool = [(offset, quote, -1) for offset, quote in zip(_POOL_OFFSETS, _POOL_QUOTE, strict=True)]
    return sorted(pegged + pool[:pool_levels])


_LADDERS = {count: _ladder(count) for count in (0, _POOL_REACH, _POOL_LEVELS)}


class MarketModel:
    """
    The state of one market. Call `advance` once per tick, then `book` as often as needed.

    Args of the constructor:
        market: which.
        seed: the same gives the same.
        external: a spot book shows orders of other venues of the chain too.
    """

    def __init__(self, market: SimMarket, *, seed: int, external: bool = False) -> None:
        self.market = market
        self._sources = _PEGGED_SOURCES[external and market.market_type == "spot"]
        self._random = random.Random(f"{seed} {market.market_type} {market.index} {market.symbol}")
        self._price = market.price * 1e6
        self.oracle = round(self._price)
        self.version = 0
        """Counts changes of the book: equal ones print alike, but for time and slot."""
        self._twap = self._price
        self._oracle_lag = 0
        self._mood = ""
        self._mood_ticks = 0
        moods = market.moods
        self._moody = moods.crossed + moods.locked + moods.one_sided + moods.empty
        self._odd_levels: tuple[list[Level], list[Level]] = ([], [])
        self._hidden_side = -1
        self._pool_factor = (1.0, 1.0)
        # Index 0 is the bid side, 1 the ask side, in every pair below.
        self._resting: tuple[list[Level], list[Level]] = ([], [])
        self._pegged_sizes = [[self._size(3.0) for _ in _PEGGED_OFFSETS] for _ in range(2)]
        for side in range(2):
            for _ in range(market.depth):
                self._rest(side)

    def _size(self, times: float = 1.0) -> int:
        market = self.market
        notional = math.exp(self._random.gauss(6.3, 1.2)) * times
        steps = max(1, round(notional / (self._price / 1e6) * 10.0**market.size_exponent / market.step))
        return steps * market.step

    def _rest(self, side: int) -> None:
        tick = self.market.tick
        distance = max(1.0, -math.log(1.0 - self._random.random()) * _MEAN_DISTANCE * self._price)
        price = self.oracle + (distance if side else -distance)
        ticks = math.ceil(price / tick) if side else math.floor(price / tick)
        self._insert(side, max(1, ticks) * tick, self._size())

    def _insert(self, side: int, price: int, size: int) -> None:
        insort(self._resting[side], (price if side else -price, size, DLOB, level_text(price, size, DLOB)))

    def advance(self, *, oracle_stands: bool = False) -> None:
        """
        Let a tick pass.
        """
        rng, market = self._random, self.market
        random = rng.random
        changed = False
        if random() < market.moves and not oracle_stands:
            changed = True
            # Drawn back to where it began, so that hours in virtual time stay in a plausible range.
            drift = -0.0005 * (self._price / (market.price * 1e6) - 1)
            self._price *= 1 + rng.gauss(0.0, market.volatility) + drift
            self.oracle = max(market.tick, round(self._price))
            self._oracle_lag = int(random() * 3)
            self._twap += (self._price - self._twap) / 150
            # The pool's reserves move with the oracle, and with them the low digits of all its sizes.
            self._pool_factor = (0.9996 + 8e-4 * random(), 0.9996 + 8e-4 * random())
        oracle, depth = self.oracle, market.depth
        for side, resting in enumerate(self._resting):
            limit = oracle if side else -oracle
            # What the oracle has passed is filled by keepers within the slot; few orders wait for them.
            while resting and resting[0][0] <= limit:
                del resting[0]
            if random() < market.churn * depth and resting:
                del resting[int(random() * len(resting))]
            while len(resting) < depth:
                self._rest(side)
                changed = True
            if random() < 8 * market.churn:
                self._pegged_sizes[side][int(random() * len(_PEGGED_OFFSETS))] = self._size(3.0)
                changed = True
        if self._change_mood() or changed:
            self.version += 1

    def _change_mood(self) -> bool:
        rng, moods = self._random, self.market.moods
        if self._mood_ticks:
            self._mood_ticks -= 1
            if not self._mood_ticks:
                self._mood, self._hidden_side, self._odd_levels = "", -1, ([], [])
                return True
            return False
        chance = rng.random()
        if chance >= self._moody:
            return False
        for mood in ("crossed", "locked", "one_sided", "empty"):
            chance -= float(getattr(moods, mood))
            if chance < 0:
                break
        self._mood = mood
        self._mood_ticks = 1 + int(rng.expovariate(1 / moods.mean_ticks))
        if mood == "one_sided":
            self._hidden_side = int(rng.random() < 0.5)
        elif mood in {"crossed", "locked"}:
            # Two orders at or through each other that no keeper has matched yet. They stay where they are while the
            # oracle walks away from them, as in the captured crossings.
            tick = self.market.tick
            ask = max(1, round(self.oracle / tick)) * tick
            through = 1 + int(rng.random() * 1e-4 * self.oracle / tick) if mood == "crossed" else 0
            self._odd_levels = (
                [(-ask - through * tick, self._size(), DLOB, "")],
                [(ask, self._size(), DLOB, "")],
            )
        return True

    def _quotes(self, side: int, pool_levels: int) -> list[Level]:
        """
        What follows the oracle, best first: pegged orders and the pool's levels.
        """
        oracle, pegged, sources = self.oracle, self._pegged_sizes[side], self._sources
        scale = 10**self.market.size_exponent * 1e6 / self._price * self._pool_factor[side]
        if side:
            return [
                (math.ceil(oracle * (1 + offset)), int(quote * scale), VAMM, "")
                if number < 0
                else (math.ceil(oracle * (1 + offset)), pegged[number], sources[number], "")
                for offset, quote, number in _LADDERS[pool_levels]
            ]
        return [
            (-int(oracle * (1 - offset)), int(quote * scale), VAMM, "")
            if number < 0
            else (-int(oracle * (1 - offset)), pegged[number], sources[number], "")
            for offset, quote, number in _LADDERS[pool_levels]
        ]

    def _side(self, side: int, *, whole: bool, pool: bool) -> tuple[list[Level], int | None]:
        """
        Best first, and the key up to which it is complete.
        """
        if self._mood == "empty" or side == self._hidden_side:
            return [], None
        resting, odd = self._resting[side], self._odd_levels[side]
        known_to: int | None = None
        if not whole and len(resting) > _REACH:
            resting = resting[:_REACH]
            known_to = resting[-1][0]
        pool_levels = 0
        if pool:
            pool_levels = _POOL_LEVELS if whole else _POOL_REACH
            if not whole:
                reach = _POOL_OFFSETS[_POOL_REACH - 1]
                pool_to = math.ceil(self.oracle * (1 + reach)) if side else -int(self.oracle * (1 - reach))
                known_to = min(known_to, pool_to) if known_to is not None else pool_to
        levels = resting + self._quotes(side, pool_levels) + odd
        levels.sort()  # runs that are sorted already: cheaper than merging them by hand
        return levels, known_to

    def book(self, *, slot: int, ts_ms: int, whole: bool = False, oracle_slot: int | None = None) -> Book:
        """
        The book as it stands: shallow (enough for 20 levels at grouping 1) or whole.

        Args:
            slot: of the publisher's state.
            ts_ms: of the publisher's clock.
            whole: with all levels.
            oracle_slot: of the oracle; None: of just now. The pool does not quote on an old one.
        """
        market = self.market
        if oracle_slot is None:
            oracle_slot = slot - self._oracle_lag
        pool = market.has_pool and slot - oracle_slot <= STALE_ORACLE_SLOTS
        bids, bids_to = self._side(0, whole=whole, pool=pool)
        asks, asks_to = self._side(1, whole=whole, pool=pool)
        nowhere = 1 << 62
        return Book(
            market_type=market.market_type,
            symbol=market.symbol,
            index=market.index,
            tick=market.tick,
            ts_ms=ts_ms,
            slot=slot,
            market_slot=slot - 1,
            oracle=self.oracle,
            oracle_slot=oracle_slot,
            confidence=self.oracle // 2500,
            twap=int(self._twap),
            bids=bids,
            asks=asks,
            known_to=None
            if bids_to is None and asks_to is None
            else (nowhere if bids_to is None else bids_to, nowhere if asks_to is None else asks_to),
        )

    def aged(self, book: Book, *, slot: int, ts_ms: int) -> Book:
        """
        An earlier book of the same `version`, as it stands now: the same object, changed.
        """
        book.slot, book.market_slot, book.ts_ms = slot, slot - 1, ts_ms
        book.oracle_slot = slot - self._oracle_lag
        return book

    def with_indicative(self, book: Book) -> Book:
        """
        The same instant with quotes that are not firm, none of them better than the best firm price.
        """
        rng = random.Random(book.slot)  # beside the model's own, so that asking changes nothing
        sides: list[list[Level]] = []
        for levels in (book.bids, book.asks):
            quotes: list[Level] = []
            if levels:
                best = levels[0][0]
                quotes = [
                    (best + int(abs(best) * 1e-4 * number), self.market.step * (10 + number), INDICATIVE, "")
                    for number in range(1 + int(rng.random() * 3))
                ]
            sides.append(sorted(levels + quotes))
        return msgspec.structs.replace(book, bids=sides[0], asks=sides[1])

    def take(self, *, long: bool, size: int) -> tuple[int, int]:
        """
        Match a taker against the best resting order of the other side, which shrinks or goes.

        Returns:
            Price ×10^6 and the amount matched.
        """
        resting = self._resting[1 if long else 0]
        self.version += 1
        if not resting:
            self._rest(1 if long else 0)
        key, available, _, _ = resting[0]
        taken = min(size, available)
        del resting[0]
        if available > taken:
            self._insert(1 if long else 0, abs(key), available - taken)
        return abs(key), taken

    def pool_price(self, *, long: bool) -> int:
        """
        What the pool asks of a taker (or, short, bids), ×10^6.
        """
        return max(1, int(self.oracle * (1 + 4e-4 if long else 1 - 4e-4)))
