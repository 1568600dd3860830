"""
Removes journal that is old enough and no longer needed: never what is unsealed.

A segment may go when every hour that reads it is sealed complete and lists it, when the files of those hours are in
the lake now, with the digests of their manifests, and when the segments that stay still reach back to the first hour
that is not sealed: hours in which no recorder ran have no segments of their own, and are sealed all the same. What is
in the lake is never touched.
"""

from collections.abc import Callable
from hashlib import file_digest
from pathlib import Path
from shlex import quote
from shutil import disk_usage

from recorder import durable
from recorder.journal.names import RUN_LOCK
from recorder.journal.reader import SegmentFile, segments
from recorder.lake import manifest as manifests
from recorder.lake.age import old_before
from recorder.lake.layout import JOURNAL, hour_label, hour_of
from recorder.lake.manifest import LakeFile, Manifest
from recorder.lake.plan import Windows
from recorder.lake.removal import Removal
from recorder.lake.root import seal_lock
from recorder.records import HOUR_NS


def expirable(
    found: list[SegmentFile],
    sizes: dict[Path, int],
    sealed: dict[int, Manifest],
    *,
    now: int,
    keep_days: float,
    keep_bytes: int,
    want_bytes: int = 0,
    by_hand: bool = False,
) -> list[SegmentFile]:
    """
    The segments that may go, oldest first. Pure.

    Args:
        found: all segments.
        sizes: bytes of each.
        sealed: manifests of the hours that are complete.
        now: ns.
        keep_days: a segment stays at least this long, by the clock and by what was recorded since (see `old_before`),
            unless `keep_bytes` is exceeded.
        keep_bytes: sealed segments beyond this total go earlier; 0: no limit.
        want_bytes: at least so much goes, if it may, however young it is.
        by_hand: the clock decides alone what is old.
    """
    if not found:
        return []
    present = {_name(segment) for segment in found}
    windows = Windows(found)
    listed: dict[int, set[tuple[str, str]]] = {}
    for hour, manifest in sealed.items():
        inputs = {(i.run, i.name) for i in manifest.inputs}
        # Another run that turned up makes an hour unsealed: it needs all it was made from. Unless some of that has
        # expired already; then it is never made again, and only what it has not read must stay.
        if not inputs <= present or {_name(segment) for segment in windows(hour)} <= inputs:
            listed[hour] = inputs
    begun = {hour_of(segment.start) for segment in found}
    unsealed = min(begun)
    while unsealed in listed:
        unsealed += HOUR_NS
    anchor = max(hour for hour in begun if hour <= unsealed)
    reads: dict[int, set[Path]] = {}

    def needed(segment: SegmentFile, hour: int) -> bool:
        if hour not in reads:
            reads[hour] = {read.path for read in windows(hour)}
        return segment.path in reads[hour] and _name(segment) not in listed.get(hour, ())

    free = []
    for segment in found:
        own = hour_of(segment.start)
        # The next hour looks back two minutes, the one before looks ahead one, if a recorder ran in it.
        if own >= anchor or needed(segment, own) or needed(segment, own + HOUR_NS):
            continue
        if own - HOUR_NS not in begun or not needed(segment, own - HOUR_NS):
            free.append(segment)
    oldest_first = sorted(free, key=lambda segment: segment.start)
    limit = old_before(begun, now=now, keep_days=keep_days, by_hand=by_hand)
    excess = max(sum(sizes.values()) - keep_bytes if keep_bytes else 0, want_bytes)
    gone: list[SegmentFile] = []
    for segment in oldest_first:
        if segment.start < limit or excess > 0:
            gone.append(segment)
            excess -= sizes.get(segment.path, 0)
    return gone


def _name(segment: SegmentFile) -> tuple[str, str]:
    return segment.run, segment.name.removesuffix(".open")


def expire(
    root: Path,
    *,
    now: int,
    keep_days: float,
    keep_bytes: int,
    want_free: int = 0,
    by_hand: bool = False,
    dry_run: bool = False,
    on_note: Callable[[str], None] | None = None,
    on_removed: Callable[[Removal], None] | None = None,
) -> list[SegmentFile]:
    """
    Remove what may go. Returns it.

    Args:
        root: of the data.
        now: ns.
        keep_days: as for `expirable`.
        keep_bytes: as for `expirable`.
        want_free: bytes that should be free on the disk; what may go goes earlier for that.
        by_hand: as for `expirable`.
        dry_run: only tell.
        on_note: told, in words, why journal that is old enough stays.
        on_removed: told of what was removed, or would be, all together.

    Raises:
        RootBusy: a seal or verify is at work.
        DamagedFile: a manifest is not what was written; nothing was removed.
        ForeignFile: a manifest is of a later version; nothing was removed.
    """
    lock = seal_lock(root)
    try:
        found = segments(root / JOURNAL)
        # A lake of years has very many. No hour but those there is journal of was made from it, and the one before.
        first = min((hour_of(segment.start) for segment in found), default=0) - HOUR_NS
        sealed = {
            hour: manifest
            for hour in manifests.hours(root)
            if hour >= first and (manifest := manifests.read(root, hour)) is not None and manifest.complete
        }
        sizes = {segment.path: _size(segment.path) for segment in found}
        want_bytes = max(want_free - disk_usage(root).free, 0) if want_free else 0
        free = expirable(
            found,
            sizes,
            sealed,
            now=now,
            keep_days=keep_days,
            keep_bytes=keep_bytes,
            want_bytes=want_bytes,
            by_hand=by_hand,
        )
        # Asked at the last moment, of what is there: until now the journal could have made these files again.
        broken = _broken_hours(root, sealed, {_name(segment) for segment in free})
        kept = {(i.run, i.name) for hour in broken for i in sealed[hour].inputs}
        gone = [segment for segment in free if _name(segment) not in kept]
        if on_note is not None:
            for hour, problem in broken.items():
                on_note(
                    f"{problem}; the journal of {hour_label(hour)} is kept for it: "
                    f"run `drift-recorder seal {quote(str(root))} --hour {hour_label(hour)}`"
                )
        if gone and on_removed is not None:
            starts = [segment.start for segment in gone]
            size = sum(sizes.get(segment.path, 0) for segment in gone)
            on_removed(Removal("journal", min(starts), max(starts), len(gone), size))
        if dry_run:
            return gone
        for segment in gone:
            durable.remove(segment.path)
        for folder in {segment.path.parent for segment in gone}:
            _remove_if_empty(folder)
        return gone
    finally:
        lock.release()


def _broken_hours(root: Path, sealed: dict[int, Manifest], wanted: set[tuple[str, str]]) -> dict[int, str]:
    """
    Of the hours made from some segments those whose files are not all there, and the first that is not.
    """
    broken: dict[int, str] = {}
    for hour, manifest in sorted(sealed.items()):
        if any((i.run, i.name) in wanted for i in manifest.inputs):
            problem = next((p for file in manifest.files if (p := file_problem(root, file)) is not None), None)
            if problem is not None:
                broken[hour] = problem
    return broken


def file_problem(root: Path, file: LakeFile) -> str | None:
    """
    Why a published file is not what its manifest says, in words; None if it is.
    """
    try:
        with durable.open_to_read(root / file.path) as stream:
            digest = file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{file.path} is missing"
    except OSError as error:
        return f"{file.path} cannot be read ({error.strerror})"
    return None if digest == file.sha256 else f"{file.path} is not what its manifest says"


def _size(path: Path) -> int:
    """
    0 for a segment that was finished (renamed) since the listing: it is of now, and stays.
    """
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove_if_empty(folder: Path) -> None:
    """
    A run's folder goes with its last segment, if the run is over.
    """
    if any(path.name != RUN_LOCK for path in folder.iterdir()) or durable.is_locked(folder / RUN_LOCK):
        return
    durable.remove(folder / RUN_LOCK)
    durable.remove_folder(folder)
