"""
The markets the simulator publishes: what is fixed about each, and lists of them.

Symbols, indices and token decimals of the named ones are those of Drift's mainnet.
"""

import math
import zlib
from collections.abc import Sequence

import msgspec

from recorder.errors import ConfigError
from recorder.records import MarketType
from recorder.venue.protocol import PERP_SIZE_EXPONENT

MAX_MARKETS = 1000


class Moods(msgspec.Struct, frozen=True):
    """
    How often a book turns unusual: chance per tick to enter the mood, which then lasts about `mean_ticks`.
    """

    crossed: float = 0.003
    locked: float = 0.002
    one_sided: float = 0.0
    empty: float = 0.0
    mean_ticks: float = 8.0


THIN = Moods(crossed=0.002, locked=0.002, one_sided=0.05, empty=0.01)
"""A market with few makers: often without one side."""


class SimMarket(msgspec.Struct, frozen=True):
    """
    A market as the model needs it.
    """

    market_type: MarketType
    symbol: str
    index: int
    size_exponent: int
    """Sizes are ×10^this: 9 for perps, the token's decimals for spot."""
    price: float
    """Where the oracle starts, in quote units."""
    tick: int
    """Price step, ×10^6."""
    step: int
    """Size step, ×10^`size_exponent`."""
    volatility: float = 1.2e-4
    """Standard deviation of the oracle's return per slot."""
    fills_per_s: float = 0.5
    depth: int = 60
    """Resting orders a side."""
    moods: Moods = Moods()
    moves: float = 0.8
    """Share of ticks at which the oracle moves, and all that follows it."""
    churn: float = 0.012
    """Chance per tick and resting order to be cancelled."""

    @property
    def has_pool(self) -> bool:
        """
        Whether the protocol's own pool quotes here: perps only.
        """
        return self.market_type == "perp"


DEFAULT_MARKETS: tuple[SimMarket, ...] = (
    SimMarket("perp", "SOL-PERP", 0, 9, 142.35, 100, 10_000_000, fills_per_s=1.9),
    SimMarket("perp", "BTC-PERP", 1, 9, 96_230.0, 100_000, 10_000, volatility=0.8e-4, fills_per_s=1.5),
    SimMarket("perp", "ETH-PERP", 2, 9, 3_308.0, 10_000, 1_000_000, volatility=1e-4, fills_per_s=1.1),
    SimMarket("perp", "1MBONK-PERP", 4, 9, 22.62, 1, 1_000_000_000, volatility=1.6e-4, fills_per_s=0.8),
    SimMarket("spot", "SOL", 1, 9, 142.32, 100, 100_000_000, fills_per_s=0.3),
    SimMarket("spot", "USDC", 0, 6, 0.9999, 1, 1_000_000, 1e-5, 0.15, 12, THIN),
)
"""What a plain `simulate` publishes."""

VELOCITY_MARKETS: tuple[SimMarket, ...] = (
    *DEFAULT_MARKETS[:3],
    SimMarket("perp", "HYPE-PERP", 3, 9, 41.8, 100, 10_000_000, volatility=1.6e-4, fills_per_s=0.3),
    *DEFAULT_MARKETS[4:],
)
"""The same of the relaunched server: four perps. Its list still holds spot markets; nothing is published of them."""


def market_named(
    market_type: MarketType, symbol: str, index: int, size_exponent: int = PERP_SIZE_EXPONENT
) -> SimMarket:
    """
    A market of which only the name is known: price, tick and step are plausible, and always the same for a name.
    """
    for market in DEFAULT_MARKETS:
        if (market.market_type, market.symbol.upper()) == (market_type, symbol.upper()):
            return msgspec.structs.replace(market, symbol=symbol, index=index, size_exponent=size_exponent)
    # From 0.6 to 190, evenly in the logarithm: cheaper tokens trade by the thousand or million.
    price = round(0.6 * 10 ** (zlib.crc32(f"{market_type} {symbol}".encode()) % 2501 / 1000), 6)
    tick = 10 ** max(0, math.floor(math.log10(price * 1e6)) - 6)
    step = max(1, 10 ** (size_exponent - max(0, math.floor(math.log10(price)) + 1)))
    return SimMarket(market_type, symbol, index, size_exponent, price, tick, step, 2e-4, 0.25)


def synthetic_markets(count: int, *, calm: bool = False) -> list[SimMarket]:
    """
    The default markets and, beyond them, made-up ones: seven perps to each spot market.

    Args:
        count: how many.
        calm: hardly anything moves, so that hours in virtual time pass faster; not for figures of size or speed.

    Raises:
        ConfigError: `count` is not in 1–1000.
    """
    if not 1 <= count <= MAX_MARKETS:
        raise ConfigError(
            file="simulate", key="markets", problem=f"{count} markets", allowed=f"give 1 to {MAX_MARKETS} or names"
        )
    markets = list(DEFAULT_MARKETS[:count])
    for number in range(count - len(markets)):
        if number % 8 == 7:
            markets.append(market_named("spot", f"SIM{number:03d}", 100 + number, 6))
        else:
            markets.append(market_named("perp", f"SIM{number:03d}-PERP", 100 + number))
    if calm:
        return [msgspec.structs.replace(market, moves=0.08, churn=0.0004) for market in markets]
    return markets


def select_markets(text: str, known: Sequence[SimMarket] = DEFAULT_MARKETS) -> list[SimMarket]:
    """
    Markets from an argument: a number (`96`), or names of `known` ones separated by commas, in that order.

    Raises:
        ConfigError: a number out of range, or a name that is not known.
    """
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return synthetic_markets(int(text[:9]))
    by_name = {market.symbol.upper(): market for market in reversed(known)}
    chosen: dict[str, SimMarket] = {}
    for name in text.split(","):
        market = by_name.get(name.strip().upper())
        if market is None:
            names = ", ".join(market.symbol for market in known[:12])
            raise ConfigError(
                file="simulate",
                key="markets",
                problem=f"no market is called {name.strip()!r}",
                allowed=f"give a number or names out of: {names}",
            )
        chosen[market.symbol.upper()] = market
    return list(chosen.values())
