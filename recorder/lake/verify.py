"""
Reads everything back and compares it with what was written: journal, manifests, Parquet.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Literal

import msgspec

from recorder.clock import wall_ns
from recorder.errors import DamagedFile, ForeignFile
from recorder.journal.reader import Damage, SegmentFile, read_segment, segments
from recorder.lake import legible
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL, LAKE, hour_of, manifest_path
from recorder.lake.links import foreign_in_journal, foreign_links, is_well, locks, open_to_all
from recorder.lake.manifest import LakeFile, Manifest
from recorder.lake.missing import (
    command,
    has_sealed_start,
    missing_hours,
    never_sealed,
    repair_command,
    vanished_hours,
)
from recorder.lake.parquet import read_back
from recorder.lake.plan import closed_until
from recorder.lake.root import Binding, read_binding, seal_lock
from recorder.lake.sealing import hours_to_seal, run_ends
from recorder.records import Entry, EntryKind, Overflowed, RunStopped, SegmentHeader, decode_fact


class Problem(msgspec.Struct, frozen=True):
    """
    One thing that is not as it was written.
    """

    path: str
    """Relative to the root."""
    problem: str
    hint: str


class Report(msgspec.Struct):
    """
    What was looked at, and what is wrong.
    """

    hours: int = 0
    incomplete_hours: int = 0
    files: int = 0
    rows: int = 0
    segments: int = 0
    entries: int = 0
    bytes: int = 0
    problems: list[Problem] = []
    notes: list[str] = []
    """Left-overs that mean nothing, such as files of a seal that was killed."""


Step = Callable[[Literal["lake", "journal"], int, int], None]


def verify(root: Path, *, progress: Step | None = None) -> Report:
    """
    Check a whole root. Changes nothing.

    Args:
        root: of the data.
        progress: told (part, done, of how many).

    Raises:
        RootError: not a data root.
        RootBusy: a seal is at work.
    """
    binding = read_binding(root)
    lock = seal_lock(root)
    try:
        report = Report()
        _look_for_foreign(root, report)
        made = _verify_lake(root, binding, report, progress)
        _verify_journal(root, binding, report, made, progress)
    finally:
        lock.release()
    return report


def _verify_lake(root: Path, binding: Binding, report: Report, progress: Step | None) -> dict[int, Manifest | None]:
    """
    Returns the manifests; None for one that is damaged.
    """
    made: dict[int, Manifest | None] = {}
    listed: dict[str, LakeFile] = {}
    for hour in manifests.hours(root):
        path = manifest_path(hour)
        try:
            manifest = manifests.read(root, hour)
        except DamagedFile as error:
            hint = f"run {repair_command(root)}: it is set aside, and made again from the journal or from its files"
            report.problems.append(Problem(path.as_posix(), error.problem, hint))
            made[hour] = None
            continue
        if manifest is None:
            continue
        report.hours += 1
        report.incomplete_hours += not manifest.complete
        made[hour] = manifest
        _check_manifest(root, manifest, path, binding, report)
        listed.update({file.path: file for file in manifest.files})
    hint = f"run {repair_command(root)}: it is made again while its journal is kept"
    for number, file in enumerate(listed.values(), 1):
        _check_file(root, file, report, hint)
        if progress is not None:
            progress("lake", number, len(listed))
    _look_for_strays(root, set(listed), report)
    return made


def _check_manifest(root: Path, manifest: Manifest, path: Path, binding: Binding, report: Report) -> None:
    if manifest.hour != path.stem:
        report.problems.append(Problem(path.as_posix(), f"says it is of {manifest.hour}", f"run {command(root)}"))
    if (manifest.venue, manifest.network) != (binding.venue, binding.network):
        problem = f"is of {manifest.venue} on {manifest.network}, the root of {binding.venue} on {binding.network}"
        report.problems.append(Problem(path.as_posix(), problem, "restore root.json, or move what is foreign away"))
    report.problems += [
        Problem(path.as_posix(), problem, f"run {command(root)} again; the journal holds the frames")
        for problem in manifest.problems
    ]


def _check_file(root: Path, file: LakeFile, report: Report, hint: str) -> None:
    report.files += 1
    try:
        _, size, rows = read_back(root / file.path, sha256=file.sha256)
    except FileNotFoundError:
        report.problems.append(Problem(file.path, "is missing", hint))
        return
    except DamagedFile as error:
        report.problems.append(Problem(file.path, error.problem, hint))
        return
    except OSError as error:
        report.problems.append(Problem(file.path, f"cannot be read: {error.strerror}", "check the disk"))
        return
    report.rows += rows
    report.bytes += size
    if rows != file.rows:
        report.problems.append(Problem(file.path, f"has {rows} rows, not {file.rows}", hint))


def _look_for_foreign(root: Path, report: Report) -> None:
    """
    What is not ours, or open to others.
    """
    name = repair_command(root)
    report.problems += [
        Problem(path.relative_to(root).as_posix(), "is a symbolic link, which nothing here follows", f"run {name}")
        for path in foreign_links(root)
    ]
    report.problems += [
        Problem(path.relative_to(root).as_posix(), "is no journal segment, and nothing reads it", "move it away")
        for path in foreign_in_journal(root)
    ]
    report.problems += [
        Problem(path.relative_to(root).as_posix(), "is a lock, and holds what nobody writes there", "empty it")
        for path in locks(root)
        if not is_well(path)
    ]
    report.problems += [
        Problem(path.relative_to(root).as_posix(), "can be written by anybody", "chmod o-w it")
        for path in open_to_all(root)
    ]


def _look_for_strays(root: Path, listed: set[str], report: Report) -> None:
    for path in sorted((root / LAKE).rglob("*")):
        if path.is_dir() or path.is_symlink():
            continue
        relative = path.relative_to(root).as_posix()
        if path.name.endswith(".tmp"):
            report.notes.append(f"{relative}: left by a seal that was killed; means nothing")
        elif relative not in listed:
            report.problems.append(
                Problem(relative, "is in no manifest", f"run {command(root)}: a seal was interrupted, or it is foreign")
            )


def _verify_journal(
    root: Path, binding: Binding, report: Report, all_made: dict[int, Manifest | None], progress: Step | None
) -> None:
    found = segments(root / JOURNAL)
    made = {hour: manifest for hour, manifest in all_made.items() if manifest is not None}
    inputs: dict[tuple[str, str], tuple[int, str]] = {}
    for manifest in made.values():
        for i in manifest.inputs:
            # The last hour that read a segment saw most of it.
            inputs[i.run, i.name] = max((i.bytes, i.sha256), inputs.get((i.run, i.name), (0, "")))
    doubted = _legible_inputs(root, all_made)
    numbers: dict[str, _Numbers] = {}
    changed: set[tuple[str, str]] = set()
    for at, segment in enumerate(found, 1):
        _check_segment(root, binding, segment, report, numbers.setdefault(segment.run, _Numbers()))
        if not _check_input(root, segment, report, inputs, doubted):
            changed.add((segment.run, segment.name))
        if progress is not None:
            progress("journal", at, len(found))
    ends = run_ends(root, found)
    alive = {end.run for end in ends if end.alive}
    _check_ends(root, found, report, made, numbers, inputs, changed, alive)
    _name_unvouched(root, [s for s in found if s.run not in alive], report, all_made, {*inputs, *doubted})
    on_record = hours_to_seal(found, ends)
    report.problems += [Problem(*each) for each in vanished_hours(on_record, all_made)]
    if not found:
        return
    missing = missing_hours(root, on_record, found, made, until=closed_until(ends, wall=wall_ns()))
    damaged = {manifest_path(hour).as_posix() for hour, manifest in all_made.items() if manifest is None}
    report.problems += [Problem(*each) for each in missing if each[0] not in damaged]
    report.problems += [
        Problem(
            segment.path.relative_to(root).as_posix(),
            "was never sealed: other journal of its hour has expired, so the hour cannot be made again",
            "keep it; in a root of its own it can be sealed",
        )
        for segment in never_sealed(found, made)
    ]


class _Numbers(msgspec.Struct):
    """
    What the entries of one run say of their order.
    """

    first: int | None = None
    last: int | None = None
    stopped: bool = False
    """The last entry is the run's own end."""


def _check_ends(
    root: Path,
    found: list[SegmentFile],
    report: Report,
    made: dict[int, Manifest],
    numbers: dict[str, _Numbers],
    inputs: dict[tuple[str, str], tuple[int, str]],
    changed: set[tuple[str, str]],
    alive: set[str],
) -> None:
    """
    A run begins with number 1, and its last finished segment with its end: a recorder that is killed leaves an open
    one. What an hour was sealed from is compared by digest instead: what is `changed` since may have begun otherwise.
    """
    firsts: dict[str, SegmentFile] = {}
    lasts: dict[str, SegmentFile] = {}
    for segment in found:
        firsts.setdefault(segment.run, segment)
        lasts[segment.run] = segment
    for run, of in numbers.items():
        first, last = firsts[run], lasts[run]
        sealed = (run, first.name) in changed or has_sealed_start(run, first.name.removesuffix(".open"), made)
        if of.first is not None and of.first > 1 and not sealed:
            problem = f"begins with number {of.first}; what was before it is missing, and was not sealed"
            report.problems.append(Problem(first.path.relative_to(root).as_posix(), problem, "restore it"))
        if of.last is None or of.stopped or last.open or run in alive or (run, last.name) in inputs:
            continue
        problem = "ends before its run does, and nothing follows"
        report.problems.append(Problem(last.path.relative_to(root).as_posix(), problem, "restore what followed"))


def _check_segment(root: Path, binding: Binding, segment: SegmentFile, report: Report, numbers: _Numbers) -> None:
    relative = segment.path.relative_to(root).as_posix()
    damages: list[Damage] = []
    headers: list[SegmentHeader] = []
    report.segments += 1
    try:
        for entry in read_segment(segment.path, on_damage=damages.append, on_header=headers.append):
            report.entries += 1
            last = numbers.last
            numbers.first = entry.seq if numbers.first is None else numbers.first
            numbers.stopped = _is_end(entry)
            if last is not None and entry.seq > last + 1 and not _dropped_by_name(entry.kind, entry.payload, last):
                missing = entry.seq - last - 1
                report.problems.append(
                    Problem(relative, f"{missing} entries before number {entry.seq} are missing", "see `quality`")
                )
            numbers.last = max(entry.seq, last or 0)
        size = segment.path.stat().st_size
        report.bytes += size
        if not size and not segment.open:
            report.problems.append(Problem(relative, "is empty", "see `quality`"))
    except FileNotFoundError:
        return  # finished or expired since the listing
    except ForeignFile as error:
        report.problems.append(Problem(relative, error.problem, "move it out of the journal"))
        return
    except OSError as error:
        report.problems.append(Problem(relative, f"cannot be read: {error.strerror}", "check the disk"))
        return
    report.problems += [
        Problem(relative, damage.reason, "move it out of the journal")
        if damage.foreign
        else Problem(relative, f"damaged in the zstd frame at byte {damage.offset}: {damage.reason}", "see `quality`")
        for damage in damages
    ]
    report.problems += [
        Problem(relative, foreign, "move it to a root of its own; its frames are not in this lake")
        for header in headers
        if (foreign := binding.foreign(header.venue, header.network)) is not None
    ]


def _is_end(entry: Entry) -> bool:
    if entry.kind != EntryKind.FACT:
        return False
    try:
        return isinstance(decode_fact(entry.payload), RunStopped)
    except msgspec.DecodeError:
        return False


def _dropped_by_name(kind: int, payload: bytes, last: int) -> bool:
    if kind != EntryKind.FACT:
        return False
    try:
        fact = decode_fact(payload)
    except msgspec.DecodeError:
        return False
    return isinstance(fact, Overflowed) and fact.first_seq == last + 1


def _legible_inputs(root: Path, all_made: dict[int, Manifest | None]) -> dict[tuple[str, str], tuple[int, str, str]]:
    """
    Of damaged manifests, what can still be read of the segments their hours were made from, and whose word it is. A
    flip in the last entries of a killed run looks like its torn tail: without these digests nothing would tell.
    """
    found: dict[tuple[str, str], tuple[int, str, str]] = {}
    for hour, manifest in all_made.items():
        if manifest is None:
            path = manifest_path(hour)
            for i in legible.inputs(root / path):
                before = found.get((i.run, i.name), (0, "", ""))
                found[i.run, i.name] = max(before, (i.bytes, i.sha256, path.as_posix()))
    return found


def _name_unvouched(
    root: Path,
    found: list[SegmentFile],
    report: Report,
    all_made: dict[int, Manifest | None],
    vouched: set[tuple[str, str]],
) -> None:
    """
    Of a killed run's last segment, what its hour was made from, where that cannot be read of its manifest any more.
    """
    for segment in found:
        hour = hour_of(segment.start)
        name = segment.run, segment.name.removesuffix(".open")
        if segment.open and name not in vouched and hour in all_made and all_made[hour] is None:
            manifest = manifest_path(hour).as_posix()
            problem = f"its last entries cannot be checked: {manifest}, which is damaged, had their digest"
            hint = f"see {command(root)}: what the sealed files hold of it is whole"
            report.problems.append(Problem(segment.path.relative_to(root).as_posix(), problem, hint))


def _check_input(
    root: Path,
    segment: SegmentFile,
    report: Report,
    inputs: dict[tuple[str, str], tuple[int, str]],
    doubted: dict[tuple[str, str], tuple[int, str, str]],
) -> bool:
    """
    A segment that an hour was made from must still begin with the bytes it was made from. Returns whether it does.
    """
    name = segment.run, segment.name.removesuffix(".open")
    size, digest = inputs.get(name, (0, ""))
    doubted_size, doubted_digest, damaged = doubted.get(name, (0, "", ""))
    if not size and not doubted_size:
        return True
    try:
        data = segment.path.read_bytes()
    except OSError:
        return True
    relative = segment.path.relative_to(root).as_posix()
    if size and sha256(data[:size]).hexdigest() != digest:
        report.problems.append(
            Problem(relative, "is not what its hour was sealed from", "the sealed files still hold it")
        )
        return False
    if doubted_size > size and sha256(data[:doubted_size]).hexdigest() != doubted_digest:
        problem = f"is not what {damaged} lists, which is damaged itself: one of the two is wrong"
        report.problems.append(Problem(relative, problem, "the sealed files still hold it"))
        return False
    return True
