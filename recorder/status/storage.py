"""
What a root's disk tells: how large the journal is, how much is free, how far sealing has come.

Reads names, sizes and manifests, never data; a manifest that has not changed is not read again. It may take a while on
a root of many days, so a recorder asks on a thread.
"""

import os
from pathlib import Path

import msgspec

from recorder.journal.reader import SegmentFile, segments
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL, hour_label, hour_of, manifest_path
from recorder.lake.plan import LOOK_AHEAD_NS
from recorder.records import HOUR_NS
from recorder.status.report import DiskStatus, SealStatus

DAY_NS = 24 * HOUR_NS
SEALING_TAKES_NS = HOUR_NS // 6
"""An hour that was over this long ago, and the look ahead, should be sealed."""


class _File(msgspec.Struct):
    rows: int
    bytes: int
    symbol: str | None = None


class _Manifest(msgspec.Struct):
    """
    What is wanted of one; its carry is most of it, and is passed over.
    """

    complete: bool
    files: list[_File]
    expired: list[msgspec.Raw] = []


class _Sealed(msgspec.Struct, frozen=True):
    """
    What is kept of it: of years there are many, and each has hundreds of files.
    """

    complete: bool
    rows: int
    """Of books, trades and fees."""
    bytes: int
    emptied: bool
    """Its rows were removed by rule."""


class Stored(msgspec.Struct, frozen=True):
    """
    One look.
    """

    journal_bytes: int
    segments: int
    disk: DiskStatus | None
    last_hour: int | None
    oldest_unsealed: int | None
    unsealed: int
    rows: int | None
    """Of books, trades and fees in the newest sealed hour."""
    bytes: int | None
    sealed_hours: int
    sealed_rows: int
    """Of all hours that are sealed."""
    sealed_bytes: int

    def seal_status(
        self, now: int, *, last_s: float | None = None, running: bool | None = None, failed: str = ""
    ) -> SealStatus:
        """
        How far sealing has come, at `now` ns.
        """
        behind = max(now - self.oldest_unsealed - HOUR_NS, 0) if self.oldest_unsealed is not None else 0
        return SealStatus(
            last_hour=hour_label(self.last_hour) if self.last_hour is not None else None,
            oldest_unsealed=hour_label(self.oldest_unsealed) if self.oldest_unsealed is not None else None,
            unsealed_hours=self.unsealed,
            lag_h=round(behind / HOUR_NS, 3),
            rows=self.rows,
            bytes=self.bytes,
            last_s=last_s,
            running=running,
            failed=failed,
        )


class Storage:
    """
    Looks at one root again and again.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._decoder = msgspec.json.Decoder(_Manifest)
        self._known: dict[int, tuple[int, _Sealed | None]] = {}
        """By hour: mtime of its manifest, and what it says."""

    def look(self, now: int, *, alive: bool) -> Stored:
        """
        See how things stand.

        Args:
            now: ns.
            alive: somebody records, so that an hour without journal is sealed as well once it is over, and the disk
                will be full one day.

        Raises:
            OSError: the disk.
        """
        found = segments(self._root / JOURNAL)
        sizes = [(segment, _size(segment.path)) for segment in found]
        sealed = self._sealed()
        complete = {hour for hour, made in sealed.items() if made.complete}
        unsealed = _unsealed(found, complete, now, alive=alive)
        newest = max(complete, default=None)
        last = sealed[newest] if newest is not None else None
        return Stored(
            journal_bytes=sum(size for _, size in sizes),
            segments=len(found),
            disk=self._disk(sizes, sealed, now, alive=alive),
            last_hour=newest,
            oldest_unsealed=min(unsealed, default=None),
            unsealed=len(unsealed),
            rows=last.rows if last is not None else None,
            bytes=last.bytes if last is not None else None,
            sealed_hours=len(complete),
            sealed_rows=sum(sealed[hour].rows for hour in complete),
            sealed_bytes=sum(sealed[hour].bytes for hour in complete),
        )

    def _sealed(self) -> dict[int, _Sealed]:
        """
        The hours that have a manifest which can be read.
        """
        seen = {}
        for hour in manifests.hours(self._root):
            path = self._root / manifest_path(hour)
            try:
                changed = path.stat().st_mtime_ns
                known = self._known.get(hour)
                if known is None or known[0] != changed:
                    known = (changed, _summed(self._decoder.decode(path.read_bytes())))
            except FileNotFoundError:
                continue
            except (msgspec.DecodeError, UnicodeDecodeError):
                # Damaged: it counts as not there, and the seal makes the hour again.
                known = (changed, None)
            seen[hour] = known
        self._known = seen
        return {hour: made for hour, (_, made) in seen.items() if made is not None}

    def _disk(
        self, sizes: list[tuple[SegmentFile, int]], sealed: dict[int, _Sealed], now: int, *, alive: bool
    ) -> DiskStatus | None:
        try:
            found = os.statvfs(self._root)
        except OSError:
            return None
        free = found.f_bavail * found.f_frsize
        a_day = _growth(sizes, sealed, now) if alive else None
        return DiskStatus(
            free_bytes=free,
            total_bytes=found.f_blocks * found.f_frsize,
            bytes_a_day=a_day,
            days_left=round(free / a_day, 2) if a_day else None,
            free_inodes=found.f_favail if found.f_files else None,
        )


def _unsealed(found: list[SegmentFile], complete: set[int], now: int, *, alive: bool) -> list[int]:
    """
    Hours that have been over for a while, and are not sealed.
    """
    if not found:
        return []
    first = min(segment.start for segment in found)
    last = now if alive else min(max(segment.start for segment in found), now)
    over = now - HOUR_NS - LOOK_AHEAD_NS - SEALING_TAKES_NS
    return [hour for hour in range(hour_of(first), hour_of(last) + 1, HOUR_NS) if hour <= over and hour not in complete]


def _summed(of: _Manifest) -> _Sealed:
    return _Sealed(
        complete=of.complete,
        rows=sum(file.rows for file in of.files if file.symbol is not None),
        bytes=sum(file.bytes for file in of.files),
        emptied=bool(of.expired),
    )


def _growth(sizes: list[tuple[SegmentFile, int]], sealed: dict[int, _Sealed], now: int) -> float | None:
    """
    By how many bytes journal and lake grow in a day, by the last day; None until some minutes of it are there.

    Once retention removes what is old, as much goes each day as the oldest day takes: a journal that is kept for a week
    grows for a week. That it is at work shows where the hour before the oldest journal, or the oldest rows, is sealed
    and has none any more; older hours may be of a recording that had ended long before.
    """
    day = [(segment.start, size) for segment, size in sizes if now - DAY_NS <= segment.start <= now]
    if not day:
        return None
    lasted = now - min(start for start, _ in day)
    if lasted < LOOK_AHEAD_NS * 5:
        return None
    complete = {hour: made for hour, made in sealed.items() if made.complete}
    journal = sum(size for _, size in day) * DAY_NS / lasted
    oldest = min(segment.start for segment, _ in sizes)
    if hour_of(oldest) - HOUR_NS in complete:
        until = min(oldest + DAY_NS, now)
        goes = sum(size for segment, size in sizes if segment.start < until)
        journal = max(journal - goes * DAY_NS / (until - oldest), 0.0)
    lake = _an_hour([made for hour, made in complete.items() if now - DAY_NS <= hour <= now])
    full = sorted(hour for hour, made in complete.items() if not made.emptied)
    before = complete.get(full[0] - HOUR_NS) if full else None
    if before is not None and before.emptied:
        lake = max(lake - _an_hour([complete[hour] for hour in full[:24]]), 0.0)
    return round(journal + lake * 24, 0)


def _an_hour(of: list[_Sealed]) -> float:
    return sum(made.bytes for made in of) / len(of) if of else 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
