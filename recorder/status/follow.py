"""
The status of a recorder from outside: its journal is followed, and folded as it folds it itself.

The recorder is not asked, and does not notice. Where none is at work, the end of the last run's journal is read, once:
what stands there is how things were. Runs that recorded beside it, or shortly before, are followed as well.
"""

from pathlib import Path

import msgspec

from recorder import __version__
from recorder.clock import wall_ns
from recorder.journal.names import is_run_name, run_started
from recorder.journal.reader import last_written, run_segments
from recorder.lake.layout import JOURNAL
from recorder.lake.root import Binding, read_binding
from recorder.quality.counts import RECENT, Counts
from recorder.records import HOUR_NS, SECOND_NS, Event
from recorder.status.presence import live_runs, process_of
from recorder.status.report import (
    FORMAT,
    LEFT,
    JournalStatus,
    ProcessStatus,
    RunStatus,
    Status,
    connection_statuses,
    problems,
    stream_statuses,
)
from recorder.status.run import Followed
from recorder.status.storage import Storage, Stored

LOOK_BACK_S = 90.0
"""Of the journal that is read at first: enough to learn a cadence."""
DISK_LOOK_NS = 30 * SECOND_NS


class Follower:
    """
    One root; the newest run that is alive, else the newest there is, and what others had at that time.
    """

    def __init__(self, root: Path, *, look_back_s: float = LOOK_BACK_S) -> None:
        """
        Raises:
            RootError: not a data root.
        """
        self._root = root
        self._binding: Binding = read_binding(root)
        self._look_back_ns = int(look_back_s * SECOND_NS)
        self._since = 0
        self._storage = Storage(root)
        self._stored: Stored | None = None
        self._stored_at = 0
        self._run: Followed | None = None
        self._others: dict[str, Followed] = {}
        self._passed: set[str] = set()
        """Runs that ended before what is told of."""
        self._alive: list[str] = []

    @property
    def behind(self) -> bool:
        """
        Whether there may be more to read at once: the last `advance` did not reach the end.
        """
        return any(run.behind for run in self._followed())

    def advance(self) -> None:
        """
        Take in what is new.

        Raises:
            OSError: the disk.
        """
        self._alive = live_runs(self._root)
        name = self._alive[-1] if self._alive else max(_runs(self._root), default=None)
        if name is None:
            return
        if self._run is None or name != self._run.name:
            if self._run is not None:
                self._others[self._run.name] = self._run
            self._run = self._others.pop(name, None) or self._begin(name)
            self._since = _last_segment(self._root, name) - self._look_back_ns
        for other in sorted(_runs(self._root) - {name, *self._others} - self._passed.difference(self._alive)):
            if other in self._alive or self._is_of_the_time(other):
                self._others[other] = Followed(self._root, other, self._binding, since=self._since)
            else:
                self._passed.add(other)
        for run in self._followed():
            run.advance()
            if run.name not in self._alive and not run.behind:
                run.end()
        self._let_go(self._run.last_ts - self._look_back_ns)

    def _begin(self, name: str) -> Followed:
        since = _last_segment(self._root, name) - self._look_back_ns
        return Followed(self._root, name, self._binding, since=since)

    def _followed(self) -> list[Followed]:
        return [*([self._run] if self._run is not None else []), *self._others.values()]

    def _is_of_the_time(self, name: str) -> bool:
        """
        Whether a run that is over may have recorded since `_since`.
        """
        last = run_segments(self._root / JOURNAL / name)[-1:]
        # Of a copy the files may be newer than what is in them.
        return any(file.start >= self._since - HOUR_NS and last_written(file) >= self._since for file in last)

    def _let_go(self, before: int) -> None:
        """
        Pass over the runs that ended before an instant.
        """
        for name, run in list(self._others.items()):
            if name not in self._alive and not run.behind and run.last_ts < before:
                run.close()
                del self._others[name]
                self._passed.add(name)

    def close(self) -> None:
        """
        Let go of the files.
        """
        for run in self._followed():
            run.close()

    def status(self) -> Status:
        """
        How things stand, after `advance`.

        Raises:
            OSError: the disk.
        """
        now = wall_ns()
        alive = bool(self._alive)
        if self._stored is None or abs(now - self._stored_at) > DISK_LOOK_NS:
            self._stored = self._storage.look(now, alive=alive)
            self._stored_at = now
        run, stored = self._run, self._stored
        # A run that is alive has its own clock, which the wall's may differ from.
        at = run.now(now) if run is not None and alive else now
        flows, connections, counts = run.seen() if run is not None else ([], [], Counts())
        asked = run.streams if run is not None else []
        streams = stream_statuses(asked, flows, counts, now=at)
        committed = run.last_ts if run is not None else 0
        telemetry = run.telemetry if run is not None and alive else None
        journal = JournalStatus(
            committed_ts=committed or None,
            commit_age_s=round(max(at - committed, 0) / SECOND_NS, 3) if committed else None,
            queued_bytes=None,
            commit_p99_ms=telemetry.commit_p99_ms if telemetry is not None else None,
            durable_p99_ms=telemetry.durable_p99_ms if telemetry is not None else None,
            written_bytes=None,
            bytes=stored.journal_bytes,
            segments=stored.segments,
            dropped=counts.dropped,
            write_failures=counts.write_failures,
        )
        seal = stored.seal_status(now, failed=run.seal_failed if run is not None else "")
        paused_since = run.paused_since if run is not None and alive else None
        paused = at - paused_since if paused_since is not None else None
        stopping, coming = problems(streams, journal, stored.disk, seal, paused=paused)
        if not alive:
            # How much came in the last seconds before it ended is no rate.
            streams = [msgspec.structs.replace(stream, **LEFT) for stream in streams]
            stopping = [_absence(run, now)]
        process = process_of(self._root, run.name) if run is not None and alive else None
        return Status(
            format=FORMAT,
            version=run.version if run is not None and run.version else __version__,
            at_ts=at,
            root=str(self._root),
            venue=self._binding.venue,
            network=self._binding.network,
            run=run.name if run is not None else None,
            host=run.host if run is not None else "",
            recording=alive,
            ready=alive and not stopping,
            problems=stopping + coming,
            streams=streams,
            connections=connection_statuses(connections, flows, counts, now=at) if alive else [],
            journal=journal,
            disk=stored.disk,
            seal=seal,
            process=ProcessStatus(
                pid=process.pid if process is not None else None,
                started_ts=run.started if run is not None else None,
                rss_bytes=telemetry.rss_bytes if telemetry is not None else None,
                cpu_s=None,
                loop_lag_p99_ms=telemetry.loop_lag_p99_ms if telemetry is not None else None,
                clock_offset_s=telemetry.clock_offset_ns / SECOND_NS if telemetry is not None else None,
            ),
            recent=self._recent(),
            reload=run.reload if run is not None else None,
            beside=[name for name in self._alive if run is not None and name != run.name],
            paused_since=paused_since,
            others=self._told(now),
        )

    def _recent(self) -> list[Event]:
        """
        The last events of all runs, the newest first.
        """
        told = [list(run.seen()[2].recent) for run in self._followed()]
        if len(told) > 1:
            told = [sorted((event for events in told for event in events), key=lambda event: event.end)]
        return [event for events in told for event in events[: -RECENT - 1 : -1]]

    def _told(self, now: int) -> list[RunStatus]:
        """
        What the other runs had, the newest first.
        """
        everyone = self._followed()
        told = []
        for run in sorted(self._others.values(), key=lambda run: run.started, reverse=True):
            alive, end = run.name in self._alive, run.last_ts or run.started
            covered = any(
                each is not run and each.started <= end and (each.name in self._alive or each.last_ts > end)
                for each in everyone
            )
            later = min((each.started for each in everyone if each.started > end), default=None)
            down_s = None if alive or covered or later is None else round((later - end) / SECOND_NS, 3)
            told.append(run.told(now, alive=alive, down_s=down_s))
        return told


def _runs(root: Path) -> set[str]:
    journal = root / JOURNAL
    return {folder.name for folder in journal.iterdir() if is_run_name(folder.name)} if journal.is_dir() else set()


def _last_segment(root: Path, run: str) -> int:
    """
    When the last segment of a run began, ns; when the run did if it has none yet.
    """
    return max((segment.start for segment in run_segments(root / JOURNAL / run)), default=run_started(run))


def _absence(run: Followed | None, now: int) -> str:
    """
    Why nobody records, in words.
    """
    if run is None or not run.last_ts:
        return "no recorder is at work, and none has recorded anything yet: start one with `drift-recorder run`"
    ago = _for_long((now - run.last_ts) / SECOND_NS)
    how = f"stopped ({run.stopped})" if run.stopped else "died, or was killed,"
    return f"no recorder is at work: the last one {how} {ago} ago; start one with `drift-recorder run`"


def _for_long(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
