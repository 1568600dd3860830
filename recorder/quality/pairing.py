"""
The same frame heard by several connections or runs is one frame. Pure.

The venue numbers nothing, and equal payloads can truly come twice, so occurrences are counted: the k-th occurrence of
a payload on one source pairs with the k-th on another, within 120 s. The earliest is kept; a second occurrence on the
*same* source is a repeat, kept and flagged. What came before a source was connected it cannot have heard: that is
counted as if it had, so that what it does hear is not taken for it.
"""

from collections import deque

import msgspec

PAIRING_WINDOW_NS = 120_000_000_000
MAX_REMEMBERED = 1 << 18
"""Occurrences remembered at one time: 120 s at 2,000 frames a second. Beyond, the window is shorter."""
STORED_NS = 1_500_000_000
"""So old may be what a source brings as it is connected: its way is longer, or the server kept a copy."""


class _Often(msgspec.Struct):
    """
    A payload that came more than once.
    """

    kept: deque[int]
    """When each occurrence that was kept came."""
    counts: dict[int, int]
    """How many of them each source has heard, or was too late for."""


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
        self._connected: dict[int, int] = {}

    def connected(self, run: str, connection: int, now: int) -> None:
        """
        A source begins, or begins anew.
        """
        self._connected[self._source(run, connection)] = now

    def hear(self, run: str, connection: int, now: int, payload: bytes) -> tuple[bool, bool]:
        """
        Take one data frame, in the order of receipt.

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
            first, at = known
            known = self._heard[key] = _Often(deque([at]), {first: 1})
        mine = known.counts.get(source, 0)
        repeat = mine > 0
        begun = self._connected.get(source)
        if begun is not None:
            mine = max(mine, sum(at < begun - STORED_NS for at in known.kept))
        mine = known.counts[source] = mine + 1
        if mine <= len(known.kept):
            return True, False
        known.kept.append(now)
        self._keep(now, key)
        return False, repeat

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
