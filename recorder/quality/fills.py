"""
The fill counters: which trades are missing, told by the ids the venue gives them. Pure.

`fillRecordId` counts up by one per market, so a jump proves a loss and says how large it is. But within a slot the
newest transaction comes first, a restarted publisher sends its last one again, and ids may be absent. So a jump waits
some seconds before it is judged. What arrives later still takes the gap back: `trade_late`, with the gap's own id.

A gap begins with the fill before it, or with the run if there was none, and ends with the one after it. One that
came late, by its block time, vouches only for the time it was due at; and where fills come out of order, one that is
missing may have been due a little later.

A fill without an id is not counted, and may be one of those that the next id seems to jump over. So where such fills
came, ids prove nothing: `trade_unnumbered`, from the id before them to the id after them.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from recorder.quality.counter import FillState, LateFills, ManyGaps, MissingFills, ToldGap
from recorder.quality.findings import Findings
from recorder.quality.gaps import gap_event, late_event, many_event
from recorder.quality.intervals import add, union
from recorder.quality.state import RunState
from recorder.records import HOUR_NS, SECOND_NS, Cause, Entry, Flag
from recorder.venue.protocol import Peek

MAX_PENDING = 4096
MAX_TOLD = 256
"""Gaps of a market that late fills still find."""
LATEST_NS = 48 * HOUR_NS
"""And for so long."""
MAX_MARKETS = 4096
"""Counters kept; there are some hundred markets, and a venue could invent indices."""
MAX_GAPS = 200
"""Of a market and hour that are told one by one; any further are one event, with their count."""
MAX_ALL_GAPS = 10_000
"""Likewise, of all markets together."""
MAX_SPANS = 256
"""Stretches in which those lie; the two that are nearest to each other become one."""
NEAR = 10_000
"""Ids this far from the counter are of it, whatever the time."""
FILLS_PER_SECOND = 2_500
"""And so many more for each second since its last one: a thousand a slot, far beyond what the chain can do."""

LATE_NS = 900_000_000
"""Block time is in whole seconds: a fill that came this much later than the least that is usual may have come late."""
OVERTAKEN_NS = 2 * SECOND_NS
"""Where fills come out of order, one may be sent so long after those that follow it, and be lost then."""
DISORDER_NS = 15 * SECOND_NS
"""Out of order is what came so near to a fill that had been overtaken …"""
BURST_NS = 300_000_000
"""… by more than this: within a slot, the newest comes first."""
MAX_LATE_NS = 600 * SECOND_NS
"""And by more than this, it may be the clock that is off."""
NONSENSE_NS = 86_400 * SECOND_NS
"""Further from the usual than this, either way, a block time is none, and says nothing."""
CLOCK_STEPPED = 3
"""Fills in a row that are off like this: a clock has stepped, and that is the usual from here on."""

_Range = tuple[int, int]


class Fills:
    """
    The counters of all markets, across connections and runs.
    """

    def __init__(self, fills: dict[str, FillState], runs: dict[str, RunState], findings: Findings) -> None:
        self._fills = fills
        self._runs = runs
        self._findings = findings
        self._told = sum(each.hour_told for each in fills.values())
        """Gaps of this hour that were told one by one."""

    def take(self, entry: Entry, seen: Peek, fill_id: int, symbol: str) -> int:
        """
        Count one fill. Returns the flags its row bears: `REPEAT` or none.

        Args:
            entry: of the trade frame; not one that another connection brought before.
            seen: its peek; it has a channel.
            fill_id: its id.
            symbol: its market.
        """
        key = _key(seen)
        now = entry.recv_ts
        fills = self._fills.get(key)
        if fills is None:
            if len(self._fills) < MAX_MARKETS:
                self._fills[key] = fills = FillState(
                    symbol, fill_id, fill_id, now, seen.slot, hour_first=fill_id, hour_last=fill_id, begun=now
                )
                fills.since = min(self._runs[entry.run].started, now)
                # Block time is one clock for all markets.
                fills.lag = min((each.lag for each in self._fills.values() if each.lag is not None), default=None)
                fills.highest_late = _lateness(fills, seen.ts, now)
            return 0
        fills.symbol = symbol
        if not _is_far(fills, fill_id, now):
            fills.stray = None
        elif not self._begin_anew(key, fills, entry, fill_id):
            return 0
        if fill_id > fills.highest:
            if fills.nameless:
                self._unnumbered(fills, entry, 0)
            if fill_id > fills.highest + 1:
                self._jumped(key, fills, entry, seen, fill_id)
            fills.highest, fills.highest_ts, fills.highest_slot, fills.nameless = fill_id, now, seen.slot, 0
            fills.highest_late = _lateness(fills, seen.ts, now)
            _count(fills, fill_id)
            return 0
        if fill_id < fills.lowest:
            # Before our first: the venue sends the newest transaction of a slot first.
            if fill_id < fills.lowest - 1:
                self._await(key, fills, _before_first(fills, entry, seen, fill_id))
            fills.lowest = fill_id
            _count(fills, fill_id)
            return 0
        if _take_out(fills.pending, fill_id) or self._take_back(fills, fill_id, now):
            if now - fills.highest_ts > BURST_NS:
                fills.overtaken = now
            _count(fills, fill_id)
            return 0
        fills.hour_repeated += 1
        self._findings.tallies.add(
            "trade_repeat",
            now,
            cause="venue",
            run=entry.run,
            connection=entry.connection,
            symbol=symbol,
            channel="trades",
            evidence="fill ids that had come before",
        )
        return Flag.REPEAT.value

    def nameless(self, entry: Entry, seen: Peek, symbol: str) -> None:
        """
        Count a fill that came without an id: it may be one of those that the next id will seem to jump over.
        """
        fills = self._fills.get(_key(seen))
        if fills is not None:
            fills.symbol = symbol
            fills.nameless += 1
            self._unnumbered(fills, entry, 1)

    def clock(self, now: int, wait_ns: int) -> None:
        """
        Judge what has waited long enough.
        """
        for key, fills in self._fills.items():
            while fills.pending and now - fills.pending[0].right_ts > wait_ns:
                self._judge(key, fills, fills.pending.pop(0))

    def judge_all(self) -> None:
        """
        Judge what is still waited for: nobody will look any more.
        """
        for key, fills in self._fills.items():
            while fills.pending:
                self._judge(key, fills, fills.pending.pop(0))

    def turn_hour(self, hour: int) -> None:
        """
        The counts of the hour start again.
        """
        self.tell_rest(before=hour)
        self._told = 0
        for fills in self._fills.values():
            fills.hour_first = fills.hour_last = None
            fills.hour_repeated = fills.hour_told = 0
            fills.hour_floor, fills.hour_anew = fills.highest, False
            fills.told = [gap for gap in fills.told if hour - gap.right_ts < LATEST_NS]

    def tell_rest(self, *, before: int | None = None) -> None:
        """
        Tell what is told once an hour: gaps beyond the limit that end before an instant, and what came late.
        """
        for fills in self._fills.values():
            self._findings.events += [late_event(fills.symbol, late) for late in fills.late]
            fills.late = []
            over = [many for many in fills.many if before is None or many.hour < before]
            self._findings.events += [many_event(many) for many in over if many.missing > 0]
            fills.many = [many for many in fills.many if many not in over]

    def _jumped(self, key: str, fills: FillState, entry: Entry, seen: Peek, fill_id: int) -> None:
        missing = MissingFills(
            fills.highest + 1,
            fill_id - 1,
            _due(fills),
            entry.recv_ts,
            fills.highest_slot,
            seen.slot,
            entry.run,
            entry.connection,
            nameless=fills.nameless,
        )
        self._await(key, fills, missing)

    def _await(self, key: str, fills: FillState, missing: MissingFills) -> None:
        fills.pending.append(missing)
        if len(fills.pending) > MAX_PENDING:
            self._judge(key, fills, fills.pending.pop(0))

    def _judge(self, key: str, fills: FillState, missing: MissingFills) -> None:
        count = missing.last - missing.first + 1 - missing.nameless
        if count <= 0:
            # As many came without an id, and `trade_unnumbered` tells of them. One that comes late is no repeat.
            self._remember(fills, missing, "")
            return
        cause: Cause
        if missing.before_first:
            cause, why = "unknown", "they may have been sent before we listened"
        else:
            place: dict[str, Any] = {"run": missing.run, "connection": missing.connection, "symbol": fills.symbol}
            if abs(missing.right_ts - fills.overtaken) <= DISORDER_NS:
                # What was overtaken would have come after those that overtook it.
                missing.right_ts += OVERTAKEN_NS
            cause, why = self._findings.cause_between(missing.left_ts, missing.right_ts, **place)
        if fills.hour_told < MAX_GAPS and self._told < MAX_ALL_GAPS:
            fills.hour_told += 1
            self._told += 1
            event = gap_event(key, fills.symbol, missing, count, cause, why)
            self._findings.events.append(event)
            event_id = event.event_id
        else:
            event_id = self._one_of_many(fills, missing, count, cause, why)
        self._remember(fills, missing, event_id)

    @staticmethod
    def _remember(fills: FillState, missing: MissingFills, event_id: str) -> None:
        fills.told.append(ToldGap(missing.first, missing.last, event_id, missing.left_ts, missing.right_ts))
        del fills.told[:-MAX_TOLD]

    def _one_of_many(self, fills: FillState, missing: MissingFills, count: int, cause: Cause, why: str) -> str:
        """
        Count a gap that is not told by itself. Returns the id that its event will have.
        """
        hour = missing.right_ts - missing.right_ts % HOUR_NS
        many = next((each for each in fills.many if each.hour == hour), None)
        if many is None:
            many = ManyGaps(
                "",
                hour,
                fills.symbol,
                missing.run,
                missing.connection,
                cause,
                why,
                missing.first,
                missing.last,
                missing.left_ts,
                missing.right_ts,
                missing.left_slot,
                missing.right_slot,
            )
            many.event_id = many_event(many).event_id
            fills.many.append(many)
            self._findings.opening(
                f"{fills.symbol}: so many gaps of fill ids that the rest of the hour's are one event"
            )
        if many.cause != cause:
            many.cause, many.why = "unknown", "their causes differ"
        _spread(many, missing)
        many.gaps += 1
        many.missing += count
        many.first, many.last = min(many.first, missing.first), max(many.last, missing.last)
        many.right_ts, many.right_slot = max(many.right_ts, missing.right_ts), missing.right_slot
        if missing.left_ts < many.left_ts:  # where a fill came late
            many.left_ts, many.left_slot = missing.left_ts, missing.left_slot
        return many.event_id

    def _take_back(self, fills: FillState, fill_id: int, now: int) -> bool:
        """
        Take an id that arrived after all out of those that were told as missing; False if it was not among them.
        """
        for index, told in enumerate(fills.told):
            if not told.first <= fill_id <= told.last:
                continue
            parts = _without((told.first, told.last), fill_id)
            fills.told[index : index + 1] = [msgspec.structs.replace(told, first=a, last=b) for a, b in parts]
            # Splitting may have made one more; the oldest go first.
            del fills.told[:-MAX_TOLD]
            if not told.event_id:
                return True
            many = next((each for each in fills.many if each.event_id == told.event_id), None)
            if many is not None and many.hour == now - now % HOUR_NS:
                many.missing -= 1  # it is not told yet
                return True
            late = next((each for each in fills.late if each.event_id == told.event_id), None)
            waited = now - told.right_ts
            if late is None:
                fills.late.append(LateFills(told.event_id, told.left_ts, fill_id, fill_id, now, now, waited))
                if len(fills.late) > MAX_TOLD:
                    self._findings.events.append(late_event(fills.symbol, fills.late.pop(0)))
                return True
            late.first_id, late.last_id = min(late.first_id, fill_id), max(late.last_id, fill_id)
            late.last_ts, late.waited_ns = now, max(late.waited_ns, waited)
            late.count += 1
            return True
        return False

    def _unnumbered(self, fills: FillState, entry: Entry, count: int) -> None:
        self._findings.tallies.add(
            "trade_unnumbered",
            entry.recv_ts,
            since=_due(fills),
            cause="venue",
            run=entry.run,
            connection=entry.connection,
            symbol=fills.symbol,
            channel="trades",
            evidence="fills without an id, of which the ids around them prove nothing",
            count=count,
        )

    def _begin_anew(self, key: str, fills: FillState, entry: Entry, fill_id: int) -> bool:
        """
        An id that cannot follow the counter. One is nonsense and not counted; two side by side are a new counter.
        """
        stray = fills.stray
        fills.hour_anew = True
        self._findings.tallies.add(
            "schema_drift",
            entry.recv_ts,
            cause="venue",
            run=entry.run,
            connection=entry.connection,
            symbol=fills.symbol,
            channel="trades",
            evidence="fill ids far from their counter; not counted unless they go on from there",
        )
        if stray is None or abs(fill_id - stray) > NEAR:
            fills.stray = fill_id
            return False
        while fills.pending:
            self._judge(key, fills, fills.pending.pop(0))
        fills.told.clear()
        fills.since = fills.highest_ts
        fills.lowest = fills.highest = stray
        fills.highest_ts, fills.highest_slot, fills.stray = entry.recv_ts, None, None
        fills.highest_late = fills.nameless = 0
        fills.hour_first = fills.hour_last = stray
        fills.hour_floor, fills.begun = None, entry.recv_ts
        return True


def _spread(many: ManyGaps, missing: MissingFills) -> None:
    """
    Note where one more of many gaps lies.
    """
    # Nothing yet: the bounds are its own, or those of all that an older version has counted.
    many.spans = spans = many.spans or union([(many.left_ts, many.right_ts)])
    add(spans, (missing.left_ts, missing.right_ts))
    if len(spans) > MAX_SPANS:
        _, at = min((spans[at + 1][0] - spans[at][1], at) for at in range(len(spans) - 1))
        spans[at : at + 2] = [(spans[at][0], spans[at + 1][1])]


def _due(fills: FillState) -> int:
    """
    When the highest fill was due, from which on those behind it may be missing; not before anybody listened.
    """
    return max(fills.highest_ts - fills.highest_late, min(fills.since, fills.highest_ts))


def _key(seen: Peek) -> str:
    assert seen.channel is not None
    return f"{seen.channel.market_type}:{seen.channel.market_index}"


def _count(fills: FillState, fill_id: int) -> None:
    """
    One that had not come before is among the first and last of the hour.

    What comes late, from before the hour, is not; nor does an id stand for those below it while one is missing there:
    whoever holds the hour's first id against the last of an earlier hour must find what is left out between them.
    """
    floor = fills.hour_floor
    if floor is None or fill_id > floor:
        fills.hour_last = fill_id if fills.hour_last is None else max(fills.hour_last, fill_id)
    if floor is None:
        fills.hour_first = fill_id if fills.hour_first is None else min(fills.hour_first, fill_id)
    elif fill_id > floor:
        if fills.hour_first is None:
            fills.hour_first = fill_id
        if fill_id <= fills.hour_first:
            below = fills.hour_first
            ends = [last for _, last in _open(fills) if floor < last < below]
            fills.hour_first = max(ends, default=floor) + 1


def _lateness(fills: FillState, block_time: int | None, now: int) -> int:
    """
    How late a fill of this block time, s, came; 0 unless it surely did.
    """
    if block_time is None:
        return 0
    lag = now - block_time * SECOND_NS
    late = lag - fills.lag if fills.lag is not None else 0
    if fills.lag is None or -NONSENSE_NS <= late < 0:
        fills.lag, fills.far = lag, 0
        return 0
    fills.far = 0 if 0 <= late <= MAX_LATE_NS else fills.far + 1
    if fills.far >= CLOCK_STEPPED:
        fills.lag, fills.far = lag, 0
        return 0
    if fills.far:
        return late if 0 <= late <= NONSENSE_NS else 0
    fills.lag += late >> 10  # clocks drift
    return late if late > LATE_NS else 0


def _is_far(fills: FillState, fill_id: int, now: int) -> bool:
    ahead = fill_id - fills.highest
    if -NEAR <= ahead <= NEAR:
        return False
    if ahead > 0:
        return ahead > NEAR + FILLS_PER_SECOND * max(now - fills.highest_ts, 0) // SECOND_NS
    return not any(first <= fill_id <= last for first, last in _open(fills))


def _open(fills: FillState) -> Iterator[_Range]:
    """
    The ids that are missing, whether that is told yet or not.
    """
    yield from ((missing.first, missing.last) for missing in fills.pending)
    yield from ((told.first, told.last) for told in fills.told)


def _before_first(fills: FillState, entry: Entry, seen: Peek, fill_id: int) -> MissingFills:
    return MissingFills(
        fill_id + 1,
        fills.lowest - 1,
        fills.since or fills.begun or fills.highest_ts,
        entry.recv_ts,
        seen.slot,
        fills.highest_slot,
        entry.run,
        entry.connection,
        before_first=True,
    )


def _take_out(pending: list[MissingFills], fill_id: int) -> bool:
    """
    Take an id that arrived after all out of the missing ones; False if it was not among them.
    """
    for index, missing in enumerate(pending):
        if missing.first <= fill_id <= missing.last:
            parts = _without((missing.first, missing.last), fill_id)
            left = [msgspec.structs.replace(missing, first=a, last=b) for a, b in parts]
            # Those without an id are counted once, where there is room for them.
            for part in left[1:]:
                part.nameless = max(missing.nameless - (left[0].last - left[0].first + 1), 0)
                left[0].nameless -= part.nameless
            pending[index : index + 1] = left
            return True
    return False


def _without(span: _Range, fill_id: int) -> list[_Range]:
    first, last = span
    return [part for part in ((first, fill_id - 1), (fill_id + 1, last)) if part[0] <= part[1]]
