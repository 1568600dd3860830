"""
Which market a data frame belongs to. Pure.

Trade frames carry an index only, and an index means another market on another network; book frames carry the name. So
the name in a book outranks the shipped list, for books and, once heard, for trades of the same index.
"""

import msgspec

from recorder.records import MarketType, Stream
from recorder.venue.markets import MarketList
from recorder.venue.protocol import LONGEST_NAME, ChannelName

MAX_LEARNED = 4096
"""Names kept; there are some hundred markets, and a venue could invent indices."""


class Resolution(msgspec.Struct, frozen=True):
    """
    What a channel name and a market name come to.
    """

    symbol: str
    """Canonical spelling; `perp-59` for a market nobody names."""
    stream: Stream | None
    """The stream that was asked for; None if nobody asked."""
    renamed: str | None = None
    """The list's other name for the index, where the book contradicts it."""


class Identity:
    """
    Names of markets: as the books said, as listed, as configured.
    """

    def __init__(self, listed: MarketList, learned: dict[str, str]) -> None:
        """
        Args:
            listed: the network's markets.
            learned: names that books gave, by `perp:0`; added to.
        """
        self._listed = listed
        self._learned = learned

    def resolve(self, channel: ChannelName, market_name: str | None, streams: list[Stream]) -> Resolution:
        """
        The market and the stream of a data frame; a name it gives is learned.

        Args:
            channel: of the frame.
            market_name: the book's own `marketName`; None for trades, and where it is absent.
            streams: what the run asked for.
        """
        resolution = self.look_up(channel, market_name, streams)
        index = _index(channel)
        if _is_name(market_name) and (index in self._learned or len(self._learned) < MAX_LEARNED):
            self._learned[index] = resolution.symbol
        return resolution

    def look_up(self, channel: ChannelName, market_name: str | None, streams: list[Stream]) -> Resolution:
        """
        Like `resolve`, but learn nothing.
        """
        listed = self._listed.by_index(channel.market_type, channel.market_index)
        if market_name is not None and _is_name(market_name):
            symbol = self._spelling(channel.market_type, market_name, streams)
            other = listed is not None and listed.symbol.casefold() != market_name.casefold()
            stream = self._stream(channel, symbol, streams)
            return Resolution(symbol, stream, listed.symbol if listed is not None and other else None)
        learned = self._learned.get(_index(channel)) or (listed.symbol if listed is not None else None)
        if learned is not None:
            return Resolution(learned, self._stream(channel, learned, streams))
        return Resolution(f"{channel.market_type}-{channel.market_index}", self._nameless(channel, streams))

    def _spelling(self, market_type: MarketType, name: str, streams: list[Stream]) -> str:
        """
        A name as the list or the configuration spells it: book frames are upper case throughout.
        """
        listed = self._listed.by_symbol(market_type, name)
        if listed is not None:
            return listed.symbol
        folded = name.casefold()
        for stream in streams:
            if stream.market_type == market_type and stream.symbol.casefold() == folded:
                return stream.symbol
        return name

    def _stream(self, channel: ChannelName, symbol: str, streams: list[Stream]) -> Stream | None:
        return next((s for s in streams if s.symbol == symbol and _answers(channel, s)), None)

    def _nameless(self, channel: ChannelName, streams: list[Stream]) -> Stream | None:
        """
        A market the list does not have was asked for by name; its trades come by an index nobody can name.

        With several of them, which one it is cannot be told until a book names one; the first stands for all.
        """
        named = {name for index, name in self._learned.items() if index.partition(":")[0] == channel.market_type}
        for stream in streams:
            if (
                _answers(channel, stream)
                and stream.symbol not in named
                and self._listed.by_symbol(stream.market_type, stream.symbol) is None
            ):
                return stream
        return None


def _index(channel: ChannelName) -> str:
    return f"{channel.market_type}:{channel.market_index}"


def _is_name(market_name: str | None) -> bool:
    return market_name is not None and 0 < len(market_name) <= LONGEST_NAME


def _answers(channel: ChannelName, stream: Stream) -> bool:
    """
    Whether a frame of this channel can be what the stream asked for, its market apart.
    """
    if stream.market_type != channel.market_type or stream.channel != channel.channel:
        return False
    # Old servers answer a request for grouping 1 with the ungrouped book.
    return channel.family != "orderbook" or channel.grouping in {None, stream.grouping}
