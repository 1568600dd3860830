"""
Where a lake lies: a folder, or an object store that polars scans. Lists and small reads; Parquet is read by polars.

A URL is given to polars as it is, with its `storage_options`; lists and manifests are read with `obstore` (the extra
`cloud`), which takes the same options, both being the same Rust library. `file://` is a folder.
"""

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

from recorder.errors import DamagedFile, RecorderError, RootError
from recorder.lake.layout import LAKE, MANIFEST, parse_hour

Identity = tuple[Any, ...]
"""Changes when a file is replaced."""

REMAKE = (
    "`drift-recorder verify` tells what else is missing; `drift-recorder verify --repair` makes it again, as long as "
    "its journal is kept"
)
_PARQUET = b"PAR1"
_PARQUET_END = 8  # length of the footer, and the magic
_PARQUET_LEAST = len(_PARQUET) + _PARQUET_END


class Store(Protocol):
    """
    A root, by names relative to it.
    """

    @property
    def root(self) -> Path | str:
        """
        As it was given.
        """

    @property
    def options(self) -> dict[str, Any] | None:
        """
        For polars.
        """

    def hours(self) -> list[int]:
        """
        Those with a manifest, oldest first.
        """

    def identity(self, name: str) -> Identity | None:
        """
        Of a manifest; None if it is not there.
        """

    def read(self, name: str) -> bytes:
        """
        A small file.

        Raises:
            FileNotFoundError: it is not there.
            RootError: it cannot be read.
        """

    def locations(self, names: Iterable[str]) -> list[Path] | list[str]:
        """
        Of files, for polars.

        Raises:
            DamagedFile: one is not there, or (on a disk) does not begin and end as Parquet does.
        """

    def tables(self) -> list[str]:
        """
        Names of the tables that have files.
        """

    def markets(self) -> set[str]:
        """
        Names of the folders of markets, encoded as they are there.
        """


def open_store(root: Path | str, options: Mapping[str, Any] | None = None) -> Store:
    """
    The store of a path or URL.

    Raises:
        RecorderError: the URL is of no kind that is known, or `obstore` is not installed.
    """
    if isinstance(root, str) and "://" in root:
        url = urlparse(root)
        if url.scheme != "file":
            return Remote(root, options)
        if url.netloc not in {"", "localhost"}:
            raise RecorderError(f"{root}: a file:// URL has three slashes: file:///srv/drift")
        root = unquote(url.path)
    return Folder(Path(root).expanduser())


class Folder:
    """
    A root on a disk.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._at = str(root)
        self.options: dict[str, Any] | None = None
        self._whole: dict[str, Identity] = {}
        """Files whose ends were looked at, as they were then."""

    def hours(self) -> list[int]:
        """
        See `Store`.
        """
        try:
            return _hours(os.listdir(f"{self._at}/{MANIFEST}"))  # noqa: PTH208  # names will do
        except FileNotFoundError:
            return []

    def identity(self, name: str) -> Identity | None:
        """
        See `Store`.
        """
        try:
            stat = os.stat(f"{self._at}/{name}")  # noqa: PTH116  # asked of each hour, for each question
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def read(self, name: str) -> bytes:
        """
        See `Store`.
        """
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(name) from None
        except OSError as error:
            raise RootError(self.root, f"cannot be read: {error.strerror}", "run as a user who may read it") from None

    def locations(self, names: Iterable[str]) -> list[Path] | list[str]:
        """
        See `Store`.
        """
        paths = []
        for name in names:
            path = self.root / name
            identity = self.identity(name)
            if identity is None:
                raise DamagedFile(path, "is not there, and the manifest of its hour names it", REMAKE)
            if self._whole.get(name) != identity:
                problem = _cut(path)
                if problem is not None:
                    raise DamagedFile(path, problem, REMAKE)
                self._whole[name] = identity
            paths.append(path)
        return paths

    def tables(self) -> list[str]:
        """
        See `Store`.
        """
        return sorted(path.name for path in (self.root / LAKE).glob("*"))

    def markets(self) -> set[str]:
        """
        See `Store`.
        """
        return {path.name[7:] for path in (self.root / LAKE).glob("*/market=*")}


class Remote:
    """
    A root in an object store.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None) -> None:
        self.root = url.rstrip("/")
        self.options: dict[str, Any] | None = None if options is None else dict(options)
        try:
            from obstore.exceptions import BaseError  # noqa: PLC0415  # an extra
            from obstore.store import from_url  # noqa: PLC0415
        except ImportError:
            raise RecorderError(
                f"{url}: needs obstore (the extra `cloud`); install it with: pip install obstore"
            ) from None
        self._error = BaseError
        try:
            config: Any = None if options is None else dict(options)
            plain = {"allow_http": True} if _allows_http(options) else None
            client: Any = plain
            self._store = from_url(self.root, config=config, client_options=client)
        except (BaseError, ValueError) as error:
            raise RecorderError(f"{url}: {_words(error)}; give a path, or a URL as polars scans it") from None
        self._manifests: dict[str, Identity] = {}

    def hours(self) -> list[int]:
        """
        See `Store`. One listing, which also tells which manifests were replaced.
        """
        self._manifests = {
            each["path"]: (each["e_tag"], each["last_modified"], each["size"]) for each in self._list(MANIFEST)
        }
        return _hours(name.rpartition("/")[2] for name in self._manifests)

    def identity(self, name: str) -> Identity | None:
        """
        See `Store`: as of the last listing.
        """
        if not self._manifests:
            self.hours()
        return self._manifests.get(name)

    def read(self, name: str) -> bytes:
        """
        See `Store`.
        """
        try:
            return bytes(self._store.get(name).bytes())
        except FileNotFoundError:
            raise FileNotFoundError(name) from None
        except self._error as error:
            raise self._unreadable(error) from None

    def locations(self, names: Iterable[str]) -> list[Path] | list[str]:
        """
        See `Store`. Whether they are there is asked by one listing for each market.
        """
        wanted = list(names)
        by_folder: dict[str, list[str]] = {}
        for name in wanted:
            by_folder.setdefault(name.partition("/date=")[0], []).append(name)
        for folder, files in by_folder.items():
            first, last = min(files), max(files)
            there = set()
            # The names before the first one are skipped by the store.
            for each in self._list(folder, offset=first[:-1]):
                there.add(each["path"])
                if each["path"] >= last:
                    break
            gone = next((name for name in files if name not in there), None)
            if gone is not None:
                raise DamagedFile(Path(gone), f"is not in {self.root}, and the manifest of its hour names it", REMAKE)
        return [f"{self.root}/{name}" for name in wanted]

    def tables(self) -> list[str]:
        """
        See `Store`.
        """
        return sorted(prefix.rpartition("/")[2] for prefix in self._prefixes(LAKE))

    def markets(self) -> set[str]:
        """
        See `Store`.
        """
        folders = (prefix.rpartition("/")[2] for table in self._prefixes(LAKE) for prefix in self._prefixes(table))
        return {folder[7:] for folder in folders if folder.startswith("market=")}

    def _prefixes(self, name: str) -> list[str]:
        try:
            return list(self._store.list_with_delimiter(name)["common_prefixes"])
        except self._error as error:
            raise self._unreadable(error) from None

    def _list(self, prefix: str, *, offset: str | None = None) -> Iterable[Any]:
        try:
            for chunk in self._store.list(prefix, offset=offset, chunk_size=1000):
                yield from chunk
        except self._error as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> RecorderError:
        hint = "see that the address and storage_options are right, and the bucket may be listed and read"
        return RecorderError(f"{self.root}: {_words(error)}; {hint}")


def _cut(path: Path) -> str | None:
    """
    What is wrong with the ends of a Parquet file: polars, which finds it later, names no file. None: nothing, or it
    may not be read, which polars tells itself.
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size < _PARQUET_LEAST:
                return f"has {size} bytes, too few for Parquet"
            file.seek(-_PARQUET_END, os.SEEK_END)
            end = file.read(_PARQUET_END)
            file.seek(0)
            begin = file.read(len(_PARQUET))
    except OSError:
        return None
    footer = int.from_bytes(end[: -len(_PARQUET)], "little")
    if begin == _PARQUET == end[-len(_PARQUET) :] and footer <= size - _PARQUET_LEAST:
        return None
    return f"is no whole Parquet file: of its {size:,} bytes the first and last are not those of one"


def _hours(names: Iterable[str]) -> list[int]:
    return sorted(hour for name in names if (hour := _hour(name)) is not None)


@lru_cache(maxsize=1 << 16)
def _hour(name: str) -> int | None:
    if not name.endswith(".json"):
        return None
    try:
        return parse_hour(name.removesuffix(".json"))
    except ValueError:
        return None


def _allows_http(options: Mapping[str, Any] | None) -> bool:
    return any(str(value).startswith("http://") for value in (options or {}).values())


def _words(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
