"""
How this process is doing, for whoever looks: what was counted and measured anyway is put together when it is asked for.

The event loop copies references; reading the disk, decoding books and making text happen on a thread. Looks that follow
each other closely share one answer, so that nobody can cost the recorder anything by looking often.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec

from recorder import __version__
from recorder.capture.tape import Tape
from recorder.clock import monotonic_ns, process_cpu_s
from recorder.config import Config
from recorder.daemon.child import SealChild
from recorder.daemon.vitals import Vitals, resident_bytes
from recorder.quality.counts import Counts
from recorder.quality.state import ConnectionState, FlowState
from recorder.records import SECOND_NS
from recorder.status.report import (
    FORMAT,
    JournalStatus,
    ProcessStatus,
    Reloading,
    Status,
    connection_statuses,
    problems,
    stream_statuses,
)
from recorder.status.storage import Storage, Stored

log = logging.getLogger("recorder")

SHARED_NS = SECOND_NS * 9 // 10
"""A look this soon after another sees the same."""
DISK_LOOK_NS = 30 * SECOND_NS
"""Between two looks at the disk."""


class Look(msgspec.Struct, frozen=True):
    """
    What is seen at one moment: the status, and what metrics tell beyond it.
    """

    status: Status
    counts: Counts
    vitals: Vitals
    stored: Stored | None
    seal: SealChild
    jobs_failed: dict[str, int]
    reloads: dict[str, int]
    queue_limit: int
    open_files: int | None


class Watch:
    """
    One process, from its start on.
    """

    def __init__(self, config: Config, tape: Callable[[], Tape], vitals: Vitals, seal: SealChild) -> None:
        """
        Args:
            config: as it began; of its markets the tape tells.
            tape: the present run's.
            vitals: of the process.
            seal: its child.
        """
        self._config = config
        self._tape = tape
        self._vitals = vitals
        self._seal = seal
        self._storage = Storage(config.storage.root)
        self._stored: Stored | None = None
        self._stored_at = 0
        self._last: Look | None = None
        self._last_at = 0
        self._one_at_a_time = asyncio.Lock()
        self._looking: asyncio.Future[Look] | None = None
        # Of its own: on a disk that hangs it hangs as well, and name lookups must not wait behind it. By its name the
        # end of the process does not wait for it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="asyncio_watch")
        self._host = socket.gethostname()
        self.jobs_failed: dict[str, int] = {}
        self.reloads = {"taken": 0, "refused": 0}
        self.reload: Reloading | None = None
        self.started_ts = 0
        self.stopped_since: Callable[[], int | None] = lambda: None
        """When capture was stopped because the disk is full, ns; None while it goes on."""

    def job_failed(self, job: str) -> None:
        """
        Count it.
        """
        self.jobs_failed[job] = self.jobs_failed.get(job, 0) + 1

    def reloaded(self, words: str, *, taken: bool) -> None:
        """
        The configuration was read again.
        """
        self.reload = Reloading(self._tape().clock.now(), taken, words)
        self.reloads["taken" if taken else "refused"] += 1

    def close(self) -> None:
        """
        No more looks: its thread ends, unless a file system holds it.
        """
        self._thread.shutdown(wait=False)

    async def look(self) -> Look:
        """
        See how things stand.
        """
        async with self._one_at_a_time:
            if self._last is None or monotonic_ns() - self._last_at > SHARED_NS:
                tape = self._tape()
                # Of what the loop changes, lists of its own; the rest are numbers, read as they are.
                flows, connections = tape.flows(), tape.connections()
                if self._looking is None or self._looking.done():
                    loop = asyncio.get_running_loop()
                    self._looking = loop.run_in_executor(self._thread, self._seen, tape, flows, connections)
                # Whoever asks gives up after a while; on a disk that hangs the look goes on, and is the next one's.
                self._last = await asyncio.shield(self._looking)
                self._last_at = monotonic_ns()
            return self._last

    def _seen(self, tape: Tape, flows: list[FlowState], connections: list[ConnectionState]) -> Look:
        now = tape.clock.now()
        self._look_at_disk(now)
        status = self._status(tape, flows, connections, now)
        return Look(
            status=status,
            counts=tape.counts,
            vitals=self._vitals,
            stored=self._stored,
            seal=self._seal,
            jobs_failed=dict(self.jobs_failed),
            reloads=dict(self.reloads),
            queue_limit=self._config.journal.queue_bytes,
            open_files=_open_files(),
        )

    def _look_at_disk(self, now: int) -> None:
        if self._stored is None or monotonic_ns() - self._stored_at > DISK_LOOK_NS:
            try:
                self._stored = self._storage.look(now, alive=True)
            except OSError as error:
                log.warning("%s cannot be looked at: %s", self._config.storage.root, error.strerror or error)
            self._stored_at = monotonic_ns()

    def _status(self, tape: Tape, flows: list[FlowState], connections: list[ConnectionState], now: int) -> Status:
        counts, stored, last = tape.counts, self._stored, self._vitals.last
        streams = stream_statuses(tape.streams, flows, counts, now=now)
        _, committed_ts = tape.journal.committed
        journal = JournalStatus(
            committed_ts=committed_ts or None,
            commit_age_s=round(max(now - (committed_ts or self.started_ts), 0) / SECOND_NS, 3),
            queued_bytes=tape.journal.queued_bytes,
            commit_p99_ms=last.commit_p99_ms if last is not None else None,
            durable_p99_ms=last.durable_p99_ms if last is not None else None,
            written_bytes=self._vitals.written_bytes,
            bytes=stored.journal_bytes if stored is not None else 0,
            segments=stored.segments if stored is not None else 0,
            dropped=counts.dropped,
            write_failures=counts.write_failures,
        )
        disk = stored.disk if stored is not None else None
        seal = (
            stored.seal_status(now, last_s=self._seal.last_s, running=self._seal.running, failed=self._seal.failed)
            if stored is not None and self._config.seal.enabled
            else None
        )
        paused_since = self.stopped_since()
        paused = now - paused_since if paused_since is not None else None
        stopping, coming = problems(streams, journal, disk, seal, paused=paused)
        if tape.monitor_faults:
            coming.insert(0, "the live monitor failed, see the log: what is said of streams may be wrong")
        return Status(
            format=FORMAT,
            version=__version__,
            at_ts=now,
            root=str(self._config.storage.root),
            venue=self._config.venue.name,
            network=self._config.venue.network,
            run=tape.run,
            host=self._host,
            recording=True,
            ready=not stopping,
            problems=stopping + coming,
            streams=streams,
            connections=connection_statuses(connections, flows, counts, now=now),
            journal=journal,
            disk=disk,
            seal=seal,
            process=ProcessStatus(
                pid=os.getpid(),
                started_ts=self.started_ts,
                rss_bytes=resident_bytes(),
                cpu_s=round(process_cpu_s(), 3),
                loop_lag_p99_ms=last.loop_lag_p99_ms if last is not None else None,
                clock_offset_s=round(tape.clock.offset() / SECOND_NS, 6),
            ),
            recent=list(counts.recent)[::-1],
            reload=self.reload,
            paused_since=paused_since,
        )


def _open_files() -> int | None:
    with suppress(OSError):
        return len(list(Path("/proc/self/fd").iterdir()))
    return None
