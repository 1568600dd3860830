"""
What an hour of a stream holds and what it can prove: one row per configured stream. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil
from operator import sub

import msgspec

from recorder.quality.counter import FillState
from recorder.quality.effects import Carrier, effects
from recorder.quality.evidence import evidence
from recorder.quality.intervals import Spans, union
from recorder.quality.proof import STATES, Judged, judge_books, judge_others, judge_trades, proven_until
from recorder.quality.state import HourBeats
from recorder.quality.ticks import Ticks, learn
from recorder.records import HOUR_NS, SECOND_NS, Event, Flag, QualitySettings, Stream
from recorder.venue.protocol import BOOK_CHANNELS, HEARTBEAT_INTERVAL_S

# Plain integers: members of an IntFlag cost a microsecond a row to combine.
_REPEAT, _CROSSED, _ONE_SIDED, _STALE = (
    Flag.REPEAT.value,
    Flag.CROSSED.value,
    Flag.ONE_SIDED.value,
    Flag.MAYBE_INITIAL.value,
)
NO_TS = -(2**63)
"""Stands for a stamp the venue did not send."""
_STALE_AFTER_MS = 5_000
"""A first book stamped so long before the next is a stored copy."""
_FURTHEST_NS = 1 << 62
"""Latencies are clamped to this: a publisher's clock may say anything."""
_SILENCE_SLACK_NS = SECOND_NS
"""The monitor looks at its clock once a second."""


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
    carriers: int
    ticks_missing: int | None
    longest_interval_s: float | None
    proven_until: int | None
    span_start: list[int]
    span_state: list[str]
    span_why: list[str]
    evidence: str


class HourFacts(msgspec.Struct, frozen=True):
    """
    What an hour's rows of all streams have in common.
    """

    hour: int
    """ns at which it begins."""
    until: int
    """ns up to which it is over; the hour's end but for an open hour."""
    beats: dict[Carrier, HourBeats] = {}
    """Of the connections."""
    events: dict[str | None, list[Event]] = {}
    """Of the hour, cut to it, by symbol: an hour may have thousands, and every stream asks."""
    since: dict[Stream, dict[Carrier, int]] = {}
    """Of the carriers that still have a stream at the hour's end: since when they surely do."""
    not_running: Spans = []
    """When no recorder was running, of which no event tells."""
    silence_ns: int = int(QualitySettings().silent_after_s * SECOND_NS)
    """A silence longer than this, of a book that was asked for, is an event."""

    def about(self, stream: Stream) -> list[Event]:
        """
        The events that name a stream's market, and those that name none.
        """
        return [*self.events.get(None, []), *self.events.get(stream.symbol, [])]


def by_symbol(events: Iterable[Event]) -> dict[str | None, list[Event]]:
    """
    Events as `HourFacts` wants them.
    """
    sorted_out: dict[str | None, list[Event]] = {}
    for event in events:
        sorted_out.setdefault(event.symbol, []).append(event)
    return sorted_out


class StreamCount:
    """
    Gathers one stream's rows of an hour.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        self.duplicates = 0
        self.carriers: set[Carrier] = set()
        self._flags: Counter[int] = Counter()
        self._ways: list[tuple[Sequence[int], Sequence[int], Sequence[int]]] = []

    def take(self, *, recv_ts: Sequence[int], ts_ms: Sequence[int], sizes: Sequence[int], flags: Sequence[int]) -> None:
        """
        Count the rows of one way, in the order of receipt. `ts_ms` is `NO_TS` where the venue sent none.
        """
        self.rows += len(recv_ts)
        self.bytes += sum(sizes)
        self._flags.update(flags)
        self._ways.append((recv_ts, ts_ms, flags))

    def row(
        self,
        stream: Stream,
        of: HourFacts,
        *,
        market_index: int | None,
        fills: FillState | None,
    ) -> CoverageRow:
        """
        The stream's row.

        Args:
            stream: whose.
            of: the hour.
            market_index: None if neither a frame nor the list told it.
            fills: the market's fill counter; None if it never had a fill.
        """
        carried = [of.beats[key] for key in sorted(self.carriers) if key in of.beats]
        up_ns = sum(b.up_ns for b in carried)
        longest = [b.longest_ns for b in carried if b.longest_ns is not None]
        is_book = stream.channel in BOOK_CHANNELS
        arrivals, stamps, flags = self._in_order()
        intervals = sorted(map(sub, arrivals[1:], arrivals[:-1])) if is_book else []
        cadence = _ranked(intervals, 0.5) if intervals else None
        latencies = _latencies(arrivals, stamps)
        counted = fills is not None and stream.channel == "trades"
        ticks = self._ticks(arrivals, stamps, flags) if is_book else Ticks()
        judged = self._judge(stream, of, ticks, fills if counted else None, arrivals)
        seconds = {state: sum(j.end - j.start for j in judged if j.state == state) / SECOND_NS for state in STATES}
        row = CoverageRow(
            start=of.hour,
            symbol=stream.symbol,
            market_type=stream.market_type,
            market_index=market_index,
            channel=stream.channel,
            grouping=stream.grouping,
            rows=self.rows,
            bytes=self.bytes,
            duplicates_removed=self.duplicates,
            repeats=self._flagged(_REPEAT),
            first_recv_ts=arrivals[0] if arrivals else None,
            last_recv_ts=arrivals[-1] if arrivals else None,
            heartbeats=sum(b.heartbeats for b in carried),
            heartbeats_expected=up_ns // (HEARTBEAT_INTERVAL_S * SECOND_NS),
            longest_heartbeat_s=max(longest) / SECOND_NS if longest else None,
            cadence_ms=cadence / 1e6 if cadence is not None else None,
            cadence_spread_ms=_spread(intervals, cadence) / 1e6 if cadence is not None else None,
            complete_s=seconds["complete"],
            suspect_s=seconds["suspect"],
            missing_s=seconds["missing"],
            unverifiable_s=seconds["unverifiable"],
            longest_hole_s=_longest_missing(judged) / SECOND_NS,
            first_fill_id=fills.hour_first if counted and fills is not None else None,
            last_fill_id=fills.hour_last if counted and fills is not None else None,
            fills_missing=_fills_missing(stream, of.about(stream)) if counted else None,
            fills_repeated=fills.hour_repeated if counted and fills is not None else None,
            latency_p50_ms=_quantile_ms(latencies, 0.5),
            latency_p99_ms=_quantile_ms(latencies, 0.99),
            latency_max_ms=_quantile_ms(latencies, 1.0),
            crossed=self._flagged(_CROSSED) if is_book else None,
            one_sided=self._flagged(_ONE_SIDED) if is_book else None,
            carriers=len(self.carriers),
            ticks_missing=ticks.missing,
            longest_interval_s=intervals[-1] / SECOND_NS if intervals else None,
            proven_until=proven_until(fills, start=of.hour, until=of.until) if counted else None,
            span_start=[j.start for j in judged],
            span_state=[j.state for j in judged],
            span_why=[j.why for j in judged],
            evidence="",
        )
        awaited = 0
        if counted and fills is not None and of.until < of.hour + HOUR_NS:
            awaited = sum(each.last - each.first + 1 - each.nameless for each in fills.pending)
        return msgspec.structs.replace(row, evidence=evidence(row, ticks, judged, awaited))

    def _flagged(self, bit: int) -> int:
        return sum(count for flags, count in self._flags.items() if flags & bit)

    def _in_order(self) -> tuple[list[int], list[int], list[int]]:
        """
        Receipt, stamp and flags of all rows, by receipt: grouped and ungrouped books go different ways.
        """
        if len(self._ways) == 1:
            recv_ts, ts_ms, flags = self._ways[0]
            return list(recv_ts), list(ts_ms), list(flags)
        merged = sorted(row for way in self._ways for row in zip(*way, strict=True))
        return [row[0] for row in merged], [row[1] for row in merged], [row[2] for row in merged]

    def _ticks(self, arrivals: list[int], stamps: list[int], flags: list[int]) -> Ticks:
        """
        The ticks of a book stream.

        A repeat is no tick of its own, and a first book may be a stored copy of an old one: its stamp tells.
        """
        if self._flagged(_REPEAT | _STALE):
            kept = [i for i, flag in enumerate(flags) if not flag & _REPEAT and not _is_stale(i, stamps, flag)]
            arrivals, stamps = [arrivals[i] for i in kept], [stamps[i] for i in kept]
        return learn(arrivals, stamps if NO_TS not in stamps else None)

    def _judge(
        self, stream: Stream, of: HourFacts, ticks: Ticks, fills: FillState | None, arrivals: list[int]
    ) -> list[Judged]:
        events = of.about(stream)
        said = effects(
            stream,
            events,
            self.carriers,
            since=of.since.get(stream, {}),
            until=of.until,
            not_running=of.not_running,
        )
        start, until = of.hour, min(of.until, of.hour + HOUR_NS)
        if stream.channel in BOOK_CHANNELS:
            return judge_books(ticks, said, start=start, until=until, silence_ns=of.silence_ns + _SILENCE_SLACK_NS)
        if stream.channel == "trades":
            return judge_trades(fills, arrivals, said, start=start, until=until)
        return judge_others(said, start=start, until=until)


def _is_stale(at: int, stamps: list[int], flag: int) -> bool:
    """
    Whether a book is a stored copy: flagged as a first one, and its stamp says it is older than the one before it, or
    that the one after it comes much later.
    """
    if not flag & _STALE or stamps[at] == NO_TS:
        return False
    after = stamps[at + 1] if at + 1 < len(stamps) else stamps[at]
    return after - stamps[at] > _STALE_AFTER_MS or (at > 0 and stamps[at] <= stamps[at - 1])


def _latencies(arrivals: list[int], stamps: list[int]) -> list[int]:
    """
    recv_ts − ts of the rows that have one, ns, sorted.
    """
    if NO_TS in stamps:
        return sorted(recv - ts * 1_000_000 for recv, ts in zip(arrivals, stamps, strict=True) if ts != NO_TS)
    return sorted(recv - ts * 1_000_000 for recv, ts in zip(arrivals, stamps, strict=True))


def _spread(intervals: list[int], median: int) -> int:
    """
    Median absolute deviation.
    """
    return _ranked(sorted(abs(i - median) for i in intervals), 0.5)


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
    return max(min(_ranked(ordered, q), _FURTHEST_NS), -_FURTHEST_NS) / 1e6 if ordered else None


def _ranked(ordered: list[int], q: float) -> int:
    """
    Nearest-rank quantile: the smallest value that at least the share `q` of all does not exceed.
    """
    return ordered[max(ceil(q * len(ordered)) - 1, 0)]


def _longest_missing(judged: list[Judged]) -> int:
    """
    Longest stretch that is missing, whatever the reasons, ns.
    """
    return max(
        (end - start for start, end in union((j.start, j.end) for j in judged if j.state == "missing")), default=0
    )
