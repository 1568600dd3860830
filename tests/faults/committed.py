"""
What must be there after crashes: all that was committed, once, and every window without a recorder by name.
"""

from collections import Counter
from pathlib import Path

import polars as pl

from recorder.analysis import Lake
from recorder.journal.reader import read_merged, segments
from recorder.lake.layout import JOURNAL
from recorder.records import SECOND_NS, EntryKind


class Committed:
    """
    What writers said they had made durable.
    """

    def __init__(self) -> None:
        self.upto: dict[str, int] = {}
        """By run, the highest number."""
        self.published: dict[str, int] = {}
        """By hour, how many rows the last seal had that said so."""
        self.mended: list[str] = []
        self._run = ""

    def take(self, lines: list[list[str]]) -> None:
        """
        Learn from what they said.
        """
        for what, *rest in lines:
            if what == "run":
                self._run = rest[0]
                self.upto.setdefault(self._run, 0)
            elif what == "seq":
                self.upto[self._run] = max(self.upto[self._run], int(rest[0]))
            elif what == "published":
                self.published[rest[0]] = int(rest[1])
            elif what == "mended":
                self.mended.append(rest[0])

    @property
    def newest(self) -> str:
        """
        The run that said something last; empty before any did.
        """
        return self._run

    @property
    def entries(self) -> int:
        """
        How many, of all runs.
        """
        return sum(self.upto.values())


def lost_in_journal(root: Path, committed: Committed, *, run: str | None = None) -> list[str]:
    """
    What was committed and cannot be read any more; of one run, where there is no time to read all.
    """
    there: dict[str, set[int]] = {}
    found = [segment for segment in segments(root / JOURNAL) if run in {None, segment.run}]
    for entry in read_merged(found, start=0, end=1 << 62):
        numbers = there.setdefault(entry.run, set())
        assert entry.seq not in numbers, "an entry twice"
        numbers.add(entry.seq)
    return [
        f"{name}: {len(missing)} of {upto}"
        for name, upto in committed.upto.items()
        if run in {None, name} and (missing := set(range(1, upto + 1)) - there.get(name, set()))
    ]


def lake_is_the_journal(root: Path, committed: Committed) -> None:
    """
    Each frame of the journal is in the lake, once; what was committed among them.
    """
    frames = {
        (entry.run, entry.seq)
        for entry in read_merged(segments(root / JOURNAL), start=0, end=1 << 62)
        if entry.kind == EntryKind.FRAME
    }
    rows = Lake(root).books(units="raw").select("run", "seq").collect().rows()
    assert [key for key, count in Counter(rows).items() if count > 1] == [], "a frame twice"
    assert set(rows) == frames
    assert lost_in_journal(root, committed) == []


def windows_are_named(root: Path, deaths: list[int], *, stops: int = 0) -> None:
    """
    Each instant (ns) at which a recorder died lies in a `recorder_down`, but for the second its last entry may be old;
    and there are no more windows than deaths, and `stops` in order with another start after them.
    """
    down = Lake(root).quality().filter(pl.col("kind") == "recorder_down").collect()
    # Not what was before: a root may have been recorded into earlier.
    down = down.filter(pl.col("end").dt.epoch("ns") >= min(deaths))
    spans = down.select(pl.col("true_start", "end").dt.epoch("ns")).rows()
    unnamed = [at for at in deaths if not any(start - SECOND_NS <= at <= end + SECOND_NS for start, end in spans)]
    assert unnamed == []
    assert len(down.filter(~pl.col("continues")).unique("event_id")) <= len(deaths) + stops
