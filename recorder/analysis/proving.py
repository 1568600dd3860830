"""
What later hours prove of earlier ones: rows of `coverage`, with the ids of the next fills known.

An hour is sealed when nobody knows whether its last fill was the last one. The first fill of a later hour tells: if its
id follows, nothing was missing in between, not even while the recorder was down; if ids are left out, fills are missing
there. How far to look for that fill is the reader's choice; `Lake` looks two days ahead.

Nor does it know of fills that come later still, after they were told as missing: an event of a later hour takes the gap
back (`trade_late`), and here the row of the hour that told of it follows.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa

from recorder.quality.effects import EFFECTS
from recorder.quality.gaps import GAP, LATE
from recorder.quality.intervals import Spans, difference, intersection, joined, layered, union
from recorder.quality.proof import IDS, STATES, UNDECODABLE, UNNUMBERED
from recorder.records import HOUR_NS, SECOND_NS

TRADES = "trades"
"""The channel that is judged."""
LOOK_AROUND_NS = 48 * HOUR_NS
"""How far before and after an hour fills are looked for."""
FAR = 10_000
"""Ids so far apart are not of one count: the counter began anew."""

_LATE = frozenset(kind for kind, effect in EFFECTS.items() if effect == "late")
_SECONDS = [f"{state}_s" for state in STATES]
_CHANGED = [*_SECONDS, "longest_hole_s", "fills_missing", "span_start", "span_state", "span_why", "evidence"]
_READ = ["start", "symbol", "market_type", "first_fill_id", "last_fill_id", "proven_until", *_CHANGED]
_STAY = _LATE | {GAP, UNNUMBERED, UNDECODABLE}
"""Reasons that an id of a later hour does not do away with."""
GAPS = sorted({GAP, LATE, *_LATE})
"""Kinds that tell what becomes of gaps."""

Row = dict[str, Any]
_Part = tuple[int, int, tuple[str, str]]
"""Start, end (ns), and (state, why)."""


def with_later_proof(coverage: pl.DataFrame, gaps: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """
    Rows of coverage, those of trades as far as the other rows prove them. Same rows, same order, same columns.

    Args:
        coverage: rows, also of the hours around those that are asked for.
        gaps: gives the parts of events (rows of `quality`) whose kind is one of `GAPS`, of the same hours; not asked
            unless a gap is told of.
    """
    of_trades = coverage["channel"] == TRADES
    if not of_trades.all():
        numbered = coverage.with_row_index("_row")
        judged = with_later_proof(numbered.filter(of_trades), gaps)
        return pl.concat([judged, numbered.filter(~of_trades)]).sort("_row").drop("_row")
    # In integers: a datetime of Python has no nanoseconds.
    rows = (
        coverage.select(_READ)
        .with_columns(pl.col("start", "proven_until").to_physical(), pl.col("span_start").cast(pl.List(pl.Int64)))
        .rows(named=True)
    )
    by_stream: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["span_start"] is not None:  # older files have no spans
            by_stream.setdefault((row["market_type"], row["symbol"]), []).append(row)
    changed = False
    for of_stream in by_stream.values():
        changed = _prove(sorted(of_stream, key=lambda row: row["start"])) or changed
    if any(GAP in row["span_why"] or row["fills_missing"] for of_stream in by_stream.values() for row in of_stream):
        changed = _take_back(by_stream, gaps()) or changed
    if not changed:
        return coverage
    columns = (_column(name, [row[name] for row in rows], coverage.schema[name]) for name in _CHANGED)
    return coverage.with_columns(columns)


def _column(name: str, values: list[Any], kind: pl.DataType) -> pl.Series:
    if not isinstance(kind, pl.List):
        return pl.Series(name, values, kind)
    # By way of Arrow: polars makes a series of each list.
    inner = pa.string() if kind.inner == pl.String() else pa.int64()
    return pl.Series(name, pa.array(values, pa.large_list(inner))).cast(kind)


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
    parts: list[_Part] = []
    for start, end, (state, why) in _parts(row):
        # Ids prove that everything came, not that it came when we say.
        stays = start < since or state == "complete" or why in _STAY
        parts.append((start, end, (state, why) if stays else new))
    _put(row, parts)
    follows = "ids are left out before" if left_out else "then follows"
    at = datetime.fromtimestamp(hour // SECOND_NS, UTC)
    row["evidence"] = f"{row['evidence']}; {follows} id {first_id}, in the hour of {at:%Y-%m-%d %H:%M}"


def _parts(row: Row) -> list[_Part]:
    """
    The stretches of a row.
    """
    ends = [*row["span_start"][1:], row["start"] + round(sum(row[name] for name in _SECONDS) * SECOND_NS)]
    labels = zip(row["span_state"], row["span_why"], strict=True)
    return list(zip(row["span_start"], ends, labels, strict=True))


def _put(row: Row, parts: list[_Part]) -> None:
    """
    Give a row other stretches.
    """
    spans = joined(parts)
    for state, name in zip(STATES, _SECONDS, strict=True):
        row[name] = sum(end - start for start, end, label in spans if label[0] == state) / SECOND_NS
    missing = union((start, end) for start, end, label in spans if label[0] == "missing")
    row["longest_hole_s"] = max((end - start for start, end in missing), default=0) / SECOND_NS
    row["span_start"] = [start for start, _, _ in spans]
    row["span_state"] = [state for _, _, (state, _) in spans]
    row["span_why"] = [why for _, _, (_, why) in spans]


def _take_back(by_stream: dict[tuple[str, str], list[Row]], parts: pl.DataFrame) -> bool:
    """
    Change the rows whose gaps fills have closed since; True if any was.
    """
    in_ns = parts.with_columns(pl.col("start", "end", "true_start").to_physical()).rows(named=True)
    late: dict[str, int] = {}
    for part in in_ns:
        if part["kind"] == LATE:
            late[part["event_id"]] = late.get(part["event_id"], 0) - (part["missing"] or 0)
    if not any(late.values()):
        return False
    untrue: dict[str, Spans] = {kind: union(_bounds(in_ns, kind)) for kind in _LATE}
    changed = False
    for (_, symbol), rows in by_stream.items():
        told = [part for part in in_ns if part["kind"] == GAP and part["symbol"] == symbol]
        left: dict[str, int] = {}
        for part in told:
            left[part["event_id"]] = left.get(part["event_id"], -late.get(part["event_id"], 0)) + (part["missing"] or 0)
        closed = union((p["true_start"], p["end"]) for p in told if p["event_id"] in late and left[p["event_id"]] <= 0)
        still = union((p["true_start"], p["end"]) for p in told if left[p["event_id"]] > 0 or p["event_id"] not in late)
        healed = difference(closed, still)
        for row in rows:
            whole = [(row["start"], row["start"] + HOUR_NS)]
            came = sum(
                min(late.get(p["event_id"], 0), p["missing"])
                for p in told
                if p["missing"] and row["start"] < p["end"] <= row["start"] + HOUR_NS
            )
            if not came and not intersection(healed, whole):
                continue
            row["fills_missing"] = max((row["fills_missing"] or 0) - came, 0)
            _put(row, [new for part in _parts(row) for new in _healed(part, healed, untrue)])
            row["evidence"] += (
                f"; of what was missing, {came:,} came later" if came else "; what was missing came later"
            )
            changed = True
    return changed


def _bounds(parts: list[Row], kind: str) -> Spans:
    return [(part["start"], part["end"]) for part in parts if part["kind"] == kind]


def _healed(part: _Part, healed: Spans, untrue: dict[str, Spans]) -> list[_Part]:
    """
    A stretch, where it was missing for a gap that is none any more: complete, as far as receive times are true.
    """
    start, end, (_, why) = part
    if why != GAP:
        return [part]
    again = intersection([(start, end)], healed)
    layers: list[tuple[Spans, tuple[str, str]]] = [
        (difference([(start, end)], again), part[2]),
        *((spans, ("suspect", kind)) for kind, spans in sorted(untrue.items())),
        (again, ("complete", IDS)),
    ]
    return layered(layers, start, end)
