"""
What has no business in a data root: links, and files whose names are not ours.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from recorder.journal.names import RUN_LOCK, START_LOCK, is_run_name, parse_segment_name
from recorder.lake.layout import GONE, JOURNAL, LAKE, MANIFEST, SEAL_LOCK

_LONGEST_NOTE = 512
"""Bytes in the lock of a run: which process holds it."""
RESERVE = "reserve"
"""In the journal: a file that only takes space, see `daemon/disk.py`."""


def foreign_links(root: Path) -> Iterator[Path]:
    """
    Every symbolic link below a root, sorted, but those set aside in quarantine; none is followed.
    """
    for part in (JOURNAL, LAKE, MANIFEST):
        for folder, folders, files in os.walk(root / part):
            folders.sort()
            for name in sorted([*folders, *files]):
                path = Path(folder) / name
                if path.is_symlink():
                    yield path


def foreign_in_journal(root: Path) -> Iterator[Path]:
    """
    Files in the journal that nothing reads, sorted; those under temporary names, which mean nothing, left out.
    """
    journal = root / JOURNAL
    # A lake may have been copied without it.
    for path in sorted(journal.iterdir()) if journal.is_dir() else ():
        if path.is_symlink():
            continue
        if path.is_dir() and is_run_name(path.name):
            for file in sorted(path.iterdir()):
                if file.name != RUN_LOCK and parse_segment_name(file.name) is None and not file.is_symlink():
                    yield file
        elif path.name not in {START_LOCK, RESERVE, GONE} and not path.name.startswith("."):
            yield path


def locks(root: Path) -> Iterator[Path]:
    """
    The lock files there are.
    """
    journal = root / JOURNAL
    for path in (root / MANIFEST / SEAL_LOCK, journal / START_LOCK, *sorted(journal.glob(f"*/{RUN_LOCK}"))):
        if path.is_file():
            yield path


def is_well(lock: Path) -> bool:
    """
    Whether a lock file holds what it may: nothing, or, in a run's, which process holds it (numbers by name, as JSON).
    """
    content = lock.read_bytes()[: _LONGEST_NOTE + 1]
    if not content:
        return True
    try:
        msgspec.json.decode(content, type=dict[str, int])
    except msgspec.DecodeError:
        return False
    return lock.name == RUN_LOCK and len(content) <= _LONGEST_NOTE


def open_to_all(root: Path) -> Iterator[Path]:
    """
    What anybody on this machine could write, sorted.
    """
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder) / name
            if not path.is_symlink() and path.stat().st_mode & 0o002:
                yield path
