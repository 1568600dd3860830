"""
The only module that calls fsync and rename.

Publishing is: write under a temporary name, sync the file, rename, sync the directory. A name that is there is whole.
"""

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from recorder.errors import RootBusy


def sync_directory(path: Path) -> None:
    """
    Make creations, renames and removals in `path` survive a power cut.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directories(path: Path) -> None:
    """
    `mkdir -p`, each new directory synced into its parent. Others may make the same ones meanwhile.

    Raises:
        FileExistsError: something that is no directory has the name.
    """
    if path.is_dir():
        return
    make_directories(path.parent)
    # Whoever was faster may not have synced it yet.
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def create_append(path: Path) -> int:
    """
    Create a file to append to; it must not exist. Returns the descriptor; the directory entry is durable.

    Where it cannot be made durable the file is gone again, so that trying again leaves no trail of empty files.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        sync_directory(path.parent)
    except OSError:
        os.close(fd)
        with suppress(OSError):
            path.unlink()
        raise
    return fd


def write_all(fd: int, data: bytes) -> None:
    """
    Write the whole of `data`. A disk that fills writes short before it says ENOSPC: go on until it says so.
    """
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        if written == 0:
            raise OSError(errno.EIO, "write returned 0")
        view = view[written:]


def sync(fd: int) -> None:
    """
    fdatasync. Where there is none (macOS) fsync.
    """
    getattr(os, "fdatasync", os.fsync)(fd)


def close(fd: int) -> None:
    """
    Close a descriptor of `create_append`.
    """
    os.close(fd)


def rename(source: Path, target: Path) -> None:
    """
    Atomic rename within a file system, durable on return.
    """
    source.rename(target)
    sync_directory(target.parent)
    if source.parent != target.parent:
        sync_directory(source.parent)


def remove(path: Path) -> None:
    """
    Unlink, durable on return; a file that is gone already is fine.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_directory(path.parent)


def publish_bytes(path: Path, data: bytes) -> None:
    """
    Put `data` under `path`, whole or not at all, replacing what was there. One caller at a time: hold a lock.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    # Left by a crash, or put there by somebody: never written into, never followed.
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            write_all(fd, data)
            sync(fd)
        finally:
            os.close(fd)
        rename(temporary, path)
    except OSError:
        # On a full disk its space is needed.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def sync_file(path: Path) -> None:
    """
    fsync a file somebody else wrote and closed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Lock:
    """
    An exclusive `flock`, held until `release` or the end of the process.
    """

    def __init__(self, path: Path, *, holder: str) -> None:
        """
        Raises:
            RootBusy: somebody else holds it; `holder` says what that means.
        """
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        # `is_locked` of another process holds it for a moment: that is not a holder.
        for pause_s in (0.01, 0.02, 0.05, 0.1, None):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if pause_s is None:
                    os.close(self._fd)
                    raise RootBusy(path.parent, f"{path.name} is locked", holder) from None
                time.sleep(pause_s)
            except OSError:
                os.close(self._fd)
                raise
            else:
                return

    def release(self) -> None:
        """
        Give it up.
        """
        os.close(self._fd)


def is_locked(path: Path) -> bool:
    """
    Whether a living process holds the lock file; False if there is no such file. Needs no right to write.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def drop_cache(path: Path) -> None:
    """
    Ask the kernel to forget a synced file's pages, so that reading it back reads the disk. Best effort.
    """
    if hasattr(os, "posix_fadvise"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
