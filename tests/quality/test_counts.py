"""
Counts of what was heard: what a frame, a fact and an event add, and what bounds them.
"""

import msgspec
import pytest

from quality_cases import BTC, SOL, SOL_TRADES, at
from recorder.quality import counts as module
from recorder.quality.counts import INTERVAL_BOUNDS_NS, LATENCY_BOUNDS_NS, Counts, Histogram, quantile
from recorder.quality.events import build
from recorder.records import Connected, ConnectFailed, Disconnected, Overflowed, Stream, WriteFailed
from recorder.venue.protocol import FrameKind, Peek

MS = 1_000_000
HEARTBEAT = Peek(FrameKind.HEARTBEAT, name="heartbeat")


def book(seconds, *, late_ms=40):
    """
    What a book of SOL-PERP that came then looks like.
    """
    return Peek(
        FrameKind.DATA,
        name="orderbook_perp_0_grouped_1",
        market_name="SOL-PERP",
        ts=at(seconds) // MS - late_ms,
        slot=int(seconds * 10),
    )


def counting(*streams):
    """
    Counts of a recorder that asked for these.
    """
    counts = Counts()
    counts.asked_for(list(streams))
    return counts


def test_frames_are_counted_by_connection_and_stream():
    """
    Each copy for itself, so that one that fell behind shows beside one that did not.
    """
    counts = counting(SOL)
    for second in range(5):
        counts.frame(0, at(second), b"x" * 10, book(second), SOL)
    counts.frame(1, at(9), b"y" * 7, book(9, late_ms=400), SOL)

    first, second = counts.streams[0, SOL], counts.streams[1, SOL]

    assert (first.frames, first.bytes, first.last, first.slot, first.payload) == (5, 50, at(4), 40, b"x" * 10)
    assert (second.frames, second.bytes) == (1, 7)
    assert (counts.lines[0].frames, counts.lines[1].bytes) == (5, 7)
    assert first.latency[LATENCY_BOUNDS_NS.index(50 * MS)] == 5
    assert second.latency[LATENCY_BOUNDS_NS.index(500 * MS)] == 1
    assert first.latency_ns == 5 * 40 * MS
    assert first.interval[INTERVAL_BOUNDS_NS.index(1000 * MS)] == 4
    assert sum(second.interval) == 0


def test_trades_have_neither_latency_nor_interval():
    """
    Their time is the block's, in whole seconds, and they come when somebody trades.
    """
    counts = counting(SOL_TRADES)
    trade = Peek(FrameKind.DATA, name="trades_perp_0", ts=at(1) // 10**9, fill_id=7)

    counts.frame(0, at(1), b"t", trade, SOL_TRADES)

    assert counts.streams[0, SOL_TRADES].frames == 1
    assert counts.streams[0, SOL_TRADES].latency == []


def test_what_belongs_to_no_stream_is_counted_with_its_connection():
    """
    Heartbeats, and data nobody asked for, whose names a venue could invent for ever.
    """
    counts = counting(SOL)

    counts.frame(0, at(1), b"h", HEARTBEAT, None)
    for number in range(100):
        counts.frame(0, at(2), b"d", Peek(FrameKind.DATA, name=f"trades_perp_{number}"), None)
    counts.frame(0, at(3), b"b", book(3), BTC)

    assert counts.streams == {}
    assert (counts.lines[0].heartbeats, counts.lines[0].last_heartbeat) == (1, at(1))
    assert (counts.lines[0].unasked, counts.lines[0].frames) == (101, 102)
    assert counts._known == {}


def test_a_stream_that_is_no_longer_asked_for_is_forgotten():
    """
    Its numbers would stand still for ever and look like a hole; the others go on.
    """
    counts = counting(SOL, BTC)
    bitcoin = Peek(FrameKind.DATA, name="orderbook_perp_1_grouped_1", market_name="BTC-PERP", ts=at(1) // MS)
    counts.frame(0, at(1), b"s", book(1), SOL)
    counts.frame(0, at(1), b"b", bitcoin, BTC)

    # Equal, and not the same: as after a look at the file.
    counts.asked_for([Stream("perp", "SOL-PERP", "orderbook", 1)])
    counts.frame(0, at(2), b"s", book(2), Stream("perp", "SOL-PERP", "orderbook", 1))
    counts.frame(0, at(2), b"b", bitcoin, BTC)

    assert {stream: tally.frames for (_, stream), tally in counts.streams.items()} == {SOL: 2}


def test_absurd_times_of_a_publisher_are_no_latency():
    """
    Arithmetic on them costs, and a sum would never be right again.
    """
    counts = counting(SOL)
    for ts in (0, -5, 1 << 62, None):
        counts.frame(0, at(1), b"x", Peek(FrameKind.DATA, name="o", market_name="SOL-PERP", ts=ts), SOL)

    assert sum(counts.streams[0, SOL].latency) == 0
    assert counts.streams[0, SOL].frames == 4


def test_tallies_are_bounded(monkeypatch):
    """
    However many streams there are, memory is.
    """
    monkeypatch.setattr(module, "MAX_TALLIES", 3)
    streams = [Stream("perp", f"M{n}-PERP", "trades") for n in range(5)]
    counts = counting(*streams)

    for stream in streams:
        counts.frame(0, at(1), b"x", Peek(FrameKind.DATA, name=stream.symbol), stream)

    assert len(counts.streams) == 3
    assert counts.lines[0].frames == 5


def test_names_that_are_remembered_are_bounded():
    """
    A book may be spelled in as many ways as a hostile venue likes, and is of a stream that was asked for all the same.
    """
    counts = counting(SOL)
    for number in range(50):
        counts.frame(0, at(number), b"x", msgspec.structs.replace(book(number), name=f"orderbook_perp_{number}"), SOL)

    assert len(counts._known) <= module.MAX_NAMES
    assert counts.streams[0, SOL].frames == 50


def test_the_rate_looks_back_ten_seconds():
    """
    Ten frames a second show as ten, and none as none ten seconds later.
    """
    counts = counting(SOL)
    for second in range(30):
        for _ in range(10):
            counts.frame(0, at(second), b"x", book(second), SOL)
        counts.second()
    busy = counts.streams[0, SOL].rate
    for _ in range(11):
        counts.second()

    assert busy == pytest.approx(10)
    assert counts.streams[0, SOL].rate == 0
    assert counting(SOL).streams == {}


def test_facts_tell_how_connections_do():
    """
    Up, down and why; a query of the address, which may hold a key, is not among it.
    """
    counts = Counts()
    counts.fact(ConnectFailed("wss://h/ws?key=secret", 1, "refused", "network", 1.0), 0, at(0))
    assert (counts.line(0).url, counts.line(0).up, counts.line(0).why) == ("wss://h/ws", False, "refused")

    counts.fact(Connected("wss://h/ws?key=secret", 2, 20.0, compressed=True), 0, at(1))
    assert (counts.line(0).url, counts.line(0).up, counts.line(0).why) == ("wss://h/ws", True, "")

    counts.fact(Disconnected("wss://h/ws", 2, "venue", "closed"), 0, at(2))
    counts.fact(Overflowed(3, 900, 4, 6, at(2), at(3)), -1, at(3))
    counts.fact(WriteFailed("s", "sync", 5, "EIO"), -1, at(3))

    line = counts.line(0)
    assert (line.connects, line.failures, dict(line.ends), line.up) == (1, 1, {"venue": 1}, False)
    assert (counts.dropped, counts.write_failures) == (3, 1)


def event(kind, **fields):
    """
    One of two seconds.
    """
    return build(kind, cause="venue", evidence="", start=at(1), end=at(3), run="r", **fields)


def test_holes_are_counted_with_the_streams_they_concern():
    """
    Those of a whole connection with each that it carries; what is no hole with none. A stretch that two tell of is as
    long as it is.
    """
    counts = counting(SOL, BTC)

    counts.event(event("silent", connection=0, symbol="SOL-PERP", channel="orderbook", missing=4), [])
    counts.event(event("disconnected", connection=0), [SOL, BTC])
    counts.event(event("trade_repeat", connection=0, symbol="SOL-PERP", channel="trades"), [])
    counts.event(event("connected", connection=0), [SOL, BTC])

    of = {place: (holes.count, holes.lasted_ns / 1e9, holes.missing) for place, holes in counts.holes.items()}
    assert of == {("SOL-PERP", "orderbook"): (2, 2.0, 4), ("BTC-PERP", "orderbook"): (1, 2.0, 0)}
    assert counts.events["disconnected", "venue", "connection"] == 1
    assert len(counts.recent) == 4


@pytest.mark.parametrize(
    ("spans", "lasted_s"),
    [
        ([(1, 3), (3, 5)], 4),
        ([(1, 3), (2, 5)], 4),
        ([(2, 3), (1, 5)], 4),
        ([(1, 5), (2, 3), (4, 6)], 5),
        ([(4, 5), (1, 2), (4, 6)], 3),
        ([(1, 2), (4, 4), (7, 9)], 3),
    ],
)
def test_a_hole_lasts_as_long_as_any_event_tells_of_it(spans, lasted_s):
    """
    Whatever order they end in.
    """
    counts = counting(SOL)

    for start, end in spans:
        of = {"connection": 0, "symbol": "SOL-PERP", "channel": "orderbook"}
        counts.event(build("silent", cause="venue", evidence="", start=at(start), end=at(end), run="r", **of), [])

    (holes,) = counts.holes.values()
    assert (holes.count, holes.lasted_ns) == (len(spans), lasted_s * 1_000_000_000)


def test_a_market_that_never_speaks_is_nobody_elses_hole():
    """
    The outage of its connection reaches to where it is called silent; the others count what they missed themselves.
    """
    counts = counting(SOL, BTC, SOL_TRADES)
    btc = Peek(FrameKind.DATA, name="orderbook_perp_1_grouped_1", market_name="BTC-PERP")
    counts.fact(Connected(url="ws://v", attempt=1, took_ms=1.0, compressed=True), 0, at(0.1))
    for second in (0.5, 1.5, 2.5):
        counts.frame(0, at(second), b"", book(second), SOL)
    carried = [SOL, BTC, SOL_TRADES]

    counts.event(build("disconnected", cause="recorder", start=at(0), end=at(6), connection=0, evidence=""), carried)
    assert {place: holes.lasted_ns / 1e9 for place, holes in counts.holes.items()} == {("BTC-PERP", "orderbook"): 6.0}

    # Down from 3 to 5; BTC comes back at 30, or never.
    counts.fact(Disconnected("gone", "network", None, None, 3.0), 0, at(3))
    counts.fact(Connected(url="ws://v", attempt=2, took_ms=1.0, compressed=True), 0, at(5))
    for second in (5.5, 6.0, 29.5):
        counts.frame(0, at(second), b"", book(second), SOL)
    counts.event(build("disconnected", cause="network", start=at(2.5), end=at(30), connection=0, evidence=""), carried)
    counts.frame(0, at(30), b"", btc, BTC)

    books = {place[0]: holes for place, holes in counts.holes.items() if place[1] == "orderbook"}
    of = {symbol: (holes.count, holes.lasted_ns / 1e9) for symbol, holes in books.items()}
    assert of == {"SOL-PERP": (1, 3.0), "BTC-PERP": (2, 30.0)}
    assert [holes.lasted_ns / 1e9 for place, holes in counts.holes.items() if place[1] == "trades"] == [3.0]


def test_a_quantile_lies_within_its_bucket():
    """
    By proportion; what is beyond all bounds is told as the last of them, for nothing is known of it but that.
    """
    assert quantile([0, 0, 0], (10, 20), 0.5) is None
    assert quantile([10, 0, 0], (10, 20), 0.5) == 5
    assert quantile([0, 10, 0], (10, 20), 0.5) == 15
    assert quantile([0, 0, 3], (10, 20), 0.5) == 20
    assert quantile([5, 5, 0], (10, 20), 1.0) == 20


def test_a_histogram_holds_all_that_was_observed():
    """
    Bounds are included, as Prometheus has it.
    """
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        histogram.observe(value)

    assert (histogram.buckets, histogram.total) == ([2, 1, 1], 10.0)
