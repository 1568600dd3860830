"""
What was heard, raw, each frame once: the journal of all runs merged, without what another connection had brought
before. The same choice as the seal's, so that each row of the lake has its frame here.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from recorder.journal.reader import Damage, read_merged, segments
from recorder.lake import layout
from recorder.quality.pairing import PAIRING_WINDOW_NS, Pairing
from recorder.records import Entry, EntryKind
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
