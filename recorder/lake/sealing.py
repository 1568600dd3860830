"""
What `drift-recorder seal` does: find the hours that are due, and seal them, oldest first.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from recorder import durable
from recorder.clock import wall_ns
from recorder.errors import DamagedFile, SealFailed
from recorder.journal.names import RUN_LOCK
from recorder.journal.reader import SegmentFile, read_run, segments
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL, hour_label, hour_of, manifest_path
from recorder.lake.manifest import Manifest
from recorder.lake.plan import LOOK_AHEAD_NS, RunEnd, closed_until, due, hours_on_record, is_sealed, window
from recorder.lake.publishing import quarantine
from recorder.lake.root import read_binding, seal_lock
from recorder.lake.seal import seal_hour
from recorder.records import HOUR_NS

MAX_DOWN_HOURS = 24 * 31
"""A longer time without a recorder has rows for its first hours only; its event tells how long it was."""


class Sealed(msgspec.Struct, frozen=True):
    """
    One hour that was sealed.
    """

    hour: int
    manifest: Manifest


def seal(
    root: Path,
    *,
    hour: int | None = None,
    open_hour: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> list[Sealed]:
    """
    Seal what is due.

    Args:
        root: of the data.
        hour: only this hour (ns), made again if it is sealed already.
        open_hour: publish the hour that is not over as well, as far as it is committed.
        progress: told (hour, hours left, entries done).

    Returns:
        The hours sealed, oldest first.

    Raises:
        RootError: not a data root.
        RootBusy: another seal is at work.
        ForeignFile: a manifest or segment is of a later version.
        SealFailed: the hour asked for is not there, is not over, or could not be published.
    """
    binding = read_binding(root)
    lock = seal_lock(root)
    try:
        found = segments(root / JOURNAL)
        ends = run_ends(root, found)
        on_record = _without_long_gaps(hours_on_record(found, ends), found)
        until = closed_until(ends, wall=wall_ns())
        known = {h: m for h in [*on_record, *(h - HOUR_NS for h in on_record[:1])] if (m := _manifest(root, h))}
        todo = due(on_record, found, known, until=until)
        if hour is not None:
            todo = _only(hour, on_record, known, todo, found, until=until, open_hour=open_hour)
        sealed: list[Sealed] = []

        def make(at: int, left: int, *, closed: bool) -> None:
            before = known.get(_hour_before(at, on_record))
            result = seal_hour(
                root,
                binding,
                at,
                found,
                carry=before.carry if before is not None else None,
                closed=closed,
                until=at + HOUR_NS + LOOK_AHEAD_NS if closed else open_until(ends),
                progress=(lambda done: progress(at, left, done)) if progress is not None else None,
            )
            known[at] = result
            sealed.append(Sealed(at, result))

        for number, at in enumerate(todo):
            if hour is None and is_sealed(known.get(at), window(found, at), known.get(at - HOUR_NS)):
                continue  # it was due only because the hour before it was, and that one ended with the same carry
            make(at, len(todo) - number, closed=at + HOUR_NS + LOOK_AHEAD_NS <= until)
        if open_hour and hour is None:
            for at in on_record:
                manifest = known.get(at)
                if at + HOUR_NS + LOOK_AHEAD_NS > until and (manifest is None or not manifest.complete):
                    make(at, 1, closed=False)
        return sealed
    finally:
        lock.release()


def open_until(ends: list[RunEnd]) -> int:
    """
    No entry before this instant (ns) can still come, for an hour that is not over.

    Of several runs that go on, the one that is least far decides: what it commits while the hour is being read would
    stand between the entries of the others.
    """
    alive = [end.last_ts for end in ends if end.alive]
    return min(alive) if alive else max(end.last_ts for end in ends) + 1


def _without_long_gaps(hours: list[int], found: list[SegmentFile]) -> list[int]:
    """
    Hours on record, without those far from any entry: a run with a clock of 1970 must not make half a million hours.
    """
    begun = {hour_of(segment.start) for segment in found}
    kept: list[int] = []
    since = 0
    for hour in hours:
        since = 0 if hour in begun else since + 1
        if since <= MAX_DOWN_HOURS:
            kept.append(hour)
    return kept


def _hour_before(hour: int, on_record: list[int]) -> int:
    """
    The hour whose carry an hour begins with.
    """
    at = on_record.index(hour)
    return on_record[at - 1] if at else hour - HOUR_NS


def _only(
    hour: int,
    on_record: list[int],
    known: dict[int, Manifest],
    todo: list[int],
    found: list[SegmentFile],
    *,
    until: int,
    open_hour: bool,
) -> list[int]:
    label = hour_label(hour)
    if hour not in on_record:
        span = f"{hour_label(on_record[0])} to {hour_label(on_record[-1])}" if on_record else "nothing"
        raise SealFailed(f"the journal does not hold {label}; it holds {span}")
    if hour + HOUR_NS + LOOK_AHEAD_NS > until and not open_hour:
        raise SealFailed(f"{label} is not over yet; add --open to publish it so far, or wait a minute past its end")
    earlier = [h for h in todo if h < hour]
    if earlier:
        raise SealFailed(f"{hour_label(earlier[0])} has to be sealed before {label}; run `drift-recorder seal` first")
    manifest = known.get(hour)
    present = {(s.run, s.name.removesuffix(".open")) for s in found}
    if manifest is not None and manifest.complete and any((i.run, i.name) not in present for i in manifest.inputs):
        raise SealFailed(f"{label} is sealed, and part of its journal has expired: it cannot be made again")
    return [hour]


def _manifest(root: Path, hour: int) -> Manifest | None:
    """
    An hour's manifest; a damaged one is moved aside, and the hour is unsealed.
    """
    try:
        return manifests.read(root, hour)
    except DamagedFile:
        quarantine(root, root / manifest_path(hour))
        return None


def run_ends(root: Path, found: list[SegmentFile]) -> list[RunEnd]:
    """
    How far each run's journal reaches, read from its last segments.
    """
    by_run: dict[str, list[SegmentFile]] = {}
    for segment in found:
        by_run.setdefault(segment.run, []).append(segment)
    ends: list[RunEnd] = []
    for run, of in by_run.items():
        # Asked first: a run that ends now has all its entries on disk by then.
        alive = durable.is_locked(root / JOURNAL / run / RUN_LOCK)
        last = of[0].start
        seen = False
        for segment in reversed(of):
            for entry in read_run([segment]):
                last = entry.recv_ts
                seen = True
            if seen:
                break
        ends.append(RunEnd(run, last, alive))
    return ends
