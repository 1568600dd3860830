"""
Slower cadences: books that come later and later, or half as many, and what of the holes among them is left. Pure.
"""

from statistics import median_low

from recorder.quality import cadence, hindsight, lateness
from recorder.quality.cadence import is_near
from recorder.quality.findings import Findings
from recorder.quality.flows import Flows
from recorder.quality.state import FlowState
from recorder.quality.telling import Telling, is_all, is_undecided, sister_of
from recorder.quality.track import Hole, Track
from recorder.records import SECOND_NS

DOUBT_NS = 30 * SECOND_NS
"""How long half of the books is waited for, before it is believed that no more will come."""
MAX_HELD = 256
"""Holes that wait for that, at most."""


class Slowing:
    """
    Judges the holes that wait in a track: ticks that were missed, or a slower cadence.
    """

    def __init__(self, flows: Flows, telling: Telling, findings: Findings) -> None:
        self._flows = flows
        self._telling = telling
        self._findings = findings

    def follow(self, flow: FlowState, track: Track, ts: int, now: int) -> None:
        """
        Ticks are missed one after another: perhaps that is the cadence now. If its neighbours have it too, it is.
        """
        if track.odd < cadence.STREAK:
            return
        pace = cadence.slower(track)
        if pace is None:
            if track.odd >= 2 * cadence.STREAK and not track.doubt:
                track.alone = track.alone or now
            return
        if track.alone and now - track.alone > lateness.STEADY_NS:
            self.change(track, pace, now)
            return
        if track.doubt:
            if now - track.doubt > DOUBT_NS or len(track.holes) > MAX_HELD:
                if is_all(flow, track):
                    # It is believed from here on; that no book was lost until then, nothing proves.
                    for hole in track.holes:
                        self._telling.hole(flow, track, hole, now)
                    track.holes.clear()
                self.slow_down(flow, track, pace, now, holes=track.odd, until=ts)
            return
        others = self.others(flow)
        if (sister := sister_of(flow, track)) is not None:
            if sister.odd < cadence.STREAK - 1 and abs(sister.cadence - pace) * 5 > pace:
                # The other of two feeds keeps the old pace.
                track.alone = track.alone or now
                return
            others.append(sister)
        with_it = self._with_it(others, pace, cadence.STREAK - 1)
        if not with_it and track.odd == cadence.STREAK and self._with_it(others, pace, cadence.STREAK - 2):
            return  # it had missed one more before: the next book tells
        if not with_it:
            track.alone = track.alone or now
            return
        track.alone = 0
        if self._is_every_second(track, pace, now):
            hindsight.pass_on(track, self.others(flow))
            track.doubt = now
            return
        self.slow_down(flow, track, pace, now, holes=track.odd, until=ts)

    @staticmethod
    def _with_it(others: list[Track], pace: int, odd: int) -> bool:
        """
        Whether no more streams speak against a slower pace than have it, or have missed so many ticks in a row.
        """
        has = [other.odd >= odd or cadence.comes_each(other, pace) for other in others]
        # One that has kept to nothing since an outage does not speak against it.
        return sum(has) >= sum(not (with_it or other.anew) for other, with_it in zip(others, has, strict=True))

    def pace_of_all(self, flow: FlowState, track: Track) -> int | None:
        """
        The slower cadence that all its neighbours have learned, if a stream's last steps, too few to tell one by
        themselves, are all of it.
        """
        steps, others = track.ring[-track.odd :], self.others(flow)
        if not track.odd or not steps or not others:
            return None
        pace = median_low([other.cadence for other in others])
        alike = is_near(pace, max(o.cadence for o in others)) and is_near(pace, min(o.cadence for o in others))
        slower = 4 * pace > 5 * track.cadence and not is_near(pace, 2 * track.cadence)
        return pace if alike and slower and all(is_near(pace, step) for step in steps) else None

    def slow_down(
        self, flow: FlowState, track: Track, pace: int, now: int, *, holes: int, until: int | None = None
    ) -> None:
        """
        The cadence is a slower one, and has been since the first of the last `holes`: of them, those are left that miss
        whole ticks of it as well, up to the book at `until`. One that is too short for the new cadence is of the old
        one, and where others had books meanwhile those are missing.
        """
        first = max(len(track.holes) - holes, 0)
        earlier, late = track.holes[:first], track.holes[first:]
        hindsight.pass_on(track, self.others(flow))
        before = [hole for hole in late if hole.passed or _is_before(track, hole, pace)]
        for hole in before:
            hole.missing = hole.passed or hole.missing
            self._telling.hole(flow, track, hole, now)
            late.remove(hole)
        self.change(track, pace, now)
        changed, until = late[0] if late else None, track.ts if until is None else until
        still = [hole for hole in late if cadence.misses_still(track, hole, until, first=hole is changed)]
        track.holes = earlier + still

    def _is_every_second(self, track: Track, pace: int, now: int) -> bool:
        """
        Just half as many books as there were for a while: a slower publisher, or every second one is lost, or all of
        one of two feeds.
        """
        if cadence.may_return(track, pace, now):
            return False  # as it was before
        return now - track.paced > cadence.CRISP_NS and cadence.is_twice(track, pace)

    def change(self, track: Track, pace: int, now: int, *, spread: int | None = None) -> None:
        """
        Another cadence, each `pace` ms, is kept to from here on.
        """
        self._findings.opening(f"books come each {pace} ms, no more each {track.cadence} ms")
        cadence.adopt(track, pace, track.spread if spread is None else spread, now)
        track.ring.clear()
        track.past, track.whole = [], track.ts
        track.odd = track.alone = track.doubt = 0

    def judge(self, flow: FlowState, track: Track, step: int, now: int) -> None:
        """
        After each book, that came `step` ms after the one before: tell of the holes that no other cadence explains.
        """
        # Some paces are too slow for the one that is known, and not slow enough to miss two of its ticks.
        between = track.high < step < 2 * track.cadence - track.allow
        if not track.odd and (track.holes or between):
            pace = cadence.slower(track)
            if pace is not None and self._with_it(self.others(flow), pace, cadence.STREAK - 1):
                # Books that are all late are no holes but another cadence.
                self.slow_down(flow, track, pace, now, holes=len(track.holes))
        pairs = cadence.slower_pairs(track) if track.holes else None
        # Where there never were two, and steps are even, one of two feeds may be gone: the holes are its books.
        one = flow.track is not None and flow.track.feeds is None
        if pairs is not None and not (one and cadence.slower(track) is not None):
            track.holes.clear()
            self.change(track, pairs[0], now, spread=pairs[1])
        if track.holes and track.holes[0].anew and not track.odd:
            self._judge_anew(flow, track)
        if track.holes and not is_undecided(flow):
            for hole in cadence.ripe(track, track.ts):
                self._telling.hole(flow, track, hole, now)

    def _judge_anew(self, flow: FlowState, track: Track) -> None:
        """
        Holes one after another from an outage on, all alike: while nothing was heard the pace had become a slower one,
        and has become the old one again. Unless others kept to that all the while, nothing tells it from books lost:
        where just every second one may be, that is said, and no other loss is so even.
        """
        anew = [hole for hole in track.holes if hole.anew]
        steps = [hole.step_ms for hole in anew]
        if len(steps) > 2 and 4 * steps[-1] < 5 * steps[-2]:
            steps.pop()  # in which it became the old one again
        alike = len(steps) > 1 and (max(steps) - min(steps)) * 10 <= min(steps)
        others = [
            other
            for other in self.others(flow)
            if not other.anew and not other.odd and (other.feeds is None or other.feeds.before is None)
        ]
        if alike and not any(other.kept < anew[-1].start for other in others):
            halved = is_near(median_low(steps), 2 * track.cadence)
            track.holes = [hole for hole in track.holes if halved or not hole.anew]
            for hole in anew:
                hole.doubted = True
        for hole in track.holes:
            hole.anew = False

    def others(self, flow: FlowState) -> list[Track]:
        """
        Of the other book streams of the connection that speak.
        """
        return [
            other.track
            for other in self._flows.of_connection(flow.run, flow.connection)
            if other is not flow and other.track is not None and other.track.cadence and not other.silent
        ]


def _is_before(track: Track, hole: Hole, pace: int) -> bool:
    """
    Whether a hole lies before the cadence became a slower one: no step of that is so short, and it is whole ticks of
    the one that is known so far.
    """
    return 8 * hole.step_ms < 7 * pace and 8 * cadence.off_grid(hole.step_ms, track.cadence) <= track.cadence
