"""
Child processes of the suite: started on a core of their own, ended by handle, and looked at from outside.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0

_CORES = sorted(os.sched_getaffinity(0))
CLIENT_CORE = _CORES[0]
"""For whatever is being measured."""
SOURCE_CORE = _CORES[-1]
"""For the venue; the same one on a machine with a single core, where throughput means little."""


class Child:
    """
    A running process and the lines it prints.
    """

    def __init__(self, arguments: list[str], core: int | None, complaints: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        # As installed: compiled once, not at each start.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._complaints = complaints
        with complaints.open("wb") as errors:
            self.started_ns = time.time_ns()
            self.process = subprocess.Popen(
                [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        if core is not None:
            os.sched_setaffinity(self.process.pid, {core})
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, prefix: str, timeout_s: float = START_TIMEOUT_S, *, partner: "Child | None" = None) -> str:
        """
        Wait for a line that begins so; returns what follows the prefix. Other lines are passed over.

        With a partner, the wait is over as well if that one has ended: then the line never comes.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=0.2)
            except queue.Empty:
                if partner is not None and partner.process.poll() is not None:
                    raise partner.failure(f"ended early, with exit code {partner.process.returncode}") from None
                if time.monotonic() > deadline:
                    raise self.failure(f"no line {prefix!r} within {timeout_s:g} s") from None
                continue
            if line is None:
                raise self.failure(f"ended before its line {prefix!r}")
            if line.startswith(prefix):
                return line.removeprefix(prefix)

    def failure(self, what: str) -> SystemExit:
        """
        What went wrong with it, with its last words.
        """
        said = self._complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return SystemExit(f"{' '.join(map(str, self.process.args))}: {what}: {said[-1] if said else 'no word'}")

    @property
    def cpu_s(self) -> float:
        """
        CPU seconds of all its threads, so far.
        """
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_mb(self) -> float:
        """
        Resident memory now.
        """
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6

    def stop(self) -> None:
        """
        Ask it to end, and wait.
        """
        self.process.terminate()
        if self.process.wait(STOP_TIMEOUT_S):
            raise self.failure(f"exit code {self.process.returncode}")


@contextlib.contextmanager
def child(*arguments: str | Path, core: int | None) -> Iterator[Child]:
    """
    A Python process with these arguments, for as long as the block lasts; on any core, if none is given.
    """
    with tempfile.TemporaryDirectory() as folder:
        running = Child([str(argument) for argument in arguments], core, Path(folder) / "stderr")
        try:
            yield running
        finally:
            running.process.kill()
            running.process.wait(STOP_TIMEOUT_S)


def outcome(*arguments: str | Path, core: int | None = CLIENT_CORE, timeout_s: float = 3600.0) -> dict[str, Any]:
    """
    Run a module of the suite to its end, on the client's core if not told otherwise; it prints one JSON object.
    """
    with child(HERE / arguments[0], *arguments[1:], core=core) as running:
        printed: dict[str, Any] = json.loads(running.line("", timeout_s))
        if running.process.wait(STOP_TIMEOUT_S):
            raise running.failure(f"exit code {running.process.returncode}")
    return printed


def peak_mb() -> float:
    """
    Most memory this process ever had resident.

    Not `ru_maxrss`: that one is inherited from the parent through fork and exec.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6
