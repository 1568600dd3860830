"""
The error tree: one class for each thing a caller does differently.

    RecorderError                 anything this program says in a line, with an exit code
    ├── ConfigError               a setting: names file, key, value and what is allowed          exit 2
    ├── RootError                 a data root that cannot be used (foreign, not writable, …)     exit 3
    │   └── RootBusy              somebody else holds its lock                                   exit 4
    ├── ForeignFile               a file that is not what it was given as                        exit 5
    ├── DamagedFile               a file of ours with bytes that are not what was written        exit 6
    ├── SealFailed                an hour could not be published                                 exit 7
    ├── Unreachable               the venue could not be reached (`check --connect`)             exit 8
    └── OutOfMemory               there is none left: the process ends at once                   exit 1
"""

import errno
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class RecorderError(Exception):
    """
    Something the user has to know, said in one line (of a configuration, one for each mistake) that ends with what to
    do.
    """

    exit_code = 1


class ConfigError(RecorderError):
    """
    A setting is wrong.

    Args of the message: the file, the dotted key, the value as written, and what is allowed; and the lines of further
    mistakes, after this one.
    """

    exit_code = 2

    def __init__(self, *, file: str, key: str, problem: str, allowed: str, further: Sequence[str] = ()) -> None:
        self.lines = [f"{file}: {key}: {problem}; {allowed}", *further]
        super().__init__("\n".join(self.lines))
        self.file, self.key, self.problem, self.allowed = file, key, problem, allowed


class RootError(RecorderError):
    """
    A data root cannot be used as asked.
    """

    exit_code = 3

    def __init__(self, root: Path | str, problem: str, hint: str) -> None:
        """
        Args:
            root: a folder, or the URL of a lake.
            problem: what is wrong with it.
            hint: what to do.
        """
        super().__init__(f"{root}: {problem}; {hint}")
        self.root, self.problem, self.hint = root, problem, hint


class RootBusy(RootError):
    """
    Another process holds the lock that was wanted.
    """

    exit_code = 4


class ForeignFile(RecorderError):
    """
    A file is not of the kind it was given as: not a journal segment, not Parquet, not ours.
    """

    exit_code = 5

    def __init__(self, path: Path, problem: str, hint: str = "give a path below a recorder's data root") -> None:
        super().__init__(f"{path}: {problem}; {hint}")
        self.path, self.problem = path, problem


class DamagedFile(RecorderError):
    """
    A file of ours holds bytes that are not what was written.
    """

    exit_code = 6

    def __init__(self, path: Path, problem: str, hint: str = "run `drift-recorder verify` on its root") -> None:
        super().__init__(f"{path}: {problem}; {hint}")
        self.path, self.problem = path, problem


class SealFailed(RecorderError):
    """
    An hour could not be published; the journal still holds it.
    """

    exit_code = 7


class Unreachable(RecorderError):
    """
    The venue could not be reached or did not behave like one.
    """

    exit_code = 8


class OutOfMemory(RecorderError):
    """
    There is no memory left; what was heard is committed as far as it could be.
    """


def whose(error: OSError) -> str:
    """
    For a right that is missing, who has it and who we are: ` (/data belongs to root, mode 750; this is nobody)`.

    Empty for every other error. Of a file that is ours, or that we may not even see, its folder is named.
    """
    if error.errno not in {errno.EACCES, errno.EPERM} or error.filename is None:
        return ""
    path = Path(os.path.abspath(os.fsdecode(error.filename)))  # noqa: PTH100  # follows no link
    us = os.geteuid()
    for there in (path, *path.parents):
        try:
            found = there.lstat()
        except OSError:
            continue
        if found.st_uid != us:
            return f" ({there} belongs to {user(found.st_uid)}, mode {found.st_mode & 0o7777:o}; this is {user(us)})"
    return ""


@contextmanager
def at_address(host: str, port: int) -> Iterator[None]:
    """
    Name the address in the error that nobody can listen there: asyncio's own words differ from error to error.

    Raises:
        OSError: with the address as its file name.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES} and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), f"{host}:{port}") from None
        raise


def user(number: int) -> str:
    """
    A user's name, if there is one of that number.
    """
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
