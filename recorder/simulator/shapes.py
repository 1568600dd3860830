"""
Books in the shapes of other servers than that of May 2026: ungrouped ones, and those of the relaunch's Rust publisher.

Source: the captured frames of September 2025; the Rust publisher's public code, of which no frame was ever captured.
"""

from recorder.simulator.frames import DEPTH, SOURCES, Book, Level, book_frame
from recorder.simulator.js import Exact, js_object

_RUST_SOURCES = ("clob", "propamm", "indicative")


def _merged(levels: list[Level], step: int, count: int | None) -> list[tuple[int, dict[int, int]]]:
    """
    The first levels (all: None) after rounding to `step`: price, and size by source in the order they came.
    """
    merged: dict[int, dict[int, int]] = {}
    for raw, size, source, _ in levels:
        key = raw + -raw % step
        parts = merged.get(key)
        if parts is None:
            if len(merged) == count:
                break
            parts = merged[key] = {}
        parts[source] = parts.get(source, 0) + size
    return [(abs(key), parts) for key, parts in merged.items()]


def ungrouped_frame(book: Book, *, name: str, count: int | None = None) -> str:
    """
    A book with all its levels, prices and sizes as strings: exact at any size.

    Args:
        book: a whole one.
        name: of the channel.
        count: levels a side, at most; stored copies had 100.
    """
    sides = [
        ",".join(
            f'{{\\"price\\":\\"{price}\\",\\"size\\":\\"{sum(parts.values())}\\",\\"sources\\":{{'
            + ",".join(f'\\"{SOURCES[source]}\\":\\"{size}\\"' for source, size in parts.items())
            + "}}"
            for price, parts in _merged(levels, 1, count)
        )
        for levels in (book.bids, book.asks)
    ]
    text = book_frame(book, name=name, sides=(sides[0], sides[1]))
    assert text is not None  # the sides are given
    return text


def rust_frame(book: Book, *, name: str, grouping: int) -> str:
    """
    A grouped book as the Rust publisher prints it.

    Members sorted by name, so `asks` come first; null where the other publisher leaves out; `spreadPct` a fraction
    ×10^6; a negative spread and the plain middle as mark when crossed; exact integers as sizes, however large. With a
    side empty, the mark is the oracle's price (what it does there could not be found out).
    """
    step = book.tick * grouping
    bids, asks = (_merged(levels, step, 3 * DEPTH) for levels in (book.bids, book.asks))
    depth = DEPTH
    if bids and asks:
        depth += max(sum(price >= asks[0][0] for price, _ in bids), sum(price <= bids[0][0] for price, _ in asks))
    best_bid = -book.bids[0][0] if book.bids else None
    best_ask = book.asks[0][0] if book.asks else None
    mark, spread, share = book.oracle, None, None
    if best_bid is not None and best_ask is not None:
        mark = (best_bid + best_ask) // 2
        spread = best_ask - best_bid
        share = abs(spread) * 1_000_000 // mark * (-1 if spread < 0 else 1)
    oracle = {
        "confidence": str(book.confidence),
        "hasSufficientNumberOfDataPoints": True,
        "price": str(book.oracle),
        "slot": str(book.oracle_slot),
    }
    members: dict[str, object] = {
        "asks": _rust_levels(asks[:depth]),
        "bestAskPrice": _text(best_ask),
        "bestBidPrice": _text(best_bid),
        "bids": _rust_levels(bids[:depth]),
        "marketIndex": book.index,
        "marketName": book.symbol.upper(),
        "marketSlot": book.market_slot,
        "marketType": book.market_type,
        "markPrice": str(mark),
        "mmOracleData": oracle | {"price": str(book.oracle + 1)},
        "oracle": book.oracle,
        "oracleData": oracle,
        "slot": book.slot,
        "spreadPct": _text(share),
        "spreadQuote": _text(spread),
        "ts": book.ts_ms,
    }
    ordered = {member: members[member] for member in sorted(members)}
    return js_object({"channel": name, "data": js_object(ordered)})


def _rust_levels(levels: list[tuple[int, dict[int, int]]]) -> list[object]:
    return [
        {
            "price": price,
            "size": Exact(sum(parts.values())),
            "sources": {_RUST_SOURCES[source]: Exact(parts[source]) for source in sorted(parts)},
        }
        for price, parts in levels
    ]


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)
