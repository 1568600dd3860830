"""
Book streams, book by book: missed ticks, late books, slots and contents that stand still or step back. Pure.

The monitor asks for a second look (`take`) at every book that does not keep to what its `Track` calls usual. What is
found here is a stretch of one stream; `spells` tells whether its neighbours on the connection had the same.
"""

from collections.abc import Iterator
from itertools import pairwise

from recorder.quality import cadence, contents, hindsight, lateness, slots
from recorder.quality.cadence import MS, NEVER
from recorder.quality.findings import Findings
from recorder.quality.flows import Flows
from recorder.quality.spells import CUT_OFF, DOUBTED, TARDY, Spells
from recorder.quality.state import FlowState, Hole, Stretch, Track
from recorder.records import SECOND_NS, Flag
from recorder.venue.protocol import Peek

AHEAD_NS = 500 * MS
"""A book this much earlier than any before it, by its own clock, came by another clock."""
STORED_NS = 5 * SECOND_NS
"""After a request a stored copy may come, also after the first live book."""
STOOD_STILL_MS = 1000
"""A publisher whose timer stands still for this long is slow; for longer, it was down."""
DOUBT_NS = 30 * SECOND_NS
"""How long half of the books is waited for, before it is believed that no more will come."""
MAX_HELD = 256
"""Holes that wait for that, at most."""
CRISP_NS = 10 * SECOND_NS
"""A cadence that was so long in force can be halved."""
SKEWED_NS = SECOND_NS
"""A smaller step of the publisher's clock is not told of."""
STEPPED = 3
"""Books in a row by another clock: it has stepped."""
USELESS = 16
"""Books in a row whose clock fits nothing: it is of no use."""
MAX_TS_MS = 1 << 45
"""A publisher's time beyond this (the year 3084) is no time."""
SKEW_MS = (-2_000, 10_000)
"""The clocks agree if books seem to take a time between these."""
SKEW_KEPT_NS = 600 * SECOND_NS
"""A clock that is off for so long is told of once, and then taken as it is."""
HALF = cadence.BLOCK // 2
_BACKLOG, _FIRST_AFTER_GAP, _MAYBE_INITIAL = Flag.BACKLOG.value, Flag.FIRST_AFTER_GAP.value, Flag.MAYBE_INITIAL.value


class Tracks:
    """
    The tracks of all flows.
    """

    def __init__(self, flows: Flows, spells: Spells, findings: Findings) -> None:
        self._flows = flows
        self._spells = spells
        self._findings = findings

    # ---- book by book

    def take(self, flow: FlowState, track: Track, seen: Peek, now: int, payload: bytes) -> int:
        """
        A book that is not just as usual. Returns the flags its row bears; `flow.last` is still the book before.
        """
        gap, track.gap = track.gap, 0
        steps = len(track.ring)
        ts, slot = seen.ts, seen.slot
        if ts is None or not 0 < ts < MAX_TS_MS or track.deaf:
            ts = (now - (track.base or 0)) // MS
        if flow.asked and self._is_older(flow, track, ts, slot, now, gap=gap):
            flow.asked = 0
            track.gap = gap
            self.calm(track)
            return _MAYBE_INITIAL
        self._slot(flow, track, slot, now, gap=gap)
        flags = self._clock(flow, track, ts, slot, now, gap=gap)
        if track.content_frozen or (len(track.ring) > steps and not len(track.ring) & 3):
            self.sample(flow, track, now, payload)
        self.calm(track)
        return flags

    def sample(self, flow: FlowState, track: Track, now: int, payload: bytes) -> None:
        """
        Each few books: look at the content, and learn the cadence again if there are enough steps.
        """
        frozen = track.content_frozen
        self._tell(flow, now, contents.look(track, payload, now))
        if track.content_frozen and not frozen:
            self._findings.opening(f"{flow.stream.label()}: its content stands still")
            self.calm(track)
        count = len(track.ring)
        if count == HALF and now - track.paced < cadence.BLOCK * track.cadence * MS:
            # The first few steps told it roughly only.
            old, steps = (track.cadence, track.allow), track.past + track.ring
            cadence.learn(track, track.ring, now)
            self._look_back(flow, track, steps, old, now, until=track.ts)
            self.calm(track)
        elif count >= cadence.BLOCK:
            self._relearn(flow, track, now, track.past + track.ring, until=track.ts)
            self.calm(track)

    def calm(self, track: Track) -> None:
        """
        Say what is usual, or that every book needs a look.
        """
        busy = (
            not track.cadence
            or track.gap
            or track.holes
            or track.late_since
            or track.watch
            or track.frozen
            or track.content_frozen
            or track.deaf
            or track.strays
            or track.alt_count
            or track.odd
            or not track.slot
        )
        track.low = NEVER if busy else track.calm_low
        base = track.base or 0
        track.lag_low, track.lag_high = base - AHEAD_NS, base + lateness.LATE_NS

    def _is_older(self, flow: FlowState, track: Track, ts: int, slot: int | None, now: int, *, gap: int) -> bool:
        """
        Whether a book is older than what came before it, soon after the request: the server's stored copy.
        """
        if now - flow.asked > STORED_NS or not track.ts or gap == 2:
            return False
        return ts <= track.ts and (slot is None or slot <= track.slot)

    def is_stored_copy(self, flow: FlowState, track: Track, seen: Peek, now: int) -> bool:
        """
        Whether a book that came in a silence or after an outage is the server's stored copy: no newer than what came
        before it or, soon after the request, older than any book is when it comes. What follows is still awaited.
        """
        if not track.ts or track.deaf or seen.ts is None:
            return False
        no_newer = seen.ts <= track.ts and (seen.slot is None or seen.slot <= track.slot)
        soon = now - flow.asked <= STORED_NS
        late = track.base is not None and now - seen.ts * MS - track.base > lateness.LATE_NS
        if flow.silent:
            # The very next one was held back on its way.
            stored = no_newer or (soon and late and seen.ts - track.ts > track.high)
        else:
            stored = soon and bool(flow.fresh & _FIRST_AFTER_GAP) and (no_newer or late)
        if stored:
            flow.asked = 0
            flow.fresh &= ~_MAYBE_INITIAL
        return stored

    def is_late(self, track: Track, seen: Peek, now: int) -> bool:
        """
        Whether a book that ends a silence is the very next by the publisher's clock: it was held back, and none is
        missing.
        """
        ts = seen.ts
        if ts is None or not track.cadence or track.base is None or track.deaf or not 0 < ts - track.ts <= track.high:
            return False
        return now - ts * MS - track.base > lateness.LATE_NS

    def _slot(self, flow: FlowState, track: Track, slot: int | None, now: int, *, gap: int) -> None:
        if slot is None:
            track.slot = track.moved = 0  # where it stands is not known
        elif gap == 2 or not track.slot:
            track.slot, track.moved = slot, now
        else:
            had_feeds = track.watch is not None and track.watch.feeds
            self._tell(flow, now, slots.follow(track, slot, now, flow.last or now))
            if gap:
                track.moved = now
            if track.watch is not None and track.watch.feeds and not had_feeds:
                self._findings.opening(f"{flow.stream.label()}: two feeds alternate")

    # ---- ticks

    def _clock(self, flow: FlowState, track: Track, ts: int, slot: int | None, now: int, *, gap: int) -> int:
        lag = now - ts * MS
        if not track.cadence:
            if gap:
                track.early.clear()
            self._learn(flow, track, ts, slot, now)
            return 0
        base = track.base = lag if track.base is None else track.base
        if gap == 2:
            self._anchor(track, ts, now, lag)
            return 0
        if ts <= track.ts or lag < base - AHEAD_NS:
            if gap:
                track.recv = now  # what lies before is a silence
            self._off_line(flow, track, ts, now, lag)
            return 0
        flags = self._step(flow, track, ts, slot, now, gap=gap)
        late = lag - base
        if late < 0:
            track.base = lag
        elif late > lateness.LATE_NS or track.late_since:
            flags |= self._late(flow, track, now, late)
        track.ts, track.recv = ts, now
        track.strays = track.useless = track.alt_count = 0
        self._judge(flow, track, ts, now)
        return flags

    def _anchor(self, track: Track, ts: int, now: int, lag: int) -> None:
        """
        The first book after an outage: what lies between, the outage tells.
        """
        track.ts, track.recv, track.whole = ts, now, ts
        track.strays = track.alt_count = track.odd = 0
        base = track.base
        # It may be another server, or another publisher, with another clock.
        track.base = lag if base is None or not base - AHEAD_NS <= lag <= base + lateness.LATE_NS else min(base, lag)
        track.lag_min = NEVER

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
            track.whole = ts
        if missed:
            late = cadence.lateness(track)
            held = late > lateness.LATE_NS
            start = track.recv - (late if held else 0)
            hole = Hole(start, now, track.ts - tardy, ts, missed, step, flow.last_slot, slot, late=held)
            hole.off_ms = cadence.off_grid(step + tardy, track.cadence)
            track.holes.append(hole)
            track.odd += 1
            if track.odd <= cadence.STREAK and not self._flows.heard_by_another(flow, ts - track.high):
                flags = _FIRST_AFTER_GAP
            self._slower(flow, track, now)
        else:
            track.odd = track.alone = track.doubt = 0
        if step <= track.calm_low and not track.holes and (track.watch is None or not track.watch.backs):
            # Short steps follow on late ones; most of the last ones are another cadence.
            last = track.ring[-2 * cadence.STREAK :]
            if len(last) == 2 * cadence.STREAK and sum(s <= track.calm_low for s in last) >= cadence.STREAK:
                steps, track.ring = track.past + track.ring, last
                self._relearn(flow, track, now, steps, until=ts)
        return flags

    def _slower(self, flow: FlowState, track: Track, now: int) -> None:
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
        if track.alone:
            if now - track.alone > lateness.STEADY_NS:
                self._change(track, pace, now)
            return
        if track.doubt:
            if now - track.doubt > DOUBT_NS or len(track.holes) > MAX_HELD:
                del track.holes[-track.odd :]
                self._change(track, pace, now)
            return
        others = [
            other.track
            for other in self._flows.of_connection(flow.run, flow.connection)
            if other is not flow and other.track is not None and other.track.cadence and not other.silent
        ]
        with_it = sum(o.odd >= cadence.STREAK - 1 or abs(o.cadence - pace) * 5 <= pace for o in others)
        if with_it * 2 < len(others):
            track.alone = now
            return
        if self._is_every_second(track, pace, now):
            track.doubt = now
            return
        del track.holes[-track.odd :]
        self._change(track, pace, now)

    def _is_every_second(self, track: Track, pace: int, now: int) -> bool:
        """
        Just half as many books as there were for a while: a slower publisher, or every second one is lost.
        """
        even = track.spread * 20 <= track.cadence and now - track.paced > CRISP_NS
        return even and abs(pace - 2 * track.cadence) * 33 <= pace

    def _change(self, track: Track, pace: int, now: int, *, spread: int | None = None) -> None:
        self._findings.opening(f"books come each {pace} ms, no more each {track.cadence} ms")
        cadence.adopt(track, pace, track.spread if spread is None else spread, now)
        track.ring.clear()
        track.past, track.whole = [], track.ts
        track.odd = track.alone = track.doubt = 0

    def _judge(self, flow: FlowState, track: Track, ts: int, now: int) -> None:
        if track.holes and not track.odd:
            pace = cadence.slower(track)
            if pace is not None:
                # Books that are all late are no holes but another cadence, if a slower one misses no whole tick.
                track.holes.clear()
                self._change(track, pace, now)
        if track.holes and (pairs := cadence.slower_pairs(track)) is not None:
            track.holes.clear()
            self._change(track, pairs[0], now, spread=pairs[1])
        if track.holes:
            for hole in cadence.ripe(track, ts):
                self._hole(flow, track, hole, now)

    def _hole(self, flow: FlowState, track: Track, hole: Hole, now: int) -> None:
        track.told = max(track.told, hole.right_ts)
        off, late = "", int(hole.late)
        if cadence.was_late(track, hole):
            off = "; those after it came off the old grid: the publisher began anew"
            late = TARDY if hole.step_ms - track.cadence <= STOOD_STILL_MS else late
        doubt = "; or books come half as often now" if track.doubt else ""
        words = f"{hole.step_ms} ms between two books, where one comes each {track.cadence} ms{off}{doubt}"
        self._add(
            flow,
            now,
            ("cadence_hole", hole.start, hole.end, words, hole.left_slot, hole.right_slot),
            missing=hole.missing,
            late=DOUBTED if track.doubt else late,
        )

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
        cadence.adopt(track, *self._known(flow, *cadence.rhythm(steps), now), now)
        if not SKEW_MS[0] * MS < track.base < SKEW_MS[1] * MS:
            track.skew_since = track.skew_since or early[0][1]
        # A stored copy may be the first of them; it is much older than it should be.
        first = next(i for i, (at, recv, _) in enumerate(early) if recv - at * MS - track.base <= lateness.LATE_NS)
        track.ts, track.recv, _ = early[first]
        track.whole, track.told = track.ts, 0
        for at, recv, _ in early[first + 1 :]:
            self._clock(flow, track, at, None, recv, gap=0)

    def _known(self, flow: FlowState, pace: int, spread: int, now: int) -> tuple[int, int]:
        """
        What so few books tell, or what others of the run tell better: markets are mostly of one publisher.
        """
        if self._flows.recorded_for(flow.run, now) < lateness.STEADY_NS:
            return pace, spread
        others = [o.track for o in self._flows.of_run(flow.run) if o.track is not None and o.track.cadence]
        alike = [track for track in others if abs(track.cadence - pace) * 5 <= pace]
        if not alike:
            return pace, spread
        longest = min(alike, key=lambda track: (track.paced, track.cadence, track.spread))
        return longest.cadence, longest.spread

    def _stop_listening(self, track: Track) -> None:
        """
        The publisher's clock is of no use here.
        """
        track.deaf, track.base = True, 0
        track.ts = track.strays = track.useless = track.alt_count = 0
        track.early.clear()
        track.gap = 2

    def _relearn(self, flow: FlowState, track: Track, now: int, steps: list[int], *, until: int) -> None:
        old = track.cadence, track.allow
        cadence.relearn(track, now)
        self._look_back(flow, track, steps, old, now, until=until)
        if track.skew_since and now - track.skew_since > SKEW_KEPT_NS:
            self._end_skew(flow, track, now, "and has stayed so")

    def _look_back(
        self, flow: FlowState, track: Track, steps: list[int], old: hindsight.Pace, now: int, *, until: int
    ) -> None:
        """
        If the cadence has become faster: holes that did not show until now.
        """
        if track.deaf or not hindsight.faster(track, old):
            return
        base = track.base or 0
        for left, right, missing in hindsight.missed(track, steps, old, until=until):
            if right > track.told and not any(hole.right_ts == right for hole in track.holes):
                start, end = left * MS + base, min((right + track.allow) * MS + base, now)
                self._hole(flow, track, Hole(start, end, left, right, missing, right - left), now)
        track.past, track.whole = [], until

    # ---- the publisher's clock

    def _off_line(self, flow: FlowState, track: Track, ts: int, now: int, lag: int) -> None:
        """
        A book whose time does not follow: a repeat, another feed's, or the publisher's clock has stepped.
        """
        track.useless += 1
        if track.useless >= USELESS:
            self._stop_listening(track)
            return
        if ts == track.ts:
            return
        track.strays += 1
        follows = track.alt_count and 0 < ts - track.alt_ts <= 3 * track.cadence
        track.alt_count = track.alt_count + 1 if follows else 1
        if track.alt_count == 1:
            track.alt_since = now
        track.alt_ts = ts
        if track.alt_count < STEPPED:
            return
        before = track.base or 0
        for hole in track.holes:
            self._hole(flow, track, hole, now)
        track.holes.clear()
        # Only our own clock tells how many were missed meanwhile.
        passed = (track.alt_since - track.recv) // MS
        missed = (passed + track.allow) // track.cadence - 1 - (track.strays - track.alt_count)
        if missed > 0:
            words = (
                f"{passed} ms between two books, where one comes each {track.cadence} ms; the publisher's clock stepped"
            )
            found = ("cadence_hole", track.recv, track.alt_since, words, None, None)
            self._add(flow, now, found, missing=missed)
        if abs(lag - before) >= SKEWED_NS:
            self._skewed(flow, track, before, lag, now)
        track.ts, track.recv, track.base, track.lag_min = ts, now, lag, NEVER
        track.whole, track.told = ts, 0
        track.strays = track.useless = track.alt_count = track.odd = 0

    def _skewed(self, flow: FlowState, track: Track, before: int, lag: int, now: int) -> None:
        if track.skew_since and abs(lag - track.skew_ref) < AHEAD_NS:
            track.base = before
            self._end_skew(flow, track, now, "until it came right", end=track.alt_since)
        elif not track.skew_since:
            track.skew_since, track.skew_ref = track.recv, before
            words = f"{flow.stream.label()}: the publisher's clock stepped by {(before - lag) / 1e9:+.1f} s"
            self._findings.opening(words)

    def _end_skew(self, flow: FlowState, track: Track, now: int, how: str, *, end: int | None = None) -> None:
        self._add(flow, now, self._skew(track, now if end is None else end, how))
        track.skew_since = track.skew_ref = 0

    def _skew(self, track: Track, end: int, how: str) -> slots.Words:
        off = (track.skew_ref - (track.base or 0)) / 1e9
        return "clock_skew", track.skew_since, end, f"`ts` was {off:+.1f} s off, {how}", 0, 0

    def own_clock_stepped(self, run: str, step_ns: int) -> None:
        """
        Our clock was set forward: from here on all books seem later.
        """
        for flow in self._flows.of_run(run):
            if flow.track is not None and flow.track.base is not None:
                flow.track.base += step_ns
                self.calm(flow.track)

    def _late(self, flow: FlowState, track: Track, now: int, late: int) -> int:
        if not track.late_since:
            self._findings.opening(f"{flow.stream.label()}: books are late by {late / 1e9:.1f} s")
        was_late = track.late_since
        for found in lateness.follow(track, late, now):
            self._add(flow, now, found, late=track.late_first)
        return _BACKLOG if track.late_since or (was_late and late > lateness.CAUGHT_UP_NS) else 0

    # ---- the clock, and ends

    def clock(self, run: str, now: int) -> None:
        """
        Time has come to `now`, as an entry of the run says.
        """
        for flow in self._flows.of_run(run):
            track = flow.track
            if track is None:
                continue
            if flow.silent or not flow.up:
                if track.holes or track.late_since or track.watch or track.frozen or track.content_frozen:
                    self.end(flow, flow.last, now)
            elif not track.frozen and slots.is_frozen(track, flow.last):
                track.frozen = track.moved
                if track.content_frozen:
                    # Told of by the slot from here on.
                    track.frozen, track.content_frozen = min(track.moved, track.content_frozen), 0
                self._findings.opening(f"{flow.stream.label()}: its slot stands still")
                self.calm(track)

    def end(self, flow: FlowState, end: int, now: int) -> None:
        """
        No more books come on this connection for now: what goes on ends at `end`, the last one.
        """
        track = flow.track
        if track is None:
            return
        for hole in track.holes:
            self._hole(flow, track, hole, now)
        track.holes.clear()
        track.early.clear()
        track.odd = track.alone = track.doubt = track.strays = track.alt_count = 0
        for found in lateness.end(track, end):
            self._add(flow, now, found, late=track.late_first)
        self._tell(flow, now, slots.end_watch(track) + slots.end_frozen(track, end))
        self._tell(flow, now, contents.end(track, end))
        self.calm(track)

    def cut_off(self, flow: FlowState, at: int) -> None:
        """
        The run has ended at `at`: books that were due by then had not come.
        """
        track = flow.track
        if track is None or not track.cadence or not flow.up or flow.silent or flow.last < flow.since:
            return
        missing = ((at - flow.last) // MS + track.allow) // track.cadence - 1
        if missing > 0:
            words = (
                f"none for {(at - flow.last) / 1e9:.1f} s before the run ended, where one comes each {track.cadence} ms"
            )
            found = ("cadence_hole", flow.last, at, words, flow.last_slot, None)
            self._add(flow, at, found, missing=missing, late=CUT_OFF)

    def lost(self, run: str, now: int) -> None:
        """
        Entries of a run are lost: no hole is judged across them.
        """
        for flow in self._flows.of_run(run):
            if flow.track is not None:
                self.end(flow, flow.last, now)
                flow.track.gap = 2
                self.calm(flow.track)

    def going_on(self, at: int) -> Iterator[Stretch]:
        """
        The stretches that go on at `at`.
        """
        for flow in self._flows.all():
            track = flow.track
            if track is None:
                continue
            if track.late_since:
                yield self._stretch(flow, at, lateness.backlog(track, at, "so far"), late=track.late_first)
            if track.watch is not None and track.watch.feeds:
                yield self._stretch(flow, at, slots.feeds(track.watch, at))
            if track.frozen:
                words = f"the slot has stood at {track.slot} for {(at - track.frozen) / 1e9:.1f} s while books come"
                yield self._stretch(flow, at, ("frozen", track.frozen, at, words, track.slot, track.slot))
            if track.content_frozen:
                yield self._stretch(flow, at, contents.still(track, at))
            if track.skew_since:
                yield self._stretch(flow, at, self._skew(track, at, "and still is"))

    def unjudged(self, at: int) -> None:
        """
        Nobody will look any more: judge the holes as they are.
        """
        for flow in self._flows.all():
            if flow.track is not None:
                for hole in flow.track.holes:
                    self._hole(flow, flow.track, hole, at)
                if flow.track.watch is not None and not flow.track.watch.feeds:
                    self._tell(flow, at, slots.end_watch(flow.track))

    # ---- findings

    def _tell(self, flow: FlowState, now: int, found: list[slots.Words]) -> None:
        for words in found:
            self._add(flow, now, words)

    def _add(self, flow: FlowState, now: int, found: slots.Words, *, missing: int | None = None, late: int = 0) -> None:
        self._spells.add(self._stretch(flow, now, found, missing=missing, late=late))

    def _stretch(
        self, flow: FlowState, now: int, found: slots.Words, *, missing: int | None = None, late: int = 0
    ) -> Stretch:
        kind, start, end, words, first, last = found
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
