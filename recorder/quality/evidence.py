"""
Why a row of coverage says what it says, in words. Pure.
"""

from typing import TYPE_CHECKING

from recorder.quality.proof import IDS, TICKS, Judged
from recorder.quality.ticks import Ticks
from recorder.records import SECOND_NS

if TYPE_CHECKING:
    from recorder.quality.coverage import CoverageRow

MOST_REASONS = 6
MOST_PACES = 4


def evidence(row: "CoverageRow", ticks: Ticks, judged: list[Judged], awaited: int) -> str:
    """
    Of a stream's hour: pace or ids, heartbeats, and what speaks against it, longest first.

    Args:
        row: as it will be, but for this.
        ticks: of a book stream.
        judged: its seconds.
        awaited: fills of an hour that is not over which were jumped over, and may still come.
    """
    parts = []
    if ticks.cadences and ticks.missing is not None:
        parts.append(f"{_paces(ticks)}, {ticks.count:,} of {ticks.count + ticks.missing:,} ticks")
    elif ticks.count:
        parts.append(f"{ticks.count:,} {_plural(ticks.count, 'book')}, at no even pace")
    elif row.channel == "trades":
        parts.append(_ids(row, awaited))
    elif not row.rows:
        parts.append("nothing came")
    if row.carriers:
        parts.append(f"heartbeats {row.heartbeats:,} of {max(row.heartbeats, row.heartbeats_expected):,}")
    else:
        parts.append("no connection known that carried it")
    if row.carriers > 1:
        parts.append(f"{row.carriers} connections")
    reasons: dict[tuple[str, str], int] = {}
    for part in judged:
        if part.why not in {TICKS, IDS}:
            key = (part.state, part.why)
            reasons[key] = reasons.get(key, 0) + part.end - part.start
    longest = sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
    parts += [f"{state} {ns / SECOND_NS:.1f} s: {why}" for (state, why), ns in longest[:MOST_REASONS]]
    if len(longest) > MOST_REASONS:
        left = len(longest) - MOST_REASONS
        parts.append(f"and {left} more {_plural(left, 'reason')}")
    return "; ".join(parts)


def _paces(ticks: Ticks) -> str:
    shown = [f"{pace / 1e6:.0f}" for _, pace in ticks.cadences[:MOST_PACES]]
    more = ", …" if len(ticks.cadences) > MOST_PACES else ""
    return f"cadence {', then '.join(shown)}{more} ms"


def _ids(row: "CoverageRow", awaited: int) -> str:
    fills = f"{row.rows:,} {_plural(row.rows, 'fill')}"
    if row.first_fill_id is None or row.last_fill_id is None:
        return f"{fills}, no ids" if row.rows else "no fill"
    told = [f"{row.fills_missing:,} missing"] if row.fills_missing else []
    told += [f"{awaited:,} awaited"] if awaited else []
    gaps = ", ".join(told) or "none missing"
    return f"{fills}, ids {row.first_fill_id} to {row.last_fill_id}, {gaps}"


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"
