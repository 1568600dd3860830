"""
Who may record into a root.
"""

from pathlib import Path

from recorder import durable
from recorder.errors import RootBusy
from recorder.journal.names import START_LOCK
from recorder.lake.layout import JOURNAL
from recorder.status.presence import live_runs


def claim(root: Path, *, beside: bool) -> tuple[durable.Lock, list[str]]:
    """
    Make sure that this process may record into a root; hold the lock until the run's own is taken.

    Args:
        root: a bound data root.
        beside: others may be recording; the seal takes the union.

    Returns:
        The lock, and the runs that are recording now.

    Raises:
        RootBusy: somebody records into it, and `beside` was not asked for.
    """
    journal = root / JOURNAL
    lock = durable.Lock(journal / START_LOCK, holder="another recorder is starting on this root; try again")
    alive = live_runs(root)
    if alive and not beside:
        lock.release()
        raise RootBusy(root, f"run {alive[-1]} is recording into it", "stop it, or start with --beside to record both")
    return lock, alive
