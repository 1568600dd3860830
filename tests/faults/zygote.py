"""
Forks processes that do one thing each: quick enough to kill a thousand, and each is a real one.

Started as a program with everything imported; each line on its standard input is a JSON list: a name of a function
here, and its arguments. It forks, writes the child's pid, and when that has ended, how. The child's own words go to the
descriptor given at the start, past any faulty disk: what it said before it died, it had done.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: F401  # pyarrow looks for it as it first converts a list: each child would load it anew

from lake_cases import NETWORK, SOL, book
from recorder import durable
from recorder.capture.tape import Tape, TapeSettings
from recorder.clock import wall_ns
from recorder.journal.reader import segments
from recorder.journal.writer import JournalSettings
from recorder.lake import manifest as manifests
from recorder.lake.layout import JOURNAL, hour_of
from recorder.lake.repair import repair
from recorder.lake.retention import expire
from recorder.lake.sealing import Sealed, seal
from recorder.records import Connected, QualitySettings, Requested
from recorder.venue.markets import market_list

CALLS = ("open", "write", "fsync", "fdatasync", "rename", "unlink", "mkdir", "rmdir", "posix_fallocate")


class Disk:
    """
    In place of `os` in `durable`: does something at each call before or after it is made.
    """

    def __init__(self, at_call: Callable[[str, int, Callable[[], Any]], Any]) -> None:
        self.count = 0
        self._at_call = at_call

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args: Any) -> Any:
            self.count += 1
            return self._at_call(name, self.count, lambda: real(*args))

        return call


def dying(at: int, *, after: bool) -> Disk:
    """
    Kills this process at the n-th call that changes a disk: before it, or when it was made.
    """

    def at_call(_: str, count: int, real: Callable[[], Any]) -> Any:
        if count == at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real()
        finally:  # also where it fails, as the removal of what is not there does
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)

    return Disk(at_call)


def lying(*names: str) -> Disk:
    """
    Does nothing where it should sync.
    """
    return Disk(lambda name, _, real: None if name in names else real())


def _disk(how: dict[str, Any]) -> None:
    if "die_at" in how:
        durable.system = dying(how["die_at"], after=how["after"])  # type: ignore[assignment]
    if "lie" in how:
        durable.system = lying(*how["lie"])  # type: ignore[assignment]


# ---- what children do


def record(root: str, told: int, how: dict[str, Any]) -> None:
    """
    A run that hears books as fast as they are made, until it is killed, or for `for_s`; tells what is committed.
    """
    _disk(how)
    settings = TapeSettings(
        journal_folder=Path(root) / JOURNAL,
        venue="test",
        network=NETWORK,
        urls=["ws://x/ws"],
        streams=[SOL],
        quality=QualitySettings(),
        journal=JournalSettings(
            commit_interval_s=0.002, commit_bytes=4096, segment_s=how.get("segment_s", 0.05), frame_s=0.01
        ),
    )
    tape = Tape(
        settings,
        listed=market_list(NETWORK),
        pid=os.getpid(),
        beside=[],
        on_event=lambda _: None,
        on_opening=lambda _: None,
    )
    os.write(told, f"run {tape.run}\n".encode())
    tape.fact(Connected("ws://x/ws", 1, 1.0, compressed=True), connection=0, attempt=1)
    tape.fact(Requested(SOL), connection=0, attempt=1)
    until = time.monotonic() + how.get("for_s", 60)
    before = 0
    while time.monotonic() < until:
        now = wall_ns()
        tape.frame(0, 1, book("SOL-PERP", 0, now, now // 1_000_000))
        committed, _ = tape.journal.committed
        if committed != before:
            os.write(told, f"seq {committed}\n".encode())
            before = committed
        time.sleep(0.0003)
    tape.stop("told to")
    while not tape.closed():
        time.sleep(0.001)
    os.write(told, f"seq {tape.journal.committed[0]}\n".encode())


def sealing(root: str, told: int, how: dict[str, Any]) -> None:
    """
    Seal everything, the open hour too, `times` over, or with `one_by_one` first each hour that is over and was never
    sealed, so that what was published is told at once.
    """
    _disk(how)

    def tell(sealed: list[Sealed]) -> None:
        for each in sealed:
            os.write(told, f"published {each.manifest.hour} {sum(f.rows for f in each.manifest.files)}\n".encode())

    if how.get("one_by_one"):
        hours = {hour_of(segment.start) for segment in segments(Path(root) / JOURNAL)}
        for hour in sorted(hours - {hour_of(wall_ns())} - set(manifests.hours(Path(root)))):
            tell(seal(Path(root), hour=hour))
    for _ in range(how.get("times", 1)):
        tell(seal(Path(root), open_hour=how.get("open", True)))


def expiring(root: str, told: int, how: dict[str, Any]) -> None:
    """
    Remove all journal that may go.
    """
    _disk(how)
    gone = expire(Path(root), now=wall_ns(), keep_days=0.0001, keep_bytes=1)
    os.write(told, f"expired {len(gone)}\n".encode())


def repairing(root: str, told: int, how: dict[str, Any]) -> None:
    """
    Mend what is damaged.
    """
    _disk(how)
    for each in repair(Path(root)):
        os.write(told, f"mended {each.path} {each.well}\n".encode())


def _serve(told: int) -> None:
    for line in sys.stdin:
        name, root, how = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                globals()[name](root, told, how)
                code = 0
            except BaseException as error:  # noqa: BLE001  # a forked child must not go on as its parent
                os.write(2, f"{name}: {type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(code)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


class Zygote:
    """
    The parent's end of one.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        """What goes wrong in children."""
        there, self._told = os.pipe()
        os.set_blocking(there, False)
        self._there = there
        self._words = b""
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(self._told)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                pass_fds=[self._told],
                env={
                    **os.environ,
                    "ARROW_DEFAULT_MEMORY_POOL": "system",
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                },
            )
        self.pid = 0
        self._pidfd = -1
        self._busy = False

    def begin(self, what: str, root: Path, **how: Any) -> int:
        """
        Fork a child that does something; its pid.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, str(root), how]) + "\n")
        self._process.stdin.flush()
        self.pid = int(self._process.stdout.readline())
        self._busy = True
        with suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(self.pid)
        return self.pid

    def kill(self) -> None:
        """
        SIGKILL for the child; it may have ended already.
        """
        with suppress(ProcessLookupError, OSError):
            # Not by number, which may be another's by now.
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def end(self) -> int:
        """
        Wait for the child; its exit code, or minus the signal.
        """
        assert self._process.stdout is not None
        code = int(self._process.stdout.readline())
        self._busy = False
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        return code

    def run(self, what: str, root: Path, **how: Any) -> int:
        """
        Do it to its end.
        """
        self.begin(what, root, **how)
        return self.end()

    def told(self) -> list[list[str]]:
        """
        All that children have said since the last call, in words by line.
        """
        while True:
            try:
                words = os.read(self._there, 1 << 16)
            except BlockingIOError:
                break
            self._words += words
        whole, _, self._words = self._words.rpartition(b"\n")
        return [line.split() for line in whole.decode().splitlines()]

    def rest(self) -> None:
        """
        Whatever became of a test: no child is left, and nothing unheard, for the next.
        """
        if self._busy:
            self.kill()
            self.end()
        self.told()

    def close(self) -> None:
        """
        End it, and the child there may be.
        """
        self.rest()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
        os.close(self._there)
        os.close(self._told)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
