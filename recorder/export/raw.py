"""
The journal as text: a line `recv_ns frame` for each frame, as it came.

A frame is the venue's JSON, which has no line breaks of its own; one that has some (legal between members, or no JSON
at all) gets blanks in their place, and bytes that are no UTF-8 stay as they are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from recorder.errors import RecorderError
from recorder.journal.reader import Damage
from recorder.lake.heard import frames, gone
from recorder.lake.layout import hour_label
from recorder.venue.protocol import FrameKind, Peek

_BREAKS = bytes.maketrans(b"\r\n", b"  ")


class Told(msgspec.Struct):
    """
    What there is to say of what was written.
    """

    lines: int = 0
    broken: int = 0
    """Frames whose line breaks became blanks."""
    damaged: list[Damage] = []


def write(
    root: Path, first: int, last: int, to: BinaryIO, *, indices: set[tuple[str, int]] | None, copies: bool, all_: bool
) -> Told:
    """
    Frames received in `[first, last)`, in order of receipt.

    Args:
        root: a data root whose journal still holds the range.
        first: ns.
        last: ns.
        to: where to.
        indices: (market type, index) of the wanted markets; None: every frame.
        copies: also what further connections heard of the same.
        all_: also acknowledgements, errors and heartbeats, and what is no frame of the venue's.

    Raises:
        RecorderError: of an hour that the range touches some of the journal is gone: lines would be missing, unsaid.
    """
    lost = gone(root, first, last)
    if lost:
        more = f" and of {len(lost) - 1:,} more up to {hour_label(lost[-1])}" if len(lost) > 1 else ""
        raise RecorderError(
            f"{root}: the journal of {hour_label(lost[0])}{more} is gone, or not all there; give a range without "
            "(`--from`, `--to`). Books and trades are exported from the sealed files, and `replay` rebuilds frames"
        )
    told = Told()
    for recv_ts, payload in _wanted(root, first, last, told, indices=indices, copies=copies, all_=all_):
        line = payload
        if b"\n" in payload or b"\r" in payload:
            line = payload.translate(_BREAKS)
            told.broken += 1
        to.write(b"%d %b\n" % (recv_ts, line))
        told.lines += 1
    return told


def _wanted(
    root: Path,
    first: int,
    last: int,
    told: Told,
    *,
    indices: set[tuple[str, int]] | None,
    copies: bool,
    all_: bool,
) -> Iterator[tuple[int, bytes]]:
    for entry, seen in frames(root, first, last, copies=copies, on_damage=told.damaged.append):
        if _is_wanted(seen, indices) or (all_ and seen.channel is None):
            yield entry.recv_ts, entry.payload


def _is_wanted(seen: Peek, indices: set[tuple[str, int]] | None) -> bool:
    if seen.kind != FrameKind.DATA or seen.channel is None:
        return False
    return indices is None or (seen.channel.market_type, seen.channel.market_index) in indices
