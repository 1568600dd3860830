"""
A status by market: books and trades of one in a line, for a screen. Pure.
"""

import msgspec

from recorder.status.report import RunStatus, State, Status, StreamStatus

_WORST: dict[State, int] = {"recording": 0, "waiting": 1, "halted": 2, "silent": 3, "refused": 4, "down": 5}


class MarketLine(msgspec.Struct, frozen=True):
    """
    One market.
    """

    market: str
    market_type: str
    state: State
    """Of its stream that is worst off."""
    why: str
    best_bid: float | None
    best_ask: float | None
    spread_bp: float | None
    """Ask minus bid, in 1/10000 of their middle."""
    books_s: float
    trades_s: float
    age_s: float | None
    """Of its last book; of its last frame, where no book is configured."""
    cadence_ms: int | None
    latency_ms: float | None
    holes: int
    hole_s: float
    missing: int
    connections: list[int]


def by_market(status: Status | RunStatus) -> list[MarketLine]:
    """
    Each configured market, in order.
    """
    of: dict[tuple[str, str], list[StreamStatus]] = {}
    for stream in status.streams:
        of.setdefault((stream.market_type, stream.market), []).append(stream)
    return [_line(streams) for _, streams in sorted(of.items())]


def _line(streams: list[StreamStatus]) -> MarketLine:
    books = [stream for stream in streams if stream.channel.startswith("orderbook")]
    trades = [stream for stream in streams if stream.channel == "trades"]
    worst = max(streams, key=lambda stream: _WORST[stream.state])
    # The firm book of the finest grouping, if there is one.
    main = min(books, key=lambda stream: (len(stream.channel), stream.channel), default=None)
    bid, ask = (main.best_bid, main.best_ask) if main is not None else (None, None)
    spread = (ask - bid) / ((ask + bid) / 2) * 1e4 if bid is not None and ask is not None and ask + bid else None
    ages = [stream.age_s for stream in books or streams if stream.age_s is not None]
    return MarketLine(
        market=streams[0].market,
        market_type=streams[0].market_type,
        state=worst.state,
        why=worst.why,
        best_bid=bid,
        best_ask=ask,
        spread_bp=round(spread, 2) if spread is not None else None,
        books_s=round(sum(stream.rate for stream in books), 2),
        trades_s=round(sum(stream.rate for stream in trades), 2),
        age_s=max(ages, default=None),
        cadence_ms=main.cadence_ms if main is not None else None,
        latency_ms=main.latency_ms if main is not None else None,
        holes=sum(stream.holes for stream in streams),
        hole_s=round(max(stream.hole_s for stream in streams), 3),
        missing=sum(stream.missing for stream in streams),
        connections=sorted({each for stream in streams for each in stream.connections}),
    )


def price(value: float | None) -> str:
    """
    With as many digits as its size needs: `96,221.6`, `142.2101`, `0.000023412`.
    """
    if value is None:
        return "–"
    size = abs(value)
    digits = 1 if size >= 10_000 else 2 if size >= 1000 else 4 if size >= 1 else 6
    return f"{value:,.{digits}f}"
