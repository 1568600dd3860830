"""
What the monitor says of frames a real server sent, and why that is right.
"""

from collections import Counter
from itertools import pairwise

import msgspec

from captures import LEGACY, MAY_2026, TWO_FEEDS, Captured, capture
from quality_cases import monitor, since
from recorder.quality.events import channel_of
from recorder.quality.monitor import Monitor, Verdict
from recorder.records import (
    NO_CONNECTION,
    SECOND_NS,
    Connected,
    Entry,
    EntryKind,
    Event,
    Fact,
    Flag,
    Requested,
    RunStarted,
    Stream,
    encode_fact,
)
from recorder.venue.protocol import peek


def perp(symbol: str, channel: str = "orderbook", grouping: int | None = 1) -> Stream:
    """
    A perp's stream.
    """
    return Stream("perp", symbol, channel, None if channel == "trades" else grouping)  # type: ignore[arg-type]


def spot(symbol: str, channel: str = "orderbook") -> Stream:
    """
    A spot market's stream.
    """
    return msgspec.structs.replace(perp(symbol, channel), market_type="spot")


MAY_STREAMS = [
    f(symbol, channel)
    for f, symbols in (
        (perp, ("SOL-PERP", "BTC-PERP", "ETH-PERP", "1MBONK-PERP")),
        (spot, ("SOL", "USDC", "BONK", "USDT")),
    )
    for symbol in symbols
    for channel in ("orderbook", "trades")
]
INDICATIVE = perp("SOL-PERP", "orderbook_indicative")
COARSE = perp("BTC-PERP", grouping=100)
ETH = perp("ETH-PERP")
MAY_REQUESTS: list[tuple[float, Requested]] = [
    (1.4, Requested(INDICATIVE)),
    (2.4, Requested(COARSE)),
    (2.9, Requested(Stream("perp", "SOL-PERP", "priorityfees"))),
    (39.8, Requested(COARSE, op="unsubscribe")),
    (59.6, Requested(ETH, op="unsubscribe")),
    (65.9, Requested(ETH)),
]
"""What the client that made the capture asked for after its first requests, in seconds from its first frame."""


def told(
    frames: tuple[Captured, ...], streams: list[Stream], requests: list[tuple[float, Requested]]
) -> tuple[Monitor, list[Event], list[tuple[float, Verdict]]]:
    """
    Fold a capture with what our own journal would hold around it: a run, a connection, requests, a clock.

    Returns the monitor, what it says beside the start and the connect, and the verdict on each data frame with its
    second in the capture.
    """
    first = frames[0].recv_ts
    put: list[tuple[int, int, EntryKind, bytes]] = []

    def fact(when: int, about: Fact) -> None:
        put.append((when, 0, EntryKind.FACT, encode_fact(about)))

    fact(first - 1_000_000, RunStarted("a", "h", 1, "0", "v", "n", ["u"], streams))
    fact(first - 1_000_000, Connected("u", 1, 1.0, compressed=True))
    for stream in streams:
        fact(first - 1_000_000, Requested(stream))
    for second, request in requests:
        fact(first + int(second * SECOND_NS), request)
    put += [(f.recv_ts, 1, EntryKind.FRAME, f.frame) for f in frames]
    put += [(at, 2, EntryKind.ALIVE, b"") for at in range(first, frames[-1].recv_ts, SECOND_NS)]
    put.sort(key=lambda p: p[:2])
    judge = monitor()
    verdicts = []
    for seq, (when, _, kind, payload) in enumerate(put, 1):
        connection = NO_CONNECTION if kind == EntryKind.ALIVE or b"run_started" in payload[:40] else 0
        entry = Entry(kind, connection, 1, seq, when, payload, "a")
        verdict = judge.step(entry, peek(payload) if kind == EntryKind.FRAME else None)
        if verdict is not None:
            verdicts.append(((when - first) / SECOND_NS, verdict))
    judge.finish(frames[-1].recv_ts, closed=False)
    events = [e for e in judge.events if e.kind not in {"recorder_started", "connected"}]
    return judge, events, verdicts


def test_ninety_seconds_of_the_may_2026_server_hold_repeated_fills_and_nothing_else():
    """
    The publisher sent nine fills twice (each is there twice in the capture, and flagged once here); fills that came in
    reverse order inside a slot are no gaps, and streams that were unsubscribed are not silent.
    """
    frames = capture(MAY_2026)

    judge, events, verdicts = told(frames, MAY_STREAMS, MAY_REQUESTS)

    repeated = Counter(verdict.resolution.symbol for _, verdict in verdicts if verdict.flags & Flag.REPEAT)
    assert repeated == {"SOL-PERP": 3, "BTC-PERP": 2, "1MBONK-PERP": 2, "ETH-PERP": 1, "BONK": 1}
    removed = [e for e in events if e.kind == "unsubscribed"]
    assert [(e.symbol, e.channel, e.continues) for e in removed] == [
        ("ETH-PERP", "orderbook", False),
        (COARSE.symbol, channel_of(COARSE), True),
    ]
    told_of = [e for e in events if e not in removed]
    assert {e.kind for e in told_of} == {"trade_repeat"}
    assert {e.symbol for e in told_of} == set(repeated)
    assert len(verdicts) == sum(b'"data":' in f.frame for f in frames)
    assert all(verdict.resolution.stream is not None for _, verdict in verdicts)
    ids = Counter((s.name, s.fill_id) for f in frames if (s := peek(f.frame)).fill_id is not None)
    assert sum(count - 1 for count in ids.values()) == sum(repeated.values())
    beats = judge.hour_beats(frames[-1].recv_ts)["a", 0]
    assert (beats.heartbeats, round((beats.longest_ns or 0) / SECOND_NS, 1)) == (19, 5.0)


def test_a_book_that_stopped_without_an_unsubscribe_is_silent_just_there():
    """
    The same frames, as if we had not asked to end it: the hole is that of the one market, between its own two frames.
    """
    frames = capture(MAY_2026)
    arrivals = [f.recv_ts for f in frames if b'"orderbook_perp_2_grouped_1"' in f.frame]
    start, end = max(pairwise(arrivals), key=lambda pair: pair[1] - pair[0])
    requests = [r for r in MAY_REQUESTS if r[1].stream != ETH]

    _, events, verdicts = told(frames, MAY_STREAMS, requests)

    (silent,) = [e for e in events if e.kind == "silent"]
    assert (silent.symbol, silent.start, silent.end, silent.cause) == ("ETH-PERP", start, end, "venue")
    assert round((end - start) / SECOND_NS, 1) == 6.4
    marked = [t for t, v in verdicts if v.flags & Flag.FIRST_AFTER_GAP and t > 5 and v.resolution.symbol == "ETH-PERP"]
    assert marked == [(end - frames[0].recv_ts) / SECOND_NS]


def test_the_legacy_servers_ungrouped_books_are_what_was_asked_for():
    """
    Its channels bear no grouping, its first books are stored copies under the live name; nothing is wrong with them.
    """
    streams = [perp("SOL-PERP"), perp("1MBONK-PERP"), perp("SOL-PERP", "trades"), spot("SOL")]
    requests = [
        (0.9, Requested(perp("ETH-PERP", grouping=10))),
        (1.9, Requested(INDICATIVE)),
        (2.9, Requested(spot("USDC"))),
    ]

    _, events, verdicts = told(capture(LEGACY), streams, requests)

    assert events == []
    assert Counter(v.resolution.stream for _, v in verdicts) == {
        perp("SOL-PERP"): 36,
        spot("SOL"): 36,
        perp("1MBONK-PERP"): 36,
        perp("SOL-PERP", "trades"): 20,
        perp("ETH-PERP", grouping=10): 32,
        INDICATIVE: 31,
        spot("USDC"): 28,
    }
    initial = [v.resolution.stream for _, v in verdicts if v.flags & Flag.MAYBE_INITIAL]
    assert Counter(initial) == dict.fromkeys({v.resolution.stream for _, v in verdicts} - {streams[2]}, 1)


def test_two_feeds_interleaved_are_one_event_and_not_one_a_step():
    """
    Half of the steps go back in slot, each frame is another book: all are kept, and no book is missing.
    """
    frames = capture(TWO_FEEDS)
    slots = [s.slot or 0 for f in frames if (s := peek(f.frame)).market_name]

    _, events, verdicts = told(frames, [perp("SOL-PERP"), perp("SOL-PERP", "trades")], [])

    assert sum(b < a for a, b in pairwise(slots)) == 29
    (event,) = events
    books = [f.recv_ts for f in frames if b'"orderbook_perp_0' in f.frame]
    assert (event.kind, event.cause, event.symbol, event.continues) == ("two_feeds", "venue", "SOL-PERP", True)
    assert (event.start, event.end) == (books[1], frames[-1].recv_ts)
    assert "29 steps back in slot, by up to 3" in event.evidence
    assert len(verdicts) == 83
    assert [v.flags for _, v in verdicts[1:] if v.resolution.stream == perp("SOL-PERP")] == [0] * 59


def test_the_captures_lie_in_one_hour():
    """
    Else runs of findings would be cut, and the counts above with them.
    """
    for name in (MAY_2026, LEGACY, TWO_FEEDS):
        frames = capture(name)
        assert since(frames[0].recv_ts) // 3600 == since(frames[-1].recv_ts) // 3600
