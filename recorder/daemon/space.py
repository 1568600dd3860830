"""
How much of the disk is left, in bytes and in files, and for how many days it will do.
"""

import os
from pathlib import Path

import msgspec

from recorder.records import SECOND_NS

DAY_NS = 86_400 * SECOND_NS
UNLIMITED = 1 << 62
"""Inodes of a file system that does not count them (btrfs)."""
_LEARN_NS = 3600 * SECOND_NS
"""Of use, before it is taken for the days to come."""
_REMEMBER_NS = DAY_NS


class Space(msgspec.Struct, frozen=True):
    """
    Of the file system a root is on, for those who are not root.
    """

    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int

    @property
    def words(self) -> str:
        """
        For people: `1.2 GB of 40.0 free, 31337 inodes`.
        """
        inodes = "" if self.free_inodes >= UNLIMITED else f", {self.free_inodes} inodes"
        return f"{self.free_bytes / 1e9:.3g} GB of {self.total_bytes / 1e9:.3g} free{inodes}"


def space(root: Path) -> Space:
    """
    What is free now. May take long on a file system that hangs: not for the event loop.

    Raises:
        OSError: it cannot be asked.
    """
    found = os.statvfs(root)
    counted = found.f_files > 0
    return Space(
        free_bytes=found.f_bavail * found.f_frsize,
        total_bytes=found.f_blocks * found.f_frsize,
        free_inodes=found.f_favail if counted else UNLIMITED,
        total_inodes=found.f_files if counted else UNLIMITED,
    )


class Forecast:
    """
    Days until the disk is full, if it goes on filling as it did in the last hours (up to a day of them).

    From what was free, whoever used it: the lake grows hour by hour, the journal until the first of it expires.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[int, int]] = []

    def add(self, now: int, free_bytes: int) -> None:
        """
        Something to go by; `now` in ns of any clock that does not step back.
        """
        if self._seen and now - self._seen[-1][0] < _LEARN_NS // 60:
            return
        self._seen.append((now, free_bytes))
        while now - self._seen[0][0] > _REMEMBER_NS:
            self._seen.pop(0)

    def days_left(self) -> float | None:
        """
        None while too little was seen, or while it does not get less.
        """
        if not self._seen:
            return None
        (since, had), (now, have) = self._seen[0], self._seen[-1]
        if now - since < _LEARN_NS or have >= had:
            return None
        return round(have / (had - have) * (now - since) / DAY_NS, 1)
