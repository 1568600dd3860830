"""
What a journal gains, as it gains it: the entries of every run that is written to, while they are committed.
"""

from operator import attrgetter
from pathlib import Path
from threading import Lock

import msgspec

from recorder.durable import is_locked
from recorder.journal.names import RUN_LOCK, is_run_name, run_started
from recorder.journal.reader import last_written, run_segments
from recorder.journal.tail import Tail
from recorder.records import HOUR_NS, SECOND_NS, Entry, SegmentHeader

BEFORE_NS = 300 * SECOND_NS
"""How much of what was recorded before is read at the start."""
FOUND_NS = 2 * SECOND_NS
"""So long after it began, a run beside another has been found."""
_FIND_EACH = 4
"""Reads from one look for new runs to the next."""
_RAREST = 40
"""Reads from one look at a run that has been silent for long to the next."""
_GONE = 8
"""Reads in a row that bring nothing of a run that is not at work: it is over."""
_STUCK = 60
"""Likewise of one that is at work, and writes each second: it is waited for no longer."""
ALL = 1 << 62


class Batch(msgspec.Struct):
    """
    What came since the read before, by time; of each run in the order of its numbers.
    """

    entries: list[Entry] = []
    headers: list[SegmentHeader] = []
    whole: int = 0
    """All that any run recorded up to then has come, ns, unless a run has begun that took long to be found, or one that
    stood still goes on. Past every entry where no run is at work."""


class _Run(msgspec.Struct):
    tail: Tail
    since: int
    """What is older is left out, ns."""
    reached: int
    """All up to then has come, ns."""
    header: SegmentHeader | None = None
    quiet: int = 0
    """Reads in a row that brought nothing."""
    wait: int = 0
    over: bool = False
    """Nothing more is expected of it."""


class Follower:
    """
    All runs of a root.
    """

    def __init__(self, journal: Path, *, now: int) -> None:
        """
        Args:
            journal: the root's folder of that name.
            now: ns; what is older than BEFORE_NS is not read, but for the end of the newest run; if that
                is older itself, BEFORE_NS more.
        """
        self._journal = journal
        self._since, self._begun = now - BEFORE_NS, now
        self._runs: dict[str, _Run] = {}
        self._old: set[str] = set()
        self._reads = 0
        self._lock = Lock()
        self._closed = False

    def read(self) -> Batch:
        """
        What has come, in order of time; a long past comes in several calls. Blocks for as long as that takes to read.
        """
        with self._lock:
            batch = self._read()
        if self._closed:
            self.close()
        return batch

    def _read(self) -> Batch:
        if self._reads % _FIND_EACH == 0:
            self._find()
        self._reads += 1
        batch = Batch()
        reached: int | None = None
        for name, run in sorted(self._runs.items()):
            if reached is not None and run_started(name) > reached:
                break  # what an earlier run recorded before this one began is read first
            if run.wait > 0:
                run.wait -= 1
                continue
            taken = run.tail.take()
            entries = [entry for entry in taken if entry.recv_ts >= run.since]
            if run.tail.header is not None and run.tail.header is not run.header:
                run.header = run.tail.header
                batch.headers.append(run.header)
            batch.entries += entries
            if entries and entries[-1].recv_ts < self._begun:
                reached = min(reached or entries[-1].recv_ts, entries[-1].recv_ts)
            if taken:
                run.reached, run.quiet, run.over = taken[-1].recv_ts, 0, False
            else:
                run.quiet += 1
                run.over = run.quiet >= _STUCK or (
                    run.quiet >= _GONE and not is_locked(self._journal / name / RUN_LOCK)
                )
            # A run that has ended brings nothing any more; one that lives brings something each second.
            run.wait = min(run.quiet // 20, _RAREST)
        batch.entries.sort(key=attrgetter("recv_ts"))
        awaited = [run.reached for run in self._runs.values() if not run.over]
        batch.whole = min(awaited) - FOUND_NS if awaited else ALL
        return batch

    def _find(self) -> None:
        if not self._journal.is_dir():
            return
        names = sorted(path.name for path in self._journal.iterdir() if is_run_name(path.name))
        for name in reversed(names):
            if name in self._runs or name in self._old:
                continue
            listed = run_segments(self._journal / name)
            if not listed:
                continue  # it has just begun
            if self._runs and listed[-1].start < self._since - HOUR_NS:
                self._old.add(name)
            else:
                if not self._runs and last_written(listed[-1]) < self._since:
                    # What a recorder wrote last does not tell how it came to that.
                    self._since = listed[-1].start - BEFORE_NS
                # The end of an earlier run, with nothing read of what came after it, would look like a hole.
                since = self._since if self._runs else 0
                self._runs[name] = _Run(Tail(self._journal / name, since=self._since), since, run_started(name))

    def close(self) -> None:
        """
        Let go of the files; where another thread is reading them, it does so when it has read.
        """
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                for run in self._runs.values():
                    run.tail.close()
            finally:
                self._lock.release()
