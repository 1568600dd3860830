"""
Which connection carries which market, when that changes while recording. Pure.
"""

from recorder.records import Stream


def replaced(before: list[list[Stream]], wanted: list[Stream], *, limit: int) -> list[list[Stream]]:
    """
    The streams of each connection after a change.

    What is carried stays where it is, and a market's further streams join it there. A new market goes where most room
    is left, among equals to the first; where there is no room, to a connection that carries nothing; where there is
    none, to one more. So a change costs no stream that was there a frame, and makes no connect that is not needed.

    Args:
        before: streams of each connection, by index; those of a market stand on one.
        wanted: all that is to be carried, sorted.
        limit: markets on a connection, at most; 0: any number.

    Returns:
        By index as before, at least as many, each in the order of `wanted`; empty where nothing is carried any more.
    """
    home = {_market(stream): index for index, streams in enumerate(before) for stream in streams}
    stays = {market for stream in wanted if (market := _market(stream)) in home}
    markets = [sum(home[market] == index for market in stays) for index in range(len(before))]
    after: list[list[Stream]] = [[] for _ in before]
    for stream in wanted:
        market = _market(stream)
        if market not in stays:
            index = home[market] = _roomiest(markets, limit)
            stays.add(market)
            if index == len(after):
                after.append([])
                markets.append(0)
            markets[index] += 1
        after[home[market]].append(stream)
    return after


def _roomiest(markets: list[int], limit: int) -> int:
    """
    The connection for one more market; `len(markets)`: a new one.
    """
    with_room = [index for index, count in enumerate(markets) if count and (not limit or count < limit)]
    if with_room:
        return min(with_room, key=lambda index: (markets[index], index))
    return next((index for index, count in enumerate(markets) if not count), len(markets))


def _market(stream: Stream) -> tuple[str, str]:
    return stream.market_type, stream.symbol
