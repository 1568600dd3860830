"""
Drafts become the hour's published files: by rename, with no manifest in place meanwhile.

What is in the lake is never lost to a poorer journal. A published file that holds more rows than its draft stays, where
the journal it was made from is damaged or gone; one that holds fewer, but some that the draft lacks, is told then and
goes to quarantine. Where that journal is whole, the draft is right, and a file with more rows goes to quarantine. So
does every file of the hour that is not, or no longer, of it.
"""

from functools import cache, partial
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from recorder import durable
from recorder.errors import DamagedFile
from recorder.lake import manifest as manifests
from recorder.lake.layout import LAKE, QUARANTINE, hour_label, partition
from recorder.lake.manifest import LakeFile, Manifest
from recorder.lake.parquet import Draft, bounds, describe, read_back
from recorder.lake.survey import HourJournal, digest


class Publication(msgspec.Struct):
    """
    What an hour will consist of.
    """

    drafts: list[tuple[Draft, LakeFile]]
    kept: list[LakeFile] = []
    """Published files that stay because their partition could not be made now."""
    richer: list[LakeFile] = []
    """Published files that stay because the journal no longer holds all their rows."""
    aside: list[Path] = []
    """Published files that go to quarantine: the draft has more rows than they, and lacks some of theirs."""
    remarks: list[str] = []
    """On the richer ones and those, in words."""


def keep_what_is_richer(
    root: Path, drafts: list[tuple[Draft, LakeFile]], *, failed: list[Path], journal: HourJournal
) -> Publication:
    """
    Compare the drafts of the markets' tables with what is published.

    Args:
        root: of the data.
        drafts: of the markets' tables.
        failed: paths, relative to the root, for which there should be a draft and is none.
        journal: the drafts were made from.
    """
    publication = Publication([])
    before = manifests.before(root, journal.hour)
    stayed = before.richer if before is not None else []
    unchanged = cache(partial(_unchanged, before, journal))  # reads all of the hour's journal
    made = {draft.path: (draft, file) for draft, file in drafts}
    there = {
        path.relative_to(root)
        for path in files_of_hour(root, journal.hour)
        if path.suffix == ".parquet" and path.parents[2].name.startswith("market=")
    }
    for path in sorted(made.keys() | there):
        draft, file = made.get(path, (None, None))
        rows = file.rows if file is not None else 0
        if path in failed:
            published = _published_file(root, path, journal)
            if published is not None:
                publication.kept.append(published)
            continue
        if path in there and (path.as_posix() in stayed or not unchanged()):
            published = _published_file(root, path, journal)
            if published is not None and published.rows > rows:
                publication.richer.append(published)
                publication.remarks.append(
                    f"{path}: the journal holds {rows} rows, the published file {published.rows}: that one stays"
                )
                if draft is not None:
                    draft.discard()
                continue
            lacks = _lacks(root / path, draft) if published is not None and draft is not None else 0
            if lacks:
                publication.aside.append(root / path)
                publication.remarks.append(
                    f"{path}: {lacks} rows of the published file are not made from the journal now: it is in quarantine"
                )
        if draft is not None and file is not None:
            publication.drafts.append((draft, file))
    return publication


def publish(root: Path, publication: Publication, journal: HourJournal) -> list[LakeFile]:
    """
    Put the drafts in place. Until the caller has written its manifest the hour is not published.

    Raises:
        OSError: the disk.
    """
    for damaged in sorted({damage.path for damage in journal.damages}):
        copy_aside(root, damaged)
    manifests.withdraw(root, journal.hour)
    staying = [*publication.kept, *publication.richer]
    names = {root / file.path for file in staying} | {root / draft.path for draft, _ in publication.drafts}
    for draft, file in publication.drafts:
        target = root / draft.path
        more = file.symbol is not None or publication.richer
        if target in publication.aside or (more and target.exists() and _rows_of(target) > file.rows):
            quarantine(root, target)
        draft.publish()
    for stray in files_of_hour(root, journal.hour):
        if stray in names:
            continue
        if stray.name.startswith(".") and stray.name.endswith(".tmp"):
            durable.remove(stray)  # left by a seal that was killed; means nothing
        else:
            quarantine(root, stray)
    return sorted([*staying, *(file for _, file in publication.drafts)], key=lambda file: file.path)


def quarantine(root: Path, path: Path) -> Path:
    """
    Move a file out of the way, under a name that is free. Returns that.
    """
    target = root / QUARANTINE / path.relative_to(root)
    again = 0
    free = target
    while free.exists():
        again += 1
        free = target.with_name(f"{target.name}.{again}")
    durable.make_directories(free.parent, below=root)
    durable.rename(path, free)
    return free


def copy_aside(root: Path, path: Path) -> Path | None:
    """
    A damaged segment stays where it is, since most of it can be read; a copy survives its expiry. Returns that, or
    None if there was one.
    """
    target = root / QUARANTINE / path.relative_to(root)
    if target.exists():
        return None
    durable.make_directories(target.parent, below=root)
    durable.publish_bytes(target, durable.read_bytes(path))
    return target


def _unchanged(before: Manifest | None, journal: HourJournal) -> bool:
    """
    Whether all that the hour was made from is still there, as it was.
    """
    if before is None:
        return False
    there = {(s.run, s.name.removesuffix(".open")): s for s in journal.inputs}
    return all(
        (i.run, i.name) in there and digest(there[i.run, i.name], i.bytes) == (i.bytes, i.sha256) for i in before.inputs
    )


def _lacks(published: Path, draft: Draft) -> int:
    """
    Rows of a published file that its draft does not have, by where they stand in the journal.
    """
    there, made = (
        set(zip(*(read.column(name).to_pylist() for name in ("run", "seq")), strict=True))
        for read in (
            pq.read_table(path, columns=["run", "seq"], partitioning=None) for path in (published, draft.temporary)
        )
    )
    return len(there - made)


def _published_file(root: Path, path: Path, journal: HourJournal) -> LakeFile | None:
    """
    What is published under a name now, if it is whole and says that it belongs there.
    """
    try:
        says = describe(root / path)["metadata"]
        symbol = says.get("symbol")
        if symbol is None or partition(says.get("table", ""), journal.hour, symbol) != path:
            return None
        if says.get("hour") != hour_label(journal.hour):
            return None
        sha, size, rows = read_back(root / path)
        first, last = bounds(root / path)
    except (DamagedFile, FileNotFoundError):
        return None
    return LakeFile(path.as_posix(), path.stem, symbol, rows, size, sha, first, last)


def _rows_of(path: Path) -> int:
    """
    0 for a file that cannot be read: nothing is lost with it.
    """
    try:
        return int(describe(path)["rows"])
    except (DamagedFile, FileNotFoundError):
        return 0


def files_of_hour(root: Path, hour: int) -> list[Path]:
    """
    Everything in the hour's folders, of all tables and markets.
    """
    lake = root / LAKE
    found: list[Path] = []
    for table in sorted(lake.iterdir()) if lake.is_dir() else []:
        tail = partition(table.name, hour).parent.relative_to(Path(LAKE) / table.name)
        for folder in (table / tail, *(market / tail for market in sorted(table.glob("market=*")))):
            if folder.is_dir():
                found += sorted(path for path in folder.iterdir() if not path.is_dir())
    return found
