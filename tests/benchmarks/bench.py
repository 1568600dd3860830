"""
What all parts share: the sizes asked for, a folder to work in, and inputs that several of them use.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import msgspec
from load import Frame, heard, wanted, write_frames, write_journal
from table import GROWTH


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """
    How much is measured.
    """

    rounds: int = 3
    markets: int = 96
    """All of Drift."""
    large: int = 100
    capture_books: int = 115_200
    """Sent as fast as they are read."""
    plain_books: int = 30_000
    """Of those; the plain recorder keeps about 28 kB of memory for each."""
    live_s: float = 60.0
    live_warm_up_s: float = 8.0
    soak_minutes: float = 0.0
    """Instead of `live_s`, with the slope of memory."""
    books: int = 115_200
    """Journaled and sealed: eight minutes of 96 markets."""
    study_books: int = 9_000
    """Of each of three markets: an hour."""
    growth_books: int = 60_000
    """For each number of markets."""
    growth: tuple[int, ...] = GROWTH
    start_minutes: int = 1440
    """A segment each."""
    start_frames: int = 240
    """In each of them."""
    query_rounds: int = 25
    day_markets: int = 12
    day_hours: int = 24
    day_books: int = 9_000
    """Of each market in an hour."""
    day_rounds: int = 9


QUICK = Sizes(
    rounds=1,
    markets=4,
    large=6,
    capture_books=500,
    plain_books=200,
    live_s=1.0,
    live_warm_up_s=1.0,
    books=500,
    study_books=60,
    growth_books=500,
    growth=(1, 2, 3),
    start_minutes=90,
    start_frames=1,
    query_rounds=2,
    day_markets=2,
    day_hours=2,
    day_books=60,
    day_rounds=2,
)
"""Shows that everything runs; its figures mean nothing."""


class Bench:
    """
    One run of the suite.
    """

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        self.frames = cache(self._frames)
        self.frames_file = cache(self._frames_file)
        self.sealable = cache(self._sealable)
        self._rooms = 0

    def say(self, words: str) -> None:
        """
        Progress, on standard error.
        """
        print(words, file=sys.stderr, flush=True)

    @contextmanager
    def room(self) -> Iterator[Path]:
        """
        An empty folder that goes away.
        """
        self._rooms += 1
        folder = self.folder / f"room-{self._rooms}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def _frames(self, markets: int, books: int) -> list[Frame]:
        self.say(f"rendering {books:,} books of {markets} markets")
        return heard(markets, books=books)

    def _frames_file(self, markets: int, books: int) -> Path:
        path = self.folder / f"frames-{markets}-{books}"
        write_frames(path, self.frames(markets, books))
        return path

    def _sealable(self, markets: int, books: int) -> Path:
        """
        A root with these frames in its journal, and nothing sealed.
        """
        root = self.folder / f"root-{markets}-{books}"
        write_journal(root, wanted(markets), self.frames(markets, books))
        return root
