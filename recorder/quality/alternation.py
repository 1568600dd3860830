"""
Two feeds that alternate in one stream: how they come to be believed, told apart, judged each by itself, and end. Pure.

`feeds` says which books are whose; here it is kept what is known of them.
"""

from itertools import accumulate

import msgspec

from recorder.quality import cadence, feeds, lateness, slots
from recorder.quality.cadence import MS
from recorder.quality.findings import Findings
from recorder.quality.state import FlowState
from recorder.quality.steps import Steps
from recorder.quality.telling import Telling
from recorder.quality.track import Feeds, Track


class Alternation:
    """
    The two feeds of each stream that has them.
    """

    def __init__(self, steps: Steps, telling: Telling, findings: Findings, fed: dict[str, int]) -> None:
        """
        Args:
            steps: where each book of a feed is judged.
            telling: for what is found of one or both.
            findings: for what is told at once.
            fed: when two feeds were last heard, by stream.
        """
        self._steps = steps
        self._telling = telling
        self._findings = findings
        self._fed = fed

    def sort(self) -> None:
        """
        So that the carry does not depend on the order in which two feeds were heard.
        """
        ordered = sorted(self._fed.items())
        self._fed.clear()
        self._fed.update(ordered)

    def expected(self, flow: FlowState, track: Track, books: list[feeds.Book], now: int) -> Feeds | None:
        """
        After an outage, or once the first books have told the cadence: whether two feeds may be here.
        """
        since = self._fed.get(flow.stream.label())
        believed = since is not None and now - since < feeds.KEPT_NS
        back = feeds.step_back(books)
        if back is not None and not believed:
            two = Feeds(back[1], first_slot=back[2], slot=books[0][2])
        elif believed:
            two = Feeds(books[0][1], believed=True, expected=True, slot=books[0][2])
            two.alone_until = flow.last if flow.last < books[0][1] else 0
        else:
            return None
        track.feeds = two
        two.before = feeds.as_one(track)
        for _, recv, slot in books:
            count_back(two, slot, recv)
        two.recent = books
        return two

    def by_time(self, flow: FlowState, track: Track, pace: tuple[int, int], steps: list[int], ts: int) -> None:
        """
        An even cadence has become an uneven one: two feeds, if every other book keeps to the old one.
        """
        times = [ts - gone for gone in accumulate(reversed(steps), initial=0)][::-1]
        for count in (2 * feeds.FEWEST, feeds.FEWEST):
            books = [(at, at * MS + (track.base or 0), 0) for at in times[-count:] if at >= track.whole]
            halves = sum(abs(2 * step - pace[0]) * 5 <= pace[0] for step in steps[1 - count :])
            if len(books) < feeds.FEWEST or halves >= feeds.FEWEST_EACH:
                continue  # a publisher that ticks twice as fast
            found = feeds.split(books, pace)
            if found is not None and found[1] == pace[0]:
                break
        else:
            return
        for hole in track.holes:
            if hole.right_ts <= books[0][0]:  # those of `books` are found again
                self._telling.hole(flow, track, hole, track.recv)
        two = Feeds(books[max(found[0].index(True) - 1, 0)][1], recent=books, before=feeds.copied(track))
        assert two.before is not None
        two.before.slot = 0
        two.before.holes = []
        self._apart(flow, track, two, *found)

    def tell_apart(self, flow: FlowState, track: Track, two: Feeds, now: int) -> None:
        """
        Try to tell two feeds apart by the last books, unless there is only one of them.
        """
        watch = track.watch
        if watch is not None and (watch.feeds or two.believed):
            self._believe(flow, two, now)
            track.watch = None
        if not two.believed and track.watch is None and two.total:
            # It was a step back, not another feed.
            track.feeds = None
            return
        if two.before is None:
            two.recent.clear()
            if two.lone and now - two.lone > feeds.LONE_NS:
                self.end(flow, track, now, now)
            return
        count = len(two.recent)
        if count not in feeds.TRIED:
            return
        back, one = feeds.step_back(two.recent), feeds.after_step_back(two.recent)
        pace, rough = (two.before.cadence, two.before.spread), now - two.before.paced < cadence.CRISP_NS
        found = feeds.split(two.recent, pace, rough=rough) if back is not None else None
        if found is not None:
            self._apart(flow, track, two, *found)
        elif two.believed and len(one) >= feeds.FEWEST and not cadence.is_uneven(track):
            ts, recv, _ = one[0]
            late = max(recv - ts * MS - (track.base or 0), 0)
            began = recv
            if late > lateness.LATE_NS:
                # Later than the doubt may last: it is the publisher's clock that was set back.
                began = max(recv - late, two.start if late > feeds.LONE_NS else 0)
            two.lone = two.lone or began
            two.before = None
            track.holes = [hole for hole in track.holes if hole.left_ts >= ts]
        elif count == feeds.TRIED[-1] and two.believed and not two.total and cadence.is_uneven(track):
            # Two were expected, and may be here, but their slots do not step back any more: judged as one from here on.
            # What each of them kept to is no pace that may return: half of the books would be missing then.
            track.feeds, track.former = None, 0
        elif count == feeds.TRIED[-1] and two.believed:
            track.holes.clear()
            two.before = feeds.as_one(track)
            two.recent = two.recent[-1:]

    def _apart(self, flow: FlowState, track: Track, two: Feeds, second: list[bool], tick: int, spread: int) -> None:
        """
        Two feeds are told apart: each is judged from its first book on.
        """
        assert two.before is not None
        before, books = two.before, list(zip(two.recent, second, strict=True))
        ours = next(book for book, other in books if not other)
        theirs = next(book for book, other in books if other)
        feeds.become(track, feeds.anchored(before, ours, tick, spread))
        two.second = feeds.anchored(before, theirs, tick, spread)
        if not two.believed:
            self._findings.opening(f"{flow.stream.label()}: two feeds alternate")
        self._believe(flow, two, two.recent[-1][1])
        track.feeds, two.before, two.recent, two.lone = two, None, [], 0
        for book, other in books:
            if book not in {ours, theirs}:
                ts, recv, slot = book
                mine = two.second if other else track
                before_it = mine.recv
                self._steps.take(flow, mine, ts, slot, recv, gap=0)
                self._follow(mine, slot, recv, before_it)  # what slots have to tell was told as they came

    def _believe(self, flow: FlowState, two: Feeds, now: int) -> None:
        """
        There are two. If one of them is back that was given up not long ago, all of the time between is in doubt.
        """
        before = self._fed.get(flow.stream.label(), 0)
        given_up, until = before + feeds.LONE_NS, two.alone_until if two.expected else two.start
        if (two.alone_until or not two.believed) and given_up < until <= before + feeds.KEPT_NS:
            self._telling.add(flow, now, feeds.alone(msgspec.structs.replace(two, lone=given_up), until))
        two.believed, two.alone_until = True, 0

    def take(self, flow: FlowState, track: Track, ts: int, slot: int | None, now: int) -> int:
        """
        A book of one of two feeds.
        """
        two = track.feeds
        assert two is not None
        assert two.second is not None
        if any(ts == each.ts and slot in {None, each.slot} for each in (track, two.second)):
            return 0  # a repeat
        second = feeds.is_second(two, track, ts, slot)
        mine, other = (two.second, track) if second else (track, two.second)
        before = mine.recv
        flags = self._steps.take(flow, mine, ts, slot, now, gap=0)
        self._telling.tell(flow, now, self._follow(mine, slot, now, before))
        count_back(two, slot, now)
        if cadence.is_uneven(mine) or mine.deaf or (mine.watch is not None and mine.watch.feeds):
            self.together(flow, track, now)
            two.before = feeds.as_one(track)
            two.recent = [(track.ts, track.recv, track.slot)]
        elif mine.recv - other.recv <= (feeds.LONE_TICKS + 1) * mine.cadence * MS:
            two.lone = 0
        else:
            two.lone = two.lone or other.recv
            if now - two.lone > feeds.LONE_NS:
                if second:
                    feeds.become(track, mine)
                    track.feeds = two
                self.end(flow, track, now, now)
        return flags

    @staticmethod
    def _follow(mine: Track, slot: int | None, now: int, before: int) -> list[slots.Words]:
        """
        What the slot of a feed's book tells.
        """
        if slot is None:
            return []
        if not mine.slot:
            mine.slot, mine.moved = slot, now
            return []
        return slots.follow(mine, slot, now, before)

    def together(self, flow: FlowState, track: Track, now: int) -> None:
        """
        Two feeds are one stream again, until they are told apart anew: what was missed so far is told.
        """
        two = track.feeds
        assert two is not None
        second, two.second = two.second, None
        if second is not None:
            two.second = second
            for part in (track, second):
                # One book is no proof that a feed that had gone is back.
                for hole in part.holes if not two.lone or part.recv > min(track.recv, second.recv) else ():
                    self._telling.hole(flow, part, hole, now)
                part.holes.clear()
            two.second = None
            if second.recv > track.recv:
                track.ts, track.recv, track.slot = second.ts, second.recv, second.slot
                track.whole, track.ring, track.past = track.ts, [], []
        two.before, two.recent = None, []
        if two.believed:
            track.watch = None

    def end(self, flow: FlowState, track: Track, end: int, now: int) -> None:
        """
        Two feeds alternate no more.
        """
        two = track.feeds
        if two is None:
            return
        key = flow.stream.label()
        if two.believed:
            one = feeds.after_step_back(two.recent) if two.before is not None else []
            if len(one) > feeds.FEWEST_EACH:
                two.lone = two.lone or one[0][1]  # of both, slots would have stepped back since
            if two.second is not None and not two.lone:
                first, last = sorted((track, two.second), key=lambda part: part.ts)
                if last.ts - first.ts > first.cadence + 2 * first.allow:
                    two.lone = first.recv  # its book was due before the last of the other
            self.together(flow, track, now)
            if two.total or not two.expected:
                self._telling.add(flow, now, feeds.alternate(two, both_until(two, end)))
            if two.lone and two.lone < end:
                self._telling.add(flow, now, feeds.alone(two, end))
            if two.total or not two.expected:
                # Whichever connection is told of first.
                self._fed[key] = max(self._fed.get(key, 0), both_until(two, end))
        track.feeds = None

    def has_gone(self, flow: FlowState, track: Track) -> bool:
        """
        Whether one of two feeds had gone while the other came: lost or switched off, nobody tells.
        """
        two = flow.track.feeds if flow.track is not None else None
        if two is None or two.second is None or all(part.recv <= track.recv for part in tracks_of(flow)):
            return False
        two.lone = two.lone or track.recv
        return True


def tracks_of(flow: FlowState) -> list[Track]:
    """
    The tracks of a stream: two where two feeds alternate.
    """
    track = flow.track
    if track is None:
        return []
    return [track] if track.feeds is None or track.feeds.second is None else [track, track.feeds.second]


def both_until(two: Feeds, end: int) -> int:
    """
    The last book that tells of both feeds.
    """
    return max(two.start, two.last if two.total else two.lone or end)


def count_back(two: Feeds, slot: int | None, now: int) -> None:
    """
    Steps back, from book to book.
    """
    if slot is None:
        return
    if slot < two.slot:
        two.total += 1
        two.deepest = max(two.deepest, two.slot - slot)
        two.last, two.last_slot = now, slot
    two.slot = slot
