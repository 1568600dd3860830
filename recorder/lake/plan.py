"""
Which hours are to be sealed: decided from names, locks and manifests. Pure.
"""

import msgspec

from recorder.journal.reader import SegmentFile, in_window
from recorder.lake.layout import hour_of
from recorder.lake.manifest import Manifest
from recorder.records import HOUR_NS, SECOND_NS

LOOK_BACK_NS = 120 * SECOND_NS
"""Entries before the hour that pair with frames of it."""
LOOK_AHEAD_NS = 60 * SECOND_NS
"""Entries after the hour that judge what it left open."""


class RunEnd(msgspec.Struct, frozen=True):
    """
    How far a run's journal reaches.
    """

    run: str
    last_ts: int
    """`recv_ts` of its last committed entry."""
    alive: bool
    """Its lock is held."""


def window(found: list[SegmentFile], hour: int) -> list[SegmentFile]:
    """
    The segments an hour is made from.
    """
    return in_window(found, hour - LOOK_BACK_NS, hour + HOUR_NS + LOOK_AHEAD_NS)


class Windows:
    """
    The windows of many hours: each looks at the segments of its own hour and of those beside it, and at no others.
    """

    def __init__(self, found: list[SegmentFile]) -> None:
        self._of_hour: dict[int, list[SegmentFile]] = {}
        for segment in found:
            self._of_hour.setdefault(hour_of(segment.start), []).append(segment)

    def __call__(self, hour: int) -> list[SegmentFile]:
        """
        As `window` of all that was found.
        """
        beside = (hour - HOUR_NS, hour, hour + HOUR_NS)
        return window(sorted(segment for at in beside for segment in self._of_hour.get(at, ())), hour)


def closed_until(ends: list[RunEnd], *, wall: int) -> int:
    """
    No entry before this instant (ns) can still come.

    An hour is closed when every run that holds its lock has an entry 60 s past it. Where no run is alive the wall clock
    decides, so that a recorder that comes back in the same hour continues it.
    """
    return min([wall, *(end.last_ts for end in ends if end.alive)])


def hours_on_record(found: list[SegmentFile], ends: list[RunEnd]) -> list[int]:
    """
    Every hour from the first segment to the last entry, also those in which no recorder ran.
    """
    if not found:
        return []
    first = hour_of(min(segment.start for segment in found))
    last = hour_of(max(end.last_ts for end in ends))
    return list(range(first, last + 1, HOUR_NS))


def is_sealed(manifest: Manifest | None, inputs: list[SegmentFile], before: Manifest | None) -> bool:
    """
    Whether an hour's manifest is complete, lists all its segments, and was made from the carry there is.
    """
    if manifest is None or not manifest.complete:
        return False
    listed = {(i.run, i.name) for i in manifest.inputs}
    if any((s.run, s.name.removesuffix(".open")) not in listed for s in inputs):
        return False
    return before is None or manifest.carry_in == before.carry_out


def due(
    hours: list[int],
    found: list[SegmentFile],
    manifests: dict[int, Manifest],
    *,
    until: int,
) -> list[int]:
    """
    The closed hours that are not sealed, oldest first. An hour after one of them is due as well: its carry will change.

    An hour some of whose journal has expired is never due: what was made from it cannot be made again.
    """
    present = {(s.run, s.name.removesuffix(".open")) for s in found}
    windows = Windows(found)
    unsealed: list[int] = []
    for hour in hours:
        if hour + HOUR_NS + LOOK_AHEAD_NS > until:
            break
        made = manifests.get(hour)
        if made is not None and made.complete and any((i.run, i.name) not in present for i in made.inputs):
            continue
        if (unsealed and unsealed[-1] == hour - HOUR_NS) or not is_sealed(
            made, windows(hour), manifests.get(hour - HOUR_NS)
        ):
            unsealed.append(hour)
    return unsealed
