"""
A sealed root as values.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from terms import Lake, Mark

from recorder.records import HOUR_NS


def read_lake(root: Path) -> Lake:
    """
    The rows, what is kept raw, and the events, those of several hours put together.
    """
    rows: set[tuple[str, int]] = set()
    raw: set[tuple[str, int]] = set()
    nameless: set[tuple[str, int]] = set()
    parts: dict[str, Mark] = {}
    doubts: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for path in sorted((root / "lake").rglob("*.parquet")):
        table = path.stem
        if table == "quality":
            events = pl.read_parquet(path, hive_partitioning=False).with_columns(pl.col("start", "end").cast(pl.Int64))
            for row in events.iter_rows(named=True):
                _add(parts, row)
        elif table == "coverage":
            for row in pl.read_parquet(path, hive_partitioning=False).iter_rows(named=True):
                doubts.setdefault((row["symbol"], row["channel"]), []).extend(_doubts(row))
        elif table == "undecodable" or any(part.startswith("market=") for part in path.parts):
            frame = pl.read_parquet(path, columns=["run", "seq"], hive_partitioning=False)
            (raw if table == "undecodable" else rows).update(frame.iter_rows())
        if table == "trades":
            trades = pl.read_parquet(path, columns=["run", "seq", "fill_record_id"], hive_partitioning=False)
            nameless.update(trades.filter(pl.col("fill_record_id").is_null()).select("run", "seq").iter_rows())
    return Lake(frozenset(rows), frozenset(raw), frozenset(nameless), list(parts.values()), doubts)


def _doubts(row: dict[str, Any]) -> list[tuple[int, int]]:
    starts = [_ns(at) for at in row["span_start"]]
    ends = [*starts[1:], _ns(row["start"]) + HOUR_NS]
    return [
        (start, end)
        for start, end, state in zip(starts, ends, row["span_state"], strict=True)
        if state in {"suspect", "missing"}
    ]


def _ns(at: datetime) -> int:
    """
    Of an instant that polars hands out in microseconds.
    """
    return round((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 1000


def _add(parts: dict[str, Mark], row: dict[str, Any]) -> None:
    names = ("kind", "cause", "scope", "connection", "symbol", "channel", "start", "end", "missing", "evidence")
    mark = Mark(**{name: row[name] for name in names})
    earlier = parts.get(row["event_id"])
    if earlier is not None:
        mark = msgspec.structs.replace(
            mark,
            start=min(mark.start, earlier.start),
            end=max(mark.end, earlier.end),
            missing=earlier.missing if mark.missing is None else mark.missing + (earlier.missing or 0),
        )
    parts[row["event_id"]] = mark
