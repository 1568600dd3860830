"""
The same frame heard by several connections or runs is one frame. Pure.

The venue numbers nothing, and equal payloads can truly come twice, so occurrences are counted: the k-th occurrence of
a payload on one source pairs with the k-th on another, within 120 s. The earliest is kept; a second occurrence on the
*same* source is a repeat, kept and flagged.
"""

from collections import deque

PAIRING_WINDOW_NS = 120_000_000_000
MAX_REMEMBERED = 1 << 18
"""Payloads remembered at one time: 120 s at 2,000 frames a second. Beyond, the window is shorter."""


class Pairing:
    """
    Remembers what was heard during the last two minutes.
    """

    def __init__(self) -> None:
        # Most payloads come once: for them the value is the source alone, not a dict of counts.
        self._heard: dict[int, int | dict[int, int]] = {}
        self._order: deque[tuple[int, int]] = deque()
        self._sources: dict[tuple[str, int], int] = {}

    def hear(self, run: str, connection: int, now: int, payload: bytes) -> tuple[bool, bool]:
        """
        Take one data frame, in the order of receipt.

        Returns:
            duplicate: it was heard before on another source: drop it.
            repeat: this source heard it before: keep it, flagged.
        """
        order = self._order
        while order and (now - order[0][0] > PAIRING_WINDOW_NS or len(order) > MAX_REMEMBERED):
            self._heard.pop(order.popleft()[1], None)
        source = self._sources.setdefault((run, connection), len(self._sources))
        key = hash(payload)
        counts = self._heard.get(key)
        if counts is None:
            self._heard[key] = source
            order.append((now, key))
            return False, False
        if isinstance(counts, int):
            counts = self._heard[key] = {counts: 1}
        stored = max(counts.values())
        mine = counts[source] = counts.get(source, 0) + 1
        return mine <= stored, stored < mine
