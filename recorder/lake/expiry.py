"""
Removes data of hours that are old enough from the lake, if that is asked for: never what is unsealed or damaged.

Of an hour its rows go: books, trades, fees, and what could not be decoded. What says how good they were stays: quality,
coverage, connections, telemetry, and the manifest, in which the files that went are listed as expired. So an hour that
was removed by rule is told from one that was never recorded, and nothing makes it again.

The manifest is replaced first, then the files go; killed in between, the next run removes what is left of them.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from recorder import durable
from recorder.lake import manifest as manifests
from recorder.lake.age import old_before
from recorder.lake.layout import LAKE, hour_label
from recorder.lake.manifest import LakeFile, Manifest
from recorder.lake.removal import Removal
from recorder.lake.retention import file_problem
from recorder.lake.root import seal_lock
from recorder.records import HOUR_NS

STAYING = frozenset({"quality", "coverage", "connections", "telemetry"})
"""Tables that tell of the others."""


def expirable_hours(made: dict[int, Manifest], *, now: int, keep_days: float, by_hand: bool = False) -> list[int]:
    """
    The hours whose rows may go, oldest first. Pure.

    Args:
        made: manifests by hour.
        now: ns.
        keep_days: days an hour stays after its end, by the clock and by what was recorded since (see `old_before`); 0:
            for ever.
        by_hand: the clock decides alone what is old.
    """
    if not keep_days:
        return []
    # An hour in which no recorder ran is sealed as well, and has no frame.
    recorded = [hour for hour, manifest in made.items() if manifest.frames]
    limit = old_before(recorded, now=now, keep_days=keep_days, by_hand=by_hand)
    return [
        hour
        for hour, manifest in sorted(made.items())
        if hour + HOUR_NS <= limit and manifest.complete and not manifest.problems and going(manifest)
    ]


def going(manifest: Manifest) -> list[LakeFile]:
    """
    The files of an hour that go with its rows.
    """
    return [file for file in manifest.files if file.table not in STAYING]


def expire_lake(
    root: Path,
    *,
    now: int,
    keep_days: float,
    by_hand: bool = False,
    dry_run: bool = False,
    on_note: Callable[[str], None] | None = None,
) -> Removal | None:
    """
    Remove the rows of hours that are old enough. Returns what went; None if nothing did.

    Args:
        root: of the data.
        now: ns.
        keep_days: as for `expirable_hours`.
        by_hand: as for `expirable_hours`.
        dry_run: only tell.
        on_note: told, in words, why an hour that is old enough stays.

    Raises:
        RootBusy: a seal or verify is at work.
        DamagedFile: a manifest is not what was written; nothing was removed.
        ForeignFile: a manifest is of a later version; nothing was removed.
    """
    lock = seal_lock(root)
    try:
        made = {hour: found for hour in manifests.hours(root) if (found := manifests.read(root, hour)) is not None}
        if not dry_run:
            for manifest in made.values():
                _remove(root, manifest.expired)
        gone: list[LakeFile] = []
        hours = []
        for hour in expirable_hours(made, now=now, keep_days=keep_days, by_hand=by_hand):
            manifest = made[hour]
            files = going(manifest)
            problem = next((p for file in files if (p := file_problem(root, file)) is not None), None)
            if problem is not None:
                # Damaged: somebody must look at it first, and the journal may still have it.
                if on_note is not None:
                    on_note(f"{problem}; {hour_label(hour)} stays: run `drift-recorder verify` on the root")
                continue
            if not dry_run:
                stays = [file for file in manifest.files if file.table in STAYING]
                fresh = msgspec.structs.replace(manifest, files=stays, expired=[*manifest.expired, *files])
                manifests.publish(root, hour, fresh)
                _remove(root, files)
            gone += files
            hours.append(hour)
        if not hours:
            return None
        return Removal("lake", hours[0], hours[-1], len(gone), sum(file.bytes for file in gone))
    finally:
        lock.release()


def _remove(root: Path, files: list[LakeFile]) -> None:
    for file in files:
        path = root / file.path
        if path.exists():
            durable.remove(path)
        folder = path.parent
        # Partitions that are empty go, up to the table's.
        while folder.parent != root / LAKE and folder != root / LAKE and folder.is_dir() and not any(folder.iterdir()):
            durable.remove_folder(folder)
            folder = folder.parent
