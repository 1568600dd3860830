"""
What `drift-recorder seal` does: find the hours that are due, and seal them, oldest first.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from recorder import durable
from recorder.clock import wall_ns
from recorder.errors import DamagedFile, RecorderError, SealFailed
from recorder.journal.names import RUN_LOCK
from recorder.journal.reader import SegmentFile, read_run, segments
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL, hour_label, hour_of, manifest_path
from recorder.lake.manifest import Manifest
from recorder.lake.missing import never_sealed
from recorder.lake.parquet import first_line
from recorder.lake.plan import LOOK_AHEAD_NS, RunEnd, closed_until, due, hours_on_record, is_sealed, window
from recorder.lake.publishing import quarantine
from recorder.lake.root import Binding, read_binding, seal_lock
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
    on_note: Callable[[str], None] | None = None,
) -> list[Sealed]:
    """
    Seal what is due.

    Args:
        root: of the data.
        hour: only this hour (ns), made again if it is sealed already.
        open_hour: publish the hour that is not over as well, as far as it is committed.
        progress: told (hour, hours left, entries done).
        on_note: told, in words, of journal that can never be sealed.

    Returns:
        The hours sealed, oldest first.

    Raises:
        RootError: not a data root.
        RootBusy: another seal is at work.
        ForeignFile: a manifest or segment is of a later version.
        SealFailed: the hour asked for is not there, is not over, or could not be published. Of several hours, those
            that can be are sealed first: see `_Sealer`.
    """
    binding = read_binding(root)
    lock = seal_lock(root)
    try:
        return seal_locked(root, binding, hour=hour, open_hour=open_hour, progress=progress, on_note=on_note)
    finally:
        lock.release()


def seal_locked(
    root: Path,
    binding: Binding,
    *,
    hour: int | None = None,
    open_hour: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> list[Sealed]:
    """
    As `seal`, for who holds the seal lock already.
    """
    found = segments(root / JOURNAL)
    ends = run_ends(root, found)
    on_record = hours_to_seal(found, ends)
    until = closed_until(ends, wall=wall_ns())
    known = {h: m for h in [*on_record, *(h - HOUR_NS for h in on_record[:1])] if (m := _manifest(root, h))}
    todo = due(on_record, found, known, until=until)
    if on_note is not None:
        for segment in never_sealed(found, known):
            on_note(
                f"{segment.path.relative_to(root)} was never sealed, and cannot be: other journal of its hour has "
                "expired; it is kept, and can be sealed in a root of its own"
            )
    if hour is not None:
        todo = _only(hour, on_record, known, todo, found, until=until, open_hour=open_hour)
    sealer = _Sealer(root, binding, found, on_record, known, open_until(ends) if ends else until, progress)
    for number, at in enumerate(todo):
        if hour is None and is_sealed(known.get(at), window(found, at), known.get(at - HOUR_NS)):
            continue  # it was due only because the hour before it was, and that one ended with the same carry
        sealer.make(at, len(todo) - number, closed=at + HOUR_NS + LOOK_AHEAD_NS <= until)
    if open_hour and hour is None:
        now = _hours_of_now(found, ends, wall=wall_ns())
        for at in on_record:
            manifest = known.get(at)
            if at + HOUR_NS + LOOK_AHEAD_NS > until and (manifest is None or not manifest.complete) and at in now:
                sealer.make(at, 1, closed=False)
    sealer.tell_failures()
    return sealer.sealed


def _hours_of_now(found: list[SegmentFile], ends: list[RunEnd], *, wall: int) -> set[int]:
    """
    The hours that can be published so far: those with journal, but of what lies after the wall clock only where a
    recorder is. A run that was days ahead has its hours sealed when they are over.
    """
    here = {hour_of(end.last_ts) for end in ends if end.alive}
    return {at for segment in found if (at := hour_of(segment.start)) <= wall or at in here}


class _Sealer:
    """
    Makes one hour after the other, and goes on where one fails.

    An hour that fails stays without a manifest, so that each later seal tries it again. What it would have handed to
    the next hour is not known; that one begins with the state of the last hour that has one, and so names what it
    cannot vouch for. When the failed hour is sealed at last, its followers are made again from its own carry.
    """

    def __init__(
        self,
        root: Path,
        binding: Binding,
        found: list[SegmentFile],
        on_record: list[int],
        known: dict[int, Manifest],
        open_until: int,
        progress: Callable[[int, int, int], None] | None,
    ) -> None:
        self.sealed: list[Sealed] = []
        self._failed: list[SealFailed] = []
        self._root, self._binding, self._found = root, binding, found
        self._on_record, self._known, self._open_until = on_record, known, open_until
        self._progress = progress

    def make(self, at: int, left: int, *, closed: bool) -> None:
        """
        Make and publish one hour.

        Raises:
            RecorderError: no hour can be sealed.
            OSError: the disk; it would fail the next hour too.
        """
        progress = self._progress
        try:
            result = seal_hour(
                self._root,
                self._binding,
                at,
                self._found,
                before=self._before(at),
                closed=closed,
                until=at + HOUR_NS + LOOK_AHEAD_NS if closed else self._open_until,
                progress=(lambda done: progress(at, left, done)) if progress is not None else None,
            )
        except SealFailed as error:
            self._failed.append(SealFailed(f"{hour_label(at)}: {error}"))
        except (RecorderError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - a frame nobody foresaw must cost its own hour at most
            self._failed.append(SealFailed(f"{hour_label(at)}: {type(error).__name__}: {first_line(error)}"))
        else:
            self._known[at] = result
            self.sealed.append(Sealed(at, result))

    def tell_failures(self) -> None:
        """
        Raises:
            SealFailed: of the first hour that failed; says how many did.
        """
        if not self._failed:
            return
        more, done = len(self._failed) - 1, len(self.sealed)
        others = f" (and {more} other {'hour' if more == 1 else 'hours'})" if more else ""
        were = "1 hour was" if done == 1 else f"{done} hours were"
        raise SealFailed(
            f"{self._failed[0]}{others}; {were} sealed, and the journal holds this one: "
            "upgrade, or report it, and run `drift-recorder seal` again"
        ) from self._failed[0].__cause__

    def _before(self, at: int) -> Manifest | None:
        before = [self._on_record[0] - HOUR_NS, *self._on_record[: self._on_record.index(at)]]
        return next((made for h in reversed(before) if (made := self._known.get(h)) is not None), None)


def open_until(ends: list[RunEnd]) -> int:
    """
    No entry before this instant (ns) can still come, for an hour that is not over.

    Of several runs that go on, the one that is least far decides: what it commits while the hour is being read would
    stand between the entries of the others.
    """
    alive = [end.last_ts for end in ends if end.alive]
    return min(alive) if alive else max(end.last_ts for end in ends) + 1


def hours_to_seal(found: list[SegmentFile], ends: list[RunEnd]) -> list[int]:
    """
    Hours on record, without those far from any entry: a run with a clock of 1970 must not make half a million hours.
    """
    begun = {hour_of(segment.start) for segment in found}
    kept: list[int] = []
    since = 0
    for hour in hours_on_record(found, ends):
        since = 0 if hour in begun else since + 1
        if since <= MAX_DOWN_HOURS:
            kept.append(hour)
    return kept


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
        ends = dict.fromkeys(hour_label(each) for each in (*on_record[:1], *on_record[-1:]))
        span = " to ".join(ends) or "nothing"
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
