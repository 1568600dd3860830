"""
How the recorder itself is doing: loop lag, processor, memory, disk; a row of telemetry each minute.
"""

import asyncio
import logging
import os
import shutil
from pathlib import Path

from recorder.capture.tape import Tape
from recorder.clock import process_cpu_s
from recorder.records import Telemetry

log = logging.getLogger("recorder")

LAG_INTERVAL_S = 0.1
DISK_WARNING = 0.05
"""Share of the disk that is free when we begin to warn."""
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

    async def measure_lag(self) -> None:
        """
        For ever.
        """
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self._lags_ms.append(max(loop.time() - due, 0.0) * 1000)

    async def watch_disk(self) -> None:
        """
        Ask once how much is free.
        """
        self._disk_free = UNKNOWN_BYTES
        # On a thread: a file system that hangs must not hang the reader of the sockets.
        usage = await asyncio.to_thread(shutil.disk_usage, self._root)
        self._disk_free = usage.free
        if usage.free < DISK_WARNING * usage.total:
            log.warning("%s: %.1f GB free of %.1f", self._root, usage.free / 1e9, usage.total / 1e9)

    def row(self, tape: Tape) -> Telemetry:
        """
        Since the row before, of this run.
        """
        counters = tape.take_counters()
        stats = tape.journal.take_stats()
        cpu_s, self._last_cpu_s = process_cpu_s() - self._last_cpu_s, process_cpu_s()
        lags, self._lags_ms = sorted(self._lags_ms), []
        commits = sorted(1000 * s for s in stats.commit_s)
        durable = sorted(1000 * s for s in stats.durable_s)
        carried = sorted(counters.latency_ms)
        return Telemetry(
            frames=counters.frames,
            bytes=counters.bytes,
            cpu_s=round(cpu_s, 3),
            rss_bytes=_resident_bytes(),
            loop_lag_p99_ms=_quantile(lags, 0.99),
            loop_lag_max_ms=_quantile(lags, 1.0),
            queue_max_bytes=stats.queue_max_bytes,
            commits=len(commits),
            commit_p50_ms=_quantile(commits, 0.5),
            commit_p99_ms=_quantile(commits, 0.99),
            commit_max_ms=_quantile(commits, 1.0),
            journal_bytes=stats.written_bytes,
            disk_free_bytes=self._disk_free,
            clock_offset_ns=tape.clock.offset(),
            connections=carried,
            latency_p50_ms=[_quantile(sorted(counters.latency_ms[c]), 0.5) for c in carried],
            durable_p50_ms=_quantile(durable, 0.5),
            durable_p99_ms=_quantile(durable, 0.99),
            durable_max_ms=_quantile(durable, 1.0),
        )


def _quantile(ordered: list[float], q: float) -> float:
    """
    Nearest rank; 0 of nothing.
    """
    return round(ordered[min(int(q * len(ordered)), len(ordered) - 1)], 3) if ordered else 0.0


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGESIZE")
