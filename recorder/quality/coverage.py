"""
What an hour of a stream holds and what it can prove: one row per configured stream. Pure.
"""

from array import array
from itertools import pairwise
from math import ceil

import msgspec

from recorder.quality.events import channel_of
from recorder.quality.state import FillState, HourBeats
from recorder.records import HOUR_NS, SECOND_NS, Event, Flag, Stream
from recorder.venue.protocol import BOOK_CHANNELS, HEARTBEAT_INTERVAL_S

HOLES = frozenset(
    {
        "recorder_down",
        "connected",
        "disconnected",
        "silent",
        "not_acknowledged",
        "rejected",
        "trade_gap",
        "overflow",
        "journal_damaged",
        "loop_stall",
        "clock_step",
    }
)
"""Kinds of events during which a stream they concern brought nothing, or not all."""


# Plain integers: members of an IntFlag cost a microsecond a row to combine.
_REPEAT, _CROSSED, _ONE_SIDED = Flag.REPEAT.value, Flag.CROSSED.value, Flag.ONE_SIDED.value
_COUNTED = _REPEAT | _CROSSED | _ONE_SIDED


class CoverageRow(msgspec.Struct, frozen=True):
    """
    One row of `coverage`; columns as in `lake/schema.py`, instants in ns.
    """

    start: int
    symbol: str
    market_type: str
    market_index: int | None
    channel: str
    grouping: int | None
    rows: int
    bytes: int
    duplicates_removed: int
    repeats: int
    first_recv_ts: int | None
    last_recv_ts: int | None
    heartbeats: int
    heartbeats_expected: int
    longest_heartbeat_s: float | None
    cadence_ms: float | None
    cadence_spread_ms: float | None
    complete_s: float
    suspect_s: float
    missing_s: float
    unverifiable_s: float
    longest_hole_s: float
    first_fill_id: int | None
    last_fill_id: int | None
    fills_missing: int | None
    fills_repeated: int | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    latency_max_ms: float | None
    crossed: int | None
    one_sided: int | None


class StreamCount:
    """
    Gathers one stream's rows of an hour.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self.duplicates = 0
        self.repeats = 0
        self.crossed = 0
        self.one_sided = 0
        self.carriers: set[tuple[str, int]] = set()
        self._arrivals = array("q")
        self._latencies = array("q")

    def add(self, *, recv_ts: int, ts_ms: int | None, size: int, flags: int) -> None:
        """
        Count one stored row.
        """
        self.rows += 1
        self.bytes += size
        self._arrivals.append(recv_ts)
        if ts_ms is not None:
            self._latencies.append(max(min(recv_ts - ts_ms * 1_000_000, 1 << 62), -(1 << 62)))
        if flags & _COUNTED:
            self.repeats += bool(flags & _REPEAT)
            self.crossed += bool(flags & _CROSSED)
            self.one_sided += bool(flags & _ONE_SIDED)

    def row(
        self,
        stream: Stream,
        *,
        hour: int,
        until: int,
        market_index: int | None,
        beats: dict[tuple[str, int], HourBeats],
        fills: FillState | None,
        events: list[Event],
    ) -> CoverageRow:
        """
        The stream's row.

        Args:
            stream: whose.
            hour: ns at which it begins.
            until: ns up to which it is over; the hour's end but for an open hour.
            market_index: None if neither a frame nor the list told it.
            beats: of the connections, by (run, connection).
            fills: the market's fill counter; None if it never had a fill.
            events: of the hour, cut to it.
        """
        carried = [beats[key] for key in sorted(self.carriers) if key in beats]
        up_ns = sum(b.up_ns for b in carried)
        longest = [b.longest_ns for b in carried if b.longest_ns is not None]
        is_book = stream.channel in BOOK_CHANNELS
        # Rows of several tables (grouped and ungrouped books) may have been added one table after the other.
        arrivals = sorted(self._arrivals)
        cadence, spread = _median_and_spread(arrivals) if is_book else (None, None)
        latencies = sorted(self._latencies)
        counted = fills is not None and stream.channel == "trades"
        return CoverageRow(
            start=hour,
            symbol=stream.symbol,
            market_type=stream.market_type,
            market_index=market_index,
            channel=stream.channel,
            grouping=stream.grouping,
            rows=self.rows,
            bytes=self.bytes,
            duplicates_removed=self.duplicates,
            repeats=self.repeats,
            first_recv_ts=arrivals[0] if arrivals else None,
            last_recv_ts=arrivals[-1] if arrivals else None,
            heartbeats=sum(b.heartbeats for b in carried),
            heartbeats_expected=up_ns // (HEARTBEAT_INTERVAL_S * SECOND_NS),
            longest_heartbeat_s=max(longest) / SECOND_NS if longest else None,
            cadence_ms=cadence,
            cadence_spread_ms=spread,
            complete_s=0.0,
            suspect_s=0.0,
            missing_s=0.0,
            # What seconds can be proven is not judged by this version: none is called complete.
            unverifiable_s=(min(until, hour + HOUR_NS) - hour) / SECOND_NS,
            longest_hole_s=_longest_hole(stream, self.carriers, events) / SECOND_NS,
            first_fill_id=fills.hour_first if counted and fills is not None else None,
            last_fill_id=fills.hour_last if counted and fills is not None else None,
            fills_missing=_fills_missing(stream, events) if counted else None,
            fills_repeated=fills.hour_repeated if counted and fills is not None else None,
            latency_p50_ms=_quantile_ms(latencies, 0.5),
            latency_p99_ms=_quantile_ms(latencies, 0.99),
            latency_max_ms=latencies[-1] / 1e6 if latencies else None,
            crossed=self.crossed if is_book else None,
            one_sided=self.one_sided if is_book else None,
        )


def _median_and_spread(arrivals: list[int]) -> tuple[float | None, float | None]:
    """
    Of the intervals: median and median absolute deviation, ms.
    """
    intervals = sorted(b - a for a, b in pairwise(arrivals))
    if not intervals:
        return None, None
    median = _ranked(intervals, 0.5)
    return median / 1e6, _ranked(sorted(abs(i - median) for i in intervals), 0.5) / 1e6


def _fills_missing(stream: Stream, events: list[Event]) -> int:
    """
    What the hour's gaps name; a gap's count stands in the hour in which it ends.
    """
    return sum(
        e.missing or 0
        for e in events
        if e.kind == "trade_gap" and e.symbol == stream.symbol and e.channel == stream.channel
    )


def _quantile_ms(ordered: list[int], q: float) -> float | None:
    """
    Quantile of sorted ns, in ms.
    """
    return _ranked(ordered, q) / 1e6 if ordered else None


def _ranked(ordered: list[int], q: float) -> int:
    """
    Nearest-rank quantile: the smallest value that at least the share `q` of all does not exceed.
    """
    return ordered[max(ceil(q * len(ordered)) - 1, 0)]


def _longest_hole(stream: Stream, carriers: set[tuple[str, int]], events: list[Event]) -> int:
    """
    Longest stretch that holes of the stream, its connections or the recorder cover together, ns.

    A stream that no connection came to ask for may have been meant for any.
    """
    spans = sorted(
        (e.start, e.end)
        for e in events
        if e.kind in HOLES
        and (
            (e.scope == "recorder" and e.symbol is None)
            or (e.scope == "connection" and (not carriers or (e.run, e.connection) in carriers))
            or (e.symbol == stream.symbol and e.channel == channel_of(stream))
        )
    )
    longest = reach = begun = 0
    for start, end in spans:
        if start > reach:
            begun = start
        reach = max(reach, end)
        longest = max(longest, reach - begun)
    return longest
