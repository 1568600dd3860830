"""
The same frame heard by several connections or runs is one frame. Pure.

The venue numbers nothing, and equal payloads can truly come twice, so occurrences are counted: the k-th occurrence of
a payload on one source pairs with the k-th on another, within 120 s. The earliest is kept; a second occurrence on the
*same* source is a repeat, kept and flagged.

What a source will not bring any more is counted as if it had, so that what it does bring is not taken for it: what came
before it was connected, or had asked for such frames, and what it has missed. Connections bring frames in the order in
which they were sent. So once two have brought the same one, what the one brought before that, and the other did not,
the other never will. Where no such frame shows it, as when one takes over from another within moments of having missed
something itself, an equal payload may be taken for the missed one.
"""

from collections import deque

import msgspec

from recorder.records import Connected, Entry, Requested, decode_fact
from recorder.venue.protocol import Peek

PAIRING_WINDOW_NS = 120_000_000_000
OTHERS = ("trades", "priorityFees")
"""Families of channels that are no books."""
MAX_REMEMBERED = 1 << 18
"""Occurrences remembered at one time: 120 s at 2,000 frames a second. Beyond, the window is shorter."""
DISORDER_NS = 500_000_000
STORED_NS = 1_500_000_000
"""So old may be what a source brings as it is connected: its way is longer, or the server kept a copy."""


class _Often(msgspec.Struct):
    """
    A payload that came more than once.
    """

    kept: deque[tuple[int, int]]
    """When each occurrence that was kept came, and on which source."""
    counts: dict[int, int]
    """How many of them each source has heard, or will not hear any more."""


class Pairing:
    """
    Remembers what was heard during the last two minutes.
    """

    def __init__(self) -> None:
        # Most payloads come once: for them the value is the source and the instant alone.
        self._heard: dict[int, tuple[int, int] | _Often] = {}
        self._kept: deque[tuple[int, int]] = deque()
        """When each occurrence that was kept came, and of what, oldest first."""
        self._sources: dict[tuple[str, int], int] = {}
        self._begun: dict[int | tuple[int, str], int] = {}
        """When a source was connected; and when it last asked for frames of a family."""
        self._common: dict[tuple[int, int], int] = {}
        """Of two sources: when the second brought the latest frame that both have."""

    def connected(self, run: str, connection: int, now: int) -> None:
        """
        A source begins, or begins anew.
        """
        self._begun[self._source(run, connection)] = now

    def requested(self, run: str, connection: int, channel: str, now: int) -> None:
        """
        A source asks for a stream of this channel: until now it may have brought none.
        """
        family = next((other for other in OTHERS if other.lower() == channel), "orderbook")
        self._begun[self._source(run, connection), family] = now

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
            self.requested(entry.run, entry.connection, fact.stream.channel, entry.recv_ts)

    def frame(self, entry: Entry, seen: Peek) -> tuple[bool, bool]:
        """
        Take one frame that is data, as `hear` does.

        Args:
            entry: of the frame.
            seen: `protocol.peek` of its payload.
        """
        assert seen.channel is not None
        family, stamped = seen.channel.family, seen.ts is not None
        return self.hear(entry.run, entry.connection, entry.recv_ts, entry.payload, family, stamped=stamped)

    def hear(
        self, run: str, connection: int, now: int, payload: bytes, family: str = "", *, stamped: bool = False
    ) -> tuple[bool, bool]:
        """
        Take one data frame, in the order of receipt.

        Args:
            run: that brought it.
            connection: of the run.
            now: its receipt.
            payload: its bytes.
            family: of its channel.
            stamped: it bears the publisher's time, so that no other is equal to it, unless it is sent twice.

        Returns:
            duplicate: it was heard before on another source: drop it.
            repeat: this source heard it before: keep it, flagged.
        """
        kept = self._kept
        while kept and now - kept[0][0] > PAIRING_WINDOW_NS:
            self._forget(kept.popleft()[1])
        source = self._source(run, connection)
        key = hash(payload)
        known = self._heard.get(key)
        if known is None:
            self._heard[key] = (source, now)
            self._keep(now, key)
            return False, False
        if isinstance(known, tuple):
            known = self._heard[key] = _Often(deque([(known[1], known[0])]), {known[0]: 1})
        heard = known.counts.get(source, 0)
        mine = known.counts[source] = self._behind(known, heard, source, family, stamped=stamped) + 1
        if mine <= len(known.kept):
            at, first = known.kept[0]
            if stamped and not heard and len(known.kept) == 1 and first != source:
                # Of three or more, each but the first has it in common with that one.
                self._have_both(source, first, at)
                self._have_both(first, source, now)
            return True, False
        known.kept.append((now, source))
        self._keep(now, key)
        return False, heard > 0

    def _have_both(self, source: int, other: int, at: int) -> None:
        """
        Two sources have brought the same frame, the other one at this instant.
        """
        if at > self._common.get((source, other), 0):
            self._common[source, other] = at

    def _behind(self, known: _Often, heard: int, source: int, family: str, *, stamped: bool) -> int:
        """
        How many of the occurrences that were kept a source has heard, or will not bring any more.
        """
        begun = max(self._begun.get(source, 0), self._begun.get((source, family), 0))
        # Only of books does a server keep a copy, which it sends to whoever comes.
        oldest = begun if family in OTHERS else begun - STORED_NS
        count = len(known.kept)
        # From the last one back to what it has heard: of a payload that comes without end there are very many.
        for number, (at, by) in zip(range(count, heard, -1), reversed(known.kept), strict=False):
            # What has a stamp is like no other: the order, in which servers differ a little, need not tell them apart.
            if at < oldest or (not stamped and at < self._common.get((source, by), 0) - DISORDER_NS):
                return number
        return heard

    def _source(self, run: str, connection: int) -> int:
        return self._sources.setdefault((run, connection), len(self._sources))

    def _keep(self, now: int, key: int) -> None:
        self._kept.append((now, key))
        if len(self._kept) > MAX_REMEMBERED:
            self._forget(self._kept.popleft()[1])

    def _forget(self, key: int) -> None:
        """
        The oldest occurrence of a payload is too old to pair: what remains is counted without it.
        """
        known = self._heard[key]
        if isinstance(known, tuple) or len(known.kept) == 1:
            del self._heard[key]
            return
        known.kept.popleft()
        known.counts = {source: count - 1 for source, count in known.counts.items() if count > 1}
