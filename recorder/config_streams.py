"""
What a configuration asks for: streams, the connections that carry them, and the copies of the whole. Pure.
"""

from recorder.config import Config
from recorder.config_values import near
from recorder.records import MarketType, QualitySettings, Stream
from recorder.venue.markets import market_list
from recorder.venue.protocol import BOOK_CHANNELS


def streams(config: Config) -> list[Stream]:
    """
    Every market × channel × grouping, sorted, each once.
    """
    of_market = [
        (channel, grouping)
        for channel in config.markets.channels
        for grouping in (config.markets.grouping if channel in BOOK_CHANNELS else (None,))
    ]
    return sorted(
        {
            Stream(market_type=market_type, symbol=symbol, channel=channel, grouping=grouping)
            for market_type, symbol in _markets(config)
            for channel, grouping in of_market
        }
    )


def connections(config: Config) -> list[list[Stream]]:
    """
    The streams of each connection of one copy. Those of a market stay together; connections are about equally full.
    """
    markets = sorted(_markets(config))
    limit = config.capture.markets_per_connection or len(markets)
    count = -(-len(markets) // limit)
    place = {market: index % count for index, market in enumerate(markets)}
    carried: list[list[Stream]] = [[] for _ in range(count)]
    for stream in streams(config):
        carried[place[stream.market_type, stream.symbol]].append(stream)
    return carried


def copies(config: Config) -> list[str]:
    """
    Where each recording of the whole comes from: as many addresses as copies.
    """
    venue, further = config.venue, config.capture.redundancy - 1
    return [venue.url, *venue.copy_urls, *[venue.url] * (further - len(venue.copy_urls))]


def quality_settings(config: Config) -> QualitySettings:
    """
    The thresholds of the monitor, as the journal carries them.
    """
    return QualitySettings(
        heartbeat_gap_s=config.quality.heartbeat_gap_s,
        silent_after_s=config.capture.silent_after_s,
        trade_wait_s=config.quality.trade_wait_s,
        halted_after_s=config.quality.halted_after_s,
    )


def unlisted(config: Config) -> list[tuple[MarketType, str, list[str]]]:
    """
    Configured markets the shipped list does not know, with near names of it. They are recorded all the same.
    """
    shipped = market_list(config.venue.network)
    return [
        (market_type, symbol, near(symbol, [m.symbol for m in shipped.of_type(market_type)]))
        for market_type, symbol in _markets(config)
        if shipped.by_symbol(market_type, symbol) is None
    ]


def _markets(config: Config) -> list[tuple[MarketType, str]]:
    perps: list[tuple[MarketType, str]] = [("perp", symbol) for symbol in config.markets.perp]
    return [*perps, *(("spot", symbol) for symbol in config.markets.spot)]
