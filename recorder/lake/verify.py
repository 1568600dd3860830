"""
Reads everything back and compares it with what was written: journal, manifests, Parquet.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Literal

import msgspec

from recorder.errors import DamagedFile, ForeignFile
from recorder.journal.reader import Damage, SegmentFile, read_segment, segments
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL, LAKE, manifest_path
from recorder.lake.manifest import LakeFile, Manifest
from recorder.lake.parquet import read_back
from recorder.lake.root import Binding, read_binding, seal_lock
from recorder.records import EntryKind, Overflowed, decode_fact


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
        inputs = _verify_lake(root, binding, report, progress)
        _verify_journal(root, report, inputs, progress)
    finally:
        lock.release()
    return report


def _verify_lake(
    root: Path, binding: Binding, report: Report, progress: Step | None
) -> dict[tuple[str, str], tuple[int, str]]:
    inputs: dict[tuple[str, str], tuple[int, str]] = {}
    listed: dict[str, LakeFile] = {}
    for hour in manifests.hours(root):
        path = manifest_path(hour)
        try:
            manifest = manifests.read(root, hour)
        except DamagedFile as error:
            hint = "run `drift-recorder seal`: it sets a damaged manifest aside and makes the hour again"
            report.problems.append(Problem(path.as_posix(), error.problem, hint))
            continue
        if manifest is None:
            continue
        report.hours += 1
        report.incomplete_hours += not manifest.complete
        _check_manifest(manifest, path, binding, report)
        listed.update({file.path: file for file in manifest.files})
        for i in manifest.inputs:
            # The last hour that read a segment saw most of it.
            inputs[i.run, i.name] = max((i.bytes, i.sha256), inputs.get((i.run, i.name), (0, "")))
    for number, file in enumerate(listed.values(), 1):
        _check_file(root, file, report)
        if progress is not None:
            progress("lake", number, len(listed))
    _look_for_strays(root, set(listed), report)
    return inputs


def _check_manifest(manifest: Manifest, path: Path, binding: Binding, report: Report) -> None:
    if manifest.hour != path.stem:
        report.problems.append(Problem(path.as_posix(), f"says it is of {manifest.hour}", "run `drift-recorder seal`"))
    if (manifest.venue, manifest.network) != (binding.venue, binding.network):
        problem = f"is of {manifest.venue} on {manifest.network}, the root of {binding.venue} on {binding.network}"
        report.problems.append(Problem(path.as_posix(), problem, "restore root.json, or move what is foreign away"))
    report.problems += [
        Problem(path.as_posix(), problem, "run `drift-recorder seal` again; the journal holds the frames")
        for problem in manifest.problems
    ]


def _check_file(root: Path, file: LakeFile, report: Report) -> None:
    hint = "run `drift-recorder seal ROOT --hour …` while its journal is kept"
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


def _look_for_strays(root: Path, listed: set[str], report: Report) -> None:
    for path in sorted((root / LAKE).rglob("*")):
        if path.is_dir():
            continue
        relative = path.relative_to(root).as_posix()
        if path.name.endswith(".tmp"):
            report.notes.append(f"{relative}: left by a seal that was killed; means nothing")
        elif relative not in listed:
            report.problems.append(
                Problem(
                    relative, "is in no manifest", "run `drift-recorder seal`: a seal was interrupted, or it is foreign"
                )
            )


def _verify_journal(
    root: Path, report: Report, inputs: dict[tuple[str, str], tuple[int, str]], progress: Step | None
) -> None:
    found = segments(root / JOURNAL)
    numbers: dict[str, int] = {}
    for at, segment in enumerate(found, 1):
        _check_segment(root, segment, report, numbers)
        _check_input(root, segment, report, inputs)
        if progress is not None:
            progress("journal", at, len(found))


def _check_segment(root: Path, segment: SegmentFile, report: Report, numbers: dict[str, int]) -> None:
    relative = segment.path.relative_to(root).as_posix()
    damages: list[Damage] = []
    report.segments += 1
    try:
        for entry in read_segment(segment.path, on_damage=damages.append):
            report.entries += 1
            last = numbers.get(segment.run)
            if last is not None and entry.seq > last + 1 and not _dropped_by_name(entry.kind, entry.payload, last):
                missing = entry.seq - last - 1
                report.problems.append(
                    Problem(relative, f"{missing} entries before number {entry.seq} are missing", "see `quality`")
                )
            numbers[segment.run] = max(entry.seq, last or 0)
        report.bytes += segment.path.stat().st_size
    except FileNotFoundError:
        return  # finished or expired since the listing
    except ForeignFile as error:
        report.problems.append(Problem(relative, error.problem, "move it out of the journal"))
        return
    except OSError as error:
        report.problems.append(Problem(relative, f"cannot be read: {error.strerror}", "check the disk"))
        return
    report.problems += [
        Problem(relative, f"damaged in the zstd frame at byte {damage.offset}: {damage.reason}", "see `quality`")
        for damage in damages
    ]


def _dropped_by_name(kind: int, payload: bytes, last: int) -> bool:
    if kind != EntryKind.FACT:
        return False
    try:
        fact = decode_fact(payload)
    except msgspec.DecodeError:
        return False
    return isinstance(fact, Overflowed) and fact.first_seq == last + 1


def _check_input(
    root: Path, segment: SegmentFile, report: Report, inputs: dict[tuple[str, str], tuple[int, str]]
) -> None:
    """
    A segment that an hour was made from must still begin with the bytes it was made from.
    """
    size, digest = inputs.get((segment.run, segment.name.removesuffix(".open")), (0, ""))
    if not size:
        return
    try:
        data = segment.path.read_bytes()
    except OSError:
        return
    if sha256(data[:size]).hexdigest() != digest:
        relative = segment.path.relative_to(root).as_posix()
        report.problems.append(
            Problem(relative, "is not what its hour was sealed from", "the sealed files still hold it")
        )
