"""
Which recorders are at work on a root, and which processes they are.

A run's lock says that it lives; what is written in the lock file says as what. A process is trusted to be that one only
while the lock is held and its start is the one written down, so that a number used again is never signalled.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

import msgspec

from recorder import durable
from recorder.errors import RootError
from recorder.journal.names import RUN_LOCK, is_run_name
from recorder.lake.layout import JOURNAL


class Process(msgspec.Struct, frozen=True):
    """
    What a recorder writes into its run's lock file.
    """

    pid: int
    started: int
    """As the kernel counts it: clock ticks since boot; 0 where it does not tell."""
    namespace: int
    """Of process numbers: a container has its own."""


def this_process() -> Process:
    """
    The one that calls.
    """
    pid = os.getpid()
    return Process(pid, _started(pid), _namespace())


def announce(root: Path, run: str) -> None:
    """
    Write down that this process is the one that holds a run's lock.

    Raises:
        OSError: the disk.
    """
    durable.overwrite(root / JOURNAL / run / RUN_LOCK, msgspec.json.encode(this_process()))


def live_runs(root: Path) -> list[str]:
    """
    The runs that are recording into a root now, by name.
    """
    journal = root / JOURNAL
    if not journal.is_dir():
        return []
    return sorted(
        folder.name for folder in journal.iterdir() if is_run_name(folder.name) and durable.is_locked(folder / RUN_LOCK)
    )


def process_of(root: Path, run: str) -> Process | None:
    """
    The process that records a run; None if it does not say, or is of an older version.
    """
    try:
        return msgspec.json.decode((root / JOURNAL / run / RUN_LOCK).read_bytes(), type=Process)
    except (OSError, msgspec.DecodeError):
        return None


def ask_to_reload(root: Path, run: str) -> None:
    """
    Send SIGHUP to the recorder of a run.

    Raises:
        RootError: it cannot be told which process that is, or we may not signal it.
    """
    process = process_of(root, run)
    if process is None:
        raise RootError(root, f"run {run} does not say which process it is", "send SIGHUP to it yourself")
    if process.namespace != _namespace():
        hint = "run this inside that container, or send SIGHUP from there"
        raise RootError(root, f"run {run} is process {process.pid} of another container", hint)
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        raise RootError(root, f"process {process.pid} of run {run} is gone", "start a recorder") from None
    try:
        # The handle is of whoever has the number now; that the lock is held and the start is the same says who it is.
        held = durable.is_locked(root / JOURNAL / run / RUN_LOCK)
        if not held or process.started != _started(process.pid):
            raise RootError(root, f"process {process.pid} of run {run} is gone", "start a recorder")
        signal.pidfd_send_signal(handle, signal.SIGHUP)
    except PermissionError:
        hint = "run this as its user or as root, or use `systemctl reload drift-recorder`"
        raise RootError(root, f"you may not signal process {process.pid} of run {run}", hint) from None
    finally:
        os.close(handle)


def _started(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        # The name in brackets may hold anything; what follows the last one are numbers.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[19])
    return 0


def _namespace() -> int:
    with suppress(OSError):
        return Path("/proc/self/ns/pid").stat().st_ino
    return 0
