"""
The same frame heard by several connections or runs is one frame. Pure.

The venue numbers nothing, and equal payloads can truly come twice, so occurrences are counted: the k-th occurrence of
a payload on one source pairs with the k-th on another, within 120 s. The earliest is kept; a second occurrence on the
*same* source is a repeat, kept and flagged.
"""

from collections import deque

PAIRING_WINDOW_NS = 120_000_000_000
MAX_REMEMBERED = 1 << 18
"""Occurrences remembered at one time: 120 s at 2,000 frames a second. Beyond, the window is shorter."""


class Pairing:
    """
    Remembers what was heard during the last two minutes.
    """

    def __init__(self) -> None:
        # Most payloads come once: for them the value is the source alone, not a dict of counts.
        self._heard: dict[int, int | dict[int, int]] = {}
        self._kept: deque[tuple[int, int]] = deque()
        """When each occurrence that was kept came, and of what, oldest first."""
        self._sources: dict[tuple[str, int], int] = {}

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
        source = self._sources.setdefault((run, connection), len(self._sources))
        key = hash(payload)
        counts = self._heard.get(key)
        if counts is None:
            self._heard[key] = source
            self._keep(now, key)
            return False, False
        if isinstance(counts, int):
            counts = self._heard[key] = {counts: 1}
        # As many were kept as the source that heard most has heard.
        before = max(counts.values())
        mine = counts[source] = counts.get(source, 0) + 1
        if mine <= before:
            return True, False
        self._keep(now, key)
        return False, True

    def _keep(self, now: int, key: int) -> None:
        self._kept.append((now, key))
        if len(self._kept) > MAX_REMEMBERED:
            self._forget(self._kept.popleft()[1])

    def _forget(self, key: int) -> None:
        """
        The oldest occurrence of a payload is too old to pair: what remains is counted without it.
        """
        counts = self._heard[key]
        if isinstance(counts, int):
            del self._heard[key]
            return
        left = {source: count - 1 for source, count in counts.items() if count > 1}
        if left:
            self._heard[key] = left
        else:
            del self._heard[key]
