"""
Where everything lies below a root; pure. Names inside `journal/` are in `journal/names.py`.

    root.json                                                      binds the root to a venue and network
    journal/<run>/<first recv_ts>.zst[.open]                       raw entries; `lock` beside them while the run lives
    lake/<table>[/market=<symbol>]/date=<d>/hour=<h>/<table>.parquet
    manifest/<d>T<h>.json                                          what an hour consists of
    quarantine/                                                    what was damaged or left over; never deleted here
"""

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path

from recorder.records import HOUR_NS, SECOND_NS
from recorder.venue.protocol import ChannelName

ROOT_FILE = "root.json"
JOURNAL = "journal"
LAKE = "lake"
MANIFEST = "manifest"
QUARANTINE = "quarantine"
SEAL_LOCK = "seal.lock"
GONE = "gone.json"
"""In the journal: see `gone.py`."""

_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
MAX_NAME = 120
"""Bytes a market's encoded name may have in a path; a longer one is cut and ends in a digest."""


def hour_of(recv_ts: int) -> int:
    """
    The hour an instant lies in, as the ns at which it begins.
    """
    return recv_ts - recv_ts % HOUR_NS


def hour_label(hour: int) -> str:
    """
    `2026-11-22T16` for the hour that begins at `hour` ns.
    """
    return datetime.fromtimestamp(hour // SECOND_NS, UTC).strftime("%Y-%m-%dT%H")


def parse_hour(label: str) -> int:
    """
    Inverse of `hour_label`.

    Raises:
        ValueError: not of the form 2026-11-22T16.
    """
    wrong = f"{label!r} is not an hour; write it as 2026-11-22T16 (UTC)"
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}T\d{2}", label, re.ASCII):
        raise ValueError(wrong)
    try:
        moment = datetime.strptime(label, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(wrong) from None
    return int(moment.timestamp()) * SECOND_NS


def encode_name(name: str) -> str:
    """
    A market's name as a folder: outside `[A-Za-z0-9_-]` percent-encoded, so that no name leaves its folder.
    """
    encoded = "".join(
        chr(byte) if chr(byte) in _SAFE else f"%{byte:02X}" for byte in name.encode("utf-8", "surrogatepass")
    )
    if len(encoded) <= MAX_NAME:
        return encoded or "%"
    return f"{encoded[:MAX_NAME]}%~{hashlib.sha256(encoded.encode()).hexdigest()[:16]}"


def book_table(*, grouping: int | None, indicative: bool) -> str:
    """
    The table of a book channel: only the firm book at grouping 1 is `books`, so that a glob never mixes books.
    """
    grouped = "_ungrouped" if grouping is None else "" if grouping == 1 else f"_grouped_{grouping}"
    return f"books{grouped}{'_indicative' if indicative else ''}"


def table_of(channel: ChannelName) -> str:
    """
    The table a data frame's channel goes to.
    """
    if channel.family == "trades":
        return "trades"
    if channel.family == "priorityFees":
        return "priority_fees"
    return book_table(grouping=channel.grouping, indicative=channel.indicative)


def partition(table: str, hour: int, symbol: str | None = None) -> Path:
    """
    The Parquet file of a table, hour and market, relative to the root.
    """
    date, _, clock = hour_label(hour).partition("T")
    market = Path(f"market={encode_name(symbol)}") if symbol is not None else Path()
    return Path(LAKE) / table / market / f"date={date}" / f"hour={clock}" / f"{table}.parquet"


def manifest_path(hour: int) -> Path:
    """
    The manifest of an hour, relative to the root.
    """
    return Path(MANIFEST) / f"{hour_label(hour)}.json"
