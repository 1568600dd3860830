"""
What `drift-recorder verify --repair` does: sets aside what is damaged, and makes again what the journal still holds.

Nothing is deleted. A damaged Parquet file or manifest is moved to `quarantine/` and its hour made again from the
journal: the same journal and versions give the same bytes. A damaged journal segment stays where it is, since most of
it can be read, and a copy goes to `quarantine/`. What cannot be made again is named, and stays named by `verify`.

Killed anywhere, it is simply run again: what it has set aside is then missing, and made again all the same.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from recorder import __version__, durable
from recorder.errors import DamagedFile, ForeignFile, RecorderError, RootError, SealFailed
from recorder.journal.reader import Damage, SegmentFile, read_header, read_segment, segments
from recorder.lake import legible
from recorder.lake import manifest as manifests
from recorder.lake.layout import (
    JOURNAL,
    MANIFEST,
    QUARANTINE,
    ROOT_FILE,
    hour_label,
    manifest_path,
    parse_hour,
    partition,
)
from recorder.lake.links import foreign_links
from recorder.lake.manifest import LakeFile, Manifest, Versions
from recorder.lake.parquet import bounds, describe, read_back
from recorder.lake.plan import window
from recorder.lake.publishing import copy_aside, files_of_hour, quarantine
from recorder.lake.root import FORMAT, Binding, encode_binding, read_binding, seal_lock
from recorder.lake.schema import FORMAT_VERSION
from recorder.lake.sealing import seal_locked
from recorder.quality.effects import same_table
from recorder.quality.events import channel_of
from recorder.quality.state import MonitorState
from recorder.records import HOUR_NS, Stream


class Mended(msgspec.Struct, frozen=True):
    """
    One thing that was done, or could not be.
    """

    path: str
    """Relative to the root."""
    words: str
    well: bool
    """What was there is there again."""


def repair(root: Path) -> list[Mended]:
    """
    Mend a whole root.

    Raises:
        RootError: not a data root, or one whose `root.json` cannot be made again.
        RootBusy: a seal or verify is at work.
        ForeignFile: a manifest is of a later version; nothing was done.
        OSError: the disk.
    """
    lock = seal_lock(root)
    try:
        return list(_repair(root))
    finally:
        lock.release()


class _Lost(msgspec.Struct, frozen=True):
    """
    A published file that is not what was written.
    """

    file: LakeFile
    hour: int
    problem: str
    manifest: Manifest | None
    """That lists it; None if that is damaged as well."""


def _repair(root: Path) -> Iterator[Mended]:
    yield from _binding(root)
    binding = read_binding(root)
    for link in foreign_links(root):
        yield Mended(_name(root, link), f"a symbolic link, moved to {_aside(root, link)}", well=True)
    found = segments(root / JOURNAL)
    yield from _journal(root, found)
    lost: list[_Lost] = []
    for hour in manifests.hours(root):
        with suppress(DamagedFile):  # those are next
            manifest = manifests.read(root, hour)
            if manifest is not None and manifest.hour == hour_label(hour):
                lost += _broken_files(root, hour, manifest.files, manifest)
    damaged_hours = {}
    for hour, aside in _manifests(root):
        damaged_hours[hour] = aside
        if window(found, hour):
            lost += _broken_files(root, hour, _listed_in(root / aside, root, hour), None)
    failures = _seal(root, binding, lost, damaged_hours, found)
    damaged_hours |= dict(_left_behind(root, found))
    for hour, aside in damaged_hours.items():
        yield _manifest_again(root, binding, hour, aside, failures.get(hour))
    for each in lost:
        yield _file_again(root, each, failures.get(each.hour))


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _aside(root: Path, path: Path) -> str:
    return quarantine(root, path).relative_to(root).as_posix()


# ---- root.json


def _binding(root: Path) -> Iterator[Mended]:
    """
    What the root is bound to, from what its hours and segments say of themselves.
    """
    path = root / ROOT_FILE
    if not path.exists():
        return  # whether this is a root at all, nothing tells
    with suppress(RootError):
        read_binding(root)
        return
    said = set(_bindings(root))
    if len(said) != 1:
        words = "nothing says" if not said else "hours and segments do not agree on"
        raise RootError(
            root,
            f"has a damaged {ROOT_FILE}, and {words} what it belongs to",
            "restore it: format, venue and network as JSON",
        )
    ((venue, network),) = said
    # A copy: without the file this is no root any more, whatever comes of us.
    copy_aside(root, path)
    durable.publish_bytes(path, encode_binding(Binding(FORMAT, venue, network)))
    yield Mended(ROOT_FILE, "was damaged; made again from what the root holds; a copy is in quarantine", well=True)


def _bindings(root: Path) -> Iterator[tuple[str, str]]:
    for hour in manifests.hours(root):
        with suppress(DamagedFile, ForeignFile, OSError):
            if (manifest := manifests.read(root, hour)) is not None:
                yield manifest.venue, manifest.network
    for segment in segments(root / JOURNAL):
        with suppress(ForeignFile, OSError):
            if (header := read_header(segment.path)) is not None:
                yield header.venue, header.network


# ---- journal


def _journal(root: Path, found: list[SegmentFile]) -> Iterator[Mended]:
    for segment in found:
        damages: list[Damage] = []
        try:
            for _ in read_segment(segment.path, on_damage=damages.append):
                pass
        except (FileNotFoundError, ForeignFile):
            continue
        except OSError as error:
            yield Mended(_name(root, segment.path), f"cannot be read: {error.strerror}; check the disk", well=False)
            continue
        if damages and (aside := copy_aside(root, segment.path)) is not None:
            words = f"is damaged ({damages[0].reason}); a copy is {_name(root, aside)}, the rest is read as it stands"
            yield Mended(_name(root, segment.path), words, well=False)


# ---- the lake


def _manifests(root: Path) -> Iterator[tuple[int, str]]:
    """
    Hours whose manifest was damaged, and where it was moved to.
    """
    for hour in manifests.hours(root):
        try:
            manifest = manifests.read(root, hour)
        except DamagedFile:
            manifest = None
        if manifest is None or manifest.hour != hour_label(hour):
            yield hour, _aside(root, root / manifest_path(hour))


def _left_behind(root: Path, found: list[SegmentFile]) -> Iterator[tuple[int, str]]:
    """
    Hours whose damaged manifest was set aside, and whose files are there, but no other one came: we were killed then.
    """
    for aside in sorted(
        (root / QUARANTINE / MANIFEST).glob("????-??-??T??.json*"), key=lambda path: path.stat().st_mtime
    ):
        with suppress(ValueError):
            hour = parse_hour(aside.name.partition(".")[0])
            if not (root / manifest_path(hour)).exists() and not window(found, hour) and files_of_hour(root, hour):
                yield hour, _name(root, aside)


def _listed_in(damaged: Path, root: Path, hour: int) -> list[LakeFile]:
    """
    What can still be read of the files in a damaged manifest, of those that are there. A digest among these may be what
    was damaged: a file set aside for it is whole, and made again all the same.
    """
    there = {_name(root, path) for path in files_of_hour(root, hour)}
    return [file for file in legible.files(damaged)[0] if file.path in there]


def _broken_files(root: Path, hour: int, files: list[LakeFile], manifest: Manifest | None) -> Iterator[_Lost]:
    """
    Those that are missing, or damaged and now set aside.
    """
    for file in files:
        if (problem := _problem(root, file)) is not None:
            if (root / file.path).exists():
                problem += f"; moved to {_aside(root, root / file.path)}"
            yield _Lost(file, hour, problem, manifest)


def _problem(root: Path, file: LakeFile) -> str | None:
    try:
        read_back(root / file.path, sha256=file.sha256)
    except FileNotFoundError:
        return "was missing"
    except DamagedFile as error:
        return f"was damaged ({error.problem})"
    return None


def _seal(
    root: Path, binding: Binding, lost: list[_Lost], unlisted: Iterable[int], found: list[SegmentFile]
) -> dict[int, RecorderError]:
    """
    Make what is due, then hours so far whose manifest was damaged, then those with broken files; oldest first. Returns
    why some could not be made.
    """
    failures: dict[int, RecorderError] = {}
    present = {(s.run, s.name.removesuffix(".open")) for s in found}
    broken = {each.hour: each.manifest for each in lost if each.manifest is not None}
    made: set[int] = set()
    try:
        made = {each.hour for each in seal_locked(root, binding)}
    except SealFailed as error:
        failures = dict.fromkeys(broken, error)
    for hour in sorted({*unlisted, *broken} - made):
        manifest = broken.get(hour)
        gone = [i for i in manifest.inputs if (i.run, i.name) not in present] if manifest is not None else []
        if manifest is not None and gone:
            failures[hour] = SealFailed(f"{len(gone)} of the {len(manifest.inputs)} segments it was made from are gone")
            continue
        try:
            seal_locked(root, binding, hour=hour, open_hour=manifest is None or not manifest.complete)
            failures.pop(hour, None)
        except SealFailed as error:
            failures[hour] = error
    return failures


def _manifest_again(root: Path, binding: Binding, hour: int, aside: str, failure: RecorderError | None) -> Mended:
    path = manifest_path(hour).as_posix()
    if manifests.read(root, hour) is not None:
        words = f"was damaged; its hour was made again from the journal; the damaged one is {aside}"
        return Mended(path, words, well=True)
    made = _from_files(root, binding, hour, root / aside)
    if made is None:
        why = failure or "its journal has expired"
        return Mended(path, f"was damaged, and its hour cannot be made again: {why}; it is {aside}", well=False)
    manifests.publish(root, hour, made)
    whole = set(made.richer)
    lacks = [f"{file.path} is missing or damaged" for file in made.files if file.path not in whole] + made.problems
    words = f"was damaged, and its journal has expired; made again from its {len(whole)} files, each read whole"
    words += f", but {'; '.join(lacks)}" if lacks else ""
    return Mended(path, f"{words}; the damaged one is {aside}", well=not lacks)


def _from_files(root: Path, binding: Binding, hour: int, damaged: Path) -> Manifest | None:
    """
    A manifest of what is in the lake, for an hour that is never made again, nor is the one after it; else None.

    It vouches for less: what the hour was made from is gone with the old one, and so is what it handed on. What the old
    one still says of files that are not there, or not whole, it says too, so that they stay named; what `coverage` has
    counted, and neither a file nor the old one has, makes it incomplete.
    """
    found = segments(root / JOURNAL)
    paths = files_of_hour(root, hour)
    if window(found, hour) or window(found, hour + HOUR_NS) or not paths:
        return None
    listed, expired = legible.files(damaged)
    expired = [file for file in expired if not (root / file.path).exists()]
    files: dict[str, LakeFile] = {}
    for path in paths:
        with suppress(DamagedFile):
            described = describe(path)
            says = described["metadata"]
            symbol = says.get("symbol")
            if partition(says.get("table", ""), hour, symbol) != path.relative_to(root):
                return None
            sha, size, rows = read_back(path)
            timed = any(name == "recv_ts" for name, _ in described["columns"])
            first, last = bounds(path) if timed else (None, None)
            files[_name(root, path)] = LakeFile(_name(root, path), says["table"], symbol, rows, size, sha, first, last)
    whole = sorted(files)
    for file in listed:
        if partition(file.table, hour, file.symbol).as_posix() == file.path:
            files.setdefault(file.path, file)
    problems = _unlisted(root, hour, whole, [*files.values(), *expired])
    if not whole:
        return None
    carry = MonitorState(now=hour + HOUR_NS)
    return Manifest(
        format=manifests.FORMAT,
        hour=hour_label(hour),
        complete=not problems,
        venue=binding.venue,
        network=binding.network,
        entries=0,
        frames=0,
        files=[files[path] for path in sorted(files)],
        inputs=[],
        carry_in=None,
        carry=carry,
        versions=Versions(recorder=__version__, format=FORMAT_VERSION, pyarrow=pa.__version__),
        problems=problems,
        richer=whole,
        expired=expired,
        carry_out=manifests.carry_digest(carry),
    )


def _unlisted(root: Path, hour: int, whole: list[str], known: list[LakeFile]) -> list[str]:
    """
    What an hour must have held, and nothing tells of any more, in words.
    """
    path = partition("coverage", hour).as_posix()
    if path not in whole:
        return [] if any(file.path == path for file in known) else ["coverage is missing: what else is, nothing tells"]
    names = ["market_type", "symbol", "channel", "grouping", "rows"]
    missing = []
    for row in pq.read_table(root / path, partitioning=None, columns=names).to_pylist():
        stream = Stream(row["market_type"], row["symbol"], row["channel"], row["grouping"])
        if row["rows"] and not any(f.symbol == stream.symbol and same_table(f.table, stream) for f in known):
            missing.append(f"{channel_of(stream)} of {stream.symbol} had {row['rows']} rows, and their file is missing")
    return missing


def _file_again(root: Path, lost: _Lost, failure: RecorderError | None) -> Mended:
    now = manifests.read(root, lost.hour)
    file, problem, before = lost.file, lost.problem, lost.manifest
    again = next((f for f in now.files if f.path == file.path), None) if now is not None else None
    if failure is not None or again is None or _problem(root, again) is not None:
        why = failure or "the journal does not hold it"
        return Mended(file.path, f"{problem}; it cannot be made again: {why}", well=False)
    if again.sha256 == file.sha256:
        return Mended(file.path, f"{problem}; made again from the journal, byte for byte as it was", well=True)
    words = f"made again from what the journal holds: {again.rows} rows of {file.rows}"
    if before is not None and before.versions.recorder != __version__:
        words += f", by version {__version__} in place of {before.versions.recorder}"
    return Mended(file.path, f"{problem}; {words}", well=again.rows >= file.rows)
