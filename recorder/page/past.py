"""
What the page shows of lake and disk: the last days hour by hour, what is sealed, how much room is left.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from recorder.analysis import Lake
from recorder.analysis.holes import since
from recorder.errors import RecorderError
from recorder.journal.reader import segments
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL, hour_of
from recorder.records import HOUR_NS, SECOND_NS

DAYS = 7
DAY_NS = 24 * HOUR_NS
WRITTEN_NS = 120 * SECOND_NS
"""A recorder begins a segment each minute."""
STATES = ("complete", "suspect", "missing", "unverifiable")


def calendar(root: Path, *, now: int) -> dict[str, Any]:
    """
    Of the last days each hour's seconds in each state: of all markets together, and of each.

    Returns:
        `start`, ms of the first hour; `days`; `hours`, by market ("" for all together), a list with an item for each
        hour: None where nothing is sealed, else the shares of complete, suspect, missing and unverifiable seconds,
        whether the hour is over, and whether its rows were removed by rule; `sealed`, ms at which the last sealed hour
        ends; `begun`, ms of the first run, or of the first hour on record where that is not sealed: what is before is
        in no share; `problem`, why there is nothing.
    """
    first = now // DAY_NS * DAY_NS - (DAYS - 1) * DAY_NS
    result: dict[str, Any] = {"start": first // 1_000_000, "days": DAYS, "hours": {}, "sealed": None, "problem": ""}
    begins = [*manifests.hours(root)[:1], *(hour_of(segment.start) for segment in segments(root / JOURNAL))]
    result["begun"] = min(begins, default=now) // 1_000_000
    try:
        lake = Lake(root)
        published = lake.hours(first, now + HOUR_NS).collect()
        begun = lake.begun(first)
        rows = since(lake.coverage(None, first, now + HOUR_NS).collect(), begun)
        rows = rows.select("symbol", "start", *(f"{state}_s" for state in STATES))
    except (RecorderError, OSError, pl.exceptions.PolarsError) as error:
        result["problem"] = str(error)
        return result
    if hour_of(begun) // 1_000_000 == result["begun"]:
        result["begun"] = begun // 1_000_000
    complete = dict(published.select(pl.col("hour").dt.epoch("ns"), "complete").iter_rows())
    expired = set(published.filter("expired").get_column("hour").dt.epoch("ns"))
    over = [hour for hour, whole in complete.items() if whole]
    result["sealed"] = (max(over) + HOUR_NS) // 1_000_000 if over else None
    sums = [pl.col(f"{state}_s").sum() for state in STATES]
    by_hour = pl.col("start").dt.truncate("1h").dt.epoch("ns").alias("hour")
    each = rows.group_by("symbol", by_hour).agg(sums)
    together = rows.group_by(by_hour).agg(sums).select(pl.lit("").alias("symbol"), "hour", pl.exclude("symbol", "hour"))
    for symbol, hour, *seconds in pl.concat([each, together.select(each.columns)]).iter_rows():
        hours = result["hours"].setdefault(symbol, [None] * (DAYS * 24))
        place, total = (hour - first) // HOUR_NS, sum(seconds)
        if 0 <= place < len(hours) and total > 0:
            hours[place] = [*(round(s / total, 5) for s in seconds), complete.get(hour, False), hour in expired]
    return result


def disk(root: Path, *, now: int) -> dict[str, Any]:
    """
    Room on the disk, and what the journal takes of it.

    Returns:
        Bytes `free` and `total`; of the journal `bytes`, `segments`, `oldest` (ms), bytes written a day as of the last
        hour (`daily`), and the `days` that are left at that rate; None for what cannot be told, or nobody writes.
    """
    usage = shutil.disk_usage(root)
    found = segments(root / JOURNAL)
    sizes = []
    for segment in found:
        with suppress(OSError):  # removed, or finished, since the listing
            sizes.append((segment.start, segment.path.stat().st_size))
    lately = [(start, size) for start, size in sizes if now - start < HOUR_NS]
    daily = None
    if lately and now - max(start for start, _ in lately) < WRITTEN_NS:
        span = now - min(start for start, _ in lately)
        if span > 30 * SECOND_NS:
            daily = sum(size for _, size in lately) * DAY_NS // span
    return {
        "free": usage.free,
        "total": usage.total,
        "bytes": sum(size for _, size in sizes),
        "segments": len(found),
        "oldest": min((segment.start for segment in found), default=0) // 1_000_000 or None,
        "daily": daily,
        "days": round(usage.free / daily, 1) if daily else None,
    }
