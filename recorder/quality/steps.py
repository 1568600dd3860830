"""
Book streams, step by step: each book's time against the cadence, for missed ticks, late books and stepped clocks. Pure.

Ticks that are missed one after another may be a slower cadence (`slowing`); what is found goes by way of `telling`.
"""

from itertools import pairwise

from recorder.quality import cadence, hindsight, lateness, slots
from recorder.quality.cadence import MS, NEVER
from recorder.quality.findings import Findings
from recorder.quality.flows import Flows
from recorder.quality.paces import Paces
from recorder.quality.slowing import DOUBT_NS, Slowing
from recorder.quality.state import FlowState
from recorder.quality.telling import Telling, is_all
from recorder.quality.track import Hole, Track
from recorder.records import SECOND_NS, Flag

AHEAD_NS = 500 * MS
"""A book this much earlier than any before it, by its own clock, came by another clock."""
SKEWED_NS = SECOND_NS
"""A smaller step of the publisher's clock is not told of."""
STEPPED = 3
"""Books in a row by another clock: it has stepped."""
USELESS = 16
"""Books in a row whose clock fits nothing: it is of no use."""
SKEW_MS = (-2_000, 10_000)
"""The clocks agree if books seem to take a time between these."""
SKEW_KEPT_NS = 600 * SECOND_NS
"""A clock that is off for so long is told of once, and then taken as it is."""
_BACKLOG, _FIRST_AFTER_GAP = Flag.BACKLOG.value, Flag.FIRST_AFTER_GAP.value


class Steps:
    """
    Judges the books of all tracks.
    """

    def __init__(self, flows: Flows, telling: Telling, findings: Findings, paces: Paces) -> None:
        self._flows = flows
        self._telling = telling
        self._findings = findings
        self._paces = paces
        self._slowing = Slowing(flows, telling, findings)

    # ---- ticks

    def take(self, flow: FlowState, track: Track, ts: int, slot: int | None, now: int, *, gap: int) -> int:
        """
        A book of a track, at `ts`, ms. Returns the flags its row bears.
        """
        lag = now - ts * MS
        if not track.cadence:
            if gap:
                track.early.clear()
            self._learn(flow, track, ts, slot, now)
            return 0
        base = track.base = lag if track.base is None else track.base
        if gap and track.feeds is None:
            self._paces.note(flow.stream, track, track.recv)  # it may be another one from here on
        if gap == 2:
            self._catch_pace(flow, track, now)
            self._anchor(track, ts, now, lag)
            return 0
        if ts <= track.ts or lag < base - AHEAD_NS:
            if gap:
                track.recv = now  # what lies before is a silence
            self._off_line(flow, track, ts, now, lag)
            return 0
        step = ts - track.ts
        flags = self._step(flow, track, ts, slot, now, gap=gap)
        late = lag - base
        if late < 0:
            track.base = lag
        elif late > lateness.LATE_NS or track.late_since:
            flags |= self._late(flow, track, now, late)
        track.ts, track.recv = ts, now
        track.strays = track.useless = track.alt_count = 0
        self._slowing.judge(flow, track, step, now)
        return flags

    def _anchor(self, track: Track, ts: int, now: int, lag: int) -> None:
        """
        The first book after an outage: what lies between, the outage tells.
        """
        track.ts, track.recv, track.anew = ts, now, True
        track.whole = track.unbroken = ts
        track.strays = track.alt_count = track.odd = 0
        base = track.base
        # It may be another server, or another publisher, with another clock.
        track.base = lag if base is None or not base - AHEAD_NS <= lag <= base + lateness.LATE_NS else min(base, lag)
        track.lag_min = NEVER

    def _catch_pace(self, flow: FlowState, track: Track, now: int) -> None:
        """
        The first book after an outage: the cadence may have changed meanwhile, and other connections know it.
        """
        others = [o.track for o in self._flows.of_run(flow.run) if o is not flow and o.track is not None and o.up]
        paces = sorted((t.cadence, t.spread) for t in others if t.cadence and t.paced > track.recv and not t.anew)
        if paces and paces[-1][0] * 20 <= paces[0][0] * 21 and abs(paces[0][0] - track.cadence) * 7 > track.cadence:
            self._slowing.change(track, paces[len(paces) // 2][0], now, spread=paces[len(paces) // 2][1])

    def _step(self, flow: FlowState, track: Track, ts: int, slot: int | None, now: int, *, gap: int) -> int:
        """
        A book that is later than the one before by the publisher's clock.
        """
        flags, step = 0, ts - track.ts
        tardy = cadence.tardy(track) if step > track.high else 0
        missed = 0 if gap else cadence.missed(track, step + tardy, now)
        if track.holes:
            cadence.catch_up(track, ts)
        if not gap and not track.strays and step <= cadence.MAX_STEP_MS:
            track.ring.append(step)
        else:
            track.whole = track.unbroken = ts
        if missed:
            late = cadence.lateness(track)
            held = late > lateness.LATE_NS
            start = track.recv - (late if held else 0)
            left_slot = flow.last_slot if is_all(flow, track) else track.slot
            hole = Hole(start, now, track.ts - tardy, ts, missed, step, left_slot, slot, late=held)
            # Off by either: the book before was late, or it was not.
            hole.off_ms = min(cadence.off_grid(step + tardy, track.cadence), cadence.off_grid(step, track.cadence))
            hole.anew = track.anew
            track.holes.append(hole)
            track.odd += 1
            if track.odd <= cadence.STREAK and not self._flows.heard_by_another(flow, ts - track.high):
                flags = _FIRST_AFTER_GAP
            self._slowing.follow(flow, track, ts, now)
        else:
            if track.doubt:
                for hole in track.holes:
                    hole.doubted = True
            track.odd = track.alone = track.doubt = 0
            if track.anew and not gap and step <= track.high:
                track.kept, track.held = now, 0
            # A stored copy comes late, so that there is no time for a hole after it: a longer step keeps to nothing.
            track.anew = bool(gap) or (track.anew and step > track.high)
        if step <= track.calm_low and not track.holes and (track.watch is None or not track.watch.backs):
            # Short steps follow on late ones; most of the last ones are another cadence.
            last = track.ring[-2 * cadence.STREAK :]
            if len(last) == 2 * cadence.STREAK and sum(s <= track.calm_low for s in last) >= cadence.STREAK:
                steps, track.ring = track.past + track.ring, last
                self.compare(flow, track, steps, now, until=ts)
                self.relearn(flow, track, now, steps, until=ts)
                # Others may have lost a book just then.
                track.past = steps[-cadence.BLOCK : -len(last)]
        return flags

    # ---- learning

    def _learn(self, flow: FlowState, track: Track, ts: int, slot: int | None, now: int) -> None:
        """
        The first books tell the cadence; then they are gone through once more, for holes among them.
        """
        if ts <= track.ts and track.early:
            track.useless += 1
            if track.useless >= USELESS:
                self._stop_listening(track)
            if track.useless >= USELESS or ts == track.ts:
                return
            # The publisher's clock has stepped: begin anew.
            track.early.clear()
        track.ts, track.recv = ts, now
        track.early.append((ts, now, slot if slot is not None else 0))
        if len(track.early) <= cadence.FEWEST:
            return
        early, track.early = track.early, []
        steps = [b[0] - a[0] for a, b in pairwise(early)]
        track.base = min(recv - at * MS for at, recv, _ in early)
        self._begin(flow, track, *cadence.rhythm(steps), now)
        if not SKEW_MS[0] * MS < track.base < SKEW_MS[1] * MS:
            track.skew_since = track.skew_since or early[0][1]
        # A stored copy may be the first of them; it is much older than it should be.
        first = next(i for i, (at, recv, _) in enumerate(early) if recv - at * MS - track.base <= lateness.LATE_NS)
        track.ts, track.recv, _ = early[first]
        # What the pace was before, nobody knows.
        track.whole = track.unbroken = track.ts
        track.told, track.anew = 0, True
        if first and (gone := (track.recv - early[first - 1][1]) // MS - track.allow) > track.cadence:
            words = f"none for {gone / 1e3:.1f} s after a stored copy, where one comes each {track.cadence} ms"
            found = ("cadence_hole", early[first - 1][1], track.recv, words, None, early[first][2])
            self._telling.add(flow, now, found, missing=gone // track.cadence)
        for at, recv, _ in early[first + 1 :]:
            self.take(flow, track, at, None, recv, gap=0)

    def _begin(self, flow: FlowState, track: Track, pace: int, spread: int, now: int) -> None:
        """
        Adopt what so few books tell, or what is known better: from others of the run, for markets are mostly of one
        publisher; or from before, where every second book may be lost.
        """
        others = [o.track for o in self._flows.of_run(flow.run) if o.track is not None and o.track.cadence]
        alike = [other for other in others if abs(other.cadence - pace) * 5 <= pace]
        longest = min(alike, key=lambda other: (other.paced, other.cadence, other.spread), default=None)
        recorded, before = self._flows.recorded_for(flow.run, now), self._paces.half(flow.stream, pace, now)
        same = self._paces.same(flow.stream, pace, now)
        if same is not None:
            cadence.adopt(track, same.cadence, same.spread, same.since)
        elif before is not None and (longest is None or min(now - longest.paced, recorded) <= DOUBT_NS):
            cadence.adopt(track, before.cadence, before.spread, before.since)
            track.held = before.until
        elif longest is not None and recorded >= lateness.STEADY_NS:
            cadence.adopt(track, longest.cadence, longest.spread, now)
        else:
            cadence.adopt(track, pace, spread, now)
        track.former, track.left = self._paces.former(flow.stream, track.cadence, now)

    def _stop_listening(self, track: Track) -> None:
        """
        The publisher's clock is of no use here.
        """
        track.deaf, track.base = True, 0
        track.ts = track.strays = track.useless = track.alt_count = 0
        track.early.clear()
        track.gap = 2

    def relearn(self, flow: FlowState, track: Track, now: int, steps: list[int], *, until: int) -> None:
        """
        Learn the cadence again, and look at `steps`, which end at `until`, once more if it has become faster.
        """
        old = track.cadence, track.allow
        cadence.relearn(track, now)
        self.look_back(flow, track, steps, old, now, until=until)
        if track.skew_since and now - track.skew_since > SKEW_KEPT_NS:
            self._end_skew(flow, track, now, "and has stayed so")

    def look_back(
        self, flow: FlowState, track: Track, steps: list[int], old: hindsight.Pace, now: int, *, until: int
    ) -> None:
        """
        If the cadence has become faster: holes that did not show until now.
        """
        if track.deaf or not hindsight.faster(track, old):
            return
        self._tell_found(flow, track, hindsight.missed(track, steps, old, until=until), now, passed=False)
        self.compare(flow, track, steps, now, until=until)
        track.whole = until

    def compare(
        self, flow: FlowState, track: Track, steps: list[int], now: int, *, until: int, waits: bool = False
    ) -> None:
        """
        Look for books that the other streams of the connection have, and this one, whose last steps end at `until`, has
        not.
        """
        if not track.deaf:
            found = hindsight.passed_over(track, steps, lambda: self._slowing.others(flow), until=until, waits=waits)
            self._tell_found(flow, track, found, now, passed=True)

    def _tell_found(
        self, flow: FlowState, track: Track, found: list[hindsight.Missed], now: int, *, passed: bool
    ) -> None:
        """
        Holes that were found afterwards; `passed`: for another stream had books meanwhile.
        """
        base = track.base or 0
        for left, right, missing, pace in found:
            if right > track.told and not any(hole.right_ts == right for hole in track.holes):
                start, end = left * MS + base, min((right + track.allow) * MS + base, now)
                hole = Hole(start, end, left, right, missing, right - left)
                hole.passed = missing if passed else 0
                self._telling.hole(flow, track, hole, now, pace=pace)

    # ---- the publisher's clock

    def _off_line(self, flow: FlowState, track: Track, ts: int, now: int, lag: int) -> None:
        """
        A book whose time does not follow: a repeat, another feed's, or the publisher's clock has stepped.
        """
        track.useless += 1
        if track.useless >= USELESS:
            self._stop_listening(track)
            return
        if ts == track.ts or (track.alt_count and ts == track.alt_ts):
            return
        follows = track.alt_count and 0 < ts - track.alt_ts <= 3 * track.cadence
        track.alt_count = track.alt_count + 1 if follows else 1
        # The first of them may have been taken for a stored copy.
        track.strays = max(track.strays + 1, track.alt_count)
        if track.alt_count == 1:
            track.alt_since = now
        track.alt_ts = ts
        if track.alt_count < STEPPED:
            return
        before = track.base or 0
        pace = self._slowing.pace_of_all(flow, track)
        if pace is not None:
            self._slowing.slow_down(flow, track, pace, now, holes=track.odd)
        for hole in track.holes:
            self._telling.hole(flow, track, hole, now)
        track.holes.clear()
        # Only our own clock tells how many were missed meanwhile.
        passed = (track.alt_since - track.recv) // MS
        missed = (passed + track.allow) // track.cadence - 1 - (track.strays - track.alt_count)
        if missed > 0:
            words = (
                f"{passed} ms between two books, where one comes each {track.cadence} ms; the publisher's clock stepped"
            )
            found = ("cadence_hole", track.recv, track.alt_since, words, None, None)
            self._telling.add(flow, now, found, missing=missed)
        if abs(lag - before) >= SKEWED_NS:
            self._skewed(flow, track, before, lag, now)
        track.ts, track.recv, track.base, track.lag_min = ts, now, lag, NEVER
        track.whole = track.unbroken = ts
        track.told = 0
        track.strays = track.useless = track.alt_count = track.odd = 0

    def _skewed(self, flow: FlowState, track: Track, before: int, lag: int, now: int) -> None:
        if track is not flow.track:
            return  # the first of two feeds tells
        if track.skew_since and abs(lag - track.skew_ref) < AHEAD_NS:
            track.base = before
            self._end_skew(flow, track, now, "until it came right", end=track.alt_since)
        elif not track.skew_since:
            track.skew_since, track.skew_ref = track.recv, before
            words = f"{flow.stream.label()}: the publisher's clock stepped by {(before - lag) / 1e9:+.1f} s"
            self._findings.opening(words)

    def _end_skew(self, flow: FlowState, track: Track, now: int, how: str, *, end: int | None = None) -> None:
        if track is flow.track:
            self._telling.add(flow, now, self.skew(track, now if end is None else end, how))
        track.skew_since = track.skew_ref = 0

    def skew(self, track: Track, end: int, how: str) -> slots.Words:
        """
        The publisher's clock is off, up to `end`.
        """
        off = (track.skew_ref - (track.base or 0)) / 1e9
        return "clock_skew", track.skew_since, end, f"`ts` was {off:+.1f} s off, {how}", 0, 0

    def _late(self, flow: FlowState, track: Track, now: int, late: int) -> int:
        if not track.late_since and track is flow.track:
            self._findings.opening(f"{flow.stream.label()}: books are late by {late / 1e9:.1f} s")
        was_late = track.late_since
        for found in lateness.follow(track, late, now):
            if track is flow.track:
                self._telling.add(flow, now, found, late=track.late_first)
        return _BACKLOG if track.late_since or (was_late and late > lateness.CAUGHT_UP_NS) else 0
