"""
Book streams, book by book: the way of each through its track. Pure.

The monitor asks for a second look (`take`) at every book that does not keep to what its `Track` calls usual: `steps`
judges its time, `slots` its slot, `contents` its levels. Where two feeds alternate (`alternation`), each has a track.
"""

from collections.abc import Iterator
from itertools import pairwise

from recorder.quality import cadence, contents, feeds, lateness, slots
from recorder.quality.alternation import Alternation, both_until, count_back, tracks_of
from recorder.quality.cadence import MS, NEVER
from recorder.quality.findings import Findings
from recorder.quality.flows import Flows, in_order
from recorder.quality.paces import Paces
from recorder.quality.spells import CUT_OFF, Spells
from recorder.quality.state import FlowState, Stretch
from recorder.quality.steps import AHEAD_NS, Steps
from recorder.quality.telling import Telling
from recorder.quality.track import Feeds, Track
from recorder.records import SECOND_NS, Flag
from recorder.venue.protocol import Peek

STORED_NS = 5 * SECOND_NS
"""After a request a stored copy may come, also after the first live book."""
MAX_TS_MS = 1 << 45
"""A publisher's time beyond this (the year 3084) is no time."""
HALF = cadence.BLOCK // 2
_FIRST_AFTER_GAP, _MAYBE_INITIAL = Flag.FIRST_AFTER_GAP.value, Flag.MAYBE_INITIAL.value


class Tracks:
    """
    The tracks of all flows.
    """

    def __init__(self, flows: Flows, spells: Spells, findings: Findings, fed: dict[str, int], paces: Paces) -> None:
        """
        Args:
            flows: whose.
            spells: where findings go.
            findings: for what is told at once.
            fed: when two feeds were last heard, by stream.
            paces: what each stream kept to.
        """
        self._flows = flows
        self._findings = findings
        self._paces = paces
        self._telling = Telling(flows, spells)
        self._steps = Steps(flows, self._telling, findings, paces)
        self._alternation = Alternation(self._steps, self._telling, findings, fed)

    def sort(self, now: int) -> None:
        """
        So that the carry does not depend on the order in which two feeds were heard, or streams ended.
        """
        self._alternation.sort()
        self._paces.sort(now)

    # ---- book by book

    def take(self, flow: FlowState, track: Track, seen: Peek, now: int, payload: bytes) -> int:
        """
        A book that is not just as usual. Returns the flags its row bears; `flow.last` is still the book before.
        """
        gap, track.gap = track.gap, 0
        ts, slot = seen.ts, seen.slot
        if ts is None or not 0 < ts < MAX_TS_MS or track.deaf:
            ts = (now - (track.base or 0)) // MS
        if flow.asked and self._is_older(flow, track, ts, slot, now, gap=gap):
            flow.asked = 0
            track.gap = gap
            # Or the publisher's clock has stepped: the next ones tell.
            track.alt_ts, track.alt_since, track.alt_count = ts, now, 1
            self.calm(track)
            return _MAYBE_INITIAL
        if gap and track.feeds is not None:
            self._alternation.together(flow, track, now)
        if track.feeds is not None and track.feeds.second is not None:
            flags = self._alternation.take(flow, track, ts, slot, now)
        else:
            flags = self._of_one(flow, track, ts, slot, now, gap=gap)
        mine = track
        if track.feeds is not None and track.feeds.second is not None and track.feeds.second.recv > track.recv:
            mine = track.feeds.second
        if mine.recv == now and mine.ring and not len(mine.ring) & 3:
            self.sample(flow, mine, now, payload)
        elif track.content_frozen:
            self._telling.tell(flow, now, contents.look(track, payload, now))
        self.calm(track)
        return flags

    def _of_one(self, flow: FlowState, track: Track, ts: int, slot: int | None, now: int, *, gap: int) -> int:
        """
        A book of a stream that is one, as far as is known.
        """
        early = None if track.cadence else track.early
        two = track.feeds
        back = slot is not None and slot < track.slot and not gap
        if back and track.cadence and not track.deaf and (two is None or two.before is None):
            if two is None:
                two = track.feeds = Feeds(flow.last or track.recv, first_slot=track.slot, slot=track.slot)
            two.before = feeds.as_one(track)
            two.recent = [(track.ts, track.recv, track.slot)]
        pace, steps = (track.cadence, track.spread), [*track.past, *track.ring, ts - track.ts]
        learns = early is not None and len(early) == cadence.FEWEST and ts > track.ts
        if learns and two is None:
            two = self._alternation.expected(flow, track, [*(early or ()), (ts, now, slot or 0)], now)
        self._slot(flow, track, slot, now, gap=gap)
        flags = self._steps.take(flow, track, ts, slot, now, gap=gap)
        if two is None and not gap and pace[0] and cadence.is_uneven(track) and pace[1] * 8 <= pace[0]:
            self._alternation.by_time(flow, track, pace, steps, ts)
            two = track.feeds
            if two is not None:
                count_back(two, slot, now)
                return flags
        if learns and two is not None:
            track.holes.clear()
            two.before = feeds.as_one(track)
            two.before.anew = True
            self._alternation.tell_apart(flow, track, two, now)
        elif two is not None:
            if not two.recent or (ts, slot or 0) != (two.recent[-1][0], two.recent[-1][2]):
                two.recent.append((ts, now, slot or 0))  # no repeat
            count_back(two, slot, now)
            self._alternation.tell_apart(flow, track, two, now)
        elif gap and track.cadence:
            self._alternation.expected(flow, track, [(ts, now, slot or 0)], now)
        return flags

    def sample(self, flow: FlowState, track: Track, now: int, payload: bytes) -> None:
        """
        Each few books: look at the content, and learn the cadence again if there are enough steps.
        """
        if track is flow.track:
            frozen = track.content_frozen
            self._telling.tell(flow, now, contents.look(track, payload, now))
            if track.content_frozen and not frozen:
                self._findings.opening(f"{flow.stream.label()}: its content stands still")
                self.calm(track)
        count = len(track.ring)
        if count == HALF and now - track.paced < cadence.BLOCK * track.cadence * MS:
            # The first few steps told it roughly only.
            old, steps = (track.cadence, track.allow), track.past + track.ring
            cadence.learn(track, track.ring, now)
            self._steps.look_back(flow, track, steps, old, now, until=track.ts)
            self.calm(track)
        elif count >= cadence.BLOCK:
            steps = track.past + track.ring
            self._steps.compare(flow, track, steps, now, until=track.ts, waits=True)
            self._steps.relearn(flow, track, now, steps, until=track.ts)
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
            or track.anew
            or not track.slot
            or track.feeds
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
        newest, newest_slot = _newest(track)
        return ts <= newest and (slot is None or slot <= newest_slot)

    def is_stored_copy(self, flow: FlowState, track: Track, seen: Peek, now: int) -> bool:
        """
        Whether a book that came in a silence or after an outage is the server's stored copy: no newer than what came
        before it or, soon after the request, older than any book is when it comes. What follows is still awaited.
        """
        if not track.ts or track.deaf or seen.ts is None:
            return False
        newest, newest_slot = _newest(track)
        no_newer = seen.ts <= newest and (seen.slot is None or seen.slot <= newest_slot)
        soon = now - flow.asked <= STORED_NS
        late = track.base is not None and now - seen.ts * MS - track.base > lateness.LATE_NS
        if flow.silent:
            # It may be the very next one, held back on its way: then what follows comes in the same burst.
            stored = no_newer or (soon and late)
            track.stored = seen.ts if stored and 0 < seen.ts - track.ts <= track.high else 0
        else:
            stored = soon and bool(flow.fresh & _FIRST_AFTER_GAP) and (no_newer or late)
        if stored:
            flow.asked = 0
            flow.fresh &= ~_MAYBE_INITIAL
        return stored

    def is_late(self, flow: FlowState, track: Track, seen: Peek, now: int) -> bool:
        """
        Whether a book that ends a silence is the very next by the publisher's clock: it was held back, and none is
        missing.
        """
        ts, base, high = seen.ts, track.base, track.high
        if not track.cadence and track.early:
            # As far as the first few tell, and other streams; they go on telling.
            steps = [b[0] - a[0] for a, b in pairwise(track.early)]
            pace = self._flows.usual_pace(flow)
            high = 2 * min([*steps, pace] if pace is not None else steps, default=0)
            base = min(recv - at * MS for at, recv, _ in track.early)
        newest = max(track.ts, track.stored)
        if ts is None or base is None or track.deaf or not 0 < ts - newest <= high:
            return False
        return now - ts * MS - base > lateness.LATE_NS

    def _slot(self, flow: FlowState, track: Track, slot: int | None, now: int, *, gap: int) -> None:
        if slot is None:
            track.slot = track.moved = 0  # where it stands is not known
        elif gap == 2 or not track.slot:
            track.slot, track.moved = slot, now
        else:
            self._telling.tell(flow, now, slots.follow(track, slot, now, flow.last or now))
            if gap:
                track.moved = now

    # ---- the clock, and ends

    def own_clock_stepped(self, run: str, step_ns: int) -> None:
        """
        Our clock was set forward: from here on all books seem later.
        """
        for flow in self._flows.of_run(run):
            for track in tracks_of(flow):
                if track.base is not None:
                    track.base += step_ns
                    self.calm(track)

    def clock(self, run: str, now: int) -> None:
        """
        Time has come to `now`, as an entry of the run says.
        """
        over = []
        for flow in self._flows.of_run(run):
            track = flow.track
            if track is None:
                continue
            if flow.silent or not flow.up:
                if any((track.holes, track.late_since, track.watch, track.frozen, track.content_frozen, track.feeds)):
                    over.append(flow)
            elif (
                not track.frozen
                and not (track.gap or flow.fresh & _FIRST_AFTER_GAP)  # whether it still stands there, no book has told
                and slots.is_frozen(track, track.recv if track.feeds else flow.last)
            ):
                track.frozen = track.moved
                if track.content_frozen:
                    # Told of by the slot from here on.
                    track.frozen, track.content_frozen = min(track.moved, track.content_frozen), 0
                self._findings.opening(f"{flow.stream.label()}: its slot stands still")
                self.calm(track)
        for flow in in_order(over):
            self.end(flow, flow.last, now)

    def end(self, flow: FlowState, end: int, now: int) -> None:
        """
        No more books come on this connection for now: what goes on ends at `end`, the last one.
        """
        track = flow.track
        if track is None:
            return
        if track.feeds is not None and not track.feeds.believed and track.watch is not None:
            # Too few books to be sure: what they say is more likely.
            track.feeds.believed = slots.are_feeds(track.watch)
        if track.feeds is None:
            self._paces.note(flow.stream, track, end)
        self._alternation.end(flow, track, end, now)
        self._steps.compare(flow, track, track.past + track.ring, now, until=track.ts)
        for hole in track.holes:
            self._telling.hole(flow, track, hole, now)
        track.holes.clear()
        track.early.clear()
        track.odd = track.alone = track.doubt = track.strays = track.alt_count = 0
        for found in lateness.end(track, end):
            self._telling.add(flow, now, found, late=track.late_first)
        self._telling.tell(flow, now, slots.end_watch(track) + slots.end_frozen(track, end))
        self._telling.tell(flow, now, contents.end(track, end))
        self.calm(track)

    def cut_off(self, flow: FlowState, at: int, what: str) -> None:
        """
        The run has ended at `at`, or nobody asks for the stream any more: a book that was due by then had not come.
        """
        if not flow.up or flow.silent or flow.last < flow.since or self._flows.carried_on(flow):
            return
        for track in tracks_of(flow):
            if not track.cadence or (track.feeds is not None and track.feeds.before is not None):
                continue
            last = flow.last if track is flow.track and track.feeds is None else track.recv
            uneven = track.spread if cadence.is_uneven(track) else 0
            missing = ((at - last) // MS - uneven - 2 * track.allow) // track.cadence
            if missing > 0 and self._alternation.has_gone(flow, track):
                continue
            if missing > 0:
                words = f"none for {(at - last) / 1e9:.1f} s before {what}, where one comes each {track.cadence} ms"
                found = ("cadence_hole", last, at, words, track.slot or flow.last_slot, None)
                self._telling.add(flow, at, found, missing=missing, late=CUT_OFF)
        if flow.track is not None and flow.track.feeds is not None and flow.track.feeds.lone:
            # Of the one that has gone a book may have been due until then.
            self._alternation.end(flow, flow.track, at, at)

    def lost(self, run: str, now: int) -> None:
        """
        Entries of a run are lost: no hole is judged across them.
        """
        for flow in in_order(self._flows.of_run(run)):
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
                yield self._telling.stretch(flow, at, lateness.backlog(track, at, "so far"), late=track.late_first)
            two = track.feeds
            if two is not None and two.believed:
                if two.total or not two.expected:
                    until = both_until(two, at) if two.lone else at
                    yield self._telling.stretch(flow, at, feeds.alternate(two, until))
                if two.lone:
                    yield self._telling.stretch(flow, at, feeds.alone(two, at))
            if track.frozen:
                words = f"the slot has stood at {track.slot} for {(at - track.frozen) / 1e9:.1f} s while books come"
                yield self._telling.stretch(flow, at, ("frozen", track.frozen, at, words, track.slot, track.slot))
            if track.content_frozen:
                yield self._telling.stretch(flow, at, contents.still(track, at))
            if track.skew_since:
                yield self._telling.stretch(flow, at, self._steps.skew(track, at, "and still is"))

    def unjudged(self, at: int) -> None:
        """
        Nobody will look any more: judge the holes as they are.
        """
        for flow in self._flows.all():
            track = flow.track
            if track is None:
                continue
            two = track.feeds
            if two is not None and not two.believed and track.watch is not None:
                two.believed = slots.are_feeds(track.watch)
            self._steps.compare(flow, track, track.past + track.ring, at, until=track.ts)
            for part in tracks_of(flow):
                for hole in part.holes:
                    self._telling.hole(flow, part, hole, at)
            if track.watch is not None and (two is None or not two.believed):
                self._telling.tell(flow, at, slots.end_watch(track))


def _newest(track: Track) -> tuple[int, int]:
    """
    Time and slot of the newest book, of whichever feed.
    """
    second = track.feeds.second if track.feeds is not None else None
    if second is None:
        return track.ts, track.slot
    return max(track.ts, second.ts), max(track.slot, second.slot)
