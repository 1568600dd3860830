"""
Names of runs and segments. Both sort by time; a listing of the journal is its index.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache

from recorder.records import SECOND_NS

RUN_LOCK = "lock"
"""In a run's folder: held (`flock`) as long as the run lives."""
START_LOCK = "start.lock"
"""Beside the run folders: held while a recorder makes sure that it may start."""
SEGMENT_SUFFIX = ".zst"
OPEN_SUFFIX = ".zst.open"

# ASCII, and no leading zeros: each instant has one spelling.
_RUN = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{6}", re.ASCII)
_SEGMENT = re.compile(
    r"(\d{8})T([01]\d|2[0-3])([0-5]\d)([0-5]\d)\.(\d{9})Z(?:-([1-9]\d{0,8}))?\.zst(?:\.open)?", re.ASCII
)


def run_name(started: int, nonce: str) -> str:
    """
    Name of a run: sortable by its start (ns), unique by six hex digits of nonce.
    """
    moment = datetime.fromtimestamp(started // SECOND_NS, UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{started % SECOND_NS // 1000:06d}Z-{nonce}"


def run_started(name: str) -> int:
    """
    When a run began (ns, to the µs), by its name.
    """
    began = datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return int(began.timestamp()) * SECOND_NS + began.microsecond * 1000


def is_run_name(name: str) -> bool:
    """
    Whether a folder below `journal/` is a run's.
    """
    return _RUN.fullmatch(name) is not None


def segment_name(first_recv_ts: int, again: int = 0) -> str:
    """
    Name of a finished segment by its first entry; `again` counts rewrites that begin with the same entry.
    """
    moment = datetime.fromtimestamp(first_recv_ts // SECOND_NS, UTC)
    suffix = f"-{again}" if again else ""
    return f"{moment:%Y%m%dT%H%M%S}.{first_recv_ts % SECOND_NS:09d}Z{suffix}{SEGMENT_SUFFIX}"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """
    `recv_ts` of a segment's first entry (ns) and its count of rewrites; None if it is not a segment's name.
    """
    match = _SEGMENT.fullmatch(name)
    if match is None:
        return None
    date, hour, minute, second, fraction, again = match.groups()
    midnight = _midnight(date)
    if midnight is None:
        return None
    seconds = midnight + int(hour) * 3600 + int(minute) * 60 + int(second)
    return seconds * SECOND_NS + int(fraction), int(again or 0)


@lru_cache(maxsize=1024)
def _midnight(date: str) -> int | None:
    """
    Seconds since 1970 at which a day begins; None if there is no such day. Kept: a week of journal is ten thousand
    names of eight days, read again and again.
    """
    try:
        return int(datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
