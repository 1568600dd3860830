"""
A sealed root as values.
"""

from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from terms import Lake, Mark


def read_lake(root: Path) -> Lake:
    """
    The rows, what is kept raw, and the events, those of several hours put together.
    """
    rows: set[tuple[str, int]] = set()
    raw: set[tuple[str, int]] = set()
    nameless: set[tuple[str, int]] = set()
    parts: dict[str, Mark] = {}
    for path in sorted((root / "lake").rglob("*.parquet")):
        table = path.stem
        if table == "quality":
            events = pl.read_parquet(path, hive_partitioning=False).with_columns(pl.col("start", "end").cast(pl.Int64))
            for row in events.iter_rows(named=True):
                _add(parts, row)
        elif table == "undecodable" or any(part.startswith("market=") for part in path.parts):
            frame = pl.read_parquet(path, columns=["run", "seq"], hive_partitioning=False)
            (raw if table == "undecodable" else rows).update(frame.iter_rows())
        if table == "trades":
            trades = pl.read_parquet(path, columns=["run", "seq", "fill_record_id"], hive_partitioning=False)
            nameless.update(trades.filter(pl.col("fill_record_id").is_null()).select("run", "seq").iter_rows())
    return Lake(frozenset(rows), frozenset(raw), frozenset(nameless), list(parts.values()))


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
