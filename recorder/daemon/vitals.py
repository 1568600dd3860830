"""
How the recorder itself is doing: loop lag, processor, memory, disk; a row of telemetry each minute.
"""

import asyncio
import logging
import os
from pathlib import Path

from recorder.capture.tape import Tape
from recorder.clock import process_cpu_s
from recorder.daemon.disk import UNLIMITED, space
from recorder.quality.counts import Histogram
from recorder.records import Telemetry

log = logging.getLogger("recorder")

LAG_INTERVAL_S = 0.1
DISK_WARNING = 0.05
"""Share of the disk that is free when we begin to warn."""
COMMIT_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
UNKNOWN_BYTES = -1
"""In telemetry, of a disk that could not be asked: null is not zero."""


class Vitals:
    """
    What was measured since the last row.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lags_ms: list[float] = []
        self._last_cpu_s = process_cpu_s()
        self._disk_free = UNKNOWN_BYTES
        self._inodes_free: int | None = None
        self._commits_ms: list[float] = []
        self._durable_ms: list[float] = []
        self._queue_max = self._written = 0
        self.commits = Histogram(COMMIT_BOUNDS_S)
        """Writes with their syncs, s."""
        self.durable = Histogram(COMMIT_BOUNDS_S)
        """From the oldest entry of a commit to its end, s."""
        self.lags = Histogram(LAG_BOUNDS_S)
        """Of the event loop, s."""
        self.written_bytes = 0
        """To the journal, since the start."""
        self.last: Telemetry | None = None
        """The row before."""

    async def measure_lag(self) -> None:
        """
        For ever.
        """
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            lag_s = max(loop.time() - due, 0.0)
            self._lags_ms.append(lag_s * 1000)
            self.lags.observe(lag_s)

    async def watch_disk(self) -> None:
        """
        Ask once how much is free.
        """
        self._disk_free, self._inodes_free = UNKNOWN_BYTES, None
        # On a thread: a file system that hangs must not hang the reader of the sockets.
        now = await asyncio.to_thread(space, self._root)
        self._disk_free = now.free_bytes
        counted = now.total_inodes < UNLIMITED
        if counted:
            self._inodes_free = now.free_inodes
        few = counted and now.free_inodes < DISK_WARNING * now.total_inodes
        if few or now.free_bytes < DISK_WARNING * now.total_bytes:
            log.warning("%s: %s", self._root, now.words)

    def sample(self, tape: Tape) -> None:
        """
        What the journal did since the last look; each second, so that figures of now can be had between two rows.
        """
        stats = tape.journal.take_stats()
        for seconds, told, histogram in (
            (stats.commit_s, self._commits_ms, self.commits),
            (stats.durable_s, self._durable_ms, self.durable),
        ):
            for each in seconds:
                told.append(1000 * each)
                histogram.observe(each)
        self._queue_max = max(self._queue_max, stats.queue_max_bytes)
        self._written += stats.written_bytes
        self.written_bytes += stats.written_bytes

    def row(self, tape: Tape, *, paused: bool) -> Telemetry:
        """
        Since the row before, of this run; `paused`: capture is stopped for want of space.
        """
        self.sample(tape)
        counters = tape.take_counters()
        cpu_s, self._last_cpu_s = process_cpu_s() - self._last_cpu_s, process_cpu_s()
        lags, self._lags_ms = sorted(self._lags_ms), []
        commits, self._commits_ms = sorted(self._commits_ms), []
        durable, self._durable_ms = sorted(self._durable_ms), []
        queue_max, self._queue_max = self._queue_max, 0
        written, self._written = self._written, 0
        carried = sorted(counters.latency_ms)
        self.last = Telemetry(
            frames=counters.frames,
            bytes=counters.bytes,
            cpu_s=round(cpu_s, 3),
            rss_bytes=resident_bytes(),
            loop_lag_p99_ms=_quantile(lags, 0.99),
            loop_lag_max_ms=_quantile(lags, 1.0),
            queue_max_bytes=queue_max,
            commits=len(commits),
            commit_p50_ms=_quantile(commits, 0.5),
            commit_p99_ms=_quantile(commits, 0.99),
            commit_max_ms=_quantile(commits, 1.0),
            journal_bytes=written,
            disk_free_bytes=self._disk_free,
            clock_offset_ns=tape.clock.offset(),
            connections=carried,
            latency_p50_ms=[_quantile(sorted(counters.latency_ms[c]), 0.5) for c in carried],
            durable_p50_ms=_quantile(durable, 0.5),
            durable_p99_ms=_quantile(durable, 0.99),
            durable_max_ms=_quantile(durable, 1.0),
            disk_free_inodes=self._inodes_free,
            paused=paused,
        )
        return self.last


def _quantile(ordered: list[float], q: float) -> float:
    """
    Nearest rank; 0 of nothing.
    """
    return round(ordered[min(int(q * len(ordered)), len(ordered) - 1)], 3) if ordered else 0.0


def resident_bytes() -> int:
    """
    Memory of this process; 0 where nobody tells.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGESIZE")
