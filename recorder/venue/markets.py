"""
The shipped market lists: which index is which market, and how its sizes are scaled.

An index means another market on another network (perp 3 is APT-PERP on Drift, HYPE-PERP on Velocity), so every question
is put to the list of one network. A recorder's list may be older or newer than the server's: a market missing here is
recorded all the same, and `marketName` in book frames outranks the list.

Source: the public SDK constants of Drift and Velocity; each list says which in `about`. Tick and step sizes live in
on-chain accounts only and are not here.
"""

from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from recorder.records import MarketType
from recorder.venue.protocol import PERP_SIZE_EXPONENT

NETWORKS: tuple[str, ...] = (
    "mainnet-beta",
    "devnet",
    "devnet-sdk-2026-05",
    "velocity-mainnet-beta",
    "velocity-devnet",
)
"""The lists there are. The first two are Drift's, the third a test deployment of the relaunch."""

Status = Literal["listed", "delisted", "collateral"]


class Market(msgspec.Struct, frozen=True):
    """
    One market of a list.
    """

    market_type: MarketType
    index: int
    symbol: str
    """Spelled as in the list; books say it in upper case, the server matches any case."""
    size_exponent: int
    """Sizes are ×10^this: 9 for perps, the token's decimals for spot."""
    status: Status = "listed"
    """`delisted`: marked so by the list. `collateral`: a token without an order book."""
    base_asset: str | None = None
    """None for spot, where it is the symbol."""
    note: str = ""


class MarketList:
    """
    The markets of one network, in the list's order.
    """

    def __init__(self, network: str, about: str, *, perps: tuple[Market, ...], spots: tuple[Market, ...]) -> None:
        self.network, self.about, self.perps, self.spots = network, about, perps, spots
        self._by_index: dict[tuple[MarketType, int], Market] = {}
        self._by_symbol: dict[tuple[MarketType, str], Market] = {}
        for market in (*perps, *spots):
            self._by_index.setdefault((market.market_type, market.index), market)
            # The server resolves a name that stands twice to the first of them.
            self._by_symbol.setdefault((market.market_type, market.symbol.lower()), market)

    def of_type(self, market_type: MarketType) -> tuple[Market, ...]:
        """
        All perps or all spot markets.
        """
        return self.perps if market_type == "perp" else self.spots

    def by_index(self, market_type: MarketType, index: int) -> Market | None:
        """
        The market of that index; None if the list does not know it.
        """
        return self._by_index.get((market_type, index))

    def by_symbol(self, market_type: MarketType, symbol: str) -> Market | None:
        """
        The market of that name in any letter case, the first if the name stands twice; None if there is none.
        """
        return self._by_symbol.get((market_type, symbol.lower()))


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    index: int
    symbol: str
    size_exponent: int
    status: Status = "listed"
    base_asset: str | None = None
    note: str = ""


class _List(msgspec.Struct, forbid_unknown_fields=True):
    about: str
    perp: list[_Row]
    spot: list[_Row]


def market_list(network: str) -> MarketList:
    """
    The shipped list of a network.

    Raises:
        ValueError: no such list; names those there are.
    """
    if network not in NETWORKS:
        raise ValueError(f"no market list for network {network!r}; there are: {', '.join(NETWORKS)}")
    return _lists()[network]


def size_exponent(markets: MarketList, market_type: MarketType, index: int) -> int | None:
    """
    Power of ten that sizes of a market are scaled by; None for a spot market the list does not know.

    Perps have 9 whatever the list says, so also those it does not know.
    """
    if market_type == "perp":
        return PERP_SIZE_EXPONENT
    market = markets.by_index(market_type, index)
    return None if market is None else market.size_exponent


@cache
def _lists() -> dict[str, MarketList]:
    # Package data, not configuration: the one read in this package, done once and only when asked for.
    text = resources.files("recorder.venue").joinpath("data/markets.json").read_bytes()
    lists = msgspec.json.decode(text, type=dict[str, _List])
    return {
        network: MarketList(
            network, shipped.about, perps=_markets("perp", shipped.perp), spots=_markets("spot", shipped.spot)
        )
        for network, shipped in lists.items()
    }


def _markets(market_type: MarketType, rows: list[_Row]) -> tuple[Market, ...]:
    return tuple(
        Market(
            market_type=market_type,
            index=row.index,
            symbol=row.symbol,
            size_exponent=row.size_exponent,
            status=row.status,
            base_asset=row.base_asset,
            note=row.note,
        )
        for row in rows
    )
