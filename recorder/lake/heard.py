"""
What was heard, raw, each frame once: the journal of all runs merged, without what another connection had brought
before. The same choice as the seal's, so that each row of the lake has its frame here.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from recorder.journal.names import parse_segment_name
from recorder.journal.reader import Damage, read_merged, segments
from recorder.lake import layout, manifest
from recorder.quality.pairing import PAIRING_WINDOW_NS, Pairing
from recorder.records import HOUR_NS, Entry, EntryKind
from recorder.venue.protocol import FrameKind, Peek, peek


def frames(
    root: Path, first: int, last: int, *, copies: bool = False, on_damage: Callable[[Damage], None] | None = None
) -> Iterator[tuple[Entry, Peek]]:
    """
    Frames received in `[first, last)` in order of (`recv_ts`, run, seq), and what each is.

    Args:
        root: a data root.
        first: ns.
        last: ns.
        copies: also what was heard again on another connection or run.
        on_damage: told of each damaged place of a segment.
    """
    pairing = Pairing()
    found = segments(root / layout.JOURNAL)
    for entry in read_merged(found, start=first - PAIRING_WINDOW_NS, end=last, on_damage=on_damage):
        if entry.kind == EntryKind.FACT:
            pairing.fact(entry)
            continue
        if entry.kind != EntryKind.FRAME:
            continue
        seen = peek(entry.payload)
        if seen.kind == FrameKind.DATA and not copies:
            duplicate, _ = pairing.frame(entry, seen)
            if duplicate:
                continue
        if entry.recv_ts >= first:
            yield entry, seen


def present(root: Path) -> set[tuple[str, str]]:
    """
    Run and name of each segment that is there; of an open one, the name that it closes under.
    """
    return {(segment.run, segment.name.removesuffix(".open")) for segment in segments(root / layout.JOURNAL)}


def sources(root: Path, hour: int) -> set[tuple[str, str]]:
    """
    Run and name of the segments that hold what a published hour was sealed from; those around it, which only helped to
    judge it, left out.
    """
    found = manifest.read(root, hour)
    if found is None:  # withdrawn this moment, to be replaced
        return set()
    return {(of.run, of.name) for of in found.inputs if hour_of_segment(of.name) == hour}


def gone(root: Path, first: int, last: int) -> list[int]:
    """
    Published hours that `[first, last)` touches and that `frames` has not all of: segments they were sealed from are
    not there any more, or nobody knows which those were.
    """
    there = present(root)
    hours = (hour for hour in manifest.hours(root) if first < hour + HOUR_NS and hour < last)
    return [hour for hour in hours if _is_unlisted(root, hour) or not sources(root, hour) <= there]


def _is_unlisted(root: Path, hour: int) -> bool:
    """
    Whether an hour's manifest was made again from its files alone, which `repair` does only where its journal is gone.
    """
    found = manifest.read(root, hour)
    return found is not None and not found.inputs and bool(found.richer)


def hour_of_segment(name: str) -> int | None:
    """
    ns; None where the name is of no segment.
    """
    parsed = parse_segment_name(name)
    return None if parsed is None else layout.hour_of(parsed[0])
