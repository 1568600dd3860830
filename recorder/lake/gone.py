"""
What has gone from a root and is not on record: journal of sealed hours, and rows of the lake.

What a recorder removes by rule it puts on record itself. `drift-recorder retention` and people remove things while none
is at work. So a note beside the journal says up to where all that had gone was on record, and what was still there
before that; whatever the manifests list beyond it, and is not there, is told at the next seal. The note is replaced
only when what was told is committed: a crash in between has it told twice, never not at all.
"""

from pathlib import Path

import msgspec

from recorder import durable
from recorder.journal.names import parse_segment_name
from recorder.journal.reader import segments
from recorder.lake import manifest as manifests
from recorder.lake.layout import GONE, JOURNAL, hour_label, manifest_path
from recorder.lake.manifest import Manifest
from recorder.lake.removal import Removal
from recorder.lake.root import seal_lock
from recorder.records import HOUR_NS

ON_RECORD = "on record: "
"""Before the note, in what a seal in the background says."""


class Reach(msgspec.Struct, frozen=True):
    """
    How far it is on record what has gone.
    """

    until: int = 0
    """ns: of what begins before this …"""
    kept: list[str] = []
    """… these were still there: segments as `run/name`, or hours."""


class OnRecord(msgspec.Struct, frozen=True):
    """
    The note.
    """

    journal: Reach = Reach()
    lake: Reach = Reach()


def look(root: Path, *, told: list[Removal]) -> tuple[list[Removal], bytes]:
    """
    What has gone since the note was written and is not in `told`, and the note as it is to be then.

    A root without a note is of an earlier version, or new: what has gone from it until now was told, or never was here.

    Args:
        root: of the data.
        told: what the caller has removed since the note was written, and puts on record itself.

    Raises:
        RootBusy: a seal or verify is at work.
        DamagedFile: a manifest is not what was written.
        ForeignFile: a manifest is of a later version.
    """
    lock = seal_lock(root)
    try:
        before, written = read_note(root), _written(root)
        known = before or OnRecord()
        found = segments(root / JOURNAL)
        # Of years of manifests only those are read that may say something new: of journal that was there, and what
        # retention has replaced. An hour reads two minutes of the one before.
        first = min([known.journal.until, *map(_begin, known.journal.kept)]) - HOUR_NS
        by_hour = {
            hour: made
            for hour in manifests.hours(root)
            if hour >= first or (root / manifest_path(hour)).stat().st_mtime_ns >= written - HOUR_NS
            if (made := manifests.read(root, hour)) is not None
        }
    finally:
        lock.release()
    sizes, there = _inputs(by_hour), {f"{s.run}/{s.name.removesuffix('.open')}" for s in found}
    lost = {name for name in {*sizes, *known.journal.kept} - there if _is_news(name, _begin(name), known.journal)}
    emptied = {hour for hour, made in by_hour.items() if made.expired}
    news = {hour for hour in emptied if _is_news(hour_label(hour), hour, known.lake)}
    gone = []
    if before is not None:
        ruled = [removal for removal in told if removal.what == "journal"]
        own = {name for name in lost if any(r.first <= _begin(name) <= r.last for r in ruled)}
        if foreign := sorted(map(_begin, lost - own)):
            size = sum(sizes.get(name, 0) for name in lost - own)
            gone.append(Removal("journal", foreign[0], foreign[-1], len(foreign), size, by_rule=False))
        ruled = [removal for removal in told if removal.what == "lake"]
        if hours := sorted(h for h in news if not any(r.first <= h <= r.last for r in ruled)):
            files = [file for hour in hours for file in by_hour[hour].expired]
            size = sum(file.bytes for file in files)
            gone.append(Removal("lake", hours[0], hours[-1], len(files), size, by_rule=False))
    return gone, msgspec.json.encode(
        OnRecord(
            _reach(known.journal, {_begin(name) for name in lost}, {name: _begin(name) for name in there}),
            _reach(known.lake, news, {hour_label(h): h for h, made in by_hour.items() if not made.expired}),
        )
    )


def read_note(root: Path) -> OnRecord | None:
    """
    None if there is none, or it cannot be read: then it is begun anew.
    """
    try:
        return msgspec.json.decode(durable.read_bytes(root / JOURNAL / GONE), type=OnRecord)
    except (OSError, msgspec.DecodeError):
        return None


def write_note(root: Path, note: bytes) -> None:
    """
    Once all it says is on record.

    Raises:
        OSError: the disk.
    """
    durable.publish_bytes(root / JOURNAL / GONE, note)


def _written(root: Path) -> int:
    """
    When the note was written, ns; 0 if there is none.
    """
    try:
        return (root / JOURNAL / GONE).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _reach(known: Reach, news: set[int], there: dict[str, int]) -> Reach:
    until = max([known.until, *(begin + 1 for begin in news)])
    return Reach(until, sorted(name for name, begin in there.items() if begin < until))


def _is_news(name: str, begin: int, known: Reach) -> bool:
    return begin >= known.until or name in known.kept


def _inputs(by_hour: dict[int, Manifest]) -> dict[str, int]:
    """
    What complete hours were made from, with its bytes. What is gone of others `verify` calls a damage.
    """
    return {f"{i.run}/{i.name}": i.bytes for made in by_hour.values() if made.complete for i in made.inputs}


def _begin(name: str) -> int:
    """
    Of a segment, ns.
    """
    parsed = parse_segment_name(name.rpartition("/")[2])
    return parsed[0] if parsed is not None else 0
