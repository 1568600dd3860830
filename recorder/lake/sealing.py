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
from recorder.journal.reader import SegmentFile, read_segment, segments
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL, QUARANTINE, hour_label, manifest_path
from recorder.lake.manifest import Manifest
from recorder.lake.plan import LOOK_AHEAD_NS, RunEnd, closed_until, due, hours_on_record
from recorder.lake.root import read_binding, seal_lock
from recorder.lake.seal import seal_hour
from recorder.records import HOUR_NS


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
        SealFailed: the hour asked for is not there, is not over, or could not be published.
    """
    binding = read_binding(root)
    lock = seal_lock(root)
    try:
        found = segments(root / JOURNAL)
        ends = run_ends(root, found)
        on_record = hours_on_record(found, ends)
        until = closed_until(ends, wall=wall_ns())
        known = {h: m for h in [*on_record, *(h - HOUR_NS for h in on_record[:1])] if (m := _manifest(root, h))}
        todo = due(on_record, found, known, until=until)
        if hour is not None:
            todo = _only(hour, on_record, known, todo, found, until=until, open_hour=open_hour)
        sealed: list[Sealed] = []

        def make(at: int, left: int, *, closed: bool) -> None:
            before = known.get(at - HOUR_NS)
            result = seal_hour(
                root,
                binding,
                at,
                found,
                carry=before.carry if before is not None else None,
                closed=closed,
                until=at + HOUR_NS + LOOK_AHEAD_NS if closed else max(end.last_ts for end in ends) + 1,
                progress=(lambda done: progress(at, left, done)) if progress is not None else None,
            )
            known[at] = result
            sealed.append(Sealed(at, result))

        for number, at in enumerate(todo):
            make(at, len(todo) - number, closed=at + HOUR_NS + LOOK_AHEAD_NS <= until)
        if open_hour and hour is None:
            for at in on_record:
                manifest = known.get(at)
                if at + HOUR_NS + LOOK_AHEAD_NS > until and (manifest is None or not manifest.complete):
                    make(at, 1, closed=False)
        return sealed
    finally:
        lock.release()


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
        path = root / manifest_path(hour)
        target = root / QUARANTINE / manifest_path(hour)
        durable.make_directories(target.parent)
        durable.rename(path, target)
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
        for segment in reversed(of):
            try:
                stamps = [entry.recv_ts for entry in read_segment(segment.path)]
            except FileNotFoundError:
                stamps = [e.recv_ts for e in read_segment(segment.path.with_name(segment.name.removesuffix(".open")))]
            if stamps:
                last = stamps[-1]
                break
        ends.append(RunEnd(run, last, alive))
    return ends
