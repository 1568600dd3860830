"""
Which market a data frame belongs to. Pure.

Trade frames carry an index only, and an index means another market on another network; book frames carry the name. So
the name in a book outranks the shipped list, for books and, once heard, for trades of the same index.
"""

import msgspec

from recorder.records import MarketType, Stream
from recorder.venue.markets import MarketList
from recorder.venue.protocol import ChannelName


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
        self._listed = listed
        self.learned = learned

    def resolve(self, channel: ChannelName, market_name: str | None, streams: list[Stream]) -> Resolution:
        """
        The market and the stream of a data frame.

        Args:
            channel: of the frame.
            market_name: the book's own `marketName`; None for trades, and where it is absent.
            streams: what the run asked for.
        """
        index = f"{channel.market_type}:{channel.market_index}"
        listed = self._listed.by_index(channel.market_type, channel.market_index)
        renamed = None
        if market_name:
            symbol = self.spelling(channel.market_type, market_name, streams)
            if listed is not None and listed.symbol.casefold() != market_name.casefold():
                renamed = listed.symbol
            self.learned[index] = symbol
        else:
            symbol = self.learned.get(index) or (
                listed.symbol if listed is not None else f"{channel.market_type}-{channel.market_index}"
            )
        return Resolution(symbol, self._stream(channel, symbol, index, streams), renamed)

    def spelling(self, market_type: MarketType, name: str, streams: list[Stream]) -> str:
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

    def _stream(self, channel: ChannelName, symbol: str, index: str, streams: list[Stream]) -> Stream | None:
        nameless = index not in self.learned and symbol == f"{channel.market_type}-{channel.market_index}"
        for stream in streams:
            if stream.market_type != channel.market_type or stream.channel != channel.channel:
                continue
            # Old servers answer a request for grouping 1 with the ungrouped book.
            if channel.family == "orderbook" and channel.grouping not in {None, stream.grouping}:
                continue
            if stream.symbol == symbol:
                return stream
            # A market the list does not have was asked for by name; its trades come by an index nobody can name.
            if nameless and self._listed.by_symbol(stream.market_type, stream.symbol) is None:
                return stream
        return None
