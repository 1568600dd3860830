"""
The fill counters: which trades are missing, told by the ids the venue gives them. Pure.

`fillRecordId` counts up by one per market, so a jump proves a loss and says how large it is. But within a slot the
newest transaction comes first, a restarted publisher sends its last one again, and ids may be absent. So a jump waits
some seconds before it is judged, and whatever arrives late closes it.

A gap begins with the fill before it and ends with the one after it. One that came late, by its block time, vouches only
for the time it was due at; and where fills come out of order, one that is missing may have been due a little later.
"""

from typing import Any

import msgspec

from recorder.quality.findings import Findings
from recorder.quality.state import FillState, MissingFills
from recorder.records import SECOND_NS, Entry, Flag
from recorder.venue.protocol import Peek

MAX_PENDING = 4096
MAX_JUDGED = 256
MAX_MARKETS = 4096
"""Counters kept; there are some hundred markets, and a venue could invent indices."""
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
"""And by more than this, its time is nonsense."""

_Range = tuple[int, int]


class Fills:
    """
    The counters of all markets, across connections and runs.
    """

    def __init__(self, fills: dict[str, FillState], findings: Findings) -> None:
        self._fills = fills
        self._findings = findings

    def take(self, entry: Entry, seen: Peek, fill_id: int, symbol: str) -> int:
        """
        Count one fill. Returns the flags its row bears: `REPEAT` or none.

        Args:
            entry: of the trade frame; not one that another connection brought before.
            seen: its peek; it has a channel.
            fill_id: its id.
            symbol: its market.
        """
        assert seen.channel is not None
        key = f"{seen.channel.market_type}:{seen.channel.market_index}"
        now = entry.recv_ts
        fills = self._fills.get(key)
        if fills is None:
            if len(self._fills) < MAX_MARKETS:
                self._fills[key] = fills = FillState(
                    symbol, fill_id, fill_id, now, seen.slot, hour_first=fill_id, hour_last=fill_id
                )
                _lateness(fills, seen.ts, now)
            return 0
        fills.symbol = symbol
        if not _is_far(fills, fill_id, now):
            fills.stray = None
        elif not self._begin_anew(key, fills, entry, fill_id):
            return 0
        fills.hour_first = fill_id if fills.hour_first is None else min(fills.hour_first, fill_id)
        fills.hour_last = fill_id if fills.hour_last is None else max(fills.hour_last, fill_id)
        if fill_id > fills.highest:
            if fill_id > fills.highest + 1:
                self._jumped(key, fills, entry, seen, fill_id)
            fills.highest, fills.highest_ts, fills.highest_slot, fills.nameless = fill_id, now, seen.slot, 0
            fills.highest_late = _lateness(fills, seen.ts, now)
            return 0
        if fill_id < fills.lowest:
            # Before our first: the venue sends the newest transaction of a slot first.
            if fill_id < fills.lowest - 1:
                self._await(key, fills, _before_first(fills, entry, seen, fill_id))
            fills.lowest = fill_id
            return 0
        if _take_out(fills.pending, fill_id) or _take_out_of_judged(fills.judged, fill_id):
            if now - fills.highest_ts > BURST_NS:
                fills.overtaken = now
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

    def nameless(self, seen: Peek) -> None:
        """
        Count a fill that came without an id: it is one of those that the next id will seem to jump over.
        """
        assert seen.channel is not None
        fills = self._fills.get(f"{seen.channel.market_type}:{seen.channel.market_index}")
        if fills is not None:
            fills.nameless += 1

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

    def turn_hour(self) -> None:
        """
        The counts of the hour start again.
        """
        for fills in self._fills.values():
            fills.hour_first = fills.hour_last = None
            fills.hour_repeated = 0

    def _jumped(self, key: str, fills: FillState, entry: Entry, seen: Peek, fill_id: int) -> None:
        missing = MissingFills(
            fills.highest + 1,
            fill_id - 1,
            fills.highest_ts - fills.highest_late,
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
        fills.judged.append((missing.first, missing.last))
        del fills.judged[:-MAX_JUDGED]
        count = missing.last - missing.first + 1 - missing.nameless
        if count <= 0:
            return
        if missing.before_first:
            cause, why = "unknown", "they may have been sent before we listened"
        else:
            place: dict[str, Any] = {"run": missing.run, "connection": missing.connection}
            if abs(missing.right_ts - fills.overtaken) <= DISORDER_NS:
                # What was overtaken would have come after those that overtook it.
                missing.right_ts += OVERTAKEN_NS
            cause, why = self._findings.cause_between(missing.left_ts, missing.right_ts, **place)
        without = f", but {missing.nameless} fills without an id did" if missing.nameless else ""
        self._findings.emit(
            "trade_gap",
            cause=cause,
            start=missing.left_ts,
            end=missing.right_ts,
            run=missing.run,
            connection=missing.connection,
            symbol=fills.symbol,
            channel="trades",
            missing=count,
            first_slot=missing.left_slot,
            last_slot=missing.right_slot,
            evidence=f"fill ids {missing.first} to {missing.last} of {key} never came{without}; {why}",
            apart=str(missing.first),
        )

    def _begin_anew(self, key: str, fills: FillState, entry: Entry, fill_id: int) -> bool:
        """
        An id that cannot follow the counter. One is nonsense and not counted; two side by side are a new counter.
        """
        stray = fills.stray
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
        fills.judged.clear()
        fills.lowest = fills.highest = stray
        fills.highest_ts, fills.highest_slot, fills.stray = entry.recv_ts, None, None
        fills.highest_late = 0
        fills.hour_first = fills.hour_last = stray
        return True


def _lateness(fills: FillState, block_time: int | None, now: int) -> int:
    """
    How late a fill of this block time, s, came; 0 unless it surely did.
    """
    if block_time is None:
        return 0
    lag = now - block_time * SECOND_NS
    if fills.lag is None or not 0 <= lag - fills.lag <= MAX_LATE_NS:
        fills.lag = lag
        return 0
    late = lag - fills.lag
    fills.lag += late >> 10  # clocks drift
    return late if late > LATE_NS else 0


def _is_far(fills: FillState, fill_id: int, now: int) -> bool:
    ahead = fill_id - fills.highest
    if -NEAR <= ahead <= NEAR:
        return False
    if ahead > 0:
        return ahead > NEAR + FILLS_PER_SECOND * max(now - fills.highest_ts, 0) // SECOND_NS
    return not any(missing.first <= fill_id <= missing.last for missing in fills.pending)


def _before_first(fills: FillState, entry: Entry, seen: Peek, fill_id: int) -> MissingFills:
    return MissingFills(
        fill_id + 1,
        fills.lowest - 1,
        fills.highest_ts,
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


def _take_out_of_judged(judged: list[_Range], fill_id: int) -> bool:
    for index, (first, last) in enumerate(judged):
        if first <= fill_id <= last:
            judged[index : index + 1] = _without((first, last), fill_id)
            # Splitting may have made one more; the oldest go first.
            del judged[:-MAX_JUDGED]
            return True
    return False


def _without(span: _Range, fill_id: int) -> list[_Range]:
    first, last = span
    return [part for part in ((first, fill_id - 1), (fill_id + 1, last)) if part[0] <= part[1]]
