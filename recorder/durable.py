"""
The only module that calls fsync and rename; all that changes a disk goes through it.

Publishing is: write under a temporary name, sync the file, rename, sync the directory. A name that is there is whole.

Files are for their owner alone, and for the group that may read the folder they are in: never for others, never
writable for the group. A link that somebody put in place of a file or folder is not followed.
"""

import errno
import fcntl
import os
import stat
import time
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from recorder.errors import RootBusy


class System(Protocol):
    """
    The calls that change a disk, as `os` has them; what a test puts in their place fails, kills or forgets.
    """

    def open(self, path: Path, flags: int, mode: int = 0o777, /) -> int: ...  # noqa: D102
    def write(self, fd: int, data: memoryview, /) -> int: ...  # noqa: D102
    def fsync(self, fd: int, /) -> None: ...  # noqa: D102
    def fdatasync(self, fd: int, /) -> None: ...  # noqa: D102
    def rename(self, source: Path, target: Path, /) -> None: ...  # noqa: D102
    def unlink(self, path: Path, /) -> None: ...  # noqa: D102
    def mkdir(self, path: Path, mode: int = 0o777, /) -> None: ...  # noqa: D102
    def rmdir(self, path: Path, /) -> None: ...  # noqa: D102
    def posix_fallocate(self, fd: int, offset: int, size: int, /) -> None: ...  # noqa: D102


system: System = os
"""Looked up at each call, as `os` itself would be: it costs nothing."""


def sync_directory(path: Path) -> None:
    """
    Make creations, renames and removals in `path` survive a power cut.
    """
    fd = system.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        system.fsync(fd)
    finally:
        os.close(fd)


def make_directories(path: Path, *, below: Path | None = None, private: bool = False) -> None:
    """
    `mkdir -p`, each new directory synced into its parent. Others may make the same ones meanwhile.

    Args:
        path: of the folder.
        below: a folder above it, from which on down no link is followed; None: links are.
        private: what is made is for its owner alone, whoever may read the folder it is made in.

    Raises:
        FileExistsError: something that is no directory has the name.
        NotADirectoryError: a link stands in place of a folder.
    """
    missing: list[Path] = []
    at = path
    while at != below and not _is_folder(at, follow=below is None):
        missing.append(at)
        at = at.parent
    while below is not None and at != below:
        _is_folder(at, follow=False)
        at = at.parent
    for folder in reversed(missing):
        # Whoever was faster may not have synced it yet.
        with suppress(FileExistsError):
            system.mkdir(folder, 0o700 if private else 0o700 | _group_may(folder.parent) & 0o050)
        if not _is_folder(folder, follow=below is None):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
        sync_directory(folder.parent)


def _is_folder(path: Path, *, follow: bool) -> bool:
    if not follow and path.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "Is a symbolic link, which is not followed; remove it", str(path))
    return path.is_dir()


def _group_may(folder: Path) -> int:
    """
    The group's part of a folder's mode.
    """
    return stat.S_IMODE(folder.stat().st_mode) & 0o070


def create_file(path: Path, *, append: bool = False) -> int:
    """
    Create a file to write to; it must not exist. Returns the descriptor. Neither file nor directory entry is durable.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_APPEND if append else 0)
    return system.open(path, flags, 0o600 | _group_may(path.parent) & 0o040)


def create_append(path: Path) -> int:
    """
    Create a file to append to; it must not exist. Returns the descriptor; the directory entry is durable.

    Where it cannot be made durable the file is gone again, so that trying again leaves no trail of empty files.
    """
    fd = create_file(path, append=True)
    try:
        sync_directory(path.parent)
    except OSError:
        os.close(fd)
        with suppress(OSError):
            system.unlink(path)
        raise
    return fd


def create_temporary(path: Path) -> int:
    """
    Create a file under a name that means nothing, in place of what a crash left there. Returns the descriptor.
    """
    with suppress(FileNotFoundError):
        system.unlink(path)
    return create_file(path)


def is_link(path: Path) -> bool:
    """
    Whether a symbolic link has the name; False if it cannot be asked.
    """
    try:
        return path.is_symlink()
    except OSError:
        return False


def open_to_read(path: Path) -> BufferedReader:
    """
    A file to read; a link is not followed.

    Raises:
        OSError: it is not there, may not be read, or is a link (ELOOP).
    """
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb")


def read_bytes(path: Path) -> bytes:
    """
    The content of a file; a link is not followed.
    """
    with open_to_read(path) as file:
        return file.read()


def write_all(fd: int, data: bytes | bytearray) -> None:
    """
    Write the whole of `data`. A disk that fills writes short before it says ENOSPC: go on until it says so.
    """
    view = memoryview(data)
    while view:
        written = system.write(fd, view)
        if written == 0:
            raise OSError(errno.EIO, "write returned 0")
        view = view[written:]


def sync(fd: int) -> None:
    """
    fdatasync. Where there is none (macOS) fsync.
    """
    getattr(system, "fdatasync", system.fsync)(fd)


def close(fd: int) -> None:
    """
    Close a descriptor of `create_append`.
    """
    os.close(fd)


def rename(source: Path, target: Path) -> None:
    """
    Atomic rename within a file system, durable on return.
    """
    system.rename(source, target)
    sync_directory(target.parent)
    if source.parent != target.parent:
        sync_directory(source.parent)


def remove(path: Path) -> None:
    """
    Unlink, durable on return; a file that is gone already is fine.
    """
    try:
        system.unlink(path)
    except FileNotFoundError:
        return
    sync_directory(path.parent)


def remove_folder(path: Path) -> None:
    """
    Remove an empty folder; one that is not empty, or gone, stays as it is.
    """
    with suppress(OSError):
        system.rmdir(path)


def publish_bytes(path: Path, data: bytes) -> None:
    """
    Put `data` under `path`, whole or not at all, replacing what was there. One caller at a time: hold a lock.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    # Left by a crash, or put there by somebody: never written into, never followed.
    fd = create_temporary(temporary)
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
            system.unlink(temporary)
        raise


def reserve(path: Path, size: int) -> None:
    """
    Make a file of `size` bytes that takes its space on the disk, and holds nothing; a whole one stays as it is.

    Raises:
        OSError: there is no space for it; it is gone again.
    """
    with suppress(FileNotFoundError):
        there = path.lstat()
        if stat.S_ISREG(there.st_mode) and there.st_size == size and there.st_blocks * 512 >= size:
            return
    fd = create_temporary(path)
    try:
        system.posix_fallocate(fd, 0, size)
        sync(fd)
    except OSError:
        with suppress(OSError):
            system.unlink(path)
        raise
    finally:
        os.close(fd)
    sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """
    fsync a file somebody else wrote and closed.
    """
    fd = system.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        system.fsync(fd)
    finally:
        os.close(fd)


def overwrite(path: Path, data: bytes) -> None:
    """
    Replace what stands in a file that is there, in place and not synced: for what is of use only while we live.
    """
    fd = system.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        write_all(fd, data)
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
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = system.open(path, flags, 0o600 | _group_may(path.parent) & 0o040)
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


def size(number: float) -> str:
    """
    Bytes for people: `12.3 MB`.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
