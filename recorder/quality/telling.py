"""
What is found in one book stream, on its way to `spells`, which tells whether its neighbours had the same. Pure.
"""

from recorder.quality import cadence, feeds, slots
from recorder.quality.flows import Flows
from recorder.quality.spells import DOUBTED, TARDY, Spells
from recorder.quality.state import FlowState, Stretch
from recorder.quality.track import Hole, Track

STOOD_STILL_MS = 1000
"""A publisher whose timer stands still for this long is slow; for longer, it was down."""


class Telling:
    """
    Puts findings into words and bounds.
    """

    def __init__(self, flows: Flows, spells: Spells) -> None:
        self._flows = flows
        self._spells = spells

    def hole(self, flow: FlowState, track: Track, hole: Hole, now: int, *, pace: int = 0) -> None:
        """
        Tell of missed ticks. Where two feeds cannot be told apart nothing is sure: that they alternate is told there.

        Args:
            flow: whose.
            track: of which.
            hole: between two of its books.
            now: the time of the last entry, ns.
            pace: the cadence it was judged by, ms, if that is not the one there is now.
        """
        if is_undecided(flow, believed=True):
            return
        two, sister = flow.track.feeds if flow.track is not None else None, sister_of(flow, track)
        if two is not None and sister is not None and feeds.took_over(track, sister, hole):
            # It is that feed which has come on, late by part of a tick: of the other one nothing has been heard since.
            for other in sister.holes:
                self.hole(flow, sister, other, now)
            feeds.exchange(two, track, sister, hole)
            if hole.missing <= 0:
                return
        if two is not None and sister is not None and feeds.stands_in(two, track, sister, hole):
            return
        track.told = max(track.told, hole.right_ts)
        off, late = "", int(hole.late)
        if cadence.was_late(track, hole):
            off = "; those after it came off the old grid: the publisher began anew"
            late = TARDY if hole.step_ms - track.cadence <= STOOD_STILL_MS else late
        doubt = "; or books come half as often now" if track.doubt else ""
        if hole.doubted:
            doubt = "; or books came half as often until then"
        if not is_all(flow, track):
            doubt += "; of one of two feeds"
        usual = f"another market had {hole.passed}" if hole.passed else f"one comes each {pace or track.cadence} ms"
        words = f"{hole.step_ms} ms between two books, where {usual}{off}{doubt}"
        self.add(
            flow,
            now,
            ("cadence_hole", hole.start, hole.end, words, hole.left_slot, hole.right_slot),
            missing=hole.missing,
            late=DOUBTED if track.doubt or hole.doubted else late,
        )

    def tell(self, flow: FlowState, now: int, found: list[slots.Words]) -> None:
        """
        What has ended.
        """
        for words in found:
            self.add(flow, now, words)

    def add(self, flow: FlowState, now: int, found: slots.Words, *, missing: int | None = None, late: int = 0) -> None:
        """
        A finding, for `spells` to compare.
        """
        self._spells.add(self.stretch(flow, now, found, missing=missing, late=late))

    def stretch(
        self, flow: FlowState, now: int, found: slots.Words, *, missing: int | None = None, late: int = 0
    ) -> Stretch:
        """
        A finding as `spells` takes it.
        """
        kind, start, end, words, first, last = found
        # By a publisher's clock that leapt, what was due seems to have been due long ago.
        start = max(start, now - self._flows.recorded_for(flow.run, now))
        return Stretch(
            kind=kind,
            run=flow.run,
            connection=flow.connection,
            stream=flow.stream,
            start=start,
            end=max(start, end),
            added=now,
            words=words,
            missing=missing,
            first_slot=first or None,
            last_slot=last or None,
            late=late,
        )


def is_all(flow: FlowState, track: Track) -> bool:
    """
    Whether a track is all there is of its stream.
    """
    return track is flow.track and (track.feeds is None or track.feeds.second is None)


def sister_of(flow: FlowState, track: Track) -> Track | None:
    """
    The track of the other of two feeds.
    """
    if flow.track is None or flow.track.feeds is None:
        return None
    return flow.track.feeds.second if track is flow.track else flow.track


def is_undecided(flow: FlowState, *, believed: bool = False) -> bool:
    """
    Whether two feeds alternate, or may (unless `believed`), and are not told apart yet.
    """
    two = flow.track.feeds if flow.track is not None else None
    return two is not None and two.before is not None and (two.believed or not believed)
