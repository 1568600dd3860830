"""
The same frame heard by several connections or runs is one frame. Pure.

The venue numbers nothing, and equal payloads can truly come twice, so occurrences are counted: the k-th occurrence of
a payload on one source pairs with the k-th on another, within 120 s. The earliest is kept; a second occurrence on the
*same* source is a repeat, kept and flagged.

A frame that bears the publisher's time is like no other, unless it is sent twice: counting is all it takes, whenever a
source was connected, however late its frames are and whatever its clock says. So the lake holds it as often as that
source brought it which brought it most often.

Frames without a time (priority fees) are equal again and again, and which of them a source has missed must not be taken
for one that it brings. Connections bring frames in the order in which they were sent. So the newest book a source has
brought, by the publisher's clock, tells how far it has come (its *place*): what others heard at an earlier place, it
will not bring any more, and what they heard at a later one, it does not bring yet. Both hold whatever the clocks of two
runs say, and however late a source is. Where no books tell (a connection has none, it has only just begun, the venue is
halted), receive times do: what came before a source was connected, or had asked for such frames, is not what it brings.
There, among equal frames within a second, and just after books that a server left out for a slow client, one too many
may be kept, or one be dropped that says the same as its neighbour.
"""

from collections import deque
from itertools import islice

import msgspec

from recorder.records import Connected, Entry, Requested, Stream, decode_fact
from recorder.venue.protocol import Peek

PAIRING_WINDOW_NS = 120_000_000_000
OTHERS = ("trades", "priorityFees")
"""Families of channels that are no books."""
MAX_REMEMBERED = 1 << 18
"""Occurrences remembered at one time: 120 s at 2,000 frames a second. Beyond, the window is shorter."""
NEAR_MS = 1000
"""Two places no further apart may be the same: servers differ a little in the order of what they send."""
HALTED_NS = 1_000_000_000
"""Frames without a time that come for longer, with no book in between, are not told apart by books."""
STEPPED_NS = 2_000_000_000
"""A publisher's time that no book has passed for so long was that of a clock since set back."""
STORED_NS = 1_500_000_000
"""So old may a book without a time be that comes as a source is connected: the server kept a copy."""
NOWHERE = -1
"""The place of a source that has brought no book since it was connected."""


class _Source:
    """
    One connection of one run.
    """

    __slots__ = ("asked", "begun", "halt", "number", "place", "since", "streams")

    def __init__(self, number: int) -> None:
        self.number = number
        self.begun = 0
        """When it was connected, ns."""
        self.place = NOWHERE
        """Of the newest book since then, ms of the publisher's clock."""
        self.since = 0
        """When that came, ns."""
        self.halt = (NOWHERE, 0)
        """A place, and when the first frame without a time came there, ns."""
        self.streams: set[Stream] = set()
        """What it has asked for since it was connected."""
        self.asked: dict[str, int] = {}
        """When it last asked for another stream of a family, ns."""


_Kept = tuple[int, int, int, int]
"""An occurrence: when it came, the number of the source that brought it, where that was, and of what (its hash)."""


class _Often(msgspec.Struct):
    """
    A payload that came more than once.
    """

    kept: deque[_Kept]
    """In the order in which they were sent, as far as that shows."""
    counts: dict[int, int]
    """How many of them each source has heard, or will not hear any more."""


class Pairing:
    """
    Remembers what was heard during the last two minutes.
    """

    def __init__(self, remember: int | None = None) -> None:
        """
        Args:
            remember: occurrences at one time; `MAX_REMEMBERED`, if not given.
        """
        self._most = remember or MAX_REMEMBERED
        # Most payloads come once: for them there is the occurrence alone. Plain numbers, which the collector of
        # garbage need not look at.
        self._heard: dict[int, _Kept | _Often] = {}
        self._kept: deque[_Kept] = deque()
        """Each occurrence that was kept, oldest first."""
        self._sources: dict[tuple[str, int], _Source] = {}

    def connected(self, run: str, connection: int, now: int) -> None:
        """
        A source begins, or begins anew.
        """
        source = self._source(run, connection)
        source.begun, source.place = now, NOWHERE
        source.streams.clear()
        source.asked.clear()

    def requested(self, run: str, connection: int, stream: Stream, now: int) -> None:
        """
        A source asks for a stream: until now it may have brought none, unless it asks again.
        """
        source = self._source(run, connection)
        if stream not in source.streams:
            source.streams.add(stream)
            family = next((other for other in OTHERS if other.lower() == stream.channel), "orderbook")
            source.asked[family] = now

    def fact(self, entry: Entry) -> None:
        """
        Take one entry about ourselves, in the order of receipt: some tell that a source begins.
        """
        try:
            fact = decode_fact(entry.payload)
        except msgspec.DecodeError:
            return  # of a newer version
        if isinstance(fact, Connected):
            self.connected(entry.run, entry.connection, entry.recv_ts)
        elif isinstance(fact, Requested) and fact.op == "subscribe":
            self.requested(entry.run, entry.connection, fact.stream, entry.recv_ts)
        elif isinstance(fact, Requested):
            self._source(entry.run, entry.connection).streams.discard(fact.stream)

    def frame(self, entry: Entry, seen: Peek) -> tuple[bool, bool]:
        """
        Take one frame that is data, as `hear` does.

        Args:
            entry: of the frame.
            seen: `protocol.peek` of its payload.
        """
        assert seen.channel is not None
        return self.hear(entry.run, entry.connection, entry.recv_ts, entry.payload, seen.channel.family, seen.ts)

    def hear(
        self, run: str, connection: int, now: int, payload: bytes, family: str = "", ts: int | None = None
    ) -> tuple[bool, bool]:
        """
        Take one data frame, in the order of receipt.

        Args:
            run: that brought it.
            connection: of the run.
            now: its receipt.
            payload: its bytes.
            family: of its channel.
            ts: time it bears, ms for books; None: none, so that others may be equal to it.

        Returns:
            duplicate: it was heard before on another source: drop it.
            repeat: this source heard it before: keep it, flagged.
        """
        kept = self._kept
        while kept and now - kept[0][0] > PAIRING_WINDOW_NS:
            self._forget(kept.popleft())
        source = self._sources.get((run, connection)) or self._source(run, connection)
        if ts is not None and (ts > source.place or now - source.since > STEPPED_NS) and family not in OTHERS:
            source.place, source.since = ts, now
        key = hash(payload)
        known = self._heard.get(key)
        if known is None:
            occurrence = self._heard[key] = (now, source.number, source.place, key)
            self._keep(occurrence)
            return False, False
        if isinstance(known, tuple):
            known = self._heard[key] = _Often(deque((known,)), {known[1]: 1})
        heard = known.counts.get(source.number, 0)
        behind, ahead = (heard, False) if ts is not None else self._behind(known, heard, source, family, now)
        if behind < len(known.kept) and not ahead:
            known.counts[source.number] = behind + 1
            return True, False
        occurrence = (now, source.number, source.place, key)
        known.kept.insert(behind, occurrence)
        for other, count in known.counts.items():
            if count > behind:
                known.counts[other] = count + 1
        known.counts[source.number] = behind + 1
        self._keep(occurrence)
        return False, heard > 0

    def unplaced(self, run: str, connection: int, payload: bytes) -> None:
        """
        What was heard just now, and was no duplicate, makes no row: who brings it next brings the first.
        """
        key = hash(payload)
        self._kept.pop()
        known = self._heard[key]
        if isinstance(known, tuple):
            del self._heard[key]
            return
        number = self._source(run, connection).number
        behind = known.counts[number] - 1
        del known.kept[behind]
        known.counts = {other: count - (count > behind) for other, count in known.counts.items()}
        if not known.kept:
            del self._heard[key]

    def _behind(self, known: _Often, heard: int, source: _Source, family: str, now: int) -> tuple[int, bool]:
        """
        How many of the occurrences that were kept a source has heard, or will not bring any more; and whether the next
        was sent later than what it brings now.
        """
        place = source.place
        if place != source.halt[0]:
            source.halt = (place, now)
        # Whoever stood still reads on where it was. Not so where such frames go on coming, and no book.
        told = place != NOWHERE and now - source.halt[1] <= HALTED_NS
        begun = max(source.begun, source.asked.get(family, 0))
        if family not in OTHERS:
            begun -= STORED_NS
        kept = known.kept
        # Of a payload that comes without end there are very many: each end of them is near from its own side only.
        rest = islice(kept, heard, None) if 2 * heard < len(kept) else map(kept.__getitem__, range(heard, len(kept)))
        for number, (at, _, there, _) in enumerate(rest, heard):
            if there != NOWHERE and there + NEAR_MS < place:
                continue
            if at < begun and (there == NOWHERE or not told):
                continue
            return number, told and there > place + NEAR_MS
        return len(kept), False

    def _source(self, run: str, connection: int) -> _Source:
        source = self._sources.get((run, connection))
        if source is None:
            source = self._sources[run, connection] = _Source(len(self._sources))
        return source

    def _keep(self, occurrence: _Kept) -> None:
        self._kept.append(occurrence)
        if len(self._kept) > self._most:
            self._forget(self._kept.popleft())

    def _forget(self, occurrence: _Kept) -> None:
        """
        The oldest occurrence of a payload is too old to pair: what remains is counted without it. It came first, but
        may have been sent after one that came late.
        """
        key = occurrence[3]
        known = self._heard[key]
        if isinstance(known, tuple) or len(known.kept) == 1:
            del self._heard[key]
            return
        at = known.kept.index(occurrence)
        del known.kept[at]
        left = ((source, count - (count > at)) for source, count in known.counts.items())
        known.counts = {source: count for source, count in left if count}
