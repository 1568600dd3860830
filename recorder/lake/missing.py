"""
What should be in a root and is not: hours nobody sealed, journal no hour was made from. Told from names and manifests.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from shlex import quote

from recorder.journal.reader import SegmentFile
from recorder.lake.layout import JOURNAL, hour_label, hour_of, manifest_path
from recorder.lake.manifest import Manifest
from recorder.lake.plan import LOOK_AHEAD_NS, Windows, is_sealed
from recorder.records import HOUR_NS, SECOND_NS

GRACE_NS = 900 * SECOND_NS
"""An hour may stay unsealed this long after its end before that is a problem: the recorder seals a little later."""

Finding = tuple[str, str, str]
"""Path relative to the root, what is wrong, what to do."""


def command(root: object, hour: int | None = None, *, so_far: bool = False) -> str:
    """
    The command that seals what is due, or one hour, ready to paste.
    """
    of_hour = f" --hour {hour_label(hour)}" if hour is not None else ""
    return f"`drift-recorder seal {quote(str(root))}{of_hour}{' --open' if so_far else ''}`"


def repair_command(root: object) -> str:
    """
    The command that mends what is damaged, ready to paste.
    """
    return f"`drift-recorder verify --repair {quote(str(root))}`"


def missing_hours(
    root: object, on_record: list[int], found: list[SegmentFile], made: dict[int, Manifest], *, until: int
) -> Iterator[Finding]:
    """
    Hours that are over and not sealed as they could be, or that were made from journal which is gone.

    Args:
        root: for the hints.
        on_record: hours the journal reaches over.
        found: all segments.
        made: manifests that can be read.
        until: no entry before this instant (ns) can still come.
    """
    present = {_name(segment) for segment in found}
    windows = Windows(found)
    for hour in on_record:
        manifest = made.get(hour)
        if manifest is not None and manifest.complete and _has_expired(manifest, present):
            continue
        if hour + HOUR_NS + LOOK_AHEAD_NS + GRACE_NS > until:
            break
        if not is_sealed(manifest, windows(hour), made.get(hour - HOUR_NS)) and not (
            manifest is not None and manifest.problems  # named with what they are
        ):
            yield manifest_path(hour).as_posix(), _why(manifest, windows(hour)), f"run {command(root)}"
    for hour, manifest in made.items():
        if not manifest.complete:
            for i in manifest.inputs:
                if (i.run, i.name) not in present:
                    hint = f"restore it; else {command(root, hour, so_far=True)} makes the hour from what is left"
                    yield f"{JOURNAL}/{i.run}/{i.name}", f"is missing; {hour_label(hour)} is not sealed yet", hint


def vanished_hours(on_record: Collection[int], made: Mapping[int, Manifest | None]) -> Iterator[Finding]:
    """
    Hours of which nothing is left, told by the one that follows: it was made from the state that one of them ended
    with. What is gone before the first manifest or after the last cannot be told: a copy may begin and end anywhere.

    Args:
        on_record: hours the journal reaches over; of these `missing_hours` tells.
        made: all manifests; None for one that cannot be read.
    """
    for last, hour in pairwise(sorted(made)):
        before, follower = made[last], made[hour]
        if before is None or follower is None or hour - last == HOUR_NS or hour - HOUR_NS in on_record:
            continue
        if follower.carry_in not in {None, before.carry_out}:
            since = f"{hour_label(last + HOUR_NS)} to " if hour - last > 2 * HOUR_NS else ""
            problem = f"is missing: {hour_label(hour)} was made from what {since}{hour_label(hour - HOUR_NS)} came to"
            yield manifest_path(hour - HOUR_NS).as_posix(), problem, "restore it and its files from a copy"


def never_sealed(found: list[SegmentFile], made: dict[int, Manifest]) -> Iterator[SegmentFile]:
    """
    Segments that turned up when part of their hour's journal had expired: the hour cannot be made again.
    """
    present = {_name(segment) for segment in found}
    for segment in found:
        manifest = made.get(hour_of(segment.start))
        if manifest is not None and manifest.complete and _has_expired(manifest, present):
            listed = {(i.run, i.name) for i in manifest.inputs}
            if _name(segment) not in listed:
                yield segment


def has_sealed_start(run: str, first: str, made: dict[int, Manifest]) -> bool:
    """
    Whether a run's journal before its segment `first` was sealed, so that it may have expired.
    """
    return any(i.run == run and i.name < first for manifest in made.values() for i in manifest.inputs)


def _why(manifest: Manifest | None, inputs: list[SegmentFile]) -> str:
    if manifest is None:
        return "is missing: the hour is over, and was not sealed"
    if not manifest.complete:
        return "is of the hour so far; the hour is over"
    if any(_name(segment) not in {(i.run, i.name) for i in manifest.inputs} for segment in inputs):
        return "was made without some of the journal there is of its hour"
    return "does not begin with what the hour before it ended with"


def _has_expired(manifest: Manifest, present: set[tuple[str, str]]) -> bool:
    return any((i.run, i.name) not in present for i in manifest.inputs)


def _name(segment: SegmentFile) -> tuple[str, str]:
    return segment.run, segment.name.removesuffix(".open")
