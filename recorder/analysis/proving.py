"""
What later hours prove of earlier ones: rows of `coverage`, with the ids of the next fills known.

An hour is sealed when nobody knows whether its last fill was the last one. The first fill of a later hour tells: if its
id follows, nothing was missing in between, not even while the recorder was down; if ids are left out, fills are missing
there. How far to look for that fill is the reader's choice; `Lake` looks two days ahead.
"""

from datetime import UTC, datetime
from typing import Any

import polars as pl

from recorder.analysis.units import NS_UTC
from recorder.quality.effects import EFFECTS
from recorder.quality.intervals import joined, union
from recorder.quality.proof import IDS, STATES
from recorder.records import HOUR_NS, SECOND_NS

LOOK_AROUND_NS = 48 * HOUR_NS
"""How far before and after an hour fills are looked for."""
FAR = 10_000
"""Ids so far apart are not of one count: the counter began anew."""

_LATE = frozenset(kind for kind, effect in EFFECTS.items() if effect == "late")
_SECONDS = [f"{state}_s" for state in STATES]
_CHANGED = [*_SECONDS, "longest_hole_s", "span_start", "span_state", "span_why", "evidence"]

Row = dict[str, Any]


def with_later_proof(coverage: pl.DataFrame) -> pl.DataFrame:
    """
    Rows of coverage, those of trades as far as the other rows prove them. Same rows, same order, same columns.
    """
    # In integers: a datetime of Python has no nanoseconds.
    rows = coverage.with_columns(
        pl.col("start", "proven_until").to_physical(), pl.col("span_start").cast(pl.List(pl.Int64))
    ).rows(named=True)
    by_stream: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["channel"] == "trades" and row["span_start"] is not None:  # older files have no spans
            by_stream.setdefault((row["market_type"], row["symbol"]), []).append(row)
    changed = False
    for of_stream in by_stream.values():
        changed = _prove(sorted(of_stream, key=lambda row: row["start"])) or changed
    if not changed:
        return coverage
    schema = coverage.schema
    columns = [pl.Series(name, [row[name] for row in rows], _integers(schema[name])) for name in _CHANGED]
    return coverage.with_columns(column.cast(schema[column.name]) for column in columns)


def _integers(kind: pl.DataType) -> pl.DataType:
    return pl.List(pl.Int64()) if kind == pl.List(NS_UTC) else kind


def _prove(rows: list[Row]) -> bool:
    """
    Change one stream's rows, in order, where others tell more of them; True if any was.
    """
    following: list[tuple[int, int] | None] = []
    after: tuple[int, int] | None = None
    for row in reversed(rows):
        following.append(after)
        if row["first_fill_id"] is not None:
            after = row["first_fill_id"], row["start"]
    changed = False
    last_id: int | None = None
    for row, fill in zip(rows, reversed(following), strict=True):
        if row["last_fill_id"] is not None:
            # The highest: what came late, or again, is not where the venue's count stands.
            last_id = max(last_id or 0, row["last_fill_id"])
        since = row["start"] if row["last_fill_id"] is None else row["proven_until"]
        if last_id is None or fill is None or since is None:
            continue
        left_out = fill[0] - last_id - 1
        if 0 <= left_out <= FAR:
            _tell(row, since, left_out, *fill)
            changed = True
    return changed


def _tell(row: Row, since: int, left_out: int, first_id: int, hour: int) -> None:
    """
    Since then no fill came until that of `first_id`, in another hour.
    """
    new = ("missing", "trade_gap") if left_out else ("complete", IDS)
    ends = [*row["span_start"][1:], row["start"] + round(sum(row[name] for name in _SECONDS) * SECOND_NS)]
    parts: list[tuple[int, int, tuple[str, str]]] = []
    for start, end, state, why in zip(row["span_start"], ends, row["span_state"], row["span_why"], strict=True):
        # Ids prove that everything came, not that it came when we say.
        stays = start < since or state == "complete" or why in _LATE or why == "trade_gap"
        parts.append((start, end, (state, why) if stays else new))
    spans = joined(parts)
    for state, name in zip(STATES, _SECONDS, strict=True):
        row[name] = sum(end - start for start, end, label in spans if label[0] == state) / SECOND_NS
    missing = union((start, end) for start, end, label in spans if label[0] == "missing")
    row["longest_hole_s"] = max((end - start for start, end in missing), default=0) / SECOND_NS
    row["span_start"] = [start for start, _, _ in spans]
    row["span_state"] = [state for _, _, (state, _) in spans]
    row["span_why"] = [why for _, _, (_, why) in spans]
    follows = f"{left_out:,} ids are left out before" if left_out else "then follows"
    at = datetime.fromtimestamp(hour // SECOND_NS, UTC)
    row["evidence"] = f"{row['evidence']}; {follows} id {first_id}, in the hour of {at:%Y-%m-%d %H:%M}"
